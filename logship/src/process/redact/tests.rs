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
        ("jwt", "t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln x", "t=[redacted:jwt] x"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9 alone", "eyJhbGciOiJIUzI1NiJ9 alone"),
        (
            "private-key",
            "a -----BEGIN RSA PRIVATE KEY-----\nMII=\n-----END RSA PRIVATE KEY----- b",
            "a [redacted:private-key] b",
        ),
        ("private-key", "-----BEGIN PRIVATE KEY-----\nMII", "[redacted:private-key]"),
        ("private-key", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----"),
        (
            "url-password",
            "postgres://app:s3:cret@db/x http://u@h http://h:80/",
            "postgres://app:[redacted:url-password]@db/x http://u@h http://h:80/",
        ),
        ("password", "user=a password=b; c", "user=a password=[redacted:password]; c"),
        (
            "password",
            r#"{"Password": "a b","x":1}"#,
            r#"{"Password": "[redacted:password]","x":1}"#,
        ),
        (
            "password",
            "DB_PASSWORD=x&api-key=y",
            "DB_PASSWORD=[redacted:password]&api-key=[redacted:password]",
        ),
        ("password", "the password is wrong", "the password is wrong"),
        (
            "password",
            r#"{"password":"it's-secret","x":1}"#,
            r#"{"password":"[redacted:password]","x":1}"#,
        ),
        (
            "password",
            r#"{"password":"ab\\cd\"ef","x":1}"#,
            r#"{"password":"[redacted:password]","x":1}"#,
        ),
        ("password", r#"{"password":"\"abc"}"#, r#"{"password":"[redacted:password]"}"#),
        ("password", "password='it\"s' x", "password='[redacted:password]' x"),
        ("password", "password=[abc]def x", "password=[redacted:password] x"),
        ("password", "password={a}b\\c x", "password=[redacted:password] x"),
        ("password", "password=ab\"cd'ef x", "password=[redacted:password] x"),
        ("password", r#"{"token":12,"x":1}"#, r#"{"token":[redacted:password],"x":1}"#),
        ("password", r#"{"x":{"token":null}}"#, r#"{"x":{"token":[redacted:password]}}"#),
        ("password", "token=12ab}, x", "token=[redacted:password], x"),
        (
            "password",
            r#"{"msg":"with password=abc","x":1}"#,
            r#"{"msg":"with password=[redacted:password]","x":1}"#,
        ),
        (
            "password",
            r#"{"m":"{\"password\":\"ab\\\"cd\",\"x\":1}"}"#,
            r#"{"m":"{\"password\":\"[redacted:password]\",\"x\":1}"}"#,
        ),
        ("password", r#"{"password":"","x":1}"#, r#"{"password":"","x":1}"#),
        (
            "ipv4",
            "from 192.0.2.1:80, not 1.2.3 or 300.1.1.1",
            "from [redacted:ipv4]:80, not 1.2.3 or 300.1.1.1",
        ),
        ("ipv6", "from [2001:db8::1]:443 at 10:20:30", "from [[redacted:ipv6]]:443 at 10:20:30"),
        ("ipv6", "fe80::1 std::vec Bad::Face", "[redacted:ipv6] std::vec Bad::Face"),
        ("mac", "at 02:42:ac:11:00:02", "at [redacted:mac]"),
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
