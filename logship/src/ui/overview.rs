//! How sources, log and sinks are doing, in one JSON document: of this process from its own numbers, of another one
//! from what it keeps in its state directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::line::stamp;
use crate::ledger::{self, LedgerEntry};
use crate::metrics::{Snapshot, ailments};
use crate::source::Origin;
use crate::time::{self, SECOND};
use crate::wal::{Glance, Position, Pressure, Role, SourceState, Totals};

#[cfg(test)]
mod tests;

/// Sources that are listed, at the most: the youngest.
const SOURCES_MAX: usize = 500;

/// Gaps that are listed, at the most: the youngest.
const GAPS_MAX: usize = 50;

/// How often the ledger is read.
const GAPS_EVERY: Duration = Duration::from_secs(5);

/// What is shown beside the lines.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The moment.
    pub now: String,
    /// The release of the program that serves.
    pub version: &'static str,
    /// Whether the process that serves is the one that ships.
    pub is_live: bool,
    /// Whether there is a session that can be left.
    pub has_login: bool,
    /// What is wrong, a sentence each.
    pub ailments: Vec<String>,
    /// The log.
    pub log: LogView,
    /// Sources by name; containers and files of one name count as one.
    pub sources: Vec<SourceView>,
    /// Sources that are not listed.
    pub sources_hidden: usize,
    /// Sinks by name.
    pub sinks: Vec<SinkView>,
    /// The youngest gaps that are known in detail, the youngest first.
    pub gaps: Vec<GapView>,
}

/// The log.
#[derive(Debug, Default, Serialize)]
pub struct LogView {
    /// Bytes on disk, or in memory.
    pub bytes: u64,
    /// Segments on disk.
    pub segments: usize,
    /// Bytes that a crash could take; absent when the process is another one.
    pub uncommitted_bytes: Option<u64>,
    /// What holds it back.
    pub pressure: Option<Pressure>,
    /// Why it takes nothing any more.
    pub failed: Option<String>,
    /// When it was last written to; absent when the process is this one.
    pub written_at: Option<String>,
}

/// Containers or files of one name.
#[derive(Debug, Serialize)]
pub struct SourceView {
    /// The container's name, or the path.
    pub name: String,
    /// `engine` or `file`.
    pub kind: &'static str,
    /// Records of all of them.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Holes.
    pub gaps: u64,
    /// Lines known to be missing.
    pub lost_lines: u64,
    /// The time of the youngest record.
    pub last: Option<String>,
    /// All of them are over.
    pub is_over: bool,
    /// Names of sinks that do not have all of it yet.
    pub behind: Vec<String>,
}

/// A sink.
#[derive(Debug, Serialize)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// Bytes of the log that it does not have yet.
    pub lag_bytes: u64,
    /// How old the youngest record is that it has, while there are others.
    pub lag_seconds: Option<f64>,
    /// It loses what is further behind than its bound, and holds up nobody; absent when nobody can tell.
    pub is_optional: Option<bool>,
    /// Records it got since the process began; absent when the process is another one.
    pub records: Option<u64>,
    /// Records that it lost for good.
    pub lost_records: Option<u64>,
    /// Why its last attempt failed.
    pub failing: Option<String>,
    /// Since when its attempts fail.
    pub failing_since: Option<String>,
}

/// A gap of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct GapView {
    /// When it was found.
    pub at: String,
    /// The container's name, or the path.
    pub source: String,
    /// The only sink that lacks the lines; absent when all do.
    pub sink: Option<String>,
    /// Why.
    pub reason: Value,
    /// The time before it.
    pub from: Option<String>,
    /// The time behind it.
    pub to: Option<String>,
    /// Lines, when they could be counted.
    pub lines: Option<u64>,
    /// Bytes, when they could be counted.
    pub bytes: Option<u64>,
}

/// The view of the process that ships.
#[must_use]
pub fn of_snapshot(snapshot: &Snapshot, gaps: Vec<GapView>) -> Overview {
    let log = &snapshot.log;
    let (sources, sources_hidden) = sources(log.sources.values(), &log.sinks);
    let sinks = snapshot.sinks.iter().map(|(name, report)| SinkView {
        name: name.clone(),
        lag_bytes: report.lag_bytes,
        lag_seconds: match (report.lag_bytes, report.delivered_ts) {
            (0, _) => Some(0.0),
            (_, 0) => Some(seconds(snapshot.now - snapshot.started)),
            (_, delivered) => Some(seconds(snapshot.now - delivered)),
        },
        is_optional: None,
        records: Some(report.records),
        lost_records: Some(report.dropped.saturating_add(report.skipped)),
        failing: report.failing.as_ref().map(|failing| failing.error.clone()),
        failing_since: report.failing.as_ref().map(|failing| stamp(failing.since)),
    });
    Overview {
        now: stamp(snapshot.now),
        version: env!("CARGO_PKG_VERSION"),
        is_live: true,
        has_login: false,
        ailments: ailments(snapshot),
        log: LogView {
            bytes: log.bytes,
            segments: log.segments,
            uncommitted_bytes: Some(log.written.frame.saturating_sub(log.durable.frame)),
            pressure: Some(log.pressure),
            failed: log.failed.clone(),
            written_at: None,
        },
        sources,
        sources_hidden,
        sinks: sinks.collect(),
        gaps,
    }
}

/// The view of a state directory.
#[must_use]
pub fn of_glance(glance: &Glance, gaps: Vec<GapView>) -> Overview {
    let places: BTreeMap<String, Position> =
        glance.sinks.iter().map(|(name, _, place)| (name.clone(), *place)).collect();
    let (sources, sources_hidden) = sources(glance.state.sources.values(), &places);
    let sinks = glance.sinks.iter().map(|(name, role, place)| SinkView {
        name: name.clone(),
        lag_bytes: glance.state.lag_bytes(name, *place),
        lag_seconds: None,
        is_optional: Some(*role != Role::Mandatory),
        records: None,
        lost_records: None,
        failing: None,
        failing_since: None,
    });
    Overview {
        now: stamp(time::now()),
        version: env!("CARGO_PKG_VERSION"),
        is_live: false,
        has_login: false,
        ailments: Vec::new(),
        log: LogView {
            bytes: glance.bytes,
            segments: glance.segments,
            written_at: glance.written_at.map(stamp),
            ..LogView::default()
        },
        sources,
        sources_hidden,
        sinks: sinks.collect(),
        gaps,
    }
}

/// The youngest gaps of the ledger in a state directory, read now and then.
#[derive(Debug, Default)]
pub struct Gaps {
    known: Mutex<(Option<Instant>, Vec<GapView>)>,
}

impl Gaps {
    /// As they were a moment ago. A ledger that cannot be read has none to show.
    #[must_use]
    pub fn of(&self, state: Option<&Path>) -> Vec<GapView> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, gaps) = &mut *known;
        if read.is_none_or(|read| read.elapsed() >= GAPS_EVERY) {
            let entries = state.and_then(|state| ledger::read(state).ok()).unwrap_or_default();
            *gaps = entries.iter().rev().take(GAPS_MAX).map(gap).collect();
            *read = Some(Instant::now());
        }
        gaps.clone()
    }
}

fn gap(entry: &LedgerEntry) -> GapView {
    let gap = &entry.gap;
    GapView {
        at: stamp(entry.at),
        source: entry.name.clone(),
        sink: entry.sink.clone(),
        reason: serde_json::to_value(gap.reason).unwrap_or_default(),
        from: gap.from.map(stamp),
        to: gap.to.map(stamp),
        lines: gap.lines,
        bytes: gap.bytes,
    }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds.max(0) as f64 / SECOND as f64
}

/// What is known of sources, by name, and how many names are left out.
fn sources<'a>(
    states: impl Iterator<Item = &'a SourceState>,
    sinks: &BTreeMap<String, Position>,
) -> (Vec<SourceView>, usize) {
    let mut named: BTreeMap<&str, (Totals, Vec<&SourceState>)> = BTreeMap::new();
    for state in states {
        let known = named.entry(state.meta.origin.name()).or_default();
        known.0 = known.0.plus(state.totals);
        known.1.push(state);
    }
    let mut views: Vec<(Option<i64>, SourceView)> = named
        .into_iter()
        .map(|(name, (totals, states))| {
            let is_engine =
                states.iter().any(|state| matches!(state.meta.origin, Origin::Engine { .. }));
            let last = states.iter().filter_map(|state| state.last_ts).max();
            let lacks = |sink: &String, place: &Position| {
                states.iter().any(|state| state.lag_bytes(sink, *place) > 0)
            };
            let behind = sinks.iter().filter(|(sink, place)| lacks(sink, place));
            let view = SourceView {
                name: name.to_owned(),
                kind: if is_engine { "engine" } else { "file" },
                records: totals.records,
                bytes: totals.bytes,
                gaps: totals.gaps,
                lost_lines: totals.lost_lines,
                last: last.map(stamp),
                is_over: states.iter().all(|state| state.ended.is_some()),
                behind: behind.map(|(sink, _)| sink.clone()).collect(),
            };
            (last, view)
        })
        .collect();
    let hidden = views.len().saturating_sub(SOURCES_MAX);
    views.sort_by_key(|(last, _)| std::cmp::Reverse(*last));
    views.truncate(SOURCES_MAX);
    views.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
    (views.into_iter().map(|(_, view)| view).collect(), hidden)
}
