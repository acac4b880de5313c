//! Containers of the real engine, read by way of its own log files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;
use e2e::engine::{Container, Engine, Spec, connect};
use e2e::images::{self, Image};
use e2e::sandbox::unique_name;
use e2e::sequence::Sequence;
use logship::cursor::Cursor;
use logship::direct::{CONTAINERS_DIRECTORY, Mode};
use logship::engine_source::{EngineSettings, run};
use logship::followed::{FollowedTable, Way};
use logship::intake::{Intake, IntakeReceiver, Message, Sources, intake};
use logship::plan::Planner;
use logship::record::Stream;
use logship::rule::EngineRule;
use logship::source::{SourceId, SourceMeta};

const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// Label of the containers of one test.
const LABEL: &str = "chores.test.logship";

/// How long the lines of a test may take to arrive, in seconds.
const ARRIVAL_SECONDS_MAX: u64 = 180;

/// What arrived of one container.
#[derive(Clone, Default)]
struct Arrived {
    /// Lines by stream, each with a line feed.
    lines: BTreeMap<Stream, Vec<u8>>,
    count: usize,
    partial: usize,
    controls: Vec<String>,
    is_ended: bool,
}

impl Arrived {
    fn text(&self) -> Vec<u8> {
        self.lines.values().flatten().copied().collect()
    }

    fn sequence(&self, stream: Stream, name: &str) -> Sequence {
        Sequence::of(name, self.lines.get(&stream).map_or(&[], Vec::as_slice))
    }
}

/// What the log would have: everything that arrived, and the cursors.
#[derive(Default)]
struct Log {
    arrived: HashMap<String, Arrived>,
    sources: BTreeMap<SourceId, (SourceMeta, Option<Cursor>)>,
}

/// A test's own engine source, and the containers it takes.
struct Rig {
    engine: Engine,
    image: Arc<Image>,
    run: String,
    log: Arc<Mutex<Log>>,
}

impl Rig {
    /// `None`, with the reason said, without an engine or its files.
    fn new() -> Option<Self> {
        let engine = connect()?;
        if std::fs::read_dir(CONTAINERS_DIRECTORY).is_err() {
            e2e::notice!("skipped: {CONTAINERS_DIRECTORY} cannot be read here");
            return None;
        }
        let image = images::program(&engine, Path::new(WRITER));
        Some(Self { engine, image, run: unique_name(), log: Arc::default() })
    }

    fn spec(&self, arguments: &[&str]) -> Spec {
        let mut spec = Spec::new(self.image.name(), arguments.iter().copied());
        spec.labels.insert(LABEL.to_owned(), self.run.clone());
        spec.log("json-file", &[("max-size", "10m"), ("max-file", "3")])
    }

    fn ship(&self, host: Option<&str>, mode: Mode) -> Shipper {
        let rule = EngineRule {
            labels: vec![(LABEL.to_owned(), Some(self.run.clone()))],
            ..EngineRule::default()
        };
        let planner = Arc::new(Planner { rules: vec![rule], ..Planner::default() });
        let sources = Arc::new(Sources::default());
        for (id, (meta, cursor)) in &self.lock().sources {
            sources.restore(*id, meta.clone(), cursor.clone());
        }
        let (intake, receiver) = intake(sources);
        let settings = EngineSettings {
            host: host.map(str::to_owned),
            files: Some(CONTAINERS_DIRECTORY.into()),
            ..EngineSettings::default()
        };
        let (shutdown, table) = (Shutdown::new(), Arc::new(FollowedTable::default()));
        let reading = {
            let (shutdown, table) = (shutdown.clone(), table.clone());
            std::thread::spawn(move || read(&settings, planner, &intake, &shutdown, mode, &table))
        };
        let log = self.log.clone();
        let collecting = std::thread::spawn(move || collect(receiver, &log));
        Shipper { shutdown, table, threads: vec![reading, collecting] }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, container: &Container) -> Arrived {
        self.lock().arrived.get(container.name()).cloned().unwrap_or_default()
    }

    /// Waits until so many lines of the container arrived.
    fn await_lines(&self, container: &Container, count: usize) -> Arrived {
        self.await_that(container, |arrived| arrived.count >= count)
    }

    fn await_that(&self, container: &Container, is_it: impl Fn(&Arrived) -> bool) -> Arrived {
        let deadline = Instant::now() + Duration::from_secs(ARRIVAL_SECONDS_MAX);
        loop {
            {
                let log = self.lock();
                if let Some(arrived) = log.arrived.get(container.name())
                    && is_it(arrived)
                {
                    return arrived.clone();
                }
            }
            if Instant::now() > deadline {
                let arrived = self.arrived(container);
                panic!("only {} lines arrived, and {:?}", arrived.count, arrived.controls);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn read(
    settings: &EngineSettings,
    planner: Arc<Planner>,
    intake: &Intake,
    shutdown: &Shutdown,
    mode: Mode,
    table: &Arc<FollowedTable>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    run(settings, planner, intake, shutdown, mode, runtime.handle(), table)
        .expect("the source reads to its end");
}

fn collect(mut receiver: IntakeReceiver, log: &Mutex<Log>) {
    while let Some(message) = receiver.messages.blocking_recv() {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = &mut *log;
        match message {
            Message::Chunk(chunk) => {
                let meta = receiver.sources.meta(chunk.source).expect("the source is known");
                let arrived = log.arrived.entry(meta.origin.name().to_owned()).or_default();
                for record in chunk.block.records() {
                    if record.flags.is_control() {
                        arrived.controls.push(String::from_utf8_lossy(record.line).into_owned());
                        continue;
                    }
                    arrived.count += 1;
                    arrived.partial += usize::from(record.flags.is_partial());
                    let lines = arrived.lines.entry(record.flags.stream()).or_default();
                    lines.extend_from_slice(record.line);
                    lines.push(b'\n');
                }
                log.sources.insert(chunk.source, ((*meta).clone(), Some(chunk.cursor)));
            }
            Message::End(source) => {
                if let Some(meta) = receiver.sources.meta(source) {
                    let name = meta.origin.name().to_owned();
                    log.arrived.entry(name).or_default().is_ended = true;
                }
                log.sources.remove(&source);
            }
        }
    }
}

/// A source that runs.
struct Shipper {
    shutdown: Shutdown,
    table: Arc<FollowedTable>,
    threads: Vec<JoinHandle<()>>,
}

impl Shipper {
    /// Asks it to stop, and waits.
    fn stop(mut self) {
        self.shutdown.request();
        self.join();
    }

    /// Waits for the end of a source that reads once.
    fn finish(mut self) {
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join().expect("the source does not panic");
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

const STARTED: &str = r#"{"control":"started"}"#;
const STOPPED: &str = r#"{"control":"stopped"}"#;

/// As many lines as the engine takes, through dozens of rotations.
fn full_speed(driver: &str, lines: u64) {
    let Some(rig) = Rig::new() else { return };
    let count = lines.to_string();
    let options = [("max-size", "10m"), ("max-file", "3")];
    let spec = rig.spec(&["--name", "fast", "--lines", &count]).log(driver, &options);
    let shipper = rig.ship(None, Mode::Follow);
    let container = rig.engine.start(spec);
    let way = || shipper.table.snapshot().get(container.id()).map(|followed| followed.way);
    let arrived = rig.await_lines(&container, usize::try_from(lines).expect("a count"));
    assert_eq!(way(), Some(Way::Direct));
    assert_eq!(container.wait(), 0);
    shipper.stop();
    assert_eq!(arrived.controls, [STARTED]);
    arrived.sequence(Stream::Stdout, "fast").assert_is(1..=lines);
}

#[test]
fn nothing_is_lost_or_repeated_at_full_speed_with_json_file() {
    full_speed("json-file", 1_200_000);
}

#[test]
fn nothing_is_lost_or_repeated_at_full_speed_with_the_local_driver() {
    full_speed("local", 800_000);
}

#[test]
fn two_streams_at_once_each_keep_their_order() {
    let Some(rig) = Rig::new() else { return };
    let shipper = rig.ship(None, Mode::Follow);
    let arguments = ["--name", "both", "--lines", "200000", "--stderr-every", "2"];
    let container = rig.engine.start(rig.spec(&arguments));
    let arrived = rig.await_lines(&container, 200_000);
    shipper.stop();
    let (stdout, stderr) =
        (arrived.sequence(Stream::Stdout, "both"), arrived.sequence(Stream::Stderr, "both"));
    assert_eq!((stdout.count(), stderr.count()), (100_000, 100_000));
    for text in arrived.lines.values() {
        let numbers: Vec<u64> = text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok())
            .collect();
        assert!(numbers.is_sorted());
    }
    Sequence::of("both", &arrived.text()).assert_has(1..=200_000);
}

#[test]
fn a_terminal_is_one_stream() {
    let Some(rig) = Rig::new() else { return };
    let shipper = rig.ship(None, Mode::Follow);
    let mut spec = rig.spec(&["--name", "tty", "--lines", "20000", "--stderr-every", "3"]);
    spec.terminal = true;
    let container = rig.engine.start(spec);
    let arrived = rig.await_lines(&container, 20_000);
    shipper.stop();
    assert_eq!(arrived.lines.keys().copied().collect::<Vec<_>>(), [Stream::Console]);
    Sequence::of("tty", &arrived.text()).assert_has(1..=20_000);
    assert!(!arrived.text().contains(&b'\r'));
}

#[test]
fn long_lines_are_whole_whatever_the_engine_cuts_them_into() {
    let Some(rig) = Rig::new() else { return };
    for driver in ["json-file", "local"] {
        for bytes in ["16383", "16384", "16385", "1048576"] {
            let arguments = ["--name", "long", "--lines", "5", "--bytes", bytes];
            let container = rig.engine.start(rig.spec(&arguments).log(driver, &[]));
            assert_eq!(container.wait(), 0);
            rig.ship(None, Mode::Once).finish();
            let arrived = rig.arrived(&container);
            assert_eq!((arrived.count, arrived.partial), (5, 0), "{driver} {bytes}");
            let text = arrived.text();
            let lengths: Vec<String> = text
                .split(|byte| *byte == b'\n')
                .map(|line| line.len().to_string())
                .filter(|length| length != "0")
                .collect();
            assert_eq!(lengths, [bytes; 5], "{driver}");
            arrived.sequence(Stream::Stdout, "long").assert_is(1..=5);
        }
    }
}

#[test]
fn a_container_that_is_restarted_again_and_again_is_read_through() {
    let Some(rig) = Rig::new() else { return };
    let shipper = rig.ship(None, Mode::Follow);
    let container = rig.engine.start(rig.spec(&["--name", "again", "--lines", "2000"]));
    assert_eq!(container.wait(), 0);
    for _ in 0..20 {
        container.start();
        assert_eq!(container.wait(), 0);
    }
    let arrived = rig.await_lines(&container, 21 * 2000);
    let sequence = arrived.sequence(Stream::Stdout, "again");
    sequence.assert_has(1..=2000);
    assert!(sequence.repeated().values().all(|count| *count == 21));
    assert_eq!((sequence.count(), arrived.partial), (21 * 2000, 0));
    let name = container.name().to_owned();
    container.remove();
    let deadline = Instant::now() + Duration::from_secs(ARRIVAL_SECONDS_MAX);
    while !rig.lock().arrived[&name].is_ended {
        assert!(Instant::now() < deadline, "the removal is not told");
        std::thread::sleep(Duration::from_millis(10));
    }
    shipper.stop();
    assert_eq!(rig.lock().arrived[&name].controls, [STARTED, STOPPED]);
}

#[test]
fn containers_that_live_for_a_moment_and_are_removed_at_once_are_read_whole() {
    let Some(rig) = Rig::new() else { return };
    let shipper = rig.ship(None, Mode::Follow);
    let containers: Vec<Container> = (0..30)
        .map(|_| {
            let mut spec = rig.spec(&["--name", "brief", "--lines", "50", "--stay", "2"]);
            spec.auto_remove = true;
            rig.engine.start(spec)
        })
        .collect();
    for container in &containers {
        let arrived = rig.await_that(container, |arrived| arrived.is_ended);
        arrived.sequence(Stream::Stdout, "brief").assert_is(1..=50);
        assert_eq!(arrived.controls, [STARTED, STOPPED]);
    }
    shipper.stop();
}

#[test]
fn a_shipper_that_is_restarted_neither_loses_nor_repeats() {
    let Some(rig) = Rig::new() else { return };
    let arguments = ["--name", "on", "--lines", "400000", "--rate", "50000", "--bytes", "200"];
    let container = rig.engine.start(rig.spec(&arguments));
    for share in 1..=6 {
        let shipper = rig.ship(None, Mode::Follow);
        rig.await_lines(&container, share * 50_000);
        shipper.stop();
    }
    assert_eq!(container.wait(), 0);
    rig.ship(None, Mode::Once).finish();
    let arrived = rig.arrived(&container);
    arrived.sequence(Stream::Stdout, "on").assert_is(1..=400_000);
    assert_eq!(arrived.controls, [STARTED]);
}

#[test]
fn files_are_read_while_the_engine_does_not_answer() {
    let Some(rig) = Rig::new() else { return };
    let shipper = rig.ship(Some("unix:///nowhere/docker.sock"), Mode::Follow);
    let container = rig.engine.start(rig.spec(&["--name", "alone", "--lines", "1000"]));
    let arrived = rig.await_lines(&container, 1000);
    arrived.sequence(Stream::Stdout, "alone").assert_is(1..=1000);
    shipper.stop();
}
