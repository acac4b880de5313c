use super::*;

fn lines(is_terminal: bool) -> Lines {
    Lines::new(Arc::default(), is_terminal)
}

fn entry(stream: Stream, ts: i64, line: &str, ends_line: bool) -> Entry<'_> {
    Entry { ts, stream, line: line.as_bytes(), ends_line }
}

/// Stream, text and a plus for what goes on.
fn shown(lines: &mut Lines) -> Vec<String> {
    let Some(taken) = lines.take() else { return Vec::new() };
    let text = |record: crate::record::Record<'_>| {
        let more = if record.flags.is_partial() { "+" } else { "" };
        let line = String::from_utf8_lossy(record.line);
        format!("{} {line}{more}", record.flags.stream().name())
    };
    taken.block.records().map(text).collect()
}

#[test]
fn pieces_of_both_streams_are_joined_each_with_its_own() {
    let mut lines = lines(false);
    lines.entry(&entry(Stream::Stdout, 1, "one ", false), 0..10);
    lines.entry(&entry(Stream::Stderr, 2, "two ", false), 10..20);
    lines.entry(&entry(Stream::Stdout, 1, "end", true), 20..30);
    lines.entry(&entry(Stream::Stderr, 2, "end", true), 30..40);
    assert_eq!(shown(&mut lines), ["stdout one end", "stderr two end"]);
}

#[test]
fn a_piece_that_the_run_left_is_not_glued_to_the_next_run() {
    let mut lines = lines(false);
    lines.entry(&entry(Stream::Stdout, 1, "cut", false), 0..10);
    lines.entry(&entry(Stream::Stdout, 2, "next", true), 10..20);
    assert_eq!(shown(&mut lines), ["stdout cut+", "stdout next"]);
    lines.entry(&entry(Stream::Stdout, 3, "cut", false), 20..30);
    lines.end_run();
    assert_eq!(shown(&mut lines), ["stdout cut+"]);
    lines.end(4);
    assert_eq!(shown(&mut lines), [r#"stdout {"control":"stopped"}"#]);
}

#[test]
fn a_terminal_is_one_stream_without_carriage_returns() {
    let mut lines = lines(true);
    lines.entry(&entry(Stream::Stdout, 1, "a\r", false), 0..10);
    lines.entry(&entry(Stream::Stdout, 1, "b\r", true), 10..20);
    assert_eq!(shown(&mut lines), ["console a\rb"]);
}

#[test]
fn a_hole_is_told_between_the_lines_at_its_sides() {
    let mut lines = lines(false);
    lines.remember(Stream::Stderr, 5);
    lines.missing(GapReason::Corrupt, Some(10), true);
    lines.missing(GapReason::Corrupt, Some(7), true);
    lines.entry(&entry(Stream::Stdout, 9, "after", true), 0..10);
    let gap = r#"{"control":"gap","reason":"corrupt","from":5,"to":9,"bytes":17,"exact":true}"#;
    assert_eq!(shown(&mut lines), [format!("stdout {gap}"), "stdout after".to_owned()]);
    lines.missing(GapReason::Rotated, None, true);
    lines.end(10);
    let gap = r#"stdout {"control":"gap","reason":"rotated","from":9,"exact":true}"#;
    assert_eq!(shown(&mut lines), [gap, r#"stdout {"control":"stopped"}"#]);
}

#[test]
fn a_clock_that_goes_back_is_told_and_nothing_is_dropped() {
    let mut lines = lines(false);
    for ts in [10 * SECOND, 10 * SECOND - 5, 2 * SECOND] {
        lines.entry(&entry(Stream::Stdout, ts, "x", true), 0..10);
    }
    let step = r#"stdout {"control":"clock_step","from":9999999995,"to":2000000000}"#;
    assert_eq!(shown(&mut lines), ["stdout x", "stdout x", step, "stdout x"]);
}
