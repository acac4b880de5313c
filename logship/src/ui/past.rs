//! Lines that were: a page of them, from the log and from archives, without those that are in both.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chores_common::exit::chain;
use chores_common::object::S3Settings;
use serde::Serialize;
use tokio::runtime::Handle;

use super::line::{Key, Line, Shown, origin_of};
use super::query::{Page, Place, Query};
use crate::archive::place::{Part, parts};
use crate::archive::{ArchiveReader, Filter};
use crate::time;
use crate::wal::{Frame, Log, LookBack, Position};

#[cfg(test)]
mod tests;

/// How long a page may take; what was found by then is told, and that it may not be all.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Notices of one page, at the most.
const NOTICES_MAX: usize = 5;

/// How much later than a younger one a record may stand in log and archives, in nanoseconds: what is skipped by
/// its time is skipped with this in hand.
const DISORDER: i64 = 60 * time::SECOND;

/// Where lines that were are kept.
#[derive(Debug, Clone)]
pub struct Past {
    /// The state directory with the log.
    pub state: Option<PathBuf>,
    /// The log itself, when it is in memory only.
    pub log: Option<Log>,
    /// Archives.
    pub archives: Vec<String>,
    /// How to reach those in S3.
    pub s3: S3Settings,
    /// Drives requests to it.
    pub runtime: Handle,
}

/// A page.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// The lines, the oldest first.
    pub lines: Vec<Shown>,
    /// Whether the page is full: there may be more behind it.
    pub is_full: bool,
    /// What may be missing, a sentence each.
    pub notices: Vec<String>,
}

impl Past {
    /// A page of lines. From threads only; gives up when `is_unwanted`.
    #[must_use]
    pub fn page(&self, query: &Query, page: Page, is_unwanted: &AtomicBool) -> Found {
        let mut search = Search::new(query, page, is_unwanted);
        self.walk(&mut search);
        search.finish()
    }

    /// All of one line; `None` when it is nowhere any more.
    #[must_use]
    pub fn line(&self, key: Key, is_unwanted: &AtomicBool) -> Option<Vec<u8>> {
        let query = Query::default();
        let page = Page { place: Place::At(key), limit: 1 };
        let mut search = Search::new(&query, page, is_unwanted);
        search.whole = Some(Vec::new());
        self.walk(&mut search);
        (!search.kept.is_empty()).then_some(search.whole).flatten()
    }

    fn walk(&self, search: &mut Search<'_>) {
        // The youngest lines are in the log, the oldest in archives.
        if matches!(search.page.place, Place::After(_)) {
            self.archives(search);
            self.log(search);
        } else {
            self.log(search);
            if !(matches!(search.page.place, Place::At(_)) && search.is_full()) {
                self.archives(search);
            }
        }
    }

    fn log(&self, search: &mut Search<'_>) {
        if let Some(log) = &self.log {
            let mut at = Position::default();
            loop {
                let (frames, next) = log.peek(at, Duration::ZERO);
                if next == at {
                    return;
                }
                at = next;
                if frames.iter().any(|frame| search.frame(frame).is_break()) {
                    return;
                }
            }
        }
        let Some(state) = &self.state else { return };
        let look = LookBack::new(state);
        let mut bases = match look.segments() {
            Ok(bases) => bases,
            Err(error) => return search.note(chain(&error)),
        };
        if !matches!(search.page.place, Place::After(_)) {
            bases.reverse();
        }
        for base in bases {
            if search.is_over() {
                return;
            }
            // The bounds move as lines are found: they are asked frame by frame.
            let bounds = Cell::new(search.bounds());
            let wants = |first: i64, last: i64| {
                let (from, to) = bounds.get();
                last.saturating_add(DISORDER) >= from && first.saturating_sub(DISORDER) <= to
            };
            let read = look.read(base, &wants, &mut |frame| {
                let flow = search.frame(frame);
                bounds.set(search.bounds());
                flow
            });
            match read {
                // Nothing before this segment is young enough.
                Ok(Some(youngest_before))
                    if !matches!(search.page.place, Place::After(_))
                        && youngest_before < search.bounds().0 =>
                {
                    return;
                }
                Ok(_) => {}
                Err(error) => search.note(chain(&error)),
            }
        }
    }

    fn archives(&self, search: &mut Search<'_>) {
        let mut listed: Vec<(i64, Part)> = Vec::new();
        for place in &self.archives {
            match parts(place, &self.s3, &self.runtime) {
                Ok(found) => listed.extend(
                    found
                        .into_iter()
                        .map(|part| (part.modified().map_or(i64::MAX, time::of_system), part)),
                ),
                Err(error) => search.note(chain(&error)),
            }
        }
        // No record is younger than the last write to what holds it.
        listed.sort_by_key(|(modified, _)| *modified);
        if !matches!(search.page.place, Place::After(_)) {
            listed.reverse();
        }
        for (modified, part) in listed {
            if search.is_over() {
                return;
            }
            if modified.saturating_add(DISORDER) < search.bounds().0 {
                continue;
            }
            match part.open(&self.runtime) {
                Ok(reader) => search.archive(reader),
                Err(error) => search.note(chain(&error)),
            }
        }
    }
}

/// A page while it is looked for.
struct Search<'a> {
    query: &'a Query,
    page: Page,
    kept: BTreeMap<Key, Shown>,
    /// The whole line is wanted, not its beginning.
    whole: Option<Vec<u8>>,
    notices: Vec<String>,
    until: Instant,
    is_unwanted: &'a AtomicBool,
    is_late: bool,
}

impl<'a> Search<'a> {
    fn new(query: &'a Query, page: Page, is_unwanted: &'a AtomicBool) -> Self {
        Self {
            query,
            page,
            kept: BTreeMap::new(),
            whole: None,
            notices: Vec::new(),
            until: Instant::now() + TIME_MAX,
            is_unwanted,
            is_late: false,
        }
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.page.limit
    }

    /// Whether to stop, wherever it is.
    fn is_over(&mut self) -> bool {
        self.is_late |= Instant::now() >= self.until;
        self.is_late || self.is_unwanted.load(Relaxed)
    }

    /// Times between which a line can still be wanted.
    fn bounds(&self) -> (i64, i64) {
        let first = self.kept.keys().next().map_or(i64::MIN, |key| key.ts);
        let last = self.kept.keys().next_back().map_or(i64::MAX, |key| key.ts);
        match self.page.place {
            Place::Before(end) => (if self.is_full() { first } else { i64::MIN }, end.ts),
            Place::After(start) => (start.ts, if self.is_full() { last } else { i64::MAX }),
            Place::At(place) => (place.ts, place.ts),
        }
    }

    fn frame(&mut self, frame: &Frame) -> ControlFlow<()> {
        if self.is_over() {
            return ControlFlow::Break(());
        }
        let meta = &frame.meta;
        if !self.query.takes_source(meta.origin.name()) {
            return ControlFlow::Continue(());
        }
        let origin = origin_of(meta);
        for (seq, record) in (frame.first_seq..).zip(frame.block.records()) {
            // Most records are outside: nothing else is looked at then.
            if self.may_keep(Key { ts: record.ts, origin, seq })
                && let Some(line) = Line::of_record(meta, origin, seq, &record)
            {
                self.offer(&line);
            }
        }
        ControlFlow::Continue(())
    }

    fn archive(&mut self, mut reader: ArchiveReader) {
        /// How often the time is looked at, in records.
        const LOOK_EVERY: u32 = 256;
        let all = Filter::default();
        let mut is_first = true;
        let mut count = 0_u32;
        loop {
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOK_EVERY) && self.is_over() {
                return;
            }
            let entry = match reader.next(&all) {
                Ok(Some(entry)) => entry,
                Ok(None) => return,
                Err(error) => return self.note(chain(&error)),
            };
            let Some(facts) = &entry.facts else {
                let place = reader.place().to_owned();
                return self.note(format!("{place} has lines only, without times: it is left out"));
            };
            // All of it is younger.
            if std::mem::take(&mut is_first) && facts.ts.saturating_sub(DISORDER) > self.bounds().1
            {
                return;
            }
            let (from, to) = self.bounds();
            if facts.ts >= from && facts.ts <= to {
                self.offer(&Line::of_entry(&entry, facts));
            }
        }
    }

    fn may_keep(&self, key: Key) -> bool {
        let is_near = || match self.page.place {
            Place::Before(_) => self.kept.keys().next().is_none_or(|first| key > *first),
            Place::After(_) => self.kept.keys().next_back().is_none_or(|last| key < *last),
            Place::At(_) => true,
        };
        self.page.takes(key) && (!self.is_full() || is_near())
    }

    /// Keeps a line when it belongs to the page; what does not any more goes.
    fn offer(&mut self, line: &Line<'_>) {
        if !self.may_keep(line.key) || !self.query.takes(line) {
            return;
        }
        if let Some(whole) = &mut self.whole {
            *whole = line.text.to_vec();
        }
        self.kept.entry(line.key).or_insert_with(|| Shown::new(line));
        if self.kept.len() > self.page.limit {
            match self.page.place {
                Place::After(_) => self.kept.pop_last(),
                Place::Before(_) | Place::At(_) => self.kept.pop_first(),
            };
        }
    }

    fn note(&mut self, sentence: String) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(sentence);
        }
    }

    fn finish(mut self) -> Found {
        if self.is_late {
            let seconds = TIME_MAX.as_secs();
            self.notices.push(format!(
                "the search was stopped after {seconds} s: lines may be missing; ask for less time or fewer sources"
            ));
        }
        let is_full = self.is_full();
        Found { lines: self.kept.into_values().collect(), is_full, notices: self.notices }
    }
}
