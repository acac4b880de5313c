use super::*;

#[test]
fn an_inspected_container_is_read() {
    let answer = r#"{
        "Id": "4f3c", "Name": "/shop-db-1", "Image": "sha256:1234",
        "State": {"Status": "paused", "Running": true, "Paused": true, "ExitCode": 0},
        "Config": {
            "Image": "mysql:8",
            "Env": ["MYSQL_DATABASE=shop", "EMPTY="],
            "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "db"}
        },
        "Mounts": [
            {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data",
             "Destination": "/var/lib/mysql", "Driver": "local", "Mode": "z", "RW": true,
             "Propagation": ""},
            {"Type": "bind", "Source": "/etc/my.cnf", "Destination": "/etc/my.cnf", "Mode": "ro",
             "RW": false, "Propagation": "rprivate"},
            {"Type": "tmpfs", "Source": "", "Destination": "/tmp", "Mode": "", "RW": true,
             "Propagation": ""},
            {"Type": "hologram", "Destination": "/x"}
        ],
        "NetworkSettings": {"Networks": {"shop_default": {"IPAddress": "172.18.0.3", "GlobalIPv6Address": ""},
            "backend": {"IPAddress": "10.0.0.9", "GlobalIPv6Address": "fd00::9"}}}
    }"#;
    let container = container(serde_json::from_str(answer).unwrap());
    assert_eq!(container.name, "shop-db-1");
    assert_eq!((container.running, container.paused), (true, true));
    assert_eq!(container.image_ref, "mysql:8");
    assert_eq!(container.compose_project(), Some("shop"));
    assert_eq!(container.compose_service(), Some("db"));
    assert_eq!(container.networks, ["backend", "shop_default"]);
    let addresses: [IpAddr; 3] =
        ["10.0.0.9", "172.18.0.3", "fd00::9"].map(|text| text.parse().unwrap());
    assert_eq!(container.addresses, addresses);
    assert_eq!(container.env, ["MYSQL_DATABASE=shop", "EMPTY="]);
    let kinds: Vec<_> = container.mounts.iter().map(|mount| mount.kind).collect();
    assert_eq!(kinds, [MountKind::Bind, MountKind::Tmpfs, MountKind::Volume, MountKind::Other]);
    let volume = &container.mounts[2];
    assert_eq!(volume.name.as_deref(), Some("shop_data"));
    assert_eq!(volume.driver.as_deref(), Some("local"));
    assert_eq!(volume.source, PathBuf::from("/var/lib/docker/volumes/shop_data/_data"));
    assert_eq!(volume.destination, PathBuf::from("/var/lib/mysql"));
    assert!(volume.read_write);
    assert_eq!(container.mounts[0].name, None);
    assert!(!container.mounts[0].read_write);
}

#[test]
fn where_the_output_of_a_container_goes_is_read() {
    let answer = r#"{
        "Id": "4f3c", "LogPath": "/var/lib/docker/containers/4f3c/4f3c-json.log",
        "State": {"Status": "running", "Running": true, "Restarting": true, "Pid": 71,
                  "StartedAt": "2026-11-24T10:20:30.5Z", "FinishedAt": "0001-01-01T00:00:00Z"},
        "Config": {"Tty": true},
        "HostConfig": {"AutoRemove": true, "LogConfig": {
            "Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}}
    }"#;
    let container = container(serde_json::from_str(answer).unwrap());
    assert!(container.tty && container.auto_remove && container.restarting);
    assert_eq!((container.status.as_str(), container.pid), ("running", Some(71)));
    assert_eq!(container.started_at.as_deref(), Some("2026-11-24T10:20:30.5Z"));
    assert_eq!(container.finished_at, None);
    let log = container.log;
    assert_eq!((log.driver.as_str(), log.options["max-size"].as_str()), ("json-file", "10m"));
    assert_eq!(log.path, Some("/var/lib/docker/containers/4f3c/4f3c-json.log".into()));
}

#[test]
fn a_container_without_anything_is_read() {
    assert_eq!(container(serde_json::from_str("{}").unwrap()), Container::default());
}

#[test]
fn a_listed_container_goes_by_its_own_name() {
    let answer = r#"{"Id": "4f3c", "Names": ["/web/db", "/mysql"], "Image": "mysql:8",
                     "Labels": {"a": "b"}, "State": "exited"}"#;
    let listed = listed_container(serde_json::from_str(answer).unwrap());
    assert_eq!(listed.name, "mysql");
    assert_eq!(listed.state, ContainerState::NotRunning);
    assert_eq!(listed.labels["a"], "b");
}
