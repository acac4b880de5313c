//! The rules of the house that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The members of the workspace.
const MEMBERS: [&str; 5] = ["backup", "logship", "ssh-gateway", "common", "tests"];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 6] =
    ["utils.rs", "util.rs", "helpers.rs", "helper.rs", "misc.rs", "manager.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = MEMBERS.iter().map(|member| root().join(member)).collect();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && name != "testdata" {
                open.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

#[test]
fn files_are_named_after_what_they_hold() {
    for (path, _) in sources() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_ne!(name, "mod.rs", "{}: foo.rs and foo/ instead", path.display());
        assert!(!EMPTY_NAMES.contains(&name), "{} says nothing", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Written in halves, so that this file does not find itself.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        // One with a reason prints it.
        ["#[", "ignore]"],
        ["#[", "allow("],
        ["#![", "allow("],
    ];
    let marks = marks.map(|halves| halves.concat());
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for mark in &marks {
                assert!(!line.contains(mark), "{}:{}: {mark}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn sidecars_do_not_know_each_other_and_common_knows_none() {
    let forbidden = [
        ("backup", &["logship", "ssh_gateway"][..]),
        ("logship", &["backup", "ssh_gateway"]),
        ("ssh-gateway", &["backup", "logship"]),
        ("common", &["backup", "logship", "ssh_gateway"]),
    ];
    for (member, strangers) in forbidden {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split_once("[dependencies]").map_or("", |(_, rest)| rest);
        for stranger in strangers {
            let name = stranger.replace('_', "-");
            let depends = dependencies.lines().any(|line| line.starts_with(&name));
            assert!(!depends, "{member} depends on {name}");
        }
    }
}

#[test]
fn every_outside_system_has_one_door() {
    let doors = [
        ("bollard::", &["common/src/engine", "tests/"][..]),
        ("aws_sdk_s3", &["common/src/object"]),
        ("fuser::", &["backup/src/mount"]),
        ("opendal::", &["common/src/object"]),
    ];
    for (path, text) in sources() {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if relative == "tests/it/tidy.rs" {
            continue;
        }
        for (name, allowed) in doors {
            let inside = allowed.iter().any(|prefix| relative.starts_with(prefix));
            assert!(inside || !text.contains(name), "{relative} uses {name}");
        }
    }
}

#[test]
fn every_variable_of_the_environment_is_documented() {
    let mut documents = String::new();
    let mut open =
        vec![root().join("docs"), root().join("README.md"), root().join("tests/README.md")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            documents.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
    }
    let mut missing = BTreeSet::new();
    for (path, text) in sources() {
        // What a unit test says to itself is nobody else's business.
        let is_unit_test = path.iter().any(|part| part == "tests.rs" || part == "testing.rs");
        if is_unit_test {
            continue;
        }
        for quoted in text.split('"').skip(1).step_by(2) {
            let is_variable = ["BACKUP_", "CHORES_", "LOGSHIP_", "SSH_GATEWAY_"]
                .iter()
                .any(|prefix| quoted.len() > prefix.len() && quoted.starts_with(prefix))
                && quoted
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
            if is_variable && !documents.contains(quoted) {
                missing.insert(quoted.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "no document names {missing:?}");
}
