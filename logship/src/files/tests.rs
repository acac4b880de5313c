use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::*;
use crate::cursor::{Cursor, FileCursor};
use crate::intake::{INTAKE_CHUNKS_MAX, Message, Sources, intake};
use crate::record::{Control, GapReason};
use crate::source::{SourceId, SourceMeta};

/// Within this every expected line must have come.
const DEADLINE: Duration = Duration::from_secs(20);

/// What came, in order.
#[derive(Debug, Default)]
struct Came {
    lines: Vec<(SourceId, Vec<u8>, bool)>,
    controls: Vec<(SourceId, Control)>,
    ended: Vec<SourceId>,
    /// What the log would remember.
    remembered: Vec<(SourceId, SourceMeta, Option<Cursor>, bool)>,
}

/// A directory of logs and everything that was ever shipped of it.
struct Scene {
    root: tempfile::TempDir,
    settings: FilesSettings,
    came: Arc<Mutex<Came>>,
}

struct Running {
    shutdown: Shutdown,
    source: JoinHandle<FilesReport>,
    log: JoinHandle<()>,
}

impl Scene {
    fn new(pattern: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let pattern = root.path().join(pattern).to_str().unwrap().to_owned();
        let mut settings = FilesSettings::new(vec![pattern], "host".to_owned());
        settings.over_after = Duration::from_millis(1500);
        settings.scan_every = Duration::from_millis(500);
        Self { root, settings, came: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn start_in(&self, mode: Mode) -> Running {
        let sources = Arc::new(Sources::default());
        for (id, meta, cursor, is_over) in &self.came.lock().unwrap().remembered {
            sources.restore(*id, meta.clone(), cursor.clone());
            if *is_over {
                sources.end(*id);
            }
        }
        let (sender, mut receiver) = intake(sources);
        let came = self.came.clone();
        let log = thread::spawn(move || {
            while let Some(message) = receiver.messages.blocking_recv() {
                let mut came = came.lock().unwrap();
                match message {
                    Message::Chunk(chunk) => {
                        for record in chunk.block.records() {
                            if record.flags.is_control() {
                                let control = serde_json::from_slice(record.line).unwrap();
                                came.controls.push((chunk.source, control));
                            } else {
                                let partial = record.flags.is_partial();
                                came.lines.push((chunk.source, record.line.to_vec(), partial));
                            }
                        }
                        receiver.sources.note(chunk.source, chunk.cursor);
                    }
                    Message::End(id) => {
                        receiver.sources.end(id);
                        came.ended.push(id);
                    }
                }
            }
            let all = receiver.sources.all();
            came.lock().unwrap().remembered = all
                .into_iter()
                .map(|(id, meta, cursor)| {
                    (id, meta.as_ref().clone(), cursor, receiver.sources.is_over(id))
                })
                .filter(|(_, _, cursor, _)| cursor.is_some())
                .collect();
        });
        let shutdown = Shutdown::new();
        let (settings, asked) = (self.settings.clone(), shutdown.clone());
        let source = thread::spawn(move || run(settings, sender, &asked, mode).unwrap());
        Running { shutdown, source, log }
    }

    fn start(&self) -> Running {
        self.start_in(Mode::Follow)
    }

    fn once(&self) -> FilesReport {
        let running = self.start_in(Mode::Once);
        let report = running.source.join().unwrap();
        running.log.join().unwrap();
        report
    }

    fn lines(&self) -> Vec<String> {
        let came = self.came.lock().unwrap();
        came.lines.iter().map(|(_, line, _)| String::from_utf8_lossy(line).into_owned()).collect()
    }

    fn sorted(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }

    fn controls(&self) -> Vec<Control> {
        let came = self.came.lock().unwrap();
        let told = came.controls.iter().map(|(_, control)| control.clone());
        told.filter(|control| *control != Control::Started).collect()
    }

    fn gaps(&self) -> Vec<(GapReason, Option<u64>)> {
        let gaps = self.controls().into_iter().filter_map(|control| match control {
            Control::Gap(gap) => Some((gap.reason, gap.bytes)),
            _ => None,
        });
        gaps.collect()
    }

    /// Waits until something is so.
    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(
                begin.elapsed() < DEADLINE,
                "{what}: {} lines, {:?}",
                self.lines().len(),
                self.controls()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for(&self, lines: &[&str]) {
        let mut wanted: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        wanted.sort();
        self.wait(&format!("{wanted:?}"), |scene| scene.lines().len() >= wanted.len());
        assert_eq!(self.sorted(), wanted);
    }
}

impl Running {
    fn stop(self) -> FilesReport {
        self.shutdown.request();
        let report = self.source.join().unwrap();
        self.log.join().unwrap();
        report
    }
}

fn numbered(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("line number {n:08}\n")).collect()
}

fn gzip(path: &Path) {
    let packed = path.with_file_name(format!("{}.gz", path.file_name().unwrap().display()));
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    let file = encoder.finish().unwrap();
    file.set_modified(fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn what_is_there_and_what_comes_is_shipped_in_order_without_its_line_ends() {
    let scene = Scene::new("*.log");
    scene.append("a.log", "one\ntwo\n");
    scene.append("other.txt", "no\n");
    let running = scene.start();
    scene.wait_for(&["one", "two"]);
    scene.append("a.log", "three\n");
    scene.append("b.log", b"\xef\xbb\xbfvier\n\xff\xfe not UTF-8\n");
    let binary = String::from_utf8_lossy(b"\xff\xfe not UTF-8").into_owned();
    scene.wait_for(&["one", "two", "three", "vier", &binary]);
    running.stop();
    assert_eq!(scene.controls(), []);
    let running = scene.start();
    scene.append("a.log", "four\n");
    scene.wait_for(&["one", "two", "three", "vier", &binary, "four"]);
    running.stop();
}

#[test]
fn a_line_without_its_end_waits_and_is_handed_on_at_the_end_of_once() {
    let scene = Scene::new("*.log");
    scene.append("a.log", "one\nha");
    let running = scene.start();
    scene.wait_for(&["one"]);
    scene.append("a.log", "lf");
    running.stop();
    scene.wait_for(&["one"]);
    let running = scene.start();
    scene.append("a.log", " done\nrest");
    scene.wait_for(&["one", "half done"]);
    running.stop();
    scene.once();
    assert_eq!(scene.lines(), ["one", "half done", "rest"]);
    assert!(scene.came.lock().unwrap().lines.last().unwrap().2);
    scene.append("a.log", " and more\n");
    scene.once();
    assert_eq!(scene.lines(), ["one", "half done", "rest", " and more"]);
}

#[test]
fn a_renamed_file_is_read_on_and_the_new_one_from_its_first_byte() {
    let scene = Scene::new("a.log");
    let mut writer = File::create(scene.path("a.log")).unwrap();
    let running = scene.start();
    writeln!(writer, "1").unwrap();
    scene.wait_for(&["1"]);
    scene.rename("a.log", "a.log.1");
    writeln!(writer, "2").unwrap();
    scene.append("a.log", "3\n");
    scene.wait_for(&["1", "2", "3"]);
    writeln!(writer, "4").unwrap();
    write!(writer, "5").unwrap();
    scene.wait_for(&["1", "2", "3", "4", "5"]);
    drop(writer);
    let path = scene.path("a.log").to_str().unwrap().to_owned();
    scene.wait("rotated", |scene| {
        scene.controls() == [Control::Rotated { path: path.clone(), removed: None }]
    });
    running.stop();
    assert_eq!(scene.gaps(), []);
}

#[test]
fn what_a_name_meant_before_comes_before_what_it_means_now() {
    let scene = Scene::new("a.log");
    scene.append("a.log", numbered(0..10));
    scene.start_and_wait(10);
    // Many turns of each: 6 MB.
    scene.append("a.log", numbered(10..100_000));
    scene.rename("a.log", "a.log.1");
    scene.append("a.log", numbered(100_000..200_000));
    scene.rename("a.log.1", "a.log.2");
    scene.rename("a.log", "a.log.1");
    scene.append("a.log", numbered(200_000..250_000));
    scene.start_and_wait(250_000);
    assert!(scene.lines().is_sorted());
    scene.assert_each_once(250_000);
    assert_eq!(scene.gaps(), []);
}

#[test]
fn a_rotated_file_that_was_removed_is_read_on_when_it_grows() {
    let mut scene = Scene::new("a.log");
    let desk = Arc::new(Desk::default());
    scene.settings.desk = Some(desk.clone());
    let mut writer = File::create(scene.path("a.log")).unwrap();
    writer.write_all(b"one\n").unwrap();
    let running = scene.start();
    scene.wait_for(&["one"]);
    scene.rename("a.log", "a.log.1");
    scene.append("a.log", "new\n");
    scene.wait_for(&["one", "new"]);
    let path = scene.path("a.log.1");
    let file = File::open(&path).unwrap();
    let identity = crate::proof::FileFacts::of(&file).unwrap().identity;
    let retired = || desk.ask(desk::Ask::Retire(identity, 4));
    while retired() != desk::Answer::Done {
        thread::sleep(Duration::from_millis(5));
    }
    let hold =
        desk::Hold { identity, file, path: path.clone(), base: scene.path("a.log"), bytes: 4 };
    assert_eq!(desk.ask(desk::Ask::Hold(hold)), desk::Answer::Done);
    fs::remove_file(&path).unwrap();
    writer.write_all(b"two\n").unwrap();
    scene.wait_for(&["one", "new", "two"]);
    writer.write_all(b"three\n").unwrap();
    scene.wait_for(&["one", "new", "two", "three"]);
    running.stop();
    assert_eq!(scene.gaps(), []);
}

#[test]
fn what_is_shorter_than_a_file_that_was_rotated_is_another_one_in_its_inode() {
    let mut scene = Scene::new("*.log");
    scene.append("a.log", "kept\n");
    scene.append("b.log", "new\n");
    let of = |name: &str| cursor_at(&scene.path(name), 0).file;
    scene.settings.kept = HashMap::from([(of("a.log"), 5), (of("b.log"), 400)]);
    assert_eq!(scene.once().files, 1);
    assert_eq!(scene.lines(), ["new"]);
}

#[test]
fn a_file_that_is_readmitted_is_read_behind_what_was_shipped_of_it() {
    let mut scene = Scene::new("a.log");
    let desk = Arc::new(Desk::default());
    scene.append("a.log.1", "shipped\n");
    let file = File::open(scene.path("a.log.1")).unwrap();
    let identity = crate::proof::FileFacts::of(&file).unwrap().identity;
    // The log has forgotten it by now.
    (scene.settings.desk, scene.settings.kept) =
        (Some(desk.clone()), HashMap::from([(identity, 8)]));
    let running = scene.start();
    scene.append("a.log", "other\n");
    scene.wait_for(&["other"]);
    scene.append("a.log.1", "late\n");
    assert_eq!(desk.ask(desk::Ask::Readmit(identity, 8)), desk::Answer::Done);
    scene.wait_for(&["other", "late"]);
    running.stop();
    assert_eq!(scene.gaps(), []);
}

/// What is asked for when everything before `settled` is safe.
fn collapse_of(path: &Path, settled: FileCursor, length: u64) -> desk::Ask {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let probe = |offset| desk::probe(&file, offset).unwrap().unwrap();
    let (before, after) = (probe(0), probe(length));
    desk::Ask::Collapse(desk::Collapse { settled, file, length, before, after })
}

/// A cursor at `offset` of a file as it is now.
fn cursor_at(path: &Path, offset: u64) -> FileCursor {
    let file = File::open(path).unwrap();
    let identity = crate::proof::FileFacts::of(&file).unwrap().identity;
    let proof = crate::proof::proof_of(&file, offset).unwrap().unwrap();
    FileCursor { file: identity, offset, shift: 0, proof }
}

#[test]
fn nothing_is_taken_from_a_file_that_was_cut_and_filled_again_since_it_was_safe() {
    let mut scene = Scene::new("a.log");
    let desk = Arc::new(Desk::default());
    scene.settings.desk = Some(desk.clone());
    let path = scene.path("a.log");
    scene.append("a.log", numbered(0..4000));
    let running = scene.start();
    scene.wait("first", |scene| scene.lines().len() == 4000);
    let settled = cursor_at(&path, 64 << 10);
    // In place and longer at once: all of it is read, and none of it is safe.
    fs::write(&path, numbered(4000..10_000)).unwrap();
    scene.wait("second", |scene| scene.lines().len() == 10_000);
    let answer = desk.ask(collapse_of(&path, settled, 16 << 10));
    assert!(matches!(answer, desk::Answer::NotNow(_)), "{answer:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), numbered(4000..10_000));
    let settled = cursor_at(&path, 64 << 10);
    let answer = desk.ask(collapse_of(&path, settled, 16 << 10));
    // Not every file system can.
    assert!(matches!(answer, desk::Answer::Done | desk::Answer::Nowhere(_)), "{answer:?}");
    running.stop();
    scene.assert_each_once(10_000);
}

#[test]
fn a_removed_file_is_read_while_it_may_grow_and_then_over() {
    let scene = Scene::new("a.log");
    let mut writer = File::create(scene.path("a.log")).unwrap();
    writeln!(writer, "1").unwrap();
    let running = scene.start();
    scene.wait_for(&["1"]);
    fs::remove_file(scene.path("a.log")).unwrap();
    writeln!(writer, "2").unwrap();
    scene.wait_for(&["1", "2"]);
    drop(writer);
    // Its inode may be used again.
    scene.append("a.log", "3\n");
    scene.wait_for(&["1", "2", "3"]);
    running.stop();
    assert_eq!(scene.gaps(), []);
    fs::remove_file(scene.path("a.log")).unwrap();
    let running = scene.start();
    scene.wait("ended", |scene| scene.came.lock().unwrap().ended.len() == 2);
    running.stop();
    // Nobody can tell whether there was more.
    assert_eq!(scene.gaps(), [(GapReason::Removed, None), (GapReason::Removed, None)]);
}

#[test]
fn a_file_that_its_writer_closed_before_it_was_removed_is_over_soon() {
    let scene = Scene::new("a.log");
    let running = scene.start();
    scene.append("a.log", "1\n");
    scene.wait_for(&["1"]);
    scene.append("a.log", "2\nhalf");
    scene.wait_for(&["1", "2"]);
    fs::remove_file(scene.path("a.log")).unwrap();
    scene.wait("ended", |scene| !scene.came.lock().unwrap().ended.is_empty());
    running.stop();
    assert_eq!(scene.lines(), ["1", "2", "half"]);
    assert_eq!(scene.controls(), [Control::Stopped]);
    // What is over is not missed later.
    scene.start().stop();
    assert_eq!(scene.controls(), [Control::Stopped]);
}

#[test]
fn a_truncated_file_begins_again_even_when_it_has_grown_past_the_place() {
    let scene = Scene::new("a.log");
    scene.append("a.log", numbered(0..100));
    let running = scene.start();
    scene.wait("first", |scene| scene.lines().len() == 100);
    fs::write(scene.path("a.log"), "short\n").unwrap();
    scene.wait("short", |scene| scene.lines().len() == 101);
    // In place and longer at once.
    fs::write(scene.path("a.log"), numbered(100..400)).unwrap();
    scene.wait("longer", |scene| scene.lines().len() == 401);
    running.stop();
    fs::write(scene.path("a.log"), numbered(400..1000)).unwrap();
    let running = scene.start();
    scene.wait("while stopped", |scene| scene.lines().len() == 1001);
    running.stop();
    let truncated = |control: &Control| matches!(control, Control::Truncated { .. });
    assert_eq!(scene.controls().iter().filter(|control| truncated(control)).count(), 3);
    // Only what was cut while nobody looked may have been more than was read.
    assert_eq!(scene.gaps(), [(GapReason::Truncated, None)]);
    let lines = scene.lines().split_off(101);
    assert!(
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .eq(numbered(100..1000).split_inclusive('\n').map(str::to_owned))
    );
}

#[test]
fn a_copy_is_not_shipped_again_but_what_only_it_has_is() {
    for pattern in ["a.log", "a.log*"] {
        let scene = Scene::new(pattern);
        scene.append("a.log", numbered(0..1000));
        let running = scene.start();
        scene.wait("first", |scene| scene.lines().len() == 1000);
        // Copied while it is followed, as with logrotate's `copy`.
        fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
        scene.append("a.log", numbered(1000..1010));
        scene.wait("more", |scene| scene.lines().len() == 1010);
        running.stop();
        // Nobody reads, the copy has what the original lost.
        scene.append("a.log", numbered(1010..1500));
        scene.rename("a.log.1", "a.log.2");
        fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
        fs::write(scene.path("a.log"), numbered(1500..1600)).unwrap();
        let running = scene.start();
        scene.wait("rest", |scene| scene.lines().len() >= 1600);
        running.stop();
        scene.start().stop();
        scene.assert_each_once(1600);
        assert_eq!(scene.gaps(), []);
    }
}

#[test]
fn a_copy_made_and_compressed_while_nobody_read_gives_what_was_not_shipped() {
    let scene = Scene::new("a.log");
    scene.append("a.log", numbered(0..1000));
    scene.start_and_wait(1000);
    scene.append("a.log", numbered(1000..2000));
    fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    gzip(&scene.path("a.log.1"));
    fs::write(scene.path("a.log"), numbered(2000..2100)).unwrap();
    scene.start_and_wait(2100);
    scene.start_and_wait(2100);
    scene.assert_each_once(2100);
    assert_eq!(scene.gaps(), []);
}

#[test]
fn rotations_that_nobody_saw_are_caught_up_with() {
    let scene = Scene::new("a.log");
    scene.append("a.log.1", "before anybody looked\n");
    scene.append("a.log", numbered(0..1000));
    scene.start_and_wait(1000);
    scene.append("a.log", numbered(1000..1100));
    scene.rename("a.log.1", "a.log.4");
    scene.rename("a.log", "a.log.3");
    gzip(&scene.path("a.log.3"));
    thread::sleep(Duration::from_millis(20));
    scene.append("a.log.2", numbered(1100..1200));
    gzip(&scene.path("a.log.2"));
    thread::sleep(Duration::from_millis(20));
    scene.append("a.log.1", numbered(1200..1300));
    scene.append("a.log", numbered(1300..1400));
    scene.start_and_wait(1400);
    scene.start_and_wait(1400);
    scene.assert_each_once(1400);
    assert_eq!(scene.gaps(), []);
}

#[test]
fn a_file_that_is_nowhere_is_a_gap() {
    let scene = Scene::new("a.log");
    scene.append("a.log", numbered(0..10));
    scene.start_and_wait(10);
    fs::remove_file(scene.path("a.log")).unwrap();
    scene.append("a.log", numbered(10..20));
    scene.start_and_wait(20);
    assert_eq!(scene.gaps(), [(GapReason::Rotated, None)]);
}

#[test]
fn a_copy_is_known_although_the_file_of_that_name_was_another_one_before() {
    let scene = Scene::new("a.log*");
    scene.append("a.log", numbered(0..10));
    scene.start_and_wait(10);
    fs::remove_file(scene.path("a.log")).unwrap();
    scene.append("a.log", numbered(10..20));
    let running = scene.start();
    scene.wait("second", |scene| scene.lines().len() == 20);
    fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    scene.append("a.log", numbered(20..30));
    scene.wait("third", |scene| scene.lines().len() >= 30);
    running.stop();
    scene.start().stop();
    scene.assert_each_once(30);
}

#[test]
fn one_file_under_many_names_is_read_once() {
    let scene = Scene::new("*.log");
    scene.append("a.log", "1\n");
    fs::hard_link(scene.path("a.log"), scene.path("b.log")).unwrap();
    std::os::unix::fs::symlink("a.log", scene.path("c.log")).unwrap();
    fs::create_dir(scene.path("elsewhere")).unwrap();
    scene.append("elsewhere/real", "2\n");
    std::os::unix::fs::symlink("elsewhere/real", scene.path("d.log")).unwrap();
    let running = scene.start();
    scene.wait_for(&["1", "2"]);
    fs::remove_file(scene.path("a.log")).unwrap();
    scene.append("b.log", "3\n");
    scene.append("elsewhere/real", "4\n");
    scene.wait_for(&["1", "2", "3", "4"]);
    assert_eq!(running.stop().files, 2);
}

#[test]
fn files_that_begin_alike_are_all_shipped() {
    let scene = Scene::new("*");
    for name in ["a.log", "b.log", "a.log.err", "c"] {
        scene.append(name, "=== started ===\n");
    }
    let running = scene.start();
    scene.wait("four", |scene| scene.lines().len() == 4);
    scene.append("d.log", "=== started ===\n");
    scene.wait("five", |scene| scene.lines().len() == 5);
    running.stop();
}

#[test]
fn a_rotated_file_that_is_longer_than_the_one_it_is_named_after_is_no_copy_of_it() {
    let scene = Scene::new("*");
    scene.append("app.log", "=== started ===\n");
    scene.append("app.log.1", "=== started ===\n1\n");
    let running = scene.start();
    scene.wait("three", |scene| scene.lines().len() == 3);
    scene.append("app.log.2", "=== started ===\n2\n");
    scene.wait("five", |scene| scene.lines().len() == 5);
    running.stop();
    let mut expected = ["=== started ==="; 3].to_vec();
    expected.splice(0..0, ["1", "2"]);
    assert_eq!(scene.sorted(), expected);
}

#[test]
fn a_file_that_cannot_be_opened_again_now_is_not_gone() {
    use crate::descriptors::tests::{alone, exhaust};
    alone("files::tests::a_file_that_cannot_be_opened_again_now_is_not_gone", || {
        let mut scene = Scene::new("*.log");
        scene.settings.descriptors_max = 1;
        scene.append("a.log", "1\n");
        scene.append("b.log", "2\n");
        let open = |name: &str| OpenOptions::new().append(true).open(scene.path(name)).unwrap();
        let (mut a, mut b) = (open("a.log"), open("b.log"));
        let running = scene.start();
        scene.wait_for(&["1", "2"]);
        let held = exhaust();
        a.write_all(b"3\n").unwrap();
        b.write_all(b"4\n").unwrap();
        // Looked at again and again, by every clock there is.
        thread::sleep(Duration::from_millis(2500));
        assert!(scene.lines().len() < 4);
        drop(held);
        scene.wait_for(&["1", "2", "3", "4"]);
        assert_eq!(running.stop().refused, 0);
        assert_eq!((scene.gaps(), scene.came.lock().unwrap().ended.len()), (Vec::new(), 0));
    });
}

#[test]
fn what_is_no_file_is_refused_and_hurts_nobody() {
    let scene = Scene::new("*.log");
    let fifo = scene.path("fifo.log");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::create_dir(scene.path("directory.log")).unwrap();
    std::os::unix::fs::symlink("nowhere", scene.path("dangling.log")).unwrap();
    scene.append("a.log", "1\n");
    let running = scene.start();
    scene.wait_for(&["1"]);
    assert_eq!(running.stop().refused, 1);
}

#[test]
fn what_links_lead_to_outside_is_never_shipped() {
    let scene = Scene::new("logs/**");
    let secret = scene.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::create_dir(scene.path("logs")).unwrap();
    fs::write(secret.join("key"), "secret\n").unwrap();
    let link = |target: &Path, name: &str| {
        std::os::unix::fs::symlink(target, scene.path(name)).unwrap();
    };
    link(&secret.join("key"), "logs/absolute.log");
    link(Path::new("../secret/key"), "logs/relative.log");
    link(Path::new("app.1.log"), "logs/current.log");
    link(&scene.path("logs/app.2.log"), "logs/absolute-in.log");
    scene.append("logs/app.1.log", "1\n");
    scene.append("logs/app.2.log", "2\n");
    let running = scene.start();
    scene.wait_for(&["1", "2"]);
    // While it runs, too: a new name, one that is followed already, and what looks like a rotation of it.
    link(&secret.join("key"), "logs/later.log");
    fs::remove_file(scene.path("logs/app.1.log")).unwrap();
    link(&secret.join("key"), "logs/app.1.log");
    link(&secret.join("key"), "logs/app.log.1");
    scene.append("logs/app.2.log", "3\n");
    scene.wait_for(&["1", "2", "3"]);
    thread::sleep(3 * scene.settings.scan_every);
    let report = running.stop();
    assert_eq!(scene.sorted(), ["1", "2", "3"]);
    // All but `app.1.log` and `current.log` were links out from the start; each is told once, however often it is
    // looked at.
    let counts = scene.settings.stats.counts();
    assert_eq!((report.refused, counts), (6, FilesCounts { refused: 6, outside: 6 }));
    assert_eq!(scene.once().refused, 6);
    assert_eq!(scene.sorted(), ["1", "2", "3"]);
}

#[test]
fn the_first_start_may_begin_at_the_end_and_later_files_at_their_beginning() {
    let mut scene = Scene::new("*.log");
    scene.settings.start = FileStart::End;
    scene.append("a.log", "old\nha");
    let running = scene.start();
    scene.wait("started", |scene| !scene.came.lock().unwrap().controls.is_empty());
    scene.append("a.log", "lf\n");
    scene.append("b.log", "new\n");
    scene.wait_for(&["half", "new"]);
    running.stop();
    scene.append("c.log", "later\n");
    let running = scene.start();
    scene.wait_for(&["half", "new", "later"]);
    running.stop();
}

#[test]
fn thousands_of_files_are_followed_with_few_descriptors() {
    const FILES: usize = 2000;
    let mut scene = Scene::new("**/*.log");
    scene.settings.descriptors_max = 64;
    for number in 0..FILES {
        let name = format!("{}/{number}.log", number % 7);
        fs::create_dir_all(scene.path(&name).parent().unwrap()).unwrap();
        scene.append(&name, format!("{number} first\n"));
    }
    let running = scene.start();
    scene.wait("first", |scene| scene.lines().len() == FILES);
    let own = format!("{}/", scene.root.path().display());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with(&own))
    });
    assert!(open.count() <= 64 + 2);
    for number in 0..FILES {
        scene.append(&format!("{}/{number}.log", number % 7), format!("{number} second\n"));
    }
    scene.wait("second", |scene| scene.lines().len() == 2 * FILES);
    running.stop();
    let mut lines = scene.sorted();
    lines.dedup();
    assert_eq!(lines.len(), 2 * FILES);
    assert_eq!(scene.gaps(), []);
}

#[test]
fn lines_of_any_length_and_half_written_ones_arrive_whole() {
    let scene = Scene::new("a.log");
    let long = "x".repeat(700_000);
    let longer = "y".repeat(1_500_000);
    let running = scene.start();
    for text in ["sho", "rt\n", &long, "\n", &longer, "\nend\n"] {
        scene.append("a.log", text);
        thread::sleep(Duration::from_millis(30));
    }
    scene.wait("end", |scene| scene.lines().last().is_some_and(|line| line == "end"));
    running.stop();
    let came = scene.came.lock().unwrap();
    let whole: Vec<_> = came.lines.iter().filter(|(.., is_partial)| !is_partial).collect();
    assert_eq!(whole.len(), 4);
    let all: Vec<u8> = came.lines.iter().flat_map(|(_, line, _)| line.clone()).collect();
    assert_eq!(all, [b"short", long.as_bytes(), longer.as_bytes(), b"end"].concat());
}

#[test]
fn utf_16_is_shipped_as_utf_8() {
    let scene = Scene::new("a.log");
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    scene.append("a.log", [vec![0xff, 0xfe], wide("größe\nzwei")].concat());
    let running = scene.start();
    scene.wait_for(&["größe"]);
    running.stop();
    scene.append("a.log", wide(" €\n"));
    let running = scene.start();
    scene.wait_for(&["größe", "zwei €"]);
    running.stop();
}

#[test]
fn the_mark_of_utf_16_is_not_taken_away_with_the_beginning() {
    let mut scene = Scene::new("a.log");
    let desk = Arc::new(Desk::default());
    scene.settings.desk = Some(desk.clone());
    let wide: Vec<u8> = numbered(0..4000).encode_utf16().flat_map(u16::to_le_bytes).collect();
    scene.append("a.log", [vec![0xff, 0xfe], wide].concat());
    let running = scene.start();
    scene.wait("all", |scene| scene.lines().len() == 4000);
    let path = scene.path("a.log");
    let answer = desk.ask(collapse_of(&path, cursor_at(&path, 64 << 10), 16 << 10));
    assert!(matches!(answer, desk::Answer::Never(_)), "{answer:?}");
    running.stop();
    assert!(fs::read(&path).unwrap().starts_with(&[0xff, 0xfe]));
}

#[test]
fn a_log_that_is_full_keeps_nobody_from_opening_what_appears() {
    let scene = Scene::new("*.log");
    let sources = Arc::new(Sources::default());
    let (sender, mut receiver) = intake(sources);
    let shutdown = Shutdown::new();
    for number in 0..40 {
        scene.append(&format!("{number}.log"), numbered(0..20_000));
    }
    let (settings, asked) = (scene.settings.clone(), shutdown.clone());
    let source = thread::spawn(move || run(settings, sender, &asked, Mode::Follow).unwrap());
    // The queue is full before the last file has said that it was opened.
    thread::sleep(Duration::from_millis(500));
    scene.append("late.log", "late\n");
    thread::sleep(Duration::from_millis(500));
    fs::remove_file(scene.path("late.log")).unwrap();
    let begin = Instant::now();
    let mut is_there = false;
    while !is_there && begin.elapsed() < DEADLINE {
        if let Ok(Message::Chunk(chunk)) = receiver.messages.try_recv() {
            is_there = chunk.block.records().any(|record| record.line == b"late");
        }
    }
    assert!(is_there);
    shutdown.request();
    while receiver.messages.blocking_recv().is_some() {}
    source.join().unwrap();
}

#[test]
fn our_own_rotation_is_answered_while_the_log_takes_less_than_there_is() {
    let mut scene = Scene::new("*.log");
    let desk = Arc::new(Desk::default());
    scene.settings.desk = Some(desk.clone());
    // More than is taken within the time that an answer is waited for.
    let text = numbered(0..150_000);
    for number in 0..8 {
        scene.append(&format!("{number}.log"), &text);
    }
    let (sender, mut receiver) = intake(Arc::default());
    let shutdown = Shutdown::new();
    let (settings, asked) = (scene.settings.clone(), shutdown.clone());
    let source = thread::spawn(move || run(settings, sender, &asked, Mode::Follow).unwrap());
    while receiver.messages.len() < INTAKE_CHUNKS_MAX {
        thread::yield_now();
    }
    let file = FileIdentity { device: 1, inode: 2, born: None };
    let asking = thread::spawn(move || desk.ask(desk::Ask::Forget(file)));
    while !asking.is_finished() {
        thread::sleep(Duration::from_millis(100));
        assert!(receiver.messages.try_recv().is_ok(), "there is always something");
    }
    assert_eq!(asking.join().unwrap(), desk::Answer::Done);
    shutdown.request();
    while receiver.messages.blocking_recv().is_some() {}
    source.join().unwrap();
}

#[test]
fn wrong_patterns_are_an_error() {
    let settings = FilesSettings::new(vec!["relative/*.log".to_owned()], String::new());
    let (sender, _receiver) = intake(Arc::default());
    let error = run(settings, sender, &Shutdown::new(), Mode::Once).unwrap_err();
    assert!(error.to_string().contains("relative/*.log"));
}

impl Scene {
    /// Of the numbered lines below `end`, every one came once and no other.
    fn assert_each_once(&self, end: u32) {
        let mut times = vec![0_u32; end as usize];
        for line in self.lines() {
            let number = line.strip_prefix("line number ").and_then(|n| n.parse::<usize>().ok());
            times[number.unwrap_or_else(|| panic!("{line}"))] += 1;
        }
        let lost = times.iter().filter(|times| **times == 0).count();
        let repeated = times.iter().filter(|times| **times > 1).count();
        assert_eq!((lost, repeated), (0, 0), "{:?}", self.controls());
    }

    /// One run until there are so many lines.
    fn start_and_wait(&self, lines: usize) {
        let running = self.start();
        self.wait(&format!("{lines} lines"), |scene| scene.lines().len() >= lines);
        running.stop();
    }
}

#[test]
fn patterns_that_match_nothing_are_counted_and_hold_nobody_up() {
    let mut scene = Scene::new("*.log");
    let other = scene.path("*.txt").to_str().unwrap().to_owned();
    scene.settings.patterns.push(other);
    assert_eq!(scene.once().unmatched, 2);
    let running = scene.start();
    scene.append("a.log", "one\n");
    scene.wait_for(&["one"]);
    // It says how it began, which may have been with the file.
    assert!((1..=2).contains(&running.stop().unmatched));
    let report = scene.once();
    assert_eq!((report.unmatched, report.refused), (1, 0));
}
