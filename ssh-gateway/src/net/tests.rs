//! The real clients against the real server, with a broker that grants one key and runs programs here.

mod confined;
mod double;
mod forwards;
mod protocol;
mod russh_client;
mod sessions;
mod streams;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use tempfile::TempDir;

use self::double::Double;
use super::*;
use crate::config::LIMITS_DEFAULT;
use crate::wire::Opaque;
use crate::wire::net::Limits;

/// A megabyte.
const MB: u64 = 1 << 20;

/// Longer runs with CHORES_SOAK=N.
fn soak() -> u64 {
    std::env::var("CHORES_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Those of a gateway, but all clients come from one source.
fn limits() -> Limits {
    Limits { startups: (50, 30, 100), startups_per_source: 50, ..LIMITS_DEFAULT }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A gateway on a port of loopback.
struct Gateway {
    port: u16,
    directory: TempDir,
    double: Arc<Double>,
    /// None once it has ended.
    runtime: Option<tokio::runtime::Runtime>,
    /// Where it runs as it does in earnest, in a process of its own.
    process: Option<Child>,
}

impl Gateway {
    fn start() -> Self {
        Self::with(limits())
    }

    fn with(limits: Limits) -> Self {
        Self::changed(limits, |_| {})
    }

    fn changed(limits: Limits, change: impl FnOnce(&mut Config)) -> Self {
        Self::prepare(limits, |socket, settings, listener| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let mut config = server::config(&settings).unwrap();
            change(&mut config);
            runtime.spawn(async move {
                speak(socket, config, settings, vec![listener], 4096).await.unwrap();
            });
            (Some(runtime), None)
        })
    }

    fn prepare(
        limits: Limits,
        start: impl FnOnce(
            Socket,
            Settings,
            TcpListener,
        ) -> (Option<tokio::runtime::Runtime>, Option<Child>),
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let client = key(1);
        std::fs::write(directory.path().join("key"), &*client.to_openssh(LineEnding::LF).unwrap())
            .unwrap();
        set_private(&directory.path().join("key"));
        let (double, socket) = Double::start(client.public_key().to_bytes().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = Settings {
            host_keys: vec![Opaque(key(2).to_openssh(LineEnding::LF).unwrap().as_bytes().to_vec())],
            host_certificates: Vec::new(),
            banner: None,
            limits,
            proxies: Vec::new(),
        };
        let (runtime, process) = start(socket, settings, listener);
        Self { port, directory, double, runtime, process }
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// OpenSSH's client with these options and words after the host.
    fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        // The first value of an option counts.
        command.args(["-F", "none"]).args(options);
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-p", &self.port.to_string()]).arg("-i").arg(self.key());
        command.arg("web@127.0.0.1").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Output {
        ended(self.ssh(options, words).spawn().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Some(process) = &mut self.process {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

fn set_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether a program is there; says so if not, and fails where nothing may be missing.
fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "{program} is missing, and CHORES_REQUIRE_ENGINE is set"
        );
        println!("skipped: there is no {program} on this machine");
    }
    found
}

/// A child's output; one that hangs is killed, and that fails the test.
fn ended(child: Child) -> Output {
    ended_within(child, Duration::from_secs(60 * soak()))
}

fn ended_within(child: Child, patience: Duration) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, waited) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let hung = waited.recv_timeout(patience).is_err();
        if hung {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        hung
    });
    let output = child.wait_with_output().unwrap();
    done.send(()).ok();
    assert!(!watch.join().unwrap(), "hung: {output:?}");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Feeds a child's standard input from a thread.
fn feed(child: &mut Child, bytes: u64) -> std::thread::JoinHandle<io::Result<()>> {
    let mut input = child.stdin.take().unwrap();
    std::thread::spawn(move || {
        let mut noise = Noise::default();
        let mut left = bytes;
        while left > 0 {
            let part = noise.next(usize::try_from(left.min(64 * 1024)).unwrap());
            input.write_all(part)?;
            left -= part.len() as u64;
        }
        Ok(())
    })
}

/// Bytes whose order can be checked.
#[derive(Clone)]
struct Noise {
    state: u64,
    buffer: Vec<u8>,
}

impl Default for Noise {
    fn default() -> Self {
        Self { state: 1, buffer: Vec::new() }
    }
}

impl Noise {
    fn next(&mut self, length: usize) -> &[u8] {
        self.buffer.clear();
        while self.buffer.len() < length {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = (self.state >> 32).to_le_bytes();
            let room = (length - self.buffer.len()).min(4);
            self.buffer.extend_from_slice(&bytes[..room]);
        }
        &self.buffer
    }
}

/// Reads everything and compares it with what [`feed`] sends.
fn check(mut from: impl io::Read, bytes: u64) {
    let mut noise = Noise::default();
    let mut left = bytes;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let length = usize::try_from(left.min(64 * 1024)).unwrap();
        from.read_exact(&mut buffer[..length]).unwrap();
        assert!(buffer[..length] == *noise.next(length), "wrong bytes {left} before the end");
        left -= length as u64;
    }
    assert_eq!(from.read(&mut buffer).unwrap(), 0, "more bytes than were sent");
}
