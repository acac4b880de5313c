use super::*;

#[test]
fn a_message_has_its_name_and_where_to_answer() {
    let mut out = Vec::new();
    put_message(&mut out, "logs.h1.web", "_INBOX.ab", 3, "id-1", b"{}");
    let expected =
        "HPUB logs.h1.web _INBOX.ab.3 31 33\r\nNATS/1.0\r\nNats-Msg-Id: id-1\r\n\r\n{}\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let who = Who { user: Some(("u", "p")), token: None };
    let greeting = String::from_utf8(greeting(who, false, "_INBOX.ab")).unwrap();
    assert!(greeting.starts_with("CONNECT {") && greeting.contains(r#""pass":"p""#), "{greeting}");
    assert!(greeting.ends_with("}\r\nSUB _INBOX.ab.* 1\r\nPING\r\n"), "{greeting}");
}

#[test]
fn words_of_a_server_are_read_one_after_the_other() {
    let text = b"INFO {\"max_payload\":100,\"headers\":true,\"x\":[]}\r\n+OK\r\nPING\r\n\
        MSG _INBOX.ab.1 1 4\r\nabcd\r\nHMSG _INBOX.ab.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n-ERR 'no'\r\n";
    let mut rest = &text[..];
    let mut all = Vec::new();
    while let Some((said, used)) = said(rest).unwrap() {
        rest = &rest[used..];
        all.push(said);
    }
    let message = |subject: &str, status, payload: &[u8]| Said::Message {
        subject: subject.to_owned(),
        status,
        payload: payload.to_vec(),
    };
    let info = Info { max_payload: 100, tls_required: false, headers: true, nonce: None };
    let expected = [
        Said::Info(info),
        Said::Ok,
        Said::Ping,
        message("_INBOX.ab.1", None, b"abcd"),
        message("_INBOX.ab.2", Some(503), b""),
        Said::Error("no".to_owned()),
    ];
    assert_eq!((all.as_slice(), rest), (&expected[..], &b""[..]));
    for end in 0..text.len() {
        let mut rest = &text[..end];
        while let Some((_, used)) = said(rest).unwrap() {
            rest = &rest[used..];
        }
    }
    for bad in ["HTTP/1.1 400\r\n", "MSG a 1 x\r\n", "MSG a 1 2\r\nabcd\r\n", "INFO {\r\n"] {
        assert_eq!(said(bad.as_bytes()), Err(Gibberish), "{bad}");
    }
}

#[test]
fn answers_of_jetstream_tell_the_fate_of_a_message() {
    assert_eq!(fate(None, br#"{"stream":"LOGS","seq":4}"#), Fate::Stored);
    assert_eq!(fate(None, br#"{"stream":"LOGS","seq":4,"duplicate":true}"#), Fate::Stored);
    assert!(matches!(fate(Some(503), b""), Fate::Later(why) if why.contains("no stream")));
    let full =
        br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#;
    assert_eq!(fate(None, full), Fate::Later("503 maximum messages exceeded".to_owned()));
    let large = br#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
    assert_eq!(fate(None, large), Fate::Never("message size exceeds maximum allowed".to_owned()));
    assert!(matches!(fate(None, b"hello"), Fate::Later(_)));
}

#[test]
fn subjects_have_no_wildcards_and_no_empty_tokens() {
    assert_eq!(subject("logs.h1.a b"), "logs.h1.a_b");
    assert_eq!(subject("logs..>.*"), "logs._._._");
}
