//! Login names: any text is a name or an error, and what is shown of it is plain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::login::{Login, shown};

fuzz_target!(|input: (&str, &str)| {
    let (name, user) = input;
    drop(Login::parse(name));
    drop(Login::of_host(name, user));
    assert!(!shown(name).contains(char::is_control));
});
