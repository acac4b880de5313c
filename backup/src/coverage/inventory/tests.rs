use super::*;

fn volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        mountpoint: format!("/var/lib/docker/volumes/{name}/_data").into(),
        ..Volume::default()
    }
}

fn of_volume(name: &str, destination: &str) -> Mount {
    Mount {
        kind: MountKind::Volume,
        name: Some(name.to_owned()),
        source: format!("/var/lib/docker/volumes/{name}/_data").into(),
        destination: destination.into(),
        driver: Some("local".to_owned()),
        read_write: true,
    }
}

fn bind(source: &str, destination: &str) -> Mount {
    Mount {
        kind: MountKind::Bind,
        name: None,
        source: source.into(),
        destination: destination.into(),
        driver: None,
        read_write: true,
    }
}

fn read_only(mount: Mount) -> Mount {
    Mount { read_write: false, ..mount }
}

fn container(name: &str, mounts: Vec<Mount>) -> Container {
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        image_id: "sha256:1".to_owned(),
        image_ref: "busybox".to_owned(),
        running: true,
        mounts,
        ..Container::default()
    }
}

fn labelled(container: Container, labels: &[(&str, &str)]) -> Container {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Container { labels: labels.collect(), ..container }
}

fn mysql(name: &str, mounts: Vec<Mount>) -> Container {
    Container { image_ref: "mysql:8".to_owned(), ..container(name, mounts) }
}

fn found(containers: Vec<Container>, volumes: &[&str]) -> Found {
    Found {
        containers,
        volumes: volumes.iter().map(|name| volume(name)).collect(),
        image_labels: BTreeMap::from([("sha256:1".to_owned(), BTreeMap::new())]),
        ..Found::default()
    }
}

fn name(source: &DataSource) -> &str {
    match &source.what {
        What::Volume { name, .. } => name,
        What::Bind { path } => path,
        What::Mount { name } => name,
        What::Database { container, .. } => &container.name,
    }
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.sources.iter().map(name).collect()
}

fn source<'i>(inventory: &'i Inventory, wanted: &str) -> &'i DataSource {
    inventory.sources.iter().find(|source| name(source) == wanted).expect("the source")
}

#[test]
fn what_is_no_data_is_not_there_and_what_is_data_is() {
    let no_data = [
        bind("/var/run/docker.sock", "/var/run/docker.sock"),
        bind("/run/dbus", "/run/dbus"),
        read_only(bind("/etc/localtime", "/etc/localtime")),
        bind("/etc/localtime", "/etc/localtime"),
        read_only(bind("/proc", "/host/proc")),
        read_only(bind("/sys", "/sys")),
        bind("/dev/dri", "/dev/dri"),
        read_only(bind("/", "/rootfs")),
        read_only(bind("/srv/nginx.conf", "/etc/nginx/nginx.conf")),
        read_only(bind("/srv/conf.d", "/etc/nginx/conf.d")),
        read_only(bind("/srv/init.sql", "/docker-entrypoint-initdb.d/init.sql")),
        read_only(bind("/lib/modules", "/lib/modules")),
        read_only(bind("/var/lib/docker/containers", "/var/lib/docker/containers")),
        Mount { kind: MountKind::Tmpfs, ..bind("", "/scratch") },
        Mount { kind: MountKind::Image, ..bind("", "/model") },
    ];
    for mount in no_data {
        let found = found(vec![container("web", vec![mount.clone()])], &[]);
        assert_eq!(names(&inventory(&found)), Vec::<&str>::new(), "{mount:?}");
    }
    let data = [
        bind("/srv/www", "/var/www"),
        bind("/srv/acme.json", "/acme.json"),
        bind("/srv/gitea", "/etc/gitea"),
        read_only(bind("/srv/photos", "/photos")),
        bind("/run/media/anna/disk", "/disk"),
        bind("/run/desktop/mnt/host/c/www", "/www"),
        bind("/runner/work", "/work"),
        bind("/tmp/upload", "/upload"),
        // A directory of pages, as far as can be seen.
        read_only(bind("/srv/example.org", "/srv/www/example.org")),
    ];
    for mount in data {
        let found = found(vec![container("web", vec![mount.clone()])], &[]);
        assert_eq!(names(&inventory(&found)), [mount.source.to_str().unwrap()], "{mount:?}");
    }
}

#[test]
fn what_is_seen_at_a_path_is_surer_than_its_name() {
    let of = |mount: Mount, kind| {
        let mut found = found(vec![container("web", vec![mount.clone()])], &[]);
        let real = mount.source.clone();
        found.paths.insert(mount.source, Seen { kind, real });
        names(&inventory(&found)).len()
    };
    assert_eq!(of(bind("/srv/app.d/talk", "/talk"), PathKind::Other), 0);
    assert_eq!(of(read_only(bind("/srv/Caddyfile", "/Caddyfile")), PathKind::File), 0);
    assert_eq!(of(bind("/srv/db", "/db"), PathKind::File), 1);
    assert_eq!(
        of(read_only(bind("/srv/site.example.org", "/site.example.org")), PathKind::Directory),
        1
    );
}

#[test]
fn volumes_count_whoever_uses_them_and_jobs_are_meant_to_last() {
    let one_off = labelled(
        container("run", vec![of_volume("left", "/data"), bind("/srv/once", "/once")]),
        &[(COMPOSE_ONE_OFF, "True")],
    );
    let task = "shop_db.1.aaaaaaaaaaaaaaaaaaaaaaaaa";
    let ended =
        labelled(mysql(task, vec![of_volume("old", "/var/lib/mysql")]), &[(SWARM_TASK, task)]);
    let ended = Container { running: false, ..ended };
    let stopped = Container { running: false, ..mysql("db", Vec::new()) };
    let found = found(vec![one_off, ended, stopped], &["left", "old", "lost"]);
    let inventory = inventory(&found);
    assert_eq!(names(&inventory), ["db", "left", "lost", "old"]);
    assert_eq!(source(&inventory, "lost").remarks, ["no container uses it"]);
    assert_eq!(
        source(&inventory, "left").remarks,
        ["only containers that are not meant to last use it"]
    );
}

#[test]
fn memory_is_no_volume() {
    let mut found = found(Vec::new(), &["a", "b"]);
    found.volumes[0].options.insert("type".to_owned(), "tmpfs".to_owned());
    assert_eq!(names(&inventory(&found)), ["b"]);
}

#[test]
fn mounts_of_no_known_kind_are_there() {
    let cluster = Mount { kind: MountKind::Other, ..bind("", "/data") };
    let unnamed = Mount { name: None, ..of_volume("x", "/cache") };
    let found = found(vec![container("web", vec![cluster, unnamed])], &[]);
    assert_eq!(names(&inventory(&found)), ["web:/cache", "web:/data"]);
    let ordered = labelled(found.containers[0].clone(), &[("chores.backup.enable", "false")]);
    let found = Found { containers: vec![ordered], ..found };
    assert!(inventory(&found).sources.iter().all(|source| source.left_out.is_some()));
}

#[test]
fn a_volume_that_the_engine_does_not_list_is_there_all_the_same() {
    let web = container("web", vec![of_volume("nas", "/data"), of_volume("memory", "/scratch")]);
    let mut found = found(vec![web], &["memory"]);
    found.volumes[0].options.insert("type".to_owned(), "tmpfs".to_owned());
    found.volume_warnings = vec!["list nas-driver: timeout".to_owned()];
    let inventory = inventory(&found);
    assert_eq!(names(&inventory), ["nas"]);
    let nas = source(&inventory, "nas");
    assert_eq!(nas.users, ["web"]);
    assert!(nas.remarks[0].contains("does its driver answer"), "{nas:?}");
    assert_eq!(inventory.gaps.len(), 1);
    assert!(inventory.gaps[0].contains("nas-driver"), "{:?}", inventory.gaps);
}

#[test]
fn only_an_operator_leaves_out() {
    let order = [("chores.backup.enable", "false")];
    let web = |labels| labelled(container("web", vec![of_volume("data", "/data")]), labels);
    let left_out = |found: &Found| source(&inventory(found), "data").left_out.is_some();
    assert!(left_out(&found(vec![web(&order)], &["data"])));
    // The image has it.
    let mut of_image = found(vec![web(&order)], &["data"]);
    let labels = order.map(|(key, value)| (key.to_owned(), value.to_owned()));
    of_image.image_labels.insert("sha256:1".to_owned(), labels.clone().into());
    assert!(!left_out(&of_image));
    // Nobody knows whether the image has it.
    let unknown = Found { image_labels: BTreeMap::new(), ..found(vec![web(&order)], &["data"]) };
    assert!(!left_out(&unknown));
    assert_eq!(inventory(&unknown).notes.len(), 1);
    // Somebody else uses it too.
    let other = container("other", vec![of_volume("data", "/x")]);
    assert!(!left_out(&found(vec![web(&order), other], &["data"])));
    // The volume itself.
    let mut volume = found(vec![web(&[])], &["data"]);
    volume.volumes[0].labels = labels.into();
    assert!(left_out(&volume));
    // What is said of the volume is surer than what is said of who uses it.
    let mut volume = found(vec![web(&order)], &["data"]);
    let labels = [("chores.backup.enable", "true"), ("chores.backup.dump", "mysql")];
    volume.volumes[0].labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert!(!left_out(&volume));
    let remarks = source(&inventory(&volume), "data").remarks.clone();
    assert!(remarks[0].contains("dump of a volume orders nothing"), "{remarks:?}");
}

#[test]
fn the_files_of_a_database_belong_to_it_only_where_nobody_else_writes_them() {
    let its = |containers| {
        let inventory = inventory(&found(containers, &["data"]));
        source(&inventory, "data").database.clone().map(|database| database.name)
    };
    let db = || mysql("db", vec![of_volume("data", "/var/lib/mysql")]);
    assert_eq!(its(vec![db()]), Some("db".to_owned()));
    let reader = container("report", vec![read_only(of_volume("data", "/data"))]);
    assert_eq!(its(vec![db(), reader]), Some("db".to_owned()));
    let writer = container("web", vec![of_volume("data", "/data")]);
    assert_eq!(its(vec![db(), writer]), None);
    assert_eq!(its(vec![mysql("db", vec![of_volume("data", "/backups")])]), None);
    let both = vec![of_volume("data", "/backups"), of_volume("data", "/var/lib/mysql")];
    assert_eq!(its(vec![mysql("db", both)]), None);
    let told = Container {
        command: ["mysqld", "--datadir=/db"].map(str::to_owned).to_vec(),
        ..mysql("db", vec![of_volume("data", "/db")])
    };
    assert_eq!(its(vec![told]), Some("db".to_owned()));
    let no_dump = labelled(db(), &[("chores.backup.dump", "false")]);
    assert_eq!(its(vec![no_dump]), None);
}

#[test]
fn labels_say_which_database_it_is() {
    let kinds = |container| {
        let inventory = inventory(&found(vec![container], &[]));
        let kind = inventory.sources.iter().find_map(|source| match &source.what {
            What::Database { kind, .. } => Some(*kind),
            _ => None,
        });
        (kind, inventory.notes.len())
    };
    let dump = |value| labelled(container("app", Vec::new()), &[("chores.backup.dump", value)]);
    assert_eq!(kinds(container("app", Vec::new())), (None, 0));
    assert_eq!(kinds(dump("sqlite")), (Some(Some(DumpKind::Sqlite)), 0));
    assert_eq!(kinds(dump("true")), (Some(None), 1));
    assert_eq!(kinds(dump("msyql")), (None, 1));
    let two = Container {
        env: vec!["MYSQL_ROOT_PASSWORD=x".to_owned(), "PGDATA=/x".to_owned()],
        ..container("both", Vec::new())
    };
    assert_eq!(kinds(two), (Some(None), 1));
}

#[test]
fn this_program_is_no_job() {
    let own = container("me", vec![of_volume("repo", "/repo"), bind("/srv/x", "/x")]);
    let worker = labelled(
        container("worker", vec![bind("/srv/y", "/y")]),
        &[(PARENT_LABEL, "{}"), ("chores.backup.worker", "1")],
    );
    let place = OwnPlace::new(Own::Repository, Path::new("/repo"), Some(&own), &[]).unwrap();
    let found = Found {
        own: Some(own.id.clone()),
        own_places: vec![place],
        ..found(vec![own, worker], &["repo"])
    };
    let inventory = inventory(&found);
    assert_eq!(names(&inventory), ["repo"]);
    assert_eq!(source(&inventory, "repo").left_out.as_deref(), Some("it is the repository"));
}

#[test]
fn a_repository_inside_a_shared_volume_is_told_and_the_rest_counts() {
    let own = container("me", vec![of_volume("shared", "/mnt"), bind("/srv", "/host")]);
    let web = container("web", vec![of_volume("shared", "/data"), bind("/srv", "/srv")]);
    let of = |path: &str| {
        let place = OwnPlace::new(Own::Repository, Path::new(path), Some(&own), &[]).unwrap();
        let containers = vec![own.clone(), web.clone()];
        inventory(&Found {
            own: Some(own.id.clone()),
            own_places: vec![place],
            ..found(containers, &["shared"])
        })
    };
    for (path, holder, other) in [("/mnt/repo", "shared", "/srv"), ("/host/repo", "/srv", "shared")]
    {
        let inventory = of(path);
        let (holder, other) = (source(&inventory, holder), source(&inventory, other));
        assert_eq!(holder.left_out, None, "{path}");
        assert!(holder.remarks.iter().any(|remark| remark.contains("repository")), "{holder:?}");
        assert_eq!((&other.left_out, other.remarks.len()), (&None, 0), "{other:?}");
    }
    let all = of("/host");
    assert!(source(&all, "/srv").left_out.is_some());
    assert!(OwnPlace::new(Own::Repository, Path::new("/elsewhere"), Some(&own), &[]).is_none());
}

#[test]
fn on_a_host_the_repository_is_known_by_its_path() {
    let web = container("web", vec![bind("/srv", "/srv"), bind("/srv/repo", "/repo")]);
    let place = OwnPlace::new(Own::Repository, Path::new("/srv/repo"), None, &[]).unwrap();
    let found = Found { own_places: vec![place], ..found(vec![web], &[]) };
    let inventory = inventory(&found);
    assert_eq!(source(&inventory, "/srv").left_out, None);
    assert!(source(&inventory, "/srv/repo").left_out.is_some());
}

#[test]
fn what_lies_beside_the_repository_is_no_part_of_it() {
    let left_out = |own, names: &[&str], path: &str| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let place = OwnPlace::new(own, Path::new("/mnt/nas"), None, &names).unwrap();
        let web = container("jellyfin", vec![bind(path, "/media")]);
        let found = Found { own_places: vec![place], ..found(vec![web], &[]) };
        source(&inventory(&found), path).left_out.is_some()
    };
    let alone = ["repo.json", "packs", "snapshots", "lost+found"];
    assert!(left_out(Own::Repository, &alone, "/mnt/nas"));
    assert!(left_out(Own::Repository, &alone, "/mnt/nas/packs/ab"));
    assert!(!left_out(Own::Repository, &alone, "/mnt/nas/media"));
    assert!(!left_out(Own::Repository, &["repo.json", "media"], "/mnt/nas"));
    assert!(left_out(Own::Cache, &[], "/mnt/nas"));
    assert!(!left_out(Own::Cache, &[], "/mnt/nas/media"));
    assert!(!left_out(Own::State, &[], "/mnt/nas/packs"));
}

#[test]
fn two_containers_of_one_service_are_told() {
    let of = |name, number: &str| {
        labelled(
            mysql(name, Vec::new()),
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "db"),
                ("com.docker.compose.container-number", number),
            ],
        )
    };
    let two = inventory(&found(vec![of("shop-db-2", "2"), of("shop-db-1", "1")], &[]));
    assert_eq!(
        two.notes,
        ["shop/db runs as shop-db-1 and as shop-db-2: each of them is looked at by itself"]
    );
    assert_eq!(names(&two).len(), 2);
    assert!(inventory(&found(vec![of("shop-db-1", "1")], &[])).notes.is_empty());
}

#[test]
fn a_task_of_swarm_is_known_by_its_place() {
    let task = |id: char| format!("shop_db.1.{}", String::from(id).repeat(SWARM_ID_BYTES));
    let now = task('b');
    let labels = [(SWARM_TASK, now.as_str()), (SWARM_SERVICE, "shop_db")];
    let identity = Identity::of(&labelled(container(&now, Vec::new()), &labels));
    assert_eq!(identity.slot.as_deref(), Some("shop_db.1"));
    assert!(identity.is_named(&task('a')) && identity.is_named(&now));
    for other in ["shop_db.1", "shop_db.1.x", "shop_db.2.aaaaaaaaaaaaaaaaaaaaaaaaa", "shop_db"] {
        assert!(!identity.is_named(other), "{other}");
    }
    let plain = Identity { name: "db".to_owned(), ..Identity::default() };
    assert!(plain.is_named("db") && !plain.is_named("db2") && !plain.is_named("d"));
}
