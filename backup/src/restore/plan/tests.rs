use std::collections::HashSet;

use super::*;
use crate::index::IndexedPack;
use crate::pack::{ChunkPlace, PackId, PackIndex, PackKind};

fn id(number: u8) -> ChunkId {
    ChunkId([number; 16])
}

/// One pack with a frame of `stored` bytes for each chunk of 10 bytes.
fn index(chunks: u8, stored: u32) -> Index {
    let frames = (0..u32::from(chunks))
        .map(|number| FramePlace { start: number * stored, stored, content: 1024 })
        .collect();
    let chunks = (0..chunks)
        .map(|n| ChunkPlace { id: id(n), frame: u32::from(n), offset: 512, length: 10 })
        .collect();
    let index = PackIndex { kind: PackKind::Data, frames, chunks };
    Index::new(
        [IndexedPack { id: PackId(id(200)), bytes: 1 << 24, index, sealed_by: None }],
        &HashSet::new(),
    )
}

fn content(size: u64, extents: Vec<Extent>) -> FileContent {
    FileContent { size, extents, torn: false }
}

#[test]
fn jobs_have_the_offsets_of_their_chunks_and_lengths_have_to_add_up() {
    let index = index(3, 100);
    let extents = vec![Extent::Chunk(id(1)), Extent::Hole(5), Extent::Chunk(id(0))];
    let jobs = jobs_of(&content(25, extents.clone()), 7, &index).unwrap();
    assert_eq!(
        jobs.iter().map(|job| (job.offset, job.file)).collect::<Vec<_>>(),
        [(0, 7), (15, 7)]
    );
    for size in [0, 24, 26, u64::MAX] {
        let outcome = jobs_of(&content(size, extents.clone()), 0, &index);
        assert!(matches!(outcome, Err(ContentError::Length)), "{size}");
    }
    let endless = vec![Extent::Hole(u64::MAX), Extent::Hole(u64::MAX)];
    assert!(matches!(jobs_of(&content(u64::MAX, endless), 0, &index), Err(ContentError::Length)));
    let missing = vec![Extent::Chunk(id(9))];
    assert!(matches!(jobs_of(&content(10, missing), 0, &index), Err(ContentError::Missing(_))));
}

#[test]
fn neighbouring_frames_are_fetched_together_each_once_and_no_request_is_too_long() {
    let index = index(100, 200 << 10);
    let extents = (0..100).rev().chain(0..100).map(|n| Extent::Chunk(id(n))).collect();
    let mut jobs = jobs_of(&content(2000, extents), 0, &index).unwrap();
    let fetches = fetches(&mut jobs, &index);
    assert_eq!(fetches.iter().map(|fetch| fetch.frames.len()).sum::<usize>(), 100);
    assert!(fetches.iter().all(|fetch| fetch.end - fetch.start <= FETCH_BYTES_MAX));
    assert!(fetches.is_sorted_by_key(|fetch| fetch.start) && fetches.len() <= 6);
    let covered: usize = fetches.iter().flat_map(|f| &f.frames).map(|part| part.jobs.len()).sum();
    assert_eq!(covered, jobs.len());
    let singles: Vec<_> = fetches.iter().flat_map(Fetch::one_by_one).collect();
    assert!(singles.iter().all(|single| single.end - single.start == 200 << 10));
}

#[test]
fn a_wide_gap_begins_a_new_fetch() {
    let index = index(3, 300 << 10);
    let extents = vec![Extent::Chunk(id(0)), Extent::Chunk(id(2))];
    let mut jobs = jobs_of(&content(20, extents), 0, &index).unwrap();
    assert_eq!(fetches(&mut jobs, &index).len(), 2);
}
