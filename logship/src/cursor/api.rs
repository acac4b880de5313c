//! What was taken from the API of one container: enough of its end to find the place again.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::Stream;

#[cfg(test)]
mod tests;

/// Runs of equal messages that are remembered. One is nearly always enough to know a place again; the others
/// tell apart places that look alike.
pub const RECENT_RUNS_MAX: usize = 64;

/// Messages ahead of the proven place that are remembered; the source proves its place before there are more.
pub const AHEAD_MAX: usize = 8192;

/// A message as it is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// Where it was written.
    pub stream: Stream,
    /// Nanoseconds since 1970, by the engine.
    pub ts: i64,
    /// The lower half of the XXH3 (64 bits) of its bytes, line end included.
    pub hash: u32,
}

impl Seen {
    /// Of a message with these bytes, line end included.
    #[must_use]
    pub fn of(stream: Stream, ts: i64, bytes: &[u8]) -> Self {
        Self { stream, ts, hash: twox_hash::XxHash3_64::oneshot(bytes) as u32 }
    }
}

/// Equal messages one after the other, such as pieces of a long line of blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Each of them.
    pub seen: Seen,
    /// How many.
    pub count: u32,
}

/// Messages that are lost at one place of the log. Each stream is told of it before its next message, whose time
/// is the end of what it lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Nothing from within it was taken.
    pub(crate) exact: bool,
    /// Where it begins at the latest, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<i64>,
    /// The streams that were not told.
    pub(crate) streams: Vec<Stream>,
}

/// How far the API of one container was read. The place is one in the order of the engine's files: everything
/// before it was taken or is in a gap record. In a frame it says what the frame adds; folded with
/// [`advance`](Self::advance) it is the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApiCursor {
    /// The last messages before the place, oldest first.
    #[serde(with = "packed", default)]
    pub(crate) recent: VecDeque<Run>,
    /// `recent` replaces what was known instead of following it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) recent_is_whole: bool,
    /// Messages that were taken from beyond the place, in the order they came: a follower may have left out
    /// others between them.
    #[serde(with = "packed", default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) ahead: VecDeque<Run>,
    /// `ahead` replaces what was known instead of following it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) ahead_is_whole: bool,
    /// The youngest time of any message before the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<i64>,
    /// The time of the last message of each stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) last: Vec<(Stream, i64)>,
    /// Of streams whose last message before the place shares its time with others of its stream: the time, and
    /// how many they are. Pieces of a line may repeat; their number tells them apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<(Stream, i64, u32)>,
    /// Lost messages that were not told of for every stream yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hole: Option<Hole>,
    /// The end of the run of the container whose log is proven to be read to its end, as the engine tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<i64>,
}

impl ApiCursor {
    /// Takes over what a later frame adds.
    pub fn advance(&mut self, update: Self) {
        if update.recent_is_whole {
            self.recent.clear();
        }
        for run in update.recent {
            push_run(&mut self.recent, run);
        }
        trim(&mut self.recent);
        if update.ahead_is_whole {
            self.ahead.clear();
        }
        for run in update.ahead {
            push_run(&mut self.ahead, run);
        }
        self.newest = update.newest.or(self.newest);
        for (stream, ts) in update.last {
            match self.last.iter_mut().find(|(known, _)| *known == stream) {
                Some((_, last)) => *last = ts,
                None => self.last.push((stream, ts)),
            }
        }
        self.groups = update.groups;
        self.hole = update.hole;
        self.ended = update.ended;
        self.recent_is_whole = false;
        self.ahead_is_whole = false;
    }

    /// The last message before the place: another reader of the same log goes on after it.
    #[must_use]
    pub fn last(&self) -> Option<Seen> {
        self.recent.back().map(|run| run.seen)
    }
}

/// Adds to the end; equal neighbours become one run.
pub(crate) fn push_run(runs: &mut VecDeque<Run>, run: Run) {
    match runs.back_mut() {
        Some(last) if last.seen == run.seen => last.count = last.count.saturating_add(run.count),
        _ => runs.push_back(run),
    }
}

/// Forgets the oldest runs beyond [`RECENT_RUNS_MAX`].
pub(crate) fn trim(runs: &mut VecDeque<Run>) {
    let surplus = runs.len().saturating_sub(RECENT_RUNS_MAX);
    runs.drain(..surplus);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Runs as base64 of, for each: zigzag varint of the time since the one before, a byte with the stream and
/// whether a varint count follows (0x80), the hash (little-endian u32).
mod packed {
    use super::*;

    const HAS_COUNT: u8 = 0x80;

    pub(crate) fn serialize<S: Serializer>(
        runs: &VecDeque<Run>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(runs.len() * 12);
        let mut before = 0_i64;
        for Run { seen, count } in runs {
            let delta = seen.ts.wrapping_sub(before);
            put_varint(&mut bytes, (delta.wrapping_shl(1) ^ (delta >> 63)).cast_unsigned());
            before = seen.ts;
            let stream = match seen.stream {
                Stream::File => 0,
                Stream::Stdout => 1,
                Stream::Stderr => 2,
                Stream::Console => 3,
            };
            let has_count = if *count == 1 { 0 } else { HAS_COUNT };
            bytes.push(stream | has_count);
            if *count != 1 {
                put_varint(&mut bytes, u64::from(*count));
            }
            bytes.extend_from_slice(&seen.hash.to_le_bytes());
        }
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VecDeque<Run>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        unpack(&bytes).ok_or_else(|| serde::de::Error::custom("these are no log messages"))
    }

    fn unpack(mut bytes: &[u8]) -> Option<VecDeque<Run>> {
        let mut runs = VecDeque::new();
        let mut ts = 0_i64;
        while !bytes.is_empty() {
            let delta = take_varint(&mut bytes)?;
            ts = ts.wrapping_add((delta >> 1).cast_signed() ^ -((delta & 1).cast_signed()));
            let (kind, rest) = bytes.split_first()?;
            bytes = rest;
            let stream = match kind & !HAS_COUNT {
                0 => Stream::File,
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                3 => Stream::Console,
                _ => return None,
            };
            let count = match kind & HAS_COUNT {
                0 => 1,
                _ => u32::try_from(take_varint(&mut bytes)?).ok()?,
            };
            let (hash, rest) = bytes.split_first_chunk::<4>()?;
            bytes = rest;
            let seen = Seen { stream, ts, hash: u32::from_le_bytes(*hash) };
            runs.push_back(Run { seen, count });
        }
        Some(runs)
    }

    fn put_varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
