//! Which bytes of an answer are those that were asked for: a server, or what is on the way to it, may send another part than the
//! one that was asked for, or the whole.

use std::ops::Range;

use bytes::Bytes;

use super::error::{ErrorKind, too_short};
use super::fault::Fault;

#[cfg(test)]
mod tests;

/// As far into a whole object is read for a part of it, in bytes: no object that is read in parts is longer.
const WHOLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The wanted part of a body, taken out of it piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many bytes of the body have come.
    come: u64,
    wanted: Range<u64>,
}

impl Cut {
    /// All of a body of this length.
    pub(super) fn whole(length: u64) -> Self {
        Self { come: 0, wanted: 0..length }
    }

    /// The bytes `wanted` of an object, or as many of them as there are. `is_part` is whether the status calls it a part (206), `sent`
    /// what the answer says it is (`Content-Range`), `length` that of its body. Without the two it is the whole object.
    pub(super) fn of(
        wanted: &Range<u64>,
        is_part: bool,
        sent: Option<&str>,
        length: Option<u64>,
    ) -> Result<Self, Fault> {
        let unnamed = || Fault::temporary("the server does not say which part it sends");
        let Some(sent) = sent else {
            return if is_part { Err(unnamed()) } else { Self::of_whole(wanted, length) };
        };
        // `bytes 0-9/100` (RFC 9110, 14.4).
        let named = sent.strip_prefix("bytes ").and_then(|sent| sent.split_once('/'));
        let named = named.and_then(|(named, _)| span(named));
        let Some((first, last)) = named.filter(|(first, last)| first <= last) else {
            return Err(unnamed());
        };
        if first != wanted.start || last >= wanted.end {
            return Err(Fault::temporary("the server sends another part than was asked for"));
        }
        let named = last - first + 1;
        match length {
            Some(length) if length != named => Err(Fault::temporary(format!(
                "the server sends {length} bytes and says that they are {named}"
            ))),
            _ => Ok(Self::whole(named)),
        }
    }

    fn of_whole(wanted: &Range<u64>, length: Option<u64>) -> Result<Self, Fault> {
        let Some(length) = length.filter(|_| wanted.end <= WHOLE_BYTES_MAX) else {
            let reason = "the server cannot send a part of a file (no answer 206 to a range)";
            return Err(Fault::lasting(ErrorKind::Invalid, reason));
        };
        if length < wanted.end {
            return Err(Fault::corrupt(too_short(length, wanted)));
        }
        Ok(Self { come: 0, wanted: wanted.clone() })
    }

    /// How many bytes are taken in all.
    pub(super) fn length(&self) -> u64 {
        self.wanted.end.saturating_sub(self.wanted.start)
    }

    /// Whether all have come.
    pub(super) fn is_done(&self) -> bool {
        self.come >= self.wanted.end
    }

    /// What is wanted of the next piece.
    pub(super) fn take(&mut self, piece: &Bytes) -> Bytes {
        let length = piece.len() as u64;
        let place = |at: u64| usize::try_from(at.saturating_sub(self.come).min(length));
        let part = match (place(self.wanted.start), place(self.wanted.end)) {
            (Ok(from), Ok(to)) if from < to => piece.slice(from..to),
            _ => Bytes::new(),
        };
        self.come = self.come.saturating_add(length);
        part
    }
}

/// The bytes that a read of a part may take, by which its time is counted: a server that sends no parts sends all before it too.
pub(super) fn bytes_of_part(wanted: &Range<u64>) -> u64 {
    wanted.end.saturating_sub(wanted.start).max(wanted.end.min(WHOLE_BYTES_MAX))
}

/// The bytes that a request asks for by `bytes=0-9` (RFC 9110, 14.1.1).
#[cfg(feature = "stores")]
pub(super) fn asked(range: &str) -> Option<Range<u64>> {
    let (first, last) = span(range.strip_prefix("bytes=")?)?;
    Some(first..last.checked_add(1)?)
}

/// First and last byte of `0-9`.
fn span(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
