use chores_common::engine::{Container, Volume};

use super::inventory::Found;
use super::*;
use crate::drill_record::{self, DrillRecord, Outcome};
use crate::forget::decide::Standing;
use crate::machine::{BOOT_TAG, Boot};
use crate::repository::tests::{TestRepository, snapshot};
use crate::snapshot::{Snapshot, SnapshotName, Source, SourceVolume};

/// An address where no engine is.
const NOWHERE: &str = "unix:///nowhere/docker.sock";

fn now() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn of_volume(name: &str, time: &str) -> Snapshot {
    let volume = SourceVolume {
        kind: "volume".to_owned(),
        name: name.to_owned(),
        driver: "local".to_owned(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    };
    let source = Source { path: format!("/volumes/{name}"), volume: Some(volume) };
    Snapshot { sources: vec![source], host: "web1".to_owned(), ..snapshot(name, time) }
}

fn put(test: &TestRepository, made: &Snapshot) -> SnapshotName {
    for pack in &made.packs {
        test.repository.store().put(&test.repository.pack_key(pack), "a pack").unwrap();
    }
    test.repository.put_snapshot(made).unwrap()
}

fn options() -> StatusOptions {
    StatusOptions {
        wanted: Vec::new(),
        except: Vec::new(),
        age_max: Duration::from_secs(26 * 60 * 60),
        hosts: vec!["web1".to_owned()],
        any_host: false,
        own: Vec::new(),
        now: now(),
    }
}

fn asked(test: &TestRepository, options: &StatusOptions) -> Result<Report, StatusError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    status(&test.repository, options, Some(NOWHERE), runtime.handle(), &Shutdown::new())
}

fn volume(name: &str) -> Volume {
    Volume { name: name.to_owned(), driver: "local".to_owned(), ..Volume::default() }
}

/// A report where the engine answers.
fn answered(test: &TestRepository, options: &StatusOptions, found: Found) -> Report {
    answered_during(test, options, found, None)
}

/// The same during a boot of this machine.
fn answered_during(
    test: &TestRepository,
    options: &StatusOptions,
    found: Found,
    boot: Option<Boot>,
) -> Report {
    let asked = Asked { found, names: vec!["web1".to_owned()], boot };
    report(history(&test.repository).unwrap(), Ok(asked), "/repo".to_owned(), options).unwrap()
}

fn states(report: &Report) -> Vec<(&str, State)> {
    report.rows.iter().map(|row| (row.name(), row.state)).collect()
}

fn drill(test: &TestRepository, name: &SnapshotName, outcome: Outcome) {
    let record = DrillRecord {
        version: 1,
        snapshot: name.id.to_string(),
        time: now(),
        duration_ms: 1,
        outcome,
        parts: Vec::new(),
        host: "web1".to_owned(),
        program: "backup 0".to_owned(),
    };
    drill_record::store(&test.repository, &record, name.id).unwrap();
}

#[test]
fn without_an_engine_it_is_what_the_snapshots_tell_and_not_well() {
    let test = TestRepository::new();
    put(&test, &of_volume("data", "2026-11-30T02:00:00Z"));
    put(&test, &of_volume("old", "2026-11-01T02:00:00Z"));
    let other = Snapshot { host: "web2".to_owned(), ..of_volume("x", "2026-11-30T02:00:00Z") };
    put(&test, &other);
    let report = asked(&test, &options()).unwrap();
    assert_eq!(states(&report), [("old", State::Overdue), ("data", State::Protected)]);
    assert!(report.engine_problem.as_ref().unwrap().contains("/nowhere/docker.sock"));
    assert!(!report.is_well());
}

#[test]
fn a_machine_that_only_writes_can_tell_it_all_but_whether_content_can_be_read() {
    let test = TestRepository::encrypted();
    let good = put(&test, &of_volume("data", "2026-11-30T02:00:00Z"));
    drill(&test, &good, Outcome::Good);
    let bad = put(&test, &of_volume("bad", "2026-11-30T02:00:00Z"));
    drill(&test, &bad, Outcome::Failed);
    let report = asked(&test, &options()).unwrap();
    assert_eq!(states(&report), [("bad", State::Unproved), ("data", State::Protected)]);
    assert!(report.notes.iter().any(|note| note.contains("identity")), "{:?}", report.notes);
}

#[test]
fn a_snapshot_without_its_packs_protects_nothing_and_a_damaged_one_is_told() {
    let test = TestRepository::new();
    let lacking = of_volume("lacking", "2026-11-30T02:00:00Z");
    test.repository.put_snapshot(&lacking).unwrap();
    let report = asked(&test, &options()).unwrap();
    assert_eq!(states(&report), [("lacking", State::Unproved)]);
    assert_eq!(report.rows[0].proof.as_ref().unwrap().standing, Standing::Incomplete);
    let name = put(&test, &of_volume("data", "2026-11-30T03:00:00Z"));
    std::fs::write(test.path().join(name.key()), "{}").unwrap();
    let report = asked(&test, &options()).unwrap();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.unreadable[0].0, name.id);
}

#[test]
fn names_choose_and_exceptions_are_left_out() {
    let test = TestRepository::new();
    put(&test, &of_volume("a", "2026-11-01T02:00:00Z"));
    put(&test, &of_volume("b", "2026-11-01T02:00:00Z"));
    let named = |text: &str| vec![text.parse::<Wanted>().unwrap()];
    let report = asked(&test, &StatusOptions { wanted: named("b"), ..options() }).unwrap();
    assert_eq!(states(&report), [("b", State::Overdue)]);
    let report = asked(&test, &StatusOptions { except: named("a"), ..options() }).unwrap();
    assert_eq!(states(&report), [("b", State::Overdue), ("a", State::LeftOut)]);
    let report = asked(&test, &StatusOptions { except: named("gone"), ..options() }).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("gone")), "{:?}", report.notes);
    let error = asked(&test, &StatusOptions { wanted: named("gone"), ..options() }).unwrap_err();
    assert!(matches!(error, StatusError::Wanted(WantedError::Nothing(_))), "{error}");
}

#[test]
fn an_engine_without_anything_is_not_well() {
    let test = TestRepository::new();
    put(&test, &of_volume("data", "2026-11-30T02:00:00Z"));
    put(&test, &of_volume("old", "2026-11-01T02:00:00Z"));
    let report = answered(&test, &options(), Found::default());
    assert!(report.rows.is_empty() && !report.is_well());
    assert!(report.gaps[0].contains("nothing that can be lost"), "{:?}", report.gaps);
    let lost = "the newest snapshots of this host have what its engine has not: the volume data";
    assert_eq!(report.notes, [lost]);
    let found = Found { volumes: vec![volume("data")], ..Found::default() };
    let report = answered(&test, &options(), found);
    assert_eq!(states(&report), [("data", State::Protected)]);
    assert!(report.is_well() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_container_without_data_that_was_asked_for_is_not_well() {
    let test = TestRepository::new();
    put(&test, &of_volume("data", "2026-11-30T02:00:00Z"));
    let web = Container { name: "web".to_owned(), id: "1".to_owned(), ..Container::default() };
    let found = Found { containers: vec![web], volumes: vec![volume("data")], ..Found::default() };
    let of = |names: &[&str]| {
        let wanted = names.iter().map(|name| name.parse().unwrap()).collect();
        answered(&test, &StatusOptions { wanted, ..options() }, found.clone())
    };
    for names in [&["web"][..], &["web", "data"]] {
        let report = of(names);
        assert!(!report.is_well() && report.gaps[0].contains("web has nothing"), "{report:?}");
    }
    assert!(of(&["data"]).is_well());
}

#[test]
fn a_boot_tells_of_another_machine_unless_somebody_names_this_one() {
    let test = TestRepository::new();
    let mut made = of_volume("data", "2026-11-30T02:00:00Z");
    made.tags.insert(BOOT_TAG.to_owned(), "b2".to_owned());
    put(&test, &made);
    let found = Found { volumes: vec![volume("data")], ..Found::default() };
    let boot = Boot { id: "b1".to_owned(), began: "2026-11-20T00:00:00Z".parse().unwrap() };
    let of = |options: &StatusOptions| {
        let report = answered_during(&test, options, found.clone(), Some(boot.clone()));
        report.rows[0].state
    };
    assert_eq!(of(&options()), State::Protected);
    assert_ne!(of(&StatusOptions { hosts: vec![String::new()], ..options() }), State::Protected);
    let any = StatusOptions { hosts: Vec::new(), any_host: true, ..options() };
    assert_eq!(of(&any), State::Protected);
}

#[test]
fn hosts_that_are_taken_together_are_told() {
    let test = TestRepository::new();
    put(&test, &of_volume("a", "2026-11-30T02:00:00Z"));
    let other = Snapshot { host: "web2".to_owned(), ..of_volume("b", "2026-11-30T02:00:00Z") };
    put(&test, &other);
    let report = asked(&test, &StatusOptions { any_host: true, ..options() }).unwrap();
    assert_eq!(states(&report), [("a", State::Protected), ("b", State::Protected)]);
    assert!(report.notes.iter().any(|note| note.contains("web1, web2")), "{:?}", report.notes);
}
