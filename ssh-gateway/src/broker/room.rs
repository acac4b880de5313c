//! Room for what one identity, and all of them together, may have only so many of at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for so many. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Room {
    of_one: usize,
    of_all: usize,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A place in it, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    who: String,
}

/// There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// This identity has as many as one may have.
    OfOne,
    /// All together have as many as there may be.
    OfAll,
}

impl Room {
    /// For so many of one identity, and so many of all.
    pub(super) fn new(of_one: usize, of_all: usize) -> Self {
        Self { of_one, of_all, counts: Arc::default() }
    }

    /// A place for this identity.
    pub(super) fn take(&self, who: &str) -> Result<Place, Full> {
        let mut counts = self.lock();
        if counts.get(who).is_some_and(|count| *count >= self.of_one) {
            return Err(Full::OfOne);
        }
        if counts.values().sum::<usize>() >= self.of_all {
            return Err(Full::OfAll);
        }
        *counts.entry(who.to_owned()).or_default() += 1;
        Ok(Place { room: self.clone(), who: who.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.room.lock();
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
        }
        counts.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_room_of_all() {
        let room = Room::new(2, 5);
        let of = |number: usize| format!("identity {number}");
        let mut all: Vec<_> = (0..5).map(|number| room.take(&of(number / 2)).unwrap()).collect();
        assert_eq!(room.take(&of(0)).unwrap_err(), Full::OfOne);
        assert_eq!(room.take(&of(5)).unwrap_err(), Full::OfAll);
        all.remove(0);
        let other = room.take(&of(5)).unwrap();
        drop(other);
        all.push(room.take(&of(0)).unwrap());
        drop(all);
        assert!(room.lock().is_empty());
    }
}
