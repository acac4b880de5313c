//! Runs a program under test and keeps everything it said.
//!
//! Every run has a deadline: a program that hangs is killed with its children and the test fails with
//! the command line and the output so far.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

/// How long a program may run unless the test says otherwise (seconds).
const DEADLINE_SECONDS: u64 = 120;

/// How long after a program's end its pipes may stay open (seconds). What it left behind in another process group is
/// not killed with it, and could hold them for ever.
const PIPES_SECONDS_MAX: u64 = 30;

/// How long a program may take to end once somebody waits for that, however long it ran before (seconds).
const END_SECONDS: u64 = 60;

/// How long a server may take until it listens (seconds).
const LISTEN_SECONDS_MAX: u64 = 60;

/// Of each end of what a program that hung has said, so much is shown, in bytes.
const SHOWN_BYTES: usize = 2 * 1024;

/// Variables of the developer's own machine that must not reach a program under test.
const SCRUBBED_PREFIXES: [&str; 5] = ["AWS_", "BACKUP_", "CHORES_", "LOGSHIP_", "SSH_"];

/// A command to run.
#[derive(Clone, Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Run {
    /// A run of `program` without arguments, with an empty stdin.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(DEADLINE_SECONDS),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets variables of the environment.
    #[must_use]
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Starts in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Feeds these bytes to stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Allows this much time instead of two minutes.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same program with the same arguments, started by another one: these words come before it.
    ///
    /// # Panics
    /// Without any word.
    #[must_use]
    pub fn wrapped<A: Into<OsString>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        let mut words = words.into_iter().map(Into::into);
        let program = words.next().expect("a program");
        let inner = std::mem::replace(&mut self.program, program.into()).into_os_string();
        self.args = words.chain([inner]).chain(std::mem::take(&mut self.args)).collect();
        self
    }

    /// The command line as a person would type it, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        std::iter::once(self.program.as_os_str())
            .chain(self.args.iter().map(OsString::as_os_str))
            .map(quoted)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Starts the program in a process group of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(self) -> Running {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if SCRUBBED_PREFIXES
                .iter()
                .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
            {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let description = self.describe();
        let started = Instant::now();
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {description}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = self.stdin;
        // A program that does not read its input closes the pipe: that is not the test's concern.
        let fed = aside(move || drop(stdin.write_all(&input)));
        let stdout = collect(child.stdout.take().expect("stdout is piped"));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        Running {
            command: description,
            child,
            started,
            deadline: self.deadline,
            fed,
            stdout,
            stderr,
        }
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end in time.
    #[must_use]
    pub fn finish(self) -> Finished {
        self.start().wait()
    }

    /// Runs the program to its end and expects exit code 0.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn succeed(self) -> Finished {
        self.finish().expect_code(0)
    }
}

/// A program that runs; killed with its children on drop.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    started: Instant,
    deadline: Duration,
    /// Hears when standard input has been fed.
    fed: Hears<()>,
    /// Hears all of standard output at its end.
    stdout: Hears<Vec<u8>>,
    /// Hears all of standard error at its end.
    stderr: Hears<Vec<u8>>,
}

/// Told once; in a mutex so that several threads may look at one program.
type Hears<T> = Mutex<Receiver<T>>;

impl Running {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the program itself.
    ///
    /// # Panics
    /// When the program is gone and reaped.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.command));
    }

    /// Waits until the program ends or `moment` after its start has passed; whether it ended.
    ///
    /// # Panics
    /// When the process cannot be watched.
    #[must_use]
    pub fn ended_within(&self, moment: Duration) -> bool {
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .unwrap_or_else(|error| panic!("cannot watch {}: {error}", self.command));
        loop {
            let left = moment.saturating_sub(self.started.elapsed());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot watch {}: {error}", self.command),
            }
        }
    }

    /// Waits until a server takes connections at a port of 127.0.0.1.
    ///
    /// # Panics
    /// When it ends, or does not listen in time.
    pub fn wait_until_it_listens(&self, port: u16) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(!self.ended_within(Duration::ZERO), "{} ended", self.command);
            let is_late = begun.elapsed() > Duration::from_secs(LISTEN_SECONDS_MAX);
            assert!(!is_late, "{} does not listen", self.command);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the program run until `moment` after its start, then kills it with SIGKILL, and returns how
    /// it ended: by the signal, or by itself when it was quicker.
    #[must_use]
    pub fn kill_at(mut self, moment: Duration) -> Finished {
        if !self.ended_within(moment) {
            self.kill_group();
        }
        self.collect_end()
    }

    /// Waits for the end, and a while in any case: the deadline may have passed before anybody asked it to end.
    ///
    /// # Panics
    /// When the deadline passes first.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let deadline = self.deadline.max(self.started.elapsed() + Duration::from_secs(END_SECONDS));
        if self.ended_within(deadline) {
            return self.collect_end();
        }
        let processes = processes_of_group(self.id());
        self.kill_group();
        let finished = self.collect_end();
        panic!(
            "still running after {deadline:?}, killed: `{}` ended with {} after {:?}\n--- processes\n{processes}\
             --- stdout\n{}\n--- stderr\n{}",
            finished.command,
            finished.status,
            finished.elapsed,
            ends_of(&finished.stdout),
            ends_of(&finished.stderr),
        );
    }

    fn kill_group(&self) {
        // The group is gone when the program has just ended by itself.
        rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
    }

    fn collect_end(&mut self) -> Finished {
        let status = self
            .child
            .wait()
            .unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.command));
        let elapsed = self.started.elapsed();
        let open_until = Instant::now() + Duration::from_secs(PIPES_SECONDS_MAX);
        let command = &self.command;
        at_its_end(&mut self.fed, open_until, "stdin", command);
        Finished {
            command: command.clone(),
            status,
            stdout: at_its_end(&mut self.stdout, open_until, "stdout", command),
            stderr: at_its_end(&mut self.stderr, open_until, "stderr", command),
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_group();
            drop(self.child.wait());
        }
    }
}

/// How a program ended and what it said. `Display` shows all of it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Stdout as text, foreign bytes replaced.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text, foreign bytes replaced.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Passes when the exit code is `code`.
    ///
    /// # Panics
    /// When it is another one, with everything the program said.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }

    /// Stdout as one JSON value.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON value ({error}): {self}"))
    }

    /// Stdout as JSON Lines.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).unwrap_or_else(|error| {
                    panic!("a line of stdout is not JSON ({error}): {self}")
                })
            })
            .collect()
    }

    /// The last of the JSON Lines on stdout.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn last_json(&self) -> Value {
        self.json_lines().pop().unwrap_or_else(|| panic!("stdout has no JSON line: {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.status,
            self.elapsed,
            self.stdout_text(),
            self.stderr_text()
        )
    }
}

/// The path of a program that the machine has, looked up on `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=@,".contains(&byte))
    {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Does something on a thread of its own that nobody has to wait for.
fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Hears<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nobody listens any more when the program was given up.
    std::thread::spawn(move || drop(sender.send(act())));
    Mutex::new(receiver)
}

/// What the processes of a group wait for, a line each: where in the kernel a program hangs tells what it hangs on.
fn processes_of_group(group: u32) -> String {
    let mut lines = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name));
        // What is gone meanwhile is not there.
        let Ok(stat) = read("stat") else { continue };
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        // State, parent, group: proc_pid_stat(5).
        let mut words = rest.split(' ');
        let (state, its) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        if its.parse() == Ok(group) {
            let waits = read("wchan").unwrap_or_default();
            lines.push_str(&format!("{name}) {state} {waits}\n"));
        }
    }
    lines
}

/// The beginning and the end of what a program has said, and how much it was.
fn ends_of(bytes: &[u8]) -> String {
    if bytes.len() <= 2 * SHOWN_BYTES {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let (first, rest) = bytes.split_at(SHOWN_BYTES);
    let (left_out, last) = rest.split_at(rest.len() - SHOWN_BYTES);
    format!(
        "{}\n… ({} bytes of {} are left out) …\n{}",
        String::from_utf8_lossy(first),
        left_out.len(),
        bytes.len(),
        String::from_utf8_lossy(last)
    )
}

fn collect(mut stream: impl Read + Send + 'static) -> Hears<Vec<u8>> {
    aside(move || {
        let mut bytes = Vec::new();
        // A read error can only mean that the writer is gone: what came before counts.
        drop(stream.read_to_end(&mut bytes));
        bytes
    })
}

/// What came of a pipe of a program that has ended.
///
/// # Panics
/// When somebody else still holds the pipe open at `open_until`.
fn at_its_end<T>(pipe: &mut Hears<T>, open_until: Instant, name: &str, command: &str) -> T {
    let pipe = pipe.get_mut().unwrap_or_else(PoisonError::into_inner);
    pipe.recv_timeout(open_until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
        panic!("{command} has ended, and something it started still holds its {name} open")
    })
}

#[cfg(test)]
mod tests;
