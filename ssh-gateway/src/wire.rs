//! What the processes say to each other: typed messages of bounded length, with file descriptors.
//!
//! ```text
//! net    ⇄ broker    [`net`]     what a client asks, what it may have
//! broker → spawner   one byte and a socket: fork a task that serves this socket
//! broker ⇄ task      [`task`]    one task a session: enter this container, run this, how it ended
//! broker ⇄ portal    [`portal`]  our own program inside a container that dials and listens for forwards
//! broker ⇄ uploader  [`upload`]  the process that hands finished records to a store
//! files  → broker    [`files`]   our own programs inside a container that serve files: what was done to which
//! ```
//!
//! Messages are postcard. Both ends are always the same build, so there is no version on this wire; nothing
//! of it is ever stored.

pub mod files;
pub mod net;
pub mod portal;
pub mod socket;
pub mod task;
pub mod upload;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that may be a secret: their Debug shows how many, never which.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Opaque(pub Vec<u8>);

impl fmt::Debug for Opaque {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({} bytes)", self.0.len())
    }
}

/// What is run inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The user's login shell, with a dash before its name.
    Shell,
    /// `$SHELL -c COMMAND`, as OpenSSH does it. `scp -t` and `scp -f` are answered by our own program when
    /// the container has no `scp`.
    Command(Vec<u8>),
    /// These words as they are, without a shell, as `docker exec` does it.
    Words(Vec<Vec<u8>>),
    /// Our own SFTP server.
    Sftp,
    /// The same, and it changes nothing (`internal-sftp -R`).
    SftpReadOnly,
    /// Our own program that dials and listens: see [`portal`].
    Portal,
}

/// A pseudo-terminal as asked for (RFC 4254, 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub term: String,
    /// Its size.
    pub size: WindowSize,
    /// Modes as pairs of opcode and argument, in the order of the client (RFC 4254, 8).
    pub modes: Vec<(u8, u32)>,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WindowSize {
    /// In characters.
    pub columns: u16,
    /// In characters.
    pub rows: u16,
    /// In pixels; 0 when unknown.
    pub width: u16,
    /// In pixels; 0 when unknown.
    pub height: u16,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Status(u8),
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether there is a core dump.
        core_dumped: bool,
    },
}
