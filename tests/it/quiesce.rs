//! Containers hold still while their volumes are read, and go on whatever happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::images::{self, Image};
use e2e::process::Finished;
use e2e::sandbox::Sandbox;
use rustix::process::Signal;

use crate::tool::{
    BINARY, Created, FAILED, INTERRUPTED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence,
};

/// Writes the same number into two files of two volumes, one behind the other, without a pause; ends at once when it
/// is asked to.
const LOCK_STEP: &str = "trap 'exit 0' TERM; i=0
while :; do i=$((i+1)); echo $i > /data/one.new; mv /data/one.new /data/one
echo $i > /data/two.new; mv /data/two.new /data/two; done";

/// Does nothing; ends at once when it is asked to.
pub(crate) const IDLE: &str =
    "trap 'exit 0' TERM; touch /data/ready; while :; do sleep 1 & wait $!; done";

/// What the engine says of a container, in one word.
pub(crate) fn state(container: &Container) -> String {
    let state = container.inspect().state.unwrap_or_default();
    state.status.map(|status| status.to_string()).unwrap_or_default()
}

/// When its last run began.
pub(crate) fn started_at(container: &Container) -> String {
    container.inspect().state.and_then(|state| state.started_at).unwrap_or_default()
}

/// An engine, images, and a repository with a state directory of its own.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) busybox: Arc<Image>,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    pub(crate) sandbox: Sandbox,
    pub(crate) repo: Repo,
}

impl Scene {
    pub(crate) fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let worker = images::own_worker(&engine, Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, busybox, _worker: worker, sandbox, repo })
    }

    /// A new volume, and a container that runs a script with it at `/data`: in the order in which they must not go.
    pub(crate) fn service(&self, script: &str) -> (Volume, Container) {
        self.service_with(script, Spec::default())
    }

    pub(crate) fn service_with(&self, script: &str, more: Spec) -> (Volume, Container) {
        let volume = self.engine.volume();
        let container = self.engine.start(Spec {
            image: self.busybox.name().to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            binds: vec![format!("{}:/data", volume.name())],
            ..more
        });
        (volume, container)
    }

    /// `create --json --volumes-from CONTAINER ARGS…`.
    pub(crate) fn create(&self, container: &Container, args: &[&str]) -> Finished {
        let words = ["create", "--json", "--volumes-from", container.name()];
        self.repo.run(words.iter().chain(args).copied()).finish()
    }

    /// Restores a snapshot's source `/data`.
    fn restored(&self, snapshot: &str) -> PathBuf {
        let target = self.sandbox.path(format!("restored-{snapshot}"));
        self.repo.restore_run(snapshot, &target, &[]).succeed();
        target
    }

    fn journals(&self) -> Vec<PathBuf> {
        let directory = self.sandbox.path(".local/state/chores-backup/quiesce");
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits for the writer of [`LOCK_STEP`], and puts so much between its two files, in the order they are read in, that a
/// reader comes to the second one long after the first.
fn put_between(service: &Container) {
    service.sh("until [ -e /data/two ]; do :; done
        for i in 1 2 3 4 5 6 7 8; do head -c 8000000 /dev/urandom > /data/p$i; done");
}

/// The numbers that the two files have.
fn numbers(restored: &Path) -> (u64, u64) {
    let (one, two) = (read(&restored.join("one")), read(&restored.join("two")));
    (one.trim().parse().unwrap(), two.trim().parse().unwrap())
}

/// The number that both files have, which they only have together when the writer held still.
fn assert_same_moment(restored: &Path) {
    let (one, two) = numbers(restored);
    // The second file may be one behind: the writer was frozen between the two.
    assert!(one == two || one == two + 1, "{one} and {two} are of different moments");
}

#[test]
fn a_paused_container_is_saved_at_one_moment_and_goes_on() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(LOCK_STEP);
    put_between(&service);
    let began = started_at(&service);
    let torn = scene.create(&service, &[]);
    assert!(matches!(torn.code(), Some(0 | WARNINGS)), "{torn}");
    let (one, two) = numbers(&scene.restored(&Created::of(&torn).snapshot));
    assert!(one.abs_diff(two) > 1, "of one moment without a pause: the test proves nothing");
    for args in [&["--pause", service.name()][..], &["--pause", service.name(), "--no-guard"]] {
        let created = Created::of(&scene.create(&service, args).expect_code(0));
        assert_same_moment(&scene.restored(&created.snapshot));
        assert_eq!(state(&service), "running");
        assert_eq!(started_at(&service), began, "it was only paused");
        assert_eq!(scene.journals(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_stopped_container_is_saved_at_rest_and_started_again() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(
        "rm -f /data/clean; trap 'touch /data/clean; exit 0' TERM
        touch /data/running; while :; do sleep 1 & wait $!; done",
    );
    service.sh("until [ -e /data/running ]; do :; done");
    let began = started_at(&service);
    let created = Created::of(&scene.create(&service, &["--stop", service.name()]).expect_code(0));
    assert!(scene.restored(&created.snapshot).join("clean").exists(), "it had its time to end");
    assert_eq!(state(&service), "running");
    assert_ne!(started_at(&service), began);
}

#[test]
fn two_passes_save_one_moment_too() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(LOCK_STEP);
    put_between(&service);
    let args = ["--pause", service.name(), "--max-pause", "10m"];
    let created = Created::of(&scene.create(&service, &args).expect_code(0));
    assert_same_moment(&scene.restored(&created.snapshot));
    assert_eq!(state(&service), "running");
    scene.repo.check_clean();
}

#[test]
fn at_the_limit_everything_goes_on_and_the_snapshot_says_so() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("head -c 60000000 /dev/urandom > /data/large");
    // All was written just now, so the second pass has to read it again: longer than this.
    let args = ["--pause", service.name(), "--max-pause", "1ms"];
    let created = Created::of(&scene.create(&service, &args).expect_code(WARNINGS));
    assert_eq!(created.state, "warnings");
    assert!(created.warnings.iter().any(|warning| warning.contains("--max-pause")), "{created:?}");
    assert_eq!(state(&service), "running");
}

#[test]
fn commands_run_before_the_pause_and_after_it() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    let name = service.name();
    let pre = format!("{name}=echo before >> /data/order");
    let post = format!("{name}=echo after >> /data/order");
    let args = ["--pause", name, "--pre", &pre, "--post", &post];
    let created = Created::of(&scene.create(&service, &args).expect_code(0));
    assert_eq!(read(&scene.restored(&created.snapshot).join("order")), "before\n");
    assert_eq!(service.sh("cat /data/order").stdout_text(), "before\nafter\n");
}

/// A run that is asked to stop while a command before is at work, and what the commands have written then.
fn stopped_at_work(scene: &Scene, service: &Container, before: &str) -> String {
    let name = service.name();
    let pre = format!("{name}=touch /data/begun; {before}; echo before >> /data/order");
    let post = format!("{name}=echo after >> /data/order");
    let words = ["create", "--json", "--volumes-from", name, "--pre", &pre, "--post", &post];
    let running = scene.repo.run(words).start();
    service.sh("until [ -e /data/begun ]; do :; done");
    running.signal(Signal::TERM);
    running.wait().expect_code(INTERRUPTED);
    assert!(scene.repo.snapshots().is_empty());
    service.sh("cat /data/order 2>/dev/null || true").stdout_text()
}

#[test]
fn a_command_after_does_not_come_before_the_end_of_one_before_that_was_interrupted() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    let (_other_volume, other) = scene.service(IDLE);
    assert_eq!(stopped_at_work(&scene, &service, "sleep 3"), "before\nafter\n");
    assert_eq!(scene.journals(), Vec::<PathBuf>::new());
    // One that hangs is not waited for, and what comes after is left to be done.
    assert_eq!(stopped_at_work(&scene, &other, "until [ -e /data/go ]; do sleep 1; done"), "");
    assert!(!scene.journals().is_empty());
    other.sh("touch /data/go; until [ -e /data/order ]; do :; done");
    scene.repo.run(["resume"]).succeed();
    assert_eq!(other.sh("cat /data/order").stdout_text(), "before\nafter\n");
    assert_eq!(scene.journals(), Vec::<PathBuf>::new());
}

#[test]
fn what_needs_others_is_stopped_first_and_started_last() {
    let Some(scene) = Scene::new() else { return };
    let shared = scene.engine.volume();
    let log = |name: &str| {
        format!(
            "echo start {name} >> /log/order; trap 'echo stop {name} >> /log/order; exit 0' TERM
            while :; do sleep 1 & wait $!; done"
        )
    };
    let project = e2e::sandbox::unique_name();
    let service = |name: &str, needs: &str| {
        let labels = [
            ("com.docker.compose.project", project.as_str()),
            ("com.docker.compose.service", name),
            ("com.docker.compose.depends_on", needs),
        ];
        scene.engine.start(Spec {
            binds: vec![format!("{}:/log", shared.name())],
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Spec::new(scene.busybox.name(), ["sh", "-c", &log(name)])
        })
    };
    let database = service("db", "");
    let web = service("web", "db:service_started:false");
    web.sh("until grep -q 'start db' /log/order && grep -q 'start web' /log/order; do :; done; : > /log/order");
    let args =
        ["create", "--volume", shared.name(), "--stop", database.name(), "--stop", web.name()];
    scene.repo.run(args).succeed();
    web.sh("until grep -q 'start web' /log/order; do :; done");
    let order = web.sh("cat /log/order").stdout_text();
    assert_eq!(order, "stop web\nstop db\nstart db\nstart web\n");
    drop((web, database));
}

#[test]
fn a_failing_step_undoes_what_came_before_it() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    let (_other_volume, other) = scene.service(IDLE);
    let began = (started_at(&service), started_at(&other));
    let name = service.name();
    let post = format!("{name}=echo after >> /data/order");

    // The command before fails: nothing is paused, the command after runs all the same.
    let pre = format!("{name}=echo no good >&2; exit 7");
    let failed = scene.create(&service, &["--pause", name, "--pre", &pre, "--post", &post]);
    assert_eq!(failed.code(), Some(FAILED), "{failed}");
    assert!(failed.stderr_text().contains("status 7"), "{failed}");
    assert!(failed.stderr_text().contains("no good"), "{failed}");
    assert_eq!(service.sh("cat /data/order").stdout_text(), "after\n");

    // One of two containers is not there: it is planned before anything is done.
    let args = ["--stop", name, "--pause", other.name(), "--pause", "no-such-container"];
    let failed = scene.create(&service, &args);
    assert_eq!(failed.code(), Some(FAILED), "{failed}");
    assert_eq!((started_at(&service), started_at(&other)), began);

    // The store fails when it comes to reading: what was paused and stopped goes on.
    let breaker = scene.engine.start(Spec {
        binds: vec![format!("{}:/repo", scene.repo.path().display())],
        ..Spec::new(scene.busybox.name(), ["sleep", "600"])
    });
    let pre = format!("{}=rm -rf /repo/packs && touch /repo/packs", breaker.name());
    let args = ["--pause", name, "--stop", other.name(), "--pre", &pre];
    let failed = scene.create(&service, &args);
    assert_eq!(failed.code(), Some(FAILED), "{failed}");
    assert_ne!(started_at(&other), began.1, "it was stopped");
    assert_eq!((state(&service), state(&other)), ("running".to_owned(), "running".to_owned()));
    assert_eq!(scene.journals(), Vec::<PathBuf>::new());
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn a_failing_command_after_is_told_by_the_snapshot() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    let post = format!("{}=exit 3", service.name());
    let created = Created::of(
        &scene
            .create(&service, &["--pause", service.name(), "--post", &post])
            .expect_code(WARNINGS),
    );
    assert!(created.warnings.iter().any(|warning| warning.contains("status 3")), "{created:?}");
    assert_eq!(state(&service), "running");
}

#[test]
fn what_did_not_run_is_not_started_and_what_was_paused_stays_so() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    let (_stopped_volume, stopped) = scene.service(IDLE);
    stopped.kill();
    let (_frozen_volume, frozen) = scene.service(IDLE);
    frozen.pause();
    let (stopped_at, frozen_at) = (started_at(&stopped), started_at(&frozen));
    let args = ["--pause", frozen.name(), "--stop", stopped.name(), "--stop", service.name()];
    scene.create(&service, &args).expect_code(0);
    assert_eq!((state(&stopped), started_at(&stopped)), ("exited".to_owned(), stopped_at));
    assert_eq!((state(&frozen), started_at(&frozen)), ("paused".to_owned(), frozen_at));
    assert_eq!(state(&service), "running");
    frozen.unpause();
}

#[test]
fn paths_of_this_machine_are_read_while_a_container_holds_still() {
    let Some(scene) = Scene::new() else { return };
    let data = scene.sandbox.directory("data");
    let service = scene.engine.start(Spec {
        binds: vec![format!("{}:/data", data.display())],
        ..Spec::new(scene.busybox.name(), ["sh", "-c", LOCK_STEP])
    });
    service.sh("until [ -e /data/two ]; do :; done");
    for more in [&[][..], &["--max-pause", "10m"]] {
        let mut args = vec!["create", "--json", data.to_str().unwrap(), "--pause", service.name()];
        args.extend(more);
        let created = Created::of(&scene.repo.run(args).finish().expect_code(0));
        assert_same_moment(&scene.restored(&created.snapshot));
        assert_eq!(state(&service), "running");
    }
}

#[test]
fn a_damaged_journal_or_one_of_a_later_version_ends_the_run() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    let directory = scene.sandbox.directory(".local/state/chores-backup/quiesce");
    let journal = directory.join("0123456789abcdef.json");
    let later = r#"{"format":"chores-backup-quiesce","version":2,"news":[]}"#;
    for (text, word) in [("", "damaged"), ("{\"version\":1}", "damaged"), (later, "version 2")] {
        std::fs::write(&journal, text).unwrap();
        for command in [&["create", "--volumes-from", service.name()][..], &["resume"]] {
            let failed = scene.repo.run(command.iter().copied()).finish();
            assert_one_sentence(&failed, FAILED, &[word]);
            assert!(failed.stderr_text().contains("0123456789abcdef.json"), "{failed}");
        }
        assert_eq!(read(&journal), text, "it is left as it is");
    }
    assert!(scene.repo.snapshots().is_empty());
    std::fs::remove_file(journal).unwrap();
    scene.create(&service, &[]).expect_code(0);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    let began = started_at(&service);
    let name = service.name();
    let refused = [
        (&["--pause", name, "--stop", name][..], WRONG_USAGE, "--pause and with --stop"),
        (&["--max-pause", "5s"], WRONG_USAGE, "--max-pause limits"),
        (&["--pause", name, "--max-pause", "5s", "--no-cache"], WRONG_USAGE, "cache"),
        (&["--pause", "no-such-container"], FAILED, "no-such-container"),
    ];
    for (args, code, word) in refused {
        assert_one_sentence(&scene.create(&service, args), code, &[word]);
    }
    assert_eq!((state(&service), started_at(&service)), ("running".to_owned(), began));
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn the_files_of_a_running_database_are_refused_with_the_ways_out() {
    let Some(scene) = Scene::new() else { return };
    let (volume, service) = scene.service(IDLE);
    service.sh("echo 1 > /data/ibdata1");
    let by_container = scene.create(&service, &[]);
    assert_one_sentence(&by_container, WRONG_USAGE, &["--allow-live-database"]);
    assert!(by_container.stderr_text().contains(service.name()), "{by_container}");
    let by_volume = scene.repo.run(["create", "--volume", volume.name()]).finish();
    assert_one_sentence(&by_volume, WRONG_USAGE, &["backup dump --container"]);
    assert!(scene.repo.snapshots().is_empty());

    scene.create(&service, &["--pause", service.name()]).expect_code(0);
    scene.create(&service, &["--allow-live-database"]).expect_code(0);
    service.stop();
    scene.create(&service, &[]).expect_code(0);
}

#[test]
fn without_an_engine_the_files_of_a_database_are_flagged_and_others_are_not() {
    let Some(scene) = Scene::new() else { return };
    let image = images::backup(&scene.engine, Path::new(BINARY));
    let (_volume, service) = scene.service(IDLE);
    let create = |args: &[&str]| {
        let words = ["create", "--repo", "/repo", "--json", "--name", "shop"];
        scene.engine.run(Spec {
            volumes_from: vec![format!("{}:ro", service.name())],
            binds: vec![format!("{}:/repo", scene.repo.path().display())],
            ..Spec::new(image.name(), words.iter().chain(args).copied())
        })
    };
    create(&[]).expect_code(0);
    service.sh("echo 1 > /data/postmaster.pid");
    let flagged = create(&[]).expect_code(WARNINGS.into());
    assert!(flagged.stdout_text().contains("PostgreSQL"), "{}", flagged.stdout_text());
    create(&["--allow-live-database"]).expect_code(0);
}

#[test]
fn a_snapshot_of_less_than_half_is_kept_and_said_to_be_suspicious() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("for i in $(seq 1 30); do echo $i > /data/$i; done");
    scene.create(&service, &[]).expect_code(0);
    service.sh("rm /data/1*");
    scene.create(&service, &[]).expect_code(0);
    service.sh("rm /data/[2-9]*");
    // What is gone stays so, the night after as well.
    for _ in 0..2 {
        let created = Created::of(&scene.create(&service, &[]).expect_code(WARNINGS));
        assert!(
            created.warnings.iter().any(|warning| warning.contains("files are gone")),
            "{created:?}"
        );
        assert_eq!(created.summary["suspicious"], true, "{created:?}");
    }
    let listed = scene.repo.run(["snapshots"]).succeed();
    assert_eq!(listed.stdout_text().matches("suspicious").count(), 2, "{listed}");
    // It was meant: from now on that is what there is.
    scene.create(&service, &["--allow-change"]).expect_code(0);
    scene.create(&service, &[]).expect_code(0);
    assert_eq!(scene.repo.snapshots().len(), 6);
    scene.repo.check_clean();
}

#[test]
fn what_may_stand_still_and_cannot_be_let_go_on_is_no_success() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let data = sandbox.directory("data");
    std::fs::write(data.join("file"), "content").unwrap();
    let journal = sandbox.directory(".local/state/chores-backup/quiesce").join("1.json");
    std::fs::write(&journal, "{}").unwrap();
    let (data, engine) = (data.to_str().unwrap(), "unix:///no/such/socket");
    let created = repo.run(["create", "--engine", engine, data]).finish().expect_code(WARNINGS);
    assert!(created.stderr_text().contains("stays so"), "{created}");
    assert_eq!(repo.snapshots().len(), 1);
    assert!(journal.exists());
}
