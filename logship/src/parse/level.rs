//! How serious a line is: by a field of it, or else by a guess at its beginning.

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::{PARSE_BYTES_MAX, Parsed, parse};
use crate::source::Parse;

#[cfg(test)]
mod tests;

/// Bytes at the beginning of a line in which a level is looked for.
pub const GUESS_BYTES_MAX: usize = 256;

/// Fields that hold a level, unless one is named. The first one of a line counts.
pub const FIELDS: [&str; 8] =
    ["level", "severity", "lvl", "log.level", "loglevel", "log_level", "levelname", "@l"];

/// How serious, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For those who write the program.
    Debug,
    /// As it should be.
    Info,
    /// As it should be, and worth knowing.
    Notice,
    /// It may become an error.
    Warn,
    /// It failed.
    Error,
    /// Nothing works any more.
    Fatal,
}

impl Level {
    /// What an operator can ask for.
    pub const NAMES: [&str; 7] = ["trace", "debug", "info", "notice", "warn", "error", "fatal"];

    /// Longest word for a level, in bytes.
    const WORD_BYTES_MAX: usize = 13;

    /// The level of that name, or of another word that programs have for it, in letters of any size.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        const WORDS: [(Level, &[&str]); 7] = [
            (Level::Info, &["info", "inf", "information", "informational", "log"]),
            (Level::Warn, &["warn", "warning", "wrn"]),
            (Level::Error, &["error", "err", "severe"]),
            (Level::Debug, &["debug", "dbg", "fine", "config"]),
            (Level::Notice, &["notice"]),
            (Level::Trace, &["trace", "trc", "finer", "finest", "verbose"]),
            (
                Level::Fatal,
                &[
                    "fatal",
                    "ftl",
                    "critical",
                    "crit",
                    "panic",
                    "dpanic",
                    "alert",
                    "emerg",
                    "emergency",
                ],
            ),
        ];
        if !(3..=Self::WORD_BYTES_MAX).contains(&word.len()) {
            return None;
        }
        let is_word = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        WORDS.iter().find(|(_, words)| is_word(words)).map(|(level, _)| *level)
    }

    /// The level of a number: up to 7 a severity of syslog (RFC 5424, table 2), from 10 on what bunyan and pino
    /// write.
    #[must_use]
    pub fn of_number(number: u64) -> Option<Self> {
        Some(match number {
            0..=2 | 60.. => Self::Fatal,
            3 | 50..=59 => Self::Error,
            4 | 40..=49 => Self::Warn,
            5 => Self::Notice,
            6 | 30..=39 => Self::Info,
            7 | 20..=29 => Self::Debug,
            10..=19 => Self::Trace,
            8..=9 => return None,
        })
    }

    fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::of_word(text).or_else(|| Self::of_number(text.parse().ok()?))
    }

    /// As an operator writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// The level of a line that is taken apart as `how` says: of the field of this name, or of those in [`FIELDS`]. A line
/// without one is guessed at. `None`: nobody can tell.
#[must_use]
pub fn level_of(how: &Parse, field: Option<&str>, line: &[u8]) -> Option<Level> {
    let is_object = *how == Parse::Json || (*how == Parse::None && line.starts_with(b"{"));
    let told = if is_object {
        of_object(line, field)
    } else {
        match parse(how, line) {
            Some(Parsed::Fields(fields)) => {
                let mut told = fields.iter().filter(|(name, _)| is_level(name, field));
                told.find_map(|(_, text)| Level::of_text(text))
            }
            Some(Parsed::Json(_)) | None => None,
        }
    };
    told.or_else(|| guess(line))
}

fn is_level(name: &str, wanted: Option<&str>) -> bool {
    wanted.map_or_else(|| FIELDS.contains(&name), |wanted| wanted == name)
}

/// The level of a JSON object. Nothing of the object is kept; one that is broken behind its level has it all the same.
fn of_object(line: &[u8], field: Option<&str>) -> Option<Level> {
    if line.len() > PARSE_BYTES_MAX {
        return None;
    }
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(line);
    let _whole = reader.deserialize_map(Object { field, found: &mut found });
    found
}

struct Object<'a> {
    field: Option<&'a str>,
    found: &'a mut Option<Level>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(is_level) = entries.next_key_seed(Key(self.field))? {
            if is_level && self.found.is_none() {
                *self.found = entries.next_value_seed(Text)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether a key is the one of the level.
struct Key<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(is_level(key, self.0))
    }
}

/// The level that a value is.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Level>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Level>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a level")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Level::of_text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Level::of_number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(
        self,
        mut values: A,
    ) -> Result<Self::Value, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// The first word of the line that stands where levels stand: alone and in capitals (`ERROR`), in brackets (`[warn]`),
/// before a colon (`error: `), behind `level=`; or the header of klog or of syslog.
fn guess(line: &[u8]) -> Option<Level> {
    let line = line.get(..GUESS_BYTES_MAX.min(line.len())).unwrap_or_default();
    let text = match std::str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        // A character may be cut, or it is no text: what is before it counts.
        Err(error) => String::from_utf8_lossy(line.get(..error.valid_up_to()).unwrap_or_default()),
    };
    if let Some(level) = header(text.as_bytes()) {
        return Some(level);
    }
    let mut before = None;
    let mut rest = &*text;
    loop {
        let start = rest.find(|c: char| c.is_ascii_alphabetic())?;
        before = rest.get(..start)?.bytes().last().or(before);
        rest = rest.get(start..)?;
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        // The end of a colour, as in `\x1b[31mERROR`.
        let ends_colour = before.is_some_and(|byte| byte.is_ascii_digit());
        let (word, before_word) = match word.strip_prefix('m').filter(|_| ends_colour) {
            Some(word) => (word, Some(b' ')),
            None => (word, before),
        };
        if let Some(level) = Level::of_word(word)
            && stands_for(word, before_word, after.bytes().next())
        {
            return Some(level);
        }
        before = word.bytes().last().or(before_word);
    }
}

fn stands_for(word: &str, before: Option<u8>, after: Option<u8>) -> bool {
    let begins = matches!(
        before,
        None | Some(b' ' | b'\t' | b'[' | b'(' | b'<' | b'|' | b'"' | b'=' | b'*' | b':')
    );
    let ends = matches!(
        after,
        None | Some(
            b' ' | b'\t' | b']' | b')' | b'>' | b'|' | b'"' | b'*' | b':' | b',' | b';' | 0x1b
        )
    );
    let is_capital = word.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_marked = matches!(
        (before, after),
        (Some(b'['), Some(b']')) | (Some(b'<'), Some(b'>')) | (Some(b'='), _) | (_, Some(b':'))
    );
    begins && ends && (is_capital || is_marked)
}

/// `I0102 ` of klog, `<34>` of syslog and of systemd.
fn header(line: &[u8]) -> Option<Level> {
    match line {
        [letter, day @ .., _] if day.len() >= 5 => {
            let is_klog = day.iter().take(4).all(u8::is_ascii_digit) && day.get(4) == Some(&b' ');
            let letter = std::str::from_utf8(std::slice::from_ref(letter)).ok()?;
            let klog = super::klog::level(letter).filter(|_| is_klog);
            klog.and_then(Level::of_word).or_else(|| priority(line))
        }
        _ => priority(line),
    }
}

fn priority(line: &[u8]) -> Option<Level> {
    let line = line.strip_prefix(b"<")?;
    let end = line.iter().position(|byte| *byte == b'>').filter(|end| (1..=3).contains(end))?;
    let number: u64 = std::str::from_utf8(line.get(..end)?).ok()?.parse().ok()?;
    (number < 192).then(|| Level::of_number(number % 8)).flatten()
}
