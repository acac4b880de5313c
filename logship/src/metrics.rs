//! How a run is doing, as numbers for Prometheus (OpenMetrics text) and as an answer to "are you well?". Both are
//! functions of one snapshot.

use std::fmt;

use chores_common::exposition::{self, Writer};

use crate::files::FilesCounts;
use crate::followed::{EngineAway, Way};
use crate::rotate::RotateCounts;
use crate::sink::stats::SinkReport;
use crate::source::Origin;
use crate::time::SECOND;
use crate::wal::{LogStats, Pressure, SourceState};

#[cfg(test)]
mod tests;

/// Sources that have numbers of their own, at the most; the sums count all of them.
pub const SOURCES_SHOWN_MAX: usize = 500;

/// A source that has ended keeps its numbers for so long, in nanoseconds.
pub const SERIES_AGE_MAX: i64 = 600 * SECOND;

/// A sink may fail, and the engine be away, for so long before the process is not well, in nanoseconds.
pub const FAILING_TOLERATED: i64 = 60 * SECOND;

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The moment, in nanoseconds since 1970.
    pub now: i64,
    /// When the process began.
    pub started: i64,
    /// The log and its sources.
    pub log: LogStats,
    /// Every sink by name.
    pub sinks: Vec<(String, SinkReport)>,
    /// How each container is read.
    pub followed: Vec<Way>,
    /// The engine does not answer.
    pub engine_away: Option<EngineAway>,
    /// Log files.
    pub files: FilesCounts,
    /// Their rotation.
    pub rotate: RotateCounts,
}

/// What is wrong, a sentence each; empty when all is well.
#[must_use]
pub fn ailments(snapshot: &Snapshot) -> Vec<String> {
    let mut ailments = Vec::new();
    if let Some(reason) = &snapshot.log.failed {
        ailments.push(format!("the log has failed: {reason}"));
    }
    if snapshot.log.pressure == Pressure::DiskFull {
        ailments.push("the disk of the log is full".to_owned());
    }
    if snapshot.log.pressure == Pressure::Descriptors {
        ailments.push("the log waits for a file descriptor".to_owned());
    }
    if let Some(away) = &snapshot.engine_away {
        let age = snapshot.now.saturating_sub(away.since);
        if age >= FAILING_TOLERATED {
            let (seconds, error) = (age / SECOND, &away.error);
            ailments.push(format!("the engine has not answered for {seconds} s: {error}"));
        }
    }
    for (name, report) in &snapshot.sinks {
        if let Some(failing) = &report.failing {
            let age = snapshot.now.saturating_sub(failing.since);
            if age >= FAILING_TOLERATED {
                let (seconds, error) = (age / SECOND, &failing.error);
                ailments.push(format!("the sink {name} has failed for {seconds} s: {error}"));
            }
        }
    }
    ailments
}

/// The numbers as OpenMetrics text.
#[must_use]
pub fn text(snapshot: Snapshot) -> String {
    exposition::text("logship", move |writer| {
        snapshot.encode_log(writer)?;
        snapshot.encode_sources(writer)?;
        snapshot.encode_sinks(writer)
    })
}

impl Snapshot {
    /// Sources with numbers of their own: those that live, the youngest first when there are too many.
    fn shown(&self) -> Vec<&SourceState> {
        let mut shown: Vec<&SourceState> = self
            .log
            .sources
            .values()
            .filter(|source| source.ended.is_none_or(|ended| self.now - ended < SERIES_AGE_MAX))
            .collect();
        shown.sort_by_key(|source| (source.ended.is_some(), std::cmp::Reverse(source.last_ts)));
        shown.truncate(SOURCES_SHOWN_MAX);
        shown.sort_by(|left, right| left.meta.key.cmp(&right.meta.key));
        shown
    }
}

/// A counter: its name, its help, and where its value is.
type Counted<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Labels of a source.
type SourceLabels<'a> = [(&'static str, &'a str); 3];

impl Snapshot {
    fn encode_log(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let log = &self.log;
        let sum = log.sources.values().fold(log.forgotten, |sum, source| sum.plus(source.totals));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        writer.gauges("build", "The program", [(version, 1.0)])?;
        writer.gauge("start_time_seconds", "When it began", seconds(self.started))?;
        writer.counter("records", "Records taken into the log", sum.records)?;
        writer.counter("bytes", "Bytes of their lines", sum.bytes)?;
        writer.counter("late_records", "Records after younger ones", sum.late)?;
        writer.counter("gaps", "Holes in sources", sum.gaps)?;
        writer.counter("gaps_unknown", "Holes of unknown size", sum.gaps_unknown)?;
        writer.counter("lost_lines", "Lines known to be missing", sum.lost_lines)?;
        writer.counter("lost_bytes", "Bytes known to be missing", sum.lost_bytes)?;
        writer.counter("filtered_lines", "Lines below the level", sum.filtered_lines)?;
        writer.gauge("wal_bytes", "Size of the log", log.bytes as f64)?;
        writer.gauge("wal_segments", "Files of the log", log.segments as f64)?;
        let uncommitted = log.written.frame.saturating_sub(log.durable.frame);
        writer.gauge("wal_uncommitted_bytes", "Written, not durable", uncommitted as f64)?;
        let is = |pressure| f64::from(u8::from(log.pressure == pressure));
        writer.gauge("wal_full", "The log waits for its slowest sink", is(Pressure::Sinks))?;
        writer.gauge("disk_full", "The log waits for space", is(Pressure::DiskFull))?;
        let is_out = is(Pressure::Descriptors);
        writer.gauge("descriptors_exhausted", "The log waits for a file descriptor", is_out)?;
        let failed = f64::from(u8::from(log.failed.is_some()));
        writer.gauge("wal_failed", "The log takes nothing any more", failed)
    }

    fn encode_sources(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let shown = self.shown();
        let live = self.log.sources.values().filter(|source| source.ended.is_none()).count();
        let hidden = self.log.sources.len() - shown.len();
        writer.gauge("sources", "Sources that have not ended", live as f64)?;
        writer.gauge("sources_hidden", "Sources without own numbers", hidden as f64)?;
        let read_by = |way| self.followed.iter().filter(|one| **one == way).count() as f64;
        let ways =
            [([("way", "direct")], read_by(Way::Direct)), ([("way", "api")], read_by(Way::Api))];
        writer.gauges("containers", "Containers that are read, by the way", ways)?;
        let away = f64::from(u8::from(self.engine_away.is_some()));
        writer.gauge("engine_away", "The engine does not answer", away)?;
        let FilesCounts { refused, outside } = self.files;
        writer.counter("files_refused", "Paths that are meant and could not be read", refused)?;
        writer.counter(
            "links_refused",
            "Of those, links that lead out of their directory",
            outside,
        )?;
        self.encode_rotation(writer)?;
        if shown.is_empty() {
            return Ok(());
        }
        let each = |value: fn(&SourceState) -> u64| {
            let shown = shown.iter();
            shown.map(move |source| (labels(source), value(source))).collect::<Vec<_>>()
        };
        let counters: [Counted<SourceState>; 6] = [
            ("source_records", "Records of a source", |source| source.totals.records),
            ("source_bytes", "Bytes of its lines", |source| source.totals.bytes),
            ("source_gaps", "Holes in it", |source| source.totals.gaps),
            ("source_lost_lines", "Lines known to be missing", |source| source.totals.lost_lines),
            ("source_lost_bytes", "Bytes known to be missing", |source| source.totals.lost_bytes),
            ("source_filtered_lines", "Lines below the level", |source| {
                source.totals.filtered_lines
            }),
        ];
        for (name, help, value) in counters {
            writer.counters(name, help, each(value))?;
        }
        let last = shown
            .iter()
            .filter_map(|source| source.last_ts.map(|last| (labels(source), seconds(last))));
        writer.gauges("source_last_record_time_seconds", "Time of its last record", last)
    }

    fn encode_rotation(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let RotateCounts {
            renamed,
            collapsed,
            punched,
            removed_bytes,
            compressed,
            faults,
            draining,
            kept,
        } = self.rotate;
        let ways = [
            ([("way", "rename")], renamed),
            ([("way", "collapse")], collapsed),
            ([("way", "punch")], punched),
        ];
        writer.counters("rotations", "Rotations of log files, by the way", ways)?;
        let removed = "Bytes that rotation took away, all of them shipped";
        writer.counter("rotated_removed_bytes", removed, removed_bytes)?;
        writer.counter("rotated_compressed", "Rotated files that were compressed", compressed)?;
        writer.counter("rotate_faults", "Steps of rotations that failed", faults)?;
        let waiting = "Renamed files that are not over";
        writer.gauge("rotated_draining", waiting, draining as f64)?;
        writer.gauge("rotated_kept", "Rotated files that are kept", kept as f64)
    }

    fn encode_sinks(&self, writer: &mut Writer<'_>) -> fmt::Result {
        if self.sinks.is_empty() {
            return Ok(());
        }
        let sinks = || self.sinks.iter().map(|(name, report)| ([("sink", name.as_str())], report));
        let counters: [Counted<SinkReport>; 8] = [
            ("sink_records", "Records delivered", |report| report.records),
            ("sink_bytes", "Bytes sent", |report| report.bytes),
            ("sink_deliveries", "Batches delivered", |report| report.deliveries),
            ("sink_retries", "Attempts after the first", |report| report.retries),
            ("sink_failures", "Attempts that failed", |report| report.failures),
            ("sink_dropped_records", "Records refused and let go", |report| report.dropped),
            ("sink_skipped_records", "Records lost behind its bound", |report| report.skipped),
            ("sink_gaps", "Holes that are this sink's alone", |report| report.gaps),
        ];
        for (name, help, value) in counters {
            writer.counters(name, help, sinks().map(|(labels, report)| (labels, value(report))))?;
        }
        let lag = |report: &SinkReport| match (report.lag_bytes, report.delivered_ts) {
            // It has everything, or nothing was ever for it.
            (0, _) => 0.0,
            (_, 0) => seconds(self.now.saturating_sub(self.started)),
            (_, delivered) => seconds(self.now.saturating_sub(delivered).max(0)),
        };
        writer.gauges(
            "sink_lag_bytes",
            "Bytes of the log it does not have",
            sinks().map(|(labels, report)| (labels, report.lag_bytes as f64)),
        )?;
        writer.gauges(
            "sink_lag_seconds",
            "Age of the youngest record it has, while there are others",
            sinks().map(|(labels, report)| (labels, lag(report))),
        )?;
        writer.gauges(
            "sink_failing",
            "Its last attempt failed",
            sinks().map(|(labels, report)| (labels, f64::from(u8::from(report.failing.is_some())))),
        )
    }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

fn labels(source: &SourceState) -> SourceLabels<'_> {
    let kind = match &source.meta.origin {
        Origin::Engine { .. } => "engine",
        Origin::File { .. } => "file",
    };
    [("source", &source.meta.key.0), ("name", source.meta.origin.name()), ("type", kind)]
}
