//! Elasticsearch and OpenSearch: the lines of `_bulk`, and what is answered to them.

use std::sync::Arc;

use serde::Deserialize;

use super::fields::FieldNames;
use super::identity::Identities;
use super::ndjson::Ndjson;
use super::{Controls, Encoded, Fate};
use crate::record::Stream;
use crate::template::Template;
use crate::time::SECOND;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Names of fields that data streams need and that the Elastic Common Schema has.
pub const USUAL_NAMES: [(&str, &str); 9] = [
    ("host", "host.name"),
    ("container", "container.name"),
    ("id", "container.id"),
    ("image", "container.image.name"),
    ("service", "service.name"),
    ("path", "log.file.path"),
    ("seq", "event.sequence"),
    ("ts", "@timestamp"),
    ("line", "message"),
];

/// Longest name of an index, in bytes.
const INDEX_BYTES_MAX: usize = 255;

const DAY: i64 = 86_400 * SECOND;

/// Writes records as pairs of lines: the action `create` with our own `_id`, and the document.
#[derive(Debug)]
pub struct Bulk {
    documents: Ndjson,
    index: Template,
    identities: Identities,
    /// The index of the last record, and what it depended on.
    last: Option<(Stream, i64, String)>,
    document: Vec<u8>,
    pair: Vec<u8>,
    no_head: Arc<[u8]>,
}

impl Bulk {
    /// An encoder for the records of `log`.
    #[must_use]
    pub fn new(index: Template, controls: Controls, names: FieldNames, log: &str) -> Self {
        Self {
            documents: Ndjson::named(controls, names),
            index,
            identities: Identities::new(log),
            last: None,
            document: Vec::new(),
            pair: Vec::new(),
            no_head: Arc::default(),
        }
    }

    /// Calls `take` with every record from number `from` of the frame on until it says that it was enough, and says
    /// how many of the frame's records are done then.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        mut take: impl FnMut(Encoded<'_>) -> bool,
    ) -> u32 {
        let Self { documents, index, identities, last, document, pair, no_head } = self;
        document.clear();
        // The last frame was of another source, or what is known of this one may have changed.
        *last = None;
        documents.each(frame, from, document, |record, seq, document| {
            let of = (record.flags.stream(), record.ts.div_euclid(DAY));
            if last.as_ref().is_none_or(|(stream, day, _)| (*stream, *day) != of) {
                let name = index_name(&index.expand(&frame.meta, of.0, record.ts));
                *last = Some((of.0, of.1, name));
            }
            let name = last.as_ref().map_or("", |(_, _, name)| name.as_str());
            let id = identities.of(frame, seq, record);
            pair.clear();
            // Neither of them has anything to escape.
            for part in ["{\"create\":{\"_index\":\"", name, "\",\"_id\":\"", &id, "\"}}\n"] {
                pair.extend_from_slice(part.as_bytes());
            }
            pair.append(document);
            take(Encoded { seq, head: no_head, bytes: pair })
        })
    }
}

/// A name that an index may have: lower case, none of the characters that are refused, no `-`, `_`, `+` or `.` first.
fn index_name(wanted: &str) -> String {
    let allowed = |c: char| match c {
        '"' | '\\' | '/' | '*' | '?' | '<' | '>' | '|' | ' ' | ',' | '#' | ':' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let mut name: String = wanted.to_lowercase().chars().map(allowed).collect();
    while name.len() > INDEX_BYTES_MAX {
        name.pop();
    }
    match name.trim_start_matches(['-', '_', '+', '.']) {
        "" => "logship".to_owned(),
        name => name.to_owned(),
    }
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "index")]
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Option<Reason>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reason {
    Detailed {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        reason: Option<String>,
    },
    Text(String),
}

/// The fate of each of `count` records; empty when all of them are stored. An answer that does not say so of each is
/// none, and the sentence says what is wrong with it.
pub fn fates(body: &[u8], count: usize) -> Result<Vec<Fate>, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is none to a bulk request: {error}"))?;
    if answer.items.len() != count {
        let told = answer.items.len();
        return Err(format!("it answered for {told} of {count} records"));
    }
    if !answer.errors {
        return Ok(Vec::new());
    }
    Ok(answer.items.into_iter().map(|item| fate(item.create)).collect())
}

fn fate(Outcome { status, error }: Outcome) -> Fate {
    let sentence = || {
        let why = match error {
            None => String::new(),
            Some(Reason::Text(text)) => text,
            Some(Reason::Detailed { kind, reason }) => {
                format!("{kind}: {}", reason.unwrap_or_default())
            }
        };
        format!("{status} {why}")
    };
    match status {
        // 409: a record of this name is there, and names are of one record.
        200..=299 | 409 => Fate::Stored,
        400 | 413 | 422 => Fate::Never(sentence()),
        _ => Fate::Later(sentence()),
    }
}
