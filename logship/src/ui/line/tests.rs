use super::*;
use crate::record::{Flags, Gap, GapReason, control_line};
use crate::source::{Parse, SourceKey};

fn meta() -> SourceMeta {
    SourceMeta {
        key: SourceKey("file:1-2-3".to_owned()),
        origin: Origin::File { path: "/logs/a.log".to_owned(), volume: None, inode: 2 },
        host: "h".to_owned(),
        fields: std::collections::BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    }
}

fn shown(line: &[u8], flags: Flags) -> Shown {
    let meta = meta();
    let record = Record { ts: 1_795_515_630_000_000_001, flags, line };
    Shown::new(&Line::of_record(&meta, origin_of(&meta), 7, &record).unwrap())
}

#[test]
fn a_key_is_read_as_it_is_written() {
    for key in [Key { ts: -5, origin: u64::MAX, seq: 3 }, Key::at(i64::MAX)] {
        assert_eq!(Key::parse(&key.to_string()), Some(key));
    }
    for text in ["", "1", "1.2", "x.0.0", "1.g.0", "1.0.x", "1.0.0.0"] {
        assert_eq!(Key::parse(text), None, "{text}");
    }
}

#[test]
fn a_record_has_the_same_key_in_the_log_and_in_an_archive() {
    let text = br#"{"host":"h","path":"/logs/a.log","stream":"file","seq":7,"ts":"2026-11-24T10:20:30.000000001Z","line":"x"}"#;
    let entry = Entry::parse(text).unwrap();
    let archived = Shown::new(&Line::of_entry(&entry, entry.facts.as_ref().unwrap()));
    assert_eq!(archived, shown(b"x", Flags::new(Stream::File)));
}

#[test]
fn a_long_line_is_cut_at_a_character() {
    let line = format!("{}{}", "x".repeat(SHOWN_BYTES_MAX - 1), "é".repeat(600_000));
    let shown = shown(line.as_bytes(), Flags::new(Stream::File));
    assert_eq!(shown.line.unwrap(), "x".repeat(SHOWN_BYTES_MAX - 1));
    assert_eq!(shown.cut, Some(line.len()));
    let foreign = vec![0x80; SHOWN_BYTES_MAX + 1];
    assert_eq!(beginning(&foreign).0.len(), SHOWN_BYTES_MAX);
}

#[test]
fn a_line_is_one_line_of_json_whatever_it_holds() {
    let json = shown(b"a\nb\r\x1b[31m\"</script>\xff", Flags::new(Stream::Stderr)).to_json();
    assert!(!json.contains(&b'\n'), "{json:?}");
    let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(read["line"], "a\nb\r\u{1b}[31m\"</script>\u{fffd}");
    assert_eq!(read["stream"], "stderr");
    assert!(read["control"].is_null() && read["cut"].is_null());
}

#[test]
fn a_gap_has_its_range() {
    let gap = Gap {
        reason: GapReason::Rotated,
        from: Some(1_795_515_630_000_000_000),
        to: None,
        from_byte: None,
        bytes: Some(700),
        lines: Some(7),
        exact: true,
    };
    let line = control_line(&Control::Gap(gap));
    let shown = shown(&line, Flags::new(Stream::File).control());
    let read: serde_json::Value = serde_json::from_slice(&shown.to_json()).unwrap();
    assert_eq!(read["control"]["control"], "gap");
    assert_eq!(read["control"]["lines"], 7);
    assert_eq!(read["from"], "2026-11-24T10:20:30.000000000Z");
    assert!(read["to"].is_null() && read["line"].is_null() && read["level"].is_null());
}
