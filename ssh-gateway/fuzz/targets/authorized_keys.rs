//! authorized_keys: any text is keys and faults, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::authorized_keys::AuthorizedKeys;
use ssh_gateway::config::KeySource;

fuzz_target!(|text: &str| {
    let source = KeySource::Text { variable: "fuzz", text: text.to_owned() };
    drop(AuthorizedKeys::load(&[source], &|name| name.len() % 2 == 0));
});
