//! What goes in comes out: every kind of metadata, through every way out.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use e2e::compare::{Ignore, assert_same, assert_same_trees};
use e2e::object_store::ObjectStore;
use e2e::process::{Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Kind, Node, Tree};
use e2e::zoo::{self, Options};

use crate::tool::{Repo, WRONG_USAGE};

/// Sockets are recorded, but their servers make new ones.
const NO_SOCKETS: Ignore = Ignore {
    sockets: true,
    directory_times: false,
    subseconds: false,
    xattrs: false,
    owners: false,
    root: false,
};

fn zoo_in(sandbox: &Sandbox, options: Options) -> std::path::PathBuf {
    let source = sandbox.directory("source");
    let refused = zoo::build(&source, options);
    if !refused.is_empty() {
        e2e::notice!("not covered here: {refused:#?}");
    }
    source
}

#[test]
fn the_zoo_comes_back_from_a_directory() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::ALL);
    let repo = Repo::directory(&sandbox);
    let created = repo.create([&source]);
    repo.check_clean();
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
}

#[test]
fn the_zoo_comes_back_from_every_object_store() {
    for store in ObjectStore::all() {
        let sandbox = Sandbox::new();
        let source = zoo_in(&sandbox, Options { bulk: true, ..Options::QUICK });
        let repo = Repo::on_store(&sandbox, store.address(), &store.url());
        repo.run(["init"]).succeed();
        let created = repo.create([&source]);
        repo.check_clean();
        let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
        eprintln!("compared with the copy in {}", store.kind());
        assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
    }
}

#[test]
fn a_machine_without_the_cache_restores_the_same() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let elsewhere = repo.elsewhere(sandbox.directory("another-home"));
    let restored = elsewhere.restored("latest", &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
}

#[test]
fn an_unchanged_repeat_stores_no_content() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options { bulk: true, ..Options::QUICK });
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    // The cache may grow: what was written just before the first run enters it with the second.
    let before = stored_bytes(&repo.path().join("packs"));
    let created = repo.create([&source]);
    let grown = stored_bytes(&repo.path().join("packs")) - before;
    assert!(grown < 64 * 1024, "an unchanged repeat stored {grown} bytes: {}", created.summary);
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
}

#[test]
fn hundreds_of_large_files_need_few_descriptors() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    for number in 0..200 {
        fs::write(source.join(format!("{number}")), vec![0x5a; (1 << 20) + number]).unwrap();
    }
    let repo = Repo::directory(&sandbox);
    let script = "ulimit -n 64 && exec \"$@\"";
    Run::new("/bin/sh")
        .env("HOME", sandbox.root())
        .args(["-c", script, "sh", crate::tool::BINARY, "--repo"])
        .args([repo.path().as_os_str(), "create".as_ref(), source.as_os_str()])
        .succeed();
    let restored = repo.restored("latest", &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
}

#[test]
fn equal_content_is_stored_once() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    let noise = e2e::random::Random::new(5).bytes(4 << 20);
    fs::write(source.join("one"), &noise).unwrap();
    fs::write(source.join("two"), &noise).unwrap();
    fs::write(source.join("three"), [b"shifted".as_slice(), &noise].concat()).unwrap();
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let stored = stored_bytes(repo.path());
    assert!(stored < 6 << 20, "12 MiB with 4 MiB of content take {stored} bytes");
}

fn stored_bytes(repo: &Path) -> u64 {
    let size = |node: &Node| match &node.kind {
        Kind::File(content) => content.size,
        _ => 0,
    };
    tree::read(repo).values().map(size).sum()
}

#[test]
fn without_strip_each_source_comes_back_at_its_own_path() {
    let sandbox = Sandbox::new();
    let one = sandbox.directory("in/one");
    let two = sandbox.directory("in/two");
    zoo::build(&one, Options::QUICK);
    fs::write(two.join("file"), "content").unwrap();
    let repo = Repo::directory(&sandbox);
    repo.create([&one, &two]);
    let target = sandbox.path("target");
    repo.run(["restore", "latest", "--target"]).arg(&target).succeed();
    for source in [&one, &two] {
        let restored = target.join(source.strip_prefix("/").unwrap());
        assert_same(source, &restored, NO_SOCKETS);
    }
}

#[test]
fn only_the_asked_path_comes_back() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.path("target");
    repo.run(["restore", "latest", "--target"])
        .arg(&target)
        .arg("--path")
        .arg(source.join("attributes"))
        .arg("--path")
        .arg(source.join("links/two/name"))
        .succeed();
    let restored = tree::read(&target.join(source.strip_prefix("/").unwrap()));
    let all = tree::read(&source);
    assert_same_trees(
        &tree::subtree(&all, b"attributes"),
        &tree::subtree(&restored, b"attributes"),
        Ignore::default(),
    );
    // The second name of a file comes back whole when its first one was not asked for.
    let (Kind::File(wanted), Kind::File(found)) =
        (&all[&b"links/zz-first-written"[..]].kind, &restored[&b"links/two/name"[..]].kind)
    else {
        panic!("a file was restored as something else")
    };
    assert_eq!(wanted.digest, found.digest);
    assert!(!restored.contains_key(&b"sizes"[..]));
    assert!(!restored.contains_key(&b"links/one"[..]));
}

#[test]
fn a_target_that_is_not_empty_is_left_alone() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.directory("target");
    fs::write(target.join("precious"), "data").unwrap();
    let before = tree::read(&target);
    let finished = repo.restore_run("latest", &target, &[]).finish().expect_code(WRONG_USAGE);
    assert!(finished.stderr_text().contains("--replace"), "the way out is not named: {finished}");
    assert_same_trees(&before, &tree::read(&target), Ignore::default());
}

#[test]
fn replace_leaves_exactly_the_snapshot() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.directory("target");
    damage_copy(&target);
    repo.restore_run("latest", &target, &["--replace"]).succeed();
    assert_same(&source, &target, NO_SOCKETS);
}

#[test]
fn delta_changes_only_what_differs() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options { bulk: true, ..Options::QUICK });
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.path("target");
    repo.restore_run("latest", &target, &[]).succeed();
    let untouched = target.join("bulk/text");
    let inode = fs::metadata(&untouched).unwrap().ino();
    let changed_at = fs::metadata(&untouched).unwrap().ctime_nsec();
    damage_copy(&target);
    fs::write(target.join("bulk/noise"), "overwritten").unwrap();
    fs::remove_file(target.join("bulk/small-000")).unwrap();
    fs::remove_dir_all(target.join("order/a.d")).unwrap();
    fs::write(target.join("order/a.d"), "a file where a directory was").unwrap();
    repo.restore_run("latest", &target, &["--delta"]).succeed();
    assert_same(&source, &target, NO_SOCKETS);
    let after = fs::metadata(&untouched).unwrap();
    assert_eq!(
        (after.ino(), after.ctime_nsec()),
        (inode, changed_at),
        "an equal file was rewritten"
    );
}

/// Adds what the snapshot does not have.
fn damage_copy(target: &Path) {
    fs::write(target.join("surplus"), "not in the snapshot").unwrap();
    fs::create_dir_all(target.join("surplus-directory/deeper")).unwrap();
    fs::write(target.join("surplus-directory/deeper/file"), "nor this").unwrap();
}

#[test]
fn a_dry_run_writes_nothing() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.directory("target");
    damage_copy(&target);
    let before = tree::read(&target);
    repo.restore_run("latest", &target, &["--replace", "--dry-run"]).succeed();
    repo.restore_run("latest", &target, &["--delta", "--dry-run"]).succeed();
    assert_same_trees(&before, &tree::read(&target), Ignore::default());
    let absent = sandbox.path("absent");
    repo.restore_run("latest", &absent, &["--dry-run"]).succeed();
    assert!(!absent.exists());
}

#[test]
fn restoring_the_same_snapshot_twice_is_idempotent() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, Options::QUICK);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let target = sandbox.path("target");
    repo.restore_run("latest", &target, &[]).succeed();
    repo.restore_run("latest", &target, &["--delta"]).succeed();
    repo.restore_run("latest", &target, &["--replace"]).succeed();
    assert_same(&source, &target, NO_SOCKETS);
}

/// Exports the latest snapshot and unpacks it with another program.
fn exported(
    sandbox: &Sandbox,
    repo: &Repo,
    source: &Path,
    extract: impl FnOnce(&Path, &Path),
) -> Tree {
    let archive = sandbox.path("export.tar.zst");
    let plain = sandbox.path("export.tar");
    repo.run(["export", "latest", "--to"]).arg(&archive).succeed();
    Run::new("zstd").args(["-q", "-d", "-o"]).arg(&plain).arg(&archive).succeed();
    let target = sandbox.directory("extracted");
    extract(&plain, &target);
    tree::read(&target.join(source.strip_prefix("/").unwrap()))
}

/// Other programs cannot name paths beyond PATH_MAX.
const EXPORTED: Options = Options { huge: true, bulk: true, deep: false, special: true };

#[test]
fn an_export_is_what_gnu_tar_restores() {
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, EXPORTED);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let found = exported(&sandbox, &repo, &source, |archive, target| {
        Run::new("tar")
            .args([
                "--extract",
                "--preserve-permissions",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
                "--acls",
            ])
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(target)
            .succeed();
    });
    assert_same_trees(&tree::read(&source), &found, NO_SOCKETS);
}

#[test]
fn an_export_is_what_bsdtar_restores() {
    if find_program("bsdtar").is_none() {
        missing("bsdtar");
        return;
    }
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, EXPORTED);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let mut found = exported(&sandbox, &repo, &source, |archive, target| {
        Run::new("bsdtar")
            .args(["--numeric-owner", "-xpf"])
            .arg(archive)
            .arg("-C")
            .arg(target)
            .succeed();
    });
    let mut wanted = tree::read(&source);
    for node in wanted.values_mut() {
        expect_of_libarchive(node);
    }
    for node in found.values_mut() {
        node.xattrs.retain(|name, _| !is_unknown_to_libarchive(name));
    }
    // It composes names on systems whose locale is in UTF-8, and fails in other locales.
    if let Some(node) = found.remove("names/decomposed-\u{e9}".as_bytes()) {
        found.insert("names/decomposed-e\u{301}".as_bytes().to_vec(), node);
    }
    assert_same_trees(&wanted, &found, NO_SOCKETS);
}

/// What libarchive 3.6 makes of metadata that it cannot express.
fn expect_of_libarchive(node: &mut Node) {
    const NANOS_PER_SECOND: u32 = 1_000_000_000;
    const ACL_HEADER_BYTES: usize = 4;
    const ACL_ITEM_BYTES: usize = 8;
    node.xattrs.retain(|name, _| !is_unknown_to_libarchive(name));
    // It adds the fraction of a time before 1970 instead of subtracting it.
    if node.mtime.0 < 0 && node.mtime.1 > 0 {
        node.mtime = (node.mtime.0 + 1, NANOS_PER_SECOND - node.mtime.1);
    }
    // Ids in its access control lists have 31 bits.
    let lists = node.xattrs.iter_mut().filter(|(name, _)| name.starts_with(b"system.posix_acl_"));
    for (_, list) in lists {
        for item in list.get_mut(ACL_HEADER_BYTES..).unwrap().chunks_mut(ACL_ITEM_BYTES) {
            let id: [u8; 4] = item[4..].try_into().unwrap();
            let id = u32::from_le_bytes(id);
            // All ones stand for items without an id.
            if id > i32::MAX.unsigned_abs() && id != u32::MAX {
                item[4..].copy_from_slice(&i32::MAX.to_le_bytes());
            }
        }
    }
}

/// It does not know GNU tar's escape for `=` in the name of an attribute.
fn is_unknown_to_libarchive(attribute: &[u8]) -> bool {
    attribute.starts_with(b"user.name")
}

#[test]
fn an_export_is_what_python_restores() {
    const NANOSECONDS_OFF_MAX: u128 = 1000;
    let sandbox = Sandbox::new();
    let source = zoo_in(&sandbox, EXPORTED);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let script = "import sys, tarfile\n\
        tarfile.open(sys.argv[1]).extractall(sys.argv[2], numeric_owner=True)";
    let mut found = exported(&sandbox, &repo, &source, |archive, target| {
        Run::new("python3").args(["-c", script]).arg(archive).arg(target).succeed();
    });
    let mut wanted = tree::read(&source);
    // tarfile restores no attributes and no times of links, and computes times in floating point.
    for (path, wanted) in &mut wanted {
        wanted.xattrs.clear();
        let Some(found) = found.get_mut(path) else { continue };
        let is_link = matches!(wanted.kind, Kind::Symlink(_));
        let nanoseconds =
            |node: &Node| i128::from(node.mtime.0) * 1_000_000_000 + i128::from(node.mtime.1);
        if is_link || nanoseconds(wanted).abs_diff(nanoseconds(found)) < NANOSECONDS_OFF_MAX {
            found.mtime = wanted.mtime;
        }
    }
    assert_same_trees(&wanted, &found, NO_SOCKETS);
}

fn missing(program: &str) {
    assert!(
        std::env::var_os(e2e::engine::REQUIRE_VARIABLE).is_none_or(|value| value != "1"),
        "{program} is not installed"
    );
    e2e::notice!("skipped: {program} is not installed");
}
