//! Backups over a network that drops, delays, cuts and refuses at random, to real S3 services: nothing is lost, and nothing half
//! made is visible.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::fault_proxy::{FAULTS, Fault, FaultProxy};
use e2e::object_store::{Address, ObjectStore};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Tree, manifest};

use crate::tool::{Created, FAILED, Repo, WARNINGS};

/// Repositories that are written at the same time: most of a failing run is waiting.
const LANES: usize = 20;

/// Backups in each lane: 200 in all lanes. `CHORES_SOAK` multiplies them.
const BACKUPS: usize = 10;

/// How many of a thousand requests fail, from one backup to the next: most runs get through, some do not.
const RATES: [u32; 5] = [100, 250, 0, 150, 700];

/// One restore through the faults after so many backups.
const RESTORE_EACH: usize = 5;

/// How long one run may take: a few requests that each fail some times.
const RUN_TIME_MAX: Duration = Duration::from_secs(240);

const SEED: u64 = 0x6e65_7477;

fn backups() -> usize {
    let soak = std::env::var("CHORES_SOAK").ok().and_then(|soak| soak.parse::<usize>().ok());
    BACKUPS * soak.unwrap_or(1)
}

/// A tree of small files of which some change from one backup to the next.
fn change(source: &Path, random: &mut Random, number: usize) {
    for _ in 0..3 {
        let name = format!("file-{}", random.below(12));
        let length = usize::try_from(random.below(20_000)).unwrap();
        fs::write(source.join(name), random.bytes(length)).unwrap();
    }
    let directory = source.join(format!("directory-{}", number % 3));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("number"), number.to_string()).unwrap();
}

/// What a repository must hold.
struct Lane<'a> {
    sandbox: &'a Sandbox,
    /// Over the network that fails.
    faulty: Repo,
    /// Past it.
    direct: Repo,
    /// The trees that were saved, by the ids of their snapshots.
    saved: BTreeMap<String, Tree>,
    /// Runs that failed.
    failed: usize,
    /// Runs that failed, and whose snapshot is there all the same.
    unanswered: usize,
}

impl Lane<'_> {
    /// One backup, and a look past the faults at what it has left.
    fn back_up(&mut self, source: &Path, context: &str) {
        let run = self.faulty.run(["create", "--json"]).arg(source).deadline(RUN_TIME_MAX);
        let finished = run.finish();
        let wanted = tree::read(source);
        let listed = self.direct.snapshot_ids();
        let lost: Vec<_> = self.saved.keys().filter(|id| !listed.contains(id)).collect();
        assert!(lost.is_empty(), "{context}: {lost:?} are lost: {finished}");
        let mut new = listed.iter().filter(|id| !self.saved.contains_key(*id));
        let (found, more) = (new.next().cloned(), new.next());
        assert_eq!(more, None, "{context}: one run made several snapshots: {finished}");
        match finished.code() {
            Some(0) => {
                let created = Created::of(&finished);
                assert_eq!(found.as_ref(), Some(&created.snapshot), "{context}: {finished}");
                assert_eq!(created.state, "complete", "{context}: {finished}");
            }
            // It is made, and nothing tells whether it is as usual.
            Some(WARNINGS) => {
                let created = Created::of(&finished);
                assert_eq!(found.as_ref(), Some(&created.snapshot), "{context}: {finished}");
                assert!(created.is_incomparable(), "{context}: {finished}");
            }
            Some(FAILED) => {
                self.failed += 1;
                self.unanswered += usize::from(found.is_some());
            }
            _ => panic!("{context}: neither done nor failed: {finished}"),
        }
        // What is visible is whole, whatever the run said.
        if let Some(id) = found {
            let target = self.sandbox.path(format!("target-{id}"));
            let restored = self.direct.restored(&id, &target);
            assert_eq!(manifest(&restored), manifest(&wanted), "{context}: {id} is another tree");
            fs::remove_dir_all(target).unwrap();
            self.saved.insert(id, wanted);
        }
        let check = self.direct.run(["check", "--json"]).finish();
        assert_eq!(check.code(), Some(0), "{context}: {check}");
    }

    /// A restore through the faults: whole, or failed.
    fn restore(&self, random: &mut Random, context: &str) {
        let number = random.below(self.saved.len() as u64);
        let nth = self.saved.iter().nth(usize::try_from(number).unwrap());
        let Some((id, wanted)) = nth else { return };
        let target = self.sandbox.path(format!("far-{id}"));
        let run = self.faulty.restore_run(id, &target, &[]).deadline(RUN_TIME_MAX);
        let finished = run.finish();
        match finished.code() {
            Some(0) => {
                let found = tree::read(&target);
                assert_eq!(manifest(&found), manifest(wanted), "{context}: {id} is another tree");
            }
            Some(FAILED) => {}
            _ => panic!("{context}: neither done nor failed: {finished}"),
        }
        fs::remove_dir_all(target).ok();
    }
}

/// Backups into one repository of a store; what failed on the way.
fn lane(address: &Address, prefix: &str, seed: u64, backups: usize) -> Vec<Fault> {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    let proxy = FaultProxy::to(&address.endpoint, seed);
    let through = Address { endpoint: proxy.endpoint(), ..address.clone() };
    let url = address.url(prefix);
    let faulty = Repo::on_store(&sandbox, &through, &url);
    let direct = Repo::on_store(&sandbox, address, &url).elsewhere(sandbox.path("past"));
    direct.run(["init"]).succeed();
    let mut random = Random::new(seed);
    let mut lane = Lane {
        sandbox: &sandbox,
        faulty,
        direct,
        saved: BTreeMap::new(),
        failed: 0,
        unanswered: 0,
    };
    for number in 0..backups {
        let context = format!("seed {seed}, backup {number}");
        change(&source, &mut random, number);
        proxy.fail(RATES[number % RATES.len()]);
        lane.back_up(&source, &context);
        if number % RESTORE_EACH == RESTORE_EACH - 1 {
            proxy.fail(RATES[1]);
            lane.restore(&mut random, &context);
        }
    }
    // After the last one of them a backup without faults is one more, and all that was ever saved is there.
    proxy.fail(0);
    lane.back_up(&source, "the last");
    lane.direct.check_clean();
    for (id, wanted) in &lane.saved {
        let target = sandbox.path(format!("end-{id}"));
        let restored = lane.direct.restored(id, &target);
        assert_eq!(manifest(&restored), manifest(wanted), "seed {seed}: {id} is another tree");
        fs::remove_dir_all(target).unwrap();
    }
    e2e::notice!(
        "{backups} backups, seed {seed}: {} saved, {} failed ({} of them only without an answer), {} faults",
        lane.saved.len(),
        lane.failed,
        lane.unanswered,
        proxy.happened().len()
    );
    proxy.happened()
}

#[test]
fn a_network_that_fails_at_random_loses_nothing_and_shows_nothing_half() {
    let stores = ObjectStore::all();
    for (number, store) in stores.iter().enumerate() {
        let backups = backups().div_ceil(stores.len());
        let happened: Vec<Fault> = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane_number| {
                    let seed = SEED + (number * LANES + lane_number) as u64;
                    let prefix = format!("{}-{lane_number}", prefix_of(store));
                    let address = store.address();
                    scope.spawn(move || lane(address, &prefix, seed, backups))
                })
                .collect();
            lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
        });
        for fault in FAULTS {
            assert!(happened.contains(&fault), "{}: {fault:?} never came", store.kind());
        }
    }
}

/// Where in the bucket nobody else writes.
fn prefix_of(store: &ObjectStore) -> String {
    let url = store.url();
    url.rsplit('/').next().unwrap_or_default().to_owned()
}
