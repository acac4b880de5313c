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
