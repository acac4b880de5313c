//! What a session is told of its connection, by its environment.

use std::net::{IpAddr, SocketAddr};

use crate::wire::Opaque;

/// What is known about a session.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The client.
    pub(super) peer: SocketAddr,
    /// Our end.
    pub(super) local: SocketAddr,
    /// What the client asked for when something else is run.
    pub(super) original: Option<&'a [u8]>,
    /// Path of the agent's socket inside.
    pub(super) agent: Option<&'a [u8]>,
}

/// `NAME=value` as sshd sets them (ssh(1), ENVIRONMENT); `SSH_TTY` is set where the terminal is made.
pub(super) fn of_connection(facts: &Facts<'_>) -> Vec<Opaque> {
    let Facts { peer, local, original, agent } = facts;
    let (from, to) = (plain(peer.ip()), plain(local.ip()));
    let client = format!("{from} {} {}", peer.port(), local.port());
    let connection = format!("{from} {} {to} {}", peer.port(), local.port());
    [
        variable("SSH_CLIENT", client.as_bytes()),
        variable("SSH_CONNECTION", connection.as_bytes()),
        original.and_then(|command| variable("SSH_ORIGINAL_COMMAND", command)),
        agent.and_then(|path| variable("SSH_AUTH_SOCK", path)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn variable(name: &str, value: &[u8]) -> Option<Opaque> {
    (!value.contains(&0)).then(|| Opaque([name.as_bytes(), b"=", value].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(original: Option<&[u8]>, agent: Option<&[u8]>) -> Vec<String> {
        let facts = Facts {
            peer: "[::ffff:192.0.2.1]:5000".parse().unwrap(),
            local: "[2001:db8::1]:2222".parse().unwrap(),
            original,
            agent,
        };
        of_connection(&facts).into_iter().map(|text| String::from_utf8(text.0).unwrap()).collect()
    }

    #[test]
    fn the_connection_is_told() {
        let expected =
            ["SSH_CLIENT=192.0.2.1 5000 2222", "SSH_CONNECTION=192.0.2.1 5000 2001:db8::1 2222"];
        assert_eq!(texts(None, None), expected);
    }

    #[test]
    fn what_was_asked_for_and_the_agent_are_told() {
        let found = texts(Some(b"rm -rf /"), Some(b"/tmp/agent"));
        assert_eq!(found[2..], ["SSH_ORIGINAL_COMMAND=rm -rf /", "SSH_AUTH_SOCK=/tmp/agent"]);
        assert_eq!(texts(Some(b"a\0b"), None).len(), 2);
    }
}
