use super::*;

fn processor(line_bytes_max: usize) -> Processor {
    Processor::new(Arc::new(ProcessSettings { line_bytes_max }))
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
