use super::*;
use crate::chunk::ChunkId;

fn packs() -> Vec<PackId> {
    (1..4).map(|number| PackId(ChunkId([number; 16]))).collect()
}

fn key() -> DedupKey {
    DedupKey::from_hex(&"7".repeat(64)).unwrap()
}

#[test]
fn a_mark_is_read_as_it_was_written() {
    let (name, bytes) = encode(&packs(), "2026-11-30T02:00:00Z".parse().unwrap(), &key());
    assert!(name.starts_with("marks/20261130T020000Z-") && is_mark(&name), "{name}");
    assert_eq!(decode(&bytes).unwrap(), packs().into_iter().collect());
    assert!(is_whole(&name, &bytes, &key()));
    assert!(bytes.len() as u64 <= BYTES_MAX);
}

#[test]
fn a_flipped_digit_is_no_longer_whole() {
    let (name, mut bytes) = encode(&packs(), "2026-11-30T02:00:00Z".parse().unwrap(), &key());
    let at = bytes.iter().position(|byte| *byte == b'0').unwrap();
    bytes[at] = b'1';
    assert!(decode(&bytes).is_ok() && !is_whole(&name, &bytes, &key()));
    for name in ["marks/a.json", "marks/x-y.json", "marks/.json"] {
        assert!(!is_whole(name, &bytes, &key()), "{name}");
    }
}

#[test]
fn the_longest_document_can_be_read_again() {
    let id = PackId(ChunkId([9; 16]));
    let (_, bytes) = encode(&vec![id; PACKS_MAX], jiff::Timestamp::UNIX_EPOCH, &key());
    assert!((bytes.len() as u64) < BYTES_MAX);
}
