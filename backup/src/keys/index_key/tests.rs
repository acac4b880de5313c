use super::*;

const NAME: &str = "snapshots/20261130T000000Z-00112233445566778899aabbccddeeff.json.enc";

fn sealed(keys: &IndexKeys) -> Vec<u8> {
    keys.seal(Kind::Snapshot, "repo", NAME, b"a document").unwrap()
}

#[test]
fn what_was_sealed_opens_in_its_place_and_nowhere_else() {
    let keys = IndexKeys::generate().unwrap();
    let sealed = sealed(&keys);
    assert_eq!(sealed.len(), b"a document".len() + OVERHEAD_BYTES);
    assert_eq!(keys.open(Kind::Snapshot, "repo", NAME, &sealed).unwrap(), b"a document");
    let elsewhere = [
        (Kind::Index, "repo", NAME),
        (Kind::Drill, "repo", NAME),
        (Kind::Snapshot, "other", NAME),
        (Kind::Snapshot, "repo", &NAME.replace("2026", "2027")),
        (Kind::Snapshot, "repo", &NAME.replace("ff.", "fe.")),
    ];
    for (kind, repository, name) in elsewhere {
        let error = keys.open(kind, repository, name, &sealed).unwrap_err();
        assert!(matches!(error, SealError::Seal), "{kind:?} {repository} {name}: {error}");
    }
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let keys = IndexKeys::generate().unwrap();
    let sealed = sealed(&keys);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(keys.open(Kind::Snapshot, "repo", NAME, &changed).is_err(), "byte {at}");
        assert!(keys.open(Kind::Snapshot, "repo", NAME, &sealed[..at]).is_err(), "{at} bytes");
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert!(keys.open(Kind::Snapshot, "repo", NAME, &longer).is_err());
}

#[test]
fn the_same_document_is_sealed_differently_each_time() {
    let keys = IndexKeys::generate().unwrap();
    assert_ne!(sealed(&keys), sealed(&keys));
}

#[test]
fn a_rotated_key_opens_what_was_sealed_before_and_the_old_one_not_what_comes_after() {
    let old = IndexKeys::generate().unwrap();
    let new = old.rotated().unwrap();
    assert_ne!(old.current(), new.current());
    assert!(new.open(Kind::Snapshot, "repo", NAME, &sealed(&old)).is_ok());
    let error = old.open(Kind::Snapshot, "repo", NAME, &sealed(&new)).unwrap_err();
    assert!(matches!(error, SealError::UnknownKey(_)), "{error}");
    let id = old.current().unwrap().to_string();
    assert!(new.knows(&id) && !IndexKeys::generate().unwrap().knows(&id));
    let mut many = old;
    while !many.is_full() {
        many = many.rotated().unwrap();
    }
    assert_eq!(many.to_hex().len(), KEYS_MAX);
    assert!(many.knows(&id), "the oldest is kept");
}

#[test]
fn keys_go_through_hex_and_are_not_shown() {
    let keys = IndexKeys::generate().unwrap().rotated().unwrap();
    assert_eq!(IndexKeys::from_hex(&keys.to_hex(), 2), Some(keys.clone()));
    assert_eq!(format!("{keys:?}"), "IndexKeys(2)");
    assert_eq!(format!("{:?}", keys.cache_key()), "CacheKey(…)");
    assert_eq!(IndexKeys::from_hex(&[], 0), None);
    assert_eq!(IndexKeys::from_hex(&["12".to_owned()], 1), None);
    assert_eq!(IndexKeys::from_hex(&keys.to_hex(), 0), None);
    assert_eq!(IndexKeys::from_hex(&keys.to_hex(), 3), None);
}

#[test]
fn a_later_version_is_named() {
    let keys = IndexKeys::generate().unwrap();
    let mut later = sealed(&keys);
    later[8] = 2;
    let error = keys.open(Kind::Snapshot, "repo", NAME, &later).unwrap_err();
    assert!(matches!(error, SealError::Version(2)), "{error}");
}

#[test]
fn a_block_of_a_cache_opens_only_unchanged() {
    let key = IndexKeys::generate().unwrap().cache_key();
    let mut block = b"paths".to_vec();
    let seal = key.seal(&mut block).unwrap();
    assert_ne!(block, b"paths");
    let mut changed = block.clone();
    changed[0] ^= 1;
    assert!(!key.open(&mut changed, &seal));
    assert!(key.open(&mut block, &seal));
    assert_eq!(block, b"paths");
}

#[test]
fn a_rotation_stays_in_its_epoch_and_a_renewal_begins_one() {
    let first = IndexKeys::generate().unwrap();
    let id = first.current().unwrap();
    let rotated = first.rotated().unwrap();
    assert!(rotated.is_of_epoch(id) && rotated.epoch() == 2);
    let renewed = rotated.renewed().unwrap();
    assert!(!renewed.is_of_epoch(id) && renewed.is_of_epoch(renewed.current().unwrap()));
    let sealed = renewed.seal_with(id, Kind::Index, "repo", NAME, b"old").unwrap();
    assert_eq!(IndexKeys::sealed_by(&sealed), Some(id));
    assert_eq!(first.open(Kind::Index, "repo", NAME, &sealed).unwrap(), b"old");
}
