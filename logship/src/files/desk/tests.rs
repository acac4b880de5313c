use std::sync::Arc;
use std::thread;

use super::*;
use crate::proof::{FileFacts, proof_of};

#[test]
fn whoever_asks_gets_the_answer_of_the_one_who_reads() {
    let desk = Arc::new(Desk::default());
    assert!(desk.take().is_none());
    let file = FileIdentity { device: 1, inode: 2, born: None };
    let reader = {
        let desk = desk.clone();
        thread::spawn(move || {
            loop {
                if let Some(Ask::Retire(asked, 7)) = desk.take() {
                    desk.answer(Answer::NotNow(format!("inode {}", asked.inode)));
                    break;
                }
                thread::yield_now();
            }
        })
    };
    assert_eq!(desk.ask(Ask::Retire(file, 7)), Answer::NotNow("inode 2".to_owned()));
    reader.join().unwrap();
    // Nobody waits for it.
    desk.answer(Answer::Done);
    assert!(desk.lock().answer.is_none());
    assert!(desk.is_idle());
}

#[test]
fn what_is_answered_late_was_at_work_until_then() {
    let desk = Desk::default();
    let file = FileIdentity { device: 1, inode: 2, born: None };
    desk.lock().asked = Some(Ask::Forget(file));
    assert!(!desk.is_idle());
    assert!(desk.take().is_some());
    // Whoever asked has given up.
    desk.lock().is_awaited = false;
    assert!(!desk.is_idle());
    desk.answer(Answer::Done);
    assert!(desk.is_idle() && desk.lock().answer.is_none());
}

fn lines(from: u32, to: u32) -> Vec<u8> {
    (from..to).flat_map(|number| format!("line {number:>10}\n").into_bytes()).collect()
}

#[test]
fn a_cursor_moves_along_only_if_the_beginning_was_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let text = lines(0, 4096);
    std::fs::write(&path, &text).unwrap();
    let file = File::open(&path).unwrap();
    let identity = FileFacts::of(&file).unwrap().identity;
    let offset = 48 << 10;
    let proof = proof_of(&file, offset).unwrap().unwrap();
    let cursor = FileCursor { file: identity, offset, shift: 8192, proof };
    let length = 16 << 10;
    let hash_at = |offset| probe(&file, offset).unwrap().unwrap();
    let (before, after) = (hash_at(0), hash_at(length));
    let begun = Begun { identity, shift: 8192, length, before, after };
    assert_eq!(begun.moved(cursor, &file).unwrap(), cursor, "it did not happen");

    // What the kernel does, in the same file.
    let cut = text.get(usize::try_from(length).unwrap()..).unwrap();
    std::fs::write(&path, cut).unwrap();
    let moved = begun.moved(cursor, &file).unwrap();
    assert_eq!((moved.offset, moved.shift), (offset - length, 8192 + length));
    assert_eq!(moved.proof, proof_of(&file, moved.offset).unwrap().unwrap());
    assert_eq!(begun.moved(moved, &file).unwrap(), moved, "the log knows it already");
    // The log knows it, and the disk does not: the power failed in between.
    std::fs::write(&path, &text).unwrap();
    assert_eq!(begun.moved(moved, &file).unwrap(), cursor);
    std::fs::write(&path, cut).unwrap();
    let other = FileIdentity { inode: 1, ..identity };
    let others = FileCursor { file: other, ..cursor };
    assert_eq!(begun.moved(others, &file).unwrap(), others);
    // The same beginning, and something else at the place.
    let mut replaced = cut.to_vec();
    replaced[usize::try_from(offset - length).unwrap() - 1] = b'x';
    std::fs::write(&path, replaced).unwrap();
    assert_eq!(begun.moved(cursor, &file).unwrap(), cursor);
}
