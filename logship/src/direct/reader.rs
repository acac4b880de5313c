//! Reads the log files of all containers in turn, in one thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;

use crate::intake::{Intake, IntakeClosed};

use super::follow::{Follow, TURN_BYTES, Turn};
use super::mailbox::{Letter, Mailbox};

/// Pause after a container wrote something and all of it was read: what it writes meanwhile is read together.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause while a container is silent.
const QUIET_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Longest pause while a container does not run.
const ENDED_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Shortest sleep, so that many busy containers are looked at together.
const SLEEP_MIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;

/// The reading thread.
#[derive(Debug)]
pub struct Reader {
    mailbox: Arc<Mailbox>,
    intake: Intake,
    follows: BTreeMap<String, Scheduled>,
    buffer: Vec<u8>,
    began: Instant,
}

#[derive(Debug)]
struct Scheduled {
    follow: Follow,
    due: Instant,
    pause: Duration,
    /// Everything was read at least once.
    is_drained: bool,
}

impl Reader {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox>, intake: Intake) -> Self {
        let (follows, buffer) = (BTreeMap::new(), vec![0; TURN_BYTES]);
        Self { mailbox, intake, follows, buffer, began: Instant::now() }
    }

    /// Reads until the shutdown, or, when nothing is posted any more, to the end of what there is.
    pub fn run(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let mut sleep = Duration::ZERO;
        while !shutdown.is_requested() {
            let (letters, is_closed) = self.mailbox.take(sleep);
            for (id, letter) in letters {
                self.open(&id, letter);
            }
            self.turns(shutdown)?;
            if is_closed && self.follows.values().all(|scheduled| scheduled.is_drained) {
                let mut follows = self.follows.values_mut();
                return follows.try_for_each(|scheduled| scheduled.follow.finish(&self.intake));
            }
            let now = Instant::now();
            let due = self.follows.values().map(|scheduled| scheduled.due).min();
            sleep = due.map_or(QUIET_PAUSE_MAX, |due| due.saturating_duration_since(now));
            if !sleep.is_zero() {
                sleep = sleep.clamp(SLEEP_MIN, QUIET_PAUSE_MAX);
            }
        }
        Ok(())
    }

    fn open(&mut self, id: &str, letter: Letter) {
        let Letter { opening, files, facts, is_gone } = letter;
        match (self.follows.get_mut(id), opening, facts) {
            // The same id cannot be made twice: an opening for a known one does not come.
            (Some(scheduled), _, facts) => {
                for file in files {
                    scheduled.follow.add(file);
                }
                if let Some((facts, plan)) = facts {
                    scheduled.follow.update(&facts, &plan, &self.intake);
                }
                scheduled.wake();
            }
            (None, Some(opening), Some((facts, plan))) => {
                let follow =
                    Follow::begin(&facts, &plan, opening.format, files, opening.held, &self.intake);
                let scheduled =
                    Scheduled { follow, due: Instant::now(), pause: BUSY_PAUSE, is_drained: false };
                self.follows.insert(id.to_owned(), scheduled);
            }
            (None, ..) => return,
        }
        if is_gone && let Some(scheduled) = self.follows.get_mut(id) {
            scheduled.follow.gone();
        }
    }

    /// One turn for everyone whose time has come.
    fn turns(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let now = Instant::now();
        let mut ended = Vec::new();
        for (id, scheduled) in &mut self.follows {
            if scheduled.due > now {
                continue;
            }
            if shutdown.is_requested() {
                break;
            }
            match scheduled.follow.turn(&mut self.buffer, &self.intake)? {
                Turn::More => scheduled.due = now,
                Turn::Read(0) => {
                    scheduled.is_drained = true;
                    let max = if scheduled.follow.is_running() {
                        QUIET_PAUSE_MAX
                    } else {
                        ENDED_PAUSE_MAX
                    };
                    scheduled.pause = (scheduled.pause * 2).min(max);
                    scheduled.due = if scheduled.pause == max {
                        together(self.began, now + max, max)
                    } else {
                        now + scheduled.pause
                    };
                }
                Turn::Read(_) => {
                    scheduled.is_drained = true;
                    scheduled.pause = BUSY_PAUSE;
                    scheduled.due = now + scheduled.pause;
                }
                Turn::Ended => ended.push(id.clone()),
            }
        }
        for id in ended {
            self.follows.remove(&id);
        }
        if self.buffer.len() > TURN_BYTES {
            self.buffer = vec![0; TURN_BYTES];
        }
        Ok(())
    }
}

/// The last moment up to `at` that is a multiple of `step` after `began`: the silent ones are looked at together, a
/// few times a second, instead of each at its own time.
fn together(began: Instant, at: Instant, step: Duration) -> Instant {
    let since = at.saturating_duration_since(began).as_nanos();
    let over = since.checked_rem(step.as_nanos()).and_then(|over| u64::try_from(over).ok());
    at.checked_sub(Duration::from_nanos(over.unwrap_or(0))).unwrap_or(at)
}

impl Scheduled {
    fn wake(&mut self) {
        self.due = Instant::now();
        self.pause = BUSY_PAUSE;
    }
}
