//! What sinks put away, read again: NDJSON or plain lines, compressed or not, from files, directories, S3 or
//! standard input. One record at a time, so that an archive may be of any size.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::quantity;
use crate::record::Control;
use crate::rule::Patterns;
use crate::time;

pub mod place;

#[cfg(test)]
mod tests;

/// Longest record, in bytes: every byte of the longest line may have become an escape of six.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Largest window of zstd that is accepted, as a power of two, in bytes.
const WINDOW_LOG_MAX: u32 = 27;

/// Magic number of zstd (RFC 8878, section 3.1.1) and of gzip (RFC 1952, section 2.3.1).
const MAGIC_ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const MAGIC_GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why an archive cannot be read on. Offsets count bytes of the content, not of what is compressed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes do not come.
    #[error("cannot read {place} after byte {offset} of its content")]
    Read {
        /// Which file or object.
        place: String,
        /// How far it was read.
        offset: u64,
        /// What the system, the store or the decompressor said.
        source: io::Error,
    },
    /// A record is none.
    #[error("{place} is damaged at byte {offset} of its content: {fault}")]
    Damaged {
        /// Which file or object.
        place: String,
        /// Where the record begins.
        offset: u64,
        /// What is wrong.
        fault: String,
    },
    /// Lines without times and sources are asked for them.
    #[error("{place} has lines only: no source, no stream and no time can be asked for")]
    Plain {
        /// Which file or object.
        place: String,
    },
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time: give for example 2026-11-24T10:20:30Z, 2026-11-24, or 2h for two hours ago"
)]
pub struct TimeError(String);

/// Reads a time, a day, or how long ago it was. Nanoseconds since 1970.
pub fn moment(text: &str, now: i64) -> Result<i64, TimeError> {
    let day = || time::parse(format!("{text}T00:00:00Z").as_bytes());
    let ago = || {
        let ago = i64::try_from(quantity::duration(text).ok()?.as_nanos()).ok()?;
        now.checked_sub(ago)
    };
    time::parse(text.as_bytes()).or_else(day).or_else(ago).ok_or_else(|| TimeError(text.to_owned()))
}

/// One record of an archive.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// As it stands there, without the line feed.
    pub raw: &'a [u8],
    /// The line.
    pub line: Cow<'a, [u8]>,
    /// What is known beside it; nothing in an archive of plain lines.
    pub facts: Option<Facts<'a>>,
}

/// What an NDJSON record says beside its line.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Nanoseconds since 1970.
    pub ts: i64,
    /// Its number within its source.
    pub seq: u64,
    /// `stdout`, `stderr`, `console` or `file`.
    pub stream: Cow<'a, str>,
    /// Container, service, id, path: what a person may call the source.
    pub names: Vec<Cow<'a, str>>,
    /// It tells of the source itself, and has no line.
    pub control: Option<Control>,
}

impl Facts<'_> {
    /// The first of its names.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("-", AsRef::as_ref)
    }
}

/// A record as it is written; keys that are not here do not matter.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(borrow, default)]
    container: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    line: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    line_b64: Option<Cow<'a, str>>,
    #[serde(default)]
    control: Option<Control>,
}

impl<'a> Entry<'a> {
    /// Reads an NDJSON record.
    pub fn parse(raw: &'a [u8]) -> Result<Self, String> {
        let written: Written<'a> =
            serde_json::from_slice(raw).map_err(|error| error.to_string())?;
        let ts = time::parse(written.ts.as_bytes());
        let ts = ts.ok_or_else(|| format!("{:?} is no time", written.ts))?;
        let line: Cow<'a, [u8]> = match (written.line, written.line_b64, &written.control) {
            (Some(Cow::Borrowed(line)), _, _) => Cow::Borrowed(line.as_bytes()),
            (Some(Cow::Owned(line)), _, _) => Cow::Owned(line.into_bytes()),
            (None, Some(line), _) => Cow::Owned(
                STANDARD.decode(line.as_bytes()).map_err(|_| "line_b64 is no base64".to_owned())?,
            ),
            (None, None, Some(_)) => Cow::Borrowed(&[]),
            (None, None, None) => return Err("it has no line".to_owned()),
        };
        let names = [written.container, written.service, written.path, written.id];
        let names = names.into_iter().flatten().collect();
        let (seq, stream) = (written.seq, written.stream);
        let facts = Facts { ts, seq, stream, names, control: written.control };
        Ok(Self { raw, line, facts: Some(facts) })
    }
}

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of sources with such a name; of all when empty.
    pub sources: Patterns,
    /// Not older.
    pub since: Option<i64>,
    /// Older.
    pub until: Option<i64>,
    /// Of this stream.
    pub stream: Option<String>,
}

impl Filter {
    /// Whether every record is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.sources.is_empty()
            && self.since.is_none()
            && self.until.is_none()
            && self.stream.is_none()
    }

    /// Whether a record is wanted. An id may be shortened, as everywhere.
    #[must_use]
    pub fn takes(&self, facts: &Facts<'_>) -> bool {
        let is_named = || {
            let mut names = facts.names.iter();
            names.any(|name| self.sources.matches(name))
                || facts.names.last().is_some_and(|id| {
                    self.sources.texts().iter().any(|text| {
                        text.len() >= ID_SHORT_MIN
                            && id.len() == 64
                            && id.starts_with(text.as_str())
                    })
                })
        };
        self.since.is_none_or(|since| facts.ts >= since)
            && self.until.is_none_or(|until| facts.ts < until)
            && self.stream.as_ref().is_none_or(|stream| *stream == facts.stream)
            && (self.sources.is_empty() || is_named())
    }
}

/// Digits of a container's id that are enough to name it.
const ID_SHORT_MIN: usize = 6;

/// Reads the records of one file or object.
pub struct ArchiveReader {
    place: String,
    content: Box<dyn BufRead>,
    record: Vec<u8>,
    offset: u64,
    /// Found out by the first record.
    is_ndjson: Option<bool>,
}

impl std::fmt::Debug for ArchiveReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveReader").field("place", &self.place).finish_non_exhaustive()
    }
}

impl ArchiveReader {
    /// Reads `bytes`, compressed or not, of what is called `place`.
    pub fn new(place: String, bytes: impl Read + 'static) -> Result<Self, ArchiveError> {
        let mut bytes = BufReader::with_capacity(READ_BYTES, bytes);
        let fail = |source| ArchiveError::Read { place: place.clone(), offset: 0, source };
        let head = bytes.fill_buf().map_err(fail)?;
        let content: Box<dyn BufRead> = if head.starts_with(&MAGIC_ZSTD) {
            let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(fail)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(fail)?;
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        } else if head.starts_with(&MAGIC_GZIP) {
            let decoder = flate2::bufread::MultiGzDecoder::new(bytes);
            Box::new(BufReader::with_capacity(READ_BYTES, decoder))
        } else {
            Box::new(bytes)
        };
        Ok(Self { place, content, record: Vec::new(), offset: 0, is_ndjson: None })
    }

    /// What is read.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The next record that `filter` takes; `None` at the end.
    pub fn next(&mut self, filter: &Filter) -> Result<Option<Entry<'_>>, ArchiveError> {
        loop {
            let Some(start) = self.read_record()? else { return Ok(None) };
            if self.wants(start, filter)? {
                return self.entry(start).map(Some);
            }
        }
    }

    fn wants(&mut self, start: u64, filter: &Filter) -> Result<bool, ArchiveError> {
        if self.is_ndjson.is_none() {
            // Plain lines may begin with anything, but hardly with a whole record of ours.
            self.is_ndjson = Some(Entry::parse(&self.record).is_ok());
        }
        if filter.is_all() {
            return Ok(true);
        }
        let entry = self.entry(start)?;
        match entry.facts {
            Some(facts) => Ok(filter.takes(&facts)),
            None => Err(ArchiveError::Plain { place: self.place.clone() }),
        }
    }

    fn entry(&self, offset: u64) -> Result<Entry<'_>, ArchiveError> {
        let raw: &[u8] = &self.record;
        if self.is_ndjson != Some(true) {
            return Ok(Entry { raw, line: Cow::Borrowed(raw), facts: None });
        }
        Entry::parse(raw).map_err(|fault| self.damaged(offset, fault))
    }

    /// The next line into `self.record`, and where it begins.
    fn read_record(&mut self) -> Result<Option<u64>, ArchiveError> {
        let start = self.offset;
        self.record.clear();
        let limit = RECORD_BYTES_MAX as u64 + 1;
        let read = self.content.by_ref().take(limit).read_until(b'\n', &mut self.record);
        if let Err(source) = read {
            let offset = start + self.record.len() as u64;
            return Err(ArchiveError::Read { place: self.place.clone(), offset, source });
        }
        self.offset += self.record.len() as u64;
        if self.record.is_empty() {
            return Ok(None);
        }
        if self.record.last() == Some(&b'\n') {
            self.record.pop();
        } else if self.record.len() > RECORD_BYTES_MAX {
            let fault = format!("a record is longer than {RECORD_BYTES_MAX} bytes");
            return Err(self.damaged(start, fault));
        }
        Ok(Some(start))
    }

    fn damaged(&self, offset: u64, fault: String) -> ArchiveError {
        ArchiveError::Damaged { place: self.place.clone(), offset, fault }
    }
}
