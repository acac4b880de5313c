use super::*;

fn mount(kind: MountKind, name: Option<&str>, source: &str, destination: &str) -> Mount {
    Mount {
        kind,
        name: name.map(str::to_owned),
        source: source.into(),
        destination: destination.into(),
        driver: name.map(|_| "local".to_owned()),
        read_write: true,
    }
}

fn volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        options: [("type".to_owned(), "nfs".to_owned())].into(),
        mountpoint: "/var/lib/x".into(),
    }
}

fn container(mounts: Vec<Mount>) -> Container {
    Container {
        id: "0123".to_owned(),
        name: "web".to_owned(),
        image_id: "sha256:ab".to_owned(),
        image_ref: "web:1".to_owned(),
        mounts,
        ..Container::default()
    }
}

#[test]
fn volumes_and_bind_mounts_are_sources_with_all_that_is_known_of_them() {
    let container = container(vec![
        mount(MountKind::Volume, Some("data"), "/var/lib/x", "/data"),
        mount(MountKind::Bind, None, "/srv/app.conf", "/etc/app.conf"),
    ]);
    let sources = of_container(&container, &[("data".to_owned(), volume("data"))].into());
    let [data, file] = sources.info.sources.as_slice() else { panic!("{sources:?}") };
    assert_eq!(data.path, "/data");
    let recorded = data.volume.clone().unwrap();
    assert_eq!((recorded.kind.as_str(), recorded.name.as_str()), ("volume", "data"));
    assert_eq!((recorded.labels, recorded.options), (volume("").labels, volume("").options));
    let recorded = file.volume.clone().unwrap();
    assert_eq!((recorded.kind.as_str(), recorded.name.as_str()), ("bind", "/srv/app.conf"));
    assert_eq!(sources.info.container.as_ref().unwrap().image, "web:1");
    assert!(sources.notes.is_empty());
}

#[test]
fn sockets_memory_and_views_into_the_host_are_left_out_with_a_note() {
    let mounts = vec![
        mount(MountKind::Bind, None, "/var/run/docker.sock", "/var/run/docker.sock"),
        mount(MountKind::Bind, None, "/run/app.sock", "/app-socket"),
        mount(MountKind::Tmpfs, None, "", "/memory"),
        mount(MountKind::Bind, None, "/proc", "/host/proc"),
        mount(MountKind::Bind, None, "/", "/host"),
        mount(MountKind::Bind, None, "/etc/resolv.conf", "/etc/resolv.conf"),
        mount(MountKind::Other, None, "", "/image"),
    ];
    let sources = of_container(&container(mounts.clone()), &BTreeMap::new());
    assert!(sources.info.is_empty(), "{:?}", sources.info);
    assert_eq!(sources.notes.len(), mounts.len());
    assert_eq!(
        sources.notes[2],
        "/memory is left out: it is memory of that container, which nobody else can read"
    );
    assert_eq!(sources.taken.len(), mounts.len());
}

#[test]
fn named_volumes_are_mounted_under_their_names() {
    let sources = of_volumes(&[volume("a"), volume("b")]);
    let places: Vec<_> = sources.info.sources.iter().map(|source| source.path.as_str()).collect();
    assert_eq!(places, ["/volumes/a", "/volumes/b"]);
    assert_eq!(sources.volumes[0], ("a".to_owned(), "/volumes/a".into()));
    assert!(sources.container.is_none());
    assert_eq!(sources.info.name(), "a,b");
}

#[test]
fn what_the_parent_writes_the_worker_reads() {
    let mut info = of_volumes(&[volume("a")]).info;
    info.host = "web1".to_owned();
    let text = info.to_env_text().unwrap();
    assert_eq!(SourceInfo::from_env_text(&text).unwrap(), info);
    assert_eq!(info.source_at("/volumes/a"), info.sources[0]);
    let unknown = Source { path: "/elsewhere".to_owned(), volume: None };
    assert_eq!(info.source_at("/elsewhere"), unknown);
}

#[test]
fn a_text_that_is_too_long_or_not_ours_is_an_error() {
    let mut info = of_volumes(&[volume("a")]).info;
    info.host = "x".repeat(SOURCE_TEXT_BYTES_MAX);
    assert!(matches!(info.to_env_text(), Err(SourceInfoError::TooLong)));
    let long = " ".repeat(SOURCE_TEXT_BYTES_MAX + 1);
    assert!(matches!(SourceInfo::from_env_text(&long), Err(SourceInfoError::TooLong)));
    for text in ["", "{}", "[]", r#"{"host":"h","sources":[],"new":1}"#] {
        assert!(matches!(SourceInfo::from_env_text(text), Err(SourceInfoError::Json(_))), "{text}");
    }
}

#[test]
fn secrets_in_driver_options_are_not_recorded_and_a_note_says_so() {
    let mut share = volume("share");
    share.options = [
        ("type", "cifs"),
        ("o", "addr=nas,username=web,password=x,Credentials=/etc/c,pass=y,vers=3.0,ro"),
        ("password", "z"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let sources = of_volumes(&[share, volume("plain")]);
    let recorded = sources.info.sources[0].volume.clone().unwrap().options;
    let expected = [("type", "cifs"), ("o", "addr=nas,username=web,vers=3.0,ro")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(recorded, expected.into());
    let [note] = sources.notes.as_slice() else { panic!("{:?}", sources.notes) };
    assert!(note.contains("volume share"), "{note}");
}

#[test]
fn who_writes_a_source_is_who_has_it_mounted_writable_and_runs() {
    let volume = |kind: &str, name: &str| SourceVolume {
        kind: kind.to_owned(),
        name: name.to_owned(),
        driver: String::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    };
    let source = |path: &str, volume| Source { path: path.to_owned(), volume: Some(volume) };
    let sources =
        [source("/data", volume("volume", "data")), source("/srv", volume("bind", "/srv/www"))];
    let mount = |kind, name: Option<&str>, source: &str, read_write| Mount {
        kind,
        name: name.map(str::to_owned),
        source: source.into(),
        destination: "/x".into(),
        driver: None,
        read_write,
    };
    let user = |name: &str, mount| Container {
        id: name.to_owned(),
        name: name.to_owned(),
        running: true,
        ..container(vec![mount])
    };
    let data = || mount(MountKind::Volume, Some("data"), "/v", true);
    let others = [
        user("writer", data()),
        user("reader", mount(MountKind::Volume, Some("data"), "/v", false)),
        Container { running: false, ..user("stopped", data()) },
        Container { paused: true, ..user("paused", data()) },
        user("still", data()),
        user("other", mount(MountKind::Volume, Some("others"), "/v", true)),
        user("above", mount(MountKind::Bind, None, "/srv", true)),
        user("below", mount(MountKind::Bind, None, "/srv/www/a", true)),
        user("beside", mount(MountKind::Bind, None, "/srv/www2", true)),
    ];
    let found = users(&sources, &others, &BTreeSet::from(["still".to_owned()]));
    let found: Vec<_> =
        found.iter().map(|users| (users.path.as_str(), users.containers.join(" "))).collect();
    assert_eq!(found, [("/data", "writer".to_owned()), ("/srv", "above below".to_owned())]);
}
