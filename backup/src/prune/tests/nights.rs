//! Sixty nights of a volume: nothing is lost, and what is stored stays within a known multiple of what is needed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::chunk::ChunkId;
use crate::entry::{Extent, Kind};
use crate::forget::decide::Policy;
use crate::forget::{ForgetOptions, Wanted, forget};
use crate::reader::{ChunkReader, ReadError};
use crate::tree::{PieceSource, TreeReader};

/// Nights of a run.
const NIGHTS: u64 = 60;

/// So many volumes are tried, with other files and changes each; `CHORES_SOAK` multiplies them.
const VOLUMES: u64 = 1;

/// Files of the volume, of 2 to 120 KB.
const FILES: u64 = 300;

/// The first so many files are where nine of ten changes are, as logs and databases are in a volume.
const HOT: u64 = 30;

/// Changes of a night.
const CHANGES: u64 = 40;

/// Nights before the first one: all that is left of them is when each file was changed.
const NIGHTS_BEFORE: u64 = 100;

/// What is stored, divided by what the chunks need that snapshots have, at the most. What waits for the grace to pass is part of
/// it. Measured: 1.25 where packs are stored anew, 1.27 to 1.30 without the private key.
const RATIO_MAX: f64 = 1.3;

fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn name_of(number: u64) -> String {
    format!("d{}/{number}", number % 10)
}

/// The file that a change is in.
fn changed(state: &mut u64) -> u64 {
    let among = if next(state, 10) < 9 { HOT } else { FILES };
    next(state, among)
}

/// Writes a file anew, an hour before `time`.
fn file(fixture: &Fixture, state: &mut u64, number: u64, time: jiff::Timestamp) {
    let length = 2_000 + next(state, 118_000);
    let content = noise(next(state, u64::MAX), usize::try_from(length).unwrap());
    fixture.write(&name_of(number), &content);
    changed_at(fixture, number, time);
}

/// Says of a file that it was changed an hour before `time`.
fn changed_at(fixture: &Fixture, number: u64, time: jiff::Timestamp) {
    let path = fixture.source().join(name_of(number));
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::from(time - jiff::SignedDuration::from_hours(1))).unwrap();
}

/// The volume as it is before the first night.
fn volume(fixture: &Fixture, state: &mut u64, start: jiff::Timestamp) {
    let at = |nights: u64| start - jiff::SignedDuration::from_hours(24 * nights.cast_signed());
    (0..FILES).for_each(|number| file(fixture, state, number, at(NIGHTS_BEFORE)));
    let mut state = 2;
    for nights in (0..NIGHTS_BEFORE).rev() {
        for _ in 0..CHANGES {
            changed_at(fixture, changed(&mut state), at(nights));
        }
    }
}

struct Pieces<'a, 'reader> {
    reader: ChunkReader<'reader>,
    seen: &'a RefCell<BTreeSet<ChunkId>>,
}

impl PieceSource for Pieces<'_, '_> {
    type Error = ReadError;

    fn piece(&mut self, id: &ChunkId, into: &mut Vec<u8>) -> Result<(), ReadError> {
        self.seen.borrow_mut().insert(*id);
        self.reader.piece(id, into)
    }
}

/// Bytes that all chunks need which a snapshot has: each its part of its compressed frame.
fn ideal(repository: &Repository) -> u64 {
    let snapshots: Vec<_> =
        repository.snapshots().unwrap().into_iter().map(|(_, read)| read.unwrap()).collect();
    let (index, _) = repository.index_for_reading(&snapshots).unwrap();
    let seen = RefCell::new(BTreeSet::new());
    for snapshot in &snapshots {
        let reader = ChunkReader::new(repository, &index).unwrap();
        let mut tree = TreeReader::new(&snapshot.tree, Pieces { reader, seen: &seen });
        while let Some(entry) = tree.next_entry().unwrap() {
            let Kind::File(content) = entry.kind else { continue };
            let chunks = content.extents.iter().filter_map(|extent| match extent {
                Extent::Chunk(id) => Some(*id),
                Extent::Hole(_) => None,
            });
            seen.borrow_mut().extend(chunks);
        }
    }
    let part = |id: &ChunkId| {
        let place = index.find(id).unwrap();
        let frame = index.pack(place.pack).unwrap().frames[place.frame as usize];
        u64::from(frame.stored) * u64::from(place.length) / u64::from(frame.content)
    };
    seen.borrow().iter().map(part).sum()
}

/// Night by night a backup, the rules of retention and a prune. Returns the worst of what was stored in the second half, divided
/// by what was needed.
fn sixty_nights(
    fixture: &Fixture,
    reader: impl Fn() -> Repository,
    options: &PruneOptions,
    seed: u64,
) -> f64 {
    // Later than the times that files get here: nothing is racy.
    let start: jiff::Timestamp = "2096-01-01T02:00:00Z".parse().unwrap();
    let mut state = seed;
    volume(fixture, &mut state, start);
    let rules = Policy { daily: 7, weekly: 4, monthly: 6, ..Policy::default() };
    let forget_options = ForgetOptions {
        wanted: Wanted::ByRules(rules),
        name: None,
        host: None,
        tags: Default::default(),
        node: None,
        dry_run: false,
    };
    let (mut worst, mut sum, mut first, mut uploaded, mut moved) = (0_f64, 0_f64, 0, 0, 0);
    for night in 0..NIGHTS {
        let time = start + jiff::SignedDuration::from_hours(24 * i64::try_from(night).unwrap());
        for _ in 0..CHANGES {
            let number = changed(&mut state);
            file(fixture, &mut state, number, time);
        }
        let create = crate::create::CreateOptions { time, ..fixture.options() };
        let stored = fixture.create_with(create).unwrap().snapshot.stats.bytes_stored;
        if night == 0 {
            first = stored;
        } else {
            uploaded += stored;
        }
        forget(&fixture.test.repository, &forget_options, time, &Shutdown::new()).unwrap();
        moved += run(fixture, options).unwrap().rewritten.bytes;
        pass(fixture, DAY);
        if night >= NIGHTS / 2 {
            let stored: u64 = fixture.test.repository.stored_packs().unwrap().values().sum();
            let ratio = stored as f64 / ideal(&reader()) as f64;
            worst = worst.max(ratio);
            sum += ratio;
        }
    }
    let average = sum / (NIGHTS - NIGHTS / 2) as f64;
    let packs = fixture.test.objects("packs/").len();
    println!(
        "volume {seed}: stored is at worst {worst:.3} times what is needed, {average:.3} on average; after the first {first} bytes \
         backups stored {uploaded}, prunes {moved}; {packs} packs in the end"
    );
    worst
}

/// The worst of all volumes.
fn worst(of_volume: impl Fn(u64) -> f64) -> f64 {
    let soak = std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok());
    (1..=VOLUMES * soak.unwrap_or(1)).map(of_volume).fold(0_f64, f64::max)
}

/// Where packs can be read, they are stored anew when more than the usual 5 % are of no use.
const REPACKING: PruneOptions = PruneOptions {
    repack: RepackRules { max_unused: Unused::Percent(5), bytes_max: None },
    ..OPTIONS
};

#[test]
fn sixty_nights_of_forgetting_and_pruning_lose_nothing_and_stay_bounded() {
    let ratio = worst(|seed| {
        let fixture = Fixture::new();
        let reader = || fixture.test.repository.clone();
        let ratio = sixty_nights(&fixture, reader, &REPACKING, seed);
        assert_sound(&fixture);
        ratio
    });
    assert!(ratio <= RATIO_MAX, "{ratio:.2} times what is needed is stored");
}

#[test]
fn sixty_nights_without_the_private_key_lose_nothing_and_stay_bounded() {
    let ratio = worst(|seed| {
        let fixture = Fixture::encrypted();
        let reader = || fixture.test.readable();
        let ratio = sixty_nights(&fixture, reader, &repack::EVERYTHING, seed);
        let whole = "100".parse().unwrap();
        let options = CheckOptions { read_data: Some(whole), rotation: 0, threads: 2 };
        let report = check(&reader(), &options, &Progress::new(), &Shutdown::new()).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
        ratio
    });
    assert!(ratio <= RATIO_MAX, "{ratio:.2} times what is needed is stored");
}
