//! What this process holds stays in it: keys, passphrases, credentials of stores, and content in clear.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

#[cfg(test)]
mod tests;

/// The kernel does not let it.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep what this process holds from {0}")]
pub(crate) struct Open(&'static str, #[source] Errno);

/// From here on a crash leaves no core file, and other processes without `CAP_SYS_PTRACE` read neither memory nor environment of
/// this one (prctl(2), `PR_SET_DUMPABLE`). Programs that it starts inherit only the former.
pub(crate) fn close() -> Result<(), Open> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| Open("core files", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Open("other processes", error))
}
