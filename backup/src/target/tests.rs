use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use rustix::fs::{XattrFlags, getxattr, lgetxattr, listxattr, setxattr};

use super::*;
use crate::entry::{FileContent, Timestamp, Xattr};

fn target() -> (tempfile::TempDir, Target) {
    let temp = tempfile::tempdir().unwrap();
    let target = Target::open(temp.path()).unwrap();
    (temp, target)
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o640,
        uid: 1234,
        gid: 4321,
        mtime: Timestamp { seconds: -2, nanos: 999_999_999 },
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

fn file_entry(path: &str) -> Entry {
    entry(path, Kind::File(FileContent::default()))
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.into() }
}

/// An ACL for one more user (`linux/posix_acl_xattr.h`): version 2, then (tag, permissions, id).
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permissions, id) in
        [(1, 6, none), (2, 4, 77), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(permissions));
        acl.extend(u32::to_le_bytes(id));
    }
    acl
}

/// `cap_net_bind_service=ep` (`linux/capability.h`, revision 2); the number of the capability is 10.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn read_xattr(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = Vec::with_capacity(1000);
    getxattr(path, name, rustix::buffer::spare_capacity(&mut value)).map(|_| value)
}

#[test]
fn a_file_gets_content_owner_mode_attributes_and_times() {
    let (temp, target) = target();
    let mut wanted = file_entry("a/b/file");
    wanted.mode = 0o4755;
    wanted.xattrs = vec![
        xattr("security.capability", &CAPABILITY),
        xattr("trusted.t", b"\0\n"),
        xattr("user.note", b"with\nnewline"),
    ];
    let mut file = target.create_file(&wanted.path).unwrap();
    file.write_all(b"content").unwrap();
    let warnings = target.finish(&wanted, Some(file.as_fd())).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let path = temp.path().join("a/b/file");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
    assert_eq!(metadata.mode() & 0o7777, 0o4755);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 999_999_999));
    assert_eq!(read_xattr(&path, "user.note").unwrap(), b"with\nnewline");
    assert_eq!(read_xattr(&path, "trusted.t").unwrap(), b"\0\n");
    assert_eq!(read_xattr(&path, "security.capability").unwrap(), CAPABILITY);
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn acls_survive_the_mode_and_are_removed_where_the_snapshot_has_none() {
    let (temp, target) = target();
    let name = "system.posix_acl_access";
    let mut wanted = file_entry("file");
    wanted.xattrs = vec![xattr(name, &acl())];
    drop(target.create_file(b"file").unwrap());
    let path = temp.path().join("file");
    assert!(target.finish(&wanted, None).unwrap().is_empty());
    assert_eq!(read_xattr(&path, name).unwrap(), acl());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert!(target.finish(&file_entry("file"), None).unwrap().is_empty());
    assert!(read_xattr(&path, name).is_err());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn an_acl_inherited_from_the_directory_is_removed() {
    let (temp, target) = target();
    setxattr(temp.path(), "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    let file = target.create_file(b"file").unwrap();
    let path = temp.path().join("file");
    assert!(read_xattr(&path, "system.posix_acl_access").is_ok());
    assert!(target.finish(&file_entry("file"), Some(file.as_fd())).unwrap().is_empty());
    let mut list = Vec::with_capacity(1000);
    assert_eq!(listxattr(&path, rustix::buffer::spare_capacity(&mut list)).unwrap(), 0);
}

#[test]
fn stale_attributes_of_a_file_that_is_reused_are_removed() {
    let (temp, target) = target();
    let path = temp.path().join("file");
    fs::write(&path, "old content").unwrap();
    setxattr(&path, "user.stale", b"x", XattrFlags::empty()).unwrap();
    let (file, stat) = target.open_for_write(b"file").unwrap();
    assert_eq!((stat.size, stat.links), (11, 1));
    let mut wanted = file_entry("file");
    wanted.xattrs = vec![xattr("user.new", b"y")];
    assert!(target.finish(&wanted, Some(file.as_fd())).unwrap().is_empty());
    assert!(read_xattr(&path, "user.stale").is_err());
    assert_eq!(read_xattr(&path, "user.new").unwrap(), b"y");
}

#[test]
fn links_pipes_and_devices_are_made_with_their_metadata() {
    let (temp, target) = target();
    let at = |name: &str| temp.path().join(name);
    let mut link = entry("dir/link", Kind::Symlink(b"/etc/pass\xffwd".to_vec()));
    link.xattrs = vec![xattr("trusted.mark", b"on the link")];
    let nodes = [
        link,
        entry("pipe", Kind::Fifo),
        entry("null", Kind::CharDevice(1, 3)),
        entry("loop", Kind::BlockDevice(7, 200)),
    ];
    for node in &nodes {
        assert!(target.make_node(node).unwrap().is_none());
        let warnings = target.finish(node, None).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let path = at(std::str::from_utf8(&node.path).unwrap());
        let metadata = fs::symlink_metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 999_999_999));
    }
    let mut value = Vec::with_capacity(100);
    let link = at("dir/link");
    lgetxattr(&link, "trusted.mark", rustix::buffer::spare_capacity(&mut value)).unwrap();
    assert_eq!(value, b"on the link");
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    let null = fs::metadata(at("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (makedev(1, 3), 0o640));
    assert_eq!(fs::metadata(at("loop")).unwrap().rdev(), makedev(7, 200));
    let socket = target.make_node(&entry("socket", Kind::Socket)).unwrap().unwrap();
    assert_eq!(socket.to_string(), "/socket: a socket is not restored; its server makes it");
}

#[test]
fn a_second_name_is_the_same_file() {
    let (temp, target) = target();
    drop(target.create_file(b"first").unwrap());
    target.make_hard_link(b"first", b"deep/down/second").unwrap();
    let inode = |name: &str| fs::metadata(temp.path().join(name)).unwrap().ino();
    assert_eq!(inode("first"), inode("deep/down/second"));
}

#[test]
fn nothing_is_reached_through_a_link_in_the_target() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "precious").unwrap();
    let (temp, target) = target();
    symlink(outside.path(), temp.path().join("out")).unwrap();
    symlink(outside.path().join("victim"), temp.path().join("link")).unwrap();
    let in_the_way = |outcome: Result<(), TargetError>| {
        assert!(matches!(outcome, Err(TargetError::InTheWay { .. })), "{outcome:?}");
    };
    in_the_way(target.create_file(b"out/new").map(drop));
    in_the_way(target.create_file(b"link").map(drop));
    in_the_way(target.open_for_write(b"link").map(drop));
    in_the_way(target.open_for_write(b"out/victim").map(drop));
    in_the_way(target.make_directory(b"out/new"));
    in_the_way(target.make_directory(b"out/a/b"));
    in_the_way(target.make_directory(b"out"));
    in_the_way(target.make_node(&entry("out/pipe", Kind::Fifo)).map(drop));
    in_the_way(target.make_hard_link(b"out/victim", b"mine"));
    in_the_way(target.finish(&file_entry("link"), None).map(drop));
    in_the_way(target.finish(&file_entry("out/victim"), None).map(drop));
    in_the_way(target.remove_tree(b"out/victim"));
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"precious");
    assert_ne!(fs::metadata(outside.path().join("victim")).unwrap().uid(), 1234);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    target.remove_tree(b"out").unwrap();
    assert!(outside.path().join("victim").exists());
}

#[test]
fn paths_that_leave_the_target_are_refused() {
    let (_temp, target) = target();
    for path in [&b"../x"[..], b"/x", b"a/../../x", b"a//x", b".", b"a/\0"] {
        assert!(target.create_file(path).is_err());
        assert!(target.make_directory(path).is_err());
        assert!(target.make_hard_link(path, b"y").is_err());
        assert!(target.remove_tree(path).is_err());
    }
}

#[test]
fn an_existing_file_is_never_overwritten_by_creating() {
    let (_temp, target) = target();
    drop(target.create_file(b"file").unwrap());
    assert!(matches!(target.create_file(b"file"), Err(TargetError::InTheWay { .. })));
    assert!(matches!(target.make_directory(b"file"), Err(TargetError::InTheWay { .. })));
    assert!(matches!(target.make_directory(b"file/x"), Err(TargetError::InTheWay { .. })));
    target.make_directory(b"dir").unwrap();
    target.make_directory(b"dir").unwrap();
    target.make_directory(b"").unwrap();
    assert!(matches!(target.open_for_write(b"dir"), Err(TargetError::InTheWay { .. })));
}

#[test]
fn an_owner_that_no_file_can_have_is_a_warning_and_takes_setuid_with_it() {
    let (temp, target) = target();
    let mut wanted = file_entry("file");
    (wanted.uid, wanted.mode) = (u32::MAX, 0o6755);
    let file = target.create_file(b"file").unwrap();
    let warnings = target.finish(&wanted, Some(file.as_fd())).unwrap();
    assert_eq!(warnings.iter().map(|warning| &warning.what).collect::<Vec<_>>(), [&Lost::Owner]);
    let mode = fs::metadata(temp.path().join("file")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn an_attribute_that_cannot_be_set_is_a_warning() {
    let (_temp, target) = target();
    let mut wanted = file_entry("file");
    wanted.xattrs = vec![xattr("unknown.name", b"x"), xattr("user.ok", b"y")];
    let file = target.create_file(b"file").unwrap();
    let warnings = target.finish(&wanted, Some(file.as_fd())).unwrap();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(warning.what, Lost::Xattr(b"unknown.name".to_vec()));
    assert!(warning.source.is_some());
}

#[test]
fn a_full_disk_is_reported_as_full() {
    let (_temp, target) = target();
    let error = target.failed("create the file", b"x", Errno::NOSPC);
    assert!(error.is_full());
    assert!(error.to_string().starts_with("the disk is full: cannot create the file "));
    let written = TargetError::writing(b"x", io::Error::from(io::ErrorKind::StorageFull));
    assert!(written.is_full());
    assert!(!TargetError::writing(b"x", io::Error::from(io::ErrorKind::Other)).is_full());
}

#[test]
fn paths_beyond_path_max_are_written_walked_and_removed() {
    let (_temp, target) = target();
    let deep = vec!["d".repeat(200); 310].join("/");
    let wanted = file_entry(&format!("{deep}/file"));
    let file = target.create_file(&wanted.path).unwrap();
    assert!(target.finish(&wanted, Some(file.as_fd())).unwrap().is_empty());
    let link = entry(&format!("{deep}/link"), Kind::Symlink(b"x".to_vec()));
    assert!(target.make_node(&link).unwrap().is_none());
    assert!(target.finish(&link, None).unwrap().is_empty());
    assert_eq!(target.stat(&wanted.path).unwrap().unwrap().uid, 1234);
    let mut count = 0;
    let end = target
        .existing::<()>(2, &[], |found| {
            found.unwrap();
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(end.is_continue());
    assert_eq!(count, 1 + 310 + 2);
    target.remove_tree("d".repeat(200).as_bytes()).unwrap();
    assert!(target.is_empty().unwrap());
}

#[test]
fn a_target_is_empty_until_something_is_in_it() {
    let (temp, target) = target();
    assert!(target.is_empty().unwrap());
    fs::create_dir(temp.path().join("lost+found")).unwrap();
    assert!(target.is_empty().unwrap());
    fs::write(temp.path().join("lost+found/found"), "").unwrap();
    assert!(!target.is_empty().unwrap());
    assert!(target.free_bytes().unwrap() > 0);
    assert!(target.stat(b"missing/file").unwrap().is_none());
}

#[test]
fn closed_directories_are_removed_too() {
    let (temp, target) = target();
    fs::create_dir_all(temp.path().join("a/b/c")).unwrap();
    fs::write(temp.path().join("a/b/c/file"), "").unwrap();
    fs::set_permissions(temp.path().join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
    target.remove_tree(b"a").unwrap();
    target.remove_tree(b"a").unwrap();
    target.remove_tree(b"never/was").unwrap();
    assert!(target.is_empty().unwrap());
}

#[test]
fn a_target_that_is_no_directory_is_refused() {
    let temp = tempfile::NamedTempFile::new().unwrap();
    let error = Target::open(temp.path()).unwrap_err();
    assert!(error.to_string().starts_with("cannot open the directory "));
}
