//! How long the store keeps what is saved from being removed (S3 Object Lock): what an operator says of it, and which times
//! follow.
//!
//! A snapshot is locked for the period, from its commit on, and each pack it needs for at least as long. Packs are locked for
//! longer than that at once, so that not every backup has to lock every pack anew: [`Lock::of_packs`].

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chores_common::object::{LockMode, Retention};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Longest period, in days: ten years. Nobody takes a lock of compliance back, so a slip of the pen must not be for ever.
pub const DAYS_MAX: u32 = 3660;

/// Packs are locked for this part of the period longer …
const SLACK_PARTS: u32 = 4;

/// … but not for less than this.
const SLACK_MIN: Duration = Duration::from_secs(SECONDS_PER_DAY);

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// What `repo.json` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Who may lift locks.
    pub mode: LockMode,
    /// How long a snapshot is locked, in days.
    pub days: u32,
}

/// A text that is no lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// No period.
    #[error("`{0}` is no time of locks: write days and a mode, such as `30d` or `30d=governance`")]
    Text(String),
    /// Too short or too long.
    #[error("locks are for 1 to {DAYS_MAX} whole days, not for `{0}`")]
    Days(String),
}

impl Lock {
    /// Whether it is for a time that may be asked for.
    #[must_use]
    pub fn is_sane(self) -> bool {
        (1..=DAYS_MAX).contains(&self.days)
    }

    /// How long a snapshot is locked.
    #[must_use]
    pub fn period(self) -> Duration {
        Duration::from_secs(u64::from(self.days) * SECONDS_PER_DAY)
    }

    /// How much longer packs are locked.
    #[must_use]
    pub fn slack(self) -> Duration {
        (self.period() / SLACK_PARTS).max(SLACK_MIN)
    }

    /// The lock of a snapshot that is committed at `now`, by the store's clock.
    #[must_use]
    pub fn of_snapshot(self, now: SystemTime) -> Retention {
        Retention { mode: self.mode, until: later(now, self.period()) }
    }

    /// The lock of a pack, or of anything else that later snapshots need too, that is stored or locked anew at `now`.
    #[must_use]
    pub fn of_packs(self, now: SystemTime) -> Retention {
        Retention { mode: self.mode, until: later(now, self.period() + self.slack()) }
    }

    /// Until when something is locked that was stored at `modified`, if it was locked by this. It may be for longer.
    #[must_use]
    pub fn by_age(self, modified: SystemTime) -> SystemTime {
        modified.checked_add(self.period() + self.slack()).unwrap_or(modified)
    }

    /// Whether a lock holds until then, as hard as this one.
    #[must_use]
    pub fn is_enough(self, held: Option<Retention>, until: SystemTime) -> bool {
        held.is_some_and(|held| held.mode >= self.mode && held.until >= until)
    }

    /// What to put in the place of a lock that is not enough. One that still holds is never made softer or shorter.
    #[must_use]
    pub fn extended(self, held: Option<Retention>, now: SystemTime) -> Retention {
        let wanted = self.of_packs(now);
        match held {
            Some(held) if held.until > now => {
                Retention { mode: held.mode.max(wanted.mode), until: held.until.max(wanted.until) }
            }
            _ => wanted,
        }
    }
}

/// So much later, at the next whole second: a part of one is not kept everywhere, and what is cut off must not be missing.
fn later(now: SystemTime, span: Duration) -> SystemTime {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(span);
    let seconds = since.as_secs().saturating_add(u64::from(since.subsec_nanos() > 0));
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(now)
}

impl FromStr for Lock {
    type Err = LockError;

    fn from_str(text: &str) -> Result<Self, LockError> {
        let (period, mode) = match text.split_once('=') {
            None => (text, LockMode::Compliance),
            Some((period, "compliance")) => (period, LockMode::Compliance),
            Some((period, "governance")) => (period, LockMode::Governance),
            Some(_) => return Err(LockError::Text(text.to_owned())),
        };
        let period = chores_common::quantity::duration(period)
            .map_err(|_| LockError::Text(text.to_owned()))?;
        let wrong = || LockError::Days(text.to_owned());
        let days = u32::try_from(period.as_secs() / SECONDS_PER_DAY).map_err(|_| wrong())?;
        let lock = Self { mode, days };
        if lock.period() == period && lock.is_sane() { Ok(lock) } else { Err(wrong()) }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}d={}", self.days, self.mode)
    }
}
