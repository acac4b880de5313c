//! `notify`: whether notices arrive.

use std::collections::BTreeMap;
use std::path::Path;

use chores_common::exit::ExitCode;
use chores_common::settings;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::{self, NotifyCommand, NotifyTestArgs};
use crate::notify::{Channels, Event, Kind, Outcome, tell_once};

/// Nobody is told anything.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no channel for notices: set BACKUP_NOTIFY_URL, or name a file with [[notify]] by --config FILE"
)]
struct NoChannel;

/// Does what was asked for.
pub fn run(context: &Context<'_>, command: &NotifyCommand) -> Result<ExitCode, CommandError> {
    match command {
        NotifyCommand::Test(args) => test(context, args),
    }
}

/// Every channel of a configuration file and of the environment. Of the file only `[[notify]]` is read.
pub fn channels(config: Option<&Path>) -> Result<Channels, CommandError> {
    let in_file =
        config.map(|path| settings::read(path, |text| settings::parse(text, Channels::read)));
    let in_file = in_file.transpose().map_err(CommandError::usage)?.unwrap_or_default();
    let (value, file) = cli::notify_urls();
    let in_environment = Channels::from_environment(value, file).map_err(CommandError::usage)?;
    in_file.and(in_environment).map_err(CommandError::usage)
}

fn test(context: &Context<'_>, args: &NotifyTestArgs) -> Result<ExitCode, CommandError> {
    let channels = channels(args.config.as_deref())?;
    if channels.is_empty() {
        return Err(CommandError::usage(NoChannel));
    }
    let event = Event {
        time: jiff::Timestamp::now(),
        host: super::create::host_name(),
        job: "backup notify test".to_owned(),
        kind: Kind::Test,
        text: "This is a test: what happens to backups is told here.".to_owned(),
        details: BTreeMap::new(),
    };
    let outcomes = tell_once(&channels, &event).map_err(CommandError::usage)?;
    let mut failed = 0_usize;
    for (channel, outcome) in channels.iter().zip(&outcomes) {
        let problem = match outcome {
            Outcome::Accepted => None,
            Outcome::Later { sentence, .. } | Outcome::Refused { sentence } => Some(sentence),
        };
        failed += usize::from(problem.is_some());
        context.answer(
            || match problem {
                None => format!("{} ({channel}): taken", channel.name),
                Some(problem) => format!("{} ({channel}): NOT taken: {problem}", channel.name),
            },
            || {
                json!({
                    "event": "channel", "channel": channel.name, "place": channel.to_string(),
                    "taken": problem.is_none(), "problem": problem,
                })
            },
        )?;
    }
    if context.settings.json {
        let taken = outcomes.len() - failed;
        let summary = json!({"event": "summary", "taken": taken, "failed": failed});
        context.answer(String::new, || summary)?;
    }
    Ok(if failed == 0 { ExitCode::Done } else { ExitCode::Failed })
}
