//! `backup`: a volume and dump backup streamer.
//!
//! The modules stand in the order bytes move: a job is turned into sources, sources are walked into
//! entries, file content is cut into chunks, chunks are packed into frames and packs, packs go to the
//! store, and a snapshot makes them a backup. Restore reads the same list from the bottom up.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process;

use chores_common::exit::{ExitCode, chain};
use chores_common::shutdown::Shutdown;
use chores_common::telemetry::{self, Verbosity};
use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, Credentials};
use commands::{CommandError, Context};
use config::Settings;

pub mod entry;

mod threads;

// Sources.
pub mod mounts;

pub mod sources;

pub mod beneath;
pub mod exclude;

pub mod walk;

pub mod source_file;

// One plain archive.
pub mod tar_writer;

pub mod tar_zst;

pub mod stream;

pub mod sink;

// The repository.
pub mod chunk;
pub mod pack;

pub mod index;
pub mod snapshot;

pub mod tree;

pub mod store;

pub mod repository;

// Into it.
pub mod cache;

pub mod create;

// And back.
pub mod reader;
pub mod target;

pub mod restore;

mod ahead;

pub mod export;

// What it holds, and whether all is well.
pub mod browse;
pub mod check;
pub mod doctor;

// Into volumes and out of them, in a container of its own.
pub mod worker;

// What was typed, what it means, and who does it.
pub mod cli;

pub mod config;

pub mod text;

pub mod commands;

/// Threads that wait for the store; all work on data has threads of its own.
const REQUEST_THREADS: usize = 2;

/// The program: parses, sets up, runs one command, and says how it ended.
#[must_use]
pub fn main() -> process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers on standard output, the rest is wrong usage.
            let code = if answer.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            return if answer.print().is_ok() { code.into() } else { ExitCode::Failed.into() };
        }
    };
    let verbosity = Verbosity { verbose: cli.common.verbose, quiet: cli.common.quiet };
    let outcome = telemetry::start(cli.common.log_format, verbosity)
        .map_err(CommandError::failed)
        .and_then(|()| start_and_run(&cli));
    outcome.map_or_else(|error| report(&error), Into::into)
}

fn start_and_run(cli: &Cli) -> Result<ExitCode, CommandError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(REQUEST_THREADS)
        .enable_all()
        .build()
        .map_err(CommandError::failed)?;
    let shutdown = {
        let _inside = runtime.enter();
        Shutdown::on_signals().map_err(CommandError::failed)?
    };
    let outcome = run(cli, &runtime, shutdown.clone());
    // Requests that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    outcome.map_err(|error| error.after(&shutdown))
}

/// The table of contents.
fn run(cli: &Cli, runtime: &Runtime, shutdown: Shutdown) -> Result<ExitCode, CommandError> {
    for name in cli::unknown_variables() {
        tracing::warn!("{name} is set, but is no setting of this program; see `backup --help`");
    }
    let settings = Settings::new(&cli.common, Credentials::from_environment())?;
    let context =
        Context { args: &cli.common, settings, runtime: runtime.handle().clone(), shutdown };
    match &cli.command {
        Command::Init => commands::init(&context),
        Command::Create(args) => commands::create::run(&context, args),
        Command::Stream(args) => commands::stream::run(&context, args),
        Command::Snapshots(args) => commands::browse::snapshots(&context, args),
        Command::Ls(args) => commands::browse::ls(&context, args),
        Command::Cat(args) => commands::browse::cat(&context, args),
        Command::Find(args) => commands::browse::find(&context, args),
        Command::Diff(args) => commands::browse::diff(&context, args),
        Command::Restore(args) => commands::restore::run(&context, args),
        Command::Export(args) => commands::export::run(&context, args),
        Command::Check(args) => commands::check::run(&context, args),
        Command::Stats => commands::browse::stats(&context),
        Command::Doctor(args) => commands::check::doctor_run(&context, args),
        Command::Completions { shell } => completions(*shell),
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "backup", &mut script);
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
#[error("there is no command {0}: `backup --help` lists them")]
struct NoSuchCommand(String);

fn print(text: &[u8]) -> Result<ExitCode, CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(ExitCode::Done)
}

/// The one place where a failure is told.
fn report(error: &CommandError) -> process::ExitCode {
    // When even standard error is gone, the code is all that is left.
    drop(writeln!(std::io::stderr(), "backup: {}", chain(error)));
    error.exit_code().into()
}
