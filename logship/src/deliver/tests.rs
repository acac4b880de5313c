use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use crate::intake::{Chunk, Intake, Message, intake};
use crate::record::{Flags, Stream};
use crate::source::{Origin, Parse, SourceKey, SourceMeta};
use crate::wal::{LogSettings, Running};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn meta(name: &str, sinks: Option<&[&str]>) -> SourceMeta {
    SourceMeta {
        key: SourceKey(format!("file:{name}")),
        origin: Origin::File { path: format!("/var/log/{name}"), volume: None, inode: 7 },
        host: "host".to_owned(),
        fields: BTreeMap::new(),
        sinks: sinks.map(|sinks| sinks.iter().map(|&sink| sink.to_owned()).collect()),
        parse: Parse::None,
    }
}

/// A process: a log with sinks.
struct Process {
    intake: Intake,
    running: Running,
    sinks: Vec<Delivering>,
    runtime: tokio::runtime::Runtime,
}

impl Process {
    fn start(state: &Path, sinks: &[(&str, String)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let settings =
            LogSettings { commit_every: Duration::from_millis(5), ..LogSettings::at(state) };
        let (log, sources) = Log::open(settings).unwrap();
        let open = |(name, url): &(&str, String)| {
            let settings = SinkSettings::parse(name, url, &BTreeMap::new()).unwrap();
            Delivery::open(&log, settings).unwrap()
        };
        let deliveries: Vec<_> = sinks.iter().map(open).collect();
        let (intake, receiver) = intake(sources);
        let running = log.run(receiver).unwrap();
        let start = |delivery: Delivery| delivery.start(runtime.handle().clone()).unwrap();
        let sinks = deliveries.into_iter().map(start).collect();
        Self { intake, running, sinks, runtime }
    }

    fn send(&self, meta: SourceMeta, lines: &[String]) {
        let mut builder = BlockBuilder::default();
        for line in lines {
            builder.push(1_000, Flags::new(Stream::File), line.as_bytes());
        }
        let block = builder.finish().unwrap();
        let file = FileIdentity { device: 1, inode: 7, born: None };
        let cursor =
            Cursor::File(FileCursor { shift: 0, file, offset: 0, proof: ContentProof::default() });
        let source = self.intake.open(meta).id;
        self.intake.send_blocking(Message::Chunk(Chunk { source, block, cursor })).unwrap();
    }

    fn finish(self) -> Vec<Result<(), DeliverError>> {
        let Self { intake, running, sinks, runtime } = self;
        drop(intake);
        running.finish(Instant::now() + PATIENCE).unwrap();
        let ended = sinks.into_iter().map(|sink| sink.finish(Instant::now() + PATIENCE)).collect();
        drop(runtime);
        ended
    }

    /// The sinks and the log end where they are; what is durable is durable.
    fn crash(self) {
        for sink in &self.sinks {
            sink.stop.request();
        }
        let Self { running, sinks, .. } = self;
        for sink in sinks {
            // Whatever it says, it has ended.
            drop(sink.finish(Instant::now() + PATIENCE));
        }
        drop(running);
    }
}

fn file_url(directory: &Path, rest: &str) -> String {
    format!("file://{}/{rest}", directory.display())
}

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number} {}", "x".repeat(number % 97))).collect()
}

#[test]
fn each_sink_gets_what_its_sources_send_to_it() {
    let (state, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sinks =
        [("one", file_url(output.path(), "one.log")), ("two", file_url(output.path(), "two.log"))];
    let process = Process::start(state.path(), &sinks);
    process.send(meta("all", None), &["for both".to_owned()]);
    process.send(meta("some", Some(&["two"])), &["for two".to_owned()]);
    process.send(meta("none", Some(&[])), &["for nobody".to_owned()]);
    for ended in process.finish() {
        ended.unwrap();
    }
    let read = |name: &str| fs::read_to_string(output.path().join(name)).unwrap();
    assert_eq!(read("one.log"), "for both\n");
    assert_eq!(read("two.log"), "for both\nfor two\n");
}

#[test]
fn a_sink_that_does_not_work_hurts_no_other_and_loses_nothing() {
    let (state, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A directory in the way of the file.
    fs::create_dir(output.path().join("bad.log")).unwrap();
    let sinks = [
        ("bad", file_url(output.path(), "bad.log")),
        ("good", file_url(output.path(), "good.log")),
    ];
    let process = Process::start(state.path(), &sinks);
    process.send(meta("a", None), &lines(0..100));
    let good = output.path().join("good.log");
    let expected: String = lines(0..100).iter().map(|line| format!("{line}\n")).collect();
    let begun = Instant::now();
    while fs::read_to_string(&good).unwrap_or_default() != expected {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    while process.sinks[0].stats().report().failing.is_none() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let failing = process.sinks[0].stats().report().failing.unwrap();
    assert!(failing.error.contains("bad.log"), "{}", failing.error);
    process.crash();
    fs::remove_dir(output.path().join("bad.log")).unwrap();
    for ended in Process::start(state.path(), &sinks).finish() {
        ended.unwrap();
    }
    assert_eq!(fs::read_to_string(output.path().join("bad.log")).unwrap(), expected);
    assert_eq!(fs::read_to_string(&good).unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// What the log kept is in the files once, whenever the processes died.
    #[test]
    fn files_hold_every_durable_line_once(rounds in proptest::collection::vec((1..30_usize, 0..20_u64), 1..5)) {
        let (state, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sinks = [
            ("plain", file_url(output.path(), "{name}.log?rotate=4096")),
            ("records", file_url(output.path(), "{name}.ndjson")),
        ];
        let mut sent = 0;
        for (count, delay) in rounds {
            let process = Process::start(state.path(), &sinks);
            for _ in 0..count {
                process.send(meta("a", None), &lines(sent..sent + 7));
                sent += 7;
            }
            std::thread::sleep(Duration::from_millis(delay));
            process.crash();
        }
        for ended in Process::start(state.path(), &sinks).finish() {
            ended.unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(output.path()).unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("a.log."))
            .collect();
        names.sort();
        names.push("a.log".to_owned());
        let plain: String = names.iter()
            .map(|name| fs::read_to_string(output.path().join(name)).unwrap_or_default())
            .collect();
        let records = fs::read_to_string(output.path().join("a.ndjson")).unwrap_or_default();
        let records: Vec<Value> =
            records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The log numbers without a hole; what it lost in a crash, the source would send again.
        let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
        prop_assert_eq!(&seqs, &(0..seqs.len() as u64).collect::<Vec<_>>());
        let text: String =
            records.iter().map(|record| format!("{}\n", record["line"].as_str().unwrap())).collect();
        prop_assert_eq!(text, plain);
    }
}

/// A server that answers 400 to whatever has `poison` in it.
fn picky_server() -> (String, std::thread::JoinHandle<()>) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() == 0 {
                    // A connection without a request is the end.
                    return;
                }
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let is_poison = body.windows(6).any(|window| window == b"poison");
            let status = if is_poison { "400 Bad Request" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, serving)
}

#[test]
fn what_a_peer_refuses_for_good_stands_in_the_ledger() {
    let state = tempfile::tempdir().unwrap();
    let (url, serving) = picky_server();
    let address = url.trim_start_matches("http://").trim_end_matches("/in").to_owned();
    let options = "?poison=drop&compress=none&age=10ms";
    let process = Process::start(state.path(), &[("out", format!("{url}{options}"))]);
    let stats = process.sinks[0].stats().clone();
    let mut of_a = lines(0..40);
    for number in [3, 20, 21, 22] {
        of_a[number] = "poison".to_owned();
    }
    process.send(meta("a", None), &of_a);
    process.send(meta("b", None), &["poison".to_owned(), "fine".to_owned()]);
    assert!(process.finish().into_iter().all(|ended| ended.is_ok()));
    let report = stats.report();
    assert_eq!((report.records, report.dropped, report.skipped), (37, 5, 0));
    let entries = crate::ledger::read(state.path()).unwrap();
    let mut told: Vec<_> = entries
        .iter()
        .map(|entry| {
            assert_eq!(
                (entry.gap.reason, entry.sink.as_deref()),
                (GapReason::Refused, Some("out"))
            );
            (entry.name.as_str(), entry.seq, entry.gap.lines)
        })
        .collect();
    told.sort_unstable();
    let (a, b) = ("/var/log/a", "/var/log/b");
    assert_eq!(told, [(a, 3, Some(1)), (a, 20, Some(3)), (b, 0, Some(1))]);
    assert_eq!(report.gaps, 3);
    let audit = crate::audit::audit(state.path(), &crate::audit::AuditRequest::default()).unwrap();
    assert_eq!(audit.exit_code(), chores_common::exit::ExitCode::Warnings);
    assert_eq!((audit.sinks[0].lost.lines, audit.lost.lines), (5, 5));
    let text = audit.text();
    assert!(text.contains("  5 lines lost in 3 gaps for this sink alone\n"), "{text}");
    assert!(text.contains(" at record 20: refused, 3 lines\n"), "{text}");
    drop(std::net::TcpStream::connect(address).unwrap());
    serving.join().unwrap();
}
