use proptest::prelude::*;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;

const TIME: &str = "2026-11-30T06:00:00Z";

fn key(number: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]))
}

/// Lines of an audit with a checkpoint after every `period` of them, and the last line a checkpoint too.
fn written(count: usize, period: usize) -> Vec<String> {
    let mut tip = Tip::start();
    let mut lines = vec![tip.append(TIME, BEGIN, Map::new())];
    for number in 0..count {
        let fields = Map::from_iter([("status".to_owned(), number.into())]);
        lines.push(tip.append(TIME, "exit", fields));
        if number % period == period - 1 {
            lines.push(tip.checkpoint(TIME, &key(1)).unwrap());
        }
    }
    lines.push(tip.checkpoint(TIME, &key(1)).unwrap());
    lines
}

fn verified(lines: &[String], head: Option<&String>) -> Report {
    verified_with(lines, head, BTreeMap::new())
}

fn verified_with(
    lines: &[String],
    head: Option<&String>,
    expected: BTreeMap<u64, String>,
) -> Report {
    let public = key(1).public_key().clone();
    let head = head.map(|line| line.trim_end().as_bytes().to_vec());
    let mut verifier = Verifier::new(&public, head, expected);
    verifier.file("audit");
    for line in lines {
        match line.strip_suffix('\n') {
            Some(line) => drop(verifier.line(line.as_bytes())),
            None => verifier.rest(line.as_bytes()),
        }
    }
    verifier.end()
}

/// The lines that are damaged.
fn places(report: &Report) -> Vec<u64> {
    report.damages.iter().map(|damage| damage.line).collect()
}

#[test]
fn what_was_written_is_whole() {
    let lines = written(10, 4);
    let report = verified(&lines, lines.last());
    assert_eq!((report.damages, report.notes), (vec![], Vec::<String>::new()));
    assert_eq!((report.lines, report.first, report.last, report.signed), (14, 1, 14, 14));
    let hash = hash(lines[4].trim_end().as_bytes());
    for (expected, is_right) in [(hash, true), (NOTHING.to_owned(), false)] {
        let report = verified_with(&lines, None, BTreeMap::from([(5, expected)]));
        assert_eq!(report.damages.is_empty(), is_right, "{report:?}");
    }
}

#[test]
fn every_change_is_found_where_it_is() {
    let lines = written(10, 4);
    for at in 0..lines.len() {
        let line = at as u64 + 1;
        let number = format!("\"number\":{line},");
        for (from, to) in [
            (TIME, "2026-11-30T06:00:01Z".to_owned()),
            ("\"event\":\"", "\"event\":\"x".to_owned()),
            (number.as_str(), format!("\"number\":{},", line + 1)),
            ("\"previous\":\"", "\"previous\":\"0".to_owned()),
            ("\"number\"", "\"nmber\"".to_owned()),
        ] {
            let mut changed = lines.clone();
            changed[at] = changed[at].replacen(from, &to, 1);
            assert_ne!(changed[at], lines[at], "{from}");
            let report = verified(&changed, lines.last());
            assert_eq!(places(&report).first(), Some(&line), "{from} in {line}: {report:?}");
        }
    }
}

#[test]
fn every_cut_is_found_where_it_is() {
    let lines = written(10, 4);
    for at in 0..lines.len() {
        let mut cut = lines.clone();
        cut.remove(at);
        let report = verified(&cut, lines.last());
        let place = (at as u64 + 1).min(cut.len() as u64);
        // What is before the first line may be kept elsewhere: that is a note, and no damage.
        let is_told = if at == 0 { report.first == 2 } else { places(&report).contains(&place) };
        assert!(is_told, "line {}: {report:?}", at + 1);
        // All that follows is gone too.
        let report = verified(&lines[..at], lines.last());
        assert_eq!(places(&report), [at as u64], "up to line {at}: {report:?}");
        // In the middle of a line.
        let mut torn = lines[..=at].to_vec();
        torn[at].truncate(10);
        let report = verified(&torn, lines.last());
        assert_eq!(places(&report), [at as u64], "within line {}: {report:?}", at + 1);
    }
    // Turned round, and doubled.
    let mut turned = lines.clone();
    turned.swap(3, 4);
    assert_eq!(places(&verified(&turned, lines.last())).first(), Some(&4));
    let mut doubled = lines.clone();
    doubled.insert(5, lines[4].clone());
    assert_eq!(places(&verified(&doubled, lines.last())).first(), Some(&6));
}

#[test]
fn who_writes_all_of_it_anew_has_no_key() {
    let mut tip = Tip::start();
    let mut lines = vec![tip.append(TIME, BEGIN, Map::new())];
    lines.push(tip.append(TIME, "exit", Map::new()));
    lines.push(tip.checkpoint(TIME, &key(2)).unwrap());
    let report = verified(&lines, lines.last());
    assert_eq!(places(&report), [3]);
    assert!(report.damages[0].what.contains("lines 1 to 3 may be anybody's"), "{report:?}");
    // A signature that was made for another place.
    let ours = written(2, 1);
    let mut moved = ours.clone();
    let signature = |line: &str| serde_json::from_str::<Value>(line).unwrap()["signature"].clone();
    let stolen = signature(&ours[2]).to_string();
    moved[4] = moved[4].replace(&signature(&ours[4]).to_string(), &stolen);
    assert_ne!(moved[4], ours[4]);
    assert_eq!(places(&verified(&moved, None)).first(), Some(&5));
}

#[test]
fn without_checkpoints_it_is_not_believed() {
    let period = usize::try_from(CHECKPOINT_LINES_MAX).unwrap();
    // The line that begins a file does not count.
    let report = verified(&written(period, period + 1), None);
    assert_eq!(report.damages, []);
    let report = verified(&written(period + 1, period + 2), None);
    assert_eq!(places(&report), [CHECKPOINT_LINES_MAX + 2]);
}

#[test]
fn an_end_that_was_torn_is_known_by_the_next_file() {
    let lines = written(2, 4);
    let public = key(1).public_key().clone();
    for (torn, rest, is_told) in [
        (Torn::of(b"{\"num"), &b"{\"num"[..], false),
        (Torn::of(b"{\"num"), b"{\"nu", true),
        (Torn::of(b"{\"num"), b"", true),
        (None, b"{\"num", true),
        (None, b"", false),
    ] {
        let mut verifier = Verifier::new(&public, None, BTreeMap::new());
        verifier.file("one");
        for line in &lines {
            verifier.line(line.trim_end().as_bytes());
        }
        verifier.rest(rest);
        verifier.file("two");
        let last = lines.last().unwrap();
        let hash = hash(last.trim_end().as_bytes());
        let mut tip = Tip { number: lines.len() as u64, hash };
        let torn = serde_json::to_value(&torn).unwrap();
        let fields = Map::from_iter([("torn".to_owned(), torn)]);
        verifier.line(tip.append(TIME, BEGIN, fields).trim_end().as_bytes());
        let report = verifier.end();
        assert_eq!(!report.damages.is_empty(), is_told, "{rest:?}: {report:?}");
    }
}

#[test]
fn what_the_gateway_found_gone_is_told() {
    let mut tip = Tip::start();
    let lost = serde_json::to_value((1_u64, 9_u64)).unwrap();
    let line = tip.append(TIME, BEGIN, Map::from_iter([("lost".to_owned(), lost)]));
    let report = verified(&[line], None);
    assert!(report.damages[0].what.contains("lines 1 to 9 were gone"), "{report:?}");
}

#[test]
fn recordings_are_named() {
    let mut tip = Tip::start();
    let fields =
        Map::from_iter([("file".to_owned(), "d/f".into()), ("sha256".to_owned(), NOTHING.into())]);
    let line = tip.append(TIME, RECORDING, fields);
    let public = key(1).public_key().clone();
    let mut verifier = Verifier::new(&public, None, BTreeMap::new());
    let found = verifier.line(line.trim_end().as_bytes());
    assert_eq!(found, Some(Recorded { file: "d/f".to_owned(), sha256: NOTHING.to_owned() }));
}

proptest! {
    #[test]
    fn any_byte_that_is_changed_is_found_near_it(at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let lines = written(6, 3);
        let mut bytes = lines.concat().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let public = key(1).public_key().clone();
        let head = lines.last().map(|line| line.trim_end().as_bytes().to_vec());
        let mut verifier = Verifier::new(&public, head, BTreeMap::new());
        verifier.file("audit");
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            verifier.line(&rest[..end]);
            rest = &rest[end + 1..];
        }
        verifier.rest(rest);
        let report = verifier.end();
        let first = report.damages.first().map(|damage| damage.line);
        // A line end that became something else joins two lines.
        prop_assert!(first.is_some_and(|first| first.abs_diff(line) <= 1), "{line}: {report:?}");
    }
}
