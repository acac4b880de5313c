//! Our own program, started again in another role, from a memory file that nobody can change.
//!
//! A container that gets hold of us by `/proc/PID/exe` can neither write to the file (it is sealed) nor do
//! anything with it: a role without a control socket at descriptor 3 ends at once.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::enter::sys::{self, Forked};
use crate::wire::socket::Socket;

/// Where a role finds the socket of the broker.
pub const CONTROL_DESCRIPTOR: i32 = 3;
/// The word before the name of a role on the command line.
pub const WORD: &str = "role";
/// The exit status of a role that is not started by us.
pub const EXIT_REFUSED: u8 = 126;
/// How `/proc/self/exe` of a process begins that runs from a memory file (memfd_create(2)).
const MEMFD_PREFIX: &[u8] = b"/memfd:";
/// Mode of the file: run, and read by its owner (Linux requires no reading to run).
const IMAGE_MODE: Mode = Mode::from_raw_mode(0o511);

/// What a process of ours may be, besides what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Forks tasks: see [`crate::spawner`].
    Spawner,
    /// Starts net and the uploader, and again when it must.
    Nursery,
    /// Speaks SSH: see [`crate::net`].
    Net,
    /// Uploads finished records: see [`crate::uploader`].
    Uploader,
}

impl Role {
    /// Its name on the command line: `ssh-gateway role NAME`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spawner => "spawner",
            Self::Nursery => "nursery",
            Self::Net => "net",
            Self::Uploader => "uploader",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Spawner, Self::Nursery, Self::Net, Self::Uploader]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// `F_SEAL_EXEC` (linux/fcntl.h).
const SEAL_EXECUTE_BITS: SealFlags = SealFlags::from_bits_retain(0x20);

/// A sealed copy of our own program.
#[derive(Debug)]
pub struct Image(OwnedFd);

/// A process in a role.
#[derive(Debug)]
pub struct Process {
    /// Its number; it is our child.
    pub pid: Pid,
    /// Readable when it has ended (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

impl Image {
    /// Copies the running program. It must be linked statically: nothing of our own file system is there when
    /// a role runs.
    pub fn of_ourselves() -> io::Result<Self> {
        let mut program = File::open("/proc/self/exe")?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut image = File::from(rustix::fs::memfd_create("ssh-gateway", flags)?);
        io::copy(&mut program, &mut image)?;
        rustix::fs::fchmod(&image, IMAGE_MODE)?;
        // Reopened for reading: the program cannot be run while anyone has it open for writing.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&image));
        let reading =
            rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&image, seals)?;
        // Linux 6.3: root of a container that runs this very file could otherwise take its execute bits away.
        if rustix::fs::fcntl_add_seals(&image, SEAL_EXECUTE_BITS).is_err() {
            tracing::debug!("this kernel has no seal for execute bits");
        }
        Ok(Self(reading))
    }

    /// The memory file that this process runs from already.
    pub fn of_this_role() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/proc/self/exe", flags, Mode::empty())?))
    }

    /// Starts a role with an empty environment, `/dev/null` as input and output, our standard error, and the
    /// other end of the returned socket as [`CONTROL_DESCRIPTOR`]; nothing else.
    pub fn start(&self, role: Role) -> io::Result<(Socket, Process)> {
        let (ours, its) = Socket::pair()?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let words = ["ssh-gateway", WORD, role.name()];
        let words: Vec<CString> =
            words.iter().map(|word| CString::new(*word)).collect::<Result<_, _>>()?;
        match sys::fork()? {
            Forked::Parent(pid) => {
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                Ok((ours, Process { pid, pidfd }))
            }
            Forked::Child => {
                // Only system calls from here on: another thread may have held a lock.
                let placed = sys::place_descriptors(null.as_fd(), its.as_fd(), self.0.as_fd());
                if let Ok(program) = placed {
                    sys::execute_descriptor(program, &words);
                }
                sys::exit_now(EXIT_REFUSED)
            }
        }
    }
}

/// The control socket of a process that was started in a role; `None` when it was not started by us.
#[must_use]
pub fn control_socket() -> Option<Socket> {
    let descriptor = sys::inherited_descriptor(CONTROL_DESCRIPTOR)?;
    let is_ours = matches!(sockopt::socket_type(&descriptor), Ok(SocketType::SEQPACKET))
        && matches!(sockopt::socket_domain(&descriptor), Ok(AddressFamily::UNIX));
    if !is_ours {
        return None;
    }
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(Socket::from_descriptor(descriptor))
}

/// Whether this process runs from a memory file, as roles do: then it must be a role.
#[must_use]
pub fn runs_from_memory() -> bool {
    rustix::fs::readlink("/proc/self/exe", Vec::new())
        .is_ok_and(|path| path.as_bytes().starts_with(MEMFD_PREFIX))
}
