//! What the gateway itself tells its clients: `ssh _@gateway ls`, `ssh _@gateway events`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, source_address};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, Scene, TIER, of_tier, tier_rule};

/// The login name of who means the gateway itself.
const GATEWAY: &str = "_";

/// A login name that is like that of no container.
const NOBODY: &str = "operator";

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

/// How often something is done that may have come too early to be told.
const ATTEMPTS_MAX: usize = 5;

/// A gateway whose first key may enter the containers of one tier; what it is called is the second.
fn scene() -> Option<(Scene, String)> {
    let tier = e2e::sandbox::unique_name();
    let rules = format!(
        "{}
[[rule]]
name = 'forced'
who = ['forced']
labels = ['{TIER}={tier}']
users = ['@container']
command = 'id'
",
        tier_rule(&tier)
    );
    let scene =
        Scene::new(|spec| of_tier(spec, &tier), |setup| setup.key("forced", "").policy(&rules))?;
    Some((scene, tier))
}

fn finish(run: Run) -> Finished {
    run.deadline(ANSWER_TIME_MAX).finish()
}

#[test]
fn a_key_is_told_what_it_may_enter_and_nothing_else() {
    let Some((scene, _)) = scene() else { return };
    let other = scene.start(|spec| spec);
    let name = scene.container.name();
    for words in [&["ls"][..], &["-tt", "ls"], &["ls --json"]] {
        let said = finish(scene.gateway.ssh(GATEWAY).args(words.iter().copied()));
        assert_eq!(said.code(), Some(0), "{words:?}: {said}");
        let text = said.stdout_text();
        assert!(text.contains(name) && !text.contains(other.name()), "{words:?}: {said}");
        let is_obeyed = |character: char| {
            (character.is_control() && !matches!(character, '\r' | '\n')) || character == '\u{202e}'
        };
        assert!(!text.contains(is_obeyed) && !text.contains("\\u"), "{words:?}: {said}");
    }
    let said = finish(scene.gateway.ssh(GATEWAY).arg("ls --json"));
    let told: Value = serde_json::from_slice(&said.stdout).expect("one container");
    assert_eq!((&told["name"], &told["id"]), (&name.into(), &scene.container.id().into()));
    assert_eq!((&told["state"], &told["project"]), (&"running".into(), &"shop".into()));
    // A container has commands of its own.
    let said = scene.sh("ls");
    assert_eq!(said.code(), Some(0), "{said}");
    assert!(!said.stdout_text().contains(name), "{said}");
    // Other words and other names are for a container, and who is forced to one thing gets nothing else.
    let refused = [
        scene.gateway.ssh(GATEWAY).arg("ls /"),
        scene.gateway.ssh(NOBODY).arg("ls"),
        scene.gateway.ssh_as("forced", GATEWAY).arg("ls"),
    ];
    for run in refused {
        let said = finish(run);
        assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
        assert_eq!(said.stdout_text(), "", "{said}");
    }
    scene.gateway.wait_for_log(&["inquiry", "\"what\":\"ls\""]);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn what_happens_to_containers_is_told_to_who_may_enter_them() {
    let Some((scene, tier)) = scene() else { return };
    let mut client = Command::new("ssh")
        .arg("-F")
        .arg(scene.gateway.config(MAIN_KEY))
        .args(["-b", &source_address()])
        .arg(format!("{GATEWAY}@gateway"))
        .arg("events --json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts ssh");
    let (sender, told) = channel();
    let stdout = BufReader::new(client.stdout.take().expect("stdout is piped"));
    let reading = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).expect("an event");
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    scene.gateway.wait_for_log(&["inquiry", "\"what\":\"events\""]);
    let foreign = scene.start(|spec| spec);
    // The next event of this container, if there is one in time.
    let next = |name: &str| -> Option<Value> {
        loop {
            let event = told.recv_timeout(CLEAN_UP_TIME_MAX).ok()?;
            if event["name"] == name {
                return Some(event);
            }
            assert_ne!(event["name"], foreign.name(), "{event}");
        }
    };
    // What was there at the first look is no event.
    let mut found = None;
    for _ in 0..ATTEMPTS_MAX {
        let container = scene.start(|spec| of_tier(spec, &tier));
        if let Some(event) = next(container.name()) {
            found = Some((container, event));
            break;
        }
    }
    let (container, first) = found.expect("an event");
    let name = container.name().to_owned();
    let mut events = vec![first];
    events.extend(next(&name));
    container.kill();
    events.extend(next(&name));
    container.remove();
    events.extend(next(&name));
    let words: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(words, ["create", "start", "stop", "remove"], "{events:#?}");
    client.kill().expect("ends ssh");
    client.wait().expect("ssh ends");
    reading.join().expect("reads to the end");
    scene.gateway.assert_idle(&[&scene.container]);
}
