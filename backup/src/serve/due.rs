//! What is to start, what waits, and what is overdue: a function of values alone.
//!
//! Every time in it may be wrong, since clocks jump. One that is ahead of now counts as none, whoever wrote it: what happened
//! in a future cannot have happened, and must not keep anything from happening. So after any jump, in either direction, each job
//! runs once and then goes on by its schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

#[cfg(test)]
mod tests;

/// How far ahead of now a time may be before the clock is taken to have jumped.
pub const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// How often a run that failed is tried again before its next time.
const RETRIES_MAX: u32 = 3;

/// How long after the end of one that failed the first of these comes; twice as long for each one more.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// How long a container must have run before it is asked for its data.
const CONTAINER_READY_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// When and how often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// When it was first known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// When its last run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start: Option<Timestamp>,
    /// When its last run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<Timestamp>,
    /// How many runs have failed, one behind the other, that may succeed when they are tried again.
    pub failures: u32,
}

/// When something should happen.
#[derive(Clone, Debug)]
pub struct Timing<'a> {
    /// By the clock.
    pub schedule: &'a Schedule,
    /// What spreads those of one time: the same each time.
    pub key: &'a str,
    /// How far.
    pub jitter_max: Duration,
    /// Whether it is due as soon as it is known, or at its first time only.
    pub at_once: bool,
}

/// Since when this process runs, and how long it leaves alone what was missed before.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Its start.
    pub began: Timestamp,
    /// The longest wait.
    pub catch_up: Duration,
}

/// A time, unless it is ahead of now.
#[must_use]
pub fn past(time: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    time.filter(|time| time.duration_since(now) <= AHEAD_MAX)
}

/// When the next run is due: now, where that is not ahead. `good` is the last good run, wherever that was made.
#[must_use]
pub fn due(
    timing: &Timing<'_>,
    times: &Times,
    good: Option<Timestamp>,
    since: Since,
    now: Timestamp,
) -> Timestamp {
    let last = past(times.last_start, now).max(past(good, now));
    let slot = match last {
        Some(last) => at(timing, last),
        None if timing.at_once => past(times.first_seen, now).unwrap_or(now),
        None => at(timing, past(times.first_seen, now).unwrap_or(now)),
    };
    let retry = past(times.last_end, now)
        .filter(|_| (1..=RETRIES_MAX).contains(&times.failures))
        .map(|end| later(end, RETRY_AFTER * (1 << times.failures.saturating_sub(1))));
    let due = retry.map_or(slot, |retry| slot.min(retry));
    // What was missed while nobody ran comes a little later, and not all of it at once.
    let begin = past(Some(since.began), now).map(|began| {
        let half = since.catch_up / 2;
        later(began, signed(half).saturating_add(spread(timing.key, half)))
    });
    begin.map_or(due, |begin| due.max(begin))
}

/// Since when a good run is missing; `None` where none is, or not long enough. `after` is how long it may be late.
#[must_use]
pub fn overdue(
    timing: &Timing<'_>,
    times: &Times,
    good: Option<Timestamp>,
    after: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let slot = match past(good, now) {
        Some(good) => at(timing, good),
        None => past(times.first_seen, now)?,
    };
    (now > later(slot, signed(after))).then_some(slot)
}

/// When a container that was started then may be asked for its data, where that is ahead.
#[must_use]
pub fn ready(started: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let ready = later(past(started, now)?, CONTAINER_READY_AFTER);
    (ready > now).then_some(ready)
}

/// The first time of a schedule after `after`, with what spreads it.
fn at(timing: &Timing<'_>, after: Timestamp) -> Timestamp {
    // Behind the end of the calendar nothing is due.
    let Some(slot) = timing.schedule.next_after(after) else { return Timestamp::MAX };
    let interval = timing.schedule.next_after(slot).map(|next| next.duration_since(slot));
    let half = interval.and_then(|interval| Duration::try_from(interval / 2).ok());
    let jitter_max = half.map_or(timing.jitter_max, |half| timing.jitter_max.min(half));
    later(slot, spread(timing.key, jitter_max))
}

/// A time from nothing to `most`, the same for each key.
fn spread(key: &str, most: Duration) -> SignedDuration {
    let hash = blake3::hash(key.as_bytes());
    let [first, second, third, fourth, ..] = *hash.as_bytes();
    let share = u64::from(u32::from_be_bytes([first, second, third, fourth]));
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    let milliseconds = (u128::from(most) * u128::from(share)) >> 32;
    SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
