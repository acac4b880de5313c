use super::*;
use crate::policy::{Record, Unrecorded};

fn faults(text: &str) -> String {
    let faults = parse(text).unwrap_err();
    FileFaults { path: PathBuf::from("f.toml"), faults }.to_string()
}

#[test]
fn everything_that_can_be_set() {
    let config = parse(
        r#"
        listen = ["0.0.0.0:22", "[::]:22"]
        state = "/state"
        authorized_keys = "/keys"
        banner = "Hello\nfriend"
        stop_grace = "2s"
        accept_env = ["LANG", "LC_*", "MY_VAR"]

        [enter]
        engine = "tcp://proxy:2375"
        mode = "native"
        bundles = ["/bundles"]
        cgroup_root = "/host/cgroup"

        [limits]
        login_grace = "20s"
        startups = "5:50:20"
        startups_per_source = 2
        auth_attempts = 3
        sessions = 20
        channels = 100
        listeners = 0
        spool = "64MiB"
        keepalive = "0s"
        keepalive_count = 5
        idle = "1h"
        "#,
    )
    .unwrap();
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.state, Some(PathBuf::from("/state")));
    assert_eq!(config.authorized_keys, [PathBuf::from("/keys")]);
    assert_eq!(config.banner.as_deref(), Some("Hello\r\nfriend\r\n"));
    assert_eq!(config.stop_grace, Duration::from_secs(2));
    assert_eq!(config.accept_environment, ["LANG", "LC_*", "MY_VAR"]);
    assert_eq!(config.engine.as_deref(), Some("tcp://proxy:2375"));
    assert_eq!(config.mode, Mode::Native);
    assert_eq!(config.bundles, [PathBuf::from("/bundles")]);
    assert_eq!(config.cgroup_root, Some(PathBuf::from("/host/cgroup")));
    let limits = Limits {
        login_grace_seconds: 20,
        startups: (5, 50, 20),
        startups_per_source: 2,
        auth_attempts: 3,
        sessions: 20,
        channels: 100,
        listeners: 0,
        spool_bytes: 64 << 20,
        keepalive_seconds: 0,
        keepalive_count: 5,
        idle_seconds: 3600,
    };
    assert_eq!(config.limits, limits);
}

#[test]
fn a_toolbox_and_when_it_is_used() {
    let config = parse("[enter]\ntoolbox = '/tools'\ntoolbox_use = 'never'\n").unwrap();
    assert_eq!(config.toolbox, Some(PathBuf::from("/tools")));
    assert_eq!(config.toolbox_use, ToolboxUse::Never);
    assert_eq!(parse("[enter]\n").unwrap().toolbox_use, ToolboxUse::Auto);
    for wrong in ["toolbox = 'tools'", "toolbox_use = 'sometimes'", "toolbox_use = true"] {
        assert!(parse(&format!("[enter]\n{wrong}\n")).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_kept_and_whose_word_is_taken() {
    let config = parse(
        "proxies = ['10.0.0.7', '10.1.0.0/16']\n[record]\nsessions = 'input'\nunrecorded = 'allow'\n\
         quota = '1GiB'\nlargest = '2MiB'\naudit_quota = '3MiB'\nupload = 's3://records/gateway/'\n\
         keep_local = false\n",
    );
    let config = config.unwrap();
    assert_eq!(config.proxies, ["10.0.0.7", "10.1.0.0/16"]);
    let record = RecordConfig {
        sessions: Record::Input,
        unrecorded: Unrecorded::Allow,
        quota: 1 << 30,
        largest: 2 << 20,
        audit_quota: 3 << 20,
        upload: Some(Location::S3 { bucket: "records".to_owned(), prefix: "gateway".to_owned() }),
        keep_local: false,
    };
    assert_eq!(config.record, record);
    let kept = RecordConfig::default();
    assert_eq!((kept.sessions, kept.unrecorded), (Record::Nothing, Unrecorded::Refuse));
}

#[test]
fn an_empty_file_sets_nothing() {
    let config = parse("").unwrap();
    assert_eq!(config.limits, LIMITS_DEFAULT);
    assert_eq!(config.stop_grace, STOP_GRACE_DEFAULT);
    assert_eq!(config.accept_environment, ACCEPT_ENVIRONMENT_DEFAULT);
    assert_eq!((config.listen.len(), config.authorized_keys.len()), (0, 0));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_is_allowed() {
    let cases = [
        ("listn = 1", "f.toml:1:1: listn: there is no such key here; there are listen, state, "),
        (
            "[limits]\nsession = 1",
            "f.toml:2:1: limits.session: there is no such key here; there are login_grace, ",
        ),
        ("[rules]", "f.toml:1:2: rules: there is no such key here"),
        (
            "listen = '1.2.3.4'",
            "f.toml:1:10: listen: \"1.2.3.4\" is no address: give ADDRESS:PORT, such as 0.0.0.0:2222",
        ),
        ("listen = ['1.1.1.1:1', '1.1.1.1:1']", "f.toml:1:24: listen[2]: it is given twice"),
        ("state = 'state'", "f.toml:1:9: state: \"state\" is no absolute path"),
        ("banner = ''", "f.toml:1:10: banner: it is empty"),
        ("banner = \"\\u001b[2J\"", "f.toml:1:10: banner: it has control characters in it"),
        (
            "stop_grace = '1500ms'",
            "f.toml:1:14: stop_grace: it is out of range: give whole seconds",
        ),
        (
            "accept_env = ['LD_PRELOAD']",
            "f.toml:1:15: accept_env[1]: \"LD_PRELOAD\" would allow LD_*",
        ),
        (
            "accept_env = ['*']",
            "f.toml:1:15: accept_env[1]: \"*\" is no NAME or NAME_* of a variable",
        ),
        (
            "[enter]\nmode = 'fast'",
            "f.toml:2:8: enter.mode: \"fast\" is none of native, engine and auto",
        ),
        ("[limits]\nlogin_grace = '0s'", "f.toml:2:15: limits.login_grace: it is out of range"),
        (
            "[limits]\nlogin_grace = 30",
            "f.toml:2:15: limits.login_grace: it is a whole number; give a time",
        ),
        ("[limits]\nstartups = '10:30'", "f.toml:2:12: limits.startups: \"10:30\" is unusable"),
        (
            "[limits]\nstartups = '20:30:10'",
            "f.toml:2:12: limits.startups: \"20:30:10\" is out of range",
        ),
        (
            "[limits]\nstartups = '+1:30:10'",
            "f.toml:2:12: limits.startups: \"+1:30:10\" is unusable",
        ),
        (
            "[limits]\nstartups = '1:0:10'",
            "f.toml:2:12: limits.startups: \"1:0:10\" is out of range",
        ),
        (
            "[limits]\nauth_attempts = 0",
            "f.toml:2:17: limits.auth_attempts: it is out of range: give 1 to 100",
        ),
        (
            "[limits]\nspool = \"1000KiB\"",
            "f.toml:2:9: limits.spool: it is out of range: give 1MiB to 1TiB",
        ),
        (
            "[record]\nsessions = 'all'",
            "f.toml:2:12: record.sessions: \"all\" is none of nothing, output and input",
        ),
        ("[record]\nupload = '/srv'", "f.toml:2:10: record.upload: give s3://bucket/prefix"),
        ("[record]\nquota = '1KiB'", "f.toml:2:9: record.quota: it is out of range: give 1MiB"),
        (
            "proxies = ['0.0.0.0/0']",
            "f.toml:1:12: proxies[1]: \"0.0.0.0/0\" is no address of a proxy",
        ),
        ("proxies = ['*']", "f.toml:1:12: proxies[1]: \"*\" is no address of a proxy"),
        (
            "proxies = ['10.0.0.1,*']",
            "f.toml:1:12: proxies[1]: \"10.0.0.1,*\" is no address of a proxy",
        ),
        ("[limits]\nspool = -1", "f.toml:2:9: limits.spool: it is out of range"),
    ];
    for (text, said) in cases {
        let told = faults(text);
        assert!(told.starts_with(said), "{text}: {told}");
    }
    assert_eq!(faults("a = 1\nb = 2\n[limits]\nc = 3").lines().count(), 3);
}
