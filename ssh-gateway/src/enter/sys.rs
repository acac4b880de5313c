//! System calls that no library offers safely: the only unsafe code of this binary.
#![expect(unsafe_code, reason = "fork, exec, ptrace and seccomp have no safe form")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Pid;

/// Bytes of a `struct sock_filter`.
pub const INSTRUCTION_BYTES: usize = 8;
/// The kernel takes no longer filter (BPF_MAXINSNS). In instructions.
pub const INSTRUCTIONS_MAX: usize = 4096;
/// `PTRACE_SECCOMP_GET_FILTER` (linux/ptrace.h).
const TRACE_GET_FILTER: c_uint = 0x420c;
/// Descriptors that are moved out of the way go here or higher.
const ASIDE: c_int = 10;
/// The highest signal number there is (signal(7)).
const SIGNAL_MAX: c_int = 64;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent(Pid),
}

/// Forks (fork(2)). In a process with several threads the child may only make system calls.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: no argument; what the child may do is the caller's concern and said above.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => match Pid::from_raw(pid) {
            Some(pid) => Ok(Forked::Parent(pid)),
            None => Err(io::Error::other("fork returned nothing")),
        },
    }
}

/// Closes a descriptor, and says what was not written: network file systems say it nowhere else (close(2)).
pub fn close(descriptor: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor was owned, and is closed here alone, whatever the answer.
    check(unsafe { libc::close(descriptor.into_raw_fd()) }).map(drop)
}

/// Puts the calling process into a mount namespace of its own, a copy of the one it was in (unshare(2)).
pub fn leave_mounts() -> io::Result<()> {
    // SAFETY: a plain number; what is shared between threads and what is not stays as it is in a process with one.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(drop)
}

/// Ends the process without running anything of a parent's (_exit(2)).
pub fn exit_now(status: u8) -> ! {
    // SAFETY: always sound; nothing runs after it.
    unsafe { libc::_exit(c_int::from(status)) }
}

/// A descriptor that was inherited by number; `None` if it is not open. To be called once for a number, before
/// anything else may have opened it.
#[must_use]
pub fn inherited_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD changes nothing and fails for a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags == -1 {
        return None;
    }
    // SAFETY: it is open, and nobody else in this process knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Places the descriptors of a role: `null` at 0 and 1, `socket` at 3; 2 stays; all others close on exec.
/// Gives the number under which `program` can be executed.
pub fn place_descriptors(
    null: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<RawFd> {
    let program = duplicate_aside(program)?;
    let socket = duplicate_aside(socket)?;
    duplicate_to(null.as_raw_fd(), 0)?;
    duplicate_to(null.as_raw_fd(), 1)?;
    duplicate_to(socket, 3)?;
    close_range(4, libc::CLOSE_RANGE_CLOEXEC)?;
    Ok(program)
}

/// Makes these the standard input, output and error; they survive an exec.
pub fn set_standard(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> io::Result<()> {
    let stdin = duplicate_aside(stdin)?;
    let stdout = duplicate_aside(stdout)?;
    let stderr = duplicate_aside(stderr)?;
    duplicate_to(stdin, 0)?;
    duplicate_to(stdout, 1)?;
    duplicate_to(stderr, 2)
}

/// Makes these descriptors 3, 4 and so on, which close on exec, and closes all others but 0, 1 and 2. Whoever
/// owned descriptors before must forget them.
pub fn keep_only<const N: usize>(kept: [OwnedFd; N]) -> io::Result<[OwnedFd; N]> {
    let mut aside = [-1; N];
    for (aside, kept) in aside.iter_mut().zip(kept) {
        *aside = duplicate_aside(kept.as_fd())?;
        std::mem::forget(kept);
    }
    for (to, from) in (3..).zip(aside) {
        // SAFETY: plain numbers; what was at `to` is given up by the contract of this function.
        check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) })?;
    }
    let first = c_uint::try_from(3 + N).map_err(io::Error::other)?;
    close_range(first, 0)?;
    let mut number = 2;
    Ok(aside.map(|_| {
        number += 1;
        // SAFETY: the duplicate was made above, and is owned by nobody.
        unsafe { OwnedFd::from_raw_fd(number) }
    }))
}

/// Closes all descriptors but 0, 1, 2, `first`, which must be 3, and `second`, which becomes 4 and closes on exec.
/// Whoever owned others must forget them.
pub fn keep_beside(first: &OwnedFd, second: Option<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    if first.as_raw_fd() != 3 {
        return Err(io::Error::other("the control socket is not where it belongs"));
    }
    let Some(second) = second else {
        close_range(4, 0)?;
        return Ok(None);
    };
    let aside = duplicate_aside(second.as_fd())?;
    std::mem::forget(second);
    // SAFETY: plain numbers; what was at 4 is given up by the contract of this function.
    check(unsafe { libc::dup3(aside, 4, libc::O_CLOEXEC) })?;
    close_range(5, 0)?;
    // SAFETY: the duplicate was made above, and is owned by nobody.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(4) }))
}

fn duplicate_aside(descriptor: BorrowedFd<'_>) -> io::Result<RawFd> {
    // SAFETY: a borrowed descriptor is open.
    check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ASIDE) })
}

fn duplicate_to(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers; what was at `to` is replaced, which the callers want.
    check(unsafe { libc::dup2(from, to) })?;
    Ok(())
}

fn close_range(first: c_uint, flags: c_uint) -> io::Result<()> {
    // SAFETY: the callers do not use any descriptor from `first` on afterwards, or only mark them.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, flags) })?;
    Ok(())
}

/// Executes an open file with an empty environment. Returns only when that fails.
pub fn execute_descriptor(program: RawFd, words: &[CString]) {
    let words = Vector::of(words);
    let nothing = Vector::of(&[]);
    // SAFETY: path and both arrays end in a null and live as long as the call.
    let _failed = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            words.0.as_ptr(),
            nothing.0.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
}

/// Pointers to strings, with a null at the end.
struct Vector(Vec<*const c_char>);

impl Vector {
    fn of(words: &[CString]) -> Self {
        Self(words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect())
    }
}

/// Executes a file (execve(2)). Returns why that failed.
#[must_use]
pub fn execute(path: &CStr, words: &[CString], environment: &[CString]) -> Errno {
    let words = Vector::of(words);
    let environment = Vector::of(environment);
    // SAFETY: path and both arrays end in a null and live as long as the call.
    let _failed = unsafe { libc::execve(path.as_ptr(), words.0.as_ptr(), environment.0.as_ptr()) };
    errno()
}

/// Gives every signal its default action, and blocks none.
pub fn reset_signals() -> io::Result<()> {
    for number in 1..=SIGNAL_MAX {
        // The C library keeps 32 and 33 to itself and refuses them: so the kernel is asked directly. KILL and
        // STOP have no action that could be set.
        let default = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
        // SAFETY: the struct is what the kernel expects; a default action runs no code of ours.
        let _refused_for_kill_and_stop = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                ptr::from_ref(&default),
                ptr::null_mut::<KernelAction>(),
                size_of::<u64>(),
            )
        };
    }
    set_signal_mask(0)
}

/// `struct kernel_sigaction` of x86-64 and of every architecture with a restorer.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Blocks exactly the signals of this set: bit N-1 is signal N.
pub fn set_signal_mask(mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads eight bytes of the mask.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&mask),
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    })?;
    Ok(())
}

/// A descriptor that is readable when a child has changed. The signal must be blocked. Closes on exec, never
/// blocks.
pub fn child_signals() -> io::Result<OwnedFd> {
    let mask: u64 = signal_bit(libc::SIGCHLD);
    // SAFETY: the kernel reads eight bytes of the mask.
    let descriptor = check_long(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            ptr::from_ref(&mask),
            size_of::<u64>(),
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    })?;
    // SAFETY: the kernel gave it to us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The bit of a signal in a mask.
#[must_use]
pub fn signal_bit(number: c_int) -> u64 {
    u32::try_from(number - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

/// Sends a signal to a process, or to its process group (pidfd_send_signal(2); groups need Linux 6.9).
pub fn send_signal(process: impl AsFd, number: c_int, to_group: bool) -> io::Result<()> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP`.
    const PROCESS_GROUP: c_uint = 4;
    let flags = if to_group { PROCESS_GROUP } else { 0 };
    // SAFETY: no information is passed; the kernel fills it in.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            number,
            ptr::null::<c_void>(),
            flags,
        )
    })?;
    Ok(())
}

/// Sends a signal to a process group by number (kill(2)).
pub fn send_signal_to_group(group: Pid, number: c_int) -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(-group.as_raw_nonzero().get(), number) })?;
    Ok(())
}

/// Installs a seccomp filter given as `struct sock_filter`s (seccomp(2)).
pub fn install_filter(instructions: &[u8]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> = instructions
        .chunks_exact(INSTRUCTION_BYTES)
        .filter_map(|bytes| <[u8; INSTRUCTION_BYTES]>::try_from(bytes).ok())
        .map(|[a, b, jt, jf, k @ ..]| libc::sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes(k),
        })
        .collect();
    let length = u16::try_from(filter.len()).ok().filter(|_| filter.len() <= INSTRUCTIONS_MAX);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"));
    };
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: `program` describes `filter`, which lives as long as the call; the kernel checks every instruction.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0_u32,
            ptr::from_ref(&program),
        )
    })?;
    Ok(())
}

/// Soft and hard limit of a resource, a `RLIMIT_…` number (getrlimit(2)).
pub fn limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit64`, which is there.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            ptr::null::<libc::rlimit64>(),
            ptr::from_mut(&mut limit),
        )
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets soft and hard limit of a resource.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit64`.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            ptr::from_ref(&limit),
            ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// Makes the calling process one of the ordinary scheduling policy (sched_setscheduler(2)).
pub fn become_ordinary() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: a number, and a struct that is there. The system call itself: musl's function for it does nothing.
    check_long(unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, ptr::from_ref(&none))
    })?;
    Ok(())
}

/// Makes the I/O priority of the calling process follow its niceness (ioprio_set(2)).
pub fn reset_io_priority() -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS`.
    const PROCESS: c_int = 1;
    /// `IOPRIO_CLASS_NONE`.
    const NONE: c_int = 0;
    // SAFETY: plain numbers.
    check_long(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, NONE) })?;
    Ok(())
}

/// Gives the calling process the system's NUMA policy (set_mempolicy(2)). A kernel without NUMA has none.
pub fn reset_memory_policy() -> io::Result<()> {
    // SAFETY: a null mask of no bits.
    let set = check_long(unsafe {
        libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_DEFAULT, ptr::null::<c_long>(), 0_usize)
    });
    match set {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        set => set.map(drop),
    }
}

/// Gives the calling process the execution domain of Linux, without flags (personality(2)).
pub fn reset_personality() -> io::Result<()> {
    // SAFETY: a plain number.
    check_long(unsafe { libc::syscall(libc::SYS_personality, 0_usize) })?;
    Ok(())
}

/// Joins or makes a session keyring (keyctl(2)); gives its serial number.
pub fn join_session_keyring(name: &CStr) -> io::Result<c_long> {
    // SAFETY: the name ends in a null.
    check_long_value(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING),
            name.as_ptr(),
        )
    })
}

/// Attaches to a process without stopping it (ptrace(2), `PTRACE_SEIZE`). It ends with this process.
pub fn trace_seize(pid: Pid) -> io::Result<()> {
    trace(libc::PTRACE_SEIZE, pid, ptr::null_mut(), ptr::null_mut())?;
    Ok(())
}

/// Stops a seized process.
pub fn trace_interrupt(pid: Pid) -> io::Result<()> {
    trace(libc::PTRACE_INTERRUPT, pid, ptr::null_mut(), ptr::null_mut())?;
    Ok(())
}

/// Lets a stopped process go, with a signal that it was about to get, or 0.
pub fn trace_detach(pid: Pid, signal: c_int) -> io::Result<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    trace(libc::PTRACE_DETACH, pid, ptr::null_mut(), ptr::without_provenance_mut(signal))?;
    Ok(())
}

/// The seccomp filter number `index` of a stopped process, 0 being the newest; `None` past the oldest.
pub fn trace_filter(pid: Pid, index: usize) -> io::Result<Option<Vec<u8>>> {
    let mut instructions = vec![0_u64; INSTRUCTIONS_MAX];
    let read = trace(
        TRACE_GET_FILTER,
        pid,
        ptr::without_provenance_mut(index),
        instructions.as_mut_ptr().cast(),
    );
    match read {
        Ok(count) => {
            let count = usize::try_from(count).map_err(io::Error::other)?;
            Ok(Some(
                instructions.iter().take(count).flat_map(|whole| whole.to_ne_bytes()).collect(),
            ))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn trace(request: c_uint, pid: Pid, address: *mut c_void, data: *mut c_void) -> io::Result<c_long> {
    // SAFETY: of the requests above only PTRACE_SECCOMP_GET_FILTER writes, into room for the longest filter
    // the kernel takes.
    check_long_value(unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), address, data) })
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: c_long) -> io::Result<c_int> {
    c_int::try_from(check_long_value(result)?).map_err(io::Error::other)
}

fn check_long_value(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
