use proptest::prelude::*;

use super::*;

#[test]
fn a_field_tells_the_level() {
    for (how, field, line, wanted) in [
        (Parse::Json, None, r#"{"msg":"x","level":"warning"}"#, Some(Level::Warn)),
        (Parse::Json, None, r#"{"level":50,"msg":"INFO"}"#, Some(Level::Error)),
        (Parse::Json, None, r#"{"log.level":"ERROR"}"#, Some(Level::Error)),
        (Parse::Json, None, r#"{"level":{"a":1},"severity":"debug"}"#, Some(Level::Debug)),
        (Parse::Json, Some("sev"), r#"{"level":"error","sev":7}"#, Some(Level::Debug)),
        (Parse::Json, None, r#"{"level":"error","broken"#, Some(Level::Error)),
        (Parse::None, None, r#"{"level":"info"}"#, Some(Level::Info)),
        (Parse::Logfmt, None, r#"msg="an ERROR" level=info"#, Some(Level::Info)),
        (Parse::Nginx, None, "2026/11/24 10:20:30 [crit] 1#2: no", Some(Level::Fatal)),
        (Parse::Syslog, None, "<35>Oct 11 22:14:15 h su: no", Some(Level::Error)),
        (Parse::Klog, None, "W0102 15:04:05.678901 1 a.go:1] no", Some(Level::Warn)),
        (Parse::Json, None, r#"{"msg":"x"}"#, None),
    ] {
        assert_eq!(level_of(&how, field, line.as_bytes()), wanted, "{line}");
    }
}

#[test]
fn without_a_field_the_beginning_of_the_line_is_guessed_at() {
    for (line, wanted) in [
        ("2026-11-24 10:20:30,123 ERROR [main] c.e.App - it failed", Some(Level::Error)),
        ("2026-11-24 INFO no ERROR here", Some(Level::Info)),
        ("[WARN] low", Some(Level::Warn)),
        ("[2026-11-24] [warning] low", Some(Level::Warn)),
        ("error: no such file", Some(Level::Error)),
        ("time=x level=debug msg=error", Some(Level::Debug)),
        ("E1124 10:20:30.000001 1 a.go:3] no", Some(Level::Error)),
        ("<7>debugging", Some(Level::Debug)),
        ("2026-11-24 10:20:30 UTC [1] LOG:  ready", Some(Level::Info)),
        ("\u{1b}[31mERROR\u{1b}[0m red", Some(Level::Error)),
        ("no error at all", None),
        ("GET /ERROR HTTP/1.1", None),
        ("ERRORS", None),
        ("", None),
        ("<999>x", None),
    ] {
        assert_eq!(level_of(&Parse::None, None, line.as_bytes()), wanted, "{line}");
    }
    assert_eq!(level_of(&Parse::None, None, b"ERROR \xff"), Some(Level::Error));
    let far = format!("{} ERROR", "x".repeat(GUESS_BYTES_MAX));
    assert_eq!(level_of(&Parse::None, None, far.as_bytes()), None);
}

#[test]
fn levels_rise_and_have_their_names() {
    let all = Level::NAMES.map(|name| Level::of_word(name).unwrap());
    assert!(all.is_sorted());
    assert_eq!(all.map(Level::name), Level::NAMES);
}

proptest! {
    #[test]
    fn nothing_breaks_it(line in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,80}") {
        for name in Parse::NAMES {
            let how = Parse::named(name).unwrap();
            let _level = level_of(&how, None, &line);
            let _level = level_of(&how, Some("a"), text.as_bytes());
        }
    }
}
