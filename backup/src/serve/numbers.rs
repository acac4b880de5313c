//! A report as numbers (pure).

use jiff::Timestamp;

use super::report::{LaneReport, Report};
use crate::metrics::{Numbers, RunNumbers, SourceNumbers};
use crate::notify::ChannelCounts;

#[cfg(test)]
mod tests;

/// What is served of a report.
#[must_use]
pub fn numbers(report: &Report, started: Timestamp, channels: Vec<ChannelCounts>) -> Numbers {
    let sources = report.jobs.iter().map(|job| SourceNumbers {
        name: job.name.clone(),
        last_success: job.last_good,
        is_overdue: job.overdue_since.is_some(),
        added_bytes: job.added_bytes,
        save: run(&job.save),
        retain: job.retain.as_ref().map(run),
        drill: job.drill.as_ref().map(run),
    });
    let mut sources: Vec<_> = sources.collect();
    // Of very many not all are shown: those that somebody has to hear of are.
    sources.sort_by_key(|source| !source.is_overdue);
    Numbers {
        started,
        ailments: report.ailments.len() as u64,
        sources,
        check: report.check.as_ref().map(run),
        prune: report.prune.as_ref().map(run),
        stored_bytes: report.repository.as_ref().map(|repository| repository.stored_bytes),
        snapshots: report.repository.as_ref().map(|repository| repository.snapshots),
        channels,
    }
}

fn run(lane: &LaneReport) -> RunNumbers {
    RunNumbers {
        is_running: lane.running_since.is_some(),
        next: lane.next,
        last_start: lane.last_start,
        last_end: lane.last_end,
        last_result: lane.last_verdict.map(|verdict| verdict.to_string()),
        failures: u64::from(lane.failures),
    }
}
