//! Drills: good backups are found good, damaged ones are not, and nothing is left behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptions, ListVolumesOptions};
use e2e::databases::{Database, Kind, SQLITE_FILE};
use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::images::{self, Image};
use e2e::process::Finished;
use e2e::runtime::wait;
use e2e::sandbox::Sandbox;
use rustix::process::Signal;
use serde_json::Value;

use crate::tool::{BINARY, FAILED, Repo, WRONG_USAGE, assert_one_sentence, text};

/// How long a drill may take on a busy machine.
const DRILL_TIME_MAX: Duration = Duration::from_secs(300);

/// Rows that fill a few dozen pages.
const ROWS: u64 = 5000;

struct Scene {
    engine: Engine,
    repo: Repo,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    // Used by the repository until here.
    _sandbox: Sandbox,
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let worker = images::own_worker(&engine, std::path::Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, repo, _worker: worker, _sandbox: sandbox })
    }

    /// A container with a volume that holds an answer, saved; in the order in which they must not go.
    fn saved_answer(&self) -> Option<(Volume, Container)> {
        let busybox = images::busybox(&self.engine)?;
        let volume = self.engine.volume();
        let service = self.engine.start(Spec {
            binds: vec![format!("{}:/srv/data", volume.name())],
            ..Spec::new(busybox.name(), ["sh", "-c", "echo 42 > /srv/data/answer; sleep 1000"])
        });
        service.sh("until [ -s /srv/data/answer ]; do :; done");
        self.repo.run(["create", "--volumes-from", service.name()]).succeed();
        Some((volume, service))
    }

    /// A database with a table of [`ROWS`] rows.
    fn filled(&self, kind: Kind) -> Option<Database> {
        let database = Database::start(&self.engine, kind)?;
        let table = "CREATE TABLE numbers (n BIGINT PRIMARY KEY, words VARCHAR(200) NOT NULL);";
        let rows = match kind {
            Kind::MariaDb => {
                format!(
                    "{table} INSERT INTO numbers SELECT seq, REPEAT('w', 150) FROM seq_1_to_{ROWS};"
                )
            }
            Kind::Postgres => {
                format!(
                    "{table} INSERT INTO numbers SELECT n, repeat('w', 150) FROM generate_series(1, {ROWS}) n;"
                )
            }
            Kind::Sqlite => format!(
                "{table} WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) \
                 INSERT INTO numbers SELECT n, hex(zeroblob(75)) FROM s;"
            ),
            Kind::Redis => (1..=ROWS).map(|n| format!("RPUSH numbers {n}\n")).collect(),
        };
        let _said = database.query(&rows);
        Some(database)
    }

    /// Saves the volumes of a stopped container.
    fn save_stopped(&self, database: &Database) {
        database.container().stop();
        self.repo
            .run(["create", "--volumes-from", database.container().name()])
            .deadline(DRILL_TIME_MAX)
            .succeed();
    }

    fn drill(&self, args: &[&str]) -> Finished {
        let run = self.repo.run(["drill", "--json"]).args(args).deadline(DRILL_TIME_MAX).start();
        let id = run.id();
        let finished = run.wait();
        assert_eq!(self.left_by(id), Vec::<String>::new(), "{finished}");
        finished
    }

    /// What a process with this id made for drills and is still there.
    fn left_by(&self, process: u32) -> Vec<String> {
        let label = |labels: &HashMap<String, String>| {
            let parent = labels.get("chores.backup.parent")?;
            serde_json::from_str::<Value>(parent).ok()?["pid"].as_u64()
        };
        let filters =
            || Some(HashMap::from([("label".to_owned(), vec!["chores.backup.drill".to_owned()])]));
        let docker = self.engine.docker().clone();
        let (containers, volumes) = wait(async move {
            let options =
                ListContainersOptions { all: true, filters: filters(), ..Default::default() };
            let containers = docker.list_containers(Some(options)).await.unwrap();
            let options = ListVolumesOptions { filters: filters() };
            (
                containers,
                docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default(),
            )
        });
        let is_its = |labels: &HashMap<String, String>| label(labels) == Some(u64::from(process));
        let containers = containers
            .into_iter()
            .filter(|container| container.labels.as_ref().is_some_and(is_its))
            .map(|container| format!("container {:?}", container.names));
        let volumes = volumes
            .into_iter()
            .filter(|volume| is_its(&volume.labels))
            .map(|volume| format!("volume {}", volume.name));
        containers.chain(volumes).collect()
    }

    /// Writes noise over a part of a file of a container that does not run.
    fn damage(&self, database: &Database, file: &str, offset: u64, bytes: u64) {
        let Some(busybox) = images::busybox(&self.engine) else { panic!("no busybox") };
        let script = format!(
            "dd if=/dev/urandom of={file} bs={bytes} seek={} count=1 conv=notrunc && sync",
            offset / bytes
        );
        let spec = Spec {
            volumes_from: vec![database.container().name().to_owned()],
            ..Spec::new(busybox.name(), ["sh", "-c", &script])
        };
        let _said = self.engine.run(spec).expect_code(0);
    }
}

fn problem(finished: &Finished) -> String {
    let summary = finished.last_json();
    assert_eq!(summary["outcome"], "failed", "{finished}");
    text(&summary["parts"][0], "problem")
}

fn rows(finished: &Finished) -> Value {
    let summary = finished.last_json();
    assert_eq!(summary["outcome"], "good", "{finished}");
    summary["parts"][0]["rows"].clone()
}

#[test]
fn a_copy_of_a_stopped_mariadb_is_good_until_one_page_is_not() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = scene.filled(Kind::MariaDb) else { return };
    scene.save_stopped(&database);
    let finished = scene.drill(&["latest"]).expect_code(0);
    assert_eq!(rows(&finished)["shop.numbers"], ROWS);
    scene.damage(&database, "/var/lib/mysql/shop/numbers.ibd", 16384 * 8, 16384);
    scene.save_stopped(&database);
    let finished = scene.drill(&["latest"]).expect_code(FAILED);
    assert!(!problem(&finished).is_empty());
    let snapshots = scene.repo.snapshots();
    let outcomes: Vec<_> = snapshots.iter().map(|one| text(&one["drill"], "outcome")).collect();
    assert_eq!(outcomes, ["good", "failed"]);
    let listed = scene.repo.run(["snapshots"]).succeed().stdout_text();
    assert!(listed.contains("DRILL") && listed.contains("FAILED 20"), "{listed}");
}

#[test]
fn a_copy_of_a_stopped_postgres_is_good_until_one_page_is_not() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = scene.filled(Kind::Postgres) else { return };
    let file = database.query("SELECT pg_relation_filepath('numbers');");
    let file = format!("{}/{}", Kind::Postgres.data(), file[0][0]);
    scene.save_stopped(&database);
    let finished = scene.drill(&["--container", database.container().name()]).expect_code(0);
    assert_eq!(rows(&finished)["shop.public.numbers"], ROWS);
    scene.damage(&database, &file, 8192 * 4, 8192);
    scene.save_stopped(&database);
    let finished = scene.drill(&["latest"]).expect_code(FAILED);
    assert!(problem(&finished).contains("page"), "{finished}");
}

#[test]
fn a_copy_of_a_stopped_redis_is_good_until_one_page_is_not() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = scene.filled(Kind::Redis) else { return };
    let _said = database.query("SAVE");
    scene.save_stopped(&database);
    let finished = scene.drill(&["latest"]).expect_code(0);
    assert_eq!(rows(&finished)["db0"], 1);
    scene.damage(&database, "/data/dump.rdb", 4096, 4096);
    scene.save_stopped(&database);
    let finished = scene.drill(&["latest"]).expect_code(FAILED);
    assert!(!problem(&finished).is_empty());
}

#[test]
fn a_dump_with_a_damaged_page_is_no_good() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = scene.filled(Kind::Sqlite) else { return };
    let save = || {
        let words = ["dump", "--container", database.container().name(), "--name", "app"];
        scene.repo.run(words).deadline(DRILL_TIME_MAX).succeed();
    };
    save();
    assert_eq!(rows(&scene.drill(&["latest"]).expect_code(0))["numbers"], ROWS);
    // The online backup copies pages as they are: that they are all there proves nothing about what is in them.
    database.container().stop();
    scene.damage(&database, SQLITE_FILE, 40 << 12, 1 << 12);
    database.container().start();
    database.wait_ready();
    save();
    let said = problem(&scene.drill(&["latest"]).expect_code(FAILED));
    assert!(said.contains("integrity_check") || said.contains("malformed"), "{said}");
    let shown = scene.repo.snapshots();
    assert_eq!(text(&shown[1]["drill"], "outcome"), "failed", "{shown:?}");
}

#[test]
fn a_snapshot_that_cannot_even_be_listed_is_no_good_backup() {
    let Some(scene) = Scene::new() else { return };
    let Some((_volume, _service)) = scene.saved_answer() else { return };
    let mut left = vec![scene.repo.path().join("packs")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let length = usize::try_from(path.metadata().unwrap().len()).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, vec![0; length]).unwrap();
        }
    }
    let finished = scene.drill(&["latest", "--check", "true"]).expect_code(FAILED);
    assert!(problem(&finished).contains("cannot be read"), "{finished}");
    let snapshots = scene.repo.snapshots();
    assert_eq!(text(&snapshots[0]["drill"], "outcome"), "failed");
}

#[test]
fn a_command_judges_copies_of_plain_volumes() {
    let Some(scene) = Scene::new() else { return };
    let Some((_volume, _service)) = scene.saved_answer() else { return };

    let finished =
        scene.drill(&["latest", "--check", "grep -qx 42 /srv/data/answer"]).expect_code(0);
    assert_eq!(finished.last_json()["parts"][0]["checks"][0], "command");
    let read_only = "! touch /srv/data/new && [ ! -e /sys/class/net/eth0 ]";
    scene.drill(&["latest", "--check", read_only]).expect_code(0);
    let finished =
        scene.drill(&["latest", "--check", "echo no answer >&2; exit 7"]).expect_code(FAILED);
    assert_eq!(problem(&finished), "the command ended with status 7: no answer");

    let finished = scene.repo.run(["drill", "latest"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["--check"]);
    let finished =
        scene.repo.run(["drill", "latest", "--check", "true", "--image", "chores-none"]).finish();
    assert_one_sentence(&finished, FAILED, &["no image chores-none"]);
}

#[test]
fn a_server_that_does_not_get_ready_is_no_good_backup() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = scene.filled(Kind::Redis) else { return };
    let _said = database.query("SAVE");
    scene.save_stopped(&database);
    let Some(busybox) = images::busybox(&scene.engine) else { return };
    let finished = scene.drill(&["latest", "--image", busybox.name()]).expect_code(FAILED);
    assert!(problem(&finished).contains("ended before it was ready"), "{finished}");
    let sick = images::build(
        &scene.engine,
        &format!("FROM {}\nHEALTHCHECK --interval=1s --retries=1 CMD false\n", database.image()),
        &[],
    );
    let finished =
        scene.drill(&["latest", "--image", sick.name(), "--ready-within", "4"]).expect_code(FAILED);
    assert!(problem(&finished).contains("health check"), "{finished}");
}

#[test]
fn what_a_killed_drill_left_goes_with_the_next() {
    let Some(scene) = Scene::new() else { return };
    let Some((_volume, _service)) = scene.saved_answer() else { return };
    let wait_for_container = |id: u32| {
        e2e::ssh_gateway::wait_until(DRILL_TIME_MAX, "the container of a drill", || {
            let left = scene.left_by(id);
            let is_there = left.iter().any(|one| one.starts_with("container"));
            if is_there { Ok(()) } else { Err(format!("{left:?}")) }
        });
    };
    let slow = || {
        scene.repo.run(["drill", "latest", "--check", "sleep 600"]).deadline(DRILL_TIME_MAX).start()
    };

    let asked = slow();
    let id = asked.id();
    wait_for_container(id);
    asked.signal(Signal::TERM);
    let finished = asked.wait();
    assert_eq!(finished.code(), Some(130), "{finished}");
    assert_eq!(scene.left_by(id), Vec::<String>::new());
    assert!(scene.repo.snapshots()[0].get("drill").is_none(), "an interrupted drill says nothing");

    let killed = slow();
    let id = killed.id();
    wait_for_container(id);
    killed.signal(Signal::KILL);
    let _finished = killed.wait();
    scene.drill(&["latest", "--check", "true"]).expect_code(0);
    // A drill of another test may have begun to remove it a moment before.
    e2e::ssh_gateway::wait_until(DRILL_TIME_MAX, "the end of what a killed drill left", || {
        let left = scene.left_by(id);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
