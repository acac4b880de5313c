//! Records that wait in a sink for their delivery, each alone: a peer may take some and refuse others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Refused;
use super::failure::SinkFailure;
use super::options::{OptionFault, Options};
use crate::encode::Encoded;
use crate::source::SourceMeta;

#[cfg(test)]
mod tests;

/// How often a record that is given up is logged; all of them are counted.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// How much of a record that is given up is logged, in bytes.
const RECORD_BYTES_SHOWN: usize = 500;

/// Groups that are looked at for one of a record: sources take turns.
const GROUPS_SEARCHED: usize = 64;

/// Records by their places in the batch, in order.
pub(super) type Part = Vec<usize>;

/// Encoded records, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    end: usize,
    group: usize,
    seq: u64,
}

/// What records share.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) meta: Arc<SourceMeta>,
    pub(super) head: Arc<[u8]>,
}

impl Batch {
    pub(super) fn push(&mut self, meta: &Arc<SourceMeta>, record: Encoded<'_>) {
        self.bytes.extend_from_slice(record.bytes);
        let is_of =
            |group: &Group| Arc::ptr_eq(&group.meta, meta) && Arc::ptr_eq(&group.head, record.head);
        let recent = self.groups.len().saturating_sub(GROUPS_SEARCHED);
        let found = self.groups.get(recent..).and_then(|groups| groups.iter().rposition(is_of));
        let group = found.map_or(self.groups.len(), |at| recent + at);
        if found.is_none() {
            self.groups.push(Group { meta: meta.clone(), head: record.head.clone() });
        }
        self.entries.push(Entry { end: self.bytes.len(), group, seq: record.seq });
    }

    /// Bytes of all records.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All records.
    pub(super) fn all(&self) -> Part {
        (0..self.entries.len()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.groups.clear();
    }

    fn range(&self, at: usize) -> Range<usize> {
        let end = |at: usize| self.entries.get(at).map_or(0, |entry| entry.end);
        at.checked_sub(1).map_or(0, end)..end(at)
    }

    /// One record.
    pub(super) fn record(&self, at: usize) -> &[u8] {
        self.bytes.get(self.range(at)).unwrap_or_default()
    }

    /// What a record shares with others.
    pub(super) fn group(&self, at: usize) -> Option<&Group> {
        self.groups.get(self.entries.get(at)?.group)
    }

    /// The number of a record within its source.
    pub(super) fn seq(&self, at: usize) -> u64 {
        self.entries.get(at).map_or(0, |entry| entry.seq)
    }

    /// The records of a part, one behind the other; without a copy when nothing lies between them.
    pub(super) fn joined(&self, part: &[usize]) -> std::borrow::Cow<'_, [u8]> {
        match (part.first(), part.last()) {
            (Some(first), Some(last)) if last - first + 1 == part.len() => {
                let whole = self.range(*first).start..self.range(*last).end;
                self.bytes.get(whole).unwrap_or_default().into()
            }
            _ => part.iter().flat_map(|at| self.record(*at)).copied().collect::<Vec<_>>().into(),
        }
    }

    /// All records in parts, those of one heading together.
    pub(super) fn parts_by_head(&self) -> Vec<Part> {
        let mut parts: BTreeMap<&[u8], Part> = BTreeMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let head = self.groups.get(entry.group).map(|group| group.head.as_ref());
            parts.entry(head.unwrap_or_default()).or_default().push(at);
        }
        parts.into_values().collect()
    }

    /// The records of a part by what they share.
    pub(super) fn grouped(&self, part: &[usize]) -> Vec<(&[u8], Vec<&[u8]>)> {
        let mut groups: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        for at in part {
            if let Some(entry) = self.entries.get(*at) {
                groups.entry(entry.group).or_default().push(self.record(*at));
            }
        }
        let head = |group: usize| self.groups.get(group).map(|group| group.head.as_ref());
        groups.into_iter().filter_map(|(group, records)| Some((head(group)?, records))).collect()
    }
}

/// What happens to a record that the peer refuses for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// It is sent again until somebody helps.
    Block,
    /// It is given up, counted, logged, and stands in the ledger.
    Drop,
}

impl Poison {
    /// `poison=`.
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let words = [("block", Self::Block), ("drop", Self::Drop)];
        Ok(options.choice("poison", &words)?.unwrap_or(Self::Block))
    }
}

/// Gives records up, or does not.
#[derive(Debug)]
pub(super) struct Refusals {
    poison: Poison,
    refused: Vec<Refused>,
    /// When a record that was given up was last logged.
    told: Option<Instant>,
}

impl Refusals {
    pub(super) fn new(poison: Poison) -> Self {
        Self { poison, refused: Vec::new(), told: None }
    }

    /// A record is refused alone, for the reason that `sentence` says. The failure is that it may not be given up.
    pub(super) fn refuse(
        &mut self,
        batch: &Batch,
        at: usize,
        sentence: &str,
    ) -> Result<(), SinkFailure> {
        match self.poison {
            Poison::Block => Err(SinkFailure::new(format!(
                "{sentence}; this is about a single record, which poison=drop would give up"
            ))),
            Poison::Drop => {
                self.note(batch, at, 1);
                if self.told.is_none_or(|told| told.elapsed() >= DROPS_TOLD_EVERY) {
                    self.told = Some(Instant::now());
                    let record = batch.record(at);
                    let shown = record.get(..RECORD_BYTES_SHOWN).unwrap_or(record);
                    tracing::error!(
                        record = %String::from_utf8_lossy(shown),
                        "a record is given up, and perhaps others soon after it: {sentence}"
                    );
                }
                Ok(())
            }
        }
    }

    /// So many records, the first of them this one, are gone.
    pub(super) fn note(&mut self, batch: &Batch, at: usize, records: u64) {
        let Some(Group { meta, .. }) = batch.group(at) else { return };
        let first_seq = batch.seq(at);
        match self.refused.last_mut() {
            Some(last)
                if last.meta.key == meta.key && last.first_seq + last.records == first_seq =>
            {
                last.records += records;
            }
            _ => self.refused.push(Refused { meta: meta.clone(), first_seq, records }),
        }
    }

    /// What was given up since it was last asked.
    pub(super) fn take(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }
}
