//! Which packs are stored anew: a function of how much of each is needed.

use std::str::FromStr;

use chores_common::quantity;

use crate::index::{ChunkSet, Index, KnownPack, PackNumber};
use crate::pack::{PackId, is_salt};
use crate::tar_writer::BLOCK_BYTES;

#[cfg(test)]
mod tests;

/// In percent of what is needed: so much may wait at once for the grace to pass. Packs that are stored anew are there twice
/// meanwhile.
const WAITING_PERCENT: u64 = 15;

const PERCENT: u64 = 100;

/// How much of what is stored may be of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// So many percent of what is needed.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
    /// All of it: no pack is stored anew.
    Unlimited,
}

/// A text is no such limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no limit: give a share such as 5%, a size such as 2GB, or unlimited")]
pub struct InvalidUnused(String);

impl FromStr for Unused {
    type Err = InvalidUnused;

    fn from_str(text: &str) -> Result<Self, InvalidUnused> {
        let invalid = || InvalidUnused(text.to_owned());
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent) if u64::from(percent) <= PERCENT => Ok(Self::Percent(percent)),
                _ => Err(invalid()),
            },
            None => quantity::size(text).map(Self::Bytes).map_err(|_| invalid()),
        }
    }
}

impl Unused {
    fn bytes(self, used: u64) -> u64 {
        match self {
            Self::Percent(percent) => used / PERCENT * u64::from(percent),
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

/// What is stored anew, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepackRules {
    /// So much may be of no use before anything is.
    pub max_unused: Unused,
    /// Packs of so many bytes at the most; the rest is for the next time.
    pub bytes_max: Option<u64>,
}

/// A pack that snapshots need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its number in the index.
    pub number: PackNumber,
    /// Its name.
    pub id: PackId,
    /// Its length in bytes.
    pub bytes: u64,
    /// What of it is needed, in bytes.
    pub used: u64,
    /// Whether it may be stored anew.
    pub is_free: bool,
}

/// The worst ones, as far as the rules ask for it. `waiting` bytes are stored and needed by nobody.
#[must_use]
pub fn choose(loads: &[Load], rules: RepackRules, waiting: u64) -> Vec<Load> {
    let used: u64 = loads.iter().map(|load| load.used).sum();
    let mut unused: u64 = loads.iter().map(|load| load.bytes.saturating_sub(load.used)).sum();
    let unused_max = rules.max_unused.bytes(used);
    let waiting_max = used / PERCENT * WAITING_PERCENT;
    let mut free: Vec<_> =
        loads.iter().filter(|load| load.is_free && load.used < load.bytes).collect();
    // By what share of each is used, in integers: a/b < c/d where ad < cb.
    let cross = |one: &Load, other: &Load| u128::from(one.used) * u128::from(other.bytes);
    free.sort_by(|left, right| {
        cross(left, right).cmp(&cross(right, left)).then(left.id.cmp(&right.id))
    });
    let mut chosen = Vec::new();
    let mut left = rules.bytes_max.unwrap_or(u64::MAX);
    let mut waiting_then = waiting;
    for load in free {
        if unused <= unused_max {
            break;
        }
        // In a repository of a few packs one of them is more than may wait.
        let is_first = chosen.is_empty() && waiting <= waiting_max;
        if load.bytes > left || (waiting_then + load.bytes > waiting_max && !is_first) {
            continue;
        }
        left -= load.bytes;
        waiting_then += load.bytes;
        unused -= load.bytes.saturating_sub(load.used);
        chosen.push(*load);
    }
    chosen
}

/// How much of each pack is needed, for those of `is_needed`; `is_free` says which may be stored anew.
#[must_use]
pub fn loads(index: &Index, live: &ChunkSet, is_needed: &[bool], is_free: &[bool]) -> Vec<Load> {
    // Of each frame of each pack: bytes of members that may go.
    let mut dead: Vec<Vec<u64>> =
        index.packs().iter().map(|pack| vec![0; pack.frames.len()]).collect();
    for (chunk, _, place) in index.places() {
        let frame = dead.get_mut(place.pack.as_usize());
        if let Some(frame) = frame.and_then(|pack| pack.get_mut(place.frame as usize))
            && !live.has(chunk)
            && !is_salt(place.length)
        {
            *frame += member_bytes(place.length);
        }
    }
    let load = |((number, pack), dead): ((PackNumber, &KnownPack), Vec<u64>)| {
        let of_frame = |frame: u64, dead: u64, all: u64| frame * dead.min(all) / all.max(1);
        let dead: u64 = (pack.frames.iter().zip(dead))
            .map(|(frame, dead)| of_frame(frame.stored.into(), dead, frame.content.into()))
            .sum();
        Load {
            number,
            id: pack.id,
            bytes: pack.bytes,
            used: pack.bytes.saturating_sub(dead),
            is_free: is_free.get(number.as_usize()) == Some(&true),
        }
    };
    let needed = index.numbered_packs().zip(dead);
    let needed = needed.filter(|((number, _), _)| is_needed.get(number.as_usize()) == Some(&true));
    needed.map(load).collect()
}

/// Bytes of a chunk in its decompressed frame.
fn member_bytes(length: u32) -> u64 {
    (BLOCK_BYTES + (length as usize).next_multiple_of(BLOCK_BYTES)) as u64
}
