//! Failures of single steps, and the messages between the processes of one session.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::sys;
use crate::wire::Exit;
use crate::wire::task::{Failure, FailureKind, Tools};

/// Files of the kernel are not read further. In bytes.
const KERNEL_FILE_MAX: u64 = 256 * 1024;
/// What one of our processes ends with when it fails in a way it cannot report.
pub const EXIT_BROKEN: u8 = 70;

/// The result of a step.
pub type Step<T> = Result<T, Failure>;

/// What C2 says to C1, and CX before it.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// CX has forked C2, and ends; with a pidfd of C2.
    Crossed,
    /// It has forked; with a pidfd of C3.
    Forked,
    /// It has no privileges any more.
    GaveUp,
    /// C3, whatever it has become, ended.
    Exited(Exit),
    /// No process of the session is left.
    Empty,
    /// It could not do its part.
    Failed(Failure),
}

/// What C1 says to C2.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// C1 is its parent now: fork C3.
    Begin,
    /// Become this user, without any privilege.
    GiveUp(Identity),
}

/// What C1 says to C3 when that asks for a toolbox.
#[derive(Debug, Serialize, Deserialize)]
pub enum GivenTools {
    /// The mount comes with this.
    Here,
    /// There is none.
    Unavailable {
        /// One sentence.
        reason: String,
    },
}

/// What C3 says to C1.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromProgram {
    /// It is in the session's cgroup and waits to be told what to run.
    Waits,
    /// The image lacks what the session is for: asks for [`GivenTools`], once.
    LacksTools,
    /// It knows who it will be; with the descriptors the broker gets.
    Connected(Identity),
    /// It is confined as it must be, and waits for permission: any message.
    Confined {
        /// Whether it goes on as a program of our own instead of executing one.
        is_own: bool,
        /// What came of a toolbox.
        tools: Tools,
    },
    /// It could not do its part.
    Failed(Failure),
}

/// Numbers of a user, as they are inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All additional groups.
    pub groups: Vec<u32>,
}

/// A failure of this kind.
#[must_use]
pub fn failure(kind: FailureKind, reason: impl Into<String>) -> Failure {
    Failure { kind, reason: reason.into() }
}

/// Errors turned into failures.
pub trait OrFail<T> {
    /// A failure of this kind. `what` says what was tried.
    fn or_fail(self, kind: FailureKind, what: impl Display) -> Step<T>;
    /// Likewise, unless the error itself means that the container is gone or out of resources.
    fn or_errno(self, kind: FailureKind, what: impl Display) -> Step<T>
    where
        Self: Sized;
}

impl<T, E: Into<io::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, kind: FailureKind, what: impl Display) -> Step<T> {
        self.map_err(|error| failure(kind, format!("{what}: {}", error.into())))
    }

    fn or_errno(self, kind: FailureKind, what: impl Display) -> Step<T> {
        self.map_err(|error| {
            let error = error.into();
            failure(kind_of(&error).unwrap_or(kind), format!("{what}: {error}"))
        })
    }
}

/// What an error means whatever was tried, if anything.
#[must_use]
pub fn kind_of(error: &io::Error) -> Option<FailureKind> {
    match Errno::from_io_error(error)? {
        Errno::SRCH | Errno::NODEV => Some(FailureKind::TargetGone),
        Errno::AGAIN
        | Errno::NOMEM
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOSPC
        | Errno::DQUOT
        | Errno::USERS => Some(FailureKind::Exhausted),
        _ => None,
    }
}

/// The text of a file of the kernel below an open directory.
pub fn kernel_file(directory: &impl AsFd, path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    read_text(rustix::fs::openat(directory, path, flags, Mode::empty())?)
}

/// The text of an open file of the kernel.
pub fn read_text(file: OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::from(file).take(KERNEL_FILE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to a file of the kernel below an open directory, in one piece.
pub fn write_kernel_file(directory: &impl AsFd, path: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    write_whole(&file, text)
}

/// Writes to an open file of the kernel, in one piece.
pub fn write_whole(file: &impl AsFd, text: &str) -> io::Result<()> {
    let written = rustix::io::retry_on_intr(|| rustix::io::write(file, text.as_bytes()))?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Runs the whole life of a forked process, and ends it. A panic never reaches the code of the parent.
pub fn live(life: impl FnOnce() -> u8) -> ! {
    sys::exit_now(catch_unwind(AssertUnwindSafe(life)).unwrap_or(EXIT_BROKEN))
}
