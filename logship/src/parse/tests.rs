use proptest::prelude::*;

use super::*;

fn fields_of(how: &Parse, line: &str) -> Option<Vec<(String, String)>> {
    match parse(how, line.as_bytes())? {
        Parsed::Fields(fields) => {
            Some(fields.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect())
        }
        Parsed::Json(_) => None,
    }
}

fn fields(line: &str) -> Option<Vec<(String, String)>> {
    fields_of(&Parse::Logfmt, line)
}

/// `key=value|key=value`, so that a table fits on the page.
fn joined(how: &Parse, line: &str) -> String {
    let fields = fields_of(how, line).unwrap_or_default();
    fields.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("|")
}

fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn a_json_object_is_passed_on_as_it_was_written() {
    let line = br#"  {"a": 1, "b": {"c": [1e40, null]}}  "#;
    let whole = Parsed::Json(r#"{"a": 1, "b": {"c": [1e40, null]}}"#);
    assert_eq!(parse(&Parse::Json, line), Some(whole));
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
        assert_eq!(parse(&Parse::Json, line.as_bytes()), None);
    }
    assert_eq!(parse(&Parse::Json, b"{\"a\":\"\xff\"}"), None);
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
        for name in Parse::NAMES {
            let how = Parse::named(name).unwrap();
            let _parsed = parse(&how, &line);
        }
    }

    /// Whatever a line is made of, what it gives is text of the line, a time, or a word of ours.
    #[test]
    fn fields_are_parts_of_the_line(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "192.0.2.1", " ", " - ", "[", "]", "] ", "10/Oct/2000:13:55:36 -0700", "\"", "GET / HTTP/1.1",
                "200", "2326", "2026/11/24 10:20:30", "error", "31#32", ": ", "*5 ", ", client: ", "<34>", "1 ",
                "2003-10-11T22:14:15.003Z", "Oct 11 22:14:15", "su", "[12]", "\\", "I0102 15:04:05.678901",
                "file.go:12", "Fri Sep 09 10:42:29.902022 2011", "core:error", "pid 3:tid 4", "é",
            ]),
            0..20,
        ),
    ) {
        let line = parts.concat();
        for name in Parse::NAMES {
            let how = Parse::named(name).unwrap();
            for (key, value) in fields_of(&how, &line).unwrap_or_default() {
                prop_assert!(
                    ["time", "level", "facility", "severity"].contains(&&*key) || line.contains(&value),
                    "{key}={value} of {line}"
                );
            }
        }
    }
}

#[test]
fn access_logs_of_both_servers() {
    let combined = r#"192.0.2.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=\"c\" HTTP/1.0" 200 2326 "http://r/" "Mozilla/4.08 [en]""#;
    let fields = r#"remote=192.0.2.1|user=frank|time=2000-10-10T13:55:36-07:00|method=GET|path=/a?b=\"c\"|protocol=HTTP/1.0|status=200|bytes=2326|referer=http://r/|agent=Mozilla/4.08 [en]"#;
    for how in [Parse::Nginx, Parse::Apache] {
        assert_eq!(joined(&how, combined), fields);
        let common = r#"::1 - - [24/Nov/2026:10:20:30 +0000] "-" 408 -"#;
        assert_eq!(joined(&how, common), "remote=::1|time=2026-11-24T10:20:30+00:00|status=408");
        let odd = r#"::1 - a b [24/Nov/2026:10:20:30 +0000] "\x16\x03" 400 0 "-" "-" "203.0.113.9" 0.001"#;
        assert_eq!(
            joined(&how, odd),
            r"remote=::1|user=a b|time=2026-11-24T10:20:30+00:00|request=\x16\x03|status=400|bytes=0|forwarded_for=203.0.113.9|more=0.001"
        );
        for line in [
            "",
            "free text",
            r#"192.0.2.1 - - [32/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1"#,
            r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0 200 1"#,
            r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" ok 1"#,
            r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700]"#,
        ] {
            assert_eq!(joined(&how, line), "", "{line}");
        }
    }
    let host =
        r#"www.example.org:443 ::1 - - [24/Nov/2026:10:20:30 +0000] "HEAD / HTTP/1.1" 200 -"#;
    assert_eq!(
        joined(&Parse::Apache, host),
        "remote=::1|time=2026-11-24T10:20:30+00:00|method=HEAD|path=/|protocol=HTTP/1.1|status=200|host=www.example.org:443"
    );
}

#[test]
fn error_logs_of_both_servers() {
    for (how, line, wanted) in [
        (
            Parse::Nginx,
            r#"2026/11/24 10:20:30 [error] 31#32: *5 open() "/x, y" failed (2: No such file), client: 192.0.2.1, server: localhost, request: "GET /x, y HTTP/1.1", host: "h""#,
            r#"time=2026-11-24T10:20:30|level=error|pid=31|tid=32|connection=5|message=open() "/x, y" failed (2: No such file)|client=192.0.2.1|server=localhost|request=GET /x, y HTTP/1.1|host=h"#,
        ),
        (
            Parse::Nginx,
            "2026/11/24 10:20:30 [notice] 1#1: start worker process 22",
            "time=2026-11-24T10:20:30|level=notice|pid=1|tid=1|message=start worker process 22",
        ),
        (Parse::Nginx, "2026/11/24 10:20:30 [notice] 1: no thread", ""),
        (
            Parse::Apache,
            "[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] [client 72.15.99.187:1] AH00128: File does not exist: /x",
            "time=2011-09-09T10:42:29.902022|module=core|level=error|pid=35708|tid=4328636416|client=72.15.99.187:1|message=AH00128: File does not exist: /x",
        ),
        (
            Parse::Apache,
            "[Wed Oct 11 14:32:52 2000] [error] [client 127.0.0.1] client denied",
            "time=2000-10-11T14:32:52|level=error|client=127.0.0.1|message=client denied",
        ),
        (
            Parse::Apache,
            "[Wed Oct 11 14:32:52 2000] [mpm_prefork:notice] [pid 7] AH00163: resuming",
            "time=2000-10-11T14:32:52|module=mpm_prefork|level=notice|pid=7|message=AH00163: resuming",
        ),
        (Parse::Apache, "[Wed Okt 11 14:32:52 2000] [error] x", ""),
    ] {
        assert_eq!(joined(&how, line), wanted);
    }
}

#[test]
fn syslog_in_all_its_forms() {
    for (line, wanted) in [
        (
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
            "facility=auth|severity=crit|time=2003-10-11T22:14:15.003Z|hostname=mymachine.example.com|app=su|msgid=ID47|message='su root' failed",
        ),
        (
            r#"<165>1 2003-10-11T22:14:15.003Z h evntslog 7 ID47 [ex@32473 iut="3" s="a\]\" b"][p@1 c="high"]"#,
            r#"facility=local4|severity=notice|time=2003-10-11T22:14:15.003Z|hostname=h|app=evntslog|pid=7|msgid=ID47|data=[ex@32473 iut="3" s="a\]\" b"][p@1 c="high"]"#,
        ),
        ("<13>1 - - - - - - ", "facility=user|severity=notice"),
        (
            "<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed",
            "facility=auth|severity=crit|time=Oct 11 22:14:15|hostname=mymachine|app=su|pid=12|message='su root' failed",
        ),
        (
            "Feb  5 17:32:18 10.0.0.99 Use the BFG!",
            "time=Feb  5 17:32:18|hostname=10.0.0.99|message=Use the BFG!",
        ),
        ("Oct 11 22:14:15 su: local", "time=Oct 11 22:14:15|app=su|message=local"),
        (
            "2026-11-24T10:20:30.123456+01:00 host kernel: [1.0] up",
            "time=2026-11-24T10:20:30.123456+01:00|hostname=host|app=kernel|message=[1.0] up",
        ),
        ("<192>Oct 11 22:14:15 h a: b", ""),
        ("<34>1 yesterday h a - - - b", ""),
        (r#"<34>1 - h a - - [x y="z" b"#, ""),
        ("Oct 41 22:14:15 h a: b", ""),
        ("free text", ""),
        ("<34>", ""),
    ] {
        assert_eq!(joined(&Parse::Syslog, line), wanted, "{line}");
    }
}

#[test]
fn headers_of_klog() {
    for (line, wanted) in [
        (
            "E0102 15:04:05.678901   12345 dir/file.go:123] it] failed",
            "level=error|time=0102 15:04:05.678901|thread=12345|caller=dir/file.go:123|message=it] failed",
        ),
        (
            r#"I0102 15:04:05.678901 1 a.go:1] "msg" key="value""#,
            r#"level=info|time=0102 15:04:05.678901|thread=1|caller=a.go:1|message="msg" key="value""#,
        ),
        ("X0102 15:04:05.678901 1 a.go:1] no", ""),
        ("I0102 15:04:05 1 a.go:1] no", ""),
        ("Info about things", ""),
    ] {
        assert_eq!(joined(&Parse::Klog, line), wanted, "{line}");
    }
}

#[test]
fn a_pattern_of_ones_own_gives_its_named_groups() {
    let how = Parse::Regex(crate::pattern::Pattern::new(r"^(?P<a>\w+)=(?P<b>\d+)?").unwrap());
    assert_eq!(joined(&how, "x=12 y"), "a=x|b=12");
    assert_eq!(joined(&how, "x="), "a=x");
    assert_eq!(fields_of(&how, "="), None);
    let text = how.to_string();
    assert_eq!(serde_json::to_string(&how).unwrap(), serde_json::to_string(&text).unwrap());
    assert_eq!(Parse::try_from(text), Ok(how));
}
