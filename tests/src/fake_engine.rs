//! A fake container engine: it speaks the part of the Docker Engine API that a reader of logs uses, on a Unix
//! socket, and misbehaves as real engines of different ages do.
//!
//! What it does is written from the sources of Docker 20.10 to 28 and from what 20.10 was seen to do:
//!
//! * a read that does not follow shows every retained message in the order of the files;
//! * a follower that is two files behind goes on with the newest one and says nothing (all ages), and after a
//!   rotation may send some messages again (20.10);
//! * `since` hides every older line (before 24.0), or only those before the first that is young enough;
//! * with a terminal there are no frames; errors are frames of type 3, or plain text with a terminal;
//! * headers of a follower come with its first line (before 27).
//!
//! As podman does, by `libpod/container_log.go` and `libpod/logs/log.go` of its release 4.3:
//!
//! * an answer that begins with a tail leaves out what is written before it has found the end of the file;
//! * it may not hear of the end of the run, and then follows for ever.
//!
//! Messages, files and times are the test's: [`write`](FakeEngine::write) and [`rotate`](FakeEngine::rotate).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::runtime::{spawn, wait};

/// The only container.
pub const CONTAINER: &str = "fafafafafafafafafafafafafafafafafafafafafafafafafafafafafafafafa";

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Which `since` an engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Before 24.0: every line is tested.
    EveryLine,
    /// Later: the first line that is young enough ends the test.
    Prefix,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Which `since` it has.
    pub since: Since,
    /// Messages that a follower sends again after a rotation.
    pub repeats: usize,
    /// Files that are kept.
    pub files: usize,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// Whether the headers of a follower wait for its first message.
    pub late_headers: bool,
    /// What it calls itself in its answers.
    pub server: &'static str,
    /// Messages behind its tail that an answer leaves out: a follower the next ones, and one that does not follow the first of
    /// those that were in no answer before, as if they had been written while it was given.
    pub leaves_out: usize,
    /// Whether followers hear of the end of a run.
    pub hears_ends: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        let since = Since::EveryLine;
        Self {
            since,
            repeats: 0,
            files: 3,
            terminal: false,
            late_headers: false,
            server: "Docker/20.10.24 (linux)",
            leaves_out: 0,
            hears_ends: true,
        }
    }
}

#[derive(Clone, Debug)]
struct Written {
    is_err: bool,
    ts: i64,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    log: Vec<Written>,
    /// Where each file begins in `log`, the current one last.
    files: Vec<usize>,
    is_running: bool,
    is_removed: bool,
    /// Changes with every end of a run.
    finished: u64,
    /// Followers send nothing.
    is_held: bool,
    /// Answers break off after so many bytes of their body.
    cut_after: Option<usize>,
    /// Replies to requests for logs instead of one.
    refusal: Option<u16>,
    /// What the engine says of the log after its messages.
    log_error: Option<String>,
    /// Requests for logs that did not follow.
    pictures: usize,
    /// Those that did.
    followers: usize,
    /// Messages that were there when the last answer that does not follow began, or that a follower was given.
    answered: usize,
    /// Requests about the container itself.
    inspections: usize,
    /// Replies to them instead of one.
    silence: Option<u16>,
    /// Rises when all connections are to be cut.
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An engine that runs until it is dropped.
#[derive(Debug)]
pub struct FakeEngine {
    socket: PathBuf,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl FakeEngine {
    /// Listens on `socket`, which must not exist. Its container runs and has written nothing.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(socket: &Path, behaviour: Behaviour) -> Self {
        let state = State {
            behaviour,
            log: Vec::new(),
            files: vec![0],
            is_running: true,
            is_removed: false,
            finished: 0,
            is_held: false,
            cut_after: None,
            refusal: None,
            log_error: None,
            pictures: 0,
            followers: 0,
            answered: 0,
            inspections: 0,
            silence: None,
            cuts: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
        let mut engine = Self { socket: socket.to_owned(), shared, serving: None };
        engine.come_back();
        engine
    }

    /// `unix:///…`, as `DOCKER_HOST` names it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// One message, with its line feed when it ends a line.
    pub fn write(&self, is_err: bool, ts: i64, bytes: &[u8]) {
        self.change(|state| state.log.push(Written { is_err, ts, bytes: bytes.to_vec() }));
    }

    /// Begins a new file; the oldest goes when there are too many.
    pub fn rotate(&self) {
        self.change(|state| state.files.push(state.log.len()));
    }

    /// While held, followers send nothing and do not end: they lag.
    pub fn hold_followers(&self, is_held: bool) {
        self.change(|state| state.is_held = is_held);
    }

    /// The run ends, or another begins.
    pub fn set_running(&self, is_running: bool) {
        self.change(|state| {
            state.finished += u64::from(state.is_running && !is_running);
            state.is_running = is_running;
        });
    }

    /// The container is removed.
    pub fn remove(&self) {
        self.set_running(false);
        self.change(|state| state.is_removed = true);
    }

    /// Every answer about logs from now on breaks off after so many bytes.
    pub fn cut_after(&self, bytes: Option<usize>) {
        self.change(|state| state.cut_after = bytes);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Requests for logs get this HTTP status.
    pub fn refuse(&self, status: Option<u16>) {
        self.change(|state| state.refusal = status);
    }

    /// Logs end with this error in them.
    pub fn break_log(&self, error: Option<&str>) {
        self.change(|state| state.log_error = error.map(str::to_owned));
    }

    /// Requests for logs so far that did not follow.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.shared.lock().pictures
    }

    /// Requests for logs so far that followed.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.shared.lock().followers
    }

    /// Requests so far about the container itself.
    #[must_use]
    pub fn inspections(&self) -> usize {
        self.shared.lock().inspections
    }

    /// Requests about the container itself get this HTTP status.
    pub fn refuse_inspections(&self, status: Option<u16>) {
        self.change(|state| state.silence = status);
    }

    /// Nothing listens any more, and every connection is cut.
    pub fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        drop(std::fs::remove_file(&self.socket));
    }

    /// Listens again.
    ///
    /// # Panics
    /// When it cannot.
    pub fn come_back(&mut self) {
        self.go_away();
        let (socket, shared) = (self.socket.clone(), self.shared.clone());
        let listener = wait(async move { UnixListener::bind(socket) }).expect("a socket to listen");
        self.serving = Some(spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let shared = shared.clone();
                connections.spawn(async move {
                    // A connection that breaks is the client's affair, or the plan's.
                    drop(serve(stream, &shared).await);
                });
            }
        }));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_waiters();
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.go_away();
    }
}

async fn serve(mut stream: UnixStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match path.split('/').nth(1) {
        Some(version) if version.starts_with("v1.") => path.strip_prefix(&format!("/{version}")),
        _ => Some(path),
    };
    match path.unwrap_or_default() {
        "/_ping" => answer(&mut stream, 200, "OK").await,
        "/version" => {
            answer(&mut stream, 200, r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#).await
        }
        "/events" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            std::future::pending().await
        }
        "/containers/json" => {
            let text = match shared.lock().is_removed {
                true => "[]".to_owned(),
                false => format!(r#"[{{"Id":"{CONTAINER}","Names":["/fake"],"Image":"fake"}}]"#),
            };
            answer(&mut stream, 200, &text).await
        }
        path if path.ends_with("/logs") => logs(&mut stream, shared, query).await,
        path if path.ends_with("/json") => {
            let (status, text) = inspection(&mut shared.lock());
            answer(&mut stream, status, &text).await
        }
        _ => answer(&mut stream, 404, r#"{"message":"page not found"}"#).await,
    }
}

fn inspection(state: &mut State) -> (u16, String) {
    state.inspections += 1;
    if let Some(status) = state.silence {
        return (status, r#"{"message":"refused on purpose"}"#.to_owned());
    }
    if state.is_removed {
        return (404, format!(r#"{{"message":"No such container: {CONTAINER}"}}"#));
    }
    let Behaviour { terminal, files, .. } = state.behaviour;
    let running = state.is_running;
    let finished = match state.finished {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        run => format!("2026-11-24T10:{:02}:{:02}Z", run / 60 % 60, run % 60),
    };
    let text = format!(
        r#"{{"Id":"{CONTAINER}","Name":"/fake","State":{{"Running":{running},
        "FinishedAt":"{finished}"}},"Config":{{"Tty":{terminal},"Image":"fake"}},"HostConfig":
        {{"LogConfig":{{"Type":"json-file","Config":{{"max-size":"1m","max-file":"{files}"}}}}}}}}"#
    );
    (200, text)
}

async fn answer(stream: &mut UnixStream, status: u16, body: &str) -> std::io::Result<()> {
    let kind = if body.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
    let head = format!(
        "HTTP/1.1 {status} Fake\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// One reply with a log: what is left of its plan.
struct Reply {
    next: usize,
    file: usize,
    /// Where the tail ends behind which messages are left out.
    tail_end: Option<usize>,
    follows: bool,
    cuts: u64,
    cut_after: Option<usize>,
}

/// What a reply does next.
enum Turn {
    Send(Written),
    Wait,
    /// Ends well, after this error when there is one.
    End(Option<String>),
    Break,
}

async fn logs(stream: &mut UnixStream, shared: &Shared, query: &str) -> std::io::Result<()> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let is_set = |name: &str| value(name).is_some_and(|value| value == "1" || value == "true");
    let since = value("since").as_deref().and_then(nanoseconds);
    let tail = value("tail").and_then(|tail| tail.parse::<usize>().ok());
    let planned = plan(&mut shared.lock(), is_set("follow"), since, tail);
    let mut reply = match planned {
        Ok(reply) => reply,
        Err((status, reason)) => {
            return answer(stream, status, &format!(r#"{{"message":"{reason}"}}"#)).await;
        }
    };
    let tests_all = shared.lock().behaviour.since == Since::EveryLine;
    let mut is_begun = false;
    let picture_end = shared.lock().log.len();
    let fresh = std::mem::replace(&mut shared.lock().answered, picture_end);
    if let (Some(end), false) = (&mut reply.tail_end, reply.follows) {
        *end = fresh.max(reply.next);
    }
    if !(reply.follows && shared.lock().behaviour.late_headers) {
        begin(stream, shared, &mut is_begun).await?;
    }
    let mut sent = 0_usize;
    loop {
        let changed = shared.changed.notified();
        let mut changed = std::pin::pin!(changed);
        changed.as_mut().enable();
        let turn = turn(&shared.lock(), &mut reply, picture_end);
        let bytes = match turn {
            Turn::Send(message) if tests_all && since.is_some_and(|since| message.ts < since) => {
                continue;
            }
            Turn::Send(message) => {
                let mut state = shared.lock();
                state.answered = state.answered.max(reply.next);
                framed(&message, state.behaviour.terminal)
            }
            Turn::Wait => {
                changed.await;
                continue;
            }
            Turn::End(error) => {
                begin(stream, shared, &mut is_begun).await?;
                if let Some(error) = error {
                    let text = format!("Error grabbing logs: {error}\n");
                    let terminal = shared.lock().behaviour.terminal;
                    let frame =
                        if terminal { text.into_bytes() } else { frame(3, text.as_bytes()) };
                    chunk(stream, &frame).await?;
                }
                return stream.write_all(b"0\r\n\r\n").await;
            }
            Turn::Break => return Ok(()),
        };
        begin(stream, shared, &mut is_begun).await?;
        match &mut reply.cut_after {
            Some(left) if *left <= bytes.len() => {
                return chunk(stream, bytes.get(..*left).unwrap_or_default()).await;
            }
            Some(left) => *left -= bytes.len(),
            None => {}
        }
        chunk(stream, &bytes).await?;
        // Without a pause now and then the other tasks of the harness would starve.
        sent += 1;
        if sent.is_multiple_of(64) {
            tokio::time::sleep(Duration::from_micros(1)).await;
        }
    }
}

/// Where a reply begins, or why there is none.
fn plan(
    state: &mut State,
    follow: bool,
    since: Option<i64>,
    tail: Option<usize>,
) -> Result<Reply, (u16, &'static str)> {
    match (state.refusal, state.is_removed) {
        (_, true) => return Err((404, "No such container: fake")),
        (Some(409), _) => return Err((409, "can not get logs from container which is dead")),
        (Some(501), _) => {
            return Err((501, "configured logging driver does not support reading"));
        }
        (Some(status), _) => return Err((status, "refused on purpose")),
        (None, false) => {}
    }
    state.pictures += usize::from(!follow);
    state.followers += usize::from(follow);
    let mut next = retained(state);
    if let Some(since) = since {
        let young = state.log.iter().skip(next).position(|message| message.ts >= since);
        next += young.unwrap_or(state.log.len() - next);
    }
    if let Some(count) = tail {
        next = next.max(state.log.len().saturating_sub(count));
    }
    Ok(Reply {
        next,
        file: state.files.len(),
        tail_end: tail.map(|_| state.log.len()),
        follows: follow && state.is_running,
        cuts: state.cuts,
        cut_after: state.cut_after,
    })
}

fn turn(state: &State, reply: &mut Reply, picture_end: usize) -> Turn {
    if state.cuts != reply.cuts {
        return Turn::Break;
    }
    if reply.follows && state.is_held {
        return Turn::Wait;
    } else if reply.tail_end.take_if(|end| reply.next >= *end).is_some() {
        reply.next += state.behaviour.leaves_out;
        return turn(state, reply, picture_end);
    } else if !reply.follows {
        // All files are open since the request.
        if reply.next >= picture_end {
            return Turn::End(state.log_error.clone());
        }
    } else if reply.next >= state.log.len() {
        let goes_on = state.is_running || !state.behaviour.hears_ends;
        return if goes_on { Turn::Wait } else { Turn::End(state.log_error.clone()) };
    } else if reply.file < state.files.len() {
        // Its file was rotated. One that it has not begun and that is not the newest is never seen.
        let current = state.files.last().copied().unwrap_or(0);
        let rotated = state.files.len() - reply.file;
        let end_of_own = state.files.get(reply.file).copied().unwrap_or(current);
        if reply.next >= end_of_own || rotated > 1 {
            reply.next = match rotated {
                1 => end_of_own,
                _ => current,
            };
            reply.next = reply.next.saturating_sub(state.behaviour.repeats).max(retained(state));
            reply.file = state.files.len();
            return turn(state, reply, picture_end);
        }
    }
    let message = state.log.get(reply.next).cloned();
    reply.next += 1;
    message.map_or(Turn::Wait, Turn::Send)
}

/// Where the oldest file that is kept begins.
fn retained(state: &State) -> usize {
    let first = state.files.len().saturating_sub(state.behaviour.files);
    state.files.get(first).copied().unwrap_or(0)
}

async fn begin(
    stream: &mut UnixStream,
    shared: &Shared,
    is_begun: &mut bool,
) -> std::io::Result<()> {
    if std::mem::replace(is_begun, true) {
        return Ok(());
    }
    let server = shared.lock().behaviour.server;
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: {server}\r\nContent-Type: application/octet-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

async fn chunk(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    if bytes.is_empty() { Ok(()) } else { stream.write_all(&out).await }
}

fn framed(message: &Written, terminal: bool) -> Vec<u8> {
    let mut stamp = logship::time::Stamp::default();
    let text = [stamp.write(message.ts).as_slice(), b" ", &message.bytes].concat();
    if terminal { text } else { frame(1 + u8::from(message.is_err), &text) }
}

fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a message of less than 4 GiB");
    [&[kind, 0, 0, 0], length.to_be_bytes().as_slice(), text].concat()
}

/// `seconds[.digits]`, as the engine reads it.
fn nanoseconds(text: &str) -> Option<i64> {
    let (seconds, digits) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + digits.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests;
