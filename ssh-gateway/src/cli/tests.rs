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
    assert_eq!((args.listen.len(), args.authorized_keys.len()), (2, 2));
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
