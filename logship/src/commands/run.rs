//! `run` and `once`: shipping itself.

use chores_common::exit::ExitCode;

use super::{CommandError, Context, page};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::pipeline::{self, PipelineError};
use crate::rule::Mode;

/// Ships.
pub fn run(context: &Context<'_>, args: &RunArgs, mode: Mode) -> Result<ExitCode, CommandError> {
    let config = Config::for_run(context.args, args)?;
    let sinks = config.sink_settings()?;
    if config.state.is_none() {
        tracing::warn!(
            "no state directory: after a restart everything is shipped again; give --state DIR"
        );
    }
    let ui = args.ui.map(|listen| page::settings(listen, &args.ui_archive, &args.ui_access));
    let ui = ui.transpose()?;
    let outcome = pipeline::run(&config, sinks, ui, mode, &context.runtime, &context.shutdown);
    let outcome = outcome.map_err(|error| match error {
        PipelineError::Ui(error) => page::failed(error),
        PipelineError::Files(error @ crate::files::FilesError::Pattern(_)) => {
            CommandError::usage(error)
        }
        error => CommandError::failed(error),
    })?;
    if mode == Mode::Once && context.shutdown.is_requested() {
        return Ok(ExitCode::Interrupted);
    }
    let gaps = outcome.gaps + outcome.sink_gaps;
    if gaps > 0 {
        tracing::warn!(gaps, "lines are missing; `logship audit` says which");
    }
    Ok(if outcome.is_clean() { ExitCode::Done } else { ExitCode::Warnings })
}
