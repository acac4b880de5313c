//! The connections of clients that have come in, for who administrates the gateway.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::words::Words;
use crate::control;
use crate::wire::net::ConnectionId;

/// Connections by their numbers. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<BTreeMap<ConnectionId, Open>>>);

/// A connection that is open.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// What is told of it; what runs in it is counted by who tells it.
    pub(super) told: control::Connection,
    /// To the net that has it.
    pub(super) words: Words,
    /// Set when it is to end: nothing more begins in it, whatever net does.
    pub(super) is_ended: Arc<AtomicBool>,
}

/// Takes a connection off the list when it is over.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    id: ConnectionId,
}

impl Connections {
    /// Puts a connection on the list.
    pub(super) fn add(&self, open: Open) -> Listed {
        let id = open.told.connection;
        self.lock().insert(id, open);
        Listed { connections: self.clone(), id }
    }

    /// What is told of all of them.
    pub(super) fn told(&self) -> Vec<control::Connection> {
        self.lock().values().map(|open| open.told.clone()).collect()
    }

    /// The connection of this number.
    pub(super) fn get(&self, id: ConnectionId) -> Option<Open> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
    }
}
