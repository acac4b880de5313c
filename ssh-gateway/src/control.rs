//! What `sessions` asks the gateway, and what it answers: one JSON line each, over a unix socket in the state directory
//! that only root can use.
//!
//! ```text
//! → "sessions"            ← {"session":{…}}, one line each, then "done"
//! → {"kill":"NAME"}       ← "done", or {"no":"why"}
//! → {"watch":"NAME"}      ← {"size":[80,24]}, {"output":"…"}, {"missed":3}, then "done"; or {"no":"why"}
//! ```
//!
//! Another question is another version: whoever does not know it answers `{"no":…}`. (`"list"` was answered with all sessions
//! in one line, which had no place for many.)

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
    /// All sessions.
    Sessions,
    /// End this session.
    Kill(String),
    /// Show what this session puts out, until it ends.
    Watch(String),
}

/// What is answered: one line, to [`Ask::Sessions`] and [`Ask::Watch`] many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// One of those that run.
    Session(Box<Session>),
    /// It is done; to [`Ask::Sessions`] these were all, to [`Ask::Watch`] the session has ended.
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

/// A session that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub session: String,
    /// The number of its connection, as in the log.
    pub connection: u64,
    /// The identity of the policy.
    pub identity: Option<String>,
    /// `SHA256:…`.
    pub key: String,
    /// Where the client is.
    pub peer: String,
    /// The container's name.
    pub container: String,
    /// As whom; the container's own user when it is not there.
    pub user: Option<String>,
    /// What runs, without what a terminal would obey.
    pub program: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The rule that allows it.
    pub rule: String,
    /// Its recording, below the directory of recordings.
    pub recording: Option<String>,
    /// When it began.
    pub since: String,
    /// Since when it waits for its client, whose connection was lost.
    pub lingering: Option<String>,
}
