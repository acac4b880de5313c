use super::*;

fn redaction(names: &[&str]) -> Redaction {
    Redaction::new(names.iter().flat_map(|name| Rule::preset(name).unwrap()).collect())
}

fn redacted(names: &[&str], line: &str) -> String {
    let mut out = Vec::new();
    let differs = redaction(names).apply(line.as_bytes(), &mut out);
    if differs { String::from_utf8(out).unwrap() } else { line.to_owned() }
}

#[test]
fn presets_find_what_they_are_named_after() {
    let key = "AKIAIOSFODNN7EXAMPLE";
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for (preset, line, wanted) in [
        ("email", "to a.b+c@mail.example.org now", "to [redacted:email] now"),
        ("email", "no@host a@b", "no@host a@b"),
        ("card", "card 4111111111111111.", "card [redacted:card]."),
        ("card", "4111-1111-1111-1111 5500 0000 0000 0004", "[redacted:card] [redacted:card]"),
        ("card", "12 4111 1111 1111 1111", "12 [redacted:card]"),
        ("card", "4111111111111112 1700000000000", "4111111111111112 1700000000000"),
        ("bearer", "Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer [redacted:bearer]"),
        ("bearer", "bearer of news", "bearer of news"),
    ] {
        assert_eq!(redacted(&[preset], line), wanted);
    }
    let line = format!("{key} AWS_SECRET_ACCESS_KEY={secret}");
    let wanted = "[redacted:aws-key] AWS_SECRET_ACCESS_KEY=[redacted:aws-key]";
    assert_eq!(redacted(&["aws-key"], &line), wanted);
    assert_eq!(redaction(&["aws-key", "card"]).names(), ["aws-key", "card"]);
}

#[test]
fn several_kinds_in_one_line_and_bytes_that_are_no_text() {
    let all = presets();
    let wanted = "[redacted:email],[redacted:card]";
    assert_eq!(redacted(&all, "a@b.org,4111111111111111"), wanted);
    let mut out = Vec::new();
    assert!(redaction(&all).apply(b"\xff\xfe a@b.org \x80", &mut out));
    assert_eq!(out, b"\xff\xfe [redacted:email] \x80");
    assert!(!redaction(&all).apply(b"\xff nothing here", &mut out));
}

#[test]
fn a_pattern_of_ones_own_may_name_the_part_that_is_secret() {
    let rules = vec![
        Rule::new("session", r"sid=(?P<secret>\w+)").unwrap(),
        Rule::new("pin", r"pin \d{4}").unwrap(),
        Rule::new("empty", "x*").unwrap(),
    ];
    let redaction = Redaction::new(rules);
    let mut out = Vec::new();
    assert!(redaction.apply(b"sid=abc sid=def pin 1234 y", &mut out));
    let wanted = "sid=[redacted:session] sid=[redacted:session] [redacted:pin] y";
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}
