//! Log files under storms of rotation by logrotate, in each of its modes, while the reader is stopped, killed and
//! started again at random moments: nothing is lost that the mode itself does not lose, and nothing is repeated.
//!
//! The reader is the library's; the log behind it is a list in memory that keeps, as the real one does, each
//! source's cursor together with its lines. A killed reader loses what the log had not taken.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;
use e2e::notice;
use e2e::process::{Run, Running, find_program};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::sequence::Sequence;
use logship::cursor::Cursor;
use logship::files::FilesSettings;
use logship::intake::{Message, Sources, intake};
use logship::record::{Control, GapReason};
use logship::rule::Mode;
use logship::source::{Origin, SourceId, SourceMeta};
use rustix::process::Signal;

const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// Lines a second of the writer.
const RATE: &str = "20000/s";

/// Everything that was written must have come within this time after the writer ended.
const DRAIN_SECONDS_MAX: u64 = 60;

/// One way to rotate.
struct Storm {
    /// Names the test.
    name: &'static str,
    /// Lines of the configuration of logrotate.
    directives: &'static str,
    /// How the writer finds the new file.
    writer: &'static [&'static str],
    /// It is sent SIGUSR1 after each rotation.
    signals: bool,
    /// Which files the reader is told to read.
    glob: &'static str,
    /// Milliseconds between two rotations.
    every: u64,
    rotations: u32,
    /// The reader is stopped and killed in between.
    restarts: bool,
}

const USUAL: Storm = Storm {
    name: "",
    directives: "",
    writer: &["--follow-name"],
    signals: false,
    glob: "app.log",
    every: 250,
    rotations: 16,
    restarts: true,
};

#[test]
fn create() {
    storm(&Storm { name: "create", directives: "create\nrotate 100", ..USUAL });
}

#[test]
fn create_with_rotated_names_meant_too() {
    storm(&Storm {
        name: "create-all",
        directives: "create\nrotate 100",
        glob: "app.log*",
        ..USUAL
    });
}

#[test]
fn create_and_signal() {
    storm(&Storm {
        name: "create-signal",
        directives: "create\nrotate 100",
        writer: &["--reopen"],
        signals: true,
        ..USUAL
    });
}

#[test]
fn nocreate_and_signal() {
    storm(&Storm {
        name: "nocreate-signal",
        directives: "nocreate\nrotate 100",
        writer: &["--reopen"],
        signals: true,
        ..USUAL
    });
}

#[test]
fn compress() {
    storm(&Storm {
        name: "compress",
        directives: "create\nrotate 100\ncompress",
        // A writer that goes on in a file while it is compressed loses lines by itself: it is told before.
        writer: &["--reopen"],
        signals: true,
        every: 400,
        ..USUAL
    });
}

#[test]
fn delaycompress() {
    storm(&Storm {
        name: "delaycompress",
        directives: "create\nrotate 100\ncompress\ndelaycompress\ncompresscmd /usr/bin/zstd\n\
                     compressext .zst\ncompressoptions -q --rm",
        glob: "app.log*",
        ..USUAL
    });
}

#[test]
fn dateext() {
    storm(&Storm {
        name: "dateext",
        directives: "create\nrotate 100\ndateext\ndateformat -%Y%m%d-%s",
        every: 1200,
        rotations: 4,
        ..USUAL
    });
}

#[test]
fn copytruncate() {
    storm(&Storm {
        name: "copytruncate",
        directives: "copytruncate\nrotate 100",
        writer: &[],
        ..USUAL
    });
}

#[test]
fn copytruncate_with_rotated_names_meant_too_and_compressed() {
    storm(&Storm {
        name: "copytruncate-compress",
        directives: "copytruncate\nrotate 100\ncompress",
        writer: &[],
        glob: "app.log*",
        every: 400,
        ..USUAL
    });
}

#[test]
fn copy() {
    storm(&Storm {
        name: "copy",
        directives: "copy\nrotate 100",
        writer: &[],
        glob: "app.log*",
        ..USUAL
    });
}

#[test]
fn rotations_that_delete() {
    storm(&Storm {
        name: "delete",
        directives: "create\nrotate 1",
        every: 60,
        rotations: 40,
        restarts: false,
        ..USUAL
    });
}

/// What a log has taken.
#[derive(Default)]
struct Log {
    lines: Vec<u8>,
    gaps: Vec<GapReason>,
    truncated: u32,
    sources: Vec<(SourceId, SourceMeta, Option<Cursor>, bool)>,
}

struct Reader {
    sources: Arc<Sources>,
    shutdown: Shutdown,
    is_dead: Arc<AtomicBool>,
    source: JoinHandle<()>,
    taking: JoinHandle<()>,
}

impl Reader {
    fn start(settings: FilesSettings, log: &Arc<Mutex<Log>>) -> Self {
        let sources = Arc::new(Sources::default());
        for (id, meta, cursor, is_over) in &log.lock().unwrap().sources {
            sources.restore(*id, meta.clone(), cursor.clone());
            if *is_over {
                sources.end(*id);
            }
        }
        let (sender, mut receiver) = intake(sources.clone());
        let is_dead = Arc::new(AtomicBool::new(false));
        let (log, dead) = (log.clone(), is_dead.clone());
        let taking = thread::spawn(move || {
            while let Some(message) = receiver.messages.blocking_recv() {
                if dead.load(Ordering::SeqCst) {
                    continue;
                }
                let mut log = log.lock().unwrap();
                match message {
                    Message::End(id) => receiver.sources.end(id),
                    Message::Chunk(chunk) => {
                        take(&mut log, &chunk.block);
                        receiver.sources.note(chunk.source, chunk.cursor);
                    }
                }
            }
            let kept = receiver.sources.all().into_iter().filter(|(.., cursor)| cursor.is_some());
            log.lock().unwrap().sources = kept
                .map(|(id, meta, cursor)| {
                    (id, meta.as_ref().clone(), cursor, receiver.sources.is_over(id))
                })
                .collect();
        });
        let shutdown = Shutdown::new();
        let asked = shutdown.clone();
        let source = thread::spawn(move || {
            logship::files::run(settings, sender, &asked, Mode::Follow).unwrap();
        });
        Self { sources, shutdown, is_dead, source, taking }
    }

    /// Whether it has opened the file that a name means now.
    fn has_opened(&self, path: &Path) -> bool {
        let Ok(is) = fs::metadata(path) else { return false };
        let is_it =
            |origin: &Origin| matches!(origin, Origin::File { inode, .. } if *inode == is.ino());
        self.sources.all().iter().any(|(_, meta, _)| is_it(&meta.origin))
    }

    fn stop(self) {
        self.shutdown.request();
        self.source.join().unwrap();
        self.taking.join().unwrap();
    }

    /// What is on its way is lost.
    fn kill(self) {
        self.is_dead.store(true, Ordering::SeqCst);
        self.stop();
    }
}

fn take(log: &mut Log, block: &logship::block::Block) {
    for record in block.records() {
        if !record.flags.is_control() {
            assert!(!record.flags.is_partial(), "half a line: {:?}", record.line);
            log.lines.extend_from_slice(record.line);
            log.lines.push(b'\n');
            continue;
        }
        match serde_json::from_slice(record.line).unwrap() {
            Control::Gap(gap) => log.gaps.push(gap.reason),
            Control::Truncated { .. } => log.truncated += 1,
            _ => {}
        }
    }
}

fn storm(storm: &Storm) {
    let Some(logrotate) = find_program("logrotate") else {
        assert!(
            std::env::var_os(e2e::engine::REQUIRE_VARIABLE).is_none_or(|value| value != "1"),
            "logrotate is missing"
        );
        notice!("skipped: logrotate is missing");
        return;
    };
    let sandbox = Sandbox::new();
    let logs = sandbox.directory("logs");
    // logrotate distrusts directories that others may write to.
    for path in [sandbox.root(), &logs] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = logs.join("app.log");
    let configuration = sandbox.file("logrotate.conf", configuration(storm, &path));
    fs::set_permissions(&configuration, fs::Permissions::from_mode(0o644)).unwrap();
    let log = Arc::new(Mutex::new(Log::default()));
    let mut settings = FilesSettings::new(
        vec![logs.join(storm.glob).to_string_lossy().into_owned()],
        "host".to_owned(),
    );
    settings.scan_every = Duration::from_secs(1);

    let writer = Run::new(WRITER)
        .args(["--name", "w", "--rate", RATE, "--bytes", "60", "--file"])
        .arg(&path)
        .args(storm.writer.iter().copied())
        .start();
    fs::write(sandbox.path("writer.pid"), writer.id().to_string()).unwrap();
    wait_until(|| path.exists(), "the writer has begun");
    let restarts = storm.restarts.then(|| (Random::new(storm.name.len() as u64), &log));
    let reader = rotate(storm, &sandbox, &logrotate, &configuration, &settings, restarts, &log);
    finish(storm, writer, reader, &log, &logs);
}

fn configuration(storm: &Storm, path: &Path) -> String {
    let signal = if storm.signals {
        let pid = path.with_file_name("../writer.pid");
        // The writer reopens when it writes next; compression must not come before.
        format!(
            "postrotate\nkill -USR1 $(cat {})\nuntil [ -s {} ]; do sleep 0.05; done\nendscript\n",
            pid.display(),
            path.display()
        )
    } else {
        String::new()
    };
    format!("{} {{\nmissingok\n{}\n{signal}}}\n", path.display(), storm.directives)
}

/// All rotations, with a reader that is stopped or killed and started again at random moments meanwhile.
fn rotate(
    storm: &Storm,
    sandbox: &Sandbox,
    logrotate: &Path,
    configuration: &Path,
    settings: &FilesSettings,
    restarts: Option<(Random, &Arc<Mutex<Log>>)>,
    log: &Arc<Mutex<Log>>,
) -> Reader {
    let rotate_once = || {
        let _rotated = Run::new(logrotate)
            .arg("-f")
            .arg("-s")
            .arg(sandbox.path("logrotate.state"))
            .arg(configuration)
            .succeed();
    };
    if restarts.is_none() {
        let reader = Reader::start(settings.clone(), log);
        let path = sandbox.path("logs/app.log");
        for _ in 0..storm.rotations {
            thread::sleep(Duration::from_millis(storm.every));
            // A file that comes and goes while the reader has no processor leaves nothing to tell of; every other one
            // is read to its end, whatever becomes of it.
            wait_until(|| reader.has_opened(&path), "the reader has opened the file");
            rotate_once();
        }
        return reader;
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reader = Reader::start(settings.clone(), log);
            let Some((mut random, log)) = restarts else { return reader };
            while !is_over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(random.below(500)));
                if random.below(2) == 0 {
                    reader.kill();
                } else {
                    reader.stop();
                }
                thread::sleep(Duration::from_millis(random.below(300)));
                reader = Reader::start(settings.clone(), log);
            }
            reader
        });
        for _ in 0..storm.rotations {
            thread::sleep(Duration::from_millis(storm.every));
            rotate_once();
        }
        is_over.store(true, Ordering::SeqCst);
        reading.join().unwrap()
    })
}

/// Ends the writer, waits for the reader, and counts.
fn finish(storm: &Storm, writer: Running, reader: Reader, log: &Arc<Mutex<Log>>, logs: &Path) {
    writer.signal(Signal::TERM);
    let written = writer.wait().expect_code(0).stdout_text();
    let last = written.trim().parse::<u64>().unwrap() - 1;
    let came = || Sequence::of("w", &log.lock().unwrap().lines);
    let loses = storm.directives.contains("copytruncate");
    let wanted = if loses { in_files(logs) } else { (1..=last).collect() };
    let begin = Instant::now();
    let is_there = || came().count() >= wanted.len();
    while !is_there() && begin.elapsed() < Duration::from_secs(DRAIN_SECONDS_MAX) {
        thread::sleep(Duration::from_millis(50));
    }
    // Whatever comes twice may still be on its way.
    thread::sleep(Duration::from_millis(1500));
    reader.stop();
    let came = came();
    let log = log.lock().unwrap();
    let repeated = came.repeated().len();
    let missing: u64 = came.missing(1..=last).iter().map(|r| r.end() - r.start() + 1).sum();
    let arrived: BTreeSet<u64> = came.numbers().collect();
    let missing_of_files = wanted.difference(&arrived).count();
    notice!(
        "{}: {last} lines, {} rotations, {} sources, {} truncations, {missing} in no file, gaps {:?}",
        storm.name,
        storm.rotations,
        log.sources.len(),
        log.truncated,
        log.gaps
    );
    assert_eq!((missing_of_files, repeated), (0, 0), "lost, repeated");
    if !loses {
        came.assert_has(1..=last);
        assert_eq!(log.gaps, [], "nothing was lost, and gaps were told of");
    }
}

/// The numbers of all lines that are in any file.
fn in_files(logs: &Path) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let program = if is_packed { "zcat" } else { "cat" };
        let text = Run::new(program).arg(&path).succeed().stdout_text();
        numbers.extend(text.lines().map(|line| {
            let number = line.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("{}: {line}", path.display()))
        }));
    }
    numbers
}

fn wait_until(is_so: impl Fn() -> bool, what: &str) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(DRAIN_SECONDS_MAX), "{what}: not so");
        thread::sleep(Duration::from_millis(5));
    }
}
