//! C2: stands between the gateway and the program, inside the container's pid namespace.
//!
//! It adopts what the program leaves behind (a subreaper outside the pid namespace could not), so that a
//! container whose first process collects nothing has no zombies of ours. While the program runs it is the
//! session's user without any privilege, and may do little more than wait.

use std::io;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, WaitStatus, kill_process,
    pidfd_open, set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, wait,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::lsm::Label;
use super::program::{self, Confined};
use super::step::{
    FromSupervisor, Identity, OrFail as _, Step, ToSupervisor, failure, kind_of, live,
};
use super::sys::{self, Forked};
use crate::wire::Exit;
use crate::wire::socket::Socket;
use crate::wire::task::FailureKind;

/// `__WALL` (waitpid(2)).
const WAIT_ALL: WaitOptions = WaitOptions::from_bits_retain(0x4000_0000);

/// What C2 and C3 need of what C1 has found out. Nothing of the host: see [`super::cross`].
#[derive(Debug)]
pub struct Inside {
    /// Labels for the program.
    pub labels: Vec<Label>,
    /// How the program is confined.
    pub confined: Confined,
    /// The supervisor's own seccomp filter.
    pub filter: Vec<u8>,
}

/// The whole life of C2. `program` is C3's socket.
pub fn run(inside: &Inside, socket: Socket, program: Socket) -> u8 {
    let child = match set_up(inside, &socket, program) {
        Ok(Some(child)) => child,
        // The session ended before it began.
        Ok(None) => return 0,
        Err(failure) => {
            // Without a reader there is nobody to tell.
            drop(socket.send(&FromSupervisor::Failed(failure), &[]));
            return 1;
        }
    };
    match supervise(socket, child, &inside.filter) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Forks C3, when C1 has become the parent of this process.
fn set_up(inside: &Inside, socket: &Socket, program: Socket) -> Step<Option<Pid>> {
    match socket.receive().or_fail(FailureKind::Other, "a message of the task")? {
        Some((ToSupervisor::Begin, _)) => {}
        Some(_) => return Err(failure(FailureKind::Other, "a message that does not come first")),
        None => return Ok(None),
    }
    set_parent_process_death_signal(Some(Signal::KILL))
        .or_fail(FailureKind::Other, "a signal at the end of the parent")?;
    rustix::process::setsid().or_fail(FailureKind::Other, "a session")?;
    set_child_subreaper(Some(rustix::process::getpid()))
        .or_fail(FailureKind::Other, "adopting orphans")?;
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
    Ok(Some(child))
}

/// Nothing of this process is to be read by others of its user.
pub fn hide() -> Step<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .or_fail(FailureKind::Other, "making the process not dumpable")
}

/// Collects until nothing is left.
fn supervise(socket: Socket, child: Pid, filter: &[u8]) -> io::Result<()> {
    let signals = sys::child_signals()?;
    let [socket, signals] = sys::keep_only([socket.into_descriptor(), signals])?;
    let socket = Socket::from_descriptor(socket);
    let mut is_watched = true;
    let mut has_program = true;
    loop {
        if !collect(&socket, child, &mut has_program)? {
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
                Some((ToSupervisor::Begin, _)) => {}
                // C1 is gone. The program ends with it; what it leaves is ended by whoever sweeps its cgroup,
                // since a way to kill that would be a descriptor of the host in here.
                None => {
                    is_watched = false;
                    // Not collected, so the number is still its own.
                    if has_program {
                        kill_process(child, Signal::KILL).ok();
                    }
                }
            }
        }
    }
}

/// Collects all children that have ended, the program among them or not. Whether any is left.
fn collect(socket: &Socket, child: Pid, has_program: &mut bool) -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG | WAIT_ALL) {
            Ok(Some((pid, status))) => {
                if pid == child
                    && let Some(exit) = exit(status)
                {
                    *has_program = false;
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
