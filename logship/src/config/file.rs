//! The configuration file: TOML, read to its end, so that all of its faults are told at once, each with its line,
//! its column, its key and what would be right.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{EngineConfig, SinkConfig, WalCodec, WalConfig, path_fault, sink_name_fault};
use crate::labels::{self, one_of};
use crate::plan;
use crate::process::multiline::{GROUP_BYTES_MAX_LIMIT, GROUP_LINES_MAX_LIMIT, Multiline, presets};
use crate::process::rate::Rate;
use crate::process::redact::{Redaction, Rule};
use crate::process::{LINE_BYTES_MAX_LIMIT, ProcessSettings};
use crate::quantity;
use crate::rule::{EngineRule, FIELDS_MAX, FileStart, FilesRule, LineRule, Patterns, SourceRule};

#[cfg(test)]
mod tests;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Faults that are told; more of them would hide the first.
const FAULTS_MAX: usize = 50;

/// Keys of sinks whose value may be `${NAME}`, a variable of the environment; so may those that end in `_file`.
const SECRET_KEYS: [&str; 5] = ["token", "password", "access_key", "secret_key", "session_token"];

/// What a file sets; what it does not is as if there were none.
#[derive(Debug, Clone, Default)]
pub struct FileConfig {
    /// `host`.
    pub host: Option<String>,
    /// `state`.
    pub state: Option<PathBuf>,
    /// `drain`.
    pub drain: Option<Duration>,
    /// `[wal]`.
    pub wal: WalConfig,
    /// `[engine]`.
    pub engine: EngineConfig,
    /// `[metrics]`.
    pub metrics: Option<SocketAddr>,
    /// `[redact]`.
    pub secrets: BTreeMap<String, Rule>,
    /// `[[source]]`.
    pub sources: Vec<SourceRule>,
    /// `[[sink]]`.
    pub sinks: Vec<SinkConfig>,
}

/// A place in the file: line and column, from 1; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; `None` when it is no matter of one place.
    pub place: Option<Place>,
    /// Which key: `source[2].rate`; empty when it is no TOML.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// All that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFaults {
    /// The file.
    pub path: PathBuf,
    /// In the order of the file; never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.path.display())?;
            if let Some(place) = fault.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            f.write_str(": ")?;
            if !fault.key.is_empty() {
                write!(f, "{}: ", fault.key)?;
            }
            f.write_str(&fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileFaults {}

/// Reads a file.
pub fn read(path: &Path) -> Result<FileConfig, FileFaults> {
    let fail = |message: String| FileFaults {
        path: path.to_owned(),
        faults: vec![Fault { place: None, key: String::new(), message }],
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(format!("the configuration cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("it is no UTF-8 text".to_owned()))?;
    let variable = |name: &str| std::env::var(name).ok();
    parse(&text, &variable).map_err(|faults| FileFaults { path: path.to_owned(), faults })
}

/// Reads the text of a file; `variable` is the environment.
pub fn parse(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<FileConfig, Vec<Fault>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let reader = Reader { text, variable, faults: RefCell::default() };
    for error in errors {
        reader.fault(&error.span().unwrap_or_default(), "", error.message());
    }
    // What a broken text seems to say would only add faults that are none.
    let is_toml = reader.faults.borrow().is_empty();
    let config =
        is_toml.then(|| reader.config(&Table::new(&reader, String::new(), root.get_ref())));
    let mut faults = reader.faults.into_inner();
    if let Some(config) = config.filter(|_| faults.is_empty()) {
        return Ok(config);
    }
    faults.sort_by_key(|fault| fault.place);
    faults.truncate(FAULTS_MAX);
    Err(faults)
}

struct Reader<'a> {
    text: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
}

/// A value with the key it stands under.
#[derive(Clone)]
struct Item<'a> {
    reader: &'a Reader<'a>,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A table whose keys are asked for by name; those that nobody asked for are faults.
struct Table<'a> {
    reader: &'a Reader<'a>,
    key: String,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    fn new(reader: &'a Reader<'a>, key: String, table: &'a DeTable<'a>) -> Self {
        Self { reader, key, table, asked: RefCell::default() }
    }

    fn path(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn get(&self, name: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(name);
        self.table.get(name).map(|value| self.item(name, value))
    }

    fn item(&self, name: &str, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let (reader, key) = (self.reader, self.path(name));
        Item { reader, key, span: value.span(), value: value.get_ref() }
    }

    /// Every key with its value.
    fn items(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.iter().map(|(name, value)| {
            let name: &str = name.get_ref();
            (name, self.item(name, value))
        })
    }

    /// Nothing else may be there.
    fn end(&self) {
        let asked = self.asked.borrow();
        for name in self.table.keys() {
            let text: &str = name.get_ref();
            if !asked.contains(&text) {
                let allowed = asked.join(", ");
                let fault = format!("there is no such key here; there are {allowed}");
                self.reader.fault(&name.span(), &self.path(text), &fault);
            }
        }
    }
}

impl<'a> Item<'a> {
    fn fault(&self, message: &str) {
        self.reader.fault(&self.span, &self.key, message);
    }

    fn is_not<T>(&self, wanted: &str) -> Option<T> {
        let is = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(&format!("it is {is}; give {wanted}"));
        None
    }

    /// What `read` makes of the text.
    fn text<T, E: ToString>(
        &self,
        wanted: &str,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let DeValue::String(text) = self.value else { return self.is_not(wanted) };
        match read(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(&error.to_string());
                None
            }
        }
    }

    fn string(&self) -> Option<String> {
        self.text("a text", |text| match text {
            "" => Err("it is empty"),
            text => Ok(text.to_owned()),
        })
    }

    fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.is_not("true or false"),
        }
    }

    fn size(&self) -> Option<u64> {
        match self.value {
            DeValue::Integer(_) => self.integer(0..=i64::MAX.cast_unsigned()),
            _ => self.text("a size such as \"100MB\" or \"1GiB\"", quantity::size),
        }
    }

    fn duration(&self) -> Option<Duration> {
        self.text("a time such as \"500ms\" or \"5m\"", quantity::duration)
    }

    fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else { return self.is_not("a whole number") };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.fault(&format!("it is out of range: give {} to {}", range.start(), range.end()));
        }
        value
    }

    fn table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(self.reader, self.key.clone(), table)),
            _ => self.is_not("a table"),
        }
    }

    /// The tables of `[[name]]`.
    fn tables(&self) -> Vec<(Range<usize>, Table<'a>)> {
        let items = match self.value {
            DeValue::Array(_) => self.items(),
            _ => {
                self.is_not::<()>(&format!("[[{}]]", self.key));
                return Vec::new();
            }
        };
        items.iter().filter_map(|item| Some((item.span.clone(), item.table()?))).collect()
    }

    /// The elements of a list; something else counts as a list of one.
    fn items(&self) -> Vec<Item<'a>> {
        let DeValue::Array(array) = self.value else { return vec![self.clone()] };
        let items = array.iter().enumerate().map(|(at, value)| Item {
            reader: self.reader,
            key: format!("{}[{}]", self.key, at + 1),
            span: value.span(),
            value: value.get_ref(),
        });
        items.collect()
    }

    fn strings(&self) -> Vec<String> {
        self.items().iter().filter_map(Item::string).collect()
    }
}

impl Reader<'_> {
    fn fault(&self, span: &Range<usize>, key: &str, message: &str) {
        let place = Some(place(self.text, span.start));
        let message = message.replace('\n', " ");
        self.faults.borrow_mut().push(Fault { place, key: key.to_owned(), message });
    }

    fn config(&self, root: &Table<'_>) -> FileConfig {
        let mut config = FileConfig {
            host: root.get("host").and_then(|item| item.string()),
            state: root.get("state").and_then(|item| item.string()).map(PathBuf::from),
            drain: root.get("drain").and_then(|item| item.duration()),
            ..FileConfig::default()
        };
        if let Some(table) = root.get("wal").and_then(|item| item.table()) {
            config.wal = wal(&table);
        }
        if let Some(table) = root.get("engine").and_then(|item| item.table()) {
            config.engine = engine(&table);
        }
        if let Some(table) = root.get("metrics").and_then(|item| item.table()) {
            config.metrics = table.get("listen").and_then(|item| {
                item.text("an address", |text| {
                    text.parse().map_err(|_| {
                        format!("{text:?} is no address: give for example 127.0.0.1:9464")
                    })
                })
            });
            table.end();
        }
        if let Some(table) = root.get("redact").and_then(|item| item.table()) {
            config.secrets = secrets(&table);
        }
        if let Some(item) = root.get("sink") {
            for (span, table) in item.tables() {
                config.sinks.extend(self.sink(&span, &table, &config.sinks));
            }
        }
        if let Some(item) = root.get("source") {
            let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
            for (at, (span, table)) in item.tables().into_iter().enumerate() {
                let source = source(at + 1, &span, &table, &names, &config.secrets);
                config.sources.extend(source);
            }
        }
        root.end();
        config
    }

    fn sink(
        &self,
        span: &Range<usize>,
        table: &Table<'_>,
        others: &[SinkConfig],
    ) -> Option<SinkConfig> {
        let name = table.get("name");
        let url = table.get("url").and_then(|item| item.string());
        let mut options = BTreeMap::new();
        for (key, item) in table.items() {
            if !["name", "url"].contains(&key) {
                options.extend(self.option(key, &item).map(|value| (key.to_owned(), value)));
            }
        }
        let Some(name) = name else {
            self.fault(span, &table.path("name"), "it is missing: cursors are kept by it");
            return None;
        };
        let text = name.string()?;
        if let Some(fault) = sink_name_fault(&text) {
            name.fault(&fault);
        } else if others.iter().any(|other| other.name == text) {
            name.fault(&format!("another sink is named {text} too"));
        }
        if table.table.get("url").is_none() {
            self.fault(span, &table.path("url"), "it is missing: give for example \"stdout:\"");
        }
        let place = Some(place(self.text, span.start));
        Some(SinkConfig { name: text, url: url?, options, place })
    }

    /// A finer key of a sink, as text. The sink knows which there are.
    fn option(&self, key: &str, item: &Item<'_>) -> Option<String> {
        let wanted = "a text, a number, true, false, or a list of texts";
        match item.value {
            DeValue::String(text) => {
                let may_be_variable = SECRET_KEYS.contains(&key) || key.ends_with("_file");
                let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
                let Some(name) = name.filter(|_| may_be_variable) else {
                    return Some(text.to_string());
                };
                let value = (self.variable)(name);
                if value.is_none() {
                    item.fault(&format!("the environment has no variable {name}"));
                }
                value
            }
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Array(_) => Some(item.strings().join(",")),
            DeValue::Datetime(_) | DeValue::Table(_) => item.is_not(wanted),
        }
    }
}

fn wal(table: &Table<'_>) -> WalConfig {
    let codec = |text: &str| match text {
        "none" => Ok(WalCodec::None),
        "lz4" => Ok(WalCodec::Lz4),
        "zstd" => Ok(WalCodec::Zstd),
        other => Err(one_of(other, &["lz4", "zstd", "none"])),
    };
    let config = WalConfig {
        off: table.get("off").and_then(|item| item.boolean()).unwrap_or(false),
        codec: table
            .get("codec")
            .and_then(|item| item.text("\"lz4\", \"zstd\" or \"none\"", codec)),
        bytes_max: table.get("bytes_max").and_then(|item| item.size()),
        reserve_bytes: table.get("reserve").and_then(|item| item.size()),
    };
    table.end();
    config
}

fn engine(table: &Table<'_>) -> EngineConfig {
    let config = EngineConfig {
        host: table.get("host").and_then(|item| item.string()),
        files: table.get("files").and_then(|item| item.string()).map(PathBuf::from),
        pin: table.get("pin").and_then(|item| item.string()).map(PathBuf::from),
        api_only: table.get("api_only").and_then(|item| item.boolean()).unwrap_or(false),
    };
    table.end();
    config
}

fn secrets(table: &Table<'_>) -> BTreeMap<String, Rule> {
    let mut secrets = BTreeMap::new();
    for (name, item) in table.items() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            item.fault("its name must be of up to 64 letters, digits, `_` and `-`");
            continue;
        }
        if crate::process::redact::presets().contains(&name) {
            item.fault("there is a preset of that name: choose another one");
            continue;
        }
        let rule = item.text("a pattern", |text| {
            Rule::new(name, text).map_err(|error| chores_common::exit::chain(&error))
        });
        secrets.extend(rule.map(|rule| (name.to_owned(), rule)));
    }
    secrets
}

fn source(
    number: usize,
    span: &Range<usize>,
    table: &Table<'_>,
    sinks: &[&str],
    secrets: &BTreeMap<String, Rule>,
) -> Option<SourceRule> {
    let name = format!("source[{number}]");
    let lines = lines(table, sinks, secrets);
    let Some(kind) = table.get("type") else {
        let fault = "it is missing: give \"engine\" or \"files\"";
        table.reader.fault(span, &table.path("type"), fault);
        return None;
    };
    let kind = kind.text("\"engine\" or \"files\"", |text| match text {
        "engine" | "files" => Ok(text),
        other => Err(one_of(other, &["engine", "files"])),
    })?;
    let source = if kind == "engine" {
        let label = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text, None),
        };
        SourceRule::Engine(EngineRule {
            name,
            include: patterns(table.get("include")),
            exclude: patterns(table.get("exclude")),
            labels: strings(table.get("labels")).into_iter().map(label).collect(),
            label_fields: strings(table.get("label_fields")),
            lines,
        })
    } else {
        let paths = table.get("paths");
        if paths.is_none() {
            let fault = "it is missing: give for example [\"/logs/*.log\"]";
            table.reader.fault(span, &table.path("paths"), fault);
        }
        let start = |text: &str| match text {
            "beginning" => Ok(FileStart::Beginning),
            "end" => Ok(FileStart::End),
            other => Err(one_of(other, &["beginning", "end"])),
        };
        SourceRule::Files(FilesRule {
            name,
            paths: paths_of(paths),
            exclude: paths_of(table.get("exclude")),
            start: table
                .get("start")
                .and_then(|item| item.text("\"beginning\" or \"end\"", start))
                .unwrap_or_default(),
            lines,
        })
    };
    table.end();
    Some(source)
}

fn strings(item: Option<Item<'_>>) -> Vec<String> {
    item.map(|item| item.strings()).unwrap_or_default()
}

fn patterns(item: Option<Item<'_>>) -> Patterns {
    let Some(item) = item else { return Patterns::default() };
    Patterns::new(&item.strings()).unwrap_or_else(|error| {
        item.fault(&error.to_string());
        Patterns::default()
    })
}

fn paths_of(item: Option<Item<'_>>) -> Vec<String> {
    let items = item.map(|item| item.items()).unwrap_or_default();
    let paths = items.iter().filter_map(|item| {
        let path = item.string()?;
        if let Some(fault) = path_fault(&path) {
            item.fault(&format!("{path:?} cannot be used: {fault}"));
        }
        Some(path)
    });
    paths.collect()
}

fn lines(table: &Table<'_>, sinks: &[&str], secrets: &BTreeMap<String, Rule>) -> LineRule {
    let mut process = ProcessSettings::default();
    let parse = table
        .get("parse")
        .and_then(|item| item.text("\"none\", \"json\" or \"logfmt\"", labels::parse))
        .unwrap_or_default();
    process.multiline = table.get("multiline").and_then(|item| multiline(&item));
    process.rate =
        table.get("rate").and_then(|item| item.text("a rate such as \"1000/s\"", Rate::parse));
    if let Some(item) = table.get("redact") {
        process.redact = redact(&item, secrets);
    }
    if let Some(item) = table.get("line_max")
        && let Some(bytes) = limited(&item, LINE_BYTES_MAX_LIMIT)
    {
        process.line_bytes_max = bytes;
    }
    LineRule {
        parse,
        process: Arc::new(process),
        fields: table.get("fields").map(|item| fields(&item)).unwrap_or_default(),
        sinks: table.get("sinks").map(|item| sink_names(&item, sinks)),
    }
}

/// A size from 1 to `limit` bytes.
fn limited(item: &Item<'_>, limit: usize) -> Option<usize> {
    let bytes = usize::try_from(item.size()?).unwrap_or(usize::MAX);
    if !(1..=limit).contains(&bytes) {
        item.fault(&format!("it is out of range: give 1 to {limit} bytes"));
        return None;
    }
    Some(bytes)
}

fn redact(item: &Item<'_>, secrets: &BTreeMap<String, Rule>) -> Redaction {
    let mut known = Redaction::default();
    for name in item.items() {
        let Some(text) = name.string() else { continue };
        match plan::redaction(&known, &[&text], secrets) {
            Ok(more) => known = more,
            Err(fault) => name.fault(&fault),
        }
    }
    known
}

fn fields(item: &Item<'_>) -> BTreeMap<String, String> {
    let Some(table) = item.table() else { return BTreeMap::new() };
    let mut fields = BTreeMap::new();
    for (name, item) in table.items() {
        let Some(value) = item.text("a text", |text| Ok::<_, String>(text.to_owned())) else {
            continue;
        };
        if let Some(fault) = crate::rule::field_fault(name, &value) {
            item.fault(&fault);
        }
        fields.insert(name.to_owned(), value);
    }
    if fields.len() > FIELDS_MAX {
        item.fault(&format!("there are more than {FIELDS_MAX}"));
    }
    fields
}

fn sink_names(item: &Item<'_>, known: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for name in item.items() {
        let Some(text) = name.string() else { continue };
        if !known.contains(&text.as_str()) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            name.fault(&format!("there is no sink {text}; there are {known}"));
        }
        names.push(text);
    }
    if item.items().is_empty() {
        item.fault("it is empty: name sinks, or leave it out for all of them");
    }
    names
}

fn multiline(item: &Item<'_>) -> Option<Multiline> {
    let DeValue::Table(_) = item.value else {
        let wanted = "a preset, a pattern, or a table with start or continue";
        return item.text(wanted, labels::multiline).flatten();
    };
    let table = item.table()?;
    let text = |name| table.get(name).and_then(|item| item.string());
    let (preset, start, continues) = (text("preset"), text("start"), text("continue"));
    let lines_max =
        table.get("lines_max").and_then(|item| item.integer(1..=GROUP_LINES_MAX_LIMIT as u64));
    let bytes_max = table.get("bytes_max").and_then(|item| limited(&item, GROUP_BYTES_MAX_LIMIT));
    let age = table.get("age").and_then(|item| item.duration());
    table.end();
    let written = match (&preset, &start, &continues) {
        (Some(preset), None, None) if presets().contains(&preset.as_str()) => preset.clone(),
        (Some(preset), None, None) => {
            item.fault(&one_of(preset, &presets()));
            return None;
        }
        (None, Some(start), None) => format!("start:{start}"),
        (None, None, Some(continues)) => format!("continue:{continues}"),
        (None, Some(start), Some(continues)) => format!("start:{start} continue:{continues}"),
        _ => {
            item.fault("give preset, or start, or continue, or the last two");
            return None;
        }
    };
    let made = match preset {
        Some(_) => Multiline::parse(&written),
        None => Multiline::new(start.as_deref(), continues.as_deref(), &written),
    };
    let mut multiline = match made {
        Ok(multiline) => multiline,
        Err(error) => {
            item.fault(&chores_common::exit::chain(&error));
            return None;
        }
    };
    multiline.lines_max =
        lines_max.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(multiline.lines_max);
    multiline.bytes_max = bytes_max.unwrap_or(multiline.bytes_max);
    multiline.age = age.and_then(|age| i64::try_from(age.as_nanos()).ok()).unwrap_or(multiline.age);
    Some(multiline)
}

/// The line and column of a byte.
fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    Place { line, column }
}
