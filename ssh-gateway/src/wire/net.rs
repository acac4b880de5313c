//! Between the process that speaks SSH and the broker that decides.
//!
//! Every [`Ask`] carries a number of its own and gets one [`Answer`] with it; [`News`] come by themselves.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Exit, Opaque, Program, Terminal};

/// The window of a channel: 80 MB/s over 100 ms. russh closes a connection on which more than two windows arrive while
/// keys are exchanged, so it must not be small either. In bytes.
pub const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A connection of a client, numbered by `net` from 1, never used twice.
pub type ConnectionId = u64;
/// A session, stream or listener, numbered by `net` from 1 within the process, never used twice.
pub type ItemId = u64;

/// From net to broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Comes back with the answer; 0 where none is due.
    pub number: u64,
    /// What.
    pub question: Question,
}

/// What net asks or tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Is a key that this client offers known at all? Nothing is granted yet. `Granted` or `Refused`.
    Offer {
        /// Whose.
        connection: ConnectionId,
        /// Where from.
        peer: SocketAddr,
        /// Under which name.
        login: LoginName,
        /// Public key blob (RFC 4253, 6.6): of a key, or of a certificate.
        key: Vec<u8>,
    },
    /// The client has proved that it holds this key. `Granted`, `CodeNeeded` or `Refused`.
    Authenticate {
        /// Whose.
        connection: ConnectionId,
        /// Where from.
        peer: SocketAddr,
        /// Our own end of the connection.
        local: SocketAddr,
        /// Under which name.
        login: LoginName,
        /// Public key blob: of a key, or of a certificate.
        key: Vec<u8>,
        /// The proof.
        signed: Signed,
        /// The client's identification string.
        client: String,
        /// The connection that it comes through, where it does.
        through: Option<ConnectionId>,
    },
    /// A client of whom a code is needed has given one. `Granted` or `Refused`.
    Code {
        /// Whose.
        connection: ConnectionId,
        /// Under which name.
        login: LoginName,
        /// As it was typed.
        code: Opaque,
    },
    /// A session channel was opened: its container may be made ready. No answer.
    Prepare {
        /// Whose.
        connection: ConnectionId,
        /// The new session.
        session: ItemId,
    },
    /// Start the session's program. `Started` or `Refused`.
    Start {
        /// Whose.
        connection: ConnectionId,
        /// The session.
        session: ItemId,
        /// What the client wants; a forced command may take its place.
        program: Program,
        /// With a terminal or without.
        terminal: Option<Terminal>,
        /// What the client wants in its environment; only names of the allow-list count.
        environment: Vec<(String, Opaque)>,
        /// Whether the client offers its agent.
        agent: bool,
    },
    /// A signal for the session's program. No answer.
    Signal {
        /// Whose.
        session: ItemId,
        /// By name, without `SIG`.
        name: String,
    },
    /// A session, stream or listener is not used any more: end what is left of it. No answer.
    Close {
        /// Which.
        item: ItemId,
    },
    /// The connection of a session was lost, while its client had closed neither the session nor the connection: told
    /// before `Close` and `Disconnected`. No answer.
    Lost {
        /// Whose.
        session: ItemId,
    },
    /// Open a stream for a forward. `Opened` with a descriptor, or `Refused`.
    Connect {
        /// Whose.
        connection: ConnectionId,
        /// The new stream.
        item: ItemId,
        /// Where to.
        to: Place,
    },
    /// Listen for a forward. `Opened` with a descriptor, or `Refused`.
    Listen {
        /// Whose.
        connection: ConnectionId,
        /// The new listener.
        item: ItemId,
        /// Where.
        at: Place,
    },
    /// A file without a name, for bytes that a program does not take. `Opened` with a descriptor, or
    /// `Refused`.
    Spool {
        /// Whose.
        connection: ConnectionId,
    },
    /// The connection is gone: end everything that belongs to it. No answer.
    Disconnected {
        /// Which.
        connection: ConnectionId,
        /// Why, in a few words.
        reason: String,
    },
}

/// A signature (RFC 4252, 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Its blob.
    pub signature: Vec<u8>,
    /// What was signed.
    pub data: Vec<u8>,
}

/// What a client has signed as its login name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginName {
    /// As the client wrote it.
    pub user: String,
    /// Where it went on to over another connection of ours, as with `ssh -J gateway USER@HOST`.
    pub host: Option<String>,
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.host.as_ref().map_or(Ok(()), |host| write!(f, "@{host}"))
    }
}

/// A client that comes through a forward of another connection. The stream to it travels along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The connection that it comes through.
    pub through: ConnectionId,
    /// Where it went on to.
    pub host: String,
    /// Where the outer connection comes from.
    pub peer: SocketAddr,
    /// Our own end of the outer connection.
    pub local: SocketAddr,
}

/// One end of a forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Its path.
        path: Vec<u8>,
    },
}

/// From broker to net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The first one: what net must know. The listening TCP sockets come with it.
    Begin(Box<Settings>),
    /// To a question.
    Answer {
        /// Its number.
        number: u64,
        /// What.
        answer: Answer,
    },
    /// By itself.
    News(News),
    /// Serve this client like one that was accepted.
    Guest(Guest),
}

/// What net must know, since it reads no file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Private host keys in OpenSSH's format, the preferred one first.
    pub host_keys: Vec<Opaque>,
    /// Certificates of these keys, in OpenSSH's format.
    pub host_certificates: Vec<String>,
    /// Text shown before authentication; no secret.
    pub banner: Option<String>,
    /// The bounds of connections.
    pub limits: Limits,
    /// Addresses of load balancers whose PROXY headers are believed, as in `from=`.
    pub proxies: Vec<String>,
}

/// The bounds of connections. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From accept to the end of authentication.
    pub login_grace_seconds: u32,
    /// `begin:percent:full` of unauthenticated connections, as MaxStartups of sshd_config(5).
    pub startups: (u32, u32, u32),
    /// Unauthenticated connections of one source (an IPv4 address, an IPv6 /64).
    pub startups_per_source: u32,
    /// Failed attempts to authenticate on one connection.
    pub auth_attempts: u32,
    /// Session channels of one connection.
    pub sessions: u32,
    /// All channels of one connection.
    pub channels: u32,
    /// Remote listeners of one connection.
    pub listeners: u32,
    /// Bytes that wait for programs that do not take them, in one channel and in all of a connection together,
    /// before the client is slowed.
    pub spool_bytes: u64,
    /// Silence after which the client is asked whether it still lives; 0 never.
    pub keepalive_seconds: u32,
    /// How often it may stay silent then.
    pub keepalive_count: u32,
    /// Silence of the client, and of every channel, after which the connection is closed; 0 never.
    pub idle_seconds: u32,
}

/// What a client may still send into one channel that obeys its windows, after it is to be slowed: one window that
/// is open and one that was just refilled, and what drips while it is slowed. In bytes.
pub const OVERRUN_BYTES: u64 = 64 * 1024 * 1024;

impl Limits {
    /// Bytes that wait in all channels of a connection at most.
    #[must_use]
    pub fn spool_bytes_max(&self) -> u64 {
        self.spool_bytes.saturating_add(self.overrun_bytes())
    }

    /// What may come into all channels of a connection after the client is to be slowed, in bytes.
    #[must_use]
    pub fn overrun_bytes(&self) -> u64 {
        OVERRUN_BYTES + u64::from(self.channels) * 2 * u64::from(WINDOW_BYTES)
    }
}

/// To a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Yes.
    Granted,
    /// The key is right, and a code is needed too.
    CodeNeeded,
    /// The session runs. Descriptors as in [`super::task::Report::Started`]; behind them the listening socket
    /// of the agent, if there is one.
    Started {
        /// One descriptor for a terminal, not three.
        terminal: bool,
        /// The last descriptor is an agent's listening socket.
        agent: bool,
        /// What to tell the user on standard error: the confinement is the engine's own work and not ours, or something
        /// that the session should have is missing.
        degraded: Option<String>,
    },
    /// A descriptor comes with this.
    Opened {
        /// The real port of a TCP listener.
        port: Option<u16>,
    },
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For the client: one sentence, with nothing in it that it may not know.
    pub message: String,
    /// What a session ends with.
    pub status: u8,
    /// Forbidden, and not merely failed.
    pub prohibited: bool,
}

/// By itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// A session's program ended. Its output may still be on its way in the descriptors.
    Exited {
        /// Whose.
        session: ItemId,
        /// How.
        exit: Exit,
    },
    /// A session is ended from here: nothing of it goes either way any more, and its client is told this end.
    Cut {
        /// Which.
        session: ItemId,
        /// How.
        exit: Exit,
    },
    /// A stream or listener is ended from here: close it, and what came through the listener.
    HangUp {
        /// Which.
        item: ItemId,
    },
    /// Close this connection.
    Disconnect {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// Accept no more connections; end when the last one is gone.
    Drain,
}
