use proptest::prelude::*;

use super::*;

fn open(opened: &mut Opened, number: u64, path: &[u8], flags: u32) {
    let report = Report::Opened { number, path: path.to_vec(), flags };
    assert_eq!(opened.hear(report), Ok(Vec::new()));
}

fn closed(number: u64, written: Moved) -> Report {
    Report::Closed(Box::new(Closed {
        number,
        read: Moved::default(),
        written,
        set: Set { mode: Some(0o640), ..Set::default() },
        fault: None,
    }))
}

#[test]
fn a_file_is_one_line_when_it_is_closed() {
    let mut opened = Opened::default();
    open(&mut opened, 7, b"/tmp/a\xff b", flag::WRITE | flag::CREATE | flag::TRUNCATE);
    let lines = opened.hear(closed(7, Moved { bytes: 5, sha256: Some([0xab; 32]) })).unwrap();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line.path, r"/tmp/a\xff b");
    assert_eq!(line.opened.as_deref(), Some("write create truncate"));
    assert_eq!((line.written, line.read), (Some(5), None));
    assert_eq!(line.written_sha256.as_deref(), Some("ab".repeat(32).as_str()));
    assert_eq!(line.mode.as_deref(), Some("0640"));
    open(&mut opened, 8, b"/tmp/b", flag::WRITE);
    let lines = opened.hear(closed(8, Moved { bytes: 5, sha256: None })).unwrap();
    assert_eq!(lines[0].written_sha256.as_deref(), Some("none (not sequential)"));
}

#[test]
fn what_is_open_when_a_program_is_killed_is_told_all_the_same() {
    let mut opened = Opened::default();
    open(&mut opened, 1, b"/etc/shadow", flag::READ);
    let lines = opened.end();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].path, "/etc/shadow");
    assert_eq!(lines[0].fault.as_deref(), Some("the program ended before it was closed"));
    assert!(opened.is_over);
}

#[test]
fn acts_have_their_names_and_why_they_were_not_done() {
    let mut opened = Opened::default();
    let mut line = |act, failed: Option<&str>| {
        let failed = failed.map(str::to_owned);
        opened.hear(Report::Done { act, failed }).unwrap().remove(0)
    };
    let path = b"/a".to_vec();
    let act = Act::Rename { path: path.clone(), to: b"/b\n".to_vec() };
    let renamed = line(act, None);
    assert_eq!((renamed.what, renamed.to.as_deref()), ("rename", Some(r"/b\n")));
    let removed = line(Act::Remove { path: path.clone() }, Some("Permission denied"));
    assert_eq!((removed.what, removed.reason.as_deref()), ("remove", Some("Permission denied")));
    let set = Set { owner: Some((1000, 5)), size: Some(9), ..Set::default() };
    let set = line(Act::Set { path, set }, None);
    assert_eq!((set.owner.as_deref(), set.size), (Some("1000:5"), Some(9)));
}

#[test]
fn a_program_that_lies_about_what_it_has_open_is_found_out() {
    let mut opened = Opened::default();
    assert!(opened.hear(closed(1, Moved::default())).is_err());
    assert!(
        opened
            .hear(Report::Done { act: Act::Copy { from: 1, to: 2, bytes: 1 }, failed: None })
            .is_err()
    );
    open(&mut opened, 1, b"/a", flag::READ);
    let again = Report::Opened { number: 1, path: b"/b".to_vec(), flags: flag::READ };
    assert!(opened.hear(again).is_err());
    assert!(opened.hear(Report::End).is_err());
    for number in 2..1001 {
        open(&mut opened, number, b"/a", flag::READ);
    }
    let more = Report::Opened { number: 5000, path: b"/b".to_vec(), flags: flag::READ };
    assert!(opened.hear(more).is_err());
}

#[test]
fn lines_come_at_once_until_there_are_too_many() {
    let now = Instant::now();
    let paces = Paces::default();
    let step = |who, bytes, now| paces.step(who, bytes, now);
    for _ in 0..5000 {
        assert_eq!(step("alice", 400, now), Duration::ZERO);
    }
    assert_eq!(step("alice", 400, now), LINE_TIME);
    // Others are not held up, and long lines count for as many as they are.
    assert_eq!(step("bob", 512 * 5000, now), Duration::ZERO);
    assert_eq!(step("bob", 20_480, now), LINE_TIME * 40);
    // Whoever pauses may be as fast again.
    assert_eq!(step("alice", 400, now + Duration::from_secs(60)), Duration::ZERO);
    assert_eq!(paces.0.lock().unwrap().len(), 1);
}

#[test]
fn what_is_kept_of_open_files_is_bounded() {
    let mut opened = Opened::default();
    let long = |length: usize| Report::Opened {
        number: length as u64,
        path: vec![b'x'; length],
        flags: 1,
    };
    assert!(opened.hear(long(TOLD_BYTES_MAX + 1)).is_err());
    assert!(opened.hear(long(TOLD_BYTES_MAX)).is_ok());
    assert!(opened.files.values().all(|(path, _)| path.capacity() <= PATH_BYTES_MAX + 1));
    assert!(opened.end()[0].path.ends_with("x…"));
}

proptest! {
    /// Whatever the paths: a line of the audit is not too long, and has nothing that a terminal obeys.
    #[test]
    fn no_path_makes_too_long_a_line(
        bytes in proptest::collection::vec(any::<u8>(), 0..9000),
        failed in any::<String>(),
    ) {
        let act = Act::Rename { path: bytes.clone(), to: bytes };
        let line = Opened::default().hear(Report::Done { act, failed: Some(failed) }).unwrap();
        let texts = [Some(line[0].path.clone()), line[0].to.clone(), line[0].reason.clone()];
        let json = serde_json::to_string(&texts).unwrap();
        prop_assert!(json.len() < crate::chain::LINE_BYTES_MAX - 4096, "{}", json.len());
        prop_assert!(texts.iter().flatten().all(|text| !text.chars().any(char::is_control)));
    }
}
