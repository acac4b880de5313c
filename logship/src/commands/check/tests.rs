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
                true,
            )
            .unwrap(),
        ],
        containers: rows.collect(),
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
