use proptest::prelude::*;

use super::*;

fn fields(line: &str) -> Option<Vec<(String, String)>> {
    match parse(Parse::Logfmt, line.as_bytes())? {
        Parsed::Fields(fields) => Some(
            fields.into_iter().map(|(key, value)| (key.to_owned(), value.into_owned())).collect(),
        ),
        Parsed::Json(_) => None,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn a_json_object_is_passed_on_as_it_was_written() {
    let line = br#"  {"a": 1, "b": {"c": [1e40, null]}}  "#;
    let whole = Parsed::Json(r#"{"a": 1, "b": {"c": [1e40, null]}}"#);
    assert_eq!(parse(Parse::Json, line), Some(whole));
}

#[test]
fn what_is_no_json_object_is_left_alone() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(PARSE_BYTES_MAX));
    for line in [
        "",
        "text",
        "[1]",
        "\"x\"",
        "{\"a\":1} x",
        "{\"a\":",
        "{'a':1}",
        "{\"a\":1e400}",
        r#"{"a":"\ud800"}"#,
        &deep,
        &long,
    ] {
        assert_eq!(parse(Parse::Json, line.as_bytes()), None);
    }
    assert_eq!(parse(Parse::Json, b"{\"a\":\"\xff\"}"), None);
}

#[test]
fn logfmt_has_bare_quoted_and_missing_values() {
    let line = r#"level=info msg="a \"b\"\n\x" empty= flag n=1=2 level=again"#;
    let expected = pairs(&[
        ("level", "info"),
        ("msg", "a \"b\"\n\\x"),
        ("empty", ""),
        ("flag", ""),
        ("n", "1=2"),
    ]);
    assert_eq!(fields(line), expected);
}

#[test]
fn free_text_is_no_logfmt() {
    for line in ["", "plain words only", "=1", "a=\"open", "a=\"x\"y=1", "say \"hi\" x=1"] {
        assert_eq!(fields(line), None, "{line}");
    }
    let many: String = (0..=FIELDS_MAX).map(|n| format!("k{n}=1 ")).collect();
    assert_eq!(fields(&many), None);
}

proptest! {
    #[test]
    fn nothing_breaks_it(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in [Parse::None, Parse::Json, Parse::Logfmt] {
            let _parsed = parse(kind, &line);
        }
    }
}
