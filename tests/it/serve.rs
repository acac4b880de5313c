//! The resident mode: what labels and files order is saved by itself, and nothing that one job does stops another one.
//!
//! The engine is shared with other tests, so each serves only containers with a label of its own.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::databases::{Database, Kind, Secret};
use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::http_receiver::HttpReceiver;
use e2e::images::{self, Image, ImageFile};
use e2e::process::{Finished, Run, Running, find_program};
use e2e::sandbox::Sandbox;
use e2e::second_engine::SecondEngine;
use rustix::process::Signal;
use serde_json::Value;

use crate::quiesce::{IDLE, state};
use crate::tool::{BINARY, FAILED, Repo, WARNINGS, WRONG_USAGE, backup, text};

const HOST: &str = "serve-test";

/// What all of these serve by; its value is the test's.
const SCOPE: &str = "chores-test-serve";

const ENABLE: (&str, &str) = ("chores.backup.enable", "true");

/// The engine's socket, for a container that asks it.
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

/// The longest wait for anything: a schedule of minutes, engines that start, machines that do other things too.
const PATIENCE: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(50);

struct Scene {
    engine: Engine,
    busybox: Arc<Image>,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    sandbox: Sandbox,
    repo: Repo,
}

/// A container with a volume, in the order in which they must not go.
struct Service {
    container: Container,
    _volume: Volume,
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let worker = images::own_worker(&engine, Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, busybox, _worker: worker, sandbox, repo })
    }

    fn service(&self, labels: &[(&str, &str)]) -> Service {
        self.service_of(&self.engine, self.busybox.name(), labels)
    }

    fn service_of(&self, engine: &Engine, image: &str, labels: &[(&str, &str)]) -> Service {
        let volume = engine.volume();
        let container = engine.start(Spec {
            binds: vec![format!("{}:/data", volume.name())],
            labels: self.labels(labels),
            stop_timeout: Some(2),
            ..Spec::new(image, ["sh", "-c", IDLE])
        });
        container.sh("until [ -e /data/ready ]; do :; done; echo hello > /data/file");
        Service { container, _volume: volume }
    }

    fn labels(&self, labels: &[(&str, &str)]) -> HashMap<String, String> {
        let own = (SCOPE, self.sandbox.name());
        let all = labels.iter().copied().chain([own]);
        all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn state_dir(&self) -> PathBuf {
        self.sandbox.path("state")
    }

    /// `serve` of the containers of this test alone, at once.
    fn serve(&self, args: &[&str]) -> Run {
        let scope = format!("--containers-with={SCOPE}={}", self.sandbox.name());
        self.repo
            .run(["serve", "--host", HOST, "--jitter", "0s", "--state-dir"])
            .arg(self.state_dir())
            .arg(scope)
            .args(args.iter().copied())
    }

    /// `serve` that stays, with a configuration: the lines, and none of the wait after a start.
    fn stay(&self, config: &str, args: &[&str]) -> Running {
        let config = self.config(config);
        let run = self.serve(args).arg("--config").arg(config);
        run.deadline(Duration::from_secs(600)).start()
    }

    fn config(&self, lines: &str) -> PathBuf {
        self.sandbox.file("serve.toml", format!("catch_up_delay = \"0s\"\n{lines}"))
    }

    /// `serve --once --json`, which ends with this code.
    fn once(&self, args: &[&str], code: i32) -> Value {
        let words: Vec<_> = ["--once", "--json"].into_iter().chain(args.iter().copied()).collect();
        self.serve(&words).deadline(Duration::from_secs(300)).finish().expect_code(code).last_json()
    }

    fn health(&self, aspect: &str) -> Finished {
        let run = backup(&self.sandbox).args(["healthcheck", aspect, "--json", "--state-dir"]);
        run.arg(self.state_dir()).finish()
    }

    /// Waits until the report of a run that stays says so.
    fn until_told(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = within_patience(|| {
            let health = self.health("ready");
            last = serde_json::from_slice::<Value>(&health.stdout).ok();
            last.as_ref().is_some_and(&is_so)
        });
        assert!(found, "{what}: {last:?}");
        last.unwrap()
    }

    /// How many snapshots of this name there are.
    fn count(&self, name: &str) -> usize {
        self.repo.snapshots().iter().filter(|snapshot| text(snapshot, "name") == name).count()
    }

    /// The last run of a job was years ago, in what is remembered by who does not run.
    fn let_years_pass(&self, name: &str) {
        let path = self.state_dir().join("serve/state.json");
        let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let times = &mut state["jobs"][name]["save"]["times"];
        for moment in ["last_start", "last_end"] {
            assert!(times[moment].is_string(), "{state}");
            times[moment] = "2020-02-02T02:02:02Z".into();
        }
        std::fs::write(&path, state.to_string()).unwrap();
    }

    fn until_saved(&self, name: &str, count: usize) {
        until(&format!("{count} snapshots of {name}"), || self.count(name) >= count);
    }
}

fn within_patience(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(within_patience(is_so), "waited in vain for: {what}");
}

/// What is said of the job of this name.
fn job<'r>(report: &'r Value, name: &str) -> &'r Value {
    let jobs = report["jobs"].as_array().expect("jobs");
    jobs.iter().find(|job| job["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn verdict(report: &Value, name: &str) -> String {
    text(&job(report, name)["save"], "last_verdict")
}

fn told(report: &Value, words: &str) -> bool {
    let ailments = report["ailments"].as_array().expect("ailments");
    ailments.iter().any(|text| text.as_str().is_some_and(|text| text.contains(words)))
}

#[test]
fn what_labels_order_is_saved_and_a_job_that_fails_stops_no_other() {
    let Some(scene) = Scene::new() else { return };
    let good = scene.service(&[ENABLE]);
    let bad = scene.service(&[ENABLE, ("chores.backup.pre", "echo secret; exit 7")]);
    let unordered = scene.service(&[("chores.backup.schedule", "@daily")]);
    let report = scene.once(&[], FAILED);
    assert_eq!(verdict(&report, good.container.name()), "good", "{report}");
    assert_eq!(verdict(&report, bad.container.name()), "failed", "{report}");
    assert!(!report.to_string().contains("secret"), "what a command says is not told: {report}");
    assert_eq!(scene.count(good.container.name()), 1);
    assert_eq!(scene.count(bad.container.name()), 0);
    assert_eq!(scene.count(unordered.container.name()), 0);
    let snapshot = scene.repo.snapshots().remove(0);
    assert_eq!(text(&snapshot, "host"), HOST);
    // Without the bad one all is saved that is to be, and it is not time yet for more.
    bad.container.remove();
    let run = scene.serve(&["--once"]).finish();
    assert_eq!(
        run.code(),
        Some(FAILED),
        "its container is gone, and nobody said that it may: {run}"
    );
    std::fs::remove_dir_all(scene.state_dir()).unwrap();
    let report = scene.once(&[], 0);
    assert_eq!(scene.count(good.container.name()), 1, "it is known from the repository: {report}");
}

#[test]
fn a_schedule_is_kept_and_a_database_is_dumped_and_old_snapshots_go() {
    let Some(scene) = Scene::new() else { return };
    let labels =
        [ENABLE, ("chores.backup.schedule", "* * * * *"), ("chores.backup.retain", "last=1")];
    let database = Database::start_with(&scene.engine, Kind::MariaDb, Secret::Plain, |spec| {
        spec.labels.extend(scene.labels(&labels));
    });
    let Some(database) = database else { return };
    database.wait_ready();
    database.query("CREATE TABLE t (n INT); INSERT INTO t VALUES (7);");
    let serving = scene.stay("", &[]);
    let name = database.container().name();
    let first = scene.until_told("a first backup", |report| {
        report["jobs"].as_array().is_some_and(|jobs| {
            jobs.iter().any(|job| job["name"] == name && job["last_good"].is_string())
        })
    });
    let first = text(job(&first, name), "last_good_snapshot");
    scene.until_told("another backup, and that the first one went", |report| {
        let job = job(report, name);
        job["last_good_snapshot"] != first.as_str() && job["retain"]["last_verdict"] == "good"
    });
    let snapshots = scene.repo.snapshots();
    assert!(
        snapshots.iter().all(|snapshot| snapshot["dumps"][0]["kind"] == "mysql"),
        "{snapshots:?}"
    );
    until("one snapshot", || scene.count(name) == 1 && scene.repo.snapshot_ids()[0] != first);
    scene.health("ready").expect_code(0);
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
    scene.health("alive").expect_code(FAILED);
}

#[test]
fn a_run_that_hangs_is_cut_and_the_others_go_on() {
    let Some(scene) = Scene::new() else { return };
    let service = scene.service(&[]);
    let name = service.container.name();
    scene.sandbox.file("etc/file", "hello");
    let config = scene.config(&format!(
        "[[job]]\nname = \"hangs\"\ncontainer = \"{name}\"\npre = [\"{name}=sleep 1000\"]\ntime_max = \"3s\"\n\
         [[job]]\nname = \"etc\"\npaths = [\"{}\"]\n",
        scene.sandbox.path("etc").display()
    ));
    let report = scene.once(&["--config", config.to_str().unwrap()], FAILED);
    assert_eq!(verdict(&report, "hangs"), "timed_out", "{report}");
    assert_eq!(verdict(&report, "etc"), "good", "{report}");
    assert_eq!(state(&service.container), "running");
}

#[test]
fn labels_of_an_image_are_no_orders() {
    let Some(scene) = Scene::new() else { return };
    let recipe = format!(
        "FROM {}\nLABEL chores.backup.enable=true chores.backup.pre=\"touch /data/evil\"\n",
        scene.busybox.name()
    );
    let image = images::build(&scene.engine, &recipe, &[]);
    let service = scene.service_of(&scene.engine, image.name(), &[]);
    let report = scene.once(&[], WARNINGS);
    assert_eq!(report["jobs"].as_array().unwrap().len(), 0, "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("from its image"), "{report}");
    assert!(scene.repo.snapshots().is_empty());
    drop(service);
    // An operator who wants it says more than the image does; its command is still none of his.
    let recipe =
        format!("FROM {}\nLABEL chores.backup.pre=\"touch /data/evil\"\n", scene.busybox.name());
    let image = images::build(&scene.engine, &recipe, &[]);
    let service = scene.service_of(&scene.engine, image.name(), &[ENABLE]);
    scene.once(&[], 0);
    service.container.sh("[ ! -e /data/evil ]");
}

#[test]
fn two_jobs_of_one_name_are_told_and_both_are_saved() {
    let Some(scene) = Scene::new() else { return };
    let service = scene.service(&[ENABLE]);
    let name = service.container.name();
    scene.sandbox.file("etc/file", "hello");
    let config = scene.config(&format!(
        "[[job]]\nname = \"{name}\"\npaths = [\"{}\"]\n",
        scene.sandbox.path("etc").display()
    ));
    let report = scene.once(&["--config", config.to_str().unwrap()], WARNINGS);
    assert_eq!(report["jobs"].as_array().unwrap().len(), 2, "{report}");
    assert!(told(&report, &format!("2 jobs are called {name}")), "{report}");
    let snapshots = scene.repo.snapshots();
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_touches_nothing() {
    let Some(scene) = Scene::new() else { return };
    let service = scene.service(&[ENABLE, ("chores.backup.stop", "true")]);
    let name = service.container.name();
    let plan = scene.serve(&["--dry-run", "--json"]).finish().expect_code(0).last_json();
    let words = plan["orders"][name].as_array().unwrap();
    assert!(words.contains(&Value::from(format!("--stop={name}"))), "{plan}");
    assert_eq!(plan["dry_run"], true);
    assert!(!scene.state_dir().exists() && scene.repo.snapshots().is_empty());
    assert_eq!(state(&service.container), "running");
    let said = scene.serve(&["--dry-run"]).finish().expect_code(0).stdout_text();
    assert!(said.contains(name) && said.contains("nothing was done"), "{said}");
}

#[test]
fn a_file_is_read_anew_and_a_broken_one_changes_nothing_and_is_told() {
    let Some(scene) = Scene::new() else { return };
    scene.sandbox.file("a/file", "hello");
    scene.sandbox.file("b/file", "hello");
    let path = |name: &str| scene.sandbox.path(name).display().to_string();
    let one = format!("containers = false\n[[job]]\nname = \"a\"\npaths = [\"{}\"]\n", path("a"));
    let two = format!("{one}[[job]]\nname = \"b\"\npaths = [\"{}\"]\n", path("b"));
    let serving = scene.stay(&one, &[]);
    scene.until_saved("a", 1);
    scene.until_told("that all is well", |report| report["well"] == true);
    scene.config("containers = false\n[[job]]\nname = 7\n");
    serving.signal(Signal::HUP);
    let report = scene.until_told("a broken file", |report| told(report, "configuration"));
    assert_eq!(report["jobs"][0]["name"], "a", "{report}");
    scene.health("ready").expect_code(FAILED);
    scene.health("alive").expect_code(0);
    scene.config(&two);
    serving.signal(Signal::HUP);
    scene.until_saved("b", 1);
    scene.until_told("that all is well again", |report| report["well"] == true);
    // Nobody else may have this state meanwhile.
    let other = scene.serve(&["--once"]).finish().expect_code(WRONG_USAGE).stderr_text();
    assert!(other.contains("another `backup serve`"), "{other}");
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
}

#[test]
fn a_broken_file_at_the_start_and_a_broken_flag_are_wrong_usage() {
    let Some(scene) = Scene::new() else { return };
    let config = scene.config("shedule = \"@daily\"");
    let said = scene.serve(&["--once", "--config"]).arg(config).finish().expect_code(WRONG_USAGE);
    assert!(said.stderr_text().contains("serve.toml:2:1"), "{said}");
    scene.serve(&["--once", "--schedule", "often"]).finish().expect_code(WRONG_USAGE);
    scene.serve(&["--once", "--time-zone", "Mars"]).finish().expect_code(WRONG_USAGE);
}

#[test]
fn what_is_overdue_is_not_well_and_the_loop_lives() {
    let Some(scene) = Scene::new() else { return };
    let config = "containers = false\n[[job]]\nname = \"gone\"\npaths = [\"/nowhere\"]\noverdue_after = \"1s\"\n";
    let serving = scene.stay(config, &[]);
    let report = scene.until_told("an overdue job", |report| told(report, "gone is overdue"));
    assert!(job(&report, "gone")["overdue_since"].is_string(), "{report}");
    scene.health("ready").expect_code(FAILED);
    scene.health("alive").expect_code(0);
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
}

/// What is served at this path.
fn served(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn people_are_told_what_changes_and_nothing_twice_and_the_numbers_are_served() {
    let Some(scene) = Scene::new() else { return };
    let peer = HttpReceiver::start();
    let kinds = || {
        let bodies = peer.bodies();
        let kind = |body: &bytes::Bytes| {
            text(&serde_json::from_slice::<Value>(body).expect("JSON"), "kind")
        };
        let mut kinds: Vec<_> = bodies.iter().map(kind).collect();
        kinds.sort();
        kinds
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "containers = false\n[[notify]]\nurl = \"http://127.0.0.1:{}/hook\"\n[[job]]\nname = \"late\"\npaths = [\"{}\"]\n\
         overdue_after = \"1s\"\nschedule = \"@daily\"\n",
        peer.port(),
        scene.sandbox.path("late").display()
    );
    let metrics = format!("127.0.0.1:{port}");
    let serving = scene.stay(&config, &["--metrics", &metrics]);
    until("two notices", || kinds() == ["overdue", "run-failed"]);
    until("numbers", || {
        served(port, "/metrics").contains("backup_source_overdue{source=\"late\"} 1")
    });
    for number in ["backup_snapshots 0", "backup_stored_bytes 0"] {
        until(number, || served(port, "/metrics").contains(number));
    }
    assert!(served(port, "/healthz").contains("late is overdue"));
    // Years go by while nobody runs: all that was missed is made up for by one run, and nothing is told a second time.
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
    scene.let_years_pass("late");
    scene.sandbox.file("late/file", "hello");
    let serving = scene.stay(&config, &["--metrics", &metrics]);
    until("a third notice", || kinds() == ["overdue", "recovered", "run-failed"]);
    until("health", || served(port, "/healthz").ends_with("well\n"));
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
    assert_eq!(kinds().len(), 3);
    assert_eq!(scene.count("late"), 1);
}

/// Waits until a run holds a container, by looking as often as it can.
fn until_paused(container: &Container) {
    let deadline = Instant::now() + PATIENCE;
    while state(container) != "paused" {
        assert!(Instant::now() < deadline, "it is never paused");
    }
}

fn noisy(scene: &Scene) -> Service {
    let service = scene.service(&[ENABLE, ("chores.backup.pause", "true")]);
    service
        .container
        .sh("for i in 1 2 3 4; do head -c 30000000 /dev/urandom > /data/noise$i; done");
    service
}

#[test]
fn a_request_to_stop_ends_runs_properly_and_they_are_made_up_for() {
    let Some(scene) = Scene::new() else { return };
    let service = noisy(&scene);
    let serving = scene.stay("", &[]);
    until_paused(&service.container);
    serving.signal(Signal::TERM);
    let finished = serving.wait().expect_code(0);
    assert_eq!(state(&service.container), "running", "{finished}");
    assert!(scene.repo.snapshots().is_empty(), "{finished}");
    // It has not happened, so it is due.
    scene.once(&[], 0);
    assert_eq!(scene.count(service.container.name()), 1);
}

#[test]
fn a_kill_at_any_moment_leaves_no_container_paused_and_no_run_behind() {
    let Some(scene) = Scene::new() else { return };
    let service = noisy(&scene);
    let serving = scene.stay("", &[]);
    until_paused(&service.container);
    serving.signal(Signal::KILL);
    drop(serving.wait());
    let again = scene.stay("", &[]);
    until("a container that goes on", || state(&service.container) == "running");
    scene.until_saved(service.container.name(), 1);
    scene.until_told("that all is well", |report| report["well"] == true);
    assert_eq!(state(&service.container), "running");
    assert_eq!(scene.count(service.container.name()), 1, "the run of the killed one went with it");
    again.signal(Signal::TERM);
    again.wait().expect_code(0);
}

#[test]
fn an_engine_that_is_started_anew_is_served_on() {
    let Some(scene) = Scene::new() else { return };
    let sandbox = Sandbox::new();
    let Some(mut second) = SecondEngine::start(&sandbox, false) else { return };
    let Some(program) = find_program("busybox") else { return };
    let file =
        ImageFile { path: "box".to_owned(), mode: 0o755, content: engine::read_program(&program) };
    let recipe = "FROM scratch\nCOPY box /bin/sh\nCOPY box /bin/touch\nCOPY box /bin/sleep\nENV PATH=/bin\n\
                  LABEL of=the-second-engine-that-is-served\n";
    let image = images::build(second.engine(), recipe, &[file]);
    let service = scene.service_of(second.engine(), image.name(), &[ENABLE]);
    let name = service.container.name().to_owned();
    let address = second.address();
    let serving = scene.stay("", &["--engine", &address]);
    scene.until_saved(&name, 1);
    second.end(Signal::TERM);
    let report = scene.until_told("an engine that is away", |report| {
        report["jobs"]
            .as_array()
            .is_some_and(|jobs| !jobs.is_empty() && jobs[0]["waiting"].is_string())
    });
    assert_eq!(job(&report, &name)["name"], name.as_str(), "it stays known");
    second.start_again();
    service.container.start();
    // What is new is heard of, and what was known runs again.
    let other = scene.service_of(second.engine(), image.name(), &[ENABLE]);
    scene.until_saved(other.container.name(), 1);
    scene.until_told("that all is well again", |report| {
        report["well"] == true && job(report, &name)["waiting"].is_null()
    });
    assert_eq!(scene.count(&name), 1, "it was not time for it");
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
}

#[test]
fn it_is_a_good_first_process_of_a_container() {
    let Some(scene) = Scene::new() else { return };
    let image = images::backup(&scene.engine, Path::new(BINARY));
    let service = scene.service(&[ENABLE]);
    let data = scene.engine.volume();
    let scope = format!("--containers-with={SCOPE}={}", scene.sandbox.name());
    let config = scene.config("");
    let serving = scene.engine.start(Spec {
        env: vec!["BACKUP_CONFIG=/serve.toml".to_owned()],
        binds: vec![
            SOCKET.to_owned(),
            format!("{}:/serve.toml:ro", config.display()),
            format!("{}:/repo", scene.repo.path().display()),
            format!("{}:/state", data.name()),
        ],
        stop_timeout: Some(90),
        ..Spec::new(
            image.name(),
            ["serve", "--repo=/repo", "--host", HOST, "--jitter=0s", scope.as_str()],
        )
    });
    scene.until_saved(service.container.name(), 1);
    let health = serving.exec(["/backup", "healthcheck", "alive"]);
    assert_eq!(health.expect_code(0).stdout_text().trim(), "alive");
    let health = serving.exec(["/backup", "healthcheck"]);
    assert_eq!(health.expect_code(0).stdout_text().trim(), "well");
    serving.stop();
    assert_eq!(serving.wait(), 0, "{:?}", serving.logs());
}

#[test]
fn in_a_container_nothing_is_saved_under_the_name_of_that() {
    let Some(scene) = Scene::new() else { return };
    let image = images::backup(&scene.engine, Path::new(BINARY));
    let data = scene.engine.volume();
    let file = scene.sandbox.file("files/file", "hello");
    let files = file.parent().expect("a directory").display();
    let job = "containers = false\n[[job]]\nname = \"files\"\npaths = [\"/files\"]\n";
    let config = scene.config(job);
    let serve = |words: &[&str]| {
        let spec = Spec {
            env: vec!["BACKUP_CONFIG=/serve.toml".to_owned()],
            binds: vec![
                format!("{}:/serve.toml:ro", config.display()),
                format!("{files}:/files:ro"),
                format!("{}:/repo", scene.repo.path().display()),
                format!("{}:/state", data.name()),
            ],
            ..Spec::new(image.name(), [&["serve", "--repo=/repo", "--once"][..], words].concat())
        };
        let serving = scene.engine.start(spec);
        let code = serving.wait();
        let (out, err) = serving.logs();
        (code, String::from_utf8_lossy(&[out, err].concat()).into_owned())
    };
    let (code, said) = serve(&[]);
    assert_eq!(code, i64::from(FAILED), "{said}");
    assert!(said.contains("--host (BACKUP_HOST)"), "{said}");
    assert_eq!(scene.count("files"), 0, "{said}");
    let (code, said) = serve(&["--host", HOST]);
    assert_eq!((code, scene.count("files")), (0, 1), "{said}");
}

/// Runs as on another machine that is a copy of this one: in a mount namespace where the boot has another number.
fn elsewhere(scene: &Scene, run: Run) -> Run {
    let boot = scene.sandbox.file("boot", "00000000-0000-4000-8000-000000000000\n");
    let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    run.wrapped(
        ["unshare", "--mount", "sh", "-c", script, "sh"]
            .map(str::to_owned)
            .into_iter()
            .chain([boot.display().to_string()]),
    )
}

/// A number of a boot that hides the kernel's is as old as the first process.
fn is_first_process_older_than(age: Duration) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let up: f64 = read("/proc/uptime").split(' ').next().unwrap().parse().unwrap();
    // Field 22 of proc_pid_stat(5), in hundredths of seconds.
    let stat = read("/proc/1/stat");
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let begun: f64 = fields.split_whitespace().nth(19).unwrap().parse().unwrap();
    up - begun / 100.0 > age.as_secs_f64()
}

#[test]
fn a_copy_of_this_machine_drops_nothing_of_it_and_its_backups_are_not_ours() {
    let Some(scene) = Scene::new() else { return };
    if find_program("unshare").is_none()
        || elsewhere(&scene, Run::new("true")).finish().code() != Some(0)
    {
        e2e::notice!("skipped: this process may not hide the number of the boot");
        return;
    }
    if !is_first_process_older_than(Duration::from_secs(60)) {
        e2e::notice!(
            "skipped: the first process is too young: the number would be of a boot that has just begun"
        );
        return;
    }
    let service = scene.service(&[ENABLE, ("chores.backup.retain", "last=1")]);
    let name = service.container.name();
    let report = scene.once(&[], 0);
    let ours = text(job(&report, name), "last_good_snapshot");
    // The other one has the same name, the same engine, and a container of that name.
    let once = |state: &str| {
        let scope = format!("--containers-with={SCOPE}={}", scene.sandbox.name());
        let words = ["serve", "--host", HOST, "--jitter=0s", "--once", "--json", "--state-dir"];
        scene.repo.run(words).arg(scene.sandbox.path(state)).arg(scope)
    };
    let other = elsewhere(&scene, once("other")).finish().expect_code(WARNINGS).last_json();
    let theirs = text(job(&other, name), "last_good_snapshot");
    assert_ne!(theirs, ours, "what this machine saved is none of the other one");
    assert_eq!(text(&job(&other, name)["retain"], "last_verdict"), "frozen", "{other}");
    assert!(told(&other, "another machine"), "{other}");
    assert_eq!(scene.count(name), 2, "nothing is dropped");
    // Nor does the newer one of the other count here.
    let again = once("state").finish().expect_code(WARNINGS).last_json();
    assert_eq!(text(job(&again, name), "last_good_snapshot"), ours, "{again}");
    assert!(told(&again, "another machine"), "{again}");
    assert_eq!(scene.count(name), 2);
}

/// A file system that can be made to hang, unmounted on drop.
struct Disk<'a> {
    place: &'a Path,
}

/// A disk as long as it hangs. Made behind whatever may wait for it, so that it goes first.
struct Hangs<'a> {
    place: &'a Path,
}

impl<'a> Disk<'a> {
    /// `None`, with the reason on stderr, where this machine cannot.
    fn mount(scene: &Scene, place: &'a Path) -> Option<Self> {
        let programs = ["mkfs.ext4", "mount", "umount", "fsfreeze"].map(find_program);
        let [Some(make), Some(mount), Some(_), Some(_)] = programs else {
            e2e::notice!("skipped: no mkfs.ext4, mount, umount or fsfreeze for a disk that hangs");
            return None;
        };
        let image = scene.sandbox.file("disk", "");
        std::fs::File::options().write(true).open(&image).unwrap().set_len(32 << 20).unwrap();
        Run::new(make).arg("-q").arg(&image).succeed();
        let mounted = Run::new(mount).args(["-o", "loop"]).arg(&image).arg(place).finish();
        if mounted.code() != Some(0) {
            e2e::notice!("skipped: no disk that can hang: {mounted}");
            return None;
        }
        Some(Self { place })
    }

    fn hang(&self) -> Hangs<'a> {
        Run::new("fsfreeze").arg("-f").arg(self.place).succeed();
        Hangs { place: self.place }
    }
}

impl Drop for Hangs<'_> {
    fn drop(&mut self) {
        drop(Run::new("fsfreeze").arg("-u").arg(self.place).finish());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        drop(Run::new("umount").arg("--lazy").arg(self.place).finish());
    }
}

#[test]
fn a_disk_that_hangs_under_the_state_holds_up_no_backup_and_no_notice() {
    let Some(scene) = Scene::new() else { return };
    let state = scene.state_dir();
    std::fs::create_dir(&state).unwrap();
    let Some(disk) = Disk::mount(&scene, &state) else { return };
    for name in ["a", "b"] {
        scene.sandbox.file(format!("{name}/file"), "hello");
    }
    let peer = HttpReceiver::start();
    let job = |name: &str| {
        let path = scene.sandbox.path(name).display().to_string();
        format!("[[job]]\nname = \"{name}\"\npaths = [\"{path}\"]\n")
    };
    let hook = format!("[[notify]]\nurl = \"http://127.0.0.1:{}/hook\"\n", peer.port());
    let one = format!("containers = false\n{hook}{}", job("a"));
    let serving = scene.stay(&one, &[]);
    scene.until_saved("a", 1);
    scene.until_told("that all is well", |report| report["well"] == true);
    let hangs = disk.hang();
    // There is another job, and one that fails.
    scene.config(&format!("{one}{}{}", job("b"), job("missing")));
    serving.signal(Signal::HUP);
    scene.until_saved("b", 1);
    until("a notice", || !peer.bodies().is_empty());
    drop(hangs);
    // What was being written when it began to hang comes first.
    scene.until_told("what happened meanwhile", |report| {
        let jobs = report["jobs"].as_array().expect("jobs");
        let is_told =
            |job: &Value| job["name"] == "missing" && job["save"]["last_verdict"] == "failed";
        jobs.iter().any(is_told)
    });
    serving.signal(Signal::TERM);
    serving.wait().expect_code(0);
    let remembered = std::fs::read_to_string(state.join("serve/state.json")).unwrap();
    assert!(remembered.contains("\"missing\""), "{remembered}");
}
