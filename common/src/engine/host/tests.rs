use super::*;
use crate::engine::EngineErrorKind;

#[test]
fn every_form_of_a_socket_and_an_address_is_read() {
    let unix = |path: &str| Host::Unix(path.into());
    let tcp = |address: &str| Host::Tcp(address.to_owned());
    for (text, host) in [
        (None, unix("/var/run/docker.sock")),
        (Some(""), unix("/var/run/docker.sock")),
        (Some("unix:///run/podman/podman.sock"), unix("/run/podman/podman.sock")),
        (Some("/run/podman/podman.sock"), unix("/run/podman/podman.sock")),
        (Some("tcp://127.0.0.1:2375"), tcp("127.0.0.1:2375")),
        (Some("tcp://proxy:2375/"), tcp("proxy:2375")),
        (Some("http://[::1]:2375"), tcp("[::1]:2375")),
    ] {
        assert_eq!(Host::parse(text), Ok(host), "{text:?}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    for (text, reason) in [
        ("https://host:2376", "TLS is not supported"),
        ("ssh://host", "ssh is not supported"),
        ("npipe:////./pipe/docker", "it is none of"),
        ("unix://relative", "it is none of"),
        ("tcp://host", "it is none of"),
        ("tcp://host:0", "it is none of"),
        ("tcp://host:2375/path", "it is none of"),
        ("tcp://user@host:2375", "it is none of"),
        ("docker.sock", "it is none of"),
    ] {
        let error = Host::parse(Some(text)).unwrap_err();
        assert_eq!(error.kind(), EngineErrorKind::Invalid);
        let expected = format!("cannot use {text} as DOCKER_HOST: {reason}");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
