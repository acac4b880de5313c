//! Dumps of databases: proved whole, or not a backup.
//!
//! ```text
//! look → recognise → ask for facts → for each file:  program → mark off → spool │ trailer → cut, name, pack
//!                                                      (never waits)            │ (waits for the store)
//! ```
//! What proves a dump: the mark behind its last byte and the exit code in it, see [`mark`]; the end of its own
//! format, see [`trailer`]. Without them nothing is committed, or a snapshot whose state is `failed`.

mod complaint;
mod door;
mod link;
mod mark;
mod spool;
mod trailer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chores_common::engine::Container;
use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::create::{self, CreateError, FileStore, StoredTree, StreamOptions, store_streams};
use crate::database::{
    self, Evidence, Facts, PlanError, Step, Target, Trailer, Unrecognised, recognise,
};
use crate::repository::Repository;
use crate::snapshot::{
    self, DumpFile, DumpKind, DumpProof, DumpRecord, DumpRole, Provenance, Snapshot, SnapshotName,
    SourceContainer, State, Stats, StoredDump,
};

pub use door::{Door, DoorError};
pub use link::Link;
pub use spool::{MEMORY_BYTES_MAX as SPOOL_MEMORY_BYTES_MAX, SpoolError, SpoolLimits};
pub use trailer::Flaw;

use door::Ended;
use spool::Spool;
use trailer::Check;

/// Folder of all dumps in a tree.
const FOLDER: &str = "/dump/";

/// Bytes of standard input that are read together, and how many such pieces may wait.
const STDIN_BYTES: usize = 256 << 10;
const STDIN_PIECES_MAX: usize = 8;

/// How often a wait for standard input looks whether to stop.
const STDIN_PERIOD: Duration = Duration::from_millis(200);

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The target cannot be entered or does not answer.
    #[error("cannot ask {place}")]
    Door {
        /// Which.
        place: String,
        /// Why.
        #[source]
        error: DoorError,
    },
    /// What it is, is not known.
    #[error("cannot tell which database {0} is")]
    Unrecognised(String, #[source] Unrecognised),
    /// It cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The client in the target said no before anything was dumped.
    #[error("the {kind} of {place} gives no dump: {reason}")]
    Refused {
        /// Which database.
        kind: DumpKind,
        /// Where.
        place: String,
        /// What it said.
        reason: String,
    },
    /// It is not proved to be whole.
    #[error("the dump of {place} failed: {file}: {reason}{kept}")]
    Failed {
        /// Where.
        place: String,
        /// Which file.
        file: String,
        /// What happened.
        reason: String,
        /// What was done with it, as the end of the sentence.
        kept: String,
    },
    /// Storing it failed.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// SIGINT or SIGTERM.
    #[error("interrupted: no snapshot was made")]
    Interrupted,
}

/// Who runs and stops.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Drives requests.
    pub runtime: &'a Handle,
    /// SIGINT, SIGTERM.
    pub shutdown: &'a Shutdown,
}

/// A dump that can be made.
#[derive(Debug)]
pub struct Plan {
    /// Which database.
    pub kind: DumpKind,
    /// What it said about itself.
    pub facts: Facts,
    /// The files, in order.
    pub steps: Vec<Step>,
    has_shell: bool,
}

/// Where the bytes come from.
#[derive(Debug)]
pub enum Origin {
    /// Programs.
    Door(Box<Door>, Box<Plan>),
    /// Standard input, as a dump of this kind, whose end an operator may have named.
    Stdin(DumpKind, Option<String>),
}

/// How to store.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Name of the folder below [`FOLDER`].
    pub name: String,
    /// The container it is made in.
    pub container: Option<SourceContainer>,
    /// What waits for the store.
    pub spool: SpoolLimits,
    /// Take what nothing proves to be whole, with a warning.
    pub unproved: bool,
    /// Compression and uploads.
    pub stream: StreamOptions,
}

/// What was stored.
#[derive(Debug)]
pub struct Dumped {
    /// What a snapshot says about it, and its tree.
    pub stored: StoredDump,
    /// Packs and counts.
    pub tree: StoredTree,
    /// Why it is no backup: the file and the reason.
    pub failure: Option<(String, String)>,
}

/// Evidence about a container, before anything is run in it.
#[must_use]
pub fn evidence_of(container: &Container) -> Evidence {
    let names = container.env.iter().filter_map(|variable| variable.split_once('='));
    Evidence {
        image: container.image_ref.clone(),
        variables: names.map(|(name, _)| name.to_owned()).collect(),
        ..Evidence::default()
    }
}

/// Finds out which database it is, what is in it, and what has to be run. `kind`: as it was asked for.
pub fn plan(
    door: &Door,
    kind: Option<DumpKind>,
    evidence: &Evidence,
    target: &Target,
    expect: Option<&str>,
    around: &Surroundings<'_>,
) -> Result<Plan, DumpError> {
    let cannot = |error| match error {
        DoorError::Interrupted => DumpError::Interrupted,
        error => DumpError::Door { place: door.to_string(), error },
    };
    let processes = door.look(around.runtime, around.shutdown).map_err(cannot)?;
    let has_shell = processes.is_some();
    let kind = match kind {
        Some(kind) => kind,
        None if !target.words.is_empty() => DumpKind::Command,
        None => {
            let seen = match door {
                Door::Container { .. } => processes.unwrap_or_default(),
                // Ours, not those of the other side.
                Door::Here(_) => Vec::new(),
            };
            let evidence = Evidence { processes: seen, ..evidence.clone() };
            match recognise(&evidence) {
                Err(Unrecognised::None) if has_shell && !target.mounts.is_empty() => {
                    return plan_sqlite(door, target, around);
                }
                kind => kind.map_err(|error| DumpError::Unrecognised(door.to_string(), error))?,
            }
        }
    };
    let mut facts = Facts::default();
    if let Some(script) = database::probe(kind, target)?.filter(|_| has_shell) {
        let asked = door.ask(around.runtime, around.shutdown, &script).map_err(cannot)?;
        facts = facts_of(kind, door, &asked)?;
    }
    let mut steps = database::plan(kind, target, &facts)?;
    if let Some(text) = expect {
        steps.iter_mut().for_each(|step| step.trailer = Trailer::Text(text.to_owned()));
    }
    Ok(Plan { kind, facts, steps, has_shell })
}

/// What is recognised by nothing may have database files; without any it stays unrecognised.
fn plan_sqlite(door: &Door, target: &Target, around: &Surroundings<'_>) -> Result<Plan, DumpError> {
    let unrecognised = || DumpError::Unrecognised(door.to_string(), Unrecognised::None);
    let kind = DumpKind::Sqlite;
    let Some(script) = database::probe(kind, target)? else { return Err(unrecognised()) };
    let asked =
        door.ask(around.runtime, around.shutdown, &script).map_err(|error| match error {
            DoorError::Interrupted => DumpError::Interrupted,
            error => DumpError::Door { place: door.to_string(), error },
        })?;
    if Facts::parse(&asked.1, 0)?.databases.is_empty() {
        return Err(unrecognised());
    }
    let facts = facts_of(kind, door, &asked)?;
    let steps = database::plan(kind, target, &facts)?;
    Ok(Plan { kind, facts, steps, has_shell: true })
}

fn facts_of(
    kind: DumpKind,
    door: &Door,
    (ended, text): &(Ended, Vec<u8>),
) -> Result<Facts, DumpError> {
    if let Some(reason) = ended.failure() {
        return Err(DumpError::Refused { kind, place: door.to_string(), reason });
    }
    let end = if matches!(kind, DumpKind::Postgres | DumpKind::Sqlite) { 0 } else { b'\n' };
    Ok(Facts::parse(text, end)?)
}

impl Origin {
    /// Which database.
    #[must_use]
    pub fn kind(&self) -> DumpKind {
        match self {
            Self::Door(_, plan) => plan.kind,
            Self::Stdin(kind, _) => *kind,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Door(door, _) => door.fmt(f),
            Self::Stdin(..) => f.write_str("standard input"),
        }
    }
}

/// The folder of a dump in a tree.
pub fn folder(name: &str) -> Result<String, PlanError> {
    Ok(format!("{FOLDER}{}", database::folder_name(name)?))
}

/// Makes the dump and stores it. What is stored belongs to no snapshot yet.
pub fn dump(
    repository: &Repository,
    origin: &Origin,
    options: &DumpOptions,
    progress: &Progress,
    around: &Surroundings<'_>,
) -> Result<Dumped, DumpError> {
    let path = folder(&options.name)?;
    let (made, mut tree) =
        store_streams(repository, &options.stream, &path, progress, around.shutdown, |store| {
            match origin {
                Origin::Door(door, plan) => files_of(store, door, plan, options, around),
                Origin::Stdin(kind, expect) => {
                    stdin_file(store, *kind, expect.as_deref(), options.unproved, around)
                }
            }
        })?;
    let (server, databases, warnings) = match origin {
        Origin::Door(_, plan) => {
            let facts = &plan.facts;
            (facts.server.clone(), facts.databases.clone(), facts.warnings.clone())
        }
        Origin::Stdin(..) => Default::default(),
    };
    let record = DumpRecord {
        kind: origin.kind(),
        path,
        server,
        container: options.container.clone(),
        databases,
        files: made.files,
        proof: made.proof,
    };
    let warnings = warnings.into_iter().chain(made.warnings).collect();
    let stored = StoredDump {
        record,
        tree: tree.tree.clone(),
        warnings,
        entries: std::mem::take(&mut tree.entries),
        entries_file: None,
    };
    Ok(Dumped { stored, tree, failure: made.failure })
}

/// What became of the files.
#[derive(Debug, Default)]
struct Made {
    files: Vec<DumpFile>,
    proof: DumpProof,
    warnings: Vec<String>,
    failure: Option<(String, String)>,
}

impl Made {
    /// Adds a file that has ended; false when no other must follow.
    fn add(&mut self, file: DumpFile, ended: &Ended, trailer: &End) -> bool {
        let is_first = self.files.is_empty();
        let proved = trailer.found.as_ref().ok().copied().flatten();
        self.proof.marker = ended.is_marked && (is_first || self.proof.marker);
        if is_first || self.proof.exit_code == Some(0) {
            self.proof.exit_code = ended.exit_code;
        }
        // Of the two that PostgreSQL has, that of the data.
        self.proof.trailer = proved.map(str::to_owned);
        let name = &file.name;
        let reason = match (ended.failure(), &trailer.found) {
            (Some(reason), _) => Some(reason),
            (None, Err(flaw)) => Some(format!("its program reports success, but {flaw}")),
            (None, Ok(_)) if file.bytes == 0 => Some("it is empty".to_owned()),
            (None, Ok(Some(_))) => None,
            (None, Ok(None)) if ended.is_marked && !trailer.is_expected => None,
            (None, Ok(None)) if ended.is_marked => {
                self.warnings.push(format!(
                    "{name}: its format is of a version that is not known here: it is proved by its program alone"
                ));
                None
            }
            (None, Ok(None)) if trailer.is_optional => {
                self.warnings.push(format!("{name}: nothing proves that it is whole"));
                None
            }
            (None, Ok(None)) => Some(
                "nothing proves that it is whole: say with --expect-trailer how it ends, or take it as it is \
                with --unproved"
                    .to_owned(),
            ),
        };
        self.failure = reason.map(|reason| (file.name.clone(), reason));
        self.files.push(file);
        self.failure.is_none()
    }
}

/// What the end of a file was found to be.
struct End {
    found: Result<Option<&'static str>, Flaw>,
    /// There is a format to look at.
    is_expected: bool,
    /// Nothing has to prove it.
    is_optional: bool,
}

impl End {
    /// Whether a file that ended so may be taken for whole.
    fn is_whole(&self, ended: &Ended) -> bool {
        let is_proved = match &self.found {
            Ok(proved) => proved.is_some() || ended.is_marked || self.is_optional,
            Err(_) => false,
        };
        ended.failure().is_none() && is_proved
    }
}

fn files_of(
    store: &mut FileStore<'_, '_>,
    door: &Door,
    plan: &Plan,
    options: &DumpOptions,
    around: &Surroundings<'_>,
) -> Result<Made, CreateError> {
    let mut made = Made::default();
    for step in &plan.steps {
        let spool = Spool::new(options.spool.clone());
        let mut check = Check::new(&step.trailer);
        let (read, stored) = thread::scope(|scope| {
            let reader = thread::Builder::new().name("dump".into()).spawn_scoped(scope, || {
                let _close = spool.close_on_drop();
                let (runtime, shutdown) = (around.runtime, around.shutdown);
                let (abandoned, script) = (spool.abandoned(), &step.script);
                let mut take = |bytes: &[u8]| spool.push(bytes);
                door.run(runtime, shutdown, abandoned, script, plan.has_shell, &mut take)
            });
            let reader = reader.map_err(CreateError::Thread)?;
            let stored = store_spooled(store, &spool, &mut check);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, CreateError>((read, stored))
        })?;
        stored.map_err(|error| match error {
            StoreError::Create(error) => error,
            StoreError::Spool(error) => CreateError::Spool(Box::new(error)),
        })?;
        let trailer = check.finish(&mut |bytes| store.write(bytes))?;
        let ended = read.unwrap_or_else(|error| Ended {
            exit_code: None,
            is_marked: false,
            has_shell: plan.has_shell,
            complaint: String::new(),
            error: Some(chain(&error)),
        });
        if around.shutdown.is_requested() {
            return Err(CreateError::Interrupted);
        }
        let end = End {
            found: trailer,
            is_expected: step.trailer != Trailer::None,
            is_optional: options.unproved,
        };
        let file = DumpFile {
            name: step.file.clone(),
            role: step.role,
            database: step.database.clone(),
            bytes: store.end(&step.file, !end.is_whole(&ended))?,
        };
        if !made.add(file, &ended, &end) {
            break;
        }
    }
    Ok(made)
}

enum StoreError {
    Create(CreateError),
    Spool(SpoolError),
}

/// Takes what is in the spool until its end. However it ends, the reader is told.
fn store_spooled(
    store: &mut FileStore<'_, '_>,
    spool: &Spool,
    check: &mut Check,
) -> Result<(), StoreError> {
    let _abandon = spool.abandon_on_drop();
    loop {
        let next = spool.next(|| store.is_stopped()).map_err(|error| match error {
            SpoolError::Abandoned => StoreError::Create(CreateError::Stopped),
            error => StoreError::Spool(error),
        })?;
        let Some(bytes) = next else { return Ok(()) };
        check.push(&bytes, &mut |bytes| store.write(bytes)).map_err(StoreError::Create)?;
    }
}

/// One file from standard input. A pipe loses nothing and its writer may wait, so there is no spool; but nobody
/// tells how the writer ended.
fn stdin_file(
    store: &mut FileStore<'_, '_>,
    kind: DumpKind,
    expect: Option<&str>,
    unproved: bool,
    around: &Surroundings<'_>,
) -> Result<Made, CreateError> {
    let trailer = match expect {
        Some(text) => Trailer::Text(text.to_owned()),
        None => database::trailer_of_stream(kind),
    };
    let (name, role) = match kind {
        DumpKind::Mysql => (database::mysql::FILE, DumpRole::All),
        DumpKind::Redis => (database::redis::FILE, DumpRole::Rdb),
        DumpKind::Mongo => (database::mongo::FILE, DumpRole::Archive),
        DumpKind::Postgres | DumpKind::Sqlite | DumpKind::Command => {
            (database::command::FILE, DumpRole::Output)
        }
    };
    let mut check = Check::new(&trailer);
    let (pieces, read) = mpsc::sync_channel::<io::Result<Bytes>>(STDIN_PIECES_MAX);
    // It is left behind where the run is stopped: nothing ends a read of standard input.
    thread::Builder::new()
        .name("stdin".into())
        .spawn(move || read_stdin(&pieces))
        .map_err(CreateError::Thread)?;
    let mut broken = None;
    loop {
        if around.shutdown.is_requested() {
            return Err(CreateError::Interrupted);
        }
        if store.is_stopped() {
            return Err(CreateError::Stopped);
        }
        match read.recv_timeout(STDIN_PERIOD) {
            Ok(Ok(bytes)) => check.push(&bytes, &mut |bytes| store.write(bytes))?,
            Ok(Err(error)) => broken = Some(format!("standard input cannot be read: {error}")),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let found = check.finish(&mut |bytes| store.write(bytes))?;
    // An archive that is cut between two collections looks whole.
    let found = found.map(|proof| proof.filter(|_| trailer != Trailer::Mongo));
    let end = End { found, is_expected: trailer != Trailer::None, is_optional: unproved };
    let ended = Ended {
        exit_code: Some(0),
        is_marked: false,
        has_shell: false,
        complaint: String::new(),
        error: broken,
    };
    let bytes = store.end(name, !end.is_whole(&ended))?;
    let mut made = Made::default();
    made.add(DumpFile { name: name.to_owned(), role, database: None, bytes }, &ended, &end);
    // Nobody told one.
    made.proof.exit_code = None;
    Ok(made)
}

fn read_stdin(pieces: &mpsc::SyncSender<io::Result<Bytes>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut buffer = vec![0; STDIN_BYTES];
        let piece = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                Ok(buffer.into())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_end = piece.is_err();
        if pieces.send(piece).is_err() || is_end {
            return;
        }
    }
}

/// What a snapshot of nothing but a dump is called and labelled.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// Name of this machine or container.
    pub host: String,
    /// What the container of the database is of.
    pub provenance: Provenance,
    /// What is gone since the last dump is meant to be.
    pub allow_change: bool,
    /// Start of the run.
    pub time: jiff::Timestamp,
    /// When that was, by a clock that only goes forward.
    pub begun: Instant,
}

/// Makes a snapshot of a dump. A dump that failed is kept for inspection where anything of it came: its
/// snapshot is `failed` and counts for nothing.
pub fn commit(
    repository: &Repository,
    dumped: &Dumped,
    options: &SnapshotOptions,
) -> Result<Option<(SnapshotName, Snapshot)>, CreateError> {
    let mut warnings = dumped.stored.warnings.clone();
    let is_compared = dumped.failure.is_none() && !options.allow_change;
    let record = &dumped.stored.record;
    let suspicions = if is_compared {
        create::suspicions_of_dump(repository, &options.name, &options.tags, record)
    } else {
        Vec::new()
    };
    let suspicious = !suspicions.is_empty();
    warnings.extend(suspicions);
    let mut state = if warnings.is_empty() { State::Complete } else { State::Warnings };
    if let Some((file, reason)) = &dumped.failure {
        if dumped.tree.stats.bytes == 0 {
            return Ok(None);
        }
        state = State::Failed;
        warnings.push(format!("{file}: {reason}"));
    }
    let dumps = vec![dumped.stored.record.clone()];
    let elapsed = options.begun.elapsed().as_millis();
    let snapshot = Snapshot {
        version: snapshot::version_with(&dumps, suspicious, &options.provenance),
        name: options.name.clone(),
        time: options.time,
        host: options.host.clone(),
        tags: options.tags.clone(),
        state,
        suspicious,
        sources: create::sources_with(&[], &dumps),
        container: dumped.stored.record.container.clone(),
        dumps,
        provenance: options.provenance.clone(),
        tree: dumped.tree.tree.clone(),
        stats: Stats {
            duration_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..dumped.tree.stats
        },
        warning_count: warnings.len() as u64,
        warnings: warnings.into_iter().take(snapshot::WARNINGS_MAX).collect(),
        packs: dumped.tree.packs.clone(),
        program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    Ok(Some(create::commit(repository, snapshot)?))
}
