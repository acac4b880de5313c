//! Is everything there that the snapshots need, and is it what it was?
//!
//! First all names and lengths, then on request whole packs, last every tree to its end, so that damage
//! found before is traced to the snapshots and paths it hurts. Nothing is changed.

mod bad;
mod output;
mod percent;
mod trees;
mod verify;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chores_common::exit::chain;
use chores_common::object::{ErrorKind, ObjectError};
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::index::{Index, IndexedPack, KnownPack};
use crate::keys::content::ContentError;
use crate::mark::MarkError;
use crate::moved::MoveError;
use crate::pack::{Decompressor, PACK_BYTES_MAX, PackId, PackKind};
use crate::reader::ReadError;
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{Snapshot, SnapshotId, SnapshotName};
use crate::threads;
use bad::{BadPack, BadPacks};
pub use output::{write_json, write_text};
pub use percent::{InvalidPercent, Percent};
use verify::{Expected, Stored, Verifier};

/// Problems of objects, and warnings, kept for the report; the counts go on. As many again are kept of
/// the paths they hurt.
pub const PROBLEMS_MAX: usize = 10_000;

/// Hurt paths of one snapshot kept for the report; the counts go on.
pub const PATHS_PER_SNAPSHOT_MAX: usize = 100;

/// Characters of a path kept for the report.
const PATH_CHARS_MAX: usize = 4096;

/// What to check and how.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// The share of the packs to read whole; without it content is not read.
    pub read_data: Option<Percent>,
    /// Which share: each number takes the one behind the number before, so counting days reads all packs
    /// within `100 / percent` days.
    pub rotation: u64,
    /// Threads that read; each holds one pack.
    pub threads: usize,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckProblem {
    /// Key of the object at fault, or of the snapshot whose tree contradicts itself.
    pub object: String,
    /// The snapshot it hurts; `None` for what is wrong with the object itself.
    pub snapshot: Option<SnapshotId>,
    /// The path it hurts.
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// How many problems there are.
    pub problem_count: u64,
    /// The first of them: objects, then the paths they hurt.
    pub problems: Vec<CheckProblem>,
    /// How many things are no damage but want attention.
    pub warning_count: u64,
    /// The first of them.
    pub warnings: Vec<CheckProblem>,
    /// Snapshots found.
    pub snapshots: u64,
    /// Entries of all their trees.
    pub entries: u64,
    /// Packs in the store.
    pub packs: u64,
    /// Their length in bytes.
    pub pack_bytes: u64,
    /// Packs read whole.
    pub packs_read: u64,
    /// Their length in bytes.
    pub bytes_read: u64,
    /// Packs that no index and no snapshot names: left by interrupted runs.
    pub orphan_packs: u64,
    /// Their length in bytes.
    pub orphan_bytes: u64,
    /// Temporary files: of writers that were killed or are at work.
    pub temporary_files: u64,
    /// Their length in bytes.
    pub temporary_bytes: u64,
    /// Packs that an index names but no snapshot needs.
    pub unused_packs: u64,
    /// Packs in the store that are marked for removal.
    pub marked_packs: u64,
    /// Their length in bytes.
    pub marked_bytes: u64,
    /// No private key was given: trees and content were not looked at, and of packs that were read only whether they are what
    /// was stored.
    pub keyless: bool,
    /// Snapshots that are encrypted for others than the private key that was given: their trees were not looked at.
    pub closed_snapshots: u64,
    /// Packs that were read and are encrypted for others than it: looked at as without a private key.
    pub closed_packs: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    /// Whether something stayed closed to the private key that was given.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.closed_snapshots > 0 || self.closed_packs > 0
    }

    fn object(&mut self, object: &str, problem: String) {
        self.add(CheckProblem { object: object.to_owned(), snapshot: None, path: None, problem });
    }

    fn add(&mut self, problem: CheckProblem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, warning: CheckProblem) {
        self.warning_count += 1;
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(warning);
        }
    }
}

/// Why a check could not be finished: not damage, and no verdict either.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// Chunks cannot be read on this machine.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// SIGINT or SIGTERM.
    #[error("interrupted: not everything was checked")]
    Interrupted,
}

/// Checks a repository. Damage is in the report; an error means that the store or this machine failed.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<CheckReport, CheckError> {
    repository.permit(Operation::Read)?;
    let mut report = CheckReport { keyless: !repository.can_read(), ..CheckReport::default() };
    // Runs write packs, then the index, then the snapshot: read the other way round, all that a document
    // names must be there already.
    let snapshots = read_snapshots(repository, &mut report)?;
    let objects = repository.index_objects()?;
    for (key, error) in &objects.damaged {
        report.object(key, chain(error));
    }
    let trailers = trailers(&objects.packs, &mut report);
    let for_us = objects.packs.iter().filter(|pack| repository.is_for_us(pack));
    let for_us: HashSet<_> = for_us.map(|pack| pack.id).collect();
    let others = Others { reads_now: repository.reads_what_is_saved(), for_us: &for_us };
    let (index, unreadable) =
        repository.complete_index(objects, snapshots.iter().map(|(_, snapshot)| snapshot));
    let stored = repository.stored_packs()?;
    let temporaries = repository.store().temporaries()?;
    report.temporary_files = temporaries.len() as u64;
    report.temporary_bytes = temporaries.iter().map(|file| file.size).sum();
    let marked = marked_packs(repository, &mut report)?;
    for (key, read) in repository.move_objects()? {
        match read {
            Ok(_) => {}
            Err(error @ RepositoryError::Move(_, MoveError::Version(_))) => {
                return Err(error.into());
            }
            Err(error) => report.object(&key, damage_of(error)?),
        }
    }

    count_packs(&index, &snapshots, &stored, &marked, &mut report);
    let (mut bad, closed) = unreadable_packs(unreadable, &mut report)?;
    let needed: HashSet<_> = snapshots.iter().flat_map(|(_, snapshot)| &snapshot.packs).collect();
    for (pack, misfit) in misfits(&index, &stored) {
        if needed.contains(&pack) || stored.contains_key(&pack) {
            bad.insert(pack, misfit);
        } else {
            report.warn(CheckProblem {
                object: pack.key(),
                snapshot: None,
                path: None,
                problem: "an index names it, it is not there, and no snapshot needs it: a prune is at work, or the next \
                          one mends the index"
                    .to_owned(),
            });
        }
    }
    if let Some(percent) = options.read_data {
        let reads = PackReads {
            repository,
            trailers: &trailers,
            others,
            stored: &stored,
            options,
            progress,
            shutdown,
        };
        // Where packs can be decrypted, their own indexes were read.
        let unindexed: Vec<_> = closed
            .iter()
            .filter_map(|id| {
                let bytes = *stored.get(id)?;
                Some(KnownPack { id: *id, bytes, kind: PackKind::Data, frames: Box::default() })
            })
            .collect();
        let packs = index.packs().iter().chain(&unindexed);
        reads.run(packs, percent, &mut bad, &mut report)?;
    }
    for (pack, bad) in &bad {
        report.object(&pack.key(), bad.problem.clone());
    }
    warn_of_marks(&snapshots, &marked, &mut report);
    if !report.keyless {
        let known = trees::Known { index: &index, bad: &bad, others };
        trees::check_all(repository, known, &snapshots, options, shutdown, &mut report)?;
    } else {
        blame_snapshots(&snapshots, &bad, &mut report);
    }
    // The names that these objects have in the store.
    for problem in report.problems.iter_mut().chain(&mut report.warnings) {
        if let Some(pack) = PackId::from_key(&problem.object) {
            problem.object = repository.pack_key(&pack);
        }
    }
    Ok(report)
}

/// Whether the object itself is at fault, not the way to it. The repository was opened through the same
/// door, so a refusal of another kind (a bad sector is one) concerns this object.
fn is_damage(error: &ObjectError) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Invalid)
}

/// A problem of an object, or the failure of the store behind it.
fn damage_of(error: RepositoryError) -> Result<String, CheckError> {
    match error {
        RepositoryError::Store(error) if !is_damage(&error) => Err(error.into()),
        error => Ok(chain(&error)),
    }
}

fn read_snapshots(
    repository: &Repository,
    report: &mut CheckReport,
) -> Result<Vec<(SnapshotName, Snapshot)>, CheckError> {
    let mut sound = Vec::new();
    for (name, read) in repository.snapshots()? {
        let problem = match read {
            Ok(snapshot) => {
                report.snapshots += 1;
                sound.push((name, snapshot));
                continue;
            }
            // Somebody removed it since the listing.
            Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => damage_of(error)?,
        };
        report.snapshots += 1;
        let (object, snapshot) = (name.key(), Some(name.id));
        report.add(CheckProblem { object, snapshot, path: None, problem });
    }
    Ok(sound)
}

/// Fingerprints of what the index objects say of each pack.
fn trailers(packs: &[IndexedPack], report: &mut CheckReport) -> HashMap<PackId, blake3::Hash> {
    let mut trailers = HashMap::new();
    for pack in packs {
        let trailer = verify::fingerprint(pack.bytes, &pack.index);
        if *trailers.entry(pack.id).or_insert(trailer) != trailer {
            let problem = "two index objects say different things of it".to_owned();
            report.object(&pack.id.key(), problem);
        }
    }
    trailers
}

fn marked_packs(
    repository: &Repository,
    report: &mut CheckReport,
) -> Result<HashSet<PackId>, CheckError> {
    match repository.marked_packs() {
        Ok(marked) => Ok(marked),
        Err(RepositoryError::Mark(key, error)) => {
            if let MarkError::Version(_) = error {
                return Err(RepositoryError::Mark(key, error).into());
            }
            report.object(&key, chain(&error));
            Ok(HashSet::new())
        }
        Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::Corrupt => {
            report.object(error.key(), error.to_string());
            Ok(HashSet::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn count_packs(
    index: &Index,
    snapshots: &[(SnapshotName, Snapshot)],
    stored: &BTreeMap<PackId, u64>,
    marked: &HashSet<PackId>,
    report: &mut CheckReport,
) {
    for bytes in stored.iter().filter(|(id, _)| marked.contains(id)).map(|(_, bytes)| bytes) {
        report.marked_packs += 1;
        report.marked_bytes += bytes;
    }
    let needed: HashSet<_> =
        snapshots.iter().flat_map(|(_, snapshot)| &snapshot.packs).copied().collect();
    let indexed: HashSet<_> = index.packs().iter().map(|pack| pack.id).collect();
    report.packs = stored.len() as u64;
    report.pack_bytes = stored.values().sum();
    report.unused_packs = indexed.difference(&needed).count() as u64;
    for (id, bytes) in stored {
        if !indexed.contains(id) && !needed.contains(id) {
            report.orphan_packs += 1;
            report.orphan_bytes += bytes;
        }
    }
}

/// Packs of snapshots that no index object names and that cannot be read either; and those of them that nobody without another
/// private key can judge.
fn unreadable_packs(
    unreadable: HashMap<PackId, RepositoryError>,
    report: &mut CheckReport,
) -> Result<(BadPacks, Vec<PackId>), CheckError> {
    let (mut bad, mut closed) = (BadPacks::new(), Vec::new());
    for (id, error) in unreadable {
        let whose = match error {
            RepositoryError::NoIdentity(_) => "the private key",
            RepositoryError::Content(_, ContentError::Identity) => "another private key",
            error => {
                bad.insert(id, BadPack::whole(damage_of(error)?));
                continue;
            }
        };
        closed.push(id);
        report.warn(CheckProblem {
            object: id.key(),
            snapshot: None,
            path: None,
            problem: format!("no index names it, and its own can only be read with {whose}"),
        });
    }
    Ok((bad, closed))
}

/// Who tells packs for others from packs that somebody spoiled.
#[derive(Clone, Copy, Debug)]
struct Others<'a> {
    /// The private key that was given is that of a recipient of today.
    reads_now: bool,
    /// Packs that are encrypted for the recipients of today.
    for_us: &'a HashSet<PackId>,
}

impl Others<'_> {
    /// Whether a pack that the private key does not open need not be one that it opens.
    fn may_have(&self, pack: &PackId) -> bool {
        !self.reads_now || !self.for_us.contains(pack)
    }
}

/// Tells which snapshots name bad packs, where their trees cannot be read.
fn blame_snapshots(
    snapshots: &[(SnapshotName, Snapshot)],
    bad: &BadPacks,
    report: &mut CheckReport,
) {
    for (name, snapshot) in snapshots {
        for (pack, bad) in snapshot.packs.iter().filter_map(|pack| Some((pack, bad.get(pack)?))) {
            report.add(CheckProblem {
                object: pack.key(),
                snapshot: Some(name.id),
                path: None,
                problem: format!("the snapshot names this pack: {}", bad.problem),
            });
        }
    }
}

/// Packs that are not there, or not as long as the index says.
fn misfits(
    index: &Index,
    stored: &BTreeMap<PackId, u64>,
) -> impl Iterator<Item = (PackId, BadPack)> {
    index.packs().iter().filter_map(|pack| {
        let problem = match stored.get(&pack.id) {
            Some(bytes) if *bytes == pack.bytes => return None,
            Some(bytes) => format!("it has {bytes} bytes and should have {}", pack.bytes),
            None => "it is not there".to_owned(),
        };
        Some((pack.id, BadPack::whole(problem)))
    })
}

fn warn_of_marks(
    snapshots: &[(SnapshotName, Snapshot)],
    marked: &HashSet<PackId>,
    report: &mut CheckReport,
) {
    for (name, snapshot) in snapshots {
        for pack in snapshot.packs.iter().filter(|pack| marked.contains(pack)) {
            report.warn(CheckProblem {
                object: pack.key(),
                snapshot: Some(name.id),
                path: None,
                problem: "it is marked for removal and still needed: the next prune has to keep it"
                    .to_owned(),
            });
        }
    }
}

/// The packs that are read whole.
struct PackReads<'a> {
    repository: &'a Repository,
    trailers: &'a HashMap<PackId, blake3::Hash>,
    others: Others<'a>,
    stored: &'a BTreeMap<PackId, u64>,
    options: &'a CheckOptions,
    progress: &'a Progress,
    shutdown: &'a Shutdown,
}

impl PackReads<'_> {
    fn run<'p>(
        &self,
        packs: impl Iterator<Item = &'p KnownPack>,
        percent: Percent,
        bad: &mut BadPacks,
        report: &mut CheckReport,
    ) -> Result<(), CheckError> {
        let chosen = |pack: &&KnownPack| {
            percent.takes(&pack.id, self.options.rotation) && self.stored.contains_key(&pack.id)
        };
        let packs: Vec<_> = packs.filter(chosen).collect();
        let bytes_total = packs.iter().map(|pack| pack.bytes).sum();
        self.progress.set_totals(packs.len() as u64, bytes_total);
        let found = Mutex::new((BadPacks::new(), 0_u64, 0_u64));
        in_threads(self.options.threads, &packs, self.shutdown, || {
            let decompressor = Decompressor::new().map_err(ReadError::Decompress)?;
            let mut verifier = Verifier::new(self.repository.key(), decompressor);
            let found = &found;
            Ok(move |_, pack: &&KnownPack| {
                let Judged { bytes, verdict, is_closed } = self.read(pack, &mut verifier)?;
                self.progress.add_files(1);
                self.progress.add_bytes(pack.bytes);
                let mut found = lock(found);
                found.1 += bytes;
                found.2 += u64::from(is_closed);
                found.0.extend(verdict.map(|verdict| (pack.id, verdict)));
                Ok(())
            })
        })?;
        let (verdicts, bytes_read, closed) =
            found.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.packs_read = packs.len() as u64;
        report.bytes_read = bytes_read;
        report.closed_packs = closed;
        bad.extend(verdicts);
        Ok(())
    }

    fn read(&self, pack: &KnownPack, verifier: &mut Verifier<'_>) -> Result<Judged, CheckError> {
        let key = self.repository.pack_key(&pack.id);
        let bytes = match self.repository.store().get(&key, PACK_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if is_damage(&error) => {
                let verdict = Some(BadPack::whole(error.to_string()));
                return Ok(Judged { bytes: 0, verdict, is_closed: false });
            }
            Err(error) => return Err(error.into()),
        };
        let stored = Stored::of(&bytes, self.repository.key());
        let judged = |verdict, is_closed| Judged { bytes: stored.bytes, verdict, is_closed };
        if !self.repository.can_read() {
            return Ok(judged(self.judge_closed(&bytes, stored, pack), false));
        }
        let expected = Expected { pack, trailer: self.trailers.get(&pack.id) };
        match self.repository.open_content_leniently(&pack.id, bytes.clone()) {
            Ok((content, is_damaged)) => {
                Ok(judged(verifier.verify(&content, stored, is_damaged, &expected), false))
            }
            Err(RepositoryError::Content(_, ContentError::Identity))
                if self.others.may_have(&pack.id) =>
            {
                Ok(judged(self.judge_closed(&bytes, stored, pack), true))
            }
            Err(error @ RepositoryError::Content(..)) => {
                Ok(judged(Some(BadPack::whole(chain(&error))), false))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What can be told of a pack that cannot be decrypted here.
    fn judge_closed(&self, bytes: &[u8], stored: Stored, pack: &KnownPack) -> Option<BadPack> {
        let count = self.repository.recipient_count();
        let count = count.filter(|_| self.others.for_us.contains(&pack.id));
        verify::sealed(bytes, stored, pack, count)
    }
}

/// What came of reading a pack.
struct Judged {
    /// Its length.
    bytes: u64,
    /// What is wrong with it.
    verdict: Option<BadPack>,
    /// It is encrypted for others.
    is_closed: bool,
}

/// Hands `items` to `threads` threads, each with a worker of its own, until one fails.
fn in_threads<T: Sync, W: FnMut(usize, &T) -> Result<(), CheckError>>(
    threads: usize,
    items: &[T],
    shutdown: &Shutdown,
    worker: impl Fn() -> Result<W, CheckError> + Sync,
) -> Result<(), CheckError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let run = || -> Result<(), CheckError> {
        let mut work = worker()?;
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { break };
            if shutdown.is_requested() {
                return Err(CheckError::Interrupted);
            }
            work(number, item)?;
        }
        Ok(())
    };
    let first = Mutex::new(Ok(()));
    threads::on_each("check", threads.clamp(1, items.len().max(1)) - 1, || {
        if let Err(error) = run() {
            stop.store(true, Ordering::Relaxed);
            let mut first = lock(&first);
            if first.is_ok() {
                *first = Err(error);
            }
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
