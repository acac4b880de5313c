//! `backup mount`: what is seen is what was saved, nothing can be changed, little is fetched, and nothing stays mounted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::compare::{Ignore, assert_same};
use e2e::fake_s3::{FakeS3, Fault, Op};
use e2e::object_store::ObjectStore;
use e2e::process::{Finished, Run, Running, find_program};
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree;
use e2e::zoo::{self, Options};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::tool::{FAILED, Repo, WRONG_USAGE, assert_one_sentence};

/// The time within which something is mounted, and a program that was asked to end has ended.
const SOON: Duration = Duration::from_secs(120);

/// Whether the kernel's end of FUSE is there; a machine that requires everything has it.
fn has_fuse() -> bool {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => true,
        Err(error) => {
            let is_required = std::env::var_os("CHORES_REQUIRE_ENGINE").is_some();
            assert!(!is_required, "/dev/fuse cannot be used: {error}");
            e2e::notice!("skipped: /dev/fuse cannot be used: {error}");
            false
        }
    }
}

/// A mount and the program that answers for it. What is left of it goes on drop, also while a panic unwinds.
struct Mounted {
    running: Option<Running>,
    directory: PathBuf,
}

impl Mounted {
    /// `backup mount DIR ARGS…`, as soon as something is mounted there.
    fn new(repo: &Repo, directory: &Path, args: &[&str]) -> Self {
        fs::create_dir_all(directory).unwrap();
        let running = repo.run(["mount"]).arg(directory).args(args.iter().copied()).start();
        let mounted = Self { running: Some(running), directory: directory.to_owned() };
        let since = Instant::now();
        while !is_mounted(directory) {
            let running = mounted.running.as_ref().unwrap();
            if running.ended_within(Duration::from_millis(20)) || since.elapsed() > SOON {
                panic!("nothing is mounted: {}", mounted.end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        mounted
    }

    /// What was saved below a path.
    fn path(&self, saved: &Path) -> PathBuf {
        self.directory.join(saved.strip_prefix("/").unwrap())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Asks it to end, and waits for that.
    fn end(mut self) -> Finished {
        let running = self.running.take().unwrap();
        if !running.ended_within(Duration::ZERO) {
            running.signal(Signal::TERM);
        }
        running.wait()
    }

    /// Waits for the end, without having asked for it.
    fn ended(mut self) -> Finished {
        self.running.take().unwrap().wait()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.directory)
            && let Err(error) = unmount(&self.directory, UnmountFlags::DETACH)
        {
            e2e::notice!("left mounted: {}: {error}", self.directory.display());
        }
    }
}

/// A repository with a snapshot of one file, and where that file is.
fn one_file() -> Option<(Sandbox, PathBuf, Repo)> {
    if !has_fuse() {
        return None;
    }
    let sandbox = Sandbox::new();
    let source = sandbox.file("source/file", "content");
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    Some((sandbox, source, repo))
}

fn is_mounted(directory: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let directory = directory.to_str().unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(directory))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn assert_ended_well(finished: &Finished, directory: &Path) {
    assert_eq!(finished.code(), Some(0), "{finished}");
    assert!(!is_mounted(directory), "{finished}");
    assert_eq!(finished.stdout_text().lines().count(), 1, "{finished}");
    assert!(finished.stdout_text().starts_with("mounted "), "{finished}");
}

#[test]
fn the_zoo_is_seen_as_it_was_saved() {
    if !has_fuse() {
        return;
    }
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    zoo::build(&source, Options { bulk: true, ..Options::ALL });
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["latest"]);
    assert_same(&source, &mounted.path(&source), Ignore::default());
    // A copy by somebody else's program, which asks for holes and attributes in its own ways.
    let copy = sandbox.path("copy");
    zoo::copy(&mounted.path(&source).join("attributes"), &copy);
    assert_same(&source.join("attributes"), &copy, Ignore::default());
    let linked = fs::metadata(mounted.path(&source).join("links/zz-first-written")).unwrap();
    assert_eq!(linked.nlink(), 4);
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn an_encrypted_repository_in_a_store_is_seen_as_it_was_saved() {
    if !has_fuse() {
        return;
    }
    for store in ObjectStore::all() {
        let sandbox = Sandbox::new();
        let source = sandbox.directory("source");
        zoo::build(&source, Options { bulk: true, ..Options::QUICK });
        let repo = Repo::on_store(&sandbox, store.address(), &store.url()).with_new_keys(&sandbox);
        repo.init_for(&sandbox.path("keys/recipients"));
        repo.create([&source]);
        let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["latest"]);
        assert_same(&source, &mounted.path(&source), Ignore::default());
        assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
    }
}

#[test]
fn every_snapshot_has_a_directory_and_the_newest_of_a_name_a_link() {
    if !has_fuse() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.file("source/file", "one");
    let source = sandbox.path("source");
    let repo = Repo::directory(&sandbox);
    let create =
        |name: &str| repo.create([OsString::from("--name"), name.into(), source.clone().into()]);
    let first = create("web");
    fs::write(&file, "two").unwrap();
    let second = create("web");
    create("/srv/data");
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &[]);
    assert_eq!(names(&mounted.directory), ["%2Fsrv%2Fdata", "web"]);
    let web = mounted.directory.join("web");
    let snapshots = names(&web);
    assert_eq!(snapshots.len(), 3, "{snapshots:?}");
    assert_eq!(snapshots[2], "latest");
    let target = fs::read_link(web.join("latest")).unwrap();
    assert!(target.to_str().unwrap().ends_with(second.snapshot.get(..8).unwrap()), "{target:?}");
    let content = |directory: &Path| {
        fs::read_to_string(directory.join(file.strip_prefix("/").unwrap())).unwrap()
    };
    assert_eq!(content(&web.join("latest")), "two");
    let old =
        snapshots.iter().find(|name| name.ends_with(first.snapshot.get(..8).unwrap())).unwrap();
    assert_eq!(content(&web.join(old)), "one");
    let top = source.components().nth(1).unwrap();
    let above = fs::metadata(web.join(old).join(top)).unwrap();
    assert_eq!((above.is_dir(), above.mode() & 0o7777), (true, 0o755));
    assert!(fs::metadata(web.join("20200101T000000Z-00000000")).is_err());
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn what_is_saved_while_it_is_mounted_is_the_latest_soon() {
    if !has_fuse() {
        return;
    }
    /// Half a minute, as the manual says, and some for a slow machine.
    const SHOWN_WITHIN: Duration = Duration::from_secs(90);
    let sandbox = Sandbox::new();
    let file = sandbox.file("source/file", "one");
    let repo = Repo::directory(&sandbox);
    let create = || repo.create([OsString::from("--name=web"), sandbox.path("source").into()]);
    create();
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &[]);
    let latest = mounted.directory.join("web/latest");
    let seen = latest.join(file.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(&seen).unwrap(), "one");
    let old = fs::read_link(&latest).unwrap();
    fs::write(&file, "two").unwrap();
    let second = create();
    let since = Instant::now();
    let new = loop {
        let target = fs::read_link(&latest).unwrap();
        if target != old || since.elapsed() > SHOWN_WITHIN {
            break target;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(
        new.to_str().unwrap().ends_with(second.snapshot.get(..8).unwrap()),
        "{new:?} behind {old:?}"
    );
    assert_eq!(fs::read_to_string(&seen).unwrap(), "two");
    assert_eq!(
        fs::read_to_string(
            mounted.directory.join("web").join(old).join(file.strip_prefix("/").unwrap())
        )
        .unwrap(),
        "one"
    );
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn any_part_of_a_file_is_what_the_file_has_there() {
    if !has_fuse() {
        return;
    }
    const READS: usize = 300;
    let sandbox = Sandbox::new();
    let mut random = Random::new(61);
    let mut content = random.bytes(9 << 20);
    content[3 << 20..5 << 20].fill(0);
    let path = sandbox.directory("source").join("file");
    let file = File::create(&path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    file.write_all_at(&content[..3 << 20], 0).unwrap();
    file.write_all_at(&content[5 << 20..], 5 << 20).unwrap();
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["latest"]);
    let seen = File::open(mounted.path(&path)).unwrap();
    for _ in 0..READS {
        let offset = random.below(content.len() as u64 + 1000);
        let length = random.below(400_000) as usize;
        let mut bytes = Vec::new();
        let mut piece = vec![0; length];
        // As much as there is.
        while bytes.len() < length {
            let read = seen.read_at(&mut piece, offset + bytes.len() as u64).unwrap();
            if read == 0 {
                break;
            }
            let wanted = read.min(length - bytes.len());
            bytes.extend_from_slice(&piece[..wanted]);
        }
        let from = (offset as usize).min(content.len());
        let wanted = &content[from..(from + length).min(content.len())];
        assert!(bytes == wanted, "{length} bytes at {offset}");
    }
    let mut whole = Vec::new();
    File::open(mounted.path(&path)).unwrap().read_to_end(&mut whole).unwrap();
    assert!(whole == content);
    drop(seen);
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn nothing_can_be_changed() {
    let Some((sandbox, source, repo)) = one_file() else { return };
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &[]);
    let latest = mounted.directory.join(&names(&mounted.directory)[0]).join("latest");
    let file = latest.join(source.strip_prefix("/").unwrap());
    let refused = |what: &str, outcome: std::io::Result<()>| {
        let error = outcome.expect_err(what);
        assert_eq!(errno(&error), Some(Errno::ROFS), "{what}: {error}");
    };
    let beside = file.with_file_name("new");
    refused("write", File::options().write(true).open(&file).map(drop));
    refused("append", File::options().append(true).open(&file).map(drop));
    refused("create", File::create_new(&beside).map(drop));
    refused("remove", fs::remove_file(&file));
    refused("rename", fs::rename(&file, &beside));
    refused("link", fs::hard_link(&file, &beside));
    refused("symlink", std::os::unix::fs::symlink("x", &beside));
    refused("mkdir", fs::create_dir(&beside));
    refused("rmdir", fs::remove_dir(file.parent().unwrap()));
    refused("mkdir in the root", fs::create_dir(mounted.directory.join("new")));
    refused("mode", fs::set_permissions(&file, fs::Permissions::from_mode(0o777)));
    refused("owner", std::os::unix::fs::chown(&file, Some(5), None));
    let set = rustix::fs::setxattr(&file, "user.new", b"value", XattrFlags::empty());
    refused("attribute", set.map_err(Into::into));
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = mounted.directory.to_str().unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(at)).unwrap();
    let options = line.split(' ').nth(5).unwrap();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|found| found == option), "{option} is not in {line}");
    }
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn a_damaged_pack_hurts_its_files_and_no_others() {
    if !has_fuse() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut random = Random::new(62);
    let hurt = sandbox.file("source/hurt", random.bytes(900_000));
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let packs = tree::read(&repo.path().join("packs"));
    let size = |node: &tree::Node| match &node.kind {
        tree::Kind::File(content) => content.size,
        _ => 0,
    };
    let (largest, _) = packs.iter().max_by_key(|(_, node)| size(node)).unwrap();
    let largest = repo.path().join("packs").join(std::ffi::OsStr::from_bytes(largest));
    let content = random.bytes(900_000);
    let whole = sandbox.file("source/whole", &content);
    repo.create([sandbox.path("source")]);
    let mut pack = fs::read(&largest).unwrap();
    let middle = pack.len() / 2;
    pack[middle] ^= 0x10;
    fs::write(&largest, pack).unwrap();
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["latest"]);
    let error = fs::read(mounted.path(&hurt)).expect_err("damaged content was read");
    assert_eq!(errno(&error), Some(Errno::IO), "{error}");
    assert!(fs::read(mounted.path(&whole)).unwrap() == content);
    assert_eq!(fs::metadata(mounted.path(&hurt)).unwrap().len(), 900_000);
    let finished = mounted.end();
    let said = finished.stderr_text();
    assert!(said.contains("/source/hurt") && said.contains("chunk "), "{finished}");
    assert!(!said.contains("/source/whole"), "{finished}");
    assert_ended_well(&finished, &sandbox.path("mnt"));
}

#[test]
fn one_small_file_of_a_large_snapshot_costs_few_bytes() {
    if !has_fuse() {
        return;
    }
    const REQUESTS_MAX: usize = 24;
    const BYTES_MAX: usize = 3 << 20;
    let sandbox = Sandbox::new();
    let mut random = Random::new(63);
    for number in 0..4 {
        sandbox.file(format!("source/large-{number}"), random.bytes(10 << 20));
    }
    let small = sandbox.file("source/small", "a few bytes");
    let store = FakeS3::new();
    let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
    repo.run(["init"]).succeed();
    repo.create([sandbox.path("source")]);
    let before = store.calls().len();
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &[]);
    let name = names(&mounted.directory).remove(0);
    let listed = store.calls().len();
    // To look at the list does not look into the snapshots.
    assert_eq!(names(&mounted.directory.join(&name)).len(), 2);
    assert_eq!(store.calls().len(), listed);
    let seen = mounted.directory.join(name).join("latest").join(small.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(&seen).unwrap(), "a few bytes");
    let calls = store.calls().split_off(before);
    let got: usize = calls.iter().filter(|call| call.op == Op::Get).map(|call| call.bytes).sum();
    assert!(calls.len() <= REQUESTS_MAX, "{} requests: {calls:#?}", calls.len());
    assert!(got <= BYTES_MAX, "{got} bytes were fetched: {calls:#?}");
    assert!(calls.iter().all(|call| matches!(call.op, Op::Get | Op::List)), "{calls:#?}");
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}

#[test]
fn whoever_unmounts_it_ends_it_and_whoever_ends_it_unmounts_it() {
    let Some((sandbox, source, repo)) = one_file() else { return };
    let directory = sandbox.path("mnt");
    for signal in [Signal::TERM, Signal::INT] {
        let mounted = Mounted::new(&repo, &directory, &[]);
        mounted.running().signal(signal);
        assert_ended_well(&mounted.ended(), &directory);
    }
    let mounted = Mounted::new(&repo, &directory, &[]);
    unmount(&directory, UnmountFlags::empty()).unwrap();
    assert_ended_well(&mounted.ended(), &directory);
    if find_program("fusermount3").is_some() {
        let mounted = Mounted::new(&repo, &directory, &[]);
        Run::new("fusermount3").arg("-u").arg(&directory).succeed();
        assert_ended_well(&mounted.ended(), &directory);
    }
    // Also while somebody has a file open.
    let mounted = Mounted::new(&repo, &directory, &["latest"]);
    let open = File::open(mounted.path(&source)).unwrap();
    assert_ended_well(&mounted.end(), &directory);
    let mut byte = [0];
    let error = open.read_at(&mut byte, 0).expect_err("nobody is there to answer");
    assert_eq!(errno(&error), Some(Errno::NOTCONN), "{error}");
}

#[test]
fn a_store_that_hangs_holds_up_no_end() {
    if !has_fuse() {
        return;
    }
    const HANGS: Duration = Duration::from_secs(120);
    let sandbox = Sandbox::new();
    let source = sandbox.file("source/file", "content");
    let store = FakeS3::new();
    let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
    repo.run(["init"]).succeed();
    repo.create([OsString::from("--name"), "n".into(), sandbox.path("source").into()]);
    let hanging = FakeS3::with_objects(store.objects(), &[Fault::Stall(Op::Get, HANGS)]);
    let repo = Repo::on_store(&sandbox, hanging.address(), &hanging.address().url("repo"))
        .elsewhere(sandbox.directory("elsewhere"));
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &[]);
    let seen = mounted.directory.join("n/latest").join(source.strip_prefix("/").unwrap());
    let calls = hanging.calls().len();
    let reader = std::thread::spawn(move || fs::read(seen));
    let since = Instant::now();
    while hanging.calls().len() == calls && since.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    reader.join().unwrap().expect_err("the store has not answered");
}

#[test]
fn a_mount_whose_program_was_killed_is_named_and_can_be_taken_away() {
    if !has_fuse() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.file("source/file", "content");
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let directory = sandbox.path("mnt");
    let mut mounted = Mounted::new(&repo, &directory, &[]);
    let killed = mounted.running.take().unwrap().kill_at(Duration::ZERO);
    assert_eq!(killed.signal(), Some(9), "{killed}");
    assert!(is_mounted(&directory), "the kernel has taken it away by itself");
    let finished = repo.run(["mount"]).arg(&directory).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["umount"]);
    Run::new("umount").arg("--lazy").arg(&directory).succeed();
    let mounted = Mounted::new(&repo, &directory, &[]);
    assert_eq!(names(&directory).len(), 1);
    assert_ended_well(&mounted.end(), &directory);
}

#[test]
fn places_that_are_no_empty_directories_and_what_cannot_be_read_are_refused() {
    if !has_fuse() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.file("source/file", "content");
    let repo = Repo::encrypted(&sandbox);
    repo.create([sandbox.path("source")]);
    let empty = sandbox.directory("empty");
    let refused = |repo: &Repo, args: &[&str], directory: &Path, words: &[&str]| {
        let finished = repo.run(["mount"]).arg(directory).args(args.iter().copied()).finish();
        assert_one_sentence(&finished, WRONG_USAGE, words);
    };
    refused(&repo, &[], &sandbox.path("source"), &["not empty"]);
    refused(&repo, &[], &file, &["not a directory"]);
    refused(&repo, &[], &sandbox.path("absent"), &["no such file"]);
    refused(&repo, &["latest:nobody"], &empty, &["no snapshot matches"]);
    refused(&repo.without("BACKUP_IDENTITY_FILE"), &[], &empty, &["--identity file"]);
    let mounted = Mounted::new(&repo, &empty, &[]);
    refused(&repo, &[], &empty, &["mount point already"]);
    assert_ended_well(&mounted.end(), &empty);
    let nowhere = Repo::at(&sandbox, &sandbox.path("nowhere"));
    let finished = nowhere.run(["mount"]).arg(&empty).finish();
    assert_one_sentence(&finished, FAILED, &["no repository"]);
    repo.run(["mount"]).finish().expect_code(WRONG_USAGE);
}

#[test]
fn others_see_nothing_unless_they_are_let_in_and_then_what_they_may() {
    if !has_fuse() {
        return;
    }
    let (Some(setpriv), true) = (find_program("setpriv"), rustix::process::geteuid().is_root())
    else {
        return e2e::notice!("skipped: only root, with setpriv, can be somebody else");
    };
    /// `u::rw-,u:65534:r--,g::---,m::r--,o::---` (linux/posix_acl_xattr.h).
    const LIST: [(u16, u16, u32); 5] = [
        (0x01, 6, u32::MAX),
        (0x02, 4, 65_534),
        (0x04, 0, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let sandbox = Sandbox::new();
    let open = sandbox.file("source/open", "open");
    let closed = sandbox.file("source/closed", "closed");
    let listed = sandbox.file("source/listed", "listed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in LIST {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    rustix::fs::setxattr(&listed, "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let reads = |mounted: &Mounted, path: &Path, as_whom: &str| {
        let ids = [format!("--reuid={as_whom}"), format!("--regid={as_whom}")];
        let run = Run::new(&setpriv).args(ids).args(["--clear-groups", "cat"]);
        run.arg(mounted.path(path)).finish().code() == Some(0)
    };
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["latest"]);
    assert!(!reads(&mounted, &open, "65534"), "somebody else looks in");
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
    let mounted = Mounted::new(&repo, &sandbox.path("mnt"), &["--allow-other", "latest"]);
    assert!(reads(&mounted, &open, "65534"));
    assert!(!reads(&mounted, &closed, "65534"), "modes do not count");
    assert!(reads(&mounted, &listed, "65534"), "access control lists do not count");
    assert!(!reads(&mounted, &listed, "65533"), "the access control list lets in others");
    assert_ended_well(&mounted.end(), &sandbox.path("mnt"));
}
