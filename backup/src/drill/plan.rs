//! What of a snapshot is drilled, and how (pure).

use std::collections::BTreeSet;

use crate::into::{is_of_unknown_program, name_of};
use crate::snapshot::{DumpKind, DumpRecord, Snapshot, Source, SourceContainer};

#[cfg(test)]
mod tests;

/// A drill that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing says what good is.
    #[error(
        "the snapshot holds no database dump and no database directory: say with --check CMD how its data is judged"
    )]
    NothingKnown,
    /// Made by a command.
    #[error(
        "the dump {0} is the output of a program that is not known here: say with --check CMD how it is judged"
    )]
    Command(String),
    /// No such source.
    #[error("the snapshot has neither a source nor a dump {0}: it has {1}")]
    NoSource(String, String),
    /// The image is not known.
    #[error("the snapshot does not say of which image {0} was: name one with --image")]
    NoImage(String),
    /// The snapshot is no backup.
    #[error("the snapshot is not complete and counts as no backup: there is nothing to drill")]
    Failed,
}

/// One part of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A dump goes into a fresh server.
    Dump {
        /// The dump.
        record: DumpRecord,
        /// Image to run.
        image: String,
    },
    /// A server starts on a copy of its data directory.
    Data {
        /// Which server.
        kind: DumpKind,
        /// All sources of the snapshot.
        sources: Vec<Source>,
        /// The path of the one that is its data directory.
        place: String,
        /// What is directly in its data directory.
        names: BTreeSet<String>,
        /// Image to run.
        image: String,
    },
    /// A command judges copies of volumes.
    Check {
        /// The sources.
        sources: Vec<Source>,
        /// The command.
        command: String,
        /// Image to run.
        image: String,
    },
}

impl Part {
    /// What is drilled.
    pub(super) fn what(&self) -> Vec<String> {
        match self {
            Self::Dump { record, .. } => vec![record.path.clone()],
            Self::Data { sources, .. } | Self::Check { sources, .. } => {
                sources.iter().map(|source| source.path.clone()).collect()
            }
        }
    }

    /// What it is.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Dump { record, .. } => record.kind.to_string(),
            Self::Data { kind, .. } => kind.to_string(),
            Self::Check { .. } => "check".to_owned(),
        }
    }

    /// The image to run.
    pub(super) fn image(&self) -> &str {
        match self {
            Self::Dump { image, .. } | Self::Data { image, .. } | Self::Check { image, .. } => {
                image
            }
        }
    }
}

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    /// Only this source or dump.
    pub(super) source: Option<&'a str>,
    /// The command that judges.
    pub(super) check: Option<&'a str>,
    /// Instead of the recorded image.
    pub(super) image: Option<&'a str>,
}

/// Where a snapshot comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// What it is called.
    pub(super) name: String,
    /// Its sources.
    pub(super) sources: Vec<Source>,
    /// The container whose volumes they are.
    pub(super) container: Option<SourceContainer>,
    /// The dumps among them.
    pub(super) dumps: Vec<DumpRecord>,
}

impl From<&Snapshot> for Origin {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            name: snapshot.name.clone(),
            sources: snapshot.sources.clone(),
            container: snapshot.container.clone(),
            dumps: snapshot.dumps.clone(),
        }
    }
}

/// The parts. `names` are those of the entries directly in a source, which tell a database directory.
pub(super) fn parts(
    snapshot: &Origin,
    wanted: &Wanted<'_>,
    names: impl Fn(&Source) -> BTreeSet<String>,
) -> Result<Vec<Part>, PlanError> {
    let image = |recorded: Option<&str>, what: &str| {
        let image = wanted.image.or(recorded).filter(|image| !image.is_empty());
        image.map(str::to_owned).ok_or_else(|| PlanError::NoImage(what.to_owned()))
    };
    let of_container = snapshot.container.as_ref().map(|container| container.image_id.as_str());
    let is_dump = |source: &Source| snapshot.dumps.iter().any(|dump| dump.path == source.path);
    let is_wanted = |source: &Source| {
        wanted.source.is_none_or(|name| {
            source.path == name
                || source.volume.as_ref().is_some_and(|volume| volume.name == name)
                || snapshot
                    .dumps
                    .iter()
                    .any(|dump| dump.path == source.path && name_of(dump) == name)
        })
    };
    let sources: Vec<Source> =
        snapshot.sources.iter().filter(|source| is_wanted(source)).cloned().collect();
    if let (Some(name), []) = (wanted.source, sources.as_slice()) {
        let listed: Vec<_> = snapshot.sources.iter().map(|source| source.path.as_str()).collect();
        return Err(PlanError::NoSource(name.to_owned(), listed.join(", ")));
    }
    if let Some(command) = wanted.check {
        let of_dump = snapshot.dumps.iter().find_map(|dump| dump.container.as_ref());
        let recorded = of_container.or(of_dump.map(|container| container.image_id.as_str()));
        let image = image(recorded, &snapshot.name)?;
        return Ok(vec![Part::Check { sources, command: command.to_owned(), image }]);
    }
    let mut parts = Vec::new();
    for record in &snapshot.dumps {
        if !sources.iter().any(|source| source.path == record.path) {
            continue;
        }
        if is_of_unknown_program(record) {
            return Err(PlanError::Command(record.path.clone()));
        }
        let recorded = record.container.as_ref().map(|container| container.image_id.as_str());
        parts.push(Part::Dump { record: record.clone(), image: image(recorded, &record.path)? });
    }
    if !parts.is_empty() {
        return Ok(parts);
    }
    for source in sources.iter().filter(|source| !is_dump(source)) {
        let names = names(source);
        if let Some(kind) = kind_of(&names) {
            let image = image(of_container, &source.path)?;
            let place = source.path.clone();
            let sources = snapshot.sources.iter().filter(|source| !is_dump(source)).cloned();
            let sources = sources.collect();
            return Ok(vec![Part::Data { kind, sources, place, names, image }]);
        }
    }
    Err(PlanError::NothingKnown)
}

/// The database whose directory has entries of these names.
pub(super) fn kind_of(names: &BTreeSet<String>) -> Option<DumpKind> {
    let has = |name: &str| names.contains(name);
    if has("PG_VERSION") && has("base") {
        return Some(DumpKind::Postgres);
    }
    if has("ibdata1") || has("aria_log_control") {
        return Some(DumpKind::Mysql);
    }
    if has("WiredTiger") {
        return Some(DumpKind::Mongo);
    }
    let is_redis = has("dump.rdb") || has("appendonlydir") || has("appendonly.aof");
    is_redis.then_some(DumpKind::Redis)
}

/// Where images of Redis and Valkey have their data.
const REDIS_DIRECTORY: &str = "/data";

/// Options for a server on a copy of its data directory, behind those of its image. Who may log in is in the
/// data; what the server was told is not.
pub(super) fn server_options(kind: DumpKind, place: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut options = match kind {
        // The passwords of the copy are not known here, and nobody else reaches it.
        DumpKind::Mysql => vec!["--skip-grant-tables"],
        // The original may have been told another directory than that of its image.
        DumpKind::Redis if place != REDIS_DIRECTORY => vec!["--dir", place],
        _ => Vec::new(),
    };
    // Without this a server ignores the append-only file that has the newest keys.
    if kind == DumpKind::Redis
        && (names.contains("appendonlydir") || names.contains("appendonly.aof"))
    {
        options.extend(["--appendonly", "yes"]);
    }
    options.into_iter().map(str::to_owned).collect()
}

/// The variables by which images of this kind are given the password of their administrator.
pub(super) fn password_variables(kind: DumpKind) -> &'static [&'static str] {
    match kind {
        DumpKind::Mysql => &["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"],
        DumpKind::Postgres => &["POSTGRES_PASSWORD"],
        DumpKind::Redis | DumpKind::Mongo | DumpKind::Sqlite | DumpKind::Command => &[],
    }
}
