use super::*;

#[test]
fn who_gives_no_answer_is_not_waited_for() {
    let (sender, receiver) = mpsc::channel::<()>();
    assert_eq!(within(Duration::from_millis(10), move || receiver.recv().is_ok()), None);
    drop(sender);
    assert_eq!(within(LOOK_TIME, || 1), Some(1));
}

#[test]
fn a_link_is_followed() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    fs::create_dir(root.join("7")).unwrap();
    std::os::unix::fs::symlink("7", root.join("current")).unwrap();
    let expected = Seen { kind: PathKind::Directory, real: root.join("7") };
    assert_eq!(look_at(&root.join("current")), Some(expected));
    assert_eq!(look_at(&root.join("gone")), None);
}
