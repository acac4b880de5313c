//! Which records are to be uploaded next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::broker::recording;
use crate::upload_state::Entry;

/// A file of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    /// Its path there, which is its key in the store.
    pub(super) key: String,
    pub(super) bytes: u64,
    /// In seconds of the epoch.
    pub(super) modified: i64,
}

impl Local {
    /// Its path below the directory of recordings, if it is one.
    fn recording(&self) -> Option<&str> {
        self.key.strip_prefix(recording::DIRECTORY)?.strip_prefix('/')
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording().is_some()
    }
}

/// One that is to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) local: Local,
}

/// Of these files those that nobody writes to and the store has not, the oldest first. `running` are recordings, below their
/// directory. Recordings that the store has are due, too, where they are to be removed: they are looked at there once more.
pub(super) fn due(
    local: Vec<Local>,
    running: &BTreeSet<String>,
    done: &BTreeMap<String, Entry>,
    taken: &BTreeMap<String, Instant>,
    removes: bool,
) -> Vec<Due> {
    let is_due = |local: &Local| {
        let is_running = local.recording().is_some_and(|name| running.contains(name));
        // Another one may have come to be under an old name.
        let is_done = done
            .get(&local.key)
            .is_some_and(|entry| (entry.bytes, entry.modified) == (local.bytes, local.modified));
        let is_kept = is_done && !(removes && local.is_recording());
        !is_running && !is_kept && !taken.contains_key(&local.key)
    };
    let mut due: Vec<_> = local.into_iter().filter(is_due).map(|local| Due { local }).collect();
    due.sort_by(|one, other| {
        (one.local.modified, &one.local.key).cmp(&(other.local.modified, &other.local.key))
    });
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(key: &str, bytes: u64, modified: i64) -> Local {
        Local { key: key.to_owned(), bytes, modified }
    }

    fn done(key: &str, bytes: u64, modified: i64) -> (String, Entry) {
        let (sha256, time) = (String::new(), String::new());
        (key.to_owned(), Entry { file: key.to_owned(), bytes, modified, sha256, time })
    }

    #[test]
    fn what_is_finished_and_not_there_is_due_the_oldest_first() {
        let files = vec![
            local("recordings/d/new", 1, 30),
            local("recordings/d/running", 1, 20),
            local("audit/audit-00000001.jsonl", 9, 10),
            local("recordings/d/done", 5, 5),
            local("recordings/d/other", 5, 6),
            local("recordings/d/taken", 5, 1),
        ];
        let running = BTreeSet::from(["d/running".to_owned()]);
        let known = BTreeMap::from([
            done("recordings/d/done", 5, 5),
            // A file of another length, and one of another time, are others.
            done("recordings/d/other", 4, 6),
            done("audit/audit-00000001.jsonl", 9, 9),
        ]);
        let taken = BTreeMap::from([("recordings/d/taken".to_owned(), Instant::now())]);
        let keys = |removes| -> Vec<String> {
            let due = due(files.clone(), &running, &known, &taken, removes);
            due.into_iter().map(|due| due.local.key).collect()
        };
        let new = ["recordings/d/other", "audit/audit-00000001.jsonl", "recordings/d/new"];
        assert_eq!(keys(false), new);
        // What is to go, and could not yet.
        assert_eq!(keys(true), [["recordings/d/done"].as_slice(), &new].concat());
    }

    #[test]
    fn only_recordings_are_recordings() {
        assert!(local("recordings/d/one", 1, 1).is_recording());
        assert!(!local("audit/audit-00000001.jsonl", 1, 1).is_recording());
        assert!(!local("recordings-of-others/one", 1, 1).is_recording());
    }
}
