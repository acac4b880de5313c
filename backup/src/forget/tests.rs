use std::fs;

use super::*;
use crate::drill_record::{DrillRecord, Outcome};
use crate::machine::{BOOT_TAG, Boot};
use crate::repository::tests::{TestRepository, snapshot};
use crate::snapshot::State;

fn policy(last: u32) -> ForgetOptions {
    ForgetOptions {
        wanted: Wanted::ByRules(Policy { last, ..Policy::default() }),
        name: None,
        host: None,
        tags: BTreeMap::new(),
        node: None,
        dry_run: false,
    }
}

fn these(names: &[&SnapshotName], even_newest: bool) -> ForgetOptions {
    let snapshots = names.iter().map(|name| name.id.short().parse().unwrap()).collect();
    ForgetOptions {
        wanted: Wanted::These { snapshots, even_newest, group_by: GroupBy::Unsaid },
        name: None,
        host: None,
        tags: BTreeMap::new(),
        node: None,
        dry_run: false,
    }
}

fn now() -> jiff::Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn run(test: &TestRepository, options: &ForgetOptions) -> Result<ForgetReport, ForgetError> {
    forget(&test.repository, options, now(), &Shutdown::new())
}

fn names(test: &TestRepository) -> Vec<SnapshotName> {
    test.repository.snapshot_names().unwrap()
}

/// The packs that all these snapshots name.
fn packs(test: &TestRepository) {
    for pack in snapshot("a", "2026-11-01T02:00:00Z").packs {
        test.repository.store().put(&pack.key(), "a pack").unwrap();
    }
}

fn nights(test: &TestRepository, name: &str, count: u32) -> Vec<SnapshotName> {
    packs(test);
    (1..=count)
        .map(|day| {
            let made = snapshot(name, &format!("2026-11-{day:02}T02:00:00Z"));
            test.repository.put_snapshot(&made).unwrap()
        })
        .collect()
}

#[test]
fn each_source_is_judged_for_itself_and_only_documents_go() {
    let test = TestRepository::new();
    let (a, b) = (nights(&test, "a", 5), nights(&test, "b", 3));
    let report = run(&test, &policy(2)).unwrap();
    let set = |names: &[SnapshotName]| names.iter().map(SnapshotName::key).collect::<BTreeSet<_>>();
    assert_eq!(set(&report.gone), &set(&a[..3]) | &set(&b[..1]));
    assert_eq!(set(&names(&test)), &set(&a[3..]) | &set(&b[1..]));
    assert_eq!(test.objects("packs/").len(), 2);
}

#[test]
fn what_lacks_packs_or_may_be_taken_back_yet_does_not_count() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 3);
    let late = PackId(crate::chunk::ChunkId([3; 16]));
    let lacks = Snapshot { packs: vec![late], ..snapshot("a", "2026-11-20T02:00:00Z") };
    let lacks = test.repository.put_snapshot(&lacks).unwrap();
    // Neither counts the one that lacks a pack, nor is it in the way.
    assert_eq!(run(&test, &policy(1)).unwrap().gone, made[..2]);
    assert_eq!(names(&test), [made[2].clone(), lacks.clone()]);
    // Nor when the pack is there and marked.
    test.repository.store().put(&late.key(), "a pack").unwrap();
    let (key, bytes) = crate::mark::encode(&[late], now(), test.repository.key());
    test.repository.store().put(&key, bytes).unwrap();
    assert_eq!(run(&test, &policy(1)).unwrap().gone, []);
    test.repository.store().delete(&key).unwrap();
    assert_eq!(run(&test, &policy(1)).unwrap().gone, made[2..]);
    assert_eq!(names(&test), [lacks]);
}

#[test]
fn a_dry_run_and_a_name_leave_the_others_alone() {
    let test = TestRepository::new();
    nights(&test, "a", 4);
    nights(&test, "b", 4);
    let report = run(&test, &ForgetOptions { dry_run: true, ..policy(1) }).unwrap();
    assert_eq!((report.gone.len(), names(&test).len()), (6, 8));
    let elsewhere = ForgetOptions { host: Some("elsewhere".to_owned()), ..policy(1) };
    assert_eq!(run(&test, &elsewhere).unwrap().snapshots, []);
    let tags = BTreeMap::from([("of".to_owned(), "another".to_owned())]);
    let others = ForgetOptions { tags, ..policy(1) };
    assert_eq!(run(&test, &others).unwrap().snapshots, []);
    let only = ForgetOptions { name: Some("b".to_owned()), ..policy(1) };
    assert_eq!(run(&test, &only).unwrap().gone.len(), 3);
    assert_eq!(names(&test).len(), 5);
}

#[test]
fn nothing_is_decided_while_a_document_cannot_be_read_and_it_can_be_dropped_by_its_id() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 4);
    fs::write(test.path().join(made[3].key()), "{}").unwrap();
    let error = run(&test, &policy(1)).unwrap_err();
    assert!(matches!(error, ForgetError::Unreadable(id, _) if id == made[3].id), "{error}");
    assert_eq!(names(&test).len(), 4);
    assert_eq!(run(&test, &these(&[&made[3]], false)).unwrap().gone.len(), 1);
    assert_eq!(run(&test, &policy(1)).unwrap().gone.len(), 2);
}

#[test]
fn the_newest_proved_one_goes_only_when_that_is_said() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 2);
    let failed = Snapshot { state: State::Failed, ..snapshot("a", "2026-11-20T02:00:00Z") };
    let failed = test.repository.put_snapshot(&failed).unwrap();
    let error = run(&test, &these(&[&made[0], &made[1]], false)).unwrap_err();
    assert!(matches!(&error, ForgetError::Newest { id, .. } if *id == made[1].id), "{error}");
    assert_eq!(names(&test).len(), 3);
    run(&test, &these(&[&failed, &failed], false)).unwrap();
    run(&test, &these(&[&made[1]], true)).unwrap();
    assert_eq!(names(&test), [made[0].clone()]);
}

#[test]
fn records_of_drills_go_with_their_snapshots() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 2);
    for name in &made {
        let record = DrillRecord {
            version: 1,
            snapshot: name.id.to_string(),
            time: now(),
            duration_ms: 1,
            outcome: Outcome::Good,
            parts: Vec::new(),
            host: "host".to_owned(),
            program: "backup 0".to_owned(),
        };
        drill_record::store(&test.repository, &record, name.id).unwrap();
    }
    run(&test, &policy(1)).unwrap();
    assert_eq!(test.objects("drills/").len(), 1);
}

#[test]
fn what_it_says_names_every_snapshot_and_the_reason() {
    let test = TestRepository::new();
    nights(&test, "a\u{1b}[31m", 3);
    let suspicious = Snapshot {
        version: crate::snapshot::version_with(&[], true, &crate::snapshot::Provenance::default()),
        suspicious: true,
        ..snapshot("b", "2026-11-03T02:00:00Z")
    };
    test.repository.put_snapshot(&suspicious).unwrap();
    let report = run(&test, &ForgetOptions { dry_run: true, ..policy(2) }).unwrap();
    assert_eq!(report.frozen(), 1);
    let mut text = Vec::new();
    write_text(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("stays: newest, last\n") && text.contains("  goes\n"), "{text}");
    assert!(text.contains("a\\x1b[31m") && text.contains("frozen, nothing of it goes"), "{text}");
    assert!(text.ends_with("1 snapshots would be forgotten, 3 stay\n"), "{text}");
    let mut json = Vec::new();
    write_json(&report, &mut json).unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(json)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4 + 2 + 1);
    assert_eq!(lines[6]["forgotten"].as_array().unwrap().len(), 1);
    assert_eq!(lines[6]["frozen_sources"], 1);
}

#[test]
fn a_request_to_stop_leaves_the_rest() {
    let test = TestRepository::new();
    nights(&test, "a", 3);
    let shutdown = Shutdown::new();
    shutdown.request();
    // Reads end at once.
    forget(&test.repository, &policy(1), now(), &shutdown).unwrap_err();
    assert_eq!(fs::read_dir(test.path().join("snapshots")).unwrap().count(), 3);
}

#[test]
fn a_snapshot_under_another_name_might_be_the_newest_so_nothing_goes_by_rules() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 3);
    let path = test.path().join(made[2].key());
    // As a tool that copies folders may call it.
    let copy = path.with_extension("json (1)");
    fs::rename(&path, &copy).unwrap();
    let error = run(&test, &policy(1)).unwrap_err();
    assert!(matches!(&error, ForgetError::Stranger(key) if key.ends_with("(1)")), "{error}");
    fs::rename(&copy, &path).unwrap();
    assert_eq!(run(&test, &policy(1)).unwrap().gone, made[..2]);
}

#[test]
fn without_any_rule_nothing_goes() {
    let test = TestRepository::new();
    let made = nights(&test, "a", 3);
    let error = run(&test, &policy(0)).unwrap_err();
    assert!(matches!(error, ForgetError::NoRule), "{error}");
    assert_eq!(names(&test), made);
}

#[test]
fn what_another_node_or_a_copy_of_this_machine_made_is_left_alone() {
    let test = TestRepository::new();
    packs(&test);
    let put = |day: u32, key: &str, value: &str| {
        let mut made = snapshot("a", &format!("2026-11-{day:02}T02:00:00Z"));
        made.tags.insert(key.to_owned(), value.to_owned());
        test.repository.put_snapshot(&made).unwrap()
    };
    let nodes: Vec<_> =
        (1..=4).map(|day| put(day, NODE_TAG, ["n1", "n2"][day as usize % 2])).collect();
    let of = |node: &str| ForgetOptions { node: Some(node.to_owned()), ..policy(1) };
    assert_eq!(run(&test, &of("")).unwrap().snapshots, [], "who is no node has none of these");
    assert_eq!(run(&test, &of("n1")).unwrap().gone, nodes[1..2]);
    // Nothing of the source goes once another machine was up at the same time.
    let boots = [put(11, BOOT_TAG, "b0"), put(21, BOOT_TAG, "b1"), put(22, BOOT_TAG, "b1")];
    let boot = Boot { id: "b1".to_owned(), began: "2026-11-20T00:00:00Z".parse().unwrap() };
    let rules = || Policy { last: 1, boot: Some(boot.clone()), ..Policy::default() };
    let ours = || ForgetOptions { wanted: Wanted::ByRules(rules()), ..of("n1") };
    let dry = ForgetOptions { dry_run: true, ..ours() };
    assert_eq!(
        run(&test, &dry).unwrap().gone,
        [nodes[3].clone(), boots[0].clone(), boots[1].clone()]
    );
    put(23, BOOT_TAG, "b2");
    let report = run(&test, &ours()).unwrap();
    assert_eq!((report.gone.len(), report.frozen()), (0, 1));
    let frozen = report.sources[0].frozen.as_ref().unwrap().to_string();
    assert!(frozen.contains("another machine") && frozen.contains("--host"), "{frozen}");
}
