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

/// Every container whose log is read, by id.
#[derive(Debug, Default)]
pub struct FollowedTable {
    inner: Mutex<BTreeMap<String, Followed>>,
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Followed>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
