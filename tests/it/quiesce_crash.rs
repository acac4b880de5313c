//! `backup` is killed at every moment: with a guard, every container that ran goes on by itself; without one, by the next
//! run. And exactly those.

use std::time::{Duration, Instant};

use e2e::engine::{Container, Spec};
use e2e::process::Finished;
use e2e::random::Random;

use crate::operations::soak_factor;
use crate::quiesce::{IDLE, Scene, started_at, state};
use crate::tool::{Created, FAILED, WARNINGS};

/// Moments at which a run is killed, with a guard and without one each; `CHORES_SOAK` multiplies them.
const KILLS: u32 = 50;

/// What `docs/backup-quiesce.md` promises from the death of a run on, for containers with a stop timeout of
/// [`STOP_SECONDS`]: the stop timeout, what may still be under way (60 s), and what the engine takes, here on a machine that
/// does other things too.
const DEADLINE: Duration = Duration::from_secs(STOP_SECONDS as u64 + 60 + 60);

/// How long a run is silent before its guard acts (`docs/backup-quiesce.md`).
const SILENCE: Duration = Duration::from_secs(10);

/// Stop timeout of the containers in seconds.
const STOP_SECONDS: i64 = 2;

/// About how long a run of these little volumes keeps them still, in microseconds.
const HOLD_MICROSECONDS: u64 = 400_000;

/// Between two looks at the engine.
const POLL: Duration = Duration::from_millis(50);

/// Two containers that run, one that does not, and one that is paused by somebody else.
struct Stack {
    scene: Scene,
    paused: Container,
    stopped: Container,
    resting: Container,
    frozen: Container,
    _volumes: Vec<e2e::engine::Volume>,
}

impl Stack {
    fn new() -> Option<Self> {
        let scene = Scene::new()?;
        let mut volumes = Vec::new();
        let mut service = || {
            let volume = scene.engine.volume();
            let container = scene.engine.start(Spec {
                image: scene.busybox.name().to_owned(),
                command: ["sh", "-c", IDLE].map(str::to_owned).to_vec(),
                binds: vec![format!("{}:/data", volume.name())],
                stop_timeout: Some(STOP_SECONDS),
                ..Spec::default()
            });
            container.sh(
                "until [ -e /data/ready ]; do :; done; head -c 30000000 /dev/urandom > /data/noise",
            );
            volumes.push(volume);
            container
        };
        let (paused, stopped, resting, frozen) = (service(), service(), service(), service());
        resting.kill();
        frozen.pause();
        Some(Self { scene, paused, stopped, resting, frozen, _volumes: volumes })
    }

    fn args(&self, with_guard: bool) -> Vec<&str> {
        let mut args = vec!["create", "--read-all", "--volumes-from", self.paused.name()];
        args.extend(["--pause", self.paused.name(), "--stop", self.stopped.name()]);
        args.extend(["--stop", self.resting.name(), "--pause", self.frozen.name()]);
        if !with_guard {
            args.push("--no-guard");
        }
        args
    }

    /// Kills a run: in one round of two at any moment, in the other shortly after the first container was seen to hold
    /// still. Returns how it ended, and whether anything held still then.
    fn killed(
        &self,
        with_guard: bool,
        round: u32,
        whole: Duration,
        random: &mut Random,
    ) -> (Finished, bool) {
        let running = self.scene.repo.run(self.args(with_guard)).start();
        let begun = Instant::now();
        let mut moment = Duration::from_micros(random.below(whole.as_micros() as u64));
        if round % 2 == 1 {
            while self.all_run() && !running.ended_within(Duration::ZERO) {
                assert!(begun.elapsed() < DEADLINE, "nothing is held, and it does not end");
            }
            moment = begun.elapsed() + Duration::from_micros(random.below(HOLD_MICROSECONDS));
        }
        let finished = running.kill_at(moment);
        (finished, !self.all_run())
    }

    fn all_run(&self) -> bool {
        state(&self.paused) == "running" && state(&self.stopped) == "running"
    }

    /// Guards that this stack's runs have left and that still watch or act.
    fn guards(&self) -> usize {
        guards(&self.scene, &[&self.paused, &self.stopped]).len()
    }
}

/// Ids of the guards that run and know of one of these containers.
fn guards(scene: &Scene, containers: &[&Container]) -> Vec<String> {
    let docker = scene.engine.docker().clone();
    let names: Vec<_> = containers.iter().map(|container| container.id().to_owned()).collect();
    e2e::runtime::wait(async move {
        let filters = [("label".to_owned(), vec!["chores.backup.guard=1".to_owned()])];
        let options = bollard::query_parameters::ListContainersOptions {
            filters: Some(filters.into()),
            ..Default::default()
        };
        let mut found = Vec::new();
        for listed in docker.list_containers(Some(options)).await.unwrap() {
            let id = listed.id.unwrap();
            let Ok(guard) = docker.inspect_container(&id, None).await else {
                continue;
            };
            let env = guard.config.and_then(|config| config.env).unwrap_or_default();
            if env.iter().any(|variable| names.iter().any(|id| variable.contains(id))) {
                found.push(id);
            }
        }
        found
    })
}

impl Drop for Stack {
    fn drop(&mut self) {
        if state(&self.frozen) == "paused" {
            self.frozen.unpause();
        }
    }
}

#[test]
fn a_guard_lets_go_on_what_a_killed_run_held() {
    let Some(stack) = Stack::new() else { return };
    let resting = (state(&stack.resting), started_at(&stack.resting));
    let frozen = (state(&stack.frozen), started_at(&stack.frozen));
    let whole = stack.scene.repo.run(stack.args(true)).succeed();
    let mut random = Random::new(41);
    let (mut kills, mut held) = (0, 0);
    for round in 0..KILLS.saturating_mul(soak_factor()) {
        let (finished, is_held) = stack.killed(true, round, whole.elapsed, &mut random);
        kills += u32::from(finished.signal() == Some(9));
        held += u32::from(is_held);
        let died = Instant::now();
        while !(stack.all_run() && stack.guards() == 0) {
            assert!(
                died.elapsed() < DEADLINE,
                "round {round}: {} and {}, {} guards, {finished}",
                state(&stack.paused),
                state(&stack.stopped),
                stack.guards()
            );
            std::thread::sleep(POLL);
        }
        assert_eq!((state(&stack.resting), started_at(&stack.resting)), resting, "round {round}");
        assert_eq!((state(&stack.frozen), started_at(&stack.frozen)), frozen, "round {round}");
    }
    assert!(kills > 0 && held > 0, "{kills} killed, {held} held: the test proves nothing");
    stack.scene.repo.run(stack.args(true)).succeed();
    stack.scene.repo.check_clean();
}

#[test]
fn without_a_guard_the_next_run_lets_go_on_what_a_killed_one_held() {
    let Some(stack) = Stack::new() else { return };
    let resting = (state(&stack.resting), started_at(&stack.resting));
    let frozen = (state(&stack.frozen), started_at(&stack.frozen));
    let whole = stack.scene.repo.run(stack.args(false)).succeed();
    let mut random = Random::new(42);
    let (mut kills, mut held) = (0, 0);
    for round in 0..KILLS.saturating_mul(soak_factor()) {
        let (finished, is_held) = stack.killed(false, round, whole.elapsed, &mut random);
        kills += u32::from(finished.signal() == Some(9));
        held += u32::from(is_held);
        stack.scene.repo.run(["resume"]).succeed();
        assert!(
            stack.all_run(),
            "round {round}: {} and {}, {finished}",
            state(&stack.paused),
            state(&stack.stopped)
        );
        assert_eq!((state(&stack.resting), started_at(&stack.resting)), resting, "round {round}");
        assert_eq!((state(&stack.frozen), started_at(&stack.frozen)), frozen, "round {round}");
    }
    assert!(kills > 0 && held > 0, "{kills} killed, {held} held: the test proves nothing");
    stack.scene.repo.run(stack.args(false)).succeed();
    stack.scene.repo.check_clean();
}

/// Asks for its end in vain for as long as its stop timeout lasts: a run that stops it next stands still until then.
const STUBBORN: &str = "trap '' TERM; touch /data/ready; while :; do sleep 1; done";

/// A run without a guard that has stopped `service`, and is killed before it has stopped the stubborn one.
fn killed_between(scene: &Scene, service: &Container, stubborn: &Container) {
    let name = service.name();
    let args =
        ["create", "--no-guard", "--volumes-from", name, "--stop", name, "--stop", stubborn.name()];
    let running = scene.repo.run(args).start();
    let begun = Instant::now();
    while state(service) == "running" {
        assert!(begun.elapsed() < DEADLINE, "it is not stopped");
        std::thread::sleep(POLL);
    }
    running.signal(rustix::process::Signal::KILL);
    drop(running);
}

fn compose(project: &str) -> std::collections::HashMap<String, String> {
    let labels = [
        ("com.docker.compose.project", project),
        ("com.docker.compose.service", "shop"),
        ("com.docker.compose.container-number", "1"),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[test]
fn what_became_of_a_stopped_container_meanwhile_is_respected() {
    let Some(scene) = Scene::new() else { return };
    let stubborn_spec = Spec { stop_timeout: Some(STOP_SECONDS), ..Spec::default() };
    let (_stubborn_volume, stubborn) = scene.service_with(STUBBORN, stubborn_spec);
    stubborn.sh("until [ -e /data/ready ]; do :; done");
    let project = e2e::sandbox::unique_name();
    let spec = || Spec { labels: compose(&project), ..Spec::default() };
    let again = || {
        scene.engine.create(Spec {
            labels: compose(&project),
            ..Spec::new(scene.busybox.name(), ["sh", "-c", "sleep 600"])
        })
    };
    let resume = || scene.repo.run(["resume"]).succeed();

    // Nothing became of it.
    let (_volume, service) = scene.service_with(IDLE, spec());
    service.sh("until [ -e /data/ready ]; do :; done");
    killed_between(&scene, &service, &stubborn);
    resume();
    assert_eq!((state(&service), state(&stubborn)), ("running".to_owned(), "running".to_owned()));

    // Somebody started it and stopped it again: it stays so.
    killed_between(&scene, &service, &stubborn);
    service.start();
    service.stop();
    resume();
    assert_eq!((state(&service), state(&stubborn)), ("exited".to_owned(), "running".to_owned()));

    // Compose made it anew, and did not start it: it ran before, so it runs again.
    service.start();
    killed_between(&scene, &service, &stubborn);
    service.remove();
    let made = again();
    resume();
    assert_eq!((state(&made), state(&stubborn)), ("running".to_owned(), "running".to_owned()));

    // It was removed for good.
    let (_second_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    killed_between(&scene, &service, &stubborn);
    service.remove();
    resume();
    assert_eq!(state(&stubborn), "running");
    let nothing = resume();
    assert!(nothing.stdout_text().contains("no container"), "{nothing}");
}

#[test]
fn the_next_create_lets_go_on_what_a_killed_one_held() {
    let Some(scene) = Scene::new() else { return };
    let stubborn_spec = Spec { stop_timeout: Some(STOP_SECONDS), ..Spec::default() };
    let (_stubborn_volume, stubborn) = scene.service_with(STUBBORN, stubborn_spec);
    stubborn.sh("until [ -e /data/ready ]; do :; done");
    let (_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    killed_between(&scene, &service, &stubborn);
    scene.create(&service, &[]).expect_code(0);
    assert_eq!((state(&service), state(&stubborn)), ("running".to_owned(), "running".to_owned()));
}

/// Looks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SILENCE + DEADLINE, "never: {what}");
        std::thread::sleep(POLL);
    }
}

#[test]
fn a_run_that_falls_silent_is_taken_for_dead_and_its_snapshot_says_so() {
    let Some(stack) = Stack::new() else { return };
    // So that it does not come to the end of it.
    stack.paused.sh("head -c 150000000 /dev/urandom > /data/more");
    let mut args = stack.args(true);
    args.push("--json");
    let running = stack.scene.repo.run(args).start();
    let holds = || state(&stack.paused) == "paused" && state(&stack.stopped) == "exited";
    // Before that a run that fell silent has read nothing, and fails.
    let packs = stack.scene.repo.path().join("packs");
    let is_read = || std::fs::read_dir(&packs).is_ok_and(|mut folders| folders.next().is_some());
    until("content arrives", || is_read() || running.ended_within(Duration::ZERO));
    running.signal(rustix::process::Signal::STOP);
    assert!(holds(), "it was over too soon: the test proves nothing");
    until("both go on", || stack.all_run() && stack.guards() == 0);
    running.signal(rustix::process::Signal::CONT);
    let created = Created::of(&running.wait().expect_code(WARNINGS));
    let told = |name: &str| created.warnings.iter().any(|warning| warning.contains(name));
    assert!(told(stack.paused.name()) && told(stack.stopped.name()), "{created:?}");
    assert!(stack.all_run());
}

#[test]
fn nothing_is_held_where_the_guard_is_gone() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    let began = started_at(&service);
    let name = service.name();
    let pre = format!("{name}=touch /data/begun; until [ -e /data/go ]; do sleep 1; done");
    let args = ["create", "--volumes-from", name, "--pause", name, "--pre", &pre];
    let running = scene.repo.run(args).start();
    service.sh("until [ -e /data/begun ]; do sleep 1; done");
    let found = guards(&scene, &[&service]);
    assert_eq!(found.len(), 1, "{found:?}");
    let docker = scene.engine.docker().clone();
    e2e::runtime::wait(async move {
        let options =
            bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() };
        docker.remove_container(&found[0], Some(options)).await.unwrap();
    });
    service.sh("touch /data/go");
    let failed = running.wait();
    assert_eq!(failed.code(), Some(FAILED), "{failed}");
    assert!(failed.stderr_text().contains("guard"), "{failed}");
    assert_eq!((state(&service), started_at(&service)), ("running".to_owned(), began));
    assert!(scene.repo.snapshots().is_empty());
    // Nothing is left to do.
    let nothing = scene.repo.run(["resume"]).succeed();
    assert!(nothing.stdout_text().contains("no container"), "{nothing}");
}

#[test]
fn two_runs_at_once_do_not_undo_each_other() {
    let Some(scene) = Scene::new() else { return };
    let (_volume, service) = scene.service(IDLE);
    service.sh("head -c 100000000 /dev/urandom > /data/noise");
    let name = service.name();
    let args = ["--pause", name, "--no-guard"];
    let words = ["create", "--volumes-from", name];
    let first = scene.repo.run(words.iter().chain(&args).copied()).start();
    until("it holds still", || state(&service) == "paused");
    first.signal(rustix::process::Signal::STOP);
    scene.create(&service, &args).expect_code(0);
    assert_eq!(state(&service), "paused", "the second run has let go on what the first one holds");
    first.signal(rustix::process::Signal::CONT);
    let _ = first.wait().expect_code(0);
    assert_eq!(state(&service), "running");
}

#[test]
fn what_somebody_else_pauses_meanwhile_stays_so() {
    let Some(scene) = Scene::new() else { return };
    let stubborn_spec = Spec { stop_timeout: Some(STOP_SECONDS), ..Spec::default() };
    let (_stubborn_volume, stubborn) = scene.service_with(STUBBORN, stubborn_spec);
    let (_volume, service) = scene.service(IDLE);
    service.sh("until [ -e /data/ready ]; do :; done");
    let name = service.name();
    // It is known by then what is to be paused.
    let wait = "touch /data/asked; until [ -e /data/go ]; do sleep 0.1; done";
    let pre = format!("{}={wait}", stubborn.name());
    let args = ["create", "--volumes-from", name, "--stop", stubborn.name(), "--pause", name];
    let running = scene.repo.run(args.iter().chain(&["--pre", &pre]).copied()).start();
    stubborn.sh("until [ -e /data/asked ]; do :; done");
    service.pause();
    stubborn.sh("touch /data/go");
    let _ = running.wait().expect_code(0);
    assert_eq!((state(&service), state(&stubborn)), ("paused".to_owned(), "running".to_owned()));
    service.unpause();
}
