//! Login names: any text is a name or an error, and what is shown of it is plain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::login::{Login, shown};
use ssh_gateway::wire::net::LoginName;

fuzz_target!(|input: (String, Option<String>)| {
    let (user, host) = input;
    assert!(!shown(&user).contains(char::is_control));
    drop(Login::of(&LoginName { user, host }));
});
