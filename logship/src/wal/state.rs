//! What the log knows of its sources, and how each frame changes it. Writer, recovery and audit fold the same
//! way.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Position;
use super::frame::{Head, Kind, Raw};
use crate::block::Block;
use crate::cursor::Cursor;
use crate::ledger::LedgerEntry;
use crate::record::{Control, Gap, GapReason};
use crate::source::{SourceId, SourceMeta};

/// What went through a source since the log was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Records, control records included: as many as there are numbers.
    pub records: u64,
    /// Control records among them.
    pub controls: u64,
    /// Bytes of the lines with their line ends.
    pub bytes: u64,
    /// Records that came after younger ones of their stream.
    pub late: u64,
    /// Holes.
    pub gaps: u64,
    /// Holes of which nobody can tell how many lines they have.
    pub gaps_unknown: u64,
    /// Lines in the holes that could be counted.
    pub lost_lines: u64,
    /// Bytes in the holes that could be counted.
    pub lost_bytes: u64,
    /// Records that were not serious enough, and dropped for that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered_lines: u64,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered_bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Totals {
    /// Counts one hole.
    pub fn count_gap(&mut self, gap: &Gap) {
        self.gaps = self.gaps.saturating_add(1);
        match gap.lines {
            Some(lines) => self.lost_lines = self.lost_lines.saturating_add(lines),
            None => self.gaps_unknown = self.gaps_unknown.saturating_add(1),
        }
        self.lost_bytes = self.lost_bytes.saturating_add(gap.bytes.unwrap_or(0));
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            controls: self.controls.saturating_add(other.controls),
            bytes: self.bytes.saturating_add(other.bytes),
            late: self.late.saturating_add(other.late),
            gaps: self.gaps.saturating_add(other.gaps),
            gaps_unknown: self.gaps_unknown.saturating_add(other.gaps_unknown),
            lost_lines: self.lost_lines.saturating_add(other.lost_lines),
            lost_bytes: self.lost_bytes.saturating_add(other.lost_bytes),
            filtered_lines: self.filtered_lines.saturating_add(other.filtered_lines),
            filtered_bytes: self.filtered_bytes.saturating_add(other.filtered_bytes),
        }
    }
}

/// What the log knows of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// What it is.
    #[serde(with = "shared_meta")]
    pub meta: Arc<SourceMeta>,
    /// How far it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The number of its next record.
    pub next_seq: u64,
    /// Where its last frame ends.
    #[serde(default)]
    pub end: u64,
    /// Time of its last record; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<i64>,
    /// When it ended, in nanoseconds since 1970 by the clock of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<i64>,
    /// Its sums.
    pub totals: Totals,
}

mod shared_meta {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::source::SourceMeta;

    pub(super) fn serialize<S: Serializer>(
        meta: &Arc<SourceMeta>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        meta.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<SourceMeta>, D::Error> {
        SourceMeta::deserialize(from).map(Arc::new)
    }
}

/// Everything a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogState {
    /// The number of the next new source.
    pub next_source: u32,
    /// The sources that are not forgotten.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// The sums of those that are.
    #[serde(default)]
    pub forgotten: Totals,
    /// Time in the ledger of the latest damage of the log that the sums count.
    #[serde(default)]
    pub damage_until: i64,
}

impl SourceState {
    pub(super) fn new(meta: Arc<SourceMeta>) -> Self {
        Self {
            meta,
            cursor: None,
            next_seq: 0,
            end: 0,
            last_ts: None,
            ended: None,
            totals: Totals::default(),
        }
    }

    /// Takes over the records of a frame. Gives the holes they tell of.
    pub(super) fn append(
        &mut self,
        head: &Head,
        cursor: Cursor,
        told: Told,
        now: i64,
    ) -> Vec<LedgerEntry> {
        let missing = self.skip_to(head.first_seq, now);
        let totals = &mut self.totals;
        totals.records = totals.records.saturating_add(u64::from(head.count));
        totals.controls = totals.controls.saturating_add(u64::from(head.controls));
        totals.bytes = totals.bytes.saturating_add(u64::from(head.text_bytes));
        totals.late = totals.late.saturating_add(u64::from(head.late));
        self.next_seq = head.first_seq.saturating_add(u64::from(head.count));
        self.end = head.end();
        self.last_ts = Some(self.last_ts.map_or(head.last_ts, |ts| ts.max(head.last_ts)));
        self.ended = None;
        match &mut self.cursor {
            Some(known) => known.advance(cursor),
            none => *none = Some(cursor),
        }
        totals.filtered_lines = totals.filtered_lines.saturating_add(told.filtered_lines);
        totals.filtered_bytes = totals.filtered_bytes.saturating_add(told.filtered_bytes);
        let entries = told.gaps.into_iter().map(|(seq, gap)| {
            self.totals.count_gap(&gap);
            self.entry(seq, gap, now)
        });
        missing.into_iter().chain(entries.collect::<Vec<_>>()).collect()
    }

    /// What lies between the next record and `seq` is damaged. It is counted when it is in the ledger.
    pub(super) fn skip_to(&mut self, seq: u64, now: i64) -> Option<LedgerEntry> {
        let lines = seq.checked_sub(self.next_seq).filter(|lines| *lines > 0)?;
        let gap = damage(Some(lines));
        let entry = LedgerEntry { in_log: true, ..self.entry(self.next_seq, gap, now) };
        self.next_seq = seq;
        Some(entry)
    }

    /// Bytes of the log from `place` to the end of its last records, when `sink` gets them.
    #[must_use]
    pub fn lag_bytes(&self, sink: &str, place: Position) -> u64 {
        if self.meta.is_for(sink) { self.end.saturating_sub(place.frame) } else { 0 }
    }

    pub(super) fn entry(&self, seq: u64, gap: Gap, now: i64) -> LedgerEntry {
        LedgerEntry {
            at: now,
            source: self.meta.key.clone(),
            name: self.meta.origin.name().to_owned(),
            seq,
            sink: None,
            in_log: false,
            gap,
        }
    }
}

impl LogState {
    /// Bytes of the log from `place` to the end of the last records that `sink` gets: frames that nobody gets, such as
    /// those at the end of a log, hold nobody up.
    #[must_use]
    pub fn lag_bytes(&self, sink: &str, place: Position) -> u64 {
        let lags = self.sources.values().map(|source| source.lag_bytes(sink, place));
        lags.max().unwrap_or(0)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // The types have string keys and no foreign code: they cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, &'static str> {
        serde_json::from_slice(bytes).map_err(|_| "the state at the start of a segment is not JSON")
    }

    /// Takes over what a frame says. Gives the holes that it tells of or that are before it.
    pub(super) fn fold(
        &mut self,
        raw: &Raw<'_>,
        now: i64,
    ) -> Result<Vec<LedgerEntry>, &'static str> {
        let head = &raw.head;
        let id = SourceId(head.source);
        match head.kind {
            Kind::State => return Ok(self.go_on(Self::from_json(&raw.body()?)?, now)),
            Kind::Source => {
                let meta = serde_json::from_slice(&raw.body()?)
                    .map_err(|_| "what is known of a source is not JSON")?;
                self.define(id, Arc::new(meta));
            }
            Kind::Records => {
                // Whoever it is, its number is not given again.
                self.next_source = self.next_source.max(id.0.saturating_add(1));
                let source =
                    self.sources.get_mut(&id).ok_or("the source of a frame is not known")?;
                let cursor: Cursor = serde_json::from_slice(raw.cursor)
                    .map_err(|_| "the cursor of a frame is not one")?;
                let told = if head.controls > 0 {
                    let block = Block::decode(raw.body()?.into_owned().into(), head.base_ts)
                        .map_err(|_| "the records of a frame cannot be taken apart")?;
                    told(&block, head.first_seq)
                } else {
                    Told::default()
                };
                return Ok(source.append(head, cursor, told, now));
            }
            Kind::End => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.ended = Some(head.base_ts);
                }
            }
            Kind::Closed => {}
        }
        Ok(Vec::new())
    }

    /// Goes on from the state at the start of the next segment. Gives the records that it counts and that
    /// never came.
    pub(super) fn go_on(&mut self, next: Self, now: i64) -> Vec<LedgerEntry> {
        let known = self.sources.iter_mut();
        let missing = known
            .filter_map(|(id, known)| known.skip_to(next.sources.get(id)?.next_seq, now))
            .collect();
        *self = next;
        missing
    }

    /// Counts a hole in the log itself, which is in the ledger since `at`.
    pub(super) fn count_damage(&mut self, entry: &LedgerEntry, at: i64) {
        let source = self.sources.values_mut().find(|source| source.meta.key == entry.source);
        match source {
            Some(source) => source.totals.count_gap(&entry.gap),
            None => self.forgotten.count_gap(&entry.gap),
        }
        self.damage_until = self.damage_until.max(at);
    }

    /// Takes over what is known of a source.
    pub(super) fn define(&mut self, id: SourceId, meta: Arc<SourceMeta>) {
        self.next_source = self.next_source.max(id.0.saturating_add(1));
        match self.sources.get_mut(&id) {
            Some(source) => source.meta = meta,
            None => {
                self.sources.insert(id, SourceState::new(meta));
            }
        }
    }

    /// Forgets a source, but not its sums.
    pub(super) fn forget(&mut self, id: SourceId) {
        if let Some(source) = self.sources.remove(&id) {
            self.forgotten = self.forgotten.plus(source.totals);
        }
    }
}

/// A hole that damage tore.
pub(super) fn damage(lines: Option<u64>) -> Gap {
    Gap {
        from_byte: None,
        reason: GapReason::Corrupt,
        from: None,
        to: None,
        bytes: None,
        lines,
        exact: true,
    }
}

/// What the control records of a block tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many there are.
    pub(super) count: u32,
    /// Holes, with the numbers of their records.
    gaps: Vec<(u64, Gap)>,
    /// Records that were not serious enough.
    filtered_lines: u64,
    /// Their bytes.
    filtered_bytes: u64,
}

/// Reads the control records of a block whose first record has this number.
pub(super) fn told(block: &Block, first_seq: u64) -> Told {
    let mut told = Told::default();
    if !block.has_control() {
        return told;
    }
    for (place, record) in (0_u64..).zip(block.records()) {
        if !record.flags.is_control() {
            continue;
        }
        told.count += 1;
        match serde_json::from_slice(record.line) {
            Ok(Control::Gap(gap)) => told.gaps.push((first_seq.saturating_add(place), gap)),
            Ok(Control::Filtered { lines, bytes, .. }) => {
                told.filtered_lines = told.filtered_lines.saturating_add(lines);
                told.filtered_bytes = told.filtered_bytes.saturating_add(bytes);
            }
            _ => {}
        }
    }
    told
}
