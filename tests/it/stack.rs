//! A whole Compose project is lost and comes back as it was before a bad change. Compose itself is not needed: its labels are.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{Volume as Inspected, VolumeCreateRequest};
use e2e::databases::{Database, Kind, Secret, assert_is_prefix};
use e2e::engine::{self, Container, Engine, Spec, Volume};
use e2e::images::{self, Image};
use e2e::process::{Finished, Run};
use e2e::runtime::wait;
use e2e::sandbox::{Sandbox, unique_name};
use e2e::{janitor, random::Random};
use serde_json::Value;

use crate::dump::until;
use crate::engine_volumes::DIGEST;
use crate::tool::{BINARY, FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence, text};

/// How long a restore of several volumes may take on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(300);

const FILES: [&str; 2] = ["/srv/shop/compose.yaml", "/srv/shop/compose.prod.yaml"];

/// Writes what a service would.
const FILL: &str = "set -e
for d in /data /files; do
  mkdir -p $d/sub
  head -c 300000 /dev/urandom > $d/noise
  for i in 1 2 3 4 5 6 7 8 9; do echo \"row $i\" > $d/sub/row-$i; done
  ln $d/noise $d/sub/again
  ln -s ../noise $d/sub/link
  chmod 4750 $d/sub/row-1
  chown 1234:4321 $d/sub/row-2
  chown 999:999 $d
  chmod 2770 $d
  touch -d '2001-02-03 04:05:06' $d/sub/row-3
done";

struct Scene {
    engine: Engine,
    busybox: Arc<Image>,
    /// Kept while a test of this process may need it, then removed.
    _worker: Arc<Image>,
    sandbox: Sandbox,
    repo: Repo,
    project: String,
}

/// A volume as Compose makes it, with options where a directory is its place.
fn compose_volume(scene: &Scene, name: &str, place: Option<&Path>) -> Volume {
    let full = format!("{}_{name}", scene.project);
    let volume = scene.engine.adopt_volume(&full);
    let options = place.map(|place| {
        [("type", "none"), ("o", "bind"), ("device", place.to_str().unwrap())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let mut labels = janitor::labels();
    labels.extend([
        ("com.docker.compose.project".to_owned(), scene.project.clone()),
        ("com.docker.compose.volume".to_owned(), name.to_owned()),
    ]);
    let request = VolumeCreateRequest {
        name: Some(full),
        driver: Some("local".to_owned()),
        driver_opts: options.map(HashMap::from),
        labels: Some(labels),
        ..VolumeCreateRequest::default()
    };
    let docker = scene.engine.docker().clone();
    wait(async move { docker.create_volume(request).await }).unwrap();
    volume
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let worker = images::own_worker(&engine, Path::new(BINARY));
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, busybox, _worker: worker, sandbox, repo, project: unique_name() })
    }

    fn labels(&self, service: &str) -> HashMap<String, String> {
        [
            ("com.docker.compose.project", self.project.as_str()),
            ("com.docker.compose.service", service),
            ("com.docker.compose.project.working_dir", "/srv/shop"),
            ("com.docker.compose.project.config_files", &FILES.join(",")),
            ("com.docker.compose.oneoff", "False"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// A service that sleeps, with these volumes.
    fn service(&self, service: &str, binds: &[(&Volume, &str)]) -> Container {
        self.engine.start(Spec {
            binds: binds.iter().map(|(volume, at)| format!("{}:{at}", volume.name())).collect(),
            labels: self.labels(service),
            ..Spec::new(self.busybox.name(), ["sh", "-c", "exec sleep 3600"])
        })
    }

    /// A file of so many bytes in a volume.
    fn fill(&self, volume: &Volume, bytes: usize) {
        let source = self.sandbox.file(unique_name(), Random::new(bytes as u64).bytes(bytes));
        let spec = Spec {
            binds: vec![
                format!("{}:/data", volume.name()),
                format!("{}:/noise:ro", source.display()),
            ],
            ..Spec::new(self.busybox.name(), ["cp", "/noise", "/data/noise"])
        };
        self.engine.run(spec).expect_code(0);
    }

    fn digest(&self, volume: &Volume) -> String {
        let spec = Spec {
            binds: vec![format!("{}:/seen:ro", volume.name())],
            ..Spec::new(self.busybox.name(), ["sh", "-c", DIGEST, "sh", "/seen"])
        };
        self.engine.run(spec).expect_code(0).stdout_text()
    }

    fn inspect(&self, volume: &Volume) -> Inspected {
        let (docker, name) = (self.engine.docker().clone(), volume.name().to_owned());
        let found = wait(async move { docker.inspect_volume(&name).await }).unwrap();
        Inspected { created_at: None, status: None, ..found }
    }

    /// `restore --project P --json ARGS…`.
    fn restore(&self, args: &[&str]) -> Run {
        self.repo
            .run(["restore", "--json", "--project", self.project.as_str()])
            .args(args.iter().copied())
            .deadline(TIME_MAX)
    }

    /// Saves and returns the time of the snapshot, once what comes later has another one.
    fn save(&self, args: &[&str]) -> String {
        self.repo.create(args);
        let mut snapshots = self.repo.snapshots();
        snapshots.sort_by_key(|snapshot| text(snapshot, "time"));
        let time = text(snapshots.last().expect("a snapshot"), "time");
        let second =
            |time: &str| time.chars().take("2026-11-30T12:00:00".len()).collect::<String>();
        let now = || {
            let clock = std::time::SystemTime::now();
            i64::try_from(clock.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
        };
        let begun = now();
        until("the next second", || now() > begun);
        format!("{}Z", second(&time))
    }
}

fn objects(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn refused(finished: &Finished, words: &[&str]) {
    for word in words {
        assert_one_sentence(finished, WRONG_USAGE, &[&word.to_lowercase()]);
    }
}

#[test]
fn a_project_comes_back_as_it_was_before_a_bad_change() {
    let Some(scene) = Scene::new() else { return };
    let place = scene.sandbox.directory("device");
    let data = compose_volume(&scene, "data", None);
    let files = compose_volume(&scene, "files", Some(&place));
    let web = scene.service("web", &[(&data, "/data"), (&files, "/files")]);
    let proxy = scene.service("proxy", &[]);
    web.sh(FILL);
    let wanted = [&data, &files].map(|volume| (scene.digest(volume), scene.inspect(volume)));
    let good = scene.save(&["--volumes-from", web.name()]);
    web.sh("rm -r /data/sub /files/sub; echo bad > /data/noise; chmod 755 /data");
    scene.save(&["--volumes-from", web.name(), "--allow-change"]);

    // In use and there: nothing is touched, and both is said.
    let bad = scene.digest(&data);
    let finished = scene.restore(&["--as-of", &good]).finish();
    refused(&finished, &["is there already", &format!("in use by {}", web.name())]);
    assert_eq!(scene.digest(&data), bad);

    let web_name = web.name().to_owned();
    web.remove();
    data.destroy();
    files.destroy();
    // There is no volume, and its place has something: that is seen before the other one is restored.
    let finished = scene.restore(&["--as-of", &good]).finish().expect_code(WRONG_USAGE);
    let sentence = format!("the volume {}: the place that its options lead to", files.name());
    assert!(finished.stderr_text().contains(&sentence), "{finished}");
    assert!(!data.exists() && !files.exists(), "{finished}");
    fs::remove_dir_all(&place).unwrap();
    fs::create_dir(&place).unwrap();

    let answer = scene.restore(&["--as-of", &good, "--dry-run"]).succeed().last_json();
    let found: Vec<_> =
        objects(&answer["volumes"]).iter().map(|volume| text(volume, "target")).collect();
    assert_eq!(found, [data.name(), files.name()], "{answer}");
    assert!(!data.exists() && !files.exists(), "a dry run makes nothing");

    let answer = scene.restore(&["--as-of", &good]).succeed().last_json();
    for (volume, (digest, inspected)) in [&data, &files].iter().zip(&wanted) {
        assert_eq!(scene.digest(volume), *digest, "{}", volume.name());
        assert_eq!(scene.inspect(volume), *inspected);
    }
    let stack = &answer["stack"];
    assert_eq!(stack["files"], serde_json::json!(FILES), "{answer}");
    let services: Vec<_> = objects(&stack["services"])
        .iter()
        .map(|service| {
            [text(service, "service"), text(service, "container"), text(service, "image")]
        })
        .collect();
    let image = scene.busybox.name();
    assert_eq!(services, [["proxy", proxy.name(), image], ["web", &web_name, image]], "{answer}");
    assert!(text(&stack["services"][0], "image_id").starts_with("sha256:"), "{answer}");

    // What is there goes only when that is said; beside it there is room.
    refused(&scene.restore(&[]).finish(), &["--replace"]);
    let beside =
        [&data, &files].map(|volume| scene.engine.adopt_volume(&format!("try-{}", volume.name())));
    scene.restore(&["--as-of", &good, "--volume-prefix", "try-"]).succeed();
    for (volume, (digest, _)) in beside.iter().zip(&wanted) {
        assert_eq!(scene.digest(volume), *digest, "{}", volume.name());
    }
    scene.restore(&["--replace"]).succeed();
    assert_eq!(scene.digest(&data), bad, "without a time it is the newest");
}

#[test]
fn a_restore_that_breaks_says_what_is_back_and_what_is_not() {
    let Some(scene) = Scene::new() else { return };
    let volumes = ["a", "b", "c"].map(|name| compose_volume(&scene, name, None));
    for (volume, bytes) in volumes.iter().zip([1000, 900_000, 2000]) {
        scene.fill(volume, bytes);
        scene.save(&["--volume", volume.name()]);
    }
    let digests = [0, 1, 2].map(|number: usize| scene.digest(&volumes[number]));
    volumes.iter().for_each(Volume::destroy);
    let length = |pack: &PathBuf| fs::metadata(pack).unwrap().len();
    let pack = packs(&scene).into_iter().max_by_key(length).expect("a pack");
    let length = length(&pack);
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], length / 2).unwrap();

    let finished = scene.restore(&[]).finish().expect_code(FAILED);
    let stderr = finished.stderr_text();
    let [a, b, c] = [0, 1, 2].map(|number: usize| volumes[number].name());
    let sentence = format!("the volume {b} is not whole; back is {a}, not begun: {c}");
    assert!(stderr.contains(&sentence), "{finished}");
    let answer = finished.last_json();
    let outcomes: Vec<_> =
        objects(&answer["volumes"]).iter().map(|volume| text(volume, "outcome")).collect();
    assert_eq!(outcomes, ["restored", "failed", "untouched"], "{answer}");
    assert_eq!(scene.digest(&volumes[0]), digests[0]);
    assert!(!volumes[2].exists());
}

/// All packs of the repository.
fn packs(scene: &Scene) -> BTreeSet<PathBuf> {
    let folders = fs::read_dir(scene.sandbox.path("repo/packs")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn what_cannot_be_restored_refuses_before_anything_is_written() {
    let Some(scene) = Scene::new() else { return };
    let volumes = ["a", "b"].map(|name| compose_volume(&scene, name, None));
    scene.fill(&volumes[0], 3000);
    scene.save(&["--volume", volumes[0].name()]);
    let sound = packs(&scene);
    scene.fill(&volumes[1], 5000);
    scene.save(&["--volume", volumes[1].name()]);
    volumes.iter().for_each(Volume::destroy);
    let finished = scene.restore(&["--as-of", "2001-01-01"]).finish();
    refused(&finished, &["was saved and proved at or before 2001-01-01T23:59:59Z"]);
    refused(&scene.restore(&["--as-of", "teatime"]).finish(), &["teatime is no time"]);
    let finished = scene.repo.run(["restore", "--project", "no-such-project"]).finish();
    refused(&finished, &[&format!("there are those of {}", scene.project)]);
    // The one that is readable is not restored without the other.
    for pack in packs(&scene).difference(&sound) {
        let half = fs::metadata(pack).unwrap().len() / 2;
        let zeros = vec![0; usize::try_from(half).unwrap()];
        fs::OpenOptions::new().write(true).open(pack).unwrap().write_all_at(&zeros, 0).unwrap();
    }
    let finished = scene.restore(&[]).finish();
    let sentence = format!("the volume {} cannot be read from snapshot", volumes[1].name());
    assert_one_sentence(&finished, FAILED, &[&sentence]);
    assert!(volumes.iter().all(|volume| !volume.exists()), "{finished}");
}

#[test]
fn dumps_go_into_the_databases_that_run_when_asked_to() {
    let Some(scene) = Scene::new() else { return };
    let labelled = |spec: &mut Spec| spec.labels.extend(scene.labels("db"));
    let Some(first) = Database::start_with(&scene.engine, Kind::Redis, Secret::File, labelled)
    else {
        return;
    };
    first.wait_ready();
    let load = first.load();
    load.wait_past(100);
    let committed = first.last_number();
    scene.repo.run(["dump", "--container", first.container().name()]).deadline(TIME_MAX).succeed();
    let _last = load.stop();
    let uploads = compose_volume(&scene, "uploads", None);
    scene.fill(&uploads, 1000);
    scene.save(&["--volume", uploads.name()]);
    uploads.destroy();

    // The volume comes back, the dump is left, and the way to it is told.
    let finished = scene.restore(&[]).finish().expect_code(WARNINGS);
    assert!(uploads.exists());
    let left = &finished.last_json()["dumps_left"];
    assert!(text(&left[0], "reason").contains("--dumps"), "{left}");

    let refusal = scene.restore(&["--dumps"]).finish();
    refused(&refusal, &["--replace"]);
    first.container().stop();
    refused(&scene.restore(&["--dumps"]).finish(), &["the service db does not run"]);
    first.container().start();
    first.wait_ready();
    let dry = scene.restore(&["--dumps", "--replace", "--dry-run"]).succeed().last_json();
    assert_eq!(dry["dumps"][0]["outcome"], "possible", "{dry}");
    let answer = scene.restore(&["--dumps", "--replace"]).succeed().last_json();
    assert_eq!(answer["dumps"][0]["into"], first.container().name(), "{answer}");
    assert_eq!(answer["dumps"][0]["outcome"], "restored");
    assert_is_prefix(&first.numbers(), committed);
}
