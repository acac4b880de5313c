//! What of a host is protected: by what its engine has and what the repository has, and never by what only looks so.
//!
//! The engine is shared with other tests, so each asks for its own volumes and containers by name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use e2e::databases::{Database, Kind, Secret};
use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::images::{self, Image};
use e2e::process::Finished;
use e2e::sandbox::Sandbox;
use serde_json::Value;

use crate::tool::{BINARY, FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence, backup, text};

/// The host name under which these tests save.
const HOST: &str = "status-test";

/// The engine's socket, for a container that asks it.
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

struct Scene {
    engine: Engine,
    busybox: Arc<Image>,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    sandbox: Sandbox,
    repo: Repo,
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let worker = images::own_worker(&engine, Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, busybox, _worker: worker, sandbox, repo })
    }

    /// A volume with a file in it.
    fn volume(&self) -> Volume {
        let volume = self.engine.volume();
        let script = format!("echo {} > /data/file", volume.name());
        let _said = self
            .engine
            .run(Spec {
                binds: vec![format!("{}:/data", volume.name())],
                ..Spec::new(self.busybox.name(), ["sh", "-c", &script])
            })
            .expect_code(0);
        volume
    }

    /// A container that has not been started.
    fn container(&self, binds: &[String], labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.engine.create(Spec {
            binds: binds.to_vec(),
            labels: labels.collect::<HashMap<_, _>>(),
            ..Spec::new(self.busybox.name(), ["true"])
        })
    }

    fn save(&self, args: &[&str]) -> Finished {
        let words = ["create", "--json", "--host", HOST];
        self.repo.run(words.iter().chain(args).copied()).finish().expect_code(0)
    }

    /// `status --json ARGS…`, which ends with this code.
    fn status(&self, args: &[&str], code: i32) -> Value {
        let words = ["status", "--json", "--host", HOST];
        let finished = self.repo.run(words.iter().chain(args).copied()).finish().expect_code(code);
        let document = finished.json();
        assert_eq!(document["version"], 1, "{document}");
        assert_eq!(document["well"], code == 0, "{document}");
        document
    }
}

/// What is said of the volume, path or container of this name.
fn source<'d>(document: &'d Value, kind: &str, name: &str) -> &'d Value {
    let sources = document["sources"].as_array().expect("sources");
    let found = sources.iter().find(|source| source["kind"] == kind && source["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {document}"))
}

fn state(document: &Value, kind: &str, name: &str) -> String {
    text(source(document, kind, name), "state")
}

#[test]
fn what_is_saved_is_protected_and_what_is_not_is_told() {
    let Some(scene) = Scene::new() else { return };
    let (kept, other) = (scene.volume(), scene.volume());
    let data = scene.sandbox.directory("www");
    scene.sandbox.file("www/index.html", "hello");
    let settings = scene.sandbox.file("settings", "none");
    let web = scene.container(
        &[
            format!("{}:/kept", kept.name()),
            format!("{}:/other", other.name()),
            format!("{}:/www", data.display()),
            format!("{}:/settings:ro", settings.display()),
            "/etc/localtime:/etc/localtime:ro".to_owned(),
            "/proc:/host/proc:ro".to_owned(),
            SOCKET.to_owned(),
        ],
        &[],
    );
    scene.save(&["--volume", kept.name()]);
    let document = scene.status(&[web.name()], WARNINGS);
    assert_eq!(document["sources"].as_array().unwrap().len(), 3, "{document}");
    assert_eq!(state(&document, "volume", kept.name()), "protected");
    assert_eq!(state(&document, "volume", other.name()), "unprotected");
    assert_eq!(state(&document, "bind", data.to_str().unwrap()), "unprotected");
    assert_eq!(document["counts"]["unprotected"], 2, "{document}");
    let snapshot = &source(&document, "volume", kept.name())["snapshot"];
    assert_eq!(snapshot["id"], scene.repo.snapshot_ids()[0].as_str(), "{document}");
    assert_eq!((&snapshot["by"], &snapshot["host"]), (&"engine".into(), &HOST.into()));

    // For people: the worst first, in 80 columns.
    let said = scene.repo.run(["status", "--host", HOST, web.name()]).finish();
    let said = said.expect_code(WARNINGS).stdout_text();
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let first = said.lines().nth(1).unwrap();
    assert!(first.starts_with("UNPROTECTED"), "{said}");
    assert!(said.contains("2 unprotected"), "{said}");

    // A path of the host by the engine and by its name.
    scene.save(&["--volume", other.name()]);
    scene.save(&[data.to_str().unwrap()]);
    let document = scene.status(&[web.name()], 0);
    let bound = source(&document, "bind", data.to_str().unwrap());
    assert_eq!(bound["snapshot"]["by"], "path", "{document}");

    // Nothing is young enough for ever.
    let document = scene.status(&["--max-age", "0s", web.name()], WARNINGS);
    assert_eq!(document["counts"]["overdue"], 3, "{document}");
    let except = format!("volume:{}", kept.name());
    let document = scene.status(&["--max-age", "0s", "--except", &except, &except], 0);
    assert_eq!(state(&document, "volume", kept.name()), "left_out");
}

#[test]
fn a_database_is_protected_by_its_own_dump_alone() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::MariaDb) else { return };
    let other = Database::start_with(&scene.engine, Kind::MariaDb, Secret::Plain, |_| ());
    let Some(other) = other else { return };
    let (name, volume) = (database.container().name(), database.data().name());
    let document = scene.status(&[name], WARNINGS);
    assert_eq!(source(&document, "database", name)["database"], "mysql", "{document}");
    assert_eq!(state(&document, "database", name), "unprotected");
    assert_eq!(state(&document, "volume", volume), "unprotected");

    let dump = ["dump", "--host", HOST, "--container", name];
    scene.repo.run(dump).succeed();
    let document = scene.status(&[name], 0);
    for (kind, name) in [("database", name), ("volume", volume)] {
        let source = source(&document, kind, name);
        assert_eq!(
            (&source["state"], &source["snapshot"]["by"]),
            (&"protected".into(), &"dump".into())
        );
    }
    let document = scene.status(&[other.container().name()], WARNINGS);
    assert_eq!(document["counts"]["unprotected"], 2, "{document}");
    assert_eq!(document["counts"]["protected"], 0, "{document}");

    // What a command has given may be anything, and is nobody's files.
    let (name, volume) = (other.container().name(), other.data().name());
    let words = ["dump", "--host", HOST, "--container", name, "--", "seq", "1", "10"];
    scene.repo.run(words).succeed();
    let document = scene.status(&[name], WARNINGS);
    assert_eq!(state(&document, "database", name), "unknown");
    assert_eq!(state(&document, "volume", volume), "unprotected");
}

#[test]
fn a_container_without_data_is_not_well() {
    let Some(scene) = Scene::new() else { return };
    let web = scene.container(&[], &[]);
    let document = scene.status(&[web.name()], WARNINGS);
    assert_eq!(document["sources"].as_array().unwrap().len(), 0, "{document}");
    let gaps = document["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|gap| gap.as_str().unwrap().contains(web.name())), "{document}");
}

#[test]
fn a_database_that_nobody_recognises_is_known_once_it_was_dumped() {
    let Some(scene) = Scene::new() else { return };
    let Some(database) = Database::start(&scene.engine, Kind::Sqlite) else { return };
    let name = database.container().name();
    let before = scene.status(&[name], WARNINGS);
    assert_eq!(before["sources"].as_array().unwrap().len(), 1, "{before}");
    scene.repo.run(["dump", "--host", HOST, "--container", name, "--kind", "sqlite"]).succeed();
    let document = scene.status(&[name], WARNINGS);
    assert_eq!(state(&document, "database", name), "protected");
    // Its volume may have more than the database.
    assert_eq!(state(&document, "volume", database.data().name()), "unprotected");
    let document = scene.status(&["--max-age", "0s", name], WARNINGS);
    assert_eq!(state(&document, "database", name), "overdue");
}

#[test]
fn an_operators_label_leaves_out_and_an_images_does_not() {
    let Some(scene) = Scene::new() else { return };
    let (by_image, by_operator) = (scene.volume(), scene.volume());
    let recipe = format!("FROM {}\nLABEL chores.backup.enable=false\n", scene.busybox.name());
    let image = images::build(&scene.engine, &recipe, &[]);
    let hidden = scene.engine.create(Spec {
        binds: vec![format!("{}:/data", by_image.name())],
        ..Spec::new(image.name(), ["true"])
    });
    let left_out = scene.container(
        &[format!("{}:/data", by_operator.name())],
        &[("chores.backup.enable", "false")],
    );
    let document = scene.status(&[hidden.name()], WARNINGS);
    assert_eq!(state(&document, "volume", by_image.name()), "unprotected");
    let document = scene.status(&[left_out.name()], 0);
    assert_eq!(state(&document, "volume", by_operator.name()), "left_out");
}

#[test]
fn names_are_never_beginnings_of_ids() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.volume();
    let container = scene.container(&[format!("{}:/data", volume.name())], &[]);
    let id: String = container.id().chars().take(12).collect();
    let beginning: String = volume.name().chars().take(volume.name().len() - 1).collect();
    for name in [id.as_str(), container.id(), beginning.as_str(), "no-such-thing"] {
        let finished = scene.repo.run(["status", "--host", HOST, name]).finish();
        assert_one_sentence(&finished, WRONG_USAGE, &["names are compared whole"]);
    }
}

#[test]
fn without_an_engine_it_says_so_and_tells_what_snapshots_know() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.volume();
    scene.save(&["--volume", volume.name()]);
    let document = scene.status(&["--engine", "unix:///nowhere/docker.sock"], FAILED);
    assert_eq!(document["engine"]["answered"], false, "{document}");
    assert!(text(&document["engine"], "problem").contains("/nowhere/docker.sock"), "{document}");
    assert_eq!(state(&document, "volume", volume.name()), "protected");
}

#[test]
fn a_machine_that_only_writes_knows_what_is_protected() {
    let Some(scene) = Scene::new() else { return };
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox).without("BACKUP_IDENTITY_FILE");
    let volume = scene.volume();
    repo.run(["create", "--host", HOST, "--volume", volume.name()]).succeed();
    let finished = repo.run(["status", "--json", "--host", HOST, volume.name()]).succeed();
    let document = finished.json();
    assert_eq!(state(&document, "volume", volume.name()), "protected");
    let notes = document["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("identity")), "{document}");
}

#[test]
fn in_a_container_its_own_name_is_no_hosts_and_the_repository_is_no_data() {
    let Some(scene) = Scene::new() else { return };
    let image = images::backup(&scene.engine, Path::new(BINARY));
    let volume = scene.volume();
    let place = scene.engine.volume();
    let web = scene.container(&[format!("{}:/data", volume.name())], &[]);
    let run = |args: &[&str], from: &[String]| {
        scene.engine.run(Spec {
            volumes_from: from.to_vec(),
            binds: vec![format!("{}:/repo", place.name()), SOCKET.to_owned()],
            ..Spec::new(image.name(), ["--repo", "/repo"].iter().chain(args).copied())
        })
    };
    let from = [format!("{}:ro", web.name())];
    run(&["init"], &[]).expect_code(0);
    run(&["create", "--name", web.name()], &from).expect_code(0);
    let status = |args: &[&str], code: i64| -> Value {
        let output = run(&[&["status", "--json"][..], args].concat(), &[]).expect_code(code);
        serde_json::from_str(output.stdout_text().trim()).unwrap()
    };
    // Whose it is, nobody can say.
    let document = status(&["--host", HOST, web.name()], i64::from(WARNINGS));
    assert_eq!(state(&document, "volume", volume.name()), "unknown");
    let document = status(&["--any-host", web.name()], 0);
    assert_eq!(source(&document, "volume", volume.name())["snapshot"]["by"], "name", "{document}");
    run(&["create", "--name", web.name(), "--host", HOST], &from).expect_code(0);
    let document = status(&["--host", HOST, web.name()], 0);
    assert_eq!(state(&document, "volume", volume.name()), "protected");

    let document = status(&["--host", HOST, place.name()], 0);
    assert_eq!(state(&document, "volume", place.name()), "left_out");
}

#[test]
fn a_repository_that_is_not_there_is_an_error() {
    let sandbox = Sandbox::new();
    let finished = backup(&sandbox).args(["status", "--repo", "/nowhere/repo"]).finish();
    assert_one_sentence(&finished, FAILED, &["/nowhere/repo"]);
    let finished = backup(&sandbox).args(["status", "--max-age", "26"]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
}
