//! What is followed and by which way, for metrics and people.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// A way to the log of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The engine's own files.
    Direct,
    /// The engine's log API.
    Api,
}

/// A container whose log is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// Its name.
    pub name: String,
    /// How it is read.
    pub way: Way,
}

/// The engine does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAway {
    /// Since when, in nanoseconds since 1970.
    pub since: i64,
    /// The last failure, one sentence.
    pub error: String,
}

/// Every container whose log is read, by id, and whether the engine answers.
#[derive(Debug, Default)]
pub struct FollowedTable {
    inner: Mutex<BTreeMap<String, Followed>>,
    away: Mutex<Option<EngineAway>>,
}

impl FollowedTable {
    /// It is read from now on, or has another name or way.
    pub fn set(&self, id: &str, name: &str, way: Way) {
        self.lock().insert(id.to_owned(), Followed { name: name.to_owned(), way });
    }

    /// It is read no more.
    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// As it is now.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Followed> {
        self.lock().clone()
    }

    /// The engine did not answer at `now`.
    pub fn engine_away(&self, now: i64, error: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let since = away.as_ref().map_or(now, |away| away.since);
        *away = Some(EngineAway { since, error: error.to_owned() });
    }

    /// The engine answers.
    pub fn engine_back(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the engine does not answer now.
    #[must_use]
    pub fn away(&self) -> Option<EngineAway> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Followed>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
