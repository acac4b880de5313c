use proptest::prelude::*;

use super::*;

struct Reader {
    identities: Identities,
    recipients: Recipients,
}

fn reader() -> Reader {
    let identities = Identities::generate();
    let public: Vec<_> = identities.public().collect();
    let recipients = Recipients::parse(public.iter().map(String::as_str)).unwrap();
    Reader { identities, recipients }
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The part as a store would give it.
fn part_of(reader: &Reader, stored: &[u8], range: Range<u64>) -> Result<Vec<u8>, ContentError> {
    let start = &stored[..stored.len().min(HEADER_BYTES_MAX as usize)];
    let header = Header::read(start)?;
    let part = Part::new(&header, stored.len() as u64, range)?;
    let fetched = &stored[part.stored.start as usize..part.stored.end as usize];
    part.open(&header, &reader.identities, fetched)
}

const LENGTHS: [usize; 9] = [0, 1, 100, 65_535, 65_536, 65_537, 131_072, 200_000, 4 * 65_536 + 17];

#[test]
fn what_was_sealed_opens_whole_and_in_parts() {
    let reader = reader();
    for length in LENGTHS {
        let content = noise(length);
        let stored = seal(&reader.recipients, content.clone()).unwrap();
        assert_eq!(open(&reader.identities, &stored).unwrap(), content, "{length}");
        let cuts = [0, 1, 1000, 65_535, 65_536, 65_537, 131_071, 131_072, 199_999, length];
        for from in cuts {
            for until in cuts.into_iter().filter(|until| from < *until && *until <= length) {
                let part = part_of(&reader, &stored, from as u64..until as u64).unwrap();
                assert!(part == content[from..until], "{length}: {from}..{until}");
            }
        }
        let past = part_of(&reader, &stored, 0..length as u64 + 1);
        assert!(matches!(past, Err(ContentError::Range)), "{length}");
    }
}

#[test]
fn a_part_takes_only_the_blocks_it_lies_in() {
    let reader = reader();
    let stored = seal(&reader.recipients, noise(1 << 20)).unwrap();
    let header = Header::read(&stored[..HEADER_BYTES_MAX as usize]).unwrap();
    let part = Part::new(&header, stored.len() as u64, 70_000..70_010).unwrap();
    assert_eq!(part.stored.end - part.stored.start, BLOCK_BYTES + TAG_BYTES);
}

#[test]
fn what_was_cut_changed_or_moved_does_not_open() {
    let reader = reader();
    let stored = seal(&reader.recipients, noise(200_000)).unwrap();
    let header = Header::read(&stored[..4096]).unwrap().0.len();
    let block = (BLOCK_BYTES + TAG_BYTES) as usize;
    let mut changes: Vec<Vec<u8>> = Vec::new();
    for at in (0..stored.len()).step_by(997) {
        let mut changed = stored.clone();
        changed[at] ^= 4;
        changes.push(changed);
        changes.push(stored[..at].to_vec());
    }
    // At a border between blocks, and two blocks in each other's place.
    changes.push(stored[..header + block].to_vec());
    changes.push(stored[..header + 3 * block].to_vec());
    let mut swapped = stored.clone();
    swapped[header..header + 2 * block].rotate_left(block);
    changes.push(swapped);
    changes.push([stored.as_slice(), &[0]].concat());
    for (number, changed) in changes.iter().enumerate() {
        assert!(open(&reader.identities, changed).is_err(), "change {number}");
    }
}

#[test]
fn a_part_of_another_place_does_not_open() {
    let reader = reader();
    let stored = seal(&reader.recipients, noise(4 * 65_536)).unwrap();
    let header = Header::read(&stored[..4096]).unwrap();
    let all = stored.len() as u64;
    let (one, two) =
        (Part::new(&header, all, 0..10).unwrap(), Part::new(&header, all, 65_536..65_546).unwrap());
    let fetched = &stored[two.stored.start as usize..two.stored.end as usize];
    assert!(matches!(one.open(&header, &reader.identities, fetched), Err(ContentError::Block)));
    assert!(matches!(
        one.open(&header, &reader.identities, &fetched[1..]),
        Err(ContentError::Range)
    ));
}

#[test]
fn others_read_nothing() {
    let (mine, other) = (reader(), reader());
    let stored = seal(&mine.recipients, noise(1000)).unwrap();
    assert!(matches!(open(&other.identities, &stored), Err(ContentError::Identity)));
    assert!(matches!(part_of(&other, &stored, 0..1), Err(ContentError::Identity)));
    assert!(matches!(open(&mine.identities, b"something else"), Err(ContentError::Header)));
}

#[test]
fn around_a_damaged_block_everything_is_read() {
    let reader = reader();
    let content = noise(200_000);
    let mut stored = seal(&reader.recipients, content.clone()).unwrap();
    let header = Header::read(&stored[..4096]).unwrap().0.len();
    stored[header + 65_552 + 5] ^= 1;
    let (read, is_damaged) = open_leniently(&reader.identities, &stored).unwrap();
    assert!(is_damaged && read.len() == content.len());
    assert!(read[..65_536] == content[..65_536] && read[131_072..] == content[131_072..]);
    assert!(read[65_536..131_072].iter().all(|byte| *byte == 0));
}

#[test]
fn a_header_without_end_is_given_up_at_once() {
    let reader = reader();
    let mut long = b"age-encryption.org/v1\n".to_vec();
    while long.len() < 4 << 20 {
        long.extend_from_slice(b"-> X25519 a\n\n");
    }
    assert!(matches!(open(&reader.identities, &long), Err(ContentError::Header)));
    assert!(matches!(open_leniently(&reader.identities, &long), Err(ContentError::Header)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..400_usize, from in 0..300_000_u64, length in 1..70_000_u64) {
        let reader = reader();
        let stored = seal(&reader.recipients, noise(100)).unwrap();
        let mut mixed = stored[..cut.min(stored.len())].to_vec();
        mixed.extend_from_slice(&bytes);
        drop(open(&reader.identities, &mixed));
        drop(open_leniently(&reader.identities, &mixed));
        drop(part_of(&reader, &mixed, from..from + length));
    }
}
