use std::collections::HashSet;
use std::convert::Infallible;
use std::fs;

use super::*;
use crate::chunk::ChunkId;
use crate::create::tests::Fixture;
use crate::index::IndexedPack;
use crate::pack::{FramePlace, PackIndex};
use crate::repository::tests::snapshot;
use crate::snapshot::SnapshotId;

const GB: u64 = 1 << 30;

fn sources(paths: &[&str]) -> Vec<Source> {
    paths.iter().map(|path| Source { path: (*path).to_owned(), volume: None }).collect()
}

fn name(number: u8) -> SnapshotName {
    let id = SnapshotId(ChunkId([number; 16]));
    SnapshotName { id, time: format!("20261122T0000{number:02}Z"), sealed: false }
}

/// A gigabyte of text in the packs of every snapshot here.
fn index() -> Index {
    let frame = FramePlace { start: 0, stored: 1 << 29, content: 1 << 30 };
    let index = PackIndex { kind: PackKind::Data, frames: vec![frame], chunks: Vec::new() };
    let pack = IndexedPack { id: PackId(ChunkId([1; 16])), bytes: 1 << 29, index, sealed_by: None };
    Index::new([pack], &HashSet::new())
}

fn run(added: u64) -> Stats {
    Stats { files: 5000, bytes: GB, bytes_added: added, bytes_stored: added, ..Stats::default() }
}

fn made(paths: &[&str], suspicious: bool, stats: Stats) -> Snapshot {
    let sources = sources(paths);
    Snapshot { sources, suspicious, stats, ..snapshot("shop", "2026-11-22T00:00:00Z") }
}

/// What is said of a run after these snapshots of its job, the newest first.
fn said(before: &[Snapshot], paths: &[&str], stats: Stats) -> usize {
    let of_job = (0..).map(name).zip(before.iter().cloned()).collect();
    let packs = before.iter().find(|snapshot| !snapshot.suspicious).map(|good| good.packs.clone());
    let kept =
        |_: &SnapshotName| Ok::<_, Infallible>(content(&index(), &packs.unwrap_or_default()));
    compare(of_job, &sources(paths), &[], &stats, kept).unwrap().len()
}

#[test]
fn what_was_encrypted_stays_suspicious_when_nothing_is_new() {
    let good = made(&["/data"], false, run(0));
    let first = made(&["/data"], true, run(GB / 2));
    assert_eq!(said(std::slice::from_ref(&good), &["/data"], run(0)), 0);
    assert_eq!(said(std::slice::from_ref(&good), &["/data"], run(GB / 2)), 1);
    let night_after = [made(&["/data"], true, run(0)), first.clone(), good.clone()];
    assert_eq!(said(&night_after, &["/data"], run(0)), 1);
    // Once it was accepted it is what others are compared with, and usual.
    let accepted = [made(&["/data"], false, run(0)), first, good];
    assert_eq!(said(&accepted, &["/data"], run(GB / 2)), 0);
}

#[test]
fn what_cannot_be_compared_stays_suspicious_too() {
    let good = made(&["/data"], false, run(0));
    let doubtful = made(&["/data"], true, run(GB / 2));
    let one_more = ["/data", "/new"];
    assert_eq!(said(&[doubtful.clone(), good.clone()], &one_more, run(0)), 1);
    assert_eq!(said(&[doubtful], &["/data"], run(0)), 1, "the good one is too far back");
    assert_eq!(said(&[good], &one_more, run(GB / 2)), 0);
    assert_eq!(said(&[], &["/data"], run(GB)), 0);
}

#[test]
fn a_dump_and_another_directory_of_the_same_name_are_other_jobs() {
    let is = |snapshot: &Snapshot| is_of_job(snapshot, "shop", &sources(&["/data"]));
    let data = made(&["/data"], false, run(0));
    assert!(is(&data));
    assert!(!is(&Snapshot { name: "other".to_owned(), ..data.clone() }));
    assert!(!is(&Snapshot { state: State::Failed, ..data }));
    assert!(!is(&made(&["/home"], false, run(0))));
    assert!(!is(&made(&[], false, run(0))));
}

#[test]
fn what_another_machine_of_the_same_name_has_made_is_not_compared() {
    let now: Timestamp = "2026-11-30T14:00:00Z".parse().unwrap();
    let boot = Boot { id: "b1".to_owned(), began: "2026-11-20T00:00:00Z".parse().unwrap() };
    let tags = |tags: &[(&str, &str)]| -> BTreeMap<String, String> {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let ours = tags(&[(ENGINE_TAG, "E1"), (NODE_TAG, "n1"), (BOOT_TAG, "b1")]);
    let is_of_another = |theirs: &[(&str, &str)]| {
        let mut made = snapshot("db", "2026-11-29T03:00:00Z");
        made.tags = tags(theirs);
        is_of_another(&made, &ours, Some(&boot), now)
    };
    assert!(!is_of_another(&[]), "one that was made by hand says nothing");
    assert!(!is_of_another(&[(ENGINE_TAG, "E1"), (NODE_TAG, "n1"), (BOOT_TAG, "b1")]));
    assert!(is_of_another(&[(ENGINE_TAG, "E2")]));
    assert!(is_of_another(&[(ENGINE_TAG, "E1"), (NODE_TAG, "n2")]));
    assert!(is_of_another(&[(ENGINE_TAG, "E1"), (BOOT_TAG, "b2")]));
}

#[test]
fn any_number_of_snapshots_of_other_jobs_may_lie_between() {
    let fixture = Fixture::new();
    (0..20).for_each(|number| fixture.write(&format!("file{number}"), b"content"));
    assert!(!fixture.create().suspicious);
    for second in 0..600 {
        let time = Timestamp::now() + jiff::SignedDuration::from_secs(100 + second);
        fixture.test.repository.put_snapshot(&snapshot("other", &time.to_string())).unwrap();
    }
    (0..20).for_each(|number| {
        fs::remove_file(fixture.source().join(format!("file{number}"))).unwrap();
    });
    let emptied = fixture.create();
    assert!(emptied.suspicious, "{:?}", emptied.warnings);
}

#[test]
fn what_cannot_be_known_is_suspicious() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let first = fixture.create();
    let said = |options: &CreateOptions| {
        suspicions(&fixture.test.repository, &index(), options, &[], &first.stats).join("\n")
    };
    assert_eq!(said(&fixture.options()), "");
    // As where the disk of the repository is not mounted any more.
    fs::rename(fixture.test.path(), fixture.test.temp.path().join("elsewhere")).unwrap();
    let problem = said(&fixture.options());
    assert!(problem.contains("what was saved before cannot be read"), "{problem}");
    assert_eq!(said(&CreateOptions { allow_change: true, ..fixture.options() }), "");
}
