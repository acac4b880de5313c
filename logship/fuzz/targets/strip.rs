//! What the engine answers to the proxy: any bytes are stripped or refused, and what is left can be stripped again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::proxy::strip::{INSPECTED, LISTED, identity, strip};

fuzz_target!(|input: (bool, &[u8])| {
    let (is_list, bytes) = input;
    let keep = if is_list { LISTED } else { INSPECTED };
    if let Some(kept) = strip(bytes, keep) {
        assert!(strip(&kept, keep).is_some());
    }
    if let Some((id, _)) = identity(bytes) {
        assert_eq!(id.len(), 64);
    }
});
