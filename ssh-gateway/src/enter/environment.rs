//! The environment of a program: the container's, what is known of the user, and the session's, in this order.

use super::account::Account;
use crate::wire::Opaque;

/// What `PATH` is when the container has none: as the engine sets it.
const PATH_DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What `TERM` the engine gives to a program with a terminal.
const ENGINE_TERM: &[u8] = b"xterm";

/// Variables in their order. A name is there once: what comes later takes the place of the earlier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(Vec<u8>, Vec<u8>)>);

impl Environment {
    /// For a session: `HOME`, `USER`, `LOGNAME`, `SHELL` and `TERM` win over the container's, the session's own
    /// variables over both.
    #[must_use]
    pub fn of_session(
        container: &[Opaque],
        session: &[Opaque],
        account: &Account,
        terminal: Option<(&str, &[u8])>,
    ) -> Self {
        let mut environment = Self::of(container);
        if environment.get(b"PATH").is_none() {
            environment.set(b"PATH", PATH_DEFAULT);
        }
        environment.set(b"HOME", &account.home);
        environment.set(b"USER", &account.name);
        environment.set(b"LOGNAME", &account.name);
        match terminal {
            Some((term, path)) => {
                environment.set(b"TERM", term.as_bytes());
                environment.set(b"SSH_TTY", path);
            }
            None => environment.remove(b"TERM"),
        }
        environment.add(session);
        environment
    }

    /// As `docker exec` makes it. The specification of a container with a terminal has a `TERM` of the engine's
    /// right after `HOSTNAME`, which `docker exec` without one does not give.
    #[must_use]
    pub fn of_engine_exec(
        container: &[Opaque],
        session: &[Opaque],
        account: &Account,
        has_terminal: bool,
    ) -> Self {
        let mut environment = Self::of(container);
        let after_host = environment.place(b"HOSTNAME").map_or(0, |place| place + 1);
        let engines = environment
            .0
            .get(after_host)
            .is_some_and(|(name, value)| name == b"TERM" && value == ENGINE_TERM);
        match (has_terminal, engines) {
            (true, _) => {
                let value = environment.get(b"TERM").unwrap_or(ENGINE_TERM).to_vec();
                environment.remove(b"TERM");
                environment
                    .0
                    .insert(after_host.min(environment.0.len()), (b"TERM".to_vec(), value));
            }
            (false, true) => environment.remove(b"TERM"),
            (false, false) => {}
        }
        environment.add(session);
        if environment.get(b"HOME").is_none_or(<[u8]>::is_empty) {
            environment.set(b"HOME", &account.home);
        }
        environment
    }

    fn of(variables: &[Opaque]) -> Self {
        let mut environment = Self::default();
        environment.add(variables);
        environment
    }

    fn add(&mut self, variables: &[Opaque]) {
        for Opaque(variable) in variables {
            let mut parts = variable.splitn(2, |byte| *byte == b'=');
            if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                self.set(name, value);
            }
        }
    }

    /// Sets a variable where it is, or at the end. One that the kernel could not pass on is left out.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        if name.is_empty() || name.contains(&0) || value.contains(&0) {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.0.push((name.to_vec(), value.to_vec())),
        }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(known, _)| known != name);
    }

    fn place(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// `NAME=value` of each.
    pub fn lines(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|(name, value)| [name, b"=".as_slice(), value].concat())
    }
}

#[cfg(test)]
mod tests;
