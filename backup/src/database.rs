//! Databases: what they are recognised by, and the shell lines that have their own clients dump them (pure).
//!
//! One file a kind. The lines run inside the target, where client and server are of one version and where
//! the credentials already are; what they read there stays there. Nothing here runs anything.

pub mod back;
pub mod command;
pub mod feed;
pub mod mongo;
pub mod mysql;
pub mod postgres;
mod recognise;
pub mod redis;
pub mod shell;
pub mod sqlite;

use std::collections::BTreeSet;

use chores_common::secret::Secret;

use crate::snapshot::{DumpKind, DumpRole};

pub use recognise::{Evidence, Unrecognised, port_of, recognise};
pub use shell::Script;

#[cfg(test)]
mod tests;

/// Most databases or files a target may have. One more is an error: what is left out is no backup.
const DATABASES_MAX: usize = 10_000;

/// Longest name of a file, in bytes (`NAME_MAX` of Linux, limits.h).
const FILE_NAME_BYTES_MAX: usize = 255;

/// Longest text by which the end of a dump may be known, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// What is known of a target beside its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Program and arguments of its container, as the engine tells them.
    pub command: Vec<String>,
    /// Where its data is mounted.
    pub mounts: Vec<String>,
    /// What stands behind `--` on the command line: a command, or the paths of database files.
    pub words: Vec<String>,
}

/// What a target says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version text.
    pub server: String,
    /// Names of databases, or paths of database files.
    pub databases: Vec<String>,
    /// What cannot be dumped as it should: one sentence each.
    pub warnings: Vec<String>,
}

/// How the end of a file of a dump is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// Only by the mark and the exit code.
    None,
    /// The last line begins with this comment.
    Line(&'static str),
    /// The last line begins with this text, which an operator named.
    Text(String),
    /// What PostgreSQL writes to one stream: the custom format, or text that ends as its head wants.
    Postgres,
    /// The custom format of `pg_dump`: every data block its contents announce.
    PgDump,
    /// The end of an RDB file with its CRC64.
    Rdb,
    /// The end of every collection of a `mongodump` archive, with its CRC64.
    Mongo,
    /// As many pages as the header of an `SQLite` file counts.
    Sqlite,
}

/// One file of a dump and how it is made.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name in the folder of the dump.
    pub file: String,
    /// What it is for.
    pub role: DumpRole,
    /// The database in it.
    pub database: Option<String>,
    /// What makes it.
    pub script: Script,
    /// How its end is known.
    pub trailer: Trailer,
}

/// What a target cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No command was given.
    #[error("--kind command needs a command: give it behind --")]
    NoCommand,
    /// A command for what has one of its own.
    #[error("--kind {0} has a command of its own: leave out what stands behind --")]
    Words(DumpKind),
    /// Nothing that could be dumped.
    #[error(
        "there is no SQLite database named *.db, *.db3, *.sqlite or *.sqlite3 in {0}: name the files behind --"
    )]
    NoFiles(String),
    /// A database file by a path that depends on where it is read.
    #[error(
        "{0:?} is no absolute path: give the paths of database files as the container sees them"
    )]
    Relative(String),
    /// More than anybody has.
    #[error(
        "it has more than {DATABASES_MAX} databases: dump them one by one with a command behind --"
    )]
    TooMany,
    /// A name that no file system takes.
    #[error("the name of the file for {0:?} would be longer than {FILE_NAME_BYTES_MAX} bytes")]
    LongName(String),
}

/// What tells the facts about a target of this kind; `None` where nothing is to be asked.
pub fn probe(kind: DumpKind, target: &Target) -> Result<Option<Script>, PlanError> {
    if !target.words.is_empty() && !matches!(kind, DumpKind::Sqlite | DumpKind::Command) {
        return Err(PlanError::Words(kind));
    }
    Ok(match kind {
        DumpKind::Mysql => Some(mysql::probe()),
        DumpKind::Postgres => Some(postgres::probe()),
        DumpKind::Redis => Some(redis::probe(target)),
        DumpKind::Mongo => Some(mongo::probe()),
        DumpKind::Sqlite => Some(sqlite::probe(target)?),
        DumpKind::Command => None,
    })
}

/// The files of a dump, in the order they are made.
pub fn plan(kind: DumpKind, target: &Target, facts: &Facts) -> Result<Vec<Step>, PlanError> {
    let steps = match kind {
        DumpKind::Mysql => mysql::plan(),
        DumpKind::Postgres => postgres::plan(facts),
        DumpKind::Redis => redis::plan(target),
        DumpKind::Mongo => mongo::plan(),
        DumpKind::Sqlite => sqlite::plan(target, facts)?,
        DumpKind::Command => command::plan(target)?,
    };
    match steps.iter().find(|step| step.file.len() > FILE_NAME_BYTES_MAX) {
        Some(step) => Err(PlanError::LongName(step.database.clone().unwrap_or_default())),
        None => Ok(steps),
    }
}

/// The folder name of a dump, if a file system takes it.
pub fn folder_name(name: &str) -> Result<String, PlanError> {
    let folder = file_name(name);
    if folder.len() > FILE_NAME_BYTES_MAX {
        return Err(PlanError::LongName(name.to_owned()));
    }
    Ok(folder)
}

/// The end that a dump of this kind has when it comes as one stream from elsewhere.
#[must_use]
pub fn trailer_of_stream(kind: DumpKind) -> Trailer {
    match kind {
        DumpKind::Mysql => mysql::trailer(),
        DumpKind::Postgres => Trailer::Postgres,
        DumpKind::Redis => Trailer::Rdb,
        DumpKind::Mongo => Trailer::Mongo,
        DumpKind::Sqlite => Trailer::Sqlite,
        DumpKind::Command => Trailer::None,
    }
}

/// A name that is one part of a path in a tree: `%`, `/` and NUL are written as `%25`, `%2F` and `%00`, and a
/// leading dot as `%2E`.
#[must_use]
pub fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        match character {
            '%' => name.push_str("%25"),
            '/' => name.push_str("%2F"),
            '\0' => name.push_str("%00"),
            '.' if at == 0 => name.push_str("%2E"),
            other => name.push(other),
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

impl Facts {
    /// From items `server=…`, `database=…` and `warning=…`, each ended by `end`. What else is between them is
    /// left out: clients greet. A database that is told twice is one.
    pub fn parse(text: &[u8], end: u8) -> Result<Self, PlanError> {
        let mut facts = Self::default();
        let mut known = BTreeSet::new();
        for item in text.split(|byte| *byte == end) {
            let item = String::from_utf8_lossy(item);
            let item = item.trim_start_matches(['\n', '\r']);
            match item.split_once('=') {
                Some(("server", version)) => facts.server = shown(version),
                Some(("database", name)) if known.insert(name.to_owned()) => {
                    facts.databases.push(name.to_owned());
                }
                Some(("warning", warning)) => facts.warnings.push(shown(warning)),
                _ => {}
            }
        }
        if facts.databases.len() > DATABASES_MAX {
            return Err(PlanError::TooMany);
        }
        Ok(facts)
    }
}

/// Text of a target as people may see it: no terminal acts on it.
fn shown(text: &str) -> String {
    text.trim().chars().filter(|character| !character.is_control()).collect()
}

/// A secret that a container's own command shows to everybody who may ask the engine.
fn value_of(command: &[String], option: &str) -> Option<Secret> {
    let mut words = command.iter();
    while let Some(word) = words.next() {
        if word == option {
            return words.next().map(|value| Secret::new(value.clone()));
        }
        if let Some(value) = word.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            return Some(Secret::new(value.to_owned()));
        }
    }
    None
}
