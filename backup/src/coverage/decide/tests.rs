use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkId;
use crate::coverage::hosts::Hosts;
use crate::coverage::inventory::Known;
use crate::repository::tests::snapshot;
use crate::snapshot::{DumpProof, SourceContainer, SourceVolume};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> Timestamp {
    at("2026-11-30T12:00:00Z")
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn id(number: u8) -> SnapshotId {
    SnapshotId(ChunkId([number; 16]))
}

/// A snapshot of the host `web1`.
fn recorded(number: u8, time: &str) -> Recorded {
    let snapshot = Snapshot { host: "web1".to_owned(), ..snapshot("data", time) };
    Recorded { id: id(number), snapshot, standing: Standing::Proved, drill: None }
}

fn with(mut known: Recorded, change: impl FnOnce(&mut Snapshot)) -> Recorded {
    change(&mut known.snapshot);
    known
}

fn source(path: &str, volume: Option<(&str, &str)>) -> Source {
    let volume = volume.map(|(kind, name)| SourceVolume {
        kind: kind.to_owned(),
        name: name.to_owned(),
        driver: String::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    });
    Source { path: path.to_owned(), volume }
}

/// One of the volume `data`, as the engine has said.
fn copy(number: u8, time: &str) -> Recorded {
    with(recorded(number, time), |snapshot| {
        snapshot.sources = vec![source("/volumes/data", Some(("volume", "data")))];
    })
}

fn in_container(name: &str, id: &str) -> SourceContainer {
    SourceContainer {
        name: name.to_owned(),
        id: id.to_owned(),
        image: String::new(),
        image_id: String::new(),
    }
}

fn dump(number: u8, time: &str, kind: DumpKind, container: Option<SourceContainer>) -> Recorded {
    with(recorded(number, time), |snapshot| {
        snapshot.name = "db".to_owned();
        snapshot.sources = vec![source("/dump/db", None)];
        snapshot.dumps = vec![DumpRecord {
            kind,
            path: "/dump/db".to_owned(),
            server: String::new(),
            container,
            databases: Vec::new(),
            files: Vec::new(),
            proof: DumpProof { exit_code: Some(0), marker: true, trailer: None },
        }];
    })
}

fn plain(what: What) -> DataSource {
    DataSource {
        what,
        users: Vec::new(),
        places: BTreeSet::new(),
        real: None,
        database: None,
        left_out: None,
        remarks: Vec::new(),
    }
}

fn volume() -> DataSource {
    plain(What::Volume {
        name: "data".to_owned(),
        mountpoint: "/var/lib/docker/volumes/data/_data".to_owned(),
    })
}

fn db() -> Identity {
    Identity { id: "db-id".to_owned(), name: "db".to_owned(), slot: None }
}

fn database() -> DataSource {
    plain(What::Database { kind: Some(DumpKind::Mysql), container: db() })
}

/// A machine that calls itself `box`, and saves as `web1`.
fn hosts() -> Hosts {
    let set = |name: &str| BTreeSet::from([name.to_owned()]);
    Hosts {
        names: BTreeSet::from(["web1".to_owned(), "box".to_owned()]),
        machine: set("box"),
        any: false,
    }
}

fn decided(sources: Vec<DataSource>, history: &[Recorded]) -> Vec<Row> {
    let inventory = Inventory { sources, ..Inventory::default() };
    decided_of(&inventory, history)
}

fn decided_of(inventory: &Inventory, history: &[Recorded]) -> Vec<Row> {
    let hosts = hosts();
    let snapshots = history.iter().map(|known| &known.snapshot);
    let judge = Judge::new(&hosts, &inventory.containers, snapshots, now());
    decide(&Question { inventory, history, judge: &judge, now: now(), age_max: DAY })
}

fn one(source: DataSource, history: &[Recorded]) -> Row {
    let mut rows = decided(vec![source], history);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn proof(row: &Row) -> SnapshotId {
    row.proof.as_ref().expect("a proof").id
}

#[test]
fn the_newest_proved_snapshot_decides_by_its_age() {
    let history = [copy(1, "2026-11-28T02:00:00Z"), copy(2, "2026-11-30T02:00:00Z")];
    let row = one(volume(), &history);
    assert_eq!((row.state, proof(&row)), (State::Protected, id(2)));
    assert_eq!(row.proof.unwrap().age, Some(Duration::from_secs(10 * 60 * 60)));
    assert_eq!(row.reasons, Vec::<String>::new());
    let row = one(volume(), &history[..1]);
    assert_eq!((row.state, proof(&row)), (State::Overdue, id(1)));
    let row = one(volume(), &[]);
    assert_eq!((row.state, row.proof), (State::Unprotected, None));
}

#[test]
fn what_does_not_count_protects_nothing_and_hides_nothing() {
    let faults: [fn(&mut Recorded); 5] = [
        |known| known.standing = Standing::Suspicious,
        |known| known.standing = Standing::Failed,
        |known| known.standing = Standing::Unproved,
        |known| known.standing = Standing::Incomplete,
        |known| known.drill = Some(Outcome::Failed),
    ];
    for fault in faults {
        let good = copy(1, "2026-11-30T01:00:00Z");
        let mut bad = copy(2, "2026-11-30T02:00:00Z");
        fault(&mut bad);
        let row = one(volume(), &[bad.clone()]);
        assert_eq!((row.state, proof(&row)), (State::Unproved, id(2)), "{row:?}");
        let row = one(volume(), &[good, bad.clone()]);
        assert_eq!((row.state, proof(&row)), (State::Protected, id(1)), "{row:?}");
        assert!(row.reasons[0].contains("does not count"), "{row:?}");
        let old = copy(1, "2026-11-01T01:00:00Z");
        let row = one(volume(), &[old, bad]);
        assert_eq!((row.state, proof(&row)), (State::Overdue, id(1)), "{row:?}");
    }
    let drilled = Recorded { drill: Some(Outcome::Good), ..copy(1, "2026-11-30T01:00:00Z") };
    assert_eq!(one(volume(), &[drilled]).state, State::Protected);
}

#[test]
fn a_snapshot_from_the_future_makes_nothing_look_fresh() {
    let ahead = copy(9, "2027-11-30T02:00:00Z");
    let row = one(volume(), std::slice::from_ref(&ahead));
    assert_eq!(row.state, State::Unknown);
    assert_eq!(row.proof.as_ref().unwrap().age, None);
    assert!(row.reasons[0].contains("ahead of this machine's clock"), "{row:?}");
    let row = one(volume(), &[copy(1, "2026-11-01T02:00:00Z"), ahead.clone()]);
    assert_eq!((row.state, proof(&row)), (State::Overdue, id(1)), "{row:?}");
    let row = one(volume(), &[copy(1, "2026-11-30T02:00:00Z"), ahead]);
    assert_eq!((row.state, proof(&row)), (State::Protected, id(1)), "{row:?}");
    assert!(row.reasons[0].contains("ahead"), "{row:?}");
    // Clocks are never quite the same.
    let row = one(volume(), &[copy(1, "2026-11-30T12:04:00Z")]);
    assert_eq!((row.state, row.proof.unwrap().age), (State::Protected, Some(Duration::ZERO)));
}

#[test]
fn volumes_and_paths_are_known_by_what_the_engine_calls_them() {
    let time = "2026-11-30T02:00:00Z";
    let of = |source: DataSource, saved: Source| {
        one(source, &[with(recorded(1, time), |snapshot| snapshot.sources = vec![saved])]).state
    };
    let bind = || plain(What::Bind { path: "/srv/www".to_owned() });
    assert_eq!(of(volume(), source("/x", Some(("volume", "data")))), State::Protected);
    assert_eq!(of(volume(), source("/data", Some(("volume", "data2")))), State::Unprotected);
    assert_eq!(of(volume(), source("/data", Some(("bind", "data")))), State::Unprotected);
    assert_eq!(of(bind(), source("/x", Some(("bind", "/srv/www")))), State::Protected);
    assert_eq!(of(bind(), source("/srv/www", Some(("volume", "www")))), State::Unprotected);
    assert_eq!(of(bind(), source("/srv/www", None)), State::Protected);
    assert_eq!(of(bind(), source("/srv/www2", None)), State::Unprotected);
    let place = "/var/lib/docker/volumes/data/_data";
    assert_eq!(of(volume(), source(place, None)), State::Protected);
    // What was left out of it, no snapshot says.
    for above in ["/", "/srv"] {
        assert_eq!(of(bind(), source(above, None)), State::Unknown, "{above}");
        assert_eq!(of(bind(), source("/x", Some(("bind", above)))), State::Unknown, "{above}");
    }
}

#[test]
fn a_mount_of_no_known_kind_is_unknown() {
    let row = one(plain(What::Mount { name: "web:/data".to_owned() }), &[]);
    assert_eq!((row.kind(), row.name(), row.state), ("mount", "web:/data", State::Unknown));
    assert!(row.reasons[0].contains("--except"), "{row:?}");
}

#[test]
fn a_link_is_the_path_it_leads_to() {
    let current = || DataSource {
        real: Some("/srv/releases/7".to_owned()),
        ..plain(What::Bind { path: "/srv/current".to_owned() })
    };
    let state = |path: &str| {
        let saved = with(recorded(1, "2026-11-30T02:00:00Z"), |snapshot| {
            snapshot.sources = vec![source(path, None)];
        });
        one(current(), &[saved]).state
    };
    assert_eq!(state("/srv/releases/7"), State::Protected);
    assert_eq!(state("/srv/releases"), State::Unknown);
    assert_eq!(state("/srv/releases/6"), State::Unprotected);
}

#[test]
fn what_was_saved_with_a_warning_about_all_of_it_may_not_be_there() {
    let of = |warnings: &[&str]| {
        let known = with(copy(1, "2026-11-30T02:00:00Z"), |snapshot| {
            snapshot.warning_count = warnings.len() as u64;
            snapshot.warnings = warnings.iter().map(|warning| (*warning).to_owned()).collect();
        });
        let row = one(volume(), &[known]);
        assert_eq!(row.proof.unwrap().warning_count, warnings.len() as u64);
        (row.state, row.reasons)
    };
    let small = "/volumes/data/log disappeared while the tree was read";
    let empty = "/volumes/data is empty: is its volume mounted?";
    let (state, reasons) = of(&[small]);
    assert_eq!(state, State::Protected);
    assert_eq!(reasons, [format!("it was saved with a warning: {small}")]);
    let (state, reasons) = of(&[small, empty]);
    assert_eq!(state, State::Unknown);
    assert_eq!(reasons, [format!("it was saved with 2 warnings, such as: {empty}")]);
    assert_eq!(of(&["/volumes/data2 is empty: is its volume mounted?"]).0, State::Protected);
}

#[test]
fn a_path_in_a_container_counts_under_the_containers_name_only() {
    let used = || DataSource {
        places: BTreeSet::from([("web".to_owned(), "/data".to_owned())]),
        ..volume()
    };
    let saved = |name: &str, path: &str, host: &str| {
        with(recorded(1, "2026-11-30T02:00:00Z"), |snapshot| {
            name.clone_into(&mut snapshot.name);
            host.clone_into(&mut snapshot.host);
            snapshot.sources = vec![source(path, None)];
        })
    };
    let state = |known| one(used(), &[known]).state;
    assert_eq!(state(saved("web", "/data", "web1")), State::Protected);
    assert_eq!(state(saved("web", "/data/sub", "web1")), State::Unprotected);
    assert_eq!(state(saved("web2", "/data", "web1")), State::Unprotected);
    assert_eq!(state(saved("web", "/data", "web2")), State::Unprotected);
    // On the host, anything may be called so.
    let row = one(used(), &[saved("web", "/data", "box")]);
    assert_eq!(row.state, State::Unknown);
    assert!(row.reasons[0].contains("through the engine"), "{row:?}");
    // A throw-away container.
    let row = one(used(), &[saved("web", "/data", "0123456789ab")]);
    assert_eq!(row.state, State::Unknown);
    assert!(row.reasons[0].contains("--host"), "{row:?}");
}

#[test]
fn snapshots_of_other_hosts_protect_nothing_here() {
    let time = "2026-11-30T02:00:00Z";
    let from = |host: &str| with(copy(1, time), |snapshot| host.clone_into(&mut snapshot.host));
    let row = one(volume(), &[from("web2")]);
    assert_eq!(row.state, State::Unprotected);
    assert!(row.reasons[0].contains("web2"), "{row:?}");
    assert_eq!(one(volume(), &[from("0123456789ab")]).state, State::Unknown);
    // Too old to be of any use, whosever it is.
    let old = with(copy(1, "2025-11-30T02:00:00Z"), |snapshot| {
        "0123456789ab".clone_into(&mut snapshot.host);
    });
    assert_eq!(one(volume(), &[old]).state, State::Unprotected);
    // The name of an anonymous volume is random.
    let name = "ab".repeat(32);
    let anonymous = plain(What::Volume { name: name.clone(), mountpoint: String::new() });
    let saved = with(from("0123456789ab"), |snapshot| {
        snapshot.sources = vec![source("/x", Some(("volume", &name)))];
    });
    assert_eq!(one(anonymous.clone(), std::slice::from_ref(&saved)).state, State::Protected);
    // A machine that was cloned has it too.
    let cloned = with(saved, |snapshot| "web2".clone_into(&mut snapshot.host));
    let row = one(anonymous, &[cloned]);
    assert_eq!(row.state, State::Unknown);
    assert!(row.reasons[0].contains("`--host web2`"), "{row:?}");
}

#[test]
fn only_a_dump_of_that_very_database_protects_it() {
    let time = "2026-11-30T02:00:00Z";
    let state = |kind, container| one(database(), &[dump(1, time, kind, container)]).state;
    let ours = || Some(in_container("db", "db-id"));
    assert_eq!(state(DumpKind::Mysql, ours()), State::Protected);
    // The container before it, or before it was renamed.
    assert_eq!(state(DumpKind::Mysql, Some(in_container("db", "old-id"))), State::Protected);
    assert_eq!(state(DumpKind::Mysql, Some(in_container("base", "db-id"))), State::Protected);
    assert_eq!(state(DumpKind::Mysql, Some(in_container("db2", "other"))), State::Unprotected);
    assert_eq!(state(DumpKind::Redis, ours()), State::Unprotected);
    // It is called as the container, which anything may be.
    assert_eq!(state(DumpKind::Mysql, None), State::Unknown);
    // A command gives anything; an operator may say that it is all.
    let given = [dump(1, time, DumpKind::Command, ours())];
    let row = one(database(), &given);
    assert_eq!(row.state, State::Unknown);
    assert!(row.reasons[0].contains("chores.backup.dump=command"), "{row:?}");
    let of = |kind| plain(What::Database { kind, container: db() });
    assert_eq!(one(of(Some(DumpKind::Command)), &given).state, State::Protected);
    // Of two databases in it, each has a dump of its own.
    let row = one(of(None), &[dump(1, time, DumpKind::Redis, ours())]);
    assert_eq!(row.state, State::Unknown);
    assert!(row.reasons[0].contains("chores.backup.dump"), "{row:?}");
    // Files are no dump.
    let files = with(copy(1, time), |snapshot| snapshot.container = ours());
    let used = DataSource { users: vec!["db".to_owned()], ..volume() };
    let rows = decided(vec![database(), used], &[files]);
    assert_eq!((rows[0].kind(), rows[0].state), ("database", State::Unprotected));
    assert!(rows[0].reasons[1].contains("chores.backup.dump=false"), "{rows:?}");
    assert_eq!(rows[1].state, State::Protected);
}

#[test]
fn the_files_of_a_database_are_protected_by_its_dump() {
    let its = || DataSource { database: Some(db()), ..volume() };
    let good = dump(1, "2026-11-30T02:00:00Z", DumpKind::Mysql, Some(in_container("db", "db-id")));
    let state = |sources: Vec<DataSource>, history: &[Recorded]| {
        let rows = decided(sources, history);
        let row = rows.iter().find(|row| row.kind() == "volume").unwrap().clone();
        (row.state, row.reasons)
    };
    let (found, reasons) = state(vec![database(), its()], std::slice::from_ref(&good));
    assert_eq!((found, reasons), (State::Protected, vec!["by the dump of db".to_owned()]));
    assert_eq!(
        state(vec![database(), volume()], std::slice::from_ref(&good)).0,
        State::Unprotected
    );
    let ours = Some(in_container("db", "db-id"));
    let given = dump(1, "2026-11-30T02:00:00Z", DumpKind::Command, ours);
    assert_eq!(state(vec![database(), its()], &[given]).0, State::Unprotected);
    let failed = Recorded { standing: Standing::Failed, ..good };
    assert_eq!(state(vec![database(), its()], &[failed]).0, State::Unproved);
}

#[test]
fn a_database_that_nobody_recognises_is_known_by_its_dumps() {
    let of = |may_be_dumped| {
        let known = Known { identity: db(), started: None, may_be_dumped };
        let inventory = Inventory { containers: vec![known], ..Inventory::default() };
        let ours = Some(in_container("db", "db-id"));
        decided_of(&inventory, &[dump(1, "2026-11-01T02:00:00Z", DumpKind::Sqlite, ours)])
    };
    let rows = of(true);
    assert_eq!((rows.len(), rows[0].kind(), rows[0].state), (1, "database", State::Overdue));
    assert_eq!(of(false), Vec::new());
}

#[test]
fn what_is_left_out_is_told_and_is_last() {
    let left_out = DataSource { left_out: Some("by order".to_owned()), ..volume() };
    let bind = |path: &str| plain(What::Bind { path: path.to_owned() });
    let old = with(recorded(1, "2026-11-01T02:00:00Z"), |snapshot| {
        snapshot.sources = vec![source("/old", None)];
    });
    let older = with(recorded(2, "2026-10-01T02:00:00Z"), |snapshot| {
        snapshot.sources = vec![source("/older", None)];
    });
    let good = copy(3, "2026-11-30T02:00:00Z");
    let sources = vec![left_out, volume(), bind("/old"), bind("/older"), bind("/b"), bind("/a")];
    let rows = decided(sources, &[old, older, good]);
    let order: Vec<_> = rows.iter().map(|row| (row.name(), row.state)).collect();
    assert_eq!(
        order,
        [
            ("/a", State::Unprotected),
            ("/b", State::Unprotected),
            ("/older", State::Overdue),
            ("/old", State::Overdue),
            ("data", State::Protected),
            ("data", State::LeftOut),
        ]
    );
    assert_eq!(rows[5].reasons, ["by order"]);
}

/// Snapshots of the volume `data`, some of them good for nothing.
fn history() -> impl Strategy<Value = Vec<Recorded>> {
    let hosts = prop_oneof![Just("web1"), Just("web2"), Just("0123456789ab")];
    let standings = prop_oneof![
        3 => Just(Standing::Proved),
        1 => Just(Standing::Suspicious),
        1 => Just(Standing::Failed),
        1 => Just(Standing::Incomplete),
    ];
    let drills = prop_oneof![3 => Just(None), 1 => Just(Some(Outcome::Failed))];
    let links = prop_oneof![2 => Just("data"), 1 => Just("other")];
    // Hours back; some are ahead.
    let one = (-100i64..100, hosts, standings, drills, links);
    proptest::collection::vec(one, 0..12).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(number, (hours, host, standing, drill, name))| {
                let time = Timestamp::from_second(now().as_second() - hours * 3600).unwrap();
                let known = with(copy(number as u8, &time.to_string()), |snapshot| {
                    host.clone_into(&mut snapshot.host);
                    snapshot.sources = vec![source("/x", Some(("volume", name)))];
                });
                Recorded { standing, drill, ..known }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn protected_is_only_what_a_counted_snapshot_of_this_host_has(history in history()) {
        let row = one(volume(), &history);
        let good = |known: &&Recorded| {
            known.counts()
                && known.snapshot.host == "web1"
                && known.snapshot.sources[0].volume.as_ref().unwrap().name == "data"
        };
        let age = |known: &Recorded| now().as_second() - known.snapshot.time.as_second();
        let young = history.iter().filter(good).any(|known| (0..=86_400).contains(&age(known)));
        prop_assert_eq!(row.state == State::Protected, young);
        if let Some(proof) = &row.proof {
            let known = history.iter().find(|known| known.id == proof.id).unwrap();
            prop_assert_eq!(known.snapshot.host.as_str(), "web1");
            prop_assert!(row.state == State::Unproved || known.counts());
        }
    }

    #[test]
    fn the_order_of_the_listing_decides_nothing(history in history(), turn in 0usize..12) {
        let row = one(volume(), &history);
        let mut turned = history;
        if !turned.is_empty() {
            let by = turn % turned.len();
            turned.rotate_left(by);
        }
        // Of two at the same moment, either may be the doubtful one.
        let again = one(volume(), &turned);
        prop_assert_eq!((row.state, row.proof), (again.state, again.proof));
    }

    #[test]
    fn a_longer_age_never_makes_it_worse(history in history(), hours in 0u64..200) {
        let inventory = Inventory { sources: vec![volume()], ..Inventory::default() };
        let hosts = hosts();
        let snapshots = history.iter().map(|known| &known.snapshot);
        let judge = Judge::new(&hosts, &[], snapshots, now());
        let state = |hours: u64| {
            let age_max = Duration::from_secs(hours * 3600);
            let question =
                Question { inventory: &inventory, history: &history, judge: &judge, now: now(), age_max };
            decide(&question)[0].state
        };
        prop_assert!(state(hours) <= state(hours + 1));
    }
}
