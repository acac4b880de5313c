use super::*;
use crate::encode::tests::{Heads, borrowed, engine_meta, frame, sort_in, three_kinds, unhex};
use crate::record::{Flags, Stream};
use crate::source::Parse;

fn encoded(frame: &Frame) -> Heads {
    let names = FieldNames::new(&USUAL_NAMES, []).unwrap();
    let mut heads = Heads::new();
    let done = Otlp::new(Controls::All, names).each(frame, 0, |record| {
        sort_in(&mut heads, record);
        true
    });
    assert_eq!(done, frame.block.count());
    heads
}

/// Made by `opentelemetry-proto` 1.45.2 of PyPI.
const GOLDEN: &str = "0ad9030a92010a110a09686f73742e6e616d6512040a0268310a1b0a0e636f6e7461696e65722e6e616d6512\
     090a07776562202231220a140a0c636f6e7461696e65722e696412040a0261620a1f0a14636f6e7461696e65\
     722e696d6167652e6e616d6512070a057765623a310a1b0a11736572766963652e6e616d6573706163651206\
     0a0473686f700a0c0a045f73657112040a02785d12c1020a100a076c6f67736869701205302e312e30124809\
     15cd256fa7fc7a182a070a0568656c6c6f32180a0c6c6f672e696f73747265616d12080a067374646f757432\
     110a0b6c6f67736869702e736571120218625915cd256fa7fc7a1812700915cd256fa7fc7a182a043a02ff00\
     32180a0c6c6f672e696f73747265616d12080a0673746465727232110a0b6c6f67736869702e736571120218\
     6332150a0f6c6f67736869702e7061727469616c1202100132120a0c6c6f67736869702e6c61746512021001\
     5915cd256fa7fc7a1812710915cd256fa7fc7a18100d2a170a157b22636f6e74726f6c223a22737461727465\
     64227d32180a0c6c6f672e696f73747265616d12080a067374646f757432110a0b6c6f67736869702e736571\
     1202186432150a0f6c6f67736869702e636f6e74726f6c120210015915cd256fa7fc7a18";

#[test]
fn a_request_is_byte_for_byte_that_of_the_reference() {
    assert_eq!(request(borrowed(&encoded(&three_kinds()))), unhex(GOLDEN));
}

#[test]
fn a_line_that_was_taken_apart_is_a_map() {
    let meta = SourceMeta { parse: Parse::Json, ..engine_meta() };
    let line = br#"{"a":[1,-2.5,null],"b":{"c":true}}"#;
    let encoded = encoded(&frame(meta, &[(Flags::new(Stream::Stdout), line)]));
    // The reference's `KeyValue` of the key `parsed`.
    let wanted = unhex(
        "0a06706172736564122e322c0a180a016112132a110a0218010a092100000000000004c00a000a100a0162120b32090a070a016312021001",
    );
    let bytes = &encoded[0].1[0];
    assert!(bytes.windows(wanted.len()).any(|window| window == wanted), "{bytes:02x?}");
}

#[test]
fn a_partial_success_is_read_and_anything_else_is_none() {
    // The reference's `ExportLogsPartialSuccess` of 3 records.
    let answer = unhex("0a0b08031207746f6f206f6c64");
    assert_eq!(rejected(&answer), Some((3, "too old".to_owned())));
    for nothing in [&b""[..], b"\x0a\x00", b"{}", b"\x0a\x02\x08\x00", b"\xff\xff"] {
        assert_eq!(rejected(nothing), None, "{nothing:02x?}");
    }
}
