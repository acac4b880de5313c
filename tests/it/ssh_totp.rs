//! A code of an authenticator application beside the key: oathtool makes it, real clients give it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{MAIN_KEY, Setup, program, source_address};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, BINARY, Scene, line};

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

/// A code counts for so long, in seconds.
const STEP: u64 = 30;

/// Those of whom a code is asked, and one of whom none is.
const CODED: [&str; 4] = [MAIN_KEY, "files", "onward", "python"];

const RULES: &str = "
[[rule]]
name = 'coded'
who = ['main', 'files', 'onward', 'python']
containers = ['*']
users = ['*']
allow = ['exec', 'shell', 'terminal', 'sftp']
require = ['totp']

[[rule]]
name = 'also-coded'
who = ['main']
containers = ['*']
users = ['*']
allow = ['exec']

[[rule]]
name = 'free'
who = ['free']
containers = ['*']
users = ['*']
allow = ['exec']
";

fn secret_file(setup: &Setup, key: &str) -> PathBuf {
    setup.sandbox().path(format!("totp-{key}"))
}

/// A gateway with secrets that it has made itself.
fn scene() -> Option<Scene> {
    program("oathtool", "oathtool")?;
    Scene::new(
        |spec| spec,
        |setup| {
            let mut setup = setup.key("free", "").stranger("stranger").policy(RULES);
            for key in CODED {
                if key != MAIN_KEY {
                    setup = setup.key(key, "");
                }
                let file = secret_file(&setup, key);
                let made = Run::new(BINARY).args(["totp", "new", "--json", "--identity", key]);
                let told = made.arg("--file").arg(&file).succeed().json();
                assert_eq!(told["identity"], key);
                let uri = told["uri"].as_str().expect("a URI");
                let secret = told["secret"].as_str().expect("a secret");
                assert!(uri.starts_with("otpauth://totp/") && uri.contains(secret), "{uri}");
                let mode = file.metadata().expect("the file").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                // One that is there is somebody's.
                let again = Run::new(BINARY).args(["totp", "new", "--identity", key]);
                again.arg("--file").arg(&file).finish().expect_code(2);
                setup = setup.identity(key, &format!("totp_file = '{}'", file.display()));
            }
            let sandbox = setup.sandbox();
            let askpass = "#!/bin/sh\necho asked >> \"$ASKED\"\necho \"$CODE\"\n";
            let askpass = sandbox.file("askpass", askpass);
            std::fs::set_permissions(askpass, Permissions::from_mode(0o755)).expect("a mode");
            setup
        },
    )
}

/// The code of now, or of so many steps later.
fn code(scene: &Scene, key: &str, later: u64) -> String {
    let secret = scene.gateway.sandbox().path(format!("totp-{key}"));
    let secret = std::fs::read_to_string(secret).expect("the secret");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let run = Run::new("oathtool").args(["--totp=sha1", "-b", secret.trim(), "-N"]);
    line(&run.arg(format!("@{}", now + later * STEP)).finish())
}

/// The configuration of a client that can be asked for something.
fn config(scene: &Scene, key: &str) -> PathBuf {
    let name = format!("asking-{key}");
    let path = scene.gateway.sandbox().path(&name);
    // Written once: another client may be reading it.
    if path.exists() {
        return path;
    }
    let text = std::fs::read_to_string(scene.gateway.config(key)).expect("the configuration");
    let text = text.replace("BatchMode yes", "BatchMode no");
    scene.gateway.sandbox().file(name, text)
}

/// How often the last client was asked.
fn asked(scene: &Scene) -> usize {
    let asked = std::fs::read_to_string(scene.gateway.sandbox().path("asked"));
    asked.unwrap_or_default().lines().count()
}

/// One of OpenSSH's programs, which gives this code when it is asked.
fn giving(scene: &Scene, client: &str, key: &str, code: &str) -> Run {
    let sandbox = scene.gateway.sandbox();
    std::fs::remove_file(sandbox.path("asked")).ok();
    Run::new(client)
        .arg("-F")
        .arg(config(scene, key))
        .env("SSH_ASKPASS", sandbox.path("askpass"))
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("CODE", code)
        .env("ASKED", sandbox.path("asked"))
        .deadline(ANSWER_TIME_MAX)
}

fn ssh(scene: &Scene, key: &str, code: &str, words: &[&str]) -> Finished {
    let run = giving(scene, "ssh", key, code).args(["-b", &source_address()]);
    let run = run.arg(format!("{}@gateway", scene.container.name()));
    run.args(words.iter().copied()).finish()
}

#[test]
fn a_code_is_asked_for_behind_the_key_and_counts_once() {
    let Some(scene) = scene() else { return };
    let denied = |said: &Finished, methods: &str| {
        assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
        assert_eq!(said.stdout_text(), "", "{said}");
        assert!(said.stderr_text().contains(&format!("Permission denied ({methods})")), "{said}");
    };
    // A key alone is half of it.
    let half = scene.ssh().args(["-v", "echo in"]).deadline(ANSWER_TIME_MAX).finish();
    denied(&half, "keyboard-interactive");
    assert!(half.stderr_text().contains("partial success"), "{half}");
    // A right code, and the same again.
    let right = code(&scene, MAIN_KEY, 0);
    assert_eq!(line(&ssh(&scene, MAIN_KEY, &right, &["echo in"])), "in");
    assert_eq!(asked(&scene), 1);
    scene.gateway.wait_for_log(&["\"login\"", "\"factor\":\"totp\""]);
    denied(&ssh(&scene, MAIN_KEY, &right, &["echo in"]), "keyboard-interactive");
    // On a slow machine it may be too old by now as well.
    scene.gateway.wait_for_log(&["login denied", "\"reason\":\"the code "]);
    let used = std::fs::read(scene.gateway.sandbox().path("state/totp-used.json"));
    let used: Value = serde_json::from_slice(&used.expect("what was used")).expect("JSON");
    assert!(used["used"][MAIN_KEY].as_u64().is_some(), "{used}");
    // Somebody else's, and what is none.
    for (key, given) in [("files", code(&scene, "onward", 0)), ("onward", String::new())] {
        denied(&ssh(&scene, key, &given, &["echo in"]), "keyboard-interactive");
        assert_eq!(asked(&scene), 3, "{key}");
    }
    scene.gateway.wait_for_log(&["login denied", "the code is wrong"]);
    // Without a key nobody is asked, whoever he says that he is.
    let first = ["-o", "PreferredAuthentications=keyboard-interactive", "echo in"];
    denied(&ssh(&scene, MAIN_KEY, &code(&scene, MAIN_KEY, 1), &first), "publickey");
    assert_eq!(asked(&scene), 0);
    denied(&ssh(&scene, "stranger", "000000", &["echo in"]), "publickey");
    assert_eq!(asked(&scene), 0);
    // Whose rule demands none gives none.
    assert_eq!(line(&ssh(&scene, "free", "", &["echo in"])), "in");
    assert_eq!(asked(&scene), 0);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn files_and_sessions_of_one_connection_need_one_code() {
    let Some(scene) = scene() else { return };
    let name = scene.container.name();
    let file = scene.gateway.sandbox().file("up", "content");
    let copied = giving(&scene, "scp", "files", &code(&scene, "files", 0)).arg(&file);
    let copied = copied.arg(format!("{name}@gateway:/tmp/up")).finish();
    assert_eq!((copied.code(), asked(&scene)), (Some(0), 1), "{copied}");
    assert_eq!(scene.container.sh("cat /tmp/up").stdout_text(), "content");
    // The next one comes early.
    let control = format!("ControlPath={}", scene.gateway.sandbox().path("control").display());
    let master = giving(&scene, "ssh", "files", &code(&scene, "files", 1))
        .args(["-b", &source_address(), "-M", "-N", "-o", &control])
        .arg(format!("{name}@gateway"))
        .deadline(Duration::from_secs(600))
        .start();
    let check = || {
        let run = Run::new("ssh").arg("-F").arg(config(&scene, "files"));
        run.args(["-O", "check", "-o", &control, &format!("{name}@gateway")]).finish()
    };
    e2e::ssh_gateway::wait_until(ANSWER_TIME_MAX, "a master", || {
        let said = check();
        if said.code() == Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    for number in 0..3 {
        let run = Run::new("ssh").arg("-F").arg(config(&scene, "files")).args(["-o", &control]);
        let run = run.arg(format!("{name}@gateway")).arg(format!("echo {number}"));
        assert_eq!(line(&run.deadline(ANSWER_TIME_MAX).finish()), number.to_string());
    }
    let sftp = Run::new("sftp").arg("-F").arg(config(&scene, "files")).args(["-o", &control]);
    let sftp = sftp.args(["-b", "-", &format!("{name}@gateway")]).stdin("ls /tmp\n");
    assert!(line(&sftp.deadline(ANSWER_TIME_MAX).finish()).contains("up"));
    assert_eq!(asked(&scene), 1);
    drop(master);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn who_has_given_a_code_goes_on_to_a_container_without_another() {
    let Some(scene) = scene() else { return };
    let gateway = &scene.gateway;
    let jump = |outer: &str, code: &str| {
        let of_target = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
        giving(&scene, "ssh", outer, code)
            .args(["-J", "_@gateway"])
            .args(of_target("IdentityFile", &gateway.key_file("onward").to_string_lossy()))
            .args(of_target("IdentitiesOnly", "yes"))
            .args(of_target("StrictHostKeyChecking", "yes"))
            .args(of_target("UserKnownHostsFile", &gateway.known_hosts().to_string_lossy()))
            .args(of_target("HostKeyAlias", &format!("[127.0.0.1]:{}", gateway.port())))
            .args([&format!("root@{}", scene.container.name()), "id -u"])
            .finish()
    };
    assert_eq!(line(&jump("onward", &code(&scene, "onward", 0))), "0");
    assert_eq!(asked(&scene), 1);
    gateway.wait_for_log(&["\"login\"", "\"factor\":\"totp, on the way\""]);
    // Neither without a code, nor through somebody else's connection.
    for outer in ["onward", "free"] {
        let denied = jump(outer, "");
        assert_eq!(denied.code(), Some(SSH_FAILED), "{outer}: {denied}");
        assert_eq!(asked(&scene), 3, "{outer}");
    }
    gateway.assert_idle(&[&scene.container]);
}

#[test]
fn asyncssh_gives_a_code() {
    let Some(scene) = scene() else { return };
    let run = |code: &str, wanted: &str| {
        let key = scene.gateway.key_file("python");
        let script = format!("{}/testdata/ssh/asyncssh_totp.py", env!("CARGO_MANIFEST_DIR"));
        let run = Run::new(e2e::ssh_gateway::python()?).arg(script);
        let run = run.arg(scene.gateway.port().to_string()).arg(scene.container.name()).arg(key);
        let run = run.arg(scene.gateway.known_hosts()).args([code, wanted]);
        Some(run.deadline(ANSWER_TIME_MAX).finish())
    };
    let Some(said) = run(&code(&scene, "python", 0), "in") else { return };
    assert_eq!(line(&said), "done");
    if let Some(said) = run("000000", "denied") {
        assert_eq!(line(&said), "done");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}
