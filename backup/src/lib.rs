//! `backup`: a volume and dump backup streamer.
//!
//! The modules stand in the order bytes move: a job is turned into sources, sources are walked into
//! entries, file content is cut into chunks, chunks are packed into frames and packs, packs go to the
//! store, and a snapshot makes them a backup. Restore reads the same list from the bottom up.
#![forbid(unsafe_code)]

use std::process;

use chores_common::command_line;
use chores_common::exit::ExitCode;
use chores_common::shutdown::Shutdown;
use chores_common::telemetry::{self, Verbosity};
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
pub mod keys;
pub mod pack;

pub mod index;
pub mod mark;
pub mod snapshot;

pub mod database;

pub mod tree;

pub mod store;

pub mod alive;
pub mod repository;

pub mod drill_record;

// What is not what it seems.
pub mod guard;

// Chunks back, for whoever needs them.
pub mod reader;

mod ahead;

// Into it.
pub mod cache;

pub mod create;

pub mod dump;

// What is read holds still.
pub mod quiesce;

// And back.
pub mod target;

pub mod restore;

pub mod export;

pub mod copy;

// What it holds, and whether all is well.
pub mod browse;
pub mod check;
pub mod doctor;

// What need not be kept.
pub mod forget;
pub mod prune;

// Into volumes and out of them, in a container of its own.
pub mod worker;

// Dumps back into databases, and whether backups are good.
pub mod into;

pub mod drill;

// Whether all that can be lost is protected.
pub mod labels;

pub mod coverage;

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
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
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
        Command::Init(args) => commands::key::init(&context, args),
        Command::Create(args) => commands::create::run(&context, args),
        Command::Dump(args) => commands::dump::run(&context, args),
        Command::Stream(args) => commands::stream::run(&context, args),
        Command::Snapshots(args) => commands::browse::snapshots(&context, args),
        Command::Ls(args) => commands::browse::ls(&context, args),
        Command::Cat(args) => commands::browse::cat(&context, args),
        Command::Find(args) => commands::browse::find(&context, args),
        Command::Diff(args) => commands::browse::diff(&context, args),
        Command::Restore(args) => commands::restore::run(&context, args),
        Command::Drill(args) => commands::drill::run(&context, args),
        Command::Export(args) => commands::export::run(&context, args),
        Command::Copy(args) => commands::copy::run(&context, args),
        Command::Check(args) => commands::check::run(&context, args),
        Command::Status(args) => commands::status::run(&context, args),
        Command::Forget(args) => commands::forget::run(&context, args),
        Command::Prune(args) => commands::prune::run(&context, args),
        Command::Key(command) => commands::key::run(&context, command),
        Command::Stats => commands::browse::stats(&context),
        Command::Doctor(args) => commands::check::doctor_run(&context, args),
        Command::Resume => commands::quiesce::resume(&context),
        Command::Guard => commands::quiesce::guard(&context),
        Command::Completions { shell } => print(&command_line::completions::<Cli>(*shell)),
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn manual(wanted: Option<&str>) -> Result<ExitCode, CommandError> {
    let pages = command_line::manual::<Cli>(wanted).map_err(CommandError::Answer)?;
    print(&pages.map_err(CommandError::usage)?)
}

fn print(text: &[u8]) -> Result<ExitCode, CommandError> {
    command_line::print(text).map_err(CommandError::Answer)?;
    Ok(ExitCode::Done)
}

fn report(error: &CommandError) -> process::ExitCode {
    command_line::report("backup", error);
    error.exit_code().into()
}
