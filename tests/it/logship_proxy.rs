//! The proxy of the engine's socket, in front of the real engine: a shipper finds all it needs behind it, and
//! nobody finds more.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::engine::{Container, Engine, Spec, connect};
use e2e::images;
use e2e::process::{Run, Running};
use e2e::sandbox::{Sandbox, unique_name};
use e2e::sequence::Sequence;
use rustix::process::Signal;

use crate::tool::{FAILED, WRONG_USAGE};

const LOGSHIP: &str = env!("CARGO_BIN_EXE_logship-under-test");
const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// How long what is waited for may take, in seconds.
const WAIT_SECONDS: u64 = 60;

/// Bytes of an answer that a test reads.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A proxy in front of the engine of this machine.
struct Proxy {
    socket: PathBuf,
    process: Running,
}

impl Proxy {
    fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, "engine.sock", &[])
    }

    fn start_with(sandbox: &Sandbox, name: &str, args: &[&str]) -> Self {
        let socket = sandbox.path(name);
        let process = proxy(&socket).args(args.iter().copied()).start();
        wait_for("the proxy", || UnixStream::connect(&socket).is_ok());
        Self { socket, process }
    }

    /// Sends bytes and reads what comes back until the connection ends.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(WAIT_SECONDS))).unwrap();
        // It may have answered and gone before everything is sent.
        stream.write_all(request).ok();
        let mut answer = Vec::new();
        // What came before a reset counts.
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str) -> String {
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n\r\n").as_bytes())
    }

    /// The status of an answer, and the answer.
    fn status(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.ask(method, path);
        (status_of(&answer), answer)
    }

    /// Threads aside: how many descriptors the proxy has open.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

fn proxy(socket: &std::path::Path) -> Run {
    Run::new(LOGSHIP).args(["socket-proxy", "--listen"]).arg(format!("unix:{}", socket.display()))
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what}: not after {WAIT_SECONDS} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sleeper(engine: &Engine, image: &str, label: Option<&str>) -> Container {
    let script = "trap 'echo reopened' USR1; echo ready; while :; do sleep 0.1; done";
    let mut spec = Spec::new(image, ["/bin/sh", "-c", script]);
    spec.env.push("PASSWORD=very-secret".to_owned());
    if let Some(label) = label {
        spec.labels.insert("chores.logship.reopen".to_owned(), label.to_owned());
    }
    engine.start(spec)
}

fn said(container: &Container) -> String {
    String::from_utf8_lossy(&container.logs().0).into_owned()
}

#[test]
fn a_shipper_behind_the_proxy_ships_everything_by_the_api_and_by_events() {
    let Some(engine) = connect() else { return };
    let image = images::program(&engine, std::path::Path::new(WRITER));
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let run = unique_name();
    let writer = |lines: &str, name: &str| {
        let args = ["--line-buffered", "--rate", "400", "--lines", lines, "--name", name];
        let mut spec = Spec::new(image.name(), args);
        spec.labels.insert("run".to_owned(), run.clone());
        engine.start(spec)
    };
    let before = writer("500", "before");
    let config = sandbox.file(
        "logship.toml",
        format!(
            "state = {:?}\n[engine]\nhost = \"unix://{}\"\napi_only = true\n[[source]]\ntype = \"engine\"\nlabels = [\"run={run}\"]\n[[sink]]\nname = \"out\"\nurl = \"file://{}?format=plain\"\n",
            sandbox.path("state").display().to_string(),
            proxy.socket.display(),
            sandbox.path("out.log").display(),
        ),
    );
    let shipper = Run::new(LOGSHIP).args(["run", "--config"]).arg(&config).start();
    let arrived = |name: &str| {
        Sequence::of(name, &std::fs::read(sandbox.path("out.log")).unwrap_or_default())
    };
    wait_for("the first lines", || arrived("before").last() >= Some(100));
    // This one is known by an event, long before the list is asked for again.
    let after = writer("1000", "after");
    wait_for("the lines of the first", || arrived("before").last() >= Some(500));
    wait_for("the lines of the second", || arrived("after").last() >= Some(1000));
    shipper.signal(Signal::TERM);
    shipper.wait().expect_code(0);
    arrived("before").assert_is(1..=500);
    arrived("after").assert_is(1..=1000);
    drop((before, after));

    let check = Run::new(LOGSHIP).args(["check", "--config"]).arg(&config).finish();
    assert!(check.stdout_text().contains("the configuration is right"), "{check}");
    let doctor = Run::new(LOGSHIP).args(["doctor", "--config"]).arg(&config).finish();
    assert!(doctor.stdout_text().contains("answers, "), "{doctor}");
    proxy.process.signal(Signal::TERM);
    let ended = proxy.process.wait().expect_code(0);
    assert!(!proxy.socket.exists(), "the socket is left behind");
    assert!(!ended.stderr_text().contains("not allowed"), "{ended}");
}

#[test]
fn everything_else_is_refused_with_a_sentence() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let container = sleeper(&engine, image.name(), None);
    let (name, id) = (container.name(), container.id());
    for (method, path) in [
        ("GET", "/info".to_owned()),
        ("GET", "/images/json".to_owned()),
        ("GET", "/volumes".to_owned()),
        ("GET", "/networks".to_owned()),
        ("GET", "/secrets".to_owned()),
        ("GET", "/configs".to_owned()),
        ("GET", "/swarm".to_owned()),
        ("GET", "/nodes".to_owned()),
        ("GET", "/services".to_owned()),
        ("GET", "/plugins".to_owned()),
        ("GET", "/system/df".to_owned()),
        ("POST", "/auth".to_owned()),
        ("POST", "/session".to_owned()),
        ("POST", "/build".to_owned()),
        ("POST", "/images/create?fromImage=x".to_owned()),
        ("POST", "/containers/create".to_owned()),
        ("POST", "/containers/prune".to_owned()),
        ("POST", "/volumes/create".to_owned()),
        ("POST", "/networks/create".to_owned()),
        ("GET", format!("/containers/{id}/top")),
        ("GET", format!("/containers/{id}/changes")),
        ("GET", format!("/containers/{id}/export")),
        ("GET", format!("/containers/{id}/stats")),
        ("GET", format!("/containers/{id}/archive?path=/etc/passwd")),
        ("HEAD", format!("/containers/{id}/archive?path=/etc/passwd")),
        ("PUT", format!("/containers/{id}/archive?path=/")),
        ("GET", format!("/containers/{id}/attach/ws")),
        ("POST", format!("/containers/{id}/attach?stream=1&stdin=1")),
        ("POST", format!("/containers/{id}/exec")),
        ("POST", format!("/exec/{id}/start")),
        ("POST", format!("/containers/{id}/start")),
        ("POST", format!("/containers/{id}/stop")),
        ("POST", format!("/containers/{id}/restart")),
        ("POST", format!("/containers/{id}/update")),
        ("POST", format!("/containers/{id}/rename?name=x")),
        ("POST", format!("/containers/{id}/pause")),
        ("POST", format!("/containers/{id}/resize?h=1&w=1")),
        ("DELETE", format!("/containers/{id}")),
        ("DELETE", format!("/v1.41/containers/{id}?force=1")),
        ("POST", format!("/containers/{id}/kill")),
        ("POST", format!("/containers/{id}/kill?signal=KILL")),
        ("POST", format!("/containers/{id}/kill?signal=TERM")),
        ("POST", format!("/containers/{name}/kill?signal=USR1")),
        ("GET", format!("/containers/{id}/logs?stdout=1&details=1")),
        ("GET", format!("/containers/{id}/json?size=1")),
        ("GET", "/events".to_owned()),
        ("GET", "/v1.41/containers/../images/json".to_owned()),
        ("GET", "/containers/%2e%2e/images/json".to_owned()),
        ("GET", "//images/json".to_owned()),
        ("GET", "/containers/json/../../images/json".to_owned()),
        ("GET", "http://docker/images/json".to_owned()),
        ("CONNECT", "docker:80".to_owned()),
    ] {
        let (status, answer) = proxy.status(method, &path);
        assert_eq!(status, 403, "{method} {path}: {answer}");
        // An answer to HEAD has no body.
        let is_told = answer.contains("{\"message\":\"logship socket-proxy: ") || method == "HEAD";
        assert!(is_told, "{method} {path}: {answer}");
    }
    assert!(container.inspect().state.unwrap().running.unwrap());
}

#[test]
fn what_a_shipper_needs_is_there_and_secrets_of_containers_are_not() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let container = sleeper(&engine, image.name(), Some("signal:USR1"));
    let id = container.id();
    wait_for("the container", || said(&container).contains("ready"));
    for path in ["/_ping", "/v1.41/_ping", "/version", "/v1.41/version", "/containers/json?all=1"] {
        let (status, answer) = proxy.status("GET", path);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    assert_eq!(proxy.status("HEAD", "/_ping").0, 200);
    assert!(proxy.ask("GET", "/_ping").to_lowercase().contains("api-version: "));
    let listed = proxy.ask("GET", "/containers/json?all=1");
    assert!(listed.contains(id) && !listed.contains("echo ready"), "{listed}");
    let inspected = proxy.ask("GET", &format!("/containers/{id}/json"));
    assert!(inspected.contains("signal:USR1"), "{inspected}");
    assert!(!inspected.contains("very-secret") && !inspected.contains("echo ready"), "{inspected}");
    let logs = proxy.ask("GET", &format!("/containers/{id}/logs?stdout=1&tail=all"));
    assert!(logs.contains("ready"), "{logs}");
    let (status, answer) = proxy.status("GET", "/containers/no-such-container/json");
    assert!(status == 404 && answer.contains("No such container"), "{answer}");
}

#[test]
fn only_the_signal_of_its_label_reaches_a_container() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let labelled = sleeper(&engine, image.name(), Some("signal:USR1"));
    let other = sleeper(&engine, image.name(), Some("exec:kill -USR1 1"));
    for container in [&labelled, &other] {
        wait_for("the container", || said(container).contains("ready"));
    }
    let kill = |name: &str, signal: &str| {
        proxy.status("POST", &format!("/v1.41/containers/{name}/kill?signal={signal}"))
    };
    let (status, answer) = kill(labelled.name(), "HUP");
    assert!(status == 403 && answer.contains("not signal:HUP"), "{answer}");
    let (status, answer) = kill(other.name(), "USR1");
    assert!(status == 403 && answer.contains("not signal:USR1"), "{answer}");
    assert_eq!(kill("no-such-container", "USR1").0, 404);
    for (count, name) in [(1, labelled.name()), (2, labelled.id())] {
        let (status, answer) = kill(name, "SIGUSR1");
        assert_eq!(status, 204, "{answer}");
        wait_for("the signal", || said(&labelled).matches("reopened").count() == count);
    }
    assert!(!said(&other).contains("reopened"));
}

#[test]
fn hostile_requests_end_and_change_nothing() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let container = sleeper(&engine, image.name(), None);
    let id = container.id();
    let smuggled = format!("DELETE /containers/{id}?force=1 HTTP/1.1\r\nHost: docker\r\n\r\n");
    let length = smuggled.len();
    let many = "X: y\r\n".repeat(200);
    let long = "a".repeat(64 << 10);
    for request in [
        // A second request behind the first, as a body, as a chunk, and as something in between.
        format!("GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n{smuggled}"),
        format!("GET /_ping HTTP/1.1\r\nHost: docker\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!(
            "GET /_ping HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "GET /_ping HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"
        ),
        format!("GET /_ping HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}"),
        format!("GET /_ping?a=\r\n{smuggled}"),
        format!("GET /containers/{id}/json%20HTTP/1.1%0d%0a HTTP/1.1\r\nHost: docker\r\n\r\n"),
        format!(
            "POST /containers/{id}/attach HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        ),
        "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
        "POST /containers/create HTTP/1.1\r\nHost: docker\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("GET /_ping HTTP/1.1\r\nHost: docker\r\n{many}\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: docker\r\n\r\n"),
        format!("GET /_ping HTTP/1.1\r\nHost: docker\r\nX: {long}\r\n\r\n"),
        "\0\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let answer = proxy.raw(request.as_bytes());
        let shown: String = request.chars().take(200).collect();
        // What is refused is told; what is no request may end without an answer. Nothing is answered twice.
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{shown:?}: {answer}");
        let status = status_of(&answer);
        let is_first_alone = request.starts_with("GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\nDELETE");
        assert!(is_first_alone || [0, 400, 403, 414, 431].contains(&status), "{shown:?}: {answer}");
    }
    assert!(container.inspect().state.unwrap().running.unwrap());
    assert_eq!(proxy.status("GET", "/_ping").0, 200);
}

#[test]
fn clients_that_are_slow_or_leave_hold_nothing() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::busybox(&engine) else { return };
    let sandbox = Sandbox::new();
    let proxy = Proxy::start(&sandbox);
    let container = sleeper(&engine, image.name(), None);
    wait_for("the container", || said(&container).contains("ready"));
    let path = format!("/containers/{}/logs?stdout=1&follow=1&tail=all", container.id());
    let mut followers = Vec::new();
    for _ in 0..5 {
        let mut stream = UnixStream::connect(&proxy.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(WAIT_SECONDS))).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // Lines are handed on as they come, although the answer has no end.
        while !String::from_utf8_lossy(&answer).contains("ready") {
            let read = stream.read(&mut piece).expect("the line arrives in time");
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        followers.push(stream);
    }
    let with = proxy.descriptors();
    // Each has a connection on both sides.
    let without = with - 2 * followers.len();
    drop(followers);
    wait_for("the end of followers that left", || proxy.descriptors() <= without);

    let mut slow = UnixStream::connect(&proxy.socket).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(WAIT_SECONDS))).unwrap();
    slow.write_all(b"GET /_ping HTTP/1.1\r\nHost:").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).expect("a request that never ends is ended");
}

#[test]
fn the_socket_is_its_owners_and_takes_the_place_of_a_dead_one_only() {
    let sandbox = Sandbox::new();
    let proxied = Proxy::start_with(&sandbox, "a.sock", &["--mode", "0640"]);
    let mode = std::fs::metadata(&proxied.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let said = proxy(&proxied.socket).finish().expect_code(FAILED).stderr_text();
    assert!(said.contains("another process listens there"), "{said}");
    proxied.process.signal(Signal::KILL);
    drop(proxied.process.wait());
    assert!(proxied.socket.exists());
    let again = Proxy::start_with(&sandbox, "a.sock", &[]);
    assert_eq!(std::fs::metadata(&again.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let file = sandbox.file("file", "kept");
    let said = proxy(&file).finish().expect_code(FAILED).stderr_text();
    assert!(said.contains("something else at this path"), "{said}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "kept");
    let missing = Proxy::start_with(&sandbox, "b.sock", &["--socket", "/no/such.sock"]);
    let (status, answer) = missing.status("GET", "/_ping");
    assert!(
        status == 502 && answer.contains("cannot reach the engine at /no/such.sock"),
        "{answer}"
    );
    for (args, said) in [
        (["--listen", "here"], "is no address: give for example unix:"),
        (["--listen", "tcp://engine:2375"], "is no address"),
    ] {
        let finished = Run::new(LOGSHIP).arg("socket-proxy").args(args).finish();
        let finished = finished.expect_code(WRONG_USAGE);
        assert!(finished.stderr_text().contains(said), "{finished}");
    }
    let finished = proxy(&sandbox.path("c.sock")).args(["--mode", "rw"]).finish();
    assert!(finished.expect_code(WRONG_USAGE).stderr_text().contains("is no octal number"));
}
