//! The configuration file: any text is a configuration or a list of faults with their places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::config::file;

fuzz_target!(|text: &str| {
    drop(file::parse(text));
});
