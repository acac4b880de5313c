//! Between the broker and a portal: our own program, running in a container as the user, that opens sockets
//! there. The sockets come back as descriptors, so the bytes of a forward never pass through it.
//!
//! Every order gets one report with the same number. A portal ends when its socket is closed, and then removes
//! the socket files it made.

use serde::{Deserialize, Serialize};

/// What the broker tells a portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Comes back with the report.
    pub number: u64,
    /// What to do.
    pub act: Act,
}

/// What a portal can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Connect to this host and port; names by the container's own `/etc/hosts` and resolver.
    Connect {
        /// A name or an address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Connect to this unix socket.
    ConnectUnix {
        /// Absolute, or relative to the user's home directory; `@name` is abstract.
        path: Vec<u8>,
    },
    /// Listen for TCP connections. The host is as in RFC 4254, 7.1: empty, `localhost`, a name or an address.
    Listen {
        /// Where.
        host: String,
        /// TCP port; 0 for any.
        port: u16,
    },
    /// Listen at this path; it is an error if anything is there.
    ListenUnix {
        /// As in `ConnectUnix`.
        path: Vec<u8>,
    },
    /// Make a socket for an agent, in a new directory that only the user may enter.
    ListenAgent,
    /// A listener is not used any more: remove its socket file.
    Unlisten {
        /// The number of the order that made it.
        number: u64,
    },
}

/// What a portal answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// That of the order.
    pub number: u64,
    /// What was opened, or one sentence for the client.
    pub result: Result<Opened, String>,
}

/// What was opened. One descriptor comes with it, except with `Nothing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// A connected stream socket.
    Connected,
    /// A listening TCP socket.
    Listening {
        /// Its real port.
        port: u16,
    },
    /// A listening unix socket.
    ListeningUnix {
        /// Absolute, or `@name`.
        path: Vec<u8>,
    },
    /// An order without a socket was carried out.
    Nothing,
}
