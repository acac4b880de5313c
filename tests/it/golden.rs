//! Repositories of every released format, kept for ever: they list, check and restore as they did.
//!
//! A new format gets a new folder in `testdata/`, made by `make-golden` (`bins/golden.rs`) when it is
//! released; an existing folder never changes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::sandbox::Sandbox;
use e2e::tree;

use crate::tool::Repo;

/// The released formats.
const FORMATS: [&str; 2] = ["format-1", "format-1-encrypted"];

/// Owners are part of what a golden repository restores.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        e2e::notice!("skipped: only root restores the owners of a golden repository");
    }
    root
}

fn testdata(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format)
}

/// A copy of a golden repository, with its keys where it has any.
fn copy_of(sandbox: &Sandbox, format: &str) -> Repo {
    let golden = testdata(format);
    // Git keeps no empty directories and the program may write: work on a copy.
    let copy = sandbox.path("repo");
    e2e::zoo::copy(&golden.join("repo"), &copy);
    let mut repo = Repo::at(sandbox, &copy);
    for (variable, name) in [("BACKUP_KEY_FILE", "key"), ("BACKUP_IDENTITY_FILE", "identity")] {
        if let Ok(secret) = fs::read(golden.join(name)) {
            // Git keeps no modes either.
            let path = sandbox.file(name, secret);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            repo = repo.with(variable, &path);
        }
    }
    repo
}

#[test]
fn every_golden_repository_lists_checks_and_restores() {
    if !is_root() {
        return;
    }
    for format in FORMATS {
        let golden = testdata(format);
        let sandbox = Sandbox::new();
        let repo = copy_of(&sandbox, format);
        let ids = repo.snapshot_ids();
        assert!(!ids.is_empty(), "{format} lists no snapshot");
        repo.check_clean();
        for id in ids {
            let manifest = golden.join(format!("{id}.manifest"));
            let wanted = fs::read_to_string(&manifest)
                .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
            let restored = repo.restored(&id, &sandbox.path(&id));
            assert_eq!(tree::manifest(&restored), wanted, "{format}, snapshot {id}");
        }
    }
}

#[test]
fn a_golden_repository_accepts_new_backups() {
    if !is_root() {
        return;
    }
    for format in FORMATS {
        let sandbox = Sandbox::new();
        let repo = copy_of(&sandbox, format);
        let before = repo.snapshot_ids().len();
        sandbox.file("source/file", "new in an old repository");
        let created = repo.create([sandbox.path("source")]);
        assert_eq!(repo.snapshot_ids().len(), before + 1);
        repo.restored(&created.snapshot, &sandbox.path("target"));
        repo.check_clean();
    }
}
