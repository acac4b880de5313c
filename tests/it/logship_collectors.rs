//! Every sink of `logship` that speaks to a collector, under the same troubles: it is away, slow, silent, wants another
//! login, refuses a record. Nothing gets lost, and a sink beside it notices nothing.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::engine::Spec;
use e2e::fake_collectors::{FakeCollector, FakeStream, POISON};
use e2e::fake_kafka::FakeKafka;
use e2e::images::busybox;
use e2e::kafka_mock::KafkaMock;
use e2e::nats_server::{LOGIN, NatsServer, PAYLOAD_BYTES_MAX};
use e2e::process::{Run, Running, find_program};
use e2e::random::Random;
use e2e::relay::{Mode, Relay};
use e2e::rsyslog::{Listens, Rsyslog, make_certificates};
use e2e::sandbox::Sandbox;
use e2e::sequence::Sequence;
use rustix::process::Signal;
use serde_json::json;

use crate::logship_sinks::Shipper;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a collector is away: as long as a person may take to notice.
const AWAY: Duration = Duration::from_secs(60);

/// How long a broker is frozen: longer than a request may take.
const FROZEN: Duration = Duration::from_secs(3);

/// Lines that are sent in each state of a collector.
const LINES: usize = 300;

const KEY: &str = "k3y of both";
const PASSWORD: &str = "s3cret";
const BASIC: &str = "Basic c2hpcHBlcjpzM2NyZXQ=";

enum Peer {
    Collector(FakeCollector),
    Stream(FakeStream),
    Nats(NatsServer),
    Kafka(FakeKafka),
}

impl Peer {
    fn port(&self) -> u16 {
        match self {
            Self::Collector(fake) => fake.server.port(),
            Self::Stream(fake) => fake.port(),
            Self::Nats(server) => server.port(),
            Self::Kafka(fake) => fake.port(),
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Collector(fake) => fake.lines(),
            Self::Stream(fake) => fake.lines(),
            Self::Kafka(fake) => fake.lines(),
            Self::Nats(server) => {
                let line = |record: serde_json::Value| record["line"].as_str().unwrap().to_owned();
                server.records().into_iter().map(line).collect()
            }
        }
    }

    /// What clients are to connect to from now on: some servers tell them.
    fn is_behind(&self, port: u16) {
        if let Self::Kafka(fake) = self {
            fake.is_behind(port);
        }
    }

    fn sequence(&self) -> Sequence {
        Sequence::of("line", self.lines().join("\n").as_bytes())
    }
}

/// One kind of sink, and what its protocol can.
struct Case {
    scheme: &'static str,
    path: &'static str,
    peer: Peer,
    login: Vec<(&'static str, &'static str)>,
    /// The secret among them, and a wrong one.
    wrong: Option<(&'static str, &'static str)>,
    /// The peer says what it has: silence is noticed, and records can be refused.
    answers: bool,
    refuses: bool,
    /// It takes a record once, however often it comes.
    once: bool,
}

fn collector(scheme: &'static str, fake: FakeCollector) -> Case {
    fake.demand(BASIC);
    Case {
        scheme,
        path: "",
        peer: Peer::Collector(fake),
        login: vec![("user", "shipper"), ("password", PASSWORD)],
        wrong: Some(("password", "wrong")),
        answers: true,
        refuses: true,
        once: true,
    }
}

fn cases() -> Vec<Case> {
    let gelf = Case {
        scheme: "gelf+tcp",
        path: "",
        peer: Peer::Stream(FakeStream::gelf()),
        login: Vec::new(),
        wrong: None,
        answers: false,
        refuses: false,
        once: false,
    };
    let fluent = Case {
        scheme: "fluent",
        path: "",
        peer: Peer::Stream(FakeStream::fluent(Some(KEY))),
        login: vec![("shared_key", KEY)],
        wrong: Some(("shared_key", "another")),
        answers: true,
        refuses: false,
        once: false,
    };
    let nats = NatsServer::start(None).map(|server| {
        server.make_stream();
        Case {
            scheme: "nats",
            path: "",
            peer: Peer::Nats(server),
            login: vec![("user", LOGIN.0), ("password", LOGIN.1)],
            wrong: Some(("password", "wrong")),
            answers: true,
            refuses: true,
            once: true,
        }
    });
    let bulk = Case { path: "/logs-{date}", ..collector("es+http", FakeCollector::bulk()) };
    let otlp = Case { once: false, ..collector("otlp+http", FakeCollector::otlp()) };
    let kafka = Case {
        scheme: "kafka",
        path: "/logs",
        peer: Peer::Kafka(FakeKafka::start("shipper", PASSWORD)),
        login: vec![("user", "shipper"), ("password", PASSWORD)],
        wrong: Some(("password", "wrong")),
        answers: true,
        refuses: true,
        // It knows batches of one run of the shipper again, and no record here is in two of them.
        once: true,
    };
    let mut cases =
        vec![bulk, collector("loki+http", FakeCollector::loki()), otlp, gelf, fluent, kafka];
    cases.extend(nats);
    cases
}

/// Waits for the lines of the fast sink, which must not wait for anybody.
fn wait_for_fast(file: &Path, lines: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.lines().count() >= lines {
            return;
        }
        assert!(Instant::now() < deadline, "{} of {lines}", text.lines().count());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_delivered(shipper: &Shipper, records: usize) {
    shipper.wait(|report| report.records >= records as u64 && report.failing.is_none());
}

/// The same troubles for every sink.
fn play(case: &Case) {
    let Case { scheme, path, peer, login, .. } = case;
    let relay = Relay::to(peer.port());
    peer.is_behind(relay.port());
    let (state, files) = (Sandbox::new(), Sandbox::new());
    let url = format!("{scheme}://127.0.0.1:{}{path}", relay.port());
    let (fast, fast_file) =
        (format!("file://{}/fast.log", files.root().display()), files.path("fast.log"));
    let mut common = login.clone();
    if case.answers {
        common.extend([("batch", "8KiB"), ("age", "20ms"), ("timeout", "2s")]);
    }
    let start =
        |options: &[(&str, &str)]| Shipper::start_beside(state.root(), &url, options, Some(&fast));
    let mut shipper = start(&common);
    shipper.send(LINES);
    is_delivered(&shipper, LINES);

    relay.set(Mode::Away);
    shipper.send(LINES);
    let failure = shipper.failure();
    assert!(!failure.contains(PASSWORD) && !failure.contains(KEY), "{failure}");
    wait_for_fast(&fast_file, 2 * LINES);
    std::thread::sleep(AWAY);

    relay.set(Mode::Slow);
    shipper.send(LINES);
    wait_for_fast(&fast_file, 3 * LINES);
    is_delivered(&shipper, 3 * LINES);

    if case.answers {
        relay.set(Mode::Silent);
        shipper.send(LINES);
        shipper.failure();
        wait_for_fast(&fast_file, 4 * LINES);
    }
    relay.set(Mode::Pass);
    let mut sent = shipper.sent;
    shipper.finish();

    if let Some((key, wrong)) = case.wrong {
        let mut options = common.clone();
        options.iter_mut().filter(|option| option.0 == key).for_each(|option| option.1 = wrong);
        let mut shipper = start(&options);
        shipper.sent = sent;
        shipper.send(LINES);
        let failure = shipper.failure();
        assert!(failure.contains("login is refused"), "{scheme}: {failure}");
        assert!(!failure.contains(wrong), "{scheme}: {failure}");
        wait_for_fast(&fast_file, shipper.sent);
        sent = shipper.sent;
        shipper.give_up();
    }

    let poison = format!("{POISON}{}", "x".repeat(2 * PAYLOAD_BYTES_MAX));
    let mut options = common.clone();
    if case.refuses {
        options.push(("poison", "drop"));
    }
    let mut shipper = start(&options);
    shipper.sent = sent;
    if case.refuses {
        shipper.send_lines(&[poison]);
    }
    shipper.send(LINES);
    let sent = shipper.sent;
    let report = shipper.finish();
    assert_eq!(report.dropped, u64::from(case.refuses), "{scheme}");
    assert_eq!(report.gaps, u64::from(case.refuses), "{scheme}");

    // A stream that is not acknowledged is read by a thread of its own.
    let deadline = Instant::now() + PATIENCE;
    let last = sent as u64 - 1;
    while !peer.sequence().missing(0..=last).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    peer.sequence().assert_has(0..=last);
    if case.once {
        let repeated = peer.sequence().repeated();
        assert!(repeated.is_empty(), "{scheme}: {repeated:?}");
    }
}

#[test]
fn collectors_in_trouble_get_everything_in_the_end_and_hold_up_nobody() {
    // All at once: most of the time they are away.
    std::thread::scope(|scope| {
        for case in cases() {
            scope.spawn(move || play(&case));
        }
    });
}

/// `socat` in front of a port, as a server of TLS.
struct Tls {
    port: u16,
    socat: Option<Running>,
    directory: Sandbox,
}

impl Tls {
    fn before(port: u16) -> Option<Self> {
        let Some(program) = find_program("socat") else {
            let is_required = std::env::var_os("CHORES_REQUIRE_ENGINE").is_some();
            assert!(!is_required, "socat is missing (Debian package socat)");
            e2e::notice!("skipped: no socat (Debian package socat)");
            return None;
        };
        let directory = Sandbox::new();
        make_certificates(directory.root());
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!(
            "OPENSSL-LISTEN:{own},bind=127.0.0.1,fork,reuseaddr,cert=cert.pem,key=key.pem,verify=0"
        );
        let socat = Run::new(program)
            .args([listen, format!("TCP:127.0.0.1:{port}")])
            .current_dir(directory.root())
            .start();
        socat.wait_until_it_listens(own);
        Some(Self { port: own, socat: Some(socat), directory })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(socat) = self.socat.take() {
            socat.signal(Signal::KILL);
            drop(socat.wait());
        }
    }
}

#[test]
fn every_sink_knows_its_server_over_tls_and_no_stranger() {
    let strangers = Sandbox::new();
    make_certificates(strangers.root());
    let stranger = strangers.path("ca.pem");
    for case in cases() {
        let scheme = match case.scheme {
            "gelf+tcp" => "gelf+tls",
            "fluent" => "fluent+tls",
            "es+http" => "es+https",
            "loki+http" => "loki+https",
            "otlp+http" => "otlp+https",
            "kafka" => "kafka+tls",
            // TLS begins in the middle of a connection there: it has a test of its own.
            _ => continue,
        };
        let Some(tls) = Tls::before(case.peer.port()) else { return };
        case.peer.is_behind(tls.port);
        let url = format!("{scheme}://localhost:{}{}", tls.port, case.path);
        let state = Sandbox::new();
        let start = |ca: &Path| {
            let ca = [("ca_file", ca.to_str().unwrap())];
            let options = [&case.login[..], &ca[..]].concat();
            Shipper::start_beside(state.root(), &url, &options, None)
        };
        let mut shipper = start(&stranger);
        shipper.send(10);
        let failure = shipper.failure();
        assert!(failure.contains("certificate"), "{scheme}: {failure}");
        shipper.give_up();
        start(&tls.directory.path("ca.pem")).finish();
        let deadline = Instant::now() + PATIENCE;
        while !case.peer.sequence().missing(0..=9).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        case.peer.sequence().assert_has(0..=9);
    }
}

#[test]
fn nats_goes_on_with_tls_and_says_what_is_missing() {
    let certificates = Sandbox::new();
    make_certificates(certificates.root());
    let Some(server) = NatsServer::start(Some(certificates.root())) else { return };
    let state = Sandbox::new();
    let ca = certificates.path("ca.pem");
    let login = [("user", LOGIN.0), ("password", LOGIN.1), ("timeout", "2s")];
    let plain = format!("nats://localhost:{}", server.port());
    let mut shipper = Shipper::start_beside(state.root(), &plain, &login, None);
    shipper.send(1);
    let failure = shipper.failure();
    assert!(failure.contains("it wants TLS: write nats+tls://"), "{failure}");
    shipper.give_up();
    let options = [&login[..], &[("ca_file", ca.to_str().unwrap())]].concat();
    let url = format!("nats+tls://localhost:{}", server.port());
    let shipper = Shipper::start_beside(state.root(), &url, &options, None);
    // Who hears this was let in.
    let failure = shipper.failure();
    assert!(failure.contains("no stream has its subject"), "{failure}");
    shipper.give_up();
}

#[test]
fn elasticsearch_gets_again_only_what_it_was_too_busy_for() {
    let fake = FakeCollector::bulk();
    fake.be_busy(7);
    let state = Sandbox::new();
    let url = format!("es+http://127.0.0.1:{}/web-{{stream}}-{{date}}", fake.server.port());
    let mut shipper = Shipper::start_beside(state.root(), &url, &[("age", "10ms")], None);
    shipper.send(100);
    let report = shipper.finish();
    assert!(report.failures >= 1, "{report:?}");
    let sequence = Sequence::of("line", fake.lines().join("\n").as_bytes());
    sequence.assert_has(0..=99);
    assert_eq!(sequence.count(), 100);
    // What came first came first; only what was refused came later.
    let first: Vec<_> = sequence.numbers().collect();
    assert!(first[..50].is_sorted(), "{first:?}");
    let record = &fake.records()[0];
    assert_eq!(record["container.name"], "web");
    assert_eq!(record["team"], "a]b\"c");
}

#[test]
fn what_loki_and_otlp_are_told_beside_the_line() {
    let (loki, otlp) = (FakeCollector::loki(), FakeCollector::otlp());
    let options = [("labels", "host,container"), ("tenant", "shop"), ("field.image", "")];
    let url = format!("loki+http://127.0.0.1:{}", loki.server.port());
    let state = Sandbox::new();
    let mut shipper = Shipper::start_beside(state.root(), &url, &options, None);
    shipper.send(3);
    shipper.finish();
    let record = &loki.records()[2];
    assert_eq!(record["labels"], r#"{container="web", host="h1"}"#);
    let metadata = json!({"id": "ab".repeat(32), "seq": "2", "stream": "stdout", "team": "a]b\"c"});
    assert_eq!((&record["metadata"], &record["tenant"]), (&metadata, &json!("shop")));
    assert!(loki.server.batches()[0].path.ends_with("/loki/api/v1/push"));

    let url = format!("otlp+http://127.0.0.1:{}", otlp.server.port());
    let state = Sandbox::new();
    let mut shipper = Shipper::start_beside(state.root(), &url, &[("token", "t")], None);
    shipper.send(3);
    shipper.send_lines(&[POISON.to_owned()]);
    let report = shipper.finish();
    // The protocol forbids to send again what was rejected, whatever `poison` says.
    assert_eq!((report.records, report.dropped), (3, 1));
    let record = &otlp.records()[2];
    assert_eq!((&record["line"], &record["seq"]), (&json!("line 2"), &json!(2)));
    assert_eq!(record["resource"]["container.name"], "web");
    let batch = &otlp.server.batches()[0];
    assert!(batch.path.ends_with("/v1/logs"));
    assert_eq!(batch.headers["content-type"], "application/x-protobuf");
    assert_eq!(batch.headers["authorization"], "Bearer t");
}

#[test]
fn fluentd_is_sent_events_by_tag_compressed_if_it_likes() {
    for compress in ["none", "gzip"] {
        let fake = FakeStream::fluent(None);
        let state = Sandbox::new();
        let url = format!("fluent://127.0.0.1:{}?tag=docker.{{name}}", fake.port());
        let options = [("age", "10ms"), ("compress", compress)];
        let mut shipper = Shipper::start_beside(state.root(), &url, &options, None);
        shipper.send(100);
        shipper.finish();
        Sequence::of("line", fake.lines().join("\n").as_bytes()).assert_is(0..=99);
        let first = &fake.records()[0];
        assert_eq!(first["tag"], "docker.web");
        assert_eq!(first["record"]["container_name"], "web");
        assert_eq!(first["record"]["source"], "stdout");
    }
}

fn wait_for_lines(fake: &FakeStream, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while fake.lines().len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", fake.lines().len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn gelf_by_datagrams_arrives_in_one_or_in_chunks() {
    for compress in ["none", "gzip"] {
        let fake = FakeStream::gelf_datagrams();
        let state = Sandbox::new();
        let url = format!("gelf+udp://127.0.0.1:{}", fake.port());
        let mut shipper =
            Shipper::start_beside(state.root(), &url, &[("compress", compress)], None);
        // What nobody waits for must fit into the buffer of a socket.
        for sent in (0..LINES).step_by(100) {
            wait_for_lines(&fake, sent);
            shipper.send(100);
        }
        wait_for_lines(&fake, LINES);
        // More than a datagram takes, whether it is compressed or not.
        let mut random = Random::new(7);
        let long: String =
            (0..6000).map(|_| format!("{:x}", random.below(1 << 32))).collect::<Vec<_>>().concat();
        shipper.send_lines(&[long.clone(), "x".repeat(20_000)]);
        shipper.finish();
        wait_for_lines(&fake, LINES + 2);
        let lines = fake.lines();
        Sequence::of("line", lines[..LINES].join("\n").as_bytes()).assert_is(0..=LINES as u64 - 1);
        assert_eq!(lines[LINES..], [long, "x".repeat(20_000)], "{compress}");
        assert_eq!(fake.records()[0]["_container_name"], "web");
    }
}

/// The fakes prove nothing unless clients that are not ours get on with them.
#[test]
fn the_engines_own_drivers_get_on_with_the_fakes_and_name_fields_as_we_do() {
    let Some(engine) = e2e::engine::connect() else { return };
    let Some(image) = busybox(&engine) else { return };
    let (gelf, fluent) = (FakeStream::gelf(), FakeStream::fluent(None));
    let datagrams = FakeStream::gelf_datagrams();
    let gelf_address = format!("tcp://127.0.0.1:{}", gelf.port());
    let datagrams_address = format!("udp://127.0.0.1:{}", datagrams.port());
    let fluent_address = format!("127.0.0.1:{}", fluent.port());
    for (driver, options) in [
        ("gelf", vec![("gelf-address", gelf_address.as_str())]),
        ("gelf", vec![("gelf-address", datagrams_address.as_str())]),
        ("fluentd", vec![("fluentd-address", &fluent_address), ("fluentd-request-ack", "true")]),
    ] {
        let script = "for n in 0 1 2; do echo line $n; done";
        let spec = Spec::new(image.name(), ["sh", "-c", script]).log(driver, &options);
        let container = engine.start(spec);
        assert_eq!(container.wait(), 0);
        container.remove();
    }
    for fake in [&gelf, &datagrams, &fluent] {
        let deadline = Instant::now() + PATIENCE;
        while fake.lines().len() < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        Sequence::of("line", fake.lines().join("\n").as_bytes()).assert_is(0..=2);
    }
    let names = |record: &serde_json::Value| -> BTreeSet<String> {
        record.as_object().unwrap().keys().cloned().collect()
    };
    // What is left of theirs has no counterpart here.
    let theirs = names(&gelf.records()[0]);
    let ours = ["version", "host", "short_message", "timestamp", "level"];
    let ours = ours.into_iter().chain(["_container_id", "_container_name", "_image_name"]);
    assert!(ours.into_iter().all(|name| theirs.contains(name)), "{theirs:?}");
    let theirs = names(&fluent.records()[0]["record"]);
    let ours = ["container_id", "container_name", "log", "source"];
    assert!(ours.into_iter().all(|name| theirs.contains(name)), "{theirs:?}");
}

#[test]
fn rsyslogs_client_of_elasticsearch_gets_on_with_the_fake() {
    let fake = FakeCollector::bulk();
    fake.be_busy(1);
    let port = fake.server.port();
    let action = format!(
        "module(load=\"omelasticsearch\")\n\
         template(name=\"id\" type=\"string\" string=\"%msg:::drop-last-lf%\")\n\
         template(name=\"doc\" type=\"list\") {{\nconstant(value=\"{{\")\n\
         property(outname=\"message\" name=\"msg\" format=\"jsonf\")\nconstant(value=\"}}\")\n}}\n\
         action(type=\"omelasticsearch\" server=\"127.0.0.1\" serverport=\"{port}\" template=\"doc\"\n\
         searchIndex=\"logs\" searchType=\"\" bulkmode=\"on\" writeoperation=\"create\" bulkid=\"id\" dynbulkid=\"on\"\n\
         skipverifyhost=\"on\" retryfailures=\"on\" action.resumeretrycount=\"-1\")"
    );
    let Some(server) = Rsyslog::start_with(Listens::Tcp, &action) else { return };
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    for number in 0..20 {
        writeln!(stream, "<14>1 2026-01-01T00:00:00Z h app - - - line {number}").unwrap();
    }
    let lines =
        || -> Vec<String> { fake.lines().iter().map(|line| line.trim().to_owned()).collect() };
    let deadline = Instant::now() + PATIENCE;
    while lines().len() < 20 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    Sequence::of("line", lines().join("\n").as_bytes()).assert_has(0..=19);
}

fn wait_for_messages(cluster: &KafkaMock, count: usize) -> Vec<serde_json::Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let messages = cluster.messages();
        if messages.len() >= count {
            return messages;
        }
        assert!(Instant::now() < deadline, "{} of {count} messages", messages.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kafka_gets_every_line_though_its_brokers_freeze() {
    let Some(cluster) = KafkaMock::start() else { return };
    for compress in ["none", "gzip"] {
        let before = cluster.messages().len();
        let state = Sandbox::new();
        let url = format!("kafka://127.0.0.1:1,{}/logs", cluster.brokers());
        let options =
            [("compress", compress), ("batch", "8KiB"), ("age", "20ms"), ("timeout", "2s")];
        let mut shipper = Shipper::start_beside(state.root(), &url, &options, None);
        shipper.send(LINES);
        is_delivered(&shipper, LINES);
        cluster.freeze(true);
        shipper.send(LINES);
        let failure = shipper.failure();
        assert!(failure.contains("in time"), "{failure}");
        std::thread::sleep(FROZEN);
        cluster.freeze(false);
        shipper.send(LINES);
        shipper.finish();
        let messages = wait_for_messages(&cluster, before + 3 * LINES);
        let line = |message: &serde_json::Value| -> String {
            let payload = message["payload"].as_str().unwrap();
            let record: serde_json::Value = serde_json::from_str(payload).unwrap();
            record["line"].as_str().unwrap().to_owned()
        };
        let lines: Vec<_> = messages[before..].iter().map(line).collect();
        Sequence::of("line", lines.join("\n").as_bytes()).assert_has(0..=3 * LINES as u64 - 1);
        assert_eq!(messages[before]["key"], "engine:ab");
        assert_eq!(messages[before]["ts"], 1_764_000_000_000_i64);
        let partitions: BTreeSet<_> =
            messages[before..].iter().map(|message| message["partition"].as_i64()).collect();
        assert_eq!(partitions.len(), 1, "a source has one partition");
    }
}
