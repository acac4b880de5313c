use super::*;

fn mount(kind: MountKind, name: Option<&str>, source: &str, destination: &str) -> Mount {
    Mount {
        kind,
        name: name.map(str::to_owned),
        source: source.into(),
        destination: destination.into(),
        driver: None,
        read_write: true,
    }
}

fn container(mounts: Vec<Mount>) -> Container {
    Container { mounts, ..Container::default() }
}

fn translate(own: Option<&Container>, writes: bool, path: &str) -> Result<Place, String> {
    let places = Places { own, writes };
    places.translate("repository", Path::new(path)).map_err(|error| error.to_string())
}

#[test]
fn a_process_on_the_host_names_the_path_itself() {
    let place = translate(None, true, "/srv/repo").unwrap();
    assert_eq!(place, Place { source: MountSource::Bind("/srv/repo".into()), rest: "".into() });
}

#[test]
fn a_path_in_a_container_is_the_bound_path_of_the_host() {
    let own = container(vec![
        mount(MountKind::Bind, None, "/mnt/disk", "/srv"),
        mount(MountKind::Bind, None, "/mnt/other", "/srv/repo"),
    ]);
    for (path, wanted) in [
        ("/srv/a/b", "/mnt/disk/a/b"),
        ("/srv/repo", "/mnt/other"),
        ("/srv/repo/x", "/mnt/other/x"),
        ("/srv/repository", "/mnt/disk/repository"),
    ] {
        let place = translate(Some(&own), true, path).unwrap();
        assert_eq!(place.source, MountSource::Bind(wanted.into()), "{path}");
        assert_eq!(place.rest, Path::new(""), "{path}");
    }
}

#[test]
fn a_volume_is_mounted_whole_and_the_rest_remembered() {
    let own = container(vec![mount(MountKind::Volume, Some("repos"), "/var/lib/x", "/repos")]);
    let place = translate(Some(&own), true, "/repos/web/one").unwrap();
    assert_eq!(place.source, MountSource::Volume("repos".to_owned()));
    assert_eq!(place.rest, Path::new("web/one"));
}

#[test]
fn what_only_this_container_sees_is_refused() {
    let own = container(vec![
        mount(MountKind::Tmpfs, None, "", "/memory"),
        mount(MountKind::Other, None, "", "/image"),
    ]);
    for (path, reason) in [
        ("/repo", "lies in this container itself"),
        ("/memory/repo", "lies in this container's memory"),
        ("/image/repo", "is mounted in a way that another container cannot be given"),
    ] {
        assert_eq!(
            translate(Some(&own), true, path).unwrap_err(),
            format!(
                "the repository {path} {reason}, so the worker cannot see it: \
                 mount a volume or a directory there"
            )
        );
    }
}

#[test]
fn a_read_only_mount_serves_a_restore_but_no_backup() {
    let read_only =
        Mount { read_write: false, ..mount(MountKind::Bind, None, "/mnt/repo", "/repo") };
    let own = container(vec![read_only]);
    assert!(translate(Some(&own), false, "/repo").is_ok());
    assert_eq!(
        translate(Some(&own), true, "/repo").unwrap_err(),
        "the repository /repo is mounted read-only into this container: mount it without :ro"
    );
}

#[test]
fn a_mount_inside_the_repository_is_refused() {
    let own = container(vec![
        mount(MountKind::Bind, None, "/mnt/repo", "/repo"),
        mount(MountKind::Bind, None, "/mnt/packs", "/repo/packs"),
    ]);
    let error = translate(Some(&own), true, "/repo").unwrap_err();
    assert!(error.starts_with("/repo/packs is a mount of its own inside"), "{error}");
}

#[test]
fn a_directory_of_another_owner_is_noticed_by_its_first_level() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "x").unwrap();
    let owner = directory.path().metadata().unwrap().uid();
    assert_eq!(is_owned_by_others(directory.path()), owner != 0);
    if owner == 0 {
        std::os::unix::fs::chown(directory.path().join("file"), Some(1234), None).unwrap();
        assert!(is_owned_by_others(directory.path()));
    }
    assert!(is_owned_by_others(&directory.path().join("missing")));
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let error = canonical("repository", Path::new("/no/such/place")).unwrap_err();
    assert_eq!(error.to_string(), "cannot find the repository /no/such/place");
}
