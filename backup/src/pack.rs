//! Chunks to packs: independent zstd frames that together decompress to a standard tar.
//!
//! A *frame* holds several chunks, so deduplication works on small pieces while compression works on
//! whole neighbourhoods. A *pack* is frames in a row, one frame with the tar's end blocks, a skippable
//! frame with our index and a skippable frame with the seek table of the zstd seekable format
//! (facebook/zstd, contrib/seekable_format). `zstd -dc PACK | tar x` gives files named by chunk id.
//! Every byte is described in `docs/backup-format.md`, "Packs".

use std::fmt;

use crate::chunk::{CHUNK_BYTES_MAX, ChunkId, DedupKey, InvalidId};
use crate::tar_writer::{BLOCK_BYTES, chunk_member_header};

/// A frame is sealed when the next chunk would make its content longer than this many bytes: 1 MiB
/// compresses as well as tar|zstd over the whole tree and still decodes in about a millisecond.
pub const FRAME_TARGET_BYTES: usize = 1 << 20;

/// Longest content of a frame a reader accepts, in bytes: one chunk over the target, with its header.
pub const FRAME_BYTES_MAX: usize = FRAME_TARGET_BYTES + CHUNK_BYTES_MAX + 2 * BLOCK_BYTES;

/// A pack is sealed when it has at least this many bytes. Small enough for a single PUT and for several
/// to be on their way within the memory budget.
pub const PACK_TARGET_BYTES: usize = 16 << 20;

/// In a small repository it is sealed before: a pack goes as a whole, so one of them should be a small part of all.
const PACK_TARGET_BYTES_MIN: usize = 128 << 10;

/// Packs grow with the square of the repository, and have [`PACK_TARGET_BYTES`] where it has so many bytes: below, a first backup
/// makes no more than about a thousand of them. What is left over at the end of each run is shorter.
const FULL_PACKS_FROM_BYTES: u64 = 1 << 30;

/// What part of all that a run has stored one pack is at the least: how much will come a first backup does not know.
const PACK_PART_OF_RUN: u64 = 64;

/// A pack that has fewer pieces of content is not sealed while there are more like them: its length would tell theirs.
const PACK_PIECES_MIN: usize = 4;

/// Steps from one length to its double, to which packs with fewer pieces are padded in encrypted repositories.
const PADDED_STEPS: u32 = 8;

/// A frame takes so many pieces even where it gets longer than its part of a pack: its length too would tell that of one.
const FRAME_PIECES_MIN: usize = 2;

/// So many frames at the least make a pack: one that is a little shorter than the target would double it.
const PACK_FRAMES: usize = 2;

/// At how many bytes a pack is sealed in a repository whose packs have `stored` bytes, `of_run` of which this run has stored.
#[must_use]
pub fn target_bytes(stored: u64, of_run: u64) -> usize {
    const DIVISOR: u64 = FULL_PACKS_FROM_BYTES / PACK_TARGET_BYTES as u64 * FULL_PACKS_FROM_BYTES;
    let by_all = stored.min(FULL_PACKS_FROM_BYTES).pow(2) / DIVISOR;
    let target = usize::try_from(by_all.max(of_run / PACK_PART_OF_RUN));
    target.unwrap_or(PACK_TARGET_BYTES).clamp(PACK_TARGET_BYTES_MIN, PACK_TARGET_BYTES)
}

/// A pack is sealed when it has this many chunks: tiny files must not make its index longer than its
/// content, nor exceed what a reader accepts.
const PACK_CHUNKS_TARGET: usize = 1 << 15;

/// What a sealed pack is longer than the target at the most, nearly always: the frame that filled it, and
/// the index.
pub(crate) const PACK_SLACK_BYTES: usize = 2 << 20;

/// Random bytes in a pack that make its name its own.
pub const SALT_BYTES: usize = 16;

/// Whether a chunk of this length may be one that nobody refers to, which makes the name of a pack its own.
#[must_use]
pub fn is_salt(length: u32) -> bool {
    length as usize <= SALT_BYTES
}

/// Longest pack a reader accepts, in bytes.
pub const PACK_BYTES_MAX: u64 = 64 << 20;

/// Most frames, and most chunks, a reader accepts in one pack.
const PACK_ITEMS_MAX: u32 = 1 << 20;

const INDEX_MAGIC: [u8; 8] = *b"CHORESPK";
const INDEX_VERSION: u8 = 1;
/// Magic, version, kind, two zero bytes, frame count, chunk count.
const INDEX_HEADER_BYTES: usize = 8 + 4 + 4 + 4;
const FRAME_ITEM_BYTES: usize = 8;
pub(crate) const CHUNK_ITEM_BYTES: usize = 28;

/// One of the sixteen magic numbers of skippable frames (RFC 8878, 3.1.2) for the index.
const SKIPPABLE_INDEX: u32 = 0x184D_2A5C;
/// Another for what is only there to be long.
const SKIPPABLE_PADDING: u32 = 0x184D_2A5D;
/// The one that the zstd seekable format uses for its seek table.
const SKIPPABLE_SEEK_TABLE: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const SKIPPABLE_HEADER_BYTES: usize = 8;
const SEEK_ITEM_BYTES: usize = 8;
const SEEK_FOOTER_BYTES: usize = 9;

/// Names a pack by its bytes: keyed BLAKE3 of the stored object, cut to 128 bits, so truncation and bit
/// flips show without decoding anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub ChunkId);

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for PackId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

impl PackId {
    /// The key of the pack's object in a clear repository: `packs/<first two digits>/<id>.tar.zst`. In an encrypted one
    /// [`crate::repository::Repository::pack_key`] has it.
    #[must_use]
    pub fn key(&self) -> String {
        let id = self.to_string();
        format!("packs/{}/{id}.tar.zst", id.get(..2).unwrap_or_default())
    }

    /// The reverse of [`Self::key`]; `None` for objects that are no packs of a clear repository.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let id: Self = key.rsplit('/').next()?.strip_suffix(".tar.zst")?.parse().ok()?;
        (id.key() == key).then_some(id)
    }
}

/// What a pack holds. Apart, so that listing a snapshot never touches file content and caching trees is
/// cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackKind {
    /// File content.
    Data,
    /// Pieces of trees.
    Tree,
}

/// Where a pack's zstd frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Offset of the frame in the pack, bytes.
    pub start: u32,
    /// Compressed length in bytes.
    pub stored: u32,
    /// Decompressed length in bytes.
    pub content: u32,
}

/// Where a chunk is inside its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The chunk.
    pub id: ChunkId,
    /// Number of its frame in the pack.
    pub frame: u32,
    /// Offset of its first byte in the decompressed frame (behind its tar header).
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// A pack's index: what its trailer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    /// Content or trees.
    pub kind: PackKind,
    /// The frames in order, the one with the tar's end blocks left out.
    pub frames: Vec<FramePlace>,
    /// The chunks in order.
    pub chunks: Vec<ChunkPlace>,
}

/// Why bytes are not a pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The bytes contradict the format.
    #[error("it is not a pack of repository format 1: {0}")]
    Format(&'static str),
    /// The trailer was written by a later program.
    #[error("its index has version {0}, this program reads version {INDEX_VERSION}")]
    Version(u8),
    /// A frame does not decompress.
    #[error("a frame does not decompress")]
    Frame(#[source] std::io::Error),
}

/// Collects chunks until they make a frame. The buffers are reused from frame to frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    content: Vec<u8>,
    chunks: Vec<(ChunkId, u32, u32)>,
    sealed: Frame,
}

/// A compressed frame and the chunks in it.
#[derive(Debug, Default)]
pub struct Frame {
    stored: Vec<u8>,
    content_bytes: u32,
    chunks: Vec<(ChunkId, u32, u32)>,
}

impl Frame {
    /// One as it is stored in another pack, and its chunks there.
    #[must_use]
    pub fn taken<'a>(
        stored: &[u8],
        place: &FramePlace,
        chunks: impl IntoIterator<Item = (&'a ChunkId, u32, u32)>,
    ) -> Self {
        let chunks = chunks.into_iter().map(|(id, offset, length)| (*id, offset, length));
        Self { stored: stored.to_vec(), content_bytes: place.content, chunks: chunks.collect() }
    }

    /// The frames of a whole pack as they are stored, in order.
    pub fn all_of(index: &PackIndex, pack: &[u8]) -> Result<Vec<Self>, PackError> {
        let mut frames = Vec::with_capacity(index.frames.len());
        for place in &index.frames {
            let stored = pack.get(place.start as usize..);
            let stored = stored
                .and_then(|rest| rest.get(..place.stored as usize))
                .ok_or(PackError::Format("it is shorter than its frames"))?;
            frames.push(Self {
                stored: stored.to_vec(),
                content_bytes: place.content,
                chunks: Vec::new(),
            });
        }
        for chunk in &index.chunks {
            let frame = frames.get_mut(chunk.frame as usize);
            let frame = frame.ok_or(PackError::Format("a chunk lies outside its frame"))?;
            frame.chunks.push((chunk.id, chunk.offset, chunk.length));
        }
        Ok(frames)
    }
}

impl FrameBuilder {
    /// Whether a chunk of `length` bytes still belongs into this frame, where packs are sealed at `target` bytes.
    #[must_use]
    pub fn has_room(&self, length: usize, target: usize) -> bool {
        let content_max = if self.chunks.len() < FRAME_PIECES_MIN {
            FRAME_TARGET_BYTES
        } else {
            self.content_bytes_max(target)
        };
        self.chunks.is_empty() || self.content.len() + BLOCK_BYTES + length <= content_max
    }

    /// How long the content of this frame may get. The longer the better it compresses, as long as it does not become more than its
    /// part of a pack; how well it will is told by the frame before.
    fn content_bytes_max(&self, target: usize) -> usize {
        let part = target / PACK_FRAMES;
        let (content, stored) = (self.sealed.content_bytes as usize, self.sealed.stored.len());
        let like_before = part.saturating_mul(content) / stored.max(1);
        like_before.max(part).min(FRAME_TARGET_BYTES)
    }

    /// Whether nothing was pushed since the last seal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends a chunk as a tar member. `content` has at most [`CHUNK_BYTES_MAX`] bytes.
    pub fn push(&mut self, id: ChunkId, content: &[u8]) {
        debug_assert!(content.len() <= CHUNK_BYTES_MAX);
        let length = u32_of(content.len());
        self.content.extend_from_slice(&chunk_member_header(&id, length));
        self.chunks.push((id, u32_of(self.content.len()), length));
        self.content.extend_from_slice(content);
        let padded = self.content.len().next_multiple_of(BLOCK_BYTES);
        self.content.resize(padded, 0);
    }

    /// Compresses what was pushed and starts the next frame.
    pub fn seal(&mut self, compressor: &mut Compressor) -> std::io::Result<&Frame> {
        compressor.frame(&self.content, &mut self.sealed.stored)?;
        self.sealed.content_bytes = u32_of(self.content.len());
        self.sealed.chunks.clear();
        self.sealed.chunks.append(&mut self.chunks);
        self.content.clear();
        Ok(&self.sealed)
    }
}

/// Makes zstd frames with their content size and checksum, so that `zstd -t` on a pack is a real check.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// A reusable context for compression level `level` (1 to 19).
    pub fn new(level: i32) -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        Ok(Self(compressor))
    }

    /// Replaces the content of `into` by the compressed `content`.
    fn frame(&mut self, content: &[u8], into: &mut Vec<u8>) -> std::io::Result<()> {
        into.clear();
        into.reserve(zstd::zstd_safe::compress_bound(content.len()));
        self.0.compress_to_buffer(content, into).map(drop)
    }
}

/// Decompresses frames into a bounded buffer.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    /// A reusable context.
    pub fn new() -> std::io::Result<Self> {
        zstd::bulk::Decompressor::new().map(Self)
    }

    /// Replaces the content of `into` by the decompressed `stored`, which must be exactly
    /// `content_bytes` long (at most [`FRAME_BYTES_MAX`]).
    pub fn frame(
        &mut self,
        stored: &[u8],
        content_bytes: u32,
        into: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let wanted = content_bytes as usize;
        if wanted > FRAME_BYTES_MAX {
            return Err(PackError::Format("a frame is longer than any frame may be"));
        }
        into.clear();
        into.reserve_exact(wanted);
        let written = self.0.decompress_to_buffer(stored, into).map_err(PackError::Frame)?;
        if written == wanted {
            Ok(())
        } else {
            Err(PackError::Format("a frame is shorter than its index says"))
        }
    }
}

/// Collects frames until they make a pack.
#[derive(Debug)]
pub struct PackBuilder {
    kind: PackKind,
    bytes: Vec<u8>,
    frames: Vec<FramePlace>,
    chunks: Vec<ChunkPlace>,
    /// Chunks that somebody may refer to.
    pieces: usize,
    is_padded: bool,
}

/// A sealed pack, ready for the store.
#[derive(Debug)]
pub struct Pack {
    /// Its name.
    pub id: PackId,
    /// The object.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub index: PackIndex,
}

impl PackBuilder {
    /// An empty pack in `buffer`, whose content is dropped and whose memory is used again.
    #[must_use]
    pub fn new(kind: PackKind, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let (frames, chunks) = (Vec::new(), Vec::new());
        Self { kind, bytes: buffer, frames, chunks, pieces: 0, is_padded: false }
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> PackKind {
        self.kind
    }

    /// Length of its frames in bytes.
    #[must_use]
    pub fn frames_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether it has reached `target` bytes, see [`target_bytes`], with pieces enough, or has as many chunks as its index should
    /// list.
    #[must_use]
    pub fn is_full(&self, target: usize) -> bool {
        (self.bytes.len() >= target && self.has_pieces_enough())
            || self.chunks.len() >= PACK_CHUNKS_TARGET
    }

    /// Whether it has so many pieces of content that its length does not tell theirs.
    #[must_use]
    pub fn has_pieces_enough(&self) -> bool {
        self.pieces >= PACK_PIECES_MIN
    }

    /// Gives back what memory it has for what is not in it yet: of a buffer that was full once, all of it is resident.
    pub fn release_memory(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Where it has few pieces, its length is to tell theirs no closer than to an eighth.
    pub fn hide_length(&mut self) {
        self.is_padded = !self.has_pieces_enough();
    }

    /// Appends all frames of another pack.
    pub fn append_pack(&mut self, other: Self) {
        let (bytes, frames) = (u32_of(self.bytes.len()), u32_of(self.frames.len()));
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |place: FramePlace| FramePlace { start: place.start + bytes, ..place };
        self.frames.extend(other.frames.into_iter().map(moved));
        let moved = |place: ChunkPlace| ChunkPlace { frame: place.frame + frames, ..place };
        self.chunks.extend(other.chunks.into_iter().map(moved));
        self.pieces += other.pieces;
    }

    /// Appends a frame.
    pub fn append(&mut self, frame: &Frame) {
        if self.bytes.is_empty() {
            // One allocation for the life of the pack: growing would copy it several times.
            self.bytes.reserve_exact(PACK_TARGET_BYTES + PACK_SLACK_BYTES);
        }
        let number = u32_of(self.frames.len());
        self.frames.push(FramePlace {
            start: u32_of(self.bytes.len()),
            stored: u32_of(frame.stored.len()),
            content: frame.content_bytes,
        });
        self.bytes.extend_from_slice(&frame.stored);
        self.pieces += frame.chunks.iter().filter(|(_, _, length)| !is_salt(*length)).count();
        self.chunks.extend(frame.chunks.iter().map(|(id, offset, length)| ChunkPlace {
            id: *id,
            frame: number,
            offset: *offset,
            length: *length,
        }));
    }

    /// Adds a chunk that nobody refers to: with random bytes in it no other pack ever has the name of this one.
    pub fn append_salt(
        &mut self,
        salt: [u8; SALT_BYTES],
        key: &DedupKey,
        compressor: &mut Compressor,
    ) -> std::io::Result<()> {
        let mut frame = FrameBuilder::default();
        frame.push(key.id_of(&salt), &salt);
        self.append(frame.seal(compressor)?);
        Ok(())
    }

    /// Ends the tar, writes index and seek table and names the pack.
    pub fn seal(self, key: &DedupKey, compressor: &mut Compressor) -> std::io::Result<Pack> {
        let (bytes, index) = self.end(compressor)?;
        Ok(Pack { id: PackId(key.id_of(&bytes)), bytes, index })
    }

    /// Ends the tar and writes index and seek table.
    pub fn end(self, compressor: &mut Compressor) -> std::io::Result<(Vec<u8>, PackIndex)> {
        let index = PackIndex { kind: self.kind, frames: self.frames, chunks: self.chunks };
        let mut bytes = self.bytes;
        let end_blocks = [0; 2 * BLOCK_BYTES];
        let mut end_frame = Vec::new();
        compressor.frame(&end_blocks, &mut end_frame)?;
        bytes.extend_from_slice(&end_frame);
        let trailer = index.encode();
        let trailer_frame_bytes = SKIPPABLE_HEADER_BYTES + trailer.len();
        let seek_bytes =
            |items: usize| SKIPPABLE_HEADER_BYTES + items * SEEK_ITEM_BYTES + SEEK_FOOTER_BYTES;
        let padding = if self.is_padded {
            // Of the table too, which has a line more.
            let bytes = bytes.len() + trailer_frame_bytes + seek_bytes(index.frames.len() + 3);
            let frame = padded(bytes + SKIPPABLE_HEADER_BYTES) - bytes;
            bytes_of_padding(frame)
        } else {
            Vec::new()
        };
        bytes.extend_from_slice(&padding);
        bytes.extend_from_slice(&SKIPPABLE_INDEX.to_le_bytes());
        bytes.extend_from_slice(&u32_of(trailer.len()).to_le_bytes());
        bytes.extend_from_slice(&trailer);
        let mut seek_items: Vec<_> =
            index.frames.iter().map(|frame| (frame.stored, frame.content)).collect();
        seek_items.push((u32_of(end_frame.len()), u32_of(end_blocks.len())));
        if !padding.is_empty() {
            seek_items.push((u32_of(padding.len()), 0));
        }
        seek_items.push((u32_of(trailer_frame_bytes), 0));
        let count = seek_items.len();
        bytes.extend_from_slice(&SKIPPABLE_SEEK_TABLE.to_le_bytes());
        bytes.extend_from_slice(&u32_of(count * SEEK_ITEM_BYTES + SEEK_FOOTER_BYTES).to_le_bytes());
        for (stored, content) in seek_items {
            bytes.extend_from_slice(&stored.to_le_bytes());
            bytes.extend_from_slice(&content.to_le_bytes());
        }
        bytes.extend_from_slice(&u32_of(count).to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
        Ok((bytes, index))
    }
}

/// The next of the lengths that packs are padded to: a power of two is the eighth from its half.
fn padded(bytes: usize) -> usize {
    let step = (1 << bytes.max(1).ilog2()) / PADDED_STEPS as usize;
    bytes.next_multiple_of(step.max(1))
}

/// A skippable frame of so many bytes, of zeros: it is encrypted with the pack.
fn bytes_of_padding(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bytes);
    frame.extend_from_slice(&SKIPPABLE_PADDING.to_le_bytes());
    frame.extend_from_slice(&u32_of(bytes - SKIPPABLE_HEADER_BYTES).to_le_bytes());
    frame.resize(bytes, 0);
    frame
}

impl PackIndex {
    /// Length of the trailer in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        INDEX_HEADER_BYTES
            + self.frames.len() * FRAME_ITEM_BYTES
            + self.chunks.len() * CHUNK_ITEM_BYTES
    }

    /// The bytes of the trailer, without the header of its skippable frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes());
        out.extend_from_slice(&INDEX_MAGIC);
        out.extend_from_slice(&[INDEX_VERSION, self.kind.code(), 0, 0]);
        out.extend_from_slice(&u32_of(self.frames.len()).to_le_bytes());
        out.extend_from_slice(&u32_of(self.chunks.len()).to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.stored.to_le_bytes());
            out.extend_from_slice(&frame.content.to_le_bytes());
        }
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            out.extend_from_slice(&chunk.frame.to_le_bytes());
            out.extend_from_slice(&chunk.offset.to_le_bytes());
            out.extend_from_slice(&chunk.length.to_le_bytes());
        }
        out
    }

    /// Reads a trailer and checks that every chunk lies inside its frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        const SHORT: PackError = PackError::Format("its index is cut short");
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
        if *magic != INDEX_MAGIC {
            return Err(PackError::Format("its index has another magic number"));
        }
        let ([version, kind, 0, 0], rest) = rest.split_first_chunk::<4>().ok_or(SHORT)? else {
            return Err(PackError::Format("reserved bytes of its index are set"));
        };
        if *version != INDEX_VERSION {
            return Err(PackError::Version(*version));
        }
        let kind =
            PackKind::from_code(*kind).ok_or(PackError::Format("it is of an unknown kind"))?;
        let (frame_count, rest) = take_u32(rest).ok_or(SHORT)?;
        let (chunk_count, rest) = take_u32(rest).ok_or(SHORT)?;
        if frame_count > PACK_ITEMS_MAX || chunk_count > PACK_ITEMS_MAX {
            return Err(PackError::Format("its index counts more items than a pack may hold"));
        }
        let (frame_bytes, chunk_bytes) =
            rest.split_at_checked(frame_count as usize * FRAME_ITEM_BYTES).ok_or(SHORT)?;
        if chunk_bytes.len() != chunk_count as usize * CHUNK_ITEM_BYTES {
            return Err(PackError::Format("its index has not the length it says"));
        }
        let mut start = 0_u32;
        let mut frames = Vec::with_capacity(frame_count as usize);
        for item in frame_bytes.as_chunks::<FRAME_ITEM_BYTES>().0 {
            let (stored, item) = take_u32(item).ok_or(SHORT)?;
            let (content, _) = take_u32(item).ok_or(SHORT)?;
            if content as usize > FRAME_BYTES_MAX {
                return Err(PackError::Format("a frame is longer than any frame may be"));
            }
            frames.push(FramePlace { start, stored, content });
            start = start
                .checked_add(stored)
                .filter(|end| u64::from(*end) <= PACK_BYTES_MAX)
                .ok_or(PackError::Format("its frames are longer than a pack may be"))?;
        }
        let mut chunks = Vec::with_capacity(chunk_count as usize);
        for item in chunk_bytes.as_chunks::<CHUNK_ITEM_BYTES>().0 {
            let (id, item) = item.split_first_chunk().ok_or(SHORT)?;
            let (frame, item) = take_u32(item).ok_or(SHORT)?;
            let (offset, item) = take_u32(item).ok_or(SHORT)?;
            let (length, _) = take_u32(item).ok_or(SHORT)?;
            let inside = frames.get(frame as usize).is_some_and(|frame| {
                length as usize <= CHUNK_BYTES_MAX
                    && offset.checked_add(length).is_some_and(|end| end <= frame.content)
            });
            if !inside {
                return Err(PackError::Format("a chunk lies outside its frame"));
            }
            chunks.push(ChunkPlace { id: ChunkId(*id), frame, offset, length });
        }
        Ok(Self { kind, frames, chunks })
    }

    /// Finds and reads the index in the bytes of a whole pack.
    pub fn of_pack(pack: &[u8]) -> Result<Self, PackError> {
        const NO_TABLE: PackError = PackError::Format("it does not end with a seek table");
        let (body, magic) = pack.split_last_chunk::<4>().ok_or(NO_TABLE)?;
        let (body, [_descriptor]) = body.split_last_chunk::<1>().ok_or(NO_TABLE)?;
        let (items, count) = body.split_last_chunk::<4>().ok_or(NO_TABLE)?;
        if u32::from_le_bytes(*magic) != SEEKABLE_MAGIC {
            return Err(NO_TABLE);
        }
        let count = u32::from_le_bytes(*count) as usize;
        let table_at = count
            .checked_mul(SEEK_ITEM_BYTES)
            .and_then(|bytes| bytes.checked_add(SKIPPABLE_HEADER_BYTES))
            .and_then(|bytes| items.len().checked_sub(bytes))
            .ok_or(NO_TABLE)?;
        let (before, table) = items.split_at_checked(table_at).ok_or(NO_TABLE)?;
        let last = table.last_chunk::<SEEK_ITEM_BYTES>().ok_or(NO_TABLE)?;
        let (trailer_frame_bytes, _) = take_u32(last).ok_or(NO_TABLE)?;
        let trailer = before
            .len()
            .checked_sub(trailer_frame_bytes as usize)
            .and_then(|at| before.get(at..))
            .and_then(|frame| frame.strip_prefix(&SKIPPABLE_INDEX.to_le_bytes()))
            .and_then(|frame| frame.get(4..))
            .ok_or(PackError::Format("its index is not where the seek table says"))?;
        Self::decode(trailer)
    }
}

impl PackKind {
    fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Tree => 1,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Tree),
            _ => None,
        }
    }
}

/// Splits a little-endian number off.
pub(crate) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u32::from_le_bytes(*number), rest))
}

/// A length this module has bounded far below 4 GiB.
pub(crate) fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
