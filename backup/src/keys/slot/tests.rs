use super::*;
use crate::chunk::DedupKey;
use crate::keys::index_key::IndexKeys;

fn key_file(identities: &[&Identities]) -> KeyFile {
    let public: Vec<_> = identities.iter().flat_map(|identity| identity.public()).collect();
    KeyFile {
        repository: "0123".repeat(8),
        dedup: DedupKey::generate().unwrap(),
        index: IndexKeys::generate().unwrap(),
        recipients: Recipients::parse(public.iter().map(String::as_str)).unwrap(),
    }
}

#[test]
fn every_recipient_and_nobody_else_unwraps_the_key_file() {
    let (one, two, other) =
        (Identities::generate(), Identities::generate(), Identities::generate());
    let keys = key_file(&[&one, &two]);
    let slots = wrap(&keys).unwrap();
    assert_eq!(slots.len(), 2);
    for identities in [&one, &two] {
        assert_eq!(unwrap(&slots, identities).unwrap(), keys);
    }
    let error = unwrap(&slots, &other).unwrap_err().to_string();
    assert!(one.public().all(|public| error.contains(&public)), "{error}");
}

#[test]
fn a_damaged_slot_is_told() {
    let one = Identities::generate();
    let mut slots = wrap(&key_file(&[&one])).unwrap();
    slots[0].wrapped.replace_range(400..404, "AAAA");
    assert!(matches!(unwrap(&slots, &one), Err(SlotError::Damaged)));
    slots[0].wrapped = "no base64".to_owned();
    assert!(matches!(unwrap(&slots, &one), Err(SlotError::Damaged)));
}

#[test]
fn a_passphrase_unlocks_its_identity_and_another_does_not() {
    let identity = Identities::generate();
    let right = Secret::new("correct horse battery".to_owned());
    let slots = [wrap_identity(&identity, &right).unwrap()];
    assert_eq!(*unlock(&slots, &right).unwrap().to_text(), *identity.to_text());
    let wrong = Secret::new("correct horse batterz".to_owned());
    assert!(matches!(unlock(&slots, &wrong), Err(SlotError::Passphrase)));
    assert!(matches!(unlock(&[], &right), Err(SlotError::NoPassphrase)));
}

#[test]
fn a_passphrase_that_was_given_twice_unlocks_both_whatever_lies_beside() {
    let (one, two) = (Identities::generate(), Identities::generate());
    let passphrase = Secret::new("correct horse battery".to_owned());
    let slots = [
        wrap_identity(&one, &passphrase).unwrap(),
        KeySlot { wrapped: "no base64".to_owned(), ..wrap_identity(&one, &passphrase).unwrap() },
        wrap_identity(&two, &passphrase).unwrap(),
    ];
    let unlocked = unlock(&slots, &passphrase).unwrap();
    assert_eq!(*unlocked.to_text(), format!("{}{}", *one.to_text(), *two.to_text()));
    assert!(matches!(unlock(&slots[1..2], &passphrase), Err(SlotError::Damaged)));
}

#[test]
fn who_changed_the_slots_cannot_make_a_passphrase_take_for_ever() {
    let identity = Identities::generate();
    let passphrase = Secret::new("correct horse battery".to_owned());
    let slot = wrap_identity(&identity, &passphrase).unwrap();
    let many = vec![slot.clone(); PASSPHRASES_MAX + 1];
    assert!(matches!(unlock(&many, &passphrase), Err(SlotError::TooManyPassphrases)));
    let mut sealed = slot.bytes().unwrap();
    let work = format!(" {WORK}\n").into_bytes();
    let at = sealed.windows(work.len()).position(|window| window == work).unwrap();
    sealed.splice(at..at + work.len(), *b" 30\n");
    let dear = KeySlot { wrapped: BASE64_STANDARD.encode(sealed), ..slot };
    assert!(matches!(unlock(&[dear], &passphrase), Err(SlotError::Work)));
}
