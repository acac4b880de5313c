//! Every tree to its end: is all there, does it add up, and what does damage in the packs hurt?

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;

use super::bad::{BadPack, BadPacks};
use super::{
    CheckError, CheckOptions, CheckProblem, CheckReport, Others, PATH_CHARS_MAX,
    PATHS_PER_SNAPSHOT_MAX, PROBLEMS_MAX, in_threads, is_damage, lock,
};
use crate::chunk::ChunkId;
use crate::entry::{Entry, Extent, FileContent, Kind};
use crate::index::{Index, PackNumber, Place};
use crate::keys::content::ContentError;
use crate::pack::PackId;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::Repository;
use crate::snapshot::{Snapshot, SnapshotName};
use crate::tree::{PieceSource, TreeError, TreeReader};

/// What is known of the packs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) index: &'a Index,
    pub(super) bad: &'a BadPacks,
    pub(super) others: Others<'a>,
}

/// Reads the trees of all `snapshots` and adds what it finds to `report`, in their order.
pub(super) fn check_all(
    repository: &Repository,
    known: Known<'_>,
    snapshots: &[(SnapshotName, Snapshot)],
    options: &CheckOptions,
    shutdown: &Shutdown,
    report: &mut CheckReport,
) -> Result<(), CheckError> {
    let Known { index, bad, others } = known;
    // Every hurt snapshot is named, however many there are.
    let kept_max = (PROBLEMS_MAX / snapshots.len().max(1)).clamp(1, PATHS_PER_SNAPSHOT_MAX);
    // One verdict for each pack of the index, found without hashing.
    let verdicts: Vec<_> = index.packs().iter().map(|pack| bad.get(&pack.id)).collect();
    let found = Mutex::new(Vec::new());
    in_threads(options.threads, snapshots, shutdown, || {
        let mut reader = ChunkReader::new(repository, index)?;
        let (found, verdicts) = (&found, &verdicts);
        Ok(move |number, (name, snapshot): &(SnapshotName, Snapshot)| {
            let tree = Tree {
                index,
                bad,
                others,
                verdicts,
                name,
                snapshot,
                shutdown,
                named: named(index, snapshot),
                unnamed: HashSet::new(),
                blamed: BTreeSet::new(),
                kept_max,
                findings: Findings::default(),
            };
            let findings = tree.check(&mut reader)?;
            lock(found).push((number, findings));
            Ok(())
        })
    })?;
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_unstable_by_key(|(number, _)| *number);
    for (number, findings) in found {
        if let Some((name, _)) = snapshots.get(number).filter(|_| findings.is_closed) {
            report.closed_snapshots += 1;
            report.warn(CheckProblem {
                object: name.key(),
                snapshot: Some(name.id),
                path: None,
                problem: "it is encrypted for others than the private key that was given: its paths were not looked at"
                    .to_owned(),
            });
        }
        report.entries += findings.entries;
        report.problem_count += findings.count;
        report.problems.extend(findings.problems);
    }
    Ok(())
}

/// For each pack of the index, whether the snapshot says that it needs it.
fn named(index: &Index, snapshot: &Snapshot) -> Vec<bool> {
    let named: HashSet<_> = snapshot.packs.iter().collect();
    index.packs().iter().map(|pack| named.contains(&pack.id)).collect()
}

#[derive(Debug, Default)]
struct Findings {
    entries: u64,
    count: u64,
    problems: Vec<CheckProblem>,
    /// The tree, or the rest of it, is encrypted for others.
    is_closed: bool,
}

/// The pieces of one tree, written down as they are read.
struct Pieces<'a, 'reader> {
    reader: &'a mut ChunkReader<'reader>,
    read: &'a RefCell<Vec<ChunkId>>,
}

impl PieceSource for Pieces<'_, '_> {
    type Error = ReadError;

    fn piece(&mut self, id: &ChunkId, into: &mut Vec<u8>) -> Result<(), ReadError> {
        self.reader.piece(id, into)?;
        self.read.borrow_mut().push(*id);
        Ok(())
    }
}

/// One snapshot's tree.
struct Tree<'a> {
    index: &'a Index,
    bad: &'a BadPacks,
    others: Others<'a>,
    verdicts: &'a [Option<&'a BadPack>],
    name: &'a SnapshotName,
    snapshot: &'a Snapshot,
    shutdown: &'a Shutdown,
    /// By pack number.
    named: Vec<bool>,
    /// Packs it needs and does not name, each reported once.
    unnamed: HashSet<PackNumber>,
    /// Bad packs that have been traced to a path.
    blamed: BTreeSet<PackId>,
    kept_max: usize,
    findings: Findings,
}

impl<'a> Tree<'a> {
    fn check(mut self, reader: &mut ChunkReader<'_>) -> Result<Findings, CheckError> {
        let pieces_read = RefCell::new(Vec::new());
        let pieces = Pieces { reader, read: &pieces_read };
        let mut entries = TreeReader::new(&self.snapshot.tree, pieces);
        // Until an entry is read, what cannot be read is the first source.
        let mut path = self.snapshot.sources.first().map_or("/", |source| &source.path).to_owned();
        loop {
            let next = entries.next_entry();
            if let Ok(Some(entry)) = &next {
                path = entry.display_path();
            }
            for piece in pieces_read.take() {
                self.piece(&piece, &path);
                if self.shutdown.is_requested() {
                    return Err(CheckError::Interrupted);
                }
            }
            match next {
                Ok(Some(entry)) => self.entry(&entry, &path),
                Ok(None) => break,
                Err(error) => {
                    self.broken(error, &path)?;
                    break;
                }
            }
        }
        let (entries, said) = (self.findings.entries, self.snapshot.tree.entries);
        if self.findings.count == 0 && !self.findings.is_closed && entries != said {
            let problem = format!("its tree has {entries} entries and should have {said}");
            self.report(self.name.key(), None, problem);
        }
        self.blame_the_rest();
        Ok(self.findings)
    }

    /// A piece of the tree that was read.
    fn piece(&mut self, id: &ChunkId, path: &str) {
        let Some(place) = self.index.find(id) else { return };
        self.require(id, &place, path);
        if let Some((pack, bad)) = self.verdict(id, &place)
            && self.blamed.insert(pack)
        {
            let problem = format!(
                "the list of paths here lies in a damaged pack, though it can be read: {}",
                bad.problem
            );
            self.report(pack.key(), Some(path), problem);
        }
    }

    fn entry(&mut self, entry: &Entry, path: &str) {
        self.findings.entries += 1;
        if let Kind::File(content) = &entry.kind {
            self.file(content, path);
        }
    }

    fn file(&mut self, content: &FileContent, path: &str) {
        let mut length = Some(0_u64);
        let mut hurt_by = BTreeSet::new();
        for extent in &content.extents {
            let more = match extent {
                Extent::Hole(bytes) => *bytes,
                Extent::Chunk(id) => {
                    let Some(place) = self.index.find(id) else {
                        let problem = format!("the chunk {id} of it is in no readable pack");
                        return self.report(self.name.key(), Some(path), problem);
                    };
                    self.require(id, &place, path);
                    if let Some((pack, bad)) = self.verdict(id, &place)
                        && hurt_by.insert(pack)
                    {
                        self.blamed.insert(pack);
                        self.report(pack.key(), Some(path), bad.problem.clone());
                    }
                    u64::from(place.length)
                }
            };
            length = length.and_then(|length| length.checked_add(more));
        }
        if length != Some(content.size) {
            let problem = "its pieces do not add up to its size".to_owned();
            self.report(self.name.key(), Some(path), problem);
        }
    }

    /// A pack that is needed must be named by the snapshot, or a prune would remove it.
    fn require(&mut self, id: &ChunkId, place: &Place, path: &str) {
        let is_named = |pack: PackNumber| self.named.get(pack.as_usize()) == Some(&true);
        if is_named(place.pack)
            || self.index.copies(id).any(|copy| is_named(copy.pack))
            || !self.unnamed.insert(place.pack)
        {
            return;
        }
        let Some(pack) = self.index.pack(place.pack) else { return };
        let problem = format!(
            "the snapshot needs {} and does not say so, so a prune could remove it",
            pack.id.key()
        );
        self.report(self.name.key(), Some(path), problem);
    }

    fn verdict(&self, id: &ChunkId, place: &Place) -> Option<(PackId, &'a BadPack)> {
        let bad = (*self.verdicts.get(place.pack.as_usize())?)?;
        let pack = self.index.pack(place.pack)?;
        bad.takes_away(id, place).then_some((pack.id, bad))
    }

    /// The tree cannot be read on.
    fn broken(&mut self, error: TreeError<ReadError>, path: &str) -> Result<(), CheckError> {
        if let TreeError::Piece(ReadError::Sealed(pack, ContentError::Identity)) = &error
            && self.others.may_have(pack)
        {
            self.findings.is_closed = true;
            return Ok(());
        }
        let object = match error {
            TreeError::Piece(ReadError::Store(error)) if !is_damage(&error) => {
                return Err(error.into());
            }
            TreeError::Piece(error @ (ReadError::Decompress(_) | ReadError::Repository(_))) => {
                return Err(error.into());
            }
            TreeError::Piece(ref error) => error.object(),
            TreeError::Line(_) | TreeError::Format(_) => None,
        };
        if let Some(pack) = object.as_deref().and_then(PackId::from_key) {
            self.blamed.insert(pack);
        }
        let problem = if self.findings.entries == 0 {
            format!("nothing of the snapshot can be read: {}", chain(&error))
        } else {
            format!("nothing behind this path can be read: {}", chain(&error))
        };
        self.report(object.unwrap_or_else(|| self.name.key()), Some(path), problem);
        Ok(())
    }

    /// Bad packs the snapshot names although no path that could be read needs them.
    fn blame_the_rest(&mut self) {
        let bad = self.bad;
        for pack in &self.snapshot.packs {
            if let Some(bad) = bad.get(pack)
                && !self.blamed.contains(pack)
            {
                let problem = format!("the snapshot names this pack: {}", bad.problem);
                self.report(pack.key(), None, problem);
            }
        }
    }

    fn report(&mut self, object: String, path: Option<&str>, problem: String) {
        self.findings.count += 1;
        if self.findings.problems.len() < self.kept_max {
            self.findings.problems.push(CheckProblem {
                object,
                snapshot: Some(self.name.id),
                path: path.map(|path| path.chars().take(PATH_CHARS_MAX).collect()),
                problem,
            });
        }
    }
}
