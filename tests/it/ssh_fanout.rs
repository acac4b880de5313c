//! One command in several containers: `ssh tier=db@gateway -- command`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use e2e::engine::{Container, Spec};
use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, source_address, wait_until};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, Scene, TIER};

/// Exit status of OpenSSH's client when there was no session, and the gateway's own for what did not run.
const FAILED: i32 = 255;

/// Three containers of a tier, in which its keys may fan out (but `narrow`), in the order of their names.
struct Tier {
    scene: Scene,
    others: Vec<Container>,
    login: String,
}

impl Tier {
    fn new() -> Option<Self> {
        let tier = e2e::sandbox::unique_name();
        let rules = format!(
            "
[[rule]]
name = 'narrow'
who = ['narrow']
labels = ['{TIER}={tier}']
users = ['*']
allow = ['exec', 'shell', 'terminal']

[[rule]]
name = 'half'
who = ['half']
labels = ['{TIER}={tier}', 'chores.test.half=yes']
users = ['*']
allow = ['exec']
fanout = true

[[rule]]
name = 'rest'
who = ['half']
labels = ['{TIER}={tier}']
users = ['*']
allow = ['exec']

[[rule]]
name = 'tier'
who = ['main']
labels = ['{TIER}={tier}']
users = ['*']
allow = ['exec', 'shell', 'terminal', 'sftp']
record = 'output'
fanout = true
"
        );
        let of_tier = |half: bool| {
            let tier = tier.clone();
            move |mut spec: Spec| {
                spec.labels.insert(TIER.to_owned(), tier);
                if half {
                    spec.labels.insert("chores.test.half".to_owned(), "yes".to_owned());
                }
                spec
            }
        };
        let scene = Scene::new(of_tier(true), |setup| {
            setup.key("narrow", "").key("half", "").policy(&rules)
        })?;
        let start = |half| {
            scene.engine.start(of_tier(half)(Spec::new(scene.image.name(), ["/probe", "hold"])))
        };
        let others = vec![start(true), start(false)];
        Some(Self { scene, others, login: format!("{TIER}={tier}") })
    }

    fn containers(&self) -> Vec<&Container> {
        std::iter::once(&self.scene.container).chain(&self.others).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.containers().iter().map(|one| one.name().to_owned()).collect();
        names.sort();
        names
    }

    fn run(&self, words: &[&str]) -> Run {
        self.run_as(MAIN_KEY, words)
    }

    fn run_as(&self, key: &str, words: &[&str]) -> Run {
        let run = self.scene.gateway.ssh_as(key, &self.login).args(words.iter().copied());
        run.deadline(ANSWER_TIME_MAX)
    }
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn lines_of(names: &[String], lines: &[&str]) -> Vec<String> {
    let all = names.iter().flat_map(|name| lines.iter().map(move |line| format!("{name}: {line}")));
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

#[test]
fn a_command_runs_in_every_container_that_the_name_means() {
    let Some(tier) = Tier::new() else { return };
    let names = tier.names();
    for (number, container) in tier.containers().iter().enumerate() {
        container.sh(&format!("echo {number} > /tmp/status"));
    }
    let script = "echo one; echo two >&2; printf three; exit $(cat /tmp/status)";
    let said = tier.run(&[script]).finish();
    assert_eq!(said.code(), Some(2), "{said}");
    assert_eq!(sorted(&said.stdout_text()), lines_of(&names, &["one", "three"]), "{said}");
    let text = said.stderr_text();
    let (summary, errors): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("--"));
    assert_eq!(sorted(&errors.join("\n")), lines_of(&names, &["two"]), "{said}");
    let status = |name: &String| {
        let containers = tier.containers();
        let number = containers.iter().position(|one| one.name() == name).expect("one of them");
        format!("-- {name}: status {number}")
    };
    let wanted: Vec<_> = std::iter::once("-- 3 containers, 2 failed".to_owned())
        .chain(names.iter().map(status))
        .collect();
    assert_eq!(summary, wanted, "{said}");
    // The same for programs, in one line.
    let said = tier.run(&["-o", "SetEnv=CHORES_SUMMARY=json", "true"]).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    let summary: Value = serde_json::from_slice(&said.stderr).expect("one line of JSON");
    let told: Vec<_> =
        names.iter().map(|name| serde_json::json!({"name": name, "status": 0})).collect();
    assert_eq!(summary, serde_json::json!({"containers": told, "status": 0}));
    // Each is a session of its own for who keeps the records.
    for name in &names {
        let container = format!("\"container\":\"{name}\"");
        tier.scene.gateway.wait_for_log(&["\"session\"", &container, "\"recording\":\"", "tier"]);
    }
    // Ends of programs by a signal, and as a user that the login name asks for.
    let said = tier.run(&["kill -9 $$"]).finish();
    assert_eq!(said.code(), Some(137), "{said}");
    assert!(said.stderr_text().contains(&format!("-- {}: signal 9", names[0])), "{said}");
    let login = format!("{}+33", tier.login);
    let said = tier.scene.gateway.ssh(&login).arg("id -u").deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(sorted(&said.stdout_text()), lines_of(&names, &["33"]), "{said}");
    tier.scene.gateway.assert_idle(&tier.containers());
}

#[test]
fn all_of_them_get_the_input_and_too_much_of_it_ends_them() {
    let Some(tier) = Tier::new() else { return };
    let names = tier.names();
    let said = tier.run(&["cat"]).stdin("a\nb\n").finish();
    assert_eq!(said.code(), Some(0), "{said}");
    assert_eq!(sorted(&said.stdout_text()), lines_of(&names, &["a", "b"]), "{said}");
    let said = tier.run(&["cat >/dev/null; sleep 1000"]).stdin(vec![b'x'; 2_000_000]).finish();
    assert_eq!(said.code(), Some(FAILED), "{said}");
    assert!(said.stderr_text().contains("more than 1 MiB of input"), "{said}");
    tier.scene.gateway.assert_idle(&tier.containers());
}

#[test]
fn without_leave_of_every_container_nothing_runs() {
    let Some(tier) = Tier::new() else { return };
    let refused = |said: &Finished, words: &str| {
        assert_eq!(said.code(), Some(FAILED), "{said}");
        assert_eq!(said.stdout_text(), "", "{said}");
        assert!(said.stderr_text().contains(words), "{said}");
    };
    let list = format!("means 3 containers: {}", tier.names().join(", "));
    let make = "touch /tmp/ran; echo ran";
    // No rule says so; the rules of some do; and what is no command.
    refused(&tier.run_as("narrow", &[make]).finish(), &list);
    refused(&tier.run_as("half", &[make]).finish(), &list);
    refused(&tier.run(&["-T"]).stdin(make).finish(), &list);
    refused(&tier.run(&["-s", "sftp"]).finish(), &list);
    refused(&tier.run(&["-tt", make]).finish(), "has no terminal: leave -t out");
    for container in tier.containers() {
        assert_ne!(container.exec(["/bin/sh", "-c", "test -e /tmp/ran"]).code, 0, "it ran");
    }
    // Who may not enter them is told what he is told of a label that nothing has.
    let nobody = tier.scene.gateway.ssh("chores.test.tier=nobody").arg(make);
    let nobody = nobody.deadline(ANSWER_TIME_MAX).finish();
    refused(&nobody, "there is no container chores.test.tier=nobody that this key may enter");
    // Where the rule of all says so, it does: two of them have the label of the other rule.
    let both = format!("{},chores.test.half=yes", tier.login);
    let said = tier.scene.gateway.ssh_as("half", &both).arg("echo in");
    let said = said.deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    assert_eq!(said.stdout_text().lines().count(), 2, "{said}");
    tier.scene.gateway.assert_idle(&tier.containers());
}

#[test]
fn a_container_that_cannot_be_entered_is_told_and_the_others_go_on() {
    let Some(tier) = Tier::new() else { return };
    let paused = &tier.others[0];
    paused.pause();
    let said = tier.run(&["echo in"]).finish();
    paused.unpause();
    assert_eq!(said.code(), Some(FAILED), "{said}");
    let wanted = format!("-- {}: not run: the container is paused", paused.name());
    assert!(said.stderr_text().contains(&wanted), "{said}");
    assert_eq!(said.stdout_text().lines().count(), 2, "{said}");
    tier.scene.gateway.assert_idle(&tier.containers());
}

#[test]
fn when_the_client_goes_all_of_it_ends() {
    let Some(tier) = Tier::new() else { return };
    let mut client = Command::new("ssh")
        .arg("-F")
        .arg(tier.scene.gateway.config(MAIN_KEY))
        .args(["-b", &source_address()])
        .arg(format!("{}@gateway", tier.login))
        .arg("echo in; sleep 1000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts ssh");
    let mut lines = BufReader::new(client.stdout.take().expect("its output")).lines();
    for _ in 0..3 {
        let line = lines.next().expect("a line").expect("reads a line");
        assert!(line.ends_with(": in"), "{line}");
    }
    // Each can be seen, and ended alone.
    let state = tier.scene.gateway.sandbox().path("state");
    let sessions = |words: &[&str]| {
        let run = Run::new(crate::ssh::BINARY).arg("sessions").args(words.iter().copied());
        run.arg("--state").arg(&state).deadline(ANSWER_TIME_MAX).succeed()
    };
    let told = sessions(&["ls", "--json"]).json_lines();
    assert_eq!(told.len(), 3, "{told:#?}");
    let one = told[0]["session"].as_str().expect("its name");
    sessions(&["kill", one]);
    wait_until(CLEAN_UP_TIME_MAX, "one session less", || {
        let left = sessions(&["ls", "--json"]).json_lines();
        if left.len() == 2 { Ok(()) } else { Err(format!("{left:#?}")) }
    });
    client.kill().expect("kills ssh");
    client.wait().expect("waits for ssh");
    tier.scene.gateway.assert_idle(&tier.containers());
}
