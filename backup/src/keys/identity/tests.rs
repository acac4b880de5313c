use super::*;

#[test]
fn a_file_of_age_keygen_is_read_and_written_again() {
    let text = Identities::generate().to_text();
    let file = format!("# created: 2026-11-30\n# public key: age1…\n\n{}", *text);
    let identities = Identities::parse(&file).unwrap();
    assert_eq!(*identities.to_text(), *text);
    assert_eq!(identities.public().count(), 1);
    assert_eq!(format!("{identities:?}"), "Identities(1)");
}

#[test]
fn what_is_no_private_key_is_refused_without_repeating_it() {
    let secret = Identities::generate().to_text();
    let broken = secret.replace('Q', "P").replace("KEY-1", "KEY-1Q");
    for text in
        ["", "# nothing\n", "age1qqqq\n", "age-encryption.org/v1\n", "ssh-ed25519 AAAA\n", &broken]
    {
        let error = Identities::parse(text).unwrap_err().to_string();
        assert!(!error.contains("AAAA") && !error.contains(broken.trim()), "{error}");
    }
    let many = secret.repeat(IDENTITIES_MAX + 1);
    assert!(matches!(Identities::parse(&many), Err(IdentityError::TooMany)));
}

#[test]
fn a_private_half_is_found_whatever_stands_around_it() {
    let secret = Identities::generate().to_text();
    for text in [secret.to_string(), format!("\u{feff}key = {}", *secret), secret.to_lowercase()] {
        assert!(is_in(&text));
    }
    assert!(!is_in("age1qqqq") && !is_in("/run/secrets/identity"));
}
