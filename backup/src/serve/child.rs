//! One run as a process of its own: whatever it does to itself, the others go on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use super::outcome::{End, Ended};
use super::parent;

#[cfg(test)]
mod tests;

/// This very program, even when its file has been replaced since.
const PROGRAM: &str = "/proc/self/exe";

/// How long a run that was asked to end may take before it is killed: it lets containers go on and takes its reads back.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// How long one that was killed may take to be gone. The kernel ends none that waits for a disk, or for a server of files, that does not
/// answer.
const KILL_TIME: Duration = Duration::from_secs(60);

/// Between two looks at a run.
const POLL: Duration = Duration::from_millis(100);

/// How long the output of a run that has ended is waited for: something it started may hold it open.
const OUTPUT_TIME: Duration = Duration::from_secs(5);

/// Longest line that may be a summary, in bytes.
const SUMMARY_BYTES_MAX: u64 = 4 << 20;

/// Longest line of messages, in bytes, and how many of them are passed on.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;
const MESSAGES_MAX: usize = 500;

/// What to run.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// What it is called in the log.
    pub(super) name: String,
    /// Its arguments.
    pub(super) words: Vec<String>,
    /// How long it may take.
    pub(super) time_max: Duration,
    /// How long it may take to end when it is asked to.
    pub(super) grace: Duration,
}

/// A run that was killed and is still there.
#[derive(Debug)]
pub(super) struct Stuck(Child);

impl Stuck {
    /// Waits until it is gone, which may be never.
    pub(super) fn wait(mut self) {
        if let Err(error) = self.0.wait() {
            tracing::debug!("nothing is left of a run: {error}");
        }
    }
}

/// How far the end of a run that was asked for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked for it.
    Running,
    /// It was asked to end, this long ago.
    Asked(Duration),
    /// It was killed, this long ago.
    Killed(Duration),
}

/// What is to be done about a run that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Wait,
    Ask,
    Kill,
    Leave,
}

/// Decides it. `is_due` says that its time is up, or that it is to stop.
fn act(stage: Stage, is_due: bool, grace: Duration) -> Act {
    match stage {
        Stage::Running if is_due => Act::Ask,
        Stage::Asked(since) if since >= grace => Act::Kill,
        Stage::Killed(since) if since >= KILL_TIME => Act::Leave,
        Stage::Running | Stage::Asked(_) | Stage::Killed(_) => Act::Wait,
    }
}

/// Runs it to its end. `stop` asks it to end before. One that does not end even when it is killed is given back.
#[must_use]
pub(super) fn run(order: &Order, stop: &Shutdown) -> (Ended, Option<Stuck>) {
    let mut command = Command::new(PROGRAM);
    command.args(&order.words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal from a terminal is for this process, which ends the run itself.
    command.process_group(0);
    let (variable, value) = parent::variable();
    command.env(variable, value);
    match command.spawn() {
        Ok(child) => attend(child, order, stop),
        Err(error) => (Ended { end: End::NotStarted(error.to_string()), summary: None }, None),
    }
}

fn attend(mut child: Child, order: &Order, stop: &Shutdown) -> (Ended, Option<Stuck>) {
    let summary = child.stdout.take().map(|stdout| aside(move || summary(stdout)));
    let name = order.name.clone();
    let told = child.stderr.take().map(|stderr| aside(move || pass_on(stderr, &name)));
    let began = Instant::now();
    let mut asked: Option<(Instant, End)> = None;
    let mut killed: Option<Instant> = None;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) => {}
            Err(error) => break Err(error),
        }
        let is_due = stop.is_requested() || began.elapsed() >= order.time_max;
        let stage = match (&asked, killed) {
            (_, Some(since)) => Stage::Killed(since.elapsed()),
            (Some((since, _)), None) => Stage::Asked(since.elapsed()),
            (None, None) => Stage::Running,
        };
        match act(stage, is_due, order.grace) {
            Act::Wait => {}
            Act::Ask => {
                signal(&child, Signal::TERM);
                let is_stop = stop.is_requested();
                let end = if is_stop { End::Interrupted } else { End::TimedOut(order.time_max) };
                asked = Some((Instant::now(), end));
            }
            Act::Kill => {
                tracing::warn!(job = %order.name, "it did not end when it was asked to, and is killed");
                kill_group(&child);
                killed = Some(Instant::now());
            }
            Act::Leave => {
                tracing::error!(job = %order.name, "it was killed and does not end: what it reads or writes hangs");
                let is_stop = matches!(&asked, Some((_, End::Interrupted)));
                let end = if is_stop { End::Interrupted } else { End::Stuck(order.time_max) };
                return (Ended { end, summary: None }, Some(Stuck(child)));
            }
        }
        thread::sleep(POLL);
    };
    let deadline = Instant::now() + OUTPUT_TIME;
    let rest = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
    let summary = summary.and_then(|summary| summary.recv_timeout(rest(deadline)).ok()).flatten();
    if told.is_some_and(|told| told.recv_timeout(rest(deadline)).is_err()) {
        // What it started goes with it.
        kill_group(&child);
    }
    let end = match (asked, status) {
        // It had ended well before it heard of it.
        (Some(_), Ok(status)) if matches!(status.code(), Some(0 | 3)) => end_of(status),
        (Some((_, end)), _) => end,
        // It has heard of it from somebody else.
        (None, Ok(status)) if status.code() == Some(130) && stop.is_requested() => End::Interrupted,
        (None, Ok(status)) => end_of(status),
        (None, Err(error)) => End::NotStarted(error.to_string()),
    };
    (Ended { end, summary }, None)
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Err(error) = kill_process(Pid::from_child(child), signal) {
        tracing::debug!("a run is gone before it could be asked to end: {error}");
    }
}

fn kill_group(child: &Child) {
    if let Err(error) = kill_process_group(Pid::from_child(child), Signal::KILL) {
        tracing::debug!("nothing is left of a run: {error}");
    }
}

/// Does something on a thread of its own, which nobody has to wait for.
fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = sync_channel(1);
    let thread = thread::Builder::new().name("output".to_owned());
    // Nobody may listen any more. Where there is no thread, the pipe closes, and nothing was said.
    if let Err(error) = thread.spawn(move || drop(sender.send(act()))) {
        tracing::warn!("cannot listen to a run: {error}");
    }
    receiver
}

/// The last line of the answer that is a summary.
fn summary(output: impl Read) -> Option<Value> {
    let mut found = None;
    lines(output, SUMMARY_BYTES_MAX, |line| {
        let value = serde_json::from_slice::<Value>(line).ok();
        let value =
            value.filter(|value| value.get("event").and_then(Value::as_str) == Some("summary"));
        if value.is_some() {
            found = value;
        }
    });
    found
}

/// Messages go to the log of this process.
fn pass_on(output: impl Read, name: &str) {
    let mut count = 0;
    lines(output, MESSAGE_BYTES_MAX, |line| {
        count += 1;
        if count <= MESSAGES_MAX {
            let line = String::from_utf8_lossy(line);
            tracing::warn!(job = name, "{}", line.trim_end());
        }
    });
    if count > MESSAGES_MAX {
        tracing::warn!(job = name, "{} more messages are left out", count - MESSAGES_MAX);
    }
}

/// Each line, at most so many bytes of it; the rest of a longer one is passed over.
fn lines(output: impl Read, bytes_max: u64, mut take: impl FnMut(&[u8])) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(bytes_max).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => take(&line),
        }
        while line.last() != Some(&b'\n') {
            line.clear();
            match reader.by_ref().take(bytes_max).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
