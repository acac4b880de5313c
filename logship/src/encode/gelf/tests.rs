use std::io::Read as _;

use super::*;
use crate::encode::tests::{engine_meta, frame, three_kinds};
use crate::record::{Flags, Stream};

fn gelf(datagrams: Option<Datagrams>) -> Gelf {
    let names = FieldNames::new(&USUAL_NAMES, []).unwrap();
    let controls = Controls::All;
    Gelf::new(GelfFormat { text_bytes_max: usize::MAX, controls, names, datagrams }, 7)
}

fn datagrams(frame: &Frame, settings: Datagrams) -> Vec<Vec<u8>> {
    let (mut out, mut ends) = (Vec::new(), VecDeque::new());
    gelf(Some(settings)).encode(frame, 0, usize::MAX, &mut out, &mut ends);
    let mut start = 0;
    let cut = |end: &usize| out[std::mem::replace(&mut start, *end)..*end].to_vec();
    ends.iter().map(cut).collect()
}

#[test]
fn messages_on_a_stream_end_with_a_null_byte() {
    let (mut out, mut ends) = (Vec::new(), VecDeque::new());
    gelf(None).encode(&three_kinds(), 0, usize::MAX, &mut out, &mut ends);
    let text = String::from_utf8(out).unwrap();
    let messages: Vec<_> = text.split_terminator('\0').collect();
    let common = r#"{"version":"1.1","host":"h1","_container_name":"web \"1\"","_container_id":"ab","_image_name":"web:1","_project":"shop","__seq":"x]","_stream":"#;
    let first =
        r#""stdout","short_message":"hello","timestamp":1764000000.123456789,"level":6,"_seq":98}"#;
    assert_eq!(messages[0], format!("{common}{first}"));
    let second = r#""stderr","short_message":"BAD\u0000","timestamp":1764000000.123456789,"level":3,"_seq":99,"_line_b64":"/wA=","_partial":"true","_late":"true"}"#;
    assert_eq!(messages[1], format!("{common}{}", second.replace("BAD", "\u{fffd}")));
    let third = r#""stdout","short_message":"{\"control\":\"started\"}","timestamp":1764000000.123456789,"level":4,"_seq":100,"_control":"true"}"#;
    assert_eq!(messages[2], format!("{common}{third}"));
    assert_eq!((messages.len(), ends.len()), (3, 0));
}

#[test]
fn a_blank_line_is_told_by_what_receivers_do_not_refuse() {
    let stdout = Flags::new(Stream::Stdout);
    let (mut out, mut ends) = (Vec::new(), VecDeque::new());
    let frame = frame(engine_meta(), &[(stdout, b""), (stdout, b"  ")]);
    gelf(None).encode(&frame, 0, usize::MAX, &mut out, &mut ends);
    let text = String::from_utf8(out).unwrap();
    let messages: Vec<_> = text.split_terminator('\0').collect();
    assert!(messages[0].contains("\"short_message\":\"-\"") && !messages[0].contains("b64"));
    assert!(messages[1].contains("\"_line_b64\":\"ICA=\",\"_line_blank\":\"true\""), "{text}");
}

#[test]
fn a_long_message_is_cut_into_chunks_that_make_it_again() {
    let line = "x0123456789".repeat(1000);
    let frame = frame(engine_meta(), &[(Flags::new(Stream::Stdout), line.as_bytes())]);
    let chunks = datagrams(&frame, Datagrams { bytes_max: 512, gzip: false });
    let mut whole = Vec::new();
    for (place, chunk) in chunks.iter().enumerate() {
        assert!(chunk.len() <= 512);
        assert_eq!(chunk[..2], [0x1e, 0x0f]);
        assert_eq!(chunk[2..10], 7_u64.to_be_bytes());
        assert_eq!((usize::from(chunk[10]), usize::from(chunk[11])), (place, chunks.len()));
        whole.extend_from_slice(&chunk[12..]);
    }
    let message: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(message["short_message"], line);
    let zipped = datagrams(&frame, Datagrams { bytes_max: 8192, gzip: true });
    let mut text = String::new();
    flate2::read::GzDecoder::new(zipped[0].as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!((zipped.len(), text.as_bytes()), (1, whole.as_slice()));
}

#[test]
fn a_message_of_too_many_chunks_is_cut_and_says_so() {
    let line = "é".repeat(100_000);
    let frame = frame(engine_meta(), &[(Flags::new(Stream::Stdout), line.as_bytes())]);
    let chunks = datagrams(&frame, Datagrams { bytes_max: 512, gzip: false });
    assert!(chunks.len() <= CHUNKS_MAX && chunks.len() > CHUNKS_MAX / 3, "{}", chunks.len());
    let whole: Vec<u8> = chunks.iter().flat_map(|chunk| &chunk[12..]).copied().collect();
    let message: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(message["_line_truncated"], "true");
    let text = message["short_message"].as_str().unwrap();
    assert!(line.starts_with(text) && text.len() > 20_000, "{}", text.len());
}
