use chores_common::engine::{Container, LogConfig};

use super::*;
use crate::plan::Planner;
use crate::rule::EngineRule;

fn container(name: &str, labels: &[(&str, &str)]) -> Container {
    Container {
        id: "c".repeat(64),
        name: name.to_owned(),
        image_ref: "web:2".to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        log: LogConfig { driver: "json-file".to_owned(), ..LogConfig::default() },
        ..Container::default()
    }
}

fn report() -> Report {
    let planner = Planner {
        host: "here".to_owned(),
        rules: vec![EngineRule { name: "source[1]".to_owned(), ..EngineRule::default() }],
        sinks: vec!["archive".to_owned()],
        ..Planner::default()
    };
    let containers = [
        container("a", &[("chores.logship.parse", "json"), ("chores.logship.rate", "5/s")]),
        container("b", &[("chores.logship.enable", "false")]),
        container("c", &[("chores.logship.pars", "json"), ("chores.logship.rotate", "size=1MB")]),
    ];
    let rows = containers
        .iter()
        .map(|container| row(container, planner.plan(container), false, way(None, container)));
    Report {
        sinks: vec![SinkRow {
            name: "archive".to_owned(),
            url: "s3://bucket".to_owned(),
            backlog_max: Some(1 << 30),
        }],
        files: vec![
            files(
                &FilesRule {
                    name: "source[2]".to_owned(),
                    paths: vec!["/logs/*.log".to_owned()],
                    rotate: Some(crate::rotation::Wishes::parse("keep=3").unwrap()),
                    ..FilesRule::default()
                },
                "here",
                true,
                &mut Vec::new(),
            )
            .unwrap(),
        ],
        containers: rows.collect(),
        shared: Vec::new(),
    }
}

#[test]
fn everything_is_shown_to_people() {
    let mut out = Vec::new();
    report().text(&mut out).unwrap();
    let wanted = "\
sink archive: s3://bucket, optional: loses what is 1073741824 bytes behind
files of source[2]: /logs/*.log
  rotated: reopen=none keep=3 compress=none names=dateext
notice: source[2]: neither size nor every is set: files are rotated only as labels say, and when asked to
notice: source[2]: reopen is none: while a writer has the file, what was shipped is taken from its beginning, and nothing is left to keep or compress
container a: by source[1], json-file read by API, parse=json rate=5/s
container b: not shipped, its label chores.logship.enable says no
container c: by source[1], json-file read by API
error: container c: label chores.logship.pars: there is no such key; there are enable, sinks, parse, multiline, redact, level, rate, fields, reopen, rotate
the configuration is right; 2 of 3 containers are shipped, 1 labels are wrong
";
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}

#[test]
fn everything_is_shown_to_machines() {
    let mut out = Vec::new();
    report().json(&mut out).unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["sink", "files", "container", "container", "container"]);
    let first = &lines[2];
    assert_eq!((&first["shipped"], &first["path"]), (&true.into(), &"API".into()));
    assert_eq!((&first["parse"], &first["rate"]), (&"json".into(), &"5/s".into()));
    assert!(lines[3]["reason"].is_string() && lines[4]["faults"].as_array().unwrap().len() == 1);
}

#[test]
fn patterns_without_files_and_files_that_sources_share_are_told_and_make_it_unclean() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path).to_str().unwrap().to_owned();
    for name in ["a", "b"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name) + "/app.log", "").unwrap();
    }
    let rule = |paths: &[&str]| FilesRule {
        name: "source[1]".to_owned(),
        paths: paths.iter().map(|path| at(path)).collect(),
        ..FilesRule::default()
    };
    let look = |paths: &[&str], url: &str| {
        let mut sources = Vec::new();
        let files = files(&rule(paths), "here", false, &mut sources).unwrap();
        let sink = SinkSettings::parse("out", url, &BTreeMap::new()).unwrap();
        let shared = shared(&[sink], &sources);
        let report = Report { files: vec![files], shared, ..Report::default() };
        let (mut text, mut json) = (Vec::new(), Vec::new());
        report.text(&mut text).unwrap();
        report.json(&mut json).unwrap();
        let [text, json] = [text, json].map(|bytes| String::from_utf8(bytes).unwrap());
        (report.is_clean(), text, json)
    };
    let (is_clean, text, json) = look(&["*/app.log"], "file:///out/{path}");
    assert!(is_clean && !text.contains("error"), "{text}");
    assert!(!json.contains("unmatched"), "{json}");
    let (is_clean, text, json) = look(&["*/app.log"], "file:///out/{name}");
    let wanted = format!("error: sink out: /out/app.log gets the lines of {}", at("a/app.log"));
    assert!(!is_clean && text.contains(&wanted), "{text}");
    assert!(json.contains(r#"{"event":"shared","sink":"out","path":"/out/app.log""#), "{json}");
    let (is_clean, text, json) = look(&["*/app.log", "*.lgo"], "file:///out/all");
    let wanted = format!("error: source[1]: no file matches {}\n", at("*.lgo"));
    assert!(!is_clean && text.contains(&wanted), "{text}");
    assert!(json.contains(r#""unmatched":["#), "{json}");
}
