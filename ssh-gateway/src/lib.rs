//! `ssh-gateway`: a door without a room behind it. This release of the suite contains `backup` only.

// What the processes say to each other.
pub mod descriptor;
pub mod wire;

// From the client inwards.
pub mod broker;
pub mod net;

pub mod authorized_keys;
pub mod host_keys;
pub mod login;
pub mod policy;

pub mod container;
pub mod hop;
pub mod role;

// In and around the container.
pub mod enter;
pub mod spawner;
pub mod task;

pub mod portal;
pub mod scp;
pub mod sftp;

// What was typed, what it means, and who does it.
pub mod cli;
pub mod commands;
pub mod config;
pub mod doctor;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// Wrong usage or configuration, as in every binary of the suite.
const EXIT_USAGE: u8 = 2;

/// The one answer to any use, since there is nothing to use.
const NOT_YET: &str =
    "ssh-gateway cannot accept connections yet: this release contains backup only; see README";

/// Shells, files and port forwards of running containers over SSH (not in this release).
#[derive(Debug, Parser)]
#[command(name = "ssh-gateway", version)]
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
