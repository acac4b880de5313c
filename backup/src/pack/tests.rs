use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::create::tests::noise;

fn key() -> DedupKey {
    DedupKey::from_hex(&"07".repeat(32)).unwrap()
}

fn pack(contents: &[Vec<u8>]) -> Pack {
    let mut compressor = Compressor::new(3).unwrap();
    let mut frame = FrameBuilder::default();
    let mut pack = PackBuilder::new(PackKind::Data, Vec::new());
    for content in contents {
        if !frame.has_room(content.len(), PACK_TARGET_BYTES) {
            pack.append(frame.seal(&mut compressor).unwrap());
        }
        frame.push(key().id_of(content), content);
    }
    pack.append(frame.seal(&mut compressor).unwrap());
    pack.seal(&key(), &mut compressor).unwrap()
}

fn contents() -> Vec<Vec<u8>> {
    (0..40_u64)
        .map(|n| noise(n, usize::try_from(n * n * 100).unwrap()))
        .chain([noise(99, CHUNK_BYTES_MAX)])
        .collect()
}

/// Every chunk a decoded index names lies inside a frame that a reader would accept.
fn assert_sound(index: &PackIndex) {
    for chunk in &index.chunks {
        let frame = index.frames[chunk.frame as usize];
        assert!(u64::from(chunk.offset) + u64::from(chunk.length) <= u64::from(frame.content));
        assert!(frame.content as usize <= FRAME_BYTES_MAX);
        assert!(u64::from(frame.start) + u64::from(frame.stored) <= PACK_BYTES_MAX);
    }
}

#[test]
fn every_chunk_is_found_again_by_the_index_in_the_pack() {
    let pack = pack(&contents());
    let index = PackIndex::of_pack(&pack.bytes).unwrap();
    assert_eq!(index, pack.index);
    assert!(index.frames.len() > 2);
    let mut decompressor = Decompressor::new().unwrap();
    let mut frame = Vec::new();
    for (chunk, content) in index.chunks.iter().zip(contents()) {
        let at = index.frames[chunk.frame as usize];
        let stored = &pack.bytes[at.start as usize..][..at.stored as usize];
        decompressor.frame(stored, at.content, &mut frame).unwrap();
        assert_eq!(frame[chunk.offset as usize..][..chunk.length as usize], content);
    }
    assert_eq!(PackId::from_key(&pack.id.key()), Some(pack.id));
    assert_eq!(PackId::from_key(&format!("packs/zz/{}.tar.zst", pack.id)), None);
}

#[test]
fn zstd_and_tar_list_the_chunks_of_a_pack() {
    let pack = pack(&contents());
    let mut zstd = Command::new("sh")
        .args(["-c", "zstd -dc | tar t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    zstd.stdin.take().unwrap().write_all(&pack.bytes).unwrap();
    let output = zstd.wait_with_output().unwrap();
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    let ids: Vec<_> = pack.index.chunks.iter().map(|chunk| chunk.id.to_string()).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ids);
}

#[test]
fn every_truncation_of_a_trailer_is_refused() {
    let trailer = pack(&contents()).index.encode();
    assert_eq!(trailer.len(), pack(&contents()).index.encoded_bytes());
    for length in 0..trailer.len() {
        assert!(PackIndex::decode(&trailer[..length]).is_err(), "{length}");
    }
    assert!(PackIndex::decode(&[trailer.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn every_truncation_of_a_small_pack_is_refused() {
    let pack = pack(&[b"one".to_vec(), b"two".to_vec()]);
    for length in 0..pack.bytes.len() {
        assert!(PackIndex::of_pack(&pack.bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_frame_of_another_length_than_its_index_says_is_refused() {
    let mut compressor = Compressor::new(3).unwrap();
    let mut stored = Vec::new();
    compressor.frame(&[7; 1000], &mut stored).unwrap();
    let mut decompressor = Decompressor::new().unwrap();
    let mut into = Vec::new();
    decompressor.frame(&stored, 1000, &mut into).unwrap();
    for wrong in [0, 999, 1001, u32::MAX] {
        assert!(decompressor.frame(&stored, wrong, &mut into).is_err(), "{wrong}");
    }
    assert!(decompressor.frame(&stored[..stored.len() - 1], 1000, &mut into).is_err());
}

#[test]
fn a_pack_of_tiny_chunks_is_sealed_before_its_index_grows_too_long() {
    let mut pack = PackBuilder::new(PackKind::Data, Vec::new());
    let chunks = (0..PACK_CHUNKS_TARGET).map(|_| (ChunkId([0; 16]), 0, 0)).collect();
    pack.append(&Frame { stored: vec![0], content_bytes: 1, chunks });
    assert!(pack.is_full(PACK_TARGET_BYTES));
}

#[test]
fn packs_grow_with_the_repository_and_with_what_a_run_stores() {
    let mib = |count: u64| count << 20;
    let target = |stored, of_run| target_bytes(stored, of_run) >> 10;
    assert_eq!([0, 50, 128].map(|stored| target(mib(stored), 0)), [128, 128, 256]);
    assert_eq!([256, 512, 1023].map(|stored| target(mib(stored), 0)), [1024, 4096, 16352]);
    assert_eq!([mib(1024), mib(1025), u64::MAX].map(|stored| target(stored, 0)), [16384; 3]);
    // Of a first backup.
    assert_eq!([16, 64, 512].map(|all| target(mib(all), mib(all))), [256, 1024, 8192]);
    assert_eq!(target(u64::MAX, u64::MAX), 16384);
}

#[test]
fn a_pack_has_some_pieces_before_it_is_sealed() {
    let mut compressor = Compressor::new(1).unwrap();
    let mut pack = PackBuilder::new(PackKind::Data, Vec::new());
    let target = target_bytes(0, 0);
    for number in 0..PACK_PIECES_MIN as u64 {
        assert!(!pack.is_full(target), "{number}");
        let mut frame = FrameBuilder::default();
        let content = noise(number, target);
        frame.push(key().id_of(&content), &content);
        frame.push(key().id_of(&[0; SALT_BYTES]), &[0; SALT_BYTES]);
        pack.append(frame.seal(&mut compressor).unwrap());
    }
    assert!(pack.is_full(target) && !pack.is_full(PACK_TARGET_BYTES));
}

#[test]
fn frames_fill_half_a_pack_as_they_compress_and_are_never_longer_than_in_large_repositories() {
    let mut compressor = Compressor::new(1).unwrap();
    let mut frame = FrameBuilder::default();
    let target = target_bytes(0, 0);
    assert_eq!(frame.content_bytes_max(target), target / 2);
    frame.push(key().id_of(b"noise"), &noise(1, 100_000));
    frame.seal(&mut compressor).unwrap();
    assert_eq!(frame.content_bytes_max(target), target / 2);
    // Two parts of three are zeros.
    frame.push(key().id_of(b"third"), &[noise(2, 100_000), vec![0; 200_000]].concat());
    frame.seal(&mut compressor).unwrap();
    let third = frame.content_bytes_max(target);
    assert!((target * 5 / 4..target * 7 / 4).contains(&third), "{third}");
    frame.push(key().id_of(b"zeros"), &vec![0; 500_000]);
    frame.seal(&mut compressor).unwrap();
    assert_eq!(frame.content_bytes_max(target), FRAME_TARGET_BYTES);
    assert_eq!(FrameBuilder::default().content_bytes_max(PACK_TARGET_BYTES), FRAME_TARGET_BYTES);
}

#[test]
fn a_padded_pack_is_an_eighth_longer_at_most_and_read_as_any_other() {
    let mut compressor = Compressor::new(1).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for length in (1..200_000).step_by(3001) {
        let content = noise(length, length as usize);
        let sealed = |is_padded: bool, compressor: &mut Compressor| {
            let mut frame = FrameBuilder::default();
            frame.push(key().id_of(&content), &content);
            let mut pack = PackBuilder::new(PackKind::Data, Vec::new());
            pack.append(frame.seal(compressor).unwrap());
            if is_padded {
                pack.hide_length();
            }
            pack.end(compressor).unwrap()
        };
        let (plain, index) = sealed(false, &mut compressor);
        let (bytes, padded) = sealed(true, &mut compressor);
        assert_eq!(padded, index);
        assert_eq!(PackIndex::of_pack(&bytes).unwrap(), index);
        let tar = |bytes: &[u8]| zstd::decode_all(bytes).unwrap();
        assert_eq!(tar(&bytes), tar(&plain));
        let most = (plain.len() + 16) * 9 / 8 + 1;
        assert!(
            (plain.len() + 16..=most).contains(&bytes.len()),
            "{} {}",
            plain.len(),
            bytes.len()
        );
        lengths.insert(bytes.len());
    }
    // Of 67 lengths, eight for each doubling.
    assert!(lengths.len() < 45, "{lengths:?}");
}

#[test]
fn a_frame_takes_a_second_piece_even_where_it_gets_longer_than_its_part() {
    let mut frame = FrameBuilder::default();
    let target = target_bytes(0, 0);
    for number in 0..2 {
        assert!(frame.has_room(target, target), "{number}");
        let content = noise(number, target);
        frame.push(key().id_of(&content), &content);
    }
    assert!(!frame.has_room(1, target));
    assert!(frame.has_room(1, PACK_TARGET_BYTES));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn flipped_bytes_never_panic_and_never_give_a_chunk_outside_its_frame(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let pack = pack(&[b"one".to_vec(), b"two".to_vec(), vec![3; 5000]]);
        for sound in [pack.bytes.clone(), pack.index.encode()] {
            let mut bytes = sound.clone();
            for (at, flip) in &flips {
                bytes[at.index(sound.len())] ^= flip;
            }
            if let Ok(index) = PackIndex::decode(&bytes) {
                assert_sound(&index);
            }
            if let Ok(index) = PackIndex::of_pack(&bytes) {
                assert_sound(&index);
            }
        }
        let indexed = crate::index::IndexedPack::from(&pack);
        let mut bytes = crate::index::encode(std::slice::from_ref(&indexed));
        for (at, flip) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        for pack in crate::index::decode(&bytes).unwrap_or_default() {
            assert_sound(&pack.index);
        }
    }
}
