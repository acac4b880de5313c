//! `ssh-gateway`: lets SSH clients into running containers, confined as the containers are.

// What the processes say to each other.
pub mod capability;
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

use std::io::Write;

use chores_common::exit::{ExitCode, chain};
use chores_common::telemetry::{self, LogFormat};
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use commands::{CommandError, print};
use role::Role;

/// `role NAME`.
const WORDS_OF_ROLE: usize = 2;

/// The program: parses, sets up, runs one command, and says how it ended.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).take(WORDS_OF_ROLE + 1).collect();
    match words.as_slice() {
        [word, name] if word == role::WORD => start_role(name.to_str().and_then(Role::of_name)),
        // A copy of ours is never what somebody has typed.
        _ if role::runs_from_memory() => std::process::ExitCode::from(role::EXIT_REFUSED),
        _ => obey(),
    }
}

/// One of our own processes, if it is one.
fn start_role(role: Option<Role>) -> std::process::ExitCode {
    let (Some(role), Some(socket)) = (role, role::control_socket()) else {
        return std::process::ExitCode::from(role::EXIT_REFUSED);
    };
    match role {
        Role::Spawner => spawner::run(socket).into(),
        Role::Nursery => broker::nursery::run(&socket).into(),
        Role::Net => {
            // What it says is read, and said again, by the broker.
            let said = telemetry::start(LogFormat::Text, telemetry::Verbosity::default());
            if said.is_err() { ExitCode::Failed.into() } else { net::run(socket) }
        }
    }
}

/// What was typed.
fn obey() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers on standard output, the rest is wrong usage.
            let code = if answer.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            return if answer.print().is_ok() { code.into() } else { ExitCode::Failed.into() };
        }
    };
    let outcome = telemetry::start(cli.common.log_format, cli.verbosity())
        .map_err(CommandError::failed)
        .and_then(|()| run(&cli));
    outcome.map_or_else(|error| report(&error), Into::into)
}

/// The table of contents.
fn run(cli: &Cli) -> Result<ExitCode, CommandError> {
    for name in cli::unknown_variables() {
        tracing::warn!(
            "{name} is set, but is no setting of this program; see `ssh-gateway --help`"
        );
    }
    match &cli.command {
        Command::Serve(args) => commands::serve::run(&cli.common, args),
        Command::Doctor(args) => commands::doctor::run(&cli.common, args),
        Command::Completions { shell } => completions(*shell),
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ssh-gateway", &mut script);
    print(&script)
}

fn manual(wanted: Option<&str>) -> Result<ExitCode, CommandError> {
    let mut page = Vec::new();
    let command = Cli::command();
    let chosen: Vec<_> = match wanted {
        None => std::iter::once(&command).chain(command.get_subcommands()).cloned().collect(),
        Some(wanted) => command
            .get_subcommands()
            .filter(|command| command.get_name() == wanted)
            .cloned()
            .collect(),
    };
    if chosen.is_empty() {
        return Err(CommandError::usage(NoSuchCommand(wanted.unwrap_or_default().to_owned())));
    }
    for command in chosen {
        clap_mangen::Man::new(command).render(&mut page).map_err(CommandError::Answer)?;
    }
    print(&page)
}

#[derive(Debug, thiserror::Error)]
#[error("there is no command {0}: `ssh-gateway --help` lists them")]
struct NoSuchCommand(String);

/// The one place where a failure is told.
fn report(error: &CommandError) -> std::process::ExitCode {
    // When even standard error is gone, the code is all that is left.
    drop(writeln!(std::io::stderr(), "ssh-gateway: {}", chain(error)));
    error.exit_code().into()
}
