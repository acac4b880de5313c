use super::*;

fn file(path: &[u8], extents: Vec<Extent>, size: u64) -> Entry {
    Entry {
        path: path.to_vec(),
        kind: Kind::File(FileContent { size, extents, torn: false }),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

fn lines_of(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    entry.write_lines(&mut out, |_| ()).unwrap();
    out
}

fn parse_all(bytes: &[u8]) -> Entry {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let Line::Entry(mut entry) = Line::parse(lines.next().unwrap()).unwrap() else { panic!() };
    for line in lines {
        let Line::More(more) = Line::parse(line).unwrap() else { panic!() };
        let Kind::File(content) = &mut entry.kind else { panic!() };
        content.extents.extend(more);
    }
    entry
}

#[test]
fn entries_read_back_from_their_lines() {
    let long: Vec<_> = (0..700_u32)
        .map(|number| Extent::Chunk(ChunkId([u8::try_from(number % 251).unwrap(); 16])))
        .collect();
    let entries = [file(b"a", long, 700), file(b"b", Vec::new(), 0)];
    let lines: Vec<u8> = entries.iter().flat_map(lines_of).collect();
    assert_eq!(parse_entries(&lines).unwrap(), entries);
    assert!(parse_entries(b"{\"more\":[\"x\"]}\n").is_err());
    assert!(parse_entries(&lines[..lines.len() - 9]).is_err());
}

#[test]
fn an_entry_with_every_field_reads_back_equal() {
    let mut entry =
        file(b"caf\xe9/x", vec![Extent::Chunk(ChunkId([7; 16])), Extent::Hole(4096)], 5000);
    entry.mode = 0o4755;
    entry.uid = u32::MAX - 1;
    entry.mtime = Timestamp { seconds: -1, nanos: 999_999_999 };
    entry.xattrs = vec![Xattr { name: b"user.\xff".to_vec(), value: b"a\nb\0".to_vec() }];
    entry.hardlink_of = Some(b"first".to_vec());
    assert_eq!(parse_all(&lines_of(&entry)), entry);
    for kind in [
        Kind::Directory,
        Kind::Symlink(b"../\xfe".to_vec()),
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice(1, 3),
        Kind::BlockDevice(259, 1 << 19),
    ] {
        let entry = Entry { kind, ..entry.clone() };
        assert_eq!(parse_all(&lines_of(&entry)), entry);
    }
}

#[test]
fn a_long_extent_list_is_spread_over_bounded_lines_and_reads_back() {
    let extents: Vec<_> = (0..10_000_u32)
        .map(|n| {
            let mut id = [0xff; 16];
            id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            Extent::Chunk(ChunkId(id))
        })
        .collect();
    let entry = file(b"big", extents, 1);
    let bytes = lines_of(&entry);
    assert!(bytes.split(|byte| *byte == b'\n').all(|line| line.len() < 36 * 256 + 200));
    assert_eq!(parse_all(&bytes), entry);
}

#[test]
fn paths_that_would_leave_the_target_are_refused() {
    for path in ["..", "a/../b", "/a", "a//b", "./a", "a/.", "a\\u0000b", "a/"] {
        let line = format!(
            r#"{{"path":"{path}","type":"dir","mode":"0755","uid":0,"gid":0,"mtime":"0"}}"#
        );
        assert!(Line::parse(line.as_bytes()).is_err(), "{path}");
    }
}

#[test]
fn a_mode_is_four_octal_digits_and_nothing_else() {
    let parse = |mode: &str| {
        let line =
            format!(r#"{{"path":"a","type":"dir","mode":"{mode}","uid":0,"gid":0,"mtime":"0"}}"#);
        Line::parse(line.as_bytes())
    };
    for (text, mode) in [("0000", 0), ("0755", 0o755), ("7777", 0o7777)] {
        let Line::Entry(entry) = parse(text).unwrap() else { panic!() };
        assert_eq!(entry.mode, mode);
    }
    for text in ["", "755", "+755", "+0755", "-755", " 755", "0o75", "0758", "00755", "17777"] {
        assert!(matches!(parse(text), Err(EntryError::Field("mode"))), "{text}");
    }
}

#[test]
fn content_of_what_is_no_file_is_refused() {
    for kind in [
        r#""type":"dir""#,
        r#""type":"fifo""#,
        r#""type":"socket""#,
        r#""type":"symlink","target":"b""#,
        r#""type":"char","device":[1,3]"#,
        r#""type":"block","device":[8,0]"#,
    ] {
        // The fields in the order of the format, so that nothing but the content is wrong.
        let (kind, rest) = kind
            .split_once(',')
            .map_or((kind, String::new()), |(kind, rest)| (kind, format!(",{rest}")));
        let parse = |content: &str| {
            let line = format!(
                r#"{{"path":"a",{kind},"mode":"0755","uid":0,"gid":0,"mtime":"0"{rest}{content}}}"#
            );
            Line::parse(line.as_bytes())
        };
        assert!(parse("").is_ok(), "{kind}");
        for content in [
            r#","torn":true"#,
            r#","data":[4096]"#,
            r#","data":["00112233445566778899aabbccddeeff"]"#,
            r#","size":0"#,
        ] {
            assert!(matches!(parse(content), Err(EntryError::Field(_))), "{kind} {content}");
        }
    }
}

#[test]
fn times_are_decimal_seconds_with_one_spelling() {
    for (seconds, nanos, text) in [
        (0, 0, "0"),
        (1, 500_000_000, "1.5"),
        (-1, 999_999_999, "-0.000000001"),
        (-2, 500_000_000, "-1.5"),
        (-2, 0, "-2"),
        (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
        (i64::MIN, 0, "-9223372036854775808"),
    ] {
        let time = Timestamp { seconds, nanos };
        assert_eq!(time.to_string(), text);
        assert_eq!(text.parse(), Ok(time));
    }
    for text in ["", "-", ".5", "1.", "1.0000000001", "1e3", "9223372036854775808", "+1"] {
        assert_eq!(text.parse::<Timestamp>(), Err(()), "{text}");
    }
}

#[test]
fn tree_order_puts_children_before_the_next_sibling() {
    let mut paths = ["a.b", "a", "a/z", "a!", "", "a/b/c", "a/b"].map(str::as_bytes);
    paths.sort_by(|left, right| tree_order(left, right));
    assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a/z", "a!", "a.b"].map(str::as_bytes));
}
