use super::*;
use crate::coverage::inventory::Identity;
use crate::machine::BOOT_TAG;
use crate::repository::tests::snapshot;

fn now() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn known(name: &str, id: &str, started: &str) -> Known {
    Known {
        identity: Identity { id: id.to_owned(), name: name.to_owned(), slot: None },
        started: Some(started.parse().unwrap()),
        may_be_dumped: true,
    }
}

fn of(host: &str, time: &str) -> Snapshot {
    Snapshot { host: host.to_owned(), ..snapshot("db", time) }
}

fn with(snapshot: Snapshot, name: &str, id: &str) -> Snapshot {
    let container = SourceContainer {
        name: name.to_owned(),
        id: id.to_owned(),
        image: String::new(),
        image_id: String::new(),
    };
    Snapshot { container: Some(container), ..snapshot }
}

fn hosts(names: &[&str]) -> Hosts {
    Hosts { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Hosts::default() }
}

fn origin(hosts: &Hosts, containers: &[Known], all: &[Snapshot], at: usize) -> Origin {
    Judge::new(hosts, containers, all, now()).origin(&all[at])
}

#[test]
fn names_of_containers_and_of_everybody_tell_nothing() {
    for name in ["", "localhost", "localhost.localdomain", "0123456789ab", &"a".repeat(64)] {
        assert!(!is_telling(name), "{name}");
    }
    for name in ["web1", "0123456789a", "0123456789AB", "deadbeef", "localhost2"] {
        assert!(is_telling(name), "{name}");
    }
    let found = ["web1", "0123456789ab"].map(str::to_owned);
    let with_names = |names| Hosts { machine: hosts(&["web1"]).names, ..hosts(names) };
    assert_eq!(Hosts::new(&[], found.clone(), false), with_names(&["web1"]));
    // What an operator says is so, and nothing else is.
    let named = ["0123456789ab".to_owned()];
    assert_eq!(Hosts::new(&named, found.clone(), false), with_names(&["0123456789ab"]));
    assert_eq!(Hosts::new(&[String::new()], found, false), with_names(&["web1"]));
}

#[test]
fn a_snapshot_is_of_the_host_whose_name_it_has() {
    let all = [
        of("web1", "2026-11-30T02:00:00Z"),
        of("web2", "2026-11-30T02:00:00Z"),
        of("0123456789ab", "2026-11-30T02:00:00Z"),
    ];
    let of_host = |at| origin(&hosts(&["web1"]), &[], &all, at);
    assert_eq!(of_host(0), Origin::This);
    assert_eq!(of_host(1), Origin::Other("web2".to_owned()));
    assert!(matches!(of_host(2), Origin::Unknown(_)));
    let any = Hosts { any: true, ..hosts(&[]) };
    assert!((0..3).all(|at| origin(&any, &[], &all, at) == Origin::This));
}

#[test]
fn an_id_that_is_here_proves_more_than_a_name() {
    let here = [known("db", "1", "2026-11-01T00:00:00Z")];
    let all = [with(of("0123456789ab", "2026-11-30T02:00:00Z"), "db", "1")];
    assert_eq!(origin(&hosts(&["web1"]), &here, &all, 0), Origin::This);
}

#[test]
fn a_clone_is_not_the_machine_it_was_cloned_from() {
    let here = [known("db", "1", "2026-11-01T00:00:00Z")];
    let all = [with(of("prod", "2026-11-30T02:00:00Z"), "db", "1")];
    let Origin::Unknown(reason) = origin(&hosts(&["staging"]), &here, &all, 0) else { panic!() };
    assert!(reason.contains("`--host prod`"), "{reason}");
    assert_eq!(origin(&hosts(&["staging", "prod"]), &here, &all, 0), Origin::This);
    let any = Hosts { any: true, ..hosts(&["staging"]) };
    assert_eq!(origin(&any, &here, &all, 0), Origin::This);
}

#[test]
fn another_container_of_a_name_that_was_taken_here_is_another_hosts() {
    let here = [known("db", "1", "2026-11-20T00:00:00Z")];
    let all = [
        // Before ours began: it may have been the one before.
        with(of("web1", "2026-11-19T02:00:00Z"), "db", "0"),
        with(of("web1", "2026-11-30T02:00:00Z"), "db", "2"),
        of("web1", "2026-11-30T02:00:00Z"),
    ];
    let names = hosts(&["web1"]);
    assert_eq!(origin(&names, &here, &all, 1), Origin::Other("web1".to_owned()));
    // And nobody knows whose the others of that name are.
    assert!(matches!(origin(&names, &here, &all, 2), Origin::Unknown(_)));
    assert_eq!(origin(&names, &here, &all[..1], 0), Origin::This);
    // Ours may have got its name later, from another one that is gone.
    let ours = with(of("web1", "2026-11-30T03:00:00Z"), "db", "1");
    let renamed = [all[1].clone(), all[2].clone(), ours];
    assert_eq!(origin(&names, &here, &renamed, 0), Origin::Other("web1".to_owned()));
    assert_eq!(origin(&names, &here, &renamed, 1), Origin::This);
    let any = Hosts { any: true, ..names };
    assert_eq!(origin(&any, &here, &all, 1), Origin::Other("web1".to_owned()));
    assert_eq!(origin(&any, &here, &all, 2), Origin::This);
}

#[test]
fn two_machines_of_one_name_show_when_their_containers_take_turns() {
    let night = |day, id| with(of("web1", &format!("2026-11-{day}T02:00:00Z")), "db", id);
    let turns = [night(20, "1"), night(21, "2"), night(22, "1")];
    let names = hosts(&["web1"]);
    let judge = Judge::new(&names, &[], &turns, now());
    assert_eq!(judge.doubtful().len(), 1);
    assert!(matches!(judge.origin(&turns[0]), Origin::Unknown(_)));
    // One that is replaced is one machine's.
    let replaced = [night(20, "1"), night(21, "1"), night(22, "2"), night(23, "3")];
    assert!(Judge::new(&names, &[], &replaced, now()).doubtful().is_empty());
    // That another host has that trouble is its own.
    assert!(Judge::new(&hosts(&["web2"]), &[], &turns, now()).doubtful().is_empty());
}

#[test]
fn a_clone_with_name_and_ids_of_its_original_shows_by_its_boot() {
    let boot = Boot { id: "b1".to_owned(), began: "2026-11-20T00:00:00Z".parse().unwrap() };
    let made = |boot: &str, time: &str| {
        let mut made = with(of("web1", time), "db", "c1");
        made.tags.insert(BOOT_TAG.to_owned(), boot.to_owned());
        made
    };
    let here = [known("db", "c1", "2026-11-01T00:00:00Z")];
    let all = [
        made("b0", "2026-11-19T03:00:00Z"),
        made("b1", "2026-11-28T03:00:00Z"),
        made("b2", "2026-11-29T03:00:00Z"),
    ];
    let names = hosts(&["web1"]);
    let judge = Judge::new(&names, &here, &all, now()).during(Some(boot.clone()));
    assert_eq!([0, 1].map(|at| judge.origin(&all[at])), [Origin::This, Origin::This]);
    let other = Origin::Other("web1".to_owned());
    assert_eq!(judge.origin(&all[2]), other);
    assert_eq!(judge.origin_by_id(&all[2], "the anonymous volume"), other);
    let any = Hosts { any: true, ..hosts(&["web1"]) };
    let judge = Judge::new(&any, &here, &all, now()).during(Some(boot));
    assert_eq!(judge.origin(&all[2]), Origin::This, "somebody has said so");
}
