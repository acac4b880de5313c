//! Starts net and the uploader, and starts them again when they have crashed: without any right to do more than that.
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

/// A new one is wanted; a descriptor for its diagnostics comes with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    /// Comes back with the answer.
    number: u64,
    wanted: Wanted,
}

/// What.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wanted {
    Net,
    Uploader,
}

/// What became of it; its control socket comes with this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    number: u64,
    born: Born,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Born {
    Running { pid: i32 },
    Failed { reason: String },
}

/// The role: serves the broker until it closes its end. One thread; blocks.
pub(crate) fn run(socket: &Socket) -> u8 {
    let prepared = Image::of_this_role().and_then(|image| become_nobody().map(|()| image));
    let (mut net, mut uploader): (Option<Process>, Option<Process>) = (None, None);
    // Killed, and perhaps held up by a disk.
    let mut ending: Vec<Process> = Vec::new();
    while let Ok(Some((Question { number, wanted }, descriptors))) = socket.receive::<Question>() {
        let (role, former) = match wanted {
            Wanted::Net => (Role::Net, &mut net),
            Wanted::Uploader => (Role::Uploader, &mut uploader),
        };
        // One that was given up may live on, with keys and listening sockets in its hands.
        if let Some(former) = former.take() {
            end(former, &mut ending);
        }
        let born = match &prepared {
            Ok(image) => bear(image, role, &descriptors),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let sent = match &born {
            Ok((control, process)) => {
                let pid = process.pid.as_raw_nonzero().get();
                let born = Born::Running { pid };
                socket.send(&Answer { number, born }, &[control.as_fd()])
            }
            Err(error) => {
                let born = Born::Failed { reason: error.to_string() };
                socket.send(&Answer { number, born }, &[])
            }
        };
        if sent.is_err() {
            return 1;
        }
        *former = born.ok().map(|(_, process)| process);
    }
    0
}

/// Kills a process, and collects those that have ended by now: nobody waits for one that a disk holds up.
fn end(process: Process, ending: &mut Vec<Process>) {
    // It may have ended by itself.
    pidfd_send_signal(&process.pidfd, Signal::KILL).ok();
    ending.push(process);
    ending.retain(|process| matches!(waitpid(Some(process.pid), WaitOptions::NOHANG), Ok(None)));
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
fn bear(image: &Image, role: Role, descriptors: &[OwnedFd]) -> io::Result<(Socket, Process)> {
    let diagnostics = descriptors.first().ok_or(io::ErrorKind::InvalidInput)?;
    rustix::stdio::dup2_stderr(diagnostics)?;
    image.start(role)
}

/// The broker's side.
#[derive(Debug)]
pub(super) struct Nursery {
    socket: AsyncSocket,
    /// One question after the other: the number of the last.
    asked: tokio::sync::Mutex<u64>,
}

impl Nursery {
    /// Talks to a nursery that serves the other end.
    pub(super) fn over(socket: Socket) -> io::Result<Self> {
        Ok(Self { socket: socket.into_async()?, asked: tokio::sync::Mutex::default() })
    }

    /// A new net, which knows nothing yet; `diagnostics` is its standard error.
    pub(super) async fn net(&self, diagnostics: OwnedFd) -> io::Result<(AsyncSocket, i32)> {
        self.bear(Wanted::Net, diagnostics).await
    }

    /// A new uploader, likewise.
    pub(super) async fn uploader(&self, diagnostics: OwnedFd) -> io::Result<(AsyncSocket, i32)> {
        self.bear(Wanted::Uploader, diagnostics).await
    }

    async fn bear(&self, wanted: Wanted, diagnostics: OwnedFd) -> io::Result<(AsyncSocket, i32)> {
        let mut last = self.asked.lock().await;
        *last += 1;
        let number = *last;
        let asked = async {
            let question = Question { number, wanted };
            self.socket.send(&question, &[diagnostics.as_fd()]).await?;
            loop {
                match self.socket.receive::<Answer>().await? {
                    // One that came too late for who has asked: it ends, since nobody has its socket.
                    Some((answer, _)) if answer.number != number => {}
                    answer => {
                        let born = answer.map(|(answer, with)| (answer.born, with));
                        return Ok::<_, io::Error>(born);
                    }
                }
            }
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
