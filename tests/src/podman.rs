//! A podman of its own with its Docker-compatible socket: another engine than the one the suite grew up with.
//!
//! Everything of it lies in the sandbox of its test: images, containers, locks and the socket. Containers have
//! no network. The settings are those under which podman works where raising limits is forbidden.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{Finished, Run, Running, find_program};
use crate::sandbox::Sandbox;

/// How long the service may take until its socket is there (seconds).
const START_SECONDS: u64 = 120;

/// How long one command may take (seconds).
const COMMAND_SECONDS: u64 = 120;

/// `containers.conf(5)`.
const SETTINGS: &str = "[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
runtime = \"runc\"
[containers]
netns = \"none\"
default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]
";

/// The image that every container here is of: a static busybox as `/bin/sh`, and one program.
const IMAGE: &str = "chores-test:1";

/// A running service; stopped with its containers on drop.
#[derive(Debug)]
pub struct Podman {
    program: PathBuf,
    root: PathBuf,
    service: Option<Running>,
}

impl Podman {
    /// Starts the service with an image that holds `programs` in its root, under their own names. `None`, with the
    /// reason on stderr, where podman cannot run a container; that is a failure when an engine is required.
    ///
    /// # Panics
    /// When it must run and does not.
    #[must_use]
    pub fn start(sandbox: &Sandbox, programs: &[&Path]) -> Option<Self> {
        let Some(program) = find_program("podman") else {
            return skip("podman is not installed");
        };
        let root = sandbox.directory("podman");
        sandbox.file("podman/containers.conf", SETTINGS);
        let mut podman = Self { program, root, service: None };
        let context = sandbox.directory("podman/context");
        for path in programs {
            let name = path.file_name().expect("a program has a name");
            std::fs::copy(path, context.join(name)).expect("copies a program");
        }
        let archive = sandbox.path("podman/context.tar");
        Run::new("tar")
            .args([
                "-C".as_ref(),
                context.as_os_str(),
                "-cf".as_ref(),
                archive.as_os_str(),
                ".".as_ref(),
            ])
            .succeed();
        let import = podman.run(["import", archive.to_str().expect("a plain path"), IMAGE]);
        if import.code() != Some(0) {
            return skip(&import.to_string());
        }
        let socket = format!("unix://{}", podman.socket().display());
        podman.service = Some(podman.command(["system", "service", "--time=0", &socket]).start());
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while !podman.socket().exists() {
            assert!(
                Instant::now() < deadline,
                "podman's service has no socket after {START_SECONDS} s"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(podman)
    }

    /// Where the service listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("socket")
    }

    /// Runs a podman command to its end.
    #[must_use]
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        self.command(args).finish()
    }

    /// Runs a container in the background; what it is called comes first.
    ///
    /// # Panics
    /// When podman refuses.
    pub fn container(&self, name: &str, command: &[&str]) {
        let options = ["run", "--detach", "--name", name, "--log-driver", "k8s-file", IMAGE];
        self.run(options.into_iter().chain(command.iter().copied())).expect_code(0);
    }

    fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let place = |name: &str| self.root.join(name).into_os_string();
        Run::new(&self.program)
            .env("CONTAINERS_CONF", place("containers.conf"))
            .args(["--root".into(), place("storage"), "--runroot".into(), place("run")])
            .args(["--storage-driver", "vfs"])
            .args(args)
            .deadline(Duration::from_secs(COMMAND_SECONDS))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = self.run(["rm", "--force", "--all", "--time", "0"]);
        if removed.code() != Some(0) {
            crate::notice!("podman left containers behind: {removed}");
        }
        if let Some(service) = self.service.take() {
            drop(service.kill_at(Duration::ZERO));
        }
    }
}

fn skip(reason: &str) -> Option<Podman> {
    let required =
        std::env::var_os(crate::engine::REQUIRE_VARIABLE).is_some_and(|value| value == "1");
    assert!(!required, "no podman, and an engine is required: {reason}");
    crate::notice!("skipped: no podman: {reason}");
    None
}
