//! Objects in S3, exactly once: what an object holds is kept beside the cursor before it is sent, so that after a
//! crash the same records go to the same key again.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use chores_common::object::{Location, ObjectStore, S3Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::SinkFailure;
use super::options::{OptionFault, Options, SinkUrl};
use super::{Context, Pace, Sent};
use crate::encode::Controls;
use crate::encode::ndjson::Ndjson;
use crate::time::Stamp;
use crate::wal::{Frame, Position};

#[cfg(test)]
mod tests;

/// An object unless set, in compressed bytes, and its limits.
const BATCH_BYTES_DEFAULT: u64 = 8_000_000;
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 4096..=128 << 20;

/// How long a record waits for others, unless set.
const BATCH_AGE_DEFAULT: Duration = Duration::from_secs(300);
const BATCH_AGES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);

/// Bytes of NDJSON that are compressed at once.
const ENCODED_BYTES: usize = 256 << 10;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Where the endpoint comes from when it is not set, the more special one first, as AWS's own tools have it.
pub const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// Characters of `2026-11-24T10`.
const HOUR_CHARS: usize = 13;

const FORM: &str = "s3://bucket/prefix";

/// A bucket, and how objects are made for it.
#[derive(Debug, Clone)]
pub struct S3SinkSettings {
    /// Bucket and prefix.
    pub location: Location,
    /// How to reach it.
    pub s3: S3Settings,
    /// An object is sent when it has this many bytes.
    pub batch_bytes: usize,
    /// An object is sent when its first record is this old.
    pub batch_age: Duration,
    /// What is written beside lines.
    pub controls: Controls,
}

impl S3SinkSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        if url.user.is_some() {
            return Err(OptionFault::Form(FORM));
        }
        let path = url.decoded_path()?;
        let location = Location::parse(&format!("s3://{}{path}", url.authority))
            .map_err(|error| OptionFault::Conflict(error.to_string()))?;
        let or_environment = |options: &mut Options<'_>, key, name| {
            let value = options.text(key).filter(|value| !value.is_empty());
            value.or_else(|| options.environment(name))
        };
        let endpoint = options
            .text("endpoint")
            .filter(|value| !value.is_empty())
            .or_else(|| ENDPOINT_VARIABLES.into_iter().find_map(|name| options.environment(name)));
        let region = or_environment(options, "region", "AWS_REGION");
        let access_key = or_environment(options, "access_key", "AWS_ACCESS_KEY_ID");
        let secret_key = options.secret_or_environment(
            "secret_key",
            "secret_key_file",
            "AWS_SECRET_ACCESS_KEY",
        )?;
        let session_token = options.secret_or_environment(
            "session_token",
            "session_token_file",
            "AWS_SESSION_TOKEN",
        )?;
        let batch = options.size("batch", BATCH_BYTES)?.unwrap_or(BATCH_BYTES_DEFAULT);
        Ok(Self {
            location,
            s3: S3Settings {
                endpoint,
                region,
                access_key,
                secret_key,
                session_token,
                path_style: options.flag("path_style")?,
            },
            batch_bytes: usize::try_from(batch).unwrap_or(usize::MAX),
            batch_age: options.duration("age", BATCH_AGES)?.unwrap_or(BATCH_AGE_DEFAULT),
            controls: options.controls(Controls::All)?,
        })
    }
}

/// An object that is being sent, as the note beside the cursor has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Intent {
    key: String,
    /// The place of the log behind its last record.
    to: Position,
}

/// The sink's part of its cursor.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
}

/// Collects whole frames into objects.
pub struct S3Sink {
    store: ObjectStore,
    settings: S3SinkSettings,
    /// The name of the log, a part of every key.
    log: String,
    encoder: Ndjson,
    encoded: Vec<u8>,
    object: zstd::Encoder<'static, Vec<u8>>,
    /// The object as it is sent, once nothing is added to it any more.
    finished: Option<Bytes>,
    first_ts: Option<i64>,
    /// Nothing in the batch is for this sink.
    is_empty: bool,
    /// What was being sent when the process ended, or is now.
    intent: Option<Intent>,
    /// The intent is an earlier process's, and its end is not reached yet.
    is_replaying: bool,
    is_full: bool,
}

impl std::fmt::Debug for S3Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Sink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl S3Sink {
    pub(super) fn open(
        settings: &S3SinkSettings,
        note: &Value,
        log: &str,
    ) -> Result<Self, SinkFailure> {
        let note = match note {
            Value::Null => Note::default(),
            note => Note::deserialize(note)
                .map_err(|error| SinkFailure::of("cannot read the note of the cursor", &error))?,
        };
        let store = ObjectStore::open(&settings.location, &settings.s3)
            .map_err(|error| SinkFailure::new(error.to_string()))?;
        Ok(Self {
            store,
            settings: settings.clone(),
            log: log.to_owned(),
            encoder: Ndjson::new(settings.controls),
            encoded: Vec::new(),
            object: encoder()?,
            finished: None,
            first_ts: None,
            is_empty: true,
            is_replaying: note.intent.is_some(),
            intent: note.intent,
            is_full: false,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        // An object that was begun once has to end where it ended then.
        let batch_age = if self.is_replaying { Duration::MAX } else { self.settings.batch_age };
        Pace { batch_age, commit_every: Duration::ZERO, settle: Duration::ZERO, runs_ahead: false }
    }

    /// Everything of the log before `at` was seen. An object that was begun once ends where it ended then, also
    /// when what stood there last was not for this sink; of one whose records are gone there is nothing to send.
    pub(super) fn reached(&mut self, at: Position) {
        if self.replay_end().is_none_or(|end| at < end) {
            return;
        }
        if self.first_ts.is_some() {
            self.is_full = true;
        } else {
            tracing::warn!("the records of an object that was being sent are gone from the log");
            self.intent = None;
            self.is_replaying = false;
        }
    }

    /// Where the object ends that an earlier process began.
    fn replay_end(&self) -> Option<Position> {
        self.intent.as_ref().filter(|_| self.is_replaying).map(|intent| intent.to)
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        self.reached(Position { frame: frame.start, record: 0 });
        let end = self.replay_end();
        if self.is_full {
            return from;
        }
        let first = frame.block.records().nth(from as usize).map(|record| record.ts);
        self.first_ts = self.first_ts.or(first);
        let mut done = from;
        while done < frame.block.count() {
            done = self.encoder.encode(frame, done, ENCODED_BYTES, &mut self.encoded);
            self.is_empty &= self.encoded.is_empty();
            // Memory takes whatever is written.
            if let Err(error) = self.object.write_all(&self.encoded) {
                tracing::error!(%error, "cannot compress records");
            }
            self.encoded.clear();
        }
        self.is_full = match end {
            Some(end) => frame.end >= end.frame,
            None => self.object.get_ref().len() >= self.settings.batch_bytes,
        };
        done
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        // Nothing for this sink: an object that is there must not be replaced by an empty one.
        if self.is_empty {
            self.begin();
            return Ok(Sent::default());
        }
        let object = match &self.finished {
            Some(object) => object.clone(),
            None => {
                let object = std::mem::replace(&mut self.object, encoder()?).finish();
                let object = object.map_err(|error| {
                    SinkFailure::of("cannot compress records", &error).for_good()
                })?;
                self.finished.insert(object.into()).clone()
            }
        };
        let intent = match &self.intent {
            Some(intent) => intent.clone(),
            None => {
                let (from, to) = (context.range.start, context.range.end);
                let key = key(self.first_ts.unwrap_or_default(), &self.log, from, to);
                let intent = Intent { key, to };
                let note = Note { intent: Some(intent.clone()) };
                (context.keep)(serde_json::to_value(note).unwrap_or_default())?;
                self.intent.insert(intent).clone()
            }
        };
        let bytes = object.len() as u64;
        let put = context.stop.or(self.store.put(&intent.key, object));
        match context.runtime.block_on(put) {
            None => return Err(SinkFailure::new("stopped before an object was sent")),
            Some(Err(error)) => return Err(SinkFailure::new(error.to_string())),
            Some(Ok(())) => {}
        }
        self.begin();
        Ok(Sent { bytes, refused: Vec::new() })
    }

    /// What follows is the next object's.
    fn begin(&mut self) {
        self.finished = None;
        self.first_ts = None;
        self.is_empty = true;
        self.intent = None;
        self.is_replaying = false;
        self.is_full = false;
    }
}

fn encoder() -> Result<zstd::Encoder<'static, Vec<u8>>, SinkFailure> {
    let encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).and_then(|mut encoder| {
        encoder.include_checksum(true)?;
        Ok(encoder)
    });
    encoder.map_err(|error| SinkFailure::of("cannot begin to compress", &error))
}

/// `2026/11/24/10/<log>-<from>-<to>.ndjson.zst`: the hour is that of the first record, so that objects of a time
/// are found by listing; places have twenty digits, so that keys sort as the log does.
fn key(ts: i64, log: &str, from: Position, to: Position) -> String {
    let mut stamp = Stamp::default();
    let hour: String = stamp
        .write(ts)
        .iter()
        .take(HOUR_CHARS)
        .map(|byte| if byte.is_ascii_digit() { char::from(*byte) } else { '/' })
        .collect();
    let place = |place: Position| format!("{:020}.{}", place.frame, place.record);
    format!("{hour}/{log}-{}-{}.ndjson.zst", place(from), place(to))
}
