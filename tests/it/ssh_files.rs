//! Files in and out of containers, by every client that people use for that.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use e2e::process::{Finished, Run};
use e2e::random::Random;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, program, wait_until};
use rustix::mount::UnmountFlags;

use crate::ssh::{Scene, line, soak};

/// Size of what is moved once in each direction; `CHORES_SOAK` multiplies it.
const LARGE_BYTES: usize = 64 << 20;

/// How long moving that may take, on a machine that builds at the same time.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(300);

/// A file of noise and its checksum.
fn noise(scene: &Scene, name: &str, bytes: usize) -> (std::path::PathBuf, String) {
    let content = Random::new(bytes as u64).bytes(bytes);
    let path = scene.gateway.sandbox().file(name, content);
    let sum = sum_here(&path);
    (path, sum)
}

fn sum_here(path: &Path) -> String {
    let said = Run::new("sha256sum").arg(path).succeed().stdout_text();
    said.split(' ').next().unwrap_or_default().to_owned()
}

fn sum_there(scene: &Scene, path: &str) -> String {
    let said = scene.container.exec(["sha256sum", path]).expect_code(0).stdout_text();
    said.split(' ').next().unwrap_or_default().to_owned()
}

fn target(scene: &Scene, path: &str) -> String {
    format!("{}@gateway:{path}", scene.container.name())
}

/// An `sftp` batch; it ends with the first command that fails.
fn batch(scene: &Scene, commands: &str) -> Finished {
    let run = scene.gateway.client("sftp").args([
        "-b",
        "-",
        &format!("{}@gateway", scene.container.name()),
    ]);
    run.stdin(commands).deadline(TRANSFER_TIME_MAX).finish()
}

#[test]
fn a_large_file_goes_in_and_out_over_many_key_changes() {
    let Some(scene) = Scene::busybox() else { return };
    let (file, sum) = noise(&scene, "large", LARGE_BYTES * soak());
    let back = scene.gateway.sandbox().path("back");
    let said = scene
        .gateway
        .client("sftp")
        .args(["-o", "RekeyLimit=16M", "-b", "-"])
        .arg(format!("{}@gateway", scene.container.name()))
        .stdin(format!("put {} /tmp/large\nget /tmp/large {}\n", file.display(), back.display()))
        .deadline(TRANSFER_TIME_MAX)
        .finish();
    assert_eq!(said.code(), Some(0), "{said}");
    assert_eq!(sum_there(&scene, "/tmp/large"), sum);
    assert_eq!(sum_here(&back), sum);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn sftp_does_what_it_does_elsewhere() {
    let Some(scene) = Scene::busybox() else { return };
    let (file, sum) = noise(&scene, "file", 300_000);
    let (file, root) = (file.display(), scene.gateway.sandbox().root().display().to_string());
    let said = batch(
        &scene,
        &format!(
            "pwd\nmkdir /tmp/d\nput -p {file} /tmp/d/one\nrename /tmp/d/one /tmp/d/two\nput {file} /tmp/d/one\n\
             rename /tmp/d/two /tmp/d/one\nln /tmp/d/one /tmp/d/hard\nln -s one /tmp/d/soft\nchmod 640 /tmp/d/one\n\
             chown 1000 /tmp/d/one\nchgrp 2000 /tmp/d/one\nls -la /tmp/d\ndf /tmp\nget /tmp/d/soft {root}/got\n\
             reget /tmp/d/one {root}/got\nput {file} \"/tmp/d/a name with spaces\"\nrm /tmp/d/hard\ncd /tmp/d\npwd\n\
             -rmdir /tmp/d\n-get /etc/shadow-of-nothing\nget -r /tmp/d {root}/tree\nmkdir /tmp/e\nput -r {root}/tree /tmp/e\n"
        ),
    );
    assert_eq!(said.code(), Some(0), "{said}");
    let words = said.stdout_text();
    assert!(words.contains("Remote working directory: /root"), "{said}");
    assert!(words.contains("Remote working directory: /tmp/d"), "{said}");
    assert_eq!(sum_here(&scene.gateway.sandbox().path("got")), sum);
    assert_eq!(sum_there(&scene, "/tmp/d/a name with spaces"), sum);
    assert_eq!(sum_there(&scene, "/tmp/e/tree/one"), sum);
    let stat = scene
        .container
        .sh("stat -c '%a %u %g %h' /tmp/d/one; readlink /tmp/d/soft; test ! -e /tmp/d/hard");
    assert_eq!(stat.stdout_text(), "640 1000 2000 1\none\n");
}

#[test]
fn sftp_has_the_rights_of_its_user_and_no_others() {
    let Some(scene) = Scene::busybox() else { return };
    scene.container.sh("echo secret > /root/secret; chmod 600 /root/secret");
    let login = format!("{}+www@gateway", scene.container.name());
    for commands in [
        "get /root/secret /dev/null\n",
        "put /etc/hostname /etc/new\n",
        "chown 0 /home/www\n",
        "rm /etc/passwd\n",
    ] {
        let said = scene.gateway.client("sftp").args(["-b", "-", &login]).stdin(commands).finish();
        assert_ne!(said.code(), Some(0), "{commands}: {said}");
    }
    let mine = scene.gateway.sandbox().file("mine", "mine\n");
    std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let commands = format!("pwd\nput {} mine\n", mine.display());
    let said = scene.gateway.client("sftp").args(["-b", "-", &login]).stdin(commands).finish();
    assert!(said.stdout_text().contains("/home/www"), "{said}");
    assert_eq!(
        scene.container.sh("stat -c '%U %G %a' /home/www/mine").stdout_text(),
        "www www 644\n"
    );
}

#[test]
fn sftp_works_where_the_image_has_nothing() {
    use e2e::engine::{Spec, connect};
    use e2e::ssh_gateway::Setup;

    let (Some(engine), Some(setup)) = (connect(), Setup::new(crate::ssh::BINARY)) else { return };
    let image = e2e::images::ssh_scratch(&engine, Path::new(crate::ssh::PROBE));
    let container = engine.start(Spec::new(image.name(), ["/probe", "hold"]));
    let gateway = setup.start();
    let back = gateway.sandbox().path("back");
    let commands = format!("put /etc/hostname /new\nget /new {}\nls /\n", back.display());
    let login = format!("{}@gateway", container.name());
    let said = gateway.client("sftp").args(["-b", "-", &login]).stdin(commands).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    assert_eq!(std::fs::read(&back).ok(), std::fs::read("/etc/hostname").ok());
    // The legacy scp, too, is ours here.
    let said =
        gateway.client("scp").args(["-O", "/etc/hostname", &format!("{login}:/scp")]).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    gateway.assert_idle(&[&container]);
}

/// A tree with modes, times, an empty file, a large one and names that hurt.
fn tree(scene: &Scene) -> std::path::PathBuf {
    let root = scene.gateway.sandbox().directory("tree");
    let script = "mkdir -p sub/deeper 'a b' && : > empty && head -c 3000000 /dev/urandom > sub/large && \
                  echo hi > 'a b/it'\\''s \"new\"' && echo x > sub/deeper/x && chmod 750 sub && chmod 600 sub/large && \
                  touch -d '2001-02-03 04:05:06' sub/large empty";
    Run::new("/bin/sh").args(["-c", script]).current_dir(&root).succeed();
    root
}

/// Names, modes and contents below a directory; run on this machine and in the container alike.
const MANIFEST: &str = "cd \"$0\" && find . | sort | while read -r f; do stat -c '%n %a' \"$f\"; \
                        if [ -f \"$f\" ]; then sha256sum < \"$f\"; fi; done";

fn manifest_here(path: &Path) -> String {
    Run::new("/bin/sh").args(["-c", MANIFEST]).arg(path).succeed().stdout_text()
}

fn manifest_there(scene: &Scene, path: &str) -> String {
    scene.container.exec(["/bin/sh", "-c", MANIFEST, path]).expect_code(0).stdout_text()
}

/// `scp -r` there and back with these flags.
fn scp_both_ways(scene: &Scene, flags: &[&str]) {
    let root = tree(scene);
    let back = scene.gateway.sandbox().directory("back");
    let scp = || scene.gateway.client("scp").args(flags.iter().copied()).args(["-r", "-p"]);
    scp().arg(&root).arg(target(scene, "/tmp/")).succeed();
    assert_eq!(manifest_there(scene, "/tmp/tree"), manifest_here(&root));
    let time = scene.container.sh("stat -c %Y /tmp/tree/empty").stdout_text();
    let expected =
        Run::new("stat").args(["-c", "%Y"]).arg(root.join("empty")).succeed().stdout_text();
    assert_eq!(time, expected);
    scp().arg(target(scene, "/tmp/tree")).arg(&back).succeed();
    assert_eq!(manifest_here(&back.join("tree")), manifest_here(&root));
    // A file that is not there fails, and says so.
    let said = scp().arg(target(scene, "/no/such/file")).arg(&back).finish();
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stderr_text().contains("No such file"), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn scp_by_sftp_keeps_trees() {
    let Some(scene) = Scene::busybox() else { return };
    scp_both_ways(&scene, &[]);
}

#[test]
fn legacy_scp_works_without_scp_in_the_image() {
    let Some(scene) = Scene::busybox() else { return };
    assert_ne!(
        scene.container.exec(["/bin/sh", "-c", "command -v scp"]).code,
        0,
        "this image has scp"
    );
    scp_both_ways(&scene, &["-O"]);
}

#[test]
fn legacy_scp_works_with_scp_in_the_image() {
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    scp_both_ways(&scene, &["-O"]);
}

#[test]
fn rsync_copies_what_changed() {
    let Some(rsync) = program("rsync", "rsync") else { return };
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    let root = tree(&scene);
    let shell = format!("ssh -F {}", scene.gateway.config(MAIN_KEY).display());
    let run = |from: String, to: String| {
        let run = Run::new(&rsync).args(["-a", "--checksum", "--stats", "-e", &shell]);
        run.arg(from).arg(to).deadline(TRANSFER_TIME_MAX).succeed()
    };
    run(format!("{}/", root.display()), target(&scene, "/tmp/tree"));
    assert_eq!(manifest_there(&scene, "/tmp/tree"), manifest_here(&root));
    std::fs::write(root.join("empty"), "not empty").expect("writes a file");
    let again = run(format!("{}/", root.display()), target(&scene, "/tmp/tree"));
    assert!(again.stdout_text().contains("Number of regular files transferred: 1\n"), "{again}");
    let back = scene.gateway.sandbox().directory("back");
    run(target(&scene, "/tmp/tree/"), back.display().to_string());
    assert_eq!(manifest_here(&back), manifest_here(&root));
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn git_clones_and_pushes() {
    let Some(git) = program("git", "git") else { return };
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    scene.container.sh("git init -q --bare /srv/repo.git");
    let shell = format!("ssh -F {}", scene.gateway.config(MAIN_KEY).display());
    let work = scene.gateway.sandbox().path("work");
    let run = |words: &[&str]| {
        Run::new(&git)
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.invalid",
                "-c",
                "protocol.version=2",
            ])
            .args(words.iter().copied())
            .env("GIT_SSH_COMMAND", &shell)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(if work.exists() {
                work.as_path()
            } else {
                scene.gateway.sandbox().root()
            })
            .succeed()
    };
    let url = format!("{}@gateway:/srv/repo.git", scene.container.name());
    run(&["clone", "-q", &url, "work"]);
    std::fs::write(work.join("noise"), Random::new(1).bytes(2_000_000)).expect("writes a file");
    run(&["add", "."]);
    run(&["commit", "-q", "-m", "one"]);
    run(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
    let pushed =
        scene.container.exec(["git", "-C", "/srv/repo.git", "rev-parse", "main"]).stdout_text();
    assert_eq!(pushed, run(&["rev-parse", "HEAD"]).stdout_text());
    run(&["clone", "-q", "-b", "main", &url, "again"]);
    let trace = run(&["ls-remote", &url]);
    assert!(trace.stdout_text().contains("refs/heads/main"), "{trace}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn sshfs_mounts_a_folder_of_the_container() {
    let Some(sshfs) = program("sshfs", "sshfs") else { return };
    let Some(scene) = Scene::busybox() else { return };
    let mount = scene.gateway.sandbox().directory("mount");
    let run = Run::new(sshfs)
        .arg("-F")
        .arg(scene.gateway.config(MAIN_KEY))
        .arg("-f")
        .arg(target(&scene, "/tmp"))
        .arg(&mount)
        .start();
    let is_mounted = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts.contains(&mount.display().to_string())
    };
    let mut ended = false;
    wait_until(CLEAN_UP_TIME_MAX, "a mount", || {
        ended = run.ended_within(Duration::ZERO);
        if ended || is_mounted() { Ok(()) } else { Err("not mounted".to_owned()) }
    });
    if ended {
        let said = run.wait();
        assert!(said.stderr_text().contains("fuse"), "{said}");
        e2e::notice!("skipped: no FUSE here: {}", said.stderr_text());
        return;
    }
    let noise = Random::new(2).bytes(3_000_000);
    std::fs::write(mount.join("file"), &noise).expect("writes through sshfs");
    std::fs::create_dir(mount.join("folder")).expect("makes a folder through sshfs");
    std::fs::rename(mount.join("file"), mount.join("folder/file")).expect("renames through sshfs");
    std::fs::hard_link(mount.join("folder/file"), mount.join("hard")).expect("links through sshfs");
    std::os::unix::fs::symlink("folder/file", mount.join("soft")).expect("links through sshfs");
    assert!(std::fs::read(mount.join("soft")).expect("reads through sshfs") == noise);
    std::fs::remove_file(mount.join("hard")).expect("removes through sshfs");
    assert_eq!(sum_there(&scene, "/tmp/folder/file"), {
        let copy = scene.gateway.sandbox().file("copy", &noise);
        sum_here(&copy)
    });
    rustix::mount::unmount(&mount, UnmountFlags::DETACH).expect("unmounts");
    drop(run.wait());
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn psftp_and_the_clients_of_python_move_files() {
    let Some(scene) = Scene::busybox() else { return };
    let (file, sum) = noise(&scene, "file", 8_000_000);
    let file = file.display().to_string();
    let back = |name: &str| scene.gateway.sandbox().path(name);
    for script in ["asyncssh_sftp.py", "paramiko_sftp.py"] {
        let got = back(script);
        let got_text = got.display().to_string();
        let Some(run) = scene.python(script, &[&file, "/tmp/up", &got_text]) else { return };
        assert_eq!(line(&run.deadline(TRANSFER_TIME_MAX).finish()), "done", "{script}");
        assert_eq!(sum_there(&scene, "/tmp/up"), sum, "{script}");
        assert_eq!(sum_here(&got), sum, "{script}");
        scene.container.sh("rm /tmp/up");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_transfer_cut_off_leaves_nothing_running() {
    let Some(scene) = Scene::busybox() else { return };
    for direction in ["put /dev/zero /tmp/zero\n", "get /dev/zero /dev/null\n"] {
        let run = scene.gateway.client("sftp").args([
            "-b",
            "-",
            &format!("{}@gateway", scene.container.name()),
        ]);
        drop(run.stdin(direction).start().kill_at(Duration::from_millis(700)));
        scene.gateway.assert_idle(&[&scene.container]);
    }
    scene.container.sh("rm -f /tmp/zero");
    let mut command = scene.command();
    let mut child =
        command.arg("cat > /dev/null").stdin(Stdio::piped()).spawn().expect("starts ssh");
    child.kill().expect("kills ssh");
    child.wait().expect("ssh is gone");
    scene.gateway.assert_idle(&[&scene.container]);
}
