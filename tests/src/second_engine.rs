//! Another engine of this machine, for what the first one must not be made to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::engine::{Engine, connect_to};
use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// The first of the user ids that containers get when these are mapped.
pub const SUBORDINATE_ID: u32 = 700_000;

/// How long it may take to answer.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Lines of its log that tell why it did not start.
const LOG_LINES: usize = 5;

/// `dockerd` in a network namespace of its own (it would remove the bridge of the first one) and a mount namespace
/// where the files of subordinate ids are ours. Its containers have no network but those that a Swarm makes.
#[derive(Debug)]
pub struct SecondEngine {
    engine: Engine,
    socket: String,
    bundles: String,
    log: String,
    /// Where it keeps the process id of its containerd.
    containerd_pid: PathBuf,
    words: Vec<String>,
    running: Option<Running>,
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}

impl SecondEngine {
    /// Starts it with all it keeps in `sandbox`; with `maps_users` under `--userns-remap`. `None`, with the reason on
    /// stderr, when this machine cannot.
    #[must_use]
    pub fn start(sandbox: &Sandbox, maps_users: bool) -> Option<Self> {
        let (Some(dockerd), Some(unshare)) = (find_program("dockerd"), find_program("unshare"))
        else {
            crate::notice!("skipped: no dockerd or no unshare for a second engine");
            return None;
        };
        for file in ["/etc/subuid", "/etc/subgid"] {
            if maps_users && !Path::new(file).exists() {
                crate::notice!("skipped: no {file} to put ours over");
                return None;
            }
        }
        let ids = sandbox.file(
            "ids",
            format!("nobody:{SUBORDINATE_ID}:65536\nnogroup:{SUBORDINATE_ID}:65536\n"),
        );
        let settings = sandbox.file("daemon.json", "{}");
        let path = |name: &str| sandbox.path(name).display().to_string();
        let (socket, log) = (path("docker.sock"), path("dockerd.log"));
        let bind = "mount --bind \"$1\" /etc/subuid && mount --bind \"$1\" /etc/subgid && ";
        let script = format!(
            "{}renice -n 0 -p $$ >/dev/null; ip link set lo up; log=$2 && shift 2 && exec \"$@\" >>\"$log\" 2>&1",
            if maps_users { bind } else { "" }
        );
        let mut words = vec![unshare.display().to_string()];
        words.extend(["--mount", "--net", "/bin/sh", "-c", &script, "sh"].map(str::to_owned));
        words.extend([ids.display().to_string(), log.clone(), dockerd.display().to_string()]);
        words.extend(["--config-file".to_owned(), settings.display().to_string()]);
        if maps_users {
            words.extend(["--userns-remap", "nobody:nogroup"].map(str::to_owned));
        }
        words.extend(["--bridge", "none", "--iptables=false"].map(str::to_owned));
        words.extend(["--storage-driver", "vfs", "--shutdown-timeout", "5"].map(str::to_owned));
        words.extend(["--host".to_owned(), format!("unix://{socket}")]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "run"), ("--pidfile", "pid")]
        {
            words.extend([flag.to_owned(), path(name)]);
        }
        let bundles = path("run/containerd/daemon/io.containerd.runtime.v2.task/moby");
        let (running, engine) = run(&words, &socket, &log)?;
        let containerd_pid = sandbox.path("run/containerd/containerd.pid");
        Some(Self { engine, socket, bundles, log, containerd_pid, words, running: Some(running) })
    }

    /// A connection to it.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What `DOCKER_HOST` is for it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket)
    }

    /// Where it keeps the specifications of its containers.
    #[must_use]
    pub fn bundles(&self) -> &str {
        &self.bundles
    }

    /// Ends it: on SIGTERM it stops its containers first, by SIGKILL they outlive it until it is started again.
    pub fn end(&mut self, signal: Signal) {
        if let Some(running) = self.running.take() {
            running.signal(signal);
            drop(running.wait());
        }
    }

    /// Starts it again after [`Self::end`]; no container runs then.
    ///
    /// # Panics
    /// When it does not start a second time.
    pub fn start_again(&mut self) {
        // Its containerd dies with it. Where process 1 does not reap, the engine would wait for a zombie.
        drop(fs::remove_file(&self.containerd_pid));
        let Some((running, engine)) = run(&self.words, &self.socket, &self.log) else {
            panic!("the second engine does not start again");
        };
        (self.running, self.engine) = (Some(running), engine);
    }
}

/// Starts the engine and waits until it answers.
fn run(words: &[String], socket: &str, log: &str) -> Option<(Running, Engine)> {
    let (program, arguments) = words.split_first()?;
    let running = Run::new(program).args(arguments).start();
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        if running.ended_within(Duration::ZERO) || Instant::now() > deadline {
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            crate::notice!("skipped: no second engine: {}", lines.join("\n"));
            return None;
        }
        match connect_to(Path::new(socket)) {
            Ok(engine) => return Some((running, engine)),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
