use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use chores_common::shutdown::Shutdown;
use proptest::prelude::*;

use super::super::settings::{SinkSettings, Target};
use super::*;
use crate::encode::tests::{engine_meta, frame};
use crate::record::{Flags, Stream};
use crate::source::{Origin, SourceMeta};
use crate::wal::Position;

/// A sink as its thread drives it, and what survives it: the note beside the cursor.
struct Driver {
    sink: FileSink,
    /// Frames that are committed, and the note.
    kept: RefCell<(usize, Value)>,
    taken: usize,
    checkpoint: Option<usize>,
    runtime: tokio::runtime::Runtime,
}

fn settings(url: &str) -> FileSettings {
    match SinkSettings::parse("t", url, &BTreeMap::new()).unwrap().target {
        Target::File(settings) => settings,
        other => panic!("{other:?}"),
    }
}

impl Driver {
    fn start(url: &str, kept: (usize, Value)) -> Self {
        Self {
            sink: FileSink::open(settings(url), &kept.1).unwrap(),
            taken: kept.0,
            kept: RefCell::new(kept),
            checkpoint: None,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        }
    }

    fn push(&mut self, frame: &Frame) {
        let mut from = 0;
        while from < frame.block.count() {
            from = self.sink.push(frame, from);
            if self.sink.is_full() {
                self.deliver();
            }
        }
        self.taken += 1;
    }

    fn deliver(&mut self) {
        let kept = &self.kept;
        let mut keep = |note: Value| {
            kept.borrow_mut().1 = note;
            Ok(())
        };
        let mut context = Context {
            range: Position::default()..Position::default(),
            committed: Position::default(),
            stop: &Shutdown::new(),
            runtime: self.runtime.handle(),
            keep: &mut keep,
        };
        self.sink.deliver(&mut context).unwrap();
    }

    fn checkpoint(&mut self) {
        self.deliver();
        self.sink.checkpoint();
        self.checkpoint = Some(self.taken);
    }

    fn commit(&mut self) {
        let Some(taken) = self.checkpoint.take() else { return };
        self.sink.sync().unwrap();
        *self.kept.borrow_mut() = (taken, self.sink.note());
        self.sink.committed();
    }

    fn end(mut self) -> (usize, Value) {
        self.checkpoint();
        self.commit();
        self.sink.finish(&Shutdown::new());
        self.kept.into_inner()
    }
}

fn meta(container: &str) -> SourceMeta {
    let origin = match engine_meta().origin {
        Origin::Engine { id, image, project, service, .. } => {
            Origin::Engine { id, container: container.to_owned(), image, project, service }
        }
        file => file,
    };
    SourceMeta { origin, ..engine_meta() }
}

fn lines(container: &str, lines: &[&str]) -> Frame {
    let flags = Flags::new(Stream::Stdout);
    let records: Vec<_> = lines.iter().map(|line| (flags, line.as_bytes())).collect();
    frame(meta(container), &records)
}

fn url(directory: &Path, rest: &str) -> String {
    format!("file://{}/{rest}", directory.display())
}

/// Everything that was written to one path, over all generations, decompressed.
fn content(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    let last = generations::last(path).unwrap();
    for generation in 1..=last {
        let rotated = generations::rotated_path(path, generation);
        match fs::read(&rotated) {
            Ok(bytes) => content.extend(bytes),
            Err(_) => {
                let compressed = fs::read(format!("{}.zst", rotated.display())).unwrap();
                content.extend(zstd::decode_all(compressed.as_slice()).unwrap());
            }
        }
    }
    content.extend(fs::read(path).unwrap_or_default());
    content
}

#[test]
fn each_container_has_its_file_and_a_hostile_name_none_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver =
        Driver::start(&url(directory.path(), "logs/{container}.log"), (0, Value::Null));
    driver.push(&lines("web", &["a", "b"]));
    driver.push(&lines("../../evil", &["c"]));
    driver.push(&lines("web", &["d"]));
    driver.end();
    let file = |name: &str| fs::read_to_string(directory.path().join("logs").join(name)).unwrap();
    assert_eq!(file("web.log"), "a\nb\nd\n");
    assert_eq!(file("_._.._evil.log"), "c\n");
}

#[test]
fn streams_may_have_files_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(&url(directory.path(), "{stream}.log"), (0, Value::Null));
    let (out, err) = (Flags::new(Stream::Stdout), Flags::new(Stream::Stderr));
    driver.push(&frame(meta("web"), &[(out, b"1"), (err, b"2"), (err, b"3"), (out, b"4")]));
    driver.end();
    assert_eq!(fs::read_to_string(directory.path().join("stdout.log")).unwrap(), "1\n4\n");
    assert_eq!(fs::read_to_string(directory.path().join("stderr.log")).unwrap(), "2\n3\n");
}

#[test]
fn what_was_there_before_is_kept_and_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.log");
    fs::write(&path, "old\n").unwrap();
    let url = url(directory.path(), "{container}.log");
    let mut driver = Driver::start(&url, (0, Value::Null));
    driver.push(&lines("web", &["new"]));
    driver.deliver();
    // The process dies: the new line is written again, the old one is nobody's to take.
    let mut driver = Driver::start(&url, driver.kept.into_inner());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    driver.push(&lines("web", &["new"]));
    driver.end();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
}

#[test]
fn rotated_files_are_numbered_compressed_and_kept_in_number() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path(), "web.log?rotate=4096&keep=3&compress=zstd");
    let mut driver = Driver::start(&url, (0, Value::Null));
    let line = "x".repeat(1500);
    for _ in 0..20 {
        driver.push(&lines("web", &[&line]));
        driver.checkpoint();
        driver.commit();
    }
    driver.end();
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["web.log", "web.log.000007.zst", "web.log.000008.zst", "web.log.000009.zst"];
    assert_eq!(names, expected);
}

#[test]
fn a_file_that_another_program_moved_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.log");
    let mut driver = Driver::start(&url(directory.path(), "web.log"), (0, Value::Null));
    driver.push(&lines("web", &["a"]));
    driver.checkpoint();
    driver.commit();
    fs::rename(&path, directory.path().join("moved")).unwrap();
    driver.push(&lines("web", &["b"]));
    driver.checkpoint();
    driver.commit();
    driver.push(&lines("web", &["c"]));
    driver.end();
    assert_eq!(fs::read_to_string(directory.path().join("moved")).unwrap(), "a\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "b\nc\n");
}

#[test]
fn a_file_that_got_the_number_of_another_is_not_cut() {
    use std::os::unix::fs::MetadataExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    fs::write(&path, "of another program\n").unwrap();
    let metadata = fs::metadata(&path).unwrap();
    let Some(birth) = birth(&metadata) else { return };
    let mark = Mark {
        device: metadata.dev(),
        inode: metadata.ino(),
        birth: Some(birth - 1),
        length: 2,
        generation: 1,
        born: 0,
        rotating: false,
    };
    assert_eq!(recovery::restore(&path, mark.clone()).unwrap(), None);
    assert_eq!(fs::read_to_string(&path).unwrap(), "of another program\n");
    let old_note = Mark { birth: None, ..mark };
    assert!(recovery::restore(&path, old_note).unwrap().is_some());
    assert_eq!(fs::read_to_string(&path).unwrap(), "of");
}

#[test]
fn a_rotation_replaces_no_file_of_another_program() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(&url(directory.path(), "a?rotate=4096"), (0, Value::Null));
    let line = "x".repeat(3000);
    driver.push(&lines("web", &[&line]));
    driver.deliver();
    let path = directory.path().join("a");
    fs::write(generations::rotated_path(&path, 1), "of another program").unwrap();
    driver.push(&lines("web", &[&line]));
    driver.deliver();
    let read = |number| fs::read_to_string(generations::rotated_path(&path, number)).unwrap();
    assert_eq!(read(1), "of another program");
    assert_eq!(read(2), format!("{line}\n"));
}

#[test]
fn rotated_files_of_a_container_that_is_gone_get_old_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let age = Duration::from_secs(3600);
    let mut housekeeping = Housekeeping::new(Keep { age: Some(age), ..Keep::default() });
    let rotated = generations::rotated_path(&path, 1);
    fs::write(&rotated, "old\n").unwrap();
    let now = Instant::now();
    housekeeping.ask(path, 2);
    housekeeping.start(now);
    housekeeping.finish(&Shutdown::new());
    assert!(rotated.exists());
    let file = File::options().write(true).open(&rotated).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * age).unwrap();
    housekeeping.start(now + generations::LOOK_EVERY);
    housekeeping.finish(&Shutdown::new());
    assert!(!rotated.exists());
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join("web.log")).unwrap();
    let mut driver = Driver::start(&url(directory.path(), "web.log"), (0, Value::Null));
    driver.push(&lines("web", &["a"]));
    let mut keep = |_| Ok(());
    let mut context = Context {
        range: Position::default()..Position::default(),
        committed: Position::default(),
        stop: &Shutdown::new(),
        runtime: driver.runtime.handle(),
        keep: &mut keep,
    };
    let failure = driver.sink.deliver(&mut context).unwrap_err();
    assert!(failure.sentence.contains("cannot open"), "{failure}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn more_files_than_may_be_open_are_written_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(&url(directory.path(), "{container}.log"), (0, Value::Null));
    for round in 0..3 {
        for number in 0..OPEN_FILES_MAX + 10 {
            driver.push(&lines(&format!("c{number}"), &[&format!("{round}")]));
        }
        driver.checkpoint();
        let open = driver.sink.files.values().filter(|open| open.file.is_some()).count();
        assert!(open <= OPEN_FILES_MAX, "{open} files are open");
        driver.commit();
    }
    driver.end();
    for number in 0..OPEN_FILES_MAX + 10 {
        let path = directory.path().join(format!("c{number}.log"));
        assert_eq!(fs::read_to_string(path).unwrap(), "0\n1\n2\n");
    }
}

#[test]
fn a_rotation_is_undone_although_an_earlier_attempt_to_undo_it_was_cut_off() {
    use std::os::unix::fs::MetadataExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let generation = |number: u64| generations::rotated_path(&path, number);
    fs::write(generation(1), "kept\nnot kept\n").unwrap();
    // The second generation is removed already, the third is not.
    fs::write(generation(3), "younger\n").unwrap();
    fs::write(&path, "youngest\n").unwrap();
    let old = fs::metadata(generation(1)).unwrap();
    let mark = Mark {
        device: old.dev(),
        inode: old.ino(),
        birth: None,
        length: 5,
        generation: 1,
        born: 0,
        rotating: true,
    };
    assert!(recovery::restore(&path, mark).unwrap().is_some());
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["a.log"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Deliver,
    Checkpoint,
    Commit,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u8).prop_map(Step::Push),
        2 => Just(Step::Deliver),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whenever the process dies, every line is in its file once, in order, over all rotations.
    #[test]
    fn every_line_is_written_exactly_once(steps in steps(), zstd in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let compress = if zstd { "zstd" } else { "none" };
        let url = url(directory.path(), &format!("{{container}}.log?rotate=4096&compress={compress}"));
        let mut frames: Vec<Frame> = Vec::new();
        let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut driver = Driver::start(&url, (0, Value::Null));
        for step in steps {
            match step {
                Step::Push(container) => {
                    let name = format!("c{container}");
                    let line = format!("{} {}", frames.len(), "x".repeat(1000));
                    expected.entry(name.clone()).or_default().extend(format!("{line}\n").bytes());
                    frames.push(lines(&name, &[&line]));
                    // After a crash, the log gives what is not committed again.
                    while driver.taken < frames.len() {
                        let frame = frames[driver.taken].clone();
                        driver.push(&frame);
                    }
                }
                Step::Deliver => driver.deliver(),
                Step::Checkpoint => driver.checkpoint(),
                Step::Commit => driver.commit(),
                Step::Crash => {
                    driver.sink.finish(&Shutdown::new());
                    driver = Driver::start(&url, driver.kept.into_inner());
                }
            }
        }
        while driver.taken < frames.len() {
            let frame = frames[driver.taken].clone();
            driver.push(&frame);
        }
        driver.end();
        for (name, expected) in expected {
            let written = content(&directory.path().join(format!("{name}.log")));
            prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
        }
    }
}
