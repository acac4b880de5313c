//! A backup, from the walk to the commit.
//!
//! ```text
//! walk → sequence ─┬─ unchanged: records of the last run ─────────────┐
//!                  └─ changed: queue → workers (read, cut, name,      ├→ assemble → tree, cache
//!                     compress) → packer → upload threads → store     ┘
//! ```
//! Packs are written first, then the index, then the snapshot: only the last makes it a backup.

mod assemble;
mod content;
mod packer;
mod queue;
mod sequence;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::bounded;

use crate::cache::{self, CacheReader, CacheWriter};
use crate::entry::EntryError;
use crate::index::Index;
use crate::pack::PackKind;
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{
    self, Snapshot, SnapshotName, Source, SourceContainer, State, Stats, TreeRoot,
};
use crate::walk::{SourceRoot, WalkOptions, walk};
use assemble::{Assembled, Assembler};
use packer::{Added, Packer};
use queue::TaskQueue;
use sequence::Sequencer;
use worker::Worker;

/// Items that may wait for the tree thread, each a batch of up to 256 KiB; as many as tasks may wait.
const ITEMS_QUEUED: usize = 64;

/// Age at which a temporary file belongs to no run any more: no single object takes that long.
const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// What to leave out.
    pub walk: WalkOptions,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that read and compress.
    pub threads: usize,
    /// Threads that upload; each holds a pack of 16 MiB.
    pub uploads: usize,
    /// Directory of caches; without one everything is read.
    pub cache: Option<PathBuf>,
    /// Read everything even if it seems unchanged.
    pub read_all: bool,
    /// Do all but write.
    pub dry_run: bool,
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
    /// A prune has marked packs this run refers to.
    #[error("{0} packs this backup needs were marked for removal while it ran: run it again")]
    Marked(usize),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted: what was stored is kept for the next run, no snapshot was made")]
    Interrupted,
    /// Another thread failed first.
    #[error("stopped because another part of the run failed")]
    Stopped,
}

/// Makes one snapshot.
pub fn create(
    repository: &Repository,
    options: &CreateOptions,
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
    let (index, objects) = repository.index_for_writing()?;
    for (key, error) in &objects.damaged {
        tracing::warn!("{key} is left aside, what only it knows is stored again: {}", chain(error));
    }
    let (mut assembled, root, cache, added) =
        store_all(repository, &index, options, progress, shutdown)?;
    let stats = Stats {
        chunks_added: added.chunks,
        bytes_added: added.bytes,
        bytes_stored: added.bytes_stored,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..assembled.stats
    };
    let snapshot = Snapshot {
        version: snapshot::VERSION,
        name: options.name.clone(),
        time: options.time,
        host: options.host.clone(),
        tags: options.tags.clone(),
        state: if assembled.warning_count == 0 { State::Complete } else { State::Warnings },
        sources: options.sources.clone(),
        container: options.container.clone(),
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
    let name = commit(repository, &snapshot)?;
    if let Some(cache) = cache
        && let Err(error) = cache.finish()
    {
        tracing::warn!(
            "the cache cannot be written, so the next run will read everything: {error}"
        );
    }
    Ok(CreateReport { name: Some(name), snapshot })
}

/// Makes the packs a backup. Packs marked since the run began are on their way out, so a snapshot that
/// needs one would lose it.
fn commit(repository: &Repository, snapshot: &Snapshot) -> Result<SnapshotName, CreateError> {
    let marked = repository.marked_packs()?;
    let lost = snapshot.packs.iter().filter(|pack| marked.contains(pack)).count();
    if lost > 0 {
        return Err(CreateError::Marked(lost));
    }
    Ok(repository.put_snapshot(snapshot)?)
}

type Stored = (Assembled, TreeRoot, Option<CacheWriter>, Added);

/// Runs the threads: content into packs, entries into the tree, packs into the store.
fn store_all(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<Stored, CreateError> {
    let packer = Packer::new(repository, index, options.level, options.dry_run, progress, shutdown);
    let queue = TaskQueue::default();
    let (read_cache, write_cache) = caches(repository, options);
    let (items, for_tree) = bounded(ITEMS_QUEUED);
    let tree = thread::scope(|scope| {
        let uploads: Vec<_> = (0..options.uploads.max(1))
            .map(|_| {
                thread::Builder::new()
                    .name("upload".into())
                    .spawn_scoped(scope, || packer.upload_all())
            })
            .collect();
        let _close = packer.close_on_drop();
        // Without any of them the first full pack would wait for ever.
        let uploads: Vec<_> = uploads.into_iter().filter_map(Result::err).collect();
        uploads.into_iter().for_each(|error| packer.failure().set(CreateError::Thread(error)));
        let tree = thread::scope(|readers| {
            let packer = &packer;
            let failure = packer.failure();
            let worker = || worker(packer, &queue, repository, options, progress);
            let assembler = packer.stow(PackKind::Tree).and_then(|stow| {
                let assembler = Assembler::new(stow, worker()?, write_cache, failure);
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
                let mut sequencer =
                    Sequencer::new(&options.roots, read_cache, packer, &queue, items);
                let ended = walk(&options.roots, &options.walk, |event| sequencer.event(event));
                // What broke it off is in the failure already.
                tracing::debug!(whole = ended.is_continue(), "the walk has ended");
                sequencer.finish();
            }
            assembler.and_then(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        packer.close();
        tree
    });
    let added = packer.finish()?;
    let (root, assembled, cache) = tree.ok_or(CreateError::Stopped)?;
    Ok((assembled, root, cache, added))
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

/// The last run's cache and the one to write.
fn caches(
    repository: &Repository,
    options: &CreateOptions,
) -> (Option<CacheReader>, Option<CacheWriter>) {
    let Some(directory) = &options.cache else { return (None, None) };
    let roots: Vec<_> = options.roots.iter().map(SourceRoot::path).collect();
    let path = cache::path_of(directory, repository.id(), &options.name, &roots);
    let read = if options.read_all { None } else { CacheReader::open(&path) };
    if options.dry_run {
        return (read, None);
    }
    let written = CacheWriter::create(&path, options.time.as_second());
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
