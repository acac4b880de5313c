//! Logs of OpenTelemetry (opentelemetry-proto 1, `logs/v1`), as protocol buffers.

use std::sync::Arc;

use serde_json::Value as Json;

use super::fields::FieldNames;
use super::ndjson::put_parsed;
use super::protobuf::{Value, put_bytes, put_fixed64, put_header, put_number, take};
use super::{Controls, Encoded, PerSource, passes};
use crate::record::Record;
use crate::source::SourceMeta;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Names of the semantic conventions.
pub const USUAL_NAMES: [(&str, &str); 12] = [
    ("host", "host.name"),
    ("container", "container.name"),
    ("id", "container.id"),
    ("image", "container.image.name"),
    ("project", "service.namespace"),
    ("service", "service.name"),
    ("path", "log.file.path"),
    ("stream", "log.iostream"),
    ("seq", "logship.seq"),
    ("partial", "logship.partial"),
    ("late", "logship.late"),
    ("control", "logship.control"),
];

/// `SEVERITY_NUMBER_WARN`, which control records have; of lines nothing is claimed.
const SEVERITY_WARN: u64 = 13;

/// Field numbers.
mod field {
    pub(super) const RESOURCE_LOGS: u64 = 1;
    pub(super) const RESOURCE: u64 = 1;
    pub(super) const SCOPE_LOGS: u64 = 2;
    pub(super) const SCOPE: u64 = 1;
    pub(super) const SCOPE_NAME: u64 = 1;
    pub(super) const SCOPE_VERSION: u64 = 2;
    pub(super) const LOG_RECORDS: u64 = 2;
    pub(super) const RESOURCE_ATTRIBUTES: u64 = 1;
    pub(super) const TIME: u64 = 1;
    pub(super) const SEVERITY: u64 = 2;
    pub(super) const BODY: u64 = 5;
    pub(super) const ATTRIBUTES: u64 = 6;
    pub(super) const OBSERVED_TIME: u64 = 11;
    pub(super) const KEY: u64 = 1;
    pub(super) const VALUE: u64 = 2;
    pub(super) const STRING: u64 = 1;
    pub(super) const BOOL: u64 = 2;
    pub(super) const INT: u64 = 3;
    pub(super) const DOUBLE: u64 = 4;
    pub(super) const ARRAY: u64 = 5;
    pub(super) const MAP: u64 = 6;
    pub(super) const BINARY: u64 = 7;
    pub(super) const VALUES: u64 = 1;
    pub(super) const PARTIAL_SUCCESS: u64 = 1;
    pub(super) const REJECTED: u64 = 1;
    pub(super) const MESSAGE: u64 = 2;
}

/// Writes records as `LogRecord`; their head is the `Resource`.
#[derive(Debug)]
pub struct Otlp {
    controls: Controls,
    names: FieldNames,
    resources: PerSource<Arc<[u8]>>,
    record: Vec<u8>,
    parsed: Vec<u8>,
}

impl Otlp {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(controls: Controls, names: FieldNames) -> Self {
        let (record, parsed) = (Vec::new(), Vec::new());
        Self { controls, names, resources: PerSource::default(), record, parsed }
    }

    /// Calls `take` with every record from number `from` of the frame on until it says that it was enough, and says
    /// how many of the frame's records are done then.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        mut take: impl FnMut(Encoded<'_>) -> bool,
    ) -> u32 {
        let Self { controls, names, resources, record: out, parsed } = self;
        let head = resources.of(frame, |meta| resource(meta, names));
        let mut done = from;
        for record in frame.block.records().skip(from as usize) {
            let seq = frame.first_seq.saturating_add(u64::from(done));
            done += 1;
            if record.flags.is_control() && !passes(*controls, record.line) {
                continue;
            }
            out.clear();
            parsed.clear();
            if names.of("parsed").is_some() {
                put_parsed(parsed, &[], &record, &frame.meta.parse);
            }
            put_record(out, names, &record, seq, parsed);
            if !take(Encoded { seq, head, bytes: out }) {
                break;
            }
        }
        done
    }
}

fn resource(meta: &SourceMeta, names: &FieldNames) -> Arc<[u8]> {
    let mut out = Vec::new();
    for (key, value) in names.described(meta) {
        put_attribute(&mut out, field::RESOURCE_ATTRIBUTES, &key, |out| {
            put_bytes(out, field::STRING, value.as_bytes());
        });
    }
    out.into()
}

fn put_record(out: &mut Vec<u8>, names: &FieldNames, record: &Record<'_>, seq: u64, parsed: &[u8]) {
    // Times before 1970 do not exist there.
    let time = u64::try_from(record.ts).unwrap_or_default();
    put_fixed64(out, field::TIME, time);
    if record.flags.is_control() {
        put_number(out, field::SEVERITY, SEVERITY_WARN);
    }
    let mut body = Vec::with_capacity(record.line.len() + 8);
    match std::str::from_utf8(record.line) {
        Ok(_) => put_bytes(&mut body, field::STRING, record.line),
        Err(_) => put_bytes(&mut body, field::BINARY, record.line),
    }
    put_bytes(out, field::BODY, &body);
    let mut put = |key: &str, value: &dyn Fn(&mut Vec<u8>)| {
        if let Some(name) = names.of(key) {
            put_attribute(out, field::ATTRIBUTES, name, value);
        }
    };
    let stream = record.flags.stream().name().as_bytes();
    put("stream", &|out| put_bytes(out, field::STRING, stream));
    put("seq", &|out| put_number(out, field::INT, seq));
    let marks = [
        ("partial", record.flags.is_partial()),
        ("late", record.flags.is_late()),
        ("control", record.flags.is_control()),
    ];
    for (key, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
        put(key, &|out| put_number(out, field::BOOL, 1));
    }
    // It was proved to be an object of bounded depth when the line was taken apart.
    if let Ok(Json::Object(object)) = serde_json::from_slice(parsed) {
        put("parsed", &|out| put_json(out, &Json::Object(object.clone())));
    }
    put_fixed64(out, field::OBSERVED_TIME, time);
}

fn put_attribute(out: &mut Vec<u8>, number: u64, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    let mut pair = Vec::with_capacity(key.len() + 16);
    put_bytes(&mut pair, field::KEY, key.as_bytes());
    let mut any = Vec::new();
    value(&mut any);
    put_bytes(&mut pair, field::VALUE, &any);
    put_bytes(out, number, &pair);
}

/// The content of an `AnyValue`; null is one without content.
fn put_json(out: &mut Vec<u8>, value: &Json) {
    match value {
        Json::Null => {}
        Json::Bool(value) => put_number(out, field::BOOL, u64::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => put_number(out, field::INT, int.cast_unsigned()),
            (None, double) => {
                put_fixed64(out, field::DOUBLE, double.unwrap_or_default().to_bits());
            }
        },
        Json::String(text) => put_bytes(out, field::STRING, text.as_bytes()),
        Json::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                let mut any = Vec::new();
                put_json(&mut any, item);
                put_bytes(&mut list, field::VALUES, &any);
            }
            put_bytes(out, field::ARRAY, &list);
        }
        Json::Object(object) => {
            let mut map = Vec::new();
            for (key, value) in object {
                put_attribute(&mut map, field::VALUES, key, |out| put_json(out, value));
            }
            put_bytes(out, field::MAP, &map);
        }
    }
}

/// An `ExportLogsServiceRequest` of records, those of one resource together.
#[must_use]
pub fn request<'a>(groups: impl IntoIterator<Item = (&'a [u8], Vec<&'a [u8]>)>) -> Vec<u8> {
    let mut scope = Vec::new();
    put_bytes(&mut scope, field::SCOPE_NAME, b"logship");
    put_bytes(&mut scope, field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
    let mut out = Vec::new();
    for (resource, records) in groups {
        let mut scope_logs = Vec::new();
        put_bytes(&mut scope_logs, field::SCOPE, &scope);
        for record in records {
            put_bytes(&mut scope_logs, field::LOG_RECORDS, record);
        }
        let mut head = Vec::new();
        put_bytes(&mut head, field::RESOURCE, resource);
        put_header(&mut head, field::SCOPE_LOGS, scope_logs.len());
        put_header(&mut out, field::RESOURCE_LOGS, head.len() + scope_logs.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(&scope_logs);
    }
    out
}

/// How many records an `ExportLogsServiceResponse` says were rejected, and why. What is no such message says none.
#[must_use]
pub fn rejected(body: &[u8]) -> Option<(u64, String)> {
    let mut partial = None;
    let mut rest = body;
    while let Some((number, value)) = take(&mut rest) {
        if let (field::PARTIAL_SUCCESS, Value::Bytes(bytes)) = (number, value) {
            partial = Some(bytes);
        }
    }
    let (mut count, mut why) = (0, String::new());
    let mut rest = partial?;
    while let Some((number, value)) = take(&mut rest) {
        match (number, value) {
            (field::REJECTED, Value::Varint(value)) => count = value,
            (field::MESSAGE, Value::Bytes(text)) => {
                why = String::from_utf8_lossy(text).into_owned();
            }
            _ => {}
        }
    }
    // It is signed there.
    i64::try_from(count).ok().filter(|count| *count > 0)?;
    Some((count, why))
}
