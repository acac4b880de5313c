use super::*;

#[test]
fn only_our_own_are_removed_however_deep() {
    let root = tempfile::tempdir().unwrap();
    let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
    for path in [
        "unified/docker/a/ssh-1-x",
        "freezer/docker/a/ssh-1-x",
        "unified/docker/b/ssh-2-x",
        "a/b/c/d/ssh-1-y",
    ] {
        make(path);
    }
    std::os::unix::fs::symlink(root.path().join("unified"), root.path().join("link")).unwrap();
    assert_eq!(sweep(root.path(), "ssh-1-"), 3);
    assert!(!root.path().join("unified/docker/a/ssh-1-x").exists());
    assert!(root.path().join("unified/docker/b/ssh-2-x").exists());
    assert_eq!(sweep(root.path(), "ssh-1-"), 0);
    assert_eq!(sweep(Path::new("/nowhere"), "ssh-1-"), 0);
}
