//! How many files the process may have open, and the sign that it has no more.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[cfg(test)]
pub(crate) mod tests;

/// Raises the limit of open files to the most that is allowed: the soft one is low for the sake of programs that
/// cannot count further than 1024.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = raised(limit) else { return };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => tracing::debug!(
            from = limit.current,
            to = wanted.current,
            "more files may be open at the same time"
        ),
        Err(error) => tracing::debug!(%error, "the limit of open files stays as it is"),
    }
}

/// What the limit is to become, unless that is what it is. `None` in it is no limit.
fn raised(limit: Rlimit) -> Option<Rlimit> {
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    (limit.current != wanted.current).then_some(wanted)
}

/// Whether something failed only because the process, or the machine, has no file descriptors left: it may well
/// succeed a moment later, and says nothing about the file.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).map(Some).contains(&error.raw_os_error())
}
