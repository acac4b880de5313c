use super::*;

fn answer(status: u16, body: &[u8]) -> Answer {
    let sentence = format!("u answered {status}");
    Answer { status, sentence, retry_after: None, body: body.to_vec() }
}

fn judge(settings: &DialectSettings, answer: Answer) -> Result<Verdict, SinkFailure> {
    Dialect::new(settings, Controls::All, "log").judge("u", answer, &[4, 5, 9])
}

fn bulk() -> DialectSettings {
    let index = Template::parse("x").unwrap();
    DialectSettings::Bulk(BulkSettings { index, names: FieldNames::default() })
}

#[test]
fn each_record_of_a_bulk_has_its_own_verdict() {
    let item = |status: u16| format!("{{\"create\":{{\"status\":{status},\"error\":\"why\"}}}}");
    let body = |statuses: [u16; 3]| {
        let items = statuses.map(item).join(",");
        format!("{{\"errors\":true,\"items\":[{items}]}}").into_bytes()
    };
    let verdict = judge(&bulk(), answer(200, &body([201, 429, 400]))).unwrap();
    let never = vec![(9, "u answered for a record: 400 why".to_owned())];
    let why = "u answered for a record: 429 why".to_owned();
    assert_eq!(verdict, Verdict::Mixed { never, later: vec![5], why });
    assert_eq!(judge(&bulk(), answer(200, &body([201, 409, 201]))), Ok(Verdict::Taken));
    // A proxy that answers 200 by itself takes nothing.
    let failure = judge(&bulk(), answer(200, b"<html>welcome")).unwrap_err();
    assert!(failure.sentence.starts_with("u is no server of this kind"), "{failure}");
}

#[test]
fn what_otlp_rejects_is_lost_and_never_more_than_there_was() {
    let settings = DialectSettings::Otlp(FieldNames::default());
    assert_eq!(judge(&settings, answer(200, b"")), Ok(Verdict::Taken));
    let verdict = judge(&settings, answer(200, b"\x0a\x02\x08\x7f")).unwrap();
    let sentence = "u rejected 127 records: ".to_owned();
    assert_eq!(verdict, Verdict::Lost { records: 3, sentence });
}

#[test]
fn a_refusal_a_wrong_login_and_a_busy_server_are_three_things() {
    let names = FieldNames::default();
    let loki = LokiSettings { labels: Vec::new(), has_metadata: true, names };
    let settings = DialectSettings::Loki(loki);
    let refused = Verdict::Refused("u answered 400".to_owned());
    assert_eq!(judge(&settings, answer(400, b"")), Ok(refused));
    let failure = judge(&settings, answer(401, b"")).unwrap_err();
    assert!(failure.sentence.contains("the login is refused"), "{failure}");
    let wait = Some(std::time::Duration::from_secs(3));
    let busy = Answer { retry_after: wait, ..answer(429, b"") };
    assert_eq!(judge(&settings, busy).unwrap_err().retry_after, wait);
}
