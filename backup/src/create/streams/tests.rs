use super::super::tests::{Fixture, noise};
use super::*;
use crate::entry::Entry;
use crate::reader::ChunkReader;
use crate::tree::TreeReader;

fn options() -> StreamOptions {
    StreamOptions { level: 1, uploads: 2, time: "2026-11-29T12:00:00.5Z".parse().unwrap() }
}

fn store(fixture: &Fixture, files: &[(&str, &[u8])], piece: usize) -> StoredTree {
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    let repository = &fixture.test.repository;
    let stored =
        store_streams(repository, &options(), "/dump/shop", &progress, &shutdown, |store| {
            for (name, content) in files {
                for piece in content.chunks(piece) {
                    store.write(piece)?;
                }
                assert_eq!(store.end(name, false)?, content.len() as u64);
            }
            Ok(())
        });
    stored.unwrap().1
}

fn entries(fixture: &Fixture, stored: &StoredTree) -> Vec<Entry> {
    let (index, _) = fixture.test.repository.index_for_writing().unwrap();
    let reader = ChunkReader::new(&fixture.test.repository, &index).unwrap();
    let mut tree = TreeReader::new(&stored.tree, reader);
    std::iter::from_fn(|| tree.next_entry().unwrap()).collect()
}

#[test]
fn a_stream_is_cut_as_a_file_of_the_same_content_is() {
    let fixture = Fixture::new();
    let sizes =
        [0, 1, 9000, 512 << 10, (512 << 10) + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20];
    let contents: Vec<_> =
        sizes.iter().enumerate().map(|(seed, size)| noise(seed as u64, *size)).collect();
    let names: Vec<_> = (0..sizes.len()).map(|number| format!("file-{number}")).collect();
    for (name, content) in names.iter().zip(&contents) {
        fixture.write(name, content);
    }
    let snapshot = fixture.create();
    let wanted: Vec<_> = fixture.entries(&snapshot).into_iter().map(|entry| entry.kind).collect();
    for piece in [1000, 65536, 3 << 20] {
        // In another order than that of the tree.
        let files: Vec<_> = names
            .iter()
            .zip(&contents)
            .rev()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
            .collect();
        let stored = store(&fixture, &files, piece);
        assert_eq!(stored.stats.bytes, sizes.iter().sum::<usize>() as u64);
        let found = entries(&fixture, &stored);
        assert_eq!(found[0].path, b"dump/shop");
        assert_eq!(found[1].path, b"dump/shop/file-0");
        let found: Vec<_> = found.into_iter().map(|entry| entry.kind).collect();
        assert_eq!(found, wanted, "{piece}");
        // All but the tree is there already.
        assert!(stored.stats.bytes_added < 20_000, "{:?}", stored.stats);
    }
}

#[test]
fn what_stops_the_writer_is_the_error_of_the_run() {
    let fixture = Fixture::new();
    let shutdown = Shutdown::new();
    let outcome = store_streams(
        &fixture.test.repository,
        &options(),
        "/dump/shop",
        &Progress::new(),
        &shutdown,
        |store| {
            store.write(&noise(1, 3 << 20))?;
            shutdown.request();
            store.write(&noise(2, 3 << 20))?;
            store.end("all.sql", false)
        },
    );
    assert!(matches!(outcome, Err(CreateError::Interrupted)), "{outcome:?}");
}

#[test]
fn a_name_that_another_file_has_is_refused() {
    let fixture = Fixture::new();
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    let repository = &fixture.test.repository;
    let outcome =
        store_streams(repository, &options(), "/dump/shop", &progress, &shutdown, |store| {
            store.end("a.sqlite", false)?;
            store.end("b.sqlite", false)?;
            store.end("a.sqlite", false)
        });
    assert!(matches!(outcome, Err(CreateError::Twice(name)) if name == "a.sqlite"));
}
