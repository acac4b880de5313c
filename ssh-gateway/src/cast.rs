//! Recordings: asciicast, version 2, which asciinema plays. JSON Lines: a header, then `[seconds, code, data]`.
//!
//! The format has only text in it, and terminals have bytes. What is no UTF-8 is written as one character of a plane for
//! private use for each byte (`0xff` as U+10FEFF), and so are the bytes of such a character itself: so every output can be
//! read back byte by byte, and nothing grows by more than four times.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::WindowSize;

#[cfg(test)]
mod tests;

/// The version of the format.
const VERSION: u64 = 2;

/// The character that stands for the byte 0; only bytes from 0x80 on are written so.
const BYTE_BASE: u32 = 0x10_FE00;

/// Longest line, in bytes: what is longer was not written by us.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Output.
pub const OUTPUT: &str = "o";
/// Input.
pub const INPUT: &str = "i";
/// Another size of the terminal: `COLUMNSxROWS`.
pub const RESIZE: &str = "r";
/// A mark with a text.
pub const MARK: &str = "m";
/// The end: an exit status.
pub const EXIT: &str = "x";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    version: u64,
    /// In characters.
    pub width: u16,
    /// In characters.
    pub height: u16,
    /// When it began, in seconds since 1970.
    pub timestamp: i64,
    /// Whose session it is.
    pub title: String,
}

impl Header {
    /// A recording that begins.
    #[must_use]
    pub fn new(size: WindowSize, timestamp: i64, title: String) -> Self {
        Self { version: VERSION, width: size.columns, height: size.rows, timestamp, title }
    }

    /// With its line end.
    #[must_use]
    pub fn line(&self) -> String {
        // A struct of numbers and a text has a JSON.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads the first line; `None` when it is none of a recording that is understood.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|header: &Self| header.version == VERSION)
    }
}

/// A line behind the header.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Since the beginning.
    pub time: Duration,
    /// What it is.
    pub code: String,
    /// The text.
    pub data: String,
}

impl Event {
    /// With its line end.
    #[must_use]
    pub fn line(time: Duration, code: &str, data: &str) -> String {
        let data = Value::from(data);
        format!("[{}.{:06}, \"{code}\", {data}]\n", time.as_secs(), time.subsec_micros())
    }

    /// Reads a line; `None` when it is none of a recording.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        let (seconds, code, data): (f64, String, String) = serde_json::from_slice(line).ok()?;
        let time = Duration::try_from_secs_f64(seconds).ok()?;
        Some(Self { time, code, data })
    }
}

/// Bytes of a stream as texts: a character that is not whole waits for the rest of it.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The beginning of a character, at most three bytes.
    waiting: Vec<u8>,
}

impl Encoder {
    /// The text of these bytes, and of what has waited.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (valid, fault) = match std::str::from_utf8(rest) {
                Ok(valid) => (valid, None),
                Err(error) => {
                    let valid = rest.get(..error.valid_up_to()).unwrap_or_default();
                    (std::str::from_utf8(valid).unwrap_or_default(), Some(error.error_len()))
                }
            };
            for character in valid.chars() {
                push(&mut text, character);
            }
            rest = rest.get(valid.len()..).unwrap_or_default();
            match fault {
                None => break,
                // The character may go on in the next bytes.
                Some(None) => {
                    self.waiting = rest.to_vec();
                    break;
                }
                Some(Some(length)) => {
                    let (broken, after) = rest.split_at(length.min(rest.len()));
                    push_bytes(&mut text, broken);
                    rest = after;
                }
            }
        }
        text
    }

    /// The text of what waits for bytes that do not come.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        push_bytes(&mut text, &std::mem::take(&mut self.waiting));
        text
    }
}

fn push(text: &mut String, character: char) {
    if byte_of(character).is_some() {
        push_bytes(text, character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        text.push(character);
    }
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().filter_map(|byte| char::from_u32(BYTE_BASE + u32::from(*byte))));
}

/// The byte that a character stands for, if it is one of those.
fn byte_of(character: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(character).checked_sub(BYTE_BASE)?).ok()?;
    (byte >= 0x80).then_some(byte)
}

/// The bytes that a text of a recording stands for.
#[must_use]
pub fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// What `COLUMNSxROWS` says.
#[must_use]
pub fn size_of(text: &str) -> Option<(u16, u16)> {
    let (columns, rows) = text.split_once('x')?;
    Some((columns.parse().ok()?, rows.parse().ok()?))
}
