//! What stands between clients and the gateway: load balancers, `ssh_config` for containers as hosts, floods.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{MAIN_KEY, program};

use crate::ssh::{ANSWER_TIME_MAX, BINARY, Scene, line, soak};

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

/// The load balancer that the gateway knows.
const PROXY: &str = "127.0.5.5";

fn script(name: &str) -> String {
    format!("{}/testdata/ssh/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_known_load_balancer_says_where_its_clients_are_and_nobody_else_does() {
    let Some(scene) = Scene::new(
        |spec| spec,
        |setup| {
            let setup = setup.key("far", "from=\"192.0.2.0/24\"");
            setup.config(&format!("proxies = ['{PROXY}']\n"))
        },
    ) else {
        return;
    };
    if program("python3", "python3").is_none() {
        return;
    }
    let ask = |key: &str, own: &str, header: &str| -> Finished {
        let command = format!(
            "ProxyCommand=python3 {} {} {own} '{header}'",
            script("proxied.py"),
            scene.gateway.port()
        );
        let run = Run::new("ssh").arg("-F").arg(scene.gateway.config(key)).args(["-o", &command]);
        let run = run.arg(format!("{}@gateway", scene.container.name()));
        run.arg("echo $SSH_CLIENT").deadline(ANSWER_TIME_MAX).finish()
    };
    let text = r"PROXY TCP4 192.0.2.7 10.0.0.1 5000 2222\r\n";
    let binary =
        r"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\x0a\x00\x00\x01\x13\x88\x08\xae";
    for (header, address) in [(text, "192.0.2.7"), (binary, "192.0.2.9")] {
        for key in [MAIN_KEY, "far"] {
            let said = ask(key, PROXY, header);
            assert!(line(&said).starts_with(&format!("{address} 5000 ")), "{key} {header}: {said}");
        }
        scene.gateway.wait_for_log(&["login", &format!("\"peer\":\"{address}:5000\"")]);
        // From elsewhere the same bytes are no SSH.
        let said = ask(MAIN_KEY, "127.0.5.6", header);
        assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    }
    // The load balancer itself, and one that forgets what it is.
    let said = ask("far", PROXY, r"PROXY UNKNOWN\r\n");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    let said = ask(MAIN_KEY, PROXY, "");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    // Who comes by itself is who it is.
    assert!(line(&scene.sh("echo $SSH_CLIENT")).starts_with("127."));
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn the_written_configuration_makes_containers_hosts() {
    let Some(scene) = Scene::busybox() else { return };
    let state = scene.gateway.sandbox().path("state");
    let name = scene.container.name();
    let port = scene.gateway.port().to_string();
    let written = |more: &[&str]| {
        let words = ["ssh-config", "--host", "127.0.0.1", "--port", &port];
        let run = Run::new(BINARY).args(words).args(more.iter().copied());
        run.arg("--state").arg(&state).succeed().stdout_text()
    };
    let config = written(&[]);
    assert!(config.contains(name), "{config}");
    let known = scene.gateway.sandbox().file("known", written(&["--known-hosts"]));
    let common = format!(
        "Host *\n    IdentityFile {}\n    IdentitiesOnly yes\n    BatchMode yes\n    \
         StrictHostKeyChecking yes\n    UserKnownHostsFile {}\n    GlobalKnownHostsFile /dev/null\n    \
         Port 4\n",
        scene.gateway.key_file(MAIN_KEY).display(),
        known.display()
    );
    assert!(config.contains(" *.chores\n"), "{config}");
    for config in [config, written(&["*.chores", name]), written(&["chores-*"]), written(&[name])] {
        let file = scene.gateway.sandbox().file("written", format!("{config}\n{common}"));
        let run = Run::new("ssh").arg("-F").arg(&file).arg(format!("www@{name}")).arg("id -un");
        assert_eq!(line(&run.deadline(ANSWER_TIME_MAX).finish()), "www", "{config}");
        if config.contains("*.chores") {
            // Any container is a host with this behind its name, also one that was not there yet.
            for (host, status) in
                [(format!("{name}.chores"), 0), ("nothing.chores".to_owned(), 255)]
            {
                let run = Run::new("ssh").arg("-F").arg(&file).arg(format!("www@{host}"));
                let said = run.arg("id -un").deadline(ANSWER_TIME_MAX).finish();
                assert_eq!(said.code(), Some(status), "{host}: {said}");
                assert_eq!(said.stdout_text() == "www\n", status == 0, "{said}");
            }
        }
        // Its own name leads to the gateway itself.
        let run = Run::new("ssh").arg("-F").arg(&file).args(["chores", "ls"]);
        let said = run.deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.code(), Some(0), "{said}");
        assert!(said.stdout_text().contains(name), "{said}");
    }
    let refused = Run::new(BINARY).args(["ssh-config", "--host", "a b"]).finish();
    assert_eq!(refused.code(), Some(2), "{refused}");
}

/// Connections of garbage, and how many of them begin in a second; `make soak` takes its time, as a real flood would.
const GARBAGE: usize = 10_000;
const PACE: usize = 300;
const PACE_OF_SOAK: usize = 100;
/// Where they come from: so many that few of them are refused because of those before.
const SOURCES: usize = 1000;
/// Clients beside them that send a byte now and then, and so many seconds between two of them.
const DRIPS: usize = 24;
const DRIP_PAUSE: &str = "0.25";
/// How long a client may take to log in, in seconds, and how much later a machine at work may notice.
const GRACE_SECONDS: f64 = 20.0;
const GRACE_TOLERANCE_SECONDS: f64 = 20.0;
/// Logins by which the usual time is known.
const USUAL_LOGINS: usize = 100;
/// What others who begin to use this machine meanwhile may add to a login, in milliseconds: with six busy loops on two
/// processors it was 71.
const BUSY_MACHINE_MILLISECONDS: u128 = 250;

/// The middle login takes twice its usual time at most, but for what the machine does beside.
#[test]
fn honest_clients_come_in_while_others_send_garbage() {
    let limits = format!("[limits]\nstartups = '1000:30:2000'\nlogin_grace = '{GRACE_SECONDS}s'\n");
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.config(&limits)) else { return };
    if program("python3", "python3").is_none() {
        return;
    }
    let login = || {
        let begun = Instant::now();
        assert_eq!(line(&scene.sh("echo in")), "in");
        begun.elapsed().as_millis()
    };
    let middle = |mut times: Vec<u128>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let before = middle((0..USUAL_LOGINS).map(|_| login()).collect());
    let port = scene.gateway.port().to_string();
    let pace = if soak() > 1 { PACE_OF_SOAK } else { PACE };
    let begun = Instant::now();
    let start = |name: &str, words: &[String]| {
        let mut command = Command::new("python3");
        command.arg(script(name)).arg(&port).args(words).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts python3");
        let said = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        (child, said.map_while(Result::ok))
    };
    let (mut drip, mut cut) = start("drip.py", &[DRIPS.to_string(), DRIP_PAUSE.to_owned()]);
    let (mut flood, mut said) =
        start("flood.py", &[GARBAGE.to_string(), SOURCES.to_string(), pace.to_string()]);
    assert_eq!(said.next().as_deref(), Some("ready"));
    let mut meanwhile = Vec::new();
    while flood.try_wait().expect("a child").is_none() {
        meanwhile.push(login());
    }
    assert!(!meanwhile.is_empty(), "the flood was over before anybody came");
    let took = begun.elapsed().as_secs();
    assert_eq!(said.next(), Some(GARBAGE.to_string()));
    let logins = meanwhile.len();
    let meanwhile = middle(meanwhile);
    e2e::notice!(
        "login: {before} ms, with {GARBAGE} garbage connections in {took} s {meanwhile} ms ({logins} logins)",
    );
    let bound = 2 * before + BUSY_MACHINE_MILLISECONDS;
    assert!(meanwhile <= bound, "login: {before} ms, {meanwhile} ms while others send garbage");
    // However often they send something, they have no more time than the others.
    for _ in 0..DRIPS {
        let seconds = cut.next().and_then(|seconds| seconds.parse().ok());
        let seconds: f64 = seconds.expect("each says when it was cut");
        let expected = GRACE_SECONDS - 1.0..GRACE_SECONDS + GRACE_TOLERANCE_SECONDS;
        assert!(expected.contains(&seconds), "cut after {seconds} s");
    }
    assert!(drip.wait().expect("a child").success());
    scene.gateway.assert_idle(&[&scene.container]);
    assert!(!scene.gateway.log().contains("panicked"), "{}", scene.gateway.log());
}
