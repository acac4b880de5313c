//! Seccomp filters (seccomp(2), ptrace(2)): reading the one a runtime gave to a container's first process, and the
//! small one of our own supervisor.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::step::{OrFail as _, Step, failure};
use super::sys::{self, INSTRUCTION_BYTES, INSTRUCTIONS_MAX};
use crate::wire::task::FailureKind;

/// Longer, a process is not waited for until it stops.
const STOP_TIME: Duration = Duration::from_secs(2);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_micros(50);
/// No process has more filters on top of each other that we would walk over.
const FILTERS_MAX: usize = 64;
/// `__WALL` (waitpid(2)).
const WAIT_ALL: WaitOptions = WaitOptions::from_bits_retain(0x4000_0000);
/// `PTRACE_EVENT_STOP`.
const EVENT_STOP: i32 = 128;

/// Class and kind of an instruction that ends a filter: BPF_RET with a constant, and with the accumulator.
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
/// SECCOMP_RET_ACTION_FULL: the part of a returned value that says what to do.
const ACTION: u32 = 0xffff_0000;
/// SECCOMP_RET_USER_NOTIF.
const USER_NOTIFICATION: u32 = 0x7fc0_0000;

/// The filter that a runtime gave to a process: the oldest. Newer ones are the application's own and are not
/// copied. Empty when it has none.
pub fn read(pid: Pid) -> Step<Vec<u8>> {
    const WHAT: &str = "reading the seccomp filter of the container's first process";
    const NEEDS: &str = " (the gateway needs --cap-add SYS_PTRACE and SYS_ADMIN, and \
        --security-opt seccomp=unconfined; nobody else may trace the process)";
    let what = format!("{WHAT}{NEEDS}");
    check_parent(pid)?;
    sys::trace_seize(pid).or_errno(FailureKind::NotNative, &what)?;
    sys::trace_interrupt(pid).or_errno(FailureKind::NotNative, &what)?;
    let pending = wait_for_stop(pid)?;
    let filter = oldest_filter(pid);
    // It may have been killed meanwhile; otherwise it goes on when we end, if not here.
    sys::trace_detach(pid, pending).or_errno(FailureKind::Other, WHAT)?;
    let filter = filter.or_errno(FailureKind::NotNative, &what)?;
    check(&filter)?;
    Ok(filter)
}

/// The oldest filter is the runtime's only if the runtime itself had none: a filter that was inherited is older.
fn check_parent(pid: Pid) -> Step<()> {
    const WHAT: &str = "whether the runtime itself has a seccomp filter";
    let value = |pid: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).ok_or(io::ErrorKind::InvalidData.into())
    };
    let pid = pid.as_raw_nonzero().to_string();
    let parent: io::Result<String> = value(&pid, "PPid");
    let mode = parent.and_then(|parent| value(&parent, "Seccomp"));
    match mode.or_fail(FailureKind::NotNative, WHAT)?.as_str() {
        "0" => Ok(()),
        _ => {
            let reason = "the runtime itself runs under a seccomp filter, so that the container's \
                          own cannot be told from it";
            Err(failure(FailureKind::NotNative, reason))
        }
    }
}

/// Waits until a process has stopped; gives the signal that it was about to get.
fn wait_for_stop(pid: Pid) -> Step<i32> {
    let deadline = Instant::now() + STOP_TIME;
    loop {
        let changed = waitpid(Some(pid), WaitOptions::NOHANG | WAIT_ALL)
            .or_fail(FailureKind::Other, "waiting for a traced process")?;
        match changed {
            Some((_, status)) => {
                return pending_signal(status).ok_or_else(|| {
                    failure(FailureKind::TargetGone, "the first process of the container ended")
                });
            }
            None if Instant::now() >= deadline => {
                let reason = "the first process of the container does not stop to show its \
                              seccomp filter: it is frozen, or waits for a device";
                return Err(failure(FailureKind::TimedOut, reason));
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

/// The signal that a stopped process was about to get: none when it stopped only because of us. `None` when it
/// did not stop but end.
fn pending_signal(status: WaitStatus) -> Option<i32> {
    let signal = status.stopping_signal()?;
    let is_ours = (status.as_raw() as u32 >> 16) == EVENT_STOP as u32;
    Some(if is_ours { 0 } else { signal })
}

fn oldest_filter(pid: Pid) -> io::Result<Vec<u8>> {
    let mut oldest = Vec::new();
    for index in 0..FILTERS_MAX {
        match sys::trace_filter(pid, index)? {
            Some(filter) => oldest = filter,
            None => return Ok(oldest),
        }
    }
    Err(io::Error::other("too many filters"))
}

/// Fails for a filter that cannot be installed a second time with the same effect.
pub fn check(instructions: &[u8]) -> Step<()> {
    let refuse = |reason: &str| Err(failure(FailureKind::Confinement, reason));
    if !instructions.len().is_multiple_of(INSTRUCTION_BYTES)
        || instructions.len() > INSTRUCTIONS_MAX * INSTRUCTION_BYTES
    {
        return refuse("a seccomp filter that is cut off or too long");
    }
    for instruction in instructions.chunks_exact(INSTRUCTION_BYTES) {
        let &[a, b, _, _, ref value @ ..] = instruction else { continue };
        let value = <[u8; 4]>::try_from(value).map_or(0, u32::from_ne_bytes);
        match u16::from_ne_bytes([a, b]) {
            RETURN_CONSTANT if value & ACTION == USER_NOTIFICATION => {
                return refuse(
                    "the container's seccomp filter asks a supervisor (SECCOMP_RET_USER_NOTIF): \
                     that cannot be reproduced",
                );
            }
            RETURN_ACCUMULATOR => {
                return refuse("the container's seccomp filter computes what it returns");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Installs a filter on the calling process.
pub fn install(instructions: &[u8]) -> Step<()> {
    sys::install_filter(instructions)
        .or_fail(FailureKind::Confinement, "installing the container's seccomp filter")
}

/// The filter of the supervisor: to wait, to collect, to say so, to kill, and to end. All else is refused.
pub fn of_supervisor() -> Step<BpfProgram> {
    let allowed = [
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_wait4,
        libc::SYS_waitid,
        // As the user it has become, without a capability.
        libc::SYS_kill,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit_group,
        libc::SYS_exit,
    ];
    let rules: BTreeMap<_, _> = allowed.into_iter().map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    std::env::consts::ARCH
        .try_into()
        .and_then(|arch| SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch))
        .and_then(BpfProgram::try_from)
        .map_err(|error| {
            let reason = format!("the supervisor's own seccomp filter: {error}");
            failure(FailureKind::NotNative, reason)
        })
}

/// A compiled filter as it is installed.
#[must_use]
pub fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * INSTRUCTION_BYTES);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests;
