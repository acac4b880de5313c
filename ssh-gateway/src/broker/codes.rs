//! Codes of authenticator applications: each counts once, also after a restart, and who gives wrong ones waits.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chores_common::durable;
use chores_common::exit::chain;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::totp::{self, Secret};

#[cfg(test)]
mod tests;

/// What has been used, in the state directory.
const FILE: &str = "totp-used.json";
const FILE_MODE: u32 = 0o600;
/// Largest such file, in bytes: one number for each of 10,000 identities has room.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The form of it that this program writes.
const FILE_VERSION: u32 = 1;
/// Steps after which a code cannot be used again in any case.
const KEPT_STEPS: u64 = 2;
/// Wrong codes one after the other before an identity must wait.
const WRONG_MAX: u32 = 5;
/// How long then; twice as long after each further one.
const WAIT: Duration = Duration::from_secs(60);
/// The longest of these.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// The disk takes what has been used in this time, or the code does not count.
const SAVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a code does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodeError {
    #[error("the code is wrong")]
    Wrong,
    #[error("the code was used before")]
    Used,
    #[error("there were too many wrong codes, so none counts for {} s", .0.as_secs())]
    TooMany(Duration),
}

/// What was given.
#[derive(Debug)]
pub(super) struct Codes {
    path: PathBuf,
    known: Mutex<Known>,
    /// One writes at a time, and writes what is newest.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last step whose code each identity has used; none before it counts.
    used: BTreeMap<String, u64>,
    /// For all.
    floor: u64,
    wrong: BTreeMap<String, Wrong>,
}

/// Wrong codes of an identity since the last right one.
#[derive(Debug)]
struct Wrong {
    count: u32,
    until: Instant,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    used: BTreeMap<String, u64>,
}

impl Codes {
    /// What is known in this state directory. Where that cannot be read, every code that may have been used is taken for
    /// one that was. Blocks.
    pub(super) fn load(state: &Path, now: Timestamp) -> Self {
        let path = state.join(FILE);
        let mut known = Known::default();
        match read(&path) {
            Ok(used) => known.used = used,
            Err(error) => {
                tracing::warn!(
                    "cannot read {}, so codes count from the next but one on: {error}",
                    path.display()
                );
                known.floor = totp::step(now) + 1;
            }
        }
        Self { path, known: Mutex::new(known), writing: Mutex::default() }
    }

    /// Takes a code of an identity: the same one never again. It counts once [`Self::save`] has kept that.
    pub(super) fn take(
        &self,
        who: &str,
        secret: &Secret,
        given: &[u8],
        now: Timestamp,
    ) -> Result<(), CodeError> {
        let mut known = self.lock();
        let count = match known.wrong.get(who) {
            Some(Wrong { count, until }) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(CodeError::TooMany(left));
                }
                *count
            }
            None => 0,
        };
        let Some(step) = secret.step_of(given, now) else {
            let count = count.saturating_add(1);
            known
                .wrong
                .insert(who.to_owned(), Wrong { count, until: Instant::now() + wait(count) });
            return Err(CodeError::Wrong);
        };
        let last = known.used.get(who).copied().unwrap_or_default().max(known.floor);
        if step <= last {
            return Err(CodeError::Used);
        }
        known.wrong.remove(who);
        known.used.insert(who.to_owned(), step);
        let now = totp::step(now);
        known.used.retain(|_, step| step.saturating_add(KEPT_STEPS) >= now);
        Ok(())
    }

    /// Makes what was taken survive the end of this process.
    pub(super) async fn save(self: &Arc<Self>) -> Result<(), String> {
        let codes = Arc::clone(self);
        // Whoever is not waited for any more still has his turn: nothing older is written over what is newer.
        let saving = spawn_blocking(move || {
            let _turn = codes.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let used = codes.lock().used.clone();
            write(&codes.path, used)
        });
        match timeout(SAVE_TIME_MAX, saving).await {
            Ok(saved) => saved.map_err(|error| error.to_string())?,
            Err(_) => Err(format!("the disk takes longer than {} s", SAVE_TIME_MAX.as_secs())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an identity waits after so many wrong codes.
fn wait(count: u32) -> Duration {
    let Some(beyond) = count.checked_sub(WRONG_MAX) else { return Duration::ZERO };
    WAIT.saturating_mul(1u32.checked_shl(beyond).unwrap_or(u32::MAX)).min(WAIT_MAX)
}

fn read(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let length = match std::fs::metadata(path) {
        Ok(data) => data.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let written: Written = serde_json::from_slice(&std::fs::read(path)?)?;
    if written.version != FILE_VERSION {
        return Err(io::Error::other(format!("it has version {}", written.version)));
    }
    Ok(written.used)
}

fn write(path: &Path, used: BTreeMap<String, u64>) -> Result<(), String> {
    let written = Written { version: FILE_VERSION, used };
    let bytes = serde_json::to_vec(&written).map_err(|error| error.to_string())?;
    durable::write(path, &bytes, FILE_MODE).map_err(|error| chain(&error))
}
