use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use super::super::opener::Opener;
use super::super::{ContainerPlan, Plans};
use super::*;
use crate::intake::{Message, Sources, intake};
use crate::source::{Origin, Parse, SourceKey, SourceMeta};

#[test]
fn the_silent_are_looked_at_together_and_none_later_than_its_pause() {
    let began = Instant::now();
    let step = QUIET_PAUSE_MAX;
    let at = |millis: u64| began + Duration::from_millis(millis);
    for (now, expected) in [(0, 100), (1, 100), (99, 100), (100, 200), (150, 200), (1234, 1300)] {
        let due = together(began, at(now) + step, step);
        assert_eq!(due, at(expected), "{now}");
        assert!(due > at(now) && due <= at(now) + step);
    }
    assert_eq!(together(began, at(70), Duration::ZERO), at(70));
}

/// A directory of the engine with one container.
struct Engine {
    directory: tempfile::TempDir,
    opener: Opener,
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Engine {
    fn new(mailbox: Arc<Mailbox>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let container = directory.path().join(ID);
        fs::create_dir(&container).unwrap();
        let config = format!(r#"{{"ID":"{ID}","Name":"/web","State":{{"Running":true}}}}"#);
        fs::write(container.join("config.v2.json"), config).unwrap();
        let host_config = r#"{"LogConfig":{"Type":"json-file"}}"#;
        fs::write(container.join("hostconfig.json"), host_config).unwrap();
        let plans: Plans = Arc::new(|container| {
            let meta = SourceMeta {
                key: SourceKey(format!("engine:{}", container.id)),
                origin: Origin::File { path: "web".to_owned(), volume: None, inode: 1 },
                host: "host".to_owned(),
                fields: BTreeMap::new(),
                sinks: None,
                parse: Parse::None,
            };
            Some(ContainerPlan { meta, process: Arc::default() })
        });
        let place = directory.path().to_owned();
        let opener = Opener::new(place, plans, mailbox, Arc::default(), None).unwrap();
        Self { directory, opener }
    }

    fn log(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(ID).join(format!("{ID}-json.log{suffix}"))
    }

    fn write(&self, line: &str) {
        let line = format!("{{\"log\":\"{line}\\n\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n");
        let mut file = File::options().create(true).append(true).open(self.log("")).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Waits until something is so.
fn until(reader: &mut Reader, is_so: &mut dyn FnMut(&mut Reader) -> bool) {
    let begun = Instant::now();
    while !is_so(reader) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{reader:?}");
        std::thread::sleep(SLEEP_MIN);
    }
}

const TIME: &str = "2026-11-24T10:20:30.5Z";

#[test]
fn a_silent_container_is_left_to_the_kernel_until_it_writes_or_is_rotated() {
    let mailbox = Arc::new(Mailbox::default());
    let mut engine = Engine::new(mailbox.clone());
    engine.write("a");
    let (intake, mut receiver) = intake(Arc::new(Sources::default()));
    let mut reader = Reader::new(mailbox.clone(), intake);
    let mut lines = Vec::new();
    let mut look = |reader: &mut Reader| {
        for (id, letter) in mailbox.take(Duration::ZERO).0 {
            reader.open(&id, letter);
        }
        reader.listen();
        reader.turns(&Shutdown::new()).unwrap();
        while let Ok(Message::Chunk(chunk)) = receiver.messages.try_recv() {
            let said = chunk.block.records().filter(|record| !record.flags.is_control());
            lines.extend(said.map(|record| String::from_utf8_lossy(record.line).into_owned()));
        }
        lines.clone()
    };
    engine.opener.reconcile();
    until(&mut reader, &mut |reader| look(reader) == ["a"]);
    // Silent: the kernel is asked to tell, and it is looked at rarely.
    until(&mut reader, &mut |reader| {
        look(reader);
        reader.follows[ID].due > Instant::now() + QUIET_PAUSE_MAX
    });
    assert_eq!(reader.watched.len(), 1);
    engine.write("b");
    reader.listen();
    assert!(reader.watched.is_empty() && reader.follows[ID].due <= Instant::now());
    assert_eq!(look(&mut reader), ["a", "b"]);
    // A rotation ends it too: what follows is in another file.
    until(&mut reader, &mut |reader| {
        look(reader);
        reader.watched.len() == 1
    });
    fs::rename(engine.log(""), engine.log(".1")).unwrap();
    engine.write("c");
    engine.opener.reconcile();
    until(&mut reader, &mut |reader| look(reader) == ["a", "b", "c"]);
    assert!(reader.watched.is_empty());
}
