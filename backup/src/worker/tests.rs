//! The whole way through the engine, with a shell script in the place of our program.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use chores_common::engine::{
    ContainerFilter, ContainerSpec, EngineErrorKind, MountSource, MountSpec, NewVolume,
};
use chores_common::secret::Secret;

use super::*;

/// Says what it was told and what it may do.
const SCRIPT: &str = r#"#!/bin/busybox sh
PATH=/bin
echo "args $*"
echo "told $BACKUP_SOURCE_JSON"
[ -z "$AWS_SECRET_ACCESS_KEY_FILE" ] || echo "secret $(busybox cat "$AWS_SECRET_ACCESS_KEY_FILE")"
case "$*" in
  *" create "*)
    busybox cat /data/private
    busybox touch /data/new 2>/dev/null || echo "source is read-only"
    busybox touch /new 2>/dev/null || echo "root is read-only"
    [ ! -d /repo ] || { echo stored > /repo/stored && echo "repository is writable"; }
    case "$*" in *--wait*) trap 'echo stopping; exit 130' TERM; while :; do busybox usleep 10000; done;; esac
    i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo "line $i"; done
    printf 'the last one'
    exit 3;;
  *" restore "*)
    busybox touch /repo/new 2>/dev/null || echo "repository is read-only"
    echo restored > /volume/file
    busybox chown 999:999 /volume/file && busybox chmod 6750 /volume/file
    busybox mknod /volume/null c 1 3
    busybox stat -c '%a %u' /volume/file;;
esac
"#;

/// What a test made, by names that nobody else uses.
struct Scene {
    engine: Engine,
    id: String,
    image: String,
    repository: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").ok();
        let engine = match Engine::connect(host.as_deref()).await {
            Ok(engine) => engine,
            Err(error) => {
                let is_required =
                    std::env::var("CHORES_REQUIRE_ENGINE").is_ok_and(|set| set == "1");
                assert!(!is_required, "{error}");
                eprintln!("not tested here: {error}");
                return None;
            }
        };
        let Ok(busybox) = std::fs::read("/bin/busybox") else {
            eprintln!("not tested here: /bin/busybox (package busybox-static) is not installed");
            return None;
        };
        let id = format!("chores-worker-{:016x}", getrandom::u64().unwrap());
        let image = format!("{id}:test");
        engine.build_image(&image, context(&id, &busybox)).await.unwrap();
        Some(Self { engine, id, image, repository: tempfile::tempdir().unwrap() })
    }

    fn options(&self) -> WorkerOptions {
        WorkerOptions {
            image: Some(self.image.clone()),
            repository: Location::Directory(self.repository.path().to_owned()),
            s3: S3Settings::default(),
            cache_dir: None,
            cache_dir_default: None,
            network: None,
            keys: WorkerKeys::default(),
            memory_bytes_max: Some(64 << 20),
            dumps: Vec::new(),
        }
    }

    /// A service with a private file of another user in its volume.
    async fn start_service(&self) {
        let script = "echo from the service > /data/private; busybox chown 999:999 /data/private; \
                      busybox chmod 600 /data/private; exec busybox sleep 600";
        let spec = ContainerSpec {
            name: Some(self.id.clone()),
            image: self.image.clone(),
            entrypoint: Some(["/bin/busybox", "sh", "-c"].map(str::to_owned).to_vec()),
            command: vec![format!("PATH=/bin; {script}")],
            mounts: vec![MountSpec {
                source: MountSource::Volume(self.id.clone()),
                target: "/data".into(),
                read_only: false,
            }],
            keep_default_capabilities: true,
            network: Some("none".to_owned()),
            ..ContainerSpec::default()
        };
        self.engine.create_container(&spec).await.unwrap();
        self.engine.start(&self.id).await.unwrap();
        let volume = self.engine.inspect_volume(&self.id).await.unwrap();
        let private = volume.mountpoint.join("private");
        let is_private = || {
            let metadata = private.metadata();
            metadata.is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600)
        };
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !is_private() {
            assert!(std::time::Instant::now() < until, "the service does not write");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn back_up(&self, options: &WorkerOptions, args: &[&str]) -> (Lines, Status) {
        let target = Target::VolumesFrom(self.id.clone());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let is_stopped = args.contains(&"--wait");
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut lines = Vec::new();
        let mut on_line = |line: &str| {
            if is_stopped && line == "repository is writable" {
                stop.request();
            }
            lines.push(line.to_owned());
        };
        let status = back_up(&self.engine, options, &target, args, &shutdown, &mut on_line).await;
        (lines, status)
    }

    async fn restore(&self, target: &VolumeTarget) -> (Lines, Status) {
        let mut lines = Vec::new();
        let status = restore_volume(
            &self.engine,
            &self.options(),
            target,
            vec!["latest".to_owned()],
            &Shutdown::new(),
            &mut |line| lines.push(line.to_owned()),
        )
        .await;
        (lines, status)
    }

    async fn workers(&self) -> usize {
        let filter =
            ContainerFilter { labels: vec!["chores.backup.worker=1".to_owned()], all: true };
        let listed = self.engine.list_containers(&filter).await.unwrap();
        listed.iter().filter(|worker| worker.image_ref == self.image).count()
    }

    async fn remove(self) {
        for name in [&self.id, &format!("{}-left", self.id)] {
            self.engine.remove(name, true).await.unwrap();
        }
        for name in [&self.id, &format!("{}-new", self.id)] {
            self.engine.remove_volume(name).await.unwrap();
        }
        self.engine.remove_image(&self.image).await.unwrap();
    }
}

type Lines = Vec<String>;
type Status = Result<i64, WorkerError>;

/// Runs a test as a task, so that what it made is removed even when an assertion in it fails.
async fn play<F, T>(test: F)
where
    F: FnOnce(std::sync::Arc<Scene>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let Some(scene) = Scene::new().await else { return };
    let scene = std::sync::Arc::new(scene);
    let outcome = tokio::spawn(test(scene.clone())).await;
    let scene = std::sync::Arc::into_inner(scene).expect("the test has ended");
    scene.remove().await;
    outcome.unwrap();
}

#[tokio::test]
async fn a_worker_reads_everything_writes_only_the_repository_and_loses_no_line() {
    play(|scene| async move {
        scene.start_service().await;
        let (lines, status) = scene.back_up(&scene.options(), &["--json"]).await;
        assert_eq!(status.unwrap(), 3);
        assert_eq!(lines[0], "args --repo /repo create --json -- /data");
        let told = lines[1].strip_prefix("told ").unwrap();
        let told = SourceInfo::from_env_text(told).unwrap();
        assert_eq!(told.container.as_ref().unwrap().name, scene.id);
        assert_eq!(told.host, host_name());
        let volume = told.source_at("/data").volume.unwrap();
        assert_eq!((volume.name.as_str(), volume.driver.as_str()), (scene.id.as_str(), "local"));
        let said = [
            "from the service",
            "source is read-only",
            "root is read-only",
            "repository is writable",
        ];
        assert_eq!(lines[2..6], said);
        let counted: Vec<String> = (1..=500).map(|number| format!("line {number}")).collect();
        assert_eq!(lines[6..506], counted);
        assert_eq!(lines[506..], ["the last one"]);
        assert!(scene.repository.path().join("stored").exists());
        assert_eq!(scene.workers().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_request_to_stop_reaches_the_worker_and_its_own_status_comes_back() {
    play(|scene| async move {
        scene.start_service().await;
        let (lines, status) = scene.back_up(&scene.options(), &["--wait"]).await;
        assert_eq!(status.unwrap(), 130);
        assert_eq!(lines.last().unwrap(), "stopping");
        assert_eq!(scene.workers().await, 0);
    })
    .await;
}

#[tokio::test]
async fn secrets_come_as_files() {
    play(|scene| async move {
        scene.start_service().await;
        let options = WorkerOptions {
            repository: Location::parse("s3://bucket/web").unwrap(),
            s3: S3Settings {
                endpoint: Some("http://127.0.0.1:1".to_owned()),
                access_key: Some("AKIA".to_owned()),
                secret_key: Some(Secret::new("hunter2".to_owned())),
                ..S3Settings::default()
            },
            network: Some("none".to_owned()),
            ..scene.options()
        };
        let (lines, status) = scene.back_up(&options, &[]).await;
        assert_eq!(status.unwrap(), 3);
        assert!(lines.contains(&"secret hunter2".to_owned()), "{lines:?}");
    })
    .await;
}

#[tokio::test]
async fn a_volume_is_made_again_with_its_labels_and_written() {
    play(|scene| async move {
        let name = format!("{}-new", scene.id);
        let recorded = SourceVolume {
            kind: "volume".to_owned(),
            name: name.clone(),
            driver: "local".to_owned(),
            labels: [("team".to_owned(), "web".to_owned())].into(),
            options: BTreeMap::new(),
        };
        let target = VolumeTarget {
            name: name.clone(),
            recorded: Some(recorded),
            force: false,
            dry_run: true,
        };
        assert_eq!(scene.restore(&target).await.1.unwrap(), 1, "the volume is read-only");
        let error = scene.engine.inspect_volume(&name).await.unwrap_err();
        assert_eq!(error.kind(), EngineErrorKind::NotFound, "a dry run leaves nothing behind");

        let (lines, status) = scene.restore(&VolumeTarget { dry_run: false, ..target }).await;
        assert_eq!(status.unwrap(), 0);
        let args =
            format!("args --repo /repo restore latest --as-volume={name} --strip --target /volume");
        assert_eq!(lines[0], args);
        assert_eq!(lines[2..], ["repository is read-only", "6750 999"]);
        let volume = scene.engine.inspect_volume(&name).await.unwrap();
        assert_eq!(volume.labels["team"], "web");
        let null = volume.mountpoint.join("null").metadata().unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&null.file_type()));
    })
    .await;
}

#[tokio::test]
async fn a_volume_in_use_is_restored_only_by_force() {
    play(|scene| async move {
        scene.start_service().await;
        let target =
            VolumeTarget { name: scene.id.clone(), recorded: None, force: false, dry_run: false };
        let error = scene.restore(&target).await.1.unwrap_err().to_string();
        let (id, start) = (&scene.id, format!("the volume {} is in use by ", scene.id));
        assert_eq!(
            error,
            format!("{start}{id}: stop them first, or add --force to restore under their feet")
        );
        let forced = scene.restore(&VolumeTarget { force: true, ..target }).await;
        assert_eq!(forced.1.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_not_made() {
    play(|scene| async move {
        let missing = format!("{}-typo", scene.id);
        let backed_up = |options: WorkerOptions, target| {
            let engine = scene.engine.clone();
            async move {
                let shutdown = Shutdown::new();
                let outcome =
                    back_up(&engine, &options, &target, Vec::new(), &shutdown, &mut |_| ()).await;
                outcome.unwrap_err().to_string()
            }
        };
        let volume = Target::Volumes(vec![missing.clone()]);
        let error = backed_up(scene.options(), volume).await;
        assert_eq!(error, format!("cannot inspect the volume {missing}: there is no such volume"));
        assert!(scene.engine.inspect_volume(&missing).await.is_err());
        let error = backed_up(scene.options(), Target::VolumesFrom(missing.clone())).await;
        assert!(error.contains("there is no such container"), "{error}");

        let new = NewVolume { name: Some(scene.id.clone()), ..NewVolume::default() };
        scene.engine.create_volume(&new).await.unwrap();
        let options = WorkerOptions { image: Some(missing.clone()), ..scene.options() };
        let error = backed_up(options, Target::Volumes(vec![scene.id.clone()])).await;
        assert!(error.starts_with(&format!("the engine has no image {missing} for")), "{error}");
        assert!(error.contains("make images") && error.contains("--worker-image"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_ended_worker_of_a_dead_parent_is_removed_by_the_next_run() {
    play(|scene| async move {
        scene.start_service().await;
        let ours = Parent::this(None);
        // A process of this place that cannot be: it has our id and another start.
        let label = ours.to_label().replace("\"start\":", "\"start\":1");
        let left = ContainerSpec {
            name: Some(format!("{}-left", scene.id)),
            image: scene.image.clone(),
            labels: [("chores.backup.worker", "1"), ("chores.backup.parent", &label)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..ContainerSpec::default()
        };
        scene.engine.create_container(&left).await.unwrap();
        assert_eq!(scene.workers().await, 1);
        assert_eq!(scene.back_up(&scene.options(), &[]).await.1.unwrap(), 3);
        assert_eq!(scene.workers().await, 0);
    })
    .await;
}

fn context(id: &str, busybox: &[u8]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    // The label comes first: images with common layers cannot be removed while others are built.
    let recipe = format!(
        "FROM scratch\nLABEL test={id}\nCOPY busybox /bin/busybox\nCOPY backup /backup\n\
         ENTRYPOINT [\"/backup\"]\n"
    );
    for (name, mode, content) in [
        ("Dockerfile", 0o644, recipe.as_bytes()),
        ("busybox", 0o755, busybox),
        ("backup", 0o755, SCRIPT.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap().into()
}

#[test]
fn a_new_volume_is_kept_only_when_something_was_restored() {
    let line = r#"{"event":"progress","bytes":1}"#;
    assert!(!is_answer(line));
    assert!(is_answer("restored 0123456789ab to the volume data"));
    assert!(is_answer(r#"{"damaged_count":1,"event":"summary"}"#));
    for status in [1, 2, 130] {
        assert!(is_untouched(&Ok(status), false), "{status}");
    }
    assert!(!is_untouched(&Ok(1), true));
    assert!(!is_untouched(&Ok(0), false));
}
