//! Sinks of `logship` against real peers: what arrives, what comes twice, what a failure says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::http_receiver::{Answer, HttpReceiver};
use e2e::object_store::ObjectStore;
use e2e::process::Run;
use e2e::random::Random;
use e2e::rsyslog::{Listens, Rsyslog, make_certificates};
use e2e::runtime;
use e2e::sandbox::Sandbox;
use logship::block::BlockBuilder;
use logship::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use logship::deliver::{DeliverError, Delivering, Delivery};
use logship::intake::{Chunk, Intake, Message, Sources, intake};
use logship::record::{Flags, Stream};
use logship::sink::settings::SinkSettings;
use logship::sink::stats::SinkReport;
use logship::source::{Origin, Parse, SourceKey, SourceMeta};
use logship::wal::{Log, LogSettings, Running, WalError};
use serde_json::Value;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time of the first line: 2025-11-24T16:00:00Z.
const FIRST_TS: i64 = 1_764_000_000_000_000_000;

/// A log with one sink, or with another one beside it.
pub(crate) struct Shipper {
    intake: Intake,
    running: Running,
    sink: Delivering,
    beside: Option<Delivering>,
    pub(crate) sent: usize,
}

/// A sink that was stopped in the middle of a request lets go of the log when that ends.
fn open_when_free(state: &Path) -> (Log, Arc<Sources>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Log::open(LogSettings::at(state)) {
            Err(WalError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

impl Shipper {
    fn start(state: &Path, url: &str, options: &[(&str, &str)]) -> Self {
        Self::start_beside(state, url, options, None)
    }

    pub(crate) fn start_beside(
        state: &Path,
        url: &str,
        options: &[(&str, &str)],
        beside: Option<&str>,
    ) -> Self {
        let options: BTreeMap<_, _> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let settings = SinkSettings::parse_in("main", url, &options, &|_| None).unwrap();
        let (log, sources) = open_when_free(state);
        let delivery = Delivery::open(&log, settings).unwrap();
        let beside = beside.map(|url| {
            let settings = SinkSettings::parse_in("beside", url, &BTreeMap::new(), &|_| None);
            Delivery::open(&log, settings.unwrap()).unwrap()
        });
        let (intake, receiver) = intake(sources);
        let running = log.run(receiver).unwrap();
        let handle = runtime::wait(async { tokio::runtime::Handle::current() });
        let sink = delivery.start(handle.clone()).unwrap();
        let beside = beside.map(|beside| beside.start(handle).unwrap());
        Self { intake, running, sink, beside, sent: 0 }
    }

    /// Sends so many lines more, `line N`, in blocks of ten.
    pub(crate) fn send(&mut self, count: usize) {
        let numbers: Vec<_> = (self.sent..self.sent + count).collect();
        self.sent += count;
        for numbers in numbers.chunks(10) {
            let lines: Vec<_> = numbers.iter().map(|number| format!("line {number}")).collect();
            self.send_lines(&lines);
        }
    }

    pub(crate) fn send_lines(&self, lines: &[String]) {
        let meta = SourceMeta {
            key: SourceKey("engine:ab".to_owned()),
            origin: Origin::Engine {
                id: "ab".repeat(32),
                container: "web".to_owned(),
                image: "web:1".to_owned(),
                project: None,
                service: None,
            },
            host: "h1".to_owned(),
            fields: BTreeMap::from([("team".to_owned(), "a]b\"c".to_owned())]),
            sinks: None,
            parse: Parse::None,
        };
        let mut builder = BlockBuilder::default();
        for (offset, line) in (0..).zip(lines) {
            builder.push(FIRST_TS + offset, Flags::new(Stream::Stdout), line.as_bytes());
        }
        let block = builder.finish().unwrap();
        let file = FileIdentity { device: 1, inode: 7, born: None };
        let cursor =
            Cursor::File(FileCursor { shift: 0, file, offset: 0, proof: ContentProof::default() });
        let source = self.intake.open(meta).id;
        self.intake.send_blocking(Message::Chunk(Chunk { source, block, cursor })).unwrap();
    }

    pub(crate) fn report(&self) -> SinkReport {
        self.sink.stats().report()
    }

    pub(crate) fn wait(&self, is_so: impl Fn(&SinkReport) -> bool) -> SinkReport {
        let begun = Instant::now();
        loop {
            let report = self.report();
            if is_so(&report) {
                return report;
            }
            assert!(begun.elapsed() < PATIENCE, "{report:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The sentence the sink fails with.
    pub(crate) fn failure(&self) -> String {
        self.wait(|report| report.failing.is_some()).failing.unwrap().error
    }

    /// Ends when everything arrived.
    pub(crate) fn finish(self) -> SinkReport {
        let Self { intake, running, sink, beside, .. } = self;
        drop(intake);
        running.finish(Instant::now() + PATIENCE).unwrap();
        if let Some(beside) = beside {
            beside.finish(Instant::now() + PATIENCE).unwrap();
        }
        let stats = sink.stats().clone();
        sink.finish(Instant::now() + PATIENCE).unwrap();
        stats.report()
    }

    /// Ends at once.
    pub(crate) fn give_up(self) {
        let Self { intake, running, sink, beside, .. } = self;
        drop(beside.map(|beside| beside.finish(Instant::now())));
        let ended = sink.finish(Instant::now());
        assert!(matches!(ended, Ok(()) | Err(DeliverError::Stopped(_))), "{ended:?}");
        drop((intake, running));
    }
}

fn numbers(lines: impl IntoIterator<Item = String>) -> Vec<usize> {
    let number = |line: String| line.strip_prefix("line ").unwrap().parse().unwrap();
    lines.into_iter().map(number).collect()
}

/// The lines of NDJSON bodies.
fn lines_of<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut lines = Vec::new();
    for body in bodies {
        for record in body.split_inclusive(|byte| *byte == b'\n') {
            let record: Value = serde_json::from_slice(record).unwrap();
            lines.push(record["line"].as_str().unwrap().to_owned());
        }
    }
    lines
}

fn http_numbers(receiver: &HttpReceiver) -> Vec<usize> {
    let bodies = receiver.bodies();
    numbers(lines_of(bodies.iter().map(|body| body.as_ref())))
}

#[test]
fn rsyslog_understands_every_message_over_tcp() {
    let Some(server) = Rsyslog::start(Listens::Tcp) else { return };
    let state = Sandbox::new();
    let url = format!("syslog+tcp://127.0.0.1:{}?facility=local3", server.port());
    let mut shipper = Shipper::start(state.root(), &url, &[]);
    shipper.send(1000);
    shipper.send_lines(&["two\nlines".to_owned(), "é <13>1 [x]".to_owned()]);
    shipper.finish();
    let messages = server.messages(1002);
    assert_eq!(messages.len(), 1002);
    let text = |message: &Value| message["msg"].as_str().unwrap().to_owned();
    assert_eq!(numbers(messages[..1000].iter().map(text)), (0..1000).collect::<Vec<_>>());
    assert_eq!(text(&messages[1000]), "two\nlines");
    assert_eq!(text(&messages[1001]), "é <13>1 [x]");
    let first = &messages[0];
    assert_eq!(first["hostname"], "h1");
    assert_eq!(first["app-name"], "web");
    // local3 (19) and informational (6).
    assert_eq!(first["pri"], "158");
    assert!(first["timereported"].as_str().unwrap().starts_with("2025-11-24T16:00:00"));
    let data = first["structured-data"].as_str().unwrap();
    assert!(data.contains(r#"container="web""#) && data.contains(r#"seq="0""#), "{data}");
    assert!(data.contains(r#"team="a\]b\"c""#), "{data}");
}

#[test]
fn rsyslog_understands_every_message_over_udp() {
    let Some(server) = Rsyslog::start(Listens::Udp) else { return };
    let state = Sandbox::new();
    let url = format!("syslog+udp://127.0.0.1:{}", server.port());
    let mut shipper = Shipper::start(state.root(), &url, &[("message_max", "500B")]);
    shipper.send(20);
    shipper.send_lines(&["x".repeat(2000)]);
    shipper.finish();
    let messages = server.messages(21);
    let text = |message: &Value| message["msg"].as_str().unwrap().to_owned();
    assert_eq!(numbers(messages[..20].iter().map(text)), (0..20).collect::<Vec<_>>());
    assert!(text(&messages[20]).len() < 500);
    assert!(messages[20]["structured-data"].as_str().unwrap().contains("truncated=\"true\""));
}

#[test]
fn rsyslog_is_spoken_to_over_tls_and_a_stranger_is_not() {
    let Some(server) = Rsyslog::start(Listens::Tls) else { return };
    let state = Sandbox::new();
    let url = format!("syslog+tls://localhost:{}", server.port());
    let strangers = Sandbox::new();
    make_certificates(strangers.root());
    let other = strangers.path("ca.pem");
    let mut shipper = Shipper::start(state.root(), &url, &[("ca_file", other.to_str().unwrap())]);
    shipper.send(100);
    let failure = shipper.failure();
    assert!(failure.starts_with(&format!("cannot connect to {url}: ")), "{failure}");
    assert!(failure.contains("certificate"), "{failure}");
    shipper.give_up();
    let ca = server.ca_file();
    let shipper = Shipper::start(state.root(), &url, &[("ca_file", ca.to_str().unwrap())]);
    shipper.finish();
    let text = |message: &Value| message["msg"].as_str().unwrap().to_owned();
    let messages = server.messages(100);
    assert_eq!(numbers(messages.iter().map(text)), (0..100).collect::<Vec<_>>());
}

/// A syslog server that reads some bytes of each connection and drops it, with what it did not read.
fn fake_syslog(bytes: Vec<usize>) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let messages: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shared = messages.clone();
    std::thread::spawn(move || {
        for limit in bytes.into_iter().chain(std::iter::repeat(usize::MAX)) {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let (mut read, mut buffer) = (Vec::new(), vec![0; 4096]);
            while read.len() < limit {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => read.extend_from_slice(&buffer[..length]),
                }
            }
            // A message that is not whole is nothing to a receiver that counts.
            let mut rest = read.as_slice();
            while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                let Some(message) = rest.get(space + 1..space + 1 + length) else { break };
                let mut messages = shared.lock().unwrap();
                messages.extend_from_slice(message);
                messages.push(b'\n');
                rest = &rest[space + 1 + length..];
            }
        }
    });
    (port, messages)
}

#[test]
fn a_syslog_server_that_drops_connections_misses_nothing() {
    let state = Sandbox::new();
    let (port, messages) = fake_syslog(vec![1, 3000, 20_000, 100_000, 5]);
    let mut shipper = Shipper::start(state.root(), &format!("syslog+tcp://127.0.0.1:{port}"), &[]);
    for _ in 0..20 {
        shipper.send(200);
        std::thread::sleep(Duration::from_millis(20));
    }
    let report = shipper.finish();
    assert!(report.failures > 0, "{report:?}");
    // The server looks at what it read when the connection has ended.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8(messages.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| line.rsplit_once("] ").unwrap().1.to_owned());
        let found: BTreeSet<_> = numbers(lines).into_iter().collect();
        let missing: Vec<_> = (0..4000).filter(|number| !found.contains(number)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} are missing: {missing:?}", missing.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn http_batches_arrive_in_order_in_every_compression() {
    for compress in ["none", "gzip", "zstd"] {
        let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
        let options = [
            ("compress", compress),
            ("batch", "16KiB"),
            ("age", "50ms"),
            ("token", "t0ken"),
            ("header.X-Tenant", "a b"),
        ];
        let mut shipper = Shipper::start(state.root(), receiver.url(), &options);
        shipper.send(1000);
        let report = shipper.finish();
        assert_eq!((report.records, report.dropped), (1000, 0), "{compress}");
        assert_eq!(http_numbers(&receiver), (0..1000).collect::<Vec<_>>(), "{compress}");
        let batches = receiver.batches();
        assert!(batches.len() > 5, "{} batches", batches.len());
        let header = |name: &str| batches[0].headers.get(name).and_then(|it| it.to_str().ok());
        assert_eq!(header("authorization"), Some("Bearer t0ken"));
        assert_eq!(header("content-type"), Some("application/x-ndjson"));
        assert_eq!(header("x-tenant"), Some("a b"));
    }
}

#[test]
fn a_server_that_is_busy_broken_or_away_gets_everything_in_the_end() {
    let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
    receiver.answer_in_turn(&[
        Answer::RetryAfter(429, 1),
        Answer::Status(500),
        Answer::Close,
        Answer::Status(302),
        Answer::Stall,
        Answer::Status(404),
        Answer::Status(204),
    ]);
    // Long enough that no answer of a busy machine is missed: its batch would come twice.
    let options = [("age", "10ms"), ("timeout", "5s")];
    let mut shipper = Shipper::start(state.root(), receiver.url(), &options);
    shipper.send(500);
    let failure = shipper.failure();
    assert!(failure.contains("answered 429 Too Many Requests"), "{failure}");
    let report = shipper.finish();
    assert_eq!((report.records, &report.failing), (500, &None));
    assert!(report.failures >= 6 && report.retries >= 6, "{report:?}");
    assert_eq!(http_numbers(&receiver), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_batch_whose_answer_is_lost_comes_twice_and_not_less() {
    let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
    receiver.answer_in_turn(&[Answer::KeepAndClose, Answer::Status(200)]);
    let mut shipper = Shipper::start(state.root(), receiver.url(), &[("age", "10ms")]);
    shipper.send(10);
    shipper.finish();
    let numbers = http_numbers(&receiver);
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..10).collect());
    assert_eq!(numbers.len(), 20);
}

#[test]
fn batches_that_are_too_large_are_halved() {
    let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
    receiver.answer(Answer::TooLargeAbove(4000));
    let options = [("compress", "none"), ("age", "10ms")];
    let mut shipper = Shipper::start(state.root(), receiver.url(), &options);
    shipper.send(1000);
    let report = shipper.finish();
    assert_eq!((report.records, report.failures), (1000, 0));
    assert_eq!(http_numbers(&receiver), (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_record_that_nobody_takes_blocks_or_is_given_up_as_told() {
    let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
    receiver.answer(Answer::RefuseWith("line 123\""));
    let mut shipper = Shipper::start(state.root(), receiver.url(), &[("age", "10ms")]);
    shipper.send(200);
    let failure = shipper.failure();
    assert!(failure.contains("answered 400") && failure.contains("poison=drop"), "{failure}");
    shipper.give_up();
    let options = [("age", "10ms"), ("poison", "drop")];
    let report = Shipper::start(state.root(), receiver.url(), &options).finish();
    assert_eq!(report.dropped, 1);
    let numbers: BTreeSet<_> = http_numbers(&receiver).into_iter().collect();
    assert_eq!(numbers, (0..200).filter(|number| *number != 123).collect());
}

#[test]
fn a_wrong_login_is_named_and_tried_again() {
    let (state, receiver) = (Sandbox::new(), HttpReceiver::start());
    receiver.answer(Answer::Status(401));
    let mut shipper = Shipper::start(state.root(), receiver.url(), &[("age", "10ms")]);
    shipper.send(1);
    let failure = shipper.failure();
    assert!(failure.contains("401 Unauthorized (the login is refused)"), "{failure}");
    receiver.answer(Answer::Status(200));
    shipper.finish();
    assert_eq!(http_numbers(&receiver), [0]);
}

fn s3_options(store: &ObjectStore) -> Vec<(String, String)> {
    let address = store.address();
    [
        ("endpoint", &address.endpoint),
        ("region", &address.region),
        ("access_key", &address.access_key),
        ("secret_key", &address.secret_key),
    ]
    .map(|(key, value)| (key.to_owned(), value.clone()))
    .to_vec()
}

/// The lines of all objects in the order of their keys.
fn stored(directory: &Path) -> Vec<String> {
    let mut objects = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_str().unwrap().ends_with(".ndjson.zst") {
                objects.push(path);
            }
        }
    }
    objects.sort();
    let decode = |path: &std::path::PathBuf| {
        zstd::decode_all(std::fs::read(path).unwrap().as_slice()).unwrap()
    };
    let bodies: Vec<_> = objects.iter().map(decode).collect();
    lines_of(bodies.iter().map(Vec::as_slice))
}

#[test]
fn objects_hold_every_line_once_whenever_the_process_dies() {
    let (state, store) = (Sandbox::new(), ObjectStore::in_process());
    let options = s3_options(&store);
    let mut options: Vec<_> =
        options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    options.extend([("batch", "4096B"), ("age", "100ms")]);
    let mut random = Random::new(7);
    let mut sent = 0;
    for _ in 0..8 {
        let mut shipper = Shipper::start(state.root(), &store.url(), &options);
        shipper.sent = sent;
        shipper.send(400);
        sent = shipper.sent;
        shipper.wait(|report| report.deliveries > 0);
        std::thread::sleep(Duration::from_millis(random.below(150)));
        shipper.give_up();
    }
    Shipper::start(state.root(), &store.url(), &options).finish();
    let numbers = numbers(stored(&store.files().unwrap()));
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn wrong_keys_for_a_bucket_are_named_and_cost_nothing() {
    let (state, store) = (Sandbox::new(), ObjectStore::in_process());
    let options = s3_options(&store);
    let options: Vec<_> =
        options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let wrong: Vec<_> = options
        .iter()
        .map(|(key, value)| if *key == "secret_key" { (*key, "wrong") } else { (*key, *value) })
        .chain([("age", "100ms")])
        .collect();
    let mut shipper = Shipper::start(state.root(), &store.url(), &wrong);
    shipper.send(10);
    let failure = shipper.failure();
    assert!(failure.starts_with("cannot write ") && failure.contains("s3://"), "{failure}");
    shipper.give_up();
    Shipper::start(state.root(), &store.url(), &options).finish();
    assert_eq!(numbers(stored(&store.files().unwrap())), (0..10).collect::<Vec<_>>());
}

/// A server that keeps bodies and takes only clients with a certificate.
const HTTPS_SERVER: &str = r#"
import http.server, os, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("bodies", "ab") as bodies:
            bodies.write(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
context.load_verify_locations("ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
with open("port.new", "w") as port:
    port.write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
"#;

#[test]
fn https_knows_the_server_and_shows_who_it_is() {
    let (state, peer) = (Sandbox::new(), Sandbox::new());
    make_certificates(peer.root());
    let server = Run::new("python3").args(["-c", HTTPS_SERVER]).current_dir(peer.root()).start();
    let begun = Instant::now();
    let port = loop {
        if let Ok(port) = std::fs::read_to_string(peer.path("port")) {
            break port;
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    };
    let url = format!("https://localhost:{port}/in");
    let path = |name: &str| peer.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
    let (strangers, common) = (Sandbox::new(), [("age", "10ms"), ("compress", "none")]);
    make_certificates(strangers.root());
    let stranger = strangers.path("ca.pem");
    let distrusting = [&common[..], &[("ca_file", stranger.to_str().unwrap())][..]].concat();
    let mut shipper = Shipper::start(state.root(), &url, &distrusting);
    shipper.send(100);
    let failure = shipper.failure();
    assert!(failure.starts_with(&format!("cannot send to {url}: ")), "{failure}");
    assert!(failure.contains("certificate"), "{failure}");
    shipper.give_up();
    let known = [("ca_file", ca.as_str()), ("cert_file", &cert), ("key_file", &key)];
    Shipper::start(state.root(), &url, &[&common[..], &known[..]].concat()).finish();
    let bodies = std::fs::read(peer.path("bodies")).unwrap();
    assert_eq!(numbers(lines_of([bodies.as_slice()])), (0..100).collect::<Vec<_>>());
    server.signal(rustix::process::Signal::KILL);
    drop(server.wait());
}

#[test]
fn files_on_a_full_disk_hold_every_line_once_when_there_is_room_again() {
    let (state, sandbox) = (Sandbox::new(), Sandbox::new());
    let Some(disk) = sandbox.small_disk("disk", 256 << 10) else { return };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 200 << 10]).unwrap();
    let url = format!("file://{}/{{container}}.log?rotate=16KiB", disk.path().display());
    let mut shipper = Shipper::start(state.root(), &url, &[]);
    shipper.send(10_000);
    let failure = shipper.failure();
    assert!(failure.contains("No space left on device"), "{failure}");
    std::fs::remove_file(&ballast).unwrap();
    let report = shipper.finish();
    assert_eq!(report.failing, None);
    let mut names: Vec<_> = std::fs::read_dir(disk.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // The one without a number is the youngest.
    names.rotate_left(1);
    let read = |name: &String| std::fs::read_to_string(disk.path().join(name)).unwrap();
    let text: String = names.iter().map(read).collect();
    assert_eq!(numbers(text.lines().map(str::to_owned)), (0..10_000).collect::<Vec<_>>());
}
