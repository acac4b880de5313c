use proptest::prelude::*;

use super::*;

fn decoded(line: &str) -> Option<(i64, Stream, Vec<u8>, bool)> {
    let mut decoder = JsonFile::default();
    let line = format!("{line}\n");
    match decoder.step(line.as_bytes(), false) {
        Step::Entry(entry, used) => {
            assert_eq!(used, line.len());
            Some((entry.ts, entry.stream, entry.line.to_vec(), entry.ends_line))
        }
        _ => None,
    }
}

#[test]
fn every_form_that_engines_write_is_read() {
    let time = r#""time":"1970-01-01T00:00:01.5Z"}"#;
    for (text, line, ends_line) in [
        (r"plain\n", "plain", true),
        (r"\n", "", true),
        ("a piece", "a piece", false),
        (r"\\n", "\\n", false),
        (r"\\\n", "\\", true),
        (r#"\"quoted\" \u003ca\u0026b\u003e\tτ\r\n"#, "\"quoted\" <a&b>\tτ\r", true),
        (r"\ud83d\ude00\n", "😀", true),
        ("\u{fffd}\\n", "\u{fffd}", true),
    ] {
        for (stream, name) in [(Stream::Stdout, "stdout"), (Stream::Stderr, "stderr")] {
            let plain = format!(r#"{{"log":"{text}","stream":"{name}",{time}"#);
            let wanted = Some((1_500_000_000, stream, line.as_bytes().to_vec(), ends_line));
            assert_eq!(decoded(&plain), wanted, "{plain}");
            let attributes =
                format!(r#"{{"log":"{text}","stream":"{name}","attrs":{{"a":"b"}},{time}"#);
            assert_eq!(decoded(&attributes), wanted, "{attributes}");
        }
    }
    let empty = format!(r#"{{"stream":"stdout",{time}"#);
    assert_eq!(decoded(&empty), Some((1_500_000_000, Stream::Stdout, Vec::new(), false)));
}

#[test]
fn what_is_no_message_is_corrupt_and_the_next_one_is_found() {
    let good = r#"{"log":"good\n","stream":"stdout","time":"2026-11-24T10:20:30Z"}"#;
    for bad in [
        "",
        "text",
        r#"{"log":"x","stream":"stdout"}"#,
        r#"{"log":"x","stream":"stdin","time":"2026-11-24T10:20:30Z"}"#,
        r#"{"log":"x","stream":"stdout","time":"yesterday"}"#,
        r#"{"log":"a"b","stream":"stdout","time":"2026-11-24T10:20:30Z"}"#,
        "{\"log\":\"a\u{1}b\",\"stream\":\"stdout\",\"time\":\"2026-11-24T10:20:30Z\"}",
        r#"{"log":"\x","stream":"stdout","time":"2026-11-24T10:20:30Z"}"#,
        r#"{"log":"\ud83d","stream":"stdout","time":"2026-11-24T10:20:30Z"}"#,
    ] {
        assert_eq!(decoded(bad), None, "{bad}");
        let mut decoder = JsonFile::default();
        let bytes = format!("{bad}\n{good}\n");
        let Step::Corrupt(used) = decoder.step(bytes.as_bytes(), false) else { panic!("{bad}") };
        assert_eq!(used, bad.len() + 1);
    }
    for torn in [r#"{"log":"half a li"#, "\0\0\0\0\0\0\0\0"] {
        let mut decoder = JsonFile::default();
        let bytes = format!("{torn}{good}\n");
        assert_eq!(decoder.step(bytes.as_bytes(), false), Step::Corrupt(torn.len()));
        let rest = &bytes.as_bytes()[torn.len()..];
        assert!(
            matches!(decoder.step(rest, false), Step::Entry(entry, _) if entry.line == b"good")
        );
    }
}

#[test]
fn a_line_that_is_not_whole_waits_unless_there_is_no_more() {
    let half = br#"{"log":"half"#;
    let mut decoder = JsonFile::default();
    assert_eq!(decoder.step(half, false), Step::More);
    assert_eq!(decoder.step(b"", true), Step::More);
    assert_eq!(decoder.step(half, true), Step::Corrupt(half.len()));
    let endless = vec![b'x'; ENTRY_BYTES_MAX];
    assert_eq!(decoder.step(&endless, false), Step::Corrupt(ENTRY_BYTES_MAX));
}

/// What serde_json alone makes of a line.
fn reference(line: &[u8]) -> Option<(i64, Stream, Vec<u8>, bool)> {
    let mut decoder = JsonFile::default();
    let entry = decoder.slow(line)?;
    Some((entry.ts, entry.stream, entry.line.to_vec(), entry.ends_line))
}

fn by_hand(line: &[u8]) -> Option<(i64, Stream, Vec<u8>, bool)> {
    let mut decoder = JsonFile::default();
    let entry = decoder.line(line)?;
    Some((entry.ts, entry.stream, entry.line.to_vec(), entry.ends_line))
}

proptest! {
    #[test]
    fn the_hand_reads_what_serde_reads(
        text in "(\\PC|\\\\|\"|[\\x00-\\x1f]|<|é){0,40}",
        ends in any::<bool>(),
        stream in prop::sample::select(vec!["stdout", "stderr"]),
        nanoseconds in 0..1_000_000_000_u32,
        second in 0..60_u32,
    ) {
        let log = if ends { format!("{text}\n") } else { text };
        let line = format!(
            r#"{{"log":{},"stream":"{stream}","time":"2026-11-24T10:20:{second:02}.{nanoseconds:09}Z"}}"#,
            serde_json::to_string(&log).unwrap()
        );
        let read = by_hand(line.as_bytes());
        prop_assert!(read.is_some());
        prop_assert_eq!(&read, &reference(line.as_bytes()));
        prop_assert_eq!(read.unwrap().2, log.strip_suffix('\n').unwrap_or(&log).as_bytes());
    }

    #[test]
    fn a_damaged_line_is_to_the_hand_what_it_is_to_serde(
        at in 0..90_usize,
        byte in any::<u8>(),
    ) {
        let line = br#"{"log":"some \"text\" \u003c here\n","stream":"stdout","time":"2026-11-24T10:20:30.123Z"}"#;
        let mut line = line.to_vec();
        if let Some(place) = line.get_mut(at) {
            *place = byte;
        }
        prop_assert_eq!(by_hand(&line), reference(&line));
    }

    #[test]
    fn no_bytes_make_it_panic_or_stand_still(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = JsonFile::default();
        let mut rest = bytes.as_slice();
        while let Step::Entry(_, used) | Step::Corrupt(used) = decoder.step(rest, true) {
            prop_assert!(used > 0 && used <= rest.len());
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
    }
}
