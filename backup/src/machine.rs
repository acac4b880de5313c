//! What tells machines apart that have one name and whose engines say that they are the same, since one was made as a copy of
//! the other.
//!
//! The kernel draws a number at each boot. Two numbers may be two boots of one machine; but a machine is up once at a time, so
//! what was made under another number since this one came up was made elsewhere.

use std::collections::BTreeMap;
use std::fs;

use jiff::{SignedDuration, Timestamp};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

#[cfg(test)]
mod tests;

/// The label with the node of a Swarm that a snapshot's engine is.
pub const NODE_TAG: &str = "chores.node";

/// The label with the boot of the machine that made a snapshot.
pub const BOOT_TAG: &str = "chores.boot";

/// The number of the boot (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Longest number of a boot, in bytes: it is a UUID.
const BOOT_ID_BYTES_MAX: usize = 64;

/// How far the clocks of two machines may be apart.
const CLOCKS_APART_MAX: SignedDuration = SignedDuration::from_secs(30);

/// How far ahead of now a time may be before the clock is taken to have jumped.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Clock ticks of a second in files of `/proc` (`USER_HZ`, the same everywhere on Linux).
const TICKS_PER_SECOND: u64 = 100;

/// Field of `/proc/PID/stat` behind the program's name that has the start time, counted from 0
/// (proc_pid_stat(5): field 22, where the name is field 2).
const START_FIELD: usize = 19;

/// A boot of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// What the kernel calls it.
    pub id: String,
    /// Since when it lasts, by the clock as it is now.
    pub began: Timestamp,
}

impl Boot {
    /// The present one, which is called so; `None` where nobody can say since when it lasts.
    #[must_use]
    pub fn present(id: &str, now: Timestamp) -> Option<Self> {
        let up = boot_seconds().checked_sub(masked_since()?)?;
        let up = SignedDuration::from_secs(i64::try_from(up).ok()?);
        Some(Self { id: id.to_owned(), began: now.checked_sub(up).ok()? })
    }

    /// Whether a snapshot that was begun then was made by another machine, while this one was up. What is dated ahead of now says
    /// nothing.
    #[must_use]
    pub fn is_elsewhere(
        &self,
        time: Timestamp,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> bool {
        tags.get(BOOT_TAG).is_some_and(|theirs| *theirs != self.id)
            && time.duration_since(self.began) > CLOCKS_APART_MAX
            && time.duration_since(now) <= AHEAD_MAX
    }
}

/// What the kernel calls the present boot; `None` where it does not say.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    let id = text.trim();
    let is_id = !id.is_empty()
        && id.len() <= BOOT_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then(|| id.to_owned())
}

/// Since when the number of the boot is what it is, in seconds since the machine came up. A container of LXC has a number of its own for
/// as long as its first process lives, in a file over the kernel's one.
fn masked_since() -> Option<u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    if is_masked(&mounts) { Some(start_of(1)? / TICKS_PER_SECOND) } else { Some(0) }
}

/// Whether something lies over the number of the boot (proc_pid_mountinfo(5): the fifth field is the place).
fn is_masked(mounts: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(BOOT_ID))
}

/// What is seen of the process that has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was started then, in clock ticks since the machine came up.
    Since(u64),
    /// There is one, and `/proc` does not show it: it is mounted with `hidepid`, and what keeps its secrets is hidden from its own
    /// user too.
    Hidden,
    /// There is none.
    Nobody,
}

/// Looks for the process with an id.
pub(crate) fn see(pid: u32) -> Seen {
    let there = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
    seen(start_of(pid), there.unwrap_or(Err(Errno::SRCH)))
}

/// By its start time, and by whether a signal would find it (kill(2)).
fn seen(start: Option<u64>, there: Result<(), Errno>) -> Seen {
    match (start, there) {
        (Some(start), _) => Seen::Since(start),
        (None, Err(Errno::SRCH)) => Seen::Nobody,
        (None, _) => Seen::Hidden,
    }
}

/// When a process was started, in clock ticks since the machine came up.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may have parentheses and spaces in it.
fn start_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(START_FIELD)?.parse().ok()
}

/// Seconds since the machine came up, by a clock that nobody sets.
pub(crate) fn boot_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}
