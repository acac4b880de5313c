use super::*;

#[test]
fn a_policy_is_read_and_what_is_wrong_with_it_is_said() {
    let wishes =
        Wishes::parse("size=10MB, keep=5,keep-age=7d,compress=zstd,names=numbered").unwrap();
    let policy = wishes.policy();
    assert_eq!(policy.size, Some(10_000_000));
    assert_eq!(policy.keep.count, Some(5));
    assert_eq!(policy.keep.age, Some(Duration::from_secs(7 * 86_400)));
    assert!(policy.compress && policy.names == Names::Numbered);
    assert_eq!(policy.reopen, Reopen::None);
    for (text, said) in [
        ("size", "\"size\" is no setting: give for example size=10MB,keep=5"),
        ("size=1k", "size: it is too small: give at least 65536 bytes"),
        ("every=1s", "every: it is too small: give at least 60 seconds"),
        ("keep=many", "keep: \"many\" is no number up to 10000"),
        ("compress=gzip", "compress: \"gzip\" is none of zstd and none"),
        ("reopen=signal:KILL", "reopen: \"KILL\" is none of HUP, USR1, USR2, WINCH and CONT"),
        ("reopen=exec:", "reopen: the command is empty: give for example exec:nginx -s reopen"),
        (
            "reopen=maybe",
            "reopen: \"maybe\" is no way to reopen: give none, name, signal:USR1 or exec:nginx -s reopen",
        ),
    ] {
        assert_eq!(Wishes::parse(text).unwrap_err(), said);
    }
    assert!(Wishes::parse("colour=red").unwrap_err().starts_with("colour: \"colour\" is none of "));
}

#[test]
fn ways_to_reopen_are_read_and_shown_alike() {
    for text in ["none", "name", "signal:USR1", "exec:nginx -s reopen"] {
        assert_eq!(Reopen::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Reopen::parse("signal:sighup").unwrap(), Reopen::Signal("HUP"));
    assert!(Reopen::Signal("HUP").is_told() && !Reopen::Name.is_told());
}

#[test]
fn what_is_set_closer_wins() {
    let label = Wishes::parse("size=1MB").unwrap();
    let config = Wishes::parse("size=2MB,keep=3,reopen=name").unwrap();
    let both = label.or(&config);
    assert_eq!((both.size, both.keep, both.reopen), (Some(1_000_000), Some(3), Some(Reopen::Name)));
    let text = config.policy().to_string();
    assert_eq!(text, "reopen=name size=2000000 keep=3 compress=none names=dateext");
}
