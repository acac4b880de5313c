//! Names with placeholders: `{project}-{service}`, filled in for each source.

use std::borrow::Cow;

use crate::record::Stream;
use crate::source::{Origin, SourceMeta};
use crate::time::Stamp;

#[cfg(test)]
mod tests;

/// Digits of a container's id, as the engine's own listings show it.
const ID_DIGITS: usize = 12;

/// Longest value of a placeholder in a file name, in bytes: two of them and a suffix fit into `NAME_MAX` (255).
const PART_BYTES_MAX: usize = 100;

/// A placeholder that is not one, or a brace without its other half.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error(
        "{{{0}}} is no placeholder; there are {{name}}, {{container}}, {{id}}, {{project}}, {{service}}, {{stream}}, {{host}} and {{date}}"
    )]
    Unknown(String),
    /// An opening brace without a closing one, or the other way round.
    #[error("`{0}` has a brace without its other half")]
    Brace(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Name,
    Container,
    Id,
    Project,
    Service,
    Stream,
    Host,
    Date,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads it. Braces have no other meaning and cannot be escaped.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Brace(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err(unbalanced());
            }
            let (name, after) = after.split_once('}').ok_or_else(unbalanced)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Placeholder(placeholder(name)?));
            rest = after;
        }
        if rest.contains('}') {
            return Err(unbalanced());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether two streams of a source have two names.
    #[must_use]
    pub fn has_stream(&self) -> bool {
        self.0.contains(&Part::Placeholder(Placeholder::Stream))
    }

    /// Whether the name changes with the day.
    #[must_use]
    pub fn has_date(&self) -> bool {
        self.0.contains(&Part::Placeholder(Placeholder::Date))
    }

    /// Whether all of it is given.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Filled in; `ts` is in nanoseconds since 1970.
    #[must_use]
    pub fn expand(&self, meta: &SourceMeta, stream: Stream, ts: i64) -> String {
        self.expand_with(meta, stream, ts, |value| value)
    }

    /// The same as part of a path: a value from outside is one component of it or less, is never empty, `.` or
    /// `..`, has no control characters and does not begin with a dot.
    #[must_use]
    pub fn expand_path(&self, meta: &SourceMeta, stream: Stream, ts: i64) -> String {
        self.expand_with(meta, stream, ts, |value| Cow::Owned(component(&value)))
    }

    fn expand_with<'a>(
        &'a self,
        meta: &'a SourceMeta,
        stream: Stream,
        ts: i64,
        clean: impl Fn(Cow<'a, str>) -> Cow<'a, str>,
    ) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder(placeholder) => {
                    out.push_str(&clean(value(*placeholder, meta, stream, ts)));
                }
            }
        }
        out
    }
}

fn placeholder(name: &str) -> Result<Placeholder, TemplateError> {
    Ok(match name {
        "name" => Placeholder::Name,
        "container" => Placeholder::Container,
        "id" => Placeholder::Id,
        "project" => Placeholder::Project,
        "service" => Placeholder::Service,
        "stream" => Placeholder::Stream,
        "host" => Placeholder::Host,
        "date" => Placeholder::Date,
        _ => return Err(TemplateError::Unknown(name.to_owned())),
    })
}

/// What has no value is `none`, so that names stay whole: `none-web`, not `-web`.
fn value(what: Placeholder, meta: &SourceMeta, stream: Stream, ts: i64) -> Cow<'_, str> {
    let or_none = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
    match (what, &meta.origin) {
        (Placeholder::Stream, _) => stream.name().into(),
        (Placeholder::Host, _) => meta.host.as_str().into(),
        (Placeholder::Date, _) => date(ts).into(),
        (Placeholder::Name | Placeholder::Container, Origin::Engine { container, .. }) => {
            container.as_str().into()
        }
        (Placeholder::Name, Origin::File { path, .. }) => {
            path.rsplit('/').next().unwrap_or_default().into()
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
        if out.len() + c.len_utf8() > PART_BYTES_MAX {
            break;
        }
        out.push(c);
    }
    if out.is_empty() { "_".to_owned() } else { out }
}
