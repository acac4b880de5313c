//! `logship`: ships container logs and log files.
//!
//! The modules stand in the order lines move: sources read pieces and join them into blocks of records, the
//! intake hands them to the write-ahead log together with the cursor of their source, and every sink reads the
//! log at its own pace and moves a cursor of its own.

use chores_common::command_line;
use chores_common::exit::ExitCode;
use chores_common::shutdown::Shutdown;
use chores_common::telemetry;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command};
use commands::{CommandError, Context, print};
use rule::Mode;

// What travels.
pub use chores_common::quantity;
pub mod time;

pub mod record;

pub mod block;
pub mod pattern;

pub mod source;

// Lines as fields.
pub mod parse;

// How far each source was read.
pub mod cursor;
pub mod proof;

// What the process may have.
pub mod descriptors;

// From the sources into the log.
pub mod process;
pub mod watch;

pub mod rotation;

pub mod rule;

pub mod labels;

pub mod plan;

pub mod intake;
pub mod ledger;
pub mod wal;

// The sources.
pub mod api;
pub mod followed;

pub mod direct;
pub mod discover;
pub mod files;

pub mod engine_source;

// Back: what is shipped may be rotated.
pub mod rotate;

pub mod doctor;

pub mod audit;

// Out of the log.
pub mod template;

pub mod encode;

pub mod sink;

pub mod deliver;

// What was put away, read again.
pub mod archive;

// How it is doing.
pub mod metrics;

pub mod status;

pub mod ui;

// The engine, for those who must not have it all.
pub mod proxy;

// What was typed, what it means, and who does it.
pub mod cli;

pub mod config;

pub mod pipeline;

pub mod commands;

/// Threads that wait for the engine and for object stores; all work on lines has threads of its own.
const REQUEST_THREADS: usize = 2;

/// The program: parses, sets up, runs one command, and says how it ended.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let outcome = telemetry::start(cli.common.log_format, cli.verbosity())
        .map_err(CommandError::failed)
        .inspect(|()| descriptors::raise())
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
        tracing::warn!("{name} is set, but is no setting of this program; see `logship --help`");
    }
    let context = Context { args: &cli.common, runtime: runtime.handle().clone(), shutdown };
    match &cli.command {
        Command::Run(args) => commands::run::run(&context, args, Mode::Follow),
        Command::Once(args) => commands::run::run(&context, args, Mode::Once),
        Command::Check(args) => commands::check::run(&context, args),
        Command::Rotate(args) => commands::rotate::run(&context, args),
        Command::Doctor(args) => commands::look::doctor(&context, args),
        Command::Audit(args) => commands::look::audit(&context, args),
        Command::Cat(args) => commands::archive::cat(&context, args),
        Command::Grep(args) => commands::archive::grep(&context, args),
        Command::Tail(args) => commands::archive::tail(&context, args),
        Command::SocketProxy(args) => commands::proxy::run(&context, args),
        Command::ServeUi(args) => commands::page::serve(&context, args),
        Command::Healthcheck(args) => commands::look::healthcheck(&context, args),
        Command::Completions { shell } => print(&command_line::completions::<Cli>(*shell)),
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn manual(wanted: Option<&str>) -> Result<ExitCode, CommandError> {
    let pages = command_line::manual::<Cli>(wanted).map_err(CommandError::Answer)?;
    print(&pages.map_err(CommandError::usage)?)
}

fn report(error: &CommandError) -> std::process::ExitCode {
    command_line::report("logship", error);
    error.exit_code().into()
}
