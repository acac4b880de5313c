//! Capabilities (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets as Kernel, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::step::{OrFail as _, Step, failure};
use crate::wire::task::{CapabilitySets, FailureKind};

/// Names by number (linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Names of the capabilities in a mask, for people.
#[must_use]
pub fn names(mask: u64) -> String {
    let mut names = Vec::new();
    for number in 0..u64::BITS {
        if mask & (1 << number) != 0 {
            let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
            names.push(
                name.map_or_else(|| format!("capability {number}"), |name| (*name).to_owned()),
            );
        }
    }
    names.join(", ")
}

/// Fails when the gateway lacks a capability that the container has: it could not be given to a program, and for
/// a user that is not root nobody would notice.
pub fn check_held(wanted: &CapabilitySets) -> Step<()> {
    let held = capabilities(None).or_fail(FailureKind::Other, "capget")?.permitted.bits();
    let wanted = wanted.bounding | wanted.permitted | wanted.effective | wanted.inheritable;
    match wanted & !held {
        0 => Ok(()),
        missing => {
            let reason = format!(
                "the container has capabilities that the gateway lacks: --cap-add {}",
                names(missing)
            );
            Err(failure(FailureKind::NotNative, reason))
        }
    }
}

/// Drops all but these from the bounding set.
pub fn bound(bounding: u64) -> Step<()> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if bounding & one.bits() == 0 => {
                remove_capability_from_bounding_set(one).or_fail(
                    FailureKind::NotNative,
                    "dropping a capability of the bounding set (the gateway needs SETPCAP)",
                )?;
            }
            Ok(_) => {}
            // The first number the kernel does not know.
            Err(Errno::INVAL) => break,
            Err(error) => {
                return Err(error).or_fail(FailureKind::Other, "reading the bounding set");
            }
        }
    }
    Ok(())
}

/// Takes on these sets, without the bounding set.
pub fn apply(sets: &CapabilitySets) -> Step<()> {
    let kernel = Kernel {
        effective: CapabilitySet::from_bits_retain(sets.effective),
        permitted: CapabilitySet::from_bits_retain(sets.permitted),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
    };
    set_capabilities(None, kernel).or_fail(
        FailureKind::Confinement,
        format_args!("setting the capabilities {}", names(sets.permitted)),
    )?;
    clear_ambient_capability_set().or_fail(FailureKind::Confinement, "ambient capabilities")?;
    for number in 0..u64::BITS {
        if sets.ambient & (1 << number) != 0 {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
                .or_fail(FailureKind::Confinement, "ambient capabilities")?;
        }
    }
    Ok(())
}

/// What exec makes of these sets for an ordinary file: for programs of our own, which run without an exec.
#[must_use]
pub fn after_exec(sets: &CapabilitySets, is_root: bool, no_new_privileges: bool) -> CapabilitySets {
    let permitted = match (is_root, no_new_privileges) {
        (true, false) => sets.inheritable | sets.bounding | sets.ambient,
        // Nothing may be gained.
        (true, true) => (sets.inheritable | sets.bounding) & sets.permitted | sets.ambient,
        (false, _) => sets.ambient,
    };
    CapabilitySets { permitted, effective: permitted, ..*sets }
}

#[cfg(test)]
mod tests;
