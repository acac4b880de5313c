//! Diagnostics to standard error: text for people on a terminal, JSON lines for everything else.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
mod tests;

/// The form of the lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The form that standard error gets: text or JSON.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto if std::io::stderr().is_terminal() => Self::Text,
            Self::Auto => Self::Json,
            chosen => chosen,
        }
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other} is no log format; use auto, text or json")),
        }
    }
}

/// The target of events that say who did what.
pub const AUDIT: &str = "audit";

/// How much is said: `-v` and `-q` as counted on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbosity {
    /// How often `-v` was given: 1 debug, 2 and more trace.
    pub verbose: u8,
    /// How often `-q` was given: 1 warnings, 2 errors, 3 and more nothing.
    pub quiet: u8,
}

/// The diagnostics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process has diagnostics already.
    #[error("diagnostics are set up already")]
    AlreadySet,
}

/// Sends the events of this process to standard error from now on. To be called once, by `main`.
/// Foreign libraries are heard from `warn` upwards only, unless `-vv` asks for everything.
pub fn start(format: LogFormat, verbosity: Verbosity) -> Result<(), TelemetryError> {
    let is_terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(targets(verbosity));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let set = if is_json(format, is_terminal) {
        registry.with(layer.json().flatten_event(true)).try_init()
    } else {
        registry.with(layer.with_target(false).with_ansi(is_terminal)).try_init()
    };
    set.map_err(|_| TelemetryError::AlreadySet)
}

/// The level for our own events.
pub fn level(verbosity: Verbosity) -> LevelFilter {
    match i16::from(verbosity.verbose) - i16::from(verbosity.quiet) {
        ..=-3 => LevelFilter::OFF,
        -2 => LevelFilter::ERROR,
        -1 => LevelFilter::WARN,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    }
}

fn is_json(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

fn targets(verbosity: Verbosity) -> Targets {
    let own = level(verbosity);
    let foreign = if own == LevelFilter::TRACE { own } else { own.min(LevelFilter::WARN) };
    ["backup", "logship", "ssh_gateway", "chores_common", AUDIT]
        .into_iter()
        .fold(Targets::new().with_default(foreign), |targets, target| {
            targets.with_target(target, own)
        })
}
