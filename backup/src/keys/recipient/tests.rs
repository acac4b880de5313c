use super::*;
use crate::keys::identity::Identities;

fn public() -> String {
    Identities::generate().public().next().unwrap()
}

#[test]
fn recipients_are_sorted_and_each_is_there_once() {
    let (one, two) = (public(), public());
    let both = Recipients::parse([one.as_str(), two.as_str(), one.as_str()]).unwrap();
    assert_eq!(both, Recipients::parse([two.as_str(), one.as_str()]).unwrap());
    assert_eq!(both.texts().count(), 2);
}

#[test]
fn nobody_a_private_key_and_other_texts_are_refused() {
    assert!(matches!(Recipients::parse([]), Err(RecipientError::Empty)));
    let secret = Identities::generate().to_text();
    for text in [secret.trim().to_owned(), format!("\u{feff}{}", secret.trim())] {
        let error = Recipients::parse([text.as_str()]).unwrap_err();
        assert!(matches!(error, RecipientError::Private), "{error}");
    }
    let error = Recipients::parse(["ssh-ed25519 AAAA"]).unwrap_err();
    assert!(matches!(error, RecipientError::Unknown(_)), "{error}");
    // A mixed-up secret is not for the log.
    let error = Recipients::parse(["correct horse battery staple"]).unwrap_err();
    assert!(matches!(error, RecipientError::Nameless), "{error}");
    let many: Vec<_> = (0..=RECIPIENTS_MAX).map(|_| public()).collect();
    let error = Recipients::parse(many.iter().map(String::as_str)).unwrap_err();
    assert!(matches!(error, RecipientError::TooMany), "{error}");
}

#[test]
fn a_file_has_comments_and_empty_lines() {
    let text = "# the safe\n\n  age1a  \nage1b\n";
    assert_eq!(lines(text).collect::<Vec<_>>(), [(3, "age1a"), (4, "age1b")]);
}
