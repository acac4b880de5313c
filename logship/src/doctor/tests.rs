use std::collections::BTreeMap;

use chores_common::engine::{Container, LogConfig};

use super::decide::{
    Growth, Retention, container, engine_logs, files, is_unlimited, rotation, shown, state,
};
use super::*;
use crate::followed::Way;
use crate::rotate::decide::Held;

fn with(driver: &str, options: &[(&str, &str)]) -> Container {
    let options: BTreeMap<String, String> =
        options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let path = Some("/srv/docker/containers/4f3c/4f3c-json.log".into());
    let log = LogConfig { driver: driver.to_owned(), options, path };
    Container { name: "web".to_owned(), log, ..Container::default() }
}

#[test]
fn what_the_engine_keeps_is_counted_as_it_counts() {
    let of = |driver, options| Retention::of(&with(driver, options).log);
    let kept = |size, files| Some(Retention { size, files });
    assert_eq!(of("json-file", &[]), kept(None, 1));
    assert_eq!(of("json-file", &[("max-size", "-1")]), kept(None, 1));
    assert_eq!(of("json-file", &[("max-size", "10m"), ("max-file", "3")]), kept(Some(10 << 20), 3));
    assert_eq!(of("json-file", &[("max-size", "1gb")]), kept(Some(1 << 30), 1));
    assert_eq!(of("json-file", &[("max-size", "500")]), kept(Some(500), 1));
    assert_eq!(of("local", &[]), kept(Some(20 << 20), 5));
    assert_eq!(of("journald", &[]), None);
    let texts = [500, 10 << 20, (10 << 20) + (1 << 19)].map(shown);
    assert_eq!(texts, ["500 B", "10 MiB", "10.5 MiB"]);
}

#[test]
fn containers_that_can_lose_lines_or_fill_a_disk_are_told_with_what_to_do() {
    let small = [("max-size", "10m"), ("max-file", "3")];
    for (driver, options, way, status, part) in [
        (
            "json-file",
            &small[..],
            Way::Direct,
            Status::Ok,
            "direct, driver json-file, keeps 3 × 10 MiB",
        ),
        ("local", &[], Way::Direct, Status::Ok, "direct, driver local, keeps 5 × 20 MiB"),
        ("json-file", &[], Way::Direct, Status::Warn, "until the disk is full"),
        ("json-file", &small[..1], Way::Direct, Status::Warn, "cuts the only file"),
        (
            "json-file",
            &small[..],
            Way::Api,
            Status::Warn,
            "1 s of writing at 144000 lines a second",
        ),
        ("json-file", &[("max-size", "1g")], Way::Api, Status::Note, "API, driver json-file"),
        ("journald", &[], Way::Api, Status::Ok, "keeps what its driver keeps"),
        ("none", &[], Way::Api, Status::Warn, "keeps nothing"),
    ] {
        let finding = container(&with(driver, options), way, None, None);
        assert_eq!(finding.status, status, "{finding:?}");
        assert!(finding.found.contains(part), "{finding:?}");
        assert_eq!(finding.advice.is_some(), status > Status::Ok, "{finding:?}");
    }
    let advice = container(&with("json-file", &small), Way::Api, None, None).advice.unwrap();
    assert!(advice.contains("-v /srv/docker/containers:/srv/docker/containers:ro"), "{advice}");
}

#[test]
fn the_directory_of_containers_and_the_state_directory_are_judged() {
    let directory = Path::new("/d");
    assert_eq!(files(None, &Ok(0)).status, Status::Note);
    assert_eq!(files(Some(directory), &Ok(3)).found, "/d has 3 containers");
    assert_eq!(files(Some(directory), &Err("denied".to_owned())).status, Status::Warn);
    assert_eq!(state(directory, 1 << 30, 1 << 20).status, Status::Ok);
    assert_eq!(state(directory, 1 << 20, 1 << 30).status, Status::Warn);
}

#[test]
fn findings_are_lines_of_text_or_json_and_the_worst_counts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        host: Some("unix:///nowhere/docker.sock".to_owned()),
        files: Some(directory.path().join("missing")),
        ..EngineSettings::default()
    };
    let look = |state: Option<&Path>, json: bool| {
        let options =
            DoctorOptions { engine: Some(&settings), files: &[], state, wal_bytes_max: 1, json };
        let mut out = Vec::new();
        let worst = doctor(&options, runtime.handle(), &mut out).unwrap();
        (worst, String::from_utf8(out).unwrap())
    };
    let rule = |name: &str| FilesRule {
        paths: vec![directory.path().join(name).to_str().unwrap().to_owned()],
        ..FilesRule::default()
    };
    let (there, missing) = (rule("*"), rule("*.lgo"));
    std::fs::write(directory.path().join("a.log"), "").unwrap();
    let files = [there, missing];
    let options =
        DoctorOptions { engine: None, files: &files, state: None, wal_bytes_max: 1, json: false };
    let mut out = Vec::new();
    assert_eq!(doctor(&options, runtime.handle(), &mut out).unwrap(), Status::Warn);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("/*.lgo: no file matches it\n"), "{text}");
    assert!(!text.contains("/*: no file"), "{text}");
    std::fs::remove_file(directory.path().join("a.log")).unwrap();
    let (worst, text) = look(Some(directory.path()), false);
    assert_eq!(worst, Status::Fail, "{text}");
    assert!(text.contains("fail  engine: cannot reach the container engine"), "{text}");
    assert!(text.contains("ok    state: "), "{text}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let (_, json) = look(None, true);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["name"], &last["status"]), (&"state".into(), &"warn".into()));
    let (_, text) = look(Some(&directory.path().join("missing")), false);
    assert!(text.contains("fail  state: "), "{text}");
}

#[test]
fn a_log_without_a_limit_says_when_the_disk_is_full_and_what_to_write_where() {
    let growth = Growth { bytes: 1 << 30, seconds: 86_400, free: 30 << 30 };
    let unlimited = with("json-file", &[]);
    assert!(is_unlimited(&unlimited) && !is_unlimited(&with("local", &[])));
    let finding = container(&unlimited, Way::Direct, None, Some(growth));
    assert!(
        finding.found.ends_with(
            "until the disk is full, at 1 GiB a day as so far in 30 days, with 30 GiB free"
        ),
        "{finding:?}"
    );
    let advice = finding.advice.unwrap();
    let compose = r#"logging: {driver: json-file, options: {max-size: "10m", max-file: "3"}}"#;
    assert!(advice.contains(compose), "{advice}");
    // Nothing is said of what is too young, or too far away.
    for growth in [Growth { seconds: 5, ..growth }, Growth { bytes: 1, ..growth }] {
        let finding = container(&unlimited, Way::Direct, None, Some(growth));
        assert!(finding.found.ends_with("until the disk is full"), "{finding:?}");
    }
    let hours = Growth { free: 1 << 28, ..growth };
    let found = container(&unlimited, Way::Api, None, Some(hours)).found;
    assert!(found.contains("in 6 hours"), "{found}");
    let daemon = engine_logs(2).unwrap().advice.unwrap();
    assert!(daemon.contains(
        r#"{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}"#
    ));
    assert!(engine_logs(0).is_none());
}

#[test]
fn a_fast_container_behind_the_api_is_told_of() {
    let growth = Growth { bytes: 170 * 100_000 * 100, seconds: 100, free: 1 << 40 };
    let found =
        container(&with("json-file", &[("max-size", "1g")]), Way::Api, None, Some(growth)).found;
    assert!(found.contains("100000 lines a second on average"), "{found}");
}

#[test]
fn what_cannot_be_rotated_or_proved_is_said() {
    let directory = Path::new("/logs");
    assert_eq!(rotation(directory, false, Held::Yes).status, Status::Ok);
    assert_eq!(rotation(directory, false, Held::No).status, Status::Ok);
    let unknown = rotation(directory, false, Held::Unknown);
    assert!(unknown.advice.unwrap().contains("--cap-add LEASE"));
    assert!(rotation(directory, true, Held::No).found.contains("read-only"));
}
