use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use rustix::fs::{FileType, fstat, mkdirat};

use super::*;

fn check_opens(directory: BorrowedFd<'_>, path: &[u8], expected: std::result::Result<(), Errno>) {
    let flags = OFlags::RDONLY;
    let shown = String::from_utf8_lossy(path).into_owned();
    assert_eq!(open(directory, path, flags, Mode::empty()).map(drop), expected, "{shown}");
    if !path.is_empty() && expected != Err(Errno::INVAL) {
        let stepwise = open_stepwise(directory, path, flags | OFlags::NOFOLLOW, Mode::empty());
        assert_eq!(stepwise.is_ok(), expected.is_ok(), "{shown} stepwise");
    }
}

#[test]
fn only_plain_paths_without_links_are_opened() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("a/b")).unwrap();
    fs::write(temp.path().join("a/b/file"), "x").unwrap();
    symlink(outside.path(), temp.path().join("a/out")).unwrap();
    symlink("b/file", temp.path().join("a/link")).unwrap();
    let directory = fs::File::open(temp.path()).unwrap();
    let directory = directory.as_fd();

    check_opens(directory, b"", Ok(()));
    check_opens(directory, b"a", Ok(()));
    check_opens(directory, b"a/b/file", Ok(()));
    check_opens(directory, b"a/out/secret", Err(Errno::LOOP));
    check_opens(directory, b"a/out", Err(Errno::LOOP));
    check_opens(directory, b"a/link", Err(Errno::LOOP));
    check_opens(directory, b"a/../a", Err(Errno::INVAL));
    check_opens(directory, b"/etc", Err(Errno::INVAL));
    check_opens(directory, b"a//b", Err(Errno::INVAL));
    check_opens(directory, b"a/./b", Err(Errno::INVAL));
    check_opens(directory, b"a/nul\0", Err(Errno::INVAL));
    check_opens(directory, b"a/missing", Err(Errno::NOENT));
}

#[test]
fn a_handle_can_name_a_link_itself() {
    let temp = tempfile::tempdir().unwrap();
    symlink("nowhere", temp.path().join("link")).unwrap();
    let directory = fs::File::open(temp.path()).unwrap();
    let link = open(directory.as_fd(), b"link", NAME_ANYTHING, Mode::empty()).unwrap();
    let stat = fstat(&link).unwrap();
    assert_eq!(FileType::from_raw_mode(stat.st_mode), FileType::Symlink);
}

#[test]
fn paths_beyond_path_max_are_opened() {
    let temp = tempfile::tempdir().unwrap();
    let name = [b'n'; NAME_BYTES_MAX];
    let mut path = Vec::new();
    let root = fs::File::open(temp.path()).unwrap();
    let mut at: OwnedFd = root.as_fd().try_clone_to_owned().unwrap();
    for _ in 0..40 {
        mkdirat(&at, &name[..], Mode::RWXU).unwrap();
        at = openat(&at, &name[..], NAME_DIRECTORY, Mode::empty()).unwrap();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
    }
    assert!(path.len() > 2 * PIECE_BYTES_MAX);
    let reached = open(root.as_fd(), &path, NAME_DIRECTORY, Mode::empty()).unwrap();
    assert_eq!(fstat(&reached).unwrap().st_ino, fstat(&at).unwrap().st_ino);
    let (parent, last) = open_parent(root.as_fd(), &path).unwrap();
    assert_eq!(last, &name[..]);
    assert_ne!(fstat(&parent).unwrap().st_ino, fstat(&at).unwrap().st_ino);
}

#[test]
fn a_path_is_split_at_its_last_slash() {
    assert_eq!(split_last(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
    assert_eq!(split_last(b"a"), (&b""[..], &b"a"[..]));
    assert_eq!(split_last(b""), (&b""[..], &b""[..]));
}
