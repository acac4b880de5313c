//! Packs of which a part is needed: stored anew without the rest, and no snapshot notices.

use super::*;
use crate::create::commit;
use crate::moved::Move;
use crate::repository::RepositoryError;

/// All that is of no use goes.
pub(super) const EVERYTHING: PruneOptions = PruneOptions {
    repack: RepackRules { max_unused: Unused::Bytes(0), bytes_max: None },
    ..OPTIONS
};

/// A day passes for a repository in a directory, and then all goes that is of no use.
pub(crate) fn repack(repository: &Repository, directory: &Path) {
    pass_in(directory, DAY);
    prune_by(repository, &EVERYTHING);
}

/// A pack of which a third is needed by the one snapshot that is left.
fn half_dead(fixture: &Fixture) -> (SnapshotName, Snapshot) {
    fixture.write("a", &noise(1, 500_000));
    fixture.write("stays", &noise(2, 300_000));
    fixture.create();
    let first = fixture.test.repository.snapshot_names().unwrap().remove(0);
    fixture.write("a", &noise(3, 500_000));
    fixture.create();
    fixture.test.repository.remove_snapshot(&first).unwrap();
    one(fixture)
}

/// The one snapshot there is, as it was written.
fn one(fixture: &Fixture) -> (SnapshotName, Snapshot) {
    let (name, read) = fixture.test.repository.documents().unwrap().remove(0);
    (name, read.unwrap())
}

fn prune_by(repository: &Repository, options: &PruneOptions) -> PruneReport {
    prune(repository, options, &Progress::new(), &Shutdown::new()).unwrap()
}

fn repacked(fixture: &Fixture) -> PruneReport {
    run(fixture, &EVERYTHING).unwrap()
}

/// What a run would store that knows nothing but the repository.
fn added_by_another_run(fixture: &Fixture) -> u64 {
    let options = crate::create::CreateOptions { cache: None, ..fixture.options() };
    fixture.create_with(options).unwrap().snapshot.stats.bytes_added
}

fn is_there(fixture: &Fixture, pack: &PackId) -> bool {
    fixture.test.repository.stored_packs().unwrap().contains_key(pack)
}

/// The pack that no longer is one from which the snapshot is read.
fn replaced(fixture: &Fixture, name: &SnapshotName, written: &Snapshot) -> PackId {
    let now = fixture.test.repository.snapshot(name).unwrap();
    let mut gone = written.packs.iter().filter(|pack| !now.packs.contains(pack));
    *gone.next().expect("nothing was stored anew")
}

#[test]
fn what_is_needed_of_a_pack_is_stored_anew_and_the_old_one_goes_later() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    let dry = run(&fixture, &PruneOptions { dry_run: true, ..EVERYTHING }).unwrap();
    let report = repacked(&fixture);
    assert_eq!((dry.repacked, dry.unused), (report.repacked, report.unused));
    assert_eq!((report.repacking, report.repacked.packs), (Repacking::Done, 1));
    assert!(report.repacked.bytes > 800_000 && report.unused > 500_000, "{report:?}");
    assert!((300_000..320_000).contains(&report.rewritten.bytes), "{report:?}");
    assert!((300_000..320_000).contains(&dry.rewritten.bytes), "{dry:?}");
    // The document is what it was; it is read from elsewhere.
    assert_eq!(one(&fixture), (name.clone(), written.clone()));
    let old = replaced(&fixture, &name, &written);
    let text = fs::read_to_string(fixture.test.path().join("repo.json")).unwrap();
    assert_eq!(text.matches("\"moved\"").count(), 2);
    assert_sound(&fixture);
    assert_eq!(added_by_another_run(&fixture), 0);
    assert_eq!(repacked(&fixture).repacked.packs, 0);

    // Backups that are at work may refer to the old one.
    assert_eq!(pruned(&fixture).marked.packs, 0);
    pass(&fixture, DAY);
    let marked = pruned(&fixture);
    assert!(marked.marked.bytes > 800_000, "{marked:?}");
    assert!(is_there(&fixture, &old));
    pass(&fixture, DAY);
    pruned(&fixture);
    assert!(!is_there(&fixture, &old));
    assert_sound(&fixture);
    let now = fixture.test.repository.snapshot(&name).unwrap();
    assert_eq!(fixture.content(&now, "stays"), noise(2, 300_000));
    assert_eq!(fixture.content(&now, "a"), noise(3, 500_000));
    assert_eq!(added_by_another_run(&fixture), 0);
}

#[test]
fn a_dry_run_of_it_changes_no_object() {
    let fixture = Fixture::new();
    half_dead(&fixture);
    let before = fixture.test.repository.store().list("").unwrap();
    let dry = run(&fixture, &PruneOptions { dry_run: true, ..EVERYTHING }).unwrap();
    assert_eq!(dry.repacked.packs, 1);
    assert_eq!(fixture.test.repository.store().list("").unwrap(), before);
}

#[test]
fn limits_of_what_may_be_unused_and_of_what_is_stored_anew_are_kept() {
    let fixture = Fixture::new();
    half_dead(&fixture);
    let by = |max_unused: &str, bytes_max| PruneOptions {
        repack: RepackRules { max_unused: max_unused.parse().unwrap(), bytes_max },
        ..OPTIONS
    };
    for options in [by("99%", None), by("1MB", None), by("0", Some(700_000)), by("unlimited", None)]
    {
        assert_eq!(run(&fixture, &options).unwrap().repacked.packs, 0, "{options:?}");
    }
    assert_eq!(fixture.test.objects("moved/").len(), 0);
    assert_eq!(run(&fixture, &by("5%", Some(1_000_000))).unwrap().repacked.packs, 1);
}

#[test]
fn whoever_cannot_read_an_encrypted_repository_leaves_packs_whole() {
    let fixture = Fixture::encrypted();
    let (name, written) = half_dead(&fixture);
    let sidecar = repacked(&fixture);
    assert_eq!((sidecar.repacking, sidecar.repacked.packs), (Repacking::NoIdentity, 0));
    let owner = fixture.test.readable();
    let reader = crate::keys::KeyRing { key_file: None, ..owner.ring() };
    let reader = fixture.test.open_with(reader).unwrap();
    assert_eq!(prune_by(&reader, &EVERYTHING).repacking, Repacking::NoKeyFile);
    // Beside the key file it would store what it does not read: the rest is done nevertheless.
    let identities = crate::keys::identity::Identities::generate();
    let ring = crate::keys::KeyRing { identities, ..fixture.test.repository.ring() };
    let former = fixture.test.open_with(ring).unwrap();
    let report = prune_by(&former, &EVERYTHING);
    assert_eq!((report.repacking, report.repacked.packs), (Repacking::OtherIdentity, 0));
    let mut said = Vec::new();
    write_text(&report, &mut said).unwrap();
    assert!(String::from_utf8(said).unwrap().contains("one of its recipients"));
    assert_eq!(fixture.test.objects("moved/").len(), 0);
    let report = prune_by(&owner, &EVERYTHING);
    assert_eq!((report.repacking, report.repacked.packs), (Repacking::Done, 1));
    // A list that names other snapshots than it was sealed for would do harm.
    let moved = fixture.test.objects("moved/").remove(0);
    assert!(fs::read(&moved).unwrap().starts_with(b"CHORESEN"));
    // The sidecar does the rest, and saves beside it.
    let sidecar = fixture.test.open_with(fixture.test.repository.ring()).unwrap();
    for _ in 0..3 {
        prune_by(&sidecar, &EVERYTHING);
        pass(&fixture, DAY);
    }
    let owner = fixture.test.readable();
    let old = written.packs.iter().find(|id| !owner.snapshot(&name).unwrap().packs.contains(id));
    assert!(!owner.stored_packs().unwrap().contains_key(old.unwrap()));
    let options = CheckOptions { read_data: Some("100".parse().unwrap()), rotation: 0, threads: 2 };
    let report = check(&owner, &options, &Progress::new(), &Shutdown::new()).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(added_by_another_run(&fixture), 0);
}

#[test]
fn packs_for_former_recipients_are_not_opened_to_those_of_today() {
    let fixture = Fixture::encrypted();
    half_dead(&fixture);
    let more = crate::keys::identity::Identities::generate();
    let added = crate::keys::recipient::Recipients::parse(
        more.public().collect::<Vec<_>>().iter().map(String::as_str),
    );
    let change = crate::repository::KeyChange::Add(added.unwrap());
    let keys = fixture.test.repository.change_keys(change, Box::new(|_| Ok(()))).unwrap();
    let ring = crate::keys::KeyRing {
        key_file: Some(keys),
        identities: fixture.test.identities.clone(),
        passphrase: None,
    };
    let owner = fixture.test.open_with(ring).unwrap();
    let report = prune_by(&owner, &EVERYTHING);
    assert_eq!((report.repacking, report.repacked.packs), (Repacking::Done, 0));
    assert!(report.unused > 500_000, "{report:?}");
}

#[test]
fn a_backup_that_still_refers_to_the_old_pack_keeps_it() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    repacked(&fixture);
    let old = replaced(&fixture, &name, &written);
    // One that had begun before.
    let late = Snapshot { time: written.time + jiff::SignedDuration::from_secs(5), ..written };
    let (late_name, _) = commit(&fixture.test.repository, late).unwrap();
    for _ in 0..4 {
        pass(&fixture, DAY);
        repacked(&fixture);
        assert_sound(&fixture);
    }
    let late = fixture.test.repository.snapshot(&late_name).unwrap();
    assert_eq!(fixture.content(&late, "stays"), noise(2, 300_000));
    // The next prune moved what it needs.
    assert!(!is_there(&fixture, &old));
    fixture.test.repository.remove_snapshot(&name).unwrap();
    for _ in 0..3 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    let now = fixture.test.repository.snapshot(&late_name).unwrap();
    assert_eq!(fixture.content(&now, "stays"), noise(2, 300_000));
    assert_sound(&fixture);
}

#[test]
fn new_packs_that_a_prune_marked_which_stood_still_cost_nobody_the_old_ones() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    let index = fixture.test.objects("index/");
    let index: Vec<_> = index.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    repacked(&fixture);
    let old = replaced(&fixture, &name, &written);
    let now = fixture.test.repository.snapshot(&name).unwrap();
    let new = now.packs.iter().filter(|pack| !written.packs.contains(pack));
    let new: Vec<_> = new.copied().collect();
    // They had been marked before the move was written, so the index was left as it was.
    let (key, bytes) = mark::encode(&new, jiff::Timestamp::now(), fixture.test.repository.key());
    fixture.test.repository.store().put(&key, bytes).unwrap();
    index.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    for _ in 0..4 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    assert!(is_there(&fixture, &old), "what replaces it is marked");
    assert!(new.iter().all(|pack| is_there(&fixture, pack)), "a move names it");
    // The other prune goes on, and deletes what it had marked.
    for pack in &new {
        fs::remove_file(fixture.test.path().join(pack.key())).unwrap();
    }
    assert_eq!(fixture.content(&now, "stays"), noise(2, 300_000));
    for _ in 0..4 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    assert!(is_there(&fixture, &old));
    assert_eq!(fixture.test.objects("moved/").len(), 1, "nobody can tell that none relied on it");
    assert_sound(&fixture);
    let again = fixture.test.repository.snapshot(&name).unwrap();
    assert_eq!(again, written);
    assert_eq!(fixture.content(&again, "stays"), noise(2, 300_000));
    // That it came to nothing hinders nobody: the next way is another one, and readers take that.
    assert_eq!(repacked(&fixture).repacked.packs, 1);
    for _ in 0..3 {
        pass(&fixture, DAY);
        repacked(&fixture);
    }
    assert!(!is_there(&fixture, &old));
    assert_sound(&fixture);
    let again = fixture.test.repository.snapshot(&name).unwrap();
    assert_eq!(fixture.content(&again, "stays"), noise(2, 300_000));
    assert_eq!(added_by_another_run(&fixture), 0);
}

#[test]
fn a_move_stays_with_its_snapshot_whatever_is_seen_of_its_packs() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    repacked(&fixture);
    let old = replaced(&fixture, &name, &written);
    let now = fixture.test.repository.snapshot(&name).unwrap();
    let new = now.packs.iter().filter(|pack| !written.packs.contains(pack));
    let new: Vec<_> = new.map(|pack| fixture.test.path().join(pack.key())).collect();
    let index = fixture.test.objects("index/");
    let index: Vec<_> = index.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    // As a prune sees it that has listed the packs before the move was made, and reads the moves behind it.
    let aside =
        |path: &std::path::PathBuf| fixture.test.temp.path().join(path.file_name().unwrap());
    new.iter().for_each(|path| fs::rename(path, aside(path)).unwrap());
    pass(&fixture, 3 * DAY);
    pruned(&fixture);
    new.iter().for_each(|path| fs::rename(aside(path), path).unwrap());
    index.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    assert_eq!(fixture.test.objects("moved/").len(), 1);
    // Others rely on it.
    for _ in 0..3 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    assert!(!is_there(&fixture, &old));
    assert_sound(&fixture);
    let now = fixture.test.repository.snapshot(&name).unwrap();
    assert_eq!(fixture.content(&now, "stays"), noise(2, 300_000));
}

#[test]
fn once_the_old_pack_is_gone_its_replacement_stays_even_when_it_is_marked() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    repacked(&fixture);
    let old = replaced(&fixture, &name, &written);
    for _ in 0..3 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    assert!(!is_there(&fixture, &old));
    let now = fixture.test.repository.snapshot(&name).unwrap();
    let repository = &fixture.test.repository;
    let (key, bytes) = mark::encode(&now.packs, jiff::Timestamp::now(), repository.key());
    repository.store().put(&key, bytes).unwrap();
    for _ in 0..3 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    assert_sound(&fixture);
    assert_eq!(fixture.content(&now, "stays"), noise(2, 300_000));
}

#[test]
fn a_pack_in_which_something_is_damaged_is_left_as_it_is() {
    let fixture = Fixture::new();
    let (_, written) = half_dead(&fixture);
    let largest = written
        .packs
        .iter()
        .max_by_key(|id| fs::metadata(fixture.test.path().join(id.key())).unwrap().len());
    // In what is needed of it, which lies behind the rest.
    let path = fixture.test.path().join(largest.unwrap().key());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 4 * 3;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let report = repacked(&fixture);
    assert_eq!((report.repacked.packs, report.damaged), (0, 1));
    assert!(report.needs_a_look());
    assert_eq!(fixture.test.objects("moved/").len(), 0);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_a_snapshot_needs_whose_tree_cannot_be_read_is_left_where_it_is() {
    let fixture = Fixture::new();
    let (_, written) = half_dead(&fixture);
    let root = crate::chunk::ChunkId([9; 16]);
    let tree = crate::snapshot::TreeRoot { root, ..written.tree };
    fixture.test.repository.put_snapshot(&Snapshot { tree, ..written }).unwrap();
    let report = repacked(&fixture);
    assert_eq!((report.repacked.packs, report.unread), (0, 1));
    assert!(report.unused > 500_000 && report.needs_a_look(), "{report:?}");
    let mut said = Vec::new();
    write_text(&report, &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("1 snapshots have trees that cannot be read"), "{said}");
}

#[test]
fn while_a_list_of_moves_cannot_be_read_nothing_is_deleted_or_forgotten() {
    let fixture = Fixture::new();
    let (name, written) = half_dead(&fixture);
    repacked(&fixture);
    let path = fixture.test.objects("moved/").remove(0);
    let text = fs::read(&path).unwrap();
    let mut bad = text.clone();
    bad[40] ^= 1;
    fs::write(&path, &bad).unwrap();
    let error = run(&fixture, &EVERYTHING).unwrap_err();
    assert!(matches!(error, PruneError::Repository(RepositoryError::Damaged(_))), "{error}");
    let wanted = crate::forget::Wanted::ByRules(crate::forget::decide::Policy {
        last: 1,
        ..Default::default()
    });
    let options = crate::forget::ForgetOptions {
        wanted,
        name: None,
        host: None,
        tags: Default::default(),
        node: None,
        dry_run: false,
    };
    let now = jiff::Timestamp::now();
    crate::forget::forget(&fixture.test.repository, &options, now, &Shutdown::new()).unwrap_err();
    // Readers find what they need by the indexes, and a check tells.
    assert_eq!(fixture.content(&written, "stays"), noise(2, 300_000));
    let options = CheckOptions { read_data: None, rotation: 0, threads: 1 };
    let report =
        check(&fixture.test.repository, &options, &Progress::new(), &Shutdown::new()).unwrap();
    assert!(report.problems.iter().any(|problem| problem.object.starts_with("moved/")));
    fs::write(&path, text).unwrap();
    assert_sound(&fixture);
    replaced(&fixture, &name, &written);
}

#[test]
fn only_whole_snapshots_count_for_forget_wherever_their_content_is() {
    let fixture = Fixture::new();
    half_dead(&fixture);
    repacked(&fixture);
    for _ in 0..3 {
        pass(&fixture, DAY);
        pruned(&fixture);
    }
    let documents = fixture.test.repository.documents().unwrap();
    let documents: Vec<_> =
        documents.into_iter().map(|(name, read)| (name, read.unwrap())).collect();
    let standings = crate::forget::standings(&fixture.test.repository, &documents).unwrap();
    assert_eq!(standings, [crate::forget::decide::Standing::Proved]);
}

#[test]
fn lists_of_moves_go_with_their_snapshots_and_many_become_one() {
    let fixture = Fixture::new();
    let (name, _) = half_dead(&fixture);
    let repository = &fixture.test.repository;
    repository.announce_moves().unwrap();
    let pack = |number: u8| PackId(crate::chunk::ChunkId([number; 16]));
    for number in 0..20 {
        let packs = [(pack(number), [pack(number + 100)].into())].into();
        repository.put_moves(&[Move { snapshots: [name.id].into(), packs }]).unwrap();
    }
    assert_eq!(fixture.test.objects("moved/").len(), 20);
    pruned(&fixture);
    let moves = repository.moves().unwrap();
    assert_eq!(moves.objects().len(), 1);
    assert_eq!(moves.objects()[0].moves.len(), 20);
    assert_eq!(moves.followed(name.id, &[pack(7)], &|_| true), [pack(107)]);
    pruned(&fixture);
    assert_eq!(repository.moves().unwrap().objects(), moves.objects());

    fixture.create();
    repository.remove_snapshot(&name).unwrap();
    pruned(&fixture);
    assert_eq!(fixture.test.objects("moved/").len(), 0);
}
