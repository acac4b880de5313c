//! Keeps in the audit what our own programs in containers tell of files.
//!
//! What they tell is taken for their word: it is bounded, and told as theirs. What they have open when they end, whoever has
//! ended them, has been told before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Shared, audit};
use crate::policy::Unrecorded;
use crate::tally::flag;
use crate::wire::files::{Act, Closed, Moved, Report, Set};
use crate::wire::net::{ConnectionId, ItemId};
use crate::wire::socket::{AsyncSocket, Socket};

#[cfg(test)]
mod tests;

/// Files that one program has open; ours opens no more.
const OPEN_MAX: usize = 1000;
/// Bytes of a path that are told: with two of them a line of the audit is not too long, however they are escaped.
const PATH_BYTES_MAX: usize = 5 * 1024;
/// Bytes of a reason that are told.
const REASON_BYTES_MAX: usize = 256;
/// A path that is told is not longer, in bytes: what comes is nobody's that we know.
const TOLD_BYTES_MAX: usize = 16 * 1024;
/// One identity writes a line in this time in the long run: 500 a second.
const LINE_TIME: Duration = Duration::from_millis(2);
/// And longer lines more slowly: so many bytes of them in this time, 256 KiB a second.
const LINE_BYTES: u64 = 512;
/// And is ahead of that by no more than this: 5,000 lines.
const AHEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// What a program that has ended had told last is written in this time, before it is told that it has ended.
const REST_TIME_MAX: Duration = Duration::from_secs(5);

/// Why there is no more about a file.
const KILLED: &str = "the program ended before it was closed";
/// In place of a hash.
const NOT_SEQUENTIAL: &str = "none (not sequential)";

/// Whose files they are.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: ConnectionId,
    pub(super) session: ItemId,
    /// Its name.
    pub(super) name: String,
    pub(super) unrecorded: Unrecorded,
    /// Whose it is.
    pub(super) who: String,
    /// Ends it.
    pub(super) end: CancellationToken,
}

/// A book that is being written.
#[derive(Debug)]
pub(super) struct Book(tokio::task::JoinHandle<()>);

impl Book {
    /// Begins to write what comes. Needs a tokio runtime.
    pub(super) fn begin(session: Session, socket: Socket) -> std::io::Result<Self> {
        let socket = socket.into_async()?;
        let running = session.shared.running.clone();
        Ok(Self(running.spawn(keep(session, socket))))
    }

    /// Waits until all is written that its program has told, if that does not take too long.
    pub(super) async fn finish(self) {
        // It goes on by itself.
        tokio::time::timeout(REST_TIME_MAX, self.0).await.ok();
    }
}

/// Writes what comes until nothing more does, or it cannot be written and the session must not go on without.
async fn keep(session: Session, socket: AsyncSocket) {
    let mut opened = Opened::default();
    let mut is_warned = false;
    let mut is_given_up = false;
    loop {
        let lines = match socket.receive::<Report>().await {
            Ok(Some((report, _))) => opened.hear(report),
            Ok(None) => Ok(opened.end()),
            Err(error) => Err(error.to_string()),
        };
        let (lines, is_over) = match lines {
            Ok(lines) => {
                let is_over = opened.is_over;
                (lines, is_over)
            }
            Err(reason) => {
                // Ours says nothing like that: somebody is at work in the container.
                tracing::error!(
                    connection = session.connection,
                    session = session.session,
                    "what it tells of files means nothing, so it ends: {reason}"
                );
                session.end.cancel();
                (opened.end(), true)
            }
        };
        for line in lines {
            let journal = &session.shared.journal;
            let mark = journal.mark();
            let is_crowded = journal.is_crowded() && session.unrecorded == Unrecorded::Refuse;
            audit::file(&session, &line);
            if is_given_up {
                // What was done before it ends is still written where that is possible, or counted as left out.
                continue;
            }
            if is_crowded {
                tracing::error!(
                    connection = session.connection,
                    session = session.session,
                    "the audit has no more room for files, so it ends: move old files of the audit away, or raise audit_quota"
                );
                is_given_up = true;
                session.end.cancel();
                continue;
            }
            if let Err(reason) = journal.written(mark).await {
                match session.unrecorded {
                    Unrecorded::Refuse => {
                        tracing::error!(
                            connection = session.connection,
                            session = session.session,
                            "what it does to files cannot be kept, so it ends: {reason}"
                        );
                        is_given_up = true;
                        session.end.cancel();
                    }
                    Unrecorded::Allow if !is_warned => {
                        is_warned = true;
                        tracing::warn!(
                            connection = session.connection,
                            session = session.session,
                            "what it does to files is not kept: {reason}"
                        );
                    }
                    Unrecorded::Allow => {}
                }
            }
            let ahead = session.shared.paces.step(&session.who, line.length(), Instant::now());
            if !ahead.is_zero() && !is_over && !is_given_up {
                tokio::time::sleep(ahead).await;
            }
        }
        if is_over {
            return;
        }
    }
}

/// How fast lines of each identity may come: by when all of it is written, at the pace of one. A program that is too fast
/// waits, and so does its client.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<BTreeMap<String, Instant>>);

impl Paces {
    /// Counts a line of so many bytes; gives how long the next must wait.
    fn step(&self, who: &str, bytes: usize, now: Instant) -> Duration {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has paused begins anew.
        due.retain(|_, due| *due > now);
        let lines = (bytes as u64).div_ceil(LINE_BYTES).max(1);
        let time = LINE_TIME.saturating_mul(u32::try_from(lines).unwrap_or(u32::MAX));
        let due = due.entry(who.to_owned()).or_insert(now);
        *due += time;
        due.saturating_duration_since(now + AHEAD_TIME_MAX)
    }
}

/// A line of the audit about a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) what: &'static str,
    pub(super) path: String,
    pub(super) to: Option<String>,
    /// How it was opened.
    pub(super) opened: Option<String>,
    pub(super) read: Option<u64>,
    pub(super) read_sha256: Option<String>,
    pub(super) written: Option<u64>,
    pub(super) written_sha256: Option<String>,
    pub(super) copied: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<String>,
    pub(super) owner: Option<String>,
    /// Of the last change, in seconds of the epoch.
    pub(super) modified: Option<u32>,
    /// Why it was not done.
    pub(super) reason: Option<String>,
    /// Why it may not be whole.
    pub(super) fault: Option<String>,
}

impl Line {
    /// About how long it is in the audit, in bytes: what is escaped there counts as it is escaped.
    fn length(&self) -> usize {
        let texts = [Some(&self.path), self.to.as_ref(), self.reason.as_ref()];
        let escaped = |text: &String| text.len() + text.matches('\\').count();
        texts.into_iter().flatten().map(escaped).sum::<usize>() + LINE_BYTES as usize / 2
    }
}

/// What a program has open.
#[derive(Debug, Default)]
struct Opened {
    files: BTreeMap<u64, (Vec<u8>, u32)>,
    is_over: bool,
}

impl Opened {
    /// What is to be written of a report; the error says why it cannot be one of ours.
    fn hear(&mut self, report: Report) -> Result<Vec<Line>, String> {
        match report {
            Report::Opened { number, mut path, flags } => {
                if path.len() > TOLD_BYTES_MAX {
                    return Err("a path that is too long".to_owned());
                }
                // No more is kept than is told, and that it is cut.
                path.truncate(PATH_BYTES_MAX + 1);
                path.shrink_to_fit();
                if self.files.len() >= OPEN_MAX {
                    return Err("too many open files".to_owned());
                }
                match self.files.insert(number, (path, flags)) {
                    None => Ok(Vec::new()),
                    Some(_) => Err("two open files of one number".to_owned()),
                }
            }
            Report::Closed(closed) => {
                let file = self.files.remove(&closed.number);
                let (path, flags) = file.ok_or("a file was closed that was not open")?;
                Ok(vec![whole(&path, flags, *closed)])
            }
            Report::Done { act, failed } => {
                let mut line = self.act(act)?;
                line.reason = failed.as_deref().map(reason);
                Ok(vec![line])
            }
            Report::End if self.files.is_empty() => {
                self.is_over = true;
                Ok(Vec::new())
            }
            Report::End => Err("an end with open files".to_owned()),
        }
    }

    /// What is to be written of what is still open when nothing more comes.
    fn end(&mut self) -> Vec<Line> {
        self.is_over = true;
        let files = std::mem::take(&mut self.files).into_values();
        files
            .map(|(path, flags)| Line {
                what: "file",
                path: told(&path),
                opened: Some(words(flags)),
                fault: Some(KILLED.to_owned()),
                ..Line::default()
            })
            .collect()
    }

    fn act(&self, act: Act) -> Result<Line, String> {
        let one = |what, path: &[u8]| Line { what, path: told(path), ..Line::default() };
        let two = |what, path: &[u8], to: &[u8]| Line { to: Some(told(to)), ..one(what, path) };
        Ok(match act {
            Act::Open { path, flags } => Line { opened: Some(words(flags)), ..one("file", &path) },
            Act::Remove { path } => one("remove", &path),
            Act::MakeDirectory { path } => one("mkdir", &path),
            Act::RemoveDirectory { path } => one("rmdir", &path),
            Act::Rename { path, to } => two("rename", &path, &to),
            Act::Symlink { path, to } => two("symlink", &path, &to),
            Act::Hardlink { path, to } => two("hardlink", &path, &to),
            Act::Set { path, set } => {
                let mut line = one("setstat", &path);
                attributes(&mut line, &set);
                line
            }
            Act::Copy { from, to, bytes } => {
                let path = |number: &u64| {
                    let file = self.files.get(number).map(|(path, _)| path.as_slice());
                    file.ok_or("a copy of a file that is not open")
                };
                Line { copied: Some(bytes), ..two("copy-data", path(&from)?, path(&to)?) }
            }
        })
    }
}

/// A file from its opening to its end.
fn whole(path: &[u8], flags: u32, closed: Closed) -> Line {
    let Closed { number: _, read, written, set, fault } = closed;
    let hash = |moved: Moved| {
        moved.sha256.map_or_else(|| NOT_SEQUENTIAL.to_owned(), |hash| crate::chain::hex(&hash))
    };
    // As the kernel is asked: what is not for writing is for reading.
    let is_read = flags & flag::READ != 0 || flags & flag::WRITE == 0;
    let is_written = flags & flag::WRITE != 0;
    let mut line = Line {
        what: "file",
        path: told(path),
        opened: Some(words(flags)),
        read: is_read.then_some(read.bytes),
        read_sha256: is_read.then(|| hash(read)),
        written: is_written.then_some(written.bytes),
        written_sha256: is_written.then(|| hash(written)),
        fault: fault.as_deref().map(reason),
        ..Line::default()
    };
    attributes(&mut line, &set);
    line
}

fn attributes(line: &mut Line, set: &Set) {
    line.size = set.size;
    line.mode = set.mode.map(|mode| format!("{mode:04o}"));
    line.owner = set.owner.map(|(user, group)| format!("{user}:{group}"));
    line.modified = set.times.map(|(_, modified)| modified);
}

/// A path, from which every byte can be read back.
fn told(path: &[u8]) -> String {
    match path.get(..PATH_BYTES_MAX) {
        // It is told that something is missing by what no path has in this form.
        Some(some) if some.len() < path.len() => format!("{}…", some.escape_ascii()),
        _ => path.escape_ascii().to_string(),
    }
}

/// A reason, in the form of a path.
fn reason(reason: &str) -> String {
    let bytes = reason.as_bytes();
    bytes.get(..REASON_BYTES_MAX).unwrap_or(bytes).escape_ascii().to_string()
}

/// How a file was opened.
fn words(flags: u32) -> String {
    let all = [
        (flag::READ, "read"),
        (flag::WRITE, "write"),
        (flag::APPEND, "append"),
        (flag::CREATE, "create"),
        (flag::TRUNCATE, "truncate"),
        (flag::EXCLUSIVE, "exclusive"),
    ];
    let words: Vec<_> =
        all.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| word).collect();
    words.join(" ")
}
