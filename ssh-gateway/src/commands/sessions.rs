//! `sessions`: what runs, asked of the gateway that serves.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use chores_common::exit::ExitCode;

use super::{CommandError, print};
use crate::cast;
use crate::cli::{CommonArgs, SessionsCommand};
use crate::config::{self, SettingError};
use crate::control::{self, Answer, Ask, LINE_BYTES_MAX, Session};
use crate::login::shown;
use crate::screen::{Filter, RESET};

#[derive(Debug, thiserror::Error)]
enum SessionsError {
    #[error("no gateway answers at {}: is it running, and is this its state directory?", path.display())]
    Nobody { path: PathBuf, source: io::Error },
    #[error("the gateway gives no answer that is understood: is it of another version?")]
    Strange,
    #[error("{0}")]
    No(String),
}

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &SessionsCommand) -> Result<ExitCode, CommandError> {
    let state = config::state(common)?.ok_or(SettingError::NoState)?;
    let path = control::socket(&state);
    let ask = match command {
        SessionsCommand::Ls => Ask::Sessions,
        SessionsCommand::Kill { session } => Ask::Kill(session.clone()),
        SessionsCommand::Watch { session } => Ask::Watch(session.clone()),
    };
    let nobody =
        |source| CommandError::failed(SessionsError::Nobody { path: path.clone(), source });
    let mut stream = UnixStream::connect(&path).map_err(nobody)?;
    let mut line = serde_json::to_vec(&ask).map_err(CommandError::failed)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(CommandError::failed)?;
    let mut answers = BufReader::new(stream);
    match ask {
        Ask::Sessions => {
            let sessions = sessions(&mut answers)?;
            print((if common.json { json(&sessions) } else { table(&sessions) }).as_bytes())
        }
        Ask::Kill(_) => match next(&mut answers)? {
            Answer::Done => Ok(ExitCode::Done),
            other => Err(refused(other)),
        },
        Ask::Watch(_) => watch(&mut answers),
    }
}

fn refused(answer: Answer) -> CommandError {
    CommandError::failed(match answer {
        Answer::No(reason) => SessionsError::No(reason),
        _ => SessionsError::Strange,
    })
}

fn next(answers: &mut BufReader<UnixStream>) -> Result<Answer, CommandError> {
    let strange = || CommandError::failed(SessionsError::Strange);
    let mut line = Vec::new();
    let mut bounded = answers.take(LINE_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).map_err(CommandError::failed)?;
    serde_json::from_slice(&line).map_err(|_| strange())
}

/// All of them.
fn sessions(answers: &mut BufReader<UnixStream>) -> Result<Vec<Session>, CommandError> {
    let mut sessions = Vec::new();
    loop {
        match next(answers)? {
            Answer::Session(session) => sessions.push(*session),
            Answer::Done => return Ok(sessions),
            other => return Err(refused(other)),
        }
    }
}

/// Shows what goes through a session until it ends.
fn watch(answers: &mut BufReader<UnixStream>) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout().lock();
    let mut filter = Filter::default();
    let mut is_begun = false;
    let ended = loop {
        match next(answers)? {
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

fn json(sessions: &[Session]) -> String {
    let lines = sessions.iter().map(|session| serde_json::to_string(session).unwrap_or_default());
    lines.map(|line| line + "\n").collect()
}

fn table(sessions: &[Session]) -> String {
    let mut rows = vec![
        ["SESSION", "WHO", "FROM", "CONTAINER", "USER", "SINCE", "RECORDED", "STATE", "PROGRAM"]
            .map(str::to_owned),
    ];
    rows.extend(sessions.iter().map(|session| {
        [
            session.session.clone(),
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
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_nothing_that_a_terminal_obeys() {
        let session = Session {
            session: "a1b2".to_owned(),
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
        assert!(text.contains("a1b2     SHA256:x  192.0.2.1:5"), "{text}");
        assert!(text.contains("lingering since 2026-11-30T07:00:00Z"), "{text}");
        assert_eq!(json(&[session]).lines().count(), 1);
    }
}
