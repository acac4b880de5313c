//! What this process gives up before it hears the first byte of a client: its user, its capabilities, and
//! every system call that is not needed to move bytes between descriptors it already has.
//!
//! Calls that are not listed fail with EPERM, since libraries try some in vain (for instance to count
//! processors). Calls that only a taken-over process would make kill it.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::CapabilitySets;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// `nobody`.
const NOBODY: u32 = 65_534;
/// Highest capability number there can be.
const CAPABILITIES_MAX: u32 = 63;

/// System calls without which russh, tokio and the allocator do not work.
const ALLOWED: &[libc::c_long] = &[
    // Bytes.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    // Sockets that listen already.
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Long messages to the broker, and from it.
    libc::SYS_memfd_create,
    libc::SYS_lseek,
    libc::SYS_fstat,
    // Waiting.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Threads, signals, ends.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Chance.
    libc::SYS_getrandom,
];

/// System calls that have no place here at all.
const DEADLY: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_setuid,
    libc::SYS_setresuid,
];

/// Of these, what a client of the network needs; the C library binds to ask the kernel for addresses.
const CLIENT: &[libc::c_long] =
    &[libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind];

/// What reaches for other processes of the same user: net is one.
const OTHERS: &[libc::c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setpriority,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_ioprio_set,
];

/// Requests of ioctl(2) that are: without blocking, and the size of a terminal.
const REQUESTS: &[u64] = &[libc::FIONBIO, libc::TIOCSWINSZ];
/// Commands of fcntl(2): flags only.
const COMMANDS: &[i32] = &[libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_DUPFD_CLOEXEC];
/// Operations of prctl(2): a thread's own name, and names of memory.
const OPERATIONS: &[i32] = &[libc::PR_SET_NAME, libc::PR_SET_VMA];

/// Why it cannot be confined; it does not start then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("the network process cannot give up {what}: {source}")]
    Call {
        /// What it has too much of.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The filter was not accepted.
    #[error("the network process cannot be confined by seccomp: {0}")]
    Filter(String),
}

/// Becomes nobody, without capabilities, for ever. Before there are threads: these calls are for one thread.
/// Returns how many descriptors there may be.
pub(crate) fn give_up_privileges() -> Result<usize, Error> {
    let call = |what| move |source: rustix::io::Errno| Error::Call { what, source: source.into() };
    let files = descriptors();
    let limit = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, limit).map_err(call("core dumps"))?;
    rustix::thread::set_no_new_privs(true).map_err(call("new privileges"))?;
    // Not to be had without capabilities, and not needed then.
    rustix::thread::clear_ambient_capability_set().ok();
    if rustix::process::geteuid().is_root() {
        for capability in 0..=CAPABILITIES_MAX {
            let Some(one) = bounding(capability) else { continue };
            // Those that the kernel does not know cannot be dropped.
            rustix::thread::remove_capability_from_bounding_set(one).ok();
        }
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[]).map_err(call("its groups"))?;
        rustix::thread::set_thread_res_gid(group, group, group).map_err(call("its group"))?;
        rustix::thread::set_thread_res_uid(user, user, user).map_err(call("its user"))?;
    }
    let none = CapabilitySets {
        effective: rustix::thread::CapabilitySet::empty(),
        permitted: rustix::thread::CapabilitySet::empty(),
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(call("its capabilities"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(call("its memory to others"))?;
    // Whatever becomes of it, it does not outlive the one that started it. A change of the user undoes this.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(call("to live alone"))?;
    Ok(files)
}

/// Lets this process, which needs the network, files that it may read, and nothing else, be killed when it starts a program,
/// serves, or reaches for other processes. Before there are threads.
pub(crate) fn forbid_deeds() -> Result<(), Error> {
    let deadly = DEADLY.iter().filter(|call| !CLIENT.contains(call));
    let deadly = deadly.chain(OTHERS).map(|call| (*call, Vec::new()));
    let mut deadly: BTreeMap<_, _> = deadly.collect();
    // Signals and limits of its own.
    let own = u64::from(std::process::id());
    deadly.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Ne, own)?]);
    deadly.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpOp::Ne, 0)?]);
    let program = program(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?;
    seccompiler::apply_filter(&program).map_err(|error| Error::Filter(error.to_string()))
}

/// Allows this process's threads, those to come included, only what is listed here.
pub(super) fn forbid_system_calls() -> Result<(), Error> {
    // In a static binary these cannot know that the system call exists, and open /dev/urandom once for all:
    // one copy of the crate for russh, one for us.
    drop(russh::keys::key::safe_rng());
    getrandom::u32().ok();
    for program in programs()? {
        seccompiler::apply_filter_all_threads(&program)
            .map_err(|error| Error::Filter(error.to_string()))?;
    }
    Ok(())
}

/// The filters, in the order in which they are installed: after the last one, none can be. The strictest
/// verdict counts.
fn programs() -> Result<Vec<BpfProgram>, Error> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Threads only, never processes.
    let threads = libc::CLONE_THREAD as u64;
    allowed.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(threads), threads)?]);
    allowed.insert(libc::SYS_ioctl, values(1, REQUESTS.iter().copied())?);
    allowed.insert(libc::SYS_fcntl, values(1, COMMANDS.iter().map(|command| *command as u64))?);
    allowed.insert(libc::SYS_prctl, values(0, OPERATIONS.iter().map(|command| *command as u64))?);
    // abort(3) of this very process; others may run as nobody, too.
    let own = u64::from(std::process::id());
    allowed.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, own)?]);
    let deadly = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
    // Its flags are in memory, where no filter can see them; the C library then uses clone.
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(vec![
        program(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(hidden, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?,
        program(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?,
    ])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Filter(error.to_string());
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| wrong(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, listed, machine);
    let filter = filter.map_err(|error| wrong(&error))?;
    BpfProgram::try_from(filter).map_err(|error| wrong(&error))
}

fn values(argument: u8, values: impl Iterator<Item = u64>) -> Result<Vec<SeccompRule>, Error> {
    values.map(|value| rule(argument, SeccompCmpOp::Eq, value)).collect()
}

fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let wrong = |error: seccompiler::BackendError| Error::Filter(error.to_string());
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value);
    SeccompRule::new(vec![condition.map_err(wrong)?]).map_err(wrong)
}

/// Raises the limit of descriptors as far as it goes.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

fn bounding(number: u32) -> Option<rustix::thread::CapabilitySet> {
    1_u64.checked_shl(number).map(rustix::thread::CapabilitySet::from_bits_retain)
}

#[cfg(test)]
mod tests;
