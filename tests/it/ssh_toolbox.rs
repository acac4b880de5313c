//! Images without a shell: sessions in them have one all the same, and nobody else sees it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;

use bollard::models::HostConfig;
use e2e::engine::{Container, Spec, connect};
use e2e::images;
use e2e::process::Run;
use e2e::sandbox::{Sandbox, unique_name};
use e2e::second_engine::SecondEngine;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, Gateway, MAIN_KEY, Setup, program, wait_until};

use crate::ssh::{ANSWER_TIME_MAX, BINARY, PROBE, Scene, line};

/// Where sessions have it.
const PLACE: &str = "/proc/fs/nfsd";

/// A container with one program and nothing else, and a gateway with a toolbox.
fn bare(
    of_container: impl FnOnce(Spec) -> Spec,
    of_gateway: impl FnOnce(Setup) -> Setup,
) -> Option<Scene> {
    let engine = connect()?;
    let setup = Setup::new(BINARY)?.arg("--toolbox").arg(images::toolbox()?);
    let image = images::ssh_scratch(&engine, Path::new(PROBE));
    let container = engine.start(of_container(Spec::new(image.name(), ["/probe", "hold"])));
    let gateway = of_gateway(setup).start();
    Some(Scene { gateway, container, image, engine })
}

/// The same with busybox in the image, which has no rsync.
fn with_shell(of_container: impl FnOnce(Spec) -> Spec) -> Option<Scene> {
    let toolbox = images::toolbox()?;
    Scene::new(of_container, |setup| setup.arg("--toolbox").arg(toolbox))
}

/// Nothing of the image can be written, and nobody is root.
fn strict(spec: Spec) -> Spec {
    let tmpfs = HashMap::from([("/tmp".to_owned(), "size=16m,mode=1777".to_owned())]);
    let host = HostConfig {
        readonly_rootfs: Some(true),
        tmpfs: Some(tmpfs),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        ..spec.host
    };
    Spec { user: Some("1000:1000".to_owned()), host, ..spec }
}

/// The number of the first process of a container.
fn first_process(container: &Container) -> i64 {
    container.inspect().state.and_then(|state| state.pid).expect("it runs")
}

/// What the gateway has written about toolboxes into its audit.
fn audited(gateway: &Gateway) -> String {
    let directory = gateway.sandbox().path("state/audit");
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let text: String = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    let is_about = |line: &&str| line.contains(r#""event":"toolbox""#);
    text.lines().filter(is_about).map(|line| format!("{line}\n")).collect()
}

/// How a container differs from an ordinary one, and the id of its user.
type Shape = (fn(Spec) -> Spec, &'static str);

#[test]
fn an_image_with_nothing_in_it_has_a_shell_in_sessions() {
    let shapes: [Shape; 2] = [(|spec| spec, "0"), (strict, "1000")];
    for (shape, user) in shapes {
        let Some(scene) = bare(shape, |setup| setup) else { return };
        let script = "echo $SHELL; test -e /bin/sh || echo bare; ls / | grep -x probe; echo $PATH";
        let path =
            format!("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{PLACE}/bin");
        assert_eq!(line(&scene.sh(script)), format!("{PLACE}/bin/sh\nbare\nprobe\n{path}"));
        assert_eq!(line(&scene.sh("id -u; id -g")), format!("{user}\n{user}"));
        // A login shell on a terminal of the container.
        let said = scene
            .ssh()
            .arg("-tt")
            .stdin("tty; echo shown-$((6 * 7)); exit 3\n")
            .deadline(ANSWER_TIME_MAX)
            .finish();
        assert_eq!(said.code(), Some(3), "{said}");
        for word in ["/dev/pts/0", "shown-42"] {
            assert!(said.stdout_text().contains(word), "{said}");
        }
        // Nothing that it was made with is open in it: the fourth is the directory that is listed.
        assert_eq!(line(&scene.sh("ls /proc/self/fd")), "0\n1\n2\n3");
        scene.gateway.assert_idle(&[&scene.container]);
    }
}

/// What a line of proc_pid_mountinfo(5) says of a mount, without numbers that a copy has others of.
fn mounts(text: &str) -> Vec<String> {
    let mut mounts: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let fields: Vec<_> = mount.split(' ').skip(2).take(4).collect();
            Some(format!("{} {source}", fields.join(" ")))
        })
        .collect();
    mounts.sort_unstable();
    mounts
}

/// Every path in a container, as seen through its first process; what is in its `/proc` and `/sys` changes all the time.
fn tree(container: &Container) -> String {
    let root = format!("/proc/{}/root", first_process(container));
    let found = Run::new("find")
        .arg(format!("{root}/"))
        .args(["(", "-path", &format!("{root}/proc"), "-o", "-path", &format!("{root}/sys"), ")"])
        .args(["-prune", "-o", "-print"])
        .succeed();
    let place = Run::new("find").arg(format!("{root}{PLACE}")).succeed();
    format!("{}{}", found.stdout_text(), place.stdout_text())
}

/// A session that goes on until its input ends, and what it has said by then.
fn held(scene: &Scene, script: &str) -> (Child, String) {
    let script = format!("{script}; echo end; read line");
    let mut client = scene.command().arg(script).spawn().expect("a client");
    let output = BufReader::new(client.stdout.take().expect("a pipe"));
    let lines = output.lines().map(|line| line.expect("a line"));
    let said = lines.take_while(|line| line != "end").map(|line| format!("{line}\n")).collect();
    (client, said)
}

#[test]
fn the_application_sees_nothing_of_it() {
    let Some(scene) = bare(strict, |setup| setup) else { return };
    let of_application =
        || fs::read_to_string(format!("/proc/{}/mountinfo", first_process(&scene.container)));
    let before = (of_application().expect("its mounts"), tree(&scene.container));
    assert!(before.1.contains("/probe") && before.1.contains("/proc/fs/nfsd"), "{}", before.1);
    let (mut client, session) = held(&scene, "cat /proc/self/mountinfo");
    // While the session goes on.
    let during = (of_application().expect("its mounts"), tree(&scene.container));
    assert_eq!(during, before);
    let probe = scene.container.exec(["/probe"]).expect_code(0).stdout_text();
    assert!(!probe.contains("toolbox") && !probe.contains(PLACE), "{probe}");
    // All that the application has, and one more.
    let (mine, its) = (mounts(&session), mounts(&before.0));
    let more: Vec<_> = mine.iter().filter(|mount| !its.contains(mount)).collect();
    let [more] = more.as_slice() else { panic!("{mine:#?}\n{its:#?}") };
    assert!(more.contains(&format!("/ {PLACE} ro,nosuid,nodev")), "{more}");
    assert!(more.contains("overlay toolbox ro,lowerdir=/proc/self/fd/"), "{more}");
    assert_eq!(mine.len(), its.len() + 1);
    drop(client.stdin.take());
    client.wait().expect("the client ends");
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!((of_application().expect("its mounts"), tree(&scene.container)), before);
}

#[test]
fn mounts_that_the_container_shares_do_not_carry_it_out() {
    let Some(scene) =
        with_shell(|spec| Spec { capabilities: vec!["SYS_ADMIN".to_owned()], ..spec })
    else {
        return;
    };
    // What is mounted by one who has such mounts is mounted for all of them.
    assert_eq!(line(&scene.sh("mount --make-rshared / && echo done")), "done");
    let of_application = || {
        let path = format!("/proc/{}/mountinfo", first_process(&scene.container));
        fs::read_to_string(path).expect("its mounts")
    };
    let before = of_application();
    assert!(before.contains(" shared:"), "{before}");
    let (mut client, session) =
        held(&scene, "rsync --version >/dev/null; cat /proc/self/mountinfo");
    assert_eq!(of_application(), before);
    assert!(session.contains(PLACE), "{session}");
    drop(client.stdin.take());
    client.wait().expect("the client ends");
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(of_application(), before);
}

#[test]
fn rsync_copies_to_and_from_an_image_with_nothing_in_it() {
    let Some(rsync) = program("rsync", "rsync") else { return };
    let Some(scene) = bare(strict, |setup| setup) else { return };
    let here = scene.gateway.sandbox().directory("here");
    fs::create_dir(here.join("inner")).expect("a directory");
    fs::write(here.join("inner/large"), vec![7; 300_000]).expect("a file");
    fs::write(here.join("run"), "#!/probe\n").expect("a file");
    fs::set_permissions(here.join("run"), fs::Permissions::from_mode(0o750)).expect("a mode");
    std::os::unix::fs::symlink("inner/large", here.join("link")).expect("a link");
    let shell = format!("ssh -F {}", scene.gateway.config(MAIN_KEY).display());
    let there = |path: &str| format!("{}@gateway:{path}", scene.container.name());
    let copy = |words: &[&str], from: String, to: String| {
        let run = Run::new(&rsync).args(["-rlpt", "-e", &shell]).args(words.iter().copied());
        run.arg(from).arg(to).deadline(ANSWER_TIME_MAX).succeed()
    };
    copy(&[], format!("{}/", here.display()), there("/tmp/tree"));
    let listed =
        line(&scene.sh("cd /tmp/tree && stat -c '%n %a %s' run inner/large && readlink link"));
    assert_eq!(listed, "run 750 9\ninner/large 644 300000\ninner/large");
    let back = scene.gateway.sandbox().directory("back");
    copy(&[], there("/tmp/tree/"), back.display().to_string());
    let again = copy(
        &["--checksum", "--dry-run", "--itemize-changes", "--delete"],
        there("/tmp/tree/"),
        here.display().to_string(),
    );
    assert_eq!(again.stdout_text(), "", "{again}");
    assert_eq!(fs::read(back.join("link")).expect("a copy"), vec![7; 300_000]);
    scene.gateway.assert_idle(&[&scene.container]);
}

/// Rules for keys of their names.
fn rules() -> String {
    let rule = |name: &str, lines: &str| {
        format!(
            "[[rule]]\nname = '{name}'\nwho = ['{name}']\ncontainers = ['*']\nusers = ['*']\n\
             allow = ['shell', 'exec', 'terminal', 'sftp']\n{lines}\n"
        )
    };
    [
        rule("main", ""),
        rule("none", "toolbox = 'never'"),
        rule("tracer", "toolbox_trace = true"),
        rule("always", "toolbox = 'always'"),
    ]
    .concat()
}

#[test]
fn rules_say_who_gets_it() {
    let of_gateway =
        |setup: Setup| setup.key("none", "").key("tracer", "").key("always", "").policy(&rules());
    let Some(scene) = bare(|spec| spec, of_gateway) else { return };
    let refused = scene.sh_as("none", "echo in");
    assert_eq!(refused.code(), Some(127), "{refused}");
    assert!(refused.stderr_text().contains("not found in the container"), "{refused}");
    assert_eq!(line(&scene.sh("echo in")), "in");
    // What the image has it runs by itself: with the mounts of the container, unless the rule wants more.
    assert!(!line(&scene.sh("/probe")).contains(PLACE));
    assert!(line(&scene.sh_as("always", "/probe")).contains(PLACE));
    // What looks into others is for who may.
    let hidden = scene.sh("strace -V");
    assert_eq!(hidden.code(), Some(127), "{hidden}");
    let said = scene.sh_as("tracer", "strace -f -e trace=execve /probe status 0 2>&1; echo ended");
    let traced = line(&said);
    assert!(traced.contains("execve(\"/probe\"") && traced.ends_with("ended"), "{traced}");
    let sftp = scene.gateway.client("sftp").args(["-b", "-"]);
    let sftp = sftp.arg(format!("{}@gateway", scene.container.name()));
    let listed = sftp.stdin(format!("ls {PLACE}\n")).deadline(ANSWER_TIME_MAX).finish();
    assert!(!listed.stdout_text().contains("bin"), "{listed}");
    scene.gateway.assert_idle(&[&scene.container]);
    let gateway = &scene.gateway;
    wait_until(CLEAN_UP_TIME_MAX, "all of it is in the audit", || {
        let audited = audited(gateway);
        // Of main twice, of always and of tracer once.
        if audited.lines().count() == 4 { Ok(()) } else { Err(audited) }
    });
}

#[test]
fn root_of_a_container_that_may_mount_cannot_change_it() {
    let shape = |spec: Spec| Spec { capabilities: vec!["SYS_ADMIN".to_owned()], ..spec };
    let Some(scene) = bare(shape, |setup| setup) else { return };
    let script = "cd /proc/fs/nfsd; try() { \"$@\" 2>/dev/null && echo did: \"$@\"; }; \
        try touch bin/new; try rm bin/sh; try chmod 777 bin/busybox; try mount -o remount,rw /proc/fs/nfsd; \
        try touch bin/new; mount -o remount,bind,rw /proc/fs/nfsd; try touch bin/new; try cp /probe bin/ls; \
        try sh -c 'echo x >> bin/busybox'; echo end";
    assert_eq!(line(&scene.sh(script)), "end");
    let toolbox = images::toolbox().expect("it was there");
    assert!(!toolbox.join("base/bin/new").exists());
    // Another session has it as it was.
    assert_eq!(
        line(&scene.sh("touch /proc/fs/nfsd/new 2>/dev/null || echo read-only")),
        "read-only"
    );
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn an_image_with_a_shell_is_left_as_it_is_unless_something_is_missing() {
    let Some(scene) = with_shell(|spec| spec) else { return };
    let namespace = "readlink /proc/self/ns/mnt; echo $PATH";
    let engines = scene.container.sh(namespace).stdout_text();
    assert_eq!(line(&scene.sh(namespace)), engines.trim_end());
    let missing = scene.sh("strace -V");
    assert_eq!(missing.code(), Some(127), "{missing}");
    // What is missing is there, behind all that the image has, and nothing of that is taken.
    let said = line(&scene.sh("rsync --version"));
    assert!(said.starts_with("rsync  version"), "{said}");
    let path = line(&scene.sh("rsync --help >/dev/null; echo $SHELL; echo $PATH"));
    assert_eq!(path, format!("/bin/sh\n/bin:/usr/bin:/sbin:/usr/sbin:{PLACE}/bin"));
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn without_a_place_of_the_kernels_there_is_none_and_it_is_said() {
    let Some(scene) =
        with_shell(|spec| Spec { capabilities: vec!["SYS_ADMIN".to_owned()], ..spec })
    else {
        return;
    };
    for trick in [
        "mount -t tmpfs none /proc",
        "mkdir -p /proc/fs && ln -s /etc /proc/fs/nfsd",
        "rm /proc/fs/nfsd && mkdir /proc/fs/nfsd && touch /proc/fs/nfsd/mine",
    ] {
        // By a session of our own: the engine's exec needs a /proc.
        assert_eq!(line(&scene.sh(&format!("{trick} && echo done"))), "done");
        let said = scene.sh("rsync --version; ls /etc/passwd; ls /proc/fs/nfsd");
        assert!(said.stderr_text().contains("without a toolbox: "), "{trick}: {said}");
        assert!(said.stdout_text().starts_with("/etc/passwd\n"), "{trick}: {said}");
        assert!(!said.stdout_text().contains("bin"), "{trick}: {said}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
    wait_until(CLEAN_UP_TIME_MAX, "why is in the audit", || {
        let audited = audited(&scene.gateway);
        let is_told = audited.lines().count() == 3 && audited.contains("something else is mounted");
        if is_told { Ok(()) } else { Err(audited) }
    });
}

#[test]
fn containers_in_user_namespaces_have_it_too() {
    let (Some(setup), Some(toolbox)) = (Setup::new(BINARY), images::toolbox()) else { return };
    let sandbox = Sandbox::new();
    let Some(second) = SecondEngine::start(&sandbox, true) else { return };
    let engine = second.engine();
    // One that no other test has on the first engine.
    let image = images::program(engine, Path::new(PROBE));
    let container = engine.start(strict(Spec::new(image.name(), ["hold"])));
    let gateway = setup
        .env("DOCKER_HOST", &second.address())
        .arg("--bundles")
        .arg(second.bundles())
        .arg("--toolbox")
        .arg(toolbox)
        .start();
    let script = "id -u; touch /proc/fs/nfsd/bin/new 2>/dev/null || echo read-only; \
        test $(cat /proc/self/uid_map | awk '{ print $2 }') -gt 0 && echo mapped";
    let said = gateway.ssh(container.name()).arg(script).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(line(&said), "1000\nread-only\nmapped");
    gateway.assert_idle(&[&container]);
}

#[test]
fn doctor_and_serve_say_what_is_wrong_with_a_toolbox() {
    let Some(made) = images::toolbox() else { return };
    let sandbox = Sandbox::new();
    let doctor =
        |toolbox: &Path| Run::new(BINARY).arg("doctor").arg("--toolbox").arg(toolbox).finish();
    let said = doctor(&made);
    assert!(said.to_string().contains("can be mounted: base, notices"), "{said}");
    // Beside it: nobody else can write there.
    let faulty = made.with_file_name(unique_name());
    Run::new("cp").arg("-a").arg(&made).arg(&faulty).succeed();
    fs::set_permissions(faulty.join("base/bin"), fs::Permissions::from_mode(0o775))
        .expect("a mode");
    let said = doctor(&faulty);
    assert!(said.to_string().contains("base/bin can be written by others"), "{said}");
    let keys = sandbox.file("keys", "");
    let serve = |toolbox: &Path| {
        let run = Run::new(BINARY).args(["serve", "--listen", "127.0.0.1:0", "--authorized-keys"]);
        run.arg(&keys).arg("--state").arg(sandbox.path("state")).arg("--toolbox").arg(toolbox)
    };
    Run::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(sandbox.path("key"))
        .succeed();
    fs::copy(sandbox.path("key.pub"), &keys).expect("a key");
    for (toolbox, words) in [
        (faulty.as_path(), "base/bin can be written by others"),
        (Path::new("/nothing/here"), "/nothing cannot be read"),
        (sandbox.root(), "is above it, and others than root can change it"),
    ] {
        let said = serve(toolbox).deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.code(), Some(2), "{said}");
        assert!(said.stderr_text().contains(words), "{said}");
    }
    fs::remove_dir_all(&faulty).expect("our own directory");
}
