use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::ndjson::Ndjson;
use super::syslog::{Syslog, SyslogFormat};
use super::*;
use crate::block::BlockBuilder;
use crate::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use crate::source::{Origin, Parse, SourceKey};
use crate::template::Template;

const TS: i64 = 1_764_000_000_123_456_789;

pub(crate) fn engine_meta() -> SourceMeta {
    SourceMeta {
        key: SourceKey("engine:ab".to_owned()),
        origin: Origin::Engine {
            id: "ab".to_owned(),
            container: "web \"1\"".to_owned(),
            image: "web:1".to_owned(),
            project: Some("shop".to_owned()),
            service: None,
        },
        host: "h1".to_owned(),
        fields: BTreeMap::from([("seq".to_owned(), "x]".to_owned())]),
        sinks: None,
        parse: Parse::None,
    }
}

pub(crate) fn frame(meta: SourceMeta, records: &[(Flags, &[u8])]) -> Frame {
    let mut builder = BlockBuilder::default();
    for (flags, line) in records {
        builder.push(TS, *flags, line);
    }
    let block = builder.finish().unwrap();
    Frame { start: 0, end: 100, source: SourceId(1), meta: Arc::new(meta), first_seq: 98, block }
}

fn stdout() -> Flags {
    Flags::new(Stream::Stdout)
}

fn gap() -> Vec<u8> {
    control_line(&Control::Gap(Gap {
        from_byte: None,
        reason: GapReason::Rotated,
        from: None,
        to: None,
        bytes: Some(7),
        lines: None,
        exact: true,
    }))
}

fn ndjson(frame: &Frame, controls: Controls) -> String {
    let mut out = Vec::new();
    let done = Ndjson::new(controls).encode(frame, 0, usize::MAX, &mut out);
    assert_eq!(done, frame.block.count());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_record_has_its_keys_in_a_fixed_order() {
    let frame = frame(engine_meta(), &[(stdout(), b"a \"b\"\t\x01 \xc3\xa9"), (stdout(), b"")]);
    let beginning = r#"{"host":"h1","container":"web \"1\"","id":"ab","image":"web:1","project":"shop","_seq":"x]","stream":"stdout","seq":"#;
    let time = r#","ts":"2025-11-24T16:00:00.123456789Z","line":""#;
    let expected =
        format!("{beginning}98{time}a \\\"b\\\"\\t\\u0001 é\"}}\n{beginning}99{time}\"}}\n");
    assert_eq!(ndjson(&frame, Controls::All), expected);
}

#[test]
fn marks_controls_and_bytes_have_keys_of_their_own() {
    let frame = frame(
        engine_meta(),
        &[
            (stdout().partial(true).late(true), b"x"),
            (stdout(), b"\xff\x00"),
            (stdout().control(), &gap()),
            (stdout().control(), b"{\"control\":\"started\"}"),
        ],
    );
    let lines: Vec<Value> = ndjson(&frame, Controls::Gaps)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["partial"], &lines[0]["late"]), (&true.into(), &true.into()));
    assert_eq!(lines[1]["line_b64"], "/wA=");
    assert_eq!(lines[1].get("line"), None);
    assert_eq!(lines[2]["control"]["reason"], "rotated");
    assert_eq!(lines[2]["seq"], 100);
    assert_eq!(ndjson(&frame, Controls::All).lines().count(), 4);
    assert_eq!(ndjson(&frame, Controls::None).lines().count(), 2);
}

#[test]
fn parsed_lines_stay_one_line() {
    let meta = SourceMeta { parse: Parse::Json, ..engine_meta() };
    let frame = frame(meta, &[(stdout(), b"{\n\"a\": [1,\r\n2]}"), (stdout(), b"text")]);
    let text = ndjson(&frame, Controls::All);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["parsed"], serde_json::json!({"a": [1, 2]}));
    assert_eq!(lines[0]["line"], "{\n\"a\": [1,\r\n2]}");
    assert_eq!(lines[1].get("parsed"), None);
}

#[test]
fn logfmt_becomes_an_object_of_texts() {
    let meta = SourceMeta { parse: Parse::Logfmt, ..engine_meta() };
    let frame = frame(meta, &[(stdout(), b"a=1 b=\"x y\"")]);
    let line: Value = serde_json::from_str(&ndjson(&frame, Controls::All)).unwrap();
    assert_eq!(line["parsed"], serde_json::json!({"a": "1", "b": "x y"}));
}

#[test]
fn what_is_known_of_a_source_may_change() {
    let mut encoder = Ndjson::new(Controls::All);
    let mut out = Vec::new();
    let first = frame(engine_meta(), &[(stdout(), b"x")]);
    encoder.encode(&first, 0, usize::MAX, &mut out);
    let second = frame(SourceMeta { host: "h2".to_owned(), ..engine_meta() }, &[(stdout(), b"x")]);
    out.clear();
    encoder.encode(&second, 0, usize::MAX, &mut out);
    assert!(out.starts_with(b"{\"host\":\"h2\""));
}

#[test]
fn plain_lines_are_their_own_encoding() {
    let lines = frame(engine_meta(), &[(stdout(), b"a"), (stdout(), b"\xff"), (stdout(), b"")]);
    assert_eq!(plain::whole(&lines, 0), Some(&b"a\n\xff\n\n"[..]));
    assert_eq!(plain::whole(&lines, 1), None);
    let mut out = Vec::new();
    assert_eq!(plain::encode(&lines, 1, usize::MAX, Controls::Gaps, &mut out), 3);
    assert_eq!(out, b"\xff\n\n");
    let mixed = frame(
        engine_meta(),
        &[(stdout().control(), b"{\"control\":\"started\"}"), (stdout().control(), &gap())],
    );
    assert_eq!(plain::whole(&mixed, 0), None);
    out.clear();
    plain::encode(&mixed, 0, usize::MAX, Controls::Gaps, &mut out);
    assert!(out.starts_with(b"[logship] {\"control\":\"gap\""));
}

fn syslog(message_bytes_max: usize) -> Syslog {
    let app = Template::parse("{name}").unwrap();
    Syslog::new(SyslogFormat { facility: 16, app, message_bytes_max, controls: Controls::All })
}

#[test]
fn a_syslog_message_is_counted_and_complete() {
    let stderr = Flags::new(Stream::Stderr);
    let frame = frame(engine_meta(), &[(stderr, b"boom"), (stdout(), b"")]);
    let message = r#"<131>1 2025-11-24T16:00:00.123456Z h1 web_"1" - - [logship@32473 stream="stderr" container="web \"1\"" id="ab" image="web:1" project="shop" seq="x\]" seq="98"] boom"#;
    let mut out = Vec::new();
    let done = syslog(usize::MAX).encode(&frame, 0, 1, &mut out);
    assert_eq!(done, 1);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{} {message}", message.len()));
}

#[test]
fn a_long_syslog_message_is_cut_between_characters_and_says_so() {
    let line = "é".repeat(300);
    let frame = frame(engine_meta(), &[(stdout(), line.as_bytes())]);
    for limit in 300..310 {
        let (mut out, mut ends) = (Vec::new(), std::collections::VecDeque::new());
        syslog(limit).encode_datagrams(&frame, 0, usize::MAX, &mut out, &mut ends);
        assert_eq!(ends, [out.len()]);
        assert!(out.len() <= limit && out.len() + 2 > limit, "{} of {limit}", out.len());
        assert!(String::from_utf8(out).unwrap().contains(" truncated=\"true\"] é"));
    }
}

#[test]
fn a_datagram_is_never_longer_than_it_may_be() {
    let mut meta = engine_meta();
    for number in 0..100 {
        meta.fields.insert(format!("label{number}"), "\"é".repeat(40_000));
    }
    let line = "x".repeat(100);
    let frame = frame(meta, &[(stdout(), line.as_bytes())]);
    for limit in [480, 1024, 8192, 65_507] {
        let (mut out, mut ends) = (Vec::new(), std::collections::VecDeque::new());
        syslog(limit).encode_datagrams(&frame, 0, usize::MAX, &mut out, &mut ends);
        assert!(out.len() <= limit, "{} of {limit}", out.len());
        assert!(String::from_utf8(out).unwrap().ends_with(&format!("] {line}")), "{limit}");
    }
}

#[test]
fn an_encoder_stops_at_its_limit_and_goes_on_where_it_stopped() {
    let lines: Vec<Vec<u8>> = (0..50).map(|n| format!("line {n}").into_bytes()).collect();
    let records: Vec<(Flags, &[u8])> =
        lines.iter().map(|line| (stdout(), line.as_slice())).collect();
    let frame = frame(engine_meta(), &records);
    let whole = ndjson(&frame, Controls::All);
    let mut encoder = Ndjson::new(Controls::All);
    let (mut out, mut from) = (Vec::new(), 0);
    while from < frame.block.count() {
        let mut part = Vec::new();
        from = encoder.encode(&frame, from, 400, &mut part);
        assert!(!part.is_empty());
        out.extend(part);
    }
    assert_eq!(out, whole.as_bytes());
}

#[test]
fn decimals_count_up() {
    for start in [0, 8, 98, 999, 4_294_967_295, u64::MAX - 1] {
        let mut decimal = Decimal::new(start);
        assert_eq!(decimal.text(), start.to_string().as_bytes());
        decimal.increment();
        assert_eq!(decimal.text(), (start + 1).to_string().as_bytes());
    }
}

fn assert_escaped_as_serde_does(text: &str) {
    let mut ours = Vec::new();
    escape::string(&mut ours, text);
    assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(text).unwrap());
}

#[test]
fn every_character_is_escaped_as_serde_json_does_it() {
    for c in (0..=0x2fff).filter_map(char::from_u32) {
        for before in [0, 1, 15, 16] {
            assert_escaped_as_serde_does(&format!("{}{c}{}", "x".repeat(before), "y".repeat(17)));
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_escaped_as_serde_json_does_it(text in "[\\x00-\\x7f\"\\\\é\u{10ffff}]{0,80}") {
        assert_escaped_as_serde_does(&text);
    }

    #[test]
    fn any_record_is_one_line_of_json(lines in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..60), 1..10), how in 0..3_u8)
    {
        let parse = [Parse::None, Parse::Json, Parse::Logfmt, Parse::Syslog][usize::from(how)].clone();
        let records: Vec<(Flags, &[u8])> =
            lines.iter().map(|line| (stdout(), line.as_slice())).collect();
        let frame = frame(SourceMeta { parse, ..engine_meta() }, &records);
        let text = ndjson(&frame, Controls::All);
        prop_assert_eq!(text.lines().count(), lines.len());
        for (text, line) in text.lines().zip(&lines) {
            let value: Value = serde_json::from_str(text).unwrap();
            match value.get("line") {
                Some(whole) => prop_assert_eq!(whole.as_str().unwrap().as_bytes(), line.as_slice()),
                None => prop_assert!(std::str::from_utf8(line).is_err()),
            }
        }
    }
}

/// Bytes written as hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

/// A line, bytes that are no text with every mark, and a control record, numbered from 98.
pub(crate) fn three_kinds() -> Frame {
    let stderr = Flags::new(Stream::Stderr).partial(true).late(true);
    let started: &[u8] = b"{\"control\":\"started\"}";
    frame(
        engine_meta(),
        &[(stdout(), b"hello"), (stderr, b"\xff\x00"), (stdout().control(), started)],
    )
}

/// Records as they came out of an encoder, by their heads.
pub(crate) type Heads = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

/// Puts a record to those of its head.
pub(crate) fn sort_in(heads: &mut Heads, record: Encoded<'_>) {
    let of = |head: &(Vec<u8>, _)| head.0 == record.head.as_ref();
    let at = heads.iter().position(of).unwrap_or_else(|| {
        heads.push((record.head.to_vec(), Vec::new()));
        heads.len() - 1
    });
    heads[at].1.push(record.bytes.to_vec());
}

/// The same, borrowed.
pub(crate) fn borrowed(heads: &Heads) -> Vec<(&[u8], Vec<&[u8]>)> {
    let mut all = Vec::new();
    for (head, records) in heads {
        all.push((head.as_slice(), records.iter().map(Vec::as_slice).collect()));
    }
    all
}

#[test]
fn fields_have_the_names_that_a_sink_gives_them() {
    let change = |key: &str, name: &str| (key.to_owned(), name.to_owned());
    let changes = [
        change("container", "pod"),
        change("image", ""),
        change("line", "log"),
        change("stream", ""),
    ];
    let names = fields::FieldNames::new(&[("id", "uid")], changes).unwrap();
    let frame = frame(engine_meta(), &[(stdout(), b"x"), (stdout(), b"\xff")]);
    let mut out = Vec::new();
    Ndjson::named(Controls::All, names).encode(&frame, 0, usize::MAX, &mut out);
    let text = String::from_utf8(out).unwrap();
    let beginning =
        r#"{"host":"h1","pod":"web \"1\"","uid":"ab","project":"shop","_seq":"x]","seq":"#;
    let time = r#","ts":"2025-11-24T16:00:00.123456789Z","#;
    let expected =
        format!("{beginning}98{time}\"log\":\"x\"}}\n{beginning}99{time}\"line_b64\":\"/w==\"}}\n");
    assert_eq!(text, expected);
}

#[test]
fn fields_cannot_be_named_so_that_one_hides_the_other() {
    let names = |key: &str, name: &str| {
        fields::FieldNames::new(&[], [(key.to_owned(), name.to_owned())]).unwrap_err().to_string()
    };
    assert_eq!(names("ts", ""), "field.ts cannot be left out: give it a name");
    assert!(names("host", "id").contains("have the same name"));
    assert!(names("host", "a\nb").contains("no usable name"));
    let meta = engine_meta();
    let names = fields::FieldNames::new(&[], [("host".to_owned(), "team".to_owned())]).unwrap();
    let meta = SourceMeta { fields: BTreeMap::from([("team".to_owned(), "x".to_owned())]), ..meta };
    let described: Vec<_> =
        names.described(&meta).iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(described.first().map(String::as_str), Some("team"));
    assert_eq!(described.last().map(String::as_str), Some("_team"));
}

#[test]
fn a_record_keeps_its_identity_and_shares_it_with_none() {
    let frame = three_kinds();
    let of = |log: &str, frame: &Frame| -> Vec<String> {
        let mut identities = identity::Identities::new(log);
        let numbered = (frame.first_seq..).zip(frame.block.records());
        numbered.map(|(seq, record)| identities.of(frame, seq, &record)).collect()
    };
    let first = of("log", &frame);
    assert_eq!(first, of("log", &frame));
    let other = Frame {
        meta: SourceMeta { key: SourceKey("file:1".to_owned()), ..engine_meta() }.into(),
        ..frame.clone()
    };
    let mut all = [first, of("other", &frame), of("log", &other)].concat();
    assert!(all.iter().all(|id| id.len() < 64 && id.is_ascii()), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 9);
}
