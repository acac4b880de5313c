//! What one channel has yet to be told, in a file that is whole or absent (`docs/backup-notify.md`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use chores_common::durable::{self, DurableError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Event;

#[cfg(test)]
mod tests;

/// Version of the file.
const FORMAT: u32 = 1;

/// Notices that wait at the most; the oldest goes for a new one.
pub(super) const NOTICES_MAX: usize = 100;

/// How long a notice is of use to anybody.
pub(super) const AGE_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Largest file, in bytes: more than `NOTICES_MAX` of the longest events in JSON.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Only for its owner: texts may tell of a host what is nobody's business.
const MODE: u32 = 0o600;

/// One event on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// By which a receiver knows it again: after a crash it may come twice.
    pub(super) id: String,
    /// What happened.
    pub(super) event: Event,
}

/// What waits, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    format: u32,
    /// How many were dropped since a delivered notice told of it.
    lost: u64,
    notices: VecDeque<Notice>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { format: FORMAT, lost: 0, notices: VecDeque::new() }
    }
}

/// Why a file is no queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueFault {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// A later program made it.
    #[error(
        "it has the format {0}, this program knows {FORMAT}: use a newer one, or move the file away"
    )]
    Newer(u64),
    /// It is something else.
    #[error("it is no queue of notices: {0}")]
    Damaged(String),
}

impl Queue {
    /// What a file holds; an absent one is empty.
    pub(super) fn load(path: &Path) -> Result<Self, QueueFault> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file
                .take(FILE_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .map_err(QueueFault::Unreadable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(QueueFault::Unreadable(error)),
        };
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(QueueFault::Damaged(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let damaged = |error: serde_json::Error| QueueFault::Damaged(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(QueueFault::Newer(format)),
            None => return Err(QueueFault::Damaged("it has no format".to_owned())),
        }
        let mut queue: Self = serde_json::from_value(value).map_err(damaged)?;
        // What is read was ours, and may have been changed by others.
        for notice in &mut queue.notices {
            notice.event = notice.event.plain();
        }
        queue.bound();
        Ok(queue)
    }

    /// Makes it durable.
    pub(super) fn save(&self, path: &Path) -> Result<(), DurableError> {
        // Texts and numbers always have a JSON form.
        let Ok(bytes) = serde_json::to_vec(self) else { return Ok(()) };
        durable::write(path, &bytes, MODE)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.notices.len()
    }

    /// The next one.
    pub(super) fn first(&self) -> Option<&Notice> {
        self.notices.front()
    }

    /// How many were dropped since the last delivery.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes one more, and says how many had to go for it.
    pub(super) fn push(&mut self, notice: Notice) -> u64 {
        self.notices.push_back(notice);
        self.bound()
    }

    fn bound(&mut self) -> u64 {
        let mut dropped = 0;
        while self.notices.len() > NOTICES_MAX {
            // One that says the same of the same job first: a job that fails every minute must not push out all others.
            let same = self.notices.back().and_then(|new| {
                let others = self.notices.iter().take(NOTICES_MAX);
                let is_same = |one: &Notice| {
                    (&one.event.job, one.event.kind) == (&new.event.job, new.event.kind)
                };
                others.into_iter().position(is_same)
            });
            self.notices.remove(same.unwrap_or(0));
            dropped += 1;
        }
        self.lost += dropped;
        dropped
    }

    /// Drops what is too old to be of use, and says how many that were.
    pub(super) fn expire(&mut self, now: Timestamp) -> u64 {
        let before = self.notices.len();
        self.notices.retain(|notice| {
            let age = now.duration_since(notice.event.time);
            Duration::try_from(age).is_ok_and(|age| age <= AGE_MAX) || age.is_negative()
        });
        let dropped = (before - self.notices.len()) as u64;
        self.lost += dropped;
        dropped
    }

    /// It was delivered, and with it the number of those lost before it.
    pub(super) fn accepted(&mut self, id: &str, told_lost: u64) {
        self.remove(id);
        self.lost = self.lost.saturating_sub(told_lost);
    }

    /// It was refused for good.
    pub(super) fn refused(&mut self, id: &str) {
        if self.remove(id) {
            self.lost += 1;
        }
    }

    /// It goes behind the others: a notice that its receiver chokes on must not hold them up.
    pub(super) fn postpone(&mut self, id: &str) {
        if self.notices.front().is_some_and(|notice| notice.id == id) {
            self.notices.rotate_left(1);
        }
    }

    fn remove(&mut self, id: &str) -> bool {
        let before = self.notices.len();
        self.notices.retain(|notice| notice.id != id);
        before != self.notices.len()
    }
}
