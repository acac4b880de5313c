//! Which database a container is.

use crate::snapshot::DumpKind;

/// What there is to see from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The image as it was asked for.
    pub image: String,
    /// Names of the variables in its environment.
    pub variables: Vec<String>,
    /// Names of its processes.
    pub processes: Vec<String>,
    /// Ports of a link.
    pub ports: Vec<u16>,
}

/// What could not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecognised {
    /// Several at once.
    #[error("it looks like {0} and like {1}: say which with --kind")]
    Several(DumpKind, DumpKind),
    /// None.
    #[error(
        "no database is recognised by its processes, its environment or its image: say which with --kind, or give a command behind --"
    )]
    None,
}

/// Servers by the names of their processes (`/proc/PID/comm`, cut at 15 bytes).
const PROCESSES: [(&str, DumpKind); 9] = [
    ("mariadbd", DumpKind::Mysql),
    ("mysqld", DumpKind::Mysql),
    ("postgres", DumpKind::Postgres),
    ("postmaster", DumpKind::Postgres),
    ("redis-server", DumpKind::Redis),
    ("valkey-server", DumpKind::Redis),
    ("keydb-server", DumpKind::Redis),
    ("mongod", DumpKind::Mongo),
    ("mongos", DumpKind::Mongo),
];

/// Variables that only the images of these databases read.
const VARIABLES: [(&str, DumpKind); 12] = [
    ("MARIADB_ROOT_PASSWORD", DumpKind::Mysql),
    ("MARIADB_DATABASE", DumpKind::Mysql),
    ("MARIADB_VERSION", DumpKind::Mysql),
    ("MYSQL_ROOT_PASSWORD", DumpKind::Mysql),
    ("MYSQL_MAJOR", DumpKind::Mysql),
    ("PG_MAJOR", DumpKind::Postgres),
    ("PGDATA", DumpKind::Postgres),
    ("REDIS_VERSION", DumpKind::Redis),
    ("VALKEY_VERSION", DumpKind::Redis),
    ("MONGO_INITDB_ROOT_USERNAME", DumpKind::Mongo),
    ("MONGO_MAJOR", DumpKind::Mongo),
    ("MONGO_VERSION", DumpKind::Mongo),
];

/// Words in the last part of an image's name.
const IMAGES: [(&str, DumpKind); 10] = [
    ("mariadb", DumpKind::Mysql),
    ("mysql", DumpKind::Mysql),
    ("percona", DumpKind::Mysql),
    ("postgres", DumpKind::Postgres),
    ("postgis", DumpKind::Postgres),
    ("timescaledb", DumpKind::Postgres),
    ("pgvector", DumpKind::Postgres),
    ("redis", DumpKind::Redis),
    ("valkey", DumpKind::Redis),
    ("mongo", DumpKind::Mongo),
];

/// Ports that their servers listen on (IANA).
const PORTS: [(u16, DumpKind); 4] = [
    (3306, DumpKind::Mysql),
    (5432, DumpKind::Postgres),
    (6379, DumpKind::Redis),
    (27017, DumpKind::Mongo),
];

/// The port of a server of this kind, where it has one.
#[must_use]
pub fn port_of(kind: DumpKind) -> Option<u16> {
    PORTS.iter().find(|(_, known)| *known == kind).map(|(port, _)| *port)
}

/// What runs is surer than what was set, and that surer than a name.
pub fn recognise(evidence: &Evidence) -> Result<DumpKind, Unrecognised> {
    let image = image_name(&evidence.image);
    let by_process = PROCESSES
        .iter()
        .filter(|(name, _)| evidence.processes.iter().any(|process| process == name))
        .map(|(_, kind)| *kind);
    let by_port =
        PORTS.iter().filter(|(port, _)| evidence.ports.contains(port)).map(|(_, kind)| *kind);
    let by_variable = VARIABLES
        .iter()
        .filter(|(name, _)| {
            let is_it =
                |variable: &str| variable == *name || variable.strip_suffix("_FILE") == Some(name);
            evidence.variables.iter().any(|variable| is_it(variable))
        })
        .map(|(_, kind)| *kind);
    let by_image = IMAGES.iter().filter(|(word, _)| image.contains(word)).map(|(_, kind)| *kind);
    one_of(by_process)
        .or_else(|| one_of(by_port))
        .or_else(|| one_of(by_variable))
        .or_else(|| one_of(by_image))
        .unwrap_or(Err(Unrecognised::None))
}

/// The one kind that is named, an error for several, `None` for none.
fn one_of(mut kinds: impl Iterator<Item = DumpKind>) -> Option<Result<DumpKind, Unrecognised>> {
    let first = kinds.next()?;
    Some(match kinds.find(|kind| *kind != first) {
        Some(second) => Err(Unrecognised::Several(first, second)),
        None => Ok(first),
    })
}

/// The last part of an image's name, without tag and digest. What only shows or exports a database is none.
fn image_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    let is_tool = ["exporter", "express", "admin", "commander", "insight", "backup", "proxy"]
        .iter()
        .any(|word| name.contains(word));
    if is_tool { "" } else { name }
}
