use super::*;
use crate::chunk::ChunkId;
use crate::snapshot::SnapshotId;

fn key() -> DedupKey {
    DedupKey::from_hex(&"07".repeat(32)).unwrap()
}

fn listed(label: &str, second: i64, id: u8, state: State) -> Listed {
    let time = jiff::Timestamp::from_second(second).unwrap();
    let id = SnapshotId(ChunkId([id; 16]));
    let name =
        SnapshotName { id, time: time.strftime("%Y%m%dT%H%M%SZ").to_string(), sealed: false };
    Listed { name, label: label.to_owned(), time, state }
}

fn catalog(listed: &[Listed]) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.show(listed.to_vec(), &key());
    catalog
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn each_name_is_a_directory_with_its_snapshots_and_the_latest() {
    let catalog = catalog(&[
        listed("web", 86_400, 2, State::Complete),
        listed("web", 0, 1, State::Warnings),
        listed("web", 172_800, 3, State::Failed),
        listed("db", 5, 4, State::Failed),
    ]);
    let names: Vec<_> = catalog.groups().keys().map(|name| text(name)).collect();
    assert_eq!(names, ["db", "web"]);
    let web = &catalog.groups()[&b"web"[..]];
    let snapshots: Vec<_> = web.snapshots.keys().map(|name| text(name)).collect();
    let wanted =
        ["19700101T000000Z-01010101", "19700102T000000Z-02020202", "19700103T000000Z-03030303"];
    assert_eq!(snapshots, wanted);
    assert_eq!(web.latest.as_deref().map(text), Some(wanted[1]), "a failed one is no backup");
    assert_eq!(web.time.as_second(), 172_800);
    assert_eq!(catalog.groups()[&b"db"[..]].latest, None);
    assert_eq!(catalog.group(web.number), Some(web));
    assert_eq!(catalog.count(), 4);
}

#[test]
fn numbers_stay_when_snapshots_come_and_go() {
    let (one, two) = (listed("a", 1, 1, State::Complete), listed("b", 2, 2, State::Complete));
    let mut catalog = catalog(std::slice::from_ref(&two));
    let number = *catalog.groups()[&b"b"[..]].snapshots.values().next().unwrap();
    let group = catalog.groups()[&b"b"[..]].number;
    catalog.show(vec![one.clone(), two.clone()], &key());
    assert_eq!(catalog.groups()[&b"b"[..]].number, group);
    assert_eq!(catalog.groups()[&b"b"[..]].snapshots.values().next(), Some(&number));
    catalog.show(vec![one], &key());
    assert_eq!(catalog.group(group), None);
    let gone = catalog.snapshot(number).unwrap();
    assert_eq!((&gone.name, gone.group), (&two.name, group), "who is inside stays inside");
    catalog.show(vec![two], &key());
    assert_eq!(catalog.group(group).unwrap().snapshots.values().next(), Some(&number));
    assert_eq!((catalog.group(0), catalog.group(9)), (None, None));
    assert_eq!((catalog.snapshot(0), catalog.snapshot(9)), (None, None));
}

#[test]
fn two_of_one_second_and_one_beginning_have_directories_of_their_own() {
    let one = listed("a", 1, 1, State::Complete);
    let mut two = one.clone();
    two.name.id.0.0[15] = 2;
    let catalog = catalog(&[one, two]);
    let snapshots = &catalog.groups()[&b"a"[..]].snapshots;
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.keys().all(|name| name.starts_with(b"19700101T000001Z-01010101")));
}

#[test]
fn names_that_no_directory_may_have_are_escaped() {
    let key = key();
    let shown = |label: &str| String::from_utf8(directory_of(label, &key)).unwrap();
    assert_eq!(shown("web 1.ü"), "web 1.ü");
    assert_eq!(shown("/srv/data"), "%2Fsrv%2Fdata");
    assert_eq!(shown("a%2F"), "a%252F");
    assert_eq!(shown("."), "%2E");
    assert_eq!(shown(".."), "%2E%2E");
    assert_eq!(shown("..."), "...");
    assert_eq!(shown(""), "%");
    assert_eq!(shown("a\nb\0"), "a%0Ab%00");
    let long = "/".repeat(200);
    assert_eq!(directory_of(&long, &key).len(), NAME_BYTES_MAX);
    assert_ne!(shown(&long), shown(&"/".repeat(199)));
}
