//! Where lines come from, as every sink and the ledger names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A source within one write-ahead log; given when it is first seen, never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u32);

/// What is known of a source. Stored in the write-ahead log, so that a segment can be read alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMeta {
    /// What it is: the same after a restart, never the same for two.
    pub key: SourceKey,
    /// Where it is, for people and sinks.
    pub origin: Origin,
    /// Name of this host.
    pub host: String,
    /// Added to every record: from the configuration and from labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// The sinks it goes to by name; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    /// How sinks take its lines apart.
    #[serde(default)]
    pub parse: Parse,
}

/// `engine:<64 hexadecimal digits>` or `file:<device>-<inode>-<birth time>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceKey(pub String);

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Origin {
    /// A container of the engine.
    Engine {
        /// 64 hexadecimal digits.
        id: String,
        /// Without the leading slash.
        container: String,
        /// As it was asked for.
        image: String,
        /// The Compose project.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// The Compose service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// A file.
    File {
        /// Where it was when it was first seen.
        path: String,
        /// The volume it is in, when the engine could tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
        /// Its inode.
        inode: u64,
    },
}

impl Origin {
    /// The shortest name a person knows it by: the container's, or the path.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Engine { container, .. } => container,
            Self::File { path, .. } => path,
        }
    }
}

/// How a line becomes fields. Sinks do it: the line itself is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parse {
    /// Not at all.
    #[default]
    None,
    /// A JSON object.
    Json,
    /// `key=value key="quoted value"`.
    Logfmt,
}
