use std::fs;
use std::path::Path;

use super::*;
use crate::create::tests::Fixture;
use crate::repository::tests::TestRepository;
use crate::restore::select::Selection;
use crate::restore::{Into, RestoreOptions, restore};

fn options() -> CopyOptions {
    CopyOptions {
        snapshots: Vec::new(),
        name: None,
        transfer: TransferOptions { level: 1, uploads: 2 },
        dry_run: false,
    }
}

fn run(from: &Repository, to: &Repository, options: &CopyOptions) -> CopyReport {
    copy(from, to, options, &Progress::new(), &Shutdown::new()).unwrap()
}

fn outcomes(report: &CopyReport) -> Vec<&'static str> {
    let word = |copied: &Copied| match copied.outcome {
        Outcome::Copied(..) => "copied",
        Outcome::Would => "would",
        Outcome::There => "there",
        Outcome::Damaged(_) => "damaged",
    };
    report.snapshots.iter().map(word).collect()
}

/// A source with small, large, equal, empty and sparse files.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("small", b"small");
    fixture.write("deep/er/equal", b"small");
    fixture.write("empty", b"");
    let mut noise = vec![0; 1_500_000];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    fixture.write("large", &noise);
    fs::hard_link(fixture.source().join("large"), fixture.source().join("larger")).unwrap();
    let sparse = fs::File::create(fixture.source().join("sparse")).unwrap();
    sparse.set_len(1 << 22).unwrap();
    fixture
}

fn restored(repository: &Repository, snapshot: &Snapshot, target: &Path) {
    let options = RestoreOptions {
        selection: Selection {
            paths: Vec::new(),
            source: None,
            strip: Some(crate::restore::select::one_source(snapshot, None).unwrap()),
        },
        into: Into::Empty,
        force: false,
        dry_run: false,
        threads: 2,
        cache: None,
    };
    let report =
        restore(repository, snapshot, target, &options, &Progress::new(), &Shutdown::new());
    assert_eq!(report.unwrap().damaged_count, 0);
}

fn same(one: &Path, other: &Path) {
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        let (left, right) = (one.join(&name), other.join(&name));
        if left.is_dir() {
            same(&left, &right);
        } else {
            assert!(fs::read(&left).unwrap() == fs::read(&right).unwrap(), "{}", left.display());
        }
    }
}

#[test]
fn snapshots_come_over_into_an_encrypted_repository_and_back() {
    let fixture = fixture();
    let first = fixture.create();
    fixture.write("later", b"later");
    fixture.create();
    let clear = &fixture.test.repository;
    let encrypted = TestRepository::encrypted();
    let report = run(clear, &encrypted.repository, &options());
    assert_eq!(outcomes(&report), ["copied", "copied"]);
    assert_eq!(outcomes(&run(clear, &encrypted.repository, &options())), ["there", "there"]);
    let readable = encrypted.readable();
    let (_, snapshot) = readable.select(&Selector::Latest).unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.stats.files), ("test", first.stats.files + 1));
    let target = fixture.test.temp.path().join("target");
    restored(&readable, &snapshot, &target);
    same(&fixture.source(), &target);
    let back = TestRepository::new();
    assert_eq!(outcomes(&run(&readable, &back.repository, &options())), ["copied", "copied"]);
    let (_, snapshot) = back.repository.select(&Selector::Latest).unwrap();
    let target = fixture.test.temp.path().join("back");
    restored(&back.repository, &snapshot, &target);
    same(&fixture.source(), &target);
}

#[test]
fn what_snapshots_share_is_stored_once() {
    let fixture = fixture();
    fixture.create();
    fixture.write("later", b"later");
    fixture.create();
    let other = TestRepository::new();
    let report = run(&fixture.test.repository, &other.repository, &options());
    let added: Vec<_> = report
        .snapshots
        .iter()
        .map(|copied| match &copied.outcome {
            Outcome::Copied(_, stats) => stats.bytes_added,
            _ => u64::MAX,
        })
        .collect();
    assert!(added[0] > 1_500_000 && added[1] < 100_000, "{added:?}");
}

#[test]
fn a_dry_run_copies_nothing_and_names_choose() {
    let fixture = fixture();
    fixture.create();
    let other = TestRepository::new();
    let from = &fixture.test.repository;
    let report = run(from, &other.repository, &CopyOptions { dry_run: true, ..options() });
    assert_eq!(outcomes(&report), ["would"]);
    let named = CopyOptions { name: Some("another".to_owned()), ..options() };
    assert!(outcomes(&run(from, &other.repository, &named)).is_empty());
    assert!(other.objects("packs/").is_empty());
}

#[test]
fn a_damaged_snapshot_is_told_and_the_others_come_over() {
    let fixture = fixture();
    fixture.create();
    // What only the second one needs is lost.
    let before = fixture.test.objects("packs/");
    fixture.write("later", &[7; 5000]);
    fixture.create();
    for path in fixture.test.objects("packs/").into_iter().filter(|path| !before.contains(path)) {
        fs::remove_file(path).unwrap();
    }
    let other = TestRepository::new();
    let report = run(&fixture.test.repository, &other.repository, &options());
    assert_eq!(outcomes(&report), ["copied", "damaged"]);
    assert_eq!(other.repository.snapshot_names().unwrap().len(), 1);
}

#[test]
fn a_repository_is_not_copied_into_itself_nor_read_without_its_key() {
    let fixture = fixture();
    let own = &fixture.test.repository;
    let refused = |from: &Repository, to: &Repository| {
        copy(from, to, &options(), &Progress::new(), &Shutdown::new()).unwrap_err()
    };
    assert!(matches!(refused(own, own), CopyError::Same(_)));
    let encrypted = TestRepository::encrypted();
    let error = refused(&encrypted.repository, own);
    assert!(matches!(error, CopyError::Repository(RepositoryError::NoIdentity(_))), "{error}");
}
