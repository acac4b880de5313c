//! What an operator writes about a sink, a URL and finer options, read key by key; every fault names the sink.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chores_common::config::{ConfigError, secret_from};
use chores_common::percent;
use chores_common::secret::Secret;
use chores_common::template::TemplateError;

use super::Pace;
use crate::encode::Controls;
use crate::encode::fields::FieldNames;
use crate::quantity::{self, QuantityError};

#[cfg(test)]
mod tests;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 8192;

/// A batch unless set, in bytes before compression, and its limits.
const BATCH_BYTES_DEFAULT: u64 = 1 << 20;
const BATCH_BYTES: RangeInclusive<u64> = 1 << 10..=64 << 20;

/// How long a record waits for others, unless set.
const BATCH_AGE_DEFAULT: Duration = Duration::from_secs(1);
const BATCH_AGES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// How long a server may take for an answer, unless set.
const ANSWER_TIME_DEFAULT: Duration = Duration::from_secs(30);
const ANSWER_TIMES: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);

/// A sink that cannot be used as it is written.
#[derive(Debug, thiserror::Error)]
#[error("the sink {sink} is unusable")]
pub struct SinkSettingError {
    /// Its name.
    pub sink: String,
    /// Why.
    #[source]
    pub fault: OptionFault,
}

/// What is wrong with a sink's URL or one of its options.
#[derive(Debug, thiserror::Error)]
pub enum OptionFault {
    /// No URL at all.
    #[error("`{0}` is no URL of a sink: write one of {1}")]
    NoUrl(String, &'static str),
    /// The URL of this kind of sink looks different.
    #[error("its URL must look like {0}")]
    Form(&'static str),
    /// A password where everybody sees it.
    #[error("its URL holds a password, which listings and logs show: use password_file")]
    PasswordInUrl,
    /// A `%` without two hexadecimal digits, or text that is not UTF-8 behind it.
    #[error("its URL has a broken %-escape in `{0}`")]
    Escape(String),
    /// There is no such option.
    #[error("`{key}` is no option of {kind}; there are {allowed}")]
    Unknown {
        /// As written.
        key: String,
        /// The kind of sink.
        kind: String,
        /// All that there are.
        allowed: String,
    },
    /// The same option twice.
    #[error("{0} is given twice: keep one")]
    Twice(String),
    /// It cannot be done without.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// One of a few words was expected.
    #[error("{key} is `{value}`, but must be one of {allowed}")]
    Choice {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// No number, or one out of range.
    #[error("{key} is {value}, but must be from {least} to {most}")]
    Range {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// The least that works.
        least: String,
        /// The most that works.
        most: String,
    },
    /// No size, no duration.
    #[error("{0} is unusable")]
    Quantity(&'static str, #[source] QuantityError),
    /// No template.
    #[error("{0} is unusable")]
    Template(&'static str, #[source] TemplateError),
    /// A secret in no usable form.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// Two options that exclude each other, or one that needs another.
    #[error("{0}")]
    Conflict(String),
    /// What the settings name cannot be used, such as a file of certificates.
    #[error("{0} is unusable: {1}")]
    Unusable(&'static str, String),
}

/// A URL without its options.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkUrl {
    /// What stands before the colon, in lower case.
    pub scheme: String,
    /// The user's name before `@`.
    pub user: Option<String>,
    /// `host:port` as written.
    pub authority: String,
    /// From the first slash on, as written.
    pub path: String,
}

impl fmt::Debug for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl SinkUrl {
    /// The URL without user and options: safe to show.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { scheme, authority, path, .. } = self;
        format!("{scheme}://{authority}{path}")
    }

    /// Host and port. An IPv6 address stands in brackets.
    pub fn host_and_port(
        &self,
        default_port: u16,
        form: &'static str,
    ) -> Result<(String, u16), OptionFault> {
        let (host, port) = match self.authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(OptionFault::Form(form))?;
                (host, rest.strip_prefix(':'))
            }
            None => match self.authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (self.authority.as_str(), None),
            },
        };
        let port = match port {
            None => default_port,
            Some(port) => port.parse().map_err(|_| OptionFault::Form(form))?,
        };
        if host.is_empty() || port == 0 {
            return Err(OptionFault::Form(form));
        }
        Ok((host.to_owned(), port))
    }

    /// The path with its `%`-escapes undone.
    pub fn decoded_path(&self) -> Result<String, OptionFault> {
        percent_decoded(&self.path)
    }
}

/// A URL taken apart: where, and the options in its query.
pub(super) fn split_url(
    text: &str,
    forms: &'static str,
) -> Result<(SinkUrl, Vec<(String, String)>), OptionFault> {
    let no_url = || OptionFault::NoUrl(shown(text), forms);
    if text.len() > URL_BYTES_MAX || text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(no_url());
    }
    let (scheme, rest) = text.split_once(':').ok_or_else(no_url)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return Err(no_url());
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match place.strip_prefix("//") {
        None => ("", place),
        Some(place) => place.split_at(place.find('/').unwrap_or(place.len())),
    };
    let (user, authority) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((user, _)) if user.contains(':') => return Err(OptionFault::PasswordInUrl),
        Some((user, authority)) => (Some(percent_decoded(user)?), authority),
    };
    let mut options = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // The value may be a secret.
        let escape = |_| OptionFault::Escape(shown(key));
        options.push((percent_decoded(key)?, percent_decoded(value).map_err(escape)?));
    }
    let url = SinkUrl {
        scheme: scheme.to_ascii_lowercase(),
        user,
        authority: authority.to_owned(),
        path: path.to_owned(),
    };
    Ok((url, options))
}

/// What may be shown of a text that is no URL: nothing before or behind a place where a password may be.
#[must_use]
pub fn shown(text: &str) -> String {
    const CHARS_SHOWN: usize = 60;
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let text = text.split_once('?').map_or(text, |(place, _)| place);
    text.chars().take(CHARS_SHOWN).flat_map(char::escape_debug).collect()
}

fn percent_decoded(text: &str) -> Result<String, OptionFault> {
    percent::decoded(text).ok_or_else(|| OptionFault::Escape(shown(text)))
}

/// The options of one sink; each is taken once, and what is left at the end is unknown.
pub struct Options<'a> {
    kind: String,
    values: BTreeMap<String, String>,
    asked: Vec<&'static str>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_struct("Options").field("keys", &self.values.keys()).finish_non_exhaustive()
    }
}

impl<'a> Options<'a> {
    /// Those of a URL and those beside it.
    pub(super) fn new(
        kind: &str,
        in_url: Vec<(String, String)>,
        beside: &BTreeMap<String, String>,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OptionFault> {
        let mut values = BTreeMap::new();
        let beside = beside.iter().map(|(key, value)| (key.clone(), value.clone()));
        for (key, value) in in_url.into_iter().chain(beside) {
            if values.contains_key(&key) {
                return Err(OptionFault::Twice(key));
            }
            values.insert(key, value);
        }
        Ok(Self { kind: kind.to_owned(), values, asked: Vec::new(), environment })
    }

    /// Any text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        self.values.remove(key)
    }

    /// What the environment of the process says.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, OptionFault> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        let names = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| OptionFault::Choice { key, value, allowed: names() })
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>, OptionFault> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    /// A whole number.
    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, OptionFault> {
        let Some(value) = self.text(key) else { return Ok(None) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(out_of_range(key, value, range.start(), range.end())),
        }
    }

    /// Bytes.
    pub fn size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, OptionFault> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let bytes = quantity::size(&value).map_err(|error| OptionFault::Quantity(key, error))?;
        if range.contains(&bytes) {
            return Ok(Some(bytes));
        }
        let bytes = |bytes: &u64| format!("{bytes} bytes");
        Err(out_of_range(key, value, &bytes(range.start()), &bytes(range.end())))
    }

    /// A time span.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, OptionFault> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let span = quantity::duration(&value).map_err(|error| OptionFault::Quantity(key, error))?;
        if range.contains(&span) {
            return Ok(Some(span));
        }
        let seconds = |span: &Duration| format!("{} s", span.as_secs_f64());
        Err(out_of_range(key, value, &seconds(range.start()), &seconds(range.end())))
    }

    /// A secret: the option itself, or the file that the option with `_file` behind it names.
    pub fn secret(
        &mut self,
        key: &'static str,
        file_key: &'static str,
    ) -> Result<Option<Secret>, OptionFault> {
        let value = self.text(key);
        let file = self.text(file_key).map(PathBuf::from);
        if value.is_some() && file.is_some() {
            let both = format!("{key} and {file_key} are both set; keep one");
            return Err(OptionFault::Conflict(both));
        }
        secret_from(key, value, file).map_err(|error| OptionFault::Secret(renamed(error, key)))
    }

    /// A secret of a sink, or else the one of the environment: `NAME`, or the file that `NAME_FILE` names.
    pub fn secret_or_environment(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        name: &str,
    ) -> Result<Option<Secret>, OptionFault> {
        if let Some(secret) = self.secret(key, file_key)? {
            return Ok(Some(secret));
        }
        let file = self.environment(&format!("{name}_FILE")).map(PathBuf::from);
        Ok(secret_from(name, self.environment(name), file)?)
    }

    /// `control=`.
    pub fn controls(&mut self, default: Controls) -> Result<Controls, OptionFault> {
        let words = [("all", Controls::All), ("gaps", Controls::Gaps), ("none", Controls::None)];
        Ok(self.choice("control", &words)?.unwrap_or(default))
    }

    /// `format=` and `control=` of a sink that writes lines. Among plain lines only what is missing is told,
    /// among records everything.
    pub fn line_format(
        &mut self,
        default: LineFormat,
    ) -> Result<(LineFormat, Controls), OptionFault> {
        let words = [("ndjson", LineFormat::Ndjson), ("plain", LineFormat::Plain)];
        let format = self.choice("format", &words)?.unwrap_or(default);
        let controls = match format {
            LineFormat::Ndjson => Controls::All,
            LineFormat::Plain => Controls::Gaps,
        };
        Ok((format, self.controls(controls)?))
    }

    /// Every option whose name begins with `prefix`, such as `header.`, without it.
    pub fn prefixed(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.asked.push(prefix);
        let (found, rest) = std::mem::take(&mut self.values)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(key, _)| key.starts_with(prefix));
        self.values = rest;
        let name = |key: String| key.strip_prefix(prefix).unwrap_or_default().to_owned();
        found.into_iter().map(|(key, value)| (name(key), value)).collect()
    }

    /// `batch=` and `age=`.
    pub(super) fn batching(&mut self) -> Result<Batching, OptionFault> {
        let bytes = self.size("batch", BATCH_BYTES)?.unwrap_or(BATCH_BYTES_DEFAULT);
        Ok(Batching {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            age: self.duration("age", BATCH_AGES)?.unwrap_or(BATCH_AGE_DEFAULT),
        })
    }

    /// `timeout=`: how long a server may take for an answer.
    pub(super) fn answer_time(&mut self) -> Result<Duration, OptionFault> {
        Ok(self.duration("timeout", ANSWER_TIMES)?.unwrap_or(ANSWER_TIME_DEFAULT))
    }

    /// A user, here or in the URL, with the password.
    pub(super) fn login(&mut self, url: &SinkUrl) -> Result<Option<(String, Secret)>, OptionFault> {
        let password = self.secret("password", "password_file")?;
        let user = self.text("user");
        if user.is_some() && url.user.is_some() {
            return Err(OptionFault::Twice("user".to_owned()));
        }
        match (user.or_else(|| url.user.clone()), password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some((user, password))),
            _ => Err(OptionFault::Conflict(
                "user and password belong together: give both (password_file for the latter) or none"
                    .to_owned(),
            )),
        }
    }

    /// `field.KEY=name`: what the sink calls the fields of a record. An empty name leaves the field out.
    pub(super) fn fields(&mut self, usual: &[(&str, &str)]) -> Result<FieldNames, OptionFault> {
        let changed = self.prefixed("field.");
        FieldNames::new(usual, changed).map_err(|fault| OptionFault::Conflict(fault.to_string()))
    }

    /// A file, by its path.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<(), OptionFault> {
        let Self { kind, mut values, mut asked, .. } = self;
        asked.sort_unstable();
        match values.pop_first() {
            None => Ok(()),
            Some((key, _)) => Err(OptionFault::Unknown { key, kind, allowed: asked.join(", ") }),
        }
    }
}

/// When a batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// When its records have this many bytes.
    pub bytes: usize,
    /// When its first record is this old.
    pub age: Duration,
}

impl Batching {
    /// The pace of a sink that knows after each batch whether it arrived.
    pub(super) fn pace(self) -> Pace {
        Pace {
            batch_age: self.age,
            commit_every: Duration::ZERO,
            settle: Duration::ZERO,
            runs_ahead: false,
        }
    }
}

/// How a sink writes lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// A JSON object each.
    Ndjson,
    /// As they were.
    Plain,
}

fn out_of_range(
    key: &'static str,
    value: String,
    least: &impl ToString,
    most: &impl ToString,
) -> OptionFault {
    OptionFault::Range { key, value, least: least.to_string(), most: most.to_string() }
}

/// The same sentence with the name that the option has here.
fn renamed(error: ConfigError, key: &str) -> ConfigError {
    let name = format!("{key}_file");
    match error {
        ConfigError::Unreadable { path, source, .. } => {
            ConfigError::Unreadable { name, path, source }
        }
        ConfigError::Unusable { path, fault, .. } => ConfigError::Unusable { name, path, fault },
        error => error,
    }
}
