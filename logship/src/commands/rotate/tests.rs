use std::os::unix::ffi::OsStrExt as _;

use super::*;
use crate::rotate::decide::Why;
use crate::rotation::Wishes;

#[test]
fn what_would_be_done_is_told_in_words_and_in_json() {
    let look = Look {
        path: "/logs/app.log".into(),
        size: 10,
        allocated: 4096,
        inode: (1, None),
        policy: Wishes::parse("size=1MB,keep=2").unwrap().policy(),
        is_due: false,
        act: Act::Rename,
        writers: vec!["web (signal:USR1)".to_owned()],
        contradiction: None,
        kept: (2, 20),
        draining: 1,
    };
    let text = |row: Row<'_>| {
        let mut out = Vec::new();
        row.text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let said = text(Row::of(&look));
    assert_eq!(
        said,
        "/logs/app.log: not due, 10 bytes, 4096 on disk\n  \
         how: rename, make a new file, tell the writers, end the old one\n  \
         policy: reopen=none size=1000000 keep=2 compress=none names=dateext\n  \
         writers: web (signal:USR1)\n  kept: 2 files, 20 bytes; not over yet: 1\n"
    );
    let done = Row { done: Some(false), ..Row::of(&look) };
    assert!(text(done).contains("not rotated in time"));
    let both = Some(("a".to_owned(), "b".to_owned()));
    let look = Look { act: Act::Wait(Why::ReadOnly), contradiction: both, ..look };
    let json = serde_json::to_value(Row::of(&look)).unwrap();
    assert_eq!(json["how"], "nothing: its mount is read-only");
    assert_eq!(json["contradiction"], "the labels of a and b ask for different things");
    let path = std::ffi::OsStr::from_bytes(b"/logs/\xff.log").into();
    let look = Look { path, act: Act::Wait(Why::Name), ..look };
    let json = serde_json::to_value(Row::of(&look)).unwrap();
    assert_eq!(json["path"], "/logs/\u{fffd}.log");
    assert_eq!(json["how"], "nothing: its name is not UTF-8");
}
