//! As a global service of a Swarm, as `docs/backup-serve.md` says it: one on each node, with secrets and a configuration of the
//! Swarm, updated and removed by it. The Swarm is one of a second engine, alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::engine;
use e2e::images::{self, ImageFile};
use e2e::process::{Finished, Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::second_engine::SecondEngine;
use serde_json::Value;

use crate::tool::{BINARY, Repo, text};

/// What the stack is called.
const STACK: &str = "shop";

/// What is tried first, and its network.
const PROBE: &str = "probe";

/// The longest wait for anything: a schedule of minutes, services that start, machines that do other things too.
const PATIENCE: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(50);

struct Swarm {
    second: SecondEngine,
    sandbox: Sandbox,
    repo: Repo,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // Its tasks would be started again and again while the engine ends.
        drop(self.docker(&["stack", "rm", STACK]));
        drop(self.docker(&["swarm", "leave", "--force"]));
    }
}

impl Swarm {
    fn start() -> Option<Self> {
        engine::connect()?;
        if find_program("docker").is_none() {
            e2e::notice!("skipped: no docker, which speaks to a Swarm as an operator does");
            return None;
        }
        let sandbox = Sandbox::new();
        let second = SecondEngine::start(&sandbox, false)?;
        let repo = Repo::encrypted(&sandbox);
        let swarm = Self { second, sandbox, repo };
        let init = ["swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1:2377"];
        let made = swarm.docker(&init);
        if made.code() != Some(0) {
            e2e::notice!("skipped: no Swarm here: {made}");
            return None;
        }
        Some(swarm)
    }

    /// Whether tasks of this image run here; where they do not, the reason on stderr: the kernel may lack what their networks need.
    fn can_run(&self, image: &str) -> bool {
        self.say(&["network", "create", "--driver=overlay", PROBE]);
        let words = ["service", "create", "--mode=global", "--detach", "--no-resolve-image"];
        let of = ["--name", PROBE, "--network", PROBE, "--restart-condition=none", image];
        self.say(&[&words[..], &of, &["sh", "-c", "sleep 1000"]].concat());
        let state = until("a task that runs or does not", || {
            let format = "--format={{.CurrentState}} {{.Error}}";
            let state = self.say(&["service", "ps", "--no-trunc", format, PROBE]);
            let ends = ["Running", "Rejected", "Failed", "Shutdown", "Complete"];
            ends.iter().any(|end| state.starts_with(end)).then_some(state)
        });
        self.say(&["service", "rm", PROBE]);
        let is_running = state.starts_with("Running");
        if !is_running {
            e2e::notice!("skipped: no task of a Swarm runs here: {state}");
        }
        is_running
    }

    fn docker(&self, words: &[&str]) -> Finished {
        Run::new("docker")
            .env("DOCKER_HOST", self.second.address())
            .args(words.iter().copied())
            .finish()
    }

    fn say(&self, words: &[&str]) -> String {
        self.docker(words).expect_code(0).stdout_text().trim().to_owned()
    }

    /// Containers of a service of the stack in this state, by id.
    fn tasks(&self, service: &str, status: &str) -> Vec<String> {
        let label = format!("--filter=label=com.docker.swarm.service.name={STACK}_{service}");
        let status = format!("--filter=status={status}");
        let ids = self.say(&["ps", "--all", "--quiet", "--no-trunc", &label, &status]);
        ids.lines().map(str::to_owned).collect()
    }

    /// What is due on the engine of this machine, which is in no Swarm: one job that keeps no more than one snapshot.
    fn serve_elsewhere(&self, host: &str, job: &str) {
        let data = self.sandbox.file("elsewhere/file", "hello");
        let data = data.parent().expect("a directory").display();
        let job = format!("[[job]]\nname = \"{job}\"\npaths = [\"{data}\"]\nretain = \"last=1\"\n");
        let config = self.sandbox.file("elsewhere.toml", job);
        let words =
            ["serve", "--once", "--json", "--host", host, "--containers-with=none", "--config"];
        let run = self.repo.run(words).arg(config).arg("--state-dir");
        let report = run.arg(self.sandbox.path("state-elsewhere")).succeed().last_json();
        assert_eq!(report["jobs"][0]["save"]["last_verdict"], "good", "{report}");
        assert_eq!(report["jobs"][0]["retain"]["last_verdict"], "good", "{report}");
    }

    /// Where a volume of the stack lies.
    fn volume(&self, name: &str) -> PathBuf {
        self.sandbox.path(format!("data/volumes/{STACK}_{name}/_data"))
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// The stack of the documentation, with a repository in a directory and something to save.
fn stack(swarm: &Swarm, backup: &str, web: &str) -> PathBuf {
    let path = |name: &str| swarm.sandbox.path(name).display().to_string();
    let config = swarm.sandbox.file("serve.toml", "catch_up_delay = \"0s\"\njitter = \"0s\"\n");
    let (key, config) = (path("keys/key"), config.display().to_string());
    let (socket, repo) = (path("docker.sock"), path("repo"));
    // Compose has a use for `$` of its own.
    let idle = "trap 'exit 0' TERM; head -c 90000000 /dev/urandom > /data/noise; while :; do sleep 1 & wait $$!; done";
    swarm.sandbox.file(
        "stack.yml",
        format!(
            r#"version: "3.8"
services:
  backup:
    image: {backup}
    command: serve --repo /repo
    stop_grace_period: 90s
    healthcheck: {{test: [CMD, /backup, healthcheck, alive], interval: 1s}}
    environment:
      BACKUP_CONFIG: /serve.toml
      BACKUP_KEY_FILE: /run/secrets/key
      BACKUP_HOST: "{{{{.Node.Hostname}}}}-{{{{.Node.ID}}}}"
    secrets: [key]
    configs: [{{source: serve, target: /serve.toml}}]
    volumes:
      - {{type: bind, source: {socket}, target: /var/run/docker.sock}}
      - {{type: bind, source: {repo}, target: /repo}}
      - {{type: volume, source: state, target: /state}}
    deploy: {{mode: global}}
  web:
    image: {web}
    command: ["sh", "-c", "{idle}"]
    stop_grace_period: 2s
    labels:
      chores.backup.enable: "true"
      chores.backup.pause: "true"
      chores.backup.pre: "while [ -e /data/wait ]; do : > /data/waits; sleep 1; done"
      chores.backup.schedule: "* * * * *"
    volumes: [{{type: volume, source: data, target: /data}}]
    deploy: {{mode: global}}
secrets: {{key: {{file: {key}}}}}
configs: {{serve: {{file: {config}}}}}
volumes: {{data: {{}}, state: {{}}}}
"#
        ),
    )
}

#[test]
fn a_global_service_saves_its_node_is_updated_and_removed_and_loses_nothing() {
    let Some(swarm) = Swarm::start() else { return };
    let Some(busybox) = find_program("busybox") else { return };
    let content = engine::read_program(&busybox);
    let file = ImageFile { path: "box".to_owned(), mode: 0o755, content };
    let recipe = "FROM scratch\nCOPY box /bin/sh\nCOPY box /bin/head\nCOPY box /bin/sleep\nENV PATH=/bin\n\
                  LABEL of=the-node-of-a-swarm\n";
    let web = images::build(swarm.second.engine(), recipe, &[file]);
    if !swarm.can_run(web.name()) {
        return;
    }
    let own = swarm.sandbox.name();
    let backup = images::sidecar_of(swarm.second.engine(), "backup", Path::new(BINARY), own);
    let stack = stack(&swarm, backup.name(), web.name()).display().to_string();
    swarm.say(&["stack", "deploy", "--resolve-image=never", "--compose-file", &stack, STACK]);

    // It has the key of the repository from a secret, which Swarm gives the mode 0444, and says which node it is.
    let node = swarm.say(&["info", "--format={{.Swarm.NodeID}}"]);
    let first = until("a first backup", || swarm.repo.snapshots().pop());
    assert_eq!(text(&first, "name"), format!("{STACK}_web.{node}"));
    assert!(text(&first, "host").ends_with(&format!("-{node}")), "{first}");
    assert_eq!(first["tags"]["chores.node"], node.as_str(), "{first}");
    until("a service that is alive", || {
        let ids = swarm.tasks("backup", "running");
        let health = swarm.say(&["inspect", "--format={{.State.Health.Status}}", ids.first()?]);
        (health == "healthy").then_some(())
    });

    // Updated in the middle of a run, which waits in its command before: nothing of it is there, and the next task makes up
    // for it.
    let data = swarm.volume("data");
    fs::write(data.join("wait"), "").expect("a file");
    until("a run by schedule", || data.join("waits").exists().then_some(()));
    let count = swarm.repo.snapshots().len();
    let old = swarm.tasks("backup", "running").pop().expect("a task");
    swarm.say(&["service", "update", "--detach", "--force", &format!("{STACK}_backup")]);
    until("the end of the old task", || {
        (swarm.tasks("backup", "exited") == [old.clone()]).then_some(())
    });
    assert_eq!(swarm.say(&["inspect", "--format={{.State.ExitCode}}", &old]), "0");
    let said = swarm.docker(&["logs", &old]).stderr_text();
    assert!(said.contains("it was interrupted"), "{said}");
    assert_eq!(swarm.repo.snapshots().len(), count);
    fs::remove_file(data.join("wait")).expect("a file");
    until("another backup", || (swarm.repo.snapshots().len() > count).then_some(()));
    let states: Vec<_> =
        swarm.repo.snapshots().iter().map(|snapshot| text(snapshot, "state")).collect();
    assert!(states.iter().all(|state| state == "complete"), "{states:?}");
    swarm.repo.check_clean();
    let state = swarm.volume("state").join("serve");
    let remembered = fs::read(state.join("state.json")).expect("a state");
    let remembered: Value = serde_json::from_slice(&remembered).expect("JSON");
    assert_eq!(remembered["node"], node.as_str(), "{remembered}");

    // An engine that may call itself the same, since both read their name from one file, under the same host name, with a job of
    // the same name: what the node has saved is none of its.
    let nodes = swarm.repo.snapshot_ids();
    swarm.serve_elsewhere(&text(&first, "host"), &text(&first, "name"));
    let all = swarm.repo.snapshots();
    let is_there = |id: &String| all.iter().any(|snapshot| text(snapshot, "id") == *id);
    assert!(nodes.iter().all(is_there), "{nodes:?} of {all:?}");
    assert!(all.iter().any(|snapshot| snapshot["tags"]["chores.node"].is_null()), "{all:?}");

    // Removed: it takes leave, and nobody is left paused.
    until("the web that goes on", || swarm.tasks("web", "running").pop());
    swarm.say(&["service", "rm", &format!("{STACK}_backup")]);
    until("no task", || {
        let left = ["running", "paused", "exited"].map(|status| swarm.tasks("backup", status));
        left.concat().is_empty().then_some(())
    });
    assert!(!state.join("beat").exists(), "it was killed before it could take leave");
    until("the web that goes on", || swarm.tasks("web", "running").pop());
}
