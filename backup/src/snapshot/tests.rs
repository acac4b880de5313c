use super::*;
use crate::repository::tests::snapshot;

fn key() -> DedupKey {
    DedupKey::from_hex(&"05".repeat(32)).unwrap()
}

#[test]
fn a_sealed_document_opens_under_its_own_name_only() {
    let document = snapshot("a", "2026-11-22T19:45:12Z");
    let (name, bytes) = document.seal(&key()).unwrap();
    assert_eq!(name.time, "20261122T194512Z");
    assert_eq!(SnapshotName::from_key(&name.key()), Some(name.clone()));
    assert_eq!(Snapshot::open(&name, &bytes, &key()).unwrap(), document);
    let later = SnapshotName { time: "20991231T235959Z".to_owned(), ..name };
    assert!(matches!(Snapshot::open(&later, &bytes, &key()), Err(SnapshotError::Damaged)));
}

#[test]
fn every_flipped_byte_and_every_cut_shows() {
    let (name, bytes) = snapshot("a", "2026-11-22T19:45:12Z").seal(&key()).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(matches!(Snapshot::open(&name, &flipped, &key()), Err(SnapshotError::Damaged)));
        assert!(matches!(Snapshot::open(&name, &bytes[..at], &key()), Err(SnapshotError::Damaged)));
    }
}

#[test]
fn a_later_version_is_named_even_with_unknown_fields() {
    let bytes = b"{\"version\": 2, \"news\": true}";
    let id = SnapshotId(key().id_of(bytes));
    let name = SnapshotName { id, time: String::new() };
    assert!(matches!(Snapshot::open(&name, bytes, &key()), Err(SnapshotError::Version(2))));
}

#[test]
fn selectors_are_latest_a_name_or_enough_digits() {
    assert_eq!("latest".parse::<Selector>().unwrap(), Selector::Latest);
    assert_eq!("latest:db".parse::<Selector>().unwrap(), Selector::LatestNamed("db".to_owned()));
    assert_eq!("0a1b".parse::<Selector>().unwrap(), Selector::Prefix("0a1b".to_owned()));
    for bad in ["", "0a1", "latest:", "Latest", "0A1B", "xyzw", "../x"] {
        assert!(bad.parse::<Selector>().is_err(), "{bad}");
    }
}

#[test]
fn other_objects_are_no_snapshots() {
    for key in [
        "snapshots/x.json",
        "snapshots/20261122T194512Z-12.json",
        "packs/x",
        "snapshots/a-b.json.tmp",
    ] {
        assert_eq!(SnapshotName::from_key(key), None, "{key}");
    }
}
