use super::*;

fn check(pattern: &str, path: &[u8], is_directory: bool, expected: bool) {
    let exclude = Exclude::new(&[pattern.to_owned()]).unwrap();
    let shown = String::from_utf8_lossy(path);
    assert_eq!(exclude.matches(path, is_directory), expected, "{pattern} against {shown}");
}

#[test]
fn a_pattern_without_leading_slash_fits_at_every_depth() {
    check("*.log", b"var/log/syslog.log", false, true);
    check("*.log", b"a.log", false, true);
    check("*.log", b"a.log/inside", false, false);
    check("cache/tmp", b"srv/cache/tmp", true, true);
    check("cache/tmp", b"srv/cache/x/tmp", true, false);
    check("node_modules", b"node_modules", true, true);
    check("node_modules", b"my_node_modules", true, false);
}

#[test]
fn a_pattern_with_leading_slash_fits_the_whole_path() {
    check("/var/tmp", b"var/tmp", true, true);
    check("/var/tmp", b"srv/var/tmp", true, false);
    check("/var/*", b"var/a/b", true, false);
    check("/var/**", b"var/a/b", true, true);
}

#[test]
fn a_trailing_slash_fits_directories_only() {
    check("tmp/", b"a/tmp", true, true);
    check("tmp/", b"a/tmp", false, false);
}

#[test]
fn names_that_are_not_text_are_compared_as_bytes() {
    check("*.log", b"\xff\xfe.log", false, true);
    check("?.log", b"\xff.log", false, true);
}

#[test]
fn a_name_with_a_star_can_be_named_with_a_backslash() {
    check(r"a\*", b"a*", false, true);
    check(r"a\*", b"ab", false, false);
}

#[test]
fn no_patterns_leave_nothing_out() {
    let exclude = Exclude::default();
    assert!(exclude.is_empty());
    assert!(!exclude.matches(b"a", true));
}

#[test]
fn a_pattern_that_is_no_glob_is_refused_in_one_sentence() {
    let message = |pattern: &str| Exclude::new(&[pattern.to_owned()]).unwrap_err().to_string();
    assert!(message("a[").starts_with("the pattern 'a[' cannot be used: "));
    assert_eq!(message("/"), "the pattern '/' cannot be used: it names nothing");
    assert!(message(&"x".repeat(5000)).ends_with("it is too long"));
    assert!(!message("a[").contains('\n'));
    let many = vec!["a".to_owned(); PATTERNS_MAX + 1];
    assert!(matches!(Exclude::new(&many), Err(ExcludeError::TooMany)));
}
