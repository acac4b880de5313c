//! Files that our own rotation has removed where nobody can say whether they have writers: they stay open, so that what
//! a writer adds is read all the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::files::desk::{Answer, Hold};
use crate::proof::FileFacts;

#[cfg(test)]
mod tests;

/// How long a file is held. A writer that says nothing for longer, and then something, is not heard.
pub const HELD_TIME: Duration = Duration::from_hours(4);

/// Files that are held at the most, each by a descriptor.
const HELD_MAX: usize = 128;

/// The files, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Held {
    files: VecDeque<(Hold, Instant)>,
}

impl Held {
    /// Holds one more; not when there are too many, so that their rotation is slower rather than blind.
    pub(super) fn take(&mut self, hold: Hold) -> Answer {
        if self.files.iter().any(|(held, _)| held.identity == hold.identity) {
            return Answer::Done;
        }
        if self.files.len() >= HELD_MAX {
            return Answer::NotNow("too many removed files may have a writer".to_owned());
        }
        self.files.push_back((hold, Instant::now()));
        Answer::Done
    }

    /// Lets go of those that are not what they were when they were removed, and gives them back; those that were held
    /// for long enough are closed.
    pub(super) fn grown(&mut self) -> Vec<Hold> {
        self.files.retain(|(_, since)| since.elapsed() < HELD_TIME);
        let has_grown =
            |hold: &Hold| FileFacts::of(&hold.file).is_ok_and(|is| is.size != hold.bytes);
        let (grown, same) = self.files.drain(..).partition(|(hold, _)| has_grown(hold));
        self.files = same;
        let grown: VecDeque<(Hold, Instant)> = grown;
        grown.into_iter().map(|(hold, _)| hold).collect()
    }
}
