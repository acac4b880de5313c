use std::collections::BTreeMap;

use super::super::settings::{SinkSettings, Target};
use super::*;
use crate::encode::tests::{engine_meta, frame};
use crate::record::{Flags, Stream};

/// A sink after a crash, which an object was being sent before.
fn replaying(to: u64) -> S3Sink {
    let url = "s3://b/p?endpoint=http://localhost:1&region=r&access_key=a&secret_key=b";
    let settings = SinkSettings::parse_in("t", url, &BTreeMap::new(), &|_| None).unwrap();
    let Target::S3(settings) = settings.target else { panic!() };
    let intent = Intent { key: "k".to_owned(), to: Position { frame: to, record: 0 } };
    let note = serde_json::to_value(Note { intent: Some(intent) }).unwrap();
    S3Sink::open(&settings, &note, "log").unwrap()
}

fn at(start: u64, end: u64) -> Frame {
    let stdout = Flags::new(Stream::Stdout);
    Frame { start, end, ..frame(engine_meta(), &[(stdout, b"one"), (stdout, b"two")]) }
}

#[test]
fn an_object_whose_records_are_gone_is_given_up_and_the_next_one_begun() {
    let mut sink = replaying(50);
    assert_eq!(sink.push(&at(60, 100), 0), 2);
    assert!(!sink.is_full() && sink.intent.is_none());
    assert_eq!(sink.pace().batch_age, BATCH_AGE_DEFAULT);
}

#[test]
fn an_object_ends_where_it_ended_although_the_last_records_were_for_others() {
    let mut sink = replaying(150);
    assert_eq!(sink.push(&at(0, 100), 0), 2);
    assert!(!sink.is_full());
    sink.reached(Position { frame: 149, record: 0 });
    assert!(!sink.is_full());
    sink.reached(Position { frame: 150, record: 0 });
    assert!(sink.is_full());
    assert_eq!(sink.push(&at(150, 200), 0), 0);
}

#[test]
fn a_key_has_the_hour_of_its_first_record_and_sorts_as_the_log_does() {
    let place = |frame, record| Position { frame, record };
    let name = key(1_764_000_000_123_456_789, "0a1b", place(0, 3), place(1 << 40, 0));
    assert_eq!(name, "2025/11/24/16/0a1b-00000000000000000000.3-00000001099511627776.0.ndjson.zst");
    assert!(chores_common::object::is_valid_key(&name));
    assert!(key(0, "a", place(9, 0), place(10, 0)) < key(0, "a", place(10, 0), place(11, 0)));
}
