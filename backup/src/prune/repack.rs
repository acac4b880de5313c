//! What is needed of packs of which little is needed goes into new ones.
//!
//! In this order: the new packs, the index objects that name them, and the moves that say of the snapshots that were read
//! where their content is now: in new packs always, never in others that have it too, or two prunes at once could each rely on
//! what the other moves. Nothing is taken away: the old packs are needed by nobody from then on, and go as all such packs do. Killed in between, the new packs are what nobody needs. Why moves are safe beside others is said at
//! [`Moves::needs`](crate::moved::Moves::needs).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::chunk::ChunkId;
use crate::create::salt;
use crate::index::{ChunkSet, Index, IndexedPack, PackNumber, Place};
use crate::moved::Move;
use crate::pack::{
    self, Compressor, Decompressor, Frame, FrameBuilder, FramePlace, PackBuilder, PackId, PackKind,
    is_salt,
};
use crate::reader::{ReadError, range_of, slice_of};
use crate::repository::Repository;
use crate::snapshot::SnapshotId;

use super::PruneError;
use super::choose::Load;

/// Level for what is compressed anew: that of `create`.
const LEVEL: i32 = 3;

/// Packs whose moves are written in one document.
const ROUND_PACKS: usize = 64;

/// Chunks that are moved in a round before it ends, so that their new places fit into memory: 48 MB.
const ROUND_CHUNKS: usize = 1 << 20;

/// Most bytes of one request.
const FETCH_BYTES_MAX: u64 = 4 << 20;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repacked {
    /// Packs that were stored anew.
    pub(super) packs: u64,
    /// Their length in bytes.
    pub(super) bytes: u64,
    /// New packs.
    pub(super) new_packs: u64,
    /// Their length in bytes.
    pub(super) new_bytes: u64,
    /// Packs that were left because something in them is damaged.
    pub(super) damaged: u64,
}

/// Stores what is needed of the chosen packs anew.
pub(super) struct Repack<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    /// The chunks that are needed.
    pub(super) live: &'a ChunkSet,
    /// For which snapshots it is known what they need.
    pub(super) snapshots: &'a BTreeSet<SnapshotId>,
    /// Bytes of all packs, which say how long a pack may get.
    pub(super) stored_bytes: u64,
    pub(super) progress: &'a Progress,
    pub(super) shutdown: &'a Shutdown,
}

/// A chunk of a pack that is stored anew.
#[derive(Clone, Copy)]
struct Member {
    /// Its number in the index.
    chunk: usize,
    id: ChunkId,
    place: Place,
}

impl Repack<'_> {
    pub(super) fn run(&self, chosen: &[Load]) -> Result<Repacked, PruneError> {
        self.progress.set_totals(chosen.len() as u64, chosen.iter().map(|load| load.bytes).sum());
        let mut done = Repacked::default();
        let mut rest = chosen;
        while !rest.is_empty() {
            let taken = self.round(rest, &mut done)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(done)
    }

    /// Moves the first of `chosen`, and says how many.
    fn round(&self, chosen: &[Load], done: &mut Repacked) -> Result<usize, PruneError> {
        let some = chosen.get(..ROUND_PACKS).unwrap_or(chosen);
        let mut members = self.members(some);
        let mut writer = Writer::new(self.repository, self.stored_bytes)?;
        let mut moved = Vec::new();
        let mut taken = 0;
        for load in some {
            if self.shutdown.is_requested() {
                return Err(PruneError::Interrupted(0));
            }
            if taken > 0 && writer.placed.len() >= ROUND_CHUNKS {
                break;
            }
            taken += 1;
            let members = members.remove(&load.number).unwrap_or_default();
            match self.copy(load, &members, &mut writer) {
                Ok(()) => moved.push((load, members)),
                Err(PruneError::Read(error)) if error.is_damage() => {
                    tracing::warn!("{} stays as it is: {}", load.id.key(), chain(&error));
                    done.damaged += 1;
                }
                Err(error) => return Err(error),
            }
            self.progress.add_files(1);
            self.progress.add_bytes(load.bytes);
            self.repository.beat();
        }
        let (new, placed) = writer.finish()?;
        if !new.is_empty() {
            self.repository.put_index(&new)?;
        }
        done.new_packs += new.len() as u64;
        done.new_bytes += new.iter().map(|pack| pack.bytes).sum::<u64>();
        let of_pack = |(load, members): &(&Load, Vec<Member>)| {
            Some((load.id, self.places(members, &placed)?))
        };
        let packs: BTreeMap<_, _> = moved.iter().filter_map(of_pack).collect();
        if packs.is_empty() {
            return Ok(taken);
        }
        let is_moved = |load: &&Load| packs.contains_key(&load.id);
        let moved: Vec<_> = some.iter().filter(is_moved).collect();
        done.packs += moved.len() as u64;
        done.bytes += moved.iter().map(|load| load.bytes).sum::<u64>();
        self.repository.put_moves(&[Move { snapshots: self.snapshots.clone(), packs }])?;
        Ok(taken)
    }

    /// The chunks of these packs, in the order in which they lie there.
    fn members(&self, packs: &[Load]) -> HashMap<PackNumber, Vec<Member>> {
        let mut members: HashMap<_, Vec<_>> =
            packs.iter().map(|load| (load.number, Vec::new())).collect();
        for (chunk, id, place) in self.index.places() {
            if let Some(members) = members.get_mut(&place.pack) {
                members.push(Member { chunk, id: *id, place: *place });
            }
        }
        let in_order = |member: &Member| (member.place.frame, member.place.offset);
        members.values_mut().for_each(|members| members.sort_unstable_by_key(in_order));
        members
    }

    /// The new packs in which all that is needed of an old one is now.
    fn places(
        &self,
        members: &[Member],
        placed: &HashMap<ChunkId, PackId>,
    ) -> Option<BTreeSet<PackId>> {
        let live = members.iter().filter(|member| self.live.has(member.chunk));
        live.map(|member| placed.get(&member.id).copied()).collect()
    }

    /// Copies what is needed of a pack.
    fn copy(
        &self,
        load: &Load,
        members: &[Member],
        writer: &mut Writer<'_>,
    ) -> Result<(), PruneError> {
        let Some(pack) = self.index.pack(load.number) else { return Ok(()) };
        let is_wanted = |member: &&Member| self.live.has(member.chunk);
        let mut frames: Vec<(&FramePlace, &[Member])> = Vec::new();
        for frame in members.chunk_by(|one, other| one.place.frame == other.place.frame) {
            let number = frame.first().map_or(0, |member| member.place.frame as usize);
            if let Some(place) = pack.frames.get(number)
                && frame.iter().any(|member| is_wanted(&member))
            {
                frames.push((place, frame));
            }
        }
        let mut rest = frames.as_slice();
        while let Some(together) = first_fetch(rest) {
            rest = rest.get(together..).unwrap_or_default();
            let some = frames.get(frames.len() - rest.len() - together..).unwrap_or_default();
            let some = some.get(..together).unwrap_or_default();
            let (Some((first, _)), Some((last, _))) = (some.first(), some.last()) else { break };
            let from = range_of(first).start;
            let range = from..range_of(last).end;
            let read = self.repository.read_pack(load.id, load.bytes, range);
            let bytes = read.map_err(|error| PruneError::Read(error.into()))?;
            for (place, members) in some {
                let at = usize::try_from(u64::from(place.start) - from).unwrap_or(usize::MAX);
                let stored = bytes.get(at..).and_then(|rest| rest.get(..place.stored as usize));
                let stored = stored.unwrap_or_default();
                let wanted: Vec<_> = members.iter().filter(is_wanted).copied().collect();
                let kept = wanted.len()
                    + members
                        .iter()
                        .filter(|member| !is_wanted(member) && is_salt(member.place.length))
                        .count();
                let frame = Taken {
                    pack: load.id,
                    kind: pack.kind,
                    place,
                    stored,
                    members,
                    wanted: &wanted,
                    is_whole: kept == members.len(),
                };
                writer.take(&frame)?;
            }
        }
        Ok(())
    }
}

/// How many of the first frames lie one behind the other and are read in one request; none of none.
fn first_fetch(frames: &[(&FramePlace, &[Member])]) -> Option<usize> {
    let begin = u64::from(frames.first()?.0.start);
    let mut end = begin;
    let together = frames.iter().take_while(|(place, _)| {
        let range = range_of(place);
        let joins = range.start == end && (end == begin || range.end - begin <= FETCH_BYTES_MAX);
        end = range.end;
        joins
    });
    Some(together.count().max(1))
}

/// A frame of an old pack.
struct Taken<'a> {
    pack: PackId,
    kind: PackKind,
    place: &'a FramePlace,
    stored: &'a [u8],
    /// All chunks in it.
    members: &'a [Member],
    /// Those that go into the new pack.
    wanted: &'a [Member],
    /// Nothing of it may go.
    is_whole: bool,
}

/// Makes new packs.
struct Writer<'a> {
    repository: &'a Repository,
    /// At how many bytes a pack is sealed.
    target: usize,
    compressor: Compressor,
    decompressor: Decompressor,
    content: Vec<u8>,
    data: Open,
    tree: Open,
    new: Vec<IndexedPack>,
    /// Where the chunks are now.
    placed: HashMap<ChunkId, PackId>,
}

/// A pack that is being filled.
struct Open {
    pack: PackBuilder,
    frame: FrameBuilder,
    /// What is in both.
    chunks: HashSet<ChunkId>,
}

impl Open {
    fn new(kind: PackKind) -> Self {
        Self {
            pack: PackBuilder::new(kind, Vec::new()),
            frame: FrameBuilder::default(),
            chunks: HashSet::new(),
        }
    }
}

impl<'a> Writer<'a> {
    fn new(repository: &'a Repository, stored_bytes: u64) -> Result<Self, PruneError> {
        let decompressor = Decompressor::new().map_err(ReadError::Decompress);
        Ok(Self {
            repository,
            target: pack::target_bytes(stored_bytes, 0),
            compressor: Compressor::new(LEVEL).map_err(PruneError::Compress)?,
            decompressor: decompressor.map_err(PruneError::Read)?,
            content: Vec::new(),
            data: Open::new(PackKind::Data),
            tree: Open::new(PackKind::Tree),
            new: Vec::new(),
            placed: HashMap::new(),
        })
    }

    /// Takes over what is wanted of a frame, each chunk of which is checked against its name.
    fn take(&mut self, frame: &Taken<'_>) -> Result<(), PruneError> {
        let decoded = self.decompressor.frame(frame.stored, frame.place.content, &mut self.content);
        decoded.map_err(|error| PruneError::Read(ReadError::Pack(frame.pack, error)))?;
        let key = self.repository.key();
        for member in frame.wanted {
            let content = slice_of(&self.content, &member.place);
            if content.is_none_or(|content| key.id_of(content) != member.id) {
                let (pack, chunk) = (frame.pack, member.id);
                return Err(PruneError::Read(ReadError::Content { pack, chunk }));
            }
        }
        let open = match frame.kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        };
        let is_new = |id: &ChunkId| !self.placed.contains_key(id);
        if frame.is_whole && frame.wanted.iter().all(|member| is_new(&member.id)) {
            let chunks = frame
                .members
                .iter()
                .map(|member| (&member.id, member.place.offset, member.place.length));
            open.pack.append(&Frame::taken(frame.stored, frame.place, chunks));
            open.chunks.extend(frame.wanted.iter().map(|member| member.id));
        } else {
            for member in frame.wanted.iter().filter(|member| is_new(&member.id)) {
                if !open.chunks.insert(member.id) {
                    continue;
                }
                let content = slice_of(&self.content, &member.place).unwrap_or_default();
                if !open.frame.has_room(content.len(), self.target) {
                    seal(open, &mut self.compressor)?;
                }
                open.frame.push(member.id, content);
            }
        }
        if open.pack.is_full(self.target) {
            self.store(frame.kind)?;
        }
        Ok(())
    }

    /// Stores what is open of one kind.
    fn store(&mut self, kind: PackKind) -> Result<(), PruneError> {
        let open = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        };
        let mut open = std::mem::replace(open, Open::new(kind));
        if !open.frame.is_empty() {
            seal(&mut open, &mut self.compressor)?;
        }
        if open.pack.is_empty() {
            return Ok(());
        }
        // Frames that were taken over have the salts of others.
        let salt = salt()?;
        let salted = open.pack.append_salt(salt, self.repository.key(), &mut self.compressor);
        salted.map_err(PruneError::Compress)?;
        if kind == PackKind::Data && self.repository.is_encrypted() {
            open.pack.hide_length();
        }
        let (bytes, index) = open.pack.end(&mut self.compressor).map_err(PruneError::Compress)?;
        let pack = self.repository.pack_of(bytes, index)?;
        self.new.push(IndexedPack::from(&pack));
        self.repository.put_pack(&pack.id, pack.bytes)?;
        self.placed.extend(open.chunks.into_iter().map(|chunk| (chunk, pack.id)));
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<IndexedPack>, HashMap<ChunkId, PackId>), PruneError> {
        self.store(PackKind::Data)?;
        self.store(PackKind::Tree)?;
        Ok((self.new, self.placed))
    }
}

fn seal(open: &mut Open, compressor: &mut Compressor) -> Result<(), PruneError> {
    let frame = open.frame.seal(compressor).map_err(PruneError::Compress)?;
    open.pack.append(frame);
    Ok(())
}
