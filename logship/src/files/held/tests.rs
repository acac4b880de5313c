use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::*;

fn hold(path: &std::path::Path) -> Hold {
    let file = File::open(path).unwrap();
    let facts = FileFacts::of(&file).unwrap();
    let (identity, bytes) = (facts.identity, facts.size);
    Hold { identity, file, path: path.to_owned(), base: PathBuf::from("/logs/app.log"), bytes }
}

#[test]
fn what_grows_after_it_was_removed_is_given_back_once() {
    let directory = tempfile::tempdir().unwrap();
    let (quiet, busy) = (directory.path().join("quiet"), directory.path().join("busy"));
    std::fs::write(&quiet, "a\n").unwrap();
    std::fs::write(&busy, "b\n").unwrap();
    let mut writer = File::options().append(true).open(&busy).unwrap();
    let mut held = Held::default();
    for path in [&quiet, &busy, &busy] {
        assert_eq!(held.take(hold(path)), Answer::Done);
        std::fs::remove_file(path).ok();
        if path == &busy && held.files.len() == 2 {
            std::fs::write(&busy, "another file\n").unwrap();
        }
    }
    assert!(held.grown().is_empty());
    writer.write_all(b"more\n").unwrap();
    let grown = held.grown();
    assert_eq!(grown.len(), 1);
    assert_eq!((grown[0].path.as_path(), grown[0].bytes), (busy.as_path(), 2));
    assert!(held.grown().is_empty());
}

#[test]
fn more_than_can_be_held_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut held = Held::default();
    for number in 0..=HELD_MAX {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, "x\n").unwrap();
        let is_done = held.take(hold(&path)) == Answer::Done;
        assert_eq!(is_done, number < HELD_MAX);
    }
}
