//! CX: goes over into the container for C1, and leaves C2 there.
//!
//! It is never seen from inside: it stays in the host's pid namespace, and only what it forks is in the
//! container's. So it does whatever needs something of the host (its `/proc`, its cgroups, a pidfd), closes all of
//! that, and only then forks. What a container that may trace finds in C2 and C3 is theirs from birth: two sockets.
//!
//! C1 adopts C2 when CX ends: it is a subreaper, in the same pid namespace as CX.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socket_with};
use rustix::process::{PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};
use rustix::thread::{CpuSet, ThreadNameSpaceType, sched_setaffinity};

use super::cgroup::{self, SessionGroup};
use super::limits;
use super::pin::Pinned;
use super::scheduling;
use super::step::{FromSupervisor, OrFail as _, Step, kernel_file, live, write_kernel_file};
use super::supervise::{self, Inside, hide};
use super::sys::{self, Forked};
use super::{keyring, lsm, namespaces};
use crate::wire::socket::Socket;
use crate::wire::task::FailureKind;

/// Every signal.
const ALL_SIGNALS: u64 = u64::MAX;

/// What CX needs of what C1 has found out.
#[derive(Debug)]
pub struct Crossing {
    /// The container's first process.
    pub pinned: Pinned,
    /// Its id.
    pub container_id: String,
    /// What joins its cgroups.
    pub entrances: Vec<OwnedFd>,
    /// The session's own.
    pub session: SessionGroup,
    /// Namespaces that are not the gateway's.
    pub kinds: ThreadNameSpaceType,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// `coredump_filter`, which survives an exec.
    pub core_filter: String,
    /// For C2 and C3.
    pub inside: Inside,
}

/// The whole life of CX. The sockets are those of C2 and C3.
pub fn run(crossing: &Crossing, socket: Socket, program: Socket) -> u8 {
    match cross(crossing) {
        Ok(()) => {}
        Err(failure) => {
            // Without a reader there is nobody to tell.
            drop(socket.send(&FromSupervisor::Failed(failure), &[]));
            return 1;
        }
    }
    match fork(crossing, socket, program) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Joins everything. The order matters: what the host's `/proc` and cgroups are needed for comes before the
/// namespaces, and the user namespace, which takes our rights over the host, last.
fn cross(crossing: &Crossing) -> Step<()> {
    die_with_parent()?;
    // No signal of the container's stops what waits inside but KILL and STOP, which C1 notices.
    sys::set_signal_mask(ALL_SIGNALS).or_fail(FailureKind::Other, "signals")?;
    disconnect()?;
    // C2 is born in the session's group too, so that no number of a process is needed to move C3 there. C1 takes
    // C2 out of it.
    cgroup::join(&crossing.entrances)?;
    crossing.session.join()?;
    set_oom_score(crossing)?;
    set_core_filter(crossing)?;
    widen_affinity()?;
    scheduling::reset()?;
    limits::raise(&crossing.inside.confined.limits)?;
    lsm::set_for_exec(&crossing.inside.labels, &crossing.pinned.proc)?;
    let (user, others) = (
        crossing.kinds & ThreadNameSpaceType::USER,
        crossing.kinds.difference(ThreadNameSpaceType::USER),
    );
    namespaces::join(&crossing.pinned.pidfd, others)?;
    namespaces::join(&crossing.pinned.pidfd, user)?;
    if !user.is_empty() {
        namespaces::become_root()?;
        // Becoming another user forgets both.
        die_with_parent()?;
        hide()?;
    }
    keyring::join(&crossing.container_id)
}

/// Closes everything but the two sockets, forks C2, and tells C1 who that is.
fn fork(crossing: &Crossing, socket: Socket, program: Socket) -> std::io::Result<()> {
    let kept = sys::keep_only([socket.into_descriptor(), program.into_descriptor()])?;
    let [socket, program] = kept.map(Socket::from_descriptor);
    let forked = sys::fork().or_errno(FailureKind::Exhausted, "a process in the container");
    let child = match forked {
        Ok(Forked::Child) => live(|| supervise::run(&crossing.inside, socket, program)),
        Ok(Forked::Parent(child)) => child,
        Err(failure) => return socket.send(&FromSupervisor::Failed(failure), &[]),
    };
    drop(program);
    let pidfd = pidfd_open(child, PidfdFlags::empty())?;
    socket.send(&FromSupervisor::Crossed, &[pidfd.as_fd()])
}

fn die_with_parent() -> Step<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .or_fail(FailureKind::Other, "a signal at the end of the parent")
}

/// Connects the standard streams to nothing: not even to the gateway's `/dev/null`, whose mode root of the
/// container could change through `/proc/PID/fd`. Reading gives the end, writing an error without a signal.
fn disconnect() -> Step<()> {
    let nothing = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .or_errno(FailureKind::Exhausted, "a socket")?;
    shutdown(&nothing, Shutdown::Both).or_fail(FailureKind::Other, "a socket to nothing")?;
    let nothing = nothing.as_fd();
    sys::set_standard(nothing, nothing, nothing).or_fail(FailureKind::Other, "standard streams")
}

fn set_oom_score(crossing: &Crossing) -> Step<()> {
    let wanted = crossing.oom_score_adj.to_string();
    let proc = &crossing.pinned.proc;
    let is_so = || kernel_file(proc, "self/oom_score_adj").is_ok_and(|text| text.trim() == wanted);
    if is_so() {
        return Ok(());
    }
    write_kernel_file(proc, "self/oom_score_adj", &wanted).or_fail(
        FailureKind::NotNative,
        format_args!("oom_score_adj {wanted} (lowering it needs --cap-add SYS_RESOURCE)"),
    )
}

fn set_core_filter(crossing: &Crossing) -> Step<()> {
    match crossing.core_filter.trim() {
        // A kernel without core dumps.
        "" => Ok(()),
        filter => {
            write_kernel_file(&crossing.pinned.proc, "self/coredump_filter", &format!("0x{filter}"))
                .or_fail(FailureKind::Confinement, "what a core dump holds")
        }
    }
}

/// Lets the process run everywhere: the container's cpuset decides, and not the gateway's.
fn widen_affinity() -> Step<()> {
    let mut all = CpuSet::new();
    for number in 0..CpuSet::MAX_CPU {
        all.set(number);
    }
    sched_setaffinity(None, &all)
        .or_fail(FailureKind::Confinement, "the processors of the container")
}
