//! What was shipped and what was lost, with proof: every frame that is still in the log is read and verified, and
//! the sums and the ledger are set beside each other.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use chores_common::exit::ExitCode;
use serde::Serialize;

use crate::ledger::{self, LedgerEntry};
use crate::source::{Origin, SourceKey, SourceMeta};
use crate::time::Stamp;
use crate::wal::{self, Damage, Position, Retained, Totals, VerifiedSink, WalError};

#[cfg(test)]
mod tests;

/// Gaps of one source or sink that the text lists; JSON has all of them.
const GAPS_LISTED_MAX: usize = 20;

/// Places of damage that the text lists.
const DAMAGE_LISTED_MAX: usize = 20;

/// What an audit looks at.
#[derive(Debug, Clone, Default)]
pub struct AuditRequest {
    /// Only this source: a container's name or id, a path, or a key.
    pub source: Option<String>,
    /// Only what happened since, in nanoseconds since 1970: records that are still in the log, and gaps that the
    /// ledger has in detail.
    pub since: Option<i64>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no such directory, or it is not one of logship.
    #[error("there is no log in {}", path.display())]
    NoLog {
        /// The state directory.
        path: PathBuf,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The ledger cannot be read.
    #[error("cannot read the ledger in {}", path.display())]
    Ledger {
        /// The state directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct AuditReport {
    /// Which log.
    pub log: String,
    /// Since when; absent: since the log was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Segments that were read.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Frames whose checksums are right.
    pub frames: u64,
    /// Every source.
    pub sources: Vec<AuditSource>,
    /// Sources that are over and forgotten, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<Totals>,
    /// Every sink.
    pub sinks: Vec<AuditSink>,
    /// Places of the log that are damaged.
    pub damage: Vec<Damage>,
    /// More of them.
    pub damage_more: usize,
    /// Everything that is missing, together.
    pub lost: Lost,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lost {
    /// Holes.
    pub gaps: u64,
    /// Holes of which nobody can tell how many lines they have.
    pub gaps_unknown: u64,
    /// Lines in the others.
    pub lines: u64,
    /// Bytes in those that could be counted.
    pub bytes: u64,
}

impl Lost {
    fn add(&mut self, entry: &LedgerEntry) {
        let mut totals = Totals::default();
        totals.count_gap(&entry.gap);
        self.add_totals(&totals);
    }

    fn add_totals(&mut self, totals: &Totals) {
        self.gaps = self.gaps.saturating_add(totals.gaps);
        self.gaps_unknown = self.gaps_unknown.saturating_add(totals.gaps_unknown);
        self.lines = self.lines.saturating_add(totals.lost_lines);
        self.bytes = self.bytes.saturating_add(totals.lost_bytes);
    }

    fn plus(mut self, other: Self) -> Self {
        self.gaps = self.gaps.saturating_add(other.gaps);
        self.gaps_unknown = self.gaps_unknown.saturating_add(other.gaps_unknown);
        self.lines = self.lines.saturating_add(other.lines);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self
    }
}

impl std::fmt::Display for Lost {
    /// `0 lines lost`, `12 lines lost in 2 gaps`, `an unknown amount lost in 1 gap`, or both.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.gaps.saturating_sub(self.gaps_unknown);
        if known > 0 || self.gaps == 0 {
            write!(f, "{} {} lost", self.lines, if self.lines == 1 { "line" } else { "lines" })?;
        }
        if known > 0 {
            write!(f, " in {}", gaps(known))?;
        }
        if self.gaps_unknown > 0 {
            let joint = if known > 0 { ", and " } else { "" };
            write!(f, "{joint}an unknown amount lost in {}", gaps(self.gaps_unknown))?;
        }
        Ok(())
    }
}

fn gaps(count: u64) -> String {
    format!("{count} {}", if count == 1 { "gap" } else { "gaps" })
}

/// One source.
#[derive(Debug, Serialize)]
pub struct AuditSource {
    /// What it is.
    pub key: SourceKey,
    /// What people call it.
    pub name: String,
    /// Records, control records included.
    pub records: u64,
    /// Bytes of the lines with line ends.
    pub bytes: u64,
    /// Records that came after younger ones; absent with `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// Records that were not serious enough, and dropped for that; absent with `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered: Option<u64>,
    /// What of it is still in the log, and was read and proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<Retained>,
    /// Time of the last record, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<i64>,
    /// It is over.
    pub ended: bool,
    /// What is missing, for every sink.
    pub lost: Lost,
    /// The holes that the ledger has in detail.
    pub gaps: Vec<LedgerEntry>,
}

/// One sink.
#[derive(Debug, Serialize)]
pub struct AuditSink {
    /// Where it is.
    #[serde(flatten)]
    pub place: VerifiedSink,
    /// What it alone did not get, as far as the ledger has it in detail.
    pub lost: Lost,
    /// The same, hole by hole.
    pub gaps: Vec<LedgerEntry>,
}

/// Looks at a state directory, and changes nothing there. Another process may be using it.
pub fn audit(state: &Path, request: &AuditRequest) -> Result<AuditReport, AuditError> {
    let log = wal::verify(state, request.since)?;
    let Some(id) = log.log else { return Err(AuditError::NoLog { path: state.to_owned() }) };
    let mut entries = ledger::read(state)
        .map_err(|source| AuditError::Ledger { path: state.to_owned(), source })?;
    // What this audit found and nobody before.
    let known: HashSet<(SourceKey, u64)> = entries
        .iter()
        .filter(|entry| entry.in_log)
        .map(|entry| (entry.source.clone(), entry.seq))
        .collect();
    let is_new = |entry: &LedgerEntry| !known.contains(&(entry.source.clone(), entry.seq));
    let found: Vec<LedgerEntry> = log.holes.into_iter().filter(is_new).collect();
    entries.extend(found.iter().cloned());
    entries.retain(|entry| request.since.is_none_or(|since| entry.at >= since));
    let is_wanted =
        |meta: &SourceMeta| request.source.as_ref().is_none_or(|wanted| names(meta, wanted));
    let mut sources = Vec::new();
    for (id, source) in log.state.sources.iter().filter(|(_, source)| is_wanted(&source.meta)) {
        let retained = log.retained.get(id).copied();
        let gaps: Vec<LedgerEntry> = entries
            .iter()
            .filter(|entry| entry.source == source.meta.key && entry.sink.is_none())
            .cloned()
            .collect();
        let mut lost = Lost::default();
        if request.since.is_some() {
            gaps.iter().for_each(|entry| lost.add(entry));
        } else {
            lost.add_totals(&source.totals);
            // The sums do not have the damage that was found after the log wrote them down.
            gaps.iter()
                .filter(|entry| entry.in_log && entry.at > log.state.damage_until)
                .for_each(|entry| lost.add(entry));
        }
        let all = request.since.is_none();
        sources.push(AuditSource {
            key: source.meta.key.clone(),
            name: source.meta.origin.name().to_owned(),
            records: if all {
                source.totals.records
            } else {
                retained.map_or(0, |retained| retained.records)
            },
            bytes: if all { source.totals.bytes } else { retained.map_or(0, |it| it.bytes) },
            late: all.then_some(source.totals.late),
            filtered: all.then_some(source.totals.filtered_lines),
            retained,
            last_ts: source.last_ts,
            ended: source.ended.is_some(),
            lost,
            gaps,
        });
    }
    let sinks: Vec<AuditSink> = log
        .sinks
        .into_iter()
        .map(|place| {
            let mine = entries.iter().filter(|entry| {
                entry.sink.as_ref() == Some(&place.name)
                    && (request.source.is_none()
                        || sources.iter().any(|source| source.key == entry.source))
            });
            let gaps: Vec<LedgerEntry> = mine.cloned().collect();
            let mut lost = Lost::default();
            gaps.iter().for_each(|entry| lost.add(entry));
            AuditSink { place, lost, gaps }
        })
        .collect();
    let is_all = request.source.is_none() && request.since.is_none();
    let forgotten = log.state.forgotten;
    let mut lost = sources.iter().map(|source| source.lost).fold(Lost::default(), Lost::plus);
    lost = sinks.iter().map(|sink| sink.lost).fold(lost, Lost::plus);
    if is_all {
        lost.add_totals(&forgotten);
    }
    Ok(AuditReport {
        log: id.to_string(),
        since: request.since,
        segments: log.segments,
        bytes: log.bytes,
        frames: log.frames,
        sources,
        forgotten: (is_all && forgotten != Totals::default()).then_some(forgotten),
        sinks,
        damage: log.damage,
        damage_more: log.damage_more,
        lost,
    })
}

/// Whether a person means this source: by its key, its name, the id of its container or how that begins.
fn names(meta: &SourceMeta, wanted: &str) -> bool {
    /// As short as the engine itself shows ids.
    const ID_DIGITS_MIN: usize = 12;
    let is_id = match &meta.origin {
        Origin::Engine { id, .. } => wanted.len() >= ID_DIGITS_MIN && id.starts_with(wanted),
        Origin::File { .. } => false,
    };
    is_id || meta.key.0 == wanted || meta.origin.name() == wanted
}

impl AuditReport {
    /// 1 when the log is damaged, 3 when anything is missing, 0 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if !self.damage.is_empty() {
            ExitCode::Failed
        } else if self.lost.gaps > 0 {
            ExitCode::Warnings
        } else {
            ExitCode::Done
        }
    }

    /// For people: a paragraph a source, and the sum in the last line.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for AuditReport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut stamp = Stamp::default();
        let mut time = |ts: i64| String::from_utf8_lossy(stamp.write(ts)).into_owned();
        writeln!(
            out,
            "log {}: {} frames verified, {} bytes in {} segments",
            self.log, self.frames, self.bytes, self.segments
        )?;
        for source in &self.sources {
            writeln!(out, "\nsource {} ({})", source.name, source.key.0)?;
            write!(out, "  {} records, {} bytes", source.records, source.bytes)?;
            if let Some(late) = source.late.filter(|late| *late > 0) {
                write!(out, ", {late} late")?;
            }
            if let Some(filtered) = source.filtered.filter(|filtered| *filtered > 0) {
                write!(out, ", {filtered} below the level")?;
            }
            if let Some(ts) = source.last_ts {
                write!(out, ", the last of {}", time(ts))?;
            }
            writeln!(out, "{}", if source.ended { ", ended" } else { "" })?;
            if let Some(retained) = source.retained {
                let (first, last) = (retained.first_seq, retained.last_seq);
                writeln!(out, "  in the log: {first} to {last}, {} records", retained.records)?;
            }
            writeln!(out, "  {}", source.lost)?;
            for entry in source.gaps.iter().take(GAPS_LISTED_MAX) {
                writeln!(out, "    {}", gap_line(entry, &mut time))?;
            }
            if source.gaps.len() > GAPS_LISTED_MAX {
                writeln!(out, "    and {} more", source.gaps.len() - GAPS_LISTED_MAX)?;
            }
        }
        if let Some(forgotten) = &self.forgotten {
            let mut lost = Lost::default();
            lost.add_totals(forgotten);
            writeln!(out, "\nsources that are over and forgotten")?;
            writeln!(out, "  {} records, {} bytes", forgotten.records, forgotten.bytes)?;
            writeln!(out, "  {lost}")?;
        }
        for sink in &self.sinks {
            let place = &sink.place;
            writeln!(out, "\nsink {}", place.name)?;
            let Position { frame, record } = place.position;
            match place.lag_bytes {
                0 => writeln!(out, "  at {frame}.{record}, up to date")?,
                bytes => writeln!(out, "  at {frame}.{record}, {bytes} bytes behind")?,
            }
            if sink.lost.gaps > 0 {
                writeln!(out, "  {} for this sink alone", sink.lost)?;
            }
            for entry in sink.gaps.iter().take(GAPS_LISTED_MAX) {
                writeln!(out, "    {}: {}", entry.name, gap_line(entry, &mut time))?;
            }
            if sink.gaps.len() > GAPS_LISTED_MAX {
                writeln!(out, "    and {} more", sink.gaps.len() - GAPS_LISTED_MAX)?;
            }
        }
        if !self.damage.is_empty() {
            writeln!(out, "\ndamage")?;
            for damage in self.damage.iter().take(DAMAGE_LISTED_MAX) {
                let Damage { at, bytes, reason } = damage;
                writeln!(out, "  {bytes} bytes at {at}: {reason}")?;
            }
            let more = self.damage.len().saturating_sub(DAMAGE_LISTED_MAX) + self.damage_more;
            if more > 0 {
                writeln!(out, "  and {more} more places")?;
            }
        }
        write!(out, "\n{}", self.lost)?;
        if let Some(since) = self.since {
            write!(out, " since {}", time(since))?;
        }
        writeln!(out)
    }
}

fn gap_line(entry: &LedgerEntry, time: &mut dyn FnMut(i64) -> String) -> String {
    let gap = &entry.gap;
    let reason = serde_json::to_value(gap.reason).ok();
    let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or("unknown");
    let mut line = format!("{} at record {}: {}", time(entry.at), entry.seq, reason);
    let lines = match gap.lines {
        None => "lines not counted".to_owned(),
        Some(1) => "1 line".to_owned(),
        Some(lines) => format!("{lines} lines"),
    };
    line.push_str(", ");
    line.push_str(&lines);
    if let Some(bytes) = gap.bytes {
        line.push_str(&format!(", {bytes} bytes"));
    }
    if let (Some(from), Some(to)) = (gap.from, gap.to) {
        line.push_str(&format!(", between {} and {}", time(from), time(to)));
    }
    if !gap.exact {
        line.push_str(", some of it may have arrived");
    }
    line
}
