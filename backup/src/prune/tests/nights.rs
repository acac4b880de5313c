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

/// Nights of an ordinary run; `CHORES_SOAK` multiplies them.
const NIGHTS: u64 = 60;

/// Files of the volume, of 2 to 120 KB.
const FILES: u64 = 300;

/// The first so many files are where nine of ten changes are, as logs and databases are in a volume.
const HOT: u64 = 30;

/// Changes of a night.
const CHANGES: u64 = 40;

/// What is stored, divided by what the chunks need that snapshots have, at the most. Whole packs alone go, and one file in ten
/// that is changed lives long: measured 2.9.
const RATIO_MAX: f64 = 3.2;

fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn file(fixture: &Fixture, state: &mut u64, number: u64) {
    let length = 2_000 + next(state, 118_000);
    let content = noise(next(state, u64::MAX), usize::try_from(length).unwrap());
    fixture.write(&format!("d{}/{number}", number % 10), &content);
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
fn ideal(fixture: &Fixture) -> u64 {
    let repository = &fixture.test.repository;
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

#[test]
fn sixty_nights_of_forgetting_and_pruning_lose_nothing_and_stay_bounded() {
    let fixture = Fixture::new();
    let soak = std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok());
    let mut state = 1;
    (0..FILES).for_each(|number| file(&fixture, &mut state, number));
    let rules = Policy { daily: 7, weekly: 4, monthly: 6, ..Policy::default() };
    let options = ForgetOptions { wanted: Wanted::ByRules(rules), name: None, dry_run: false };
    let start: jiff::Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
    let mut worst = 0_f64;
    let nights = NIGHTS * soak.unwrap_or(1_u64);
    for night in 0..nights {
        for _ in 0..CHANGES {
            let among = if next(&mut state, 10) < 9 { HOT } else { FILES };
            let number = next(&mut state, among);
            file(&fixture, &mut state, number);
        }
        let time = start + jiff::SignedDuration::from_hours(24 * i64::try_from(night).unwrap());
        // Everything is read: the tests' times say nothing of what changed.
        let options_of_night =
            crate::create::CreateOptions { time, cache: None, ..fixture.options() };
        fixture.create_with(options_of_night).unwrap();
        forget(&fixture.test.repository, &options, time, &Shutdown::new()).unwrap();
        pruned(&fixture);
        pass(&fixture, DAY);
        if night >= nights / 2 {
            let stored: u64 = fixture.test.repository.stored_packs().unwrap().values().sum();
            worst = worst.max(stored as f64 / ideal(&fixture) as f64);
        }
    }
    println!("at worst {worst:.2} times what is needed is stored");
    assert_sound(&fixture);
    assert!(worst <= RATIO_MAX, "{worst:.2} times what is needed is stored");
}
