//! What may be given as a source, and what must not make a mess.

use std::fs;
use std::path::Path;

use e2e::compare::{Ignore, assert_same, assert_same_trees};
use e2e::sandbox::Sandbox;
use e2e::tree;

use crate::tool::{Created, FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence};

fn source(sandbox: &Sandbox) -> std::path::PathBuf {
    let source = sandbox.directory("source");
    sandbox.file("source/file", "content");
    sandbox.file("source/inner/deep", "deeper");
    source
}

/// Restores the latest snapshot and returns the tree at the source's own path.
fn restored_at(sandbox: &Sandbox, repo: &Repo, source: &Path) -> tree::Tree {
    let target = sandbox.path("target");
    repo.run(["restore", "latest", "--target"]).arg(&target).succeed();
    tree::read(&target.join(source.strip_prefix("/").unwrap()))
}

#[test]
fn a_directory_given_twice_is_one_source() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    let dotted = source.join("inner/..");
    repo.create([&source, &source, &dotted]);
    let snapshots = repo.snapshots();
    assert_eq!(snapshots[0]["paths"].as_array().unwrap().len(), 1, "{snapshots:?}");
    assert_same_trees(
        &tree::read(&source),
        &restored_at(&sandbox, &repo, &source),
        Ignore::default(),
    );
}

#[test]
fn a_path_inside_another_is_covered_by_it() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    repo.create([&source.join("inner"), &source]);
    assert_same_trees(
        &tree::read(&source),
        &restored_at(&sandbox, &repo, &source),
        Ignore::default(),
    );
}

#[test]
fn names_that_only_begin_alike_are_two_sources() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    sandbox.file("source-2/file", "another");
    let repo = Repo::directory(&sandbox);
    repo.create([&source, &sandbox.path("source-2")]);
    assert_eq!(repo.snapshots()[0]["paths"].as_array().unwrap().len(), 2);
    assert_same_trees(
        &tree::read(&source),
        &restored_at(&sandbox, &repo, &source),
        Ignore::default(),
    );
}

#[test]
fn a_repository_inside_the_source_is_left_out() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::at(&sandbox, &source.join("backups/repo"));
    repo.run(["init"]).succeed();
    repo.try_create([&source]);
    let second = repo.try_create([&source]);
    assert!(matches!(second.code(), Some(0 | WARNINGS)), "{second}");
    let restored = restored_at(&sandbox, &repo, &source);
    assert!(restored.contains_key(&b"inner/deep"[..]));
    assert!(
        !restored.keys().any(|path| path.ends_with(b"repo.json")),
        "the repository backed itself up"
    );
}

#[test]
fn the_local_cache_inside_the_source_is_left_out() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox).elsewhere(source.clone());
    repo.try_create([&source]);
    repo.try_create([&source]);
    let restored = restored_at(&sandbox, &repo, &source);
    let below_cache = restored.keys().filter(|path| path.starts_with(b"cache/")).count();
    let files = restored.iter().filter(|(path, node)| {
        path.starts_with(b"cache/") && matches!(node.kind, tree::Kind::File(_))
    });
    assert_eq!(files.count(), 0, "{below_cache} paths of the cache were backed up");
}

#[test]
fn a_path_that_does_not_exist_is_named_and_nothing_is_stored() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    let finished = repo.try_create([&source, &sandbox.path("absent")]);
    assert_one_sentence(&finished, FAILED, &["absent"]);
    assert!(repo.snapshots().is_empty());
}

#[test]
fn an_empty_source_is_flagged() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    let repo = Repo::directory(&sandbox);
    let created = Created::of(&repo.try_create([&source]).expect_code(WARNINGS));
    assert!(created.warnings.iter().any(|warning| warning.contains("empty")), "{created:?}");
    assert_same_trees(
        &tree::read(&source),
        &restored_at(&sandbox, &repo, &source),
        Ignore::default(),
    );
}

#[test]
fn a_single_file_is_a_source() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    repo.create([source.join("file")]);
    let target = sandbox.path("target");
    repo.run(["restore", "latest", "--target"]).arg(&target).succeed();
    assert_same(
        &source.join("file"),
        &target.join(source.join("file").strip_prefix("/").unwrap()),
        Ignore::default(),
    );
}

#[test]
fn what_is_excluded_stays_out() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    sandbox.file("source/keep.tmp/inside", "below an excluded name");
    sandbox.file("source/a.tmp", "excluded by its name");
    sandbox.file("source/inner/b.tmp", "excluded by its name");
    sandbox.file("source/logs/today", "excluded by its path");
    sandbox.file("source/inner/logs/kept", "the path is anchored");
    let repo = Repo::directory(&sandbox);
    let anchored = source.join("logs");
    let args =
        ["--exclude", "*.tmp", "--exclude", anchored.to_str().unwrap(), source.to_str().unwrap()];
    repo.create(args);
    let restored = restored_at(&sandbox, &repo, &source);
    let paths: Vec<_> = restored.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["", "file", "inner", "inner/deep", "inner/logs", "inner/logs/kept"]);
}

#[test]
fn a_bad_pattern_is_wrong_usage() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    let finished = repo.run(["create", "--exclude", "[", source.to_str().unwrap()]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
}

#[test]
fn a_name_finds_its_latest_snapshot() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    let path = source.to_str().unwrap();
    repo.create(["--name", "web", path]);
    let wanted = tree::read(&source);
    fs::write(source.join("file"), "changed").unwrap();
    repo.create(["--name", "database", path]);
    let restored = repo.restored("latest:web", &sandbox.path("web"));
    assert_same_trees(&wanted, &restored, Ignore::default());
    let names: Vec<_> =
        repo.snapshots().iter().map(|snapshot| crate::tool::text(snapshot, "name")).collect();
    assert_eq!(names, ["web", "database"]);
}

#[test]
fn an_unknown_snapshot_is_named() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let finished = repo.restore_run("latest:nobody", &sandbox.path("target"), &[]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["nobody"]);
    let finished = repo.restore_run("0000000000", &sandbox.path("target"), &[]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["0000000000"]);
}
