//! Death at any moment: whatever kills the shipper, files and objects hold every line exactly once, the others
//! at least once, and the audit knows it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::http_receiver::{Answer, HttpReceiver};
use e2e::object_store::ObjectStore;
use e2e::process::{Run, Running};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::sequence::Sequence;
use rustix::process::Signal;
use serde_json::Value;

use crate::operations::soak_factor;

const LOGSHIP: &str = env!("CARGO_BIN_EXE_logship-under-test");
const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// How often the shipper is killed; `CHORES_SOAK` multiplies it.
const KILLS: u32 = 100;

/// Lines a second that are written meanwhile.
const RATE: u32 = 20_000;

/// Rotations while it is killed: one after so many kills.
const KILLS_PER_ROTATION: u32 = 7;

/// How long the last run may take to ship what is left.
const DRAIN_SECONDS: u64 = 120;

struct Scene {
    sandbox: Sandbox,
    store: ObjectStore,
    receiver: HttpReceiver,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (store, receiver) = (ObjectStore::in_process(), HttpReceiver::start());
        let scene = Self { sandbox, store, receiver };
        let (logs, shipped) = (scene.sandbox.directory("logs"), scene.sandbox.directory("shipped"));
        let config = format!(
            "state = {state:?}\n\
             [[source]]\ntype = \"files\"\npaths = [\"{logs}/*.log\", \"{logs}/*.log.*\"]\n\
             [[sink]]\nname = \"files\"\nurl = \"file://{shipped}/all.log?format=plain&rotate=1MB&keep=10000&compress=zstd\"\n\
             [[sink]]\nname = \"objects\"\nurl = \"{objects}\"\nendpoint = \"{endpoint}\"\nbatch = \"256KiB\"\nage = \"200ms\"\n\
             [[sink]]\nname = \"http\"\nurl = \"{http}\"\n",
            state = scene.sandbox.path("state"),
            logs = logs.display(),
            shipped = shipped.display(),
            objects = scene.store.url(),
            endpoint = scene.store.address().endpoint,
            http = scene.receiver.url(),
        );
        scene.sandbox.file("logship.toml", config);
        scene
    }

    fn log(&self) -> PathBuf {
        self.sandbox.path("logs/app.log")
    }

    fn logship(&self, command: &str) -> Run {
        let config = self.sandbox.path("logship.toml");
        Run::new(LOGSHIP)
            .envs(self.store.address().env())
            .args([command.as_ref(), "--config".as_ref(), config.as_os_str()])
            .deadline(Duration::from_secs(DRAIN_SECONDS))
    }

    fn writer(&self) -> Running {
        Run::new(WRITER)
            .args(["--follow-name", "--rate", &RATE.to_string(), "--file"])
            .arg(self.log())
            .deadline(Duration::from_secs(3600))
            .start()
    }

    /// What logrotate does with `create`, but no signal: the writer looks for itself.
    fn rotate(&self, number: u32) {
        let old = self.log().with_extension(format!("log.{number}"));
        std::fs::rename(self.log(), old).unwrap();
    }

    fn shipped_to_files(&self) -> Sequence {
        let mut names: Vec<_> = std::fs::read_dir(self.sandbox.path("shipped"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        // all.log.000001.zst, all.log.000002.zst …, and last all.log
        names.sort_by_key(|path| (path.ends_with("all.log"), path.clone()));
        let mut sequence = Sequence::default();
        for name in names {
            sequence.add("line", &read_plain(&name));
        }
        sequence
    }

    fn shipped_to_objects(&self) -> Sequence {
        let mut open = vec![self.store.files().expect("a store in this process")];
        let mut objects = Vec::new();
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.to_string_lossy().ends_with(".ndjson.zst") {
                objects.push(path);
            }
        }
        objects.sort();
        let mut sequence = Sequence::default();
        for object in objects {
            add_records(&mut sequence, &read_plain(&object));
        }
        sequence
    }

    fn shipped_to_http(&self) -> Sequence {
        let mut sequence = Sequence::default();
        for body in self.receiver.bodies() {
            add_records(&mut sequence, &body);
        }
        sequence
    }
}

fn read_plain(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "zst") {
        return zstd::decode_all(bytes.as_slice())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    bytes
}

fn add_records(sequence: &mut Sequence, ndjson: &[u8]) {
    for record in ndjson.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(record).unwrap();
        if let Some(line) = record["line"].as_str() {
            sequence.add("line", line.as_bytes());
        }
    }
}

#[test]
fn a_shipper_that_is_killed_a_hundred_times_loses_nothing_and_repeats_nothing() {
    let scene = Scene::new();
    let mut random = Random::new(getrandom::u64().unwrap());
    let writer = scene.writer();
    let kills = KILLS * soak_factor();
    for kill in 0..kills {
        scene.receiver.answer(match random.below(4) {
            0 => Answer::Stall,
            1 => Answer::Status(503),
            _ => Answer::Status(200),
        });
        if kill % KILLS_PER_ROTATION == 0 && scene.log().exists() {
            scene.rotate(kill);
        }
        let moment = Duration::from_millis(20 + random.below(500));
        let finished = scene.logship("run").start().kill_at(moment);
        assert_eq!(finished.signal(), Some(9), "it ended by itself: {finished}");
    }
    scene.receiver.answer(Answer::Status(200));
    writer.signal(Signal::TERM);
    let last: u64 = writer.wait().expect_code(0).stdout_text().trim().parse::<u64>().unwrap() - 1;
    let began = Instant::now();
    scene.logship("once").succeed();
    e2e::notice!("{kills} kills, {last} lines, the rest shipped in {:?}", began.elapsed());

    scene.shipped_to_files().assert_is(1..=last);
    scene.shipped_to_objects().assert_is(1..=last);
    scene.shipped_to_http().assert_has(1..=last);
    let audit = scene.logship("audit").arg("--json").succeed().last_json();
    assert_eq!(audit["lost"]["lines"], 0, "{audit}");
    assert_eq!(audit["lost"]["gaps"], 0, "{audit}");
}
