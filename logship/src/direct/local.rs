//! The engine's `local` format: a message of protocol buffers between its length and its length again, both four
//! bytes, the most significant first.
//!
//! ```text
//! LogEntry { string source = 1; int64 time_nano = 2; bytes line = 3; bool partial = 4;
//!            PartialLogEntryMetadata { bool last = 1; string id = 2; int32 ordinal = 3; } = 5; }
//! ```

use crate::record::Stream;

use super::entry::{ENTRY_BYTES_MAX, Entry, Step, part};

#[cfg(test)]
mod tests;

/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

/// Reads messages of the format.
#[derive(Debug, Default)]
pub struct Local;

impl Local {
    /// What `bytes` begin with. `is_end`: there will never be more of them.
    pub fn step<'a>(&mut self, bytes: &'a [u8], is_end: bool) -> Step<'a> {
        match frame(bytes) {
            Frame::Whole(entry, used) => return Step::Entry(entry, used),
            Frame::Begun if !is_end => return Step::More,
            Frame::Begun if bytes.is_empty() => return Step::More,
            Frame::Begun | Frame::Bad => {}
        }
        let next = (1..bytes.len())
            .find(|start| matches!(frame(part(bytes, *start..bytes.len())), Frame::Whole(..)));
        match next {
            Some(start) => Step::Corrupt(start),
            None if is_end => Step::Corrupt(bytes.len()),
            // What is good may begin in the bytes that are there and end in those that are not.
            None if bytes.len() >= 2 * ENTRY_BYTES_MAX => {
                Step::Corrupt(bytes.len() - ENTRY_BYTES_MAX)
            }
            None => Step::More,
        }
    }
}

enum Frame<'a> {
    Whole(Entry<'a>, usize),
    Begun,
    Bad,
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Frame::Begun;
    };
    let Ok(size) = usize::try_from(u32::from_be_bytes(*length)) else { return Frame::Bad };
    if size == 0 || size > ENTRY_BYTES_MAX {
        return Frame::Bad;
    }
    let Some((message, rest)) = rest.split_at_checked(size) else { return Frame::Begun };
    let Some(again) = rest.first_chunk::<LENGTH_BYTES>() else { return Frame::Begun };
    match message_of(message) {
        Some(entry) if again == length => Frame::Whole(entry, size + 2 * LENGTH_BYTES),
        _ => Frame::Bad,
    }
}

fn message_of(mut bytes: &[u8]) -> Option<Entry<'_>> {
    let mut stream = None;
    let mut ts = 0;
    let mut line: &[u8] = &[];
    let (mut is_partial, mut is_last) = (false, false);
    while !bytes.is_empty() {
        match take_field(&mut bytes)? {
            (1, Value::Bytes(b"stdout")) => stream = Some(Stream::Stdout),
            (1, Value::Bytes(b"stderr")) => stream = Some(Stream::Stderr),
            (2, Value::Number(number)) => ts = number.cast_signed(),
            (3, Value::Bytes(bytes)) => line = bytes,
            (4, Value::Number(number)) => is_partial = number != 0,
            (5, Value::Bytes(mut metadata)) => {
                while !metadata.is_empty() {
                    if let (1, Value::Number(number)) = take_field(&mut metadata)? {
                        is_last = number != 0;
                    }
                }
            }
            // A field that a newer engine added says nothing that is needed here.
            _ => {}
        }
    }
    Some(Entry { ts, stream: stream?, line, ends_line: !is_partial || is_last })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// A field's number and value (protocol buffers, "Encoding").
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_varint(bytes)?;
    let value = match key & 0b111 {
        0 => Value::Number(take_varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            Value::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    (key >> 3 != 0).then_some((key >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
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
