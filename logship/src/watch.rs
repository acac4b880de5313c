//! What changes in directories, from the kernel (`inotify(7)`), by name.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

#[cfg(test)]
mod tests;

/// Bytes of events that are read at once.
const EVENTS_BYTES: usize = 64 << 10;

/// A watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(i32);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something about a name: created, renamed to or from, removed, written or closed.
    Name {
        /// Where.
        directory: WatchId,
        /// In it.
        name: OsString,
        /// What about it.
        what: What,
    },
    /// The directory itself is gone, or the file of [`Watch::add_once`] has changed; it is not watched any more.
    DirectoryGone(WatchId),
    /// The kernel dropped events: everything may have changed.
    Overflow,
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The name is new, or now means another file.
    Appeared,
    /// The name is gone, or means nothing any more.
    Vanished,
    /// The content or size changed.
    Written,
    /// A writer closed it.
    Closed,
}

/// Watches directories.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

/// Events about what names in a directory mean.
fn names() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Watches `directory`; the same one twice has one id.
    pub fn add(&self, directory: &Path) -> io::Result<WatchId> {
        let flags = names() | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
        Ok(WatchId(inotify::add_watch(&self.inotify, directory, flags)?))
    }

    /// The same, for what names mean only: a busy writer makes no event.
    pub fn add_names(&self, directory: &Path) -> io::Result<WatchId> {
        Ok(WatchId(inotify::add_watch(&self.inotify, directory, names())?))
    }

    /// Tells once of the next change of what an open file holds, or of its end, whatever its name is by then.
    pub fn add_once(&self, file: &File) -> io::Result<WatchId> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        Ok(WatchId(inotify::add_watch(&self.inotify, path, flags)?))
    }

    /// Watches it no more. One that is gone already is no error.
    pub fn remove(&self, directory: WatchId) {
        match inotify::remove_watch(&self.inotify, directory.0) {
            // The kernel removed it with the directory.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => tracing::debug!(%error, "cannot end a watch"),
        }
    }

    /// Waits until something changes, at most `time`, and adds what did to `changes`.
    pub fn wait(&self, time: Duration, changes: &mut Vec<Change>) -> io::Result<()> {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => self.read(changes),
            Err(error) => Err(error.into()),
        }
    }

    /// What has changed until now.
    pub fn read(&self, changes: &mut Vec<Change>) -> io::Result<()> {
        let mut buffer = vec![MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (flags, directory) = (event.events(), WatchId(event.wd()));
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Overflow);
            } else if flags
                .intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED)
            {
                changes.push(Change::DirectoryGone(directory));
            } else if let Some(name) = event.file_name() {
                let name = OsString::from_vec(name.to_bytes().to_vec());
                let what = if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    What::Appeared
                } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                    What::Vanished
                } else if flags.contains(ReadFlags::CLOSE_WRITE) {
                    What::Closed
                } else {
                    What::Written
                };
                changes.push(Change::Name { directory, name, what });
            }
        }
    }
}
