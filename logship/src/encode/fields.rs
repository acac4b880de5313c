//! What is known of a record beside its line, as names and values, and what a sink calls them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::source::SourceMeta;

/// Keys of a record, as `docs/logship-sinks.md` has them. A field of the configuration or of a label with the name
/// of one gets a `_` in front.
pub const KEYS: [&str; 17] = [
    "host",
    "container",
    "id",
    "image",
    "project",
    "service",
    "path",
    "volume",
    "stream",
    "seq",
    "ts",
    "line",
    "line_b64",
    "partial",
    "late",
    "control",
    "parsed",
];

/// Those without which a record says nothing: they may have another name, but must have one.
const KEPT: [&str; 5] = ["seq", "ts", "line", "line_b64", "control"];

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Names that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// It is needed.
    #[error("field.{0} cannot be left out: give it a name")]
    Needed(String),
    /// No name.
    #[error("field.{0} has no usable name: it may have 128 bytes and no control characters")]
    Unusable(String),
    /// Two of one name.
    #[error("field.{0} and field.{1} have the same name: a record would have two of it")]
    Same(String, String),
}

/// What a sink calls the keys of a record, and which ones it leaves out. Without an entry a key keeps its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldNames(BTreeMap<String, Option<String>>);

impl FieldNames {
    /// The names usual at a kind of sink, and what the operator changed of them: an empty name leaves the field out.
    pub fn new(
        usual: &[(&str, &str)],
        changed: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, FieldFault> {
        let usual = usual.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned()));
        let mut names = Self::default();
        for (key, name) in usual.chain(changed) {
            if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                return Err(FieldFault::Unusable(key));
            }
            if name.is_empty() && KEPT.contains(&key.as_str()) {
                return Err(FieldFault::Needed(key));
            }
            names.0.insert(key, (!name.is_empty()).then_some(name));
        }
        for (at, key) in KEYS.iter().enumerate() {
            let same =
                |other: &&&str| names.of(other).is_some() && names.of(other) == names.of(key);
            if let Some(other) = KEYS.iter().take(at).find(same) {
                return Err(FieldFault::Same((*other).to_owned(), (*key).to_owned()));
            }
        }
        Ok(names)
    }

    /// What `key` is called; `None`: it is left out.
    #[must_use]
    pub fn of<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.0.get(key).map_or(Some(key), Option::as_deref)
    }

    /// What a key is called that is never left out.
    pub(super) fn kept<'a>(&'a self, key: &'a str) -> &'a str {
        self.of(key).unwrap_or(key)
    }

    /// Everything that is known of a source, in its order: the host, what it is, and the added fields.
    pub(super) fn described<'a>(&'a self, meta: &'a SourceMeta) -> Vec<(Cow<'a, str>, &'a str)> {
        let known = [("host", meta.host.as_str())].into_iter().chain(meta.origin.pairs());
        let known = known.filter_map(|(key, value)| Some((Cow::Borrowed(self.of(key)?), value)));
        let added = meta.fields.iter().filter_map(|(key, value)| {
            // An entry for the name of a key is about the key.
            let is_key = KEYS.contains(&key.as_str());
            let name = if is_key { key } else { self.of(key)? };
            let is_taken = is_key || KEYS.iter().any(|key| self.of(key) == Some(name));
            let name = if is_taken { Cow::Owned(format!("_{name}")) } else { Cow::Borrowed(name) };
            Some((name, value.as_str()))
        });
        known.chain(added).collect()
    }
}
