//! Rotation of the files that are shipped: whoever writes, however it is done, and whenever the shipper dies, every
//! line arrives exactly once, and the disk stays small.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::engine::{self, Container, Engine, Spec};
use e2e::http_receiver::{Answer, HttpReceiver};
use e2e::images::{self, Image};
use e2e::notice;
use e2e::process::{Finished, Run, Running, find_program};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::sequence::Sequence;
use rustix::process::Signal;
use serde_json::Value;

use crate::operations::soak_factor;
use crate::tool::{FAILED, WARNINGS, WRONG_USAGE};

const LOGSHIP: &str = env!("CARGO_BIN_EXE_logship-under-test");
const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// How long whatever is waited for may take.
const WAIT_SECONDS_MAX: u64 = 120;

/// Lines of one writer: 10 MB. `CHORES_SOAK` multiplies them.
const LINES: u64 = 100_000;

/// A log directory that is kept small takes less, in bytes: a few times the size at which its files are rotated.
const SMALL: u64 = 8_000_000;

/// Rounds of writing, and lines in each: 2 MB. `CHORES_SOAK` multiplies the rounds.
const ROUNDS: u32 = 10;
const ROUND_LINES: u64 = 20_000;

/// Least size at which files may be rotated.
const SIZE: u64 = 64 << 10;

/// How often the shipper is killed in each way of rotating; `CHORES_SOAK` multiplies it.
const KILLS: u32 = 15;

struct Scene {
    sandbox: Sandbox,
    logs: PathBuf,
}

impl Scene {
    /// A shipper of `<logs>/*.log` into one file, with these lines below `[source.rotate]`.
    fn new(rotate: &str) -> Self {
        let sandbox = Sandbox::new();
        let logs = sandbox.directory("logs");
        let scene = Self { sandbox, logs };
        scene.configure(rotate, "");
        scene
    }

    /// The same, whose log directory is yet to be mounted: what is mounted must go before it.
    fn to_be_mounted() -> Self {
        let sandbox = Sandbox::new();
        let logs = sandbox.path("logs");
        Self { sandbox, logs }
    }

    fn configure(&self, rotate: &str, sinks: &str) {
        let shipped = self.sandbox.directory("shipped");
        let config = format!(
            "state = {state:?}\n\
             [[source]]\ntype = \"files\"\npaths = [\"{logs}/*.log\"]\n\
             [source.rotate]\n{rotate}\n\
             [[sink]]\nname = \"files\"\n\
             url = \"file://{shipped}/all.log?format=ndjson&rotate=20MB&keep=10000\"\n{sinks}",
            state = self.sandbox.path("state"),
            logs = self.logs.display(),
            shipped = shipped.display(),
        );
        self.sandbox.file("logship.toml", config);
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    fn logship(&self, args: &[&str]) -> Run {
        let config = self.sandbox.path("logship.toml");
        Run::new(LOGSHIP)
            .args(args.iter().copied())
            .arg("--config")
            .arg(config)
            .env("LOGSHIP_LOG_FORMAT", "text")
            .deadline(Duration::from_secs(600))
    }

    fn run(&self) -> Running {
        self.logship(&["run", "-v"]).start()
    }

    fn writer(&self, file: &str, args: &[&str]) -> Running {
        Run::new(WRITER)
            .args(args.iter().copied())
            .arg("--file")
            .arg(self.log(file))
            .deadline(Duration::from_secs(600))
            .start()
    }

    /// Every record that was shipped, in order.
    fn records(&self) -> Vec<Value> {
        let mut names: Vec<_> = fs::read_dir(self.sandbox.path("shipped"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort_by_key(|path| (path.ends_with("all.log"), path.clone()));
        let mut records = Vec::new();
        for name in names {
            let Ok(bytes) = fs::read(&name) else { continue };
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let whole = lines.filter(|line| line.ends_with(b"\n"));
            records.extend(whole.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        }
        records
    }

    fn shipped(&self, writer: &str) -> Sequence {
        let mut sequence = Sequence::default();
        for record in self.records() {
            if let Some(line) = record["line"].as_str() {
                sequence.add(writer, line.as_bytes());
            }
        }
        sequence
    }

    /// Control records of a kind.
    fn controls(&self, kind: &str) -> Vec<Value> {
        let controls = self.records().into_iter().map(|record| record["control"].clone());
        controls.filter(|control| control["control"] == kind).collect()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.logs).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Ships what is left, and proves that nothing is missing or there twice.
    fn assert_all(&self, writers: &[(&str, u64)]) {
        self.logship(&["once", "--drain", "60s"]).succeed();
        for (writer, last) in writers {
            self.shipped(writer).assert_is(1..=*last);
        }
        let audit = self.logship(&["audit", "--json"]).succeed().last_json();
        assert_eq!(audit["lost"]["lines"], 0, "{audit}");
        assert_eq!(audit["lost"]["gaps"], 0, "{audit}");
    }

    /// Nothing waits in the state directory.
    fn intents(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.sandbox.path("state/rotate")) else {
            return Vec::new();
        };
        let texts = entries.filter_map(|entry| fs::read(entry.unwrap().path()).ok());
        texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }

    fn waits(&self, kind: &str) -> bool {
        self.intents().iter().any(|intent| intent["intent"] == kind)
    }
}

fn lines() -> u64 {
    LINES * u64::from(soak_factor())
}

/// Waits until something is so.
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(WAIT_SECONDS_MAX), "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a shipper in good order.
fn stop(running: Running) -> Finished {
    running.signal(Signal::TERM);
    running.wait()
}

fn numbers_of(writer: Running) -> u64 {
    writer.signal(Signal::TERM);
    last_of(writer)
}

/// The number of the last line of a writer that ends by itself.
fn last_of(writer: Running) -> u64 {
    writer.wait().expect_code(0).stdout_text().trim().parse::<u64>().unwrap() - 1
}

/// Looks how much disk a directory takes, at the most.
struct Disk {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    fn watch(directory: &Path) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, peak, directory) = (stop.clone(), peak.clone(), directory.to_owned());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(allocated(&directory), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(10));
                }
            })
        };
        Self { stop, peak, thread: Some(thread) }
    }

    fn peak(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.peak.load(Ordering::Relaxed)
    }
}

fn allocated(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
}

// Writers that open the new file.

/// A container that writes into the log directory of a scene.
fn container(
    engine: &Engine,
    image: &Image,
    scene: &Scene,
    args: &[&str],
    labels: &[(&str, &str)],
) -> Container {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    engine.start(Spec {
        binds: vec![format!("{}:/logs", scene.logs.display())],
        labels: labels.collect(),
        ..Spec::new(image.name(), args.iter().copied())
    })
}

/// What the writer in a container says at its end.
fn last_in(container: &Container) -> u64 {
    assert_eq!(container.wait(), 0);
    let (stdout, _) = container.logs();
    String::from_utf8(stdout).unwrap().trim().parse::<u64>().unwrap() - 1
}

#[test]
fn containers_are_signalled_and_their_old_files_compressed_and_removed() {
    let Some(engine) = engine::connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    let scene = Scene::new(
        "size = \"1MB\"\nreopen = \"signal:USR1\"\nkeep = 3\ncompress = \"zstd\"\nnames = \"numbered\"",
    );
    let lines = lines().to_string();
    let args = ["--reopen", "--lines", &lines, "--rate", "200000/s", "--wait", "1"];
    let of = |name, file| {
        let args = [&args[..], &["--name", name, "--file", file]].concat();
        container(&engine, &image, &scene, &args, &[])
    };
    let disk = Disk::watch(&scene.logs);
    let shipper = scene.run();
    // Two writers of one file, one with a file of its own.
    let writers = [of("one", "/logs/a.log"), of("two", "/logs/a.log"), of("three", "/logs/b.log")];
    let last: Vec<u64> = writers.iter().map(last_in).collect();
    wait("no rotation goes on", || !scene.waits("rename"));
    let said = stop(shipper).expect_code(0);
    let peak = disk.peak();
    notice!("200,000 lines/s of three writers: the log directory took {peak} bytes at the most");
    let rotated = scene.names().iter().filter(|name| name.ends_with(".zst")).count();
    assert!((1..=6).contains(&rotated), "{:?}\n{said}", scene.names());
    assert!(scene.names().iter().all(|name| name.ends_with(".log") || name.ends_with(".zst")));
    assert!(!scene.controls("rotated").is_empty());
    scene.assert_all(&[("one", last[0]), ("two", last[1]), ("three", last[2])]);
}

#[test]
fn a_program_in_the_container_tells_the_writer_as_its_label_says() {
    let Some(engine) = engine::connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    // The configuration says nothing but that labels may.
    let scene = Scene::new("keep = 100\nnames = \"numbered\"");
    let labels = [
        ("chores.logship.rotate", "size=1MB"),
        ("chores.logship.reopen", "exec:/program --lines 0"),
    ];
    let args = ["--follow-name", "--lines", "100000", "--rate", "20000/s", "--file", "/logs/a.log"];
    let writer = container(&engine, &image, &scene, &args, &labels);
    let shipper = scene.run();
    let last = last_in(&writer);
    wait("it was rotated", || scene.names().len() > 2 && !scene.waits("rename"));
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(!said.contains("cannot be told"), "{said}");
    let dry = scene.logship(&["rotate", "--dry-run", "--json"]).succeed().last_json();
    assert!(dry["kept"].as_u64().unwrap() > 1, "{dry}");
    scene.assert_all(&[("line", last)]);
}

#[test]
fn behind_the_socket_proxy_a_writer_gets_the_signal_of_its_label() {
    let Some(engine) = engine::connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    let scene = Scene::new("size = \"1MB\"\nkeep = 100\nnames = \"numbered\"");
    let socket = scene.sandbox.path("engine.sock");
    let listen = format!("unix:{}", socket.display());
    let proxy = Run::new(LOGSHIP).args(["socket-proxy", "--listen", &listen]).start();
    wait("the proxy listens", || socket.exists());
    let labels = [("chores.logship.reopen", "signal:USR1")];
    let args = ["--reopen", "--lines", "100000", "--rate", "20000/s", "--file", "/logs/a.log"];
    let writer = container(&engine, &image, &scene, &args, &labels);
    let host = format!("unix://{}", socket.display());
    let shipper = scene.logship(&["run", "-v", "--engine-host", &host]).start();
    let last = last_in(&writer);
    wait("it was rotated", || scene.names().len() > 2 && !scene.waits("rename"));
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(!said.contains("cannot be told"), "{said}");
    let proxied = stop(proxy).expect_code(0).stderr_text();
    assert!(proxied.contains("SIGUSR1 to the container"), "{proxied}");
    scene.assert_all(&[("line", last)]);
}

#[test]
fn what_a_label_keeps_stays_when_its_container_is_gone() {
    let Some(engine) = engine::connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    let scene = Scene::new("keep = 1\nreopen = \"name\"\nnames = \"numbered\"");
    let labels = [("chores.logship.rotate", "size=1MB,keep=30")];
    let args = ["--follow-name", "--lines", "100000", "--rate", "20000/s", "--file", "/logs/a.log"];
    let writer = container(&engine, &image, &scene, &args, &labels);
    let shipper = scene.run();
    let last = last_in(&writer);
    let kept = || scene.intents().iter().filter(|intent| intent["intent"] == "kept").count();
    wait("several files are kept", || kept() > 3 && !scene.waits("rename"));
    drop(writer);
    stop(shipper).expect_code(0);
    // Whatever is rotated now is kept by the configuration alone.
    let shipper = scene.run();
    let before = kept();
    for number in 1..=3 {
        // Added, not written anew: what a truncation would cost is not what is asked here.
        let mut log = fs::OpenOptions::new().append(true).open(scene.log("a.log")).unwrap();
        writeln!(log, "more {number} x").unwrap();
        drop(log);
        scene.logship(&["rotate", &scene.log("a.log").display().to_string()]).succeed();
        wait("it is over", || !scene.waits("rename"));
    }
    wait("one of the later ones has stayed", || kept() == before + 1);
    stop(shipper).expect_code(0);
    scene.assert_all(&[("line", last), ("more", 3)]);
}

#[test]
fn a_new_file_is_as_the_old_one_was() {
    let scene = Scene::new("size = \"64KiB\"\nreopen = \"name\"\nnames = \"numbered\"");
    let log = scene.log("a.log");
    fs::write(&log, "line 1 x\n").unwrap();
    std::os::unix::fs::chown(&log, Some(1234), Some(4321)).unwrap();
    fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let value = b"shop";
    let has_attributes =
        rustix::fs::setxattr(&log, c"user.team", value, rustix::fs::XattrFlags::empty()).is_ok();
    let shipper = scene.run();
    let writer = scene.writer("a.log", &["--start", "2", "--lines", "2000", "--follow-name"]);
    let last = last_of(writer);
    wait("it was rotated", || scene.names().len() > 1 && !scene.waits("rename"));
    stop(shipper).expect_code(0);
    for name in ["a.log", "a.log.000001"] {
        let is = fs::metadata(scene.log(name)).unwrap();
        assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (1234, 4321, 0o640), "{name}");
        if has_attributes {
            let mut found = [0; 16];
            let length =
                rustix::fs::getxattr(scene.log(name), c"user.team", &mut found[..]).unwrap();
            assert_eq!(&found[..length], value);
        }
    }
    scene.assert_all(&[("line", last)]);
}

// Writers that stay.

#[test]
fn the_beginning_is_taken_from_the_files_of_writers_that_append() {
    let scene = Scene::new("size = \"2MB\"\nreopen = \"none\"\nappend = true");
    let disk = Disk::watch(&scene.logs);
    let shipper = scene.run();
    let many = lines();
    let of = |name, file| {
        let many = many.to_string();
        let args = ["--name", name, "--lines", &many, "--rate", "50000/s", "--stay", "600"];
        scene.writer(file, &args)
    };
    let names = ["one", "two", "three", "own"];
    let writers = names.map(|name| of(name, if name == "own" { "b.log" } else { "a.log" }));
    wait("all of it is shipped", || {
        let records = scene.records();
        let lines = records.iter().filter(|record| record["line"].is_string()).count() as u64;
        lines == 4 * many
    });
    wait("what was shipped is gone", || allocated(&scene.logs) < SMALL);
    // A file that nobody has would be renamed.
    let said = stop(shipper).expect_code(0).stderr_text();
    let last = writers.map(numbers_of);
    let peak = disk.peak();
    let collapsed = scene.controls("rotated");
    notice!("{} collapses, {peak} bytes of log directory at the most", collapsed.len());
    let removed: u64 = collapsed.iter().filter_map(|control| control["removed"].as_u64()).sum();
    assert!(removed > 2 * many * 101, "{removed} bytes were taken away\n{said}");
    assert_eq!(scene.names(), ["a.log", "b.log"]);
    scene.assert_all(&[("one", last[0]), ("two", last[1]), ("three", last[2]), ("own", last[3])]);
}

#[test]
fn the_disk_is_freed_behind_writers_that_do_not_append() {
    let scene = Scene::new("size = \"2MB\"\nreopen = \"none\"");
    let disk = Disk::watch(&scene.logs);
    let shipper = scene.run();
    let many = lines();
    let lines = many.to_string();
    let args = ["--plain", "--lines", &lines, "--rate", "200000/s", "--stay", "600"];
    let writer = scene.writer("a.log", &args);
    // Writers that do not append cannot share a file.
    let other = scene.writer("b.log", &[&["--name", "other"][..], &args].concat());
    let log = scene.log("a.log");
    for log in [&log, &scene.log("b.log")] {
        wait("all of it is written", || fs::metadata(log).is_ok_and(|is| is.len() == many * 101));
    }
    wait("what was shipped is freed", || allocated(&scene.logs) < SMALL);
    // A file that nobody has would be renamed.
    let said = stop(shipper).expect_code(0).stderr_text();
    let last = numbers_of(writer);
    let last_of_other = numbers_of(other);
    let is = fs::metadata(&log).unwrap();
    notice!("{} bytes long, {} on disk, {} at the most", is.len(), is.blocks() * 512, disk.peak());
    assert_eq!(scene.names(), ["a.log", "b.log"]);
    assert!(said.contains("does not append") || said.contains("not known to append"), "{said}");
    scene.assert_all(&[("line", last), ("other", last_of_other)]);
    // Without what is known of it, what was freed is told, and not shipped as if it were lines.
    fs::remove_dir_all(scene.sandbox.path("state")).unwrap();
    fs::remove_dir_all(scene.sandbox.path("shipped")).unwrap();
    let _again = scene.sandbox.directory("shipped");
    let finished = scene.logship(&["once"]).finish().expect_code(WARNINGS);
    let gaps = scene.controls("gap");
    assert_eq!(gaps.len(), 2, "{finished}");
    for gap in &gaps {
        let bytes = gap["bytes"].as_u64().unwrap();
        assert!(gap["from_byte"] == 0 && bytes > 2_000_000, "{gaps:?}");
    }
    let shipped = scene.shipped("line");
    assert_eq!(shipped.last(), Some(last));
    let first = shipped.numbers().next().unwrap();
    shipped.assert_is(first..=last);
}

#[test]
fn the_disk_stays_small_however_much_is_written() {
    for (rotate, how) in [
        ("size = \"1MB\"\nreopen = \"none\"\nappend = true", None),
        ("size = \"1MB\"\nreopen = \"none\"", Some("--plain")),
        ("size = \"1MB\"\nreopen = \"name\"\nkeep = 0", Some("--follow-name")),
    ] {
        let scene = Scene::new(rotate);
        let disk = Disk::watch(&scene.logs);
        let shipper = scene.run();
        // Somebody always has the first file.
        let holder = ["--name", "holder", "--lines", "1", "--stay", "600"];
        let holder = scene.writer("a.log", &[&holder[..], how.as_slice()].concat());
        wait("it is held", || fs::metadata(scene.log("a.log")).is_ok_and(|is| is.len() > 0));
        let mut last = 0;
        for _ in 0..ROUNDS * soak_factor() {
            let (start, lines) = ((last + 1).to_string(), ROUND_LINES.to_string());
            let args = ["--start", &start, "--lines", &lines];
            last = last_of(scene.writer("a.log", &[&args[..], how.as_slice()].concat()));
            wait("what was shipped is gone", || allocated(&scene.logs) < SMALL);
        }
        assert_eq!(numbers_of(holder), 1);
        let peak = disk.peak();
        stop(shipper).expect_code(0);
        notice!("{how:?}: {peak} bytes at the most, of {} written", last * 101);
        assert!(peak < SMALL + 2 * ROUND_LINES * 101, "{peak} bytes");
        scene.assert_all(&[("line", last), ("holder", 1)]);
    }
}

#[test]
fn where_the_file_system_cannot_collapse_it_says_so_and_frees() {
    let scene = Scene::to_be_mounted();
    let Some(_disk) = scene.sandbox.small_disk("logs", 64 << 20) else { return };
    scene.configure("size = \"2MB\"\nreopen = \"none\"\nappend = true", "");
    let shipper = scene.run();
    let args = ["--lines", "200000", "--rate", "50000/s", "--stay", "600"];
    let writer = scene.writer("a.log", &args);
    let log = scene.log("a.log");
    wait("all of it is written", || fs::metadata(&log).is_ok_and(|is| is.len() == 200_000 * 101));
    wait("what was shipped is freed", || allocated(&scene.logs) < SMALL);
    let last = numbers_of(writer);
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(said.contains("cannot take away the beginning of a file"), "{said}");
    scene.assert_all(&[("line", last)]);
}

#[test]
fn without_a_log_on_disk_only_what_every_sink_has_is_taken_away() {
    let scene = Scene::new("size = \"1MB\"\nreopen = \"none\"\nappend = true");
    let shipper = scene.logship(&["run", "--no-wal", "-v"]).start();
    let args = ["--lines", "100000", "--rate", "50000/s", "--stay", "600"];
    let writer = scene.writer("a.log", &args);
    wait("its beginning was taken away", || {
        scene.controls("rotated").iter().any(|control| control["removed"].is_u64())
    });
    // Killed, it goes on where every sink was; what no sink had confirmed comes once more.
    shipper.signal(Signal::KILL);
    assert_eq!(shipper.wait().signal(), Some(9));
    let last = numbers_of(writer);
    scene.logship(&["once", "--no-wal", "--drain", "60s"]).succeed();
    scene.shipped("line").assert_has(1..=last);
}

// Death at any moment.

/// Kills the shipper at random moments while writers go on.
fn killed(rotate: &str, writers: &[(&str, &[&str])]) {
    let scene = Scene::new(rotate);
    let mut random = Random::new(getrandom::u64().unwrap());
    let running: Vec<(&str, Running)> = writers
        .iter()
        .map(|(file, args)| {
            let name = file.trim_end_matches(".log");
            let args = [&["--name", name, "--rate", "20000/s"][..], *args].concat();
            (name, scene.writer(file, &args))
        })
        .collect();
    for _ in 0..KILLS * soak_factor() {
        let moment = Duration::from_millis(150 + random.below(900));
        let finished = scene.logship(&["run", "-v"]).start().kill_at(moment);
        assert_eq!(finished.signal(), Some(9), "it ended by itself: {finished}");
    }
    // The last one finishes what the others have begun.
    let shipper = scene.run();
    let is_told = !rotate.contains("none") || rotate.contains("append");
    wait("a rotation is told", || !is_told || !scene.controls("rotated").is_empty());
    let last: Vec<(&str, u64)> =
        running.into_iter().map(|(name, writer)| (name, numbers_of(writer))).collect();
    wait("no rotation goes on", || !scene.waits("rename"));
    let said = stop(shipper).expect_code(0);
    let rotated = scene.controls("rotated").len();
    notice!("{} kills, {rotated} rotations told, {last:?} lines", KILLS * soak_factor());
    assert!(rotated > 0 || !is_told, "{said}");
    scene.assert_all(&last);
    let kept: usize = scene.names().iter().filter(|name| !name.ends_with(".log")).count();
    assert!(kept <= 5 * writers.len(), "{:?}\n{:?}\n{said}", scene.names(), scene.intents());
}

#[test]
fn a_shipper_that_is_killed_while_it_renames_loses_and_repeats_nothing() {
    let rotate = format!(
        "size = {SIZE}\nreopen = \"name\"\nkeep = 5\ncompress = \"zstd\"\nnames = \"numbered\""
    );
    killed(&rotate, &[("a.log", &["--follow-name"]), ("b.log", &["--follow-name"])]);
}

#[test]
fn a_shipper_that_is_killed_while_it_collapses_loses_and_repeats_nothing() {
    let rotate = format!("size = {SIZE}\nreopen = \"none\"\nappend = true");
    killed(&rotate, &[("a.log", &[]), ("b.log", &[])]);
}

#[test]
fn a_shipper_that_is_killed_while_it_frees_loses_and_repeats_nothing() {
    let rotate = format!("size = {SIZE}\nreopen = \"none\"");
    killed(&rotate, &[("a.log", &["--plain"]), ("b.log", &["--plain"])]);
}

/// What changes names, bytes, and what lasts of them: between two of these calls a death leaves the same as right before
/// the second.
const STEPS: &str = "renameat2,linkat,unlink,unlinkat,fallocate,fchown,fchmod,fsync";

/// Kills the shipper before each step of a rotation, one after the other, each time in a scene of its own, until a
/// rotation goes through to `is_done`; says how many steps there were.
fn killed_before_each_step(rotate: &str, writer: &[&str], is_done: fn(&Scene) -> bool) -> u32 {
    let Some(strace) = find_program("strace") else {
        let is_required = std::env::var_os("CHORES_REQUIRE_ENGINE").is_some();
        assert!(!is_required, "strace is missing (Debian package strace)");
        notice!("skipped: no strace (Debian package strace)");
        return u32::MAX;
    };
    for step in 1.. {
        let scene = Scene::new(rotate);
        // Its log and the place in it are there before anything is counted.
        fs::write(scene.log("small.log"), "small 1 x\n").unwrap();
        let shipper = scene.run();
        wait("it ships", || scene.shipped("small").count() == 1);
        let (calls, process) = (format!("trace={STEPS}"), shipper.id().to_string());
        let kill = format!("inject={STEPS}:signal=KILL:when={step}");
        let args = ["-f", "-qq", "-e", &calls, "-e", &kill, "-p", &process];
        let tracer = Run::new(&strace).args(args).deadline(Duration::from_secs(600)).start();
        wait("every thread is traced", || is_traced(&process));
        let args = [&["--name", "line", "--rate", "20000/s"][..], writer].concat();
        let writer = scene.writer("a.log", &args);
        wait("it writes", || fs::metadata(scene.log("a.log")).is_ok_and(|is| is.len() > 0));
        let mut has_ended = false;
        wait("it is killed, or the rotation is over", || {
            has_ended = shipper.ended_within(Duration::ZERO);
            has_ended || is_done(&scene)
        });
        let killed = shipper.kill_at(Duration::ZERO);
        assert_eq!(killed.signal(), Some(9), "{killed}");
        drop(tracer);
        // The next one finishes what was begun.
        let shipper = scene.run();
        let last = numbers_of(writer);
        wait("all of it is shipped", || scene.shipped("line").last() == Some(last));
        wait("no rotation goes on", || !scene.waits("rename") && !scene.waits("collapse"));
        let said = stop(shipper).expect_code(0);
        assert!(!said.stderr_text().contains("does not go on"), "step {step}: {said}");
        scene.assert_all(&[("small", 1), ("line", last)]);
        if !has_ended {
            notice!("killed before each of {} steps", step - 1);
            return step - 1;
        }
    }
    unreachable!("a rotation has an end");
}

fn is_traced(process: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_free = |status: &str| status.contains("\nTracerPid:\t0\n");
    // A thread that has just ended needs nobody.
    let mut statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    !statuses.any(|status| is_free(&status))
}

#[test]
fn death_before_each_step_of_a_renaming_loses_and_repeats_nothing() {
    let rotate = format!(
        "size = {SIZE}\nreopen = \"name\"\nkeep = 1\ncompress = \"zstd\"\nnames = \"numbered\""
    );
    // A second rotation has removed what the first one kept.
    let steps = killed_before_each_step(&rotate, &["--follow-name"], |scene| {
        let names = scene.names();
        !names.iter().any(|name| name.starts_with("a.log.000001"))
            && names.iter().any(|name| name.ends_with(".zst"))
    });
    assert!(steps >= 8, "{steps}");
}

#[test]
fn death_before_each_step_of_a_collapse_loses_and_repeats_nothing() {
    let rotate = format!("size = {SIZE}\nreopen = \"none\"\nappend = true");
    let steps = killed_before_each_step(&rotate, &[], |scene| scene.controls("rotated").len() >= 2);
    assert!(steps >= 3, "{steps}");
}

#[test]
fn death_before_each_freeing_loses_and_repeats_nothing() {
    let rotate = format!("size = {SIZE}\nreopen = \"none\"");
    let steps = killed_before_each_step(&rotate, &["--plain"], |scene| {
        fs::metadata(scene.log("a.log"))
            .is_ok_and(|is| is.len() > 4 * SIZE && is.blocks() * 512 < is.len() / 2)
    });
    assert!(steps >= 1, "{steps}");
}

// Writers that do not do as they should.

#[test]
fn a_writer_that_ignores_the_signal_is_told_again_and_loses_nothing() {
    let Some(engine) = engine::connect() else { return };
    let image = images::program(&engine, Path::new(WRITER));
    let scene =
        Scene::new("size = \"1MB\"\nreopen = \"signal:USR1\"\nnames = \"numbered\"\nkeep = 2");
    // It takes the signal, and goes on where it was.
    let args = ["--rate", "20000/s", "--file", "/logs/a.log"];
    let writer = container(&engine, &image, &scene, &args, &[]);
    let shipper = scene.run();
    wait("the old file is cut, since its writer stays in it", || {
        let Ok(old) = fs::metadata(scene.log("a.log.000001")) else { return false };
        old.len() > 30_000_000 && old.blocks() * 512 < 8_000_000
    });
    assert!(scene.waits("rename"));
    writer.stop();
    let (stdout, _) = writer.logs();
    let last = String::from_utf8(stdout).unwrap().trim().parse::<u64>().unwrap() - 1;
    wait("the old file is over", || !scene.waits("rename"));
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(said.contains("a writer has not opened the new file"), "{said}");
    scene.assert_all(&[("line", last)]);
}

#[test]
fn a_writer_that_appears_while_the_old_file_drains_is_waited_for() {
    let scene = Scene::new(
        "size = \"1MB\"\nreopen = \"name\"\nnames = \"numbered\"\ncompress = \"zstd\"\nkeep = 9",
    );
    let shipper = scene.run();
    // It stays in the old file.
    let first = scene.writer("a.log", &["--name", "first", "--rate", "20000/s"]);
    wait("it is rotated", || scene.log("a.log.000001").exists());
    let late = scene.writer("a.log.000001", &["--name", "late", "--rate", "1000/s"]);
    wait("the late one has written", || scene.shipped("late").count() > 10);
    let first = numbers_of(first);
    wait("all of the first one is shipped", || scene.shipped("first").last() == Some(first));
    // Held by the late one alone.
    assert!(scene.waits("rename") && scene.log("a.log.000001").exists());
    let late = numbers_of(late);
    wait("it is over", || scene.log("a.log.000001.zst").exists() && !scene.waits("rename"));
    stop(shipper).expect_code(0);
    assert!(!scene.log("a.log.000001").exists());
    let packed = fs::read(scene.log("a.log.000001.zst")).unwrap();
    let text = zstd::decode_all(packed.as_slice()).unwrap();
    assert_eq!(Sequence::of("late", &text).last(), Some(late));
    scene.assert_all(&[("first", first), ("late", late)]);
}

#[test]
fn what_others_remove_or_cut_is_told_with_its_place() {
    let scene = Scene::new("size = \"1GB\"");
    let receiver = HttpReceiver::start();
    let http = format!("[[sink]]\nname = \"http\"\nurl = \"{}\"\n", receiver.url());
    scene.configure("size = \"1GB\"", &http);
    // The slow sink holds up the log, and that the files.
    receiver.answer(Answer::Stall);
    let shipper = scene.logship(&["run", "-v", "--wal-max", "1MB"]).start();
    let lines = 200_000;
    let last = last_of(scene.writer("a.log", &["--lines", &lines.to_string()]));
    assert_eq!(last, lines);
    let written = fs::metadata(scene.log("a.log")).unwrap().len();
    let mut before = 0;
    wait("the log is full", || {
        let now = scene.shipped("line").count();
        thread::sleep(Duration::from_millis(500));
        now > 0 && now == std::mem::replace(&mut before, now)
    });
    fs::OpenOptions::new().write(true).open(scene.log("a.log")).unwrap().set_len(0).unwrap();
    fs::write(scene.log("b.log"), "line 900000 x\n").unwrap();
    receiver.answer(Answer::Status(200));
    wait("the hole is told", || !scene.controls("gap").is_empty());
    let finished = stop(shipper);
    let gaps = scene.controls("gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}\n{finished}");
    let (at, bytes) = (gaps[0]["from_byte"].as_u64().unwrap(), gaps[0]["bytes"].as_u64().unwrap());
    assert_eq!(gaps[0]["reason"], "truncated");
    assert_eq!(at + bytes, written, "{gaps:?}");
    // Exactly what lies before the hole has arrived.
    let shipped: u64 = scene
        .records()
        .iter()
        .filter_map(|record| record["line"].as_str().filter(|line| !line.contains("900000")))
        .map(|line| line.len() as u64 + 1)
        .sum();
    assert_eq!(shipped, at, "{gaps:?}");
}

#[test]
fn a_rotated_file_that_somebody_removes_is_read_to_its_end_all_the_same() {
    let scene = Scene::new("size = \"1MB\"\nreopen = \"name\"\nnames = \"numbered\"");
    let shipper = scene.run();
    let writer = scene.writer("a.log", &["--rate", "20000/s"]);
    wait("it is rotated", || scene.log("a.log.000001").exists());
    fs::remove_file(scene.log("a.log.000001")).unwrap();
    wait("that is seen", || !scene.waits("rename"));
    let last = numbers_of(writer);
    wait("all of it is shipped", || scene.shipped("line").last() == Some(last));
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(said.contains("another program has moved or removed it"), "{said}");
    scene.shipped("line").assert_is(1..=last);
}

// What people ask.

#[test]
fn people_ask_for_a_rotation_and_what_it_would_be() {
    let scene = Scene::new("size = \"1GB\"\nreopen = \"name\"\nnames = \"numbered\"");
    fs::write(scene.log("a.log"), "line 1 x\n").unwrap();
    fs::write(scene.log("empty.log"), "").unwrap();
    let dry = scene.logship(&["rotate", "--dry-run"]).succeed().stdout_text();
    assert!(dry.contains("a.log: not due, 9 bytes"), "{dry}");
    assert!(dry.contains("nothing: it is empty"), "{dry}");
    let a = scene.log("a.log").display().to_string();
    let nobody = scene.logship(&["rotate", &a]).finish().expect_code(FAILED).stderr_text();
    assert!(nobody.contains("no `logship run` uses the state directory"), "{nobody}");
    let wrong = scene.logship(&["rotate", "/nowhere.log"]).finish().expect_code(WRONG_USAGE);
    assert!(wrong.stderr_text().contains("none of the files that are rotated"), "{wrong}");

    let shipper = scene.run();
    wait("it ships", || scene.shipped("line").count() == 1);
    let told = scene.logship(&["rotate", &a]).succeed().stdout_text();
    assert!(told.contains("a.log: rotated"), "{told}");
    assert_eq!(fs::read(scene.log("a.log.000001")).unwrap(), b"line 1 x\n");
    assert_eq!(fs::metadata(scene.log("a.log")).unwrap().len(), 0);
    wait("it is over", || scene.waits("kept") && !scene.waits("rename"));
    stop(shipper).expect_code(0);
    scene.assert_all(&[("line", 1)]);
}

#[test]
fn a_read_only_mount_is_shipped_and_not_rotated_and_all_say_so() {
    let scene = Scene::to_be_mounted();
    let Some(disk) = scene.sandbox.small_disk("logs", 8 << 20) else { return };
    scene.configure("size = \"64KiB\"\nreopen = \"name\"", "");
    let last = last_of(scene.writer("a.log", &["--lines", "2000"]));
    disk.make_read_only();
    let check = scene.logship(&["check"]).succeed().stdout_text();
    assert!(check.contains("mounted read-only: its files are shipped, and not rotated"), "{check}");
    let dry = scene.logship(&["rotate", "--dry-run"]).succeed().stdout_text();
    assert!(dry.contains("nothing: its mount is read-only"), "{dry}");
    let _state = scene.sandbox.directory("state");
    let doctor = scene.logship(&["doctor"]).finish().expect_code(WARNINGS).stdout_text();
    assert!(doctor.contains("mount it writable"), "{doctor}");
    let shipper = scene.run();
    wait("it is shipped", || scene.shipped("line").last() == Some(last));
    let said = stop(shipper).expect_code(0).stderr_text();
    assert!(said.contains("is not rotated: its mount is read-only"), "{said}");
    assert_eq!(scene.names(), ["a.log"]);
}

#[test]
fn nothing_is_rotated_without_a_place_for_what_was_begun() {
    let sandbox = Sandbox::new();
    let config = sandbox.file(
        "logship.toml",
        "[[source]]\ntype = \"files\"\npaths = [\"/nowhere/*.log\"]\n[source.rotate]\nsize = \"1MB\"\n",
    );
    let run = |args: &[&str]| {
        Run::new(LOGSHIP).args(args.iter().copied()).arg("--config").arg(&config).finish()
    };
    let said = run(&["run"]).expect_code(WRONG_USAGE).stderr_text();
    assert!(said.contains("give --state DIR"), "{said}");
}
