//! Names with placeholders: `{project}-{service}`, filled in for each source.

use std::borrow::Cow;

use chores_common::template::{self, Part, TemplateError};
use twox_hash::XxHash3_64;

use crate::record::Stream;
use crate::source::{Origin, SourceMeta};
use crate::time::Stamp;

#[cfg(test)]
mod tests;

/// Digits of a container's id, as the engine's own listings show it.
const ID_DIGITS: usize = 12;

/// Longest component of a path with a placeholder in it, in bytes: `NAME_MAX` (255) less `.000001.zst`, what a
/// rotated file has behind its name.
const COMPONENT_BYTES_MAX: usize = 244;

/// Bytes behind a component that was cut: `-` and a hash of all of it, so that two do not become one.
const HASH_BYTES: usize = 17;

/// Digits at the end of a rotated file's name, at the least.
const GENERATION_DIGITS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Name,
    Stem,
    Path,
    Container,
    Id,
    Project,
    Service,
    Stream,
    Host,
    Date,
}

/// What may stand between braces.
const PLACEHOLDERS: [(&str, Placeholder); 10] = [
    ("name", Placeholder::Name),
    ("stem", Placeholder::Stem),
    ("path", Placeholder::Path),
    ("container", Placeholder::Container),
    ("id", Placeholder::Id),
    ("project", Placeholder::Project),
    ("service", Placeholder::Service),
    ("stream", Placeholder::Stream),
    ("host", Placeholder::Host),
    ("date", Placeholder::Date),
];

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(template::Template<Placeholder>);

impl Template {
    /// Reads it. Braces have no other meaning and cannot be escaped.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        template::Template::parse(text, &PLACEHOLDERS).map(Self)
    }

    /// Whether two streams of a source have two names.
    #[must_use]
    pub fn has_stream(&self) -> bool {
        self.0.has(Placeholder::Stream)
    }

    /// Whether the name changes with the day.
    #[must_use]
    pub fn has_date(&self) -> bool {
        self.0.has(Placeholder::Date)
    }

    /// Whether each source is meant to have a name of its own.
    #[must_use]
    pub fn has_source(&self) -> bool {
        use Placeholder::{Container, Id, Name, Path, Stem};
        [Name, Stem, Path, Container, Id].into_iter().any(|placeholder| self.0.has(placeholder))
    }

    /// Whether all of it is given.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.parts().iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Filled in; `ts` is in nanoseconds since 1970.
    #[must_use]
    pub fn expand(&self, meta: &SourceMeta, stream: Stream, ts: i64) -> String {
        self.0.expand(|placeholder| value(placeholder, meta, stream, ts))
    }

    /// The same as part of a path: a value from outside is one component of it or less, is never empty, `.` or
    /// `..`, has no control characters and does not begin with a dot. A component with a value in it leaves room
    /// for the suffix of a rotated file, and does not look as if it had one.
    #[must_use]
    pub fn expand_path(&self, meta: &SourceMeta, stream: Stream, ts: i64) -> String {
        let (mut out, mut start, mut has_value) = (String::new(), 0, false);
        for part in self.0.parts() {
            match part {
                Part::Text(text) => {
                    for (index, text) in text.split('/').enumerate() {
                        if index > 0 {
                            if std::mem::take(&mut has_value) {
                                bound(&mut out, start);
                            }
                            out.push('/');
                            start = out.len();
                        }
                        out.push_str(text);
                    }
                }
                Part::Placeholder(placeholder) => {
                    has_value = true;
                    out.push_str(&component(&value(*placeholder, meta, stream, ts)));
                }
            }
        }
        if has_value {
            bound(&mut out, start);
        }
        out
    }
}

/// What has no value is `none`, so that names stay whole: `none-web`, not `-web`.
fn value(what: Placeholder, meta: &SourceMeta, stream: Stream, ts: i64) -> Cow<'_, str> {
    let or_none = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
    match (what, &meta.origin) {
        (Placeholder::Stream, _) => stream.name().into(),
        (Placeholder::Host, _) => meta.host.as_str().into(),
        (Placeholder::Date, _) => date(ts).into(),
        (
            Placeholder::Name | Placeholder::Stem | Placeholder::Path | Placeholder::Container,
            Origin::Engine { container, .. },
        ) => container.as_str().into(),
        (Placeholder::Name, Origin::File { path, .. }) => name(path).into(),
        (Placeholder::Stem, Origin::File { path, .. }) => stem(name(path)).into(),
        (Placeholder::Path, Origin::File { path, .. }) => {
            let mut path = path.trim_start_matches('/').to_owned();
            bound(&mut path, 0);
            path.into()
        }
        (Placeholder::Id, Origin::Engine { id, .. }) => id.get(..ID_DIGITS).unwrap_or(id).into(),
        (Placeholder::Id, Origin::File { inode, .. }) => inode.to_string().into(),
        (Placeholder::Project, Origin::Engine { project, .. }) => or_none(project.as_ref()).into(),
        (Placeholder::Service, Origin::Engine { service, .. }) => or_none(service.as_ref()).into(),
        (
            Placeholder::Container | Placeholder::Project | Placeholder::Service,
            Origin::File { .. },
        ) => "none".into(),
    }
}

/// The last component of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A name without its extension; a first dot begins none.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// `2026-11-24`, in UTC.
fn date(ts: i64) -> String {
    let mut stamp = Stamp::default();
    String::from_utf8_lossy(stamp.write(ts).get(..10).unwrap_or_default()).into_owned()
}

fn component(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        let c = if c == '/' || c.is_control() { '_' } else { c };
        let c = if c == '.' && out.is_empty() { '_' } else { c };
        out.push(c);
    }
    if out.is_empty() { "_".to_owned() } else { out }
}

/// Makes a file name of the component that begins at `start`.
fn bound(path: &mut String, start: usize) {
    let name = path.get(start..).unwrap_or_default();
    if is_like_rotated(name) {
        path.push('_');
    }
    let name = path.get(start..).unwrap_or_default();
    if name.len() <= COMPONENT_BYTES_MAX {
        return;
    }
    let hash = XxHash3_64::oneshot(name.as_bytes());
    let end = start + COMPONENT_BYTES_MAX - HASH_BYTES;
    let end = (start..=end).rev().find(|end| path.is_char_boundary(*end)).unwrap_or(start);
    path.truncate(end);
    path.push_str(&format!("-{hash:016x}"));
}

/// Whether a name ends as that of a rotated file does: `web.000001` and `web.000001.zst` are those of `web`.
fn is_like_rotated(name: &str) -> bool {
    let name = name.strip_suffix(".zst").unwrap_or(name);
    name.rsplit_once('.').is_some_and(|(_, digits)| {
        digits.len() >= GENERATION_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}
