use super::*;
use crate::images;
use crate::sandbox::Sandbox;

#[test]
fn a_container_runs_and_leaves_nothing_behind() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let output =
        engine.run(Spec::new(image.name(), ["sh", "-c", "echo out; echo err >&2; exit 4"]));
    assert_eq!(
        (output.code, output.stdout.as_slice(), output.stderr.as_slice()),
        (4, &b"out\n"[..], &b"err\n"[..])
    );
}

#[test]
fn exec_returns_output_and_exit_code() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let container = engine.start(Spec::new(image.name(), ["sleep", "1000"]));
    let output = container.exec(["sh", "-c", "head -c 300000 /dev/zero; exit 9"]);
    assert_eq!((output.code, output.stdout.len()), (9, 300_000));
    container.kill();
}

#[test]
fn volumes_outlive_containers_and_end_with_their_guard() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let volume = engine.volume();
    let write = Spec {
        binds: vec![format!("{}:/data", volume.name())],
        ..Spec::new(image.name(), ["sh", "-c", "echo kept > /data/file"])
    };
    engine.run(write).expect_code(0);
    let read = Spec {
        binds: vec![format!("{}:/data:ro", volume.name())],
        ..Spec::new(image.name(), ["cat", "/data/file"])
    };
    assert_eq!(engine.run(read).expect_code(0).stdout_text(), "kept\n");
    let name = volume.name().to_owned();
    drop(volume);
    assert!(!engine.adopt_volume(&name).exists());
}

#[test]
fn a_bind_mount_shows_the_host_directory() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    sandbox.file("note", "seen");
    let spec = Spec {
        binds: vec![format!("{}:/host:ro", sandbox.root().display())],
        ..Spec::new(image.name(), ["cat", "/host/note"])
    };
    assert_eq!(engine.run(spec).expect_code(0).stdout_text(), "seen");
}

#[test]
fn containers_of_a_network_find_each_other_by_name() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let network = engine.network();
    let on_network = |command: &[&str]| Spec {
        network: network.name().to_owned(),
        ..Spec::new(image.name(), command.iter().copied())
    };
    let server =
        engine.start(on_network(&["sh", "-c", "while true; do echo hello | nc -l -p 7000; done"]));
    let script = format!("until nc {} 7000 </dev/null; do :; done", server.name());
    let output = engine.run(on_network(&["timeout", "20", "sh", "-c", &script])).expect_code(0);
    assert_eq!(output.stdout_text(), "hello\n");
}

#[test]
fn everything_carries_the_label_of_its_owner() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let container = engine.create(Spec::new(image.name(), ["true"]));
    let labels = container.inspect().config.unwrap().labels.unwrap();
    assert!(janitor::Owner::from_label(&labels[janitor::OWNER_LABEL]).is_some());
}

#[test]
fn the_janitor_removes_what_a_dead_process_left() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let name = unique_name();
    let (docker, body_image) = (engine.docker().clone(), image.name().to_owned());
    let made = name.clone();
    wait(async move {
        let dead =
            HashMap::from([(janitor::OWNER_LABEL.to_owned(), "earlier-boot/x/1/1".to_owned())]);
        let body = ContainerCreateBody {
            image: Some(body_image),
            cmd: Some(vec!["true".to_owned()]),
            labels: Some(dead),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions { name: Some(made), ..Default::default() };
        docker.create_container(Some(options), body).await.unwrap();
        janitor::sweep(&docker).await;
    });
    let docker = engine.docker().clone();
    let found =
        wait(async move { docker.inspect_container(&name, None::<InspectContainerOptions>).await });
    assert!(found.is_err());
}
