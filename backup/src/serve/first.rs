//! As the first process of a container: what is orphaned in it comes here and is reaped, while a second process does the work,
//! whose children nobody takes away from it.

use std::ffi::OsString;
use std::io;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// This very program.
const PROGRAM: &str = "/proc/self/exe";

/// What shells report for a process that was killed by a signal, without the signal.
const KILLED: i32 = 128;

/// Whether this is the first process.
#[must_use]
pub fn is_first() -> bool {
    getpid().is_init()
}

/// Starts this program again with the same arguments, hands on what it is told by signals, and gives its exit code.
pub fn stand_in(words: impl IntoIterator<Item = OsString>) -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut reload = signal(SignalKind::hangup())?;
        let child = Command::new(PROGRAM).args(words).spawn()?;
        let child = Pid::from_child(&child);
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if pid == child {
                    let killed = status.terminating_signal().map(|signal| KILLED + signal);
                    return Ok(status.exit_status().or(killed).unwrap_or(KILLED));
                }
            }
            tokio::select! {
                _ = ended.recv() => {}
                () = heard(&mut terminate) => hand_on(child, Signal::TERM),
                () = heard(&mut interrupt) => hand_on(child, Signal::INT),
                () = heard(&mut reload) => hand_on(child, Signal::HUP),
            }
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
