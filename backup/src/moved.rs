//! Where content went that a prune stored anew (`docs/backup-format.md`, "Moves").
//!
//! A snapshot names its packs for ever. A move says of some snapshots that all they need of a pack is in others as well,
//! and from then on the others are what they need. It is true for as long as those snapshots are there, so it is never
//! taken back; whether it may be acted upon depends on the packs it names ([`Moves::needs`]). Several say different
//! things of one pack where two prunes have moved it at once, and each of them is right.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_set};
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::chunk::{DedupKey, InvalidId};
use crate::pack::PackId;
use crate::snapshot::{SEALED, SnapshotId};

#[cfg(test)]
mod tests;

/// Where the documents are.
pub const PREFIX: &str = "moved/";

/// Version of the document this program writes and reads.
pub const VERSION: u32 = 1;

/// Longest document in bytes.
pub const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    moves: Vec<Written>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    snapshots: Vec<String>,
    packs: BTreeMap<String, Vec<String>>,
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    version: u32,
}

/// Why an object is no list of moves.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Not what this version writes.
    #[error("it is no list of moved packs")]
    Json(#[source] serde_json::Error),
    /// A name of a pack or a snapshot that is none.
    #[error("it is no list of moved packs")]
    Id(#[source] InvalidId),
    /// Written by a later program.
    #[error("it has version {0}, this program reads version {VERSION}: use a later one")]
    Version(u32),
}

/// What these snapshots need of each pack is in the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The snapshots for which that is true.
    pub snapshots: BTreeSet<SnapshotId>,
    /// The packs, each with those in which its content is; none where nothing of it is needed.
    pub packs: BTreeMap<PackId, BTreeSet<PackId>>,
}

/// A document as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveObject {
    /// The key of its object.
    pub key: String,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
    /// What it says.
    pub moves: Vec<Move>,
}

/// The key of a document with these bytes, written at `time` by this machine's clock, which is for people only.
#[must_use]
pub fn key_of(bytes: &[u8], time: jiff::Timestamp, sealed: bool, dedup: &DedupKey) -> String {
    let end = if sealed { SEALED } else { "" };
    format!("{PREFIX}{}-{}.json{end}", time.strftime("%Y%m%dT%H%M%SZ"), dedup.id_of(bytes))
}

/// Whether a key is that of a document, sealed or not.
#[must_use]
pub fn is_moved(key: &str, sealed: bool) -> bool {
    let end = if sealed { ".json.enc" } else { ".json" };
    key.strip_prefix(PREFIX).is_some_and(|name| name.ends_with(end) && !name.contains('/'))
}

/// Whether a document is what its writer wrote.
#[must_use]
pub fn is_whole(key: &str, bytes: &[u8], dedup: &DedupKey) -> bool {
    let name = key.strip_prefix(PREFIX).and_then(|name| name.split_once('.'));
    let id = name.and_then(|(name, _)| name.split_once('-')).map(|(_, id)| id);
    id == Some(dedup.id_of(bytes).to_string().as_str())
}

/// The bytes of a document.
#[must_use]
pub fn encode(moves: &[Move]) -> Vec<u8> {
    let written = |one: &Move| Written {
        snapshots: one.snapshots.iter().map(ToString::to_string).collect(),
        packs: (one.packs.iter())
            .map(|(pack, into)| (pack.to_string(), into.iter().map(ToString::to_string).collect()))
            .collect(),
    };
    let document = Document { version: VERSION, moves: moves.iter().map(written).collect() };
    // Of texts and numbers alone, so this cannot fail.
    let mut bytes = serde_json::to_vec(&document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The same moves for as many documents as it takes when none may be longer than `bytes_max`. A move by itself is never taken apart.
#[must_use]
pub fn parts(moves: Vec<Move>, bytes_max: u64) -> Vec<Vec<Move>> {
    let mut parts: Vec<Vec<Move>> = Vec::new();
    let mut open_bytes = 0;
    for one in moves {
        // With the frame of a document, so this is more than it takes beside others.
        let bytes = encode(std::slice::from_ref(&one)).len() as u64;
        match parts.last_mut() {
            Some(open) if open_bytes + bytes <= bytes_max => open.push(one),
            _ => {
                parts.push(vec![one]);
                open_bytes = 0;
            }
        }
        open_bytes += bytes;
    }
    parts
}

/// What a document says.
pub fn decode(bytes: &[u8]) -> Result<Vec<Move>, MoveError> {
    // First, because a later version has fields this one does not know.
    let Probe { version } = serde_json::from_slice(bytes).map_err(MoveError::Json)?;
    if version != VERSION {
        return Err(MoveError::Version(version));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(MoveError::Json)?;
    document.moves.iter().map(read).collect::<Result<_, _>>().map_err(MoveError::Id)
}

fn read(written: &Written) -> Result<Move, InvalidId> {
    let mut packs = BTreeMap::new();
    for (pack, into) in &written.packs {
        packs.insert(pack.parse()?, ids(into)?);
    }
    Ok(Move { snapshots: ids(&written.snapshots)?, packs })
}

fn ids<I: FromStr<Err = InvalidId> + Ord>(texts: &[String]) -> Result<BTreeSet<I>, InvalidId> {
    texts.iter().map(|text| text.parse()).collect()
}

/// Where a pack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the store, and no mark names it.
    Stays,
    /// In the store, and a mark names it.
    Marked,
    /// Nowhere.
    Gone,
}

/// What a snapshot needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Packs that must not be deleted because of it, whether they are there or not.
    pub packs: BTreeSet<PackId>,
    /// Packs of its list that are not there, nor what they held.
    pub missing: BTreeSet<PackId>,
}

/// Everything that documents say.
#[derive(Debug, Default)]
pub struct Moves {
    objects: Vec<MoveObject>,
    /// Where a pack is spoken of: numbers of an object and of a move in it.
    spoken: HashMap<PackId, Vec<(usize, usize)>>,
}

impl Moves {
    /// Of all documents that are there.
    #[must_use]
    pub fn new(objects: Vec<MoveObject>) -> Self {
        let mut spoken: HashMap<_, Vec<_>> = HashMap::new();
        for (number, object) in objects.iter().enumerate() {
            for (part, one) in object.moves.iter().enumerate() {
                for pack in one.packs.keys() {
                    spoken.entry(*pack).or_default().push((number, part));
                }
            }
        }
        Self { objects, spoken }
    }

    /// The documents.
    #[must_use]
    pub fn objects(&self) -> &[MoveObject] {
        &self.objects
    }

    /// Whether nothing was ever moved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spoken.is_empty()
    }

    /// When a pack was last said to be moved, by the store's clock.
    #[must_use]
    pub fn last_moved(&self, pack: &PackId) -> Option<SystemTime> {
        let spoken = self.spoken.get(pack)?.iter();
        spoken.filter_map(|(object, _)| Some(self.objects.get(*object)?.modified)).max()
    }

    /// Where the content of `pack` is that a snapshot needs: each of them by itself.
    fn ways<'a>(
        &'a self,
        snapshot: SnapshotId,
        pack: &PackId,
    ) -> impl Iterator<Item = &'a BTreeSet<PackId>> + use<'a> {
        let pack = *pack;
        let spoken = self.spoken.get(&pack).map(Vec::as_slice).unwrap_or_default().iter();
        spoken.filter_map(move |(object, part)| {
            let one = self.objects.get(*object)?.moves.get(*part)?;
            if one.snapshots.contains(&snapshot) { one.packs.get(&pack) } else { None }
        })
    }

    /// The packs from which a snapshot with this list is read, sorted: of several ways one at whose end everything is there, and
    /// the pack itself where there is none. `is_there` was looked at behind the moves.
    #[must_use]
    pub fn followed(
        &self,
        snapshot: SnapshotId,
        listed: &[PackId],
        is_there: &impl Fn(&PackId) -> bool,
    ) -> Vec<PackId> {
        let mut there = Sight::new(self, snapshot, is_there);
        let (mut open, mut seen) = (listed.to_vec(), HashSet::new());
        let mut found = Vec::new();
        while let Some(pack) = open.pop() {
            if !seen.insert(pack) {
                continue;
            }
            // Of a circle this is said of all but one.
            let is_elsewhere = there.is_elsewhere(&pack);
            let mut ways = self.ways(snapshot, &pack);
            match ways.find(|into| is_elsewhere && into.iter().all(|one| there.is_had(one))) {
                Some(into) => open.extend(into),
                None => found.push(pack),
            }
        }
        found.sort_unstable();
        found
    }

    /// What must stay for a snapshot with this list. `at` was looked at behind the moves, the marks before the packs.
    ///
    /// A pack need not stay when it was moved, and where its content went is there and not marked: the writer of a move may have
    /// stood still while a prune that did not know of it marked what it had written. Where content went must stay for as long
    /// as any move names it, marked or not: somebody may have deleted the old pack in reliance on it.
    #[must_use]
    pub fn needs(
        &self,
        snapshot: SnapshotId,
        listed: &[PackId],
        at: &impl Fn(&PackId) -> At,
    ) -> Needs {
        let mut staying = Sight::new(self, snapshot, |pack: &PackId| at(pack) == At::Stays);
        let mut there = Sight::new(self, snapshot, |pack: &PackId| at(pack) != At::Gone);
        let mut needs = Needs::default();
        let (mut open, mut seen) = (listed.to_vec(), HashSet::new());
        while let Some(pack) = open.pop() {
            if !seen.insert(pack) {
                continue;
            }
            self.ways(snapshot, &pack).for_each(|into| open.extend(into));
            if !staying.is_elsewhere(&pack) {
                needs.packs.insert(pack);
            }
        }
        needs.missing = listed.iter().filter(|pack| !there.is_had(pack)).copied().collect();
        needs
    }

    /// Whether anything of this list was moved for a snapshot.
    #[must_use]
    pub fn is_moved(&self, snapshot: SnapshotId, listed: &[PackId]) -> bool {
        listed.iter().any(|pack| self.ways(snapshot, pack).next().is_some())
    }

    /// Whether everything a snapshot with this list needs is there and not marked.
    #[must_use]
    pub fn is_whole(
        &self,
        snapshot: SnapshotId,
        listed: &[PackId],
        stays: &impl Fn(&PackId) -> bool,
    ) -> bool {
        let mut staying = Sight::new(self, snapshot, stays);
        listed.iter().all(|pack| staying.is_had(pack))
    }

    /// Whether the document with this key is there and says this.
    #[must_use]
    pub fn says(&self, key: &str, moves: &[Move]) -> bool {
        self.objects.iter().any(|object| object.key == key && object.moves == moves)
    }

    /// The documents of which no snapshot is there any more: `there` was listed behind the moves. No others go without
    /// another that repeats them, not even where what they moved content into is gone: that costs nothing, since other ways
    /// and the old pack count beside them, while who has looked longer ago than others have acted cannot tell.
    #[must_use]
    pub fn done(&self, there: &BTreeSet<SnapshotId>) -> Vec<&str> {
        let is_done =
            |object: &&MoveObject| object.moves.iter().all(|one| one.snapshots.is_disjoint(there));
        self.objects.iter().filter(is_done).map(|object| object.key.as_str()).collect()
    }

    /// All that is said of these snapshots: what one document may say in the place of all.
    #[must_use]
    pub fn joined(&self, there: &BTreeSet<SnapshotId>) -> Vec<Move> {
        let moves = self.objects.iter().flat_map(|object| &object.moves);
        let narrowed = moves.map(|one| Move {
            snapshots: one.snapshots.intersection(there).copied().collect(),
            packs: one.packs.clone(),
        });
        // One that was killed before it removed the old documents has said everything twice.
        let all: BTreeSet<_> = narrowed.filter(|one| !one.snapshots.is_empty()).collect();
        all.into_iter().collect()
    }
}

/// What is known of packs from the view of one snapshot.
struct Sight<'a, F> {
    moves: &'a Moves,
    snapshot: SnapshotId,
    /// Whether the pack itself counts.
    counts: F,
    /// Packs that were looked at: whether their content is elsewhere. Nothing is known of those that are looked at just now.
    elsewhere: HashMap<PackId, Option<bool>>,
}

/// A pack that is looked at, for which others are looked at first.
struct Open<'a> {
    pack: PackId,
    /// The ways that were not tried.
    ways: std::vec::IntoIter<&'a BTreeSet<PackId>>,
    /// What is left of the way that is tried.
    way: Option<btree_set::Iter<'a, PackId>>,
}

impl<'a, F: Fn(&PackId) -> bool> Sight<'a, F> {
    fn new(moves: &'a Moves, snapshot: SnapshotId, counts: F) -> Self {
        Self { moves, snapshot, counts, elsewhere: HashMap::new() }
    }

    /// Whether the content of the pack is in it, or in all of others. Writers move into new packs only, so there are no circles
    /// but those of who means harm: of these one pack stays.
    fn is_had(&mut self, pack: &PackId) -> bool {
        match self.elsewhere.get(pack) {
            Some(None) => false,
            _ => self.is_elsewhere(pack) || (self.counts)(pack),
        }
    }

    /// Whether all that the snapshot needs of the pack is in others. What was moved on night after night makes long rows, which no
    /// stack has to hold.
    fn is_elsewhere(&mut self, pack: &PackId) -> bool {
        if let Some(Some(known)) = self.elsewhere.get(pack) {
            return *known;
        }
        let mut open: Vec<_> = self.open(pack).into_iter().collect();
        // Whether what was looked at last is had.
        let mut had = None;
        while let Some(top) = open.last_mut() {
            if had.take() == Some(false) {
                top.way = None;
            }
            let other = match &mut top.way {
                Some(way) => way.next(),
                None => {
                    top.way = top.ways.next().map(BTreeSet::iter);
                    if top.way.is_some() {
                        continue;
                    }
                    None
                }
            };
            if let Some(other) = other {
                had = match self.elsewhere.get(other).copied() {
                    Some(None) => Some(false),
                    Some(Some(known)) => Some(known || (self.counts)(other)),
                    None => match self.open(other) {
                        None => Some((self.counts)(other)),
                        Some(next) => {
                            open.push(next);
                            None
                        }
                    },
                };
                continue;
            }
            // Either all of a way is had, or there is none left.
            let (pack, is_elsewhere) = (top.pack, top.way.is_some());
            self.elsewhere.insert(pack, Some(is_elsewhere));
            open.pop();
            had = Some(is_elsewhere || (self.counts)(&pack));
        }
        self.elsewhere.get(pack).copied().flatten().unwrap_or(false)
    }

    /// Begins to look at a pack; `None` where nothing is said of it.
    fn open(&mut self, pack: &PackId) -> Option<Open<'a>> {
        let moves = self.moves;
        if !moves.spoken.contains_key(pack) {
            return None;
        }
        self.elsewhere.insert(*pack, None);
        let ways: Vec<_> = moves.ways(self.snapshot, pack).collect();
        Some(Open { pack: *pack, ways: ways.into_iter(), way: None })
    }
}
