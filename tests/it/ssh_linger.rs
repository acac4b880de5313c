//! Terminals whose connection is lost wait for their client, and are returned to: OpenSSH's client in a terminal emulator, killed,
//! stopped, and come again.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::process::Run;
use e2e::sandbox::Sandbox;
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, Setup, Tmux, source_address, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ssh::{BINARY, Scene};

/// `main` and `other` may return for ten minutes, `brief` for two seconds, `never` not at all.
const RULES: &str = "
[[rule]]
name = 'lingering'
who = ['main', 'other']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal']
record = 'output'
linger = '10m'

[[rule]]
name = 'brief'
who = ['brief']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal']
linger = '2s'

[[rule]]
name = 'never'
who = ['never']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal']
";

/// A client that is silent is given up after seconds.
const IMPATIENT: &str = "[limits]\nkeepalive = \"4s\"\nkeepalive_count = 2\n";

/// What is asked.
const QUESTION: &str = "Return to it? [Y/n]";

fn scene(config: &str) -> Option<Scene> {
    let keys = |setup: Setup| setup.key("other", "").key("brief", "").key("never", "");
    Scene::new(|spec| spec, |setup| keys(setup).policy(RULES).config(config))
}

/// OpenSSH's client in a terminal.
struct Client {
    tmux: Tmux,
    /// Where it comes from, which no other one does.
    address: String,
    _sandbox: Sandbox,
}

impl Client {
    fn start(scene: &Scene, key: &str, command: &[&str]) -> Option<Self> {
        let target = format!("{}@gateway", scene.container.name());
        Self::of(scene, key, &[], &[&[target.as_str()], command].concat())
    }

    /// With the container as a host behind the gateway (`ssh -J`).
    fn jump(scene: &Scene) -> Option<Self> {
        let gateway = &scene.gateway;
        let options = [
            format!("IdentityFile={}", gateway.key_file(MAIN_KEY).display()),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", gateway.known_hosts().display()),
            format!("HostKeyAlias=[127.0.0.1]:{}", gateway.port()),
        ];
        let options: Vec<_> = options.iter().flat_map(|option| ["-o", option]).collect();
        let target = format!("root@{}", scene.container.name());
        Self::of(scene, MAIN_KEY, &[&["-J", "_@gateway"], &options[..]].concat(), &[&target])
    }

    fn of(scene: &Scene, key: &str, options: &[&str], words: &[&str]) -> Option<Self> {
        let (sandbox, address) = (Sandbox::new(), source_address());
        let run = Run::new("ssh").arg("-F").arg(scene.gateway.config(key)).args(["-b", &address]);
        let run = run.arg("-t").args(options.iter().copied()).args(words.iter().copied());
        let tmux = Tmux::start(&sandbox, &run, 100, 30)?;
        Some(Self { tmux, address, _sandbox: sandbox })
    }

    /// Its process.
    fn pid(&self) -> Pid {
        self.process(|_, line| line.contains(&format!("-b\0{}\0", self.address)))
    }

    /// The process of the outer client, which the other one has started.
    fn outer(&self) -> Pid {
        let parent = self.pid().as_raw_pid();
        self.process(|pid, line| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            line.contains("\0-W\0") && status.contains(&format!("PPid:\t{parent}\n"))
        })
    }

    fn process(&self, is_it: impl Fn(i32, &str) -> bool) -> Pid {
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found = pids.find(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"ssh\0") && is_it(*pid, &String::from_utf8_lossy(&line))
        });
        found.and_then(Pid::from_raw).expect("ssh runs")
    }

    /// Its machine is gone, as far as anybody can see.
    fn kill(&self) {
        kill_process(self.pid(), Signal::KILL).expect("kills ssh");
    }

    /// Its shell is there, and knows a number.
    fn is_ready(&self) {
        self.tmux.line("PS1='> '; mark=$((40+2)); echo ready:$mark");
        self.shows("ready:42");
    }

    /// It has ended so.
    fn has_ended(&self, status: i32) {
        self.shows(&format!("[ended with {status}]"));
    }

    /// Waits for words that are not typed so: a prompt, or the terminal's answer to a question of the shell, may stand before
    /// them on their line.
    fn shows(&self, words: &str) {
        self.shows_one(&[words]);
    }

    fn shows_one(&self, words: &[&str]) {
        wait_until(CLEAN_UP_TIME_MAX, &format!("{words:?} on the screen"), || {
            let screen = self.tmux.screen();
            if words.iter().any(|words| screen.contains(words)) { Ok(()) } else { Err(screen) }
        });
    }

    /// It is in the shell again that [`Client::is_ready`] was said of.
    fn is_there_again(&self) {
        self.tmux.line("echo again:$mark");
        self.shows("again:42");
    }
}

fn state(scene: &Scene) -> PathBuf {
    scene.gateway.sandbox().path("state")
}

fn gateway(words: &[&str], state: &Path) -> Run {
    Run::new(BINARY).args(words.iter().copied()).arg("--state").arg(state)
}

fn sessions(scene: &Scene) -> Vec<Value> {
    let said = gateway(&["sessions", "ls", "--json"], &state(scene)).succeed();
    let lines = said.stdout_text();
    lines.lines().map(|line| serde_json::from_str(line).expect("a session")).collect()
}

/// Waits until so many sessions wait for their client; their names.
fn lingering(scene: &Scene, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    wait_until(CLEAN_UP_TIME_MAX, "sessions that wait", || {
        let all = sessions(scene);
        let waiting = all.iter().filter(|session| session["lingering"].is_string());
        names = waiting.filter_map(|one| Some(one["session"].as_str()?.to_owned())).collect();
        if names.len() == count { Ok(()) } else { Err(format!("{all:#?}")) }
    });
    names
}

/// The lines of the audit about this, in their order.
fn audit(scene: &Scene, event: &str) -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(state(scene).join("audit"))
        .expect("the audit")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".jsonl"))
        .collect();
    files.sort();
    let texts = files.iter().map(|path| fs::read_to_string(path).expect("reads the audit"));
    let lines = texts.flat_map(|text| {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
    });
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn who_was_killed_finds_his_shell_and_what_it_said_and_nobody_else_does() {
    let Some(scene) = scene("") else { return };
    let Some(first) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    first.is_ready();
    let script =
        "echo wai''ting; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo in the mean''time";
    first.tmux.line(script);
    first.shows("waiting");
    first.kill();
    let name = lingering(&scene, 1).remove(0);
    let table = gateway(&["sessions", "ls"], &state(&scene)).succeed().stdout_text();
    assert!(table.contains("lingering since "), "{table}");
    scene.container.sh("touch /tmp/go");
    // Another key of the same rule is asked nothing.
    let Some(other) = Client::start(&scene, "other", &[]) else { return };
    other.is_ready();
    assert!(!other.tmux.screen().contains(QUESTION), "{}", other.tmux.screen());
    other.tmux.line("exit 3");
    other.has_ended(3);
    // Nor is a command.
    let said = scene.ssh().arg("echo in").finish();
    assert_eq!(said.stdout_text(), "in\n", "{said}");
    let Some(second) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    second.shows(QUESTION);
    second.tmux.line("y");
    second.shows("in the meantime");
    second.is_there_again();
    assert!(lingering(&scene, 0).is_empty());
    second.tmux.resize(80, 24);
    second.tmux.line("until [ \"$(stty size)\" = \"24 8\"\"0\" ]; do sleep 0.1; done; stty size");
    second.shows("24 80");
    second.tmux.line("exit 7");
    second.has_ended(7);
    scene.gateway.assert_idle(&[&scene.container]);
    // All of it is one session, in one recording.
    let of = |event: &str| -> Vec<Value> {
        audit(&scene, event).into_iter().filter(|line| line["name"] == name.as_str()).collect()
    };
    for event in ["session", "lost", "attached", "exit"] {
        assert_eq!(of(event).len(), 1, "{event}: {:#?}", of(event));
    }
    assert_eq!(of("exit")[0]["status"], 7);
    assert_ne!(of("attached")[0]["connection"], of("session")[0]["connection"]);
    let recording = of("session")[0]["recording"].as_str().expect("a recording").to_owned();
    let path = state(&scene).join("recordings").join(recording);
    wait_until(CLEAN_UP_TIME_MAX, "the whole recording", || {
        let replayed = Run::new(BINARY).args(["replay", "--raw"]).arg(&path).finish();
        let text = replayed.stdout_text();
        let is_whole =
            ["ready:42", "in the meantime", "again:42"].iter().all(|word| text.contains(word));
        if is_whole { Ok(()) } else { Err(text) }
    });
    let verified = gateway(&["audit", "verify"], &state(&scene)).finish();
    assert_eq!(verified.code(), Some(0), "{verified}");
}

#[test]
fn who_says_no_has_a_new_shell_and_may_return_later() {
    let Some(scene) = scene("") else { return };
    let Some(first) = Client::start(&scene, MAIN_KEY, &["sh", "-i"]) else { return };
    first.is_ready();
    first.kill();
    lingering(&scene, 1);
    let Some(second) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    second.shows(QUESTION);
    assert!(second.tmux.screen().contains("command sh -i"), "{}", second.tmux.screen());
    second.tmux.line("n");
    second.tmux.line("echo mark:$mark:");
    second.shows("mark::");
    second.tmux.line("exit 4");
    second.has_ended(4);
    let Some(third) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    third.shows(QUESTION);
    third.tmux.line("");
    third.is_there_again();
    third.tmux.line("exit 5");
    third.has_ended(5);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn what_its_client_ends_does_not_wait() {
    let Some(scene) = scene("") else { return };
    // `~.` of a client whose connection works; a rule that says nothing of lingering; the end of the program.
    for (key, is_killed) in [(MAIN_KEY, false), ("never", true)] {
        let Some(client) = Client::start(&scene, key, &[]) else { return };
        client.is_ready();
        if is_killed {
            client.kill();
        } else {
            // The shell asks where the cursor is, and an answer behind the line end would hide the `~`.
            client.tmux.line("echo in c''at; cat");
            client.shows("in cat");
            client.tmux.line("");
            client.tmux.line("~.");
            client.has_ended(255);
        }
        scene.gateway.assert_idle(&[&scene.container]);
        assert!(lingering(&scene, 0).is_empty());
    }
    // Its window is closed in the midst of output that it has not read.
    let Some(client) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    client.is_ready();
    client.tmux.line("while :; do echo fl''ows; done");
    client.shows("flows");
    kill_process(client.pid(), Signal::HUP).expect("hangs ssh up");
    scene.gateway.assert_idle(&[&scene.container]);
    let Some(client) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    client.is_ready();
    client.tmux.line("exit 6");
    client.has_ended(6);
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(audit(&scene, "lost"), Vec::<Value>::new());
}

/// The stream of the inner connection only ends, however its client has left.
#[test]
fn what_came_through_the_gateway_waits_when_that_connection_is_lost_and_not_when_its_client_leaves()
{
    // Patient: on a busy machine, a client that says nothing for seconds is lost.
    let Some(patient) = scene("") else { return };
    for signal in [None, Some(Signal::HUP), Some(Signal::TERM), Some(Signal::KILL)] {
        let Some(client) = Client::jump(&patient) else { return };
        client.is_ready();
        match signal {
            // Its last word may be under way when the outer client goes, or it has none.
            Some(signal) => kill_process(client.pid(), signal).expect("ends ssh"),
            None => {
                client.tmux.line("echo in c''at; cat");
                client.shows("in cat");
                client.tmux.line("");
                client.tmux.line("~.");
            }
        }
        client.shows("[ended with");
        patient.gateway.assert_idle(&[&patient.container]);
        assert!(lingering(&patient, 0).is_empty());
    }
    assert_eq!(audit(&patient, "lost"), Vec::<Value>::new());
    drop(patient);
    // The network dies, or the machine.
    let Some(scene) = scene(IMPATIENT) else { return };
    for signal in [Signal::STOP, Signal::KILL] {
        let Some(client) = Client::jump(&scene) else { return };
        client.is_ready();
        let outer = client.outer();
        kill_process(outer, signal).expect("stops the outer ssh");
        lingering(&scene, 1);
        kill_process(outer, Signal::KILL).ok();
        let Some(second) = Client::jump(&scene) else { return };
        second.shows(QUESTION);
        second.tmux.line("y");
        second.is_there_again();
        second.tmux.line("exit 0");
        second.has_ended(0);
        scene.gateway.assert_idle(&[&scene.container]);
    }
}

#[test]
fn what_nobody_returns_to_ends_in_time() {
    let Some(scene) = scene("") else { return };
    let Some(client) = Client::start(&scene, "brief", &[]) else { return };
    client.is_ready();
    client.tmux.line("(trap '' HUP TERM; sleep 3001) & sleep 3002");
    client.kill();
    wait_until(CLEAN_UP_TIME_MAX, "the end of its time", || {
        let ended = audit(&scene, "linger-ended");
        if ended.iter().any(|line| line["reason"] == "nobody has returned in time") {
            Ok(())
        } else {
            Err(format!("{ended:?}"))
        }
    });
    scene.gateway.assert_idle(&[&scene.container]);
    assert!(sessions(&scene).is_empty());
    let Some(client) = Client::start(&scene, "brief", &[]) else { return };
    client.is_ready();
    assert!(!client.tmux.screen().contains(QUESTION), "{}", client.tmux.screen());
    client.tmux.line("exit 0");
    client.has_ended(0);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_session_is_ended_while_it_waits_and_when_it_was_returned_to() {
    let Some(scene) = scene("") else { return };
    for returns in [false, true] {
        let Some(first) = Client::start(&scene, MAIN_KEY, &[]) else { return };
        first.is_ready();
        first.kill();
        let name = lingering(&scene, 1).remove(0);
        let mut again = None;
        if returns {
            let Some(second) = Client::start(&scene, MAIN_KEY, &[]) else { return };
            second.shows(QUESTION);
            second.tmux.line("y");
            second.is_there_again();
            again = Some(second);
        }
        gateway(&["sessions", "kill", &name], &state(&scene)).succeed();
        if let Some(second) = &again {
            second.has_ended(255);
        }
        scene.gateway.assert_idle(&[&scene.container]);
    }
    let ended = audit(&scene, "linger-ended");
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert_eq!(ended[0]["reason"], "it was killed");
}

#[test]
fn of_two_who_return_at_once_one_has_the_session() {
    let Some(scene) = scene("") else { return };
    let Some(first) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    first.is_ready();
    first.kill();
    lingering(&scene, 1);
    let both: Vec<_> = (0..2).filter_map(|_| Client::start(&scene, MAIN_KEY, &[])).collect();
    for client in &both {
        client.shows(QUESTION);
    }
    for client in &both {
        client.tmux.line("y");
    }
    for client in &both {
        client.tmux.line("echo mark:$mark:");
        client.shows_one(&["mark:42:", "mark::"]);
    }
    let screens: Vec<_> = both.iter().map(|client| client.tmux.screen()).collect();
    for words in ["mark:42:", "a new one begins"] {
        let count = screens.iter().filter(|screen| screen.contains(words)).count();
        assert_eq!(count, 1, "{words}: {screens:#?}");
    }
    for client in &both {
        client.tmux.line("exit 0");
        client.has_ended(0);
    }
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(audit(&scene, "attached").len(), 1);
}

#[test]
fn a_network_that_dies_while_output_flows_loses_the_session_and_does_not_end_it() {
    let Some(scene) = scene(IMPATIENT) else { return };
    let Some(first) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    first.is_ready();
    first.tmux.line("while [ ! -e /tmp/enough ]; do echo fl''ows; done; echo after''wards");
    first.shows("flows");
    // It takes nothing more, and answers nothing.
    kill_process(first.pid(), Signal::STOP).expect("stops ssh");
    lingering(&scene, 1);
    scene.container.sh("touch /tmp/enough");
    let Some(second) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    second.shows(QUESTION);
    second.tmux.line("y");
    second.shows("afterwards");
    second.is_there_again();
    first.kill();
    second.tmux.line("exit 8");
    second.has_ended(8);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn the_death_of_the_process_that_speaks_ssh_ends_no_terminal_that_may_wait() {
    let Some(scene) = scene("") else { return };
    let Some(first) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    first.is_ready();
    let net = scene.gateway.processes().into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"role\0net\0")
    });
    let net = net.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("net runs");
    kill_process(net, Signal::KILL).expect("kills net");
    lingering(&scene, 1);
    // Who comes before its successor is there waits for that.
    let Some(second) = Client::start(&scene, MAIN_KEY, &[]) else { return };
    second.shows(QUESTION);
    second.tmux.line("y");
    second.is_there_again();
    // The end of the gateway is the end of what waits too.
    second.kill();
    lingering(&scene, 1);
    let Scene { gateway, container, image: _image, engine: _engine } = scene;
    gateway.stop();
    assert_eq!(e2e::ssh_gateway::session_groups(container.id()), Vec::<PathBuf>::new());
}
