use proptest::prelude::*;

use super::*;
use crate::record::Stream;

fn round_trip(records: &[(i64, Flags, Vec<u8>)]) {
    let mut builder = BlockBuilder::default();
    for (ts, flags, line) in records {
        builder.push(*ts, *flags, line);
    }
    let block = builder.finish().unwrap();
    let again = Block::decode(block.body().clone(), block.base_ts()).unwrap();
    assert_eq!(again, block);
    let found: Vec<_> = again.records().map(|r| (r.ts, r.flags, r.line.to_vec())).collect();
    assert_eq!(found, records);
}

#[test]
fn whole_lines_are_the_same_as_one_by_one() {
    let mut bulk = BlockBuilder::default();
    bulk.push_lines(7, Flags::new(Stream::File), b"one\n\nthree\nrest");
    let mut single = BlockBuilder::default();
    for line in [&b"one"[..], b"", b"three"] {
        single.push(7, Flags::new(Stream::File), line);
    }
    assert_eq!(bulk.finish(), single.finish());
    assert!(bulk.is_empty() && bulk.finish().is_none());
}

#[test]
fn columns_begin_when_they_are_needed() {
    let mut builder = BlockBuilder::default();
    builder.push_lines(1, Flags::new(Stream::Stdout), b"a\nb\n");
    builder.push_lines(1, Flags::new(Stream::Stderr), b"c\nd\n");
    builder.push_lines(-5, Flags::new(Stream::Stderr).late(true), b"e\nf\n");
    let block = builder.finish().unwrap();
    let times: Vec<_> = block.records().map(|record| record.ts).collect();
    assert_eq!(times, [1, 1, 1, 1, -5, -5]);
    assert_eq!(block.last_ts(), -5);
    assert_eq!(block.records().filter(|record| record.flags.is_late()).count(), 2);
    assert_eq!(block.text(), b"a\nb\nc\nd\ne\nf\n");
}

#[test]
fn no_damaged_byte_makes_it_panic_or_read_beyond() {
    let mut builder = BlockBuilder::default();
    builder.push(1, Flags::new(Stream::Stdout), b"one");
    builder.push(2, Flags::new(Stream::Stderr), b"two\nwith a line feed");
    let block = builder.finish().unwrap();
    for at in 0..block.body().len() {
        for bit in 0..8 {
            let mut body = block.body().to_vec();
            body[at] ^= 1 << bit;
            if let Ok(read) = Block::decode(body.into(), 1) {
                assert_eq!(read.records().count(), read.count() as usize);
            }
        }
        assert!(Block::decode(block.body().slice(..at), 1).is_err());
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(records in prop::collection::vec(
        (any::<i64>(), 0_u8..32, prop::collection::vec(any::<u8>(), 0..40)), 1..50)
    ) {
        let records: Vec<_> = records
            .into_iter()
            .map(|(ts, flags, line)| (ts, Flags::from_byte(flags).unwrap(), line))
            .collect();
        round_trip(&records);
    }
}
