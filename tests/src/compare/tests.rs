use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::sandbox::Sandbox;

/// Makes two equal trees, changes the second one and returns what the comparison says.
fn after(change: impl FnOnce(&Path)) -> Vec<String> {
    let sandbox = Sandbox::new();
    let make = |name: &str| {
        let root = sandbox.directory(name);
        fs::write(root.join("file"), "content").unwrap();
        fs::hard_link(root.join("file"), root.join("other")).unwrap();
        symlink("file", root.join("link")).unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        sparse.write_all_at(b"data", 32 << 20).unwrap();
        set_times(&root);
        root
    };
    let (left, right) = (make("left"), make("right"));
    change(&right);
    differences(&tree::read(&left), &tree::read(&right), Ignore::default())
}

fn set_times(root: &Path) {
    let time = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    for name in ["file", "link", "directory", "sparse", "."] {
        let directory = tree::open_directory(rustix::fs::CWD, root.as_os_str()).unwrap();
        rustix::fs::utimensat(directory, name, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .unwrap();
    }
}

#[test]
fn equal_trees_have_no_differences() {
    assert_eq!(after(|_| ()), Vec::<String>::new());
}

#[test]
fn content_of_the_same_length_is_compared() {
    let found = after(|root| {
        fs::write(root.join("file"), "CONTENT").unwrap();
        set_times(root);
    });
    assert_eq!(found, [r#""file": has other content"#, r#""other": has other content"#]);
}

#[test]
fn mode_and_time_are_compared() {
    let found = after(|root| {
        fs::set_permissions(root.join("directory"), Permissions::from_mode(0o700)).unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 6);
        File::open(root.join("directory")).unwrap().set_modified(later).unwrap();
    });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("has mode 0700 instead of 0755"));
    assert!(found[1].contains("(1000000000, 6) instead of (1000000000, 5)"));
}

#[test]
fn a_broken_hard_link_is_a_difference() {
    let found = after(|root| {
        fs::remove_file(root.join("other")).unwrap();
        fs::write(root.join("other"), "content").unwrap();
        set_times(root);
        let time = fs::metadata(root.join("file")).unwrap().modified().unwrap();
        File::open(root.join("other")).unwrap().set_modified(time).unwrap();
    });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|line| line.contains("is linked to nothing")));
}

#[test]
fn a_link_target_a_missing_and_a_surplus_path_are_differences() {
    let found = after(|root| {
        fs::remove_file(root.join("link")).unwrap();
        symlink("elsewhere", root.join("link")).unwrap();
        fs::remove_dir(root.join("directory")).unwrap();
        File::create(root.join("surplus")).unwrap();
        set_times_of_root(root);
    });
    assert!(found.contains(&r#""directory" (a directory) is missing"#.to_owned()), "{found:?}");
    assert!(found.contains(&r#""surplus" (a file) is too much"#.to_owned()), "{found:?}");
    assert!(found.iter().any(|line| line.contains(r#"points to "elsewhere" instead of "file""#)));
}

fn set_times_of_root(root: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    File::open(root).unwrap().set_modified(time).unwrap();
}

#[test]
fn filled_holes_are_a_difference() {
    let found = after(|root| {
        let path = root.join("sparse");
        let content = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        set_times(root);
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("its holes are gone"));
}

#[test]
fn attributes_are_compared_byte_for_byte() {
    let found = after(|root| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("file"), "user.note", b"a\nb\0", flags).unwrap();
    });
    assert!(
        found[0].contains(r#"has attribute "user.note" = "a\nb\x00" instead of nothing"#),
        "{found:?}"
    );
}
