//! The policy: who may do what where, as real clients find it.

use e2e::engine::Spec;
use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, wait_until};
use rustix::process::Signal;

use crate::ssh::{ANSWER_TIME_MAX, BINARY, Scene, line, start_echo};

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

/// The label of the container that most rules here are about.
const TIER: (&str, &str) = ("chores.test.tier", "front");

const RULES: &str = "
[[group]]
name = 'dev'
members = ['main', 'narrow']

[[rule]]
name = 'front'
who = ['dev']
labels = ['chores.test.tier=front']
users = ['www', '@container']
allow = ['exec', 'shell', 'terminal', 'sftp-read']
forward = ['localhost:7000']

[[rule]]
name = 'backup'
who = ['backup']
labels = ['chores.test.tier=*']
users = ['@container']
command = 'echo backup: $SSH_ORIGINAL_COMMAND'
from = ['127.0.0.0/8']

[[rule]]
name = 'elsewhere'
who = ['far']
containers = ['*']
users = ['*']
allow = ['exec']
from = ['192.0.2.0/24']

[[rule]]
name = 'over'
who = ['old']
containers = ['*']
users = ['*']
allow = ['exec']
expires = '20200101'
";

fn scene() -> Option<Scene> {
    Scene::new(
        |mut spec: Spec| {
            spec.labels.insert(TIER.0.to_owned(), TIER.1.to_owned());
            spec
        },
        |setup| {
            let setup = setup.key("narrow", "restrict").key("backup", "").key("far", "");
            setup.key("old", "").key("ruleless", "").policy(RULES)
        },
    )
}

#[test]
fn rules_bind_users_programs_files_and_forwards() {
    let Some(scene) = scene() else { return };
    let name = scene.container.name();
    let ask = |login: &str, script: &str| {
        scene.gateway.ssh(login).arg(script).deadline(ANSWER_TIME_MAX).finish()
    };
    // The first user of the rule, one that it names, and one that it does not.
    assert_eq!(line(&ask(name, "id -un")), "www");
    let said = ask(&format!("{name}+root"), "id -un");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    assert!(said.stderr_text().contains("the policy does not allow the user root"), "{said}");
    // A terminal by the rule; none where the line of the key takes it away.
    for (key, has_terminal) in [(MAIN_KEY, true), ("narrow", false)] {
        let run = scene.gateway.ssh_as(key, name).args(["-tt", "test -t 0 && echo terminal"]);
        let said = run.deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.stdout_text().contains("terminal"), has_terminal, "{key}: {said}");
    }
    // Files can be read and not written.
    let sftp = |commands: &str| {
        let run = scene.gateway.client("sftp").args(["-b", "-"]);
        run.arg(format!("{name}@gateway")).stdin(commands).deadline(ANSWER_TIME_MAX).finish()
    };
    let read = sftp("get /etc/passwd /dev/null\n");
    assert_eq!(read.code(), Some(0), "{read}");
    let written = sftp("mkdir /tmp/written\n");
    assert_ne!(written.code(), Some(0), "{written}");
    let found = scene.container.exec(["/bin/sh", "-c", "test -e /tmp/written"]);
    assert_ne!(found.code, 0, "a directory was made");
    // Somebody answers at both ports; the rule names one, and the line of a key takes it away.
    start_echo(&scene.container, 7000);
    start_echo(&scene.container, 7001);
    for (key, target, wanted) in [
        (MAIN_KEY, "localhost:7000", "hello\n"),
        (MAIN_KEY, "localhost:7001", ""),
        (MAIN_KEY, "127.0.0.1:7000", ""),
        ("narrow", "localhost:7000", ""),
    ] {
        let said = scene.through(key, target, "hello\n");
        assert_eq!(said.stdout_text(), wanted, "{key} {target}: {said}");
    }
    let run = scene.gateway.ssh(name).args(["-o", "ExitOnForwardFailure=yes"]);
    let listening = run.args(["-R", "0:127.0.0.1:1", "echo in"]).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(listening.code(), Some(SSH_FAILED), "{listening}");
    // A forced command is all that there is.
    assert_eq!(line(&scene.sh_as("backup", "rm -rf /")), "backup: rm -rf /");
    scene.gateway.wait_for_log(&["session", "\"rule\":\"backup\"", "\"identity\":\"backup\""]);
    // Rules that count for somebody else, from elsewhere, or no more let nobody in.
    for key in ["far", "old", "ruleless"] {
        let said = scene.sh_as(key, "echo in");
        assert_eq!(said.code(), Some(SSH_FAILED), "{key}: {said}");
        assert!(said.stderr_text().contains("Permission denied (publickey)"), "{key}: {said}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn what_no_rule_opens_looks_like_what_does_not_exist() {
    let Some(scene) = scene() else { return };
    let other = scene.engine.start(Spec::new(scene.image.name(), ["/probe", "hold"]));
    let ask = |key: &str, login: &str| -> Finished {
        scene.gateway.ssh_as(key, login).arg("echo in").deadline(ANSWER_TIME_MAX).finish()
    };
    let words = |said: &Finished, name: &str| {
        (said.code(), said.stdout_text(), said.stderr_text().replace(name, "X"))
    };
    let unknown = words(&ask(MAIN_KEY, "no-such-container"), "no-such-container");
    assert_eq!(unknown.0, Some(SSH_FAILED));
    assert_eq!(words(&ask(MAIN_KEY, other.name()), other.name()), unknown);
    // Who may come in nowhere is told the same of every name.
    let stranger = words(&ask("ruleless", "no-such-container"), "no-such-container");
    for name in [other.name(), scene.container.name()] {
        assert_eq!(words(&ask("ruleless", name), name), stranger);
    }
}

#[test]
fn a_broken_policy_changes_nothing_until_it_is_mended() {
    let Some(scene) = scene() else { return };
    let file = scene.gateway.policy();
    let before = std::fs::read_to_string(&file).expect("the policy");
    assert_eq!(line(&scene.sh("echo in")), "in");
    // Nothing but the fault elsewhere keeps them out.
    let opened = "[[rule]]\nname = 'open'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\nallow = ['exec']\n";
    let broken = before.replace("expires = '20200101'", "expires = 'never'") + opened;
    std::fs::write(&file, broken).expect("writes the policy");
    scene.gateway.signal(Signal::HUP);
    scene.gateway.wait_for_log(&["policy refused", "the one before still counts", "expires"]);
    assert_eq!(line(&scene.sh("echo in")), "in");
    for key in ["old", "far", "ruleless"] {
        assert_eq!(scene.sh_as(key, "echo in").code(), Some(SSH_FAILED), "{key}");
    }
    // Nobody asks for it to be read this time.
    let mended = before.replace("members = ['main', 'narrow']", "members = ['narrow']");
    std::fs::write(&file, mended).expect("writes the policy");
    wait_until(CLEAN_UP_TIME_MAX, "the key is refused", || {
        let said = scene.sh("echo in");
        if said.code() == Some(SSH_FAILED) { Ok(()) } else { Err(said.to_string()) }
    });
    scene.gateway.wait_for_log(&["policy read", "\"rules\":4"]);
    assert_eq!(line(&scene.sh_as("narrow", "id -un")), "www");
}

#[test]
fn what_is_taken_away_is_gone_for_connections_that_exist() {
    let Some(scene) = scene() else { return };
    let name = scene.container.name();
    let file = scene.gateway.policy();
    let before = std::fs::read_to_string(&file).expect("the policy");
    let socket = scene.gateway.sandbox().path("master.sock").display().to_string();
    let _master = scene.gateway.ssh(name).args(["-M", "-N", "-S", &socket]).start();
    wait_until(ANSWER_TIME_MAX, "there is a connection", || {
        if std::path::Path::new(&socket).exists() { Ok(()) } else { Err(socket.clone()) }
    });
    let ask = || {
        let run = scene.gateway.ssh(name).args(["-S", &socket, "echo in"]);
        run.deadline(ANSWER_TIME_MAX).finish()
    };
    assert_eq!(line(&ask()), "in");
    // A rule beside it takes nothing away.
    let other = "[[rule]]\nname = 'other'\nwho = ['far']\ncontainers = ['x']\nusers = ['*']\nallow = ['exec']\n";
    std::fs::write(&file, other.to_owned() + &before).expect("writes the policy");
    scene.gateway.wait_for_log(&["policy read", "\"rules\":5"]);
    assert_eq!(line(&ask()), "in");
    let narrowed = before.replace("members = ['main', 'narrow']", "members = ['narrow']");
    let third = other.replace("other", "third");
    std::fs::write(&file, narrowed + other + &third).expect("writes the policy");
    scene.gateway.wait_for_log(&["policy read", "\"rules\":6"]);
    assert_ne!(ask().code(), Some(0));
    scene.gateway.wait_for_log(&["session refused", "has been changed since: connect again"]);
}

#[test]
fn who_came_in_with_a_key_is_nobody_else_once_it_is_somebody_else_s() {
    let Some(scene) = scene() else { return };
    let file = scene.gateway.policy();
    let before = std::fs::read_to_string(&file).expect("the policy");
    let socket = scene.gateway.sandbox().path("master.sock").display().to_string();
    // Nothing is chosen by this name: who may do what is asked anew each time.
    let _master = scene.gateway.ssh("_").args(["-M", "-N", "-S", &socket]).start();
    wait_until(ANSWER_TIME_MAX, "there is a connection", || {
        if std::path::Path::new(&socket).exists() { Ok(()) } else { Err(socket.clone()) }
    });
    let ask = || {
        let run = scene.gateway.ssh("_").args(["-S", &socket, "ls"]);
        run.deadline(ANSWER_TIME_MAX).finish()
    };
    let said = ask();
    assert_eq!(said.code(), Some(0), "{said}");
    let other = "[[rule]]\nname = 'other'\nwho = ['far']\ncontainers = ['x']\nusers = ['*']\nallow = ['exec']\n";
    let renamed = before.replace("'main'", "'heir'").replace("\"main\"", "\"heir\"");
    assert_ne!(renamed, before);
    std::fs::write(&file, renamed + other).expect("writes the policy");
    scene.gateway.wait_for_log(&["policy read", "\"rules\":5"]);
    let said = ask();
    assert_ne!(said.code(), Some(0), "{said}");
    // A connection of its own is the heir's.
    let said = scene.gateway.ssh("_").arg("ls").deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(0), "{said}");
}

#[test]
fn a_policy_is_explained_and_tested_without_a_gateway() {
    let Some(scene) = scene() else { return };
    let name = scene.container.name();
    let policy = |words: &[&str]| {
        let run = Run::new(BINARY).arg("policy").args(words.iter().copied());
        run.arg("--policy").arg(scene.gateway.policy()).finish()
    };
    let said = policy(&["explain", "main", name]);
    let text = line(&said);
    for words in [
        "rule front (line ",
        ": decides",
        "rule backup (line ",
        ": does not fit: it is not about the key",
        "as the user www",
        "may: enter, shell, exec, sftp-read, terminal",
        "may not: sftp, agent",
        "forwards to: localhost:7000",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let denied = policy(&["explain", "old", name, "--json"]);
    let answer = denied.json();
    assert_eq!(answer["access"]["enters"], false, "{answer}");
    assert_eq!(answer["identity"], "old", "{answer}");
    let then = policy(&["explain", "old", name, "--at", "2019-01-01T00:00:00Z"]);
    assert!(line(&then).contains("rule over (line "), "{then}");
    let nobody = policy(&["explain", "nobody", name]);
    assert_eq!(nobody.code(), Some(2), "{nobody}");
    let table = |rows: &str| {
        let text = format!(
            "[[container]]\nname = 'web'\nlabels = {{\"{}\" = '{}'}}\n{rows}",
            TIER.0, TIER.1
        );
        scene.gateway.sandbox().file("expectations.toml", text).display().to_string()
    };
    let row = "[[expect]]\nwho = 'main'\ntarget = 'web'\nmay = ['shell', 'forward localhost:7000']\nmay_not = ['agent']\n";
    let said = policy(&["test", &table(row)]);
    assert_eq!(line(&said), "1 of 1 expectations hold");
    let said = policy(&["test", &table(&row.replace("'agent'", "'exec'"))]);
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stdout_text().contains("expectations.toml:4: main with SHA256:"), "{said}");
    assert!(said.stdout_text().contains("0 of 1 expectations hold"), "{said}");
}
