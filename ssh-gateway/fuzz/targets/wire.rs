//! What the processes say to each other: any bytes are a message or an error, never a panic.
#![no_main]

use std::os::unix::net::UnixDatagram;

use libfuzzer_sys::fuzz_target;
use ssh_gateway::wire::socket::Socket;
use ssh_gateway::wire::{net, portal, task};

/// So that a message fits into a socket that nobody reads yet. In bytes.
const INPUT_MAX: usize = 60_000;

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    if bytes.len() > INPUT_MAX {
        return;
    }
    let Ok((ours, theirs)) = Socket::pair() else { return };
    // Sockets that keep borders are all alike to it.
    if UnixDatagram::from(theirs.into_descriptor()).send(bytes).is_err() {
        return;
    }
    match kind % 9 {
        0 => drop(ours.receive::<net::Question>()),
        1 => drop(ours.receive::<net::Word>()),
        2 => drop(ours.receive::<net::Answer>()),
        3 => drop(ours.receive::<net::News>()),
        4 => drop(ours.receive::<portal::Act>()),
        5 => drop(ours.receive::<portal::Opened>()),
        6 => drop(ours.receive::<task::Order>()),
        7 => drop(ours.receive::<task::Report>()),
        _ => drop(ours.receive::<task::Failure>()),
    }
});
