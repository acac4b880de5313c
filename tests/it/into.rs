//! Dumps back into running databases: into empty ones, refused on others, in their place when asked to.

use std::sync::Arc;
use std::time::Duration;

use e2e::databases::{Database, Kind, SQLITE_FILE, Secret, assert_is_prefix};
use e2e::engine::{self, Engine};
use e2e::images::{self, Image};
use e2e::process::Finished;
use e2e::sandbox::Sandbox;

use crate::tool::{BINARY, FAILED, Repo, WRONG_USAGE, assert_one_sentence};

/// How long a restore or a drill may take on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(300);

struct Scene {
    engine: Engine,
    repo: Repo,
    sandbox: Sandbox,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let worker = images::own_worker(&engine, std::path::Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, repo, sandbox, _worker: worker })
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.repo.run(args).deadline(TIME_MAX).finish()
    }

    /// Dumps a database under load; the numbers that were committed before.
    fn dump(&self, database: &Database) -> u64 {
        let load = database.load();
        load.wait_past(200);
        let committed = database.last_number();
        self.run(&["dump", "--container", database.container().name()]).expect_code(0);
        let _last = load.stop();
        committed
    }

    fn restore(&self, database: &Database, args: &[&str]) -> Finished {
        let mut all = vec!["restore", "latest", "--into", database.container().name()];
        all.extend(args);
        self.run(&all)
    }
}

/// A dump under load goes into an empty server; into one with data only when that may go.
fn goes_back(kind: Kind) {
    let Some(scene) = Scene::new() else { return };
    let Some(first) = Database::start(&scene.engine, kind) else { return };
    let committed = scene.dump(&first);

    let Some(second) = Database::start_with(&scene.engine, kind, Secret::File, |_| ()) else {
        return;
    };
    second.wait_ready();
    scene.restore(&second, &["--dry-run"]).expect_code(0);
    scene.restore(&second, &[]).expect_code(0);
    let restored = assert_is_prefix(&second.numbers(), committed);

    // What came later goes, and what was restored comes again.
    let finished = scene.restore(&second, &[]);
    assert_one_sentence(&finished, WRONG_USAGE, &["--replace"]);
    assert_eq!(second.last_number(), restored, "a refusal changes nothing");
    let _later = second.load().stop();
    scene.restore(&second, &["--replace"]).expect_code(0);
    assert_eq!(assert_is_prefix(&second.numbers(), restored), restored);

    // The same dump stands a drill.
    let finished = scene.run(&["drill", "latest", "--json"]).expect_code(0);
    let rows = finished.last_json()["parts"][0]["rows"].clone();
    let found = rows.as_object().unwrap().values().any(|count| *count == restored);
    assert!(found || kind == Kind::Redis, "{rows}");
}

#[test]
fn a_dump_of_mariadb_goes_back() {
    goes_back(Kind::MariaDb);
}

#[test]
fn a_dump_of_postgres_goes_back() {
    goes_back(Kind::Postgres);
}

#[test]
fn a_dump_of_redis_goes_back() {
    goes_back(Kind::Redis);
}

#[test]
fn a_dump_of_sqlite_goes_back_into_a_container_that_does_not_run() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::Sqlite) else { return };
    let load = database.load();
    load.wait_past(200);
    let committed = database.last_number();
    let name = database.container().name();
    scene.run(&["dump", "--container", name, "--kind", "sqlite"]).expect_code(0);
    let _last = load.stop();

    let finished = scene.restore(&database, &["--replace"]);
    assert_one_sentence(&finished, FAILED, &["is open in process"]);
    database.container().stop();
    let finished = scene.restore(&database, &[]);
    assert_one_sentence(&finished, WRONG_USAGE, &[SQLITE_FILE]);
    scene.restore(&database, &["--replace"]).expect_code(0);
    database.container().start();
    database.wait_ready();
    let restored = assert_is_prefix(&database.numbers(), committed);
    let finished = scene.run(&["drill", "latest", "--json"]).expect_code(0);
    assert_eq!(finished.last_json()["parts"][0]["rows"]["numbers"], restored);
}

#[test]
fn a_restore_that_breaks_off_leaves_a_postgres_database_as_it_was() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::Postgres) else { return };
    let load = database.load();
    load.wait_past(50);
    let last = load.stop();
    let _said = database.query("CREATE ROLE app; ALTER TABLE numbers OWNER TO app;");
    scene.run(&["dump", "--container", database.container().name()]).expect_code(0);
    // Its roles are not restored, so the restore fails in its middle.
    let _said = database.query("ALTER TABLE numbers OWNER TO postgres; DROP ROLE app;");
    let finished = scene.restore(&database, &["--replace", "--path", "shop"]);
    assert_one_sentence(&finished, FAILED, &["app"]);
    assert_eq!(assert_is_prefix(&database.numbers(), last), last);
}

#[test]
fn the_wrong_container_is_told_from_the_right_one() {
    let Some(scene) = Scene::new() else { return };
    let Some(redis) = Database::start(&scene.engine, Kind::Redis) else { return };
    let _said = redis.query("SET key value");
    scene.run(&["dump", "--container", redis.container().name()]).expect_code(0);
    let Some(busybox) = images::busybox(&scene.engine) else { return };
    let other = scene.engine.start(engine::Spec::new(busybox.name(), ["sleep", "1000"]));
    let finished = scene.run(&["restore", "latest", "--into", other.name()]);
    assert_one_sentence(&finished, FAILED, &["there is no redis-cli"]);
    redis.container().stop();
    let finished = scene.restore(&redis, &[]);
    assert_one_sentence(&finished, WRONG_USAGE, &["does not run"]);
}

#[test]
fn a_damaged_repository_costs_no_data() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::MariaDb) else { return };
    let load = database.load();
    load.wait_past(50);
    let last = load.stop();
    scene.run(&["dump", "--container", database.container().name()]).expect_code(0);
    for pack in walk(&scene.sandbox.path("repo/packs")) {
        let mut bytes = std::fs::read(&pack).unwrap();
        let half = bytes.len() / 3;
        bytes[half] ^= 0x55;
        std::fs::write(&pack, bytes).unwrap();
    }
    let finished = scene.restore(&database, &["--replace"]);
    assert_eq!(finished.code(), Some(FAILED), "{finished}");
    assert_eq!(assert_is_prefix(&database.numbers(), last), last);
}

/// All files below a directory.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { files.extend(walk(&entry)) } else { files.push(entry) }
    }
    files
}

#[test]
fn a_dump_of_a_command_is_fed_to_a_command() {
    let Some(scene) = Scene::new() else { return };
    let Some(busybox) = images::busybox(&scene.engine) else { return };
    let service = scene.engine.start(engine::Spec::new(
        busybox.name(),
        ["sh", "-c", "seq 1 20000 > /tmp/numbers; sleep 1000"],
    ));
    service.sh("until grep -qx 20000 /tmp/numbers; do :; done");
    let name = service.name();
    scene
        .run(&["dump", "--container", name, "--kind", "command", "--", "cat", "/tmp/numbers"])
        .expect_code(0);
    let into = ["restore", "latest", "--into", name];
    let fed = |command: &[&str]| scene.run(&[&into[..], &["--"], command].concat());
    fed(&["sh", "-c", "cat > /tmp/back"]).expect_code(0);
    service.sh("cmp /tmp/numbers /tmp/back");
    assert_one_sentence(&fed(&["sh", "-c", "echo bad news >&2; exit 4"]), FAILED, &["bad news"]);
    assert_one_sentence(&fed(&["head", "-n", "1"]), FAILED, &["unread"]);
    assert_one_sentence(&scene.run(&into), WRONG_USAGE, &["behind --"]);
}
