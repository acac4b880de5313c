//! Other clients than OpenSSH's, and what an auditor says.

use std::path::PathBuf;
use std::time::Duration;

use e2e::process::Run;
use e2e::ssh_gateway::{MAIN_KEY, Tmux, program, python, source_address};
use serde_json::Value;

use crate::operations::soak_factor;
use crate::ssh::{ANSWER_TIME_MAX, Scene, free_port, line};

/// How long an editor may take for all of its steps.
const EDITOR_TIME_MAX: Duration = Duration::from_secs(300);

/// How often bytes go to a program and back at once; `CHORES_SOAK` multiplies it.
const COPIES: u32 = 3;

#[test]
fn dropbear_runs_commands() {
    let (Some(dbclient), Some(convert)) =
        (program("dbclient", "dropbear-bin"), program("dropbearconvert", "dropbear-bin"))
    else {
        return;
    };
    let Some(scene) = Scene::busybox() else { return };
    let key = scene.gateway.sandbox().path("dropbear-key");
    Run::new(convert)
        .args(["openssh", "dropbear"])
        .arg(scene.gateway.key_file(MAIN_KEY))
        .arg(&key)
        .succeed();
    // Its known hosts have no port.
    let home = scene.gateway.sandbox().directory("home/.ssh");
    let known = std::fs::read_to_string(scene.gateway.known_hosts()).expect("the known hosts");
    let known = known.replace(&format!("[127.0.0.1]:{}", scene.gateway.port()), "127.0.0.1");
    std::fs::write(home.join("known_hosts"), known).expect("writes the known hosts");
    let run = |flags: &[&str], command: &str| {
        // What runs in tmux is a command line, and takes its environment from there.
        Run::new("env")
            .arg(format!("HOME={}", scene.gateway.sandbox().path("home").display()))
            .arg(&dbclient)
            .args(["-p", &scene.gateway.port().to_string(), "-i"])
            .arg(&key)
            .args(flags.iter().copied())
            .args([&format!("{}@127.0.0.1", scene.container.name()), command])
            .deadline(ANSWER_TIME_MAX)
    };
    let said = run(&[], "echo out; echo err >&2; exit 5").finish();
    assert_eq!((said.code(), said.stdout_text().as_str()), (Some(5), "out\n"), "{said}");
    assert!(said.stderr_text().contains("err"), "{said}");
    let noise = e2e::random::Random::new(3).bytes(3_000_000);
    // Into a file, which takes all at once. dbclient 2022.83 that still has bytes for a full pipe when the
    // channel is closed ends the channel after it has looked whether any is left, and then waits for whatever
    // the server says next (session_loop of its common-session.c): a keepalive, after a minute.
    let copy = scene.gateway.sandbox().path("copy");
    let file = copy.display().to_string();
    for _ in 0..COPIES.saturating_mul(soak_factor()) {
        let into = ["sh", "-c", "exec \"$@\" > \"$0\"", &file];
        let said = run(&[], "cat").wrapped(into).stdin(noise.clone()).succeed();
        let came = std::fs::read(&copy).expect("what came back");
        assert!(came == noise, "{} bytes came back: {}", came.len(), said.stderr_text());
    }
    // It asks for a terminal only where it has one itself, whose modes it can send.
    let command = run(&["-t"], "tty; stty size; exit 6");
    let Some(terminal) = Tmux::start(scene.gateway.sandbox(), &command, 100, 30) else { return };
    terminal.wait_for_line("/dev/pts/0");
    terminal.wait_for_line("30 100");
    terminal.wait_for_line("[ended with 6]");
    scene.gateway.assert_idle(&[&scene.container]);
}

/// The main key in PuTTY's own form, and the flags that its programs share.
fn putty(scene: &Scene) -> Option<(PathBuf, Vec<String>)> {
    let puttygen = program("puttygen", "putty-tools")?;
    let key = scene.gateway.sandbox().path("key.ppk");
    Run::new(puttygen)
        .arg(scene.gateway.key_file(MAIN_KEY))
        .args(["-O", "private", "-o"])
        .arg(&key)
        .succeed();
    let known = std::fs::read_to_string(scene.gateway.known_hosts()).expect("the known hosts");
    let public = known.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key);
    let file = scene
        .gateway
        .sandbox()
        .file("host.pub", public.map(|key| format!("{key}\n")).collect::<String>());
    let prints = Run::new("ssh-keygen").arg("-lf").arg(file).succeed().stdout_text();
    let mut flags = vec!["-batch".to_owned(), "-P".to_owned(), scene.gateway.port().to_string()];
    for print in prints.lines().filter_map(|line| line.split(' ').nth(1)) {
        flags.extend(["-hostkey".to_owned(), print.to_owned()]);
    }
    Some((key, flags))
}

#[test]
fn putty_runs_commands_and_moves_files() {
    let (Some(plink), Some(psftp)) =
        (program("plink", "putty-tools"), program("psftp", "putty-tools"))
    else {
        return;
    };
    let Some(scene) = Scene::busybox() else { return };
    let Some((key, flags)) = putty(&scene) else { return };
    let home = scene.gateway.sandbox().directory("home");
    let run = |program: &PathBuf| {
        let run = Run::new(program).args(flags.iter().map(String::as_str)).arg("-i").arg(&key);
        run.env("HOME", &home).deadline(Duration::from_secs(120))
    };
    let login = format!("{}@127.0.0.1", scene.container.name());
    let said = run(&plink).args(["-ssh", "-T", &login, "echo out; echo err >&2; exit 5"]).finish();
    assert_eq!((said.code(), said.stdout_text().as_str()), (Some(5), "out\n"), "{said}");
    assert!(said.stderr_text().contains("err"), "{said}");
    let said = run(&plink).args(["-ssh", "-t", &login, "tty"]).finish();
    assert!(said.stdout_text().contains("/dev/pts/0"), "{said}");
    let noise = e2e::random::Random::new(4).bytes(5_000_000);
    let said = run(&plink).args(["-ssh", "-T", &login, "cat"]).stdin(noise.clone()).finish();
    assert!(
        said.code() == Some(0) && said.stdout == noise,
        "{} bytes came back",
        said.stdout.len()
    );
    let file = scene.gateway.sandbox().file("noise", &noise);
    let back = scene.gateway.sandbox().path("back");
    let commands = scene.gateway.sandbox().file(
        "commands",
        format!(
            "put {} /tmp/up\nget /tmp/up {}\nls /tmp\nmkdir /tmp/d\nquit\n",
            file.display(),
            back.display()
        ),
    );
    let said = run(&psftp).arg(&login).arg("-b").arg(commands).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    assert!(std::fs::read(back).expect("the file came back") == noise);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn the_clients_of_python_run_commands_and_forward() {
    let Some(scene) = Scene::busybox() else { return };
    scene.container.sh("nc -ll -p 7000 -e cat >/dev/null 2>&1 </dev/null &");
    for script in ["asyncssh_sessions.py", "paramiko_sessions.py"] {
        let Some(run) = scene.python(script, &[]) else { return };
        let said = run.finish();
        assert_eq!(line(&said), "done", "{said}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn ansible_manages_containers() {
    let Some(ansible) = program("ansible", "ansible-core") else { return };
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    let home = scene.gateway.sandbox().directory("ansible");
    let inventory = scene.gateway.sandbox().file(
        "inventory",
        format!(
            "box ansible_host=gateway ansible_user={} ansible_ssh_common_args='-F {}' \
             ansible_python_interpreter=/usr/bin/python3\n",
            scene.container.name(),
            scene.gateway.config(MAIN_KEY).display()
        ),
    );
    for (pipelining, transfer) in [("True", "smart"), ("False", "sftp"), ("False", "piped")] {
        let said = Run::new(&ansible)
            .args(["all", "-m", "copy", "-a", "content=hello dest=/tmp/ansible", "-i"])
            .arg(&inventory)
            .env("HOME", &home)
            .env("ANSIBLE_PIPELINING", pipelining)
            .env("ANSIBLE_SSH_TRANSFER_METHOD", transfer)
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", home.join("cp"))
            .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=no")
            .env("ANSIBLE_NOCOLOR", "1")
            .deadline(EDITOR_TIME_MAX)
            .finish();
        assert_eq!(said.code(), Some(0), "{pipelining} {transfer}: {said}");
        assert_eq!(scene.container.sh("cat /tmp/ansible; rm /tmp/ansible").stdout_text(), "hello");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

/// What an auditor may say although all is well: of what, in which words, and why it may.
const AUDIT_EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "curve25519",
        "post-quantum",
        "clients before OpenSSH 9.9 have no post-quantum key exchange that we speak; mlkem768x25519 comes first",
    ),
    (
        "ecdsa-sha2-nistp256",
        "suspected as being backdoored",
        "a host key for clients that know no ed25519; it comes second",
    ),
    ("ecdsa-sha2-nistp256", "weak random number generator", "ours is the kernel's"),
];

#[test]
fn an_auditor_finds_nothing_to_blame() {
    let Some(python) = python() else { return };
    let Some(scene) = Scene::busybox() else { return };
    let said = Run::new(python)
        .args(["-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", "-p"])
        .arg(scene.gateway.port().to_string())
        .arg("127.0.0.1")
        .finish();
    let report: Value =
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut blamed = Vec::new();
    for kind in ["kex", "key", "enc", "mac"] {
        let algorithms = report[kind].as_array().cloned().unwrap_or_default();
        assert!(!algorithms.is_empty(), "no {kind}: {report}");
        for algorithm in algorithms {
            let name = algorithm["algorithm"].as_str().unwrap_or_default().to_owned();
            for level in ["fail", "warn"] {
                for note in algorithm["notes"][level].as_array().into_iter().flatten() {
                    let words = note.as_str().unwrap_or_default();
                    let is_excepted = AUDIT_EXCEPTIONS
                        .iter()
                        .any(|(start, part, _)| name.starts_with(start) && words.contains(part));
                    if !is_excepted {
                        blamed.push(format!("{level}: {name}: {words}"));
                    }
                }
            }
        }
    }
    assert!(blamed.is_empty(), "{blamed:#?}");
    assert_eq!(report["cves"].as_array().map_or(0, Vec::len), 0, "{report}");
    let first = &report["kex"][0]["algorithm"];
    assert_eq!(first, "mlkem768x25519-sha256", "{report}");
    assert_eq!(report["compression"], serde_json::json!(["none"]), "{report}");
}

/// The steps are those of Visual Studio Code's Remote-SSH, see the script.
#[test]
fn an_editor_sets_up_its_server_and_reaches_it() {
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    if program("curl", "curl").is_none() {
        return;
    }
    let folder = scene.gateway.sandbox().directory("editor");
    for login in [scene.container.name().to_owned(), format!("{}+www", scene.container.name())] {
        let folder = folder.join(if login.ends_with("+www") { "www" } else { "root" });
        std::fs::create_dir(&folder).expect("a folder of the editor");
        let said = Run::new("bash")
            .arg(format!("{}/testdata/ssh/editor.sh", env!("CARGO_MANIFEST_DIR")))
            .arg(folder)
            .arg(free_port().to_string())
            .arg(format!("{login}@gateway"))
            .arg("-F")
            .arg(scene.gateway.config(MAIN_KEY))
            .args(["-o", &format!("BindAddress={}", source_address())])
            .deadline(EDITOR_TIME_MAX)
            .finish();
        assert_eq!(line(&said), "done", "{login}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}
