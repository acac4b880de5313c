//! Reads the log files of all containers in turn, in one thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;

use crate::intake::{Intake, IntakeClosed};
use crate::watch::{Change, Watch, WatchId};

use super::follow::{Follow, TURN_BYTES, Turn};
use super::mailbox::{Letter, Mailbox};

/// Pause after a container wrote something and all of it was read: what it writes meanwhile is read together.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause while a container is silent.
const QUIET_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Longest pause while the kernel would tell that a container is silent no more.
const WATCHED_PAUSE: Duration = Duration::from_secs(1);

/// Looks at a silent container before it is left to the kernel to tell.
const QUIET_LOOKS: u32 = 10;

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
    /// Tells of what silent containers write. Without it, they are looked at.
    watch: Option<Watch>,
    watched: HashMap<WatchId, String>,
}

#[derive(Debug)]
struct Scheduled {
    follow: Follow,
    due: Instant,
    pause: Duration,
    /// Everything was read at least once.
    is_drained: bool,
    /// Looks in a row that found nothing, after the longest pause.
    quiet: u32,
    /// The kernel tells of the next change.
    watch: Option<WatchId>,
}

impl Reader {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox>, intake: Intake) -> Self {
        let watch = Watch::new();
        if let Err(error) = &watch {
            tracing::debug!(%error, "silent containers are looked at ten times a second");
        }
        Self {
            mailbox,
            intake,
            follows: BTreeMap::new(),
            buffer: vec![0; TURN_BYTES],
            began: Instant::now(),
            watch: watch.ok(),
            watched: HashMap::new(),
        }
    }

    /// Reads until the shutdown, or, when nothing is posted any more, to the end of what there is.
    pub fn run(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let mut sleep = Duration::ZERO;
        while !shutdown.is_requested() {
            let (letters, is_closed) = self.mailbox.take(sleep);
            for (id, letter) in letters {
                self.open(&id, letter);
            }
            self.listen();
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
                scheduled.unwatch(self.watch.as_ref(), &mut self.watched);
                scheduled.wake();
            }
            (None, Some(opening), Some((facts, plan))) => {
                let follow =
                    Follow::begin(&facts, &plan, opening.format, files, opening.held, &self.intake);
                let scheduled = Scheduled {
                    follow,
                    due: Instant::now(),
                    pause: BUSY_PAUSE,
                    is_drained: false,
                    quiet: 0,
                    watch: None,
                };
                self.follows.insert(id.to_owned(), scheduled);
            }
            (None, ..) => return,
        }
        if is_gone && let Some(scheduled) = self.follows.get_mut(id) {
            scheduled.follow.gone();
        }
    }

    /// Wakes the silent ones that have written something.
    fn listen(&mut self) {
        let Some(watch) = self.watch.as_ref().filter(|_| !self.watched.is_empty()) else { return };
        let mut changes = Vec::new();
        if let Err(error) = watch.read(&mut changes) {
            tracing::debug!(%error, "silent containers are looked at ten times a second");
            self.watch = None;
            changes.push(Change::Overflow);
        }
        for change in changes {
            match change {
                Change::DirectoryGone(id) => {
                    let container = self.watched.remove(&id);
                    if let Some(scheduled) = container.and_then(|id| self.follows.get_mut(&id)) {
                        scheduled.watch = None;
                        scheduled.wake();
                    }
                }
                Change::Overflow => {
                    for scheduled in self.follows.values_mut() {
                        scheduled.unwatch(self.watch.as_ref(), &mut self.watched);
                        scheduled.wake();
                    }
                }
                Change::Name { .. } => {}
            }
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
                Turn::More => {
                    scheduled.unwatch(self.watch.as_ref(), &mut self.watched);
                    scheduled.due = now;
                }
                Turn::Read(0) => {
                    scheduled.is_drained = true;
                    let max = if scheduled.follow.is_running() {
                        QUIET_PAUSE_MAX
                    } else {
                        ENDED_PAUSE_MAX
                    };
                    scheduled.pause = (scheduled.pause * 2).min(max);
                    if scheduled.watch.is_some() {
                        scheduled.due = together(self.began, now + WATCHED_PAUSE, WATCHED_PAUSE);
                    } else if scheduled.pause < max {
                        scheduled.due = now + scheduled.pause;
                    } else {
                        scheduled.due = together(self.began, now + max, max);
                        scheduled.quiet = scheduled.quiet.saturating_add(1);
                        if scheduled.quiet >= QUIET_LOOKS
                            && let (Some(watch), Some(file)) =
                                (&self.watch, scheduled.follow.silent())
                            && let Ok(watch) = watch.add_once(file)
                        {
                            // Once more at the next look, which sees what came before it was watched.
                            scheduled.watch = Some(watch);
                            self.watched.insert(watch, id.clone());
                        }
                    }
                }
                Turn::Read(_) => {
                    scheduled.is_drained = true;
                    scheduled.unwatch(self.watch.as_ref(), &mut self.watched);
                    scheduled.wake();
                    scheduled.due = now + scheduled.pause;
                }
                Turn::Ended => ended.push(id.clone()),
            }
        }
        for id in ended {
            if let Some(mut scheduled) = self.follows.remove(&id) {
                scheduled.unwatch(self.watch.as_ref(), &mut self.watched);
            }
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
        self.quiet = 0;
    }

    /// What is read or changes is not left to the kernel to tell.
    fn unwatch(&mut self, watch: Option<&Watch>, watched: &mut HashMap<WatchId, String>) {
        let Some(id) = self.watch.take() else { return };
        watched.remove(&id);
        if let Some(watch) = watch {
            watch.remove(id);
        }
    }
}
