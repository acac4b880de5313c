use super::*;

#[test]
fn seven_levels_become_four() {
    for (line, level) in [
        ("TRACE a", Some(Level::Debug)),
        ("DEBUG: cache hit", Some(Level::Debug)),
        ("<13>x", Some(Level::Info)),
        (r#"{"msg":"PANIC averted","level":"info"}"#, Some(Level::Info)),
        (r#"{"severity": "WARNING"}"#, Some(Level::Warn)),
        ("2026/11/24 10:20:30 [error] 31#31: *1 open() failed", Some(Level::Error)),
        ("level=fatal msg=x", Some(Level::Error)),
        ("GET /error HTTP/1.1 200", None),
        ("", None),
    ] {
        assert_eq!(Level::of(line.as_bytes()), level, "{line}");
    }
}
