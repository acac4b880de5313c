//! The sessions that run and the forwards that are open, for who administrates the gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio_util::sync::CancellationToken;

use super::tap::Tap;
use crate::control::{self, Kind};
use crate::wire::net::ConnectionId;

/// Bytes of chance in the name of a session.
const NAME_BYTES: usize = 6;

/// Sessions and forwards by their names. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<BTreeMap<String, Running>>>);

/// A session that runs, or a forward that is open.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// What is told of it.
    pub(super) told: control::Session,
    /// Ends it.
    pub(super) end: CancellationToken,
    /// What goes through, where that goes past us, as long as it does: who is on the list keeps no recording open.
    pub(super) tap: Option<Weak<Tap>>,
}

/// What a connection has open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) sessions: usize,
    pub(super) forwards: usize,
}

/// Takes a session off the list when it has ended.
#[derive(Debug)]
pub(super) struct Listed {
    sessions: Sessions,
    name: String,
}

impl Sessions {
    /// A name that no session has.
    pub(super) fn name() -> Result<String, getrandom::Error> {
        let mut bytes = [0; NAME_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(crate::chain::hex(&bytes))
    }

    /// Puts a session on the list.
    pub(super) fn add(&self, running: Running) -> Listed {
        let name = running.told.session.clone();
        self.lock().insert(name.clone(), running);
        Listed { sessions: self.clone(), name }
    }

    /// What is told of all of them.
    pub(super) fn told(&self) -> Vec<control::Session> {
        self.lock().values().map(|running| running.told.clone()).collect()
    }

    /// The session of this name.
    pub(super) fn get(&self, name: &str) -> Option<Running> {
        self.lock().get(name).cloned()
    }

    /// Those of a connection; what waits for its client belongs to none.
    pub(super) fn of(&self, connection: ConnectionId) -> Vec<Running> {
        let is_of = |running: &&Running| {
            running.told.connection == connection && running.told.lingering.is_none()
        };
        self.lock().values().filter(is_of).cloned().collect()
    }

    /// How many sessions and forwards each connection has.
    pub(super) fn count(&self) -> BTreeMap<ConnectionId, Count> {
        let mut counts: BTreeMap<ConnectionId, Count> = BTreeMap::new();
        for Running { told, .. } in self.lock().values() {
            if told.lingering.is_none() {
                let count = counts.entry(told.connection).or_default();
                match told.kind {
                    Kind::Session => count.sessions += 1,
                    Kind::Forward => count.forwards += 1,
                }
            }
        }
        counts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Changes what is told of the session.
    pub(super) fn change(&self, change: impl FnOnce(&mut control::Session)) {
        if let Some(running) = self.sessions.lock().get_mut(&self.name) {
            change(&mut running.told);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.name);
    }
}
