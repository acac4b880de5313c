//! Keeps queues on disk, by a thread of its own: `fsync` may take as long as a disk wants, and nobody who has something to tell
//! or to send waits for it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use chores_common::durable::DurableError;
use chores_common::exit::chain;

use super::Lane;
use crate::notify::queue::Queue;

/// How long the end waits for the disk.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// What writes a queue to its file.
pub(super) type Write = Box<dyn Fn(&Queue, &Path) -> Result<(), DurableError> + Send>;

/// What has changed, and how much of that is on disk.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Desk>);

#[derive(Debug, Default)]
struct Desk {
    changes: Mutex<Changes>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Changes {
    made: u64,
    kept: u64,
    is_over: bool,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Keeper {
    kept: Kept,
    ended: Receiver<()>,
}

impl Kept {
    /// Waits until everything that was changed before is on disk, or the disk has refused it: as long as that takes.
    pub fn wait(&self) {
        let mut changes = self.changes();
        let goal = changes.made;
        while changes.kept < goal {
            changes = self.moved(changes);
        }
    }

    /// Something has changed.
    pub(crate) fn change(&self) {
        let mut changes = self.changes();
        changes.made = changes.made.saturating_add(1);
        self.0.moved.notify_all();
    }

    /// The next change that is to be kept; `None` at the end.
    fn next(&self) -> Option<u64> {
        let mut changes = self.changes();
        while changes.made == changes.kept {
            if changes.is_over {
                return None;
            }
            changes = self.moved(changes);
        }
        Some(changes.made)
    }

    /// Everything up to this change is on disk.
    pub(crate) fn is_kept(&self, made: u64) {
        self.changes().kept = made;
        self.0.moved.notify_all();
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved<'a>(&self, changes: MutexGuard<'a, Changes>) -> MutexGuard<'a, Changes> {
        self.0.moved.wait(changes).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Begins to keep the queues of `lanes`. `lock` is held as long as anything may be written.
    pub(super) fn start(
        lanes: Vec<Arc<Lane>>,
        kept: Kept,
        lock: File,
        write: Write,
    ) -> io::Result<Self> {
        let (sender, ended) = mpsc::channel();
        let own = kept.clone();
        thread::Builder::new().name("keep notices".to_owned()).spawn(move || {
            while let Some(made) = own.next() {
                for lane in &lanes {
                    keep(lane, &write);
                }
                own.is_kept(made);
            }
            drop(lock);
            // Nobody may listen any more.
            sender.send(()).ok();
        })?;
        Ok(Self { kept, ended })
    }

    pub(super) fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// Has the rest kept, and waits for it, but not for ever.
    pub(super) fn finish(self) {
        self.kept.changes().is_over = true;
        self.kept.0.moved.notify_all();
        if self.ended.recv_timeout(FINISH_TIME_MAX).is_err() {
            let seconds = FINISH_TIME_MAX.as_secs();
            tracing::error!("notices are not kept on disk: it does not answer for {seconds} s");
        }
    }
}

/// Writes one queue, if it has changed; nobody waits for its lock meanwhile.
fn keep(lane: &Lane, write: &Write) {
    let queue = {
        let mut state = lane.state();
        if !std::mem::take(&mut state.is_unkept) {
            return;
        }
        state.queue.clone()
    };
    if let Err(error) = write(&queue, &lane.path) {
        let name = &lane.channel.name;
        tracing::error!("notices for {name} are not kept on disk: {}", chain(&error));
        // With whatever changes next.
        lane.state().is_unkept = true;
    }
}
