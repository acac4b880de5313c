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
/// Files of 200 kB: more than is given, and packs enough to show whether their memory is used again. `CHORES_SOAK` multiplies
/// them too: 10 times are a repository of full packs.
const LONGER_FILES: usize = 800;
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

/// How long ago files were changed, by which a first backup tells what is expected to stay: of one kind or the other, or both in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Old,
    Young,
    InTurn,
}

/// Files long enough for packs of their own, just made.
fn make_longer_files(root: &Path, files: usize) {
    fs::create_dir_all(root).unwrap();
    let mut state: u64 = 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for number in 0..files {
        let content: Vec<u8> = std::iter::repeat_with(&mut next).take(25_000).flatten().collect();
        fs::write(root.join(format!("file-{number}")), content).unwrap();
    }
}

/// Makes these files as old as that.
fn set_age(root: &Path, files: usize, age: Age) {
    let now = SystemTime::now();
    for number in 0..files {
        let is_old = age == Age::Old || age == Age::InTurn && number % 2 == 0;
        let time = if is_old { SystemTime::UNIX_EPOCH } else { now };
        let file = fs::File::options().write(true).open(root.join(format!("file-{number}")));
        file.unwrap().set_modified(time).unwrap();
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

/// Runs it, and demands that it keeps to [`MEMORY`].
fn expect_within(what: &str, run: Run) {
    let deadline = RUN_TIME_MAX.saturating_mul(u32::try_from(soak()).unwrap());
    let (finished, peak) = peak(run.deadline(deadline));
    finished.expect_code(0);
    e2e::notice!("{what}: {} KiB", peak / 1024);
    assert!(peak <= MEMORY_BYTES - PROGRAM_BYTES, "{what}: {peak} bytes");
}

fn create(repo: &Repo, source: &Path) -> Run {
    repo.run(["create", "--json", "--memory", MEMORY]).arg(source)
}

/// First backups of files of each age into new repositories, and what is done with the last of these.
fn expect_within_of_longer_files(new: impl Fn(&Sandbox) -> Repo) {
    let sandbox = Sandbox::new();
    let (source, files) = (sandbox.directory("source"), LONGER_FILES * soak());
    make_longer_files(&source, files);
    for age in [Age::Old, Age::Young, Age::InTurn] {
        set_age(&source, files, age);
        let place = Sandbox::new();
        let repo = new(&place);
        expect_within(
            &format!("the first backup of {files} files, {age:?}"),
            create(&repo, &source),
        );
        if age == Age::InTurn {
            let restore = repo.restore_run("latest", &place.path("target"), &["--memory", MEMORY]);
            expect_within("their restore", restore);
            let check = repo.run(["check", "--read-data", "--memory", MEMORY]);
            expect_within("their check", check);
        }
    }
}

#[test]
fn longer_files_need_no_more_than_they_are_given_however_old_they_are() {
    expect_within_of_longer_files(Repo::directory);
}

#[test]
fn longer_files_need_no_more_than_they_are_given_where_they_are_encrypted() {
    expect_within_of_longer_files(Repo::encrypted);
}

/// Backups of as many small files, and their restore.
fn expect_within_of_small_files(new: impl Fn(&Sandbox) -> Repo) {
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.directory("source"), sandbox.path("target"));
    let files = FILES * soak();
    make_files(&source, files);
    let repo = new(&sandbox);
    let restore = || repo.restore_run("latest", &target, &["--memory", MEMORY]);
    expect_within(&format!("the first backup of {files} files"), create(&repo, &source));
    expect_within(&format!("the next of {files} files"), create(&repo, &source));
    expect_within(&format!("the restore of {files} files"), restore());
}

#[test]
fn many_small_files_need_no_more_than_they_are_given() {
    expect_within_of_small_files(Repo::directory);
}

#[test]
fn many_small_files_need_no_more_than_they_are_given_where_they_are_encrypted() {
    expect_within_of_small_files(Repo::encrypted);
}
