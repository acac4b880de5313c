//! Signals into one cancellation token; a good first process.

use std::future::Future;
use std::io;

use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    /// the kernel gives to process 1 (`wait(2)`). Must be called inside a tokio runtime; the
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

/// Waits for every child that ended. Children that this process started itself and waits for by
/// other means must not exist while this runs; the sidecars start none.
async fn reap(mut child: Signal) {
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if child.recv().await.is_none() {
            return;
        }
    }
}
