//! What the thread that opens log files leaves for the one that reads them. It never waits: a reader that is held
//! back must not keep files from being opened, since the engine deletes those that are not.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chores_common::engine::Container;

use super::ContainerPlan;
use super::entry::Format;
use super::follow::NextFile;

/// What is new about one container. Letters about the same one become one; what they hold is bounded by the files
/// that one container may hold.
#[derive(Debug, Default)]
pub struct Letter {
    /// Its log is to be read; this came first.
    pub opening: Option<Opening>,
    /// Files, oldest first, all newer than those before.
    pub files: Vec<NextFile>,
    /// What the engine says of it.
    pub facts: Option<(Arc<Container>, ContainerPlan)>,
    /// It was removed.
    pub is_gone: bool,
}

/// How the log of a container is to be read.
#[derive(Debug)]
pub struct Opening {
    /// How it is written.
    pub format: Format,
    /// Files that are held open for it, by both sides.
    pub held: Arc<AtomicUsize>,
}

/// Letters by container id.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    letters: HashMap<String, Letter>,
    order: VecDeque<String>,
    is_closed: bool,
}

impl Mailbox {
    /// Adds to the letter about container `id`.
    pub fn post(&self, id: &str, add: impl FnOnce(&mut Letter)) {
        let mut inner = self.lock();
        if !inner.letters.contains_key(id) {
            inner.order.push_back(id.to_owned());
        }
        add(inner.letters.entry(id.to_owned()).or_default());
        drop(inner);
        self.arrived.notify_one();
    }

    /// Nothing is posted any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_one();
    }

    /// The letters so far, in the order they were begun; waits for one, at most `time`. The flag says that there
    /// will be no other.
    pub fn take(&self, time: Duration) -> (Vec<(String, Letter)>, bool) {
        let mut inner = self.lock();
        if inner.letters.is_empty() && !inner.is_closed && !time.is_zero() {
            let waited = self.arrived.wait_timeout(inner, time);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let order = std::mem::take(&mut inner.order);
        let mut letters = std::mem::take(&mut inner.letters);
        let taken = order.into_iter().filter_map(|id| letters.remove_entry(&id)).collect();
        (taken, inner.is_closed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
