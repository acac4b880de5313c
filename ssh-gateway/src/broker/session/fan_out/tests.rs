use proptest::prelude::*;

use super::*;

fn wanted(terminal: bool) -> Wanted {
    let size = crate::wire::WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    Wanted {
        number: 1,
        program: Program::Command(b"id".to_vec()),
        terminal: terminal.then(|| crate::wire::Terminal {
            term: "xterm".to_owned(),
            size,
            modes: Vec::new(),
        }),
        environment: Vec::new(),
        agent: false,
    }
}

fn of(pieces: &[&[u8]]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut text = Vec::new();
    for piece in pieces {
        text.extend(lines(b"web: ", &mut rest, piece, false));
    }
    text.extend(lines(b"web: ", &mut rest, b"", true));
    text
}

#[test]
fn only_whole_lines_are_passed_on() {
    let mut rest = Vec::new();
    assert_eq!(lines(b"web: ", &mut rest, b"on", false), b"");
    assert_eq!(lines(b"web: ", &mut rest, b"e\ntwo\nthr", false), b"web: one\nweb: two\n");
    assert_eq!(lines(b"web: ", &mut rest, b"", true), b"web: thr\n");
    assert_eq!(lines(b"web: ", &mut rest, b"", true), b"");
    assert_eq!(of(&[b"\n\n"]), b"web: \nweb: \n");
}

#[test]
fn a_line_without_an_end_is_cut() {
    let long = vec![b'x'; 2 * LINE_BYTES_MAX + 10];
    let text = of(&[&long]);
    let lengths: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    assert_eq!(lengths, [5 + LINE_BYTES_MAX, 5 + LINE_BYTES_MAX, 15, 0]);
    // One that has just the length is whole.
    let mut exact = vec![b'x'; LINE_BYTES_MAX];
    exact.push(b'\n');
    assert_eq!(of(&[&exact]), [&b"web: "[..], &exact].concat());
}

proptest! {
    #[test]
    fn every_line_has_the_prefix_and_nothing_is_lost(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let text = of(&pieces);
        let mut whole = pieces.concat();
        if whole.last().is_some_and(|last| *last != b'\n') {
            whole.push(b'\n');
        }
        let mut back = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            back.extend_from_slice(line.strip_prefix(b"web: ").unwrap());
        }
        prop_assert_eq!(back, whole);
    }
}

#[test]
fn the_highest_status_counts_and_what_did_not_run_is_the_highest() {
    let signal = Outcome::Ended(Exit::Signal { number: 9, core_dumped: false });
    let ended = |status| Outcome::Ended(Exit::Status(status));
    let not_run = Outcome::NotRun("the container is paused\x1b".to_owned());
    for (outcomes, wanted) in [
        (vec![ended(0), ended(0)], 0),
        (vec![ended(0), ended(3), ended(1)], 3),
        (vec![ended(0), signal.clone()], 137),
        (vec![ended(0), not_run.clone()], 255),
    ] {
        assert_eq!(status(outcomes.iter()), wanted, "{outcomes:?}");
    }
    let outcomes = [("a", ended(0)), ("b", ended(3)), ("c", signal), ("d", not_run)];
    let text = summary(&outcomes, 255, false);
    assert_eq!(
        text,
        "-- 4 containers, 3 failed\n-- a: status 0\n-- b: status 3\n-- c: signal 9\n\
         -- d: not run: the container is paused\u{fffd}\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(summary(&outcomes, 255, true).trim_end()).unwrap();
    assert_eq!(json["status"], 255);
    assert_eq!(json["containers"][1], serde_json::json!({ "name": "b", "status": 3 }));
    assert_eq!(json["containers"][2]["signal"], 9);
}

#[test]
fn what_several_containers_cannot_have_is_refused() {
    assert!(check(&wanted(false), CONTAINERS_MAX).is_ok());
    assert!(check(&wanted(true), 2).unwrap_err().message.contains("leave -t out"));
    assert!(check(&wanted(false), CONTAINERS_MAX + 1).unwrap_err().message.contains("at most"));
    let json = |value: &[u8]| vec![("CHORES_SUMMARY".to_owned(), Opaque(value.to_vec()))];
    assert!(wants_json(&json(b"json")) && !wants_json(&json(b"text")) && !wants_json(&[]));
}

#[tokio::test]
async fn who_begins_late_gets_all_of_the_input_and_too_much_is_told() {
    let (input, stdin) = pipe().unwrap();
    let (kept, mut all) = shared_value::channel(Kept::default());
    let keeping = tokio::spawn(keep(receiving(input).unwrap(), kept));
    rustix::io::write(&stdin, b"first ").unwrap();
    all.wait_for(|kept| !kept.bytes.is_empty()).await.unwrap();
    let (read, late) = pipe().unwrap();
    let feeding = tokio::spawn(feed(all.clone(), late));
    rustix::io::write(&stdin, b"second").unwrap();
    drop(stdin);
    keeping.await.unwrap().unwrap();
    feeding.await.unwrap().unwrap();
    let mut text = Vec::new();
    receiving(read).unwrap().read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"first second");

    let (input, stdin) = pipe().unwrap();
    let (kept, _all) = shared_value::channel(Kept::default());
    let keeping = tokio::spawn(keep(receiving(input).unwrap(), kept));
    let mut stdin = sending(stdin).unwrap();
    let flood = vec![0; INPUT_BYTES_MAX + 1];
    // Nobody reads the rest.
    stdin.write_all(&flood).await.ok();
    assert!(matches!(keeping.await.unwrap(), Err(Flood)));
}

#[tokio::test]
async fn who_is_cut_off_within_a_line_does_not_spoil_the_next_one() {
    let (read, write) = pipe().unwrap();
    let out = Out::new(sending(write).unwrap());
    let full = vec![b'x'; 1024 * 1024];
    // Nobody reads, so that it gets stuck within its line.
    assert!(timeout(Duration::from_millis(50), out.say(&full)).await.is_err());
    let reading = tokio::spawn(async move {
        let mut text = Vec::new();
        receiving(read).unwrap().read_to_end(&mut text).await.unwrap();
        text
    });
    out.say(b"web: whole\n").await.unwrap();
    drop(out);
    let text = reading.await.unwrap();
    assert!(text.ends_with(b"x\nweb: whole\n"));
}
