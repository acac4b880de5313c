//! The way out without our program: sh, zstd, tar and jq.

use std::path::Path;

use e2e::compare::{Ignore, assert_same_trees};
use e2e::process::{Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::tree;
use e2e::zoo::{self, Options};

use crate::tool::Repo;

#[test]
fn the_salvage_script_restores_what_the_program_does() {
    for program in ["sh", "zstd", "tar", "jq"] {
        assert!(find_program(program).is_some(), "the salvage script needs {program}");
    }
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    zoo::build(&source, Options { huge: false, bulk: true, deep: false, special: true });
    let repo = Repo::directory(&sandbox);
    let created = repo.create([&source]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let target = sandbox.path("salvaged");
    Run::new("sh").arg(&script).arg(repo.path()).arg(&created.snapshot).arg(&target).succeed();
    let salvaged = tree::read(&target.join(source.strip_prefix("/").unwrap()));
    let ours = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&ours, &salvaged, Ignore { sockets: true, ..Ignore::default() });
}

#[test]
fn the_salvage_script_is_short_enough_to_read() {
    const LINES_MAX: usize = 100;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let lines = std::fs::read_to_string(script).unwrap().lines().count();
    assert!(lines < LINES_MAX, "{lines} lines");
}
