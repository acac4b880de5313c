//! Sessions whose connection was lost, and that wait for their client: which there are, who may return to which, and what he
//! is asked.
//!
//! ```text
//! session ─lost→ add ─→ waits ──────────────── time, kill, policy, end of its program ─→ ends
//!                         │ claim (once) ─→ audit ─→ take
//!                         └──────────────────────────────→ the session of another connection
//! ```
//!
//! A session that waits stays with the task that watches over it until the very moment in which another one takes it, so
//! that there is always somebody who ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::room::{self, Full, Room};
use crate::policy::Access;
use crate::wire::Program;

/// Sessions of one identity that wait at the same time.
const WAITING_OF_ONE_MAX: usize = 4;
/// And of all of them: each keeps its processes, its terminal, and what was on it last.
const WAITING_MAX: usize = 64;

/// A session that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) name: String,
    /// The id of its container.
    pub(super) container: String,
    /// What it was begun, or gone on with, by.
    pub(super) access: Access,
    /// What its client asked for.
    pub(super) asked: Program,
    /// What runs.
    pub(super) program: Program,
    /// The same, without what a terminal would obey.
    pub(super) told: String,
    /// When it was started.
    pub(super) started: Timestamp,
    /// When its connection was lost.
    pub(super) lost: Timestamp,
}

/// Whether who has this access in a container may go on with a session that waits. Asked before he is told of it, and again
/// before he gets it.
pub(super) fn may_return(waiting: &Waiting, container: &str, access: &Access) -> bool {
    let runs = || access.program(waiting.asked.clone());
    waiting.container == container
        && access.linger().is_some()
        && access.continues(&waiting.access)
        && access.terminal().is_ok()
        && runs().is_ok_and(|chosen| chosen.program == waiting.program)
}

/// All of them. What is handed over is an `H`. Cloning is cheap.
#[derive(Debug)]
pub(super) struct Lingering<H> {
    room: Room,
    list: Arc<Mutex<BTreeMap<String, Entry<H>>>>,
    over: CancellationToken,
}

#[derive(Debug)]
struct Entry<H> {
    waiting: Arc<Waiting>,
    is_claimed: bool,
    requests: mpsc::Sender<oneshot::Sender<H>>,
}

impl<H> Entry<H> {
    /// Whether it is about this time that the session waits, and not about another.
    fn is_of(&self, waiting: &Arc<Waiting>) -> bool {
        Arc::ptr_eq(&self.waiting, waiting)
    }
}

/// A session's place among those that wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<H> {
    lingering: Lingering<H>,
    waiting: Arc<Waiting>,
    requests: mpsc::Receiver<oneshot::Sender<H>>,
    room: Option<room::Place>,
}

/// Nobody else may take this session as long as this is there.
#[derive(Debug)]
pub(super) struct Claim<H> {
    lingering: Lingering<H>,
    /// Which.
    pub(super) waiting: Arc<Waiting>,
    requests: mpsc::Sender<oneshot::Sender<H>>,
}

impl<H> Clone for Lingering<H> {
    fn clone(&self) -> Self {
        Self { room: self.room.clone(), list: Arc::clone(&self.list), over: self.over.clone() }
    }
}

impl<H> Default for Lingering<H> {
    fn default() -> Self {
        Self {
            room: Room::new(WAITING_OF_ONE_MAX, WAITING_MAX),
            list: Arc::default(),
            over: CancellationToken::new(),
        }
    }
}

impl<H> Lingering<H> {
    /// A session of this identity waits from now on, if there is room.
    pub(super) fn add(&self, who: &str, waiting: Waiting) -> Result<Place<H>, Full> {
        let room = self.room.take(who)?;
        let (sender, requests) = mpsc::channel(1);
        let waiting = Arc::new(waiting);
        let entry = Entry { waiting: Arc::clone(&waiting), is_claimed: false, requests: sender };
        self.lock().insert(waiting.name.clone(), entry);
        Ok(Place { lingering: self.clone(), waiting, requests, room: Some(room) })
    }

    /// Those that who has this access in a container may return to, the longest lost first.
    pub(super) fn of(&self, container: &str, access: &Access) -> Vec<Arc<Waiting>> {
        let list = self.lock();
        let free = list.values().filter(|entry| !entry.is_claimed).map(|entry| &entry.waiting);
        let may = |waiting: &&Arc<Waiting>| may_return(waiting, container, access);
        let mut found: Vec<_> = free.filter(may).cloned().collect();
        found.sort_by_key(|waiting| waiting.lost);
        found
    }

    /// Claims one of them; `None` when another one has, or it is gone, though it may wait again.
    pub(super) fn claim(&self, waiting: &Arc<Waiting>) -> Option<Claim<H>> {
        let mut list = self.lock();
        let entry = list.get_mut(&waiting.name);
        let entry = entry.filter(|entry| entry.is_of(waiting) && !entry.is_claimed)?;
        entry.is_claimed = true;
        Some(Claim {
            lingering: self.clone(),
            waiting: Arc::clone(&entry.waiting),
            requests: entry.requests.clone(),
        })
    }

    /// All of them end, and none waits any more.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Cancelled when all of them are to end.
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// It waits no more.
    fn remove(&self, waiting: &Arc<Waiting>) {
        let mut list = self.lock();
        // A session that was taken may be lost again, and wait by now.
        if list.get(&waiting.name).is_some_and(|entry| entry.is_of(waiting)) {
            list.remove(&waiting.name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry<H>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Place<H> {
    /// Where the session is to be handed over to. Safe to drop at its await.
    pub(super) async fn asked(&mut self) -> oneshot::Sender<H> {
        match self.requests.recv().await {
            Some(sender) => sender,
            // Its entry has the other end.
            None => std::future::pending().await,
        }
    }

    /// It counts no more among those that wait.
    pub(super) fn give_up_room(&mut self) {
        self.room = None;
    }
}

impl<H> Drop for Place<H> {
    fn drop(&mut self) {
        self.lingering.remove(&self.waiting);
    }
}

impl<H> Claim<H> {
    /// Takes the session; `None` when it has ended.
    pub(super) async fn take(&self) -> Option<H> {
        let (sender, handed) = oneshot::channel();
        self.requests.send(sender).await.ok()?;
        let handed = handed.await.ok()?;
        self.lingering.remove(&self.waiting);
        Some(handed)
    }
}

impl<H> Drop for Claim<H> {
    fn drop(&mut self) {
        // It may have been taken, or have ended.
        if let Some(entry) = self.lingering.lock().get_mut(&self.waiting.name)
            && entry.is_of(&self.waiting)
        {
            entry.is_claimed = false;
        }
    }
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// To return to this one, by its place in the list.
    Return(usize),
    /// A new session.
    New,
    /// Neither.
    GiveUp,
    /// Nothing that was asked for.
    Unclear,
}

/// Control-C and Control-D.
const GIVE_UP: [u8; 2] = [3, 4];

/// What is asked when these wait.
pub(super) fn question(waiting: &[Arc<Waiting>], now: Timestamp) -> String {
    let told = |one: &Waiting| {
        let started = one.started.strftime("%Y-%m-%d %H:%M UTC");
        let ago = Duration::try_from(now.duration_since(one.lost)).unwrap_or_default();
        format!("lost its connection {} ago (started {started}): {}", spoken(ago), one.told)
    };
    if let [one] = waiting {
        return format!("You have a session here that {}.\nReturn to it? [Y/n] ", told(one));
    }
    let mut text = "You have sessions here that wait for you:\n".to_owned();
    for (number, one) in waiting.iter().enumerate() {
        text.push_str(&format!("{:>4}  {}\n", number + 1, told(one)));
    }
    text.push_str("Return to which? Its number, or n for a new one [1]: ");
    text
}

/// What an answer means where so many wait. Nothing but Enter is the first one.
pub(super) fn meaning(answer: &[u8], count: usize) -> Answer {
    if answer.is_empty() || answer.iter().any(|byte| GIVE_UP.contains(byte)) {
        return Answer::GiveUp;
    }
    let answer = String::from_utf8_lossy(answer).trim().to_ascii_lowercase();
    match answer.as_str() {
        "n" | "no" => Answer::New,
        "" => Answer::Return(0),
        "y" | "yes" if count == 1 => Answer::Return(0),
        number => match number.parse::<usize>() {
            Ok(number) if (1..=count).contains(&number) => Answer::Return(number - 1),
            _ => Answer::Unclear,
        },
    }
}

/// A time as it is said.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests;
