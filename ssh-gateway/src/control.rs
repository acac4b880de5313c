//! What `sessions` and `connections` ask the gateway, and what it answers: one JSON line each, over a unix socket in the
//! state directory that only root can use.
//!
//! ```text
//! → "sessions"            ← {"session":{…}}, one line each, then "done"; forwards too
//! → {"kill":"NAME"}       ← "done", or {"no":"why"}
//! → {"watch":"NAME"}      ← {"size":[80,24]}, {"output":"…"}, {"missed":3}, then "done"; or {"no":"why"}
//! → "connections"         ← {"connection":{…}}, one line each, then "done"
//! → {"disconnect":7}      ← "done", or {"no":"why"}
//! ```
//!
//! Another question is another version: whoever does not know it answers `{"no":…}`. (`"list"` was answered with all sessions
//! in one line, which had no place for many.) A field that is new has a value for who does not send it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of the socket.
const SOCKET: &str = "control.sock";

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Where the socket of a state directory is.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// What is asked: one line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// All sessions and forwards.
    Sessions,
    /// End this session or forward.
    Kill(String),
    /// Show what this session puts out, until it ends.
    Watch(String),
    /// All connections.
    Connections,
    /// End this connection, and everything that it has open.
    Disconnect(u64),
}

/// What is answered: one line, to [`Ask::Sessions`], [`Ask::Watch`] and [`Ask::Connections`] many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// One of those that run.
    Session(Box<Session>),
    /// One of those that are in.
    Connection(Box<Connection>),
    /// It is done; to [`Ask::Sessions`] and [`Ask::Connections`] these were all, to [`Ask::Watch`] the session has ended.
    Done,
    /// It is not, and why: one sentence.
    No(String),
    /// The terminal has this size: columns and rows.
    Size(u16, u16),
    /// Output as in a [recording](crate::cast).
    Output(String),
    /// So many pieces were missed.
    Missed(u64),
}

/// What runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A program with its streams or its terminal, or an answer of the gateway itself.
    #[default]
    Session,
    /// A stream or a listener of a port or a socket.
    Forward,
}

/// A session that runs, or a forward that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub session: String,
    /// Which of the two.
    #[serde(default)]
    pub kind: Kind,
    /// The number of its connection, as in the log.
    pub connection: u64,
    /// The identity of the policy.
    pub identity: Option<String>,
    /// `SHA256:…`.
    pub key: String,
    /// Where the client is.
    pub peer: String,
    /// The container's name; `-` where there is none.
    pub container: String,
    /// As whom; the container's own user when it is not there.
    pub user: Option<String>,
    /// What runs, without what a terminal would obey; of a forward `connect` or `listen`, and where.
    pub program: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The rule that allows it; empty where that is asked by what goes through it.
    pub rule: String,
    /// Its recording, below the directory of recordings.
    pub recording: Option<String>,
    /// When it began.
    pub since: String,
    /// Since when it waits for its client, whose connection was lost.
    pub lingering: Option<String>,
}

/// A connection of a client that has come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number, as in the log.
    pub connection: u64,
    /// The identity of the policy.
    pub identity: Option<String>,
    /// `SHA256:…`.
    pub key: String,
    /// What its certificate is called, where it has come in by one.
    pub certificate: Option<String>,
    /// As what it has come in; with `@` and a host where it came through another connection.
    pub login: String,
    /// Where the client is.
    pub peer: String,
    /// Its identification string.
    pub client: String,
    /// Sessions that run in it.
    pub sessions: usize,
    /// Forwards that are open in it.
    pub forwards: usize,
    /// When it came in.
    pub since: String,
}
