use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chores_common::object::{Location, ObjectStore, S3Settings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::chunk::ChunkId;
use crate::create::{CreateOptions, create};
use crate::snapshot::Source;
use crate::store::Store;
use crate::walk::{SourceRoot, WalkOptions};

/// A repository with the snapshots `hurt` and `other`, which share nothing.
struct Scene {
    directory: TempDir,
    repository: Repository,
    hurt: (SnapshotName, Snapshot),
    other: (SnapshotName, Snapshot),
    _runtime: Runtime,
}

const EVERYTHING: CheckOptions =
    CheckOptions { read_data: Some(Percent::ALL), rotation: 0, threads: 2 };
const NAMES_ONLY: CheckOptions = CheckOptions { read_data: None, rotation: 0, threads: 1 };

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let place = directory.path().join("repo");
        fs::create_dir(&place).unwrap();
        let objects =
            ObjectStore::open(&Location::Directory(place), &S3Settings::default()).unwrap();
        let store = Store::new(objects, runtime.handle().clone(), Shutdown::new());
        let time: jiff::Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let repository = Repository::init(store, time).unwrap();
        let backup = |name: &str, seed: u64| {
            let source = directory.path().join(name);
            fs::create_dir_all(source.join("directory")).unwrap();
            fs::write(source.join("directory/small"), noise(seed, 100)).unwrap();
            fs::write(source.join("large"), noise(seed + 1, 1_500_000)).unwrap();
            fs::write(source.join("text"), name.repeat(20_000)).unwrap();
            std::os::unix::fs::symlink("text", source.join("link")).unwrap();
            back_up(&repository, &source, name, time)
        };
        let (hurt, other) = (backup("hurt", 1), backup("other", 9));
        Self { hurt, other, directory, repository, _runtime: runtime }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.path().join("repo").join(key)
    }

    /// `/…/hurt` as the tree shows it.
    fn hurt_source(&self) -> String {
        self.directory.path().join("hurt").display().to_string()
    }

    fn check(&self, options: &CheckOptions) -> CheckReport {
        check(&self.repository, options, &Progress::new(), &Shutdown::new()).unwrap()
    }

    fn assert_sound(&self) {
        let report = self.check(&EVERYTHING);
        assert!(report.is_sound(), "{report:?}");
    }

    /// The object is named, the snapshot `hurt` and one of its paths are, `other` is not.
    fn assert_hurt(&self, report: &CheckReport, object: &str, what: &str) {
        let problems = &report.problems;
        assert_eq!(report.problem_count, problems.len() as u64, "{what}");
        assert!(problems.iter().any(|problem| problem.object == object), "{what}: {problems:?}");
        assert!(
            problems.iter().any(|problem| {
                problem.snapshot == Some(self.hurt.0.id)
                    && problem.path.as_ref().is_some_and(|path| path.contains(&self.hurt_source()))
            }),
            "{what}: {problems:?}"
        );
        assert!(
            problems.iter().all(|problem| problem.snapshot != Some(self.other.0.id)),
            "{what}: a sound snapshot is accused: {problems:?}"
        );
    }

    /// Every object of the repository but `repo.json`.
    fn objects(&self) -> Vec<String> {
        let objects = self.repository.store().list("").unwrap();
        let keys = objects.into_iter().map(|object| object.key);
        keys.filter(|key| key != crate::repository::FORMAT_KEY).collect()
    }

    fn hurt_packs(&self) -> Vec<String> {
        self.hurt.1.packs.iter().map(PackId::key).collect()
    }

    fn index_of_hurt(&self) -> String {
        let ours = |key: &str| {
            let packs = crate::index::decode(&fs::read(self.path(key)).unwrap()).unwrap();
            packs.iter().any(|pack| self.hurt.1.packs.contains(&pack.id))
        };
        self.objects().into_iter().find(|key| key.starts_with("index/") && ours(key)).unwrap()
    }

    /// Replaces an object's content while `test` runs.
    fn with(&self, key: &str, content: &[u8], test: impl FnOnce()) {
        let path = self.path(key);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        test();
        fs::write(&path, before).unwrap();
    }

    fn without(&self, key: &str, test: impl FnOnce()) {
        let (path, away) = (self.path(key), self.directory.path().join("away"));
        fs::rename(&path, &away).unwrap();
        test();
        fs::rename(&away, &path).unwrap();
    }
}

fn back_up(
    repository: &Repository,
    source: &Path,
    name: &str,
    time: jiff::Timestamp,
) -> (SnapshotName, Snapshot) {
    let options = CreateOptions {
        name: name.to_owned(),
        tags: BTreeMap::new(),
        host: "host".to_owned(),
        time,
        roots: vec![SourceRoot::open(source).unwrap()],
        sources: vec![Source { path: source.display().to_string(), volume: None }],
        container: None,
        provenance: crate::snapshot::Provenance::default(),
        dumps: Vec::new(),
        walk: WalkOptions::default(),
        level: 1,
        threads: 1,
        uploads: 1,
        cache: None,
        read_all: true,
        allow_change: false,
        dry_run: false,
        warnings: Vec::new(),
    };
    let report = create(repository, &options, &Progress::new(), &Shutdown::new()).unwrap();
    (report.name.unwrap(), report.snapshot)
}

/// Bytes that do not compress (xorshift64*).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
    .take(length)
    .collect()
}

/// Both ends byte by byte, and places all over.
fn offsets(length: usize) -> BTreeSet<usize> {
    let ends = (0..length.min(24)).chain(length.saturating_sub(48)..length);
    ends.chain((0..24).map(|step| step * length / 24)).collect()
}

/// Flips a bit at many offsets, cuts at many lengths.
fn injuries(content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut injuries = Vec::new();
    for offset in offsets(content.len()) {
        let mut flipped = content.to_vec();
        flipped[offset] ^= 1 << (offset % 8);
        injuries.push((format!("bit flipped at {offset}"), flipped));
    }
    for length in offsets(content.len()).into_iter().step_by(7) {
        injuries.push((format!("cut to {length}"), content[..length].to_vec()));
    }
    injuries.push(("longer".to_owned(), [content, b"x"].concat()));
    injuries
}

#[test]
fn a_sound_repository_has_no_problem() {
    let scene = Scene::new();
    let report = scene.check(&EVERYTHING);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.warning_count, 0);
    assert_eq!((report.snapshots, report.orphan_packs, report.unused_packs), (2, 0, 0));
    assert_eq!(report.entries, 2 * scene.hurt.1.tree.entries);
    let packs = (scene.hurt_packs().len() + scene.other.1.packs.len()) as u64;
    assert_eq!((report.packs, report.packs_read), (packs, packs));
    assert_eq!(report.bytes_read, report.pack_bytes);
    assert_eq!(scene.check(&NAMES_ONLY).bytes_read, 0);
}

#[test]
fn an_empty_repository_has_no_problem() {
    let scene = Scene::new();
    scene.objects().iter().for_each(|key| fs::remove_file(scene.path(key)).unwrap());
    scene.assert_sound();
}

#[test]
fn damage_anywhere_in_a_pack_names_the_pack_the_snapshot_and_a_path() {
    let scene = Scene::new();
    for key in scene.hurt_packs() {
        let content = fs::read(scene.path(&key)).unwrap();
        for (what, injured) in injuries(&content) {
            scene.with(&key, &injured, || {
                scene.assert_hurt(&scene.check(&EVERYTHING), &key, &format!("{key} {what}"));
            });
        }
    }
    scene.assert_sound();
}

#[test]
fn a_pack_of_another_length_or_missing_is_found_without_reading_content() {
    let scene = Scene::new();
    for key in scene.hurt_packs() {
        let content = fs::read(scene.path(&key)).unwrap();
        for length in [0, 1, content.len() / 2, content.len() - 1] {
            scene.with(&key, &content[..length], || {
                scene.assert_hurt(&scene.check(&NAMES_ONLY), &key, &format!("{key} {length}"));
            });
        }
        scene.without(&key, || {
            scene.assert_hurt(&scene.check(&NAMES_ONLY), &key, &key);
            scene.assert_hurt(&scene.check(&EVERYTHING), &key, &key);
        });
    }
}

#[test]
fn damage_in_one_frame_does_not_accuse_the_files_of_the_others() {
    let scene = Scene::new();
    let index = scene.repository.index_for_reading([&scene.hurt.1]).unwrap().0;
    let pack = index
        .packs()
        .iter()
        .find(|pack| scene.hurt.1.packs.contains(&pack.id) && pack.frames.len() > 1)
        .unwrap();
    let key = pack.id.key();
    let mut content = fs::read(scene.path(&key)).unwrap();
    let first = pack.frames[0];
    content[(first.start + first.stored / 2) as usize] ^= 4;
    scene.with(&key, &content, || {
        let report = scene.check(&EVERYTHING);
        scene.assert_hurt(&report, &key, "one frame");
        let hurt: BTreeSet<_> =
            report.problems.iter().filter_map(|problem| problem.path.as_deref()).collect();
        assert!(hurt.len() < 3, "frame by frame: {hurt:?}");
    });
}

#[test]
fn two_swapped_packs_are_both_found() {
    let scene = Scene::new();
    let [first, second, ..] = &scene.hurt_packs()[..] else { panic!("content and tree") };
    let (one, two) = (fs::read(scene.path(first)).unwrap(), fs::read(scene.path(second)).unwrap());
    scene.with(first, &two, || {
        scene.with(second, &one, || {
            let report = scene.check(&EVERYTHING);
            scene.assert_hurt(&report, first, "first");
            scene.assert_hurt(&report, second, "second");
        });
    });
    scene.assert_sound();
}

#[test]
fn a_damaged_index_is_named_and_every_snapshot_still_read() {
    let scene = Scene::new();
    let key = scene.index_of_hurt();
    let content = fs::read(scene.path(&key)).unwrap();
    for (what, injured) in injuries(&content) {
        scene.with(&key, &injured, || {
            let report = scene.check(&NAMES_ONLY);
            let named: Vec<_> = report.problems.iter().map(|problem| &problem.object).collect();
            assert_eq!(named, [&key], "{what}");
            assert_eq!(report.entries, 2 * scene.hurt.1.tree.entries);
        });
    }
}

#[test]
fn a_lost_index_is_no_damage() {
    let scene = Scene::new();
    scene.without(&scene.index_of_hurt(), || scene.assert_sound());
}

#[test]
fn with_its_index_lost_a_damaged_pack_is_named_with_its_snapshot() {
    let scene = Scene::new();
    scene.without(&scene.index_of_hurt(), || {
        for key in scene.hurt_packs() {
            let mut content = fs::read(scene.path(&key)).unwrap();
            content[100] ^= 1;
            scene.with(&key, &content, || {
                scene.assert_hurt(&scene.check(&NAMES_ONLY), &key, &key);
            });
        }
    });
}

#[test]
fn a_damaged_snapshot_document_is_named_and_the_other_still_read() {
    let scene = Scene::new();
    let key = scene.hurt.0.key();
    let content = fs::read(scene.path(&key)).unwrap();
    for (what, injured) in injuries(&content) {
        scene.with(&key, &injured, || {
            let report = scene.check(&NAMES_ONLY);
            let named: Vec<_> =
                report.problems.iter().map(|problem| (&problem.object, problem.snapshot)).collect();
            assert_eq!(named, [(&key, Some(scene.hurt.0.id))], "{what}");
            assert_eq!(report.entries, scene.other.1.tree.entries);
        });
    }
}

#[test]
fn what_an_interrupted_run_left_is_counted_and_no_damage() {
    let scene = Scene::new();
    // Packs without an index, as after SIGKILL; and packs with one, as after SIGTERM.
    scene.without(&scene.hurt.0.key(), || {
        let report = scene.check(&EVERYTHING);
        assert!(report.is_sound(), "{report:?}");
        let packs = scene.hurt_packs().len() as u64;
        assert_eq!((report.orphan_packs, report.unused_packs), (0, packs));
        fs::remove_file(scene.path(&scene.index_of_hurt())).unwrap();
        let report = scene.check(&EVERYTHING);
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.orphan_packs, report.unused_packs), (packs, 0));
    });
}

#[test]
fn an_index_that_promises_a_missing_pack_is_a_warning_where_no_snapshot_needs_it() {
    let scene = Scene::new();
    fs::remove_file(scene.path(&scene.hurt.0.key())).unwrap();
    let key = &scene.hurt_packs()[0];
    fs::remove_file(scene.path(key)).unwrap();
    // A prune leaves it so for a moment, and no writer relies on it.
    let report = scene.check(&NAMES_ONLY);
    assert!(report.is_sound(), "{report:?}");
    let [warning] = &report.warnings[..] else { panic!("{report:?}") };
    assert_eq!((&warning.object, warning.snapshot), (key, None));
}

#[test]
fn foreign_files_are_no_damage() {
    let scene = Scene::new();
    fs::write(scene.path("README.txt"), "on the NAS").unwrap();
    fs::write(scene.path("packs/.DS_Store"), "x").unwrap();
    fs::write(scene.path("packs/notes.tar.zst"), "x").unwrap();
    fs::write(scene.path("snapshots/Thumbs.db"), "x").unwrap();
    fs::write(scene.path("index/old"), "x").unwrap();
    scene.assert_sound();
}

type Edit = fn(&mut IndexedPack);

#[test]
fn an_index_that_says_other_things_than_the_pack_is_damage() {
    let scene = Scene::new();
    let key = scene.index_of_hurt();
    let sound = crate::index::decode(&fs::read(scene.path(&key)).unwrap()).unwrap();
    let edits: [(&str, Edit); 4] = [
        ("offset", |pack| pack.index.chunks[0].offset += 1),
        ("chunk", |pack| pack.index.chunks[0].id = ChunkId([0xee; 16])),
        ("fewer", |pack| pack.index.chunks.truncate(pack.index.chunks.len() - 1)),
        ("frame", |pack| pack.index.frames[0].content -= 1),
    ];
    for number in 0..sound.len() {
        for (what, edit) in &edits {
            let mut packs = sound.clone();
            edit(&mut packs[number]);
            let pack = packs[number].id.key();
            let wrong = format!("index/{}.idx", {
                let bytes = crate::index::encode(&packs);
                scene.repository.key().id_of(&bytes)
            });
            scene.repository.put_index(&packs).unwrap();
            let both = scene.check(&NAMES_ONLY);
            assert!(both.problems.iter().any(|problem| problem.object == pack), "{what} {both:?}");
            scene.without(&key, || {
                let alone = scene.check(&EVERYTHING);
                let named = |problem: &CheckProblem| problem.object == pack;
                assert!(alone.problems.iter().any(named), "{what} {alone:?}");
            });
            fs::remove_file(scene.path(&wrong)).unwrap();
        }
    }
    scene.assert_sound();
}

#[test]
fn hostile_objects_with_right_names_are_damage_and_nothing_worse() {
    let scene = Scene::new();
    let sound = crate::index::decode(&fs::read(scene.path(&scene.index_of_hurt())).unwrap());
    let sound = sound.unwrap();
    for (seed, length) in [(1, 0), (2, 1), (3, 9), (4, 64), (5, 5000), (6, 2_000_000)] {
        let content = noise(seed, length);
        // Junk, and junk before a trailer that is in order.
        let pack_content = fs::read(scene.path(&sound[0].id.key())).unwrap();
        let with_trailer = [&content[..], &pack_content[length.min(pack_content.len())..]].concat();
        for pack in [&content, &with_trailer] {
            let id = PackId(scene.repository.key().id_of(pack));
            scene.repository.put_pack(&id, pack.clone()).unwrap();
            let index = sound[0].index.clone();
            let indexed = IndexedPack { id, bytes: pack.len() as u64, index, sealed_by: None };
            scene.repository.put_index(&[indexed]).unwrap();
            if !pack_content.starts_with(pack) || pack.len() != pack_content.len() {
                let report = scene.check(&EVERYTHING);
                let named = |problem: &CheckProblem| problem.object == id.key();
                assert!(report.problems.iter().any(named), "{length} {report:?}");
            }
        }
        let index = format!("index/{}.idx", scene.repository.key().id_of(&content));
        fs::write(scene.path(&index), &content).unwrap();
        let report = scene.check(&NAMES_ONLY);
        assert!(report.problems.iter().any(|problem| problem.object == index), "{length}");
    }
}

#[test]
fn a_snapshot_that_does_not_name_a_pack_it_needs_is_damage() {
    let scene = Scene::new();
    for missing in 0..scene.hurt.1.packs.len() {
        let mut snapshot = scene.hurt.1.clone();
        let pack = snapshot.packs.remove(missing);
        let name = scene.repository.put_snapshot(&snapshot).unwrap();
        let report = scene.check(&NAMES_ONLY);
        fs::remove_file(scene.path(&name.key())).unwrap();
        let [problem] = &report.problems[..] else { panic!("{report:?}") };
        assert_eq!((&problem.object, problem.snapshot), (&name.key(), Some(name.id)));
        assert!(problem.problem.contains(&pack.key()), "{problem:?}");
        assert!(problem.path.is_some());
    }
    scene.assert_sound();
}

#[test]
fn a_chunk_stored_twice_may_be_needed_from_either_pack() {
    let scene = Scene::new();
    // A second run at the same time saw no index and stored the same content once more.
    let indexes: Vec<_> =
        scene.objects().into_iter().filter(|key| key.starts_with("index/")).collect();
    let away: Vec<_> = indexes
        .iter()
        .map(|key| (scene.path(key), fs::read(scene.path(key)).unwrap()))
        .inspect(|(path, _)| fs::remove_file(path).unwrap())
        .collect();
    let source = scene.directory.path().join("hurt");
    fs::write(source.join("more"), noise(77, 5000)).unwrap();
    let time = "2026-11-22T13:00:00Z".parse().unwrap();
    let (_, twin) = back_up(&scene.repository, &source, "twin", time);
    assert!(twin.packs.iter().all(|pack| !scene.hurt.1.packs.contains(pack)));
    away.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
    scene.assert_sound();
}

#[test]
fn a_tree_that_is_not_what_its_snapshot_says_is_damage() {
    let scene = Scene::new();
    let good = &scene.hurt.1;
    let with_tree = |edit: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        edit(&mut snapshot);
        snapshot
    };
    for (what, snapshot) in [
        ("too few", with_tree(&|snapshot| snapshot.tree.entries += 1)),
        ("too many", with_tree(&|snapshot| snapshot.tree.entries -= 1)),
        ("too deep", with_tree(&|snapshot| snapshot.tree.depth = 200)),
        ("no list", with_tree(&|snapshot| snapshot.tree.depth += 1)),
        ("no root", with_tree(&|snapshot| snapshot.tree.root = ChunkId([0xee; 16]))),
        ("no entry line", with_tree(&|snapshot| snapshot.tree.root = a_file_chunk(&scene))),
    ] {
        let name = scene.repository.put_snapshot(&snapshot).unwrap();
        let report = scene.check(&NAMES_ONLY);
        fs::remove_file(scene.path(&name.key())).unwrap();
        assert!(!report.is_sound(), "{what}");
        assert!(
            report.problems.iter().all(|problem| problem.snapshot == Some(name.id)),
            "{what}: {report:?}"
        );
    }
}

fn a_file_chunk(scene: &Scene) -> ChunkId {
    scene.repository.key().id_of(&noise(1, 100))
}

#[test]
fn a_marked_pack_that_is_needed_is_a_warning() {
    let scene = Scene::new();
    let pack = scene.hurt.1.packs[0];
    fs::create_dir(scene.path("marks")).unwrap();
    let mark = scene.path("marks/20261122T120000Z-00.json");
    fs::write(&mark, format!("{{\"version\":1,\"packs\":[\"{pack}\"]}}")).unwrap();
    let report = scene.check(&NAMES_ONLY);
    assert!(report.is_sound(), "{report:?}");
    let [warning] = &report.warnings[..] else { panic!("{report:?}") };
    assert_eq!((&warning.object, warning.snapshot), (&pack.key(), Some(scene.hurt.0.id)));
    fs::write(&mark, "{}").unwrap();
    let report = scene.check(&NAMES_ONLY);
    assert_eq!(report.problems[0].object, "marks/20261122T120000Z-00.json");
}

#[test]
fn shares_of_all_turns_together_find_what_a_whole_reading_finds() {
    let scene = Scene::new();
    let key = &scene.hurt_packs()[0];
    let mut content = fs::read(scene.path(key)).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    scene.with(key, &content, || {
        let percent = Some("25".parse().unwrap());
        let found = (0..4)
            .map(|rotation| scene.check(&CheckOptions { read_data: percent, rotation, threads: 1 }))
            .filter(|report| report.problems.iter().any(|problem| problem.object == *key))
            .count();
        assert!(found >= 1);
    });
}

#[test]
fn a_request_to_stop_ends_the_check() {
    let scene = Scene::new();
    let shutdown = Shutdown::new();
    shutdown.request();
    let outcome = check(&scene.repository, &EVERYTHING, &Progress::new(), &shutdown);
    assert!(matches!(outcome, Err(CheckError::Interrupted)), "{outcome:?}");
}

#[test]
fn machines_get_every_problem_in_the_last_line() {
    let scene = Scene::new();
    let key = &scene.hurt_packs()[0];
    scene.without(key, || {
        let report = scene.check(&NAMES_ONLY);
        let mut out = Vec::new();
        write_json(&report, &mut out).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let summary = lines.last().unwrap();
        assert_eq!(summary["event"], "summary");
        assert_eq!(summary["error_count"], report.problem_count);
        assert_eq!(summary["errors"].as_array().unwrap().len(), report.problems.len());
        assert_eq!(summary["errors"][0]["object"], key.as_str());
        assert_eq!(lines.len(), report.problems.len() + 1);
        let hurt = scene.hurt.0.id.to_string();
        assert!(lines[1]["snapshot"] == hurt.as_str() && lines[1]["path"].is_string());
    });
}

#[test]
fn text_names_everything_and_lets_no_control_character_through() {
    let report = CheckReport {
        problem_count: 3,
        problems: vec![CheckProblem {
            object: "packs/aa".to_owned(),
            snapshot: None,
            path: Some("/a\u{1b}[2J\n".to_owned()),
            problem: "it is not there".to_owned(),
        }],
        ..CheckReport::default()
    };
    let mut out = Vec::new();
    write_text(&report, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("damaged: packs/aa, /a\\u{1b}[2J\\n: it is not there\n"), "{text}");
    assert!(text.contains("and 2 more problems") && text.ends_with("3 problems found\n"), "{text}");
}
