use super::*;
use crate::entry::FileContent;

fn shown(bytes: &[u8]) -> String {
    escaped(bytes).to_string()
}

#[test]
fn names_of_people_stay_as_they_are() {
    assert_eq!(shown("Füße und 文件 (1).txt".as_bytes()), "Füße und 文件 (1).txt");
    assert_eq!(escaped_path(b"etc/passwd").to_string(), "/etc/passwd");
}

#[test]
fn nothing_that_drives_a_terminal_comes_through() {
    assert_eq!(shown(b"\x1b[2J\x07\x7f"), "\\x1b[2J\\x07\\x7f");
    assert_eq!(shown(b"one\ntwo\r\tthree"), "one\\ntwo\\r\\tthree");
    assert_eq!(shown("\u{9b}31m".as_bytes()), "\\u{9b}31m");
    assert_eq!(shown("gpj\u{202e}exe".as_bytes()), "gpj\\u{202e}exe");
    assert_eq!(shown("\u{2028}".as_bytes()), "\\u{2028}");
}

#[test]
fn bytes_that_are_not_text_are_told_from_their_escapes() {
    assert_eq!(shown(b"a\xff\xfeb"), "a\\xff\\xfeb");
    assert_eq!(shown(b"a\\xff"), "a\\\\xff");
}

#[test]
fn times_outside_of_any_calendar_are_seconds() {
    let time_at = |seconds| time(Timestamp { seconds, nanos: 5 });
    assert_eq!(time_at(0), "1970-01-01T00:00:00Z");
    assert_eq!(time_at(-1), "1969-12-31T23:59:59Z");
    assert_eq!(time_at(i64::MAX), "@9223372036854775807.000000005");
}

#[test]
fn modes_look_as_ls_shows_them() {
    let mode_of = |kind, bits| {
        mode(&Entry {
            path: Vec::new(),
            kind,
            mode: bits,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
            hardlink_of: None,
        })
    };
    assert_eq!(mode_of(Kind::Directory, 0o1777), "drwxrwxrwt");
    assert_eq!(mode_of(Kind::File(FileContent::default()), 0o6711), "-rws--s--x");
    assert_eq!(mode_of(Kind::File(FileContent::default()), 0o7000), "---S--S--T");
    assert_eq!(mode_of(Kind::CharDevice(1, 3), 0o666), "crw-rw-rw-");
}
