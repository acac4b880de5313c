//! Policies and tables of expectations: any text is one or a list of faults with their places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::policy::{expectations, file};

fuzz_target!(|text: &str| {
    drop(file::parse(text, &|name| name.len() % 2 == 0));
    drop(expectations::parse(text));
});
