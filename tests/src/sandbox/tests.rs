use super::*;

#[test]
fn names_are_unique_and_fit_for_containers() {
    let first = unique_name();
    let second = unique_name();
    assert_ne!(first, second);
    assert!(first.starts_with(NAME_PREFIX));
    assert!(first.len() <= 63, "{first} is too long for a bucket");
    assert!(
        first
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    );
}

#[test]
fn a_sandbox_disappears_with_everything_in_it() {
    let sandbox = Sandbox::new();
    sandbox.file("a/b/c", "x");
    let closed = sandbox.directory("closed/inner");
    fs::set_permissions(closed.parent().unwrap(), Permissions::from_mode(0o000)).unwrap();
    let root = sandbox.root().to_owned();
    drop(sandbox);
    assert!(!root.exists());
}

#[test]
fn a_sandbox_disappears_when_the_test_panics() {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let outcome = std::thread::spawn(move || {
        let sandbox = Sandbox::new();
        sender.send(sandbox.root().to_owned()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    assert!(!receiver.recv().unwrap().exists());
}

#[test]
fn a_small_disk_is_full_when_its_size_says_so() {
    let sandbox = Sandbox::new();
    let Some(disk) = sandbox.small_disk("disk", 64 * 1024) else { return };
    let error = fs::write(disk.path().join("file"), vec![1; 128 * 1024]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_read_only_disk_turns_writes_away() {
    let sandbox = Sandbox::new();
    let Some(disk) = sandbox.small_disk("disk", 64 * 1024) else { return };
    disk.make_read_only();
    let error = fs::write(disk.path().join("file"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}
