//! The forward protocol of Fluentd, version 1 (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1): events
//! and messages as MessagePack, and what servers say to them.

use std::io::{self, Cursor};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmpv::Value;
use sha2::{Digest as _, Sha512};

use super::fields::FieldNames;
use super::ndjson::put_parsed;
use super::{Controls, Encoded, PerSource, PerStream, passes};
use crate::record::Record;
use crate::source::SourceMeta;
use crate::template::Template;
use crate::time::SECOND;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Names that the engine's own driver for Fluentd has.
pub const USUAL_NAMES: [(&str, &str); 5] = [
    ("container", "container_name"),
    ("id", "container_id"),
    ("image", "image_name"),
    ("stream", "source"),
    ("line", "log"),
];

/// How deep values of a server may be nested.
const LEVELS_MAX: usize = 8;

/// How events look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluentFormat {
    /// What Fluentd routes events by.
    pub tag: Template,
    /// What is sent beside lines.
    pub controls: Controls,
    /// What keys are called.
    pub names: FieldNames,
}

/// Writes records as events: a time and a map; their head is the tag.
#[derive(Debug)]
pub struct Fluent {
    format: FluentFormat,
    streams: PerSource<PerStream<Described>>,
    event: Vec<u8>,
}

/// What is the same for every record of a source and stream.
#[derive(Debug)]
struct Described {
    tag: Arc<[u8]>,
    pairs: Vec<(Value, Value)>,
}

impl Fluent {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(format: FluentFormat) -> Self {
        Self { format, streams: PerSource::default(), event: Vec::new() }
    }

    /// Calls `take` with every record from number `from` of the frame on until it says that it was enough, and says
    /// how many of the frame's records are done then.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        mut take: impl FnMut(Encoded<'_>) -> bool,
    ) -> u32 {
        let Self { format, streams, event } = self;
        let streams = streams.of(frame, |meta| described(meta, format));
        let mut done = from;
        for record in frame.block.records().skip(from as usize) {
            let seq = frame.first_seq.saturating_add(u64::from(done));
            done += 1;
            if record.flags.is_control() && !passes(format.controls, record.line) {
                continue;
            }
            let described = streams.of(record.flags.stream());
            let mut pairs = described.pairs.clone();
            put_pairs(&mut pairs, &format.names, frame, &record, seq);
            event.clear();
            put(event, &Value::Array(vec![event_time(record.ts), Value::Map(pairs)]));
            if !take(Encoded { seq, head: &described.tag, bytes: event }) {
                break;
            }
        }
        done
    }
}

fn described(meta: &SourceMeta, format: &FluentFormat) -> PerStream<Described> {
    PerStream::new(|stream| {
        let tag = format.tag.expand(meta, stream, 0);
        let mut pairs = format.names.described(meta);
        pairs.extend(format.names.of("stream").map(|name| (name.into(), stream.name())));
        let pairs = pairs.into_iter().map(|(name, value)| ((&*name).into(), value.into()));
        Described { tag: tag.into_bytes().into(), pairs: pairs.collect() }
    })
}

fn put_pairs(
    pairs: &mut Vec<(Value, Value)>,
    names: &FieldNames,
    frame: &Frame,
    record: &Record<'_>,
    seq: u64,
) {
    let mut put = |key: &str, value: Value| {
        pairs.extend(names.of(key).map(|name| (name.into(), value)));
    };
    put("seq", seq.into());
    match std::str::from_utf8(record.line) {
        _ if record.flags.is_control() => {
            // It was written by us.
            let control = serde_json::from_slice(record.line).unwrap_or_default();
            put("control", of_json(&control));
        }
        Ok(text) => put("line", text.into()),
        Err(_) => put("line", record.line.into()),
    }
    let marks = [("partial", record.flags.is_partial()), ("late", record.flags.is_late())];
    for (key, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
        put(key, true.into());
    }
    if names.of("parsed").is_some() {
        let mut parsed = Vec::new();
        put_parsed(&mut parsed, &[], record, &frame.meta.parse);
        if let Ok(object) = serde_json::from_slice(&parsed) {
            put("parsed", of_json(&object));
        }
    }
}

/// Seconds and nanoseconds of `EventTime`; the first end in 2106.
fn event_time(ts: i64) -> Value {
    let seconds = u32::try_from(ts.div_euclid(SECOND).max(0)).unwrap_or(u32::MAX);
    let rest = u32::try_from(ts.rem_euclid(SECOND)).unwrap_or_default();
    Value::Ext(0, [seconds.to_be_bytes(), rest.to_be_bytes()].concat())
}

fn of_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => (*value).into(),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(of_json).collect()),
        serde_json::Value::Object(object) => {
            let pairs = object.iter().map(|(key, value)| (key.as_str().into(), of_json(value)));
            Value::Map(pairs.collect())
        }
    }
}

/// A vector takes everything.
fn put(out: &mut Vec<u8>, value: &Value) {
    rmpv::encode::write_value(out, value).ok();
}

/// Events of one tag as a message that asks for an acknowledgement, and the name of it that the acknowledgement has.
pub fn message(
    tag: &[u8],
    events: &[u8],
    count: usize,
    gzip: bool,
) -> Result<(Vec<u8>, String), io::Error> {
    let hash = blake3::hash(events);
    let chunk = STANDARD.encode(hash.as_bytes().get(..16).unwrap_or_default());
    let mut options: Vec<(Value, Value)> =
        vec![("chunk".into(), chunk.as_str().into()), ("size".into(), (count as u64).into())];
    let events = match gzip {
        false => events.to_vec(),
        true => {
            options.push(("compressed".into(), "gzip".into()));
            super::gzip(events)?
        }
    };
    let tag = String::from_utf8_lossy(tag);
    let mut out = Vec::with_capacity(events.len() + 256);
    let parts = vec![(&*tag).into(), Value::Binary(events), Value::Map(options)];
    put(&mut out, &Value::Array(parts));
    Ok((out, chunk))
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It has the events of the message of this name.
    Ack(String),
    /// It wants to know who we are.
    Helo {
        /// What our digest has to contain.
        nonce: Vec<u8>,
        /// What that of our password has to contain; empty: it wants none.
        salt: Vec<u8>,
    },
    /// It says what it thinks of who we are.
    Pong {
        /// Whether it takes events.
        is_welcome: bool,
        /// Why not.
        reason: String,
        /// Its name.
        host: Vec<u8>,
        /// The proof that it knows the key.
        digest: Vec<u8>,
    },
}

/// What is no word of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server says something that is not of the forward protocol")]
pub struct Gibberish;

/// What a server said so far; `None`: it has not finished.
pub fn said(bytes: &[u8]) -> Result<Option<Said>, Gibberish> {
    let mut reader = Cursor::new(bytes);
    let value = match rmpv::decode::read_value_with_max_depth(&mut reader, LEVELS_MAX) {
        Ok(value) => value,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(_) => return Err(Gibberish),
    };
    word(&value).map(Some).ok_or(Gibberish)
}

fn word(value: &Value) -> Option<Said> {
    let of = |map: &Value, key: &str| -> Option<Value> {
        let found = map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key));
        found.map(|(_, value)| value.clone())
    };
    if let Some(ack) = of(value, "ack") {
        return Some(Said::Ack(ack.as_str()?.to_owned()));
    }
    let bytes = |value: &Value| value.as_slice().map(<[u8]>::to_vec);
    match value.as_array()?.as_slice() {
        [word, options] if word.as_str() == Some("HELO") => {
            let nonce = of(options, "nonce").and_then(|nonce| bytes(&nonce))?;
            let salt = of(options, "auth").and_then(|salt| bytes(&salt)).unwrap_or_default();
            Some(Said::Helo { nonce, salt })
        }
        [word, is_welcome, reason, host, digest] if word.as_str() == Some("PONG") => {
            Some(Said::Pong {
                is_welcome: is_welcome.as_bool()?,
                reason: reason.as_str().unwrap_or_default().to_owned(),
                host: bytes(host)?,
                digest: bytes(digest)?,
            })
        }
        _ => None,
    }
}

/// Who we are to a server that wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Ping<'a> {
    /// Our name.
    pub host: &'a str,
    /// Random text, for this connection.
    pub salt: &'a str,
    /// The key that both know.
    pub shared_key: &'a str,
    /// A user with the password, if there is one.
    pub user: Option<(&'a str, &'a str)>,
}

impl Ping<'_> {
    /// The answer to `HELO`.
    #[must_use]
    pub fn message(&self, nonce: &[u8], auth_salt: &[u8]) -> Vec<u8> {
        let digest = self.digest(self.host.as_bytes(), nonce);
        let (user, password) = match self.user {
            Some((user, password)) if !auth_salt.is_empty() => {
                (user, hex(&[auth_salt, user.as_bytes(), password.as_bytes()]))
            }
            _ => ("", String::new()),
        };
        let words: [Value; 6] = [
            "PING".into(),
            self.host.into(),
            self.salt.into(),
            digest.as_str().into(),
            user.into(),
            password.as_str().into(),
        ];
        let mut out = Vec::new();
        put(&mut out, &Value::Array(words.into()));
        out
    }

    /// Whether a server that calls itself `host` knows the key.
    #[must_use]
    pub fn is_proof(&self, digest: &[u8], host: &[u8], nonce: &[u8]) -> bool {
        // Both are public: what is secret is the key in them.
        self.digest(host, nonce).as_bytes() == digest
    }

    fn digest(&self, host: &[u8], nonce: &[u8]) -> String {
        hex(&[self.salt.as_bytes(), host, nonce, self.shared_key.as_bytes()])
    }
}

fn hex(parts: &[&[u8]]) -> String {
    let hash = Sha512::digest(parts.concat());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
