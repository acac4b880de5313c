use chores_common::secret::Secret;

use super::*;
use crate::snapshot::{Source, SourceContainer};

fn stage(repository: Repository) -> Stage {
    Stage {
        image: "chores/backup:1".to_owned(),
        entrypoint: None,
        run: "0123456789abcdef".to_owned(),
        parent: "{}".to_owned(),
        repository,
        cache: None,
        network: Some("none".to_owned()),
        keys: WorkerKeys::default(),
        memory_bytes_max: Some(64 << 20),
    }
}

fn bind(path: &str) -> Place {
    Place { source: MountSource::Bind(path.into()), rest: PathBuf::new() }
}

fn directory(is_foreign: bool) -> Repository {
    Repository::Directory { place: bind("/srv/repo"), is_foreign }
}

fn s3() -> Repository {
    Repository::S3 {
        url: "s3://bucket/web".to_owned(),
        settings: S3Settings {
            endpoint: Some("https://s3.example".to_owned()),
            region: Some("eu".to_owned()),
            access_key: Some("AKIA".to_owned()),
            secret_key: Some(Secret::new("hunter2".to_owned())),
            session_token: Some(Secret::new("token3".to_owned())),
            path_style: Some(true),
        },
        trust: Some(b"PEM".to_vec()),
    }
}

#[test]
fn what_opens_an_encrypted_repository_comes_as_files_that_inspect_does_not_show() {
    let keys = WorkerKeys {
        key_file: Some(Secret::new("dedup".to_owned())),
        identity: Some(Secret::new("AGE-SECRET".to_owned())),
    };
    let prepared = restore(&Stage { keys, ..stage(directory(false)) }, "volume", false, Vec::new());
    let spec = format!("{:?}", prepared.spec);
    assert!(!spec.contains("dedup") && !spec.contains("AGE-SECRET"), "{spec}");
    for (variable, name, content) in [
        ("BACKUP_KEY_FILE=", "key-file", "dedup"),
        ("BACKUP_IDENTITY_FILE=", "identity", "AGE-SECRET"),
    ] {
        let named = prepared.spec.env.iter().find(|env| env.starts_with(variable));
        assert!(named.is_some_and(|env| env.ends_with(name)), "{:?}", prepared.spec.env);
        let file = prepared.secrets.iter().find(|file| file.path == Path::new(name)).unwrap();
        assert_eq!((file.mode, file.content.as_slice()), (SECRET_MODE, content.as_bytes()));
    }
}

fn of_container(paths: &[&str]) -> Sources {
    let container = SourceContainer {
        name: "web".to_owned(),
        id: "0a1b".to_owned(),
        image: "web:1".to_owned(),
        image_id: "sha256:ab".to_owned(),
    };
    let sources =
        paths.iter().map(|path| Source { path: (*path).to_owned(), volume: None }).collect();
    Sources {
        info: SourceInfo { sources, container: Some(container.clone()), ..SourceInfo::default() },
        container: Some(container),
        taken: paths.iter().map(PathBuf::from).collect(),
        ..Sources::default()
    }
}

fn mounted(prepared: &Prepared) -> Vec<(String, bool)> {
    let mounts = prepared.spec.mounts.iter();
    mounts.map(|mount| (mount.target.display().to_string(), mount.read_only)).collect()
}

#[test]
fn a_backup_reads_the_volumes_and_writes_only_the_repository() {
    let sources = of_container(&["/data", "/-odd"]);
    let args = vec!["--json".to_owned()];
    let prepared = backup(&stage(directory(false)), &sources, "host1", args).unwrap();
    let spec = &prepared.spec;
    let command = ["--repo", "/repo", "create", "--json", "--", "/data", "/-odd"];
    assert_eq!(spec.command, command);
    assert_eq!(spec.volumes_from, [VolumesFrom { container: "0a1b".to_owned(), read_only: true }]);
    assert_eq!(mounted(&prepared), [("/repo".to_owned(), false)]);
    assert_eq!(spec.capabilities, ["DAC_READ_SEARCH"]);
    assert!(!spec.keep_default_capabilities && spec.read_only_root);
    assert_eq!(spec.network.as_deref(), Some("none"));
    assert_eq!(spec.labels["chores.backup.worker"], "1");
    assert_eq!(spec.labels["chores.backup.run"], "0123456789abcdef");
    assert!(prepared.secrets.is_empty());
    let told = spec.env.iter().find_map(|env| env.strip_prefix("BACKUP_SOURCE_JSON=")).unwrap();
    let told = SourceInfo::from_env_text(told).unwrap();
    assert_eq!((told.host.as_str(), told.sources.len()), ("host1", 2));
    assert!(spec.env.contains(&"BACKUP_CACHE_DIR=/repo/cache".to_owned()));
}

#[test]
fn only_a_repository_of_another_owner_adds_a_capability() {
    let sources = of_container(&["/data"]);
    let prepared = backup(&stage(directory(true)), &sources, "h", Vec::new()).unwrap();
    assert_eq!(prepared.spec.capabilities, ["DAC_READ_SEARCH", "DAC_OVERRIDE"]);
}

#[test]
fn no_secret_is_in_what_inspect_shows() {
    let prepared = backup(&stage(s3()), &of_container(&["/data"]), "h", Vec::new()).unwrap();
    let spec = &prepared.spec;
    let shown = format!("{spec:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("token3"), "{shown}");
    let repo = ["--repo", "s3://bucket/web", "--s3-endpoint", "https://s3.example", "create"];
    assert_eq!(spec.command[..repo.len()], repo);
    for env in [
        "AWS_REGION=eu",
        "AWS_ACCESS_KEY_ID=AKIA",
        "BACKUP_S3_PATH_STYLE=true",
        "AWS_SECRET_ACCESS_KEY_FILE=/secrets/secret-access-key",
        "AWS_SESSION_TOKEN_FILE=/secrets/session-token",
        "SSL_CERT_FILE=/secrets/ca-certificates.pem",
    ] {
        assert!(spec.env.contains(&env.to_owned()), "{env} of {:?}", spec.env);
    }
    assert_eq!(mounted(&prepared), [("/secrets".to_owned(), false)]);
    assert_eq!(prepared.secrets_directory, "/secrets");
    let files: Vec<_> =
        prepared.secrets.iter().map(|file| (file.mode, file.content.len())).collect();
    assert_eq!(files, [(0o400, 7), (0o400, 6), (0o400, 3)]);
}

#[test]
fn our_places_keep_clear_of_the_sources() {
    for (taken, wanted) in [
        (vec!["/data"], "/repo"),
        (vec!["/repository"], "/repo"),
        (vec!["/repo"], "/chores-0/repo"),
        (vec!["/secrets/x"], "/chores-0/repo"),
        (vec!["/cache", "/volume"], "/chores-0/repo"),
        (vec!["/repo", "/chores-0"], "/chores-1/repo"),
    ] {
        let sources = of_container(&taken);
        let prepared = backup(&stage(directory(false)), &sources, "h", Vec::new()).unwrap();
        assert_eq!(prepared.spec.command[1], wanted, "{taken:?}");
        assert_eq!(mounted(&prepared)[0].0, wanted, "{taken:?}");
    }
}

#[test]
fn a_repository_inside_a_volume_is_named_by_its_rest() {
    let place = Place { source: MountSource::Volume("repos".to_owned()), rest: "web".into() };
    let mut stage = stage(Repository::Directory { place, is_foreign: false });
    stage.cache = Some(Cache { place: bind("/var/cache/backup"), is_foreign: false });
    let prepared = backup(&stage, &of_container(&["/data"]), "h", Vec::new()).unwrap();
    assert_eq!(prepared.spec.command[1], "/repo/web");
    assert!(prepared.spec.env.contains(&"BACKUP_CACHE_DIR=/cache".to_owned()));
    assert_eq!(prepared.spec.capabilities, ["DAC_READ_SEARCH"]);
    assert_eq!(mounted(&prepared), [("/repo".to_owned(), false), ("/cache".to_owned(), false)]);

    stage.cache = Some(Cache { place: bind("/home/me/.cache"), is_foreign: true });
    let prepared = backup(&stage, &of_container(&["/data"]), "h", Vec::new()).unwrap();
    assert_eq!(prepared.spec.capabilities, ["DAC_READ_SEARCH", "DAC_OVERRIDE"]);
}

#[test]
fn named_volumes_are_read_only() {
    let sources =
        Sources { volumes: vec![("a".to_owned(), "/volumes/a".into())], ..Sources::default() };
    let prepared = backup(&stage(directory(false)), &sources, "h", Vec::new()).unwrap();
    let expected = [("/repo".to_owned(), false), ("/volumes/a".to_owned(), true)];
    assert_eq!(mounted(&prepared), expected);
    assert!(prepared.spec.volumes_from.is_empty());
}

#[test]
fn a_restore_writes_only_the_volume() {
    let args = vec!["latest".to_owned()];
    let prepared = restore(&stage(directory(true)), "data", false, args);
    let words = "--repo /repo restore latest --as-volume=data --strip --target /volume";
    let command: Vec<_> = words.split(' ').collect();
    assert_eq!(prepared.spec.command, command);
    let expected = [("/repo".to_owned(), true), ("/volume".to_owned(), false)];
    assert_eq!(mounted(&prepared), expected);
    assert!(!prepared.spec.capabilities.contains(&"SYS_ADMIN".to_owned()));
    let dry = restore(&stage(directory(true)), "data", true, Vec::new());
    assert!(mounted(&dry).iter().all(|(_, read_only)| *read_only));
}

#[test]
fn the_network_is_the_least_that_reaches_the_store() {
    let directory = Location::Directory("/repo".into());
    let s3 = Location::parse("s3://bucket").unwrap();
    let of = |repository: &Location, endpoint, wanted, own| {
        network(repository, endpoint, wanted, own).unwrap_or_default()
    };
    assert_eq!(of(&directory, None, Some("net"), Some("id")), "none");
    assert_eq!(of(&s3, Some("http://minio:9000"), None, Some("id")), "container:id");
    assert_eq!(of(&s3, Some("http://minio:9000"), Some("net"), Some("id")), "net");
    assert_eq!(of(&s3, None, None, None), "");
    assert_eq!(of(&s3, Some("https://s3.example"), None, None), "");
    for endpoint in
        ["http://localhost:3900", "http://127.0.0.1", "http://[::1]:3900/", "https://LOCALHOST"]
    {
        assert_eq!(of(&s3, Some(endpoint), None, None), "host", "{endpoint}");
    }
}
