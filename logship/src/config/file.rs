//! The configuration file: what it may set, and what that means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chores_common::settings::{Item, Kind, Table, one_of};

use super::{EngineConfig, SinkConfig, WalCodec, WalConfig, path_fault, sink_name_fault};
use crate::labels;
use crate::plan;
use crate::process::filter::LevelFilter;
use crate::process::multiline::{GROUP_BYTES_MAX_LIMIT, GROUP_LINES_MAX_LIMIT, Multiline, presets};
use crate::process::rate::Rate;
use crate::process::redact::{Redaction, Rule};
use crate::process::{LINE_BYTES_MAX_LIMIT, ProcessSettings};
use crate::rotation::Wishes;
use crate::rule::{EngineRule, FIELDS_MAX, FileStart, FilesRule, LineRule, Patterns, SourceRule};

pub use chores_common::settings::{Fault, FileFaults, Place};

#[cfg(test)]
mod tests;

/// Keys of sinks whose value may be `${NAME}`, a variable of the environment; so may those that end in `_file`.
const SECRET_KEYS: [&str; 7] =
    ["token", "password", "access_key", "secret_key", "session_token", "api_key", "shared_key"];

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

/// Reads a file.
pub fn read(path: &Path) -> Result<FileConfig, FileFaults> {
    let variable = |name: &str| std::env::var(name).ok();
    chores_common::settings::read(path, |text| parse(text, &variable))
}

/// Reads the text of a file; `variable` is the environment.
pub fn parse(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<FileConfig, Vec<Fault>> {
    chores_common::settings::parse(text, |root| config(root, variable))
}

fn config(root: &Table<'_>, variable: &dyn Fn(&str) -> Option<String>) -> FileConfig {
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
                text.parse()
                    .map_err(|_| format!("{text:?} is no address: give for example 127.0.0.1:9464"))
            })
        });
        table.end();
    }
    if let Some(table) = root.get("redact").and_then(|item| item.table()) {
        config.secrets = secrets(&table);
    }
    if let Some(item) = root.get("sink") {
        for table in item.tables() {
            config.sinks.extend(sink(&table, variable, &config.sinks));
        }
    }
    if let Some(item) = root.get("source") {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        for (at, table) in item.tables().iter().enumerate() {
            let source = source(at + 1, table, &names, &config.secrets);
            config.sources.extend(source);
        }
    }
    root.end();
    config
}

fn sink(
    table: &Table<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
    others: &[SinkConfig],
) -> Option<SinkConfig> {
    let name = table.get("name");
    let url = table.get("url");
    let has_url = url.is_some();
    let url = url.and_then(|item| item.string());
    let mut options = BTreeMap::new();
    for (key, item) in table.items() {
        if key == "fields" && item.kind() == Kind::Table {
            options.extend(names(&item));
        } else if !["name", "url"].contains(&key) {
            options.extend(option(key, &item, variable).map(|value| (key.to_owned(), value)));
        }
    }
    let Some(name) = name else {
        table.missing("name", "it is missing: cursors are kept by it");
        return None;
    };
    let text = name.string()?;
    if let Some(fault) = sink_name_fault(&text) {
        name.fault(&fault);
    } else if others.iter().any(|other| other.name == text) {
        name.fault(&format!("another sink is named {text} too"));
    }
    if !has_url {
        table.missing("url", "it is missing: give for example \"stdout:\"");
    }
    Some(SinkConfig { name: text, url: url?, options, place: Some(table.place()) })
}

/// `[sink.fields]`: the same as options `field.KEY`; `false` leaves a field out.
fn names(item: &Item<'_>) -> Vec<(String, String)> {
    let mut names = Vec::new();
    let Some(table) = item.table() else { return names };
    for (key, item) in table.items() {
        let name = match item.scalar().as_deref() {
            Some("false") if item.kind() != Kind::Text => Some(String::new()),
            Some(name) if item.kind() == Kind::Text => Some(name.to_owned()),
            _ => item.is_not("a name, or false"),
        };
        names.extend(name.map(|name| (format!("field.{key}"), name)));
    }
    names
}

/// A finer key of a sink, as text. The sink knows which there are.
fn option(key: &str, item: &Item<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if item.kind() == Kind::List {
        return Some(item.strings().join(","));
    }
    let Some(text) = item.scalar() else {
        return item.is_not("a text, a number, true, false, or a list of texts");
    };
    let may_be_variable =
        item.kind() == Kind::Text && (SECRET_KEYS.contains(&key) || key.ends_with("_file"));
    let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    let Some(name) = name.filter(|_| may_be_variable) else {
        return Some(text);
    };
    let value = variable(name);
    if value.is_none() {
        item.fault(&format!("the environment has no variable {name}"));
    }
    value
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
    table: &Table<'_>,
    sinks: &[&str],
    secrets: &BTreeMap<String, Rule>,
) -> Option<SourceRule> {
    let name = format!("source[{number}]");
    let lines = lines(table, sinks, secrets);
    let Some(kind) = table.get("type") else {
        let fault = "it is missing: give \"engine\" or \"files\"";
        table.missing("type", fault);
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
            table.missing("paths", fault);
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
            rotate: table.get("rotate").and_then(|item| rotate(&item)),
        })
    };
    table.end();
    Some(source)
}

/// `[source.rotate]`: its keys are read as those of labels are.
fn rotate(item: &Item<'_>) -> Option<Wishes> {
    let table = item.table()?;
    let mut wishes = Wishes::default();
    for (key, item) in table.items() {
        let Some(text) = item.scalar() else {
            item.fault("it must be a text, a number, true or false");
            continue;
        };
        if let Err(fault) = wishes.set(key, &text) {
            item.fault(&fault);
        }
    }
    Some(wishes)
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
        .and_then(|item| item.text("a parser such as \"json\" or \"nginx\"", labels::parse))
        .unwrap_or_default();
    let level = table.get("level");
    let level = level.and_then(|item| item.text("a level such as \"warn\"", LevelFilter::parse));
    process.level = level.map(|level| level.with(parse.clone()));
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
    if item.kind() != Kind::Table {
        let wanted = "a preset, a pattern, or a table with start or continue";
        return item.text(wanted, labels::multiline).flatten();
    }
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
