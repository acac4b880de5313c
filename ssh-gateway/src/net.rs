//! Speaks SSH; decides nothing.
//!
//! ```text
//! listener → connection → russh ──→ handler ──→ channel, forward ⇄ descriptors of the broker's
//!     │           │         ↑           └→ spool ─────↗      │
//! admission   transport ────┘                     output ←───┘
//! ```
//!
//! Whatever is decided is decided by the broker; every byte of a client is parsed here, where there is
//! nothing to gain: no user, no capability, no file, no engine, no way to open a socket.

mod admission;
mod broker;
mod channel;
pub(crate) mod confine;
mod connection;
mod forward;
mod handler;
mod listener;
mod output;
mod proxy;
mod server;
mod spool;
mod stream;
mod transport;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use russh::keys::ssh_key;
use russh::server::Config;

use self::broker::Broker;
use self::listener::Door;
use crate::wire::net::{Settings, Word};
use crate::wire::socket::Socket;

/// How long the broker may take to begin.
const BEGIN_TIME: Duration = Duration::from_secs(30);
/// Descriptors for everything but connections: each of these may have many.
const DESCRIPTORS_PER_CONNECTION: usize = 4;

/// Why it could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker did not begin as it must.
    #[error("the broker did not begin: {0}")]
    Begin(String),
    /// A host key cannot be used.
    #[error("a host key cannot be used: {0}")]
    HostKey(#[from] ssh_key::Error),
    /// It could not be confined.
    #[error(transparent)]
    Confine(#[from] confine::Error),
    /// The runtime or a socket failed.
    #[error("the network process cannot start: {0}")]
    Io(#[from] io::Error),
}

/// The role of the process that speaks SSH: serves until the broker drains or goes away.
pub fn run(socket: Socket) -> ExitCode {
    match serve(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: Socket) -> Result<(), Error> {
    let (settings, listeners) = begin(&socket)?;
    let descriptors = confine::give_up_privileges()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = server::config(&settings)?;
    confine::forbid_system_calls()?;
    let done = runtime.block_on(speak(socket, config, *settings, listeners, descriptors));
    // Nothing that still runs may hold up the end.
    runtime.shutdown_background();
    done
}

/// The first word, and the listening sockets.
fn begin(socket: &Socket) -> Result<(Box<Settings>, Vec<TcpListener>), Error> {
    let wrong = |reason: &str| Error::Begin(reason.to_owned());
    match socket.receive_by::<Word>(Instant::now() + BEGIN_TIME) {
        Ok(Some((Word::Begin(settings), descriptors))) => {
            Ok((settings, descriptors.into_iter().map(TcpListener::from).collect()))
        }
        Ok(Some(_)) => Err(wrong("it said something else first")),
        Ok(None) => Err(wrong("it is gone")),
        Err(error) => Err(Error::Begin(error.to_string())),
    }
}

/// Serves until the broker drains or goes away.
async fn speak(
    socket: Socket,
    config: Config,
    settings: Settings,
    listeners: Vec<TcpListener>,
    descriptors: usize,
) -> Result<(), Error> {
    let (broker, guests) = Broker::new(socket.into_async()?);
    let connections = descriptors / DESCRIPTORS_PER_CONNECTION;
    let door = Door::new(Arc::clone(&broker), config, settings, connections)?;
    let mut open = tokio::task::JoinSet::new();
    for listener in listeners {
        open.spawn(Arc::clone(&door).open(listener));
    }
    open.spawn(Arc::clone(&door).let_through(guests));
    let drained = async {
        while let Some(ended) = open.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        broker.drain().cancelled().await;
        door.emptied().await;
        Ok(())
    };
    tokio::select! {
        done = drained => done,
        () = broker.gone().cancelled() => Ok(()),
    }
}

/// A lock whose holder panicked is as good as any: what it guards is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
