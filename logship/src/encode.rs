//! Records as bytes for a sink. An encoder takes a frame from a given record on and stops after the record with
//! which its output reaches the limit.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::write::GzEncoder;

use crate::record::{Flags, Stream};
use crate::source::{SourceId, SourceMeta};
use crate::wal::Frame;

pub mod escape;
pub mod fields;
pub mod identity;

pub mod ndjson;
pub mod plain;
pub mod syslog;

pub mod bulk;
pub mod fluent;
pub mod gelf;
pub mod kafka;
pub mod loki;
pub mod nats;
pub mod otlp;

mod protobuf;

#[cfg(test)]
pub(crate) mod tests;

/// Most sources whose ready-made beginnings are kept; beyond it they are made anew.
const SOURCES_KEPT_MAX: usize = 1024;

/// Which of the records that are no lines a sink gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// All of them.
    All,
    /// Those that tell of missing lines.
    Gaps,
    /// None.
    None,
}

/// Whether a control record is for the sink.
fn passes(controls: Controls, line: &[u8]) -> bool {
    match controls {
        Controls::All => true,
        Controls::Gaps => line.starts_with(b"{\"control\":\"gap\""),
        Controls::None => false,
    }
}

/// Severities of syslog (RFC 5424, table 2), which GELF has too.
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

/// How serious a record is, as far as its stream tells.
fn severity(flags: Flags) -> u8 {
    match (flags.is_control(), flags.stream()) {
        (true, _) => WARNING,
        (false, Stream::Stderr) => ERROR,
        (false, _) => INFORMATIONAL,
    }
}

/// What became of one record, where a peer says it record by record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is there, from now on or from before.
    Stored,
    /// It may be taken later.
    Later(String),
    /// It will never be taken as it is.
    Never(String),
}

/// At most `length` bytes, not ending within a character of UTF-8.
fn cut(text: &[u8], length: usize) -> &[u8] {
    let is_inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let start = (length.saturating_sub(3)..=length).rev().find(|at| !is_inside(*at));
    text.get(..start.unwrap_or(length)).unwrap_or(text)
}

/// Bytes as RFC 1952 has them.
pub(crate) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// One record as an encoder made it, for a peer that is told of each one alone.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// Its number within its source.
    pub seq: u64,
    /// What it shares with others: they may travel under one heading.
    pub head: &'a Arc<[u8]>,
    /// Itself.
    pub bytes: &'a [u8],
}

/// Something made once for each source, until what is known of the source changes.
#[derive(Debug)]
struct PerSource<T> {
    kept: HashMap<SourceId, (Arc<SourceMeta>, T)>,
}

impl<T> Default for PerSource<T> {
    fn default() -> Self {
        Self { kept: HashMap::new() }
    }
}

impl<T> PerSource<T> {
    fn of(&mut self, frame: &Frame, make: impl Fn(&SourceMeta) -> T) -> &T {
        if self.kept.len() >= SOURCES_KEPT_MAX && !self.kept.contains_key(&frame.source) {
            self.kept.clear();
        }
        let fresh = || (frame.meta.clone(), make(&frame.meta));
        let entry = self.kept.entry(frame.source).or_insert_with(fresh);
        if !Arc::ptr_eq(&entry.0, &frame.meta) && entry.0 != frame.meta {
            *entry = fresh();
        }
        &entry.1
    }
}

/// Something of each stream of a source.
#[derive(Debug)]
struct PerStream<T>([T; 4]);

impl<T> PerStream<T> {
    fn new(make: impl FnMut(Stream) -> T) -> Self {
        Self([Stream::File, Stream::Stdout, Stream::Stderr, Stream::Console].map(make))
    }

    fn of(&self, stream: Stream) -> &T {
        let Self([file, stdout, stderr, console]) = self;
        match stream {
            Stream::File => file,
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Console => console,
        }
    }
}

/// A number in decimal that counts without dividing.
#[derive(Debug, Clone)]
struct Decimal {
    digits: [u8; Self::DIGITS],
    start: usize,
}

impl Decimal {
    /// Digits of `u64::MAX`.
    const DIGITS: usize = 20;

    fn new(mut value: u64) -> Self {
        let mut digits = [b'0'; Self::DIGITS];
        let mut start = Self::DIGITS;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
            start -= 1;
            if value == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    fn text(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }

    fn increment(&mut self) {
        for (at, digit) in self.digits.iter_mut().enumerate().rev() {
            self.start = self.start.min(at);
            if *digit != b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}
