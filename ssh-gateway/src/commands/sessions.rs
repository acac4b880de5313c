//! `sessions`: what runs, asked of the gateway that serves.

use std::io::{self, Write as _};

use chores_common::exit::ExitCode;

use super::gateway::{self, Gateway, refused};
use super::{CommandError, print};
use crate::cast;
use crate::cli::{CommonArgs, SessionsCommand};
use crate::control::{Answer, Ask, Kind, Session};
use crate::login::shown;
use crate::screen::{Filter, RESET};

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &SessionsCommand) -> Result<ExitCode, CommandError> {
    match command {
        SessionsCommand::Ls => {
            let sessions = Gateway::ask(common, &Ask::Sessions)?.all(|answer| match answer {
                Answer::Session(session) => Ok(*session),
                other => Err(other),
            })?;
            let told = if common.json { gateway::json(&sessions) } else { table(&sessions) };
            print(told.as_bytes())
        }
        SessionsCommand::Kill { session } => {
            Gateway::ask(common, &Ask::Kill(session.clone()))?.done()
        }
        SessionsCommand::Watch { session } => {
            watch(&mut Gateway::ask(common, &Ask::Watch(session.clone()))?)
        }
    }
}

/// Shows what goes through a session until it ends.
fn watch(gateway: &mut Gateway) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout().lock();
    let mut filter = Filter::default();
    let mut is_begun = false;
    let ended = loop {
        match gateway.next()? {
            Answer::Output(text) => {
                let shown = filter.pass(&cast::bytes_of(&text));
                is_begun = true;
                out.write_all(&shown).and_then(|()| out.flush()).map_err(CommandError::Answer)?;
            }
            Answer::Size(columns, rows) => {
                tracing::info!("the terminal is {columns} by {rows} now");
            }
            Answer::Missed(pieces) => tracing::warn!("{pieces} pieces of output were missed"),
            Answer::Done => break Ok(ExitCode::Done),
            other => break Err(refused(other)),
        }
    };
    if is_begun {
        out.write_all(RESET).and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    }
    ended
}

fn table(sessions: &[Session]) -> String {
    let head = [
        "SESSION",
        "KIND",
        "WHO",
        "FROM",
        "CONTAINER",
        "USER",
        "SINCE",
        "RECORDED",
        "STATE",
        "PROGRAM",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| {
        let kind = match session.kind {
            Kind::Session => "session",
            Kind::Forward => "forward",
        };
        [
            session.session.clone(),
            kind.to_owned(),
            shown(session.identity.as_deref().unwrap_or(&session.key)),
            session.peer.clone(),
            shown(&session.container),
            shown(session.user.as_deref().unwrap_or("-")),
            session.since.clone(),
            (if session.recording.is_some() { "yes" } else { "no" }).to_owned(),
            session.lingering.as_ref().map_or_else(
                || "runs".to_owned(),
                |since| format!("lingering since {}", shown(since)),
            ),
            shown(&session.program),
        ]
    }));
    gateway::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_nothing_that_a_terminal_obeys() {
        let session = Session {
            session: "a1b2".to_owned(),
            kind: Kind::Session,
            connection: 1,
            identity: None,
            key: "SHA256:x".to_owned(),
            peer: "192.0.2.1:5".to_owned(),
            container: "web".to_owned(),
            user: Some("www".to_owned()),
            program: "command \u{1b}[2J".to_owned(),
            terminal: true,
            rule: "r".to_owned(),
            recording: None,
            since: "2026-11-30T06:00:00Z".to_owned(),
            lingering: Some("2026-11-30T07:00:00Z".to_owned()),
        };
        let text = table(std::slice::from_ref(&session));
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("a1b2     session  SHA256:x  192.0.2.1:5"), "{text}");
        assert!(text.contains("lingering since 2026-11-30T07:00:00Z"), "{text}");
        assert_eq!(gateway::json(&[session]).lines().count(), 1);
    }
}
