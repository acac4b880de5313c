use super::*;

const ID: &str = "00112233445566778899aabbccddeeff";

fn record() -> DrillRecord {
    DrillRecord {
        version: VERSION,
        snapshot: ID.to_owned(),
        time: "2026-11-29T22:50:16.5Z".parse().unwrap(),
        duration_ms: 12,
        outcome: Outcome::Failed,
        parts: vec![PartRecord {
            what: vec!["/dump/shop".to_owned()],
            kind: "mysql".to_owned(),
            image: "sha256:ab".to_owned(),
            outcome: Outcome::Failed,
            problem: Some("the table is corrupt".to_owned()),
            restore_ms: 7,
            ready_ms: 3,
            checks: Vec::new(),
            table_count: 1,
            rows: BTreeMap::from([("shop.orders".to_owned(), 5)]),
        }],
        host: "web1".to_owned(),
        program: "backup 0.1.0".to_owned(),
    }
}

fn name() -> RecordName {
    RecordName::new(record().time, ID.parse().unwrap(), false)
}

#[test]
fn a_name_is_time_and_snapshot() {
    assert_eq!(name().key(), format!("drills/20261129T225016Z-{ID}.json"));
    assert_eq!(RecordName::from_key(&name().key()), Some(name()));
    let sealed = RecordName { sealed: true, ..name() };
    assert_eq!(sealed.key(), format!("drills/20261129T225016Z-{ID}.json.enc"));
    assert_eq!(RecordName::from_key(&sealed.key()), Some(sealed));
    assert_eq!(RecordName::from_key("drills/readme.txt"), None);
}

#[test]
fn a_record_is_read_back() {
    let bytes = serde_json::to_vec_pretty(&record()).unwrap();
    assert_eq!(open("key", &name(), &bytes).unwrap(), record());
}

#[test]
fn a_record_of_a_later_program_is_said_to_be_one() {
    let bytes = br#"{"version": 2, "what": "unknown"}"#;
    assert!(matches!(open("key", &name(), bytes), Err(RecordError::Version(_, 2))));
}

#[test]
fn a_record_under_the_name_of_another_snapshot_is_refused() {
    let bytes = serde_json::to_vec(&record()).unwrap();
    let id = "ffffffffffffffffffffffffffffffff".parse().unwrap();
    let other = RecordName::new(record().time, id, false);
    assert!(matches!(open("key", &other, &bytes), Err(RecordError::Misplaced(_))));
}
