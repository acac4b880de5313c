use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use super::*;
use crate::files::{self, FilesSettings};
use crate::intake::intake;
use crate::rotate::intent::BegunRecord;
use crate::rotation::Wishes;
use crate::rule::Mode;
use crate::wal::LogSettings;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that repeats itself in every block.
const LINE: &[u8; 32] = b"a line that is always the same.\n";

fn facts(size: u64) -> FileFacts {
    FileFacts {
        identity: FileIdentity { device: 1, inode: 2, born: None },
        size,
        modified: 0,
        links: 1,
        is_regular: true,
        is_directory: false,
    }
}

/// Logs, and a place for what is begun.
struct Scene {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { directory, runtime: runtime.unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> FilesSettings {
        let pattern = self.path("*.log").to_str().unwrap().to_owned();
        FilesSettings::new(vec![pattern], "host".to_owned())
    }

    /// How `files` are rotated; nobody answers for an engine.
    fn settings(&self, files: &FilesSettings, wishes: &str) -> RotateSettings {
        let desk = files.desk.clone().unwrap_or_default();
        let wishes = Wishes::parse(wishes).unwrap();
        RotateSettings {
            engine: Some(format!("unix://{}", self.path("engine.sock").display())),
            ..RotateSettings::of(files, wishes, self.path("state"), desk)
        }
    }

    /// Ships and rotates until something is so.
    fn rotate_until(&self, wishes: &str, is_so: impl Fn(&Log) -> bool) {
        let (log, sources) = Log::open(LogSettings::at(&self.path("state"))).unwrap();
        let left = crate::rotate::left(&self.path("state"), &log).unwrap();
        let (intake, receiver) = intake(sources);
        let running = log.run(receiver).unwrap();
        let crate::rotate::Left { begun, kept, renamed } = left;
        let desk = Some(Arc::default());
        let files = FilesSettings { desk, begun, kept, renamed, ..self.files() };
        let settings = self.settings(&files, wishes);
        let stop = Shutdown::new();
        thread::scope(|scope| {
            let reader = scope.spawn(|| files::run(files, intake, &stop, Mode::Follow).unwrap());
            let rotator = scope.spawn(|| {
                crate::rotate::run(settings, &log, self.runtime.handle(), &stop).unwrap();
            });
            let began = Instant::now();
            let mut has_come = false;
            while !has_come && began.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
                has_come = is_so(&log);
            }
            stop.request();
            rotator.join().unwrap();
            reader.join().unwrap();
            assert!(has_come);
        });
        running.finish(Instant::now() + PATIENCE).unwrap();
    }
}

/// Bytes that the log has of a file.
fn read(log: &Log, file: FileIdentity) -> Option<u64> {
    match log.standing(&key_of(file))?.cursor? {
        Cursor::File(cursor) => Some(cursor.offset),
        Cursor::Direct(_) | Cursor::Api(_) => None,
    }
}

#[test]
fn what_was_freed_of_a_file_is_forgotten_when_another_program_has_cut_it() {
    const FREED: u64 = 1 << 20;
    let mut known = Known::new(facts(0).identity, 1);
    (known.punched, known.is_whole) = (FREED, true);
    known.see(&facts(FREED), 2);
    assert_eq!((known.punched, known.is_whole), (FREED, true));
    known.see(&facts(FREED - 1), 2);
    assert_eq!((known.punched, known.is_whole, known.since), (0, false, 1));
    let base = PathBuf::from("/logs/app.log");
    let mut record = Record::new(Intent::Kept(KeptFile {
        path: base.clone(),
        base,
        file: facts(0).identity,
        begun: 1,
        bytes: 2,
        keep: Keep::default(),
    }));
    record.punched = FREED;
    record.see(FREED);
    assert_eq!(record.punched, FREED);
    record.see(FREED - 1);
    assert_eq!(record.punched, 0);
}

#[test]
fn a_file_that_looks_the_same_everywhere_is_freed_instead_of_growing_for_ever() {
    const BYTES: usize = 1 << 20;
    let scene = Scene::new();
    let path = scene.path("a.log");
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    writer.write_all(&LINE.repeat(BYTES / LINE.len())).unwrap();
    let is = || fs::metadata(&path).unwrap();
    scene.rotate_until("size=64KiB,append=true", |_| is().blocks() * 512 < BYTES as u64 / 4);
    assert_eq!(is().len(), BYTES as u64);
}

#[test]
fn a_file_that_was_cut_before_the_log_heard_of_a_collapse_is_cut_again() {
    const LINES: u64 = 32_768;
    let scene = Scene::new();
    let path = scene.path("a.log");
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let text: String = (0..LINES).map(|number| format!("line {number:>26}\n")).collect();
    writer.write_all(text.as_bytes()).unwrap();
    let file = FileFacts::of(&fs::File::open(&path).unwrap()).unwrap().identity;
    // Before the log knows the file, nobody needs to know what was to be taken from it.
    scene.rotate_until("size=1GB", |log| read(log, file) == Some(text.len() as u64));
    // Neither is in it any more, and no cursor will ever say that something was taken away.
    let begun = BegunRecord { file, shift: 0, length: 4096, before: 1, after: 2 };
    let intent = Intent::Collapse { base: path.clone(), begun };
    Intents::at(&scene.path("state")).add(&intent).unwrap();
    let is_small = |_: &Log| fs::metadata(&path).unwrap().blocks() * 512 < text.len() as u64 / 4;
    scene.rotate_until("size=64KiB,append=true", is_small);
}

/// A record of a file `rotated` that was shipped, and which file that is.
fn over(scene: &Scene, rotated: &Path) -> FileIdentity {
    let facts = FileFacts::of(&fs::File::open(rotated).unwrap()).unwrap();
    let renamed = Renamed {
        base: scene.path("a.log"),
        rotated: rotated.to_owned(),
        file: facts.identity,
        begun: 1,
        keep: Keep::default(),
        over: Some(facts.size),
        packed: None,
    };
    Intents::at(&scene.path("state")).add(&Intent::Rename(renamed)).unwrap();
    facts.identity
}

#[test]
fn a_renamed_file_that_the_log_has_forgotten_is_ended_and_not_read_again() {
    let scene = Scene::new();
    let rotated = scene.path("a.log.000001");
    fs::write(&rotated, "shipped\n").unwrap();
    let file = over(&scene, &rotated);
    scene.rotate_until("keep=0", |_| !rotated.exists());
    let (log, _sources) = Log::open(LogSettings::at(&scene.path("state"))).unwrap();
    assert_eq!(log.standing(&key_of(file)), None);
}

#[test]
fn a_rotated_file_that_is_removed_is_read_on_under_its_other_name() {
    let scene = Scene::new();
    let rotated = scene.path("a.log.000001");
    fs::write(&rotated, "shipped\n").unwrap();
    fs::hard_link(&rotated, scene.path("b.log")).unwrap();
    let file = over(&scene, &rotated);
    let has_more = std::cell::Cell::new(false);
    scene.rotate_until("keep=0", |log| {
        if !rotated.exists() && !has_more.replace(true) {
            let mut writer = OpenOptions::new().append(true).open(scene.path("b.log")).unwrap();
            writer.write_all(b"more\n").unwrap();
        }
        read(log, file) == Some(13)
    });
}
