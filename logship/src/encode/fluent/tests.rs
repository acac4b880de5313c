use super::*;
use crate::encode::tests::{Heads, engine_meta, frame, sort_in, three_kinds, unhex};
use crate::record::{Flags, Stream};
use crate::source::Parse;

fn encoded(frame: &Frame) -> Heads {
    let tag = Template::parse("docker.{name}.{stream}").unwrap();
    let names = FieldNames::new(&USUAL_NAMES, []).unwrap();
    let mut heads = Heads::new();
    Fluent::new(FluentFormat { tag, controls: Controls::All, names }).each(frame, 0, |record| {
        sort_in(&mut heads, record);
        true
    });
    heads
}

/// Made by `msgpack` 1.2.4 of PyPI.
const GOLDEN: &str = "92d70069248100075bcd1589a4686f7374a26831ae636f6e7461696e65725f6e616d65a777656220223122ac\
     636f6e7461696e65725f6964a26162aa696d6167655f6e616d65a57765623a31a770726f6a656374a473686f\
     70a45f736571a2785da6736f75726365a67374646f7574a373657162a36c6f67a568656c6c6f92d700692481\
     00075bcd158ba4686f7374a26831ae636f6e7461696e65725f6e616d65a777656220223122ac636f6e746169\
     6e65725f6964a26162aa696d6167655f6e616d65a57765623a31a770726f6a656374a473686f70a45f736571\
     a2785da6736f75726365a6737464657272a373657163a36c6f67c402ff00a77061727469616cc3a46c617465\
     c392d70069248100075bcd1589a4686f7374a26831ae636f6e7461696e65725f6e616d65a777656220223122\
     ac636f6e7461696e65725f6964a26162aa696d6167655f6e616d65a57765623a31a770726f6a656374a47368\
     6f70a45f736571a2785da6736f75726365a67374646f7574a373657164a7636f6e74726f6c81a7636f6e7472\
     6f6ca773746172746564";

#[test]
fn events_are_byte_for_byte_those_of_another_encoder() {
    let heads = encoded(&three_kinds());
    assert_eq!(heads[0].0, b"docker.web \"1\".stdout");
    assert_eq!(heads[1].0, b"docker.web \"1\".stderr");
    // A tag each for the streams; in the golden bytes they stand in their order.
    let all = [&heads[0].1[0][..], &heads[1].1[0], &heads[0].1[1]].concat();
    assert_eq!(all, unhex(GOLDEN));
}

#[test]
fn a_message_is_packed_counted_and_named() {
    let (message, chunk) = message(b"tag", b"\x01\x02", 2, false).unwrap();
    let mut expected = unhex("93a3746167c402010282a56368756e6bb8");
    expected.extend_from_slice(chunk.as_bytes());
    expected.extend_from_slice(&unhex("a473697a6502"));
    assert_eq!(message, expected);
}

#[test]
fn words_of_a_server_are_read_when_they_are_whole() {
    let mut bytes = Vec::new();
    put(&mut bytes, &Value::Map(vec![("ack".into(), "c1".into())]));
    assert_eq!(said(&bytes), Ok(Some(Said::Ack("c1".to_owned()))));
    assert_eq!(said(&bytes[..bytes.len() - 1]), Ok(None));
    assert_eq!(said(&[]), Ok(None));
    assert_eq!(said(b"HTTP/1.1 400 Bad Request"), Err(Gibberish));
    bytes.clear();
    let options =
        Value::Map(vec![("nonce".into(), Value::Binary(vec![1])), ("auth".into(), "".into())]);
    put(&mut bytes, &Value::Array(vec!["HELO".into(), options]));
    assert_eq!(said(&bytes), Ok(Some(Said::Helo { nonce: vec![1], salt: Vec::new() })));
}

#[test]
fn both_sides_prove_that_they_know_the_key() {
    let ping = Ping { host: "c", salt: "s", shared_key: "k", user: Some(("u", "p")) };
    // sha512sum of `scnk`, of `aup` and of `shnk`.
    let digest = hex(&[b"scnk"]);
    let mut expected = Vec::new();
    let words = ["PING", "c", "s", &digest, "u", &hex(&[b"aup"])].map(Value::from);
    put(&mut expected, &Value::Array(words.into()));
    assert_eq!(ping.message(b"n", b"a"), expected);
    assert!(ping.is_proof(hex(&[b"shnk"]).as_bytes(), b"h", b"n"));
    assert!(!ping.is_proof(hex(&[b"shnx"]).as_bytes(), b"h", b"n"));
    assert!(digest.starts_with(DIGEST_OF_SCNK), "{digest}");
}

#[test]
fn what_was_taken_apart_is_a_map() {
    let meta = SourceMeta { parse: Parse::Json, ..engine_meta() };
    let events = encoded(&frame(meta, &[(Flags::new(Stream::Stdout), b"{\"a\":[-1,true,null]}")]));
    let wanted = unhex("a670617273656481a16193ffc3c0");
    assert!(events[0].1[0].ends_with(&wanted), "{:02x?}", events[0].1[0]);
}

/// The first digits that sha512sum(1) prints.
const DIGEST_OF_SCNK: &str = "a05f818758491ee1";
