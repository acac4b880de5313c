//! `connections`: who is in, asked of the gateway that serves.

use chores_common::exit::ExitCode;

use super::gateway::{self, Gateway};
use super::{CommandError, print};
use crate::cli::{CommonArgs, ConnectionsCommand};
use crate::control::{Answer, Ask, Connection};
use crate::login::shown;

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &ConnectionsCommand) -> Result<ExitCode, CommandError> {
    match command {
        ConnectionsCommand::Ls => {
            let all = Gateway::ask(common, &Ask::Connections)?.all(|answer| match answer {
                Answer::Connection(connection) => Ok(*connection),
                other => Err(other),
            })?;
            let told = if common.json { gateway::json(&all) } else { table(&all) };
            print(told.as_bytes())
        }
        ConnectionsCommand::Kill { connection } => {
            Gateway::ask(common, &Ask::Disconnect(*connection))?.done()
        }
    }
}

fn table(connections: &[Connection]) -> String {
    let head = ["CONNECTION", "WHO", "LOGIN", "FROM", "SINCE", "SESSIONS", "FORWARDS", "CLIENT"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(connections.iter().map(|one| {
        [
            one.connection.to_string(),
            shown(one.identity.as_deref().unwrap_or(&one.key)),
            shown(&one.login),
            one.peer.clone(),
            one.since.clone(),
            one.sessions.to_string(),
            one.forwards.to_string(),
            shown(&one.client),
        ]
    }));
    gateway::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_nothing_that_a_terminal_obeys() {
        let connection = Connection {
            connection: 7,
            identity: None,
            key: "SHA256:x".to_owned(),
            certificate: None,
            login: "web\u{1b}[2J".to_owned(),
            peer: "192.0.2.1:5".to_owned(),
            client: "SSH-2.0-\u{7}".to_owned(),
            sessions: 2,
            forwards: 1,
            since: "2026-11-30T06:00:00Z".to_owned(),
        };
        let text = table(std::slice::from_ref(&connection));
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("7           SHA256:x  "), "{text}");
        assert_eq!(gateway::json(&[connection]).lines().count(), 1);
    }
}
