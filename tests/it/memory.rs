//! `--memory`: a machine with little of it saves and restores many files.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use e2e::process::{Finished, Run};
use e2e::sandbox::Sandbox;

use crate::tool::Repo;

/// Small files of a tree; `CHORES_SOAK` multiplies them: 20 times are a million.
const FILES: usize = 50_000;
const FILES_OF_DIRECTORY: usize = 1000;
/// Files of 200 kB, of which a first backup expects the one half to stay and the other not: of each more than it is given.
const YOUNG_AND_OLD_FILES: u64 = 800;
/// The least that `--memory` takes.
const MEMORY: &str = "64M";
/// The same in bytes.
const MEMORY_BYTES: u64 = 64 << 20;
/// Pages of its own file that the program of a release has in memory. That of a test has more of them, and they are not counted.
const PROGRAM_BYTES: u64 = 10 << 20;
/// How long one run may take, for each so many files.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

fn soak() -> usize {
    std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn make_files(root: &Path, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("directory-{}", number / FILES_OF_DIRECTORY));
        if number % FILES_OF_DIRECTORY == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let text = format!("{number} is a small text\n").repeat(1 + number % 20);
        fs::write(directory.join(format!("file-{number}")), text).unwrap();
    }
}

/// Files long enough for packs of their own, old and young in turn.
fn make_young_and_old_files(root: &Path, files: u64) {
    fs::create_dir_all(root).unwrap();
    let mut state: u64 = 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for number in 0..files {
        let path = root.join(format!("file-{number}"));
        let content: Vec<u8> = std::iter::repeat_with(&mut next).take(25_000).flatten().collect();
        fs::write(&path, content).unwrap();
        if number % 2 == 0 {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    }
}

/// Bytes of a line of `/proc/PID/status` (proc(5)).
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What a run had in memory at the most, without its program.
fn peak(run: Run) -> (Finished, u64) {
    let running = run.start();
    let path = format!("/proc/{}/status", running.id());
    let (mut peak, mut next) = (0, LOOK);
    while !running.ended_within(next) {
        next += LOOK;
        let status = fs::read_to_string(&path).unwrap_or_default();
        if let (Some(most), Some(file)) = (bytes(&status, "VmHWM"), bytes(&status, "RssFile")) {
            peak = peak.max(most.saturating_sub(file));
        }
    }
    (running.wait(), peak)
}

#[test]
fn young_and_old_files_in_turn_need_no_more_than_they_are_given() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    make_young_and_old_files(&source, YOUNG_AND_OLD_FILES);
    let repo = Repo::directory(&sandbox);
    let run = repo.run(["create", "--json", "--memory", MEMORY]).arg(&source);
    let (finished, peak) = peak(run.deadline(RUN_TIME_MAX));
    finished.expect_code(0);
    e2e::notice!("{YOUNG_AND_OLD_FILES} files: {} KiB", peak / 1024);
    assert!(peak <= MEMORY_BYTES - PROGRAM_BYTES, "{peak} bytes");
}

#[test]
fn many_small_files_need_no_more_than_they_are_given() {
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.directory("source"), sandbox.path("target"));
    let files = FILES * soak();
    make_files(&source, files);
    let repo = Repo::directory(&sandbox);
    let deadline = RUN_TIME_MAX.saturating_mul(u32::try_from(soak()).unwrap());
    let create = || repo.run(["create", "--json", "--memory", MEMORY]).arg(&source);
    let runs = [
        ("the first backup", create()),
        ("the next", create()),
        ("the restore", repo.restore_run("latest", &target, &["--memory", MEMORY])),
    ];
    for (what, run) in runs {
        let (finished, peak) = peak(run.deadline(deadline));
        finished.expect_code(0);
        e2e::notice!("{what} of {files} files: {} KiB", peak / 1024);
        assert!(peak <= MEMORY_BYTES - PROGRAM_BYTES, "{what} of {files} files: {peak} bytes");
    }
}
