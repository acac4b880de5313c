use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use super::*;
use crate::files::{self, FilesSettings};
use crate::intake::intake;
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
    fn rotate_until(&self, wishes: &str, is_so: impl Fn() -> bool) {
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
            let rotator = scope
                .spawn(|| crate::rotate::run(settings, &log, self.runtime.handle(), &stop).unwrap());
            let began = Instant::now();
            while !is_so() && began.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            let is_so = is_so();
            stop.request();
            rotator.join().unwrap();
            reader.join().unwrap();
            assert!(is_so);
        });
        running.finish(Instant::now() + PATIENCE).unwrap();
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
    scene.rotate_until("size=64KiB,append=true", || is().blocks() * 512 < BYTES as u64 / 4);
    assert_eq!(is().len(), BYTES as u64);
}

#[test]
fn a_renamed_file_that_the_log_has_forgotten_is_ended_and_not_read_again() {
    let scene = Scene::new();
    let (base, rotated) = (scene.path("a.log"), scene.path("a.log.000001"));
    fs::write(&base, "").unwrap();
    fs::write(&rotated, "shipped\n").unwrap();
    let file = FileFacts::of(&fs::File::open(&rotated).unwrap()).unwrap().identity;
    let over = Some(8);
    let keep = Keep::default();
    let (begun, packed) = (1, None);
    let renamed = Renamed { base, rotated: rotated.clone(), file, begun, keep, over, packed };
    Intents::at(&scene.path("state")).add(&Intent::Rename(renamed)).unwrap();
    scene.rotate_until("keep=0", || !rotated.exists());
    let (log, _sources) = Log::open(LogSettings::at(&scene.path("state"))).unwrap();
    assert_eq!(log.standing(&key_of(file)), None);
}
