//! Signals into one cancellation token; a good first process.

use std::future::Future;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// The request to stop, shared by every thread and task of the process. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

/// The signals could not be taken over.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over the signal {name}")]
pub struct SignalError {
    name: &'static str,
    source: io::Error,
}

impl Shutdown {
    /// A request that no signal makes, only [`request`](Self::request).
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to SIGINT and SIGTERM: the first one makes the request, the second one ends the
    /// process at once with status 130. As process 1 of a container it also reaps orphans, which
    /// the kernel gives to process 1 (`wait(2)`), unless it has [`OwnChildren`]. Must be called inside a tokio runtime; the
    /// listening task lives as long as the runtime.
    pub fn on_signals() -> Result<Self, SignalError> {
        let shutdown = Self::new();
        let interrupt = listen("SIGINT", SignalKind::interrupt())?;
        let terminate = listen("SIGTERM", SignalKind::terminate())?;
        tokio::spawn(watch(shutdown.clone(), interrupt, terminate));
        if getpid().is_init() {
            tokio::spawn(reap(listen("SIGCHLD", SignalKind::child())?));
        }
        Ok(shutdown)
    }

    /// The same for who is looked after by another process, which kills what does not end: every signal is the one request,
    /// since more than one of those who look after it may make it.
    pub fn on_first_signal() -> Result<Self, SignalError> {
        let shutdown = Self::new();
        let mut interrupt = listen("SIGINT", SignalKind::interrupt())?;
        let mut terminate = listen("SIGTERM", SignalKind::terminate())?;
        let request = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = next_name(&mut interrupt, &mut terminate).await;
                tracing::debug!("{name} received, stopping");
                request.request();
            }
        });
        Ok(shutdown)
    }

    /// Makes the request from inside the process.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether the request was made. Cheap: for loops in threads.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the request is made.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// The result of `work`, or `None` when the request comes first; `work` is dropped then.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(work).await
    }
}

fn listen(name: &'static str, kind: SignalKind) -> Result<Signal, SignalError> {
    signal(kind).map_err(|source| SignalError { name, source })
}

async fn watch(shutdown: Shutdown, mut interrupt: Signal, mut terminate: Signal) {
    let first = next_name(&mut interrupt, &mut terminate).await;
    tracing::info!("{first} received, stopping; the same again stops at once");
    shutdown.request();
    next_name(&mut interrupt, &mut terminate).await;
    end_at_once();
}

async fn next_name(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the operator asked twice: nothing may delay the end, and process 1 ignores the default action of signals"
)]
fn end_at_once() {
    std::process::exit(i32::from(crate::exit::ExitCode::Interrupted as u8));
}

/// How many parts of this process have children of their own.
static OWNERS: Mutex<usize> = Mutex::new(0);
/// Told when it is none any more.
static ORPHANS_ONLY: Notify = Notify::const_new();

/// Held by who starts children and waits for them himself, from before the first one until the last has ended: for so long
/// process 1 reaps nobody. It would take the end of those children away, and their number may be another process's by the time
/// they are killed.
#[derive(Debug)]
#[must_use = "what is not held holds up nothing"]
pub struct OwnChildren(());

impl OwnChildren {
    /// From now on.
    pub fn begin() -> Self {
        *owners() += 1;
        Self(())
    }
}

impl Drop for OwnChildren {
    fn drop(&mut self) {
        let mut owners = owners();
        *owners = owners.saturating_sub(1);
        if *owners == 0 {
            ORPHANS_ONLY.notify_one();
        }
    }
}

fn owners() -> MutexGuard<'static, usize> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for every child that ended, as long as all of them are orphans.
async fn reap(mut child: Signal) {
    loop {
        reap_orphans();
        tokio::select! {
            heard = child.recv() => if heard.is_none() { return },
            () = ORPHANS_ONLY.notified() => {}
        }
    }
}

fn reap_orphans() {
    // Nobody starts a child of his own in between.
    let owners = owners();
    while *owners == 0
        && let Ok(Some(_)) = wait(WaitOptions::NOHANG)
    {}
}
