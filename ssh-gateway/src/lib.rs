//! `ssh-gateway`: lets SSH clients into running containers, confined as the containers are.

// What the processes say to each other.
pub mod capability;
pub mod descriptor;
pub mod wire;

// From the client inwards.
pub mod broker;
pub mod net;
pub mod uploader;

pub mod cast;
pub mod chain;
pub mod control;
pub mod proof;
pub mod screen;
pub mod trusted_file;

pub mod authorized_keys;
pub mod certificate;
pub mod host_keys;
pub mod login;
pub mod revoked;
pub mod totp;
pub mod upload_state;

pub mod policy;

pub mod container;
pub mod hop;
pub mod role;
pub mod toolbox;

// In and around the container.
pub mod enter;
pub mod spawner;
pub mod task;

pub mod tally;

pub mod portal;
pub mod scp;
pub mod sftp;

// What was typed, what it means, and who does it.
pub mod cli;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod ssh_config;

use chores_common::command_line;
use chores_common::exit::ExitCode;
use chores_common::telemetry::{self, LogFormat};

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
        Role::Uploader => uploader::run(socket).into(),
        Role::Net => {
            // What it says is read, and said again, by the broker.
            let said = telemetry::start(LogFormat::Text, telemetry::Verbosity::default());
            if said.is_err() { ExitCode::Failed.into() } else { net::run(socket) }
        }
    }
}

/// What was typed.
fn obey() -> std::process::ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
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
        Command::Policy(args) => commands::policy::run(&cli.common, &args.command),
        Command::Sessions(args) => commands::sessions::run(&cli.common, &args.command),
        Command::Connections(args) => commands::connections::run(&cli.common, &args.command),
        Command::SshConfig(args) => commands::ssh_config::run(&cli.common, args),
        Command::Replay(args) => commands::replay::run(args),
        Command::Totp(args) => commands::totp::run(&cli.common, &args.command),
        Command::Audit(args) => commands::audit::run(&cli.common, &args.command),
        Command::Completions { shell } => print(&command_line::completions::<Cli>(*shell)),
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn manual(wanted: Option<&str>) -> Result<ExitCode, CommandError> {
    let pages = command_line::manual::<Cli>(wanted).map_err(CommandError::Answer)?;
    print(&pages.map_err(CommandError::usage)?)
}

fn report(error: &CommandError) -> std::process::ExitCode {
    command_line::report("ssh-gateway", error);
    error.exit_code().into()
}
