//! One whole pack against its name, its own index and the index objects.

use std::collections::BTreeSet;

use chores_common::exit::chain;

use super::bad::{BadPack, Reach};
use crate::chunk::{ChunkId, DedupKey};
use crate::index::KnownPack;
use crate::keys::content::Header;
use crate::pack::{ChunkPlace, Decompressor, PackIndex};
use crate::tar_writer::{BLOCK_BYTES, chunk_member_header};

/// Decompressed length of the frame that ends the tar, in bytes.
const END_BYTES: u32 = 2 * BLOCK_BYTES as u32;

/// Names what is said of a pack, so that two sayings can be compared.
pub(super) fn fingerprint(pack_bytes: u64, index: &PackIndex) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pack_bytes.to_le_bytes()).update(&index.encode());
    hasher.finalize()
}

/// What is known of a pack before it is read.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) pack: &'a KnownPack,
    /// Fingerprint of what an index object says of it, where one does.
    pub(super) trailer: Option<&'a blake3::Hash>,
}

/// What the store gave of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// Its length in bytes.
    pub(super) bytes: u64,
    id: ChunkId,
}

impl Stored {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8], key: &DedupKey) -> Self {
        Self { bytes: bytes.len() as u64, id: key.id_of(bytes) }
    }
}

/// What is wrong with the `bytes` of a pack that cannot be decrypted here: whether they are what was stored, and whether that
/// can be an age file with such a pack in it. `recipients` is for how many it has to be, where that is known.
pub(super) fn sealed(
    bytes: &[u8],
    stored: Stored,
    pack: &KnownPack,
    recipients: Option<usize>,
) -> Option<BadPack> {
    if stored.id != pack.id.0 {
        return Some(BadPack::whole("its content does not match its name".to_owned()));
    }
    let header = match Header::read_of(bytes) {
        Ok(header) => header,
        Err(error) => return Some(BadPack::whole(chain(&error))),
    };
    if let Some(wanted) = recipients.filter(|wanted| *wanted != header.recipients()) {
        let found = header.recipients();
        let problem = format!("it is encrypted for {found} recipients and should be for {wanted}");
        return Some(BadPack::whole(problem));
    }
    // Frames, the end of the tar in a frame of its own, index and seek table.
    let frames: u64 = pack.frames.iter().map(|frame| u64::from(frame.stored)).sum();
    if header.content_bytes(stored.bytes).is_ok_and(|content| content > frames) {
        None
    } else {
        Some(BadPack::whole("it is too short for what the index says is in it".to_owned()))
    }
}

/// Verifies packs with buffers that are used again.
#[derive(Debug)]
pub(super) struct Verifier<'a> {
    key: &'a DedupKey,
    decompressor: Decompressor,
    frame: Vec<u8>,
}

/// What was wrong on the way through a pack.
#[derive(Debug, Default)]
struct Faults {
    frames: BTreeSet<u32>,
    chunks: BTreeSet<ChunkId>,
    /// The pack as a whole contradicts what is known of it.
    whole: bool,
    first: Option<String>,
}

impl Faults {
    fn note(&mut self, problem: impl Into<String>) {
        self.first.get_or_insert_with(|| problem.into());
    }
}

impl<'a> Verifier<'a> {
    pub(super) fn new(key: &'a DedupKey, decompressor: Decompressor) -> Self {
        Self { key, decompressor, frame: Vec::new() }
    }

    /// What is wrong with `bytes`, the content of what is `stored`, as the pack that is expected. `is_damaged`: parts of it could
    /// not be decrypted and are zeros.
    pub(super) fn verify(
        &mut self,
        bytes: &[u8],
        stored: Stored,
        is_damaged: bool,
        expected: &Expected<'_>,
    ) -> Option<BadPack> {
        let mut faults = Faults::default();
        let named = stored.id == expected.pack.id.0;
        if !named {
            faults.note("its content does not match its name");
        }
        if is_damaged {
            faults.note("its encryption is damaged");
        }
        let trailer = self.trailer(bytes, stored, expected, named, &mut faults);
        let chunks = trailer.as_ref().map(|trailer| trailer.chunks.as_slice());
        self.frames(bytes, expected.pack, chunks, &mut faults);
        self.end(bytes, expected.pack, &mut faults);
        let first = faults.first?;
        let (bad, all) = (faults.frames.len(), expected.pack.frames.len());
        let parts = bad > 0 || !faults.chunks.is_empty();
        let extent = match (bad, faults.chunks.len()) {
            (0, 0) if faults.whole => String::new(),
            (0, 0) => " (its content still reads)".to_owned(),
            (0, chunks) => format!(" ({chunks} of its chunks are damaged)"),
            (bad, _) => format!(" ({bad} of its {all} frames are damaged)"),
        };
        let reach = if parts && !faults.whole {
            Reach::Parts { frames: faults.frames, chunks: faults.chunks }
        } else {
            Reach::Whole
        };
        Some(BadPack { problem: first + &extent, reach })
    }

    /// The pack's own index, where it agrees with the index objects.
    fn trailer(
        &self,
        bytes: &[u8],
        stored: Stored,
        expected: &Expected<'_>,
        named: bool,
        faults: &mut Faults,
    ) -> Option<PackIndex> {
        match PackIndex::of_pack(bytes) {
            Err(error) => {
                faults.note(chain(&error));
                None
            }
            Ok(trailer) => {
                let fingerprint = fingerprint(stored.bytes, &trailer);
                if expected.trailer.is_none_or(|trailer| *trailer == fingerprint) {
                    return Some(trailer);
                }
                faults.note("the index objects say other things of it than its own index");
                // Of a damaged pack the index objects are right; of a sound one they are wrong.
                faults.whole |= named;
                None
            }
        }
    }

    fn frames(
        &mut self,
        bytes: &[u8],
        pack: &KnownPack,
        chunks: Option<&[ChunkPlace]>,
        faults: &mut Faults,
    ) {
        let mut rest = chunks.unwrap_or_default().iter().peekable();
        for (number, place) in (0_u32..).zip(&pack.frames) {
            let start = place.start as usize;
            let stored = bytes.get(start..).and_then(|from| from.get(..place.stored as usize));
            let decoded =
                self.decompressor.frame(stored.unwrap_or_default(), place.content, &mut self.frame);
            if let Err(error) = decoded {
                faults.note(chain(&error));
                faults.frames.insert(number);
                while rest.next_if(|chunk| chunk.frame == number).is_some() {}
                continue;
            }
            let mut end = 0;
            while let Some(chunk) = rest.next_if(|chunk| chunk.frame == number) {
                if !self.is_member(chunk, end) {
                    faults.note(format!("the chunk {} in it has another content", chunk.id));
                    faults.chunks.insert(chunk.id);
                }
                end = (chunk.offset as usize).saturating_add(chunk.length as usize);
                end = end.next_multiple_of(BLOCK_BYTES);
            }
            if chunks.is_some() && end != self.frame.len() {
                faults.note("a frame holds more than its chunks");
                faults.frames.insert(number);
            }
        }
        if rest.next().is_some() {
            faults.note("its index is not in the order of its frames");
            faults.whole = true;
        }
    }

    /// Whether a chunk's tar member begins at `begin` of the frame, with the right header and content.
    fn is_member(&self, chunk: &ChunkPlace, begin: usize) -> bool {
        let Some((header, rest)) =
            self.frame.get(begin..).and_then(|from| from.split_at_checked(BLOCK_BYTES))
        else {
            return false;
        };
        let content = rest.get(..chunk.length as usize);
        begin + BLOCK_BYTES == chunk.offset as usize
            && header == chunk_member_header(&chunk.id, chunk.length)
            && content.is_some_and(|content| self.key.id_of(content) == chunk.id)
    }

    /// The frame with the tar's end blocks, without which `tar` complains.
    fn end(&mut self, bytes: &[u8], pack: &KnownPack, faults: &mut Faults) {
        let begin = pack.frames.last().map_or(0, |last| last.start as usize + last.stored as usize);
        let rest = bytes.get(begin..).unwrap_or_default();
        let whole = zstd::zstd_safe::find_frame_compressed_size(rest)
            .ok()
            .and_then(|length| rest.get(..length))
            .is_some_and(|stored| {
                self.decompressor.frame(stored, END_BYTES, &mut self.frame).is_ok()
                    && self.frame.iter().all(|byte| *byte == 0)
            });
        if !whole {
            faults.note("the end of its tar is damaged");
        }
    }
}
