use super::*;
use crate::encode::tests::three_kinds;

fn lines(index: &str) -> Vec<String> {
    let names = FieldNames::new(&USUAL_NAMES, []).unwrap();
    let mut lines = Vec::new();
    let index = Template::parse(index).unwrap();
    Bulk::new(index, Controls::Gaps, names, "log").each(&three_kinds(), 0, |record| {
        lines.push(String::from_utf8(record.bytes.to_vec()).unwrap());
        true
    });
    lines
}

#[test]
fn a_record_is_created_under_its_own_name_in_the_index_of_its_day() {
    let lines = lines("Logs-{stream}-{date}");
    let [line, bytes] = &lines[..] else { panic!("{lines:?}") };
    // Made by blake3 1.0 and xxhash of PyPI. It never changes: 409 depends on it.
    let expected = concat!(
        "{\"create\":{\"_index\":\"logs-stdout-2025-11-24\",\"_id\":\"MD5jnpmaMTzcBRrc-62-c5f5bdedb5966602\"}}\n",
        r#"{"host.name":"h1","container.name":"web \"1\"","container.id":"ab","container.image.name":"web:1","#,
        r#""project":"shop","_seq":"x]","stream":"stdout","event.sequence":98,"#,
        r#""@timestamp":"2025-11-24T16:00:00.123456789Z","message":"hello"}"#,
        "\n",
    );
    assert_eq!(*line, expected);
    assert!(bytes.starts_with("{\"create\":{\"_index\":\"logs-stderr-2025-11-24\""), "{bytes}");
    assert!(bytes.contains("\"line_b64\":\"/wA=\",\"partial\":true,\"late\":true"), "{bytes}");
}

#[test]
fn an_index_has_a_name_that_is_allowed() {
    assert_eq!(index_name("Web/A b#1"), "web_a_b_1");
    assert_eq!(index_name("-_.x"), "x");
    assert_eq!(index_name("."), "logship");
    assert_eq!(index_name(&"é".repeat(200)).len(), 254);
}

#[test]
fn every_record_has_its_own_fate() {
    let answer = br#"{"took":1,"errors":true,"items":[
        {"create":{"_id":"a","status":201}},
        {"create":{"_id":"b","status":409,"error":{"type":"version_conflict_engine_exception"}}},
        {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
        {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"bad"}}},
        {"index":{"status":503,"error":"down"}}]}"#;
    let expected = [
        Fate::Stored,
        Fate::Stored,
        Fate::Later("429 es_rejected_execution_exception: full".to_owned()),
        Fate::Never("400 mapper_parsing_exception: bad".to_owned()),
        Fate::Later("503 down".to_owned()),
    ];
    assert_eq!(fates(answer, 5).unwrap(), expected);
    assert_eq!(fates(answer, 4).unwrap_err(), "it answered for 5 of 4 records");
    let smooth = br#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
    assert_eq!(fates(smooth, 1), Ok(Vec::new()));
    assert!(fates(b"<html>", 1).unwrap_err().starts_with("its answer is none to a bulk request"));
}
