//! `run` and `once`: shipping itself.

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::pipeline::{self, PipelineError};
use crate::rule::Mode;
use crate::sink::settings::SinkSettings;

/// Ships.
pub fn run(context: &Context<'_>, args: &RunArgs, mode: Mode) -> Result<ExitCode, CommandError> {
    let config = Config::for_run(context.args, args)?;
    let sinks = sinks(&config)?;
    if config.state.is_none() {
        tracing::warn!(
            "no state directory: after a restart everything is shipped again; give --state DIR"
        );
    }
    let outcome = pipeline::run(&config, sinks, mode, &context.runtime, &context.shutdown);
    let outcome = outcome.map_err(|error| match error {
        PipelineError::Files(error @ crate::files::FilesError::Pattern(_)) => {
            CommandError::usage(error)
        }
        error => CommandError::failed(error),
    })?;
    if mode == Mode::Once && context.shutdown.is_requested() {
        return Ok(ExitCode::Interrupted);
    }
    if outcome.gaps > 0 {
        tracing::warn!(gaps = outcome.gaps, "lines are missing; `logship audit` says which");
    }
    let is_clean = outcome.is_drained && outcome.gaps == 0 && outcome.refused == 0;
    Ok(if is_clean { ExitCode::Done } else { ExitCode::Warnings })
}

/// What every sink of the configuration is.
pub fn sinks(config: &Config) -> Result<Vec<SinkSettings>, CommandError> {
    let parse = |sink: &crate::config::SinkConfig| {
        SinkSettings::parse(&sink.name, &sink.url, &sink.options).map_err(CommandError::usage)
    };
    config.sinks.iter().map(parse).collect()
}
