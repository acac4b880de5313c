//! Whose turn it is to change `repo.json` (`docs/backup-format.md`, "Changes").
//!
//! A store replaces an object without asking what it was, so two that change it in one instant would both find their own words behind
//! their write, one after the other, and one change would be gone. So who changes it says so first, in an object of its own, and
//! looks who else does: of two at once at least one sees the other, because a list shows what was written before it.

use std::thread;
use std::time::{Duration, SystemTime};

use chores_common::object::{ObjectError, ObjectMeta};

use super::RepositoryError;
use crate::chunk::ChunkId;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// Where they say so.
const PREFIX: &str = "changes/";

/// Who has said so longer ago, by the store's clock, was killed and is not waited for.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10 * 60);

/// How long after that one may still write: half of it, so that nobody takes the turn of who is about to.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// How often it is looked whether the others have ended, and how long that is waited for.
const LOOKS_MAX: u32 = 40;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Who changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changer {
    /// Somebody changes keys or locks, and can do it again.
    Person,
    /// A prune says what it is about to do. It comes again where another one has said the same, so prunes do not wait for each other,
    /// least of all for one that was killed.
    Prune,
}

impl Changer {
    /// Names of persons come first, for whom prunes give way.
    fn word(self) -> &'static str {
        match self {
            Self::Person => "keys",
            Self::Prune => "prune",
        }
    }
}

/// What is seen of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is our turn.
    Ours,
    /// Somebody gives way or is about to end.
    Wait,
    /// Somebody else comes first.
    GiveWay,
}

/// A turn, from when it was said that it is wanted.
#[derive(Debug)]
pub(super) struct Turn<'s> {
    store: &'s Store,
    by: Changer,
    key: String,
}

impl<'s> Turn<'s> {
    /// Waits for it. `None` where others do not end, or come first.
    pub(super) fn take(store: &'s Store, by: Changer) -> Result<Option<Self>, RepositoryError> {
        let mut said: Option<Self> = None;
        for _ in 0..LOOKS_MAX {
            let turn = match said.take() {
                Some(turn) => turn,
                None => Self::say(store, by)?,
            };
            match turn.look()? {
                Look::Ours => return Ok(Some(turn)),
                Look::Wait => said = Some(turn),
                Look::GiveWay => {
                    turn.end();
                    if by == Changer::Person {
                        return Ok(None);
                    }
                }
            }
            thread::sleep(LOOK_AGAIN_AFTER);
        }
        if let Some(turn) = said {
            turn.end();
        }
        Ok(None)
    }

    fn say(store: &'s Store, by: Changer) -> Result<Self, RepositoryError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(RepositoryError::Random)?;
        let key = format!("{PREFIX}{}-{}", by.word(), ChunkId(id));
        store.put(&key, "repo.json is being changed\n")?;
        Ok(Self { store, by, key })
    }

    fn look(&self) -> Result<Look, ObjectError> {
        let said = self.store.list(PREFIX)?;
        for silent in said.iter().filter(|other| is_silent(&said, &self.key, other)) {
            self.store.delete(&silent.key)?;
        }
        Ok(decide(&said, &self.key, self.by))
    }

    /// Whether nobody takes it for over: to be asked right before the write, since a machine may have slept since.
    pub(super) fn is_ours(&self) -> Result<bool, ObjectError> {
        Ok(is_in_time(&self.store.list(PREFIX)?, &self.key))
    }

    /// Lets the others go on.
    pub(super) fn end(self) {
        if let Err(error) = self.store.delete(&self.key) {
            let minutes = SILENCE_MAX.as_secs() / 60;
            tracing::warn!("keys cannot be changed again for {minutes} minutes: {error}");
        }
    }
}

/// When this was said, where the store tells it.
fn said_at(said: &[ObjectMeta], key: &str) -> Option<SystemTime> {
    let own = said.iter().find(|object| object.key == key)?;
    Some(own.modified).filter(|time| *time > SystemTime::UNIX_EPOCH)
}

/// Whether another one was said so long before this one that whoever said it is not there any more.
fn is_silent(said: &[ObjectMeta], own: &str, other: &ObjectMeta) -> bool {
    let Some(now) = said_at(said, own) else { return false };
    let silence = now.duration_since(other.modified).unwrap_or_default();
    other.key != own && silence > SILENCE_MAX
}

/// Whose turn it is by what was said.
fn decide(said: &[ObjectMeta], own: &str, by: Changer) -> Look {
    // It was taken away, or the store tells no times, and then nobody would ever be known to have ended.
    let Some(own) = said.iter().find(|object| object.key == own) else { return Look::GiveWay };
    if own.modified <= SystemTime::UNIX_EPOCH {
        return Look::Ours;
    }
    let concerns = |other: &&ObjectMeta| {
        let is_prune = other.key.starts_with(&format!("{PREFIX}{}-", Changer::Prune.word()));
        other.key != own.key
            && !is_silent(said, &own.key, other)
            && !(by == Changer::Prune && is_prune)
    };
    let first = said.iter().filter(concerns).map(|other| &other.key).min();
    match first {
        None => Look::Ours,
        Some(first) if *first < own.key => Look::GiveWay,
        Some(_) => Look::Wait,
    }
}

/// Whether this was said lately enough to write, by what others have said since.
fn is_in_time(said: &[ObjectMeta], own: &str) -> bool {
    if said.iter().all(|object| object.key != own) {
        return false;
    }
    let Some(begun) = said_at(said, own) else { return true };
    let newest = said.iter().map(|object| object.modified).max().unwrap_or(begun);
    newest.duration_since(begun).unwrap_or_default() <= WRITE_TIME_MAX
}
