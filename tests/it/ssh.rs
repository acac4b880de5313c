//! What every test of the gateway begins with: a container, and a gateway in front of it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use e2e::engine::{Container, Engine, Spec, connect};
use e2e::images::{self, Image};
use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{Gateway, MAIN_KEY, Setup, python, source_address};

/// The gateway of this very build.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ssh-gateway-under-test");

/// What runs in containers and says how it is confined.
pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_confinement-probe");

/// How long anything the gateway is asked for may take before a test gives it up.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);

/// How often randomised things are done, and how many times the bytes are moved.
pub(crate) fn soak() -> usize {
    std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// The label by which a test tells its containers from those of others.
pub(crate) const TIER: &str = "chores.test.tier";

/// The rule by which the first key may enter the containers of one tier.
pub(crate) fn tier_rule(tier: &str) -> String {
    format!(
        "
[[rule]]
name = 'tier'
who = ['main']
labels = ['{TIER}={tier}']
users = ['*']
allow = ['exec', 'shell', 'terminal']
"
    )
}

/// A container of a tier, with a label that is not made for terminals.
pub(crate) fn of_tier(mut spec: Spec, tier: &str) -> Spec {
    for (name, value) in [
        (TIER, tier),
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web\u{1b}]0;evil\u{7}\u{202e}"),
    ] {
        spec.labels.insert(name.to_owned(), value.to_owned());
    }
    spec
}

/// A gateway and a container behind it.
pub(crate) struct Scene {
    // Dropped in this order.
    pub(crate) gateway: Gateway,
    pub(crate) container: Container,
    pub(crate) image: Arc<Image>,
    pub(crate) engine: Engine,
}

impl Scene {
    /// A container with busybox, and a gateway with one key.
    pub(crate) fn busybox() -> Option<Self> {
        Self::new(|spec| spec, |setup| setup)
    }

    /// The same with other settings of the container or the gateway.
    pub(crate) fn new(
        of_container: impl FnOnce(Spec) -> Spec,
        of_gateway: impl FnOnce(Setup) -> Setup,
    ) -> Option<Self> {
        let engine = connect()?;
        let setup = Setup::new(BINARY)?;
        let image = images::ssh_target(&engine, Path::new(PROBE))?;
        Some(Self::of(engine, image, setup, of_container, of_gateway))
    }

    /// A container with Debian: git, rsync, Python and OpenSSH's clients.
    pub(crate) fn debian(of_gateway: impl FnOnce(Setup) -> Setup) -> Option<Self> {
        let engine = connect()?;
        let setup = Setup::new(BINARY)?;
        let image = images::ssh_debian(&engine, Path::new(PROBE))?;
        Some(Self::of(engine, image, setup, |spec| spec, of_gateway))
    }

    fn of(
        engine: Engine,
        image: Arc<Image>,
        setup: Setup,
        of_container: impl FnOnce(Spec) -> Spec,
        of_gateway: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let container = engine.start(of_container(Spec::new(image.name(), ["/probe", "hold"])));
        let gateway = of_gateway(setup).start();
        Self { gateway, container, image, engine }
    }

    /// One more container.
    pub(crate) fn start(&self, of_container: impl FnOnce(Spec) -> Spec) -> Container {
        self.engine.start(of_container(Spec::new(self.image.name(), ["/probe", "hold"])))
    }

    /// OpenSSH's client for the container; arguments and the command follow.
    pub(crate) fn ssh(&self) -> Run {
        self.gateway.ssh(self.container.name())
    }

    /// A shell script in the container, by OpenSSH's client.
    pub(crate) fn sh(&self, script: &str) -> Finished {
        self.ssh().arg(script).deadline(ANSWER_TIME_MAX).finish()
    }

    /// The same with another key.
    pub(crate) fn sh_as(&self, key: &str, script: &str) -> Finished {
        let run = self.gateway.ssh_as(key, self.container.name());
        run.arg(script).deadline(ANSWER_TIME_MAX).finish()
    }

    /// What comes back through a forward of standard input and output (`ssh -W`).
    pub(crate) fn through(&self, key: &str, target: &str, stdin: &str) -> Finished {
        let run = self.gateway.ssh_as(key, self.container.name()).args(["-W", target]);
        run.stdin(stdin).deadline(ANSWER_TIME_MAX).finish()
    }

    /// A session with pipes that the test holds itself.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(self.gateway.config(MAIN_KEY))
            .args(["-b", &source_address()])
            .arg(format!("{}@gateway", self.container.name()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A script of `testdata/ssh` with clients of PyPI. Its arguments: port, login, key file, known hosts,
    /// then these. `None` when they are not installed.
    pub(crate) fn python(&self, script: &str, arguments: &[&str]) -> Option<Run> {
        let script = format!("{}/testdata/ssh/{script}", env!("CARGO_MANIFEST_DIR"));
        let run = Run::new(python()?)
            .arg(script)
            .arg(self.gateway.port().to_string())
            .arg(self.container.name())
            .arg(self.gateway.key_file(MAIN_KEY))
            .arg(self.gateway.known_hosts())
            .args(arguments.iter().copied());
        Some(run)
    }
}

/// A free port of this machine.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port()
}

/// An echo server in the container, at every address of it.
pub(crate) fn start_echo(container: &Container, port: u16) {
    container.sh(&format!(
        "nc -ll -p {port} -e cat >/dev/null 2>&1 </dev/null & \
         while ! grep -q ':{port:04X} 0*:0000 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done"
    ));
}

/// The one line that a program printed.
pub(crate) fn line(finished: &Finished) -> String {
    assert_eq!(finished.code(), Some(0), "{finished}");
    finished.stdout_text().trim_end().to_owned()
}
