use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::cursor::Cursor;
use crate::cursor::api::Seen;
use crate::intake::{IntakeReceiver, Message, Sources, intake};
use crate::record::{Control, Stream};
use crate::source::{Origin, Parse, SourceKey};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The directory of an engine, written by hand, and what was read of it.
struct Rig {
    directory: tempfile::TempDir,
    second: u32,
    /// What the log would recover.
    cursor: Option<Cursor>,
    is_ended: bool,
}

impl Rig {
    fn new() -> Self {
        let rig = Self {
            directory: tempfile::tempdir().unwrap(),
            second: 0,
            cursor: None,
            is_ended: false,
        };
        fs::create_dir(rig.container()).unwrap();
        let config = format!(
            r#"{{"ID":"{ID}","Name":"/web","Config":{{"Image":"i"}},"State":{{"Running":true}}}}"#
        );
        fs::write(rig.container().join("config.v2.json"), config).unwrap();
        let host_config = r#"{"LogConfig":{"Type":"json-file"}}"#;
        fs::write(rig.container().join("hostconfig.json"), host_config).unwrap();
        rig
    }

    fn container(&self) -> PathBuf {
        self.directory.path().join(ID)
    }

    fn log(&self, age: usize) -> PathBuf {
        let suffix = if age == 0 { String::new() } else { format!(".{age}") };
        self.container().join(format!("{ID}-json.log{suffix}"))
    }

    fn append(&self, bytes: &[u8]) {
        let mut file = fs::File::options().create(true).append(true).open(self.log(0)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn write(&mut self, lines: &[&str]) {
        for line in lines {
            self.second += 1;
            let time = format!("1970-01-01T00:{:02}:{:02}Z", self.second / 60, self.second % 60);
            let line = format!(r#"{{"log":"{line}\n","stream":"stdout","time":"{time}"}}"#);
            self.append(format!("{line}\n").as_bytes());
        }
    }

    /// As the engine does with `max-file`: the oldest goes, the others age.
    fn rotate(&self, max_file: usize) {
        for age in (0..max_file - 1).rev() {
            if self.log(age).exists() {
                fs::rename(self.log(age), self.log(age + 1)).unwrap();
            }
        }
    }

    fn compress(&self, age: usize) {
        let mut path = self.log(age).into_os_string();
        path.push(".gz");
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&fs::read(self.log(age)).unwrap()).unwrap();
        fs::write(path, gz.finish().unwrap()).unwrap();
        fs::remove_file(self.log(age)).unwrap();
    }

    fn plans() -> Plans {
        Arc::new(|container| {
            let origin = Origin::Engine {
                id: container.id.clone(),
                container: container.name.clone(),
                image: container.image_ref.clone(),
                project: None,
                service: None,
            };
            let meta = SourceMeta {
                key: SourceKey(format!("engine:{}", container.id)),
                origin,
                host: "host".to_owned(),
                fields: BTreeMap::new(),
                sinks: None,
                parse: Parse::None,
            };
            Some(ContainerPlan { meta, process: Arc::default() })
        })
    }

    fn intake(&self) -> (Intake, IntakeReceiver) {
        let sources = Arc::new(Sources::default());
        if let Some(cursor) = &self.cursor {
            let container =
                Container { id: ID.to_owned(), name: "web".to_owned(), ..Container::default() };
            let meta = Self::plans()(&container).unwrap().meta;
            sources.restore(crate::source::SourceId(7), meta, Some(cursor.clone()));
        }
        intake(sources)
    }

    fn take(&mut self, message: Message, shown: &mut Vec<String>) {
        match message {
            Message::Chunk(chunk) => {
                for record in chunk.block.records() {
                    shown.push(String::from_utf8_lossy(record.line).into_owned());
                }
                // As it would come back from the log.
                let json = serde_json::to_string(&chunk.cursor).unwrap();
                self.cursor = Some(serde_json::from_str(&json).unwrap());
            }
            Message::End(_) => self.is_ended = true,
        }
    }

    /// A process that reads what there is.
    fn once(&mut self) -> Vec<String> {
        self.once_with(None)
    }

    fn once_with(&mut self, pin: Option<PathBuf>) -> Vec<String> {
        let (intake, mut receiver) = self.intake();
        let directory = self.directory.path().to_owned();
        let reading = std::thread::spawn(move || {
            let (stop, table) = (Shutdown::new(), Arc::default());
            run(directory, pin, Self::plans(), intake, &stop, Mode::Once, &table).unwrap();
        });
        let mut shown = Vec::new();
        while let Some(message) = receiver.messages.blocking_recv() {
            self.take(message, &mut shown);
        }
        reading.join().unwrap();
        shown
    }

    /// A process that follows while `act` plays, until it has shown as many records as `wanted`.
    fn follow(&mut self, wanted: usize, act: impl FnOnce(&mut Self, &mut Followed)) -> Vec<String> {
        let (intake, receiver) = self.intake();
        let directory = self.directory.path().to_owned();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let reading = std::thread::spawn(move || {
            let table = Arc::default();
            run(directory, None, Self::plans(), intake, &stop, Mode::Follow, &table).unwrap();
        });
        let mut followed = Followed { receiver, shown: Vec::new() };
        act(self, &mut followed);
        followed.wait(self, wanted);
        shutdown.request();
        while let Some(message) = followed.receiver.messages.blocking_recv() {
            self.take(message, &mut followed.shown);
        }
        reading.join().unwrap();
        followed.shown
    }
}

struct Followed {
    receiver: IntakeReceiver,
    shown: Vec<String>,
}

impl Followed {
    fn wait(&mut self, rig: &mut Rig, wanted: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.shown.len() < wanted {
            match self.receiver.messages.try_recv() {
                Ok(message) => rig.take(message, &mut self.shown),
                Err(_) => {
                    assert!(Instant::now() < deadline, "{:?}", self.shown);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

const STARTED: &str = r#"{"control":"started"}"#;
const STOPPED: &str = r#"{"control":"stopped"}"#;

#[test]
fn a_restart_neither_loses_nor_repeats() {
    let mut rig = Rig::new();
    assert!(rig.once().is_empty());
    rig.write(&["a", "b"]);
    assert_eq!(rig.once(), [STARTED, "a", "b"]);
    assert!(rig.once().is_empty());
    rig.write(&["c"]);
    rig.append(br#"{"log":"half"#);
    assert_eq!(rig.once(), ["c"]);
    rig.append(br#" a line\n","stream":"stderr","time":"1970-01-01T00:01:00Z"}"#);
    rig.append(b"\n");
    assert_eq!(rig.once(), ["half a line"]);
}

#[test]
fn rotated_and_compressed_files_are_read_in_order_after_a_restart() {
    let mut rig = Rig::new();
    rig.write(&["a", "b"]);
    assert_eq!(rig.once(), [STARTED, "a", "b"]);
    rig.write(&["c"]);
    rig.rotate(5);
    rig.write(&["d"]);
    rig.rotate(5);
    rig.write(&["e"]);
    rig.compress(2);
    rig.compress(1);
    assert_eq!(rig.once(), ["c", "d", "e"]);
    rig.rotate(5);
    assert!(rig.once().is_empty());
    rig.write(&["f"]);
    assert_eq!(rig.once(), ["f"]);
}

#[test]
fn what_was_rotated_away_while_nobody_read_is_a_gap() {
    let mut rig = Rig::new();
    rig.write(&["a"]);
    rig.once();
    for line in ["b", "c", "d"] {
        rig.rotate(2);
        rig.write(&[line]);
    }
    let gap =
        r#"{"control":"gap","reason":"rotated","from":1000000000,"to":3000000000,"exact":true}"#;
    assert_eq!(rig.once(), [gap, "c", "d"]);
    assert!(rig.once().is_empty());
}

#[test]
fn what_is_not_readable_is_a_gap_of_so_many_bytes() {
    let mut rig = Rig::new();
    rig.write(&["a"]);
    rig.append(&[0; 100]);
    rig.write(&["b"]);
    rig.append(b"garbage\n");
    rig.write(&["c"]);
    let gap = |from: u8, to: u8, bytes: u8| {
        format!(
            r#"{{"control":"gap","reason":"corrupt","from":{from}000000000,"to":{to}000000000,"bytes":{bytes},"exact":true}}"#
        )
    };
    assert_eq!(rig.once(), [STARTED, "a", &gap(1, 2, 100), "b", &gap(2, 3, 8), "c"]);
}

#[test]
fn files_are_followed_through_rotations_and_to_the_removal_of_the_container() {
    let mut rig = Rig::new();
    let shown = rig.follow(9, |rig, followed| {
        rig.write(&["a"]);
        followed.wait(rig, 2);
        for line in ["b", "c", "d", "e", "f", "g"] {
            rig.rotate(2);
            rig.write(&[line]);
            // Each is opened before the engine deletes it.
            let count = followed.shown.len() + 1;
            followed.wait(rig, count);
        }
        fs::remove_dir_all(rig.container()).unwrap();
    });
    assert_eq!(shown, [STARTED, "a", "b", "c", "d", "e", "f", "g", STOPPED]);
    assert!(rig.is_ended);
}

#[test]
fn an_engine_that_keeps_one_file_cuts_it_and_that_is_told() {
    let mut rig = Rig::new();
    let shown = rig.follow(5, |rig, followed| {
        rig.write(&["a", "b"]);
        followed.wait(rig, 3);
        fs::write(rig.log(0), b"").unwrap();
        rig.write(&["c, which is longer than the others together, so that the file is no shorter"]);
    });
    let gap =
        r#"{"control":"gap","reason":"truncated","from":2000000000,"to":3000000000,"exact":true}"#;
    assert_eq!(shown[..4], [STARTED, "a", "b", gap]);
    assert!(rig.once().is_empty());
}

#[test]
fn a_line_in_pieces_over_two_files_is_one_line_and_a_restart_within_it_changes_nothing() {
    let piece = |text: &str| {
        format!(r#"{{"log":"{text}","stream":"stdout","time":"1970-01-01T00:00:01Z"}}"#) + "\n"
    };
    let mut rig = Rig::new();
    rig.append(piece("one ").as_bytes());
    assert_eq!(rig.follow(1, |_, _| {}), [STARTED]);
    rig.rotate(3);
    rig.append(piece("two ").as_bytes());
    rig.append(piece(r"three\n").as_bytes());
    assert_eq!(rig.once(), ["one two three"]);
    assert!(rig.once().is_empty());
}

#[test]
fn a_container_that_is_known_from_before_and_grows_no_more_ends_without_repeating() {
    let mut rig = Rig::new();
    rig.write(&["a"]);
    rig.once();
    let shown = rig.follow(1, |rig, followed| {
        // The opener has it when the container goes.
        rig.write(&["b"]);
        followed.wait(rig, 1);
        fs::remove_dir_all(rig.container()).unwrap();
        followed.wait(rig, 2);
    });
    assert_eq!(shown, ["b", STOPPED]);
    let Some(Cursor::Direct(cursor)) = &rig.cursor else { panic!("{:?}", rig.cursor) };
    assert_eq!(cursor.last[0].stream, Stream::Stdout);
    assert!(cursor.at.offset > 0);
    assert_eq!(serde_json::from_str::<Control>(STOPPED).unwrap(), Control::Stopped);
}

#[test]
fn what_the_engine_deleted_while_nobody_read_is_read_by_its_link_and_let_go_then() {
    let links = tempfile::tempdir().unwrap();
    let pin = || Some(links.path().to_owned());
    let count = || fs::read_dir(links.path()).unwrap().count();
    let mut rig = Rig::new();
    rig.write(&["a"]);
    assert_eq!(rig.once_with(pin()), [STARTED, "a"]);
    rig.write(&["b"]);
    for line in ["c", "d"] {
        rig.rotate(2);
        rig.write(&[line]);
    }
    assert_eq!(rig.once_with(pin()), ["b", "c", "d"]);
    assert_eq!(count(), 3);
    let (intake, _receiver) = rig.intake();
    let mut pins = Pins::new(links.path().to_owned(), intake.sources().clone()).unwrap();
    let formats = std::collections::HashMap::from([(ID.to_owned(), entry::Format::JsonFile)]);
    pins.release(&formats);
    assert_eq!(count(), 3);
    pins.release(&formats);
    assert_eq!(count(), 1);
    assert!(rig.once_with(pin()).is_empty());
}

#[test]
fn a_last_line_without_an_end_is_shipped_by_a_process_that_reads_once() {
    let mut rig = Rig::new();
    rig.write(&["a"]);
    rig.append(br#"{"log":"no end","stream":"stdout","time":"1970-01-01T00:00:09Z"}"#);
    rig.append(b"\n");
    assert_eq!(rig.once(), [STARTED, "a", "no end"]);
    assert!(rig.once().is_empty());
}

#[test]
fn what_the_api_took_beyond_its_place_is_not_read_again() {
    let mut rig = Rig::new();
    rig.write(&["a", "left out", "b", "c"]);
    let run = |second: i64, text: &str| crate::cursor::api::Run {
        seen: Seen::of(Stream::Stdout, second * 1_000_000_000, text.as_bytes()),
        count: 1,
    };
    let cursor = crate::cursor::ApiCursor {
        recent: [run(1, "a\n")].into(),
        ahead: [run(3, "b\n")].into(),
        ..Default::default()
    };
    rig.cursor = Some(Cursor::Api(Box::new(cursor)));
    assert_eq!(rig.once(), ["left out", "c"]);
}

#[test]
fn the_last_line_of_a_cursor_is_before_its_place() {
    let mut rig = Rig::new();
    rig.write(&["a"]);
    rig.append(br#"{"log":"open","stream":"stderr","time":"1970-01-01T00:00:09Z"}"#);
    rig.append(b"\n");
    rig.follow(2, |_, _| {});
    let Some(Cursor::Direct(cursor)) = &rig.cursor else { panic!("{:?}", rig.cursor) };
    let times: Vec<_> = cursor.last.iter().map(|line| line.ts).collect();
    assert_eq!(times, [1_000_000_000]);
}
