//! A run does not outlive the process that started it: nobody would know of it, and the next one would start it again.

use std::io;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The variable by which a run is told whose it is.
pub const VARIABLE: &str = "BACKUP_PARENT_PID";

/// It and its value, for a run of this process.
#[must_use]
pub fn variable() -> (&'static str, String) {
    (VARIABLE, getpid().as_raw_nonzero().to_string())
}

/// Whether this is a run of somebody.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// In a run: asks the kernel for SIGTERM when the parent dies. False where it is dead already.
pub fn follow() -> io::Result<bool> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(true) };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = text.to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    Ok(parent.is_some() && getppid() == parent)
}
