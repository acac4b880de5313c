use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;
use crate::chunk::ChunkerParams;
use crate::create::tests::noise;
use crate::source_file;
use crate::walk::{Event, SourceRoot, WalkOptions, walk};

fn reader(path: &Path, cutter: &Cutter) -> FileReader {
    let roots = [SourceRoot::open(path).unwrap()];
    let mut found = None;
    let end = walk::<()>(&roots, &WalkOptions::default(), |event| {
        if let Event::Found(one) = event {
            found = Some(one);
        }
        ControlFlow::Continue(())
    });
    assert!(end.is_continue());
    FileReader::new(source_file::open(&roots[0], &found.unwrap()).unwrap(), cutter)
}

/// Order, hole before, chunks and hole behind of all segments, read by `threads`.
fn segments(reader: &FileReader, cutter: &Cutter, threads: usize) -> Vec<(u64, Vec<Vec<u8>>, u64)> {
    let mut parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = buffer(cutter);
                    let mut parts = Vec::new();
                    while let Some(segment) = reader.next_segment(cutter, &mut buffer).unwrap() {
                        let mut rest = buffer.as_slice();
                        let chunks = segment.chunks.iter().map(|length| {
                            let (chunk, after) = rest.split_at(*length);
                            rest = after;
                            chunk.to_vec()
                        });
                        let chunks = chunks.collect();
                        parts.push((
                            segment.order,
                            (segment.hole_before, chunks, segment.hole_after),
                        ));
                    }
                    parts
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    parts.sort_unstable_by_key(|(order, _)| *order);
    parts.into_iter().map(|(_, part)| part).collect()
}

fn content(segments: &[(u64, Vec<Vec<u8>>, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (before, chunks, after) in segments {
        bytes.resize(bytes.len() + usize::try_from(*before).unwrap(), 0);
        chunks.iter().for_each(|chunk| bytes.extend(chunk));
        bytes.resize(bytes.len() + usize::try_from(*after).unwrap(), 0);
    }
    bytes
}

#[test]
fn several_threads_read_what_one_reads_holes_included() {
    let temp = tempfile::tempdir().unwrap();
    let cutter = Cutter::new(&ChunkerParams::default()).unwrap();
    let data = noise(1, 3 << 20);
    for (name, size, offsets) in [
        ("plain", 3 << 20, vec![0]),
        ("hole before", 20 << 20, vec![17 << 20]),
        ("hole behind", 20 << 20, vec![0]),
        ("hole between", 20 << 20, vec![1 << 20, 12 << 20]),
        ("hole only", 20 << 20, vec![]),
    ] {
        let path = temp.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for offset in offsets {
            file.write_all_at(&data, offset).unwrap();
        }
        let one = segments(&reader(&path, &cutter), &cutter, 1);
        assert_eq!(content(&one), std::fs::read(&path).unwrap(), "{name}");
        assert_eq!(segments(&reader(&path, &cutter), &cutter, 4), one, "{name}");
    }
}

#[test]
fn small_files_are_one_chunk_and_longer_ones_are_cut() {
    let temp = tempfile::tempdir().unwrap();
    let cutter = Cutter::new(&ChunkerParams::default()).unwrap();
    let path = temp.path().join("file");
    for (size, whole) in [(0, true), (1, true), (512 << 10, true), ((512 << 10) + 1, false)] {
        std::fs::write(&path, noise(2, size)).unwrap();
        let chunks = segments(&reader(&path, &cutter), &cutter, 1);
        let count: usize = chunks.iter().map(|(_, chunks, _)| chunks.len()).sum();
        assert_eq!(count <= 1, whole, "{size}: {count}");
    }
}

#[test]
fn a_file_that_shrinks_is_padded_and_torn_one_that_grows_is_cut_at_its_size() {
    let temp = tempfile::tempdir().unwrap();
    let cutter = Cutter::new(&ChunkerParams::default()).unwrap();
    let path = temp.path().join("file");
    let data = noise(3, 4 << 20);
    std::fs::write(&path, &data).unwrap();
    let shrinking = reader(&path, &cutter);
    File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    let read = content(&segments(&shrinking, &cutter, 2));
    assert_eq!((read.len(), &read[..100_000]), (data.len(), &data[..100_000]));
    assert!(read[100_000..].iter().all(|byte| *byte == 0) && shrinking.is_torn());

    std::fs::write(&path, &data).unwrap();
    let growing = reader(&path, &cutter);
    let file = File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"more").unwrap();
    assert_eq!(content(&segments(&growing, &cutter, 1)), data);
    assert!(growing.is_torn());
}
