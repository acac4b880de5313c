use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + second)
}

/// Versions of one key, each a second after the one before; `x` is a marker, the same letter the same content.
fn versions(told: &str) -> Vec<ObjectVersion> {
    let last = told.len() - 1;
    let of = |(number, letter): (usize, char)| ObjectVersion {
        key: "packs/ab/pack".to_owned(),
        version: format!("v{number}"),
        is_latest: number == last,
        is_marker: letter == 'x',
        size: 10,
        modified: at(number as u64),
        tag: (letter != 'x').then(|| letter.to_string()),
    };
    told.chars().enumerate().map(of).collect()
}

fn act_on(told: &str, second: u64) -> Option<Act> {
    act(&versions(told), at(second))
}

#[test]
fn what_was_deleted_since_shows_again_when_its_markers_go() {
    assert_eq!(act_on("ax", 0), Some(Act::Show(versions("ax").split_off(1))));
    assert_eq!(act_on("axx", 0), Some(Act::Show(versions("axx").split_off(1))));
    assert_eq!(act_on("axx", 1), None, "it was deleted then");
    let many = format!("a{}", "x".repeat(SHOWN_MAX + 1));
    assert_eq!(act_on(&many, 0), Some(Act::Rewrite(versions(&many).remove(0))));
}

#[test]
fn what_was_written_over_since_is_written_again() {
    let first = |told: &str| Some(Act::Rewrite(versions(told).remove(0)));
    assert_eq!(act_on("ab", 0), first("ab"));
    assert_eq!(act_on("abx", 0), first("abx"));
    assert_eq!(act_on("axb", 0), first("axb"));
}

#[test]
fn what_has_not_changed_or_was_not_there_is_left_alone() {
    assert_eq!(act_on("a", 0), None);
    assert_eq!(act_on("ab", 1), None);
    assert_eq!(act_on("ab", 9), None);
    assert_eq!(act_on("xa", 0), None);
    assert_eq!(act_on("aba", 0), None, "it was written again");
    let young = act(&versions("ab"), UNIX_EPOCH);
    assert_eq!(young, None);
}

#[test]
fn a_repository_is_known_by_what_never_changes() {
    let document = |id: &str, key: &str, more: &str| {
        let text = format!(
            r#"{{"id": "{id}", "hash": {{"key": "{key}"}}, "chunker": {{}}, "features": []{more}}}"#
        );
        Character::of(text.as_bytes())
    };
    let own = document("a", "k", "");
    assert!(own.is_some());
    assert_eq!(own, document("a", "k", r#", "lock": {"days": 1}, "keys": [1]"#));
    assert_ne!(own, document("b", "k", ""));
    assert_ne!(own, document("a", "other", ""));
    assert_ne!(own, document("a", "k", r#", "encryption": {}"#));
    assert_eq!(Character::of(b"pay"), None);
    assert_eq!(Character::of(b"{}"), None);
}
