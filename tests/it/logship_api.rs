//! Containers that are read through the engine's log API: of a fake engine that misbehaves in every known way,
//! and of the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chores_common::engine::Engine as ShipperEngine;
use chores_common::shutdown::Shutdown;
use e2e::engine::{Container, Spec, connect};
use e2e::fake_engine::{Behaviour, CONTAINER, FakeEngine, Since};
use e2e::images::{self, Image};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use logship::api::follow::{FollowEnd, Followed, Gate, follow};
use logship::cursor::Cursor;
use logship::intake::{Message, Sources, intake};
use logship::record::{Control, Gap, GapReason, Stream};
use logship::source::{Origin, Parse, SourceKey, SourceMeta};
use tokio::sync::Notify;

const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// How long what is waited for may take, in seconds.
const WAIT_SECONDS_MAX: u64 = 180;

/// Random schedules, times `CHORES_SOAK`.
const SCHEDULES: u64 = 8;

/// A record as it arrived.
#[derive(Clone, Debug)]
enum Arrived {
    Line { stream: Stream, ts: i64, late: bool, text: Vec<u8> },
    Control { stream: Stream, control: Control },
}

/// Everything that a source handed on, durable at once.
#[derive(Debug, Default)]
struct Log {
    arrived: Vec<Arrived>,
    cursor: Option<Cursor>,
}

/// One container and what came of it.
struct Rig {
    host: Option<String>,
    id: String,
    log: Arc<Mutex<Log>>,
}

/// A source that runs.
struct Shipper {
    stop: Shutdown,
    changed: Arc<Notify>,
    threads: Option<(JoinHandle<FollowEnd>, JoinHandle<()>)>,
}

impl Shipper {
    fn wait(mut self) -> FollowEnd {
        let (reading, collecting) = self.threads.take().expect("it runs");
        let end = reading.join().expect("the source does not panic");
        collecting.join().expect("the log does not panic");
        end
    }

    fn stop(self) {
        self.stop.request();
        self.wait();
    }
}

impl Rig {
    fn new(host: Option<String>, id: &str) -> Self {
        Self { host, id: id.to_owned(), log: Arc::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that goes on where the last one was.
    fn ship(&self, once: bool) -> Shipper {
        let meta = SourceMeta {
            key: SourceKey(format!("engine:{}", self.id)),
            origin: Origin::Engine {
                id: self.id.clone(),
                container: "tested".to_owned(),
                image: String::new(),
                project: None,
                service: None,
            },
            host: String::new(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::None,
        };
        let sources = Arc::new(Sources::default());
        if let Some(cursor) = self.lock().cursor.clone() {
            sources.restore(logship::source::SourceId(0), meta.clone(), Some(cursor));
        }
        let (intake, mut receiver) = intake(sources);
        let (stop, changed) = (Shutdown::new(), Arc::new(Notify::new()));
        let log = self.log.clone();
        let collecting = std::thread::spawn(move || {
            while let Some(message) = receiver.messages.blocking_recv() {
                let Message::Chunk(chunk) = message else { continue };
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                for record in chunk.block.records() {
                    let (stream, ts) = (record.flags.stream(), record.ts);
                    log.arrived.push(if record.flags.is_control() {
                        let control = serde_json::from_slice(record.line).expect("a control");
                        Arrived::Control { stream, control }
                    } else {
                        let (late, text) = (record.flags.is_late(), record.line.to_vec());
                        Arrived::Line { stream, ts, late, text }
                    });
                }
                match &mut log.cursor {
                    Some(cursor) => cursor.advance(chunk.cursor),
                    none => *none = Some(chunk.cursor),
                }
                // What the log keeps is JSON.
                let text = serde_json::to_string(&log.cursor).expect("a cursor is JSON");
                log.cursor = serde_json::from_str(&text).expect("JSON is a cursor");
            }
        });
        let (host, id, signals) = (self.host.clone(), self.id.clone(), changed.clone());
        let ended = stop.clone();
        let reading = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let engine = loop {
                    match ShipperEngine::connect(host.as_deref()).await {
                        Ok(engine) => break engine,
                        // It is away for a moment.
                        Err(_) if !ended.is_requested() => {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        Err(_) => return FollowEnd::Stopped,
                    }
                };
                follow(Followed {
                    engine,
                    id,
                    meta,
                    process: Arc::default(),
                    gate: Gate::default(),
                    changed: signals,
                    intake,
                    stop: ended,
                    once,
                })
                .await
            })
        });
        Shipper { stop, changed, threads: Some((reading, collecting)) }
    }

    /// Waits until what arrived is as wanted.
    fn wait_for(&self, what: &str, is_it: impl Fn(&[Arrived]) -> bool) -> Vec<Arrived> {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
        loop {
            let arrived = self.lock().arrived.clone();
            if is_it(&arrived) {
                return arrived;
            }
            assert!(Instant::now() < deadline, "{what} did not come; {} came", arrived.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for_stops(&self, count: usize) -> Vec<Arrived> {
        self.wait_for("the end of the run", |arrived| stops(arrived) >= count)
    }
}

fn stops(arrived: &[Arrived]) -> usize {
    let is_stop =
        |arrived: &&Arrived| matches!(arrived, Arrived::Control { control: Control::Stopped, .. });
    arrived.iter().filter(is_stop).count()
}

fn gaps(arrived: &[Arrived]) -> Vec<(Stream, Gap)> {
    let gap = |arrived: &Arrived| match arrived {
        Arrived::Control { stream, control: Control::Gap(gap) } => Some((*stream, gap.clone())),
        _ => None,
    };
    arrived.iter().filter_map(gap).collect()
}

fn lines(arrived: &[Arrived]) -> Vec<(Stream, i64, bool, String)> {
    let line = |arrived: &Arrived| match arrived {
        Arrived::Line { stream, ts, late, text } => {
            Some((*stream, *ts, *late, String::from_utf8_lossy(text).into_owned()))
        }
        Arrived::Control { .. } => None,
    };
    arrived.iter().filter_map(line).collect()
}

/// A container of the fake engine that writes numbered lines.
struct Writing<'a> {
    engine: &'a FakeEngine,
    clock: i64,
    /// Of each number: where and when it was written.
    written: Vec<(Stream, i64)>,
    terminal: bool,
}

impl Writing<'_> {
    /// Lines of random length, some of them in pieces.
    fn lines(&mut self, random: &mut Random, count: u64) {
        for _ in 0..count {
            self.clock += 1 + i64::try_from(random.below(50_000)).expect("a small number");
            let is_err = !self.terminal && random.below(3) == 0;
            let number = self.written.len();
            let end = if self.terminal { "\r\n" } else { "\n" };
            for _ in 0..if random.below(40) == 0 { random.below(20) } else { 0 } {
                let piece = format!("{number:<16384}");
                self.engine.write(is_err, self.clock, piece.as_bytes());
            }
            let text = format!("{number} end{end}");
            self.engine.write(is_err, self.clock, text.as_bytes());
            let stream = match (self.terminal, is_err) {
                (true, _) => Stream::Console,
                (_, true) => Stream::Stderr,
                _ => Stream::Stdout,
            };
            self.written.push((stream, self.clock));
        }
    }
}

/// Everything that may happen to a reader of logs, at random; then what arrived is held against what was written.
fn schedule(seed: u64) {
    let mut random = Random::new(seed);
    let sandbox = Sandbox::new();
    let behaviour = Behaviour {
        since: if seed.is_multiple_of(2) { Since::EveryLine } else { Since::Prefix },
        repeats: if seed.is_multiple_of(3) { 5 } else { 0 },
        files: 2 + usize::try_from(random.below(3)).expect("a small number"),
        terminal: seed % 4 == 3,
        late_headers: seed.is_multiple_of(5),
        ..Behaviour::default()
    };
    let has_steps = seed % 2 == 1;
    let mut engine = FakeEngine::start(&sandbox.path("engine.sock"), behaviour.clone());
    let rig = Rig::new(Some(engine.host()), CONTAINER);
    let mut shipper = Some(rig.ship(false));
    let (mut clock, mut written) = (1_700_000_000_000_000_000, Vec::new());
    let mut runs = 0;
    for _ in 0..30 {
        let mut writing = Writing { engine: &engine, clock, written, terminal: behaviour.terminal };
        let count = 1 + random.below(60);
        writing.lines(&mut random, count);
        (clock, written) = (writing.clock, writing.written);
        match random.below(12) {
            0 | 1 => engine.rotate(),
            2 => engine.hold_followers(true),
            3 => engine.hold_followers(false),
            4 => engine.cut(),
            5 => engine.cut_after(Some(usize::try_from(random.below(60_000)).expect("small"))),
            6 => engine.cut_after(None),
            7 if has_steps => clock -= 40_000_000_011,
            8 => {
                if let Some(shipper) = shipper.take() {
                    shipper.stop();
                }
                shipper = Some(rig.ship(false));
            }
            9 => {
                engine.go_away();
                std::thread::sleep(Duration::from_millis(random.below(100)));
                engine.come_back();
            }
            10 => {
                engine.set_running(false);
                engine.set_running(true);
                runs += 1;
                if let Some(shipper) = &shipper {
                    shipper.changed.notify_one();
                }
            }
            _ => std::thread::sleep(Duration::from_millis(random.below(150))),
        }
    }
    engine.cut_after(None);
    engine.hold_followers(false);
    engine.set_running(false);
    let shipper = shipper.take().unwrap_or_else(|| rig.ship(false));
    shipper.changed.notify_one();
    let last = written.len() - 1;
    let arrived = rig.wait_for("the last line", |arrived| {
        let is_last = |line: &(Stream, i64, bool, String)| {
            line.3 == format!("{last} end") || line.3.ends_with(&format!(" {last} end"))
        };
        stops(arrived) > 0 && lines(arrived).iter().any(is_last)
    });
    engine.remove();
    shipper.changed.notify_one();
    assert_eq!(shipper.wait(), FollowEnd::Removed, "seed {seed}, {runs} runs");
    judge(seed, &arrived, &written, has_steps);
}

fn judge(seed: u64, arrived: &[Arrived], written: &[(Stream, i64)], has_steps: bool) {
    let gaps = gaps(arrived);
    let mut got: BTreeSet<usize> = BTreeSet::new();
    let mut newest: BTreeMap<Stream, usize> = BTreeMap::new();
    for (stream, _, late, text) in lines(arrived) {
        // A line whose beginning is lost, or that was cut by the end of a process, still ends once.
        let Some(text) = text.strip_suffix(" end") else { continue };
        let number: usize = text
            .split_whitespace()
            .next_back()
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("seed {seed}: no number in {text:?}"));
        assert!(got.insert(number), "seed {seed}: {number} came twice");
        assert_eq!(written[number].0, stream, "seed {seed}: {number}");
        if !late {
            let before = newest.insert(stream, number);
            assert!(before.is_none_or(|before| before < number), "seed {seed}: {number} is early");
        }
    }
    let first = got.first().copied().unwrap_or(written.len());
    for (number, (stream, ts)) in written.iter().enumerate() {
        let covers = |gap: &Gap| {
            gap.from.is_none_or(|from| from <= *ts) && gap.to.is_none_or(|to| *ts <= to)
        };
        let mut of_stream = gaps.iter().filter(|(of, _)| of == stream);
        let is_told = of_stream.any(|(_, gap)| covers(gap)) || (has_steps && !gaps.is_empty());
        let is_there = got.contains(&number);
        assert!(is_there || number < first || is_told, "seed {seed}: {number} is lost: {gaps:?}");
        let is_within = |gap: &Gap| {
            gap.from.is_some_and(|from| from < *ts) && gap.to.is_some_and(|to| *ts < to)
        };
        let mut exact = gaps.iter().filter(|(of, gap)| of == stream && gap.exact);
        let is_denied = exact.any(|(_, gap)| is_within(gap));
        assert!(!is_there || !is_denied || has_steps, "seed {seed}: {number} is in a gap");
    }
}

#[test]
fn whatever_happens_nothing_comes_twice_and_what_is_lost_is_told() {
    let soak = std::env::var("CHORES_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(1);
    for seed in 0..SCHEDULES * soak {
        schedule(seed);
    }
}

#[test]
fn a_log_that_cannot_be_read_is_told_once_and_not_asked_for_again() {
    let sandbox = Sandbox::new();
    let engine = FakeEngine::start(&sandbox.path("engine.sock"), Behaviour::default());
    engine.refuse(Some(501));
    let rig = Rig::new(Some(engine.host()), CONTAINER);
    let FollowEnd::Unreadable(error) = rig.ship(false).wait() else { panic!("it was read") };
    assert!(error.to_string().contains("does not support reading"), "{error}");
    assert_eq!(engine.pictures(), 0, "refused requests are not counted as pictures");
}

#[test]
fn an_error_within_the_log_is_no_line_and_reading_goes_on_after_it() {
    let sandbox = Sandbox::new();
    let engine = FakeEngine::start(&sandbox.path("engine.sock"), Behaviour::default());
    engine.write(false, 1, b"before\n");
    engine.break_log(Some("invalid character 'x' looking for beginning of value"));
    let rig = Rig::new(Some(engine.host()), CONTAINER);
    let shipper = rig.ship(false);
    rig.wait_for("the line before", |arrived| lines(arrived).len() == 1);
    engine.break_log(None);
    engine.write(false, 2, b"after\n");
    let arrived = rig.wait_for("the line after", |arrived| lines(arrived).len() >= 2);
    shipper.stop();
    let texts: Vec<String> = lines(&arrived).into_iter().map(|line| line.3).collect();
    assert_eq!((texts, gaps(&arrived).len()), (vec!["before".into(), "after".into()], 0));
}

#[test]
fn a_container_that_vanishes_unread_leaves_a_gap() {
    let sandbox = Sandbox::new();
    let engine = FakeEngine::start(&sandbox.path("engine.sock"), Behaviour::default());
    let rig = Rig::new(Some(engine.host()), CONTAINER);
    engine.write(false, 1, b"read\n");
    assert_eq!(rig.ship(true).wait(), FollowEnd::Drained);
    engine.write(false, 2, b"not read\n");
    engine.remove();
    assert_eq!(rig.ship(false).wait(), FollowEnd::Removed);
    let arrived = rig.lock().arrived.clone();
    let told = gaps(&arrived);
    assert_eq!((told.len(), told[0].1.reason), (1, GapReason::Removed));
    assert_eq!((told[0].1.from, told[0].1.exact), (Some(1), false));
}

/// An engine as podman is.
fn podman(sandbox: &Sandbox) -> FakeEngine {
    let behaviour = Behaviour {
        server: "Libpod/4.3.1 (linux)",
        leaves_out: LEFT_OUT,
        hears_ends: false,
        ..Behaviour::default()
    };
    FakeEngine::start(&sandbox.path("engine.sock"), behaviour)
}

/// Ships lines, enough for a follower to begin with a tail, until one follows.
fn followed(engine: &FakeEngine) -> (Rig, Shipper) {
    write_numbers(engine, 0..BEFORE);
    let rig = Rig::new(Some(engine.host()), CONTAINER);
    let shipper = rig.ship(false);
    rig.wait_for("what was there", |arrived| lines(arrived).len() == BEFORE);
    wait_until("nothing follows", || engine.followers() > 0);
    (rig, shipper)
}

fn wait_until(otherwise: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while !is_so() {
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lines before anything follows: more than a follower asks for.
const BEFORE: usize = 1100;

/// So many pictures are taken only where nothing is followed any more.
const PICTURES: usize = 10;

/// Lines that a follower leaves out.
const LEFT_OUT: usize = 5;

fn write_numbers(engine: &FakeEngine, numbers: std::ops::Range<usize>) {
    for number in numbers {
        // Its times have whole seconds only.
        let ts = 1_700_000_000 + i64::try_from(number / 400).expect("a small number");
        engine.write(false, ts * 1_000_000_000, format!("{number}\n").as_bytes());
    }
}

fn assert_numbers(arrived: &[Arrived], count: usize) {
    let mut numbers: Vec<usize> =
        lines(arrived).into_iter().map(|line| line.3.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert!(gaps(arrived).is_empty(), "{:?}", gaps(arrived));
}

#[test]
fn what_a_follower_leaves_out_behind_its_tail_comes_although_nothing_follows_it() {
    let sandbox = Sandbox::new();
    let engine = podman(&sandbox);
    let (rig, shipper) = followed(&engine);
    let all = BEFORE + LEFT_OUT;
    write_numbers(&engine, BEFORE..all);
    let arrived = rig.wait_for("what was left out", |arrived| lines(arrived).len() >= all);
    shipper.stop();
    assert_numbers(&arrived, all);
}

#[test]
fn a_follower_that_does_not_hear_of_the_end_is_left() {
    let sandbox = Sandbox::new();
    let engine = podman(&sandbox);
    let (rig, shipper) = followed(&engine);
    let all = BEFORE + LEFT_OUT + 3;
    write_numbers(&engine, BEFORE..all);
    engine.set_running(false);
    shipper.changed.notify_one();
    let arrived = rig.wait_for_stops(1);
    assert_numbers(&arrived, all);
    // Another run, which ends with its container.
    engine.set_running(true);
    shipper.changed.notify_one();
    write_numbers(&engine, all..all + 1);
    rig.wait_for("a line of the second run", |arrived| lines(arrived).len() > all);
    engine.remove();
    shipper.changed.notify_one();
    assert_eq!(shipper.wait(), FollowEnd::Removed);
    assert_numbers_so_far(&rig, all + 1);
}

#[test]
fn an_end_is_heard_of_although_the_follower_is_left_before_the_engine_has_answered() {
    let sandbox = Sandbox::new();
    let engine = podman(&sandbox);
    let (rig, shipper) = followed(&engine);
    let asked = engine.inspections();
    engine.refuse_inspections(Some(500));
    engine.set_running(false);
    shipper.changed.notify_one();
    wait_until("nobody asks about the end", || engine.inspections() > asked);
    // More than a follower may give: it is left.
    let followers = engine.followers();
    let pictures = engine.pictures();
    let mut all = BEFORE;
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
    while engine.pictures() < pictures + PICTURES {
        assert!(Instant::now() < deadline, "the follower is not left");
        write_numbers(&engine, all..all + 500);
        all += 500;
        std::thread::sleep(Duration::from_millis(40));
    }
    // Another one begins once there is less.
    wait_until("no other one follows", || engine.followers() > followers);
    engine.refuse_inspections(None);
    let arrived = rig.wait_for_stops(1);
    shipper.stop();
    assert_numbers(&arrived, all);
}

#[test]
fn what_an_answer_that_does_not_follow_leaves_out_comes_with_the_next() {
    let sandbox = Sandbox::new();
    let engine = podman(&sandbox);
    let (rig, shipper) = followed(&engine);
    shipper.stop();
    let all = BEFORE + 4 * LEFT_OUT;
    write_numbers(&engine, BEFORE..all);
    assert_eq!(rig.ship(true).wait(), FollowEnd::Drained);
    assert_numbers(&rig.lock().arrived.clone(), all);
}

#[test]
fn the_last_lines_of_a_container_come_although_the_engine_answers_no_question_and_then_has_no_container()
 {
    let sandbox = Sandbox::new();
    let engine = FakeEngine::start(&sandbox.path("engine.sock"), Behaviour::default());
    let (rig, shipper) = followed(&engine);
    engine.hold_followers(true);
    let all = BEFORE + 2000;
    write_numbers(&engine, BEFORE..all);
    let asked = engine.inspections();
    engine.refuse_inspections(Some(500));
    engine.set_running(false);
    shipper.changed.notify_one();
    wait_until("nobody asks about the end", || engine.inspections() > asked);
    engine.remove();
    engine.refuse_inspections(None);
    let asked = engine.inspections();
    wait_until("nobody asks again", || engine.inspections() > asked);
    engine.hold_followers(false);
    assert_eq!(shipper.wait(), FollowEnd::Removed);
    assert_numbers(&rig.lock().arrived.clone(), all);
}

#[test]
fn what_a_follower_has_left_comes_although_a_proof_finds_no_container_any_more() {
    let sandbox = Sandbox::new();
    let engine = FakeEngine::start(&sandbox.path("engine.sock"), Behaviour::default());
    let (rig, shipper) = followed(&engine);
    write_numbers(&engine, BEFORE..BEFORE + 1);
    rig.wait_for("a line of the follower", |arrived| lines(arrived).len() > BEFORE);
    engine.hold_followers(true);
    // More bytes than may come without a proof.
    let all = BEFORE + 200;
    for number in BEFORE + 1..all {
        engine.write(false, 1_800_000_000_000_000_000, format!("{number:>4096}\n").as_bytes());
    }
    engine.remove();
    engine.hold_followers(false);
    assert_eq!(shipper.wait(), FollowEnd::Removed);
    assert_numbers_so_far(&rig, all);
}

/// Of a run that was removed while it was followed nobody can prove the end.
fn assert_numbers_so_far(rig: &Rig, count: usize) {
    let arrived = rig.lock().arrived.clone();
    let reasons: Vec<GapReason> = gaps(&arrived).into_iter().map(|(_, gap)| gap.reason).collect();
    assert_eq!((lines(&arrived).len(), reasons), (count, vec![GapReason::Removed]));
}

// -- The real engine.

fn writer(image: &Image, arguments: &[&str], options: &[(&str, &str)]) -> Spec {
    Spec::new(image.name(), arguments.iter().copied()).log("json-file", options)
}

/// `None`, with the reason said, without an engine.
fn real(arguments: &[&str], options: &[(&str, &str)]) -> Option<(Container, Rig, Arc<Image>)> {
    let engine = connect()?;
    let image = images::program(&engine, Path::new(WRITER));
    let container = engine.create(writer(&image, arguments, options));
    let rig = Rig::new(None, container.id());
    Some((container, rig, image))
}

fn number_of(text: &str) -> Option<u64> {
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn at_full_speed_nothing_is_repeated_and_every_hole_is_exactly_a_gap() {
    let arguments = ["--name", "fast", "--lines", "1500000"];
    let options = [("max-size", "10m"), ("max-file", "3")];
    let Some((container, rig, _image)) = real(&arguments, &options) else { return };
    container.start();
    let shipper = rig.ship(false);
    assert_eq!(container.wait(), 0);
    shipper.changed.notify_one();
    let arrived = rig.wait_for_stops(1);
    shipper.stop();
    let (mut before, mut gap, mut holes) = (None::<(u64, i64)>, None::<Gap>, 0);
    let (mut count, mut late) = (0_u64, 0_u64);
    for record in &arrived {
        match record {
            Arrived::Control { control: Control::Gap(told), .. } => {
                assert!(told.exact, "{told:?}");
                gap = Some(told.clone());
            }
            Arrived::Control { .. } => {}
            Arrived::Line { late: true, .. } => late += 1,
            Arrived::Line { ts, text, .. } => {
                let number = number_of(&String::from_utf8_lossy(text)).expect("a number");
                count += 1;
                match (before, gap.take()) {
                    (Some((last, last_ts)), Some(gap)) => {
                        assert!(number > last + 1, "there is no hole between {last} and {number}");
                        assert_eq!((gap.from, gap.to), (Some(last_ts), Some(*ts)));
                        holes += 1;
                    }
                    (Some((last, _)), None) => assert_eq!(number, last + 1, "not told"),
                    (None, _) => {}
                }
                before = Some((number, *ts));
            }
        }
    }
    assert_eq!((before.map(|(last, _)| last), late), (Some(1_500_000), 0));
    e2e::notice!("api at full speed: {count} of 1500000 lines, {holes} holes, each told exactly");
}

#[test]
fn two_streams_a_terminal_and_long_lines_come_whole() {
    let Some(engine) = connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    for (terminal, bytes, count) in [
        (false, 100, 20_000),
        (true, 100, 20_000),
        (false, 16_383, 50),
        (false, 16_384, 50),
        (false, 16_385, 50),
        (true, 16_383, 50),
        (true, 16_384, 50),
        (true, 16_385, 50),
        (false, 1 << 20, 5),
        (true, 1 << 20, 5),
    ] {
        let every = if bytes > 100 { "1000000" } else { "3" };
        let (lines_text, bytes_text) = (count.to_string(), bytes.to_string());
        let arguments = [
            "--name",
            "x",
            "--lines",
            &lines_text,
            "--bytes",
            &bytes_text,
            "--stderr-every",
            every,
        ];
        let mut spec = writer(&image, &arguments, &[]);
        spec.terminal = terminal;
        let container = engine.create(spec);
        let rig = Rig::new(None, container.id());
        container.start();
        let shipper = rig.ship(false);
        assert_eq!(container.wait(), 0);
        shipper.changed.notify_one();
        let arrived = rig.wait_for_stops(1);
        shipper.stop();
        let lines = lines(&arrived);
        let case = format!("terminal {terminal}, {bytes} bytes");
        let lengths: Vec<(bool, usize)> = lines.iter().map(|line| (line.2, line.3.len())).collect();
        assert!(lengths.iter().all(|(_, length)| *length == bytes), "{case}: {lengths:?}");
        let numbers: BTreeSet<u64> = lines.iter().filter_map(|line| number_of(&line.3)).collect();
        assert_eq!((lines.len(), numbers.len()), (count, count), "{case}");
        assert!(gaps(&arrived).is_empty(), "{case}: {:?}", gaps(&arrived));
    }
}

#[test]
fn a_container_that_is_restarted_is_read_through_its_runs_and_those_of_the_shipper() {
    let arguments = ["--name", "again", "--lines", "500", "--stderr-every", "5"];
    let options = [("max-size", "1m"), ("max-file", "3")];
    let Some((container, rig, _image)) = real(&arguments, &options) else { return };
    let mut shipper = rig.ship(false);
    for run in 0..20 {
        container.start();
        assert_eq!(container.wait(), 0);
        shipper.changed.notify_one();
        if run % 7 == 3 {
            shipper.stop();
            shipper = rig.ship(false);
        }
    }
    let arrived = rig.wait_for("every line", |arrived| lines(arrived).len() >= 20 * 500);
    shipper.stop();
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for line in lines(&arrived) {
        *counts.entry(number_of(&line.3).expect("a number")).or_default() += 1;
    }
    assert!(gaps(&arrived).is_empty());
    assert!((1..=500).all(|number| counts.get(&number) == Some(&20)), "{counts:?}");
}
