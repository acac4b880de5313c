use super::*;
use crate::keys::identity::Identities;

fn key_file() -> KeyFile {
    let public: Vec<_> = Identities::generate().public().collect();
    KeyFile {
        repository: "0123".repeat(8),
        dedup: DedupKey::generate().unwrap(),
        index: IndexKeys::generate().unwrap().rotated().unwrap(),
        recipients: Recipients::parse(public.iter().map(String::as_str)).unwrap(),
    }
}

#[test]
fn a_key_file_is_read_as_it_was_written() {
    let keys = key_file();
    assert_eq!(KeyFile::parse(&keys.to_text()).unwrap(), keys);
    assert!(keys.to_text().ends_with("}\n"));
    assert!(is_in(&keys.to_text()) && !is_in("/run/secrets/chores-backup-key"));
    let renewed = KeyFile { index: keys.index.renewed().unwrap(), ..keys };
    assert!(!renewed.to_text().contains("epoch_keys"));
    assert_eq!(KeyFile::parse(&renewed.to_text()).unwrap(), renewed);
}

#[test]
fn a_key_file_does_not_show_its_secrets() {
    let keys = key_file();
    let shown = format!("{keys:?}");
    for secret in keys.index.to_hex().into_iter().chain([keys.dedup.to_hex()]) {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

#[test]
fn other_texts_are_refused_without_repeating_a_secret() {
    let keys = key_file();
    let text = keys.to_text();
    let secret = keys.dedup.to_hex();
    let texts = [
        String::new(),
        "{}".to_owned(),
        text.replace("chores-backup-key", "another"),
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace("\"repository\"", "\"more\": 1, \"repository\""),
        text.replace(&secret, secret.get(1..).unwrap()),
        text.replace("age1", "age2"),
        text.replace('}', ""),
        Identities::generate().to_text().to_string(),
    ];
    for text in texts {
        let error = chores_common::exit::chain(&KeyFile::parse(&text).unwrap_err());
        assert!(!error.contains(secret.get(1..20).unwrap()), "{error}");
    }
}
