//! Starts net, and starts it again when it has crashed: without any right to do more than that.
//!
//! The broker has no rights to become another user, so a process that is nobody already does it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Gid, Signal, Uid, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use serde::{Deserialize, Serialize};

use crate::role::{Image, Process, Role};
use crate::wire::socket::{AsyncSocket, Socket};

/// User and group of processes that need no rights.
const NOBODY: u32 = 65_534;
/// The nursery has this long to start a process.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// A new net is wanted; a descriptor for its diagnostics comes with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted;

/// What became of it; its control socket comes with this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Born {
    Running { pid: i32 },
    Failed { reason: String },
}

/// The role: serves the broker until it closes its end. One thread; blocks.
pub(crate) fn run(socket: &Socket) -> u8 {
    let prepared = Image::of_this_role().and_then(|image| become_nobody().map(|()| image));
    let mut former: Option<Process> = None;
    while let Ok(Some((Wanted, descriptors))) = socket.receive::<Wanted>() {
        // One that was given up may live on, with keys and listening sockets in its hands.
        if let Some(former) = former.take() {
            end(&former);
        }
        let born = match &prepared {
            Ok(image) => bear(image, &descriptors),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let sent = match &born {
            Ok((control, net)) => {
                let pid = net.pid.as_raw_nonzero().get();
                socket.send(&Born::Running { pid }, &[control.as_fd()])
            }
            Err(error) => socket.send(&Born::Failed { reason: error.to_string() }, &[]),
        };
        if sent.is_err() {
            return 1;
        }
        former = born.ok().map(|(_, net)| net);
    }
    0
}

fn end(net: &Process) {
    // It may have ended by itself, and is reaped in any case.
    pidfd_send_signal(&net.pidfd, Signal::KILL).ok();
    waitpid(Some(net.pid), WaitOptions::empty()).ok();
}

fn become_nobody() -> io::Result<()> {
    set_no_new_privs(true)?;
    if rustix::process::getuid().is_root() {
        super::confine::give_up_bounding()?;
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw(NOBODY))?;
        // The capabilities go with the user (capabilities(7)).
        set_thread_uid(Uid::from_raw(NOBODY))?;
    }
    Ok(())
}

/// The child inherits our standard error.
fn bear(image: &Image, descriptors: &[OwnedFd]) -> io::Result<(Socket, Process)> {
    let diagnostics = descriptors.first().ok_or(io::ErrorKind::InvalidInput)?;
    rustix::stdio::dup2_stderr(diagnostics)?;
    image.start(Role::Net)
}

/// The broker's side.
#[derive(Debug)]
pub(super) struct Nursery(AsyncSocket);

impl Nursery {
    /// Talks to a nursery that serves the other end.
    pub(super) fn over(socket: Socket) -> io::Result<Self> {
        socket.into_async().map(Self)
    }

    /// A new net, which knows nothing yet; `diagnostics` is its standard error.
    pub(super) async fn net(&self, diagnostics: OwnedFd) -> io::Result<(AsyncSocket, i32)> {
        let asked = async {
            self.0.send(&Wanted, &[diagnostics.as_fd()]).await?;
            self.0.receive::<Born>().await
        };
        let answer = tokio::time::timeout(START_TIME_MAX, asked).await;
        match answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            Some((Born::Running { pid }, descriptors)) => {
                let control = descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
                Ok((Socket::from_descriptor(control).into_async()?, pid))
            }
            Some((Born::Failed { reason }, _)) => Err(io::Error::other(reason)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
