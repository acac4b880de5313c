//! Finds out what a log holds when it is opened: reads its end, cuts what a crash left half written, and folds
//! the state from there.
//!
//! Every frame says up to where the log was durable when it was written. Damage before that place is damage,
//! and what stands behind it is kept. Damage behind it may be no more than a crash of the machine: the log is
//! cut there, the cursors are those of before, and the sources read the rest again.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use chores_common::durable;

use super::frame::Kind;
use super::segment::{Found, HeaderFault, Segment};
use super::shared::Paths;
use super::state::LogState;
use super::{LogId, WalError, segment, sink_cursor};
use crate::ledger::Ledger;
use crate::time;

#[cfg(test)]
mod tests;

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) id: LogId,
    pub(super) state: LogState,
    /// Where each segment begins and ends.
    pub(super) segments: BTreeMap<u64, u64>,
    /// Where the last one ends.
    pub(super) end: u64,
    /// No sink has seen a place behind it.
    pub(super) next_base: u64,
}

impl Recovered {
    pub(super) fn empty(id: LogId) -> Self {
        Self { id, state: LogState::default(), segments: BTreeMap::new(), end: 0, next_base: 0 }
    }
}

/// What reading a whole segment tells.
struct Survey {
    /// It begins with a state.
    has_state: bool,
    /// It has a frame at all.
    has_frame: bool,
    /// Everything before it was durable.
    durable: u64,
}

/// Repairs and reads the log below `paths`.
pub(super) fn recover(paths: &Paths, ledger: &Ledger) -> Result<Recovered, WalError> {
    let bases = segment::list(&paths.segments)?;
    let mut headers = BTreeMap::new();
    for base in &bases {
        match Segment::open(&paths.segments, *base)?.header()? {
            Ok(header) => {
                headers.insert(*base, header);
            }
            Err(HeaderFault::Version(version)) => {
                let path = segment::path(&paths.segments, *base);
                return Err(WalError::Version { path, version });
            }
            Err(HeaderFault::Damaged) => {
                tracing::error!(base, "the header of a segment of the log is damaged");
            }
        }
    }
    let known = headers.values().next_back().map(|header| header.log);
    let id = known.map_or_else(LogId::random, Ok)?;
    let log = id.to_string();
    let sinks = sink_cursor::all(&paths.sinks)?;
    let seen = sinks.iter().filter(|sink| sink.log == log).map(|sink| sink.position.frame);
    let seen = seen.max().unwrap_or(0);
    let (start, durable) = start(paths, &bases, seen)?;
    let mut recovered = Recovered::empty(id);
    for (place, base) in bases.iter().enumerate().take(start) {
        let next = bases.get(place + 1).copied().unwrap_or(*base);
        let end = headers.get(&next).map_or(next, |header| header.previous_end);
        recovered.segments.insert(*base, end);
        recovered.end = end;
    }
    let mut fold = Fold { state: LogState::default(), ledger, durable, now: time::now() };
    for (place, base) in bases.iter().enumerate().skip(start) {
        let next = bases.get(place + 1).and_then(|next| headers.get(next));
        let wanted = next.map_or(0, |header| header.previous_end);
        let mut segment = Segment::open(&paths.segments, *base)?;
        let (end, is_whole) = fold.segment(&mut segment, wanted)?;
        // Header and state are one write: without them, a crash was faster.
        let is_empty = end <= segment.first();
        if !is_empty {
            recovered.segments.insert(*base, end);
            recovered.end = end;
        }
        let later = bases.get(place + 1..).unwrap_or_default();
        if !is_whole || (is_empty && later.is_empty()) {
            cut(paths, *base, (!is_empty).then_some(end), later)?;
            break;
        }
    }
    // What a killed process left in memory of the system is promised to be durable from now on.
    for base in recovered.segments.keys().filter(|base| bases.get(start) <= Some(*base)) {
        let path = segment::path(&paths.segments, *base);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|source| WalError::io("make durable", &path, source))?;
    }
    recovered.state = fold.state;
    for entry in
        ledger.read().map_err(|error| WalError::io("read the ledger in", &paths.state, error))?
    {
        if entry.in_log && entry.at > recovered.state.damage_until {
            recovered.state.count_damage(&entry, entry.at);
        }
    }
    if seen > recovered.end {
        tracing::warn!(
            log = recovered.end,
            sink = seen,
            "the log ends before the place of a sink: the machine lost what was said to be durable"
        );
    }
    recovered.next_base = recovered.end.max(seen);
    Ok(recovered)
}

/// The index of the segment to begin with, and up to where the log is known to have been durable: the newest
/// segment that has a state and begins before that place.
fn start(paths: &Paths, bases: &[u64], seen: u64) -> Result<(usize, u64), WalError> {
    let mut durable = seen;
    for (place, base) in bases.iter().enumerate().rev() {
        let mut segment = Segment::open(&paths.segments, *base)?;
        let survey = survey(&mut segment)?;
        durable = durable.max(survey.durable);
        if survey.has_frame && survey.has_state && *base <= durable {
            return Ok((place, durable));
        }
    }
    Ok((0, durable))
}

fn survey(segment: &mut Segment) -> Result<Survey, WalError> {
    let mut survey = Survey { has_state: false, has_frame: false, durable: 0 };
    let mut position = segment.first();
    let limit = segment.file_end()?;
    loop {
        match segment.frame(position, limit)? {
            Found::Frame(raw) => {
                let is_state = raw.head.kind == Kind::State
                    && raw.body().is_ok_and(|body| LogState::from_json(&body).is_ok());
                // Only a state before all records says everything.
                survey.has_state |= is_state;
                survey.has_frame = true;
                survey.durable = survey.durable.max(raw.head.durable);
                position = raw.head.end();
            }
            Found::End => return Ok(survey),
            Found::Damaged(_) => match segment.resync(position, limit)? {
                Some(next) => position = next,
                None => return Ok(survey),
            },
        }
    }
}

/// Removes the segments that are `later`, and of the one that begins at `base` everything behind `end`, or all of it.
fn cut(paths: &Paths, base: u64, end: Option<u64>, later: &[u64]) -> Result<(), WalError> {
    let remove = |base: u64| {
        let path = segment::path(&paths.segments, base);
        std::fs::remove_file(&path).map_err(|source| WalError::io("remove", &path, source))
    };
    later.iter().rev().try_for_each(|base| remove(*base))?;
    match end {
        Some(end) => {
            let path = segment::path(&paths.segments, base);
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(end - base))
                .map_err(|source| WalError::io("cut back", &path, source))?;
        }
        None => remove(base)?,
    }
    durable::sync_directory(&paths.segments)?;
    let at = end.unwrap_or(base);
    tracing::warn!(at, "the end of the log was not whole and is cut off; it is read again");
    Ok(())
}

/// Goes over frames and takes over what they say.
struct Fold<'a> {
    state: LogState,
    ledger: &'a Ledger,
    durable: u64,
    now: i64,
}

impl Fold<'_> {
    /// Takes over a segment that the next one says to end at `wanted` (0: there is no next one). Gives the
    /// place behind the last good frame, and whether what follows is to be read, too.
    fn segment(&mut self, segment: &mut Segment, wanted: u64) -> Result<(u64, bool), WalError> {
        let limit = segment.file_end()?;
        let mut position = segment.first();
        let mut end = position;
        loop {
            let reason = match segment.frame(position, limit)? {
                Found::Frame(raw) => {
                    position = raw.head.end();
                    end = position;
                    match self.state.fold(&raw, self.now) {
                        Ok(entries) => {
                            for entry in entries {
                                self.ledger.add(&entry);
                            }
                        }
                        Err(reason) => {
                            tracing::error!(at = raw.head.position, reason, "the log is damaged");
                        }
                    }
                    continue;
                }
                Found::End if position >= wanted => return Ok((end, true)),
                Found::End => "a segment ends too early",
                Found::Damaged(reason) => reason,
            };
            if position >= self.durable {
                return Ok((end, false));
            }
            tracing::error!(at = position, reason, "the log is damaged");
            match segment.resync(position, limit)? {
                Some(next) => position = next,
                // Places behind the damage are not used again.
                None => return Ok((limit.max(wanted), true)),
            }
        }
    }
}
