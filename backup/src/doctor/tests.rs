use std::fs;

use chores_common::engine::EngineVersion;
use chores_common::object::{Act, ErrorKind, ObjectError, ObjectStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::decide::{self, CacheAnswer, LockLook};
use super::*;
use crate::mounts;
use crate::repository::Repository;
use crate::store::Store;

struct Patient {
    directory: TempDir,
    runtime: Runtime,
    settings: S3Settings,
}

impl Patient {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("repo")).unwrap();
        Self { directory, runtime: Runtime::new().unwrap(), settings: S3Settings::default() }
    }

    fn location(&self) -> Location {
        Location::Directory(self.directory.path().join("repo"))
    }

    fn init(&self) {
        let objects = ObjectStore::open(&self.location(), &self.settings).unwrap();
        let store = Store::new(objects, self.runtime.handle().clone(), Shutdown::new());
        Repository::init(store, jiff::Timestamp::UNIX_EPOCH).unwrap();
    }

    /// Whether all is well, and the text.
    fn examine(&self, json: bool) -> (bool, String) {
        let cache = self.directory.path().join("cache/deep");
        let options = DoctorOptions {
            location: Some(&self.location()),
            settings: &self.settings,
            remote: &RemoteSettings::default(),
            keys: &KeyRing::default(),
            engine_host: Some("/nonexistent/engine.sock"),
            worker_image: None,
            drilled: &[],
            cache: Some(&cache),
            json,
            shutdown: &Shutdown::new(),
        };
        let mut out = Vec::new();
        let well = doctor(&options, self.runtime.handle(), &mut out).unwrap();
        (well, String::from_utf8(out).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path().join("repo")).unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_repository_that_works_is_well_and_nothing_is_left_behind() {
    let patient = Patient::new();
    patient.init();
    let (well, text) = patient.examine(false);
    assert!(well, "{text}");
    for line in ["ok    repository", "ok    store", "ok    clock", "note  engine", "open files"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(patient.names(), ["repo.json"]);
    assert!(!patient.directory.path().join("cache").exists());
}

#[test]
fn a_place_without_repository_is_not_well_and_stays_as_it_was() {
    let patient = Patient::new();
    let (well, text) = patient.examine(false);
    assert!(!well && text.contains("backup init"), "{text}");
    assert!(patient.names().is_empty());

    fs::remove_dir(patient.directory.path().join("repo")).unwrap();
    let (well, text) = patient.examine(false);
    assert!(!well && text.contains("backup init"), "{text}");
    assert!(!patient.directory.path().join("repo").exists());
}

#[test]
fn a_damaged_format_document_is_not_well() {
    let patient = Patient::new();
    fs::write(patient.directory.path().join("repo/repo.json"), "{}").unwrap();
    let (well, text) = patient.examine(false);
    assert!(!well && text.contains("fail  repository"), "{text}");
}

#[test]
fn machines_get_one_line_for_each_finding_and_a_summary() {
    let patient = Patient::new();
    patient.init();
    let (well, text) = patient.examine(true);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, findings) = lines.split_last().unwrap();
    assert_eq!((&summary["event"], &summary["ok"]), (&"summary".into(), &well.into()));
    assert!(findings.len() > 5);
    for finding in findings {
        assert_eq!(finding["event"], "finding");
        assert!(finding["name"].is_string() && finding["found"].is_string(), "{finding}");
        assert!(["ok", "note", "warn", "fail"].contains(&finding["status"].as_str().unwrap()));
    }
}

#[test]
fn capabilities_are_read_from_the_status_text() {
    let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t00000000a80425fb\n";
    let docker_default = decide::effective_capabilities(status).unwrap();
    assert_eq!(docker_default, 0xa804_25fb);
    assert_eq!(decide::capabilities_for_backup(docker_default).status, Status::Ok);
    assert_eq!(decide::capabilities_for_restore(docker_default).status, Status::Ok);

    assert_eq!(decide::capabilities_for_backup(1 << 2).status, Status::Ok);
    assert_eq!(decide::capabilities_for_backup(1 << 1).status, Status::Ok);
    let none = decide::capabilities_for_backup(0);
    assert_eq!(none.status, Status::Warn);
    assert!(none.found.contains("DAC_READ_SEARCH"));
    let some = decide::capabilities_for_restore(1 | 1 << 3 | 1 << 27);
    assert_eq!(some.found, "missing: DAC_OVERRIDE, SETFCAP");

    for text in ["", "CapEff:\tzz", "CapEff:", "Name:\tCapEff"] {
        assert_eq!(decide::effective_capabilities(text), None, "{text}");
    }
}

#[test]
fn a_clock_is_fine_within_a_minute_either_way() {
    for (store, own, status) in [
        (1000, 1000, Status::Ok),
        (1000, 1060, Status::Ok),
        (1060, 1000, Status::Ok),
        (1000, 1061, Status::Warn),
        (u64::MAX, 0, Status::Warn),
    ] {
        assert_eq!(decide::clock(store, own).status, status, "{store} {own}");
    }
    assert!(decide::clock(1000, 2000).found.contains("ahead"));
    assert!(decide::clock(2000, 1000).found.contains("behind"));
}

#[test]
fn a_cache_that_dies_with_its_container_is_warned_of() {
    let container = b"1 0 0:50 / / rw - overlay overlay rw\n\
        2 1 8:1 /volumes/c/_data /cache rw - ext4 /dev/sda1 rw\n\
        3 1 0:51 / /tmp rw - tmpfs tmpfs rw\n";
    let status = |path: &str, writable| {
        let answer = CacheAnswer {
            writable,
            path: path.as_bytes().to_vec(),
            mounts: mounts::parse(container),
        };
        decide::cache(&answer).status
    };
    assert_eq!(status("cache", true), Status::Ok);
    assert_eq!(status("cache/backup", true), Status::Ok);
    assert_eq!(status("cached", true), Status::Warn);
    assert_eq!(status("root/.cache/backup", true), Status::Warn);
    assert_eq!(status("tmp/cache", true), Status::Warn);
    assert_eq!(status("cache", false), Status::Warn);
}

#[test]
fn no_engine_is_only_a_note_and_no_worker_image_a_warning() {
    assert_eq!(decide::no_engine("it is not there").status, Status::Note);
    let version = EngineVersion { engine: "20.10.24".to_owned(), api: "1.41".to_owned() };
    let answer = decide::engine(Ok(version), "/run/engine.sock");
    assert_eq!(answer.found, "/run/engine.sock answers, version 20.10.24, API 1.41");
    assert_eq!(decide::worker_image(Ok(true), "backup:1").status, Status::Ok);
    assert_eq!(decide::worker_image(Ok(false), "backup:1").status, Status::Warn);
}

#[test]
fn locks_that_are_missing_fail_and_locks_that_are_over_are_warned_of() {
    let lock: crate::lock::Lock = "30d".parse().unwrap();
    let of = |look| decide::locks(lock, Ok(look));
    let look = LockLook { bucket: Some(true), ..LockLook::default() };
    assert_eq!(of(look).status, Status::Ok);
    assert_eq!(of(LockLook { bucket: None, ..look }).status, Status::Ok);
    assert_eq!(of(LockLook { bucket: Some(false), ..look }).status, Status::Fail);
    assert_eq!(of(LockLook { looked_at: 3, locked: 2, ..look }).status, Status::Fail);
    assert_eq!(of(LockLook { is_over: true, ..look }).status, Status::Warn);
    let well = of(LockLook { looked_at: 3, locked: 3, ..look });
    assert_eq!(well.status, Status::Ok);
    assert!(well.found.contains("30d=compliance") && well.found.contains("2 of its packs"));
}

#[test]
fn what_a_store_makes_of_conditions_is_only_a_note() {
    let location = Location::parse("s3://bucket").unwrap();
    let refused = || ObjectError::denied(Act::Write, "doctor/a", &location, "not allowed");
    for outcome in [Ok(true), Ok(false), Err(refused())] {
        assert_eq!(decide::conditional_writes(outcome).status, Status::Note);
    }
    // Who may not write there says nothing about conditions.
    let found = decide::conditional_writes(Err(refused())).found;
    assert!(found.contains("is not known") && found.contains("not allowed"), "{found}");
}

#[test]
fn a_store_without_conditional_writes_is_told_what_that_means() {
    let advice = decide::advice_for_store(ErrorKind::Unconditional);
    assert!(advice.contains("conditional writes") && advice.contains("backup init"), "{advice}");
    assert_ne!(advice, decide::advice_for_store(ErrorKind::Invalid));
}

#[test]
fn drills_without_the_private_key_are_warned_of() {
    let shop = ["shop".to_owned()];
    assert_eq!(decide::private_key(true, &shop).status, Status::Ok);
    assert_eq!(decide::private_key(false, &[]).status, Status::Note);
    let warned = decide::private_key(false, &shop);
    assert_eq!(warned.status, Status::Warn);
    assert!(
        warned.found.contains("drills of shop") && warned.advice.unwrap().contains("--identity")
    );
}

#[test]
fn little_space_and_few_files_are_warned_of() {
    assert_eq!(decide::free_space(u64::MAX).status, Status::Ok);
    assert_eq!(decide::free_space(1 << 30).status, Status::Warn);
    assert_eq!(decide::open_files(None).status, Status::Ok);
    assert_eq!(decide::open_files(Some(1024)).status, Status::Ok);
    assert_eq!(decide::open_files(Some(256)).status, Status::Warn);
    assert_eq!(decide::openat2(false).status, Status::Note);
}

#[test]
fn a_short_stop_timeout_and_a_missing_guard_are_warned_of() {
    assert_eq!(decide::grace(Some(10)).status, Status::Warn);
    assert_eq!(decide::grace(Some(60)).status, Status::Ok);
    assert_eq!(decide::grace(None).status, Status::Ok);
    assert_eq!(decide::guard(None).status, Status::Ok);
    assert_eq!(
        decide::guard(Some("the socket lies in this container".to_owned())).status,
        Status::Warn
    );
}
