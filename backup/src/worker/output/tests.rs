use bytes::Bytes;

use super::*;

fn frame(source: LogSource, text: &str) -> LogFrame {
    LogFrame { source, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

/// Reads `first`, breaks off, reads `again` from the start; returns the lines of both streams.
fn lines(first: &[LogFrame], again: &[LogFrame]) -> (Vec<String>, String) {
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    let mut on_line = |line: &str| lines.push(line.to_owned());
    let mut output = Output::new(&mut on_line, &mut errors);
    first.iter().for_each(|frame| output.take(frame));
    output.rewind();
    again.iter().for_each(|frame| output.take(frame));
    output.finish();
    (lines, String::from_utf8(errors).unwrap())
}

#[test]
fn wherever_following_breaks_off_every_line_comes_once() {
    use LogSource::{Stderr, Stdout};
    let all = [
        frame(Stdout, "one\n"),
        frame(Stderr, "warning: "),
        frame(Stdout, "tw"),
        frame(Stderr, "careful\n"),
        frame(Stdout, "o\nthree"),
    ];
    for cut in 0..=all.len() {
        let (lines, errors) = lines(&all[..cut], &all);
        assert_eq!(lines, ["one", "two", "three"], "{cut}");
        assert_eq!(errors, "warning: careful\n", "{cut}");
    }
}

#[test]
fn a_piece_that_is_cut_elsewhere_the_second_time_adds_only_its_new_part() {
    use LogSource::Stdout;
    let first = [frame(Stdout, "ab")];
    let again = [frame(Stdout, "abcd\n"), frame(Stdout, "e")];
    assert_eq!(lines(&first, &again).0, ["abcd", "e"]);
}

#[test]
fn a_second_reading_that_is_shorter_repeats_nothing() {
    use LogSource::Stdout;
    let first = [frame(Stdout, "a\nb\n")];
    assert_eq!(lines(&first, &[frame(Stdout, "a\n")]).0, ["a", "b"]);
    assert_eq!(lines(&first, &[]).0, ["a", "b"]);
}

#[test]
fn an_endless_line_is_delivered_in_pieces() {
    let piece = frame(LogSource::Stdout, &"x".repeat(LINE_BYTES_MAX / 2));
    let (lines, _) = lines(&[piece.clone(), piece.clone(), piece], &[]);
    let lengths: Vec<_> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX / 2]);
}

#[test]
fn bytes_that_are_not_utf8_are_shown_as_such() {
    let broken = LogFrame { source: LogSource::Stdout, bytes: Bytes::from_static(b"a\xffb\n") };
    assert_eq!(lines(&[broken], &[]).0, ["a\u{fffd}b"]);
}
