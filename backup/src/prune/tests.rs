use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::check::{CheckOptions, check};
use crate::create::tests::{Fixture, noise};
use crate::snapshot::Snapshot;

mod nights;
pub(crate) mod repack;

const DAY: Duration = Duration::from_secs(24 * 3600);
const RULES: Rules = Rules { grace: DAY, bytes_max: None };
const WHOLE_PACKS: RepackRules = RepackRules { max_unused: Unused::Unlimited, bytes_max: None };
const OPTIONS: PruneOptions =
    PruneOptions { rules: RULES, repack: WHOLE_PACKS, even_all: false, dry_run: false };

/// The store's clock of a directory is the time of its files: so much passes for all that is there.
fn pass(fixture: &Fixture, time: Duration) {
    pass_in(&fixture.test.path(), time);
}

fn pass_in(directory: &Path, time: Duration) {
    for folder in ["packs", "marks", "runs", "moved"] {
        age(&directory.join(folder), time);
    }
}

fn age(folder: &Path, time: Duration) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), time);
        } else {
            let file = fs::File::options().write(true).open(entry.path()).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - time).unwrap();
        }
    }
}

fn run(fixture: &Fixture, options: &PruneOptions) -> Result<PruneReport, PruneError> {
    prune(&fixture.test.repository, options, &Progress::new(), &Shutdown::new())
}

fn pruned(fixture: &Fixture) -> PruneReport {
    run(fixture, &OPTIONS).unwrap()
}

/// Two snapshots of which the first is forgotten: its content is in a pack of its own.
fn forgotten() -> (Fixture, Snapshot) {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    fixture.write("stays", &noise(2, 300_000));
    fixture.create();
    let first = fixture.test.repository.snapshot_names().unwrap().remove(0);
    // Both of the first are shared unless the second run has packs of its own.
    fixture.write("a", &noise(3, 300_000));
    fixture.write("stays", &noise(4, 300_000));
    let second = fixture.create();
    fixture.test.repository.remove_snapshot(&first).unwrap();
    (fixture, second)
}

fn assert_sound(fixture: &Fixture) {
    let options = CheckOptions { read_data: Some("100".parse().unwrap()), rotation: 0, threads: 2 };
    let repository = &fixture.test.repository;
    let report = check(repository, &options, &Progress::new(), &Shutdown::new()).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
}

#[test]
fn what_is_forgotten_is_marked_after_a_day_and_deleted_after_another() {
    let (fixture, second) = forgotten();
    let young = pruned(&fixture);
    assert_eq!((young.marked.packs, young.deleted.packs, young.packs.packs), (0, 0, 4));
    assert!(!fs::read_to_string(fixture.test.path().join("repo.json")).unwrap().contains("marks"));

    pass(&fixture, DAY);
    let marked = pruned(&fixture);
    assert_eq!((marked.marked.packs, marked.deleted.packs), (2, 0));
    assert!(fs::read_to_string(fixture.test.path().join("repo.json")).unwrap().contains("marks"));
    let again = pruned(&fixture);
    assert_eq!((again.marked.packs, again.waiting.packs), (0, 2));
    assert!(again.next_due.is_some());

    pass(&fixture, DAY);
    let deleted = pruned(&fixture);
    assert_eq!((deleted.deleted.packs, deleted.waiting.packs), (2, 0));
    assert_eq!(deleted.indexes_rewritten, 1);
    assert!(deleted.deleted.bytes > 600_000, "{deleted:?}");
    assert_eq!(fixture.test.objects("packs/").len(), 2);
    assert_eq!(fixture.test.repository.marks().unwrap(), []);
    let known = fixture.test.repository.index_objects().unwrap().packs;
    assert_eq!(known.len(), 2);
    assert_eq!(fixture.content(&second, "a"), noise(3, 300_000));
    assert_sound(&fixture);
    let nothing = pruned(&fixture);
    assert_eq!((nothing.packs.packs, nothing.needed.packs), (2, 2));
    // The writers of this program go on.
    assert_eq!(fixture.create().stats.bytes_stored, 0);
}

#[test]
fn a_dry_run_changes_no_object() {
    let (fixture, _) = forgotten();
    pass(&fixture, DAY);
    let dry = PruneOptions { dry_run: true, ..OPTIONS };
    let before = fixture.test.repository.store().list("").unwrap();
    assert_eq!(run(&fixture, &dry).unwrap().marked.packs, 2);
    assert_eq!(fixture.test.repository.store().list("").unwrap(), before);
    pruned(&fixture);
    pass(&fixture, DAY);
    let before = fixture.test.repository.store().list("").unwrap();
    assert_eq!(run(&fixture, &dry).unwrap().deleted.packs, 2);
    assert_eq!(fixture.test.repository.store().list("").unwrap(), before);
}

#[test]
fn content_that_comes_back_while_its_pack_is_marked_is_stored_anew_and_survives() {
    let (fixture, _) = forgotten();
    pass(&fixture, DAY);
    pruned(&fixture);
    // As it was in the snapshot that was forgotten.
    fixture.write("a", &noise(1, 300_000));
    let back = fixture.create();
    assert!(back.stats.bytes_added > 300_000, "{:?}", back.stats);
    pass(&fixture, DAY);
    assert_eq!(pruned(&fixture).deleted.packs, 2);
    assert_eq!(fixture.content(&back, "a"), noise(1, 300_000));
    assert_sound(&fixture);
}

#[test]
fn content_that_comes_back_before_its_pack_is_marked_keeps_it() {
    let (fixture, _) = forgotten();
    fixture.write("a", &noise(1, 300_000));
    let back = fixture.create();
    pass(&fixture, DAY * 2);
    // The tree of the first is not needed any more, its content is.
    assert_eq!(pruned(&fixture).marked.packs, 1);
    pass(&fixture, DAY * 2);
    assert_eq!(pruned(&fixture).deleted.packs, 1);
    assert_eq!(fixture.content(&back, "a"), noise(1, 300_000));
    assert_sound(&fixture);
}

#[test]
fn a_budget_spreads_it_over_several_runs() {
    let (fixture, _) = forgotten();
    pass(&fixture, DAY);
    pruned(&fixture);
    pass(&fixture, DAY);
    let some = |bytes| PruneOptions { rules: Rules { bytes_max: Some(bytes), ..RULES }, ..OPTIONS };
    // The pack of the tree fits, that of the content does not.
    let first = run(&fixture, &some(100_000)).unwrap();
    assert_eq!((first.deleted.packs, first.waiting.packs), (1, 1));
    assert!(first.deleted.bytes <= 100_000);
    assert_eq!(run(&fixture, &some(100_000)).unwrap().deleted.packs, 0);
    assert_eq!(run(&fixture, &some(700_000)).unwrap().deleted.packs, 1);
    assert_sound(&fixture);
}

#[test]
fn what_a_killed_run_left_goes_like_the_rest() {
    let (fixture, _) = forgotten();
    let orphans: Vec<_> = fixture.test.objects("index/");
    orphans.iter().for_each(|index| fs::remove_file(index).unwrap());
    pass(&fixture, DAY);
    assert_eq!(pruned(&fixture).marked.packs, 2);
    pass(&fixture, DAY);
    assert_eq!(pruned(&fixture).deleted.packs, 2);
    assert_sound(&fixture);
}

#[test]
fn nothing_goes_while_it_is_not_known_what_is_needed() {
    let (fixture, second) = forgotten();
    pass(&fixture, DAY);
    pruned(&fixture);
    pass(&fixture, DAY);
    let name = fixture.test.repository.snapshot_names().unwrap().remove(0);
    let document = fixture.test.path().join(name.key());
    let text = fs::read(&document).unwrap();
    fs::write(&document, "{}").unwrap();
    let error = run(&fixture, &OPTIONS).unwrap_err();
    assert!(matches!(error, PruneError::Unreadable(id, _) if id == name.id), "{error}");
    // The same document as a tool that copies folders may call it.
    fs::write(&document, &text).unwrap();
    let copy = document.with_extension("json (1)");
    fs::rename(&document, &copy).unwrap();
    let error = run(&fixture, &OPTIONS).unwrap_err();
    assert!(matches!(&error, PruneError::Stranger(key) if key.ends_with("(1)")), "{error}");
    fs::rename(&copy, &document).unwrap();
    fs::write(&document, "{}").unwrap();
    fs::remove_file(&document).unwrap();
    let error = run(&fixture, &OPTIONS).unwrap_err();
    assert!(matches!(error, PruneError::NoSnapshot(4)), "{error}");
    fs::write(&document, text).unwrap();

    let pack = fixture.test.path().join(second.packs[0].key());
    fs::rename(&pack, fixture.test.path().join("aside")).unwrap();
    let error = run(&fixture, &OPTIONS).unwrap_err();
    assert!(matches!(error, PruneError::Missing(1)), "{error}");
    fs::rename(fixture.test.path().join("aside"), &pack).unwrap();

    let mark = fixture.test.repository.marks().unwrap().remove(0);
    let mark = fixture.test.path().join(mark.key);
    let text = fs::read_to_string(&mark).unwrap();
    fs::write(&mark, text.replace(text.get(30..34).unwrap(), "0000")).unwrap();
    run(&fixture, &OPTIONS).unwrap_err();
    assert_eq!(fixture.test.objects("packs/").len(), 4);
    assert_sound_but_for(&fixture, &mark, &text);
}

fn assert_sound_but_for(fixture: &Fixture, mark: &Path, text: &str) {
    fs::write(mark, text).unwrap();
    assert_sound(fixture);
    pass(fixture, DAY);
    assert_eq!(pruned(fixture).deleted.packs, 2);
}

#[test]
fn everything_goes_only_when_that_is_said() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    fixture.create();
    let name = fixture.test.repository.snapshot_names().unwrap().remove(0);
    fixture.test.repository.remove_snapshot(&name).unwrap();
    let all = PruneOptions { even_all: true, ..OPTIONS };
    for _ in 0..2 {
        pass(&fixture, DAY);
        run(&fixture, &OPTIONS).unwrap_err();
        run(&fixture, &all).unwrap();
    }
    assert_eq!(fixture.test.objects("packs/").len(), 0);
    assert_eq!(fixture.test.objects("index/").len(), 0);
    run(&fixture, &OPTIONS).unwrap();
    fixture.create();
    assert_sound(&fixture);
}

#[test]
fn several_at_once_and_backups_beside_them_lose_nothing() {
    let (fixture, _) = forgotten();
    for round in 0..4 {
        fixture.write("a", &noise(10 + round % 2, 300_000));
        std::thread::scope(|scope| {
            scope.spawn(|| fixture.create());
            for _ in 0..2 {
                scope.spawn(|| pruned(&fixture));
                scope.spawn(|| run(&fixture, &repack::EVERYTHING).unwrap());
            }
        });
        assert_sound(&fixture);
        pass(&fixture, DAY);
        // All but the newest are forgotten.
        let mut names = fixture.test.repository.snapshot_names().unwrap();
        names.pop();
        names.iter().for_each(|name| fixture.test.repository.remove_snapshot(name).unwrap());
    }
    for _ in 0..2 {
        pruned(&fixture);
        pass(&fixture, DAY);
    }
    assert_sound(&fixture);
    assert_eq!(pruned(&fixture).packs, pruned(&fixture).needed);
}

#[test]
fn a_prune_that_died_half_way_is_finished_by_the_next() {
    let (fixture, _) = forgotten();
    pass(&fixture, DAY);
    pruned(&fixture);
    pass(&fixture, DAY);
    // It had deleted one of the packs, and the index still names both.
    let mark = fixture.test.repository.marks().unwrap().remove(0);
    let one = mark.packs.iter().next().unwrap();
    fs::remove_file(fixture.test.path().join(one.key())).unwrap();
    // That is no damage: no snapshot needs it.
    assert_sound(&fixture);
    assert_eq!(pruned(&fixture).deleted.packs, 1);
    assert_eq!(fixture.test.repository.marks().unwrap(), []);
    // It had written the index anew, and had not removed the old one.
    let known = fixture.test.repository.index_objects().unwrap().packs;
    assert_eq!(known.len(), 2);
    assert_sound(&fixture);
}

#[test]
fn an_index_that_names_what_is_long_gone_does_no_harm_and_is_mended() {
    let (fixture, _) = forgotten();
    let old = fixture.test.objects("index/");
    let kept: Vec<_> = old.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for _ in 0..2 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    // As two prunes at once can leave it.
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    fixture.write("a", &noise(1, 300_000));
    let back = fixture.create();
    assert_eq!(fixture.content(&back, "a"), noise(1, 300_000));
    assert_sound(&fixture);
    assert!(pruned(&fixture).indexes_rewritten > 0);
    assert_sound(&fixture);
}

#[test]
fn a_chunk_in_two_packs_is_read_from_the_one_that_stays() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    fixture.create();
    // A second run that knows of nothing stores it all again.
    let index = fixture.test.objects("index/").remove(0);
    fs::rename(&index, fixture.test.path().join("aside")).unwrap();
    fs::remove_dir_all(fixture.test.temp.path().join("cache")).unwrap();
    let second = fixture.create();
    fs::rename(fixture.test.path().join("aside"), &index).unwrap();
    let (known, _) = fixture.test.repository.index_for_reading([&second]).unwrap();
    let of_second = known
        .chunks()
        .iter()
        .filter(|(_, place)| second.packs.contains(&known.pack(place.pack).unwrap().id));
    // All but the two salts of the first run's packs.
    assert_eq!(of_second.count(), known.chunk_count() - 2);
}

#[test]
fn what_only_waits_needs_no_look_and_an_index_that_cannot_be_read_does() {
    let (fixture, _) = forgotten();
    pass(&fixture, DAY);
    let marked = pruned(&fixture);
    assert!(marked.marked.packs > 0 && !marked.needs_a_look(), "{marked:?}");
    let waiting = pruned(&fixture);
    assert!(waiting.waiting.packs > 0 && !waiting.needs_a_look(), "{waiting:?}");
    let index = fixture.test.objects("index/").remove(0);
    fs::write(&index, "no index").unwrap();
    let report = pruned(&fixture);
    assert_eq!(report.damaged_indexes, 1);
    assert!(report.needs_a_look() && index.exists());
    for swept in [
        Swept { refused: 1, ..Swept::default() },
        Swept { unlisted: 1, ..Swept::default() },
        Swept { written_over: 1, ..Swept::default() },
    ] {
        assert!(PruneReport { swept, ..waiting.clone() }.needs_a_look(), "{swept:?}");
    }
    let held = Swept { held: 1, removed: 1, ..Swept::default() };
    assert!(!PruneReport { swept: held, ..waiting }.needs_a_look());
}

#[test]
fn what_a_snapshot_lacks_that_was_taken_back_meanwhile_is_nobodys_loss() {
    let (fixture, second) = forgotten();
    let repository = &fixture.test.repository;
    let lost = PackId(crate::chunk::ChunkId([9; 16]));
    let lacking = Snapshot { packs: vec![lost], ..second };
    let name = repository.put_snapshot(&lacking).unwrap();
    let documents = vec![(name.clone(), lacking)];
    let missing = HashSet::from([lost]);
    let refused = refuse_missing(repository, &documents, &missing).unwrap_err();
    assert!(matches!(refused, PruneError::Missing(1)), "{refused}");
    repository.remove_snapshot(&name).unwrap();
    refuse_missing(repository, &documents, &missing).unwrap();
}
