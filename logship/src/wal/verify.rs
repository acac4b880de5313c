//! Reads every frame that a log still has and proves it, without changing anything; also while another process
//! writes to it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::frame::{Kind, Raw};
use super::segment::{self, Found, HeaderFault, Segment};
use super::shared::Paths;
use super::sink_cursor::{self, Role};
use super::state::{LogState, SourceState};
use super::{LogId, Position, WalError};
use crate::block::Block;
use crate::ledger::LedgerEntry;
use crate::source::SourceId;
use crate::time;

/// Damage is listed up to this number of places; the rest is only counted.
const DAMAGE_LISTED_MAX: usize = 1000;

/// What a log holds.
#[derive(Debug, Default)]
pub struct VerifiedLog {
    /// Which log; absent when there is none.
    pub log: Option<LogId>,
    /// Segments that are there.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Frames whose checksums are right.
    pub frames: u64,
    /// What is known of every source at the end.
    pub state: LogState,
    /// What is there of every source.
    pub retained: BTreeMap<SourceId, Retained>,
    /// Places that are damaged.
    pub damage: Vec<Damage>,
    /// More of them, not listed.
    pub damage_more: usize,
    /// Records that are missing between others.
    pub holes: Vec<LedgerEntry>,
    /// Where each sink is that ever was.
    pub sinks: Vec<VerifiedSink>,
}

/// The records of a source that are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// Number of the first one.
    pub first_seq: u64,
    /// Number of the last one.
    pub last_seq: u64,
    /// How many there are.
    pub records: u64,
    /// Bytes of their lines with line ends.
    pub bytes: u64,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Place in the log.
    pub at: u64,
    /// How many.
    pub bytes: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// A sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedSink {
    /// Its name.
    pub name: String,
    /// What it does to the others when it is slow.
    #[serde(flatten)]
    pub role: Role,
    /// Everything before it was delivered.
    pub position: Position,
    /// Bytes of the log to the end of the last records that it does not have yet.
    pub lag_bytes: u64,
}

/// Reads the log of a state directory. With `since`, what is retained counts only frames with a record of that
/// time (nanoseconds since 1970) or later.
pub fn verify(state: &Path, since: Option<i64>) -> Result<VerifiedLog, WalError> {
    let paths = Paths::new(state);
    let bases = segment::list(&paths.segments)?;
    let mut verified = VerifiedLog::default();
    let mut forgotten = BTreeMap::new();
    let mut verifier =
        Verifier { verified: &mut verified, forgotten: &mut forgotten, since, now: time::now() };
    let mut ended = None;
    for (place, base) in bases.iter().enumerate() {
        let mut segment = match Segment::open(&paths.segments, *base) {
            Ok(segment) => segment,
            // Every sink has it, and it was removed a moment ago.
            Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        match segment.header()? {
            Ok(header) => {
                verifier.verified.log = Some(header.log);
                if let Some(ended) = ended.filter(|ended| *ended < header.previous_end) {
                    verifier.damaged(ended, header.previous_end, "a segment ends too early");
                }
            }
            Err(HeaderFault::Version(version)) => {
                let path = segment::path(&paths.segments, *base);
                return Err(WalError::Version { path, version });
            }
            Err(HeaderFault::Damaged) => {
                verifier.damaged(*base, segment.first(), "the header of a segment is damaged");
            }
        }
        let is_last = place + 1 == bases.len();
        ended = Some(verifier.segment(&mut segment, is_last)?);
    }
    let log = verified.log.map(|log| log.to_string());
    for sink in sink_cursor::all(&paths.sinks)? {
        if Some(&sink.log) == log.as_ref() {
            // What the log has forgotten every sink has, but not those of earlier processes.
            let lags = forgotten.values().chain(verified.state.sources.values());
            let lags = lags.map(|source| source.lag_bytes(&sink.sink, sink.position));
            verified.sinks.push(VerifiedSink {
                lag_bytes: lags.max().unwrap_or(0),
                name: sink.sink,
                role: sink.role,
                position: sink.position,
            });
        }
    }
    Ok(verified)
}

struct Verifier<'a> {
    verified: &'a mut VerifiedLog,
    /// Sources that the log knew and then forgot, as they were.
    forgotten: &'a mut BTreeMap<SourceId, SourceState>,
    since: Option<i64>,
    now: i64,
}

impl Verifier<'_> {
    /// Gives the place behind the last good frame.
    fn segment(&mut self, segment: &mut Segment, is_last: bool) -> Result<u64, WalError> {
        let mut position = segment.first();
        // What is added from now on is for the next one to verify.
        let limit = segment.file_end()?;
        self.verified.segments += 1;
        self.verified.bytes += limit.saturating_sub(segment.base);
        let mut end = position;
        loop {
            let reason = match segment.frame(position, limit)? {
                Found::Frame(raw) => {
                    position = raw.head.end();
                    end = position;
                    self.frame(&raw);
                    continue;
                }
                Found::End => return Ok(end),
                Found::Damaged(reason) => reason,
            };
            match segment.resync(position, limit)? {
                Some(next) => {
                    self.damaged(position, next, reason);
                    position = next;
                }
                None => {
                    // At the very end, it is a frame that is being written, or that a crash cut off.
                    if !is_last {
                        self.damaged(position, limit, reason);
                    }
                    return Ok(end);
                }
            }
        }
    }

    fn frame(&mut self, raw: &Raw<'_>) {
        let head = raw.head;
        self.verified.frames += 1;
        let is_first = self.verified.state == LogState::default();
        let known = (head.kind == Kind::State).then(|| self.verified.state.sources.clone());
        let folded = match (is_first, head.kind, raw.body()) {
            // There is nothing before it that could be missing.
            (true, Kind::State, Ok(body)) => LogState::from_json(&body).map(|state| {
                self.verified.state = state;
                Vec::new()
            }),
            _ => self.verified.state.fold(raw, self.now),
        };
        let is_forgotten =
            |(id, _): &(SourceId, SourceState)| !self.verified.state.sources.contains_key(id);
        self.forgotten.extend(known.into_iter().flatten().filter(is_forgotten));
        let proved = folded.and_then(|entries| {
            self.verified.holes.extend(entries.into_iter().filter(|entry| entry.in_log));
            if head.kind == Kind::Records {
                let block = Block::decode(raw.body()?.into_owned().into(), head.base_ts);
                if block.is_ok_and(|block| block.count() == head.count) {
                    Ok(())
                } else {
                    Err("the records of a frame cannot be taken apart")
                }
            } else {
                Ok(())
            }
        });
        if let Err(reason) = proved {
            self.damaged(head.position, head.end(), reason);
            return;
        }
        if head.kind != Kind::Records || self.since.is_some_and(|since| head.last_ts < since) {
            return;
        }
        let retained = self.verified.retained.entry(SourceId(head.source)).or_insert(Retained {
            first_seq: head.first_seq,
            last_seq: head.first_seq,
            records: 0,
            bytes: 0,
        });
        retained.last_seq = head.first_seq + u64::from(head.count).saturating_sub(1);
        retained.records += u64::from(head.count);
        retained.bytes += u64::from(head.text_bytes);
    }

    fn damaged(&mut self, from: u64, to: u64, reason: &'static str) {
        if self.verified.damage.len() < DAMAGE_LISTED_MAX {
            let damage = Damage { at: from, bytes: to.saturating_sub(from), reason };
            self.verified.damage.push(damage);
        } else {
            self.verified.damage_more += 1;
        }
    }
}
