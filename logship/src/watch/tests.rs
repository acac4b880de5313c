use std::fs;

use super::*;

#[test]
fn changes_are_told_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let watch = Watch::new().unwrap();
    let id = watch.add(directory.path()).unwrap();
    fs::write(directory.path().join("a"), "x").unwrap();
    fs::rename(directory.path().join("a"), directory.path().join("b")).unwrap();
    fs::remove_file(directory.path().join("b")).unwrap();
    let mut changes = Vec::new();
    watch.wait(Duration::from_secs(10), &mut changes).unwrap();
    let name = |name: &str, what| Change::Name { directory: id, name: name.into(), what };
    assert_eq!(
        changes,
        [
            name("a", What::Appeared),
            name("a", What::Written),
            name("a", What::Closed),
            name("a", What::Vanished),
            name("b", What::Appeared),
            name("b", What::Vanished),
        ]
    );
    changes.clear();
    watch.wait(Duration::ZERO, &mut changes).unwrap();
    assert!(changes.is_empty());
    drop(directory);
    watch.wait(Duration::from_secs(10), &mut changes).unwrap();
    assert_eq!(changes.first(), Some(&Change::DirectoryGone(id)));
}

#[test]
fn a_file_is_told_of_once_under_whatever_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, "x").unwrap();
    let file = File::open(&path).unwrap();
    let watch = Watch::new().unwrap();
    let mut changes = Vec::new();
    for text in ["xy", ""] {
        let id = watch.add_once(&file).unwrap();
        fs::rename(&path, directory.path().join("b")).unwrap();
        watch.wait(Duration::ZERO, &mut changes).unwrap();
        assert_eq!(changes, []);
        fs::rename(directory.path().join("b"), &path).unwrap();
        // Longer at first, and then cut.
        fs::write(&path, text).unwrap();
        fs::write(&path, text).unwrap();
        watch.wait(Duration::from_secs(10), &mut changes).unwrap();
        assert_eq!(changes, [Change::DirectoryGone(id)]);
        changes.clear();
    }
    let id = watch.add_once(&file).unwrap();
    watch.remove(id);
    fs::write(&path, "z").unwrap();
    watch.wait(Duration::ZERO, &mut changes).unwrap();
    assert_eq!(changes, [Change::DirectoryGone(id)]);
}
