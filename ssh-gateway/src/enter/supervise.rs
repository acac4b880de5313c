//! C2: stands between the gateway and the program, inside the container's pid namespace.
//!
//! It adopts what the program leaves behind (a subreaper outside the pid namespace could not), so that a
//! container whose first process collects nothing has no zombies of ours. While the program runs it is the
//! session's user without any privilege, and may do little more than wait.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, WaitStatus, pidfd_open,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, wait,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, CpuSet, ThreadNameSpaceType, sched_setaffinity,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::cgroup::{self, SessionGroup};
use super::limits::{self, Limit};
use super::lsm::{self, Label};
use super::pin::Pinned;
use super::program::{self, Confined};
use super::step::{
    FromSupervisor, Identity, OrFail as _, Step, ToSupervisor, failure, kernel_file, kind_of, live,
    write_kernel_file, write_whole,
};
use super::sys::{self, Forked};
use super::{keyring, namespaces};
use crate::wire::Exit;
use crate::wire::socket::Socket;
use crate::wire::task::FailureKind;

/// `__WALL` (waitpid(2)).
const WAIT_ALL: WaitOptions = WaitOptions::from_bits_retain(0x4000_0000);
/// Every signal.
const ALL_SIGNALS: u64 = u64::MAX;

/// What C2 needs of what C1 has found out.
#[derive(Debug)]
pub struct Inside {
    /// The container's first process.
    pub pinned: Pinned,
    /// Its id.
    pub container_id: String,
    /// What joins its cgroups.
    pub entrances: Vec<OwnedFd>,
    /// The session's own.
    pub session: SessionGroup,
    /// Namespaces that C1 has not joined.
    pub kinds: ThreadNameSpaceType,
    /// Labels for the program.
    pub labels: Vec<Label>,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// How the program is confined.
    pub confined: Confined,
    /// The gateway's `/dev/null`.
    pub null: OwnedFd,
    /// The supervisor's own seccomp filter.
    pub filter: Vec<u8>,
}

/// The whole life of C2. `program` is C3's socket.
pub fn run(inside: &Inside, socket: Socket, program: Socket) -> u8 {
    let (socket, kill, child) = match set_up(inside, &socket, program) {
        Ok((child, kill)) => (socket, kill, child),
        Err(failure) => {
            // Without a reader there is nobody to tell.
            drop(socket.send(&FromSupervisor::Failed(failure), &[]));
            return 1;
        }
    };
    match supervise(socket, kill, child, &inside.filter) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Joins what is left to join, and forks C3. The order matters: what the host's `/proc` and cgroups are needed
/// for comes before the user namespace.
fn set_up(inside: &Inside, socket: &Socket, program: Socket) -> Step<(Pid, OwnedFd)> {
    const DIES: &str = "a signal at the end of the parent";
    set_parent_process_death_signal(Some(Signal::KILL)).or_fail(FailureKind::Other, DIES)?;
    // No signal of the container's stops it but KILL and STOP, which C1 notices.
    sys::set_signal_mask(ALL_SIGNALS).or_fail(FailureKind::Other, "signals")?;
    let null = inside.null.as_fd();
    sys::set_standard(null, null, null).or_fail(FailureKind::Other, "standard streams")?;
    rustix::process::setsid().or_fail(FailureKind::Other, "a session")?;
    cgroup::join(&inside.entrances)?;
    set_oom_score(inside)?;
    widen_affinity()?;
    let limits: &[Limit] = &inside.confined.limits;
    limits::raise(limits)?;
    lsm::set_for_exec(&inside.labels, &inside.pinned.proc)?;
    namespaces::join(&inside.pinned.pidfd, inside.kinds)?;
    if inside.kinds.contains(ThreadNameSpaceType::USER) {
        namespaces::become_root()?;
        // Becoming another user forgets both.
        set_parent_process_death_signal(Some(Signal::KILL)).or_fail(FailureKind::Other, DIES)?;
        hide()?;
    }
    keyring::join(&inside.container_id)?;
    set_child_subreaper(Some(rustix::process::getpid()))
        .or_fail(FailureKind::Other, "adopting orphans")?;
    let kill = inside.session.kill_switch().unwrap_or(&inside.null);
    let kill = kill.try_clone().or_fail(FailureKind::Other, "a descriptor")?;
    let child = match sys::fork().or_errno(FailureKind::Exhausted, "a process in the container")? {
        Forked::Child => live(|| program::run(inside, program)),
        Forked::Parent(child) => child,
    };
    drop(program);
    let pidfd = pidfd_open(child, PidfdFlags::empty())
        .or_errno(FailureKind::Other, "the program's process")?;
    socket
        .send(&FromSupervisor::Forked, &[pidfd.as_fd()])
        .or_fail(FailureKind::Other, "a message to the task")?;
    Ok((child, kill))
}

/// Nothing of this process is to be read by others of its user.
pub fn hide() -> Step<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .or_fail(FailureKind::Other, "making the process not dumpable")
}

fn set_oom_score(inside: &Inside) -> Step<()> {
    let wanted = inside.oom_score_adj.to_string();
    let proc = &inside.pinned.proc;
    let is_so = || kernel_file(proc, "self/oom_score_adj").is_ok_and(|text| text.trim() == wanted);
    if is_so() {
        return Ok(());
    }
    write_kernel_file(proc, "self/oom_score_adj", &wanted).or_fail(
        FailureKind::NotNative,
        format_args!("oom_score_adj {wanted} (lowering it needs --cap-add SYS_RESOURCE)"),
    )
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

/// Collects until nothing is left.
fn supervise(socket: Socket, kill: OwnedFd, child: Pid, filter: &[u8]) -> io::Result<()> {
    let signals = sys::child_signals()?;
    let [socket, kill, signals] = sys::keep_only([socket.into_descriptor(), kill, signals])?;
    let socket = Socket::from_descriptor(socket);
    let mut is_watched = true;
    loop {
        if !collect(&socket, child)? {
            socket.send(&FromSupervisor::Empty, &[])?;
            return Ok(());
        }
        let mut waited = vec![PollFd::new(&signals, PollFlags::IN)];
        if is_watched {
            waited.push(PollFd::new(&socket, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut waited, None))?;
        let is_ready =
            |place: usize| waited.get(place).is_some_and(|one| !one.revents().is_empty());
        let (has_signal, has_message) = (is_ready(0), is_ready(1));
        if has_signal {
            rustix::io::read(&signals, &mut [0_u8; 128][..])?;
        }
        if has_message {
            match socket.receive()? {
                Some((ToSupervisor::GiveUp(identity), _)) => {
                    let gave_up = give_up(&identity, filter);
                    let failed = gave_up.is_err();
                    let report =
                        gave_up.map_or_else(FromSupervisor::Failed, |()| FromSupervisor::GaveUp);
                    socket.send(&report, &[])?;
                    if failed {
                        return Ok(());
                    }
                }
                // C1 is gone: nobody else ends the session.
                None => {
                    is_watched = false;
                    drop(write_whole(&kill, "1"));
                }
            }
        }
    }
}

/// Collects all children that have ended. Whether any is left.
fn collect(socket: &Socket, child: Pid) -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG | WAIT_ALL) {
            Ok(Some((pid, status))) => {
                if pid == child
                    && let Some(exit) = exit(status)
                {
                    // C1 may be gone already; collecting goes on.
                    drop(socket.send(&FromSupervisor::Exited(exit), &[]));
                }
            }
            Ok(None) => return Ok(true),
            Err(rustix::io::Errno::CHILD) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How a process ended; `None` if it has not.
#[must_use]
pub fn exit(status: WaitStatus) -> Option<Exit> {
    if let Some(code) = status.exit_status() {
        return Some(Exit::Status(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    /// `WCOREDUMP`.
    const CORE_DUMPED: i32 = 0x80;
    status
        .terminating_signal()
        .map(|number| Exit::Signal { number, core_dumped: status.as_raw() & CORE_DUMPED != 0 })
}

/// Becomes the session's user and gives up every privilege.
fn give_up(identity: &Identity, filter: &[u8]) -> Step<()> {
    become_user(identity)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).or_fail(FailureKind::Confinement, "giving up capabilities")?;
    set_no_new_privs(true).or_fail(FailureKind::Confinement, "giving up privileges")?;
    hide()?;
    sys::install_filter(filter).or_fail(FailureKind::Confinement, "the supervisor's filter")
}

/// Becomes a user. Capabilities stay permitted when they are kept (`PR_SET_KEEPCAPS`).
pub fn become_user(identity: &Identity) -> Step<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|error| {
            let kind = match error {
                // A user namespace without such an id.
                rustix::io::Errno::INVAL => FailureKind::User,
                error => kind_of(&error.into()).unwrap_or(FailureKind::NotNative),
            };
            let reason = format!(
                "becoming user {} and group {}: {error} (the gateway needs SETUID and SETGID)",
                identity.uid, identity.gid
            );
            failure(kind, reason)
        })
}
