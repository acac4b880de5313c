//! The gateway as operators run it: in a container of its own with the documented flags and no others.

use std::path::Path;
use std::time::Duration;

use bollard::models::{HostConfig, HostConfigCgroupnsModeEnum};
use e2e::engine::{Container, Engine, Spec, connect};
use e2e::images;
use e2e::process::Run;
use e2e::sandbox::Sandbox;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, wait_until};

use crate::ssh::{ANSWER_TIME_MAX, BINARY, PROBE};
use crate::tool::WARNINGS;

/// What `/sys/fs/cgroup` of the host is called in the gateway's container.
const CGROUPS: &str = "/sys/fs/cgroup:/host/cgroup";

/// Where this machine's engine keeps the specifications of its containers.
const BUNDLES: &str =
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby:/bundles:ro";

/// The engine, for questions only.
const ENGINE: &str = "/var/run/docker.sock:/var/run/docker.sock:ro";

/// Every capability the gateway needs: those it works with, and those it gives to root in a container.
const CAPABILITIES: [&str; 16] = [
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// `docker run` of the gateway with the documented flags.
fn gateway(image: &str, command: &[&str]) -> Spec {
    Spec {
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        binds: [CGROUPS, BUNDLES, ENGINE].map(str::to_owned).to_vec(),
        host: HostConfig {
            cap_drop: Some(vec!["ALL".to_owned()]),
            pid_mode: Some("host".to_owned()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::HOST),
            readonly_rootfs: Some(true),
            security_opt: Some(vec![
                "seccomp=unconfined".to_owned(),
                "apparmor=unconfined".to_owned(),
            ]),
            ..HostConfig::default()
        },
        ..Spec::new(image, command.iter().copied())
    }
}

/// The gateway's image, or the reason why this cannot be tested here.
fn image(engine: &Engine) -> Option<std::sync::Arc<images::Image>> {
    if !rustix::process::geteuid().is_root() {
        e2e::notice!("skipped: only root can see where the engine keeps its specifications");
        return None;
    }
    let (directory, _) = BUNDLES.split_once(':')?;
    if !Path::new(directory).is_dir() {
        e2e::notice!("skipped: this engine keeps no specifications in {directory}");
        return None;
    }
    Some(images::sidecar(engine, "ssh-gateway", Path::new(BINARY)))
}

fn address(container: &Container) -> String {
    let networks = container.inspect().network_settings.and_then(|settings| settings.networks);
    networks
        .and_then(|networks| networks.into_values().find_map(|network| network.ip_address))
        .expect("the container has an address")
}

#[test]
fn the_documented_flags_are_enough() {
    let Some(engine) = connect() else { return };
    let Some(image) = image(&engine) else { return };
    let Some(target_image) = images::ssh_target(&engine, Path::new(PROBE)) else { return };
    let target = engine.start(Spec::new(target_image.name(), ["/probe", "hold"]));
    let bare_image = images::ssh_scratch(&engine, Path::new(PROBE));
    let bare = engine.start(Spec::new(bare_image.name(), ["/probe", "hold"]));
    let sandbox = Sandbox::new();
    let key = sandbox.path("key");
    Run::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).succeed();
    let state = sandbox.directory("state");
    let mut spec = gateway(
        image.name(),
        &[
            "serve",
            "--state",
            "/state",
            "--authorized-keys",
            "/keys/authorized_keys",
            "--mode",
            "native",
        ],
    );
    spec.binds.push(format!("{}:/state", state.display()));
    let keys = sandbox.directory("keys");
    std::fs::copy(sandbox.path("key.pub"), keys.join("authorized_keys")).expect("copies the key");
    spec.binds.push(format!("{}:/keys:ro", keys.display()));
    let sidecar = engine.start(spec);
    wait_until(Duration::from_secs(60), "it listens", || {
        let (stdout, stderr) = sidecar.logs();
        let said = [stdout, stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains("listening") { Ok(()) } else { Err(said) }
    });
    let ssh = |login: &str| {
        Run::new("ssh")
            .args([
                "-F",
                "none",
                "-p",
                "2222",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"])
            .arg(&key)
            .arg(format!("{login}@{}", address(&sidecar)))
            .deadline(ANSWER_TIME_MAX)
    };
    let said =
        ssh(target.name()).args(["-tt", "echo in; tty; test -d /state || echo elsewhere"]).finish();
    assert_eq!(said.code(), Some(0), "{said}\n{:?}", sidecar.logs());
    assert_eq!(said.stdout_text().replace('\r', ""), "in\n/dev/pts/0\nelsewhere\n", "{said}");
    // What root has in the container, root has.
    let mine = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| ["Cap", "Sec", "NoN"].iter().any(|start| line.starts_with(start)))
            .map(str::to_owned)
            .collect()
    };
    let ours = ssh(target.name()).arg("cat /proc/self/status").finish();
    let engines = target.sh("cat /proc/self/status");
    assert_eq!(mine(&ours.stdout_text()), mine(&engines.stdout_text()));
    // The image has programs for those that have none.
    let said = ssh(bare.name()).arg("echo in; ls /probe; rsync --version | head -c 5").finish();
    assert_eq!(said.stdout_text(), "in\n/probe\nrsync", "{said}");
    // Whoever entered it would be root of the host.
    let refused = ssh(sidecar.name()).arg("true").finish();
    assert_eq!(refused.code(), Some(255), "{refused}");
    assert!(refused.stderr_text().contains("there is no container"), "{refused}");
    sidecar.stop();
    let end = sidecar.inspect().state.and_then(|state| state.exit_code);
    assert_eq!(end, Some(0), "{:?}", sidecar.logs());
    wait_until(CLEAN_UP_TIME_MAX, "no cgroup is left", || {
        let left = e2e::ssh_gateway::session_groups(target.id());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Whether a doctor finds no fault but with containers of others: those of other tests come and go, and may have more
/// capabilities than the gateway.
fn is_content(code: i64, said: &str, own: &str) -> bool {
    let is_fault = |line: &str| {
        let is_others = line.starts_with("warn  container ") && !line.contains(own);
        !line.is_empty() && !line.starts_with("ok ") && !line.starts_with(' ') && !is_others
    };
    code == 0 || (code == i64::from(WARNINGS) && !said.lines().any(is_fault))
}

#[test]
fn doctor_is_content_with_the_documented_flags_and_names_what_is_missing() {
    let Some(engine) = connect() else { return };
    let Some(image) = image(&engine) else { return };
    let Some(target_image) = images::ssh_target(&engine, Path::new(PROBE)) else { return };
    let target = engine.start(Spec::new(target_image.name(), ["/probe", "hold"]));
    let doctor = |spec: Spec| {
        let output = engine.run(spec);
        let said = format!("{}{}", output.stdout_text(), String::from_utf8_lossy(&output.stderr));
        (output.code, said)
    };
    let whole = || gateway(image.name(), &["doctor", target.name()]);
    let (code, said) = doctor(whole());
    assert!(is_content(code, &said, target.name()), "{said}");
    let without_capability = |name: &str| {
        let mut spec = whole();
        spec.capabilities.retain(|capability| capability != name);
        spec
    };
    let without_bind = |start: &str| {
        let mut spec = whole();
        spec.binds.retain(|bind| !bind.starts_with(start));
        spec
    };
    // They are found through the engine's own root directory, where that may be looked at.
    let (code, said) = doctor(without_bind("/run/docker/"));
    assert!(is_content(code, &said, target.name()), "{said}");
    let mut without_bundles_and_tracing = without_bind("/run/docker/");
    without_bundles_and_tracing.capabilities.retain(|capability| capability != "SYS_PTRACE");
    let mut without_pid = whole();
    without_pid.host.pid_mode = None;
    let mut with_seccomp = whole();
    with_seccomp.host.security_opt = Some(vec!["apparmor=unconfined".to_owned()]);
    for (spec, word) in [
        (without_pid, "--pid=host"),
        (with_seccomp, "seccomp=unconfined"),
        (without_capability("SYS_ADMIN"), "SYS_ADMIN"),
        (without_capability("SYS_PTRACE"), "SYS_PTRACE"),
        (without_capability("NET_RAW"), "NET_RAW"),
        (without_bind("/sys/fs/cgroup"), "/host/cgroup"),
        (without_bundles_and_tracing, "/bundles"),
        (without_bind("/var/run/docker.sock"), "docker.sock"),
    ] {
        let (code, said) = doctor(spec);
        assert_ne!(code, 0, "without {word}: {said}");
        assert!(said.contains(word), "without {word}: {said}");
    }
}
