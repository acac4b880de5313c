use chores_common::engine::{Mount, MountKind};

use super::*;

fn image() -> GuardImage {
    GuardImage { image: "chores/backup".to_owned(), entrypoint: None, parent: "{}".to_owned() }
}

fn document() -> Document {
    Document::new("unix:///x".to_owned(), jiff::Timestamp::UNIX_EPOCH, Vec::new(), Vec::new())
        .unwrap()
}

fn own(mounts: &[(&str, &str)]) -> Container {
    let mounts = mounts.iter().map(|(source, destination)| Mount {
        kind: MountKind::Bind,
        name: None,
        source: source.into(),
        destination: destination.into(),
        driver: None,
        read_write: true,
    });
    Container {
        mounts: mounts.collect(),
        networks: vec!["proxy".to_owned()],
        ..Container::default()
    }
}

#[test]
fn a_guard_may_do_nothing_but_speak_to_the_engine() {
    let host = Host::parse(Some("unix:///run/engine.sock")).unwrap();
    let spec = spec(&image(), None, &host, &document()).unwrap();
    assert!(spec.capabilities.is_empty() && !spec.keep_default_capabilities);
    assert!(spec.read_only_root && spec.has_input);
    assert_eq!(spec.network.as_deref(), Some("none"));
    assert_eq!(spec.mounts.len(), 1);
    assert_eq!(spec.mounts[0].source, MountSource::Bind("/run/engine.sock".into()));
    assert_eq!(spec.mounts[0].target, PathBuf::from(DEFAULT_SOCKET));
}

#[test]
fn in_a_container_the_socket_is_what_is_mounted_there() {
    let host = Host::parse(Some("unix:///sockets/docker.sock")).unwrap();
    let mounted = own(&[("/var/lib/x", "/sockets"), ("/host/docker.sock", "/sockets/docker.sock")]);
    let by_file = spec(&image(), Some(&mounted), &host, &document()).unwrap();
    assert_eq!(by_file.mounts[0].source, MountSource::Bind("/host/docker.sock".into()));
    let by_directory =
        spec(&image(), Some(&own(&[("/run", "/sockets")])), &host, &document()).unwrap();
    assert_eq!(by_directory.mounts[0].source, MountSource::Bind("/run/docker.sock".into()));
    assert!(spec(&image(), Some(&own(&[])), &host, &document()).is_err());
}

#[test]
fn an_engine_behind_an_address_is_reached_over_a_network() {
    let host = Host::parse(Some("tcp://proxy:2375")).unwrap();
    let inside = spec(&image(), Some(&own(&[])), &host, &document()).unwrap();
    assert_eq!(inside.network.as_deref(), Some("proxy"));
    assert!(inside.env.iter().any(|variable| variable.starts_with("DOCKER_HOST=tcp://proxy:2375")));
    let outside = spec(&image(), None, &host, &document()).unwrap();
    assert_eq!(outside.network.as_deref(), Some("host"));
}

#[test]
fn only_whole_lines_of_standard_output_are_an_answer() {
    let frame = |source, text: &'static str| LogFrame { source, bytes: text.into() };
    assert_eq!(count(&frame(LogSource::Stdout, "ready\nheard\nheard\n"), HEARD), 2);
    assert_eq!(count(&frame(LogSource::Stdout, "overheard\nheard it\n"), HEARD), 0);
    assert_eq!(count(&frame(LogSource::Stderr, "heard\n"), HEARD), 0);
}
