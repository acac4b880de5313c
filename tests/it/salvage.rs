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
fn the_salvage_script_restores_encrypted_repositories() {
    for program in ["age", "openssl"] {
        assert!(find_program(program).is_some(), "the salvage script needs {program}");
    }
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    zoo::build(&source, Options { huge: false, bulk: true, deep: false, special: true });
    let repo = Repo::encrypted(&sandbox);
    let created = repo.create([&source]);
    // What was sealed before a rotation, and a slot that this identity does not open.
    let stranger = backup::keys::identity::Identities::generate().public().next().unwrap();
    for (number, words) in
        [vec!["rotate"], vec!["add", "--recipient", &stranger]].into_iter().enumerate()
    {
        let key = sandbox.path(format!("keys/key-{number}"));
        let current = if number == 0 { "keys/key" } else { "keys/key-0" };
        repo.with("BACKUP_KEY_FILE", &sandbox.path(current))
            .run(["key"].into_iter().chain(words))
            .arg("--new-key-file")
            .arg(key)
            .succeed();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let target = sandbox.path("salvaged");
    let salvage = || Run::new("sh").arg(&script).arg(repo.path()).arg("latest");
    let refused = salvage().arg(&target).finish();
    assert_eq!(refused.code(), Some(1), "{refused}");
    let said = refused.stderr_text();
    assert!(said.starts_with("salvage: ") && said.contains("SALVAGE_IDENTITY"), "{refused}");
    assert_eq!(said.lines().count(), 1, "one sentence was expected: {refused}");
    let identity = sandbox.path("keys/identity");
    salvage().arg(&target).env("SALVAGE_IDENTITY", &identity).succeed();
    let salvaged = tree::read(&target.join(source.strip_prefix("/").unwrap()));
    let reader = repo.without("BACKUP_KEY_FILE");
    let ours = reader.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&ours, &salvaged, Ignore { sockets: true, ..Ignore::default() });
}

#[test]
fn the_salvage_script_restores_what_was_copied_from_a_bucket_with_locks() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    sandbox.file("source/file", "locked in its bucket");
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let path = repo.path().join("repo.json");
    let mut format: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for list in ["read", "write", "delete"] {
        format["features"][list].as_array_mut().unwrap().push("lock".into());
    }
    std::fs::write(&path, format.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let target = sandbox.path("salvaged");
    Run::new("sh").arg(&script).arg(repo.path()).arg("latest").arg(&target).succeed();
    let salvaged = tree::read(&target.join(source.strip_prefix("/").unwrap()));
    assert_same_trees(&tree::read(&source), &salvaged, Ignore::default());
}

#[test]
fn the_salvage_script_says_which_snapshot_is_not_there_and_reads_every_version() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    sandbox.file("source/file", "of a project");
    let repo = Repo::directory(&sandbox);
    let created = repo.create([&source]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let salvage = |snapshot: &str, target: &Path| {
        Run::new("sh").arg(&script).arg(repo.path()).arg(snapshot).arg(target).finish()
    };
    let missing = salvage("dead", &sandbox.path("missing"));
    assert_eq!(missing.code(), Some(1), "{missing}");
    assert!(missing.stderr_text().ends_with("has no snapshot dead\n"), "{missing}");
    let snapshots = repo.path().join("snapshots");
    let document = std::fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&document).unwrap();
    let mut snapshot: serde_json::Value = serde_json::from_str(&text).unwrap();
    // What a snapshot of containers has; the script takes no notice of it.
    snapshot["version"] = 3.into();
    snapshot["provenance"] = serde_json::json!({});
    std::fs::write(&document, snapshot.to_string()).unwrap();
    std::fs::write(snapshots.join("2096-01-01T000000Z-0123456789abcdef.json"), "{").unwrap();
    let target = sandbox.path("salvaged");
    let salvaged = salvage("latest", &target);
    assert_eq!(salvaged.code(), Some(0), "{salvaged}");
    assert!(salvaged.stderr_text().contains("cannot be read"), "{salvaged}");
    assert!(salvaged.stderr_text().contains(created.snapshot.get(..8).unwrap()), "{salvaged}");
    let file = target.join(source.strip_prefix("/").unwrap()).join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "of a project");
}

#[test]
fn the_salvage_script_is_short_enough_to_read() {
    const LINES_MAX: usize = 100;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    let lines = std::fs::read_to_string(script).unwrap().lines().count();
    assert!(lines < LINES_MAX, "{lines} lines");
}

/// A repository with one snapshot of these tree lines, made by hand: salvage cannot check ids.
fn forged(sandbox: &Sandbox, lines: &[&str]) -> Repo {
    let repo = Repo::directory(sandbox);
    let root = "0".repeat(32);
    sandbox.file(format!("forged/{root}"), lines.join("\n") + "\n");
    let pack = format!("aa{}", "0".repeat(30));
    sandbox.file(
        format!("repo/snapshots/20260101T000000Z-{root}.json"),
        format!(
            r#"{{"version":1,"name":"forged","state":"complete","tree":{{"root":"{root}","depth":0,"entries":{}}},"packs":["{pack}"]}}"#,
            lines.len()
        ),
    );
    let directory = sandbox.directory("repo/packs/aa");
    Run::new("sh")
        .args(["-c", "tar -cf - -C \"$1\" . | zstd -q -o \"$2\"", "sh"])
        .arg(sandbox.path("forged"))
        .arg(directory.join(format!("{pack}.tar.zst")))
        .succeed();
    repo
}

#[test]
fn the_salvage_script_writes_nothing_outside_of_its_target() {
    const COMMON: &str = r#""mode":"0644","uid":0,"gid":0,"mtime":"1""#;
    let line = |start: &str, end: &str| format!("{{{start},{COMMON}{end}}}");
    let victim = r#""path":"a","type":"symlink","target":"../victim""#;
    let trees = [
        vec![line(r#""path":"../victim/new","type":"file""#, r#","size":0"#)],
        vec![line(r#""path_b64":"Li4vdmljdGltL25ldw==","type":"file""#, r#","size":0"#)],
        vec![line(victim, ""), line(r#""path":"a/new","type":"file""#, r#","size":0"#)],
        vec![line(victim, ""), line(r#""path_b64":"YS9uZXc=","type":"fifo""#, "")],
        vec![line(r#""path":"a/new","type":"fifo""#, ""), line(victim, "")],
        vec![line(r#""path":"a","type":"file""#, r#","size":1,"data":["../../../victim/kept"]"#)],
        vec![
            line(victim, ""),
            line(r#""path":"b","type":"file","hardlink_of":"a/kept""#, r#","size":0"#),
        ],
        vec![line(r#""path":"a","type":"char","device":["1; touch ../victim/new",3]"#, "")],
        vec![line(r#""path":"a","type":"symlink","target":"'$(touch ../victim/new)'""#, "")],
    ];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/salvage.sh");
    for lines in trees {
        let sandbox = Sandbox::new();
        sandbox.file("victim/kept", "kept");
        let before = tree::read(&sandbox.path("victim"));
        let repo = forged(&sandbox, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let target = sandbox.path("target");
        let finished = Run::new("sh").arg(&script).arg(repo.path()).arg(&target).finish();
        assert_eq!(tree::read(&sandbox.path("victim")), before, "{lines:?}: {finished}");
        let taken = |path: &str| std::fs::read(target.join(path)).is_ok_and(|got| got == b"kept");
        assert!(!taken("b") && (lines.len() > 1 || !taken("a")), "{lines:?}: {finished}");
    }
}
