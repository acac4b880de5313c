use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::entry::{Entry, Kind};
use crate::reader::ChunkReader;
use crate::repository::tests::TestRepository;
use crate::tree::TreeReader;

/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A repository and a source directory beside it.
pub(crate) struct Fixture {
    pub(crate) test: TestRepository,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let test = TestRepository::new();
        fs::create_dir(test.temp.path().join("source")).unwrap();
        Self { test }
    }

    /// With an encrypted repository that cannot be read.
    pub(crate) fn encrypted() -> Self {
        let test = TestRepository::encrypted();
        fs::create_dir(test.temp.path().join("source")).unwrap();
        Self { test }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.test.temp.path().join("source")
    }

    /// Writes a file of the source whose times are long past, so that the cache takes it.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn options(&self) -> CreateOptions {
        self.options_of(&[&self.source()])
    }

    pub(crate) fn options_of(&self, paths: &[&Path]) -> CreateOptions {
        let mut roots: Vec<_> = paths.iter().map(|path| SourceRoot::open(path).unwrap()).collect();
        roots.sort_by(|a, b| tree_order(a.path(), b.path()));
        let sources = roots
            .iter()
            .map(|root| Source { path: display_path(root.path()), volume: None })
            .collect();
        CreateOptions {
            name: "test".to_owned(),
            tags: BTreeMap::new(),
            host: "host".to_owned(),
            // Later than everything the tests write: nothing is racy.
            time: jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60),
            roots,
            sources,
            container: None,
            provenance: Provenance::default(),
            dumps: Vec::new(),
            walk: WalkOptions { threads: 2, ..WalkOptions::default() },
            level: 1,
            threads: 3,
            uploads: 2,
            cache: Some(self.test.temp.path().join("cache")),
            read_all: false,
            allow_change: false,
            dry_run: false,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn create(&self) -> Snapshot {
        self.create_with(self.options()).unwrap().snapshot
    }

    pub(crate) fn create_with(&self, options: CreateOptions) -> Result<CreateReport, CreateError> {
        self.create_under(options, &Shutdown::new())
    }

    /// Fails the test when the run does not end.
    fn create_under(
        &self,
        options: CreateOptions,
        shutdown: &Shutdown,
    ) -> Result<CreateReport, CreateError> {
        let (repository, shutdown) = (self.test.repository.clone(), shutdown.clone());
        let (done, outcome) = mpsc::channel();
        thread::spawn(move || {
            let report = create(&repository, &options, &Progress::new(), &shutdown);
            done.send(report).unwrap();
        });
        outcome.recv_timeout(DEADLINE).expect("the run hangs or panicked")
    }

    pub(crate) fn entries(&self, snapshot: &Snapshot) -> Vec<Entry> {
        let repository = &self.test.repository;
        let (index, unreadable) = repository.index_for_reading([snapshot]).unwrap();
        assert!(unreadable.is_empty());
        let reader = ChunkReader::new(repository, &index).unwrap();
        let mut tree = TreeReader::new(&snapshot.tree, reader);
        std::iter::from_fn(|| tree.next_entry().unwrap()).collect()
    }

    /// The entry of a path of the source.
    fn entry(&self, snapshot: &Snapshot, name: &str) -> Option<Entry> {
        let wanted = format!("/{name}");
        self.entries(snapshot).into_iter().find(|entry| entry.path.ends_with(wanted.as_bytes()))
    }

    pub(crate) fn content(&self, snapshot: &Snapshot, name: &str) -> Vec<u8> {
        let entry = self.entry(snapshot, name).unwrap();
        let Kind::File(content) = &entry.kind else { panic!("{entry:?}") };
        let repository = &self.test.repository;
        let (index, _) = repository.index_for_reading([snapshot]).unwrap();
        let mut reader = ChunkReader::new(repository, &index).unwrap();
        let mut bytes = Vec::new();
        for extent in &content.extents {
            match extent {
                crate::entry::Extent::Chunk(id) => bytes.extend(reader.chunk(id).unwrap()),
                crate::entry::Extent::Hole(length) => {
                    bytes.resize(bytes.len() + usize::try_from(*length).unwrap(), 0);
                }
            }
        }
        assert_eq!(bytes.len() as u64, content.size);
        bytes
    }

    fn snapshots(&self) -> usize {
        self.test.repository.snapshot_names().unwrap().len()
    }
}

/// Bytes that neither compress nor repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(&mut next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

#[test]
fn an_empty_source_is_one_entry_and_flagged() {
    let fixture = Fixture::new();
    let snapshot = fixture.create();
    assert_eq!(snapshot.state, State::Warnings);
    assert_eq!((snapshot.tree.entries, snapshot.stats.directories), (1, 1));
    assert_eq!(fixture.entries(&snapshot).len(), 1);
}

#[test]
fn many_small_files_come_back_in_tree_order() {
    let fixture = Fixture::new();
    for number in 0..3000 {
        fixture.write(&format!("d{}/{number}", number % 7), format!("{number}").as_bytes());
    }
    let snapshot = fixture.create();
    let entries = fixture.entries(&snapshot);
    assert_eq!(entries.len(), 3008);
    assert!(entries.is_sorted_by(|a, b| tree_order(&a.path, &b.path).is_lt()));
    assert_eq!(fixture.content(&snapshot, "d3/2999"), b"2999");
    assert_eq!(snapshot.stats.files, 3000);
}

#[test]
fn a_large_file_shared_by_threads_is_the_same_as_read_by_one() {
    let fixture = Fixture::new();
    let content = noise(1, 40 << 20);
    fixture.write("large", &content);
    let shared = fixture.create();
    assert_eq!(fixture.content(&shared, "large"), content);
    assert!(shared.stats.bytes_stored > 40 << 20);

    let alone = fixture.create_with(CreateOptions {
        threads: 1,
        uploads: 1,
        cache: None,
        ..fixture.options()
    });
    let alone = alone.unwrap().snapshot;
    assert_eq!(alone.tree, shared.tree);
    assert_eq!(alone.stats.bytes_added, 0);
    assert_eq!(alone.stats.bytes_read, 40 << 20);
}

#[test]
fn an_unchanged_repeat_stores_nothing_and_reads_nothing() {
    let fixture = Fixture::new();
    fixture.write("a", b"one");
    fixture.write("deep/b", &noise(2, 3 << 20));
    symlink("a", fixture.source().join("link")).unwrap();
    let first = fixture.create();
    let objects = fixture.test.objects("packs/");
    let second = fixture.create();
    assert_eq!(second.tree, first.tree);
    assert_eq!((second.stats.bytes_read, second.stats.bytes_stored), (0, 0));
    assert_eq!(second.stats.files_unchanged, 2);
    assert_eq!(second.packs, first.packs);
    assert_eq!(fixture.test.objects("packs/"), objects);
    assert_eq!(fixture.snapshots(), 2);
}

#[test]
fn a_file_with_a_new_time_only_is_read_and_adds_no_content() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(3, 100_000));
    fixture.create();
    let file = fs::File::options().write(true).open(fixture.source().join("a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let second = fixture.create();
    assert_eq!(second.stats.bytes_read, 100_000);
    assert!(second.stats.bytes_added < 10_000, "{:?}", second.stats);
    assert_eq!(fixture.entry(&second, "a").unwrap().mtime.seconds, 1);
}

#[test]
fn hard_links_survive_every_mix_of_cached_and_changed_names() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let at = |name: &str| fixture.source().join(name);
    fs::hard_link(at("a"), at("m")).unwrap();
    fs::hard_link(at("a"), at("z")).unwrap();
    let check = |snapshot: &Snapshot, names: &[&str]| {
        let first = fixture.entry(snapshot, names[0]).unwrap();
        assert_eq!(first.hardlink_of, None);
        for name in &names[1..] {
            let entry = fixture.entry(snapshot, name).unwrap();
            assert_eq!(entry.hardlink_of.as_deref(), Some(first.path.as_slice()), "{name}");
            assert_eq!(entry.kind, first.kind);
        }
    };
    check(&fixture.create(), &["a", "m", "z"]);
    check(&fixture.create(), &["a", "m", "z"]);
    // The first name goes: the cached records of the others name a path that is no more.
    fs::remove_file(at("a")).unwrap();
    check(&fixture.create(), &["m", "z"]);
    check(&fixture.create(), &["m", "z"]);
    // A name before all others comes.
    fs::hard_link(at("z"), at("0")).unwrap();
    check(&fixture.create(), &["0", "m", "z"]);
    fs::write(at("m"), "other content").unwrap();
    let changed = fixture.create();
    check(&changed, &["0", "m", "z"]);
    assert_eq!(fixture.content(&changed, "z"), b"other content");
    // One name becomes a file of its own.
    fs::remove_file(at("0")).unwrap();
    fs::write(at("0"), "alone").unwrap();
    let split = fixture.create();
    check(&split, &["m", "z"]);
    assert_eq!(fixture.entry(&split, "0").unwrap().hardlink_of, None);
}

#[test]
fn the_cache_of_another_repository_is_not_used() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    fixture.create();
    let other = TestRepository::new();
    let options = fixture.options();
    let report = create(&other.repository, &options, &Progress::new(), &Shutdown::new()).unwrap();
    assert_eq!(report.snapshot.stats.files_unchanged, 0);
    assert_eq!(report.snapshot.stats.bytes_read, 7);
}

#[test]
fn a_cached_file_whose_chunks_are_gone_is_read_and_stored_again() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    fixture.create();
    for object in fixture.test.objects("index/").into_iter().chain(fixture.test.objects("packs/")) {
        fs::remove_file(object).unwrap();
    }
    let second = fixture.create();
    assert_eq!(second.stats.bytes_read, 7);
    assert_eq!(fixture.content(&second, "a"), b"content");
}

#[test]
fn an_interrupted_run_makes_no_snapshot() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let shutdown = Shutdown::new();
    shutdown.request();
    let error = fixture.create_under(fixture.options(), &shutdown).unwrap_err();
    assert!(matches!(error, CreateError::Interrupted), "{error}");
    assert_eq!(fixture.snapshots(), 0);
}

#[test]
fn a_run_interrupted_in_its_last_file_indexes_its_packs_for_the_next() {
    let fixture = Fixture::new();
    // The walk is over long before these are read.
    fixture.write("large", &noise(4, 100 << 20));
    let shutdown = Shutdown::new();
    let interrupter = thread::spawn({
        let (shutdown, packs) = (shutdown.clone(), fixture.test.path().join("packs"));
        move || {
            let found = || {
                let directories = fs::read_dir(&packs).into_iter().flatten().flatten();
                directories
                    .flat_map(|directory| fs::read_dir(directory.path()).into_iter().flatten())
                    .flatten()
                    .any(|object| object.path().extension().is_some_and(|end| end == "zst"))
            };
            while !found() {
                thread::yield_now();
            }
            shutdown.request();
        }
    });
    let error = fixture.create_under(fixture.options(), &shutdown).unwrap_err();
    interrupter.join().unwrap();
    assert!(matches!(error, CreateError::Interrupted), "{error}");
    assert_eq!(fixture.snapshots(), 0);
    let packs = fixture.test.repository.index_objects().unwrap().packs;
    assert_eq!(packs.len(), fixture.test.objects("packs/").len());
    let next = fixture.create();
    // The first pack of an empty repository has few pieces.
    assert!(next.stats.bytes_added < 100 << 20, "{:?}", next.stats);
}

#[test]
fn a_store_that_fails_in_the_middle_ends_the_run_without_a_snapshot() {
    for threads in [1, 4] {
        let fixture = Fixture::new();
        fixture.write("large", &noise(5, 60 << 20));
        for number in 0..200 {
            fixture.write(&format!("small/{number}"), &noise(1000 + number, 50_000));
        }
        // A file stands where the packs should go.
        fs::write(fixture.test.path().join("packs"), "in the way").unwrap();
        let options = CreateOptions { threads, uploads: threads, ..fixture.options() };
        let error = fixture.create_with(options).unwrap_err();
        assert!(matches!(error, CreateError::Repository(_)), "{error}");
        assert_eq!(fixture.snapshots(), 0);
        fs::remove_file(fixture.test.path().join("packs")).unwrap();
        assert_eq!(fixture.create().state, State::Complete);
    }
}

#[test]
fn an_index_that_cannot_be_written_ends_the_run_without_a_snapshot() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    fs::write(fixture.test.path().join("index"), "in the way").unwrap();
    fixture.create_with(fixture.options()).unwrap_err();
    assert_eq!(fixture.snapshots(), 0);
}

#[test]
fn a_dry_run_writes_nothing() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(7, 20 << 20));
    let options = CreateOptions { dry_run: true, ..fixture.options() };
    let report = fixture.create_with(options).unwrap();
    assert!(report.name.is_none());
    assert_eq!(report.snapshot.stats.bytes_added >> 20, 20);
    let objects = fixture.test.repository.store().list("").unwrap();
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert!(!fixture.test.temp.path().join("cache").exists());
}

#[test]
fn two_runs_at_once_into_one_repository_both_give_whole_snapshots() {
    let fixture = Fixture::new();
    for number in 0..300 {
        fixture.write(&format!("{number}"), &noise(number, 100_000));
    }
    let snapshots: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| fixture.create())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for snapshot in &snapshots {
        assert_eq!(snapshot.state, State::Complete);
        for number in [0_u64, 150, 299] {
            let content = fixture.content(snapshot, &number.to_string());
            assert_eq!(content, noise(number, 100_000));
        }
    }
    assert_eq!(fixture.create().stats.bytes_added, 0);
}

#[test]
fn a_damaged_index_object_costs_nothing_but_storing_again() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(8, 500_000));
    let first = fixture.create();
    let index = fixture.test.objects("index/").remove(0);
    fs::write(&index, "CHORESIX").unwrap();
    assert_eq!(fixture.content(&first, "a"), noise(8, 500_000));
    let second = fixture.create();
    assert_eq!(second.state, State::Complete);
    assert_eq!(second.stats.bytes_read, 500_000);
    // Longer than any index may be: sparse, so it costs no space here.
    fs::File::options().write(true).open(&index).unwrap().set_len(65 << 20).unwrap();
    assert_eq!(fixture.create().state, State::Complete);
}

#[test]
fn a_pack_marked_for_removal_is_not_referred_to() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let first = fixture.create();
    let marks = fixture.test.path().join("marks");
    fs::create_dir_all(&marks).unwrap();
    let packs: Vec<_> = first.packs.iter().map(|pack| format!("\"{pack}\"")).collect();
    let mark = format!("{{\"version\":1,\"packs\":[{}]}}", packs.join(","));
    fs::write(marks.join("m.json"), mark).unwrap();
    // The same bytes, in packs of other names.
    let second = fixture.create();
    assert!(first.packs.iter().all(|pack| !second.packs.contains(pack)));
    assert_eq!(fixture.content(&second, "a"), b"content");
}

#[test]
fn holes_are_recorded_and_not_stored() {
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.source().join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 32 << 20).unwrap();
    let snapshot = fixture.create();
    assert!(snapshot.stats.bytes_read <= 1 << 20, "{:?}", snapshot.stats);
    assert_eq!(snapshot.stats.bytes, 64 << 20);
    let content = fixture.content(&snapshot, "sparse");
    assert_eq!(&content[32 << 20..][..4], b"data");
}

#[test]
fn modes_and_owners_of_the_source_itself_are_saved() {
    let fixture = Fixture::new();
    fs::set_permissions(fixture.source(), fs::Permissions::from_mode(0o2750)).unwrap();
    let snapshot = fixture.create();
    let root = fixture.entries(&snapshot).remove(0);
    let stat = fs::metadata(fixture.source()).unwrap();
    assert_eq!((root.mode, root.uid, root.gid), (0o2750, stat.uid(), stat.gid()));
}

#[test]
fn who_cannot_read_saves_and_its_encrypted_cache_spares_the_next_reading() {
    let fixture = Fixture::encrypted();
    fixture.write("a-telling-name", b"content");
    fixture.write("large", &vec![7; 3 << 20]);
    let first = fixture.create();
    assert_eq!((first.stats.files, first.stats.files_unchanged), (2, 0));
    let again = fixture.create();
    assert_eq!((again.stats.files_unchanged, again.stats.bytes_read), (2, 0));
    assert_eq!(again.tree, first.tree);
    let repository = fixture.test.readable();
    let (_, snapshot) = repository.select(&snapshot::Selector::Latest).unwrap();
    let (index, _) = repository.index_for_reading([&snapshot]).unwrap();
    let reader = ChunkReader::new(&repository, &index).unwrap();
    let mut tree = TreeReader::new(&snapshot.tree, reader);
    let mut names = 0;
    while let Some(entry) = tree.next_entry().unwrap() {
        names += usize::from(entry.display_path().ends_with("a-telling-name"));
    }
    assert_eq!(names, 1);
}

#[test]
fn what_a_prune_marked_meanwhile_ends_a_run_that_cannot_read_and_leaves_no_snapshot() {
    let fixture = Fixture::encrypted();
    fixture.write("file", b"content");
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let mut again = first.clone();
    again.time = jiff::Timestamp::now();
    let (key, bytes) = crate::mark::encode(&first.packs, jiff::Timestamp::now(), repository.key());
    repository.store().put(&key, bytes).unwrap();
    let before = repository.snapshot_names().unwrap();
    let error = commit(repository, again.clone()).unwrap_err();
    assert!(matches!(error, CreateError::MarkedSealed(_)), "{error}");
    assert_eq!(repository.snapshot_names().unwrap(), before);
    // Who can read stores them anew.
    commit(&fixture.test.readable(), again).unwrap();
}

/// The packs with content, in the order in which a listing has them.
fn content_packs(fixture: &Fixture, snapshot: &Snapshot) -> Vec<crate::pack::PackId> {
    let packs = fixture.test.repository.index_objects().unwrap().packs;
    let content = packs.iter().filter(|pack| pack.index.kind == PackKind::Data);
    content.map(|pack| pack.id).filter(|id| snapshot.packs.contains(id)).collect()
}

#[test]
fn what_changed_again_after_a_short_time_lies_apart_from_what_did_not() {
    let fixture = Fixture::new();
    let aged = |name: &str, seed: u64, days: u64| {
        fixture.write(name, &noise(seed, 50_000));
        let file = fs::File::options().write(true).open(fixture.source().join(name)).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        file.set_modified(time).unwrap();
    };
    aged("hot", 1, 1);
    aged("cold", 2, 30);
    let first = fixture.create();
    // Of the first run the files' times are all that is known.
    assert_eq!(content_packs(&fixture, &first).len(), 2);
    aged("hot", 3, 0);
    aged("cold", 4, 0);
    aged("new", 5, 0);
    let second = fixture.create();
    assert_eq!(content_packs(&fixture, &second).len(), 2);
    for (name, seed) in [("hot", 3), ("cold", 4), ("new", 5)] {
        assert_eq!(fixture.content(&second, name), noise(seed, 50_000));
    }
    assert_eq!(fixture.create().stats.bytes_stored, 0);
}

/// Pieces of a MiB.
const PIECES: u64 = 4;

/// From so many bytes on a repository has the longest packs.
const LARGE_BYTES: u64 = 1 << 30;

/// How many packs a run makes in a large repository of so many pieces of 256 KiB of each kind, the first to its end before the second.
fn packs_of(amounts: &[(packer::Lane, u64)]) -> usize {
    packed(&TestRepository::new(), LARGE_BYTES, amounts, |_| ()).0
}

/// The same of a repository that has so many bytes, and what `look` sees behind each piece, at most.
fn packed<T: Ord + Default>(
    test: &TestRepository,
    stored_bytes: u64,
    amounts: &[(packer::Lane, u64)],
    look: impl Fn(&Packer<'_>) -> T,
) -> (usize, T) {
    let mut most = T::default();
    let packs = with_packer(test, stored_bytes, |packer| {
        let mut stow = packer.stow(PackKind::Data).unwrap();
        let mut seed = 0;
        for (lane, pieces) in amounts {
            stow.go_to(*lane);
            for _ in 0..*pieces {
                seed += 1;
                stow.store(&piece(seed)).unwrap();
                most = look(packer).max(std::mem::take(&mut most));
            }
        }
        stow.finish().unwrap();
    });
    (packs, most)
}

fn piece(seed: u64) -> Vec<u8> {
    noise(seed, (1 << 20) / PIECES as usize)
}

/// How many packs are made of what `work` stores in a repository that has so many bytes.
fn with_packer(test: &TestRepository, stored_bytes: u64, work: impl FnOnce(&Packer<'_>)) -> usize {
    let index =
        crate::pack::PackIndex { kind: PackKind::Data, frames: Vec::new(), chunks: Vec::new() };
    let id = crate::pack::PackId(ChunkId([7; 16]));
    let all = crate::index::IndexedPack { id, bytes: stored_bytes, index, sealed_by: None };
    let index = Index::new(vec![all], &std::collections::HashSet::new());
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    let packer = Packer::new(&test.repository, &index, 1, true, &progress, &shutdown);
    thread::scope(|scope| {
        start_uploads(scope, &packer, 2);
        let _close = packer.close_on_drop();
        work(&packer);
        packer.close();
    });
    packer.finish().unwrap().packs.len()
}

#[test]
fn two_packs_that_are_filled_side_by_side_need_no_more_memory_the_more_is_stored() {
    use packer::Lane::{Cold, Hot};
    // A full pack is kept from before; then one piece of each, in turn.
    let mut amounts = vec![(Cold, 20 * PIECES)];
    amounts.extend([(Hot, 1), (Cold, 1)].repeat(60 * PIECES as usize));
    // One frame of each thread comes on top.
    let (packs, (open, spares)) = packed(&TestRepository::new(), LARGE_BYTES, &amounts, |packer| {
        (packer.open_bytes(), packer.spares())
    });
    assert!((8..20).contains(&packs), "{packs} packs");
    assert!(open <= packer::OPEN_BYTES_MAX + (1 << 20), "{open} bytes are open");
    assert!(spares <= 2, "memory of {spares} packs is kept");
}

#[test]
fn what_is_kept_of_packs_is_bounded_and_goes_when_two_are_filled() {
    use packer::Lane::{Cold, Hot};
    // The packs of a small repository are short at first, and where it is encrypted each waits for the next one.
    for (test, stored_bytes, mib) in [
        (TestRepository::new(), LARGE_BYTES, 80),
        (TestRepository::new(), 0, 20),
        (TestRepository::encrypted(), LARGE_BYTES, 40),
        (TestRepository::encrypted(), 0, 20),
    ] {
        let amounts = [(Cold, mib * PIECES)];
        let (_, spares) = packed(&test, stored_bytes, &amounts, |packer| packer.spares());
        assert!(spares <= 2, "memory of {spares} packs is kept");
    }
    let amounts = [(Hot, PIECES), (Cold, 60 * PIECES), (Hot, 20 * PIECES)];
    let (_, (_, spares)) = packed(&TestRepository::new(), LARGE_BYTES, &amounts, |packer| {
        (packer.open_bytes(), packer.spares())
    });
    assert_eq!(spares, 0);
}

#[test]
fn what_is_kept_of_packs_goes_when_there_are_long_trees_beside_them() {
    with_packer(&TestRepository::new(), LARGE_BYTES, |packer| {
        let mut content = packer.stow(PackKind::Data).unwrap();
        let mut trees = packer.stow(PackKind::Tree).unwrap();
        for seed in 0..40 * PIECES {
            content.store(&piece(seed)).unwrap();
        }
        for seed in 0..6 * PIECES {
            trees.store(&piece(1000 + seed)).unwrap();
        }
        assert_eq!(packer.spares(), 0);
        for seed in 0..40 * PIECES {
            content.store(&piece(2000 + seed)).unwrap();
            assert_eq!(packer.spares(), 0);
        }
        content.finish().unwrap();
        trees.finish().unwrap();
    });
}

#[test]
fn the_length_of_a_pack_never_tells_that_of_few_pieces_while_there_are_more() {
    use packer::Lane::{Cold, Hot};
    let packs_of = |amounts: &[(packer::Lane, u64)]| {
        packed(&TestRepository::encrypted(), LARGE_BYTES, amounts, |_| ()).0
    };
    // Whoever stays apart is padded.
    assert_eq!(packs_of(&[(Cold, 3), (Hot, 3)]), 2);
    assert_eq!(packs_of(&[(Cold, 12), (Hot, 1)]), 2);
    assert_eq!(packs_of(&[(Hot, 5)]), 1);
    let stored = |pieces: u64, length: usize| -> u64 {
        let fixture = Fixture::encrypted();
        for number in 0..pieces {
            fixture.write(&format!("{number}"), &noise(number, length));
        }
        let content = content_packs(&fixture, &fixture.create());
        let stored = fixture.test.repository.stored_packs().unwrap();
        content.iter().map(|pack| stored[pack]).sum()
    };
    let difference = |pieces| stored(pieces, 52_000).abs_diff(stored(pieces, 50_000));
    // The header of `age` has some random bytes.
    assert!(difference(1) < 500 && difference(3) < 500);
    assert!(difference(4) > 7000);
}

#[test]
fn no_more_is_stored_again_to_leave_packs_than_may_be() {
    use rewrite::{Fate, Fates};
    let test = TestRepository::new();
    let id = |number: u8| ChunkId([number; 16]);
    let place = |number: u8| crate::pack::ChunkPlace {
        id: id(number),
        frame: 0,
        offset: u32::from(number) * 1000,
        length: 1000,
    };
    let frames = vec![crate::pack::FramePlace { start: 0, stored: 4000, content: 4000 }];
    let chunks = (0..4).map(place).collect();
    let pack = crate::index::IndexedPack {
        id: crate::pack::PackId(id(7)),
        bytes: 4000,
        index: crate::pack::PackIndex { kind: PackKind::Data, frames, chunks },
        sealed_by: None,
    };
    let index = Index::new(vec![pack], &std::collections::HashSet::new());
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    let packer = |again_bytes_max| {
        let of_packs = vec![Fate::Left];
        let fates = Fates { of_packs, again_bytes_max, ..Fates::default() };
        let packer = Packer::new(&test.repository, &index, 1, true, &progress, &shutdown);
        packer.with_fates(fates)
    };
    let taken = |packer: &Packer<'_>| (0..4).filter(|number| packer.take(&id(*number))).count();
    assert_eq!(taken(&packer(0)), 0);
    assert_eq!(taken(&packer(2500)), 2);
    assert_eq!(taken(&packer(5000)), 4);
}

#[test]
fn what_has_to_be_read_each_time_is_not_stored_each_time() {
    let fixture = Fixture::encrypted();
    for number in 0..20 {
        fixture.write(&format!("much/{number}"), &noise(100 + number, 100_000));
    }
    fixture.create();
    let options = fixture.options();
    // A database: changed so short before the run that the cache cannot vouch for it.
    for number in 0..5 {
        let name = format!("database/{number}");
        fixture.write(&name, &noise(number, 50_000));
        let file = fs::File::options().write(true).open(fixture.source().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::from(options.time)).unwrap();
    }
    fixture.write("small", &noise(50, 1000));
    fixture.create_with(options).unwrap();
    let again = fixture.create().stats;
    assert_eq!((again.chunks_added, again.bytes_read), (0, 250_000));
}

#[test]
fn what_is_not_expected_to_stay_has_full_packs_unless_the_rest_needs_the_memory() {
    use packer::Lane::{Cold, Hot};
    let packs_of = |amounts: [(packer::Lane, u64); 2]| {
        packs_of(&amounts.map(|(lane, mib)| (lane, mib * PIECES)))
    };
    assert_eq!(packs_of([(Hot, 30), (Cold, 1)]), 3);
    assert_eq!(packs_of([(Cold, 15), (Hot, 3)]), 2);
    // Both together would have 23 MiB: what is not expected to stay makes two packs.
    assert_eq!(packs_of([(Cold, 15), (Hot, 8)]), 3);
    assert_eq!(packs_of([(Hot, 8), (Cold, 15)]), 3);
}

impl Fixture {
    /// As if all snapshots so far were of another program: nobody knows what they need.
    fn forget_history(&self) {
        let caches = self.test.temp.path().join("cache").join(self.test.repository.id());
        for file in fs::read_dir(caches).unwrap().map(Result::unwrap) {
            if file.path().extension().is_some_and(|end| end == "history") {
                fs::remove_file(file.path()).unwrap();
            }
        }
    }

    fn forget(&self, snapshot: &Snapshot) {
        let names = self.test.repository.snapshot_names().unwrap();
        let is_meant = |name: &&SnapshotName| {
            self.test.repository.snapshot(name).unwrap().packs == snapshot.packs
        };
        self.test.repository.remove_snapshot(names.iter().find(is_meant).unwrap()).unwrap();
    }
}

/// A volume with a pack of which ten files were stored at once, nine of which have changed since: what the two runs made.
fn with_an_old_pack(fixture: &Fixture) -> (Snapshot, Snapshot) {
    for number in 0..20 {
        fixture.write(&format!("much/{number}"), &noise(100 + number, 100_000));
    }
    fixture.create();
    for number in 0..10 {
        fixture.write(&format!("old/{number}"), &noise(number, 10_000));
    }
    let first = fixture.create();
    for number in 1..10 {
        fixture.write(&format!("old/{number}"), &noise(50 + number, 10_000));
    }
    (first, fixture.create())
}

#[test]
fn who_cannot_read_stores_again_the_little_that_is_needed_of_an_old_pack() {
    let fixture = Fixture::encrypted();
    let (first, third) = with_an_old_pack(&fixture);
    let old = content_packs(&fixture, &first);
    // What little the sources need is known from this run on.
    assert!(old.iter().all(|pack| third.packs.contains(pack)));
    fixture.forget_history();
    let fourth = fixture.create();
    assert_eq!(fourth.stats.bytes_read, 10_000);
    assert_eq!(fourth.stats.bytes_added, 10_000);
    let now = content_packs(&fixture, &fourth);
    assert_eq!(old.iter().filter(|pack| !now.contains(pack)).count(), 1);
    assert!(fixture.test.objects("moved/").is_empty());
    // And not again, though the old pack is there still.
    let fifth = fixture.create();
    assert_eq!((fifth.stats.bytes_read, fifth.stats.bytes_added), (0, 0));
    assert_eq!(fifth.packs, fourth.packs);
    // Another job would store it twice.
    let other =
        fixture.create_with(CreateOptions { name: "other".to_owned(), ..fixture.options() });
    assert_eq!(other.unwrap().snapshot.stats.bytes_added, 0);
}

#[test]
fn who_cannot_read_leaves_an_old_pack_once_the_sources_have_all_that_is_needed_of_it() {
    let fixture = Fixture::encrypted();
    let (first, third) = with_an_old_pack(&fixture);
    let old: Vec<_> = content_packs(&fixture, &first);
    // The first snapshot needs what no source has.
    let fourth = fixture.create();
    assert_eq!((fourth.stats.bytes_read, fourth.stats.bytes_added), (0, 0));
    fixture.forget(&first);
    // In a dry run nothing is announced, so nothing can be left.
    let dry = fixture.create_with(CreateOptions { dry_run: true, ..fixture.options() });
    assert_eq!(dry.unwrap().snapshot.stats.bytes_added, 0);
    assert!(fixture.test.objects("moved/").is_empty());
    let fifth = fixture.create();
    assert_eq!((fifth.stats.bytes_read, fifth.stats.bytes_added), (10_000, 10_000));
    assert_eq!(fixture.test.objects("moved/").len(), 1);
    // The snapshots before it are read from the new pack from now on, and the old one is needed by nobody.
    let left: Vec<_> = old.iter().filter(|pack| !fifth.packs.contains(pack)).collect();
    assert_eq!(left.len(), 1);
    let readable = fixture.test.readable();
    for (_, snapshot) in readable.snapshots().unwrap() {
        assert!(!snapshot.unwrap().packs.contains(left[0]));
    }
    assert!(third.packs.contains(left[0]));
    // Nothing is stored a third time, though the old pack is there still.
    let sixth = fixture.create();
    assert_eq!((sixth.stats.bytes_read, sixth.stats.bytes_added), (0, 0));
    assert_eq!(sixth.packs, fifth.packs);
}

#[test]
fn a_pack_stays_that_a_snapshot_names_of_which_nothing_is_known() {
    let fixture = Fixture::encrypted();
    let (first, _) = with_an_old_pack(&fixture);
    // One of the same volume that another machine made in between.
    let elsewhere = CreateOptions { cache: None, ..fixture.options() };
    fixture.create_with(elsewhere).unwrap();
    fixture.create();
    fixture.forget(&first);
    fixture.create();
    assert!(fixture.test.objects("moved/").is_empty());
}

#[test]
fn a_dump_that_lies_in_a_pack_that_is_left_is_saved_with_it() {
    let fixture = Fixture::encrypted();
    for number in 0..20 {
        fixture.write(&format!("much/{number}"), &noise(100 + number, 100_000));
    }
    // The database's file and its dump share a little.
    fixture.write("base", &noise(0, 20_000));
    let dump = || {
        let options = StreamOptions { level: 1, uploads: 2, time: jiff::Timestamp::UNIX_EPOCH };
        let (progress, shutdown) = (Progress::new(), Shutdown::new());
        let repository = &fixture.test.repository;
        let stored =
            store_streams(repository, &options, "/dump/db", &progress, &shutdown, |store| {
                for number in 0..10 {
                    store.write(&noise(number, 20_000))?;
                    store.end(&format!("part-{number}"), false)?;
                }
                Ok(())
            });
        let stored = stored.unwrap().1;
        let record = DumpRecord {
            kind: snapshot::DumpKind::Sqlite,
            path: "/dump/db".to_owned(),
            server: String::new(),
            container: None,
            databases: Vec::new(),
            files: Vec::new(),
            proof: Default::default(),
        };
        let (tree, entries) = (stored.tree, stored.entries);
        let dump = StoredDump { record, tree, warnings: Vec::new(), entries, entries_file: None };
        let options = CreateOptions { dumps: vec![dump], ..fixture.options() };
        (stored.packs, fixture.create_with(options).unwrap().snapshot)
    };
    let (packs, first) = dump();
    fixture.forget_history();
    let (_, second) = dump();
    // The pack was left for the file, which proves that the dump had to be taken from one that is.
    assert_eq!(second.stats.bytes_added, 20_000, "{:?}", second.stats);
    let content = content_packs(&fixture, &first);
    let dumped: Vec<_> = packs.iter().filter(|pack| content.contains(pack)).collect();
    assert!(!dumped.is_empty() && dumped.iter().all(|pack| second.packs.contains(pack)));
    let (_, third) = dump();
    assert_eq!(third.stats.bytes_added, 0, "{:?}", third.stats);
}
