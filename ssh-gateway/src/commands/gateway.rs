//! The gateway that serves from a state directory: one question, and its answers.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use chores_common::exit::ExitCode;
use serde::Serialize;

use super::CommandError;
use crate::cli::CommonArgs;
use crate::config::{self, SettingError};
use crate::control::{self, Answer, Ask, LINE_BYTES_MAX};

#[derive(Debug, thiserror::Error)]
enum GatewayError {
    #[error("no gateway answers at {}: is it running, and is this its state directory?", path.display())]
    Nobody { path: PathBuf, source: io::Error },
    #[error("the gateway gives no answer that is understood: is it of another version?")]
    Strange,
    #[error("{0}")]
    No(String),
}

/// One that was asked something.
#[derive(Debug)]
pub(super) struct Gateway(BufReader<UnixStream>);

impl Gateway {
    /// Asks the gateway of this state directory.
    pub(super) fn ask(common: &CommonArgs, ask: &Ask) -> Result<Self, CommandError> {
        let state = config::state(common)?.ok_or(SettingError::NoState)?;
        let path = control::socket(&state);
        let nobody =
            |source| CommandError::failed(GatewayError::Nobody { path: path.clone(), source });
        let mut stream = UnixStream::connect(&path).map_err(nobody)?;
        let mut line = serde_json::to_vec(ask).map_err(CommandError::failed)?;
        line.push(b'\n');
        stream.write_all(&line).map_err(CommandError::failed)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Its next answer.
    pub(super) fn next(&mut self) -> Result<Answer, CommandError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.0).take(LINE_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut line).map_err(CommandError::failed)?;
        serde_json::from_slice(&line).map_err(|_| CommandError::failed(GatewayError::Strange))
    }

    /// All that it tells; `one` gives back what is none of that.
    pub(super) fn all<T>(
        mut self,
        one: impl Fn(Answer) -> Result<T, Answer>,
    ) -> Result<Vec<T>, CommandError> {
        let mut all = Vec::new();
        loop {
            match self.next()? {
                Answer::Done => return Ok(all),
                answer => all.push(one(answer).map_err(refused)?),
            }
        }
    }

    /// Whether it has done what it was asked for.
    pub(super) fn done(mut self) -> Result<ExitCode, CommandError> {
        match self.next()? {
            Answer::Done => Ok(ExitCode::Done),
            other => Err(refused(other)),
        }
    }
}

/// An answer that is none.
pub(super) fn refused(answer: Answer) -> CommandError {
    CommandError::failed(match answer {
        Answer::No(reason) => GatewayError::No(reason),
        _ => GatewayError::Strange,
    })
}

/// A line of JSON each.
pub(super) fn json(told: &[impl Serialize]) -> String {
    let lines = told.iter().map(|one| serde_json::to_string(one).unwrap_or_default());
    lines.map(|line| line + "\n").collect()
}

/// Columns as wide as they must be. The first row is their names.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
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
