use super::*;

fn fields(pattern: &Pattern, line: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let matches = pattern.fields(line, |name, text| found.push((name.to_owned(), text.to_owned())));
    matches.then_some(found)
}

#[test]
fn named_groups_that_took_part_are_fields() {
    let pattern = Pattern::new(r"^(?P<verb>[A-Z]+) (\S+)(?: (?P<code>\d+))?(?P<rest>.*)$").unwrap();
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let wanted = vec![pair("verb", "GET"), pair("code", "200"), pair("rest", " ok")];
    assert_eq!(fields(&pattern, "GET /a 200 ok"), Some(wanted));
    assert_eq!(fields(&pattern, "GET /a"), Some(vec![pair("verb", "GET"), pair("rest", "")]));
    assert_eq!(fields(&pattern, "nothing"), None);
}

#[test]
fn what_is_no_pattern_gives_no_field_or_is_too_large_is_refused() {
    let long = format!("(?P<a>{})", "x".repeat(TEXT_BYTES_MAX));
    let many: String = (0..=GROUPS_MAX).map(|n| format!("(?P<g{n}>x)")).collect();
    for (text, said) in [
        ("(?P<a>", "is no usable pattern"),
        (r"(?P<a>\w{1000}){1000}", "is no usable pattern"),
        ("a(b)c", "names no group"),
        (&long, "is longer than"),
        (&many, "names more than"),
    ] {
        let fault = Pattern::new(text).unwrap_err().to_string();
        assert!(fault.contains(said), "{fault}");
    }
}

#[test]
fn equal_patterns_are_compiled_once_and_forgotten_with_their_last_owner() {
    let text = "(?P<compiled_once>a)";
    let (one, two) = (Pattern::new(text).unwrap(), Pattern::stored(text));
    assert!(Arc::ptr_eq(&one.0, &two.0) && one == two);
    let known = Arc::downgrade(&one.0);
    drop((one, two));
    assert_eq!(known.strong_count(), 0);
}

#[test]
fn a_stored_pattern_that_is_none_matches_nothing() {
    let pattern = Pattern::stored("(?P<a>");
    assert_eq!((pattern.text(), fields(&pattern, "a")), ("(?P<a>", None));
}
