//! Death at every moment: what was committed restores byte for byte, and the repository goes on.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use e2e::compare::{Ignore, assert_same_trees};
use e2e::fake_s3::{Call, FakeS3, Fault, Objects, Op};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Tree};

use crate::operations::soak_factor;
use crate::tool::{Created, FAILED, Repo, WARNINGS};

/// No backup of this little source makes more calls than this.
const CALLS_MAX: usize = 500;

/// Moments at which a real run is killed; `CHORES_SOAK` multiplies them.
const KILLS: u32 = 50;

/// A store with one committed snapshot, and a source that has changed since.
struct Scene {
    sandbox: Sandbox,
    source: PathBuf,
    objects: Objects,
    first: (String, Tree),
    now: Tree,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let source = sandbox.directory("source");
        let mut random = Random::new(11);
        fs::write(source.join("noise"), random.bytes(900_000)).unwrap();
        fs::write(source.join("text"), random.text(50_000)).unwrap();
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/small"), "first").unwrap();
        let store = FakeS3::new();
        let repo = repo(&sandbox, &store, "home");
        repo.run(["init"]).succeed();
        let created = repo.create([&source]);
        let first = (created.snapshot, tree::read(&source));
        fs::write(source.join("more-noise"), random.bytes(700_000)).unwrap();
        fs::write(source.join("directory/small"), "second").unwrap();
        fs::remove_file(source.join("text")).unwrap();
        let now = tree::read(&source);
        Self { objects: store.objects(), sandbox, source, first, now }
    }

    /// A backup on a store that fails as planned; what the store holds afterwards, whether the backup
    /// claimed success, and which calls there were.
    fn create_under(&self, plan: &[Fault], number: usize) -> (Objects, Option<String>, Vec<Call>) {
        let store = FakeS3::with_objects(self.objects.clone(), plan);
        let home = self.home(number);
        let finished = repo(&self.sandbox, &store, &home).try_create([&self.source]);
        let claimed = match finished.code() {
            Some(0) => Some(Created::of(&finished).snapshot),
            // It is made, and nothing tells whether it is as usual.
            Some(WARNINGS) if Created::of(&finished).is_incomparable() => {
                Some(Created::of(&finished).snapshot)
            }
            Some(FAILED) => None,
            _ => panic!("{plan:?}: {finished}"),
        };
        let objects = store.objects();
        // What stands of a run that failed is told.
        if claimed.is_none() && snapshots(&objects) > snapshots(&self.objects) {
            assert!(finished.stderr_text().contains("snapshot "), "{plan:?}: {finished}");
        }
        (objects, claimed, store.calls())
    }

    /// The cache of the machine that made the first backup.
    fn home(&self, number: usize) -> String {
        let home = format!("home-{number}");
        let cache = self.sandbox.path("home/cache");
        if cache.exists() {
            e2e::zoo::copy(&cache, &self.sandbox.path(&home).join("cache"));
        }
        home
    }

    /// After the restart: all that is listed restores, what was claimed is listed, and the next backup
    /// works.
    fn assert_sound(
        &self,
        fault: Fault,
        number: usize,
        objects: Objects,
        claimed: Option<&String>,
    ) {
        let store = FakeS3::with_objects(objects, &[]);
        let repo = repo(&self.sandbox, &store, &format!("home-{number}"));
        let ids = repo.snapshot_ids();
        assert!(ids.contains(&self.first.0), "{fault:?}: the first snapshot is gone");
        assert!(
            claimed.is_none_or(|id| ids.contains(id)),
            "{fault:?}: {claimed:?} was claimed, but is not there"
        );
        for id in &ids {
            let wanted = if *id == self.first.0 { &self.first.1 } else { &self.now };
            self.assert_restores(&repo, id, wanted, &format!("{number}-{id}"));
        }
        let next = repo.create([&self.source]);
        self.assert_restores(&repo, &next.snapshot, &self.now, &format!("{number}-next"));
        repo.check_clean();
    }

    fn assert_restores(&self, repo: &Repo, id: &str, wanted: &Tree, target: &str) {
        let target = self.sandbox.path("targets").join(target);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        assert_same_trees(wanted, &repo.restored(id, &target), Ignore::default());
        fs::remove_dir_all(target).unwrap();
    }

    /// One backup for every call it makes, each with the fault at that call.
    fn at_every_call(&self, fault: impl Fn(usize) -> Fault) {
        for number in 0..CALLS_MAX {
            let fault = fault(number);
            let (objects, claimed, calls) = self.create_under(&[fault], number);
            self.assert_sound(fault, number, objects, claimed.as_ref());
            if calls.len() <= number {
                assert!(claimed.is_some(), "a backup failed although nothing went wrong");
                assert!(number > 3, "a backup made only {number} calls");
                return;
            }
        }
        panic!("a backup makes more than {CALLS_MAX} calls");
    }
}

fn snapshots(objects: &Objects) -> usize {
    objects.keys().filter(|key| key.contains("/snapshots/")).count()
}

fn repo(sandbox: &Sandbox, store: &FakeS3, home: &str) -> Repo {
    Repo::on_store(sandbox, store.address(), &store.address().url("repo"))
        .elsewhere(sandbox.directory(home))
}

#[test]
fn a_store_that_dies_before_any_call_loses_nothing() {
    Scene::new().at_every_call(Fault::Crash);
}

#[test]
fn a_store_that_dies_after_any_call_loses_nothing() {
    Scene::new().at_every_call(Fault::CrashAfter);
}

#[test]
fn a_lost_answer_to_any_call_loses_nothing() {
    Scene::new().at_every_call(Fault::AppliedButLost);
}

#[test]
fn a_snapshot_that_was_stored_by_a_store_that_then_only_fails_is_told() {
    let scene = Scene::new();
    let (_, _, calls) = scene.create_under(&[], 0);
    let is_commit = |call: &&Call| call.op == Op::Put && call.key.contains("/snapshots/");
    let commit = calls.iter().find(is_commit).unwrap().index;
    let plan = [Fault::AppliedButLost(commit), Fault::Fail(commit + 1)];
    let (objects, claimed, _) = scene.create_under(&plan, 1);
    assert_eq!((claimed, snapshots(&objects)), (None, snapshots(&scene.objects) + 1));
    scene.assert_sound(plan[1], 1, objects, None);
}

#[test]
fn one_failure_of_any_call_is_retried() {
    let scene = Scene::new();
    scene.at_every_call(Fault::FailOnce);
}

#[test]
fn a_call_that_always_fails_loses_nothing() {
    Scene::new().at_every_call(Fault::Fail);
}

#[test]
fn calls_out_of_order_lose_nothing() {
    Scene::new().at_every_call(Fault::Reorder);
}

#[test]
fn a_run_killed_at_any_moment_leaves_a_sound_repository() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    let mut random = Random::new(12);
    for number in 0..100 {
        fs::write(source.join(format!("small-{number}")), random.text(3000)).unwrap();
    }
    let repo = Repo::directory(&sandbox);
    change(&source, &mut random);
    let whole = repo.try_create([&source]).expect_code(0);
    let mut known = vec![Created::of(&whole).snapshot];
    let mut kills = 0;
    for round in 0..KILLS.saturating_mul(soak_factor()) {
        change(&source, &mut random);
        let now = tree::read(&source);
        // A little beyond the time a whole run takes, so that some rounds end by themselves.
        let span = whole.elapsed.as_micros() as u64 * 11 / 10;
        let moment = Duration::from_micros(random.below(span));
        let finished = repo.run(["create", "--json"]).arg(&source).start().kill_at(moment);
        kills += u32::from(finished.signal() == Some(9));
        for id in repo.snapshot_ids() {
            if !known.contains(&id) {
                let restored = repo.restored(&id, &sandbox.path(format!("target-{round}")));
                assert_same_trees(&now, &restored, Ignore::default());
                fs::remove_dir_all(sandbox.path(format!("target-{round}"))).unwrap();
                known.push(id);
            }
        }
        repo.check_clean();
    }
    assert!(kills > 0, "no run was killed: the test proves nothing");
    let created = repo.create([&source]);
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
    // What the killed runs were writing is nobody's as soon as it is old, and goes with the next run.
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
    for leftover in leftovers(repo.path()) {
        let file = fs::File::options().write(true).open(repo.path().join(leftover)).unwrap();
        file.set_modified(two_days_ago).unwrap();
    }
    repo.create([&source]);
    assert_eq!(leftovers(repo.path()), Vec::<PathBuf>::new(), "temporary files pile up");
}

/// New content of about 2 MB in files of all sizes.
fn change(source: &Path, random: &mut Random) {
    fs::write(source.join("noise"), random.bytes(1_500_000)).unwrap();
    fs::write(source.join("text"), random.text(600_000)).unwrap();
    for _ in 0..20 {
        let number = random.below(100);
        fs::write(source.join(format!("small-{number}")), random.text(3000)).unwrap();
    }
}

/// Files of a repository that are none of its objects and no cache.
fn leftovers(repo: &Path) -> Vec<PathBuf> {
    let is_object = |path: &[u8]| {
        let path = String::from_utf8_lossy(path);
        path == "repo.json"
            || [".tar.zst", ".idx", ".json", ".cache"].iter().any(|end| path.ends_with(end))
    };
    let files =
        tree::read(repo).into_iter().filter(|(_, node)| matches!(node.kind, tree::Kind::File(_)));
    files
        .filter(|(path, _)| !is_object(path))
        .map(|(path, _)| PathBuf::from(OsString::from_vec(path)))
        .collect()
}
