//! Real shell lines on this machine, into a real repository.

use std::time::Duration;

use super::*;
use crate::create::tests::Fixture;
use crate::database::Script;
use crate::reader::ChunkReader;
use crate::tree::TreeReader;

struct Scene {
    fixture: Fixture,
    runtime: tokio::runtime::Runtime,
    shutdown: Shutdown,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self { fixture: Fixture::new(), runtime, shutdown: Shutdown::new() }
    }

    fn dump_of(&self, words: &[&str], expect: Option<&str>) -> Result<Dumped, DumpError> {
        let door = Door::Here(Vec::new());
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let target = Target { words, ..Target::default() };
        let around = Surroundings { runtime: self.runtime.handle(), shutdown: &self.shutdown };
        let plan = plan(&door, None, &Evidence::default(), &target, expect, &around)?;
        assert!(plan.has_shell);
        self.make(&Origin::Door(Box::new(door), Box::new(plan)), 1 << 30)
    }

    fn make(&self, origin: &Origin, spool: u64) -> Result<Dumped, DumpError> {
        let around = Surroundings { runtime: self.runtime.handle(), shutdown: &self.shutdown };
        let options = DumpOptions {
            name: "shop".to_owned(),
            container: None,
            spool: SpoolLimits {
                memory: 100_000,
                file: spool,
                directory: self.fixture.test.temp.path().join("spool"),
            },
            unproved: false,
            stream: StreamOptions { level: 1, uploads: 1, time: jiff::Timestamp::now() },
        };
        dump(&self.fixture.test.repository, origin, &options, &Progress::new(), &around)
    }

    fn content(&self, dumped: &Dumped) -> Vec<u8> {
        let repository = &self.fixture.test.repository;
        let (index, _) = repository.index_for_writing().unwrap();
        let reader = ChunkReader::new(repository, &index).unwrap();
        let mut tree = TreeReader::new(&dumped.tree.tree, reader);
        let mut chunks = ChunkReader::new(repository, &index).unwrap();
        let mut bytes = Vec::new();
        while let Some(entry) = tree.next_entry().unwrap() {
            let crate::entry::Kind::File(content) = entry.kind else { continue };
            for extent in content.extents {
                let crate::entry::Extent::Chunk(id) = extent else { panic!("a hole") };
                bytes.extend_from_slice(chunks.chunk(&id).unwrap());
            }
        }
        bytes
    }

    fn commit(&self, dumped: &Dumped) -> Option<Snapshot> {
        let options = SnapshotOptions {
            name: "shop".to_owned(),
            tags: BTreeMap::new(),
            host: "host".to_owned(),
            provenance: Provenance::default(),
            allow_change: false,
            time: jiff::Timestamp::now(),
            begun: Instant::now(),
        };
        commit(&self.fixture.test.repository, dumped, &options).unwrap().map(|(_, made)| made)
    }
}

#[test]
fn output_of_any_length_is_stored_and_its_end_proved() {
    let scene = Scene::new();
    for length in ["1", "60", "100000", "5000000"] {
        let script = format!("head -c {length} /dev/zero; echo; echo the end; echo noise >&2");
        let dumped = scene.dump_of(&["sh", "-c", &script], None).unwrap();
        assert_eq!(dumped.failure, None);
        let proof = &dumped.stored.record.proof;
        assert_eq!((proof.exit_code, proof.marker), (Some(0), true));
        let content = scene.content(&dumped);
        assert_eq!(content.len(), length.parse::<usize>().unwrap() + 9);
        assert!(content.ends_with(b"\nthe end\n"));
        let snapshot = scene.commit(&dumped).unwrap();
        assert_eq!((snapshot.state, snapshot.version), (State::Complete, 2));
        assert_eq!(snapshot.sources[0].path, "/dump/shop");
    }
}

#[test]
fn what_fails_is_no_backup_and_says_why() {
    let scene = Scene::new();
    for (script, expect, reasons) in [
        ("echo rows; echo no space left >&2; exit 3", None, &["exit code 3", "no space left"][..]),
        ("echo rows; kill -KILL $$", None, &["signal 9"]),
        ("exit 0", None, &["empty"]),
        ("echo rows", Some("-- Dump completed"), &["-- Dump completed", "success"]),
        // The mark is there, but something that was left behind writes on.
        ("echo rows; (sleep 1; echo more) &", None, &["mark"]),
    ] {
        let dumped = scene.dump_of(&["sh", "-c", script], expect).unwrap();
        let (file, reason) = dumped.failure.clone().expect(script);
        assert_eq!(file, "output");
        for wanted in reasons {
            assert!(reason.contains(wanted), "{script}: {reason}");
        }
        let snapshot = scene.commit(&dumped);
        assert_eq!(snapshot.is_none(), script == "exit 0");
        assert!(snapshot.is_none_or(|snapshot| snapshot.state == State::Failed));
    }
    let missing = scene.dump_of(&["no-such-program-here"], None).unwrap();
    assert!(missing.failure.unwrap().1.contains("cannot be started"));
}

#[test]
fn a_spool_that_is_full_fails_the_dump_and_ends_its_program() {
    let scene = Scene::new();
    let door = Door::Here(Vec::new());
    let target =
        Target { words: ["sh", "-c", "exec yes"].map(str::to_owned).to_vec(), ..Target::default() };
    let around = Surroundings { runtime: scene.runtime.handle(), shutdown: &scene.shutdown };
    let plan = plan(&door, None, &Evidence::default(), &target, None, &around).unwrap();
    let dumped = scene.make(&Origin::Door(Box::new(door), Box::new(plan)), 200_000).unwrap();
    let (_, reason) = dumped.failure.unwrap();
    assert!(reason.contains("--spool-max"), "{reason}");
}

#[test]
fn programs_end_with_what_they_started_when_nobody_listens() {
    let scene = Scene::new();
    let place = scene.fixture.test.temp.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! >{0}; sh -c 'trap \"\" TERM; echo $$ >>{0}; while :; do sleep 1; done' & \
         echo $$ >>{0}; echo rows; wait",
        place.display()
    );
    let stop = scene.shutdown.clone();
    let pids = || -> Vec<String> {
        let text = std::fs::read_to_string(&place).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            until("the program has started", || pids().len() == 3);
            stop.request();
        });
        let outcome = scene.dump_of(&["sh", "-c", &script], None);
        assert!(matches!(outcome, Err(DumpError::Create(CreateError::Interrupted))), "{outcome:?}");
    });
    let is_alive = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    until("all of them have ended", || !pids().iter().any(is_alive));
}

/// Waits for a condition that another process brings about.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    const ATTEMPTS: u32 = 600;
    for _ in 0..ATTEMPTS {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("in vain: {what}");
}

#[test]
fn a_secret_reaches_the_script_by_standard_input_only() {
    let scene = Scene::new();
    let script = Script {
        secret: Some(chores_common::secret::Secret::new("hunter2".to_owned())),
        ..Script::new("run() { [ \"$secret\" = hunter2 ] && tr '\\0' ' ' </proc/$$/cmdline; }")
    };
    let door = Door::Here(Vec::new());
    let (ended, text) = door.ask(scene.runtime.handle(), &scene.shutdown, &script).unwrap();
    assert_eq!(ended.failure(), None);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("chores-dump") && !text.contains("hunter2\n"), "{text}");
}

#[test]
fn secrets_come_from_variables_or_files_and_unreadable_ones_are_named() {
    let scene = Scene::new();
    let file = scene.fixture.test.temp.path().join("secret");
    std::fs::write(&file, "from a file\n").unwrap();
    let path = file.display().to_string();
    let ask = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| {
            let value = chores_common::secret::Secret::new((*value).to_owned());
            ((*name).to_owned(), value)
        });
        let door = Door::Here(variables.collect());
        let script = Script::new("run() { from SHOP_PASSWORD; printf '%s' \"<$value>\"; }");
        door.ask(scene.runtime.handle(), &scene.shutdown, &script).unwrap()
    };
    assert_eq!(ask(&[]).1, b"<>");
    assert_eq!(ask(&[("SHOP_PASSWORD", "direct $x 'y'")]).1, b"<direct $x 'y'>");
    assert_eq!(ask(&[("SHOP_PASSWORD_FILE", &path)]).1, b"<from a file>");
    let (ended, _) = ask(&[("SHOP_PASSWORD_FILE", "/no/such/secret")]);
    let reason = ended.failure().unwrap();
    assert!(
        reason.contains("/no/such/secret") && reason.contains("SHOP_PASSWORD_FILE"),
        "{reason}"
    );
}

#[test]
fn what_nothing_proves_is_no_backup_unless_that_is_wanted() {
    let file = |bytes| DumpFile {
        name: "output".to_owned(),
        role: DumpRole::Output,
        database: None,
        bytes,
    };
    let ended = |is_marked| Ended {
        exit_code: Some(0),
        is_marked,
        has_shell: is_marked,
        complaint: String::new(),
        error: None,
    };
    for (is_marked, found, is_expected, is_optional, taken, warned) in [
        (true, None, false, false, true, false),
        (false, None, false, false, false, false),
        (false, None, false, true, true, true),
        (false, Some("text"), true, false, true, false),
        // A format of an unknown version.
        (true, None, true, false, true, true),
    ] {
        let (mut made, ended) = (Made::default(), ended(is_marked));
        let end = End { found: Ok(found), is_expected, is_optional };
        assert_eq!(end.is_whole(&ended), taken);
        assert_eq!(made.add(file(5), &ended, &end), taken, "{:?}", made.failure);
        assert_eq!(made.warnings.len(), usize::from(warned));
        assert_eq!(made.proof.trailer.as_deref(), found);
        assert!(taken || made.failure.unwrap().1.contains("--unproved"));
    }
}

#[test]
fn a_program_that_says_nothing_is_ended_when_nobody_takes_its_bytes() {
    let scene = Scene::new();
    let (door, abandoned) = (Door::Here(Vec::new()), Shutdown::new());
    let script = Script::new("run() { sleep 1000; }");
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let handle = scene.runtime.handle();
            door.run(handle, &scene.shutdown, &abandoned, &script, true, &mut |_| Ok(()))
        });
        abandoned.request();
        let outcome = run.join().unwrap();
        assert!(matches!(outcome, Err(DoorError::Spool(SpoolError::Abandoned))), "{outcome:?}");
    });
}

#[test]
fn keys_of_the_store_do_not_reach_programs() {
    let scene = Scene::new();
    let door = Door::Here(vec![(
        "dump_host".to_owned(),
        chores_common::secret::Secret::new("db".to_owned()),
    )]);
    let script = Script::new("run() { env; }");
    let (_, text) = door.ask(scene.runtime.handle(), &scene.shutdown, &script).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("dump_host=db") && text.contains("PATH="), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("AWS_") || line.starts_with("BACKUP_")));
}

#[test]
fn a_database_that_lost_more_than_half_is_suspicious_until_that_is_meant_to_be() {
    let scene = Scene::new();
    let made = |length: u32| {
        let script = format!("head -c {length} /dev/zero; echo; echo the end");
        let dumped = scene.dump_of(&["sh", "-c", &script], None).unwrap();
        // The store tells moments apart by what is in them.
        thread::sleep(std::time::Duration::from_millis(2));
        scene.commit(&dumped).unwrap()
    };
    assert!(!made(4_000_000).suspicious);
    assert!(!made(2_500_000).suspicious);
    let emptied = made(100_000);
    assert_eq!((emptied.suspicious, emptied.state), (true, State::Warnings));
    assert!(emptied.warnings[0].contains("/dump/shop"), "{:?}", emptied.warnings);
    assert!(made(100_000).suspicious, "as long as it is so");
    assert!(!made(1_300_000).suspicious);
}
