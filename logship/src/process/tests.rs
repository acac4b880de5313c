use proptest::prelude::*;

use super::redact::Rule;
use super::*;

fn processor(line_bytes_max: usize) -> Processor {
    Processor::new(Arc::new(ProcessSettings { line_bytes_max, ..ProcessSettings::default() }))
}

fn piece(bytes: &[u8], ends_line: bool, marks: Range<u64>) -> Piece<'_> {
    Piece { stream: Stream::Stdout, ts: 1, bytes, ends_line, late: false, marks }
}

fn shown(block: &Block) -> Vec<(String, bool)> {
    let text = |record: crate::record::Record<'_>| {
        (String::from_utf8_lossy(record.line).into_owned(), record.flags.is_partial())
    };
    block.records().map(text).collect()
}

#[test]
fn a_line_is_held_until_its_end_and_no_mark_passes_it() {
    let mut processor = processor(100);
    processor.piece(&piece(b"whole", true, 0..6));
    processor.piece(&piece(b"begin", false, 6..11));
    let taken = processor.take().unwrap();
    assert_eq!((shown(&taken.block), taken.mark), (vec![("whole".to_owned(), false)], 6));
    assert!(processor.take().is_none());
    processor.piece(&piece(b" and end", true, 11..20));
    let taken = processor.take().unwrap();
    assert_eq!((shown(&taken.block), taken.mark), (vec![("begin and end".to_owned(), false)], 20));
}

#[test]
fn a_line_that_is_too_long_is_handed_on_in_parts() {
    let mut processor = processor(4);
    processor.lines(Stream::File, 1, b"abcdefghij\nk\n", 100);
    let taken = processor.take().unwrap();
    let wanted = [("abcd", true), ("efgh", true), ("ij", false), ("k", false)];
    assert_eq!(shown(&taken.block), wanted.map(|(line, partial)| (line.to_owned(), partial)));
    assert_eq!(taken.mark, 113);
}

#[test]
fn what_happened_to_the_source_ends_an_unfinished_line() {
    let mut processor = processor(100);
    processor.piece(&piece(b"cut", false, 0..3));
    processor.control(2, Stream::Stdout, &Control::Stopped);
    let taken = processor.take().unwrap();
    let wanted = [("cut", true), (r#"{"control":"stopped"}"#, false)];
    assert_eq!(shown(&taken.block), wanted.map(|(line, partial)| (line.to_owned(), partial)));
    assert_eq!(taken.mark, 3);
    assert!(taken.block.has_control());
}

fn with(multiline: Option<&str>, rate: Option<&str>) -> Processor {
    Processor::new(Arc::new(ProcessSettings {
        multiline: multiline.map(|text| Multiline::parse(text).unwrap()),
        rate: rate.map(|text| Rate::parse(text).unwrap()),
        ..ProcessSettings::default()
    }))
}

fn line(stream: Stream, bytes: &[u8], mark: u64) -> Piece<'_> {
    Piece { stream, ts: 1, bytes, ends_line: true, late: false, marks: mark..mark + 1 }
}

fn lines_of(block: &Block) -> Vec<String> {
    shown(block).into_iter().map(|(line, _)| line).collect()
}

#[test]
fn a_group_is_one_record_and_no_mark_passes_its_beginning() {
    let mut processor = with(Some("java"), None);
    processor.lines(Stream::File, 1, b"a\nb\n\tat x\n", 0);
    let taken = processor.take().unwrap();
    assert_eq!((lines_of(&taken.block), taken.mark), (vec!["a".to_owned()], 2));
    processor.lines(Stream::File, 1, b"\tat y\nc\n", 10);
    let taken = processor.take().unwrap();
    assert_eq!(lines_of(&taken.block), ["b\n\tat x\n\tat y"]);
    assert_eq!(taken.mark, 16);
}

#[test]
fn a_group_is_handed_on_when_it_is_old_or_large() {
    let mut processor = with(Some("java"), None);
    processor.lines(Stream::File, 1, b"a\n", 0);
    assert_eq!(processor.deadline(), Some(i64::MIN));
    processor.expire(500);
    assert!(processor.is_empty());
    assert_eq!(processor.deadline(), Some(500 + multiline::GROUP_AGE_DEFAULT));
    processor.expire(500 + multiline::GROUP_AGE_DEFAULT);
    assert_eq!(
        (lines_of(&processor.take().unwrap().block), processor.deadline()),
        (vec!["a".to_owned()], None)
    );

    for at in 0..multiline::GROUP_LINES_MAX_DEFAULT as u64 + 1 {
        processor.piece(&line(Stream::File, b" x", 2 + at));
    }
    let taken = processor.take().unwrap();
    assert_eq!(taken.block.count(), 1);
    assert_eq!(taken.mark, 2 + multiline::GROUP_LINES_MAX_DEFAULT as u64);
}

#[test]
fn what_another_stream_said_waits_for_the_group_so_that_nothing_is_read_twice() {
    let mut processor = with(Some("java"), None);
    processor.piece(&line(Stream::Stdout, b"out", 0));
    processor.piece(&line(Stream::Stderr, b"err", 1));
    processor.piece(&line(Stream::Stderr, b"err 2", 2));
    assert!(processor.take().is_none());
    assert_eq!(processor.safe_mark(), 0);
    processor.piece(&line(Stream::Stdout, b"\tat x", 3));
    processor.piece(&line(Stream::Stdout, b"out 2", 4));
    // The group lies around `err` (1..2) and into the one that is open (2..): nothing can be cut off yet.
    assert!(processor.take().is_none());
    processor.piece(&line(Stream::Stderr, b"err 3", 5));
    let taken = processor.take().unwrap();
    assert_eq!(lines_of(&taken.block), ["out\n\tat x", "err", "err 2"]);
    assert_eq!(taken.mark, 4);
    processor.flush();
    assert_eq!(processor.take().unwrap().mark, 6);
}

#[test]
fn records_do_not_wait_for_another_stream_for_ever() {
    let mut processor = processor(100);
    processor.piece(&Piece { ends_line: false, ..line(Stream::Stdout, b"begin", 0) });
    processor.piece(&line(Stream::Stderr, b"err", 1));
    assert!(processor.is_empty());
    processor.expire(0);
    processor.expire(HELD_AGE_MAX);
    let taken = processor.take().unwrap();
    assert_eq!(shown(&taken.block), [("begin".to_owned(), true), ("err".to_owned(), false)]);
    assert_eq!((taken.mark, processor.deadline()), (2, None));

    processor.piece(&Piece { ends_line: false, ..line(Stream::Stdout, b"begin", 2) });
    for at in 0..=HELD_RECORDS_MAX as u64 {
        processor.piece(&line(Stream::Stderr, b"err", 3 + at));
    }
    assert_eq!(processor.take().unwrap().block.count() as usize, HELD_RECORDS_MAX + 2);
}

#[test]
fn what_the_rate_drops_becomes_one_gap_that_no_mark_passes_before_it_is_told() {
    let mut processor = with(None, Some("2/s"));
    for at in 0..10 {
        processor.piece(&line(Stream::Stdout, b"line", at));
    }
    let taken = processor.take().unwrap();
    assert_eq!((taken.block.count(), taken.mark), (2, 2));
    let later = Piece { ts: 5_000_000_000, ..line(Stream::Stdout, b"later", 10) };
    processor.piece(&later);
    let taken = processor.take().unwrap();
    assert_eq!(
        lines_of(&taken.block),
        [
            r#"{"control":"gap","reason":"rate_limited","from":1,"to":5000000000,"bytes":32,"lines":8,"exact":true}"#,
            "later"
        ]
    );
    assert_eq!(taken.mark, 11);
}

fn filtering(text: &str, multiline: Option<&str>, line_bytes_max: usize) -> Processor {
    Processor::new(Arc::new(ProcessSettings {
        level: Some(LevelFilter::parse(text).unwrap()),
        multiline: multiline.map(|text| Multiline::parse(text).unwrap()),
        line_bytes_max,
        ..ProcessSettings::default()
    }))
}

#[test]
fn what_is_not_serious_enough_is_counted_with_the_next_records() {
    let mut processor = filtering("warn", None, 100);
    processor.lines(Stream::File, 5, b"INFO a\nDEBUG bc\n", 0);
    assert!(processor.is_empty() && processor.take().is_none());
    assert_eq!((processor.safe_mark(), processor.holds_back()), (0, true));
    processor.lines(Stream::File, 7, b"ERROR d\nno level\nINFO e\n", 16);
    let taken = processor.take().unwrap();
    let told = r#"{"control":"filtered","from":5,"to":7,"lines":3,"bytes":20}"#;
    assert_eq!(lines_of(&taken.block), ["ERROR d", "no level", told]);
    assert_eq!((taken.mark, processor.holds_back()), (40, false));
}

#[test]
fn a_count_of_what_was_dropped_waits_for_a_bounded_time_and_number() {
    let mut processor = filtering("warn", None, 100);
    processor.piece(&line(Stream::Stdout, b"INFO a", 0));
    assert_eq!(processor.deadline(), Some(i64::MIN));
    processor.expire(0);
    assert!(processor.is_empty());
    processor.expire(filter::TELL_EVERY);
    assert_eq!((processor.take().unwrap().mark, processor.deadline()), (1, None));
    for at in 0..filter::TELL_LINES {
        processor.piece(&line(Stream::Stdout, b"INFO a", 1 + at));
    }
    assert_eq!(processor.take().unwrap().mark, 1 + filter::TELL_LINES);
}

#[test]
fn groups_and_parts_of_a_line_share_the_fate_of_their_beginning() {
    let mut processor = filtering("warn", Some("java"), 8);
    let text = b"INFO a\n\tERROR\nERROR b\n\tat\nINFO very long\nERROR very long\n";
    processor.lines(Stream::File, 1, text, 0);
    processor.flush();
    let told = r#"{"control":"filtered","from":1,"to":1,"lines":3,"bytes":27}"#;
    let wanted = ["ERROR b\n\tat", "ERROR ve", "ry long", told];
    assert_eq!(lines_of(&processor.take().unwrap().block), wanted);
}

#[test]
fn secrets_are_found_across_the_pieces_of_a_line() {
    let settings = ProcessSettings {
        redact: Redaction::new(Rule::preset("email").unwrap()),
        ..ProcessSettings::default()
    };
    let mut processor = Processor::new(Arc::new(settings));
    processor.piece(&piece(b"mail to someone@exa", false, 0..1));
    processor.piece(&piece(b"mple.org today", true, 1..2));
    let taken = processor.take().unwrap();
    assert_eq!(lines_of(&taken.block), ["mail to [redacted:email] today"]);
}

#[test]
fn a_part_of_a_long_line_belongs_to_no_group() {
    let mut processor = Processor::new(Arc::new(ProcessSettings {
        line_bytes_max: 4,
        multiline: Some(Multiline::parse("continue:^ ").unwrap()),
        ..ProcessSettings::default()
    }));
    processor.lines(Stream::File, 1, b"a\n b\nlong    end\n c\nd\n", 0);
    processor.flush();
    let wanted = [
        ("a\n b", false),
        ("long", true),
        ("    ", true),
        ("end", false),
        (" c", false),
        ("d", false),
    ];
    let taken = processor.take().unwrap();
    assert_eq!(shown(&taken.block), wanted.map(|(line, partial)| (line.to_owned(), partial)));
}

/// A message of a source: a stream, a text, whether the line ends with it.
fn messages() -> impl Strategy<Value = Vec<(bool, String, bool)>> {
    prop::collection::vec((any::<bool>(), "[ a]{0,6}", prop::bool::weighted(0.8)), 0..60)
}

fn settings() -> impl Strategy<Value = ProcessSettings> {
    (1_usize..12, any::<bool>(), 1_usize..4).prop_map(|(line_bytes_max, groups, lines_max)| {
        let multiline =
            groups.then(|| Multiline { lines_max, ..Multiline::parse("continue:^ ").unwrap() });
        ProcessSettings { line_bytes_max, multiline, ..ProcessSettings::default() }
    })
}

/// Every byte that a stream said in `range`, in order, with a line feed after each line.
fn said(messages: &[(bool, String, bool)], stream: bool) -> String {
    let own = messages.iter().filter(|(of, ..)| *of == stream);
    own.map(|(_, text, ends)| format!("{text}{}", if *ends { "\n" } else { "" })).collect()
}

fn arrived(blocks: &[Block], stream: Stream) -> String {
    let records = blocks.iter().flat_map(Block::records);
    let own = records.filter(|record| record.flags.stream() == stream);
    own.map(|record| {
        let end = if record.flags.is_partial() { "" } else { "\n" };
        format!("{}{end}", String::from_utf8_lossy(record.line))
    })
    .collect()
}

fn feed(processor: &mut Processor, messages: &[(bool, String, bool)], from: usize) {
    for (at, (stream, text, ends_line)) in messages.iter().enumerate().skip(from) {
        let stream = if *stream { Stream::Stdout } else { Stream::Stderr };
        let at = at as u64;
        processor.piece(&Piece {
            stream,
            ts: 1,
            bytes: text.as_bytes(),
            ends_line: *ends_line,
            late: false,
            marks: at..at + 1,
        });
    }
}

proptest! {
    /// Whatever is cut at whatever moment, and read again from the mark by a new process: every byte arrives
    /// once and in the order of its stream.
    #[test]
    fn no_byte_is_lost_or_repeated_by_a_crash(
        messages in messages(), settings in settings(), crash in 0_usize..60, expire in any::<bool>(),
    ) {
        let settings = Arc::new(settings);
        let crash = crash.min(messages.len());
        let mut first = Processor::new(settings.clone());
        feed(&mut first, &messages[..crash], 0);
        if expire {
            first.expire(0);
            first.expire(i64::MAX / 2);
        }
        let mut blocks = Vec::new();
        let mut mark = first.safe_mark();
        if let Some(taken) = first.take() {
            mark = taken.mark;
            blocks.push(taken.block);
        }
        let mut second = Processor::new(settings);
        feed(&mut second, &messages, usize::try_from(mark).unwrap());
        second.flush();
        let taken = second.take();
        blocks.extend(taken.map(|taken| taken.block));
        for (of, stream) in [(true, Stream::Stdout), (false, Stream::Stderr)] {
            prop_assert_eq!(arrived(&blocks, stream), said(&messages, of));
        }
    }
}
