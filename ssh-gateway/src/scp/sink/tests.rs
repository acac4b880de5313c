use proptest::prelude::*;

use super::*;

#[test]
fn records() {
    let mode = Mode::from_raw_mode(0o4755);
    assert_eq!(
        Record::parse(b'C', b"4755 12 a name"),
        Ok(Record::File { mode, size: 12, name: b"a name" })
    );
    assert_eq!(Record::parse(b'D', b"4755 0 d"), Ok(Record::Directory { mode, name: b"d" }));
    assert_eq!(Record::parse(b'E', b""), Ok(Record::End));
    let Ok(Record::Times(times)) = Record::parse(b'T', b"5 7 3 999999") else { panic!("no times") };
    assert_eq!((times.modification.tv_sec, times.modification.tv_nsec), (5, 7000));
    assert_eq!((times.access.tv_sec, times.access.tv_nsec), (3, 999_999_000));
}

#[test]
fn wrong_records() {
    let cases: [(u8, &[u8], Malformed); 26] = [
        (b'E', b"x", Malformed::Kind),
        (b'X', b"", Malformed::Kind),
        (0, b"", Malformed::Kind),
        (b'C', b"", Malformed::Mode),
        (b'C', b"0644", Malformed::Mode),
        (b'C', b"064", Malformed::Mode),
        (b'C', b"0684 1 a", Malformed::Mode),
        (b'C', b"00644 1 a", Malformed::Mode),
        (b'C', b"+644 1 a", Malformed::Mode),
        (b'C', b"0644 a", Malformed::Size),
        (b'C', b"0644  a", Malformed::Size),
        (b'C', b"0644 -1 a", Malformed::Size),
        (b'C', b"0644 +1 a", Malformed::Size),
        (b'C', b"0644 9223372036854775808 a", Malformed::Size),
        (b'C', b"0644 99999999999999999999999 a", Malformed::Size),
        (b'C', b"0644 1 ", Malformed::Name),
        (b'C', b"0644 1 .", Malformed::Name),
        (b'D', b"0755 0 ..", Malformed::Name),
        (b'C', b"0644 1 a/b", Malformed::Name),
        (b'C', b"0644 1 /etc/passwd", Malformed::Name),
        (b'C', b"0644 1 a\x1b[2J", Malformed::Name),
        (b'C', b"0644 1 a\0b", Malformed::Name),
        (b'T', b"", Malformed::Times),
        (b'T', b"1 0 1 1000000", Malformed::Times),
        (b'T', b"1 0 1 0 1", Malformed::Times),
        (b'T', b"-1 0 1 0", Malformed::Times),
    ];
    for (kind, line, error) in cases {
        assert_eq!(Record::parse(kind, line), Err(error), "{}", String::from_utf8_lossy(line));
    }
    let long = [b"0644 1 ".as_slice(), &[b'a'; 256]].concat();
    assert_eq!(Record::parse(b'C', &long), Err(Malformed::Name));
}

proptest! {
    #[test]
    fn a_parsed_name_is_one_component(line in "[0-7]{4} [0-9]{1,3} [a./\\\\\\x00-\\x20]{0,5}") {
        if let Ok(Record::File { name, .. }) = Record::parse(b'C', line.as_bytes()) {
            prop_assert!(!name.contains(&b'/') && name != b".." && name != b"." && !name.is_empty());
        }
    }

    #[test]
    fn any_line_is_parsed_or_refused(kind in any::<u8>(), line in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _either = Record::parse(kind, &line);
    }
}
