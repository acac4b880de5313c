//! Files by which a database that is being written is known, and what follows (pure).

use std::fmt;

#[cfg(test)]
mod tests;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// MySQL or MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
    /// MongoDB, or another that stores with WiredTiger.
    WiredTiger,
    /// Redis or Valkey, with its append-only file.
    Redis,
    /// SQLite with a write-ahead log.
    Sqlite,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL or MariaDB",
            Self::Postgres => "PostgreSQL",
            Self::WiredTiger => "MongoDB",
            Self::Redis => "Redis",
            Self::Sqlite => "SQLite",
        })
    }
}

/// A file that tells of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Which.
    pub database: Database,
    /// The file, below its source.
    pub path: String,
}

/// What a file's name says. `is_wal` tells of a name that ends in `-wal` whether it is a log with something in it,
/// beside a database of SQLite. A dump of Redis (`dump.rdb`) is no sign: it is replaced whole.
pub fn sign(path: &str, is_wal: impl FnOnce() -> bool) -> Option<Sign> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_append_directory = path.rsplit('/').nth(1) == Some("appendonlydir");
    let database = match name {
        "ibdata1" | "aria_log_control" => Database::MySql,
        // There only while the server runs, or after it was killed.
        "postmaster.pid" => Database::Postgres,
        "WiredTiger" | "WiredTiger.wt" => Database::WiredTiger,
        "appendonly.aof" => Database::Redis,
        _ if in_append_directory => Database::Redis,
        _ if name.ends_with("-wal") && is_wal() => Database::Sqlite,
        _ => return None,
    };
    Some(Sign { database, path: path.to_owned() })
}

/// Who writes what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users<'a> {
    /// Nobody was asked.
    Unknown,
    /// These running containers, which do not hold still.
    Known(&'a [String]),
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing writes it.
    Fine,
    /// It is saved, and the snapshot says so.
    Flag(String),
    /// It is not saved.
    Refuse(String),
}

/// Decides about the database found in `source`.
#[must_use]
pub fn judge(source: &str, sign: &Sign, users: Users<'_>) -> Verdict {
    let Sign { database, path } = sign;
    match users {
        Users::Known([]) => Verdict::Fine,
        Users::Known(names @ [first, ..]) => Verdict::Refuse(format!(
            "{source} holds a database of {database} ({path}) that {} may be writing: a copy of its files may be worthless; \
             add --pause {first} or --stop {first}, or save it with `backup dump --container {first}`, or add \
             --allow-live-database",
            names.join(", ")
        )),
        Users::Unknown => Verdict::Flag(format!(
            "{source} holds a database of {database} ({path}), and nobody can say here whether it is being written: if it is, \
             the copy may be worthless; stop or dump it first, use --volumes-from with --pause or --stop through the engine, \
             or add --allow-live-database"
        )),
    }
}

/// Decides about a source that was not looked at whole: none of the first `names` names is a sign.
#[must_use]
pub fn judge_unseen(source: &str, names: usize, users: Users<'_>) -> Verdict {
    match users {
        Users::Known([]) => Verdict::Fine,
        Users::Known(_) | Users::Unknown => Verdict::Flag(format!(
            "{source} has more than {names} names in its first levels, so it was not looked for a database in all of it: if one \
             is being written there, the copy may be worthless; add --allow-live-database if there is none"
        )),
    }
}
