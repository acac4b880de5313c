//! The gateway under test as real clients meet it: keys, known hosts and `ssh_config` files for them.
//!
//! When a gateway stops, it must leave nothing: no process, no mount and, in the containers that were
//! entered, no cgroup. Stopping it says so by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::engine::{Container, REQUIRE_VARIABLE};
use crate::images::cache_directory;
use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// How long the gateway may take to listen: a debug build makes an RSA key first.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the gateway may take to end after SIGTERM.
const STOP_TIME_MAX: Duration = Duration::from_secs(90);

/// How long what a session leaves may take to go after its client is gone.
pub const CLEAN_UP_TIME_MAX: Duration = Duration::from_secs(90);

/// What every client is told the gateway is called.
pub const HOST: &str = "gateway";

/// What the policy of a gateway is called in its sandbox.
const POLICY_FILE: &str = "policy.toml";

/// The key that may do everything.
pub const MAIN_KEY: &str = "main";

/// How keys are made that need nothing special: words of ssh-keygen.
const DEFAULT_KEY: [&str; 2] = ["-t", "ed25519"];

/// A gateway about to be started.
#[derive(Debug)]
pub struct Setup {
    binary: PathBuf,
    sandbox: Sandbox,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// Names of keys that may come in, each with its line of `authorized_keys`.
    authorized: Vec<(String, String)>,
    policy: Option<String>,
    /// Lines of identities beside their keys, by their names.
    identities: BTreeMap<String, String>,
    keys: Vec<String>,
    config: String,
    mode: &'static str,
}

impl Setup {
    /// `serve` of this binary with one authorized key. `None`, with the reason on stderr, where it cannot
    /// run: only root enters containers.
    ///
    /// # Panics
    /// When it cannot run and must.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return missing("only root can enter containers");
        }
        find_program("ssh-keygen")
            .or_else(|| missing("no ssh-keygen (Debian package openssh-client)"))?;
        let setup = Self {
            binary: binary.into(),
            sandbox: Sandbox::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            authorized: Vec::new(),
            policy: None,
            identities: BTreeMap::new(),
            keys: Vec::new(),
            config: String::new(),
            mode: "native",
        };
        Some(setup.key(MAIN_KEY, ""))
    }

    /// The directory of this gateway, for files that its settings name.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Another key, with options of `authorized_keys`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn key(self, name: &str, options: &str) -> Self {
        self.key_made_by(name, options, &DEFAULT_KEY)
    }

    /// The same, made by these words of ssh-keygen: the kind, and where it is kept.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn key_made_by(mut self, name: &str, options: &str, words: &[&str]) -> Self {
        let public = make_key(&self.sandbox, name, words);
        self.keys.push(name.to_owned());
        let line = format!("{options} {}", public.trim_end());
        self.authorized.push((name.to_owned(), line.trim_start().to_owned()));
        self
    }

    /// A key that is not authorized.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn stranger(mut self, name: &str) -> Self {
        let _public = make_key(&self.sandbox, name, &DEFAULT_KEY);
        self.keys.push(name.to_owned());
        self
    }

    /// Groups and rules of a policy in which every key is an identity of its name.
    #[must_use]
    pub fn policy(mut self, rules: &str) -> Self {
        self.policy = Some(rules.to_owned());
        self
    }

    /// A line of the identity of this name in a policy, beside its key.
    #[must_use]
    pub fn identity(mut self, name: &str, line: &str) -> Self {
        self.identities.entry(name.to_owned()).or_default().push_str(&format!("{line}\n"));
        self
    }

    /// Lines of its configuration file.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self
    }

    /// How containers are entered, instead of `native`: tests of the real thing must not be content with
    /// less.
    #[must_use]
    pub fn mode(mut self, mode: &'static str) -> Self {
        self.mode = mode;
        self
    }

    /// Adds an argument of `serve`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it from a shell script that does this first, and by these words: `nice -n 5`.
    ///
    /// # Panics
    /// When the script cannot be written.
    #[must_use]
    pub fn by(mut self, lines: &str, words: &str) -> Self {
        let binary = self.binary.display();
        let script = format!("#!/bin/sh\nset -e\n{lines}\nexec {words} {binary} \"$@\"\n");
        let path = self.sandbox.file("start", script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("a mode of our own file");
        self.binary = path;
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(self) -> Gateway {
        let state = self.sandbox.directory("state");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))
            .expect("a mode of our own directory");
        copy_host_keys(&state);
        let lines: String = self.authorized.iter().map(|(_, line)| format!("{line}\n")).collect();
        let authorized = self.sandbox.file("authorized_keys", lines);
        let identities = self.authorized.iter();
        let identities = identities.map(|(name, line)| {
            let more = self.identities.get(name).map_or("", String::as_str);
            format!("[[identity]]\nname = '{name}'\nkeys = ['{line}']\n{more}")
        });
        let identities: String = identities.collect();
        let policy = format!("{identities}{}", self.policy.as_deref().unwrap_or_default());
        let policy = self.sandbox.file(POLICY_FILE, policy);
        for path in [&authorized, &policy] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
                .expect("a mode of our own file");
        }
        let (flag, admission) = match &self.policy {
            None => ("--authorized-keys", authorized),
            Some(_) => ("--policy", policy),
        };
        let config = self.sandbox.file("config.toml", &self.config);
        let log = self.sandbox.path("log");
        let server = Run::new("/bin/sh")
            .args(["-c", "log=$1; shift; exec \"$@\" 2>\"$log\"", "sh"])
            .arg(&log)
            .arg(&self.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--state"])
            .arg(&state)
            .arg(flag)
            .arg(&admission)
            .arg("--config")
            .arg(config)
            .args(["--mode", self.mode])
            .args(self.arguments)
            .envs(self.environment)
            .start();
        let mut gateway = Gateway {
            sandbox: self.sandbox,
            log,
            port: 0,
            server: Some(server),
            known: Mutex::default(),
        };
        gateway.port = gateway.wait_for_port();
        keep_host_keys(&state);
        gateway.write_client_files(&self.keys);
        gateway
    }
}

/// A running gateway; stopped on drop.
#[derive(Debug)]
pub struct Gateway {
    sandbox: Sandbox,
    log: PathBuf,
    port: u16,
    server: Option<Running>,
    /// Processes of it that were seen: number and start time.
    known: Mutex<BTreeSet<(u32, u64)>>,
}

impl Gateway {
    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process number.
    ///
    /// # Panics
    /// When it was stopped.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.as_ref().expect("a running gateway").id()
    }

    /// A directory for files of the test, removed with the gateway.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The private key of this name.
    #[must_use]
    pub fn key_file(&self, key: &str) -> PathBuf {
        self.sandbox.path(format!("keys/{key}"))
    }

    /// The host keys as clients know them.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.sandbox.path("known_hosts")
    }

    /// Its authorized keys.
    #[must_use]
    pub fn authorized_keys(&self) -> PathBuf {
        self.sandbox.path("authorized_keys")
    }

    /// Its policy, where it has one.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.sandbox.path(POLICY_FILE)
    }

    /// The `ssh_config` that offers this key and no other.
    #[must_use]
    pub fn config(&self, key: &str) -> PathBuf {
        self.sandbox.path(format!("config-{key}"))
    }

    /// OpenSSH's client under this login name; arguments and the command follow.
    #[must_use]
    pub fn ssh(&self, login: &str) -> Run {
        self.ssh_as(MAIN_KEY, login)
    }

    /// The same with another key.
    #[must_use]
    pub fn ssh_as(&self, key: &str, login: &str) -> Run {
        let run = Run::new("ssh").arg("-F").arg(self.config(key)).args(["-b", &source_address()]);
        run.arg(format!("{login}@{HOST}"))
    }

    /// Another client of OpenSSH (`scp`, `sftp`), whose targets are `LOGIN@gateway…`.
    #[must_use]
    pub fn client(&self, program: &str) -> Run {
        Run::new(program).arg("-F").arg(self.config(MAIN_KEY))
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The lines of its log that are JSON.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a line of the log has all these words.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_for_log(&self, words: &[&str]) {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        wait_until(CLEAN_UP_TIME_MAX, &format!("{words:?} in the log"), || {
            if self.log().lines().any(has) { Ok(()) } else { Err(self.log()) }
        });
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        self.server.as_ref().expect("a running gateway").signal(signal);
    }

    /// The numbers of its processes, its own first.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let found = family(self.id());
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.extend(found.iter().filter_map(|pid| Some((*pid, start_time(*pid)?))));
        found
    }

    /// Waits until no session is left: none of its processes but the first ones, and no cgroup in these
    /// containers.
    ///
    /// # Panics
    /// When something stays.
    pub fn assert_idle(&self, containers: &[&Container]) {
        wait_until(CLEAN_UP_TIME_MAX, "no session is left", || {
            let processes: Vec<_> = self
                .processes()
                .into_iter()
                .filter(|pid| !is_of_the_house(*pid))
                .map(describe)
                .collect();
            let groups: Vec<_> =
                containers.iter().flat_map(|container| session_groups(container.id())).collect();
            if processes.is_empty() && groups.is_empty() {
                return Ok(());
            }
            Err(format!("processes {processes:#?}\ncgroups {groups:#?}"))
        });
    }

    /// Stops it and fails when it leaves anything. Dropping it does the same.
    ///
    /// # Panics
    /// When something is left of it.
    pub fn stop(mut self) {
        self.stop_now();
    }

    /// Reaps one that was killed on purpose.
    pub fn forget(mut self) {
        self.server = None;
    }

    fn stop_now(&mut self) {
        if self.server.is_some() {
            drop(self.processes());
        }
        let Some(server) = self.server.take() else { return };
        server.signal(Signal::TERM);
        let begun = Instant::now();
        while !server.ended_within(Duration::ZERO) {
            if begun.elapsed() > STOP_TIME_MAX {
                drop(server);
                panic!("the gateway does not end after SIGTERM; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let finished = server.wait();
        assert_eq!(finished.code(), Some(0), "{finished}\n--- its log\n{}", self.log());
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        wait_until(CLEAN_UP_TIME_MAX, "every process of the gateway is gone", || {
            let left: Vec<_> = known
                .iter()
                .filter(|(pid, start)| start_time(*pid) == Some(*start))
                // The gateway has ended: a zombie is a child of the first process of a container, which reaps nobody.
                .filter(|(pid, _)| !is_zombie(*pid))
                .map(|(pid, _)| describe(*pid))
                .collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
        });
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.sandbox.root().display().to_string();
        assert!(!mounts.contains(&root), "a mount is left in {root}:\n{mounts}");
    }

    /// The port in the line that says `listening`.
    fn wait_for_port(&self) -> u16 {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let log = self.log();
            let port = log.lines().filter(|line| line.contains("listening")).find_map(|line| {
                let (_, rest) = line.split_once("127.0.0.1:")?;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            });
            if let Some(port) = port {
                return port;
            }
            let server = self.server.as_ref().expect("a running gateway");
            assert!(
                Instant::now() < deadline && !server.ended_within(Duration::ZERO),
                "the gateway does not listen; its log:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn write_client_files(&self, keys: &[String]) {
        let port = self.port;
        let known: String = host_keys(&self.sandbox.path("state"))
            .iter()
            .map(|(_, public)| format!("[127.0.0.1]:{port} {public}\n"))
            .collect();
        assert!(!known.is_empty(), "the gateway has no host key in its state directory");
        let known_hosts = self.sandbox.file("known_hosts", known);
        for key in keys {
            let config = format!(
                "Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {identity}\n  \
                 IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking yes\n  \
                 UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n  ControlPath none\n  \
                 UpdateHostKeys no\n  LogLevel ERROR\n  ConnectTimeout 30\n",
                identity = self.key_file(key).display(),
                known = known_hosts.display(),
            );
            self.sandbox.file(format!("config-{key}"), config);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::notice!("the log of the gateway:\n{}", self.log());
            // With SIGKILL the others see their sockets close.
            self.server = None;
            return;
        }
        self.stop_now();
    }
}

/// An address of this machine that no client came from yet: what one test does wrong is not held against
/// the next.
///
/// # Panics
/// After four million of them.
#[must_use]
pub fn source_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < 63 << 16, "no source address is left");
    let [_, high, middle, low] = number.to_be_bytes();
    format!("127.{}.{middle}.{low}", 192 + high)
}

/// The Python of the virtual environment with the SSH clients of PyPI, made by `deploy/ensure.sh tests`.
///
/// # Panics
/// When it is missing and must not be.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let wanted = format!("{}/testdata/ssh-clients.txt", env!("CARGO_MANIFEST_DIR"));
    let clients = cache_directory().join("ssh-clients");
    let made_of = fs::read(clients.join("made-of.txt")).ok();
    if made_of.is_some() && made_of == fs::read(wanted).ok() {
        return Some(clients.join("bin/python"));
    }
    missing("no SSH clients of PyPI (made by `deploy/ensure.sh tests`)")
}

/// A program of this machine that a test needs.
///
/// # Panics
/// When it is missing and must not be.
#[must_use]
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    find_program(name).or_else(|| missing(&format!("no {name} (Debian package {package})")))
}

/// Says what is missing, or fails where nothing may be missing.
fn missing<T>(reason: &str) -> Option<T> {
    assert!(
        std::env::var_os(REQUIRE_VARIABLE).is_none_or(|value| value != "1"),
        "{reason}, and {REQUIRE_VARIABLE}=1"
    );
    crate::notice!("skipped: {reason}");
    None
}

/// Tries until it is so; fails with the last reason.
///
/// # Panics
/// When it is not so in time.
pub fn wait_until(limit: Duration, what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    loop {
        match is_so() {
            Ok(()) => return,
            Err(reason) => {
                assert!(Instant::now() < deadline, "{what}: not after {limit:?}: {reason}");
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The cgroups that sessions made below a container's own.
#[must_use]
pub fn session_groups(container_id: &str) -> Vec<PathBuf> {
    let children = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let root = PathBuf::from("/sys/fs/cgroup");
    let homes = std::iter::once(root.clone()).chain(children(root));
    homes
        .flat_map(|home| children(home.join("docker").join(container_id)))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ssh-"))
        })
        .collect()
}

/// A process and everything that descends from it.
fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(pid) = pid
            && let Some(parent) = stat_field(pid, 4).and_then(|parent| u32::try_from(parent).ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Whether it is one of the processes that live as long as the gateway does: itself, and its roles. Tasks are
/// forks of the spawner and look like it, but they are its children.
fn is_of_the_house(pid: u32) -> bool {
    let words = |pid: u32| -> Vec<Vec<u8>> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    let is = |pid: u32, wanted: &[&[u8]]| {
        let words = words(pid);
        words.get(1..).is_some_and(|words| {
            words.iter().zip(wanted).filter(|(a, b)| a == *b).count() == wanted.len()
        })
    };
    let parent = stat_field(pid, 4).and_then(|parent| u32::try_from(parent).ok());
    is(pid, &[b"serve"])
        || (is(pid, &[b"role"]) && !parent.is_some_and(|parent| is(parent, &[b"role", b"spawner"])))
        || !Path::new(&format!("/proc/{pid}")).exists()
}

fn describe(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let state = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = |name: &str| {
        state.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    };
    format!(
        "{pid} `{}` {} {} {}",
        String::from_utf8_lossy(&words).replace('\0', " ").trim(),
        line("Name:"),
        line("State:"),
        line("PPid:"),
    )
    .replace('\t', " ")
}

/// Field 22 of `/proc/PID/stat`: when it started, in clock ticks after boot.
fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Whether it has ended, and its parent has not asked how.
fn is_zombie(pid: u32) -> bool {
    stat_word(pid, 3).is_some_and(|state| state == "Z")
}

/// A number in `/proc/PID/stat` (proc(5)), from the fourth field on.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    stat_word(pid, number)?.parse().ok()
}

/// A field of `/proc/PID/stat`, from the third on.
fn stat_word(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// Makes a key pair by these words of ssh-keygen and returns the public half.
fn make_key(sandbox: &Sandbox, name: &str, words: &[&str]) -> String {
    let keys = sandbox.directory("keys");
    let file = keys.join(name);
    Run::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", name, "-f"])
        .arg(&file)
        .args(words.iter().copied())
        .succeed();
    fs::read_to_string(keys.join(format!("{name}.pub"))).expect("ssh-keygen wrote a public key")
}

/// Private host keys of this state directory, each with its public half as `known_hosts` has it.
fn host_keys(state: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![state.join("host_keys")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            if !fs::read(&path)
                .is_ok_and(|bytes| bytes.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY"))
            {
                continue;
            }
            let public =
                Run::new("ssh-keygen").arg("-y").arg("-f").arg(&path).succeed().stdout_text();
            let words: Vec<_> = public.split_whitespace().take(2).collect();
            found.push((path, words.join(" ")));
        }
    }
    found
}

/// Host keys of the first gateway of this process: making an RSA key in a debug build takes seconds.
static HOST_KEYS: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();

fn keep_host_keys(state: &Path) {
    HOST_KEYS.get_or_init(|| {
        let keys = host_keys(state).into_iter();
        keys.map(|(path, _)| {
            let relative = path.strip_prefix(state).expect("a path below the directory").to_owned();
            (relative, fs::read(&path).expect("a host key"))
        })
        .collect()
    });
}

fn copy_host_keys(state: &Path) {
    for (relative, content) in HOST_KEYS.get().into_iter().flatten() {
        let path = state.join(relative);
        let folder = path.parent().expect("a file has a folder");
        fs::create_dir_all(folder).expect("a folder for host keys");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .expect("a mode of our own folder");
        fs::write(&path, content).expect("a host key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .expect("a mode of our own file");
    }
}

/// A terminal emulator that tests can type into: tmux(1) on a server of its own.
#[derive(Debug)]
pub struct Tmux {
    program: PathBuf,
    socket: PathBuf,
}

impl Tmux {
    /// Runs a command line in a terminal of this size. `None`, with the reason on stderr, without tmux.
    ///
    /// # Panics
    /// When tmux refuses.
    #[must_use]
    pub fn start(sandbox: &Sandbox, command: &Run, columns: u16, rows: u16) -> Option<Self> {
        let program = program("tmux", "tmux")?;
        // A server takes a moment to end, and meanwhile takes who comes to its socket with it.
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { program, socket: sandbox.path(format!("tmux-{number}")) };
        let line = format!("{}; echo \"[ended with $?]\"; sleep 1000", command.describe());
        tmux.run(&[
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
            &line,
        ]);
        Some(tmux)
    }

    /// Types these words and Enter.
    pub fn line(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
        self.run(&["send-keys", "Enter"]);
    }

    /// Presses one key by its name: `C-c`, `Enter`.
    pub fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Waits until a line of the screen is, or begins with, these words.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_line(&self, start: &str) {
        wait_until(CLEAN_UP_TIME_MAX, &format!("{start:?} on the screen"), || {
            let screen = self.screen();
            if screen.lines().any(|line| line.starts_with(start)) { Ok(()) } else { Err(screen) }
        });
    }

    fn run(&self, words: &[&str]) -> String {
        let run = Run::new(&self.program).arg("-f").arg("/dev/null").arg("-S").arg(&self.socket);
        run.args(words.iter().copied()).succeed().stdout_text()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let kill = Run::new(&self.program).arg("-S").arg(&self.socket).arg("kill-server").finish();
        if kill.code() != Some(0) {
            crate::notice!("left behind: tmux: {kill}");
        }
    }
}
