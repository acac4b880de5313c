//! One window of a tree to fetches: every frame is read once, in the order it lies in its pack.

use crate::chunk::ChunkId;
use crate::entry::{Entry, Extent, FileContent};
use crate::index::{Index, PackNumber, Place};
use crate::pack::FramePlace;

/// Frames this close together are read in one request: the bytes between cost less than a round trip.
const GAP_BYTES_MAX: u32 = 256 << 10;

/// Most bytes of one request.
const FETCH_BYTES_MAX: u32 = 4 << 20;

/// One chunk that has to be written somewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkJob {
    pub(super) place: Place,
    pub(super) id: ChunkId,
    /// Position of the file in the window.
    pub(super) file: u32,
    /// Where in the file.
    pub(super) offset: u64,
}

/// Frames of one pack that are read together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) pack: PackNumber,
    /// Bytes of the pack.
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) frames: Vec<FrameJobs>,
}

impl Fetch {
    /// The same frames, each in a request of its own.
    pub(super) fn one_by_one(&self) -> impl Iterator<Item = Self> {
        self.frames.iter().map(|part| Self {
            pack: self.pack,
            start: part.frame.start,
            end: part.frame.start + part.frame.stored,
            frames: vec![part.clone()],
        })
    }
}

/// A frame and the jobs (a range of the window's sorted list) that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameJobs {
    pub(super) frame: FramePlace,
    pub(super) jobs: std::ops::Range<usize>,
}

/// Why a file's content list is unusable.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("the chunk {0} of it is in no readable pack")]
    Missing(ChunkId),
    #[error("its pieces do not add up to its size")]
    Length,
}

/// The jobs of one file. Fails when a chunk is nowhere or the lengths contradict the size.
pub(super) fn jobs_of(
    content: &FileContent,
    file: u32,
    index: &Index,
) -> Result<Vec<ChunkJob>, ContentError> {
    let mut jobs = Vec::new();
    let mut offset = 0_u64;
    for extent in &content.extents {
        let length = match extent {
            Extent::Hole(length) => *length,
            Extent::Chunk(id) => {
                let place = index.find(id).ok_or(ContentError::Missing(*id))?;
                jobs.push(ChunkJob { place, id: *id, file, offset });
                u64::from(place.length)
            }
        };
        offset = offset
            .checked_add(length)
            .filter(|end| *end <= content.size)
            .ok_or(ContentError::Length)?;
    }
    if offset == content.size { Ok(jobs) } else { Err(ContentError::Length) }
}

/// Sorts the jobs and groups them into fetches.
pub(super) fn fetches(jobs: &mut [ChunkJob], index: &Index) -> Vec<Fetch> {
    jobs.sort_unstable_by_key(|job| (job.place, job.file, job.offset));
    let mut fetches: Vec<Fetch> = Vec::new();
    let mut at = 0;
    for same_frame in
        jobs.chunk_by(|a, b| (a.place.pack, a.place.frame) == (b.place.pack, b.place.frame))
    {
        let range = at..at + same_frame.len();
        at = range.end;
        let Some(place) = same_frame.first().map(|job| job.place) else { continue };
        let frame = index.pack(place.pack).and_then(|pack| pack.frames.get(place.frame as usize));
        let Some(frame) = frame.copied() else { continue };
        let frame_end = frame.start + frame.stored;
        let jobs = FrameJobs { frame, jobs: range };
        match fetches.last_mut() {
            Some(fetch)
                if fetch.pack == place.pack
                    && frame.start.saturating_sub(fetch.end) <= GAP_BYTES_MAX
                    && frame_end - fetch.start <= FETCH_BYTES_MAX =>
            {
                fetch.end = frame_end;
                fetch.frames.push(jobs);
            }
            _ => fetches.push(Fetch {
                pack: place.pack,
                start: frame.start,
                end: frame_end,
                frames: vec![jobs],
            }),
        }
    }
    fetches
}

/// Bytes of data in an entry's content, holes left out. `None` when a chunk is missing.
pub(super) fn data_bytes(entry: &Entry, index: &Index) -> Option<u64> {
    let crate::entry::Kind::File(content) = &entry.kind else { return Some(0) };
    content.extents.iter().try_fold(0_u64, |sum, extent| match extent {
        Extent::Hole(_) => Some(sum),
        Extent::Chunk(id) => Some(sum.saturating_add(u64::from(index.find(id)?.length))),
    })
}

#[cfg(test)]
mod tests;
