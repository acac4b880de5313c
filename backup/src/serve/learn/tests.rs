use super::*;
use crate::forget::decide::Standing;
use crate::serve::fixtures::{names, recorded};

fn now() -> Timestamp {
    "2026-11-30T14:00:00Z".parse().unwrap()
}

fn learned(history: &[Recorded]) -> Learned {
    learn(history, 9000, &names(), None, now())
}

fn good(time: &str) -> Recorded {
    recorded("web", "machine", time)
}

#[test]
fn the_newest_good_backup_of_each_job_is_known() {
    let mut history =
        [good("2026-11-28T03:00:00Z"), good("2026-11-30T03:00:00Z"), good("2026-11-29T03:00:00Z")];
    history[1].snapshot.stats.bytes_stored = 70;
    let learned = learned(&history);
    assert_eq!(learned.added_bytes["web"], 70);
    assert_eq!((learned.snapshots, learned.stored_bytes), (3, 9000));
    assert_eq!(learned.jobs.len(), 1);
    assert_eq!(learned.jobs["web"].snapshot, history[1].id.to_string());
}

#[test]
fn what_does_not_protect_is_not_learned() {
    let old = good("2026-11-20T03:00:00Z");
    for standing in
        [Standing::Suspicious, Standing::Incomplete, Standing::Unproved, Standing::Failed]
    {
        let new = Recorded { standing, ..good("2026-11-30T03:00:00Z") };
        assert_eq!(learned(&[old.clone(), new]).jobs["web"].snapshot, old.id.to_string());
    }
    let drilled = Recorded { drill: Some(Outcome::Failed), ..good("2026-11-30T03:00:00Z") };
    assert_eq!(learned(&[old.clone(), drilled]).jobs["web"].snapshot, old.id.to_string());
    let ahead = good("2030-01-01T00:00:00Z");
    assert_eq!(learned(&[old.clone(), ahead]).jobs["web"].snapshot, old.id.to_string());
    let other = recorded("web", "other", "2026-11-30T03:00:00Z");
    assert_eq!(learned(&[old.clone(), other]).jobs["web"].snapshot, old.id.to_string());
}

#[test]
fn what_the_newest_drill_of_a_job_has_found_is_known() {
    let of = |time, outcome| Recorded { drill: Some(outcome), ..good(time) };
    let (sound, broken) =
        (of("2026-11-28T03:00:00Z", Outcome::Good), of("2026-11-29T03:00:00Z", Outcome::Failed));
    let untried = good("2026-11-30T03:00:00Z");
    let learned = learned(&[broken.clone(), sound, untried.clone()]);
    let expected =
        Drilled { time: broken.snapshot.time, snapshot: broken.id.to_string(), good: false };
    assert_eq!(learned.drilled["web"], expected);
    assert_eq!(learned.jobs["web"].snapshot, untried.id.to_string());
}

#[test]
fn a_machine_of_the_same_name_shows_and_an_engine_made_anew_does_not() {
    let of = |engine: &str, time: &str| {
        let mut known = good(time);
        known.snapshot.tags.insert(ENGINE_TAG.to_owned(), engine.to_owned());
        known
    };
    let anew = [of("E0", "2026-11-01T03:00:00Z"), of("E1", "2026-11-02T03:00:00Z")];
    assert!(!learned(&anew).twin);
    let renamed = [of("E1", "2026-11-01T03:00:00Z"), of("E0", "2026-11-23T13:00:00Z")];
    assert!(!learned(&renamed).twin, "it is heard of no more");
    let twins = [of("E1", "2026-11-01T03:00:00Z"), of("E0", "2026-11-24T03:00:00Z")];
    assert!(learned(&twins).twin);
    assert_eq!(
        learned(&twins).jobs["web"].time,
        twins[0].snapshot.time,
        "its snapshots are not ours"
    );
}

#[test]
fn nodes_of_a_swarm_are_told_apart_where_their_engines_are_copies() {
    let node = |node: &str| Names { node: Some(node.to_owned()), ..names() };
    let of = |node: Option<&str>, time: &str| {
        let mut known = good(time);
        known.snapshot.tags.insert(ENGINE_TAG.to_owned(), "E1".to_owned());
        let node = node.map(|node| (NODE_TAG.to_owned(), node.to_owned()));
        known.snapshot.tags.extend(node);
        known
    };
    let history = [
        of(None, "2026-11-26T03:00:00Z"),
        of(Some("n1"), "2026-11-27T03:00:00Z"),
        of(Some("n2"), "2026-11-28T03:00:00Z"),
    ];
    let as_node = |names: &Names, history: &[Recorded]| learn(history, 0, names, None, now());
    let first = as_node(&node("n1"), &history);
    assert!(first.twin);
    assert_eq!(first.jobs["web"].time, history[1].snapshot.time, "that of n2 is not ours");
    assert!(!as_node(&node("n2"), &history).twin, "n1 may be what it was before");
    // One that has left, or joined anew, is told of nothing and counts only what is its own.
    let left = as_node(&names(), &history);
    assert_eq!((left.twin, left.jobs["web"].time), (false, history[0].snapshot.time));
    let joined = as_node(&node("n3"), &history);
    assert_eq!((joined.twin, joined.jobs["web"].time), (false, history[0].snapshot.time));
}

#[test]
fn a_copy_of_this_machine_shows_by_what_it_saves_while_this_one_is_up() {
    let names = Names { boot: Some("b1".to_owned()), ..names() };
    let boot = Boot { id: "b1".to_owned(), began: "2026-11-20T00:00:00Z".parse().unwrap() };
    let of = |name: &str, boot: &str, time: &str| {
        let mut known = recorded(name, "machine", time);
        known.snapshot.tags.insert(ENGINE_TAG.to_owned(), "E1".to_owned());
        known.snapshot.tags.insert(BOOT_TAG.to_owned(), boot.to_owned());
        known
    };
    let learned = |history: &[Recorded]| learn(history, 0, &names, Some(&boot), now());
    let before = of("web", "b0", "2026-11-19T03:00:00Z");
    let ours = of("web", "b1", "2026-11-28T03:00:00Z");
    let theirs = of("web", "b2", "2026-11-29T03:00:00Z");
    let anew = learned(&[before.clone(), ours.clone()]);
    assert!(!anew.twin, "it was started anew");
    let shared = learned(&[before.clone(), ours.clone(), theirs.clone()]);
    assert!(shared.twin);
    assert_eq!(shared.jobs["web"].snapshot, ours.id.to_string(), "that of the other is not ours");
    let alone = learned(&[before.clone(), theirs]);
    assert_eq!(alone.jobs["web"].snapshot, before.id.to_string());
    // Who serves other jobs of this engine from elsewhere is no copy.
    assert!(!learned(&[ours, of("db", "b2", "2026-11-29T03:00:00Z")]).twin);
}
