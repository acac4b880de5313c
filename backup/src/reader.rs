//! Chunks back from the store: find, fetch the frame, decode, check against the name.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use chores_common::object::{ErrorKind, ObjectError};

use crate::chunk::ChunkId;
use crate::index::{Index, PackNumber, Place};
use crate::keys::content::ContentError;
use crate::pack::{Decompressor, FramePlace, PackError, PackId};
use crate::repository::{Repository, RepositoryError};
use crate::tree::PieceSource;

/// Decoded frames kept by one reader: trees and listings come back to the last few.
const FRAMES_KEPT: usize = 4;

/// Why a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No pack has it.
    #[error("the chunk {0} is in no readable pack")]
    Missing(ChunkId),
    /// The store did not give the frame.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The frame does not decode.
    #[error("{} is damaged", .0.key())]
    Pack(PackId, #[source] PackError),
    /// What was stored does not decrypt.
    #[error("{} cannot be read", .0.key())]
    Sealed(PackId, #[source] ContentError),
    /// The frame decodes to something else.
    #[error("{pack} is damaged: the chunk {chunk} in it has another content", pack = .pack.key())]
    Content {
        /// The pack.
        pack: PackId,
        /// The chunk that should be there.
        chunk: ChunkId,
    },
    /// The repository could not be opened for reading.
    #[error(transparent)]
    Repository(Box<RepositoryError>),
    /// The decoder could not be made.
    #[error("cannot decompress")]
    Decompress(#[source] std::io::Error),
}

impl From<RepositoryError> for ReadError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Store(error) => Self::Store(error),
            RepositoryError::Content(pack, error) => Self::Sealed(pack, error),
            error => Self::Repository(Box::new(error)),
        }
    }
}

impl ReadError {
    /// The object at fault, where it is known.
    #[must_use]
    pub fn object(&self) -> Option<String> {
        match self {
            Self::Store(error) => Some(error.key().to_owned()),
            Self::Pack(pack, _) | Self::Sealed(pack, _) | Self::Content { pack, .. } => {
                Some(pack.key())
            }
            Self::Missing(_) | Self::Decompress(_) | Self::Repository(_) => None,
        }
    }

    /// Whether it concerns this copy of a chunk only, so that another may be whole.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => {
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
            }
            Self::Missing(_) | Self::Pack(..) | Self::Sealed(..) | Self::Content { .. } => true,
            Self::Decompress(_) | Self::Repository(_) => false,
        }
    }
}

/// Reads single chunks, for one thread. `I` is how it has the index: borrowed, or shared.
#[derive(Debug)]
pub struct ChunkReader<'a, I = &'a Index> {
    repository: &'a Repository,
    index: I,
    decompressor: Decompressor,
    /// Most recently used last.
    frames: VecDeque<(PackNumber, u32, Vec<u8>)>,
}

impl<'a> ChunkReader<'a> {
    /// A reader for what `index` knows.
    pub fn new(repository: &'a Repository, index: &'a Index) -> Result<Self, ReadError> {
        Self::with(repository, index)
    }
}

impl<'a> ChunkReader<'a, Arc<Index>> {
    /// A reader for what an index knows that others have too.
    pub fn sharing(repository: &'a Repository, index: Arc<Index>) -> Result<Self, ReadError> {
        Self::with(repository, index)
    }

    /// The index it reads by.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }
}

impl<'a, I: Deref<Target = Index> + Clone> ChunkReader<'a, I> {
    fn with(repository: &'a Repository, index: I) -> Result<Self, ReadError> {
        let decompressor = Decompressor::new().map_err(ReadError::Decompress)?;
        Ok(Self { repository, index, decompressor, frames: VecDeque::with_capacity(FRAMES_KEPT) })
    }

    /// The content of a chunk, checked against its name. Where its place is damaged, it is taken from
    /// another pack that has it too; without one the error is that of the first place.
    pub fn chunk(&mut self, id: &ChunkId) -> Result<&[u8], ReadError> {
        let place = self.index.find(id).ok_or(ReadError::Missing(*id))?;
        let Err(error) = self.load(&place, id) else { return Ok(self.loaded(&place)) };
        if !error.is_damage() {
            return Err(error);
        }
        self.copy(id)?.ok_or(error)
    }

    /// The content of a chunk from a place beside that of [`Index::find`], checked against its name.
    /// `None`: there is no other, or none is whole.
    pub fn copy(&mut self, id: &ChunkId) -> Result<Option<&[u8]>, ReadError> {
        let index = self.index.clone();
        for place in index.copies(id) {
            match self.load(&place, id) {
                Ok(()) => return Ok(Some(self.loaded(&place))),
                Err(error) if error.is_damage() => (),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Makes the frame of a place the last of the kept ones, and checks the chunk in it.
    fn load(&mut self, place: &Place, id: &ChunkId) -> Result<(), ReadError> {
        let pack = self.index.pack(place.pack).ok_or(ReadError::Missing(*id))?.id;
        let key = self.repository.key();
        let frame = self.frame(place, *id)?;
        let is_whole = slice_of(frame, place).is_some_and(|content| key.id_of(content) == *id);
        if is_whole { Ok(()) } else { Err(ReadError::Content { pack, chunk: *id }) }
    }

    /// A chunk of the last of the kept frames.
    fn loaded(&self, place: &Place) -> &[u8] {
        self.frames.back().and_then(|(_, _, frame)| slice_of(frame, place)).unwrap_or_default()
    }

    fn frame(&mut self, place: &Place, id: ChunkId) -> Result<&[u8], ReadError> {
        let kept = self
            .frames
            .iter()
            .position(|(pack, frame, _)| (*pack, *frame) == (place.pack, place.frame));
        let frame = if let Some(kept) = kept.and_then(|at| self.frames.remove(at)) {
            kept
        } else {
            let pack = self.index.pack(place.pack).ok_or(ReadError::Missing(id))?;
            let at = pack.frames.get(place.frame as usize).ok_or(ReadError::Missing(id))?;
            let stored = self.repository.read_pack(pack.id, pack.bytes, range_of(at))?;
            // The oldest buffer is used again.
            let oldest =
                if self.frames.len() >= FRAMES_KEPT { self.frames.pop_front() } else { None };
            let mut content = oldest.map(|(_, _, content)| content).unwrap_or_default();
            self.decompressor
                .frame(&stored, at.content, &mut content)
                .map_err(|error| ReadError::Pack(pack.id, error))?;
            (place.pack, place.frame, content)
        };
        self.frames.push_back(frame);
        Ok(self.frames.back().map_or(&[], |(_, _, content)| content))
    }
}

impl<I: Deref<Target = Index> + Clone> PieceSource for ChunkReader<'_, I> {
    type Error = ReadError;

    fn piece(&mut self, id: &ChunkId, into: &mut Vec<u8>) -> Result<(), ReadError> {
        let content = self.chunk(id)?;
        into.clear();
        into.extend_from_slice(content);
        Ok(())
    }
}

/// The bytes of a chunk in its decoded frame.
#[must_use]
pub fn slice_of<'a>(frame: &'a [u8], place: &Place) -> Option<&'a [u8]> {
    frame.get(place.offset as usize..)?.get(..place.length as usize)
}

/// The bytes of a frame in its pack.
#[must_use]
pub fn range_of(frame: &FramePlace) -> std::ops::Range<u64> {
    u64::from(frame.start)..u64::from(frame.start) + u64::from(frame.stored)
}
