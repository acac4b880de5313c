use proptest::prelude::*;

use super::*;

#[test]
fn hostile_names_become_one_short_line() {
    assert_eq!(plain("web\r\nBcc: all@example.org\0", 200), "web  Bcc: all@example.org");
    assert_eq!(plain("a\u{202e}txt.exe\u{2028}b", 200), "atxt.exe b");
    assert_eq!(plain(&"é".repeat(10), 4), "ééé…");
    assert_eq!(plain("four", 4), "four");
}

#[test]
fn kinds_have_the_names_that_documents_have() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn details_are_bounded() {
    let details = (0..100).map(|number| (format!("key {number}\n"), "v".repeat(1000))).collect();
    let event = Event {
        time: Timestamp::UNIX_EPOCH,
        host: "h".to_owned(),
        job: "j".to_owned(),
        kind: Kind::RunFailed,
        text: "t".repeat(10_000),
        details,
    };
    let event = event.plain();
    assert_eq!(event.details.len(), DETAILS_MAX);
    assert!(
        event
            .details
            .iter()
            .all(|(key, value)| !key.contains('\n') && value.chars().count() <= 500)
    );
    assert_eq!(event.text.chars().count(), TEXT_CHARS_MAX);
}

proptest! {
    #[test]
    fn nothing_that_ends_a_line_is_left(text in any::<String>(), most in 1_usize..100) {
        let line = plain(&text, most);
        prop_assert!(line.chars().count() <= most);
        prop_assert!(!line.chars().any(|character| is_break(character) || turns(character)));
        prop_assert_eq!(plain(&line, most), line);
    }
}
