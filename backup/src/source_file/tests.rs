use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{FileType as RawFileType, XattrFlags, lsetxattr, mknodat, setxattr};

use super::*;
use crate::walk::{Event, WalkOptions, walk};

/// The directory as a root, and everything found in it by name.
struct Source {
    root: SourceRoot,
    found: Vec<Found>,
}

impl Source {
    fn new(directory: &Path) -> Self {
        let roots = [SourceRoot::open(directory).unwrap()];
        let mut found = Vec::new();
        let end = walk::<()>(&roots, &WalkOptions::default(), |event| {
            if let Event::Found(one) = event {
                found.push(one);
            }
            ControlFlow::Continue(())
        });
        assert!(end.is_continue());
        let [root] = roots;
        Self { root, found }
    }

    fn found(&self, name: &str) -> &Found {
        let name = format!("/{name}");
        self.found.iter().find(|found| found.path.ends_with(name.as_bytes())).unwrap()
    }

    fn metadata(&self, name: &str) -> Metadata {
        read_metadata(&self.root, self.found(name)).unwrap()
    }

    fn open(&self, name: &str) -> Result<OpenSource, SourceError> {
        open(&self.root, self.found(name))
    }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.into() }
}

#[test]
fn attributes_of_files_directories_and_links_are_read_sorted() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("dir")).unwrap();
    symlink("target \u{fffd}", at("link")).unwrap();
    let long = vec![0x0a; 2000];
    setxattr(at("file"), "user.z", b"with\nnewline\0and nul", XattrFlags::empty()).unwrap();
    setxattr(at("file"), "user.a", b"", XattrFlags::empty()).unwrap();
    setxattr(at("dir"), "user.long", &long, XattrFlags::empty()).unwrap();
    lsetxattr(at("link"), "trusted.mark", b"on the link", XattrFlags::empty()).unwrap();

    let source = Source::new(temp.path());
    let expected = [xattr("user.a", b""), xattr("user.z", b"with\nnewline\0and nul")];
    assert_eq!(source.metadata("file").xattrs, expected);
    assert_eq!(source.open("file").unwrap().metadata().unwrap().xattrs, expected);
    assert_eq!(source.metadata("dir").xattrs, [xattr("user.long", &long)]);
    let link = source.metadata("link");
    assert_eq!(link.xattrs, [xattr("trusted.mark", b"on the link")]);
    assert_eq!(link.link_target.as_deref(), Some("target \u{fffd}".as_bytes()));
    assert!(link.unread.is_empty());
}

#[test]
fn many_attributes_are_read_and_sorted() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "x").unwrap();
    for number in 0..200 {
        setxattr(&file, format!("trusted.{number}"), b"v", XattrFlags::empty()).unwrap();
    }
    let xattrs = Source::new(temp.path()).metadata("file").xattrs;
    assert_eq!(xattrs.len(), 200);
    assert!(xattrs.is_sorted());
}

#[test]
fn pipes_sockets_and_closed_files_give_their_metadata_without_being_opened() {
    let temp = tempfile::tempdir().unwrap();
    let directory = File::open(temp.path()).unwrap();
    mknodat(&directory, "pipe", RawFileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(temp.path().join("socket")).unwrap();
    fs::write(temp.path().join("closed"), "x").unwrap();
    fs::set_permissions(temp.path().join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let source = Source::new(temp.path());
    for name in ["pipe", "socket", "closed"] {
        assert_eq!(source.metadata(name), Metadata::default(), "{name}");
    }
}

#[test]
fn a_file_without_holes_is_one_range() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), vec![1; 100_000]).unwrap();
    fs::write(temp.path().join("empty"), "").unwrap();
    let source = Source::new(temp.path());
    let file = source.open("file").unwrap();
    assert_eq!(file.data_ranges(100_000).collect::<Vec<_>>(), [(0, 100_000)]);
    assert_eq!(file.data_ranges(99).collect::<Vec<_>>(), [(0, 99)]);
    assert_eq!(source.open("empty").unwrap().data_ranges(0).count(), 0);
}

#[test]
fn holes_are_not_among_the_ranges() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sparse");
    let file = File::create(&path).unwrap();
    let block = vec![1; 65_536];
    file.write_all_at(&block, 1 << 20).unwrap();
    file.write_all_at(&block, 8 << 30).unwrap();
    file.set_len(9 << 30).unwrap();
    file.sync_all().unwrap();
    File::create(temp.path().join("hole")).unwrap().set_len(5000).unwrap();
    let source = Source::new(temp.path());
    let sparse = source.open("sparse").unwrap();
    let expected = [(1 << 20, 65_536), (8 << 30, 65_536)];
    assert_eq!(sparse.data_ranges(9 << 30).collect::<Vec<_>>(), expected);
    let cut = [(1 << 20, 65_536), (8 << 30, 1000)];
    assert_eq!(sparse.data_ranges((8 << 30) + 1000).collect::<Vec<_>>(), cut);
    assert_eq!(source.open("hole").unwrap().data_ranges(5000).count(), 0);
}

#[test]
fn a_file_that_shrinks_is_read_as_far_as_it_goes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    fs::write(&path, vec![7; 3 << 20]).unwrap();
    let source = Source::new(temp.path());
    let open = source.open("file").unwrap();
    File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(open.read_at(&mut buffer, 0).unwrap(), 10);
    assert_eq!(open.read_at(&mut buffer, 10).unwrap(), 0);
    assert!(open.data_ranges(3 << 20).all(|(offset, length)| offset + length <= 3 << 20));
    assert_ne!(open.stat_now().unwrap().size, open.stat().size);
}

#[test]
fn what_took_the_place_of_a_file_is_not_read() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    for name in ["file", "gone", "link", "pipe", "directory"] {
        fs::write(at(name), "x").unwrap();
    }
    let source = Source::new(temp.path());
    fs::write(at("new"), "other").unwrap();
    fs::rename(at("new"), at("file")).unwrap();
    for name in ["gone", "link", "pipe", "directory"] {
        fs::remove_file(at(name)).unwrap();
    }
    symlink("/etc/passwd", at("link")).unwrap();
    let directory = File::open(temp.path()).unwrap();
    mknodat(&directory, "pipe", RawFileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::create_dir(at("directory")).unwrap();
    for name in ["file", "link", "pipe", "directory"] {
        let outcome = source.open(name);
        assert!(matches!(outcome, Err(SourceError::Replaced(_))), "{name}: {outcome:?}");
        let metadata = read_metadata(&source.root, source.found(name));
        assert!(matches!(metadata, Err(SourceError::Replaced(_))), "{name}: {metadata:?}");
    }
    let gone = source.open("gone").unwrap_err();
    assert!(gone.to_string().ends_with("/gone disappeared before it was read"));
}

#[test]
fn one_file_as_a_root_is_read() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("only"), "content").unwrap();
    let source = Source::new(&temp.path().join("only"));
    let open = source.open("only").unwrap();
    let mut buffer = [0; 7];
    assert_eq!(open.read_at(&mut buffer, 0).unwrap(), 7);
    assert_eq!(&buffer, b"content");
}
