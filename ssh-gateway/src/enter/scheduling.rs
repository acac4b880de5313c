//! How the kernel treats a process, where neither the container's specification nor its cgroups say it: as it
//! treats every process that nobody has said anything of. The gateway may have been started otherwise (systemd.exec(5) has a
//! setting for each), and all of it would be inherited.

use std::io;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_current_timer_slack};

use super::step::{OrFail as _, Step, failure};
use super::sys;
use crate::wire::task::FailureKind;

/// The kernel's own (init_task). In nanoseconds.
const TIMER_SLACK: u64 = 50_000;

/// Makes the calling process one without privileges or handicaps of the gateway.
pub fn reset() -> Step<()> {
    // First the policy: the niceness of one that has none is only remembered.
    sys::become_ordinary().map_err(|error| refused("its scheduling policy", &error))?;
    if getpriority_process(None).or_fail(FailureKind::Other, "getpriority")? != 0 {
        setpriority_process(None, 0).map_err(|error| refused("its niceness", &error.into()))?;
    }
    sys::reset_io_priority().map_err(|error| refused("its I/O priority", &error))?;
    let timer_slack = std::num::NonZeroU64::new(TIMER_SLACK);
    set_current_timer_slack(timer_slack).or_fail(FailureKind::Other, "timer slack")?;
    sys::reset_memory_policy().or_fail(FailureKind::Other, "the NUMA memory policy")?;
    sys::reset_personality().or_fail(FailureKind::Other, "the execution domain")?;
    let secure_bits = capabilities_secure_bits().or_fail(FailureKind::Other, "secure bits")?;
    if secure_bits != CapabilitiesSecureBits::empty() {
        let reason =
            format!("the gateway has secure bits ({secure_bits:?}), which programs would inherit");
        return Err(failure(FailureKind::NotNative, reason));
    }
    Ok(())
}

fn refused(what: &str, error: &io::Error) -> crate::wire::task::Failure {
    let reason = format!(
        "a session would inherit {what} from the gateway: {error}; start the gateway without one, or with \
         --cap-add SYS_NICE"
    );
    failure(FailureKind::NotNative, reason)
}

#[cfg(test)]
mod tests;
