//! Bit rot, truncation and loss of every kind of object: `check` names what is hurt, the rest restores.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::compare::{Ignore, assert_same_trees};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Tree};
use serde_json::Value;

use crate::tool::{FAILED, Repo, WRONG_USAGE, errors, text};

/// A repository with two snapshots that share nothing.
struct Scene {
    sandbox: Sandbox,
    repo: Repo,
    hurt: Backup,
    other: Backup,
}

struct Backup {
    id: String,
    tree: Tree,
    source: PathBuf,
    packs: BTreeSet<String>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
enum Injury {
    FlipAt(Place),
    CutTo(Place),
    Delete,
}

/// Where in an object: the share of its length, or bytes before its end.
#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    Middle,
    BeforeEnd(usize),
}

impl Place {
    fn offset(self, length: usize) -> usize {
        match self {
            Self::Start => 0,
            Self::Middle => length / 2,
            Self::BeforeEnd(bytes) => length.saturating_sub(bytes),
        }
    }
}

/// A pack has frames, then its index, then the seek table: 5 bytes from the end lies the table, 40 bytes
/// from the end the table or the index before it.
const INJURIES: [Injury; 9] = [
    Injury::FlipAt(Place::Start),
    Injury::FlipAt(Place::Middle),
    Injury::FlipAt(Place::BeforeEnd(40)),
    Injury::FlipAt(Place::BeforeEnd(5)),
    Injury::FlipAt(Place::BeforeEnd(1)),
    Injury::CutTo(Place::Start),
    Injury::CutTo(Place::Middle),
    Injury::CutTo(Place::BeforeEnd(1)),
    Injury::Delete,
];

impl Injury {
    fn inflict(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::FlipAt(place) => {
                let offset = place.offset(bytes.len());
                bytes[offset] ^= 0x10;
                fs::write(path, bytes).unwrap();
            }
            Self::CutTo(place) => {
                bytes.truncate(place.offset(bytes.len()));
                fs::write(path, bytes).unwrap();
            }
            Self::Delete => fs::remove_file(path).unwrap(),
        }
    }
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        let backup = |name: &str, seed: u64| {
            let source = sandbox.directory(name);
            let mut random = Random::new(seed);
            fs::write(source.join("noise"), random.bytes(2_000_000)).unwrap();
            fs::write(source.join("text"), random.text(400_000)).unwrap();
            fs::create_dir(source.join("directory")).unwrap();
            fs::write(source.join("directory/small"), random.bytes(100)).unwrap();
            let id = repo.create([&source]).snapshot;
            Backup { id, tree: tree::read(&source), source, packs: BTreeSet::new() }
        };
        let (mut hurt, mut other) = (backup("hurt", 21), backup("other", 22));
        for backup in [&mut hurt, &mut other] {
            backup.packs = packs_of(repo.path(), &backup.id);
        }
        assert!(hurt.packs.is_disjoint(&other.packs), "the snapshots share packs");
        assert!(hurt.packs.len() >= 2, "content and tree lie in packs of their own");
        Self { sandbox, repo, hurt, other }
    }

    /// Runs `test` once for every injury to the object, each on a fresh copy of the repository.
    fn for_every_injury(&self, object: &Path, test: impl Fn(&Repo, Injury, &Path)) {
        for (number, injury) in INJURIES.into_iter().enumerate() {
            let copy = self.sandbox.path(format!("copy-{number}"));
            e2e::zoo::copy(self.repo.path(), &copy);
            injury.inflict(&copy.join(object));
            eprintln!("{injury:?} of {}", object.display());
            // A machine that has never seen this repository knows nothing but what is stored.
            let home = self.sandbox.directory(format!("home-{number}"));
            let targets = self.sandbox.directory(format!("targets-{number}"));
            test(&Repo::at(&self.sandbox, &copy).elsewhere(home), injury, &targets);
            fs::remove_dir_all(copy).unwrap();
            fs::remove_dir_all(targets).unwrap();
        }
    }

    fn assert_other_restores(&self, repo: &Repo, targets: &Path) {
        let restored = repo.restored(&self.other.id, &targets.join("other"));
        assert_same_trees(&self.other.tree, &restored, Ignore::default());
    }

    /// The restore of the hurt snapshot either says so or is right: never quietly wrong.
    fn assert_hurt_is_never_quietly_wrong(&self, repo: &Repo, targets: &Path) {
        let target = targets.join("hurt");
        let finished = repo.restore_run(&self.hurt.id, &target, &[]).finish();
        match finished.code() {
            Some(0) => assert_same_trees(&self.hurt.tree, &tree::read(&target), Ignore::default()),
            Some(FAILED) => assert!(!finished.stderr.is_empty(), "{finished}"),
            _ => panic!("{finished}"),
        }
    }

    fn snapshot_object(&self) -> PathBuf {
        relative_objects(self.repo.path(), "snapshots")
            .into_iter()
            .find(|path| path.to_string_lossy().contains(&self.hurt.id))
            .expect("a snapshot's object has its id in its name")
    }
}

/// The objects below a folder of a repository, relative to the repository.
fn relative_objects(repo: &Path, folder: &str) -> Vec<PathBuf> {
    let tree = tree::read(&repo.join(folder));
    let files = tree.into_iter().filter(|(_, node)| matches!(node.kind, tree::Kind::File(_)));
    files.map(|(path, _)| Path::new(folder).join(String::from_utf8(path).unwrap())).collect()
}

/// The packs a snapshot's document names.
fn packs_of(repo: &Path, id: &str) -> BTreeSet<String> {
    let object = relative_objects(repo, "snapshots")
        .into_iter()
        .find(|path| path.to_string_lossy().contains(id))
        .expect("a snapshot's object has its id in its name");
    let document: Value = serde_json::from_slice(&fs::read(repo.join(object)).unwrap()).unwrap();
    let packs = document["packs"].as_array().expect("a snapshot names its packs");
    packs.iter().map(|pack| pack.as_str().unwrap().to_owned()).collect()
}

fn pack_object(id: &str) -> PathBuf {
    Path::new("packs").join(id.get(..2).unwrap()).join(format!("{id}.tar.zst"))
}

#[test]
fn a_hurt_pack_is_named_with_its_snapshot_and_paths() {
    let scene = Scene::new();
    for pack in &scene.hurt.packs {
        scene.for_every_injury(&pack_object(pack), |repo, injury, targets| {
            let finished =
                repo.run(["check", "--read-data", "--json"]).finish().expect_code(FAILED);
            let found = errors(&finished.last_json());
            let names = |field: &str, wanted: &str| {
                found
                    .iter()
                    .any(|error| error[field].as_str().is_some_and(|text| text.contains(wanted)))
            };
            assert!(names("object", pack), "{injury:?}: the pack is not named: {finished}");
            assert!(
                names("snapshot", &scene.hurt.id),
                "{injury:?}: the snapshot is not named: {finished}"
            );
            let source = scene.hurt.source.to_str().unwrap();
            assert!(
                names("path", source.trim_start_matches('/')),
                "{injury:?}: no path is named: {finished}"
            );
            assert!(
                !names("snapshot", &scene.other.id),
                "{injury:?}: a sound snapshot is accused: {finished}"
            );
            scene.assert_hurt_is_never_quietly_wrong(repo, targets);
            scene.assert_other_restores(repo, targets);
        });
    }
}

#[test]
fn a_missing_pack_is_found_without_reading_content() {
    let scene = Scene::new();
    for pack in &scene.hurt.packs {
        fs::rename(scene.repo.path().join(pack_object(pack)), scene.sandbox.path("away")).unwrap();
        let finished = scene.repo.run(["check", "--json"]).finish().expect_code(FAILED);
        let found = errors(&finished.last_json());
        assert!(found.iter().any(|error| text(error, "object").contains(pack)), "{finished}");
        fs::rename(scene.sandbox.path("away"), scene.repo.path().join(pack_object(pack))).unwrap();
    }
    scene.repo.check_clean();
}

#[test]
fn a_new_backup_heals_what_the_source_still_has() {
    let scene = Scene::new();
    for pack in &scene.hurt.packs {
        fs::remove_file(scene.repo.path().join(pack_object(pack))).unwrap();
    }
    for index in relative_objects(scene.repo.path(), "index") {
        fs::remove_file(scene.repo.path().join(index)).unwrap();
    }
    let repo = scene.repo.elsewhere(scene.sandbox.directory("another-home"));
    let created = repo.create([&scene.hurt.source]);
    let restored = repo.restored(&created.snapshot, &scene.sandbox.path("target"));
    assert_same_trees(&scene.hurt.tree, &restored, Ignore::default());
    scene.assert_other_restores(&repo, &scene.sandbox.directory("targets"));
}

#[test]
fn a_hurt_index_is_reported_and_not_needed() {
    let scene = Scene::new();
    for index in relative_objects(scene.repo.path(), "index") {
        scene.for_every_injury(&index, |repo, injury, targets| {
            let finished = repo.run(["check", "--read-data", "--json"]).finish();
            // A lost index is a cache to rebuild; a damaged one is damage.
            if !matches!(injury, Injury::Delete) {
                assert_eq!(finished.code(), Some(FAILED), "{injury:?}: {finished}");
                let found = errors(&finished.last_json());
                let name = index.file_name().unwrap().to_str().unwrap();
                assert!(
                    found.iter().any(|error| text(error, "object").contains(name)),
                    "{finished}"
                );
            }
            let restored = repo.restored(&scene.hurt.id, &targets.join("hurt"));
            assert_same_trees(&scene.hurt.tree, &restored, Ignore::default());
            scene.assert_other_restores(repo, targets);
        });
    }
}

#[test]
fn a_hurt_snapshot_is_named_and_the_others_restore() {
    let scene = Scene::new();
    scene.for_every_injury(&scene.snapshot_object(), |repo, injury, targets| {
        // What is gone without a trace cannot be missed; what is there and damaged is named.
        if !matches!(injury, Injury::Delete) {
            let finished =
                repo.run(["check", "--read-data", "--json"]).finish().expect_code(FAILED);
            let found = errors(&finished.last_json());
            assert!(
                found.iter().any(|error| text(error, "object").contains(&scene.hurt.id)),
                "{injury:?}: {finished}"
            );
        }
        // A snapshot that is gone is a name nobody knows.
        let code = if matches!(injury, Injury::Delete) { WRONG_USAGE } else { FAILED };
        repo.restore_run(&scene.hurt.id, &targets.join("hurt"), &[]).finish().expect_code(code);
        scene.assert_other_restores(repo, targets);
    });
}

#[test]
fn a_hurt_format_document_stops_everything_with_one_sentence() {
    let scene = Scene::new();
    scene.for_every_injury(Path::new("repo.json"), |repo, _, targets| {
        for command in [&["snapshots"][..], &["check"], &["create", "/etc/hostname"]] {
            let finished = repo.run(command.iter().copied()).finish();
            crate::tool::assert_one_sentence(&finished, FAILED, &["repo.json", "no repository"]);
        }
        let finished = repo.restore_run("latest", &targets.join("target"), &[]).finish();
        crate::tool::assert_one_sentence(&finished, FAILED, &["repo.json", "no repository"]);
    });
}

#[test]
fn foreign_files_in_a_repository_are_no_damage() {
    let scene = Scene::new();
    fs::write(scene.repo.path().join("README.txt"), "mounted on the cellar NAS").unwrap();
    fs::write(scene.repo.path().join("packs/.DS_Store"), "x").unwrap();
    fs::write(scene.repo.path().join("snapshots/Thumbs.db"), "x").unwrap();
    scene.repo.check_clean();
    scene.assert_other_restores(&scene.repo, &scene.sandbox.directory("targets"));
}
