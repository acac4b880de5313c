//! Lines taken apart into fields. A line that cannot be is no error: it travels as it is.

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use crate::source::Parse;

pub mod level;

mod access;
mod apache;
mod klog;
mod moment;
mod nginx;
mod scan;
mod syslog;

pub use moment::Moment;

#[cfg(test)]
mod tests;

/// Longest line that is taken apart, in bytes.
pub const PARSE_BYTES_MAX: usize = 256 << 10;

/// Deepest nesting of a JSON object that is taken over: readers give up at 100 and more.
pub const LEVELS_MAX: usize = 64;

/// Most fields of one logfmt line; a line with more is not taken apart.
pub const FIELDS_MAX: usize = 256;

/// Fields of a line that take no memory of their own: as many as the presets have.
const FIELDS_INLINE: usize = 16;

/// Keys and values in the order of the line; no key twice.
pub type Fields<'a> = SmallVec<[(&'a str, Value<'a>); FIELDS_INLINE]>;

/// The text of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// As it stands in the line.
    Text(Cow<'a, str>),
    /// A time of the line, in the form of ISO 8601.
    Time(Moment),
}

impl std::ops::Deref for Value<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Time(moment) => moment.text(),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

/// What a line says.
#[expect(clippy::large_enum_variant, reason = "a box would be memory for every line")]
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A JSON object as it was written: proved to be one, without spaces around it.
    Json(&'a str),
    /// Keys and values; no key twice, the first one counts. A key without a value has an empty one.
    Fields(Fields<'a>),
}

/// Takes a line apart as `parse` says; `None` when it is not of that kind, too long, or not UTF-8.
#[must_use]
pub fn parse<'a>(parse: &'a Parse, line: &'a [u8]) -> Option<Parsed<'a>> {
    if *parse == Parse::None || line.len() > PARSE_BYTES_MAX {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let fields = match parse {
        Parse::None => None,
        Parse::Json => return json(line).map(Parsed::Json),
        Parse::Logfmt => logfmt(line),
        Parse::Nginx => nginx::fields(line),
        Parse::Apache => apache::fields(line),
        Parse::Syslog => syslog::fields(line),
        Parse::Klog => klog::fields(line),
        Parse::Regex(pattern) => {
            let mut fields = Fields::new();
            pattern.fields(line, |name, text| put(&mut fields, name, text)).then_some(fields)
        }
    };
    fields.map(Parsed::Fields)
}

/// Adds a field.
fn put<'a>(fields: &mut Fields<'a>, name: &'a str, value: impl Into<Value<'a>>) {
    fields.push((name, value.into()));
}

/// Adds a field unless the line says `-` for it, which is how logs say that there is nothing.
fn put_known<'a>(fields: &mut Fields<'a>, name: &'a str, value: &'a str) {
    if value != "-" && !value.is_empty() {
        put(fields, name, value);
    }
}

fn json(line: &str) -> Option<&str> {
    let object = line.trim_matches([' ', '\t', '\r', '\n']);
    if !object.starts_with('{') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(object);
    Sound(LEVELS_MAX).deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| object)
}

/// Accepts what every reader of the record will accept too: within so many levels, numbers that fit into a
/// double, no half surrogates. Keeps nothing.
#[derive(Clone, Copy)]
struct Sound(usize);

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Sound {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while values.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while entries.next_key_seed(below)?.is_some() {
            entries.next_value_seed(below)?;
        }
        Ok(())
    }
}

/// `key=value key="quoted \"value\"" flag`, as Go's logfmt writes it. Something that is no key makes the whole
/// line free text: half of a guess helps nobody.
fn logfmt(line: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    let mut has_value = false;
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '"']).unwrap_or(rest.len());
        let (key, after) = rest.split_at_checked(end)?;
        if key.is_empty() || fields.len() == FIELDS_MAX {
            return None;
        }
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => {
                has_value = true;
                value(after)?
            }
            None => (Cow::Borrowed(""), after),
        };
        if !after.is_empty() && !after.starts_with(' ') {
            return None;
        }
        rest = after.trim_start();
        if !fields.iter().any(|(known, _)| *known == key) {
            fields.push((key, Value::Text(value)));
        }
    }
    has_value.then_some(fields)
}

/// A value and what follows it.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        return Some((Cow::Borrowed(value), after));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (inner, after) = quoted.split_at_checked(end)?;
    let after = after.strip_prefix('"')?;
    Some((unescape(inner), after))
}

/// The escapes of Go's `strconv.Quote` that loggers use; any other stays as it is.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => {
                out.push('\\');
                out.push(c);
            }
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}
