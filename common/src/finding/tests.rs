use super::*;

fn written(json: bool) -> (Status, String) {
    let findings = [
        Finding::new("kernel", Status::Warn, "is old", "take another"),
        Finding::ok("engine", "answers"),
    ];
    let mut out = Vec::new();
    let worst = write(&findings, json, &mut out).unwrap();
    (worst, String::from_utf8(out).unwrap())
}

#[test]
fn people_read_what_was_found_and_what_to_do() {
    let text = "warn  kernel: is old\n      → take another\nok    engine: answers\n";
    assert_eq!(written(false), (Status::Warn, text.to_owned()));
}

#[test]
fn machines_read_a_line_each() {
    let text = concat!(
        r#"{"name":"kernel","status":"warn","found":"is old","advice":"take another"}"#,
        "\n",
        r#"{"name":"engine","status":"ok","found":"answers"}"#,
        "\n"
    );
    assert_eq!(written(true), (Status::Warn, text.to_owned()));
}

#[test]
fn nothing_found_is_well() {
    assert_eq!(write(&[], false, &mut Vec::new()).unwrap(), Status::Ok);
}
