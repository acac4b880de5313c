use std::io::Read;

use super::*;

#[test]
fn the_default_has_no_capabilities_and_gains_none() {
    let host = body(&ContainerSpec::default()).host_config.unwrap();
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(host.cap_add, Some(vec![]));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!(host.memory, None);
}

#[test]
fn mounts_and_limits_are_passed_on() {
    let spec = ContainerSpec {
        mounts: vec![
            MountSpec {
                source: MountSource::Volume("data".to_owned()),
                target: "/data".into(),
                read_only: true,
            },
            MountSpec {
                source: MountSource::Bind("/srv/repo".into()),
                target: "/repo".into(),
                read_only: false,
            },
        ],
        volumes_from: vec![VolumesFrom { container: "web".to_owned(), read_only: true }],
        memory_bytes_max: Some(1 << 26),
        ..ContainerSpec::default()
    };
    let host = body(&spec).host_config.unwrap();
    assert_eq!(host.volumes_from, Some(vec!["web:ro".to_owned()]));
    assert_eq!((host.memory, host.memory_swap), (Some(1 << 26), Some(1 << 26)));
    let mounts = host.mounts.unwrap();
    assert_eq!(mounts[0].typ, Some(MountType::VOLUME));
    assert_eq!(mounts[0].source.as_deref(), Some("data"));
    assert_eq!((mounts[0].read_only, mounts[1].read_only), (Some(true), Some(false)));
    assert_eq!(mounts[1].typ, Some(MountType::BIND));
}

fn file(path: &str) -> PutFile {
    PutFile { path: path.into(), mode: 0o100_400, content: Zeroizing::new(b"secret".to_vec()) }
}

#[test]
fn files_are_archived_with_their_mode() {
    let bytes = archive(&[file("secrets/key"), file("top")]).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path, entry.header().mode().unwrap(), content)
    });
    assert_eq!(
        entries.collect::<Vec<_>>(),
        ["secrets/key", "top"].map(|path| (path.to_owned(), 0o400, "secret".to_owned()))
    );
}

#[test]
fn a_path_that_is_not_plain_is_refused() {
    for path in ["/absolute", "/", "a/../b", "..", ""] {
        assert_eq!(
            archive(&[file(path)]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "{path}"
        );
    }
}
