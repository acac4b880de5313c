//! Runs that are at work for long (`docs/backup-format.md`, "Runs").
//!
//! The packs of a backup are needed by no snapshot before it is committed, which may take days. So a long run says from
//! time to time that it is alive, and a prune leaves alone what was stored or marked since it began. That saves the
//! run's work; no snapshot relies on it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chores_common::object::{ErrorKind, ObjectError};
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkId;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// Where the documents are.
const PREFIX: &str = "runs/";

/// Version of the document this program writes and reads.
const VERSION: u32 = 1;

/// Longest document in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// How often a run says that it is alive. Most have ended before the first time.
const BEAT: Duration = Duration::from_secs(30 * 60);

/// A run that has said nothing for so long, by the store's clock, is not waited for.
const SILENCE_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// How much earlier a run is taken to have begun: its words take time to get to the store.
const SLACK: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// How long it had been at work when it wrote this.
    seconds: u64,
}

/// A process that may be a long run.
#[derive(Debug)]
pub struct SignOfLife {
    begun: Instant,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    last: Instant,
    key: Option<String>,
}

impl SignOfLife {
    /// One that begins now, before it reads anything of the repository.
    #[must_use]
    pub fn begin() -> Self {
        let begun = Instant::now();
        Self { begun, said: Mutex::new(Said { last: begun, key: None }) }
    }

    /// Says that it is alive, where it has not done so for long. What fails costs at worst the work of this run.
    pub fn beat(&self, store: &Store) {
        self.beat_every(BEAT, store);
    }

    fn beat_every(&self, period: Duration, store: &Store) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.elapsed() < period {
            return;
        }
        said.last = Instant::now();
        let key = said.key.get_or_insert_with(|| {
            let mut id = [0; 16];
            // Two runs with the same name would only take turns in it.
            getrandom::fill(&mut id).unwrap_or_default();
            format!("{PREFIX}{}.json", ChunkId(id))
        });
        let seconds = self.begun.elapsed().as_secs();
        let put = serde_json::to_vec(&Document { version: VERSION, seconds })
            .map_err(|error| error.to_string())
            .and_then(|bytes| store.put(key, bytes).map_err(|error| error.to_string()));
        if let Err(error) = put {
            tracing::warn!("a prune may not wait for this run: {error}");
        }
    }
}

/// A run that is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it began, by the store's clock.
    pub begun: SystemTime,
}

/// The runs that have lately said that they are alive. One that says so in words of a later version is taken to have
/// begun long ago.
pub fn runs(store: &Store, now: SystemTime) -> Result<Vec<Run>, ObjectError> {
    let mut runs = Vec::new();
    for object in store.list(PREFIX)? {
        if is_silent(object.modified, now) {
            continue;
        }
        let bytes = match store.get(&object.key, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let begun = serde_json::from_slice::<Document>(&bytes)
            .ok()
            .filter(|document| document.version == VERSION)
            .and_then(|document| Duration::from_secs(document.seconds).checked_add(SLACK))
            .and_then(|age| object.modified.checked_sub(age));
        runs.push(Run { begun: begun.unwrap_or(SystemTime::UNIX_EPOCH) });
    }
    Ok(runs)
}

/// Removes what runs said that have ended, or lie still.
pub fn remove_silent(store: &Store, now: SystemTime) -> Result<(), ObjectError> {
    for object in store.list(PREFIX)? {
        if is_silent(object.modified, now) {
            store.delete(&object.key)?;
        }
    }
    Ok(())
}

fn is_silent(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).is_ok_and(|silence| silence > SILENCE_MAX)
}
