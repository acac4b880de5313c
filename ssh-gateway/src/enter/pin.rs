//! Which process is a container's first, so that no other can be taken for it.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use std::os::fd::OwnedFd;

use super::step::{OrFail as _, Step, failure, kernel_file};
use super::sys;
use crate::wire::task::{FailureKind, Pin};

/// Hexadecimal digits of a container's id.
const ID_DIGITS: usize = 64;
/// PROC_SUPER_MAGIC (statfs(2)).
const PROC_MAGIC: u64 = 0x9fa0;

/// A pinned first process. While this exists, its number may be used again, but not for `process` and `pidfd`.
#[derive(Debug)]
pub struct Pinned {
    /// Its number in our pid namespace.
    pub pid: Pid,
    /// The process itself.
    pub pidfd: OwnedFd,
    /// Our own `/proc`: the host's.
    pub proc: OwnedFd,
    /// Its directory there.
    pub process: OwnedFd,
    /// Content of its `cgroup` file.
    pub cgroup: String,
}

impl Pinned {
    /// Pins the process, and proves that it belongs to the container.
    pub fn new(pin: &Pin) -> Step<Self> {
        if !is_container_id(&pin.container_id) {
            return Err(failure(FailureKind::Other, "a container id has 64 hexadecimal digits"));
        }
        let pid = Some(pin.pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
            .ok_or_else(|| failure(FailureKind::TargetGone, "the container has no process"))?;
        let proc = host_proc()?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).or_errno(
            FailureKind::TargetGone,
            format_args!("the first process of the container, {}", pin.pid),
        )?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = rustix::fs::openat(&proc, pin.pid.to_string().as_str(), flags, Mode::empty())
            .or_fail(FailureKind::TargetGone, "/proc of the container's first process")?;
        let cgroup = kernel_file(&process, "cgroup")
            .or_fail(FailureKind::TargetGone, "cgroup of the container's first process")?;
        let pinned = Self { pid, pidfd, proc, process, cgroup };
        // Still alive: so the directory opened meanwhile is of the same process.
        pinned.check_alive()?;
        if !names_container(&pinned.cgroup, &pin.container_id) {
            let reason = format!("process {} is not of the container any more", pin.pid);
            return Err(failure(FailureKind::TargetGone, reason));
        }
        Ok(pinned)
    }

    /// Fails when the process has ended.
    pub fn check_alive(&self) -> Step<()> {
        sys::send_signal(&self.pidfd, 0, false)
            .or_errno(FailureKind::TargetGone, "the first process of the container")
    }
}

/// Our own `/proc`, proved to be one.
fn host_proc() -> Step<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc =
        rustix::fs::open("/proc", flags, Mode::empty()).or_fail(FailureKind::NotNative, "/proc")?;
    let found = rustix::fs::fstatfs(&proc).or_fail(FailureKind::NotNative, "/proc")?;
    if u64::try_from(found.f_type).ok() == Some(PROC_MAGIC) {
        Ok(proc)
    } else {
        Err(failure(FailureKind::NotNative, "/proc of the gateway is not a proc file system"))
    }
}

fn is_container_id(id: &str) -> bool {
    id.len() == ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a `/proc/PID/cgroup` has a path with this id in it, not as part of a longer one.
#[must_use]
pub fn names_container(cgroup: &str, id: &str) -> bool {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
        path.split(|character: char| !character.is_ascii_hexdigit()).any(|part| part == id)
    })
}

#[cfg(test)]
mod tests;
