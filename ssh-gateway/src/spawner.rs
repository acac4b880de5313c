//! The spawner: forks a [task](crate::task) for every socket it is given, and collects those that have ended.
//!
//! It keeps the capabilities the others have given up, so it knows nothing: not what is run, not for whom, not
//! where. No secret of one session is in the memory of the next.

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, setsid, wait};

use crate::enter::step::{EXIT_BROKEN, live};
use crate::enter::sys::{self, Forked};
use crate::task;
use crate::wire::socket::Socket;

/// Serves the broker until it closes its end. Blocks, and must be the only thread of its process. Returns the
/// exit status.
pub fn run(socket: Socket) -> u8 {
    let served = serve(&socket);
    // The broker sees it before the rest of the process is taken down.
    drop(socket);
    match served {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the spawner ends");
            1
        }
    }
}

fn serve(socket: &Socket) -> io::Result<()> {
    // An interrupt from a terminal is the broker's to handle: it ends sessions before it goes.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    sys::set_signal_mask(sys::signal_bit(libc::SIGCHLD))?;
    let signals = sys::child_signals()?;
    loop {
        let mut waited = [PollFd::new(socket, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut waited, None))?;
        let [has_order, has_ended] = waited.map(|one| !one.revents().is_empty());
        if has_ended {
            rustix::io::read(&signals, &mut [0_u8; 128][..])?;
            collect();
        }
        if has_order {
            match socket.receive::<u8>()? {
                Some((_, mut descriptors)) => {
                    if let Some(descriptor) = descriptors.pop() {
                        fork_task(Socket::from_descriptor(descriptor));
                    }
                }
                None => return Ok(()),
            }
        }
    }
}

/// Forks a task. When that is impossible the broker sees its socket closed.
fn fork_task(task: Socket) {
    match sys::fork() {
        Ok(Forked::Child) => live(|| {
            // What is the spawner's is not the task's.
            let kept =
                sys::set_signal_mask(0).and_then(|()| sys::keep_only([task.into_descriptor()]));
            match kept {
                Ok([task]) => task::run(&Socket::from_descriptor(task)),
                Err(_) => EXIT_BROKEN,
            }
        }),
        Ok(Forked::Parent(_)) => {}
        Err(error) => tracing::error!(%error, "no process for a session"),
    }
}

fn collect() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
