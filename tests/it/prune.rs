//! Space comes back, and what is left restores: packs that are stored anew, on every store, beside others and through every crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use e2e::compare::{Ignore, assert_same_trees};
use e2e::fake_s3::{FakeS3, Fault, Objects};
use e2e::object_store::ObjectStore;
use e2e::process::Run;
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Tree};
use serde_json::Value;

use crate::tool::{FAILED, Repo, WARNINGS, errors};

/// No prune of this little repository makes more calls than this.
const CALLS_MAX: usize = 300;

/// A prune that leaves nothing of no use in packs.
const PRUNE: [&str; 4] = ["prune", "--max-unused", "0", "--json"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A source, and a repository with one snapshot of it that needs a third of an older pack.
fn scene(sandbox: &Sandbox, repo: &Repo) -> (PathBuf, String) {
    let source = sandbox.directory("source");
    let mut random = Random::new(21);
    fs::write(source.join("changes"), random.bytes(500_000)).unwrap();
    fs::write(source.join("stays"), random.bytes(200_000)).unwrap();
    fs::write(source.join("text"), random.text(90_000)).unwrap();
    let first = repo.create([&source]);
    fs::write(source.join("changes"), random.bytes(500_000)).unwrap();
    let second = repo.create([&source]);
    repo.run(["forget", &first.snapshot]).succeed();
    (source, second.snapshot)
}

fn assert_restores(repo: &Repo, snapshot: &str, wanted: &Tree, target: &Path) {
    assert_same_trees(wanted, &repo.restored(snapshot, target), Ignore::default());
    fs::remove_dir_all(target).unwrap();
}

/// A day passes: the store's clock of a directory is the time of its files.
fn pass_a_day(repo: &Path) {
    for folder in ["packs", "marks", "moved", "runs"] {
        let mut open = vec![repo.join(folder)];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let file = fs::File::options().write(true).open(&path).unwrap();
                    let time = file.metadata().unwrap().modified().unwrap();
                    file.set_modified(time - DAY).unwrap();
                }
            }
        }
    }
}

fn count(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {summary}"))
}

fn salvage(repo: &Path, snapshot: &str, target: &Path) -> Run {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    Run::new("sh").arg(script).arg(repo).arg(snapshot).arg(target)
}

#[test]
fn a_third_of_a_pack_is_stored_anew_and_the_rest_comes_back() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let (source, snapshot) = scene(&sandbox, &repo);
    let now = tree::read(&source);
    let before = tree::read(repo.path());
    let dry = repo.run(PRUNE).arg("--dry-run").succeed().last_json();
    assert_eq!(tree::read(repo.path()), before, "a dry run changed something");
    assert_eq!((count(&dry, "repacked_packs"), dry["repacking"].as_str()), (1, Some("done")));
    assert!(count(&dry, "unused_bytes") > 450_000, "{dry}");
    let text = repo.run(["prune", "--max-unused", "0", "--dry-run"]).succeed().stdout_text();
    assert!(text.contains("would be stored anew"), "{text}");

    let done = repo.run(PRUNE).succeed().last_json();
    assert_eq!(count(&done, "repacked_bytes"), count(&dry, "repacked_bytes"));
    assert!(count(&done, "rewritten_bytes") < 400_000, "{done}");
    assert_restores(&repo, &snapshot, &now, &sandbox.path("target"));
    for _ in 0..2 {
        pass_a_day(repo.path());
        repo.run(PRUNE).succeed();
    }
    let stats = repo.run(["stats", "--json"]).succeed().json();
    assert!(count(&stats, "stored_bytes") < 1_100_000, "{stats}");
    repo.check_clean();
    assert_restores(&repo, &snapshot, &now, &sandbox.path("target"));
    // Another prune moved the same pack and stood still, and what it had stored is gone.
    let moved = tree::read(repo.path()).into_keys().map(|path| String::from_utf8(path).unwrap());
    let moved =
        moved.into_iter().find(|path| path.starts_with("moved/") && path.ends_with(".json"));
    let mut document: Value =
        serde_json::from_slice(&fs::read(repo.path().join(moved.unwrap())).unwrap()).unwrap();
    for into in document["moves"][0]["packs"].as_object_mut().unwrap().values_mut() {
        *into = serde_json::json!(["0".repeat(32)]);
    }
    let first = repo.path().join("moved/00000000T000000Z-0.json");
    fs::write(&first, document.to_string()).unwrap();
    salvage(repo.path(), &snapshot, &sandbox.path("salvaged")).succeed();
    fs::remove_file(first).unwrap();
    let salvaged = tree::read(&sandbox.path("salvaged").join(source.strip_prefix("/").unwrap()));
    assert_same_trees(&now, &salvaged, Ignore::default());
    let again = repo.create([&source]);
    assert_eq!(again.summary["stats"]["bytes_added"], 0);
}

#[test]
fn every_object_store_keeps_what_was_stored_anew() {
    for store in ObjectStore::all() {
        let sandbox = Sandbox::new();
        let repo = Repo::on_store(&sandbox, store.address(), &store.url());
        repo.run(["init"]).succeed();
        let (source, snapshot) = scene(&sandbox, &repo);
        let done = repo.run(PRUNE).succeed().last_json();
        assert_eq!(count(&done, "repacked_packs"), 1, "{}: {done}", store.kind());
        assert_restores(&repo, &snapshot, &tree::read(&source), &sandbox.path("target"));
        repo.check_clean();
    }
}

#[test]
fn who_has_the_private_key_stores_packs_of_an_encrypted_repository_anew() {
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    let (source, snapshot) = scene(&sandbox, &repo);
    let now = tree::read(&source);
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let kept = sidecar.run(PRUNE).succeed().last_json();
    assert_eq!(
        (count(&kept, "repacked_packs"), kept["repacking"].as_str()),
        (0, Some("no-identity"))
    );
    let done = repo.run(PRUNE).succeed().last_json();
    assert_eq!(count(&done, "repacked_packs"), 1);
    for _ in 0..2 {
        pass_a_day(repo.path());
        sidecar.run(PRUNE).succeed();
    }
    repo.check_clean();
    let reader = repo.without("BACKUP_KEY_FILE");
    assert_restores(&reader, &snapshot, &now, &sandbox.path("target"));
    let identity = sandbox.path("keys/identity");
    let salvaged = sandbox.path("salvaged");
    salvage(repo.path(), "latest", &salvaged).env("SALVAGE_IDENTITY", identity).succeed();
    let salvaged = tree::read(&salvaged.join(source.strip_prefix("/").unwrap()));
    assert_same_trees(&now, &salvaged, Ignore::default());
    let again = sidecar.create([&source]);
    assert_eq!(again.summary["stats"]["bytes_added"], 0);
}

#[test]
fn without_the_private_key_packs_are_checked_for_what_they_are_and_that_is_said() {
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    scene(&sandbox, &repo);
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let checked = sidecar.run(["check", "--read-data", "--json"]).finish().expect_code(WARNINGS);
    let summary = checked.last_json();
    assert_eq!((errors(&summary).len(), summary["keyless"].as_bool()), (0, Some(true)));
    assert_eq!(count(&summary, "packs_read"), count(&summary, "packs"));
    let text = sidecar.run(["check", "--read-data"]).finish().expect_code(WARNINGS).stdout_text();
    assert!(text.contains("not whether they can be decrypted"), "{text}");
    // One byte in the middle of one pack.
    let packs = tree::read(repo.path()).into_keys().map(|path| String::from_utf8(path).unwrap());
    let pack = packs.into_iter().find(|path| path.ends_with(".age")).unwrap();
    let path = repo.path().join(&pack);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    sidecar.run(["check"]).succeed();
    let checked = sidecar.run(["check", "--read-data", "--json"]).finish().expect_code(FAILED);
    assert!(errors(&checked.last_json()).iter().any(|error| error["object"] == pack.as_str()));
}

#[test]
fn two_prunes_and_a_backup_at_once_lose_nothing() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let (source, snapshot) = scene(&sandbox, &repo);
    let before = tree::read(&source);
    for round in 0..3 {
        let prunes = [repo.run(PRUNE).start(), repo.run(PRUNE).start()];
        let created = repo.create([&source]);
        for prune in prunes {
            prune.wait().expect_code(0);
        }
        repo.check_clean();
        assert_restores(&repo, &snapshot, &before, &sandbox.path("target"));
        assert_restores(&repo, &created.snapshot, &tree::read(&source), &sandbox.path("target"));
        pass_a_day(repo.path());
        fs::write(source.join("text"), Random::new(50 + round).text(90_000)).unwrap();
    }
}

/// A store with a pack of which a part is needed.
struct Half {
    sandbox: Sandbox,
    objects: Objects,
    snapshot: String,
    now: Tree,
}

impl Half {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let store = FakeS3::new();
        let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
        repo.run(["init"]).succeed();
        let (source, snapshot) = scene(&sandbox, &repo);
        Self { objects: store.objects(), snapshot, now: tree::read(&source), sandbox }
    }

    /// One prune for every call it makes, each with the fault at that call, and one behind it that goes on.
    fn at_every_call(&self, fault: impl Fn(usize) -> Fault) {
        for number in 0..CALLS_MAX {
            let fault = fault(number);
            let store = FakeS3::with_objects(self.objects.clone(), &[fault]);
            let finished = self.repo(&store).run(PRUNE).finish();
            let calls = store.calls().len();
            let store = FakeS3::with_objects(store.objects(), &[]);
            let repo = self.repo(&store);
            assert_eq!(repo.snapshot_ids(), std::slice::from_ref(&self.snapshot), "{fault:?}");
            self.assert_restores(&repo, number);
            // What the first has left of new packs may have to go before anything is stored anew.
            repo.run(PRUNE).succeed();
            self.assert_restores(&repo, number);
            repo.check_clean();
            if calls <= number {
                assert_eq!(finished.code(), Some(0), "a prune failed although nothing went wrong");
                assert!(number > 10, "a prune made only {number} calls");
                return;
            }
        }
        panic!("a prune makes more than {CALLS_MAX} calls");
    }

    fn repo(&self, store: &FakeS3) -> Repo {
        Repo::on_store(&self.sandbox, store.address(), &store.address().url("repo"))
    }

    fn assert_restores(&self, repo: &Repo, number: usize) {
        let target = self.sandbox.path(format!("target-{number}"));
        assert_restores(repo, &self.snapshot, &self.now, &target);
    }
}

#[test]
fn a_prune_whose_store_dies_before_any_call_loses_nothing() {
    Half::new().at_every_call(Fault::Crash);
}

#[test]
fn a_prune_whose_store_dies_after_any_call_loses_nothing() {
    Half::new().at_every_call(Fault::CrashAfter);
}

#[test]
fn a_prune_killed_at_any_moment_leaves_a_sound_repository() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let (source, snapshot) = scene(&sandbox, &repo);
    let mut random = Random::new(22);
    let begun = SystemTime::now();
    repo.run(PRUNE).arg("--dry-run").succeed();
    let span = begun.elapsed().unwrap().as_micros() as u64 * 2;
    let mut kills = 0;
    for _ in 0..10 {
        // More of the old packs is of no use each time.
        fs::write(source.join("changes"), random.bytes(600_000)).unwrap();
        let created = repo.create([&source]);
        let now = tree::read(&source);
        let moment = Duration::from_micros(random.below(span));
        let finished = repo.run(PRUNE).start().kill_at(moment);
        kills += u32::from(finished.signal() == Some(9));
        repo.check_clean();
        assert_restores(&repo, &created.snapshot, &now, &sandbox.path("target"));
        repo.run(["forget", &created.snapshot, "--even-newest"]).succeed();
        pass_a_day(repo.path());
    }
    assert!(kills > 0, "no prune was killed: the test proves nothing");
    repo.run(PRUNE).succeed();
    repo.check_clean();
    repo.restored(&snapshot, &sandbox.path("target"));
}
