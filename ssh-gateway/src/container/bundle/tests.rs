use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn it_is_looked_for_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = Bundles::open(&[directory.path().to_owned()], None);
    assert!(matches!(bundles.read(ID), Err(BundleError::Nowhere { .. })));
    std::fs::create_dir(directory.path().join(ID)).unwrap();
    std::fs::write(directory.path().join(ID).join("config.json"), "{}").unwrap();
    assert_eq!(bundles.read(ID).unwrap(), b"{}");
}

#[test]
fn an_id_is_no_path() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = Bundles::open(&[directory.path().to_owned()], None);
    for id in ["", "..", "a/b", &"/../".repeat(16), ID.trim_start_matches('0'), &ID.to_uppercase()]
    {
        assert!(matches!(bundles.read(id), Err(BundleError::NotAnId)), "{id}");
    }
}

#[test]
fn only_a_regular_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = Bundles::open(&[directory.path().to_owned()], None);
    let path = directory.path().join(ID).join("config.json");
    std::fs::create_dir_all(&path).unwrap();
    assert!(matches!(bundles.read(ID), Err(BundleError::Unreadable { .. })));
    std::fs::remove_dir(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(matches!(bundles.read(ID), Err(BundleError::Unreadable { .. })));
    std::fs::remove_file(&path).unwrap();
    let large = File::create(&path).unwrap();
    large.set_len(SPECIFICATION_BYTES_MAX + 1).unwrap();
    let error = bundles.read(ID).unwrap_err();
    assert!(matches!(error, BundleError::Unreadable { .. }), "{error}");
}

#[test]
fn the_exec_root_of_an_engine_is_found() {
    let line = |words: &[&str]| words.join("\0").into_bytes();
    let found = |words: &[&str]| exec_root(&line(words)).map(|path| path.display().to_string());
    assert_eq!(found(&["dockerd", "--exec-root=/run/d", "-H", "x"]).as_deref(), Some("run/d"));
    assert_eq!(found(&["dockerd", "--exec-root", "/run/d"]).as_deref(), Some("run/d"));
    for words in [&["dockerd"][..], &["dockerd", "--exec-root"], &["dockerd", "--exec-rootless=/x"]]
    {
        assert_eq!(found(words), None, "{words:?}");
    }
    assert_eq!(found(&["dockerd", "--exec-root=relative"]), None);
}

#[test]
fn the_engine_is_who_listens_at_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("engine.sock");
    assert_eq!(engine(&socket), None);
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // This process listens: its root is ours, and it has no --exec-root.
    assert_eq!(engine(&socket), None);
}
