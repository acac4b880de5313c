//! Work for the threads that read: in the order of the tree, bounded, and a large file is shared by all who
//! have nothing else to do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use super::worker::{Done, LargeJob, Wanted};

/// Tasks that may wait: enough to keep all threads busy while the walk reads a slow directory.
const TASKS_MAX: usize = 32;

/// Something to read.
#[derive(Debug)]
pub(super) enum Task {
    /// Neighbouring paths of any kind, read one after the other.
    Batch { wanted: Vec<Wanted>, done: Sender<Vec<Done>> },
    /// A file worth sharing.
    Large { wanted: Wanted, done: Sender<Vec<Done>> },
}

/// What a thread does next.
#[derive(Debug)]
pub(super) enum Next {
    Task(Task),
    /// Help with a file another thread has opened.
    Help(Arc<LargeJob>),
}

#[derive(Debug, Default)]
pub(super) struct TaskQueue {
    state: Mutex<State>,
    changed: Condvar,
}

/// See [`TaskQueue::close_on_drop`].
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a>(&'a TaskQueue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug, Default)]
struct State {
    tasks: VecDeque<Task>,
    shared: Vec<Arc<LargeJob>>,
    closed: bool,
}

impl TaskQueue {
    /// Appends a task; waits while the queue is full.
    pub(super) fn push(&self, task: Task) {
        let mut state = self.lock();
        while state.tasks.len() >= TASKS_MAX && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Closed this early only when a reader panicked: the task's results never come then.
        if !state.closed {
            state.tasks.push_back(task);
            self.changed.notify_all();
        }
    }

    /// Lets other threads help with `job`.
    pub(super) fn share(&self, job: &Arc<LargeJob>) {
        self.lock().shared.push(Arc::clone(job));
        self.changed.notify_all();
    }

    /// No more tasks will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closes the queue however the walk ends, so that the readers end too.
    pub(super) fn close_on_drop(&self) -> CloseOnDrop<'_> {
        CloseOnDrop(self)
    }

    /// Closes the queue and forgets what is in it: a reader panicked.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.tasks.clear();
        state.shared.clear();
        self.changed.notify_all();
    }

    /// What to do next; `None` when all is done.
    pub(super) fn next(&self) -> Option<Next> {
        let mut state = self.lock();
        loop {
            // Before anything else: each job kept here keeps its file open.
            state.shared.retain(|job| !job.is_ended());
            if let Some(task) = state.tasks.pop_front() {
                self.changed.notify_all();
                return Some(Next::Task(task));
            }
            if let Some(job) = state.shared.first() {
                return Some(Next::Help(Arc::clone(job)));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
