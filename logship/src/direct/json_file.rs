//! The engine's `json-file` format: `{"log":"text\n","stream":"stdout","time":"2026-11-24T10:20:30.5Z"}`, a line
//! a message. A piece whose line goes on has no `\n` at the end of its text.
//!
//! The engine writes the members always in this order, so a line is read from both ends and only what is between
//! is looked at: once, and only for what JSON escapes. Anything else is left to serde_json.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem, memrchr};
use serde::Deserialize;

use crate::record::Stream;
use crate::time::SecondCache;

use super::entry::{ENTRY_BYTES_MAX, Entry, Step, part};

#[cfg(test)]
mod tests;

const HEAD: &[u8] = b"{\"log\":\"";
const STDOUT: &[u8] = b"\",\"stream\":\"stdout\"";
const STDERR: &[u8] = b"\",\"stream\":\"stderr\"";
const TIME: &[u8] = b",\"time\":\"";
const END: &[u8] = b"\"}";
/// Longest time, in bytes: nine digits of a second and an offset.
const TIME_BYTES_MAX: usize = 35;

/// Reads lines of the format.
#[derive(Debug, Default)]
pub struct JsonFile {
    seconds: SecondCache,
    text: Vec<u8>,
}

/// What any JSON of this format says.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl JsonFile {
    /// What `bytes` begin with. `is_end`: there will never be more of them.
    pub fn step<'a>(&'a mut self, bytes: &'a [u8], is_end: bool) -> Step<'a> {
        let (line, used) = match memchr(b'\n', bytes) {
            Some(end) => (part(bytes, 0..end), end + 1),
            None if bytes.is_empty() => return Step::More,
            None if is_end || bytes.len() >= ENTRY_BYTES_MAX => (bytes, bytes.len()),
            None => return Step::More,
        };
        match self.line(line) {
            Some(entry) => Step::Entry(entry, used),
            // What a crash left is followed, on the same line, by what the engine wrote after it.
            None => match memmem::rfind(line, HEAD) {
                Some(start) if start > 0 => Step::Corrupt(start),
                _ => Step::Corrupt(used),
            },
        }
    }

    /// One line without its line feed.
    fn line<'a>(&'a mut self, line: &'a [u8]) -> Option<Entry<'a>> {
        // A result of the fast way would borrow `self` on the slow way too.
        match self.fast(line) {
            Some(Text::Plain { ts, stream, line, ends_line }) => {
                Some(Entry { ts, stream, line, ends_line })
            }
            Some(Text::Unescaped { ts, stream, ends_line }) => {
                Some(Entry { ts, stream, line: &self.text, ends_line })
            }
            None => self.slow(line),
        }
    }

    fn fast<'a>(&mut self, line: &'a [u8]) -> Option<Text<'a>> {
        let rest = line.strip_prefix(HEAD)?.strip_suffix(END)?;
        let tail = part(rest, rest.len().saturating_sub(TIME_BYTES_MAX + 1)..rest.len());
        let time_len = tail.len() - (memrchr(b'"', tail)? + 1);
        let (rest, time) = rest.split_at_checked(rest.len() - time_len)?;
        let rest = rest.strip_suffix(TIME)?;
        let (text, stream) = match rest.strip_suffix(STDOUT) {
            Some(text) => (text, Stream::Stdout),
            None => (rest.strip_suffix(STDERR)?, Stream::Stderr),
        };
        let ts = self.seconds.parse(time)?;
        let plain = text.strip_suffix(b"\\n").unwrap_or(text);
        if is_plain(plain) {
            return Some(Text::Plain {
                ts,
                stream,
                line: plain,
                ends_line: plain.len() < text.len(),
            });
        }
        unescape(text, &mut self.text)?;
        let ends_line = self.text.last() == Some(&b'\n');
        if ends_line {
            self.text.pop();
        }
        Some(Text::Unescaped { ts, stream, ends_line })
    }

    fn slow(&mut self, line: &[u8]) -> Option<Entry<'_>> {
        let document: Document<'_> = serde_json::from_slice(line).ok()?;
        let stream = match &*document.stream {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return None,
        };
        let ts = crate::time::parse(document.time.as_bytes())?;
        let text = document.log.strip_suffix('\n');
        self.text.clear();
        self.text.extend_from_slice(text.unwrap_or(&document.log).as_bytes());
        Some(Entry { ts, stream, line: &self.text, ends_line: text.is_some() })
    }
}

/// What the fast way found.
enum Text<'a> {
    Plain { ts: i64, stream: Stream, line: &'a [u8], ends_line: bool },
    Unescaped { ts: i64, stream: Stream, ends_line: bool },
}

/// Whether the text of a JSON string stands for itself.
fn is_plain(text: &[u8]) -> bool {
    // Without branches, so that the compiler looks at many bytes at once.
    let (special, high) = text.iter().fold((false, 0), |(special, high), &byte| {
        (special | (byte < 0x20) | (byte == b'"') | (byte == b'\\'), high | byte)
    });
    !special && (high < 0x80 || std::str::from_utf8(text).is_ok())
}

/// The text of a JSON string into `out`; `None` for what is not worth to be read here, or is none.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    std::str::from_utf8(text).ok()?;
    while let Some(at) = memchr2(b'\\', b'"', text) {
        let (run, rest) = text.split_at_checked(at)?;
        let (kind, rest) = rest.strip_prefix(b"\\")?.split_first()?;
        put_run(run, out)?;
        text = rest;
        let byte = match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let (digits, rest) = text.split_first_chunk::<4>()?;
                let number = digits.iter().try_fold(0, |number, digit| {
                    char::from(*digit).to_digit(16).map(|digit| number * 16 + digit)
                })?;
                // Halves of a pair are left to serde_json.
                let character = char::from_u32(number)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                text = rest;
                continue;
            }
            _ => return None,
        };
        out.push(byte);
    }
    put_run(text, out)
}

fn put_run(run: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if run.iter().fold(false, |control, &byte| control | (byte < 0x20)) {
        return None;
    }
    out.extend_from_slice(run);
    Some(())
}
