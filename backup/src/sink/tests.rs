use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn written(path: &Path) -> Result<(), SinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut sink = Sink::open_path(path)?;
    sink.write_all(b"new").unwrap();
    sink.commit(runtime.handle())
}

#[test]
fn a_fifo_is_written_and_stays_a_fifo() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || fs::read_to_string(path).unwrap()
    });
    written(&path).unwrap();
    assert_eq!(reader.join().unwrap(), "new");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
}

#[test]
fn a_device_is_written_and_a_socket_refused_and_neither_is_replaced() {
    written(Path::new("/dev/null")).unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(written(&path), Err(SinkError::Node(..))));
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
}

#[test]
fn a_link_stays_and_what_it_names_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    symlink("second", at("first")).unwrap();
    symlink("file", at("second")).unwrap();
    for _ in 0..2 {
        written(&at("first")).unwrap();
        assert!(at("first").is_symlink() && at("second").is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
    }
}

#[test]
fn a_directory_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    assert!(matches!(written(temp.path()), Err(SinkError::Directory(_))));
}

#[test]
fn the_file_to_replace_and_the_one_being_written_are_known() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("archive");
    fs::write(&path, "old").unwrap();
    let sink = Sink::open_path(&path).unwrap();
    let mut expected: Vec<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .map(|found| (found.dev(), found.ino()))
        .collect();
    let mut identities = sink.identities();
    identities.sort_unstable();
    expected.sort_unstable();
    assert_eq!((identities.len(), identities), (2, expected));
}
