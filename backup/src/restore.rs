//! A snapshot back to files.
//!
//! The tree is read in windows. In each, directories and nodes are made first, then every frame that
//! holds content of the window is fetched once, in pack order and in parallel, decoded, checked chunk by
//! chunk against its name and written; links follow, and directories get their metadata last.

mod delta;
mod plan;
pub mod select;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chores_common::exit::chain;
use chores_common::object::ErrorKind;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::entry::{Entry, FileContent, Kind, PathBytes, Timestamp, display_path};
use crate::index::Index;
use crate::pack::Decompressor;
use crate::reader::{ChunkReader, ReadError, slice_of};
use crate::repository::Repository;
use crate::snapshot::{Snapshot, State};
use crate::sources;
use crate::target::{Leftover, Lost, RestoreWarning, Target, TargetError};
use crate::threads;
use crate::tree::{TreeError, TreeReader};
use crate::walk::threads_default;
use plan::{ChunkJob, Fetch};
use select::{SelectError, Selection};
use write::{FileJob, FileWriter};

/// Entries of one window.
const WINDOW_ENTRIES_MAX: usize = 8192;

/// Chunks of one window; a single larger file makes a larger window.
const WINDOW_CHUNKS_MAX: usize = 131_072;

/// Warnings and damages kept for the report; the counts go on.
pub const REPORTED_MAX: usize = 100;

/// Mode of directories above a source that have to be made: the snapshot does not know them.
const PARENT_MODE: u32 = 0o755;

/// What may be in the target before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Nothing.
    Empty,
    /// Anything: the snapshot takes its place once it is whole.
    Replace,
    /// An older state: only what differs is written, what the snapshot does not have is removed.
    Delta,
}

/// What to restore and how.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Which part.
    pub selection: Selection,
    /// What may be there before.
    pub into: Into,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Let a snapshot that is not complete take the place of what is there.
    pub force: bool,
    /// Threads that fetch, decode and write.
    pub threads: usize,
    /// Where caches are kept; like the repository, it is never restored into or removed.
    pub cache: Option<PathBuf>,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Regular files made or changed.
    pub files: u64,
    /// Regular files that were right already (`--delta`).
    pub files_unchanged: u64,
    /// Directories.
    pub directories: u64,
    /// Links, nodes.
    pub others: u64,
    /// Paths removed because the snapshot does not have them (`--delta`).
    pub removed: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Regular files that changed while the snapshot was made: mixtures of moments.
    pub torn: u64,
    /// How many pieces of metadata could not be restored, and the first of them.
    pub warning_count: u64,
    /// The first [`REPORTED_MAX`] warnings.
    pub warnings: Vec<String>,
    /// How many files could not be restored because the repository is damaged.
    pub damaged_count: u64,
    /// The first [`REPORTED_MAX`] of them, with the problem.
    pub damaged: Vec<(String, String)>,
}

/// Why a restore ended early. What it had written stays, except with `Replace`, where the old state stays.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The choice does not fit the snapshot.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The target cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target has something in it.
    #[error(
        "{0} is not empty: name an empty directory, or add --replace (the snapshot takes its place) or --delta (only differences are written)"
    )]
    NotEmpty(String),
    /// Too little space.
    #[error("{place} has {free} bytes free, the restore needs {needed}")]
    Space {
        /// The target.
        place: String,
        /// Free bytes.
        free: u64,
        /// Bytes of content.
        needed: u64,
    },
    /// The tree cannot be read.
    #[error("the snapshot cannot be read to its end")]
    Tree(#[source] TreeError<ReadError>),
    /// The store failed.
    #[error("cannot read from the repository")]
    Read(#[source] ReadError),
    /// Parts are damaged, so the old state was kept.
    #[error(
        "{0} files of the snapshot are damaged: the old content stays; restore to another place to get the rest"
    )]
    Damaged(u64),
    /// The target is the root directory.
    #[error("--replace and --delta refuse the root directory")]
    Root,
    /// The target is inside the repository or the cache.
    #[error("{0} is inside the repository or its cache: name a target outside")]
    InsideOwn(String),
    /// A part of the snapshot would take the place of everything.
    #[error(
        "--replace with a part of the snapshot would remove the rest of the target: use --delta, which stays in the chosen part"
    )]
    Partial,
    /// What the snapshot lacks would be removed.
    #[error(
        "the snapshot is not complete ({state}, {warnings} warnings): what could not be saved would be removed here; restore to an empty place, or add --force"
    )]
    Incomplete {
        /// The snapshot's state.
        state: State,
        /// How many warnings it has.
        warnings: u64,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// No name for the place to restore into.
    #[error("cannot get random numbers from the kernel")]
    Random(#[source] getrandom::Error),
    /// A file changed while `--delta` compared it.
    #[error("cannot compare {0}")]
    Compare(String, #[source] std::io::Error),
}

/// Restores `snapshot` into the directory `into_path`, which is made when it is missing.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    into_path: &Path,
    options: &RestoreOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<RestoreReport, RestoreError> {
    let place = repository.store().objects().location();
    let own =
        sources::identities(&sources::own_directories(Some(&place), options.cache.as_deref()));
    refuse_inside(into_path, &own)?;
    refuse_loss(snapshot, options.into, options.selection.is_whole(), options.force)?;
    let (index, _unreadable) = repository
        .index_for_reading([snapshot])
        .map_err(|error| RestoreError::Read(ReadError::Repository(Box::new(error))))?;
    let survey = survey(repository, &index, snapshot, &options.selection, shutdown)?;
    progress.set_totals(survey.report.files, survey.data_bytes);
    let preflight = |target: &Target| preflight(target, options, &own, survey.data_bytes);
    if options.dry_run {
        dry_preflight(into_path, options, survey.data_bytes, preflight)?;
        return Ok(survey.report);
    }
    make_target(into_path)?;
    let target = Target::open(into_path)?;
    preflight(&target)?;
    let run = Run { repository, index: &index, snapshot, options, own: &own, progress, shutdown };
    let report = match options.into {
        Into::Empty => run.restore_into(&target),
        Into::Delta => run.delta(&target),
        Into::Replace => run.replace(&target),
    }?;
    Ok(RestoreReport { torn: survey.report.torn, ..report })
}

/// What the chosen part of a snapshot has, and what of that is in no readable pack; nothing is written.
pub fn look(
    repository: &Repository,
    snapshot: &Snapshot,
    selection: &Selection,
    shutdown: &Shutdown,
) -> Result<RestoreReport, RestoreError> {
    let (index, _unreadable) = repository
        .index_for_reading([snapshot])
        .map_err(|error| RestoreError::Read(ReadError::Repository(Box::new(error))))?;
    Ok(survey(repository, &index, snapshot, selection, shutdown)?.report)
}

/// What the chosen part holds.
struct Survey {
    report: RestoreReport,
    data_bytes: u64,
}

/// Reads the tree once without touching the target: totals for the progress, the preflight and dry runs.
fn survey(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    selection: &Selection,
    shutdown: &Shutdown,
) -> Result<Survey, RestoreError> {
    let mut report = RestoreReport::default();
    let mut data_bytes = 0_u64;
    let mut entries = TreeReader::new(&snapshot.tree, reader(repository, index)?);
    while let Some(entry) = entries.next_entry().map_err(RestoreError::Tree)? {
        if shutdown.is_requested() {
            return Err(RestoreError::Interrupted);
        }
        if !selection.restores(&entry.path) {
            continue;
        }
        match &entry.kind {
            Kind::Directory => report.directories += 1,
            Kind::File(content) => {
                report.files += 1;
                report.torn += u64::from(content.torn);
            }
            _ => report.others += 1,
        }
        if entry.hardlink_of.is_none() {
            match plan::data_bytes(&entry, index) {
                Some(bytes) => data_bytes = data_bytes.saturating_add(bytes),
                None => {
                    report.damage(&entry.path, "a chunk of it is in no readable pack".to_owned());
                }
            }
        }
    }
    report.bytes = data_bytes;
    if report.files + report.directories + report.others == 0 {
        return Err(select::nothing_at(selection).into());
    }
    Ok(Survey { report, data_bytes })
}

fn reader<'a>(
    repository: &'a Repository,
    index: &'a Index,
) -> Result<ChunkReader<'a>, RestoreError> {
    ChunkReader::new(repository, index).map_err(RestoreError::Read)
}

fn make_target(path: &Path) -> Result<(), TargetError> {
    std::fs::create_dir_all(path).map_err(|source| TargetError::Io {
        act: "make the directory",
        path: path.display().to_string(),
        source,
    })
}

/// Refuses a target that the restore cannot or must not be made in; nothing is touched.
fn preflight(
    target: &Target,
    options: &RestoreOptions,
    own: &[(u64, u64)],
    needed: u64,
) -> Result<(), RestoreError> {
    let is_root = || target.path().canonicalize().is_ok_and(|path| path == Path::new("/"));
    if options.into == Into::Empty {
        if !target.is_empty()? {
            return Err(RestoreError::NotEmpty(target.path().display().to_string()));
        }
        return refuse_full(target, needed);
    }
    if is_root() {
        return Err(RestoreError::Root);
    }
    // A delta that is carried out looks for them while it compares.
    if options.into == Into::Replace || options.dry_run {
        target.refuse_own(threads_default(), own)?;
    }
    if options.into == Into::Replace {
        target.refuse_mounts_inside()?;
        refuse_full(target, needed)?;
    }
    Ok(())
}

/// What [`preflight`] says where the target may have to be made first: then only the space above counts.
fn dry_preflight(
    path: &Path,
    options: &RestoreOptions,
    needed: u64,
    preflight: impl Fn(&Target) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    if path.exists() {
        return preflight(&Target::open(path)?);
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match absolute.ancestors().find(|above| above.exists()) {
        Some(above) if options.into != Into::Delta => refuse_full(&Target::open(above)?, needed),
        _ => Ok(()),
    }
}

/// Refuses to remove what is in a target where the snapshot, or the part of it that was chosen (`whole`
/// says that it is all), does not stand for it.
pub fn refuse_loss(
    snapshot: &Snapshot,
    into: Into,
    whole: bool,
    force: bool,
) -> Result<(), RestoreError> {
    if into == Into::Replace && !whole {
        return Err(RestoreError::Partial);
    }
    if into == Into::Empty || snapshot.state == State::Complete || force {
        return Ok(());
    }
    Err(RestoreError::Incomplete { state: snapshot.state, warnings: snapshot.warning_count })
}

/// Refuses a target that is one of the directories `own` or below it, or would be made there.
fn refuse_inside(path: &Path, own: &[(u64, u64)]) -> Result<(), RestoreError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    let inside = existing.iter().flat_map(|existing| existing.ancestors()).any(|above| {
        sources::identities(&[above.to_owned()]).iter().any(|identity| own.contains(identity))
    });
    if inside { Err(RestoreError::InsideOwn(path.display().to_string())) } else { Ok(()) }
}

fn refuse_full(target: &Target, needed: u64) -> Result<(), RestoreError> {
    let free = target.free_bytes()?;
    if free >= needed {
        return Ok(());
    }
    Err(RestoreError::Space { place: target.path().display().to_string(), free, needed })
}

/// What every part of one restore needs.
struct Run<'a> {
    repository: &'a Repository,
    index: &'a Index,
    snapshot: &'a Snapshot,
    options: &'a RestoreOptions,
    /// Device and inode of the repository and the cache.
    own: &'a [(u64, u64)],
    progress: &'a Progress,
    shutdown: &'a Shutdown,
}

impl Run<'_> {
    fn replace(&self, target: &Target) -> Result<RestoreReport, RestoreError> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(RestoreError::Random)?;
        let (staging, leftovers) = target.stage(u64::from_le_bytes(id))?;
        for leftover in leftovers {
            match leftover {
                Leftover::Removed => tracing::info!("removed what an interrupted restore had left"),
                Leftover::Completed => tracing::info!("completed an interrupted restore first"),
            }
        }
        let outcome = self.restore_whole(staging.target());
        let (mut report, top) = match outcome {
            Ok((report, top)) if report.damaged_count == 0 => (report, top),
            Ok((report, _)) => {
                target.abandon(staging)?;
                report
                    .damaged
                    .iter()
                    .for_each(|(path, problem)| tracing::error!("{path}: {problem}"));
                return Err(RestoreError::Damaged(report.damaged_count));
            }
            Err(error) => {
                target.abandon(staging)?;
                return Err(error);
            }
        };
        target.swap_in(staging)?;
        // Staging carried the content; the target itself keeps its inode and gets the metadata here.
        if let Some(top) = top {
            target.finish(&top, None)?.iter().for_each(|warning| report.warn(warning));
        }
        Ok(report)
    }

    fn restore_into(&self, target: &Target) -> Result<RestoreReport, RestoreError> {
        self.restore_whole(target).map(|(report, _)| report)
    }

    /// Restores everything chosen into an empty directory, or over one that `delta` has prepared. Returns
    /// the entry of the target itself too, where the snapshot has one.
    fn restore_whole(
        &self,
        target: &Target,
    ) -> Result<(RestoreReport, Option<Entry>), RestoreError> {
        let mut top = None;
        let mut window = Window::new(self, target);
        let mut entries =
            TreeReader::new(&self.snapshot.tree, reader(self.repository, self.index)?);
        while let Some(entry) = entries.next_entry().map_err(RestoreError::Tree)? {
            // `--delta` compares while it reads the tree, which can take as long as writing.
            if self.shutdown.is_requested() {
                return Err(RestoreError::Interrupted);
            }
            if !self.options.selection.restores(&entry.path) {
                window.warn_where_reserved(entry.path);
                continue;
            }
            if window.is_full() {
                window.work()?;
                window.finish_directories(Some(self.options.selection.place(&entry.path)))?;
            }
            if entry.kind == Kind::Directory && self.options.selection.place(&entry.path).is_empty()
            {
                top = Some(self.options.selection.placed(entry.clone()));
            }
            window.add(entry)?;
        }
        window.work()?;
        window.finish_directories(None)?;
        Ok((window.shared.into_report(), top))
    }
}

/// A stretch of the tree that is restored together.
struct Window<'a> {
    run: &'a Run<'a>,
    target: &'a Target,
    writer: FileWriter<'a>,
    entries: usize,
    files: Vec<FileJob>,
    jobs: Vec<ChunkJob>,
    /// Further names, made when the content is there: the first name's path in the target, the entry.
    links: Vec<(PathBytes, Entry)>,
    /// Directories whose metadata waits until nothing more is made in them.
    directories: Vec<Entry>,
    /// The directory that was made last; it and all above it exist.
    last_directory: PathBytes,
    /// For files whose first name is not restored: the name that stands in for it.
    stand_ins: HashMap<PathBytes, PathBytes>,
    /// First names that are not what the snapshot has: their further names are not made.
    not_made: HashMap<PathBytes, NotMade>,
    shared: Shared,
}

/// Why a path is not what the snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotMade {
    /// The repository is damaged.
    Damaged,
    /// It is a socket, or a device that this user may not make: there is a warning about it.
    Lost,
}

/// What the threads of a window share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    error: Mutex<Option<RestoreError>>,
    report: Mutex<RestoreReport>,
    bytes: AtomicU64,
}

impl Shared {
    fn fail(&self, error: RestoreError) {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn warn(&self, warnings: &[RestoreWarning]) {
        if !warnings.is_empty() {
            let mut report = lock(&self.report);
            warnings.iter().for_each(|warning| report.warn(warning));
        }
    }

    fn into_report(self) -> RestoreReport {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.bytes = self.bytes.into_inner();
        report
    }
}

impl RestoreReport {
    fn warn(&mut self, warning: &RestoreWarning) {
        if warning.what == Lost::Socket {
            // Nothing is lost: a socket is only the address of a running server.
            tracing::info!("{warning}");
            return;
        }
        self.warn_of(warning.to_string());
    }

    fn warn_of(&mut self, warning: String) {
        tracing::warn!("{warning}");
        self.warning_count += 1;
        if self.warnings.len() < REPORTED_MAX {
            self.warnings.push(warning);
        }
    }

    fn damage(&mut self, path: &[u8], problem: String) {
        let path = display_path(path);
        tracing::error!("{path} is damaged in the repository: {problem}");
        self.damaged_count += 1;
        if self.damaged.len() < REPORTED_MAX {
            self.damaged.push((path, problem));
        }
    }
}

impl<'a> Window<'a> {
    fn new(run: &'a Run<'a>, target: &'a Target) -> Self {
        Self {
            run,
            target,
            writer: FileWriter::new(target),
            entries: 0,
            files: Vec::new(),
            jobs: Vec::new(),
            links: Vec::new(),
            directories: Vec::new(),
            last_directory: PathBytes::new(),
            stand_ins: HashMap::new(),
            not_made: HashMap::new(),
            shared: Shared::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries >= WINDOW_ENTRIES_MAX || self.jobs.len() >= WINDOW_CHUNKS_MAX
    }

    /// Names a chosen path that is not made because of its name; what is below it goes without saying.
    fn warn_where_reserved(&self, path: PathBytes) {
        let selection = &self.run.options.selection;
        let place = selection.place(&path);
        if selection.holds(&path) && crate::beneath::split_last(place).0.is_empty() {
            self.shared.warn(&[RestoreWarning { path, what: Lost::Reserved, source: None }]);
        }
    }

    fn add(&mut self, mut entry: Entry) -> Result<(), RestoreError> {
        self.entries += 1;
        let selection = &self.run.options.selection;
        // All that is above the last directory exists, so this asks the kernel only at a new source.
        let place = selection.place(&entry.path);
        let (parent, _) = crate::beneath::split_last(place);
        if !select::is_inside(&self.last_directory, parent) {
            self.make_parents(place)?;
            self.last_directory = parent.to_vec();
        }
        if let Some(first) = entry.hardlink_of.take() {
            let place = if selection.restores(&first) {
                Some(selection.place(&first).to_vec())
            } else {
                let here = selection.place(&entry.path).to_vec();
                match self.stand_ins.entry(first) {
                    std::collections::hash_map::Entry::Occupied(known) => Some(known.get().clone()),
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(here);
                        None
                    }
                }
            };
            if let Some(first) = place {
                self.links.push((first, selection.placed(entry)));
                return Ok(());
            }
        }
        let entry = selection.placed(entry);
        if matches!(entry.kind, Kind::File(_)) {
            self.add_file(entry)
        } else {
            self.add_other(entry)
        }
    }

    /// Directories above the sources get a usual mode: the snapshot does not know theirs.
    fn make_parents(&mut self, path: &[u8]) -> Result<(), RestoreError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends {
            let parent = path.get(..end).unwrap_or_default();
            if self.target.stat(parent)?.is_some() {
                continue;
            }
            self.target.make_directory(parent)?;
            let now = jiff::Timestamp::now();
            let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            self.directories.push(Entry {
                path: parent.to_vec(),
                kind: Kind::Directory,
                mode: PARENT_MODE,
                uid: user.0,
                gid: user.1,
                mtime: Timestamp { seconds: now.as_second(), nanos: 0 },
                xattrs: Vec::new(),
                hardlink_of: None,
            });
        }
        Ok(())
    }

    fn add_other(&mut self, entry: Entry) -> Result<(), RestoreError> {
        let mut report = lock(&self.shared.report);
        if entry.kind == Kind::Directory {
            report.directories += 1;
            self.target.make_directory(&entry.path)?;
            drop(report);
            self.last_directory.clone_from(&entry.path);
            self.directories.push(entry);
            return Ok(());
        }
        report.others += 1;
        drop(report);
        if self.run.options.into == Into::Delta && delta::is_same_node(self.target, &entry)? {
            self.shared.warn(&self.target.finish_where_different(&entry)?);
            return Ok(());
        }
        match self.target.make_node(&entry)? {
            Some(lost) => {
                self.shared.warn(&[lost]);
                self.not_made.insert(entry.path, NotMade::Lost);
            }
            None => self.shared.warn(&self.target.finish(&entry, None)?),
        }
        Ok(())
    }

    fn add_file(&mut self, mut entry: Entry) -> Result<(), RestoreError> {
        let Kind::File(content) = &mut entry.kind else { return Ok(()) };
        let content = std::mem::take(content);
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let mut jobs = match plan::jobs_of(&content, number, self.run.index) {
            Ok(jobs) => jobs,
            Err(problem) => {
                lock(&self.shared.report).damage(&entry.path, problem.to_string());
                self.not_made.insert(entry.path, NotMade::Damaged);
                return Ok(());
            }
        };
        entry.kind = Kind::File(FileContent { size: content.size, ..FileContent::default() });
        let mut exists = false;
        if self.run.options.into == Into::Delta {
            let key = self.run.repository.key();
            let compared = delta::compare(self.target, &entry.path, &content, &jobs, key)?;
            let mut changed = false;
            if let Some((wrong, already)) = compared {
                exists = true;
                jobs = wrong;
                changed = already;
            }
            if exists && jobs.is_empty() {
                let mut report = lock(&self.shared.report);
                report.files += u64::from(changed);
                report.files_unchanged += u64::from(!changed);
                drop(report);
                self.run.progress.add_files(1);
                self.shared.warn(&self.target.finish_where_different(&entry)?);
                return Ok(());
            }
        }
        lock(&self.shared.report).files += 1;
        let chunks = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let job = FileJob::new(entry, content.size, chunks, exists);
        if jobs.is_empty() {
            self.shared.warn(&self.writer.without_data(&job)?);
            self.run.progress.add_files(1);
        } else {
            self.jobs.append(&mut jobs);
            self.files.push(job);
        }
        Ok(())
    }

    /// Fetches and writes the window's content, then makes its links.
    fn work(&mut self) -> Result<(), RestoreError> {
        let fetches = plan::fetches(&mut self.jobs, self.run.index);
        let next = AtomicUsize::new(0);
        let this = &*self;
        let helpers = this.run.options.threads.saturating_sub(1);
        threads::on_each("restore", helpers, || this.fetch_all(&fetches, &next));
        if let Some(error) = lock(&self.shared.error).take() {
            return Err(error);
        }
        for job in self.files.drain(..).filter(FileJob::has_failed) {
            self.writer.give_up(&job);
            // With `--delta` the live file may be the only one there is.
            if !job.existed {
                self.target.remove_tree(&job.entry.path)?;
            }
            self.not_made.insert(job.entry.path, NotMade::Damaged);
        }
        self.jobs.clear();
        self.entries = 0;
        for (first, entry) in std::mem::take(&mut self.links) {
            self.link(&first, &entry)?;
        }
        Ok(())
    }

    fn link(&mut self, first: &[u8], entry: &Entry) -> Result<(), RestoreError> {
        let mut report = lock(&self.shared.report);
        match self.not_made.get(first) {
            Some(NotMade::Lost) => {
                report.warn_of(format!(
                    "{} was not made: its other name {} was not",
                    display_path(&entry.path),
                    display_path(first)
                ));
                return Ok(());
            }
            None if self.target.stat(first)?.is_some() => (),
            Some(NotMade::Damaged) | None => {
                report.damage(
                    &entry.path,
                    format!("its other name {} was not restored", display_path(first)),
                );
                return Ok(());
            }
        }
        match entry.kind {
            Kind::File(_) => report.files += 1,
            _ => report.others += 1,
        }
        drop(report);
        if self.run.options.into == Into::Delta {
            self.target.remove_tree(&entry.path)?;
        }
        self.target.make_hard_link(first, &entry.path)?;
        self.run.progress.add_files(1);
        Ok(())
    }

    /// Gives directories their metadata, children first, but those that `next` will still go into.
    fn finish_directories(&mut self, next: Option<&[u8]>) -> Result<(), RestoreError> {
        let still_open =
            |directory: &Entry| next.is_some_and(|next| select::is_inside(next, &directory.path));
        while let Some(directory) = self.directories.pop_if(|directory| !still_open(directory)) {
            self.shared.warn(&self.target.finish_where_different(&directory)?);
        }
        Ok(())
    }

    fn fetch_all(&self, fetches: &[Fetch], next: &AtomicUsize) {
        let mut frame = Vec::new();
        let mut decompressor = match Decompressor::new() {
            Ok(decompressor) => decompressor,
            Err(error) => {
                return self.shared.fail(RestoreError::Read(ReadError::Decompress(error)));
            }
        };
        while let Some(fetch) = fetches.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.run.shutdown.is_requested() {
                self.shared.fail(RestoreError::Interrupted);
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.fetch(fetch, &mut decompressor, &mut frame) {
                self.shared.fail(error);
            }
        }
    }

    fn fetch(
        &self,
        fetch: &Fetch,
        decompressor: &mut Decompressor,
        frame: &mut Vec<u8>,
    ) -> Result<(), RestoreError> {
        let Some(pack) = self.run.index.pack(fetch.pack) else { return Ok(()) };
        let range = u64::from(fetch.start)..u64::from(fetch.end);
        let read = self.run.repository.read_pack(pack.id, pack.bytes, range);
        let bytes = match read.map_err(ReadError::from) {
            Ok(bytes) => bytes,
            // A pack that was cut short, or is damaged somewhere, may still have some of these frames.
            Err(error) if fetch.frames.len() > 1 && may_be_in_part(&error) => {
                return fetch
                    .one_by_one()
                    .try_for_each(|single| self.fetch(&single, decompressor, frame));
            }
            Err(error) if error.is_damage() => {
                let problem = chain(&error);
                return fetch
                    .frames
                    .iter()
                    .try_for_each(|part| self.take_copies(&part.jobs, &problem));
            }
            Err(error) => return Err(RestoreError::Read(error)),
        };
        for part in &fetch.frames {
            let start = (part.frame.start - fetch.start) as usize;
            let stored = bytes.get(start..start + part.frame.stored as usize).unwrap_or_default();
            match decompressor.frame(stored, part.frame.content, frame) {
                Ok(()) => self.write_frame(&part.jobs, frame)?,
                Err(error) => {
                    self.take_copies(&part.jobs, &chain(&ReadError::Pack(pack.id, error)))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the chunks of one decoded frame to every place that wants them.
    fn write_frame(&self, jobs: &std::ops::Range<usize>, frame: &[u8]) -> Result<(), RestoreError> {
        let mut checked = None;
        for (number, job) in jobs.clone().zip(self.jobs.get(jobs.clone()).unwrap_or_default()) {
            let content = slice_of(frame, &job.place).unwrap_or_default();
            // Sorted by place, so the jobs of one chunk are neighbours and it is checked once.
            if checked != Some(job.id) && self.run.repository.key().id_of(content) != job.id {
                let problem = format!("the chunk {} has another content", job.id);
                self.take_copies(&(number..number + 1), &problem)?;
                continue;
            }
            checked = Some(job.id);
            self.write_chunk(job, content)?;
        }
        Ok(())
    }

    fn write_chunk(&self, job: &ChunkJob, content: &[u8]) -> Result<(), RestoreError> {
        let Some(file) = self.files.get(job.file as usize) else { return Ok(()) };
        if file.has_failed() {
            return Ok(());
        }
        let lost = self.writer.piece(file, job.offset, content)?;
        self.shared.warn(&lost);
        self.shared.bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
        self.run.progress.add_bytes(content.len() as u64);
        Ok(())
    }

    /// Writes the chunks of a frame that cannot be had from other packs that have them too. A file with a
    /// chunk that has no other place is damaged by `problem`.
    fn take_copies(
        &self,
        jobs: &std::ops::Range<usize>,
        problem: &str,
    ) -> Result<(), RestoreError> {
        let mut reader = reader(self.run.repository, self.run.index)?;
        for job in self.jobs.get(jobs.clone()).unwrap_or_default() {
            let Some(file) = self.files.get(job.file as usize) else { continue };
            if file.has_failed() {
                continue;
            }
            match reader.copy(&job.id) {
                Ok(Some(content)) => self.write_chunk(job, content)?,
                Ok(None) => self.damage_file(file, problem),
                Err(error) => return Err(RestoreError::Read(error)),
            }
        }
        Ok(())
    }

    fn damage_file(&self, file: &FileJob, problem: &str) {
        if file.fail() {
            let kept = if file.existed { "; the file there stays, changed in part" } else { "" };
            lock(&self.shared.report).damage(&file.entry.path, format!("{problem}{kept}"));
        }
    }
}

/// Whether a smaller part of the same pack may be whole.
fn may_be_in_part(error: &ReadError) -> bool {
    match error {
        ReadError::Store(error) => error.kind() == ErrorKind::Corrupt,
        error => matches!(error, ReadError::Sealed(..)) && error.is_damage(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
