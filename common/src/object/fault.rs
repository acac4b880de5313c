//! Why one attempt at a store over the network failed, and how often it is made.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::{Act, ErrorKind, ObjectError};
use super::key::is_valid_key;
use crate::retry::Retry;

#[cfg(test)]
mod tests;

/// Five attempts within about ten seconds when the endpoint refuses at once.
const RETRY: Retry =
    Retry { attempts: 5, base: Duration::from_millis(500), cap: Duration::from_secs(20) };
/// What one attempt may take before its bytes are counted.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(60);
/// Slowest transfer that is waited for, in bytes per second.
const THROUGHPUT_MIN: u64 = 64 * 1024;
/// Characters of a service's own message that are shown.
pub(super) const MESSAGE_CHARS_MAX: usize = 200;
/// Longest chain of sources that is followed.
const CHAIN_LENGTH_MAX: usize = 32;

/// Why one attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) reason: String,
    /// Whether another attempt may work.
    pub(super) is_temporary: bool,
}

impl Fault {
    pub(super) fn lasting(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), is_temporary: false }
    }

    pub(super) fn temporary(reason: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unavailable, reason: reason.into(), is_temporary: true }
    }

    pub(super) fn corrupt(reason: impl Into<String>) -> Self {
        Self::lasting(ErrorKind::Corrupt, reason)
    }

    /// What it is of an act under a condition, before which nothing was there: a refusal may be one of the condition.
    pub(super) fn of_condition(self) -> Self {
        let kind = match self.kind {
            ErrorKind::Invalid => ErrorKind::Unconditional,
            kind => kind,
        };
        Self { kind, ..self }
    }

    fn timeout(limit: Duration) -> Self {
        Self::temporary(format!("no complete answer within {} s", limit.as_secs()))
    }
}

/// Tries until it works, the fault is final, or the attempts are used up. `bytes` is what one attempt
/// transfers at most; `key` is for the log.
async fn attempts<T, Attempt>(
    retry: Retry,
    key: &str,
    bytes: u64,
    attempt: impl Fn() -> Attempt,
) -> Result<T, Fault>
where
    Attempt: Future<Output = Result<T, Fault>>,
{
    let mut number = 1;
    loop {
        let fault = match tokio::time::timeout(attempt_time(bytes), attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::timeout(attempt_time(bytes)),
        };
        if !fault.is_temporary {
            return Err(fault);
        }
        let random = getrandom::u64().unwrap_or(u64::from(number));
        let Some(pause) = retry.pause_after(number, random) else {
            let reason = format!("{} ({number} attempts)", fault.reason);
            return Err(Fault { reason, ..fault });
        };
        tracing::debug!(key, attempt = number, reason = fault.reason, "will be tried again");
        tokio::time::sleep(pause).await;
        number += 1;
    }
}

/// What is tried at one store, by its name.
#[derive(Debug, Clone)]
pub(super) struct Tries {
    /// What errors call the store.
    pub(super) name: String,
    pub(super) retry: Retry,
    /// So many acts at once.
    turns: Arc<Semaphore>,
    /// An attempt has failed that another one may mend, since somebody asked.
    trouble: Arc<AtomicBool>,
}

impl Tries {
    pub(super) fn at(name: String, at_once: usize) -> Self {
        let (turns, trouble) = (Arc::new(Semaphore::new(at_once)), Arc::default());
        Self { name, retry: RETRY, turns, trouble }
    }

    /// Whether an attempt has failed since this was asked last that another one may mend.
    #[cfg(feature = "stores")]
    pub(super) fn take_trouble(&self) -> bool {
        self.trouble.swap(false, Ordering::Relaxed)
    }

    /// What the store calls a key: `prefix` and the key. One that is not valid is an error.
    pub(super) fn full_key(
        &self,
        act: Act,
        prefix: &str,
        key: &str,
    ) -> Result<String, ObjectError> {
        if is_valid_key(key) {
            Ok(format!("{prefix}{key}"))
        } else {
            Err(ObjectError::invalid_key(act, key, self.name.clone()))
        }
    }

    /// [`attempts`] at an act on `key`, when it is its turn.
    pub(super) async fn attempts<T, Attempt>(
        &self,
        act: Act,
        key: &str,
        bytes: u64,
        attempt: impl Fn() -> Attempt,
    ) -> Result<T, ObjectError>
    where
        Attempt: Future<Output = Result<T, Fault>>,
    {
        // Waiting for others is no part of an attempt's time.
        let closed = |_| self.error(ErrorKind::Invalid, act, key, "it is closed");
        let _turn = self.turns.acquire().await.map_err(closed)?;
        let attempt = async || {
            let done = attempt().await;
            if done.as_ref().is_err_and(|fault| fault.is_temporary) {
                self.trouble.store(true, Ordering::Relaxed);
            }
            done
        };
        let done = attempts(self.retry, key, bytes, attempt).await;
        done.map_err(|fault| self.error(fault.kind, act, key, fault.reason))
    }

    pub(super) fn error(
        &self,
        kind: ErrorKind,
        act: Act,
        key: &str,
        reason: impl Into<String>,
    ) -> ObjectError {
        ObjectError::new(kind, act, key, self.name.clone(), reason)
    }
}

fn attempt_time(bytes: u64) -> Duration {
    ATTEMPT_TIME_MIN + Duration::from_secs(bytes / THROUGHPUT_MIN)
}

/// The innermost cause: what is around it only says that something failed.
pub(super) fn root(error: &dyn Error) -> String {
    let mut innermost = error;
    for _ in 0..CHAIN_LENGTH_MAX {
        let Some(source) = innermost.source() else { break };
        innermost = source;
    }
    shown(&innermost.to_string())
}

/// What another machine said, as much of it as a sentence takes.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}
