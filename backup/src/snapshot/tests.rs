use super::*;
use crate::repository::tests::snapshot;

fn key() -> DedupKey {
    DedupKey::from_hex(&"05".repeat(32)).unwrap()
}

#[test]
fn a_sealed_document_opens_under_its_own_name_only() {
    let document = snapshot("a", "2026-11-22T19:45:12Z");
    let (name, bytes) = document.seal(&key(), false).unwrap();
    assert_eq!(name.time, "20261122T194512Z");
    assert_eq!(SnapshotName::from_key(&name.key()), Some(name.clone()));
    assert_eq!(Snapshot::open(&name, &bytes, &key()).unwrap(), document);
    let later = SnapshotName { time: "20991231T235959Z".to_owned(), ..name };
    assert!(matches!(Snapshot::open(&later, &bytes, &key()), Err(SnapshotError::Damaged)));
}

#[test]
fn every_flipped_byte_and_every_cut_shows() {
    let (name, bytes) = snapshot("a", "2026-11-22T19:45:12Z").seal(&key(), false).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(matches!(Snapshot::open(&name, &flipped, &key()), Err(SnapshotError::Damaged)));
        assert!(matches!(Snapshot::open(&name, &bytes[..at], &key()), Err(SnapshotError::Damaged)));
    }
}

#[test]
fn a_later_version_is_named_even_with_unknown_fields() {
    let bytes = b"{\"version\": 4, \"news\": true}";
    let id = SnapshotId(key().id_of(bytes));
    let name = SnapshotName { id, time: String::new(), sealed: false };
    assert!(matches!(Snapshot::open(&name, bytes, &key()), Err(SnapshotError::Version(4))));
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

fn dump() -> DumpRecord {
    DumpRecord {
        kind: DumpKind::Postgres,
        path: "/dump/shopdb".to_owned(),
        server: "PostgreSQL 15.14".to_owned(),
        container: None,
        databases: vec!["shop".to_owned()],
        files: vec![DumpFile {
            name: "shop.pgdump".to_owned(),
            role: DumpRole::Database,
            database: Some("shop".to_owned()),
            bytes: 12,
        }],
        proof: DumpProof { exit_code: Some(0), marker: true, trailer: None },
    }
}

#[test]
fn a_document_has_the_lowest_version_that_understands_it() {
    let plain = snapshot("a", "2026-11-22T19:45:12Z");
    assert_eq!(plain.version, 1);
    let (_, bytes) = plain.seal(&key(), false).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        !["dumps", "suspicious", "provenance"].iter().any(|field| text.contains(field)),
        "{text}"
    );
    let doubtful = Snapshot { version: 2, suspicious: true, ..plain.clone() };
    let (name, bytes) = doubtful.seal(&key(), false).unwrap();
    assert_eq!(Snapshot::open(&name, &bytes, &key()).unwrap(), doubtful);
    let (name, bytes) = Snapshot { version: 1, ..doubtful }.seal(&key(), false).unwrap();
    assert!(matches!(Snapshot::open(&name, &bytes, &key()), Err(SnapshotError::Fields(1))));
    let dumps = vec![dump()];
    let document = Snapshot {
        version: version_with(&dumps, false, &Provenance::default()),
        dumps,
        ..plain.clone()
    };
    assert_eq!(document.version, 2);
    let (name, bytes) = document.seal(&key(), false).unwrap();
    assert_eq!(Snapshot::open(&name, &bytes, &key()).unwrap(), document);
    let images = [("sha256:ab".to_owned(), vec!["shop/web@sha256:cd".to_owned()])].into();
    let provenance = Provenance { images, stacks: Vec::new() };
    let version = version_with(&[], false, &provenance);
    let known = Snapshot { version, provenance, ..plain.clone() };
    assert_eq!(known.version, 3);
    let (name, bytes) = known.seal(&key(), false).unwrap();
    assert_eq!(Snapshot::open(&name, &bytes, &key()).unwrap(), known);
    for (version, wrong) in [
        (1, Snapshot { version: 1, ..document }),
        (2, Snapshot { version: 2, ..plain }),
        (2, Snapshot { version: 2, ..known }),
    ] {
        let (name, bytes) = wrong.seal(&key(), false).unwrap();
        let opened = Snapshot::open(&name, &bytes, &key());
        assert!(matches!(opened, Err(SnapshotError::Fields(found)) if found == version));
    }
}
