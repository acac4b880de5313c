//! A name for each record that is the same whenever it is sent, and never that of another: peers that know names
//! take a record once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use twox_hash::XxHash3_64;

use super::PerSource;
use crate::record::Record;
use crate::source::SourceMeta;
use crate::wal::Frame;

/// Bytes of the hash that names a source within all logs.
const SOURCE_HASH_BYTES: usize = 12;

/// Makes names of the records of one log.
#[derive(Debug)]
pub struct Identities {
    log: String,
    sources: PerSource<String>,
}

impl Identities {
    /// `log` is the random name of the log: another one numbers its records from 0 again.
    #[must_use]
    pub fn new(log: &str) -> Self {
        Self { log: log.to_owned(), sources: PerSource::default() }
    }

    /// `<source>-<number>-<content>`. The content is part of it because without a log on disk the number of a line
    /// may be another one after a crash.
    pub fn of(&mut self, frame: &Frame, seq: u64, record: &Record<'_>) -> String {
        let Self { log, sources } = self;
        let source = sources.of(frame, |meta| source_name(log, meta));
        let content = XxHash3_64::oneshot_with_seed(record.ts.cast_unsigned(), record.line);
        format!("{source}-{seq:x}-{content:016x}")
    }
}

fn source_name(log: &str, meta: &SourceMeta) -> String {
    let hash = blake3::hash(format!("{log} {}", meta.key.0).as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_bytes().get(..SOURCE_HASH_BYTES).unwrap_or_default())
}
