use proptest::prelude::*;

use super::*;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// As the engine writes it; `partial` says whether the piece is the last of its line.
fn written(stream: &str, ts: i64, line: &[u8], partial: Option<bool>) -> Vec<u8> {
    let mut message = Vec::new();
    field(1, stream.as_bytes(), &mut message);
    varint(2 << 3, &mut message);
    varint(ts.cast_unsigned(), &mut message);
    field(3, line, &mut message);
    if let Some(is_last) = partial {
        message.extend_from_slice(&[4 << 3, 1]);
        let mut metadata = vec![1 << 3, u8::from(is_last)];
        field(2, b"an id", &mut metadata);
        metadata.extend_from_slice(&[3 << 3, 7]);
        field(5, &metadata, &mut message);
    }
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&length[..], &message, &length].concat()
}

#[test]
fn lines_and_pieces_are_read() {
    for (partial, ends_line) in [(None, true), (Some(false), false), (Some(true), true)] {
        let bytes = written("stderr", 17, b"a \xff line", partial);
        let entry = Entry { ts: 17, stream: Stream::Stderr, line: b"a \xff line", ends_line };
        assert_eq!(Local.step(&bytes, false), Step::Entry(entry, bytes.len()));
        for end in 0..bytes.len() {
            assert_eq!(Local.step(&bytes[..end], false), Step::More, "{end}");
        }
    }
}

#[test]
fn what_is_no_message_is_corrupt_up_to_the_next_one() {
    let good = written("stdout", 1, b"good", None);
    let torn = &written("stdout", 1, b"torn", None)[..9];
    for bad in [torn, &[0; 64], b"text instead of messages", &[0xff; 40]] {
        let bytes = [bad, &good, &good, &good].concat();
        assert_eq!(Local.step(&bytes, false), Step::Corrupt(bad.len()), "{bad:?}");
        assert_eq!(Local.step(bad, true), Step::Corrupt(bad.len()));
    }
    let foreign = written("stdin", 1, b"x", None);
    assert_eq!(Local.step(&foreign, true), Step::Corrupt(foreign.len()));
}

proptest! {
    #[test]
    fn what_was_written_is_read_wherever_the_bytes_are_cut(
        lines in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), any::<i64>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole: Vec<u8> =
            lines.iter().flat_map(|(line, ts)| written("stdout", *ts, line, None)).collect();
        let cut = cut.index(whole.len() + 1);
        let mut read = Vec::new();
        let mut at = 0;
        for end in [cut, whole.len()] {
            while let Step::Entry(entry, used) = Local.step(&whole[at..end], false) {
                read.push((entry.line.to_vec(), entry.ts));
                at += used;
            }
        }
        prop_assert_eq!(read, lines);
    }

    #[test]
    fn no_bytes_make_it_panic_or_stand_still(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rest = bytes.as_slice();
        while let Step::Entry(_, used) | Step::Corrupt(used) = Local.step(rest, true) {
            prop_assert!(used > 0 && used <= rest.len());
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
    }
}
