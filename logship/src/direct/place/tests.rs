use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::cursor::{ContentProof, DirectCursor};
use crate::direct::found::Found;
use crate::proof::FileFacts;

fn line(stream: &str, second: u8, text: &str) -> String {
    format!(r#"{{"log":"{text}\n","stream":"{stream}","time":"1970-01-01T00:00:{second:02}Z"}}"#)
        + "\n"
}

fn file(path: &Path, text: &str) -> (FileIdentity, Content) {
    fs::write(path, text).unwrap();
    let file = Arc::new(File::open(path).unwrap());
    let identity = FileFacts::of(&file).unwrap().identity;
    let found = Found { path: path.to_owned(), identity, file, is_compressed: false };
    (identity, Content::new(&found))
}

fn two(directory: &Path) -> [(FileIdentity, Content); 2] {
    let old = line("stdout", 1, "a") + &line("stderr", 2, "b");
    let new = line("stdout", 4, "c") + &line("stdout", 5, "d");
    [file(&directory.join("old"), &old), file(&directory.join("new"), &new)]
}

fn direct(file: FileIdentity, offset: u64, proof: ContentProof) -> Cursor {
    Cursor::Direct(DirectCursor {
        at: FileCursor { shift: 0, file, offset, proof },
        last: Vec::new(),
    })
}

#[test]
fn without_a_cursor_it_is_the_beginning_and_nothing_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let place = find(&mut two(directory.path()), Format::JsonFile, None).unwrap();
    assert_eq!(place, Place { file: 0, offset: 0, is_proven: true });
}

#[test]
fn a_file_is_known_again_by_its_identity_and_what_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = two(directory.path());
    let proof = files[1].1.proof(20).unwrap().unwrap();
    let cursor = direct(files[1].0, 20, proof);
    let proven = Place { file: 1, offset: 20, is_proven: true };
    assert_eq!(find(&mut files, Format::JsonFile, Some(&cursor)).unwrap(), proven);
    // The same text in another file: the engine compressed it, or devices are numbered anew.
    let elsewhere = FileIdentity { device: 1, inode: 1, born: None };
    let cursor = direct(elsewhere, 20, proof);
    assert_eq!(find(&mut files, Format::JsonFile, Some(&cursor)).unwrap(), proven);
    // The same file with another text.
    let cursor = direct(files[1].0, 20, ContentProof { tail: 1, ..proof });
    assert_eq!(find(&mut files, Format::JsonFile, Some(&cursor)).unwrap(), Place::START);
    // Nothing read of a file that is gone proves nothing.
    let nothing = files[1].1.proof(0).unwrap().unwrap();
    let cursor = direct(elsewhere, 0, nothing);
    assert_eq!(find(&mut files, Format::JsonFile, Some(&cursor)).unwrap(), Place::START);
}

#[test]
fn a_message_of_the_api_is_found_among_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = two(directory.path());
    let first_line = line("stdout", 1, "a").len() as u64;
    let mut at = |stream, second: i64, text: &str| {
        let hash = hash(text.as_bytes()) as u32;
        let last = LastSeen { stream, ts: second * 1_000_000_000, hash };
        let place = by_message(&mut files, Format::JsonFile, &last).unwrap();
        (place.file, place.offset, place.is_proven)
    };
    assert_eq!(at(Stream::Stdout, 1, "a\n"), (0, first_line, true));
    assert_eq!(at(Stream::Console, 1, "a\n"), (0, first_line, true));
    assert_eq!(at(Stream::Stdout, 5, "d\n"), (1, 2 * first_line, true));
    // What is not there: before the first younger one, and nobody knows what is missing.
    assert_eq!(at(Stream::Stderr, 3, "x\n"), (1, 0, false));
    assert_eq!(at(Stream::Stdout, 0, "x\n"), (0, 0, false));
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = two(directory.path());
    let path = directory.path().join("damaged");
    fs::write(&path, b"\x1f\x8b\x08 and no more").unwrap();
    let file = Arc::new(File::open(&path).unwrap());
    let found = Found { path, identity: old.0, file, is_compressed: true };
    let damaged = (FileIdentity { device: 1, inode: 1, born: None }, Content::new(&found));
    let last = LastSeen { stream: Stream::Stdout, ts: 4_000_000_000, hash: hash(b"c\n") as u32 };
    let place = by_message(&mut [damaged, old, new], Format::JsonFile, &last).unwrap();
    let offset = line("stdout", 4, "c").len() as u64;
    assert_eq!(place, Place { file: 2, offset, is_proven: true });
}
