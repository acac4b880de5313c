use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

#[test]
fn sizes_are_powers_of_1024_or_refused() {
    for (text, bytes) in [("65536", 65536), ("64M", 64 << 20), ("1g", 1 << 30), ("3KiB", 3072)] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in ["", "M", "-1M", "1.5G", "64 M", "1X", "99999999999G"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}

#[test]
fn names_and_tags_that_would_break_a_listing_are_refused() {
    assert!(name(Some("a\nb"), String::new).is_err());
    assert!(name(Some(""), String::new).is_err());
    assert_eq!(name(None, || "/srv/a\u{1b}b".to_owned()).unwrap(), "/srv/ab");
    assert!(tags(&["novalue".to_owned()]).is_err());
    assert!(tags(&["=x".to_owned()]).is_err());
    assert_eq!(tags(&["k=v=w".to_owned()]).unwrap()["k"], "v=w");
}

#[test]
fn what_a_dump_spools_lies_beside_an_encrypted_repository_only_when_that_was_asked_for() {
    let place = |words: &[&str], is_encrypted: bool| {
        let start = ["backup", "--repo", "/srv/repo", "dump", "--stdin", "--name", "a"];
        let cli = Cli::try_parse_from(start.iter().chain(words)).unwrap();
        let Command::Dump(args) = &cli.command else { panic!("{:?}", cli.command) };
        let location = repository(&cli.common).unwrap();
        spool(&args.spool, &cli.common, &location, is_encrypted).unwrap().directory
    };
    assert_eq!(place(&[], false), Path::new("/srv/repo/cache"));
    assert_eq!(place(&[], true), std::env::temp_dir());
    assert_eq!(place(&["--cache-dir", "/srv/repo/cache"], true), Path::new("/srv/repo/cache"));
    assert_eq!(place(&["--spool-dir", "/srv/repo/spool"], true), Path::new("/srv/repo/spool"));
}

#[test]
fn a_secret_in_the_place_of_a_file_s_name_is_not_repeated() {
    let secret = Identities::generate().to_text();
    let key_file = r#"{"format": "chores-backup-key", "dedup_key": "0123"}"#;
    for text in [secret.trim(), key_file] {
        let named = || Some(PathBuf::from(text));
        for keys in [
            KeySettings { key_file: named(), ..KeySettings::default() },
            KeySettings { identity: named(), ..KeySettings::default() },
        ] {
            let error = chores_common::exit::chain(&keys.ring().unwrap_err());
            assert!(error.contains("takes the name of a file") && !error.contains(text), "{error}");
        }
        let recipients_file = named().into_iter().collect();
        let readers = NamedArgs { recipient: Vec::new(), recipients_file };
        let error = chores_common::exit::chain(&recipients(&readers).unwrap_err());
        assert!(!error.contains(text), "{error}");
    }
}

#[test]
fn a_passphrase_that_nobody_can_type_is_found() {
    let is_typed = |text: &str| is_typed(&Secret::new(text.to_owned()));
    assert!(is_typed("correct horse, b\u{e4}ttery"));
    for text in ["two\nlines", "a tab\t", "nul\0", "\u{feff}a mark", "bytes \u{fffd}"] {
        assert!(!is_typed(text), "{text:?}");
    }
}

#[test]
fn a_passphrase_in_a_file_that_others_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passphrase");
    std::fs::write(&path, "correct horse\n").unwrap();
    let read = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        passphrase((None, Some(path.clone())))
    };
    assert_eq!(read(0o600).unwrap().unwrap().expose(), "correct horse");
    let error = read(0o644).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && !error.contains("horse"), "{error}");
    let given = passphrase((None, Some("correct horse".into()))).unwrap_err().to_string();
    assert!(given.contains("BACKUP_PASSPHRASE_FILE") && !given.contains("horse"), "{given}");
    let both = passphrase((Some("correct horse".to_owned()), Some(path))).unwrap_err();
    assert!(both.to_string().contains("both set"), "{both}");
}

#[test]
fn a_variable_that_is_meant_to_encrypt_is_known_by_its_name() {
    for name in [
        "BACKUP_RECIPIENT",
        "BACKUP_AGE_PASSPHRASE",
        "BACKUP_KEYFILE",
        "BACKUP_ENCRYPTION_KEY",
        "BACKUP_PASSWORD",
        "BACKUP_PASSWORD_FILE",
        "BACKUP_PUBLIC_KEY",
        "BACKUP_AGE_KEY",
        "BACKUP_AGE_KEYS",
        "BACKUP_CIPHER",
        "BACKUP_REPO_SECRET",
        "BACKUP_PRIVATE_KEYS",
        "BACKUP_KEY",
    ] {
        assert!(tells_of_keys(name), "{name}");
    }
    for name in
        ["BACKUP_CRON", "BACKUP_STORAGE", "BACKUP_KEEP", "BACKUP_MAX_AGE", "BACKUP_AGENT_PORT"]
    {
        assert!(!tells_of_keys(name), "{name}");
    }
}
