//! Opens sockets inside a container for forwards and agents.
//!
//! ```text
//! broker ─ Order ─→ run ─ host, port → resolver → dial   ─┐
//!                       ─ host, port → resolver → listen ─┼→ Report, with the socket
//!                       ─ path ─────→ place ─→ dial/listen ┘
//! ```
//!
//! It runs confined as the user in the container, so the kernel decides what may be reached; it decides
//! nothing, except that it never connects to the metadata of clouds. One thread only: a container's seccomp filter may forbid another. Bytes of forwards do not pass
//! through it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};

use crate::wire::portal::{Act, Opened, Order, Report};
use crate::wire::socket::{AsyncSocket, Socket};

mod dial;
mod files;
mod listen;
mod place;
mod resolver;

/// Orders that are being carried out at once; more are refused.
const PENDING_MAX: usize = 64;

/// Bytes that are repeated of what a client named.
const SHOWN_BYTES_MAX: usize = 255;

/// The broker closed its end, or a signal asked for the end.
const EXIT_DONE: u8 = 0;
/// What came from the broker meant nothing, or the kernel refused what we cannot be without.
const EXIT_FAILED: u8 = 1;

/// What an order led to: what was opened, with its descriptor, or one sentence for the client.
type Outcome = Result<(Opened, OwnedFd), String>;

/// Where names come from.
#[derive(Debug, Clone)]
struct Sources {
    hosts: PathBuf,
    resolver: PathBuf,
}

impl Sources {
    /// The files of the container that we are in.
    fn of_system() -> Self {
        Self { hosts: "/etc/hosts".into(), resolver: "/etc/resolv.conf".into() }
    }
}

/// Serves the broker until it closes its end of `socket`, or SIGTERM, SIGHUP or SIGINT comes. Relative paths
/// are relative to `home`. Returns the exit status of the process. Starts no thread.
#[must_use]
pub fn run(socket: Socket, home: &Path) -> u8 {
    run_with(socket, home, Sources::of_system())
}

fn run_with(socket: Socket, home: &Path, sources: Sources) -> u8 {
    let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse_all(&socket, &error),
    };
    match runtime.block_on(serve(socket, home, sources)) {
        Ok(()) => EXIT_DONE,
        Err(_) => EXIT_FAILED,
    }
}

/// A seccomp filter of the container may forbid what a runtime is made of: the client is told so.
fn refuse_all(socket: &Socket, error: &io::Error) -> u8 {
    while let Ok(Some((Order { number, .. }, _))) = socket.receive() {
        let result = Err(format!("the container allows no forwarding: {}", reason(error)));
        if socket.send(&Report { number, result }, &[]).is_err() {
            break;
        }
    }
    EXIT_FAILED
}

async fn serve(socket: Socket, home: &Path, sources: Sources) -> io::Result<()> {
    let socket = socket.into_async()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Outlives the orders: what was made is removed however they end.
    let mut made = listen::Made::default();
    tokio::select! {
        ended = carry_out(&socket, home, &sources, &mut made) => ended,
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Carries out orders until the broker closes its end.
async fn carry_out(
    socket: &AsyncSocket,
    home: &Path,
    sources: &Sources,
    made: &mut listen::Made,
) -> io::Result<()> {
    let mut pending = Pending::default();
    loop {
        tokio::select! {
            received = socket.receive::<Order>() => match received? {
                Some((order, _)) => begin(socket, order, home, sources, made, &mut pending).await?,
                None => return Ok(()),
            },
            Some((number, outcome)) = pending.next() => report(socket, number, outcome).await?,
        }
    }
}

/// Does at once what needs no waiting, and lets the rest go on by itself.
async fn begin(
    socket: &AsyncSocket,
    Order { number, act }: Order,
    home: &Path,
    sources: &Sources,
    made: &mut listen::Made,
    pending: &mut Pending,
) -> io::Result<()> {
    let waits = matches!(act, Act::Connect { .. } | Act::ConnectUnix { .. } | Act::Listen { .. });
    if waits && pending.is_full() {
        return report(socket, number, Err("too many forwards are being opened".into())).await;
    }
    let sources = sources.clone();
    match act {
        Act::Connect { host, port } => {
            pending.add(number, async move { dial::tcp(&sources, &host, port).await });
            Ok(())
        }
        Act::ConnectUnix { path } => {
            let place = place::Place::of(&path, home);
            pending.add(number, async move { dial::unix(&place?).await });
            Ok(())
        }
        Act::Listen { host, port } => {
            pending.add(number, async move { listen::tcp(&sources, &host, port).await });
            Ok(())
        }
        Act::ListenUnix { path } => {
            let outcome = place::Place::of(&path, home).and_then(|at| made.listen(number, &at));
            report(socket, number, outcome).await
        }
        Act::ListenAgent => report(socket, number, made.listen_for_agent(number, home)).await,
        Act::Unlisten { number: listener } => {
            made.remove(listener);
            socket.send(&Report { number, result: Ok(Opened::Nothing) }, &[]).await
        }
    }
}

/// Tells the broker. Our own copy of the descriptor is closed by it.
async fn report(socket: &AsyncSocket, number: u64, outcome: Outcome) -> io::Result<()> {
    match outcome {
        Ok((opened, descriptor)) => {
            socket.send(&Report { number, result: Ok(opened) }, &[descriptor.as_fd()]).await
        }
        Err(sentence) => socket.send(&Report { number, result: Err(sentence) }, &[]).await,
    }
}

/// Orders under way.
#[derive(Default)]
struct Pending {
    tasks: JoinSet<Outcome>,
    numbers: HashMap<Id, u64>,
}

impl Pending {
    fn is_full(&self) -> bool {
        self.tasks.len() >= PENDING_MAX
    }

    fn add(&mut self, number: u64, work: impl Future<Output = Outcome> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.numbers.insert(id, number);
    }

    /// The next that ended; `None` when there is none.
    async fn next(&mut self) -> Option<(u64, Outcome)> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(error) => {
                (JoinError::id(&error), Err("the forward failed inside the gateway".into()))
            }
        };
        Some((self.numbers.remove(&id)?, outcome))
    }
}

/// What a client named, for a sentence to it: its start, with everything unprintable escaped.
fn shown(named: &[u8]) -> String {
    match named.get(..SHOWN_BYTES_MAX) {
        Some(start) if start.len() < named.len() => format!("{}…", start.escape_ascii()),
        _ => named.escape_ascii().to_string(),
    }
}

/// An error in the words of a sentence: without a capital and without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut rest = text.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
