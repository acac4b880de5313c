use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn serve_with_everything_that_can_be_typed() {
    let cli = Cli::try_parse_from([
        "ssh-gateway",
        "serve",
        "--listen",
        "127.0.0.1:2222",
        "--listen",
        "[::1]:2222",
        "--authorized-keys",
        "/keys",
        "--authorized-keys",
        "/more",
        "--banner",
        "/banner",
        "--mode",
        "native",
        "--bundles",
        "/bundles",
        "--cgroup-root",
        "/host/cgroup",
        "--state",
        "/state",
        "--engine",
        "/run/podman.sock",
        "-vv",
    ])
    .unwrap();
    assert_eq!(cli.verbosity().verbose, 2);
    assert_eq!(cli.common.engine.as_deref(), Some("/run/podman.sock"));
    let Command::Serve(args) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!((args.listen.len(), args.admission.authorized_keys.len()), (2, 2));
    assert_eq!(args.enter.bundles, [PathBuf::from("/bundles")]);
}

#[test]
fn a_misspelt_variable_is_told_from_those_of_neighbours() {
    for name in [
        "SSH_GATEWAY_LISTEN",
        "SSH_GATEWAY_AUTHORIZED_KEYS",
        "SSH_GATEWAY_AUTHORIZED_KEYS_FILE",
        "SSH_GATEWAY_STATE",
        "SSH_GATEWAY_PORT_2222_TCP_ADDR",
        "SSH_GATEWAY_SERVICE_HOST",
        "SSH_GATEWAY_NAME",
        "SSH_CONNECTION",
    ] {
        assert!(!is_unknown(name), "{name}");
    }
    for name in ["SSH_GATEWAY_LISTN", "SSH_GATEWAY_AUTHORISED_KEYS"] {
        assert!(is_unknown(name), "{name}");
    }
}

#[test]
fn questions_about_a_policy() {
    let cli = Cli::try_parse_from([
        "ssh-gateway",
        "policy",
        "explain",
        "--policy",
        "/policy.toml",
        "--from",
        "2001:db8::1",
        "--at",
        "2026-11-30T12:00:00Z",
        "alice",
        "web+www-data",
    ])
    .unwrap();
    let Command::Policy(PolicyArgs { command: PolicyCommand::Explain(args) }) = cli.command else {
        panic!("{:?}", cli.command)
    };
    assert_eq!((args.who.as_str(), args.target.as_str()), ("alice", "web+www-data"));
    assert_eq!(args.admission.policy, Some(PathBuf::from("/policy.toml")));
    assert!(Cli::try_parse_from(["ssh-gateway", "policy", "test"]).is_err());
    assert!(!is_unknown("SSH_GATEWAY_POLICY"));
}
