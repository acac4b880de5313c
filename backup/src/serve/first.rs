//! As the first process of a container: what is orphaned in it comes here and is reaped, while a second process does the work,
//! whose children nobody takes away from it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use chores_common::exit::ExitCode;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

#[cfg(test)]
mod tests;

/// This very program.
const PROGRAM: &str = "/proc/self/exe";

/// What shells report for a process that was killed by a signal, without the signal.
const KILLED: i32 = 128;

/// Whether this is the first process.
#[must_use]
pub fn is_first() -> bool {
    getpid().is_init()
}

/// Starts this program again with the same arguments, hands on what it is told by signals, and gives its exit code. The second
/// request to stop ends both at once, whatever the other one is doing.
pub fn stand_in(words: impl IntoIterator<Item = OsString>) -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut reload = signal(SignalKind::hangup())?;
        // In a process group of its own, or a terminal would send it the signal too that is handed on: two requests for one.
        let child = Command::new(PROGRAM).args(words).process_group(0).spawn()?;
        let child = Pid::from_child(&child);
        let mut is_asked = false;
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if pid == child {
                    let killed = status.terminating_signal().map(|signal| KILLED + signal);
                    return Ok(status.exit_status().or(killed).unwrap_or(KILLED));
                }
            }
            let request = tokio::select! {
                _ = ended.recv() => continue,
                () = heard(&mut reload) => {
                    hand_on(child, Signal::HUP);
                    continue;
                }
                () = heard(&mut terminate) => Signal::TERM,
                () = heard(&mut interrupt) => Signal::INT,
            };
            if is_asked {
                hand_on(child, Signal::KILL);
                return Ok(i32::from(ExitCode::Interrupted as u8));
            }
            hand_on(child, request);
            is_asked = true;
        }
    })
}

async fn heard(listener: &mut Listener) {
    listener.recv().await;
}

fn hand_on(child: Pid, signal: Signal) {
    if let Err(error) = kill_process(child, signal) {
        tracing::warn!("cannot hand a signal on: {error}");
    }
}
