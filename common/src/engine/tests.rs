use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::*;

/// The engine of this machine, or `None` with the reason printed; required where
/// `CHORES_REQUIRE_ENGINE=1`.
async fn engine() -> Option<Engine> {
    let host = std::env::var("DOCKER_HOST").ok();
    match Engine::connect(host.as_deref()).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            let is_required = std::env::var("CHORES_REQUIRE_ENGINE").is_ok_and(|set| set == "1");
            assert!(!is_required, "{error}");
            eprintln!("not tested here: {error}");
            None
        }
    }
}

fn unique(name: &str) -> String {
    format!("chores-common-{name}-{:016x}", getrandom::u64().unwrap())
}

#[tokio::test]
async fn a_missing_socket_is_one_clear_sentence() {
    let error = Engine::connect(Some("unix:///nowhere/docker.sock")).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        "cannot reach the container engine at /nowhere/docker.sock: \
         there is no such socket; mount it, or set DOCKER_HOST to where it is"
    );
}

#[tokio::test]
async fn a_socket_without_an_engine_is_one_clear_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Engine::connect(path.to_str()).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Unreachable);
    assert!(error.to_string().contains(": nothing listens there; start the engine"), "{error}");
}

#[tokio::test]
async fn what_the_engine_does_not_have_is_named() {
    let Some(engine) = engine().await else { return };
    engine.ping().await.unwrap();
    assert!(!engine.version().await.unwrap().api.is_empty());
    let error = engine.inspect_container("no-such-one").await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "cannot inspect the container no-such-one: there is no such container"
    );
    let error = engine.inspect_volume("no-such-one").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot inspect the volume no-such-one: there is no such volume");
    assert!(!engine.image_exists("chores.invalid/no-such:one").await.unwrap());
    assert_eq!(engine.image_labels("chores.invalid/no-such:one").await.unwrap(), None);
    let error = engine.start("no-such-one").await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::NotFound);
    let error = engine.inspect_container("../images/json?x=").await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Invalid);
    engine.remove("no-such-one", true).await.unwrap();
    engine.remove_volume("no-such-one").await.unwrap();
    engine.remove_image("chores.invalid/no-such:one").await.unwrap();
}

#[tokio::test]
async fn a_volume_keeps_its_labels_and_options() {
    let Some(engine) = engine().await else { return };
    let name = unique("volume");
    let label = format!("chores.test={name}");
    let new = NewVolume {
        name: Some(name.clone()),
        labels: [("chores.test".to_owned(), name.clone())].into(),
        options: [
            ("type".to_owned(), "tmpfs".to_owned()),
            ("device".to_owned(), "tmpfs".to_owned()),
        ]
        .into(),
        ..NewVolume::default()
    };
    let created = engine.create_volume(&new).await.unwrap();
    let inspected = engine.inspect_volume(&name).await.unwrap();
    let listed = engine.list_volumes(&[label]).await.unwrap();
    engine.remove_volume(&name).await.unwrap();
    assert_eq!(created, inspected);
    assert_eq!(listed, std::slice::from_ref(&inspected));
    assert_eq!(inspected.driver, "local");
    assert_eq!(inspected.labels, new.labels);
    assert_eq!(inspected.options, new.options);
    assert!(inspected.mountpoint.is_absolute());
}

/// The whole life of a worker: an image of one static program, a secret put before the start, the
/// volumes of another container, framed output and an exit code.
#[tokio::test]
async fn a_worker_reads_a_secret_and_another_containers_volume() {
    let Some(engine) = engine().await else { return };
    let Ok(busybox) = std::fs::read("/bin/busybox") else {
        eprintln!("not tested here: /bin/busybox (package busybox-static) is not installed");
        return;
    };
    let tag = format!("{}:test", unique("image"));
    let (target, worker) = (unique("target"), unique("worker"));
    engine.build_image(&tag, context(&busybox)).await.unwrap();
    // As a task, so that what it made is removed even when an assertion in it fails.
    let outcome = {
        let (engine, tag) = (engine.clone(), tag.clone());
        let (target, worker) = (target.clone(), worker.clone());
        tokio::spawn(async move { run_worker(&engine, &tag, &target, &worker).await }).await
    };
    for name in [&worker, &target] {
        engine.remove(name, true).await.unwrap();
    }
    engine.remove_image(&tag).await.unwrap();
    let (output, after_exit, code) = outcome.unwrap().unwrap();
    assert_eq!(code, 7);
    assert_eq!(output, after_exit);
    assert!(output.contains(&"Stdout 400 hunter2\n".to_owned()), "{output:?}");
    assert!(output.contains(&"Stderr from the volume\n".to_owned()), "{output:?}");
    assert!(output.contains(&"Stdout read-only\n".to_owned()), "{output:?}");
}

type Outcome = (Vec<String>, Vec<String>, i64);

async fn run_worker(
    engine: &Engine,
    tag: &str,
    target: &str,
    worker: &str,
) -> Result<Outcome, EngineError> {
    let shell = |script: &str| ["/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
    let data = MountSpec {
        source: MountSource::AnonymousVolume,
        target: "/data".into(),
        read_only: false,
    };
    let target_spec = ContainerSpec {
        name: Some(target.to_owned()),
        image: tag.to_owned(),
        command: shell("echo from the volume > /data/file; exec /busybox sleep 600"),
        mounts: vec![data],
        labels: [("chores.test".to_owned(), target.to_owned())].into(),
        network: Some("none".to_owned()),
        ..ContainerSpec::default()
    };
    engine.create_container(&target_spec).await?;
    engine.start(target).await?;
    let inspected = engine.inspect_container(target).await?;
    assert!(inspected.running && !inspected.paused);
    assert_eq!(inspected.name, target);
    assert_eq!(inspected.image_ref, tag);
    let [mount] = inspected.mounts.as_slice() else { panic!("{:?}", inspected.mounts) };
    assert_eq!((mount.kind, mount.read_write), (MountKind::Volume, true));
    assert_eq!(mount.destination, std::path::Path::new("/data"));
    let filter = ContainerFilter { labels: vec![format!("chores.test={target}")], all: false };
    let listed = engine.list_containers(&filter).await?;
    assert_eq!(listed.iter().map(|one| one.state).collect::<Vec<_>>(), [ContainerState::Running]);

    // The target may not have written yet, so the worker waits for the file.
    let script = "until [ -s /data/file ]; do /busybox usleep 10000; done; \
                  echo $(/busybox stat -c %a /run/secret/key) $(/busybox cat /run/secret/key); \
                  /busybox cat /data/file >&2; \
                  2>/dev/null > /data/new || echo read-only; exit 7";
    let worker_spec = ContainerSpec {
        name: Some(worker.to_owned()),
        image: tag.to_owned(),
        command: shell(script),
        volumes_from: vec![VolumesFrom { container: target.to_owned(), read_only: true }],
        mounts: vec![MountSpec {
            source: MountSource::AnonymousVolume,
            target: "/run/secret".into(),
            read_only: false,
        }],
        capabilities: vec!["DAC_READ_SEARCH".to_owned()],
        network: Some("none".to_owned()),
        read_only_root: true,
        memory_bytes_max: Some(64 * 1024 * 1024),
        ..ContainerSpec::default()
    };
    engine.create_container(&worker_spec).await?;
    let conflict = engine.create_container(&worker_spec).await.unwrap_err();
    assert_eq!(conflict.kind(), EngineErrorKind::Conflict);
    let secret =
        PutFile { path: "key".into(), mode: 0o400, content: Zeroizing::new(b"hunter2".to_vec()) };
    engine.put_files(worker, "/run/secret", &[secret]).await?;
    let mut stream = engine.follow_logs(worker)?;
    engine.start(worker).await?;
    let mut output = Vec::new();
    while let Some(frame) = stream.next().await {
        output.push(shown(&frame?));
    }
    output.sort();
    let code = engine.wait(worker).await?;
    let mut after_exit: Vec<String> =
        engine.logs_after_exit(worker, 1 << 20).await?.iter().map(shown).collect();
    after_exit.sort();
    engine.stop(target, Duration::from_secs(0)).await?;
    engine.stop(target, Duration::from_secs(0)).await?;
    Ok((output, after_exit, code))
}

fn shown(frame: &LogFrame) -> String {
    format!("{:?} {}", frame.source, String::from_utf8_lossy(&frame.bytes))
}

fn context(busybox: &[u8]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, content) in [
        ("Dockerfile", 0o644, &b"FROM scratch\nCOPY busybox /busybox\n"[..]),
        ("busybox", 0o755, busybox),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap().into()
}
