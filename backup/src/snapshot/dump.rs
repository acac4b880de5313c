//! What a snapshot says about a database dump in it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{SourceContainer, TreeRoot};
use crate::entry::{Entry, EntryError, parse_entries};

/// Which database, or that it is none this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DumpKind {
    /// MySQL, MariaDB and their relatives: SQL text.
    Mysql,
    /// PostgreSQL: the globals as SQL text, each database in the custom format.
    Postgres,
    /// Redis and Valkey: an RDB file.
    Redis,
    /// MongoDB: an archive of `mongodump`.
    Mongo,
    /// `SQLite`: files as its backup API makes them.
    Sqlite,
    /// Whatever a command or standard input gave.
    Command,
}

impl std::fmt::Display for DumpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Mysql => "mysql",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mongo => "mongo",
            Self::Sqlite => "sqlite",
            Self::Command => "command",
        })
    }
}

/// What a file of a dump is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DumpRole {
    /// All databases of a server.
    All,
    /// What belongs to no database: roles, tablespaces.
    Globals,
    /// One database.
    Database,
    /// An RDB file.
    Rdb,
    /// An archive of `mongodump`.
    Archive,
    /// A database that is a file.
    File,
    /// Output of a command.
    Output,
}

/// One file of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpFile {
    /// Its name in the dump's folder.
    pub name: String,
    /// What it is for.
    pub role: DumpRole,
    /// The database in it, or the path of the database file it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Its length.
    pub bytes: u64,
}

/// Why a dump is believed to be whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpProof {
    /// The exit code of what wrote it; of several the first that was not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Each file ended with the mark that our own shell lines write behind it.
    pub marker: bool,
    /// What was checked of the format itself, as in `docs/backup-format.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<String>,
}

/// One dump in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpRecord {
    /// Which database.
    pub kind: DumpKind,
    /// The folder of its files in the tree, which is also a source: `/dump/shopdb`.
    pub path: String,
    /// What server or client say about their version; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// The container it was made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SourceContainer>,
    /// The databases in it, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// Its files, in the order they were made.
    pub files: Vec<DumpFile>,
    /// Why it is believed to be whole.
    pub proof: DumpProof,
}

/// A dump that is in the repository, and in no snapshot yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDump {
    /// What the snapshot will say about it.
    pub record: DumpRecord,
    /// Where the tree of its folder begins.
    pub tree: TreeRoot,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What is in that tree, for who cannot read it back; empty in another process than the one that stored it.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// A file with that, as tree lines, for a worker that cannot read the tree back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_file: Option<PathBuf>,
}

impl StoredDump {
    /// What is in its tree, as tree lines.
    pub fn lines(&self) -> Result<Vec<u8>, EntryError> {
        let mut lines = Vec::new();
        self.entries.iter().try_for_each(|entry| entry.write_lines(&mut lines, |_| ()))?;
        Ok(lines)
    }

    /// Reads [`Self::entries_file`], where there is one.
    pub fn take_entries(&mut self) -> io::Result<()> {
        if let Some(file) = self.entries_file.take() {
            self.entries = parse_entries(&std::fs::read(file)?).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
