//! Files that change under the reader: flagged, counted, never a corrupt archive.
//!
//! The moment is not left to chance: as soon as the program has opened the first of many files it is
//! stopped (SIGSTOP), the source is changed, and it goes on (SIGCONT).

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::process::{Finished, Run, Running};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Kind, Tree};
use rustix::process::Signal;

use crate::tool::{Created, Repo, WARNINGS};

/// Length of the files that keep the readers busy (bytes).
const BUSY_BYTES: usize = 8 << 20;

/// How many there are: enough for the readers of any machine this runs on.
const BUSY_FILES: usize = 16;

/// Seconds within which the program must have opened the file that starts the change.
const OPEN_SECONDS_MAX: u64 = 60;

struct Scene {
    sandbox: Sandbox,
    source: PathBuf,
    repo: Repo,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let source = sandbox.directory("source");
        let noise = Random::new(31).bytes(BUSY_BYTES);
        // The first file is long, so that the program is stopped while it reads it.
        let mut first = fs::File::create(source.join("a-first")).unwrap();
        for _ in 0..8 {
            first.write_all(&noise).unwrap();
        }
        for number in 0..BUSY_FILES {
            fs::write(source.join(format!("busy-{number:02}")), &noise).unwrap();
        }
        for name in ["z-grown", "z-shrunk", "z-vanished", "z-replaced", "z-untouched"] {
            fs::write(source.join(name), noise.get(..3 << 20).unwrap()).unwrap();
        }
        fs::create_dir(source.join("z-vanished-directory")).unwrap();
        fs::write(source.join("z-vanished-directory/inside"), "x").unwrap();
        let repo = Repo::directory(&sandbox);
        Self { sandbox, source, repo }
    }

    /// A backup during which `change` happens after the first file was opened.
    fn create_while(&self, change: impl FnOnce(&Path)) -> Finished {
        let run = self.repo.run(["create", "--json"]).arg(&self.source).start();
        wait_until_open(&run, &self.source.join("a-first"));
        run.signal(Signal::STOP);
        change(&self.source);
        run.signal(Signal::CONT);
        run.wait()
    }

    fn restored(&self, created: &Created) -> Tree {
        self.repo.check_clean();
        // The archive is sound for every reader, whatever happened to the files.
        let archive = self.sandbox.path("export.tar.zst");
        let export = self.repo.run(["export", &created.snapshot, "--json", "--to"]).arg(&archive);
        let exported = export.finish();
        let torn = exported.last_json()["torn"].as_u64().unwrap();
        let code = if torn == 0 { 0 } else { WARNINGS };
        let _exported = exported.expect_code(code);
        Run::new("sh")
            .args(["-ec", "zstd -q -d -c \"$1\" | tar -t >/dev/null", "sh"])
            .arg(&archive)
            .succeed();
        let target = self.sandbox.path("target");
        let _restored =
            self.repo.restore_run(&created.snapshot, &target, &[]).finish().expect_code(code);
        tree::read(&target)
    }
}

/// Waits until the program has the file open.
fn wait_until_open(run: &Running, file: &Path) {
    let descriptors = PathBuf::from(format!("/proc/{}/fd", run.id()));
    let deadline = Instant::now() + Duration::from_secs(OPEN_SECONDS_MAX);
    loop {
        let open = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        if open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == file) {
            return;
        }
        assert!(
            !run.ended_within(Duration::ZERO),
            "the backup ended before it opened {}",
            file.display()
        );
        assert!(Instant::now() < deadline, "{} was not opened", file.display());
    }
}

fn assert_warned(created: &Created, name: &str) {
    assert_eq!(created.state, "warnings", "{created:?}");
    assert!(
        created.warnings.iter().any(|warning| warning.contains(name)),
        "no warning names {name}: {:#?}",
        created.warnings
    );
}

fn size(tree: &Tree, path: &str) -> u64 {
    match &tree[path.as_bytes()].kind {
        Kind::File(content) => content.size,
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_flagged_and_keeps_its_length() {
    let scene = Scene::new();
    let length = fs::metadata(scene.source.join("a-first")).unwrap().len();
    let finished = scene.create_while(|source| {
        OpenOptions::new().write(true).open(source.join("a-first")).unwrap().set_len(1000).unwrap();
    });
    let created = Created::of(&finished.expect_code(WARNINGS));
    assert_warned(&created, "a-first");
    assert_eq!(size(&scene.restored(&created), "a-first"), length);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_flagged_and_cut_at_its_length() {
    let scene = Scene::new();
    let before = fs::read(scene.source.join("a-first")).unwrap();
    let finished = scene.create_while(|source| {
        let mut file = OpenOptions::new().append(true).open(source.join("a-first")).unwrap();
        file.write_all(&[b'+'; 100_000]).unwrap();
    });
    let created = Created::of(&finished.expect_code(WARNINGS));
    assert_warned(&created, "a-first");
    scene.restored(&created);
    let restored = fs::read(scene.sandbox.path("target/a-first")).unwrap();
    let grown = fs::read(scene.source.join("a-first")).unwrap();
    assert!(
        restored.len() >= before.len() && grown.starts_with(&restored),
        "{} bytes",
        restored.len()
    );
}

#[test]
fn files_that_vanish_are_warnings() {
    let scene = Scene::new();
    let finished = scene.create_while(|source| {
        fs::remove_file(source.join("z-vanished")).unwrap();
        fs::remove_dir_all(source.join("z-vanished-directory")).unwrap();
    });
    let created = Created::of(&finished.expect_code(WARNINGS));
    assert_warned(&created, "z-vanished");
    let restored = scene.restored(&created);
    assert!(!restored.contains_key(&b"z-vanished"[..]));
    assert_eq!(size(&restored, "z-untouched"), 3 << 20);
}

#[test]
fn a_file_that_is_replaced_is_stored_whole_or_not_at_all() {
    let scene = Scene::new();
    let finished = scene.create_while(|source| {
        fs::write(source.join("z-new"), "the new content").unwrap();
        fs::rename(source.join("z-new"), source.join("z-replaced")).unwrap();
    });
    let created = Created::of(&finished);
    let restored = scene.restored(&created);
    match fs::read(scene.sandbox.path("target/z-replaced")) {
        Ok(content) => assert!(
            content == b"the new content" || content.len() == 3 << 20,
            "{} bytes are neither the old nor the new file",
            content.len()
        ),
        Err(_) => assert_warned(&created, "z-replaced"),
    }
    assert_eq!(size(&restored, "z-untouched"), 3 << 20);
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed() {
    let scene = Scene::new();
    scene.sandbox.file("outside/secret", "must not be read");
    let finished = scene.create_while(|source| {
        fs::remove_dir_all(source.join("z-vanished-directory")).unwrap();
        std::os::unix::fs::symlink(
            scene.sandbox.path("outside"),
            source.join("z-vanished-directory"),
        )
        .unwrap();
    });
    let created = Created::of(&finished);
    let restored = scene.restored(&created);
    assert!(!restored.keys().any(|path| path.ends_with(b"secret")), "the walk left the source");
}

#[test]
fn files_that_change_all_the_time_never_break_the_archive() {
    let scene = Scene::new();
    let run = scene.repo.run(["create", "--json"]).arg(&scene.source).start();
    let mut random = Random::new(32);
    while !run.ended_within(Duration::ZERO) {
        let path = scene.source.join(format!("busy-{:02}", random.below(BUSY_FILES as u64)));
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(random.below(2 * BUSY_BYTES as u64)).unwrap();
    }
    let finished = run.wait();
    assert!(matches!(finished.code(), Some(0 | WARNINGS)), "{finished}");
    let restored = scene.restored(&Created::of(&finished));
    assert_eq!(size(&restored, "z-untouched"), 3 << 20);
}

#[test]
fn the_next_quiet_backup_is_whole_again() {
    let scene = Scene::new();
    let finished = scene.create_while(|source| {
        let mut file = OpenOptions::new().append(true).open(source.join("a-first")).unwrap();
        file.write_all(b"+").unwrap();
        fs::remove_file(source.join("z-vanished")).unwrap();
    });
    finished.expect_code(WARNINGS);
    let created = scene.repo.create([&scene.source]);
    let restored = scene.restored(&created);
    e2e::compare::assert_same_trees(
        &tree::read(&scene.source),
        &restored,
        e2e::compare::Ignore::default(),
    );
}
