//! The chore itself: volumes of a running container are backed up, destroyed, restored and found equal.

use std::path::Path;
use std::sync::Arc;

use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::images::{self, Image};
use e2e::object_store::ObjectStore;
use e2e::sandbox::Sandbox;
use serde_json::Value;

use crate::tool::{BINARY, Repo, text};

/// Writes what a service would: files of several sizes, links, owners, modes and a FIFO, and keeps
/// appending to a log.
const WRITER: &str = "set -e
for d in /data /anon /host; do
  mkdir -p $d/sub/deeper
  head -c 3000000 /dev/urandom > $d/noise
  for i in 1 2 3 4 5 6 7 8 9; do echo \"row $i\" > $d/sub/row-$i; done
  ln $d/noise $d/sub/noise-again
  ln -s ../noise $d/sub/link
  mkfifo $d/pipe
  chmod 4750 $d/sub/row-1
  chown 1234:4321 $d/sub/row-2
  chown 999:999 $d
  chmod 2770 $d
  touch -d '2001-02-03 04:05:06' $d/sub/row-3
done
touch /data/.ready
while true; do echo tick >> /tmp/log; sleep 1; done";

/// One line per path with type, mode, owner, time, and digest or target; seen from inside a container.
pub(crate) const DIGEST: &str = "cd $1 && find . | sort | while read -r p; do
  if [ -L \"$p\" ]; then printf '%s -> %s ' \"$p\" \"$(readlink \"$p\")\"; fi
  stat -c '%n %F %a %u %g %Y %h' \"$p\"
  if [ -f \"$p\" ] && [ ! -L \"$p\" ]; then sha256sum \"$p\"; fi
done";

struct Scene {
    engine: Engine,
    busybox: Arc<Image>,
    backup: Arc<Image>,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    sandbox: Sandbox,
    // Removed in this order: a volume cannot go before the container that uses it.
    service: Container,
    named: Volume,
}

impl Scene {
    /// A service with a named volume, an anonymous one and a bind mount, all written to.
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let backup = images::backup(&engine, Path::new(BINARY));
        let worker = images::own_worker(&engine, Path::new(BINARY));
        let sandbox = Sandbox::new();
        let named = engine.volume();
        let service = engine.start(Spec {
            binds: vec![
                format!("{}:/data", named.name()),
                format!("{}:/host", sandbox.directory("host").display()),
            ],
            anonymous_volumes: vec!["/anon".to_owned()],
            ..Spec::new(busybox.name(), ["sh", "-c", WRITER])
        });
        service.sh("until [ -e /data/.ready ]; do :; done");
        Some(Self { engine, busybox, backup, _worker: worker, sandbox, named, service })
    }

    /// The digest of a directory of the service.
    fn digest(&self, directory: &str) -> String {
        self.service.exec(["sh", "-c", DIGEST, "sh", directory]).expect_code(0).stdout_text()
    }

    /// The digest of a volume or of a directory of this machine, from inside a fresh container.
    fn digest_of(&self, source: &str) -> String {
        let spec = Spec {
            binds: vec![format!("{source}:/seen:ro")],
            ..Spec::new(self.busybox.name(), ["sh", "-c", DIGEST, "sh", "/seen"])
        };
        self.engine.run(spec).expect_code(0).stdout_text()
    }

    /// Runs the image of `backup` as an operator does.
    fn backup(&self, args: &[&str], volumes_from: &[String], binds: &[String]) -> engine::Output {
        self.engine.run(Spec {
            volumes_from: volumes_from.to_vec(),
            binds: binds.to_vec(),
            ..Spec::new(self.backup.name(), args.iter().copied())
        })
    }

    fn repo_bind(&self) -> String {
        format!("{}:/repo", self.sandbox.directory("repo").display())
    }

    /// A repository of the program on the host, which talks to the engine itself.
    fn host_repo(&self) -> Repo {
        Repo::at(&self.sandbox, &self.sandbox.path("repo"))
    }
}

#[test]
fn volumes_from_a_running_container_come_back_equal() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.repo_bind();
    let from = [format!("{}:ro", scene.service.name())];
    scene.backup(&["init", "--repo", "/repo"], &[], std::slice::from_ref(&repo)).expect_code(0);
    let created = scene
        .backup(&["create", "--repo", "/repo", "--json"], &from, std::slice::from_ref(&repo))
        .expect_code(0);
    let summary: Value =
        serde_json::from_str(created.stdout_text().lines().last().expect("a summary")).unwrap();
    let snapshot = text(&summary, "snapshot");
    let wanted = ["/data", "/anon", "/host"].map(|directory| scene.digest(directory));

    let Scene { engine, service, named, .. } = &scene;
    service.stop();
    let gone = service.name().to_owned();
    let docker = engine.docker().clone();
    let options = bollard::query_parameters::RemoveContainerOptions {
        v: true,
        force: true,
        ..Default::default()
    };
    e2e::runtime::wait(async move { docker.remove_container(&gone, Some(options)).await }).unwrap();
    named.destroy();
    assert!(!named.exists());

    let target = scene.sandbox.directory("restored");
    let binds = [repo, format!("{}:/target", target.display())];
    scene
        .backup(&["restore", "--repo", "/repo", &snapshot, "--target", "/target"], &[], &binds)
        .expect_code(0);
    for (directory, wanted) in ["data", "anon", "host"].iter().zip(&wanted) {
        let found = scene.digest_of(target.join(directory).to_str().unwrap());
        assert_eq!(&found, wanted, "/{directory} differs");
    }
}

#[test]
fn the_host_program_backs_up_through_the_engine_and_makes_the_volume_again() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.host_repo();
    repo.run(["init"]).succeed();
    repo.run(["create", "--json", "--volumes-from", scene.service.name()]).succeed();
    let wanted = scene.digest("/data");
    let snapshots = repo.snapshots();
    assert_eq!(snapshots[0]["name"], scene.service.name(), "{snapshots:?}");
    assert_eq!(snapshots[0]["paths"].as_array().unwrap().len(), 3, "{snapshots:?}");

    scene.service.stop();
    let again = e2e::sandbox::unique_name();
    let volume = scene.engine.adopt_volume(&again);
    repo.run(["restore", "latest", "--path", "/data", "--volume", &again]).succeed();
    assert!(volume.exists());
    assert_eq!(scene.digest_of(&again), wanted);
}

#[test]
fn workers_save_to_an_encrypted_repository_and_only_those_that_restore_can_read() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.host_repo().with_new_keys(&scene.sandbox);
    repo.init_for(&scene.sandbox.path("keys/recipients"));
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let first = ["create", "--json", "--volume", scene.named.name()];
    sidecar.run(first).succeed();
    let again = sidecar.run(first).succeed().last_json();
    assert_eq!(again["stats"]["chunks_added"], 0, "stored twice: {again}");
    let wanted = scene.digest("/data");
    scene.service.stop();
    let again = e2e::sandbox::unique_name();
    let volume = scene.engine.adopt_volume(&again);
    repo.run(["restore", "latest", "--volume", &again]).succeed();
    assert!(volume.exists());
    assert_eq!(scene.digest_of(&again), wanted);
}

#[test]
fn two_runs_at_once_make_their_worker_of_this_very_program() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.host_repo();
    repo.run(["init"]).succeed();
    let id: String = scene.service.id().chars().take(20).collect();
    std::thread::scope(|scope| {
        let run = || repo.run(["create", "--json", "--volumes-from", &id]).succeed();
        let runs = [scope.spawn(run), scope.spawn(run)];
        runs.into_iter().for_each(|run| drop(run.join().unwrap()));
    });
    let names: Vec<_> = repo.snapshots().iter().map(|found| text(found, "name")).collect();
    assert_eq!(names, [scene.service.name(), scene.service.name()], "the id became the name");
}

#[test]
fn a_worker_for_an_object_store_keeps_the_cache_of_its_parent() {
    let Some(scene) = Scene::new() else { return };
    let store = ObjectStore::in_process();
    let repo = Repo::on_store(&scene.sandbox, store.address(), &store.url());
    repo.run(["init"]).succeed();
    let read = |args: &[&str]| {
        repo.run(["create", "--volume", scene.named.name()]).args(args).succeed();
        scene.sandbox.path(".cache/chores-backup").is_dir()
    };
    assert!(!read(&["--no-cache"]));
    assert!(read(&[]));
    assert_ne!(std::fs::read_dir(scene.sandbox.path(".cache/chores-backup")).unwrap().count(), 0);
}

#[test]
fn one_volume_is_backed_up_by_its_name() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.host_repo();
    repo.run(["init"]).succeed();
    repo.run(["create", "--json", "--volume", scene.named.name()]).succeed();
    let wanted = scene.digest("/data");
    assert_eq!(repo.snapshots()[0]["name"], scene.named.name());

    scene.service.sh("rm -rf /data/* /data/.ready && echo damaged > /data/damage");
    scene.service.stop();
    repo.run(["restore", "latest", "--volume", scene.named.name(), "--replace"]).succeed();
    assert_eq!(scene.digest_of(scene.named.name()), wanted);
}

#[test]
fn a_container_that_does_not_exist_is_named() {
    let Some(scene) = Scene::new() else { return };
    let repo = scene.host_repo();
    repo.run(["init"]).succeed();
    let finished = repo.run(["create", "--volumes-from", "no-such-container"]).finish();
    crate::tool::assert_one_sentence(&finished, crate::tool::FAILED, &["no-such-container"]);
    assert!(repo.snapshots().is_empty());
}

#[test]
fn a_container_reaches_an_object_store() {
    let Some(scene) = Scene::new() else { return };
    let Some(host) = scene.engine.host_address() else {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "the engine has no default bridge with an address"
        );
        e2e::notice!("skipped: the engine has no default bridge with an address");
        return;
    };
    let store = ObjectStore::in_process_on(&host);
    let address = store.address();
    let run = |args: &[&str], binds: &[String], from: &[String]| {
        let env =
            address.env().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let url = store.url();
        let options = ["--repo", &url, "--s3-endpoint", &address.endpoint];
        scene.engine.run(Spec {
            env,
            volumes_from: from.to_vec(),
            binds: binds.to_vec(),
            ..Spec::new(scene.backup.name(), options.iter().chain(args).copied())
        })
    };
    run(&["init"], &[], &[]).expect_code(0);
    run(&["create"], &[], &[format!("{}:ro", scene.service.name())]).expect_code(0);
    let target = scene.sandbox.directory("restored");
    run(
        &["restore", "latest", "--target", "/target"],
        &[format!("{}:/target", target.display())],
        &[],
    )
    .expect_code(0);
    assert_eq!(scene.digest_of(target.join("data").to_str().unwrap()), scene.digest("/data"));
}

#[test]
fn the_image_holds_nothing_but_the_program() {
    let Some(scene) = Scene::new() else { return };
    let container = scene.engine.create(Spec::new(scene.backup.name(), ["--version"]));
    let (docker, id) = (scene.engine.docker().clone(), container.id().to_owned());
    let archive = e2e::runtime::wait(async move {
        use futures_util::TryStreamExt as _;
        docker.export_container(&id).try_collect::<Vec<_>>().await
    })
    .unwrap()
    .concat();
    let mut archive = tar::Archive::new(archive.as_slice());
    let files: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.header().entry_type().is_file() && entry.size() > 0)
        .map(|entry| entry.path().unwrap().display().to_string())
        .collect();
    assert_eq!(files, ["backup"]);
}
