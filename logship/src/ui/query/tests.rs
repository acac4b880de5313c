use super::*;
use crate::record::{Gap, GapReason};

fn line<'a>(source: &'a str, stream: &'a str, text: &'a str) -> Line<'a> {
    Line {
        key: Key { ts: 5, origin: 1, seq: 0 },
        source,
        stream,
        text: text.as_bytes(),
        control: None,
        is_partial: false,
        is_late: false,
    }
}

fn parse(text: &str) -> Asked {
    Asked::parse(text, 0).unwrap()
}

#[test]
fn lines_are_chosen_by_source_stream_level_and_text() {
    for (query, wanted) in [
        ("", true),
        ("source=web", true),
        ("source=db&source=web", true),
        ("source=we", false),
        ("stream=stderr", true),
        ("stream=stdout", false),
        ("level=error", true),
        ("level=info&level=debug", false),
        ("q=CANNOT+connect", true),
        ("q=CANNOT+connect&case=1", false),
        ("q=c.nnot", false),
        ("q=c.nn%C3%B6t&regex=1", false),
        ("q=c.nnot+\\w%2B:&regex=1", true),
        ("q=%5Bx", false),
    ] {
        let asked = parse(query);
        let taken = asked.query.takes(&line("web", "stderr", "ERROR cannot connect: refused"));
        assert_eq!(taken, wanted, "{query}");
    }
}

#[test]
fn gaps_are_shown_whatever_is_searched_for() {
    let gap = Gap {
        reason: GapReason::Rotated,
        from: None,
        to: None,
        from_byte: None,
        bytes: None,
        lines: None,
        exact: true,
    };
    let told = |control| Line { control: Some(control), ..line("web", "file", "") };
    let search = parse("q=x&level=error").query;
    assert!(search.takes(&told(Control::Gap(gap.clone()))));
    assert!(!search.takes(&told(Control::Started)));
    assert!(parse("").query.takes(&told(Control::Started)));
    assert!(!parse("source=db").query.takes(&told(Control::Gap(gap))));
}

#[test]
fn what_is_not_understood_is_a_fault() {
    for (query, wanted) in [
        ("level=loud", "\"loud\" is no level"),
        ("stream=out", "\"out\" is no stream"),
        ("colour=red", "\"colour\" cannot be asked for"),
        ("limit=0", "limit is 1 to 1000"),
        ("limit=1001", "limit is 1 to 1000"),
        ("before=soon", "\"soon\" is no time"),
        ("q=(&regex=1", "the pattern cannot be used: "),
        ("q=(\\w{500}){500}&regex=1", "the pattern is too large"),
    ] {
        let error = Asked::parse(query, 0).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{query}: {error}");
    }
    let long = format!("q={}", "x".repeat(SEARCH_BYTES_MAX + 1));
    assert!(Asked::parse(&long, 0).is_err());
    let many: String = (0..=SOURCES_MAX).map(|at| format!("source=s{at}&")).collect();
    assert!(Asked::parse(&many, 0).is_err());
}

#[test]
fn a_pattern_takes_no_more_time_than_the_line_is_long() {
    let asked = parse("q=(a%2B)%2B%24&regex=1");
    let text = format!("{}b", "a".repeat(1 << 20));
    assert!(!asked.query.takes(&line("web", "file", &text)));
}

#[test]
fn pages_are_before_after_or_at_a_place() {
    let key = |ts| Key { ts, origin: 7, seq: 1 };
    let page = parse(&format!("before={}&limit=5", key(9))).page();
    assert_eq!(page, Page { place: Place::Before(key(9)), limit: 5 });
    assert!(page.takes(key(8)) && !page.takes(key(9)));
    let page = parse("after=2026-11-24T10:20:30Z").page();
    assert!(page.takes(key(1_795_515_630_000_000_000)));
    assert!(!page.takes(key(1_795_515_629_999_999_999)));
    assert!(parse("").page().takes(key(i64::MAX - 1)));
}
