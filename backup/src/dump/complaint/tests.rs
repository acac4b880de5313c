use super::*;

#[test]
fn secrets_are_taken_out_and_reasons_stay() {
    for (said, shown) in [
        (
            "Access denied for user 'root'@'localhost' (using password: YES)",
            "Access denied for user 'root'@'localhost' (using password: …",
        ),
        ("mysqldump --password=hunter2 --quick", "mysqldump --password=… --quick"),
        ("cannot open postgres://shop:hunter2@db/x?y=1", "cannot open postgres://shop:…@db/x?y=1"),
        ("password = hunter2 given", "password = … given"),
        ("IDENTIFIED BY 'hunter2' failed", "IDENTIFIED BY … failed"),
        ("IDENTIFIED BY 'my long secret' failed", "IDENTIFIED BY … failed"),
        (r#"bad {"password":"x y","user":"u"} here"#, r#"bad {"password":… here"#),
        (
            r#"{"user": "u", "password": "x y", "host": 1}"#,
            r#"{"user": "u", "password": … "host": 1}"#,
        ),
        (r#"password="my secret" given"#, "password=… given"),
        ("No space left on device", "No space left on device"),
        (
            "authentication failed: no password supplied",
            "authentication failed: no password supplied",
        ),
    ] {
        assert_eq!(redacted(said), shown);
    }
}

#[test]
fn only_the_end_is_kept_and_in_one_line() {
    let mut complaint = Complaint::default();
    assert_eq!(complaint.text(), "");
    for number in 0..10_000 {
        complaint.push(format!("line {number}\n\n").as_bytes());
        assert!(complaint.bytes.len() <= 2 * KEPT_BYTES_MAX + 16);
    }
    let text = complaint.text();
    assert!(text.ends_with("line 9998; line 9999"), "{text}");
    assert_eq!(text.chars().count(), SHOWN_CHARS_MAX);
}
