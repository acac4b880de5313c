//! A backup, from the walk to the commit.
//!
//! ```text
//! walk → sequence ─┬─ unchanged: records of the last run ─────────────┐
//!                  └─ changed: queue → workers (read, cut, name,      ├→ assemble → tree, cache
//!                     compress) → packer → upload threads → store     ┘
//! ```
//! Packs are written first, then the index, then the snapshot: only the last makes it a backup.

mod assemble;
mod commit;
mod compared;
mod content;
mod history;
mod packer;
mod queue;
mod rewrite;
mod sequence;
mod streams;
mod taken;
mod transfer;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::bounded;

use crate::cache::{self, CacheReader, CacheWriter};
use crate::chunk::ChunkId;
use crate::entry::{Entry, EntryError, display_path, tree_order};
use crate::index::Index;
use crate::moved;
use crate::pack::PackKind;
use crate::reader::ChunkReader;
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{
    self, DumpRecord, Provenance, Snapshot, SnapshotId, SnapshotName, Source, SourceContainer,
    State, Stats, StoredDump, TreeRoot,
};
use crate::tree::TreeReader;
use crate::walk::{SourceRoot, WalkOptions, walk};
pub use commit::commit;
pub(crate) use commit::salt;
pub(crate) use compared::suspicions_of_dump;

use assemble::{Assembled, Assembler};
use history::History;
use packer::{Added, Packer};
use queue::TaskQueue;
use rewrite::{Again, Fates, Moving};
use sequence::{DumpedEntries, Sequencer};
use worker::Worker;

pub use streams::{FileStore, StoredTree, StreamOptions, store_streams};
pub use transfer::{Names, TransferError, TransferOptions, transfer};

/// Items that may wait for the tree thread, each a batch of up to 256 KiB; as many as tasks may wait.
const ITEMS_QUEUED: usize = 32;

/// Age at which a temporary file belongs to no run any more: no single object takes that long.
const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What changed so short before a run began whose sources hold still, in seconds, is read again by the next one, and in both
/// passes of one: writes through a mapping show in mtime only once for as long as a page is dirty (mmap(2)), which is half
/// a minute (`vm.dirty_expire_centisecs`) and what writing back takes.
const MAPPED_SECONDS: i64 = 60;

/// What had stayed for no longer than this when it was changed again, in seconds, is stored apart from the rest: five days. Three are
/// too few: of many files that change nearly every night some are left alone for so long by chance, and came among what stays.
const HOT_SECONDS: i64 = 5 * 24 * 60 * 60;

/// What to back up and how.
#[derive(Debug)]
pub struct CreateOptions {
    /// The snapshot's name.
    pub name: String,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// Name of the machine or container that reads.
    pub host: String,
    /// Start of the run.
    pub time: jiff::Timestamp,
    /// What to read: in tree order, none inside another.
    pub roots: Vec<SourceRoot>,
    /// What these roots are, in the same order.
    pub sources: Vec<Source>,
    /// The container whose volumes they are.
    pub container: Option<SourceContainer>,
    /// What the containers are of.
    pub provenance: Provenance,
    /// Dumps that were stored just before, to be part of the snapshot.
    pub dumps: Vec<StoredDump>,
    /// What to leave out.
    pub walk: WalkOptions,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that read and compress.
    pub threads: usize,
    /// Threads that upload; each holds a pack of 16 MiB. Packs of 20 MiB together are being filled meanwhile.
    pub uploads: usize,
    /// Directory of caches; without one everything is read.
    pub cache: Option<PathBuf>,
    /// Read everything even if it seems unchanged.
    pub read_all: bool,
    /// What is gone or unusual since the last snapshot is meant to be.
    pub allow_change: bool,
    /// Do all but write.
    pub dry_run: bool,
    /// What was noticed about the sources before: warnings of the snapshot.
    pub warnings: Vec<String>,
}

/// What a run did.
#[derive(Debug)]
pub struct CreateReport {
    /// The committed snapshot; `None` in a dry run.
    pub name: Option<SnapshotName>,
    /// Its document.
    pub snapshot: Snapshot,
}

/// Why there is no new snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The compressor failed.
    #[error("cannot compress")]
    Compress(#[source] std::io::Error),
    /// An entry cannot be written down.
    #[error("cannot describe {0}")]
    Entry(String, #[source] EntryError),
    /// A dump that was stored before is not there.
    #[error("the dump at {0} cannot be read back: run it again")]
    Dump(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Two files of a dump have one name.
    #[error("the dump gives the file {0:?} twice: name its databases one by one")]
    Twice(String),
    /// A source lies where a dump has its files.
    #[error("the source {0} is in the place of the dump at {1}: give the dump another name")]
    Overlap(String, String),
    /// Prunes mark packs as fast as they are stored.
    #[error("prunes marked packs of this backup {0} times while it was committed: run it again")]
    Marked(u32),
    /// A prune has marked what this run refers to, and content cannot be read here.
    #[error(
        "a prune marked {0} packs of this backup while it was made, and without the private key they cannot be stored \
         anew, so it was not committed: run it again, which reads their files again"
    )]
    MarkedSealed(usize),
    /// What the run refers to is not there any more.
    #[error(
        "{0} packs this backup needs are gone, so it was not committed: a prune removed them while the run stood still, \
         or they are lost; run it again, and `backup check`"
    )]
    Gone(usize),
    /// It is not known whether a prune takes away what the snapshot needs, and the snapshot cannot be taken back.
    #[error(
        "snapshot {0} was written and may lack packs, and cannot be removed again: drop it with `backup forget {0}`"
    )]
    Standing(String, #[source] Box<RepositoryError>),
    /// What waits for the store cannot be kept.
    #[error(transparent)]
    Spool(Box<dyn std::error::Error + Send + Sync>),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted: what was stored is kept for the next run, no snapshot was made")]
    Interrupted,
    /// Another thread failed first.
    #[error("stopped because another part of the run failed")]
    Stopped,
    /// The sources could not be made to hold still.
    #[error(transparent)]
    Still(Box<dyn std::error::Error + Send + Sync>),
}

/// Makes the sources hold still for as long as they are read.
pub trait Stillness {
    /// From when this returns on, they hold still.
    fn begin(&mut self) -> Result<(), CreateError>;

    /// Everything was read: they may go on. Returns what a person should know; it becomes warnings of the snapshot.
    fn end(&mut self) -> Result<Vec<String>, CreateError>;
}

/// How the sources hold still.
pub struct Still<'a> {
    /// Who makes them.
    pub by: &'a mut dyn Stillness,
    /// Read everything once before, so that only what changes meanwhile is read while they hold still.
    pub hot_pass: bool,
}

impl std::fmt::Debug for Still<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Still").field("hot_pass", &self.hot_pass).finish_non_exhaustive()
    }
}

/// Makes one snapshot of sources as they are.
pub fn create(
    repository: &Repository,
    options: &CreateOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<CreateReport, CreateError> {
    create_still(repository, options, None, progress, shutdown)
}

/// Makes one snapshot of sources that hold still. Whoever calls it lets them go on when it fails.
pub fn create_still(
    repository: &Repository,
    options: &CreateOptions,
    mut still: Option<Still<'_>>,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<CreateReport, CreateError> {
    repository.permit(Operation::Write)?;
    let begun = Instant::now();
    if !options.dry_run {
        match repository.store().remove_temporaries(TEMPORARY_AGE) {
            Ok(0) => (),
            Ok(count) => tracing::info!("removed {count} temporary files of killed runs"),
            Err(error) => tracing::warn!("files of killed runs stay: {error}"),
        }
    }
    let (before, before_left) = match &still {
        Some(Still { hot_pass: true, .. }) => hot_pass(repository, options, progress, shutdown)?,
        _ => Default::default(),
    };
    let index = index(repository)?;
    if let Some(still) = &mut still {
        still.by.begin()?;
    }
    let is_second = still.as_ref().is_some_and(|still| still.hot_pass);
    let pass = if is_second { Pass::Second } else { Pass::Only };
    let Stored { mut assembled, root, cache, added, left } =
        store_all(repository, &index, options, pass, still, progress, shutdown)?;
    let stats = Stats {
        chunks_added: before.chunks + added.chunks,
        bytes_added: before.bytes + added.bytes,
        bytes_stored: before.bytes_stored + added.bytes_stored,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..assembled.stats
    };
    options.warnings.iter().for_each(|warning| assembled.warn(warning.clone()));
    let dumps: Vec<_> = options.dumps.iter().map(|dump| dump.record.clone()).collect();
    let suspicions = compared::suspicions(repository, &index, options, &dumps, &stats);
    suspicions.iter().for_each(|suspicion| assembled.warn(suspicion.clone()));
    let suspicious = !suspicions.is_empty();
    let snapshot = Snapshot {
        version: snapshot::version_with(&dumps, suspicious, &options.provenance),
        name: options.name.clone(),
        time: options.time,
        host: options.host.clone(),
        tags: options.tags.clone(),
        state: if assembled.warning_count == 0 { State::Complete } else { State::Warnings },
        suspicious,
        sources: sources_with(&options.sources, &dumps),
        container: options.container.clone(),
        dumps,
        provenance: options.provenance.clone(),
        tree: root,
        stats,
        warning_count: assembled.warning_count,
        warnings: std::mem::take(&mut assembled.warnings),
        packs: added.packs,
        program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    if options.dry_run {
        return Ok(CreateReport { name: None, snapshot });
    }
    let (name, snapshot) = commit(repository, snapshot)?;
    if let (Some(used), Some(_)) = (added.used, &cache) {
        remember(repository, options, name.id, used.into_sorted(&index));
    }
    if let Some(cache) = cache
        && let Err(error) = cache.finish()
    {
        tracing::warn!(
            "the cache cannot be written, so the next run will read everything: {error}"
        );
    }
    for (left, again) in [(before_left, before.again), (left, added.again)] {
        say_moved(repository, &left, &again);
    }
    Ok(CreateReport { name: Some(name), snapshot })
}

/// Adds the snapshot to the history of the job. Without that packs stay that later runs could leave.
fn remember(
    repository: &Repository,
    options: &CreateOptions,
    snapshot: SnapshotId,
    chunks: impl Iterator<Item = ChunkId>,
) {
    let Some(history) = history_of(repository, options) else { return };
    let there = match repository.snapshot_names() {
        Ok(names) => names.into_iter().map(|name| name.id).collect(),
        Err(error) => return tracing::warn!("{}", chain(&error)),
    };
    let added = history.add((snapshot, options.time.as_second()), chunks, &there);
    if let Err(error) = added {
        tracing::warn!("what this snapshot needs cannot be remembered: {error}");
    }
}

/// Says of past snapshots where it is now what they need of packs that were left. The backup is made: without that these packs
/// only stay.
fn say_moved(repository: &Repository, left: &Moving, again: &Again) {
    for part in moved::parts(left.done(again), moved::BYTES_MAX) {
        match repository.put_moves(&part) {
            Ok(key) => tracing::debug!("{key} says where the content of old packs is now"),
            Err(error) => tracing::warn!("old packs stay: {}", chain(&error)),
        }
    }
}

/// The chunks that are there, but those of packs that are on their way out.
fn index(repository: &Repository) -> Result<Index, CreateError> {
    let (index, damaged) = repository.index_for_writing()?;
    for (key, error) in &damaged {
        tracing::warn!("{key} is left aside, what only it knows is stored again: {}", chain(error));
    }
    Ok(index)
}

/// Which reading of the sources it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// There is one.
    Only,
    /// While they change; only chunks and cache are wanted of it.
    Hot,
    /// Behind [`Pass::Hot`], of what it did not see as it is now.
    Second,
}

/// Stores all content and remembers it in the cache.
fn hot_pass(
    repository: &Repository,
    options: &CreateOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<(Added, Moving), CreateError> {
    let index = index(repository)?;
    let Stored { cache, mut added, left, .. } =
        store_all(repository, &index, options, Pass::Hot, None, progress, shutdown)?;
    // What the snapshot needs is what the second pass takes.
    added.used = None;
    match cache.map(CacheWriter::finish) {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::warn!("the cache cannot be written, so everything is read twice: {error}");
        }
        None => tracing::warn!("there is no cache, so everything is read twice"),
    }
    Ok((added, left))
}

/// The entries of the dumps, in tree order.
fn dumped_entries(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
) -> Result<VecDeque<DumpedEntries>, CreateError> {
    let mut dumps = Vec::new();
    for dump in &options.dumps {
        let path = &dump.record.path;
        let folder = path.trim_start_matches('/').as_bytes();
        let overlap = options.roots.iter().find(|root| {
            let source = root.path();
            is_beneath(source, folder) || is_beneath(folder, source)
        });
        if let Some(root) = overlap {
            return Err(CreateError::Overlap(display_path(root.path()), path.clone()));
        }
        let entries = if dump.entries.is_empty() {
            read_back(repository, index, dump)?
        } else {
            dump.entries.clone()
        };
        let warnings = dump.warnings.clone();
        dumps.push(DumpedEntries { folder: folder.to_vec(), entries, warnings });
    }
    dumps.sort_by(|left, right| tree_order(&left.folder, &right.folder));
    Ok(dumps.into())
}

/// The entries of a dump that another process has stored.
fn read_back(
    repository: &Repository,
    index: &Index,
    dump: &StoredDump,
) -> Result<Vec<Entry>, CreateError> {
    let unreadable = |error| CreateError::Dump(dump.record.path.clone(), error);
    let reader = ChunkReader::new(repository, index).map_err(|e| unreadable(Box::new(e)))?;
    let mut tree = TreeReader::new(&dump.tree, reader);
    let mut entries = Vec::new();
    while let Some(entry) = tree.next_entry().map_err(|e| unreadable(Box::new(e)))? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Whether `path` is `folder` or lies in it.
fn is_beneath(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    folder.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The sources with those that dumps are, in tree order.
#[must_use]
pub fn sources_with(sources: &[Source], dumps: &[DumpRecord]) -> Vec<Source> {
    let dumped = dumps.iter().map(|dump| Source { path: dump.path.clone(), volume: None });
    let mut all: Vec<_> = sources.iter().cloned().chain(dumped).collect();
    all.sort_by(|left, right| tree_order(left.path.as_bytes(), right.path.as_bytes()));
    all
}

/// What is stored, and not yet a backup.
struct Stored {
    assembled: Assembled,
    root: TreeRoot,
    cache: Option<CacheWriter>,
    added: Added,
    /// Packs that nobody needs any more, if all of them that is needed was stored again.
    left: Moving,
}

/// Runs the threads: content into packs, entries into the tree, packs into the store.
fn store_all(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
    pass: Pass,
    still: Option<Still<'_>>,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<Stored, CreateError> {
    // Nothing of the first reading is kept but chunks and cache.
    let dumps = match pass {
        Pass::Hot => VecDeque::new(),
        Pass::Only | Pass::Second => dumped_entries(repository, index, options)?,
    };
    let mut fates = fates(repository, index, options, pass);
    let left = std::mem::take(&mut fates.moving);
    let packer = Packer::new(repository, index, options.level, options.dry_run, progress, shutdown)
        .with_fates(fates);
    let queue = TaskQueue::default();
    let (read_cache, write_cache) = caches(repository, options, pass, still.is_some());
    let (items, for_tree) = bounded(ITEMS_QUEUED);
    let tree = thread::scope(|scope| {
        start_uploads(scope, &packer, options.uploads);
        let _close = packer.close_on_drop();
        let tree = thread::scope(|readers| {
            let packer = &packer;
            let failure = packer.failure();
            let worker = || worker(packer, &queue, repository, options, progress);
            let assembler = packer.stow(PackKind::Tree).and_then(|stow| {
                let assembler =
                    Assembler::new(stow, worker()?, write_cache, pass == Pass::Hot, failure);
                let tree = thread::Builder::new().name("tree".into());
                tree.spawn_scoped(readers, move || assembler.run(&for_tree))
                    .map_err(CreateError::Thread)
            });
            let assembler = assembler.map_err(|error| failure.set(error)).ok();
            for _ in 0..options.threads.max(1) {
                let thread = thread::Builder::new().name("read".into());
                let spawned = worker().and_then(|worker| {
                    thread.spawn_scoped(readers, move || worker.run()).map_err(CreateError::Thread)
                });
                if let Err(error) = spawned {
                    failure.set(error);
                }
            }
            {
                let _close = queue.close_on_drop();
                let hot_from = options.time.as_second().saturating_sub(HOT_SECONDS);
                let roots = &options.roots;
                let mut sequencer =
                    Sequencer::new(roots, read_cache, hot_from, dumps, packer, &queue, items);
                let ended = walk(&options.roots, &options.walk, |event| sequencer.event(event));
                // What broke it off is in the failure already.
                tracing::debug!(whole = ended.is_continue(), "the walk has ended");
                sequencer.finish();
            }
            assembler.and_then(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        // All is read, if not stored yet.
        let ended = match (still, &tree) {
            (Some(still), Some(_)) => still.by.end(),
            _ => Ok(Vec::new()),
        };
        let warnings = ended.map_err(|error| packer.failure().set(error)).unwrap_or_default();
        packer.close();
        tree.map(|(root, mut assembled, cache)| {
            warnings.into_iter().for_each(|warning| assembled.warn(warning));
            (root, assembled, cache)
        })
    });
    let added = packer.finish()?;
    let (root, assembled, cache) = tree.ok_or(CreateError::Stopped)?;
    Ok(Stored { assembled, root, cache, added, left })
}

/// What becomes of old packs.
fn fates(repository: &Repository, index: &Index, options: &CreateOptions, pass: Pass) -> Fates {
    let time = options.time.as_second();
    let job = rewrite::Job {
        name: &options.name,
        host: &options.host,
        roots: &options.roots,
        time,
        young_from: time.saturating_sub(HOT_SECONDS),
        // Sources hold still no longer for that: the first pass has done it.
        stores_again: pass != Pass::Second,
        is_dry: options.dry_run,
    };
    let history = history_of(repository, options);
    rewrite::fates(repository, index, job, || cache_of(repository, options), history.as_ref())
}

/// Starts the threads that upload. Without any of them the first full pack would wait for ever.
fn start_uploads<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    packer: &'scope Packer<'_>,
    count: usize,
) {
    for _ in 0..count.max(1) {
        let thread = thread::Builder::new().name("upload".into());
        if let Err(error) = thread.spawn_scoped(scope, || packer.upload_all()) {
            packer.failure().set(CreateError::Thread(error));
        }
    }
}

fn worker<'run, 'packer>(
    packer: &'packer Packer<'run>,
    queue: &'run TaskQueue,
    repository: &'run Repository,
    options: &'run CreateOptions,
    progress: &'run Progress,
) -> Result<Worker<'run, 'packer>, CreateError>
where
    'packer: 'run,
{
    let cutter = repository.cutter();
    Ok(Worker {
        roots: &options.roots,
        cutter,
        queue,
        failure: packer.failure(),
        progress,
        stow: packer.stow(PackKind::Data)?,
        buffer: content::buffer(cutter),
    })
}

/// Where the cache of this job lies.
fn cache_path(repository: &Repository, options: &CreateOptions) -> Option<PathBuf> {
    let roots: Vec<_> = options.roots.iter().map(SourceRoot::path).collect();
    let key = repository.cache_key();
    let directory = options.cache.as_ref()?;
    Some(cache::path_of(directory, repository.id(), &options.name, &roots, key.as_ref()))
}

/// The history of this job, in an encrypted repository.
fn history_of(repository: &Repository, options: &CreateOptions) -> Option<History> {
    Some(History::beside(&cache_path(repository, options)?, repository.cache_key()?))
}

/// The last run's cache.
fn cache_of(repository: &Repository, options: &CreateOptions) -> Option<CacheReader> {
    CacheReader::open(&cache_path(repository, options)?, repository.cache_key())
}

/// The last run's cache and the one to write.
fn caches(
    repository: &Repository,
    options: &CreateOptions,
    pass: Pass,
    holds_still: bool,
) -> (Option<CacheReader>, Option<CacheWriter>) {
    let Some(path) = cache_path(repository, options) else { return (None, None) };
    let read_all = options.read_all && pass != Pass::Second;
    let read = if read_all { None } else { CacheReader::open(&path, repository.cache_key()) };
    if options.dry_run {
        return (read, None);
    }
    let margin = if holds_still || pass == Pass::Hot { MAPPED_SECONDS } else { 0 };
    let written = {
        let from = options.time.as_second().saturating_sub(margin);
        CacheWriter::create(&path, from, repository.cache_key())
    };
    if let Err(error) = &written {
        // On a read-only repository the run fails anyway, and says so once.
        if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
            return (read, None);
        }
        if error.kind() == std::io::ErrorKind::ResourceBusy {
            tracing::debug!("another run of the same job writes the cache");
            return (read, None);
        }
        tracing::warn!(
            "no cache can be written at {}, so the next run will read everything: {error}",
            path.display()
        );
    }
    (read, written.ok())
}
