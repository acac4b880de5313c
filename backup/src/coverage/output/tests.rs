use std::time::Duration;

use super::*;
use crate::chunk::ChunkId;
use crate::coverage::decide::Proof;
use crate::coverage::hosts::Hosts;
use crate::coverage::inventory::Identity;
use crate::forget::decide::Standing;
use crate::snapshot::{DumpKind, SnapshotId};

fn proof(hours: u64) -> Proof {
    Proof {
        id: SnapshotId(ChunkId([0x1a; 16])),
        name: "db".to_owned(),
        host: "web1".to_owned(),
        time: "2026-11-30T02:00:00Z".parse().unwrap(),
        age: Some(Duration::from_secs(hours * 3600)),
        standing: Standing::Proved,
        drill: Some(Outcome::Good),
        by: By::Dump,
        warning_count: 3,
    }
}

fn row(what: What, state: State, proof: Option<Proof>, reasons: &[&str]) -> Row {
    let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
    Row { what, users: vec!["web".to_owned(), "job".to_owned()], state, proof, reasons }
}

fn report() -> Report {
    let volume = |name: &str| What::Volume { name: name.to_owned(), mountpoint: String::new() };
    let container = Identity { name: "shop\u{1b}[31mdb".to_owned(), ..Identity::default() };
    Report {
        time: "2026-11-30T12:00:00Z".parse().unwrap(),
        place: "/srv/repo".to_owned(),
        age_max: Duration::from_secs(26 * 3600),
        hosts: Hosts { names: ["web1".to_owned()].into(), ..Hosts::default() },
        engine_problem: None,
        rows: vec![
            row(volume(&"5f".repeat(32)), State::Unprotected, None, &["no snapshot has it"]),
            row(
                What::Database { kind: Some(DumpKind::Mysql), container },
                State::Overdue,
                Some(proof(80)),
                &[
                    "the newest, 2b2b2b2b of 2026-11-30T02:00:00Z, does not count: suspicious",
                    "it was saved with 3 warnings",
                ],
            ),
            row(What::Bind { path: "/srv/www".to_owned() }, State::Protected, Some(proof(10)), &[]),
        ],
        gaps: Vec::new(),
        unreadable: Vec::new(),
        notes: vec!["shop/db runs as a and as b: each of them is looked at by itself".to_owned()],
    }
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    write_text(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_fits_a_terminal_and_tells_all() {
    let text = text(&report());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let anonymous = "5f".repeat(32);
    for part in [
        anonymous.as_str(),
        "shop\\x1b[31mdb",
        "OVERDUE      mysql",
        "  3 d  1a1a1a1a\n",
        " 10 h  1a1a1a1a\n",
        "used by web, job",
        "3 sources of data: 1 protected, 1 unprotected, 1 overdue",
        "note: shop/db",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is well has no need of words.
    assert!(text.contains("1a1a1a1a\nnote: "), "{text}");
}

#[test]
fn the_document_is_whole() {
    let mut out = Vec::new();
    write_json(&report(), &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!((&json["well"], &json["engine"]["answered"]), (&false.into(), &true.into()));
    assert_eq!(json["counts"]["overdue"], 1);
    let overdue = &json["sources"][1];
    assert_eq!((&overdue["kind"], &overdue["database"]), (&"database".into(), &"mysql".into()));
    assert_eq!(
        (&overdue["state"], &overdue["snapshot"]["by"]),
        (&"overdue".into(), &"dump".into())
    );
    assert_eq!(overdue["snapshot"]["age_seconds"], 80 * 3600);
    assert_eq!(overdue["snapshot"]["standing"], "proved");
    assert_eq!(overdue["snapshot"]["drill"], "good");
    assert_eq!(overdue["snapshot"]["warning_count"], 3);
    assert_eq!(json["sources"][0]["snapshot"], serde_json::Value::Null);
}

#[test]
fn what_could_not_be_looked_at_is_said_first_and_is_not_well() {
    let mut report = report();
    report.rows.retain(|row| row.state.is_well());
    assert!(report.is_well());
    report.unreadable.push((SnapshotId(ChunkId([3; 16])), "damaged".to_owned()));
    assert!(!report.is_well());
    report.unreadable.clear();
    report.engine_problem = Some("cannot reach the container engine".to_owned());
    assert!(!report.is_well());
    assert!(
        text(&report).contains("note: cannot reach the container engine; so this is only"),
        "{}",
        text(&report)
    );
}

#[test]
fn ages_are_short() {
    let of = |seconds| age(Duration::from_secs(seconds));
    assert_eq!(
        [of(0), of(3599), of(3600), of(172_799), of(172_800)],
        ["0 min", "59 min", "1 h", "47 h", "2 d"]
    );
    assert!(of(10_000 * 86_400).len() <= AGE_CHARS + 1);
}

#[test]
fn what_is_cut_keeps_both_ends() {
    let name = format!("/srv/{}/end", "x".repeat(90));
    let cut = shortened(&name);
    assert!(cut.starts_with("/srv/") && cut.ends_with("/end") && cut.chars().count() <= NAME_CHARS);
    assert_eq!(shortened("/srv/www"), "/srv/www");
}
