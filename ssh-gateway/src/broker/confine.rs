//! What the broker gives up once the others run.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// To read files of other users: keys, and the runtime's descriptions of containers.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE;
/// Capabilities that may exist (`cap_last_cap` is 40 in Linux 6.18).
const CAPABILITIES: u32 = 64;

/// Gives up every capability but one, for good. To be called while this process has one thread.
pub(crate) fn keep_little() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.permitted & KEPT;
    give_up_bounding()?;
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() },
    )?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Nothing that is executed from here on gains a capability.
pub(super) fn give_up_bounding() -> io::Result<()> {
    for number in 0..CAPABILITIES {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // There are no more, or there is no right to do it: no_new_privs has the same effect.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
