use super::*;
use crate::encode::tests::{Heads, borrowed, engine_meta, frame, sort_in, three_kinds, unhex};
use crate::record::{Flags, Stream};

fn loki(has_metadata: bool) -> Loki {
    let labels = ["host", "project", "container", "stream"].map(str::to_owned).to_vec();
    let names = FieldNames::default();
    Loki::new(LokiFormat { labels, has_metadata, controls: Controls::All, names })
}

fn encoded(frame: &Frame, from: u32) -> Heads {
    let mut heads = Heads::new();
    let done = loki(true).each(frame, from, |record| {
        sort_in(&mut heads, record);
        true
    });
    assert_eq!(done, frame.block.count());
    heads
}

/// Made by the protobuf library of Python from Loki's `push.proto`.
const GOLDEN: &str = "0aee010a437b636f6e7461696e65723d22776562205c22315c22222c20686f73743d226831222c2070726f6a\
     6563743d2273686f70222c2073747265616d3d227374646f7574227d12450a0b08808292c90610959aef3a12\
     0568656c6c6f1a080a026964120261621a0e0a05696d61676512057765623a311a0a0a045f7365711202785d\
     1a090a037365711202393812600a0b08808292c90610979aef3a121f5b6c6f67736869705d207b22636f6e74\
     726f6c223a2273746172746564227d1a080a026964120261621a0e0a05696d61676512057765623a311a0a0a\
     045f7365711202785d1a0a0a0373657112033130300ac3010a437b636f6e7461696e65723d22776562205c22\
     315c22222c20686f73743d226831222c2070726f6a6563743d2273686f70222c2073747265616d3d22737464\
     657272227d127c0a0b08808292c90610969aef3a121d5b6c6f67736869705d207b226c696e655f623634223a\
     222f77413d227d1a080a026964120261621a0e0a05696d61676512057765623a311a0a0a045f736571120278\
     5d1a090a03736571120239391a0f0a077061727469616c1204747275651a0c0a046c617465120474727565";

#[test]
fn a_push_is_byte_for_byte_that_of_another_encoder() {
    assert_eq!(request(borrowed(&encoded(&three_kinds(), 0))), unhex(GOLDEN));
}

#[test]
fn equal_lines_of_one_moment_keep_apart_and_their_times_when_sent_again() {
    let stdout = Flags::new(Stream::Stdout);
    let frame = frame(engine_meta(), &[(stdout, b"x"), (stdout, b"x"), (stdout, b"x")]);
    let whole = encoded(&frame, 0);
    let rest = encoded(&frame, 1);
    let [first, second, third] = &whole[0].1[..] else { panic!() };
    assert!(first != second && second != third && first != third);
    assert_eq!(rest[0].1, [second.clone(), third.clone()]);
}

#[test]
fn labels_are_names_that_loki_takes_and_there_is_one_at_least() {
    let meta = SourceMeta {
        host: String::new(),
        fields: [("a.b".to_owned(), "x\ny".to_owned()), ("9".to_owned(), "z".repeat(5000))].into(),
        ..engine_meta()
    };
    let format = |labels: &[&str]| LokiFormat {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        has_metadata: false,
        controls: Controls::All,
        names: FieldNames::default(),
    };
    let text = |labels: &[&str]| {
        let described = described(&meta, &format(labels));
        String::from_utf8(described.of(Stream::File).labels.to_vec()).unwrap()
    };
    assert_eq!(text(&["host"]), "{job=\"logship\"}");
    let labels = text(&["a.b", "9"]);
    assert!(labels.starts_with("{_9=\"zzz") && labels.ends_with("z\", a_b=\"x\\ny\"}"), "{labels}");
    assert!(labels.len() < 1100, "{}", labels.len());
}
