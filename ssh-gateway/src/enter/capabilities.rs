//! Capabilities (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets as Kernel, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::step::{OrFail as _, Step, failure};
use crate::capability::list;
use crate::wire::task::{CapabilitySets, FailureKind};

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
                list(missing)
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
        format_args!("setting the capabilities {}", list(sets.permitted)),
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
