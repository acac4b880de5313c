use std::fs;
use std::path::{Path, PathBuf};

use chores_common::object::{Location, ObjectStore, S3Settings};

use super::*;
use crate::chunk::ChunkId;
use crate::keys::identity::Identities;
use crate::keys::key_file::KeyFile;
use crate::snapshot::{Stats, TreeRoot};

/// A repository in a directory of its own, and the runtime that drives its store.
pub(crate) struct TestRepository {
    pub(crate) temp: tempfile::TempDir,
    pub(crate) repository: Repository,
    /// Reads an encrypted one.
    pub(crate) identities: Identities,
    runtime: tokio::runtime::Runtime,
}

impl TestRepository {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let repository =
            Repository::init(store(&temp.path().join("repo"), &runtime), now()).unwrap();
        Self { temp, repository, identities: Identities::default(), runtime }
    }

    /// An encrypted one, as a machine opens it that only writes.
    pub(crate) fn encrypted() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let identities = Identities::generate();
        let recipients: Vec<_> = identities.public().collect();
        let store = store(&temp.path().join("repo"), &runtime);
        let keep = Box::new(|_: &KeyFile| Ok(()));
        let repository = Repository::init_encrypted(store, now(), &recipients, None, keep).unwrap();
        Self { temp, repository, identities, runtime }
    }

    /// The same repository as a machine opens it that reads and writes.
    pub(crate) fn readable(&self) -> Repository {
        let ring = KeyRing { identities: self.identities.clone(), ..self.repository.ring() };
        self.open_with(ring).unwrap()
    }

    pub(crate) fn open_with(&self, ring: KeyRing) -> Result<Repository, RepositoryError> {
        Repository::open_with(store(&self.path(), &self.runtime), ring)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.temp.path().join("repo")
    }

    fn reopen(&self) -> Result<Repository, RepositoryError> {
        Repository::open(store(&self.path(), &self.runtime))
    }

    /// The paths of the objects below `prefix`.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        let objects = self.repository.store().list(prefix).unwrap();
        objects.iter().map(|object| self.path().join(&object.key)).collect()
    }

    /// Writes `repo.json` anew after `change`, with a right checksum.
    pub(super) fn change_format(&self, change: impl FnOnce(&mut FormatFile)) {
        let path = self.path().join(FORMAT_KEY);
        let mut format: FormatFile = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut format);
        format.checksum = format.checksum();
        fs::write(path, format.to_bytes()).unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn store(path: &Path, runtime: &tokio::runtime::Runtime) -> Store {
    let location = Location::Directory(path.to_owned());
    let objects = ObjectStore::open(&location, &S3Settings::default()).unwrap();
    Store::new(objects, runtime.handle().clone(), chores_common::shutdown::Shutdown::new())
}

fn now() -> jiff::Timestamp {
    "2026-11-22T19:45:12.5Z".parse().unwrap()
}

pub(crate) fn snapshot(name: &str, time: &str) -> Snapshot {
    Snapshot {
        version: crate::snapshot::version_with(&[], false, &crate::snapshot::Provenance::default()),
        name: name.to_owned(),
        time: time.parse().unwrap(),
        host: "host".to_owned(),
        tags: BTreeMap::new(),
        state: State::Complete,
        suspicious: false,
        sources: Vec::new(),
        container: None,
        dumps: Vec::new(),
        provenance: crate::snapshot::Provenance::default(),
        tree: TreeRoot { root: ChunkId([7; 16]), depth: 0, entries: 1 },
        stats: Stats::default(),
        warning_count: 0,
        warnings: Vec::new(),
        packs: vec![PackId(ChunkId([1; 16])), PackId(ChunkId([2; 16]))],
        program: "backup 0".to_owned(),
    }
}

#[test]
fn init_makes_a_repository_that_opens_with_the_same_id_and_key() {
    let test = TestRepository::new();
    let again = test.reopen().unwrap();
    assert_eq!(again.id(), test.repository.id());
    assert_eq!(again.key(), test.repository.key());
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let test = TestRepository::new();
    let before = fs::read(test.path().join(FORMAT_KEY)).unwrap();
    let error = Repository::init(store(&test.path(), &test.runtime), now()).unwrap_err();
    assert!(matches!(error, RepositoryError::Exists(_)), "{error}");
    assert_eq!(fs::read(test.path().join(FORMAT_KEY)).unwrap(), before);
}

#[test]
fn a_place_with_other_files_is_not_made_a_repository() {
    let temp = tempfile::tempdir().unwrap();
    let runtime = runtime();
    fs::write(temp.path().join("letter.txt"), "dear").unwrap();
    let error = Repository::init(store(temp.path(), &runtime), now()).unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied(_)), "{error}");
    assert!(!temp.path().join(FORMAT_KEY).exists());
}

#[test]
fn who_comes_second_does_not_replace_the_first_document() {
    let test = TestRepository::new();
    let before = fs::read(test.path().join(FORMAT_KEY)).unwrap();
    // It has looked before the first one wrote.
    let mut late = FormatFile::new(now()).unwrap();
    late.hash.key = Some(test.repository.key().to_hex());
    late.checksum = late.checksum();
    let place = || store(&test.path(), &test.runtime);
    let error = Repository::put_format(place(), &late, KeyRing::default()).unwrap_err();
    assert!(matches!(error, RepositoryError::Exists(_)), "{error}");
    assert_eq!(fs::read(test.path().join(FORMAT_KEY)).unwrap(), before);
    // Nor does it win twice, but it does where its own document is there already.
    let own = &test.repository.inner.format;
    let again = Repository::put_format(place(), own, KeyRing::default()).unwrap();
    assert_eq!(again.id(), test.repository.id());
}

#[test]
fn what_a_killed_init_has_left_is_no_hindrance_and_all_else_is() {
    for (key, is_free) in [
        ("marks/clock", true),
        ("doctor/00112233445566778899aabbccddeeff", true),
        ("doctor-00112233445566778899aabbccddeeff", true),
        ("marks/other", false),
        ("marks/clock/x", false),
        ("doctor/note", false),
        ("packs/00112233445566778899aabbccddeeff", false),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let path = temp.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        let made = Repository::init(store(temp.path(), &runtime), now());
        assert_eq!(made.is_ok(), is_free, "{key}: {made:?}");
        assert!(is_free || matches!(made, Err(RepositoryError::Occupied(_))), "{key}");
    }
}

#[test]
fn an_empty_place_is_no_repository() {
    let temp = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let error = Repository::open(store(temp.path(), &runtime)).unwrap_err();
    assert!(matches!(error, RepositoryError::Missing(_)), "{error}");
}

#[test]
fn an_unknown_feature_refuses_its_operation_and_no_other() {
    let test = TestRepository::new();
    test.change_format(|format| format.features.write = vec!["rot13".to_owned()]);
    let opened = test.reopen().unwrap();
    opened.permit(Operation::Read).unwrap();
    opened.permit(Operation::Delete).unwrap();
    let error = opened.permit(Operation::Write).unwrap_err().to_string();
    assert!(error.contains("write to") && error.contains("rot13"), "{error}");

    test.change_format(|format| {
        format.features = Features { delete: vec!["shred".to_owned()], ..Features::default() };
    });
    let opened = test.reopen().unwrap();
    opened.permit(Operation::Write).unwrap();
    assert!(opened.permit(Operation::Delete).is_err());

    test.change_format(|format| {
        format.features = Features { read: vec!["age".to_owned()], ..Features::default() };
    });
    assert!(matches!(test.reopen().unwrap_err(), RepositoryError::Feature { act: "read", .. }));
}

#[test]
fn texts_of_the_document_drive_no_terminal_and_name_no_path() {
    let test = TestRepository::new();
    let path = test.path().join(FORMAT_KEY);
    let sound = fs::read(&path).unwrap();
    let evil = "\x1b]0;x\x07\nnext";
    let changes: [fn(&mut FormatFile, String); 3] = [
        |format, evil| format.features.read.push(evil),
        |format, evil| format.hash.algorithm = evil,
        |format, evil| format.id = format!("../{evil}"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        test.change_format(|format| change(format, evil.to_owned()));
        let error = test.reopen().unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{number}: {error:?}");
        fs::write(&path, &sound).unwrap();
    }
    let text = String::from_utf8(sound).unwrap();
    let renamed = text.replace("\"created\"", "\"\\u001b]0;x\\u0007\"");
    assert_ne!(renamed, text);
    fs::write(&path, renamed).unwrap();
    let error = test.reopen().unwrap_err().to_string();
    assert!(error.contains("\\x1b]0;x") && !error.contains(char::is_control), "{error:?}");
}

#[test]
fn a_later_version_is_named_and_not_called_damaged() {
    let test = TestRepository::new();
    let path = test.path().join(FORMAT_KEY);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"version\": 1", "\"version\": 2, \"news\": []")).unwrap();
    assert!(matches!(test.reopen().unwrap_err(), RepositoryError::Feature { .. }));
}

#[test]
fn every_flipped_byte_of_the_format_document_is_refused_without_a_panic() {
    let test = TestRepository::new();
    let path = test.path().join(FORMAT_KEY);
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x11;
        fs::write(&path, &bytes).unwrap();
        assert!(test.reopen().is_err(), "byte {at}");
        fs::write(&path, &sound[..at]).unwrap();
        assert!(test.reopen().is_err(), "cut at {at}");
    }
    fs::write(&path, [&sound, b"\n".as_slice()].concat()).unwrap();
    let error = test.reopen().unwrap_err();
    assert!(matches!(error, RepositoryError::Format { .. }), "{error}");
}

#[test]
fn marked_packs_are_read_and_marks_of_other_versions_refused() {
    let test = TestRepository::new();
    let marks = test.path().join("marks");
    fs::create_dir_all(&marks).unwrap();
    let id = "00112233445566778899aabbccddeeff";
    let mark =
        |version: u32, pack: &str| format!("{{\"version\":{version},\"packs\":[\"{pack}\"]}}");
    fs::write(marks.join("a.json"), mark(1, id)).unwrap();
    let marked = test.repository.marked_packs().unwrap();
    assert_eq!(marked.into_iter().map(|pack| pack.to_string()).collect::<Vec<_>>(), [id]);

    fs::write(marks.join("b.json"), mark(2, id)).unwrap();
    let error = test.repository.marked_packs().unwrap_err();
    assert!(matches!(error, RepositoryError::Mark(_, MarkError::Version(2))), "{error}");
    for bad in [mark(1, "../x"), "[]".to_owned(), String::new()] {
        fs::write(marks.join("b.json"), bad).unwrap();
        assert!(matches!(test.repository.marked_packs().unwrap_err(), RepositoryError::Mark(..)));
    }
}

#[test]
fn only_marks_are_read_as_marks() {
    let test = TestRepository::new();
    let marks = test.path().join("marks");
    fs::create_dir_all(marks.join("deeper")).unwrap();
    for name in ["note", "a.json.old", "deeper/b.json", "A.JSON"] {
        fs::write(marks.join(name), "no mark").unwrap();
    }
    assert!(test.repository.marked_packs().unwrap().is_empty());
}

#[test]
fn of_two_snapshots_of_one_second_the_later_is_the_latest() {
    let test = TestRepository::new();
    let times = ["12.1", "12.4", "12.3", "12.2"];
    for time in times {
        let time = format!("2026-11-22T19:45:{time}Z");
        test.repository.put_snapshot(&snapshot("a", &time)).unwrap();
    }
    let (_, latest) = test.repository.select(&Selector::Latest).unwrap();
    assert_eq!(latest.time.to_string(), "2026-11-22T19:45:12.4Z");
}

#[test]
fn latest_passes_over_failed_and_damaged_snapshots_and_other_names() {
    let test = TestRepository::new();
    let repository = &test.repository;
    let good = repository.put_snapshot(&snapshot("a", "2026-01-01T00:00:00Z")).unwrap();
    let other = repository.put_snapshot(&snapshot("b", "2026-01-02T00:00:00Z")).unwrap();
    let failed = Snapshot { state: State::Failed, ..snapshot("a", "2026-01-03T00:00:00Z") };
    repository.put_snapshot(&failed).unwrap();
    let damaged = repository.put_snapshot(&snapshot("a", "2026-01-04T00:00:00Z")).unwrap();
    fs::write(test.path().join(damaged.key()), "{}").unwrap();
    assert_eq!(repository.select(&Selector::Latest).unwrap().0, other);
    let named = Selector::LatestNamed("a".to_owned());
    assert_eq!(repository.select(&named).unwrap().0, good);
    let none = Selector::LatestNamed("c".to_owned());
    assert!(matches!(repository.select(&none).unwrap_err(), RepositoryError::NoSnapshot(..)));
    let prefix = Selector::Prefix(other.id.short());
    assert_eq!(repository.select(&prefix).unwrap().0, other);
    assert_eq!(repository.snapshots().unwrap().len(), 4);
}

#[test]
fn a_prefix_that_fits_several_snapshots_is_ambiguous() {
    let test = TestRepository::new();
    for day in 1..=2 {
        let time = format!("2026-01-{day:02}T00:00:00Z");
        test.repository.put_snapshot(&snapshot("a", &time)).unwrap();
    }
    let all = Selector::Prefix(String::new());
    assert!(matches!(test.repository.select(&all).unwrap_err(), RepositoryError::Ambiguous(_, 2)));
}

#[test]
fn an_index_object_under_a_wrong_name_is_left_aside() {
    let test = TestRepository::new();
    test.repository.put_index(&[]).unwrap();
    fs::write(test.path().join("index").join("junk.idx"), "junk").unwrap();
    let objects = test.repository.index_objects().unwrap();
    assert!(objects.packs.is_empty());
    assert_eq!(objects.damaged.len(), 1);
}

#[test]
fn locks_of_no_sensible_time_or_in_part_of_the_features_are_refused() {
    let mode = chores_common::object::LockMode::Compliance;
    for days in [0, crate::lock::DAYS_MAX + 1, u32::MAX] {
        let test = TestRepository::new();
        test.change_format(|format| format.set_lock(Some(Lock { mode, days })));
        let error = test.reopen().unwrap_err();
        assert!(matches!(error, RepositoryError::Format { .. }), "{days}: {error}");
    }
    let test = TestRepository::new();
    test.change_format(|format| format.set_lock(Some(Lock { mode, days: 30 })));
    assert!(test.reopen().unwrap().lock().is_some());
    test.change_format(|format| format.features.write.clear());
    assert!(matches!(test.reopen(), Err(RepositoryError::Format { .. })));
}

#[test]
fn a_pack_of_another_length_is_as_good_as_absent_for_a_writer() {
    let fixture = crate::create::tests::Fixture::new();
    fixture.write("a", &crate::create::tests::noise(1, 300_000));
    fixture.create();
    let repository = &fixture.test.repository;
    let known = repository.index_for_writing().unwrap().0.packs().len();
    let pack = fixture.test.objects("packs/").remove(0);
    fs::write(pack, "pay").unwrap();
    assert_eq!(repository.index_for_writing().unwrap().0.packs().len(), known - 1);
}
