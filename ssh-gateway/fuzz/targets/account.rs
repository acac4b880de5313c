//! passwd and group of a container: any bytes are somebody or nobody, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gateway::enter::account;
use ssh_gateway::wire::task::User;

fuzz_target!(|input: (&[u8], &[u8], Option<String>, u32, String)| {
    let (passwd, group, name, uid, added) = input;
    let user = User { name, container_uid: uid, group_add: vec![added], ..User::default() };
    drop(account::resolve(&user, passwd, group));
});
