//! Dumps of real servers while they are written to: what is restored is everything that was committed before, and
//! of what came later a beginning without a hole.

use std::path::{Path, PathBuf};

use bollard::models::HostConfig;
use e2e::databases::{self, Database, Kind, Secret, assert_is_prefix};
use e2e::engine::{Output, Spec};
use e2e::process::Finished;
use rustix::process::Signal;
use serde_json::Value;

use crate::dump::{Scene, until};
use crate::tool::{BINARY, FAILED, WARNINGS, text};

/// Dumps of one database under load.
const ROUNDS: u32 = 3;

fn dump(scene: &Scene, database: &Database, args: &[&str]) -> Value {
    run(scene, database, args).expect_code(0).last_json()
}

fn run(scene: &Scene, database: &Database, args: &[&str]) -> Finished {
    let words = ["dump", "--json", "--name", "shop", "--container", database.container().name()];
    let finished = scene.repo.run(words).args(args.iter().copied()).finish();
    let is_told = finished.stderr_text().contains(database.password());
    assert!(database.password().is_empty() || !is_told, "{finished}");
    finished
}

/// A file of the newest dump, as a file of this machine.
fn restored(scene: &Scene, round: u32, name: &str) -> PathBuf {
    let target = scene.sandbox.path(format!("restored-{round}"));
    if !target.exists() {
        let place = target.to_str().unwrap();
        scene.repo.run(["restore", "latest:shop", "--strip", "--target", place]).succeed();
    }
    target.join(name)
}

/// Dumps under load; `read_back` gives the numbers in a dump.
fn under_load(kind: Kind, trailer: &str, read_back: impl Fn(&Scene, u32) -> Option<Vec<u64>>) {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, kind) else { return };
    let load = database.load();
    load.wait_past(200);
    for round in 0..ROUNDS {
        let committed = database.last_number();
        let summary = dump(&scene, &database, &[]);
        let proof = &summary["dumps"][0]["proof"];
        assert_eq!((&proof["exit_code"], &proof["marker"]), (&0.into(), &true.into()), "{summary}");
        assert_eq!(proof["trailer"], trailer, "{summary}");
        assert_eq!(summary["state"], "complete", "{summary}");
        let Some(numbers) = read_back(&scene, round) else { return };
        let last = assert_is_prefix(&numbers, committed);
        load.wait_past(last);
    }
    load.stop();
    scene.repo.check_clean();
    assert_undisturbed(&database);
}

/// A server that is process 1 takes an orphan that dies by a signal for one of its own, and ends all sessions.
fn assert_undisturbed(database: &Database) {
    let (stdout, stderr) = database.container().logs();
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!said.contains("terminated by signal"), "{said}");
}

#[test]
fn a_killed_dump_ends_in_the_container_and_does_not_disturb_its_server() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::Postgres) else { return };
    let load = database.load();
    let name = database.container().name();
    let sql = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000000)) TO STDOUT";
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT repeat%';";
    for signal in [Signal::KILL, Signal::TERM] {
        let run = scene
            .repo
            .run(["dump", "--container", name, "--spool-max", "100G", "--"])
            .args(["psql", "-U", "postgres", "-d", "shop", "-c", sql])
            .start();
        until("the query runs", || database.query(count) == [["1"]]);
        run.signal(signal);
        drop(run.wait());
        until("the query has ended", || database.query(count) == [["0"]]);
    }
    load.stop();
    assert_undisturbed(&database);
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn mariadb_under_load_is_dumped_at_one_moment() {
    under_load(Kind::MariaDb, "dump-completed", |scene, round| {
        let sql = std::fs::read_to_string(restored(scene, round, "all.sql")).unwrap();
        // Users and grants are in it too; the other server keeps its own.
        let (_, shop) = sql.split_once("-- Current Database: `shop`\n").expect("the database");
        let shop = shop.split("-- Current Database: ").next().unwrap();
        let folder = scene.sandbox.directory(format!("sql-{round}"));
        std::fs::write(folder.join("shop.sql"), shop).unwrap();
        let other = Database::start_with(&scene.engine, Kind::MariaDb, Secret::Plain, |spec| {
            spec.binds.push(format!("{}:/restored:ro", folder.display()));
        })?;
        other.wait_ready();
        other.query("source /restored/shop.sql");
        Some(other.numbers())
    });
}

#[test]
fn postgres_under_load_is_dumped_at_one_moment() {
    under_load(Kind::Postgres, "pgdump", |scene, round| {
        let folder = restored(scene, round, "shop.pgdump").parent().unwrap().to_owned();
        let other = Database::start_with(&scene.engine, Kind::Postgres, Secret::Plain, |spec| {
            spec.binds.push(format!("{}:/restored:ro", folder.display()));
        })?;
        other.wait_ready();
        other.container().sh(
            "pg_restore --username=postgres --dbname=shop --exit-on-error /restored/shop.pgdump",
        );
        assert!(
            std::fs::read_to_string(folder.join("globals.sql"))
                .unwrap()
                .contains("CREATE ROLE postgres")
        );
        Some(other.numbers())
    });
}

#[test]
fn redis_under_load_is_dumped_at_one_moment() {
    under_load(Kind::Redis, "rdb-crc64", |scene, round| {
        let folder = restored(scene, round, "dump.rdb").parent().unwrap().to_owned();
        let other = Database::start_with(&scene.engine, Kind::Redis, Secret::Plain, |spec| {
            spec.binds = vec![format!("{}:/data", folder.display())];
        })?;
        other.wait_ready();
        Some(other.numbers())
    });
}

#[test]
fn sqlite_in_wal_mode_under_load_is_dumped_at_one_moment() {
    under_load(Kind::Sqlite, "sqlite-pages", |scene, round| {
        let file = restored(scene, round, "data%2Fapp.db.sqlite");
        let folder = scene.sandbox.directory(format!("data-{round}"));
        std::fs::copy(file, folder.join("app.db")).unwrap();
        let other = Database::start_with(&scene.engine, Kind::Sqlite, Secret::Plain, |spec| {
            spec.binds = vec![format!("{}:/data", folder.display())];
        })?;
        other.wait_ready();
        assert_eq!(other.query("PRAGMA integrity_check;"), [["ok"]]);
        Some(other.numbers())
    });
}

#[test]
fn passwords_in_files_are_found_and_wrong_ones_told() {
    let Some(scene) = Scene::new() else { return };
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let Some(database) = Database::start_with(&scene.engine, kind, Secret::File, |_| ()) else {
            return;
        };
        database.wait_ready();
        dump(&scene, &database, &["--kind", "auto"]);
        if kind == Kind::MariaDb {
            database.container().sh(&format!("echo wrong >{}", databases::SECRET_FILE));
            let said = run(&scene, &database, &[]).expect_code(FAILED).stderr_text();
            assert!(said.contains("Access denied"), "{said}");
        }
    }
}

/// `dump --link ALIAS` in a container with the clients, linked as `docker run --link` does or, without `database`, by
/// this network alone.
fn dump_by_link(
    scene: &Scene,
    alias: &str,
    database: Option<&Database>,
    network: &str,
    env: Vec<String>,
) -> Output {
    let base = databases::base(&scene.engine).expect("it is below the databases");
    let words = ["/backup", "dump", "--repo", "/repo", "--json", "--name", "linked", "--link"];
    let links = database.map(|database| vec![format!("{}:{alias}", database.container().name())]);
    scene.engine.run(Spec {
        binds: vec![
            format!("{}:/backup:ro", Path::new(BINARY).display()),
            format!("{}:/repo", scene.repo.path().display()),
        ],
        env,
        network: network.to_owned(),
        host: HostConfig { links, ..HostConfig::default() },
        ..Spec::new(&base, words.into_iter().chain([alias]))
    })
}

#[test]
fn a_link_leads_to_the_database() {
    let Some(scene) = Scene::new() else { return };
    let network = scene.engine.network();
    for (kind, recorded, password) in [
        (Kind::MariaDb, "mysql", "MARIADB_ROOT_PASSWORD"),
        (Kind::Postgres, "postgres", "POSTGRES_PASSWORD"),
        (Kind::Redis, "redis", "REDISCLI_AUTH"),
    ] {
        let Some(linked) = Database::start(&scene.engine, kind) else { return };
        let Some(named) = Database::start_with(&scene.engine, kind, Secret::Plain, |spec| {
            spec.network = network.name().to_owned();
        }) else {
            return;
        };
        named.wait_ready();
        let secret = |database: &Database| format!("{password}={}", database.password());
        // The environment of a link has the password, if that of the server has it.
        let own = if kind == Kind::Redis { vec![secret(&linked)] } else { Vec::new() };
        let name = named.container().name();
        for output in [
            dump_by_link(&scene, "db", Some(&linked), "", own),
            dump_by_link(&scene, name, None, network.name(), vec![secret(&named)]),
        ] {
            let output = output.expect_code(0);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            for database in [&linked, &named] {
                assert!(!said.contains(database.password()), "{said}");
            }
            let text = output.stdout_text();
            let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(summary["dumps"][0]["kind"], recorded, "{summary}");
            assert_eq!(summary["dumps"][0]["proof"]["marker"], true, "{summary}");
        }
        let wrong = vec![format!("{password}=wrong")];
        let refused = dump_by_link(&scene, name, None, network.name(), wrong).expect_code(1);
        assert!(!refused.stderr.is_empty());
    }
    scene.repo.check_clean();
}

/// What holds a client up in the middle of its dump, shows that it waits, and lets go.
struct HeldUp {
    kind: Kind,
    client: &'static str,
    hold: &'static str,
    holding: &'static str,
    waiting: &'static str,
    release: &'static str,
}

const HELD_UP: [HeldUp; 2] = [
    HeldUp {
        kind: Kind::MariaDb,
        client: "mariadb-dump",
        hold: "LOCK TABLES z WRITE; SELECT SLEEP(3600);",
        holding: "SELECT count(*) FROM information_schema.processlist WHERE state = 'User sleep';",
        waiting: "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata%';",
        release: "SET @kill = CONCAT('KILL ', (SELECT id FROM information_schema.processlist WHERE state = 'User sleep')); \
                  EXECUTE IMMEDIATE @kill;",
    },
    HeldUp {
        kind: Kind::Postgres,
        client: "pg_dump",
        hold: "BEGIN; LOCK TABLE z IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600);",
        holding: "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep';",
        waiting: "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock';",
        release: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid();",
    },
];

#[test]
fn a_client_that_is_killed_half_way_leaves_no_backup() {
    let Some(scene) = Scene::new() else { return };
    for held_up in HELD_UP {
        let Some(database) = Database::start(&scene.engine, held_up.kind) else { return };
        let _said = database.query(
            "CREATE TABLE a (n INT PRIMARY KEY); INSERT INTO a VALUES (4711); CREATE TABLE z (n INT PRIMARY KEY);",
        );
        let name = format!("killed-{:?}", held_up.kind);
        let words = ["dump", "--name", &name, "--container", database.container().name()];
        std::thread::scope(|scope| {
            scope.spawn(|| drop(database.client(databases::DATABASE, held_up.hold)));
            until("the table is held", || database.query(held_up.holding) == [["1"]]);
            let dumping = scene.repo.run(words).start();
            until("the client waits", || database.query(held_up.waiting) == [["1"]]);
            let kill = format!(
                "for file in /proc/[0-9]*/comm; do \
                 if [ \"$(cat $file)\" = {} ]; then pid=${{file%/comm}}; kill -KILL ${{pid#/proc/}}; fi; done",
                held_up.client
            );
            let _said = database.container().sh(&kill);
            let said = dumping.wait().expect_code(FAILED).stderr_text();
            assert!(said.contains("signal 9") && said.contains("no backup"), "{said}");
            let _said = database.query(held_up.release);
        });
        assert_undisturbed(&database);
        // Without a hindrance the same is a backup.
        scene.repo.run(words).succeed();
        let of_it = scene.repo.snapshots().into_iter().filter(|one| text(one, "name") == name);
        let states: Vec<String> = of_it.map(|snapshot| text(&snapshot, "state")).collect();
        assert_eq!(states, ["failed", "complete"]);
    }
}

#[test]
fn tables_without_transactions_are_told() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::MariaDb) else { return };
    database.query("CREATE TABLE old (n INT) ENGINE=MyISAM;");
    let summary = run(&scene, &database, &[]).expect_code(WARNINGS).last_json();
    assert!(summary["warnings"][0].as_str().unwrap().contains("shop.old"), "{summary}");
}

#[test]
fn several_databases_of_one_server_are_files_of_their_own() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::Postgres) else { return };
    database.query("CREATE DATABASE \"odd/name = x\";");
    database.query("CREATE TABLE blobs (o oid); INSERT INTO blobs SELECT lo_from_bytea(0, 'large object') FROM generate_series(1, 9);");
    let summary = dump(&scene, &database, &[]);
    let files = summary["dumps"][0]["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["globals.sql", "odd%2Fname = x.pgdump", "postgres.pgdump", "shop.pgdump"]);
    assert_eq!(files[1]["database"], "odd/name = x");
}
