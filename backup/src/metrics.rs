//! How a resident run is doing, as numbers for Prometheus (OpenMetrics text, `docs/backup-metrics.md`): a function of one plain
//! value, which who runs it fills in. `chores_common::status` serves the text.

use std::fmt;

use chores_common::exposition::{self, Writer};
use jiff::Timestamp;

use crate::notify::ChannelCounts;

#[cfg(test)]
mod tests;

/// Sources that have numbers of their own, at the most: each has some twenty.
pub const SOURCES_SHOWN_MAX: usize = 500;

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// When the process began.
    pub started: Timestamp,
    /// Things that a person should do something about.
    pub ailments: u64,
    /// What is saved again and again.
    pub sources: Vec<SourceNumbers>,
    /// Checks of the repository, where there are any.
    pub check: Option<RunNumbers>,
    /// Prunes of the repository, where there are any.
    pub prune: Option<RunNumbers>,
    /// Bytes of the repository, where that is known.
    pub stored_bytes: Option<u64>,
    /// Snapshots in it, where that is known.
    pub snapshots: Option<u64>,
    /// Where notices go.
    pub channels: Vec<ChannelCounts>,
}

/// One thing that is saved again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceNumbers {
    /// What it and its snapshots are called.
    pub name: String,
    /// When its newest good backup was begun.
    pub last_success: Option<Timestamp>,
    /// A good one is missing.
    pub is_overdue: bool,
    /// Bytes that its last backup added to the repository, where that is known.
    pub added_bytes: Option<u64>,
    /// Its backups.
    pub save: RunNumbers,
    /// What drops its snapshots.
    pub retain: Option<RunNumbers>,
    /// What tries its newest one.
    pub drill: Option<RunNumbers>,
}

/// Runs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunNumbers {
    /// One of them is going on.
    pub is_running: bool,
    /// When the next one is due.
    pub next: Option<Timestamp>,
    /// When the last one began.
    pub last_start: Option<Timestamp>,
    /// When it ended.
    pub last_end: Option<Timestamp>,
    /// How it ended, in a word such as `good`.
    pub last_result: Option<String>,
    /// How many have failed since the last one that did not.
    pub failures: u64,
}

/// The numbers as text.
#[must_use]
pub fn text(numbers: Numbers) -> String {
    exposition::text("backup", move |writer| {
        encode_process(&numbers, writer)?;
        encode_sources(&numbers, writer)?;
        encode_repository(&numbers, writer)?;
        encode_notices(&numbers.channels, writer)
    })
}

fn encode_process(numbers: &Numbers, writer: &mut Writer<'_>) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    writer.gauges("build", "The program", [(version, 1.0)])?;
    writer.gauge("start_time_seconds", "When it began", seconds(numbers.started))?;
    let ailments = "Things that a person should do something about";
    writer.gauge("ailments", ailments, numbers.ailments as f64)?;
    writer.gauge("sources", "What is saved again and again", numbers.sources.len() as f64)?;
    let hidden = numbers.sources.len().saturating_sub(SOURCES_SHOWN_MAX);
    writer.gauge("sources_hidden", "Sources without own numbers", hidden as f64)
}

fn encode_sources(numbers: &Numbers, writer: &mut Writer<'_>) -> fmt::Result {
    let shown = || numbers.sources.iter().take(SOURCES_SHOWN_MAX);
    let label = |source: &SourceNumbers| [("source", source.name.clone())];
    let named = |value: fn(&SourceNumbers) -> Option<f64>| {
        shown().filter_map(move |source| value(source).map(|value| (label(source), value)))
    };
    gauges(
        writer,
        "source_last_success_time_seconds",
        "When its newest good backup was begun",
        named(|source| source.last_success.map(seconds)),
    )?;
    gauges(
        writer,
        "source_overdue",
        "A good backup is missing",
        named(|source| Some(flag(source.is_overdue))),
    )?;
    gauges(
        writer,
        "source_added_bytes",
        "What its last backup added to the repository",
        named(|source| source.added_bytes.map(|bytes| bytes as f64)),
    )?;
    let runs: Vec<_> = shown()
        .flat_map(|source| {
            let each = [
                ("save", Some(&source.save)),
                ("retain", source.retain.as_ref()),
                ("drill", source.drill.as_ref()),
            ];
            let each = each.into_iter().filter_map(|(kind, run)| run.map(|run| (kind, run)));
            each.map(move |(kind, run)| {
                (vec![("source", source.name.clone()), ("run", kind.to_owned())], run)
            })
        })
        .collect();
    encode_runs("source", &runs, writer)
}

fn encode_repository(numbers: &Numbers, writer: &mut Writer<'_>) -> fmt::Result {
    if let Some(bytes) = numbers.stored_bytes {
        writer.gauge("stored_bytes", "Bytes of the repository", bytes as f64)?;
    }
    if let Some(snapshots) = numbers.snapshots {
        writer.gauge("snapshots", "Snapshots in the repository", snapshots as f64)?;
    }
    let each = [("check", numbers.check.as_ref()), ("prune", numbers.prune.as_ref())];
    let runs: Vec<_> = each
        .into_iter()
        .filter_map(|(kind, run)| run.map(|run| (vec![("run", kind.to_owned())], run)))
        .collect();
    encode_runs("repository", &runs, writer)
}

/// Labels of one line.
type Labels = Vec<(&'static str, String)>;

/// A gauge of a run: the end of its name, its help, and where its value is.
type RunGauge = (&'static str, &'static str, fn(&RunNumbers) -> Option<f64>);

const RUN_GAUGES: [RunGauge; 5] = [
    ("running", "A run is going on", |run| Some(flag(run.is_running))),
    ("next_run_time_seconds", "When the next run is due", |run| run.next.map(seconds)),
    ("last_run_time_seconds", "When the last run ended", |run| run.last_end.map(seconds)),
    ("last_run_duration_seconds", "How long it took", |run| match (run.last_start, run.last_end) {
        (Some(start), Some(end)) if end >= start => Some(seconds(end) - seconds(start)),
        _ => None,
    }),
    ("failures", "Runs that failed one after the other", |run| Some(run.failures as f64)),
];

fn encode_runs(of: &str, runs: &[(Labels, &RunNumbers)], writer: &mut Writer<'_>) -> fmt::Result {
    for (name, help, value) in RUN_GAUGES {
        let values =
            runs.iter().filter_map(|(labels, run)| value(run).map(|value| (labels.clone(), value)));
        gauges(writer, &format!("{of}_{name}"), help, values)?;
    }
    let results = runs.iter().filter_map(|(labels, run)| {
        let result = run.last_result.clone()?;
        Some(([labels.clone(), vec![("result", result)]].concat(), 1.0))
    });
    gauges(writer, &format!("{of}_last_result"), "How the last run ended", results)
}

fn encode_notices(channels: &[ChannelCounts], writer: &mut Writer<'_>) -> fmt::Result {
    if channels.is_empty() {
        return Ok(());
    }
    let each = |value: fn(&ChannelCounts) -> u64| {
        let lines = channels.iter();
        lines.map(move |one| ([("channel", one.channel.as_str())], value(one))).collect::<Vec<_>>()
    };
    writer.counters("notices_accepted", "Notices that were taken", each(|one| one.accepted))?;
    writer.counters("notices_refused", "Notices refused for good", each(|one| one.refused))?;
    let dropped = "Notices that were too many or too old";
    writer.counters("notices_dropped", dropped, each(|one| one.dropped))?;
    writer.counters("notices_failures", "Attempts that failed", each(|one| one.failures))?;
    let waiting = each(|one| one.waiting).into_iter();
    let waiting = waiting.map(|(labels, value)| (labels, value as f64));
    writer.gauges("notices_waiting", "Notices that wait", waiting)?;
    let failing = channels
        .iter()
        .map(|one| ([("channel", one.channel.as_str())], flag(one.failing.is_some())));
    writer.gauges("notices_failing", "The last attempt failed", failing)
}

/// Nothing of a family that has no lines.
fn gauges<L: AsRef<[(&'static str, String)]>>(
    writer: &mut Writer<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, f64)>,
) -> fmt::Result {
    let values: Vec<_> = values.collect();
    if values.is_empty() {
        return Ok(());
    }
    writer.gauges(name, help, values.iter().map(|(labels, value)| (labels.as_ref(), *value)))
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}
