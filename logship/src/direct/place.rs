//! Where an earlier process stopped reading, found again in the files that are there now.

use std::collections::HashMap;
use std::io;

use crate::cursor::api::Seen;
use crate::cursor::{ApiCursor, Cursor, FileCursor, FileIdentity};
use crate::proof::hash;
use crate::record::Stream;

use super::content::Content;
use super::entry::{Decoder, ENTRY_BYTES_MAX, Entry, Format, Step};

#[cfg(test)]
mod tests;

/// Bytes that are looked through at once.
const SEARCH_BYTES: usize = 2 * ENTRY_BYTES_MAX;

/// A place among files, the oldest of which has the index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: usize,
    /// Bytes of its text before the place.
    pub offset: u64,
    /// Whether it is certain that nothing is missing before it.
    pub is_proven: bool,
}

impl Place {
    /// The beginning, for want of a better one.
    pub const START: Self = Self { file: 0, offset: 0, is_proven: false };
}

/// A message as an API cursor knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// Where it was written; a terminal counts as standard output.
    pub stream: Stream,
    /// Nanoseconds since 1970.
    pub ts: i64,
    /// The lower half of the XXH3 of its bytes, line end included.
    pub hash: u32,
}

/// Where to go on. Without a cursor that fits, at the beginning.
pub fn find(
    files: &mut [(FileIdentity, Content)],
    format: Format,
    cursor: Option<&Cursor>,
) -> io::Result<Place> {
    match cursor {
        Some(Cursor::Direct(cursor)) => by_proof(files, &cursor.at),
        Some(Cursor::Api(cursor)) => match last_of(cursor) {
            Some(last) => by_message(files, format, &last),
            None => Ok(Place { is_proven: true, ..Place::START }),
        },
        Some(Cursor::File(_)) => Ok(Place::START),
        None => Ok(Place { is_proven: true, ..Place::START }),
    }
}

/// The last message before the place of an API cursor.
pub(super) fn last_of(cursor: &ApiCursor) -> Option<LastSeen> {
    let last = cursor.last()?;
    let stream = if last.stream == Stream::Console { Stream::Stdout } else { last.stream };
    Some(LastSeen { stream, ts: last.ts, hash: last.hash })
}

/// Messages behind the place of an API cursor that were taken nevertheless, and the youngest time of them.
pub(super) fn taken_beyond(cursor: Option<&Cursor>) -> (HashMap<Seen, u32>, i64) {
    let mut taken = HashMap::new();
    let mut newest = i64::MIN;
    if let Some(Cursor::Api(cursor)) = cursor {
        for run in &cursor.ahead {
            let count = taken.entry(run.seen).or_insert(0_u32);
            *count = count.saturating_add(run.count);
            newest = newest.max(run.seen.ts);
        }
    }
    (taken, newest)
}

/// The file that has the cursor's identity, or its text: the engine may have compressed it, and devices have other
/// numbers after a boot. The text before the place must be what it was.
fn by_proof(files: &mut [(FileIdentity, Content)], at: &FileCursor) -> io::Result<Place> {
    let is_it = |identity: &FileIdentity| *identity == at.file;
    for pass in [true, false] {
        for (index, (identity, content)) in files.iter_mut().enumerate() {
            // Of nothing there is no proof: only the identity can tell.
            if is_it(identity) != pass || (!pass && at.offset == 0) {
                continue;
            }
            match content.holds(at) {
                Ok(true) => return Ok(Place { file: index, offset: at.offset, is_proven: true }),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "a log file of the engine cannot be read"),
            }
        }
    }
    Ok(Place::START)
}

/// Behind the message, or before the first one that is younger.
fn by_message(
    files: &mut [(FileIdentity, Content)],
    format: Format,
    last: &LastSeen,
) -> io::Result<Place> {
    let mut younger = None;
    let mut behind = None;
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut text = Vec::new();
    for (index, (_, content)) in files.iter_mut().enumerate() {
        let mut decoder = Decoder::new(format);
        let mut offset = 0;
        loop {
            let length = match content.read_at(&mut buffer, offset) {
                Ok(length) => length,
                // It may be in another one; what cannot be read here is told of when it is read.
                Err(error) => {
                    tracing::debug!(%error, "a log file of the engine cannot be read");
                    break;
                }
            };
            let mut bytes = buffer.get(..length).unwrap_or_default();
            let before = offset;
            loop {
                let used = match decoder.step(bytes, false) {
                    Step::Entry(entry, used) => {
                        let is_it = is_it(&entry, last, &mut text);
                        let end = offset + used as u64;
                        if is_it {
                            behind = Some(Place { file: index, offset: end, is_proven: true });
                        } else if entry.ts > last.ts && younger.is_none() {
                            younger = Some(Place { file: index, offset, is_proven: false });
                        }
                        used
                    }
                    Step::Corrupt(used) => used,
                    Step::More => break,
                };
                offset += used as u64;
                bytes = bytes.get(used..).unwrap_or_default();
            }
            if offset == before {
                break;
            }
        }
        if behind.is_some() {
            break;
        }
    }
    let end = Place { file: files.len().saturating_sub(1), offset: 0, is_proven: false };
    Ok(behind.or(younger).unwrap_or(end))
}

fn is_it(entry: &Entry<'_>, last: &LastSeen, text: &mut Vec<u8>) -> bool {
    let stream = if last.stream == Stream::Console { Stream::Stdout } else { last.stream };
    if entry.ts != last.ts || entry.stream != stream {
        return false;
    }
    engine_text(entry, text);
    hash(text) as u32 == last.hash
}

/// The bytes of a message as the API of the engine has them: with the line end.
pub(super) fn engine_text(entry: &Entry<'_>, text: &mut Vec<u8>) {
    text.clear();
    text.extend_from_slice(entry.line);
    if entry.ends_line {
        text.push(b'\n');
    }
}
