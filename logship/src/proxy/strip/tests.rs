use super::*;

#[test]
fn secrets_of_a_container_are_kept_back_and_what_a_shipper_needs_is_not() {
    let inspected = serde_json::json!({
        "Id": "a", "Name": "/web", "Path": "/secret-path", "Args": ["--secret-arg"], "LogPath": "/x.log",
        "State": {"Running": true, "Health": {"Log": [{"Output": "secret-health"}]}},
        "Config": {"Env": ["KEY=secret-env"], "Cmd": ["secret-cmd"], "Labels": {"a": "b"}, "Tty": false},
        "HostConfig": {
            "Binds": ["secret-bind"],
            "LogConfig": {"Type": "splunk", "Config": {"splunk-token": "secret-token", "max-size": "10m"}},
        },
        "Mounts": [{"Name": "v", "RW": true, "Later": "secret-later"}],
        "NetworkSettings": {"Networks": {"secret-net": {}}},
    });
    let stripped = strip(inspected.to_string().as_bytes(), INSPECTED).unwrap();
    let text = String::from_utf8(stripped).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let wanted = serde_json::json!({
        "Id": "a", "Name": "/web", "LogPath": "/x.log", "State": {"Running": true},
        "Config": {"Labels": {"a": "b"}, "Tty": false},
        "HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"max-size": "10m"}}},
        "Mounts": [{"Name": "v", "RW": true}],
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);

    let listed = r#"[{"Id":"a","Names":["/web"],"Command":"secret","Labels":{"x":"y"}}]"#;
    let stripped = strip(listed.as_bytes(), LISTED).unwrap();
    let wanted = serde_json::json!([{"Id": "a", "Names": ["/web"], "Labels": {"x": "y"}}]);
    assert_eq!(serde_json::from_slice::<Value>(&stripped).unwrap(), wanted);
}

#[test]
fn what_has_another_form_than_it_should_is_kept_back() {
    assert_eq!(strip(b"{\"secret\":1}", LISTED).unwrap(), b"null");
    let stripped = strip(br#"{"Id":"a","Config":["secret"]}"#, INSPECTED).unwrap();
    let wanted = serde_json::json!({"Id": "a", "Config": null});
    assert_eq!(serde_json::from_slice::<Value>(&stripped).unwrap(), wanted);
    assert!(strip(b"<html>", INSPECTED).is_none());
    assert!(identity(br#"{"Id":"../x"}"#).is_none());
}
