//! Locks: what the store must not let go, what a backup may rely on, and what comes back although somebody has deleted it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chores_common::object::{
    ErrorKind, Location, LockMode, ObjectStore, ObjectVersion, Retention, S3Settings,
};
use chores_common::secret::Secret;
use e2e::compare::{Ignore, assert_same_trees};
use e2e::fake_s3::{FakeS3, Locks, Op, Version};
use e2e::notice;
use e2e::object_store::{self, Address};
use e2e::random::Random;
use e2e::runtime::wait;
use e2e::sandbox::Sandbox;
use e2e::tree;
use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::Value;

use crate::tool::{Created, FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a test takes, and more.
const SOON: Duration = Duration::from_secs(10 * 60);

const PRUNE: [&str; 4] = ["prune", "--max-unused", "unlimited", "--json"];

/// A store with locks, and a repository in it that locks for 20 days: packs for 25.
struct Scene {
    sandbox: Sandbox,
    store: FakeS3,
    repo: Repo,
    source: PathBuf,
}

impl Scene {
    fn new() -> Self {
        Self::with(&["init", "--lock", "20d"])
    }

    fn with(init: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let store = FakeS3::locking(Locks::Kept);
        let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
        repo.run(init.iter().copied()).succeed();
        let source = sandbox.directory("source");
        fs::write(source.join("noise"), Random::new(61).bytes(500_000)).unwrap();
        fs::write(source.join("stays"), Random::new(62).bytes(300_000)).unwrap();
        Self { sandbox, store, repo, source }
    }

    fn change(&self, seed: u64) {
        fs::write(self.source.join("noise"), Random::new(seed).bytes(500_000)).unwrap();
    }

    /// What keys below `folder` hold now.
    fn latest(&self, folder: &str) -> Vec<(String, Version)> {
        let prefix = format!("repo/{folder}");
        let all = self.store.versions().into_iter();
        let latest = all.filter_map(|(key, mut of_key)| Some((key, of_key.pop()?)));
        latest.filter(|(key, latest)| key.starts_with(&prefix) && !latest.is_marker).collect()
    }

    /// How often something was locked that was there already.
    fn extensions(&self) -> usize {
        let calls = self.store.calls();
        calls.iter().filter(|call| call.op == Op::Lock && call.key.starts_with("repo/")).count()
    }

    fn assert_restores(&self, snapshot: &str) {
        let target = self.sandbox.path("target");
        assert_restored(&self.repo, snapshot, &self.source, &target);
        fs::remove_dir_all(target).unwrap();
    }

    fn client(&self) -> ObjectStore {
        client(self.store.address(), &self.store.address().url("repo"))
    }
}

fn client(address: &Address, url: &str) -> ObjectStore {
    let settings = S3Settings {
        endpoint: Some(address.endpoint.clone()),
        region: Some(address.region.clone()),
        access_key: Some(address.access_key.clone()),
        secret_key: Some(Secret::new(address.secret_key.clone())),
        ..S3Settings::default()
    };
    ObjectStore::open(&Location::parse(url).unwrap(), &settings).unwrap()
}

fn versions(client: &ObjectStore) -> Vec<ObjectVersion> {
    let client = client.clone();
    wait(async move { client.versions("").await.unwrap() })
}

fn until(version: &Version) -> SystemTime {
    version.retention.as_ref().map_or(SystemTime::UNIX_EPOCH, |retention| retention.until)
}

/// Whether that is so many days from now.
fn assert_days(scene: &Scene, key: &str, version: &Version, days: u32) {
    let wanted = scene.store.now() + DAY * days;
    let until = until(version);
    assert!(until < wanted + SOON && until + SOON > wanted, "{key}: {version:?}, not {days} days");
}

fn count(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {summary}"))
}

#[test]
fn a_snapshot_and_all_it_needs_is_locked_and_packs_for_longer() {
    let scene = Scene::new();
    let created = scene.repo.create([&scene.source]);
    for (folder, days) in [("packs/", 25), ("index/", 25), ("snapshots/", 20), ("repo.json", 25)] {
        let latest = scene.latest(folder);
        assert!(!latest.is_empty(), "nothing below {folder}");
        for (key, version) in latest {
            assert_days(&scene, &key, &version, days);
            assert_eq!(version.retention.unwrap().mode, "COMPLIANCE", "{key}");
        }
    }
    for (key, version) in scene.latest("marks/") {
        assert_eq!(version.retention, None, "{key}");
    }
    // None that asks for no locks was ever there: somebody could put it back.
    assert_eq!(scene.store.versions()["repo/repo.json"].len(), 1);
    scene.repo.check_clean();
    scene.assert_restores(&created.snapshot);
    let doctor = scene.repo.run(["doctor"]).succeed().stdout_text();
    assert!(doctor.contains("ok    locks: 20d=compliance; the newest snapshot and "), "{doctor}");
    assert!(doctor.contains("conditional writes: the store keeps to them"), "{doctor}");
}

#[test]
fn a_store_that_does_not_keep_to_locks_is_refused_by_init() {
    for (locks, word) in [
        (Locks::Unknown, "no object lock"),
        (Locks::Off, "no object lock"),
        (Locks::Ignored, "does not show a lock"),
        (Locks::Shown, "removed an object that was locked"),
        (Locks::NotExtended, "s3:putobjectretention"),
        (Locks::ExtendedInWords, "and does not"),
    ] {
        let sandbox = Sandbox::new();
        let store = FakeS3::locking(locks);
        let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
        let finished = repo.run(["init", "--lock", "20d"]).finish();
        assert_one_sentence(&finished, FAILED, &[word]);
        assert!(!store.objects().contains_key("repo/repo.json"), "{locks:?}");
        assert!(store.objects().is_empty(), "{locks:?}: {:?}", store.objects().keys());
        // Without locks it is a store as any other.
        repo.run(["init"]).succeed();
    }
}

#[test]
fn a_directory_and_a_time_that_is_none_are_refused() {
    let sandbox = Sandbox::new();
    let repo = Repo::at(&sandbox, &sandbox.path("repo"));
    let finished = repo.run(["init", "--lock", "20d"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["only a bucket of s3"]);
    assert!(!sandbox.path("repo").exists());
    repo.run(["init"]).succeed();
    let finished = repo.run(["lock", "20d"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["only a bucket of s3"]);
    for text in ["12h", "0d", "4000d", "20d=soft"] {
        let finished = repo.run(["lock", text]).finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
    }
}

#[test]
fn packs_are_locked_anew_when_a_snapshot_needs_it_and_not_every_night() {
    let scene = Scene::new();
    scene.repo.create([&scene.source]);
    for night in 1..=10 {
        scene.store.advance(DAY + Duration::from_secs(60));
        let before = scene.extensions();
        let created = scene.repo.create([&scene.source]);
        let extended = scene.extensions() - before;
        // In the fifth night what is left of the 25 days is minutes short of 20.
        assert_eq!(extended > 0, night % 5 == 0, "{extended} in night {night}");
        let snapshots = scene.latest("snapshots/");
        let end = snapshots.iter().map(|(_, version)| until(version)).max().unwrap();
        for (key, version) in scene.latest("packs/").into_iter().chain(scene.latest("repo.json")) {
            // The first night's tree is the same as all others', so every pack is needed.
            assert!(until(&version) >= end, "{key} is locked for less than the snapshot");
        }
        if night == 10 {
            scene.assert_restores(&created.snapshot);
        }
    }
}

#[test]
fn a_snapshot_whose_packs_cannot_be_locked_anew_is_not_committed() {
    let scene = Scene::new();
    scene.repo.create([&scene.source]);
    scene.store.advance(6 * DAY);
    for locks in [Locks::NotExtended, Locks::ExtendedInWords] {
        scene.store.set_locks(locks);
        let finished = scene.repo.try_create([&scene.source]);
        assert_one_sentence(&finished, FAILED, &["s3:putobjectretention"]);
        assert_eq!(scene.repo.snapshot_ids().len(), 1, "{locks:?}");
    }
    scene.store.set_locks(Locks::Kept);
    scene.repo.create([&scene.source]);
}

#[test]
fn a_prune_leaves_what_is_locked_and_removes_every_version_of_it_afterwards() {
    let scene = Scene::new();
    let first = scene.repo.create([&scene.source]);
    scene.change(63);
    let second = scene.repo.create([&scene.source]);
    scene.repo.run(["forget", &first.snapshot]).succeed();
    scene.store.advance(2 * DAY);
    let marked = scene.repo.run(PRUNE).succeed().last_json();
    let packs = count(&marked, "marked_packs");
    assert!(packs > 0 && count(&marked, "held_packs") == 0, "{marked}");
    assert!(count(&marked, "held_versions") > 0, "the document that was forgotten: {marked}");

    scene.store.advance(2 * DAY);
    let before = scene.latest("packs/").len();
    let held = scene.repo.run(PRUNE).succeed().last_json();
    assert_eq!((count(&held, "held_packs"), count(&held, "deleted_packs")), (packs, 0), "{held}");
    assert!(held["next_unlocked"].is_string(), "{held}");
    assert_eq!(scene.latest("packs/").len(), before);
    assert_eq!(count(&held, "refused_objects"), 0);
    let text = scene.repo.run(["prune", "--max-unused", "unlimited"]).succeed().stdout_text();
    assert!(text.contains("but locked") && text.contains("still locked"), "{text}");

    // Nothing was asked of the store that it would have refused: the locks of these packs end with their 25 days.
    scene.store.advance(22 * DAY);
    let deleted = scene.repo.run(PRUNE).succeed().last_json();
    assert_eq!((count(&deleted, "deleted_packs"), count(&deleted, "held_packs")), (packs, 0));
    assert!(count(&deleted, "removed_versions") > packs, "{deleted}");
    let rest = scene.store.versions();
    let of = |folder: &str| rest.keys().filter(|key| key.starts_with(folder)).count();
    assert_eq!(of("repo/packs/"), before - usize::try_from(packs).unwrap());
    assert_eq!(of("repo/snapshots/"), 1, "{:?}", rest.keys());
    scene.repo.check_clean();
    scene.assert_restores(&second.snapshot);
    let nothing = scene.repo.run(PRUNE).succeed().last_json();
    assert_eq!((count(&nothing, "held_versions"), count(&nothing, "refused_objects")), (0, 0));
}

#[test]
fn what_the_store_does_not_let_go_does_not_end_a_prune() {
    let scene = Scene::new();
    let first = scene.repo.create([&scene.source]);
    scene.change(64);
    let second = scene.repo.create([&scene.source]);
    scene.repo.run(["forget", &first.snapshot]).succeed();
    for _ in 0..2 {
        scene.store.advance(14 * DAY);
        scene.repo.run(PRUNE).succeed();
    }
    // Somebody else has locked what is hidden already; the prune does not know by its age.
    let gone = scene.repo.create([&scene.source]);
    scene.repo.run(["forget", &gone.snapshot, "--even-newest"]).succeed();
    scene.store.advance(300 * DAY);
    scene.store.set_held_by_others(true);
    let refused = scene.repo.run(PRUNE).finish().expect_code(WARNINGS).last_json();
    assert!(count(&refused, "refused_objects") > 0, "{refused}");
    let text = scene.repo.run(["prune"]).finish().expect_code(WARNINGS).stdout_text();
    assert!(text.contains("the store did not let"), "{text}");
    scene.store.set_held_by_others(false);
    let rest = scene.repo.run(PRUNE).succeed().last_json();
    assert_eq!(count(&rest, "refused_objects"), 0);
    scene.assert_restores(&second.snapshot);
}

/// Deletes every object, and tries to remove every version for good.
fn attack_by_deleting(client: &ObjectStore) {
    for version in versions(client) {
        let (client, key) = (client.clone(), version.key.clone());
        wait(async move { client.delete(&key).await.unwrap() });
    }
    for version in versions(client).into_iter().filter(|version| !version.is_marker) {
        let is_locked = ["packs/", "snapshots/", "index/", "moved/", "repo.json"]
            .iter()
            .any(|folder| version.key.starts_with(folder));
        let (client, removed) = (client.clone(), version.clone());
        let outcome =
            wait(async move { client.delete_version(&removed.key, &removed.version).await });
        let kind = outcome.map_err(|error| error.kind());
        // The lock of the probe is over soon.
        if !version.key.starts_with("doctor/") {
            assert_eq!(
                kind,
                if is_locked { Err(ErrorKind::Denied) } else { Ok(()) },
                "{version:?}"
            );
        }
    }
}

/// Back to the last good moment, as `docs/backup.md` says.
fn bring_back(repo: &Repo, good: SystemTime) -> Value {
    let mut text = Vec::new();
    // Cut off to milliseconds.
    Timestamp::from(good + Duration::from_secs(1))
        .format(TimestampFormat::DateTime, &mut text)
        .unwrap();
    let good = String::from_utf8(text).unwrap();
    let before = repo.run(["undelete", "--as-of", &good, "--dry-run", "--json"]).succeed();
    let done = repo.run(["undelete", "--as-of", &good, "--json"]).succeed().last_json();
    for field in ["shown", "rewritten"] {
        assert_eq!(count(&before.last_json(), field), count(&done, field));
    }
    let again = repo.run(["undelete", "--as-of", &good, "--json"]).succeed().last_json();
    assert_eq!((count(&again, "shown"), count(&again, "rewritten")), (0, 0), "{again}");
    done
}

#[test]
fn what_a_thief_of_the_keys_deletes_or_writes_over_comes_back() {
    let scene = Scene::new();
    let created = scene.repo.create([&scene.source]);
    let good = scene.store.now();
    let client = scene.client();
    scene.store.advance(DAY);
    attack_by_deleting(&client);
    assert_eq!(scene.store.objects().len(), 0);
    assert_eq!(scene.repo.run(["snapshots"]).finish().code(), Some(FAILED));
    let done = bring_back(&scene.repo, good);
    assert!(count(&done, "shown") >= 5 && count(&done, "rewritten") == 0, "{done}");
    scene.repo.check_clean();
    scene.assert_restores(&created.snapshot);

    // He locks what he writes: nobody can remove that.
    let good = scene.store.now();
    scene.store.advance(DAY);
    let forever = scene.store.now() + 1000 * DAY;
    let retention = Retention { mode: LockMode::Compliance, until: forever };
    for key in scene.store.objects().into_keys() {
        let (client, key) = (client.clone(), key.strip_prefix("repo/").unwrap().to_owned());
        wait(async move { client.put_retained(&key, "pay".into(), retention).await.unwrap() });
    }
    assert_eq!(scene.repo.run(["snapshots"]).finish().code(), Some(FAILED));
    let done = bring_back(&scene.repo, good);
    assert!(count(&done, "shown") == 0 && count(&done, "rewritten") >= 5, "{done}");
    scene.repo.check_clean();
    scene.assert_restores(&created.snapshot);
    for (key, version) in scene.latest("packs/") {
        assert_days(&scene, &key, &version, 25);
    }
    scene.repo.create([&scene.source]);
}

#[test]
fn what_was_written_over_in_silence_stays_locked_for_as_long_as_snapshots_need_it() {
    let scene = Scene::new();
    scene.repo.create([&scene.source]);
    let good = scene.store.now();
    let client = scene.client();
    scene.store.advance(DAY);
    let packs = scene.latest("packs/");
    let retention = Retention { mode: LockMode::Compliance, until: scene.store.now() + 1000 * DAY };
    for (key, version) in &packs {
        let (client, key) = (client.clone(), key.strip_prefix("repo/").unwrap().to_owned());
        // As long as what was there: whoever only looks at lengths sees nothing.
        let rubbish = vec![b'x'; version.bytes.len()];
        wait(async move { client.put_retained(&key, rubbish.into(), retention).await.unwrap() });
    }
    // Backups go on, since they read no packs, and say that something is odd.
    let mut last = None;
    for _ in 0..4 {
        scene.store.advance(9 * DAY);
        let created = scene.repo.try_create([&scene.source]).expect_code(0);
        assert!(created.stderr_text().contains("were written over"), "{created}");
        last = Some(Created::of(&created).snapshot);
    }
    let pruned = scene.repo.run(PRUNE).finish().expect_code(WARNINGS).last_json();
    assert_eq!(count(&pruned, "packs_written_over"), packs.len() as u64, "{pruned}");
    // The first locks are over for long.
    let all = scene.store.versions();
    let end = scene.store.now() + 19 * DAY;
    for (key, first) in &packs {
        let versions = &all[key];
        assert_eq!((versions.len(), &versions[0].id), (2, &first.id));
        assert!(until(&versions[0]) > end, "{key}: {versions:?}");
    }
    bring_back(&scene.repo, good);
    scene.repo.check_clean();
    let pruned = scene.repo.run(PRUNE).succeed().last_json();
    assert_eq!(count(&pruned, "packs_written_over"), 0, "{pruned}");
    scene.assert_restores(&last.unwrap());
}

#[test]
fn a_valid_repo_json_of_another_repository_does_not_stay() {
    let scene = Scene::new();
    let created = scene.repo.create([&scene.source]);
    let good = scene.store.now();
    let own = scene.store.objects()["repo/repo.json"].clone();
    scene.store.advance(DAY);
    let sandbox = Sandbox::new();
    Repo::directory(&sandbox);
    let clear = fs::read(sandbox.path("repo/repo.json")).unwrap();
    let sandbox = Sandbox::new();
    Repo::encrypted(&sandbox);
    let encrypted = fs::read(sandbox.path("repo/repo.json")).unwrap();
    for document in [clear, encrypted, b"{}".to_vec()] {
        let client = scene.client();
        wait(async move { client.put("repo.json", document.into()).await.unwrap() });
        assert_ne!(scene.repo.run(["check"]).finish().code(), Some(0));
        let done = bring_back(&scene.repo, good);
        assert_eq!(count(&done, "rewritten"), 1, "{done}");
        assert_eq!(scene.store.objects()["repo/repo.json"], own);
        for (key, version) in scene.latest("repo.json") {
            assert_days(&scene, &key, &version, 25);
        }
        scene.repo.check_clean();
    }
    scene.assert_restores(&created.snapshot);
    // A change of its own stays, unless that is what is to go.
    scene.repo.run(["lock", "30d"]).succeed();
    assert_eq!(count(&bring_back(&scene.repo, good), "rewritten"), 0);
    assert_ne!(scene.store.objects()["repo/repo.json"], own);
}

#[test]
fn packs_of_which_a_part_is_needed_are_stored_anew_under_locks() {
    let scene = Scene::new();
    let first = scene.repo.create([&scene.source]);
    scene.change(68);
    let second = scene.repo.create([&scene.source]);
    scene.repo.run(["forget", &first.snapshot]).succeed();
    scene.store.advance(3 * DAY);
    let anew = ["prune", "--max-unused", "0", "--json"];
    let done = scene.repo.run(anew).succeed().last_json();
    assert_eq!(count(&done, "repacked_packs"), 1, "{done}");
    let moved = scene.latest("moved/");
    assert_eq!(moved.len(), 1);
    for (key, version) in moved {
        assert_days(&scene, &key, &version, 25);
    }
    for _ in 0..3 {
        scene.store.advance(20 * DAY);
        scene.repo.create([&scene.source]);
        scene.repo.run(anew).succeed();
    }
    for _ in 0..2 {
        scene.store.advance(60 * DAY);
        scene.repo.run(anew).succeed();
    }
    scene.repo.check_clean();
    scene.assert_restores(&second.snapshot);
    let old = scene.store.versions();
    assert!(old.values().flatten().all(|version| !version.is_marker), "{:?}", old.keys());
}

#[test]
fn nothing_comes_back_in_a_directory() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let finished = repo.run(["undelete", "--as-of", "1h"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["only a bucket of s3"]);
    let finished = repo.run(["undelete", "--as-of", "yesterday"]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
}

#[test]
fn locks_can_be_said_later_made_longer_and_taken_off_but_not_harder() {
    let scene = Scene::with(&["init"]);
    scene.repo.create([&scene.source]);
    assert!(scene.latest("packs/").iter().all(|(_, version)| version.retention.is_none()));
    assert_eq!(scene.repo.run(["lock", "--json"]).succeed().json()["lock"], Value::Null);
    scene.repo.run(["lock", "20d=governance"]).succeed();
    // What was there before is locked by the next backup that needs it.
    scene.repo.create([&scene.source]);
    for (key, version) in scene.latest("packs/") {
        assert_days(&scene, &key, &version, 25);
        assert_eq!(version.retention.unwrap().mode, "GOVERNANCE");
    }
    let finished = scene.repo.run(["lock", "20d"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["governance mode"]);
    scene.repo.run(["lock", "40d=governance"]).succeed();
    let told = scene.repo.run(["lock", "--json"]).succeed().json();
    assert_eq!((&told["lock"]["days"], &told["lock"]["mode"]), (&40.into(), &"governance".into()));
    scene.repo.create([&scene.source]);
    for (key, version) in scene.latest("packs/") {
        assert_days(&scene, &key, &version, 50);
    }
    scene.repo.run(["lock", "off"]).succeed();
    scene.change(65);
    scene.repo.create([&scene.source]);
    assert!(scene.latest("packs/").iter().any(|(_, version)| version.retention.is_none()));
}

#[test]
fn an_encrypted_repository_is_locked_as_a_clear_one() {
    let sandbox = Sandbox::new();
    let store = FakeS3::locking(Locks::Kept);
    let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"))
        .with_new_keys(&sandbox);
    let init = ["init", "--lock", "20d", "--recipients-file"];
    let recipients = sandbox.path("keys/recipients");
    repo.without("BACKUP_IDENTITY_FILE").run(init).arg(recipients).succeed();
    let source = sandbox.directory("source");
    fs::write(source.join("noise"), Random::new(66).bytes(300_000)).unwrap();
    let scene = Scene { sandbox, store, repo, source };
    let created = scene.repo.create([&scene.source]);
    for (key, version) in scene.latest("packs/").into_iter().chain(scene.latest("repo.json")) {
        assert_days(&scene, &key, &version, 25);
    }
    scene.assert_restores(&created.snapshot);
}

#[test]
fn a_locked_repository_that_was_copied_to_a_directory_is_read_and_not_written_to() {
    let scene = Scene::new();
    let created = scene.repo.create([&scene.source]);
    let copy = scene.sandbox.path("copy");
    for (key, bytes) in scene.store.objects() {
        let path = copy.join(key.strip_prefix("repo/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let repo = Repo::at(&scene.sandbox, &copy);
    let target = scene.sandbox.path("target");
    assert_restored(&repo, &created.snapshot, &scene.source, &target);
    assert_one_sentence(&repo.try_create([&scene.source]), WRONG_USAGE, &["lock off"]);
    repo.run(["lock", "off"]).succeed();
    repo.create([&scene.source]);
}

#[test]
fn moto_keeps_to_the_locks_of_a_backup() {
    let Some(store) = object_store::ObjectStore::moto() else {
        return notice!(
            "there is no moto_server on PATH: locks are tried on the store in this process only"
        );
    };
    let sandbox = Sandbox::new();
    let repo = Repo::on_store(&sandbox, store.address(), &store.url());
    repo.run(["init", "--lock", "20d"]).succeed();
    let source = sandbox.directory("source");
    fs::write(source.join("noise"), Random::new(67).bytes(300_000)).unwrap();
    let created = repo.create([&source]);
    let client = client(store.address(), &store.url());
    let good = versions(&client).iter().map(|version| version.modified).max().unwrap();
    // Its times have whole seconds.
    std::thread::sleep(Duration::from_secs(2));
    attack_by_deleting(&client);
    assert_eq!(repo.run(["snapshots"]).finish().code(), Some(FAILED));
    bring_back(&repo, good);
    repo.check_clean();
    for key in ["repo.json", "snapshots/", "packs/"] {
        let good = versions(&client);
        let over = good.iter().find(|version| version.key.starts_with(key) && version.is_latest);
        let (writer, over) = (client.clone(), over.unwrap().key.clone());
        wait(async move { writer.put(&over, "pay".into()).await.unwrap() });
    }
    bring_back(&repo, good);
    repo.check_clean();
    assert_restored(&repo, &created.snapshot, &source, &sandbox.path("target"));
    repo.run(PRUNE).succeed();
}

fn assert_restored(repo: &Repo, snapshot: &str, source: &Path, target: &Path) {
    let restored = repo.restored(snapshot, target);
    assert_same_trees(&tree::read(source), &restored, Ignore::default());
}
