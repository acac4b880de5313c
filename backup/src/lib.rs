//! `backup`: a volume and dump backup streamer.
//!
//! The modules stand in the order bytes move: a job is turned into sources, sources are walked into
//! entries, file content is cut into chunks, chunks are packed into frames and packs, packs go to the
//! store, and a snapshot makes them a backup. Restore reads the same list from the bottom up.
#![deny(unsafe_code)]

use std::process;

use chores_common::command_line;
use chores_common::exit::ExitCode;
use chores_common::shutdown::Shutdown;
use chores_common::telemetry::{self, Verbosity};
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, Credentials};
use commands::{CommandError, Context};
use config::{SettingError, Settings};
use serve::{first, parent};

pub mod entry;

mod allocator;
mod secrecy;
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
pub mod moved;
pub mod snapshot;

pub mod database;

pub mod tree;

pub mod lock;
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

#[cfg(feature = "mount")]
pub mod mount;

// Whose it is, and what need not be kept.
pub mod machine;

pub mod forget;
pub mod prune;

// What should not have gone.
pub mod undelete;

// Into volumes and out of them, in a container of its own.
pub mod worker;

// Dumps back into databases, and whether backups are good.
pub mod into;

pub mod drill;

// Whether all that can be lost is protected.
pub mod retain;
pub mod schedule;

pub mod labels;

pub mod coverage;

// A whole stack back.
pub mod stack;

// Who is told of it.
pub mod notify;

// And how it is doing, in numbers.
pub mod metrics;

// All of it, by itself, for as long as the host runs.
pub mod serve;

// What was typed, what it means, and who does it.
pub mod budget;
pub mod cli;

pub mod config;

pub mod text;

pub mod commands;

/// Threads that wait for the store; all work on data has threads of its own.
const REQUEST_THREADS: usize = 2;

/// The program: parses, sets up, runs one command, and says how it ended.
#[must_use]
pub fn main() -> process::ExitCode {
    allocator::give_back_large_blocks();
    if let Err(error) = secrecy::close() {
        return report(&CommandError::failed(error));
    }
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if matches!(cli.command, Command::Serve(_)) && first::is_first() {
        return stand_in();
    }
    let verbosity = Verbosity { verbose: cli.common.verbose, quiet: cli.common.quiet };
    let outcome = telemetry::start(cli.common.log_format, verbosity)
        .map_err(CommandError::failed)
        .and_then(|()| start_and_run(&cli));
    outcome.map_or_else(|error| report(&error), Into::into)
}

/// What is first in a container looks after those that lose their parents; the work is done by another process.
fn stand_in() -> process::ExitCode {
    match first::stand_in(std::env::args_os().skip(1)) {
        Ok(code) => u8::try_from(code).unwrap_or(u8::MAX).into(),
        Err(error) => report(&CommandError::failed(error)),
    }
}

fn start_and_run(cli: &Cli) -> Result<ExitCode, CommandError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(REQUEST_THREADS)
        .enable_all()
        .build()
        .map_err(CommandError::failed)?;
    let shutdown = {
        let _inside = runtime.enter();
        let listen =
            if parent::is_there() { Shutdown::on_first_signal } else { Shutdown::on_signals };
        listen().map_err(CommandError::failed)?
    };
    // Before anything is begun.
    if !parent::follow().map_err(CommandError::failed)? {
        shutdown.request();
    }
    let outcome = run(cli, &runtime, shutdown.clone());
    // Requests that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    outcome.map_err(|error| error.after(&shutdown))
}

/// The table of contents.
fn run(cli: &Cli, runtime: &Runtime, shutdown: Shutdown) -> Result<ExitCode, CommandError> {
    for name in cli::unknown_variables() {
        if cli.command.uses_store() && config::tells_of_keys(&name) {
            return Err(SettingError::UnknownKey(name).into());
        }
        tracing::warn!("{name} is set, but is no setting of this program; see `backup --help`");
    }
    let settings = if cli.command.uses_store() {
        Settings::new(&cli.common, Credentials::from_environment())?
    } else {
        Settings::without_store(&cli.common)
    };
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
        Command::Mount(args) => commands::mount::run(&context, args),
        Command::Diff(args) => commands::browse::diff(&context, args),
        Command::Restore(args) => commands::restore::run(&context, args),
        Command::Drill(args) => commands::drill::run(&context, args),
        Command::Export(args) => commands::export::run(&context, args),
        Command::Copy(args) => commands::copy::run(&context, args),
        Command::Check(args) => commands::check::run(&context, args),
        Command::Status(args) => commands::status::run(&context, args),
        Command::Serve(args) => commands::serve::run(&context, args),
        Command::Healthcheck(args) => commands::serve::healthcheck(&context, args),
        Command::Learn(args) => commands::serve::learn(&context, args),
        Command::Forget(args) => commands::forget::run(&context, args),
        Command::Prune(args) => commands::prune::run(&context, args),
        Command::Undelete(args) => commands::undelete::run(&context, args),
        Command::Key(command) => commands::key::run(&context, command),
        Command::Lock(args) => commands::lock::run(&context, args),
        Command::Stats => commands::browse::stats(&context),
        Command::Notify(command) => commands::notify::run(&context, command),
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
