use super::*;

const CONFIG: &str = r#"{"StreamConfig":{},"State":{"Running":true,"Paused":false,"Restarting":false,
    "Pid":4711,"StartedAt":"2026-11-24T10:20:30.5Z","FinishedAt":"0001-01-01T00:00:00Z"},
    "ID":"4f3c","Image":"sha256:12","LogPath":"/var/lib/docker/containers/4f3c/4f3c-json.log",
    "Name":"/web","Config":{"Tty":true,"Env":null,"Image":"nginx:1","Labels":{"a":"b"}}}"#;
const HOST_CONFIG: &str =
    r#"{"LogConfig":{"Type":"json-file","Config":{"max-size":"10m"}},"AutoRemove":true}"#;

#[test]
fn what_the_engine_wrote_of_a_container_is_read() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read(directory.path()).unwrap(), None);
    std::fs::write(directory.path().join(CONFIG_FILE), CONFIG).unwrap();
    assert_eq!(read(directory.path()).unwrap(), None);
    std::fs::write(directory.path().join(HOST_CONFIG_FILE), HOST_CONFIG).unwrap();
    let container = read(directory.path()).unwrap().unwrap();
    assert_eq!((container.id.as_str(), container.name.as_str()), ("4f3c", "web"));
    assert_eq!(
        (container.image_ref.as_str(), container.image_id.as_str()),
        ("nginx:1", "sha256:12")
    );
    assert!(container.running && container.tty && container.auto_remove);
    assert_eq!(container.labels["a"], "b");
    assert_eq!(container.log.driver, "json-file");
    assert_eq!(container.log.options["max-size"], "10m");
    assert_eq!(container.started_at.as_deref(), Some("2026-11-24T10:20:30.5Z"));
    assert_eq!(container.finished_at, None);
}

#[test]
fn a_stamp_changes_with_either_file_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    // As the engine does it: another file takes the place of the one that is there.
    let put = |name: &str, text: &str| {
        std::fs::write(directory.path().join("new"), text).unwrap();
        std::fs::rename(directory.path().join("new"), directory.path().join(name)).unwrap();
    };
    let now = || stamp(directory.path()).unwrap();
    assert_eq!(now(), None);
    put(CONFIG_FILE, CONFIG);
    assert_eq!(now(), None);
    put(HOST_CONFIG_FILE, HOST_CONFIG);
    let first = now();
    assert!(first.is_some());
    assert_eq!(now(), first);
    // Of the same length: what is written in it is another thing.
    put(CONFIG_FILE, &CONFIG.replace("/web", "/bew"));
    let second = now();
    assert_ne!(second, first);
    put(HOST_CONFIG_FILE, HOST_CONFIG);
    assert_ne!(now(), second);
}

#[test]
fn what_is_damaged_or_without_labels_is_told_apart() {
    assert!(facts(b"{", b"{}").is_err());
    assert!(facts(br#"{"Name":"/web"}"#, b"{}").is_err());
    let bare = facts(br#"{"ID":"4f3c","Config":{"Labels":null}}"#, b"{}").unwrap();
    assert_eq!((bare.id.as_str(), bare.labels.len()), ("4f3c", 0));
}
