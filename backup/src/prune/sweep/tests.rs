use std::time::{Duration, UNIX_EPOCH};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PACK: &str = "packs/ab/abababababababababababababababab.tar.zst";

fn at(days: u32) -> SystemTime {
    UNIX_EPOCH + DAY * (20_000 + days)
}

fn version(key: &str, days: u32) -> ObjectVersion {
    ObjectVersion {
        key: key.to_owned(),
        version: format!("v{days}"),
        is_latest: false,
        is_marker: false,
        size: 10,
        modified: at(days),
        tag: None,
    }
}

fn marker(key: &str, days: u32) -> ObjectVersion {
    ObjectVersion { is_marker: true, size: 0, ..version(key, days) }
}

fn latest(version: ObjectVersion) -> ObjectVersion {
    ObjectVersion { is_latest: true, ..version }
}

/// With locks of 20 days, which packs have for 25.
fn on(days: u32, versions: &[ObjectVersion]) -> Vec<Leftover> {
    leftovers(versions, "20d".parse().unwrap(), at(days), &mut 1000, &|_| false)
}

#[test]
fn a_pack_that_is_gone_goes_with_its_markers_when_it_may_be_unlocked() {
    let versions = [version(PACK, 0), latest(marker(PACK, 3))];
    let [young] = &on(24, &versions)[..] else { panic!("one object is gone") };
    assert_eq!((young.held, young.held_bytes, young.versions.len()), (1, 10, 0));
    let [old] = &on(25, &versions)[..] else { panic!("one object is gone") };
    assert_eq!((old.held, old.versions.len(), old.markers.len()), (0, 1, 1));
}

#[test]
fn what_was_written_over_is_never_touched() {
    let snapshot = "snapshots/20261130T000000Z-00.json";
    for key in [PACK, snapshot, "index/00.idx", "moved/00.json"] {
        assert_eq!(on(1000, &[version(key, 0), latest(version(key, 1))]), [], "{key}");
    }
}

#[test]
fn what_a_snapshot_needs_is_never_touched() {
    let versions = [version(PACK, 0), latest(marker(PACK, 3))];
    let lock = "20d".parse().unwrap();
    assert_eq!(leftovers(&versions, lock, at(1000), &mut 1000, &|key| key == PACK), []);
}

#[test]
fn of_what_is_written_again_and_again_only_the_latest_stays() {
    let clock = "marks/clock";
    let versions = [version(clock, 0), marker(clock, 1), latest(version(clock, 2))];
    let [old] = &on(2, &versions)[..] else { panic!("there are old ones") };
    assert_eq!((old.versions.len(), old.markers.len(), old.held), (1, 1, 0));
    assert_eq!(old.versions[0].modified, at(0));
}

#[test]
fn repo_json_and_what_is_not_ours_is_never_touched() {
    for key in ["repo.json", "cache/x", "other/x", "packs"] {
        assert_eq!(on(1000, &[version(key, 0), latest(marker(key, 1))]), [], "{key}");
    }
}

#[test]
fn without_room_versions_wait_and_their_markers_with_them() {
    let mut versions = vec![version("runs/a", 0), latest(marker("runs/a", 1))];
    versions.extend([version("runs/b", 0), latest(marker("runs/b", 1))]);
    let found = leftovers(&versions, "20d".parse().unwrap(), at(2), &mut 1, &|_| false);
    let told: Vec<_> = found.iter().map(|one| (one.versions.len(), one.held)).collect();
    assert_eq!(told, [(1, 0), (0, 1)]);
}
