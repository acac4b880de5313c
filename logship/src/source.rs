//! Where lines come from, as every sink and the ledger names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

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

impl SourceMeta {
    /// Whether `sink` gets its records.
    #[must_use]
    pub fn is_for(&self, sink: &str) -> bool {
        self.sinks.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == sink))
    }
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

    /// Whether both go by one name: a file and the one that was there before it under its path, or a container that was
    /// made anew.
    #[must_use]
    pub fn has_name_of(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.name() == other.name()
    }

    /// What there is to say of it, each with its key, in the order of `docs/logship-sinks.md`.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        let (always, sometimes) = match self {
            Self::Engine { id, container, image, project, service } => (
                vec![("container", container), ("id", id), ("image", image)],
                vec![("project", project), ("service", service)],
            ),
            Self::File { path, volume, .. } => (vec![("path", path)], vec![("volume", volume)]),
        };
        let sometimes =
            sometimes.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        always.into_iter().chain(sometimes).map(|(key, value)| (key, value.as_str())).collect()
    }
}

/// How a line becomes fields. Sinks do it: the line itself is always kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Parse {
    /// Not at all.
    #[default]
    None,
    /// A JSON object.
    Json,
    /// `key=value key="quoted value"`.
    Logfmt,
    /// The access log of nginx (`combined` and what it is made of) and its error log.
    Nginx,
    /// The access logs of Apache httpd (`common`, `combined`, both with a virtual host) and its error log.
    Apache,
    /// Syslog: RFC 5424, RFC 3164, and what daemons write into files.
    Syslog,
    /// The headers of klog and glog: Kubernetes and its kin.
    Klog,
    /// A regular expression with named groups.
    Regex(Pattern),
}

impl Parse {
    /// Names of those that need no pattern.
    pub const NAMES: [&str; 7] = ["none", "json", "logfmt", "nginx", "apache", "syslog", "klog"];

    /// What stands before a pattern.
    pub const REGEX: &str = "regex:";

    /// The one of that name; `None` for a pattern and for what is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "json" => Self::Json,
            "logfmt" => Self::Logfmt,
            "nginx" => Self::Nginx,
            "apache" => Self::Apache,
            "syslog" => Self::Syslog,
            "klog" => Self::Klog,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Parse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::None => "none",
            Self::Json => "json",
            Self::Logfmt => "logfmt",
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Syslog => "syslog",
            Self::Klog => "klog",
            Self::Regex(pattern) => return write!(f, "{}{}", Self::REGEX, pattern.text()),
        };
        f.write_str(name)
    }
}

impl From<Parse> for String {
    fn from(parse: Parse) -> Self {
        parse.to_string()
    }
}

impl TryFrom<String> for Parse {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix(Self::REGEX) {
            Some(pattern) => Ok(Self::Regex(Pattern::stored(pattern))),
            None => Self::named(&text).ok_or_else(|| format!("{text:?} is no way to parse lines")),
        }
    }
}
