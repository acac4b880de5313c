use chores_common::exit::chain;
use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

/// What a command line of `serve` means, with the environment given.
fn config_with(args: &[&str], environment: Environment) -> Result<Config, String> {
    let cli = Cli::try_parse_from(["ssh-gateway", "serve"].iter().chain(args)).unwrap();
    let Command::Serve(serve) = &cli.command else { panic!("{cli:?}") };
    Config::for_serve(&cli.common, serve, environment).map_err(|error| chain(&error))
}

fn config(args: &[&str]) -> Result<Config, String> {
    config_with(args, Environment { authorized_keys: (None, None) })
}

fn written(directory: &tempfile::TempDir, text: &str) -> String {
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const KEYS: [&str; 4] = ["--authorized-keys", "/keys", "--state", "/there"];

#[test]
fn keys_and_a_state_are_enough() {
    let config = config(&KEYS).unwrap();
    assert_eq!(config.listen, [LISTEN_DEFAULT]);
    let keys = PolicySource::Keys(vec![KeySource::File(PathBuf::from("/keys"))]);
    assert_eq!(config.policy, keys);
    assert_eq!(config.limits, LIMITS_DEFAULT);
    assert_eq!(config.enter.mode, Mode::Auto);
    assert_eq!(config.enter.bundles.len(), BUNDLES_DEFAULT.len());
    assert_eq!(config.enter.cgroup_roots.len(), CGROUP_ROOTS_DEFAULT.len());
    assert_eq!(config.banner, None);
}

#[test]
fn a_port_alone_is_one_of_every_address() {
    let typed = [&KEYS[..], &["--listen", "2022", "--listen", "[::1]:22"]].concat();
    let wanted = ["0.0.0.0:2022", "[::1]:22"].map(|text| text.parse().unwrap());
    assert_eq!(config(&typed).unwrap().listen, wanted);
    let directory = tempfile::tempdir().unwrap();
    let file = written(&directory, "listen = ['2022', '[::1]:22']");
    assert_eq!(config(&[&KEYS[..], &["--config", &file]].concat()).unwrap().listen, wanted);
}

#[test]
fn what_cannot_be_meant_is_refused_in_one_sentence() {
    let state = ["--state", "/there"];
    let typed = |more: &[&'static str]| [&KEYS[..], more].concat();
    for (args, said) in [
        (state.to_vec(), "no keys are named: give --authorized-keys FILE"),
        (
            typed(&["--policy", "/policy.toml"]),
            "both a policy and authorized keys are named, and those keys could do everything",
        ),
        (typed(&["--mode", "fast"]), "--mode \"fast\" is unusable: \"fast\" is none of native"),
        (typed(&["--bundles", "b"]), "--bundles \"b\" is unusable: it is no absolute path"),
        (typed(&["--cgroup-root", "c"]), "--cgroup-root \"c\" is unusable: it is no absolute path"),
        (
            typed(&["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"]),
            "--listen \"127.0.0.1:1\" is unusable: it is given twice",
        ),
        (
            typed(&["--listen", "2222", "--listen", "0.0.0.0:2222"]),
            "--listen \"0.0.0.0:2222\" is unusable: it is given twice",
        ),
        (
            typed(&["--listen", "localhost:2222"]),
            "--listen \"localhost:2222\" is unusable: give ADDRESS:PORT, such as 0.0.0.0:2222 or [::]:2222, or a port alone",
        ),
        (
            typed(&["--banner", "/no/such/banner"]),
            "--banner /no/such/banner cannot be read: No such file or directory",
        ),
        (
            typed(&["--config", "/no/such/file.toml"]),
            "/no/such/file.toml: the configuration cannot be read: No such file or directory",
        ),
    ] {
        let error = config(&args).unwrap_err();
        assert!(error.starts_with(said), "{args:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let policy = config(&["--state", "/there", "--policy", "/policy.toml"]).unwrap().policy;
    assert_eq!(policy, PolicySource::File(PathBuf::from("/policy.toml")));
    if !Path::new(IMAGE_STATE).is_dir() {
        let error = config(&["--authorized-keys", "/keys"]).unwrap_err();
        assert!(error.starts_with("no state directory is named"), "{error}");
    }
}

#[test]
fn keys_of_flags_win_over_those_of_the_environment_and_those_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "authorized_keys = ['/written']\nstate = '/written'");
    let text = || (Some("ssh-ed25519 AAAA".to_owned()), None);
    let file = || (None, Some(PathBuf::from("/twin")));
    let keys = |args: &[&str], authorized_keys| {
        config_with(args, Environment { authorized_keys }).map(|config| config.policy)
    };
    let files = |path: &str| Ok(PolicySource::Keys(vec![KeySource::File(PathBuf::from(path))]));
    assert_eq!(keys(&["--config", &path, "--authorized-keys", "/typed"], text()), files("/typed"));
    assert_eq!(keys(&["--config", &path], file()), files("/twin"));
    assert_eq!(keys(&["--config", &path], (None, None)), files("/written"));
    let PolicySource::Keys(of_variable) = keys(&["--config", &path], text()).unwrap() else {
        panic!("no keys")
    };
    assert!(
        matches!(of_variable.as_slice(), [KeySource::Text { text, .. }] if text.contains("AAAA"))
    );
    let both = (text().0, file().1);
    assert_eq!(
        keys(&["--config", &path], both).unwrap_err(),
        "SSH_GATEWAY_AUTHORIZED_KEYS and SSH_GATEWAY_AUTHORIZED_KEYS_FILE are both set; keep one"
    );
    let empty = keys(&["--config", &path], (Some(" \n".to_owned()), None)).unwrap_err();
    assert!(empty.starts_with("SSH_GATEWAY_AUTHORIZED_KEYS is set but empty"), "{empty}");
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(
        &directory,
        "listen = '1.2.3.4:5'\nstate = '/written'\nbanner = 'written'\nauthorized_keys = '/k'\n\
         [enter]\nmode = 'engine'\nbundles = '/b'\ncgroup_root = '/c'\nengine = '/e.sock'",
    );
    let written = config(&["--config", &path]).unwrap();
    assert_eq!(written.listen, ["1.2.3.4:5".parse().unwrap()]);
    assert_eq!(written.banner.as_deref(), Some("written\r\n"));
    assert_eq!((written.enter.mode, written.enter.bundles.len()), (Mode::Engine, 1));
    assert_eq!(written.enter.cgroup_roots, [PathBuf::from("/c")]);
    assert_eq!(written.enter.engine.as_deref(), Some("/e.sock"));

    let banner = directory.path().join("banner");
    std::fs::write(&banner, "typed\n").unwrap();
    let typed = config(&[
        "--config",
        &path,
        "--listen",
        "127.0.0.1:0",
        "--state",
        "/typed",
        "--banner",
        banner.to_str().unwrap(),
        "--mode",
        "native",
        "--bundles",
        "/x,/y",
        "--cgroup-root",
        "/z",
        "--engine",
        "/t.sock",
    ])
    .unwrap();
    assert_eq!(typed.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(typed.state, PathBuf::from("/typed"));
    assert_eq!(typed.banner.as_deref(), Some("typed\r\n"));
    assert_eq!(typed.enter.mode, Mode::Native);
    assert_eq!(typed.enter.bundles, [PathBuf::from("/x"), PathBuf::from("/y")]);
    assert_eq!(typed.enter.cgroup_roots, [PathBuf::from("/z")]);
    assert_eq!(typed.enter.engine.as_deref(), Some("/t.sock"));
}

#[test]
fn a_banner_is_text() {
    assert_eq!(banner(b"a\nb\tc").unwrap(), "a\r\nb\tc\r\n");
    assert_eq!(banner("ü\r\n".as_bytes()).unwrap(), "ü\r\n");
    for (bytes, said) in [
        (&b"a\x1b[31m"[..], "it has control characters in it"),
        (b"a\x07", "it has control characters in it"),
        (b"\xff", "it is no UTF-8 text"),
        (b"\n \n", "it is empty"),
        (&[b'x'; BANNER_BYTES_MAX + 1], "it is larger than 8192 bytes"),
    ] {
        assert_eq!(banner(bytes).unwrap_err(), said);
    }
}
