use std::collections::VecDeque;
use std::fs;
use std::thread;

use chores_common::shutdown::Shutdown;

use super::*;
use crate::cache::CacheWriter;
use crate::create::assemble::Assembler;
use crate::create::packer::Packer;
use crate::create::rewrite::{Fate, Fates};
use crate::create::sequence::Sequencer;
use crate::create::tests::{Fixture, noise};
use crate::create::{cache_of, cache_path, content, start_uploads};
use crate::pack::PackKind;
use crate::snapshot::Snapshot;
use crate::walk::walk;

#[test]
fn what_is_only_read_for_its_packs_and_cannot_be_is_saved_as_it_was() {
    let fixture = Fixture::new();
    for (name, seed, length) in [("a", 1, 300_000), ("large", 2, 3 << 20), ("changed", 3, 1000)] {
        fixture.write(name, &noise(seed, length));
    }
    fs::hard_link(fixture.source().join("a"), fixture.source().join("link")).unwrap();
    let first = fixture.create();
    fixture.write("changed", &noise(4, 2000));

    let (repository, options) = (&fixture.test.repository, fixture.options());
    let (index, _) = repository.index_for_writing().unwrap();
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    let mut fates = Fates { of_packs: vec![Fate::Left; index.packs().len()], ..Fates::default() };
    fates.again_bytes_max = u64::MAX;
    let packer = Packer::new(repository, &index, 1, false, &progress, &shutdown).with_fates(fates);
    let queue = TaskQueue::default();
    let (items, received) = crossbeam_channel::bounded(1024);
    let path = cache_path(repository, &options).unwrap();
    let (root, assembled) = thread::scope(|scope| {
        start_uploads(scope, &packer, 1);
        let _close = packer.close_on_drop();
        let cache = cache_of(repository, &options);
        let dumps = VecDeque::new();
        let mut sequencer = Sequencer::new(&options.roots, cache, 0, dumps, &packer, &queue, items);
        let _ended = walk(&options.roots, &options.walk, |event| sequencer.event(event));
        sequencer.finish();
        queue.close();
        // The walk has seen them; as a bad disk, whoever reads does not get them any more.
        for name in ["a", "link", "large", "changed"] {
            fs::remove_file(fixture.source().join(name)).unwrap();
        }
        let worker = || Worker {
            roots: &options.roots,
            cutter: repository.cutter(),
            queue: &queue,
            failure: packer.failure(),
            progress: &progress,
            stow: packer.stow(PackKind::Data).unwrap(),
            buffer: content::buffer(repository.cutter()),
        };
        worker().run();
        let cache = CacheWriter::create(&path, options.time.as_second(), None).unwrap();
        let stow = packer.stow(PackKind::Tree).unwrap();
        let assembler = Assembler::new(stow, worker(), Some(cache), false, packer.failure());
        let (root, assembled, cache) = assembler.run(&received).unwrap();
        packer.close();
        cache.unwrap().finish().unwrap();
        (root, assembled)
    });
    let packs = packer.finish().unwrap().packs;

    let snapshot = Snapshot { tree: root, packs, ..first.clone() };
    for (name, seed, length) in [("a", 1, 300_000), ("link", 1, 300_000), ("large", 2, 3 << 20)] {
        assert_eq!(fixture.content(&snapshot, name), noise(seed, length));
    }
    let (before, now) = (fixture.entries(&first), fixture.entries(&snapshot));
    // What has changed since is not what the last backup has.
    let is_kept = |entry: &&Entry| !entry.path.ends_with(b"/changed");
    assert_eq!(now, before.iter().filter(is_kept).cloned().collect::<Vec<_>>());
    assert_eq!((assembled.stats.bytes_read, assembled.stats.files_unchanged), (0, 2));
    let recorded =
        assembled.warnings.iter().filter(|warning| warning.contains("as the last backup has it"));
    assert_eq!((recorded.count(), assembled.warning_count), (2, 3));
    // The next run knows it too.
    let mut cache = cache_of(repository, &options).unwrap();
    let mut recorded = 0;
    cache.each(|record| recorded += usize::from(!record.is_read_again()));
    assert_eq!(recorded, now.len());
}
