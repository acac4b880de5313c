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
    let mut verifier = Verifier::new(&public, kept(head), expected);
    verifier.file("audit");
    read(&mut verifier, lines);
    verifier.end()
}

fn kept(head: Option<&String>) -> Head {
    head.map_or(Head::Elsewhere, |line| Head::Kept(line.trim_end().as_bytes().to_vec()))
}

fn read(verifier: &mut Verifier<'_>, lines: &[String]) {
    for line in lines {
        match line.strip_suffix('\n') {
            Some(line) => drop(verifier.line(line.as_bytes())),
            None => verifier.rest(line.as_bytes()),
        }
    }
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
    let report = verified(&lines, None);
    assert_eq!(places(&report), [3]);
    assert!(report.damages[0].what.contains("lines 1 to 3 may be anybody's"), "{report:?}");
    // A head of his own does not help.
    let report = verified(&lines, lines.last());
    assert_eq!(report.damages[1].file, "head", "{report:?}");
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
        let mut verifier = Verifier::new(&public, Head::Elsewhere, BTreeMap::new());
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
fn what_the_gateway_found_at_its_start_is_told() {
    for (field, value, said) in [
        ("lost", serde_json::json!([1, 9]), Some("lines 1 to 9 were gone")),
        ("changed", true.into(), Some("the last checkpoint before was another one")),
        ("headless", true.into(), Some("there was no head")),
        ("doubtful_key", true.into(), Some("key.pub was not the public half")),
        ("changed", false.into(), None),
    ] {
        let mut tip = Tip::start();
        let line = tip.append(TIME, BEGIN, Map::from_iter([(field.to_owned(), value)]));
        let report = verified(&[line], None);
        let told: Vec<_> = report.damages.iter().map(|damage| damage.what.as_str()).collect();
        assert_eq!(told.len(), said.iter().count(), "{field}: {report:?}");
        assert!(told.concat().contains(said.unwrap_or_default()), "{field}: {report:?}");
    }
}

#[test]
fn what_the_gateway_could_not_write_is_noted() {
    let mut tip = Tip::start();
    let gap =
        Map::from_iter([("left_out".to_owned(), 7.into()), ("refusals".to_owned(), 3.into())]);
    let begin = Map::from_iter([
        ("unsigned".to_owned(), serde_json::json!([4, 5])),
        ("format".to_owned(), (FORMAT + 1).into()),
    ]);
    let lines = [
        tip.append(TIME, BEGIN, begin),
        tip.append(TIME, GAP, gap.clone()),
        tip.append(TIME, GAP, gap),
        tip.checkpoint(TIME, &key(1)).unwrap(),
    ];
    let report = verified(&lines, lines.last());
    assert_eq!(report.damages, []);
    let notes = report.notes.join("\n");
    for said in [
        "lines 4 to 5 were signed only when the gateway had started again, by line 2",
        "line 1 has the format 4",
        "14 events were not written, 6 of them refusals: lines 2 to 3 tell of it",
    ] {
        assert!(notes.contains(said), "{notes}");
    }
}

#[test]
fn without_a_head_of_the_gateways_an_end_is_not_believed() {
    let public = key(1).public_key().clone();
    let lines = written(10, 4);
    let with = |head: Head, lines: &[String]| {
        let mut verifier = Verifier::new(&public, head, BTreeMap::new());
        verifier.file("audit");
        read(&mut verifier, lines);
        verifier.end()
    };
    let report = with(Head::Missing, &lines);
    assert!(report.damages[0].what.contains("the head is missing"), "{report:?}");
    // What is no checkpoint, one of somebody else, and one that was moved to another place.
    let number = |line: &str, from: u64, to: u64| {
        line.replacen(&format!("\"number\":{from},"), &format!("\"number\":{to},"), 1)
    };
    for junk in [
        String::new(),
        "junk".to_owned(),
        lines[1].clone(),
        number(&lines[5], 6, 3),
        Tip { number: 13, hash: NOTHING.to_owned() }.checkpoint(TIME, &key(2)).unwrap(),
    ] {
        let report = with(kept(Some(&junk)), &lines);
        assert_eq!(report.damages.len(), 1, "{junk}: {report:?}");
        assert_eq!(report.damages[0].what, "this is no checkpoint of the gateway's", "{junk}");
    }
    // An older one, of lines that are elsewhere: what follows it goes on from it, and nothing else does.
    assert_eq!(with(kept(Some(&lines[5])), &lines[6..]).damages, []);
    let report = with(kept(Some(&lines[5])), &lines[7..]);
    assert!(report.damages[0].what.contains("it is line 6, and what is here"), "{report:?}");
}

#[test]
fn a_gateway_does_not_begin_for_ever_and_never_in_the_middle() {
    let public = key(1).public_key().clone();
    let begun = |files: u64| {
        let (mut tip, mut verifier) =
            (Tip::start(), Verifier::new(&public, Head::Elsewhere, BTreeMap::new()));
        for number in 0..files {
            verifier.file(&number.to_string());
            verifier.line(tip.append(TIME, BEGIN, Map::new()).trim_end().as_bytes());
        }
        verifier.end().damages.len()
    };
    assert_eq!((begun(BEGINS_UNSIGNED_MAX), begun(BEGINS_UNSIGNED_MAX + 1)), (0, 1));
    // In the middle of a file it is a line like any other.
    let mut tip = Tip::start();
    let lines: Vec<String> =
        (0..CHECKPOINT_LINES_MAX + 2).map(|_| tip.append(TIME, BEGIN, Map::new())).collect();
    assert_eq!(places(&verified(&lines, None)), [CHECKPOINT_LINES_MAX + 2]);
}

#[test]
fn recordings_are_named() {
    let mut tip = Tip::start();
    let fields =
        Map::from_iter([("file".to_owned(), "d/f".into()), ("sha256".to_owned(), NOTHING.into())]);
    let line = tip.append(TIME, RECORDING, fields);
    let public = key(1).public_key().clone();
    let mut verifier = Verifier::new(&public, Head::Elsewhere, BTreeMap::new());
    let found = verifier.line(line.trim_end().as_bytes());
    let (file, sha256) = ("d/f".to_owned(), NOTHING.to_owned());
    assert_eq!(found, Some(Recorded { file, sha256, is_elsewhere: false }));
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
        let mut verifier = Verifier::new(&public, kept(lines.last()), BTreeMap::new());
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
