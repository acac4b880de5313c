//! Writes what is remembered and how it is doing, by a thread of its own: the loop waits for no disk, so one that hangs holds up no
//! backup.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::exit::chain;

use super::health;
use super::report::Report;
use super::state::{Place, State};
use crate::notify::Kept;

#[cfg(test)]
mod tests;

/// How long the end waits for the disk.
pub(super) const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// The thread and what it has to write.
#[derive(Debug)]
pub(super) struct Scribe {
    desk: Arc<Desk>,
    ended: Receiver<()>,
    /// What was handed over last.
    state: Option<Arc<State>>,
}

/// What lies between the loop and the thread: the last of each, and nothing that was before.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pages {
    next: Option<Page>,
    /// Since when the disk is waited for.
    busy_since: Option<Instant>,
    is_over: bool,
}

#[derive(Debug)]
struct Page {
    state: Arc<State>,
    report: Report,
}

impl Scribe {
    /// Begins to write at `place`. A state is written when `notices` are on disk: what it says was told must not get lost.
    pub(super) fn start(place: Place, notices: Kept) -> io::Result<Self> {
        let (sender, ended) = mpsc::channel();
        let desk = Arc::new(Desk::default());
        let own = desk.clone();
        thread::Builder::new().name("scribe".to_owned()).spawn(move || {
            write(&own, &place, &notices);
            health::withdraw(place.directory());
            drop(place);
            // Nobody may listen any more.
            sender.send(()).ok();
        })?;
        Ok(Self { desk, ended, state: None })
    }

    /// Hands over what is to be written; what was not yet written before is left out.
    pub(super) fn hand(&mut self, state: &State, report: Report) {
        let known = self.state.take().filter(|known| **known == *state);
        let state = known.unwrap_or_else(|| Arc::new(state.clone()));
        self.state = Some(state.clone());
        self.desk.pages().next = Some(Page { state, report });
        self.desk.changed.notify_all();
    }

    /// What it hangs at, for others to look at.
    pub(super) fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    /// Has the rest written and takes back what says that it lives, but does not wait for ever.
    pub(super) fn finish(self) {
        self.desk.pages().is_over = true;
        self.desk.changed.notify_all();
        if self.ended.recv_timeout(FINISH_TIME_MAX).is_err() {
            let seconds = FINISH_TIME_MAX.as_secs();
            tracing::error!(
                "the disk of the state directory does not answer for {seconds} s: what happened last is not remembered"
            );
        }
    }
}

impl Desk {
    /// For how long the disk has been waited for.
    pub(super) fn hangs_for(&self) -> Option<Duration> {
        self.pages().busy_since.map(|since| since.elapsed())
    }

    /// The next page; `None` at the end.
    fn next(&self) -> Option<Page> {
        let mut pages = self.pages();
        pages.busy_since = None;
        loop {
            if let Some(page) = pages.next.take() {
                pages.busy_since = Some(Instant::now());
                return Some(page);
            }
            if pages.is_over {
                return None;
            }
            pages = self.changed.wait(pages).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(desk: &Desk, place: &Place, notices: &Kept) {
    let mut written: Option<Arc<State>> = None;
    while let Some(Page { state, report }) = desk.next() {
        health::tell(place.directory(), report);
        if written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &state)) {
            continue;
        }
        notices.wait();
        match place.save(&state) {
            Ok(()) => written = Some(state),
            // It is learned again from the repository.
            Err(error) => tracing::error!("{}", chain(&error)),
        }
    }
}
