//! What a program's standard input, output and error are connected to.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::pty::Pty;
use super::step::{OrFail as _, Step};
use super::sys;
use crate::tally;
use crate::wire::socket::Socket;
use crate::wire::task::{FailureKind, Start};
use crate::wire::{Program, Terminal};

/// Both sides of a program's standard streams.
#[derive(Debug)]
pub struct Stdio {
    /// For the broker, in the order of [`crate::wire::task::Report::Started`].
    pub theirs: Vec<OwnedFd>,
    /// Path of the terminal inside.
    pub terminal: Option<Vec<u8>>,
    /// The messages of a portal, or of a program that serves files.
    pub own: Option<Socket>,
}

impl Stdio {
    /// Connects the calling process's standard streams as this program needs them, for this user. It must lead
    /// a session without a terminal.
    pub fn connect(start: &Start, uid: u32) -> Step<Self> {
        let mut stdio = match (&start.program, &start.terminal) {
            (Program::Portal, _) => return Self::portal(),
            (_, Some(terminal)) => Self::terminal(terminal, uid)?,
            (_, None) => Self::pipes(uid)?,
        };
        if tally::tells(&start.program) {
            let (ours, its) =
                Socket::pair().or_errno(FailureKind::Exhausted, "a socket for the program")?;
            stdio.theirs.push(ours.into_descriptor());
            stdio.own = Some(its);
        }
        Ok(stdio)
    }

    /// Standard streams stay what they are: the gateway's `/dev/null`.
    fn portal() -> Step<Self> {
        let (ours, its) = Socket::pair().or_errno(FailureKind::Other, "a socket for the portal")?;
        Ok(Self { theirs: vec![ours.into_descriptor()], terminal: None, own: Some(its) })
    }

    fn terminal(terminal: &Terminal, uid: u32) -> Step<Self> {
        let pty = Pty::open(terminal, uid)?;
        rustix::process::ioctl_tiocsctty(&pty.slave)
            .or_fail(FailureKind::Confinement, "making the terminal the session's")?;
        let slave = pty.slave.as_fd();
        sys::set_standard(slave, slave, slave).or_fail(FailureKind::Other, "standard streams")?;
        let path = Some(pty.path.into_bytes());
        Ok(Self { theirs: vec![pty.master], terminal: path, own: None })
    }

    fn pipes(uid: u32) -> Step<Self> {
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC).or_errno(FailureKind::Exhausted, "a pipe for the program")
        };
        let (stdin, their_stdin) = pipe()?;
        let (their_stdout, stdout) = pipe()?;
        let (their_stderr, stderr) = pipe()?;
        for end in [&stdin, &stdout, &stderr] {
            match rustix::fs::fchown(end, Some(Uid::from_raw(uid)), None::<Gid>) {
                // Root of a user namespace cannot give away what was made outside; reading and writing goes on.
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(error).or_fail(FailureKind::Other, "owner of a pipe"),
            }
        }
        sys::set_standard(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())
            .or_fail(FailureKind::Other, "standard streams")?;
        Ok(Self {
            theirs: vec![their_stdin, their_stdout, their_stderr],
            terminal: None,
            own: None,
        })
    }
}
