//! What the runtime says about a container: any bytes are a confinement or a refusal, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::container::Specification;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (document, filter) = input;
    if let Ok(specification) = Specification::parse(document) {
        drop(specification.confinement(filter));
    }
});
