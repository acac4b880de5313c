use super::*;

fn read(answer: &str) -> Option<ContainerEvent> {
    event(serde_json::from_str(answer).unwrap())
}

#[test]
fn an_event_of_a_container_is_read() {
    let start = r#"{"Type": "container", "Action": "start", "time": 1700000000,
        "timeNano": 1700000000123456789,
        "Actor": {"ID": "4f3c", "Attributes": {"name": "web", "image": "nginx"}}}"#;
    let wanted = ContainerEvent {
        id: "4f3c".to_owned(),
        name: "web".to_owned(),
        action: ContainerAction::Start,
        time: 1_700_000_000_123_456_789,
    };
    assert_eq!(read(start), Some(wanted));
}

#[test]
fn other_events_are_left_out() {
    for other in [
        r#"{"Type": "container", "Action": "exec_start: sh", "Actor": {"ID": "4f3c"}}"#,
        r#"{"Type": "container", "Action": "start", "Actor": {"ID": ""}}"#,
        r#"{"Type": "container", "Action": "start"}"#,
        "{}",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn an_engine_that_tells_no_nanoseconds_tells_seconds() {
    let die = r#"{"Action": "die", "time": 17, "Actor": {"ID": "4f3c"}}"#;
    let event = read(die).unwrap();
    assert_eq!((event.time, event.name.as_str()), (17_000_000_000, ""));
}
