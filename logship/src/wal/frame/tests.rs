use proptest::prelude::*;

use super::*;

fn head() -> Head {
    Head {
        first_seq: 0x0102,
        base_ts: 3,
        last_ts: 4,
        source: 5,
        count: 6,
        late: 7,
        controls: 8,
        text_bytes: 9,
        ..Head::new(Kind::Records, 0x1000, 0x0800)
    }
}

/// Reads what [`encode`] wrote.
fn decode(bytes: &[u8]) -> Result<(Head, Vec<u8>, Vec<u8>), &'static str> {
    let (head, tail) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(SHORT)?;
    let head = Head::decode(head)?;
    let raw = Raw::new(head, tail)?;
    Ok((head, raw.cursor.to_vec(), raw.body()?.into_owned()))
}

#[test]
fn a_head_has_its_fields_where_the_document_says() {
    let mut bytes = Vec::new();
    let written = encode(&mut bytes, head(), Codec::None, b"{}", b"body").unwrap();
    assert_eq!(written.end(), 0x1000 + 88 + 6);
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    assert_eq!(&bytes[..8], b"lsf1\x03\0\0\0");
    let fields: Vec<u64> = (8..48).step_by(8).map(|at| number(at, 8)).collect();
    assert_eq!(fields, [0x1000, 0x0800, 0x0102, 3, 4]);
    let fields: Vec<u64> = (48..80).step_by(4).map(|at| number(at, 4)).collect();
    assert_eq!(fields, [5, 6, 7, 8, 9, 2, 4, 4]);
    assert_eq!(number(80, 4), u64::from(crc32c::crc32c(b"{}body")));
    assert_eq!(number(84, 4), u64::from(crc32c::crc32c(&bytes[..84])));
    assert_eq!(&bytes[88..], b"{}body");
}

#[test]
fn what_compression_does_not_make_shorter_is_stored_as_it_is() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut bytes = Vec::new();
        let body = vec![b'x'; 1000];
        let long = encode(&mut bytes, head(), codec, b"{}", &body).unwrap();
        assert_eq!((long.codec, long.stored_bytes < 1000), (codec, codec != Codec::None));
        assert_eq!(decode(&bytes), Ok((long, b"{}".to_vec(), body)));
        let mut bytes = Vec::new();
        let short = encode(&mut bytes, head(), codec, b"", b"ab").unwrap();
        assert_eq!((short.codec, short.stored_bytes), (Codec::None, 2));
    }
}

#[test]
fn sizes_that_are_out_of_range_are_neither_written_nor_believed() {
    let mut bytes = Vec::new();
    assert!(encode(&mut bytes, head(), Codec::None, &vec![0; CURSOR_BYTES_MAX + 1], b"").is_none());
    assert!(encode(&mut bytes, head(), Codec::None, b"", &vec![0; BODY_BYTES_MAX + 1]).is_none());
    assert!(bytes.is_empty());
    let large = Head { raw_bytes: u32::MAX, ..head() };
    assert!(Head::decode(&large.to_bytes()).is_err());
    let grown = Head { raw_bytes: 1, stored_bytes: 2, ..head() };
    assert!(Head::decode(&grown.to_bytes()).is_err());
}

proptest! {
    #[test]
    fn a_changed_bit_is_found_wherever_it_is(
        cursor in prop::collection::vec(any::<u8>(), 0..40),
        body in prop::collection::vec(0..4_u8, 0..300),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        codec in prop::sample::select(vec![Codec::None, Codec::Lz4, Codec::Zstd]),
    ) {
        let mut bytes = Vec::new();
        let head = encode(&mut bytes, head(), codec, &cursor, &body).unwrap();
        prop_assert_eq!(decode(&bytes), Ok((head, cursor, body)));
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn anything_is_no_frame_rather_than_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
