//! What servers over HTTP want batches to be, and what they answer to them.

use std::borrow::Cow;
use std::sync::Arc;

use super::client::{Answer, Compression};
use crate::encode::bulk::{self, Bulk};
use crate::encode::fields::FieldNames;
use crate::encode::loki::{self, LABELS_MAX, Loki, LokiFormat};
use crate::encode::ndjson::Ndjson;
use crate::encode::otlp::{self, Otlp};
use crate::encode::{Controls, Encoded, Fate};
use crate::sink::batch::{Batch, Part};
use crate::sink::failure::SinkFailure;
use crate::sink::options::{OptionFault, Options, SinkUrl};
use crate::template::Template;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// The data stream that records go to unless the URL names an index.
const INDEX_DEFAULT: &str = "logs-logship-default";

/// Paths of the requests, unless the URL has one.
const LOKI_PATH: &str = "/loki/api/v1/push";
const OTLP_PATH: &str = "/v1/logs";

/// Labels of Loki unless set: they change seldom, and there are few of each.
const LABELS_DEFAULT: &str = "host,project,service,container,stream,path,volume";

/// The names of fields a server gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialectSettings {
    /// One JSON object a line.
    Ndjson(FieldNames),
    /// `_bulk` of Elasticsearch and OpenSearch.
    Bulk(BulkSettings),
    /// The push API of Loki.
    Loki(LokiSettings),
    /// OTLP/HTTP.
    Otlp(FieldNames),
}

/// What is particular to Elasticsearch and OpenSearch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkSettings {
    /// The index or data stream of a record.
    pub index: Template,
    /// The names of fields.
    pub names: FieldNames,
}

/// What is particular to Loki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LokiSettings {
    /// What are labels.
    pub labels: Vec<String>,
    /// Whether the rest stands beside each line.
    pub has_metadata: bool,
    /// The names of fields.
    pub names: FieldNames,
}

impl DialectSettings {
    /// The dialect that a URL asks for, and the path to be requested.
    pub(super) fn read(
        url: &SinkUrl,
        options: &mut Options<'_>,
    ) -> Result<(Self, String), OptionFault> {
        let or = |path: &str| match url.path.as_str() {
            "" | "/" => path.to_owned(),
            own => own.to_owned(),
        };
        Ok(match url.scheme.split_once('+').map(|(dialect, _)| dialect) {
            Some("es") => {
                let path = url.decoded_path()?;
                let (before, index) = path.rsplit_once('/').unwrap_or_default();
                let index = if index.is_empty() { INDEX_DEFAULT } else { index };
                let index = Template::parse(index)
                    .map_err(|error| OptionFault::Template("the index in the URL", error))?;
                let names = options.fields(&bulk::USUAL_NAMES)?;
                (Self::Bulk(BulkSettings { index, names }), format!("{before}/_bulk"))
            }
            Some("loki") => {
                let labels = options.text("labels").unwrap_or_else(|| LABELS_DEFAULT.to_owned());
                let labels: Vec<_> =
                    labels.split(',').map(|label| label.trim().to_owned()).collect();
                if labels.len() > LABELS_MAX {
                    return Err(OptionFault::Conflict(format!(
                        "labels names more than {LABELS_MAX} labels, which Loki refuses"
                    )));
                }
                let has_metadata = options.flag("metadata")?.unwrap_or(true);
                let names = options.fields(&[])?;
                (Self::Loki(LokiSettings { labels, has_metadata, names }), or(LOKI_PATH))
            }
            Some("otlp") => (Self::Otlp(options.fields(&otlp::USUAL_NAMES)?), or(OTLP_PATH)),
            _ => (Self::Ndjson(options.fields(&[])?), or("/")),
        })
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Ndjson(_) | Self::Bulk(_) => "application/x-ndjson",
            Self::Loki(_) | Self::Otlp(_) => "application/x-protobuf",
        }
    }

    /// `compress=`, as far as there is a choice.
    pub(super) fn compression(
        &self,
        options: &mut Options<'_>,
    ) -> Result<Compression, OptionFault> {
        let words: &[_] = match self {
            Self::Ndjson(_) => &[
                ("none", Compression::None),
                ("gzip", Compression::Gzip),
                ("zstd", Compression::Zstd),
            ],
            Self::Bulk(_) | Self::Otlp(_) => {
                &[("none", Compression::None), ("gzip", Compression::Gzip)]
            }
            Self::Loki(_) => return Ok(Compression::Snappy),
        };
        Ok(options.choice("compress", words)?.unwrap_or(Compression::Gzip))
    }
}

/// What an answer means for the records of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server has them.
    Taken,
    /// It will never take them together as they are.
    Refused(String),
    /// It has most of them; some are lost for good, and nobody knows which.
    Lost { records: u64, sentence: String },
    /// It has those that are not named: some it will never take, each for its reason, others perhaps later.
    Mixed { never: Vec<(usize, String)>, later: Part, why: String },
}

/// Makes bodies and reads answers.
#[derive(Debug)]
pub(super) enum Dialect {
    Ndjson { encoder: Ndjson, record: Vec<u8>, no_head: Arc<[u8]> },
    Bulk(Bulk),
    Loki(Loki),
    Otlp(Otlp),
}

impl Dialect {
    pub(super) fn new(settings: &DialectSettings, controls: Controls, log: &str) -> Self {
        match settings {
            DialectSettings::Ndjson(names) => Self::Ndjson {
                encoder: Ndjson::named(controls, names.clone()),
                record: Vec::new(),
                no_head: Arc::default(),
            },
            DialectSettings::Bulk(BulkSettings { index, names }) => {
                Self::Bulk(Bulk::new(index.clone(), controls, names.clone(), log))
            }
            DialectSettings::Loki(LokiSettings { labels, has_metadata, names }) => {
                Self::Loki(Loki::new(LokiFormat {
                    labels: labels.clone(),
                    has_metadata: *has_metadata,
                    controls,
                    names: names.clone(),
                }))
            }
            DialectSettings::Otlp(names) => Self::Otlp(Otlp::new(controls, names.clone())),
        }
    }

    /// Calls `take` with every record from number `from` of the frame on until it says that it was enough, and says
    /// how many of the frame's records are done then.
    pub(super) fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        take: &mut dyn FnMut(Encoded<'_>) -> bool,
    ) -> u32 {
        match self {
            Self::Ndjson { encoder, record, no_head } => {
                record.clear();
                encoder.each(frame, from, record, |_, seq, bytes| {
                    let goes_on = take(Encoded { seq, head: no_head, bytes });
                    bytes.clear();
                    goes_on
                })
            }
            Self::Bulk(encoder) => encoder.each(frame, from, take),
            Self::Loki(encoder) => encoder.each(frame, from, take),
            Self::Otlp(encoder) => encoder.each(frame, from, take),
        }
    }

    /// A part of a batch as the server wants it, before compression.
    pub(super) fn body<'a>(&self, batch: &'a Batch, part: &[usize]) -> Cow<'a, [u8]> {
        match self {
            Self::Ndjson { .. } | Self::Bulk(_) => batch.joined(part),
            Self::Loki(_) => loki::request(batch.grouped(part)).into(),
            Self::Otlp(_) => otlp::request(batch.grouped(part)).into(),
        }
    }

    /// What the answer to a part means.
    pub(super) fn judge(
        &self,
        url: &str,
        answer: Answer,
        part: &[usize],
    ) -> Result<Verdict, SinkFailure> {
        let Answer { status, sentence, retry_after, body } = answer;
        match (self, status) {
            (Self::Bulk(_), 200..=299) => bulk_verdict(url, &body, part),
            (Self::Otlp(_), 200..=299) => Ok(match otlp::rejected(&body) {
                None => Verdict::Taken,
                Some((records, why)) => Verdict::Lost {
                    // A server that counts more than there were is not believed.
                    records: records.min(part.len() as u64),
                    sentence: format!("{url} rejected {records} records: {}", why.escape_debug()),
                },
            }),
            (_, 200..=299) => Ok(Verdict::Taken),
            (_, 400 | 413 | 422) => Ok(Verdict::Refused(sentence)),
            (_, 401 | 403) => Err(SinkFailure::new(format!("{sentence} (the login is refused)"))),
            _ => Err(SinkFailure::new(sentence).after(retry_after)),
        }
    }
}

fn bulk_verdict(url: &str, body: &[u8], part: &[usize]) -> Result<Verdict, SinkFailure> {
    let fates = bulk::fates(body, part.len())
        .map_err(|fault| SinkFailure::new(format!("{url} is no server of this kind: {fault}")))?;
    let (mut never, mut later, mut why) = (Vec::new(), Vec::new(), String::new());
    for (at, fate) in part.iter().zip(fates) {
        let sentence = |of: &str| format!("{url} answered for a record: {}", of.escape_debug());
        match fate {
            Fate::Stored => {}
            Fate::Never(reason) => never.push((*at, sentence(&reason))),
            Fate::Later(reason) => {
                why = sentence(&reason);
                later.push(*at);
            }
        }
    }
    match never.is_empty() && later.is_empty() {
        true => Ok(Verdict::Taken),
        false => Ok(Verdict::Mixed { never, later, why }),
    }
}
