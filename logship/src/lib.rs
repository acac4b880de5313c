//! `logship`: a door without a room behind it. This release of the suite contains `backup` only.
#![forbid(unsafe_code)]

// What travels.
pub mod time;

pub mod record;

pub mod block;
pub mod source;

// How far each source was read.
pub mod api;
pub mod cursor;
pub mod proof;

// From the sources into the log.
pub mod process;
pub mod watch;

pub mod intake;
pub mod ledger;
pub mod wal;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// Wrong usage or configuration, as in every binary of the suite.
const EXIT_USAGE: u8 = 2;

/// The one answer to any use, since there is nothing to use.
const NOT_YET: &str = "logship cannot ship logs yet: this release contains backup only; see README";

/// Ships container logs to files, collectors and object storage (not in this release).
#[derive(Debug, Parser)]
#[command(name = "logship", version)]
struct Cli {}

/// What goes out and how the process ends: standard output for 0, standard error otherwise.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    text: String,
    exit: u8,
}

/// Answers the command line of this process.
pub fn main() -> ExitCode {
    let answer = answer(std::env::args_os());
    let written = match answer.exit {
        0 => io::stdout().write_all(answer.text.as_bytes()),
        _ => io::stderr().write_all(answer.text.as_bytes()),
    };
    // A closed pipe leaves nobody to tell.
    ExitCode::from(if written.is_ok() { answer.exit } else { 1 })
}

fn answer(arguments: impl IntoIterator<Item = OsString>) -> Answer {
    match Cli::try_parse_from(arguments) {
        Err(asked)
            if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Answer { text: asked.to_string(), exit: 0 }
        }
        Ok(Cli {}) | Err(_) => Answer { text: format!("{NOT_YET}\n"), exit: EXIT_USAGE },
    }
}

#[cfg(test)]
mod tests;
