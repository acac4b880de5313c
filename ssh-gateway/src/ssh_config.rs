//! What OpenSSH's clients are told so that containers are hosts for them (`ssh root@web`): ssh_config(5) and known_hosts.

use crate::login::HOST_SUFFIX;

#[cfg(test)]
mod tests;

/// Names in one `Host` line: long lines are hard to read, and clients bound them.
const NAMES_OF_LINE: usize = 16;

/// The host that everybody is on.
const LOCAL: &str = "localhost";

/// The gateway as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What it is called in the configuration.
    pub alias: String,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A login name that means no container: the gateway itself, by which it can be asked too.
    pub operator: String,
}

/// Whether a text can be a word of the configuration as it is: nothing that its reader or a shell takes for more.
#[must_use]
pub fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'-' | b'~' | b':' | b'*' | b'?')
    };
    (1..=255).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-')
}

/// Whether the name of a container may stand as a host in the configuration of people who did not ask for it: one that they
/// take for another host would lead them, and what they send there, into the container.
#[must_use]
pub fn is_nobody_elses(name: &str, reached: &Reached) -> bool {
    let own = [reached.alias.as_str(), reached.host.as_str(), LOCAL];
    // Names with a dot in them are those of the DNS, and addresses.
    !name.contains('.') && !own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Which container a name leads into that was asked for, where somebody could mean another one: one that is called so itself.
#[must_use]
pub fn leads_into(name: &str) -> Option<&str> {
    let container = name.strip_suffix(HOST_SUFFIX)?;
    (!container.is_empty() && !name.contains(['*', '?'])).then_some(container)
}

/// The text for `~/.ssh/config`, where `names` are hosts behind the gateway.
#[must_use]
pub fn config(reached: &Reached, names: &[String]) -> String {
    let Reached { alias, host, port, operator } = reached;
    let mut text = format!(
        "Host {alias}\n    HostName {host}\n    Port {port}\n    User {operator}\n    HostKeyAlias {alias}\n    \
         ProxyJump none\n"
    );
    for names in names.chunks(NAMES_OF_LINE) {
        let names = names.join(" ");
        // Whatever the user's own configuration says of ports is about other hosts.
        text.push_str(&format!(
            "\nHost {names}\n    Port 22\n    ProxyJump {alias}\n    HostKeyAlias {alias}\n"
        ));
    }
    text
}

/// The lines for `known_hosts`, of these public keys.
#[must_use]
pub fn known_hosts(alias: &str, keys: &[String]) -> String {
    keys.iter().map(|key| format!("{alias} {}\n", without_comment(key))).collect()
}

fn without_comment(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
