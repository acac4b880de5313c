//! Encrypted repositories: who saves does not read, who reads is asked for a key, and the store learns nothing.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup::keys::identity::Identities;
use e2e::compare::{Ignore, assert_same_trees};
use e2e::object_store::ObjectStore;
use e2e::process::{Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::tree;
use e2e::zoo::{self, Options};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;

use crate::tool::{FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence, backup, errors};

/// The longest wait for a run that opens its key.
const PIPE_PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Sockets are recorded, but their servers make new ones.
const NO_SOCKETS: Ignore = Ignore {
    sockets: true,
    directory_times: false,
    subseconds: false,
    xattrs: false,
    owners: false,
    root: false,
};

fn source(sandbox: &Sandbox) -> PathBuf {
    sandbox.file("source/a-telling-name", "a telling content");
    sandbox.file("source/noise", e2e::random::Random::new(3).bytes(3_000_000));
    sandbox.path("source")
}

/// The files below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// A file that is closed to others.
fn private(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let path = sandbox.file(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A new identity in a file that is closed to others, and its public half.
fn identity(sandbox: &Sandbox, name: &str) -> (PathBuf, String) {
    let identities = Identities::generate();
    (private(sandbox, name, &identities.to_text()), identities.public().next().unwrap())
}

#[test]
fn the_zoo_comes_back_from_an_encrypted_directory() {
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    zoo::build(&source, Options { bulk: true, ..Options::ALL });
    let repo = Repo::encrypted(&sandbox);
    let first = repo.create([&source]);
    repo.check_clean();
    let restored = repo.restored(&first.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
    let again = repo.create([&source]);
    let stats = &again.summary["stats"];
    assert_eq!(stats["chunks_added"], 0, "stored twice: {stats}");
}

#[test]
fn every_object_store_takes_encrypted_repositories() {
    for store in ObjectStore::all() {
        let sandbox = Sandbox::new();
        let source = source(&sandbox);
        let repo = Repo::on_store(&sandbox, store.address(), &store.url()).with_new_keys(&sandbox);
        repo.init_for(&sandbox.path("keys/recipients"));
        let created = repo.create([&source]);
        repo.check_clean();
        let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
        eprintln!("compared with the copy in {}", store.kind());
        assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
    }
}

#[test]
fn a_machine_without_the_private_key_saves_checks_and_cleans_up() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    sidecar.create([&source]);
    fs::write(source.join("more"), "more").unwrap();
    let kept = sidecar.create([&source]);
    let checked = sidecar.run(["check", "--json"]).succeed().last_json();
    assert_eq!((errors(&checked).len(), checked["keyless"].as_bool()), (0, Some(true)));
    let text = sidecar.run(["check"]).succeed().stdout_text();
    assert!(text.contains("--identity"), "{text}");
    sidecar.run(["forget", "--keep-last", "1", "--prune"]).succeed();
    sidecar.run(["prune", "--dry-run"]).succeed();
    sidecar.run(["stats"]).succeed();
    assert_eq!(sidecar.snapshot_ids(), std::slice::from_ref(&kept.snapshot));
    repo.check_clean();
    let restored = repo.restored(&kept.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
}

#[test]
fn whoever_wants_content_is_asked_for_the_private_key_in_one_sentence() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let created = sidecar.create([&source]);
    let target = sandbox.path("target");
    let target = target.to_str().unwrap();
    let id = created.snapshot.as_str();
    let file = source.join("noise");
    let file = file.to_str().unwrap();
    let archive = sandbox.path("archive.tar.zst");
    for words in [
        vec!["restore", id, "--target", target],
        vec!["restore", id, "--volume", "chores-test-nowhere"],
        vec!["restore", id, "--into", "chores-test-nobody"],
        vec!["cat", id, file],
        vec!["ls", id],
        vec!["find", "noise"],
        vec!["diff", id, id],
        vec!["export", id, "--to", archive.to_str().unwrap()],
        vec!["drill", id],
        vec!["key", "recover", "--new-key-file", archive.to_str().unwrap()],
    ] {
        let finished = sidecar.run(words.clone()).finish();
        assert_one_sentence(&finished, WRONG_USAGE, &["--identity file"]);
        assert!(!Path::new(target).exists() && !archive.exists(), "{words:?} left something");
    }
}

#[test]
fn whoever_only_reads_cannot_save() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    let reader = repo.without("BACKUP_KEY_FILE");
    assert_one_sentence(&reader.try_create([&source]), WRONG_USAGE, &["--key-file"]);
    reader.run(["cat", "latest"]).arg(source.join("a-telling-name")).succeed();
}

#[test]
fn debian_s_age_zstd_and_tar_read_a_pack() {
    for program in ["age", "zstd", "tar"] {
        assert!(find_program(program).is_some(), "the proof needs {program}");
    }
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    let packs = files(&repo.path().join("packs"));
    assert!(packs.len() >= 2, "{packs:?}");
    let mut members = 0;
    for pack in packs {
        assert!(pack.to_str().unwrap().ends_with(".tar.zst.age"), "{}", pack.display());
        let listed = Run::new("bash")
            .args(["-ec", r#"set -o pipefail; age -d -i "$1" "$2" | zstd -dc | tar t"#, "bash"])
            .arg(sandbox.path("keys/identity"))
            .arg(&pack)
            .succeed();
        members += listed.stdout_text().lines().count();
    }
    assert!(members > 10, "{members} members");
}

#[test]
fn nothing_in_the_store_tells_a_name_or_a_content() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    repo.create([&source]);
    let stored = files(repo.path());
    assert!(!repo.path().join("cache").exists());
    for path in stored {
        let bytes = fs::read(&path).unwrap();
        for telling in [&b"a-telling-name"[..], b"a telling content", b"source"] {
            let shows = bytes.windows(telling.len()).any(|window| window == telling);
            assert!(!shows, "{} is told by {}", String::from_utf8_lossy(telling), path.display());
        }
    }
}

#[test]
fn every_trouble_with_a_key_ends_the_run_in_one_sentence() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    let before = files(repo.path()).len();
    let other = Sandbox::new();
    Repo::encrypted(&other);
    let key = sandbox.path("keys/key");
    let open = sandbox.file("keys/open", fs::read(&key).unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let empty = sandbox.file("keys/empty", "");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    let (stranger, _) = identity(&sandbox, "keys/stranger");
    let given = sandbox.path("keys/identity");
    for (file, words) in [
        (open, "chmod 600"),
        (sandbox.path("keys/missing"), "cannot read the key file"),
        (empty.clone(), "not a key file"),
        (other.path("keys/key"), "another repository"),
        (given, "holds an identity"),
        (sandbox.path("keys"), "is no file"),
    ] {
        let broken = repo.without("BACKUP_IDENTITY_FILE").with("BACKUP_KEY_FILE", &file);
        let finished = broken.try_create([&source]);
        let code = if words == "another repository" { FAILED } else { WRONG_USAGE };
        assert_one_sentence(&finished, code, &[words]);
    }
    for (file, code, words) in [
        (stranger, FAILED, "encrypted for others"),
        (key, WRONG_USAGE, "no identity"),
        (empty, WRONG_USAGE, "holds no identity"),
    ] {
        let broken = repo.with("BACKUP_IDENTITY_FILE", &file);
        assert_one_sentence(&broken.run(["ls", "latest"]).finish(), code, &[words]);
    }
    let none = repo.without("BACKUP_KEY_FILE").without("BACKUP_IDENTITY_FILE");
    assert_one_sentence(&none.try_create([&source]), WRONG_USAGE, &["is encrypted"]);
    assert_eq!(files(repo.path()).len(), before, "something was written");
}

#[test]
fn a_key_never_saves_to_a_repository_that_is_not_encrypted() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    fs::remove_dir_all(repo.path()).unwrap();
    // What somebody put in its place, and what is not there.
    let finished = repo.run(["create", "--init"]).arg(&source).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["not encrypted"]);
    assert!(!repo.path().join("repo.json").exists());
    repo.without("BACKUP_KEY_FILE").without("BACKUP_IDENTITY_FILE").run(["init"]).succeed();
    assert_one_sentence(&repo.try_create([&source]), WRONG_USAGE, &["not encrypted"]);
    assert!(!repo.path().join("packs").exists());
}

#[test]
fn init_takes_nobody_a_private_key_and_a_file_that_is_there_for_a_mistake() {
    let sandbox = Sandbox::new();
    let repo = Repo::at(&sandbox, &sandbox.path("repo"));
    let key = sandbox.path("key");
    let (_, public) = identity(&sandbox, "identity");
    let secret = fs::read_to_string(sandbox.path("identity")).unwrap();
    let empty = sandbox.file("empty", "# nobody\n");
    let there = sandbox.file("there", "a letter");
    let cases: [(Vec<&str>, Option<&Path>, &str); 7] = [
        (vec![], Some(&key), "nobody to encrypt for"),
        (vec!["--recipient", secret.trim()], Some(&key), "public half"),
        (vec!["--recipient", "age1nonsense"], Some(&key), "no recipient"),
        (vec!["--recipients-file", empty.to_str().unwrap()], Some(&key), "names no recipient"),
        (vec!["--recipient", &public], None, "needs a key file"),
        (vec!["--recipient", &public], Some(&there), "there already"),
        (vec!["--passphrase"], Some(&key), "BACKUP_PASSPHRASE_FILE"),
    ];
    for (words, key_file, said) in cases {
        let repo = key_file.map_or_else(|| repo.clone(), |path| repo.with("BACKUP_KEY_FILE", path));
        let finished = repo.run(["init"].into_iter().chain(words)).finish();
        assert!(matches!(finished.code(), Some(FAILED | WRONG_USAGE)), "{finished}");
        assert_one_sentence(&finished, finished.code().unwrap(), &[&said.to_lowercase()]);
        assert!(!finished.stderr_text().contains(secret.trim()), "{finished}");
        assert!(!repo.path().join("repo.json").exists() && !key.exists(), "{said}");
    }
}

#[test]
fn a_passphrase_restores() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let passphrase = private(&sandbox, "keys/passphrase", "correct horse battery staple\n");
    let key = sandbox.path("keys/key");
    let repo = Repo::at(&sandbox, &sandbox.path("repo")).with("BACKUP_KEY_FILE", &key);
    repo.with("BACKUP_PASSPHRASE_FILE", &passphrase).run(["init", "--passphrase"]).succeed();
    let created = repo.create([&source]);
    let reader = repo.without("BACKUP_KEY_FILE").with("BACKUP_PASSPHRASE_FILE", &passphrase);
    let restored = reader.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
    let wrong = private(&sandbox, "keys/wrong", "incorrect horse battery staple");
    let finished = repo.with("BACKUP_PASSPHRASE_FILE", &wrong).run(["ls", "latest"]).finish();
    assert_one_sentence(&finished, FAILED, &["passphrase does not fit"]);
    let both = reader.run(["ls", "latest"]).env("BACKUP_PASSPHRASE", "correct horse");
    assert_one_sentence(&both.finish(), WRONG_USAGE, &["both set"]);
    let other = Repo::at(&sandbox, &sandbox.path("other")).with("BACKUP_KEY_FILE", &key);
    let short = other.run(["init", "--passphrase"]).env("BACKUP_PASSPHRASE", "short");
    assert_one_sentence(&short.finish(), WRONG_USAGE, &["shorter than"]);
    // What no terminal takes would shut out who has nothing but `age`.
    let marked = private(&sandbox, "keys/marked", "\u{feff}correct horse battery staple");
    let lines = private(&sandbox, "keys/lines", "correct horse battery staple\n\n");
    for odd in [marked, lines] {
        let odd = other.with("BACKUP_PASSPHRASE_FILE", &odd).run(["init", "--passphrase"]).finish();
        assert_one_sentence(&odd, WRONG_USAGE, &["nobody can type"]);
    }
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o644)).unwrap();
    let open = repo.with("BACKUP_PASSPHRASE_FILE", &passphrase).run(["ls", "latest"]).finish();
    assert_one_sentence(&open, WRONG_USAGE, &["chmod 600"]);
    assert!(!other.path().exists());
}

#[test]
fn keys_are_added_removed_rotated_and_recovered() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let (first, first_public) = (
        sandbox.path("keys/identity"),
        fs::read_to_string(sandbox.path("keys/recipients")).unwrap(),
    );
    let before = sidecar.create([&source]);
    let (second, second_public) = identity(&sandbox, "keys/second");
    let key = |name: &str| sandbox.path(format!("keys/{name}"));

    sidecar
        .run(["key", "add", "--recipient", &second_public, "--new-key-file"])
        .arg(key("key-2"))
        .succeed();
    let finished = sidecar.try_create([&source]);
    assert_one_sentence(&finished, FAILED, &["out of date"]);
    let sidecar = sidecar.with("BACKUP_KEY_FILE", &key("key-2"));
    let listed = sidecar.run(["key", "list"]).succeed().stdout_text();
    assert!(listed.contains(&first_public) && listed.contains(&second_public), "{listed}");
    // Of what was there before, only the others read a thing.
    let new = sidecar.with("BACKUP_IDENTITY_FILE", &second);
    let finished = new.restore_run(&before.snapshot, &sandbox.path("target-1"), &[]).finish();
    assert_eq!(finished.code(), Some(FAILED), "{finished}");
    assert!(finished.stderr_text().contains("encrypted for others"), "{finished}");
    // Whatever is saved from now on is for the new one too, also what has not changed, and then the first is as well: its
    // content is in the packs of the second.
    let between = sidecar.create([&source]);
    let wanted = tree::read(&source);
    for (snapshot, target) in [(&between.snapshot, "target-2"), (&before.snapshot, "target-3")] {
        let restored = new.restored(snapshot, &sandbox.path(target));
        assert_same_trees(&wanted, &restored, NO_SOCKETS);
    }

    sidecar
        .run(["key", "remove", "--recipient", &first_public, "--new-key-file"])
        .arg(key("key-3"))
        .succeed();
    let sidecar = sidecar.with("BACKUP_KEY_FILE", &key("key-3"));
    fs::write(source.join("later"), e2e::random::Random::new(8).bytes(100_000)).unwrap();
    let after = sidecar.create([&source]);
    let old = sidecar.with("BACKUP_IDENTITY_FILE", &first);
    let restored = old.restored(&before.snapshot, &sandbox.path("target-4"));
    assert_same_trees(&wanted, &restored, NO_SOCKETS);
    let finished = old.restore_run(&after.snapshot, &sandbox.path("target-5"), &[]).finish();
    assert_eq!(finished.code(), Some(FAILED), "{finished}");
    let alone = old.without("BACKUP_KEY_FILE").run(["snapshots"]).finish();
    assert_one_sentence(&alone, FAILED, &["no identity that was given fits"]);
    let finished = sidecar
        .run(["key", "remove", "--recipient", &second_public, "--new-key-file"])
        .arg(key("key-none"))
        .finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["only recipient"]);

    sidecar.run(["key", "rotate", "--new-key-file"]).arg(key("key-4")).succeed();
    assert_one_sentence(&sidecar.try_create([&source]), FAILED, &["out of date"]);
    let reader = sidecar.without("BACKUP_KEY_FILE").with("BACKUP_IDENTITY_FILE", &second);
    let recovered = key("recovered");
    let recover = reader.run(["key", "recover", "--json", "--new-key-file"]).arg(&recovered);
    let told = recover.succeed().last_json();
    // Machines have to compare as well for whom it encrypts.
    assert_eq!(told["readers"][0]["recipient"], second_public.as_str(), "{told}");
    assert_eq!(fs::read(&recovered).unwrap(), fs::read(key("key-4")).unwrap());
    let sidecar = sidecar.with("BACKUP_KEY_FILE", &recovered);
    let random = e2e::random::Random::new(9).bytes(100_000);
    fs::write(source.join("last"), random).unwrap();
    sidecar.create([&source]);
    assert_eq!(sidecar.snapshot_ids().len(), 4);
    // Beside the identity of a former recipient everything is cleaned up for which nothing is saved.
    let former = sidecar.with("BACKUP_IDENTITY_FILE", &first);
    let forgotten = former.run(["forget", "--keep-last", "1", "--prune"]).succeed().stdout_text();
    assert!(forgotten.contains("3 snapshots forgotten"), "{forgotten}");
    assert!(forgotten.contains("one of its recipients"), "{forgotten}");
    let pruned = former.run(["prune", "--json"]).succeed().last_json();
    assert_eq!(pruned["repacking"], "other-identity", "{pruned}");
}

#[test]
fn snapshots_are_copied_into_an_encrypted_bucket_and_back_without_their_source() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let clear = Repo::directory(&sandbox);
    clear.create([&source]);
    let wanted = tree::read(&source);
    fs::remove_dir_all(&source).unwrap();
    let store = ObjectStore::in_process();
    let bucket = Repo::on_store(&sandbox, store.address(), &store.url()).with_new_keys(&sandbox);
    bucket.init_for(&sandbox.path("keys/recipients"));
    let copy = ["copy", "--json", "--from"];
    let saver = bucket.without("BACKUP_IDENTITY_FILE");
    let copied = saver.run(copy).arg(clear.path()).succeed().last_json();
    assert_eq!((copied["copied"].as_u64(), copied["there"].as_u64()), (Some(1), Some(0)));
    let copied = saver.run(copy).arg(clear.path()).succeed().last_json();
    assert_eq!((copied["copied"].as_u64(), copied["there"].as_u64()), (Some(0), Some(1)));
    bucket.check_clean();
    let restored = bucket.restored("latest", &sandbox.path("target"));
    assert_same_trees(&wanted, &restored, NO_SOCKETS);

    let back = sandbox.path("back");
    Repo::at(&sandbox, &back).run(["init"]).succeed();
    let reader = bucket.without("BACKUP_KEY_FILE");
    reader.run(["copy", "--from", &store.url(), "--to"]).arg(&back).succeed();
    let back = Repo::at(&sandbox, &back);
    back.check_clean();
    assert_same_trees(&wanted, &back.restored("latest", &sandbox.path("target-2")), NO_SOCKETS);
    // Without the private key nothing is read there.
    let finished = saver
        .without("BACKUP_KEY_FILE")
        .with("BACKUP_FROM_KEY_FILE", &sandbox.path("keys/key"))
        .run(["copy", "--from", &store.url(), "--to"])
        .arg(sandbox.path("back"))
        .finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["--identity file"]);
}

#[test]
fn a_swapped_cut_or_renamed_object_is_refused() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    fs::write(source.join("noise"), e2e::random::Random::new(4).bytes(3_000_000)).unwrap();
    repo.create([&source]);
    let damage = |kind: &str, act: &dyn Fn(&[PathBuf])| {
        let copy = sandbox.path(kind);
        zoo::copy(repo.path(), &copy);
        let damaged = Repo::at(&sandbox, &copy)
            .with("BACKUP_KEY_FILE", &sandbox.path("keys/key"))
            .with("BACKUP_IDENTITY_FILE", &sandbox.path("keys/identity"));
        act(&files(&copy.join(kind.split('-').next().unwrap())));
        let checked = damaged.run(["check", "--read-data", "--json"]).finish();
        assert_eq!(checked.code(), Some(FAILED), "{kind}: {checked}");
        let errors = errors(&checked.last_json());
        let of_kind = errors.iter().any(|error| {
            let object = error["object"].as_str().unwrap();
            damaged.path().join(object).exists()
                && object.starts_with(kind.split('-').next().unwrap())
        });
        assert!(of_kind, "{kind}: {checked}");
    };
    let swap = |paths: &[PathBuf]| {
        let (one, two) = (fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
        fs::write(&paths[0], two).unwrap();
        fs::write(&paths[1], one).unwrap();
    };
    let cut = |paths: &[PathBuf]| {
        let bytes = fs::read(&paths[0]).unwrap();
        fs::write(&paths[0], &bytes[..bytes.len() - 1]).unwrap();
    };
    let rename = |paths: &[PathBuf]| {
        let name = paths[0].file_name().unwrap().to_str().unwrap();
        let digits = if name.starts_with("20") {
            name.replacen("20", "21", 1)
        } else {
            let (head, tail) = name.split_at(4);
            format!("{}{tail}", if head == "0000" { "1111" } else { "0000" })
        };
        fs::rename(&paths[0], paths[0].with_file_name(digits)).unwrap();
    };
    for kind in ["snapshots", "index", "packs"] {
        damage(&format!("{kind}-swapped"), &swap);
        damage(&format!("{kind}-cut"), &cut);
    }
    damage("snapshots-renamed", &rename);
    damage("index-renamed", &rename);
}

#[test]
fn a_secret_in_a_wrong_place_is_not_repeated() {
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    let secret = fs::read_to_string(sandbox.path("keys/identity")).unwrap();
    let secret = secret.trim();
    let key_file = fs::read_to_string(sandbox.path("keys/key")).unwrap();
    let new = sandbox.path("keys/new");
    let new = new.to_str().unwrap();
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let runs = [
        sidecar.run(["key", "remove", "--recipient", secret, "--new-key-file", new]),
        sidecar.run(["key", "add", "--recipients-file", secret, "--new-key-file", new]),
        sidecar.run(["snapshots", "--identity", secret]),
        sidecar.without("BACKUP_KEY_FILE").run(["snapshots", "--key-file", &key_file]),
    ];
    for run in runs {
        let finished = run.finish();
        assert_one_sentence(&finished, WRONG_USAGE, &["public half", "the name of a file"]);
        let said = finished.stderr_text() + &finished.stdout_text();
        assert!(!said.contains(secret) && !said.contains("dedup_key"), "{said}");
    }
    assert!(!Path::new(new).exists());
}

/// Opens a pipe for writing when a run waits for its key at the other end.
fn writer_of(pipe: &Path) -> OwnedFd {
    let deadline = Instant::now() + PIPE_PATIENCE;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    loop {
        match rustix::fs::open(pipe, flags, Mode::empty()) {
            Ok(writer) => return writer,
            Err(error) => assert_eq!(error, Errno::NXIO),
        }
        assert!(Instant::now() < deadline, "nobody reads {}", pipe.display());
        std::thread::sleep(POLL);
    }
}

#[test]
fn a_run_leaves_no_core_file_and_takes_no_key_from_a_pipe_that_others_write_to() {
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    let pipe = sandbox.path("keys/pipe");
    for (mode, said) in [(0o600, "not a key file"), (0o622, "chmod 600")] {
        mknodat(CWD, &pipe, FileType::Fifo, Mode::empty(), 0).unwrap();
        fs::set_permissions(&pipe, fs::Permissions::from_mode(mode)).unwrap();
        let run = repo.with("BACKUP_KEY_FILE", &pipe).run(["snapshots"]).start();
        let writer = writer_of(&pipe);
        if mode == 0o600 {
            let limits = fs::read_to_string(format!("/proc/{}/limits", run.id())).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            let words: Vec<_> = core.split_whitespace().collect();
            assert_eq!(words.get(4..6), Some(&["0", "0"][..]), "{core}");
        }
        drop(writer);
        assert_one_sentence(&run.wait(), WRONG_USAGE, &[said]);
        fs::remove_file(&pipe).unwrap();
    }
}

#[test]
fn of_two_changes_that_write_the_same_key_file_one_is_made_and_its_file_opens() {
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    let mut key = sandbox.path("keys/key");
    for round in 0..3 {
        let new = sandbox.path(format!("keys/new-{round}"));
        let current = repo.with("BACKUP_KEY_FILE", &key);
        let rotate = || current.run(["key", "rotate", "--new-key-file"]).arg(&new).start();
        let mut both = [rotate(), rotate()].map(|run| run.wait().code());
        both.sort();
        // The other one meets the name, the new key file or the new repo.json.
        assert!(both[0] == Some(0) && matches!(both[1], Some(FAILED | WRONG_USAGE)), "{both:?}");
        repo.with("BACKUP_KEY_FILE", &new).run(["snapshots"]).succeed();
        key = new;
    }
    let taken = repo.with("BACKUP_KEY_FILE", &key).run(["key", "rotate", "--new-key-file"]);
    let before = fs::read(&key).unwrap();
    assert_one_sentence(&taken.arg(&key).finish(), WRONG_USAGE, &["is there already"]);
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn a_check_tells_what_is_encrypted_for_others_from_what_is_damaged() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let repo = Repo::encrypted(&sandbox);
    repo.create([&source]);
    let before = files(&repo.path().join("packs"));
    let (second, public) = identity(&sandbox, "keys/second");
    let key = sandbox.path("keys/key-2");
    let add = repo.run(["key", "add", "--recipient", &public, "--new-key-file"]);
    add.arg(&key).succeed();
    let new = repo.with("BACKUP_KEY_FILE", &key).with("BACKUP_IDENTITY_FILE", &second);
    fs::write(source.join("noise"), e2e::random::Random::new(5).bytes(3_000_000)).unwrap();
    new.create([&source]);
    // The first snapshot has a file that no later one has stored again.
    let check = ["check", "--read-data", "--json"];
    let summary = new.run(check).finish().expect_code(WARNINGS).last_json();
    assert_eq!(errors(&summary).len(), 0, "{summary}");
    assert!(summary["closed_packs"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["keyless"], false);
    assert_eq!(summary["packs_read"], summary["packs"]);
    let text = new.run(["check"]).finish().expect_code(WARNINGS).stdout_text();
    assert!(text.contains("encrypted for others"), "{text}");
    // Who was there before reads all of it, and so it is sound.
    repo.with("BACKUP_KEY_FILE", &key).check_clean();
    // An identity of elsewhere opens nothing: that is said, and nothing is saved beside it.
    let (stranger, _) = identity(&sandbox, "keys/stranger");
    let strange = new.with("BACKUP_IDENTITY_FILE", &stranger);
    let summary = strange.run(check).finish().expect_code(WARNINGS).last_json();
    assert_eq!(summary["closed_snapshots"], 2, "{summary}");
    assert_eq!(summary["closed_packs"], summary["packs"], "{summary}");
    assert_one_sentence(&strange.try_create([&source]), WRONG_USAGE, &["one of its recipients"]);
    // A header that rotted in a pack of before opens nothing either, and is damage: it is not what its name says.
    let pack = &before[0];
    let sound = fs::read(pack).unwrap();
    let mut bytes = sound.clone();
    let wrapped = b"age-encryption.org/v1\n-> X25519 ".len() + 43 + 1;
    bytes[wrapped + 4] = if bytes[wrapped + 4] == b'A' { b'B' } else { b'A' };
    fs::write(pack, bytes).unwrap();
    let owner = repo.with("BACKUP_KEY_FILE", &key);
    let summary = owner.run(check).finish().expect_code(FAILED).last_json();
    assert!(summary.to_string().contains("does not match its name"), "{summary}");
    fs::write(pack, sound).unwrap();
    // What is damaged is damaged for everybody.
    let pack = files(&repo.path().join("packs")).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    for reader in [&new, &strange] {
        let summary = reader.run(check).finish().expect_code(FAILED).last_json();
        assert!(!errors(&summary).is_empty(), "{summary}");
    }
}

#[test]
fn snapshots_are_copied_between_repositories_with_keys_of_their_own() {
    let (ours, theirs) = (Sandbox::new(), Sandbox::new());
    let source = source(&ours);
    let (from, to) = (Repo::encrypted(&ours), Repo::encrypted(&theirs));
    from.create([&source]);
    let copy = |from_key: &Sandbox, key: &Sandbox, identity: &Sandbox| {
        to.with("BACKUP_KEY_FILE", &key.path("keys/key"))
            .with("BACKUP_FROM_KEY_FILE", &from_key.path("keys/key"))
            .with("BACKUP_IDENTITY_FILE", &identity.path("keys/identity"))
            .run(["copy", "--json", "--from"])
            .arg(from.path())
            .finish()
    };
    for mixed in [copy(&theirs, &theirs, &ours), copy(&ours, &ours, &ours)] {
        assert_one_sentence(&mixed, FAILED, &["another repository"]);
    }
    let unread = copy(&ours, &theirs, &theirs).expect_code(FAILED);
    assert!(unread.stderr_text().contains("encrypted for others"), "{unread}");
    assert!(to.snapshot_ids().is_empty());
    let copied = copy(&ours, &theirs, &ours).expect_code(0).last_json();
    assert_eq!(copied["copied"], 1, "{copied}");
    to.check_clean();
    let restored = to.without("BACKUP_KEY_FILE").restored("latest", &theirs.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
}

#[test]
fn a_variable_that_would_encrypt_and_is_none_of_ours_saves_nothing_in_clear() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let (_, public) = identity(&sandbox, "identity");
    let repo = Repo::at(&sandbox, &sandbox.path("repo"));
    let run = repo.run(["create", "--init"]).arg(&source).env("BACKUP_RECIPIENTS", public);
    assert_one_sentence(&run.finish(), WRONG_USAGE, &["backup_recipients"]);
    assert!(!repo.path().exists());
    // What lets containers go on, and what tells how a service is, does not end for that.
    let open = sandbox.file("open", "correct horse battery staple");
    for words in [&["resume"][..], &["guard"], &["healthcheck", "alive"]] {
        let run = backup(&sandbox).args(words.iter().copied()).env("BACKUP_PASSWORD", "hunter2");
        let finished = run.env("BACKUP_PASSPHRASE_FILE", &open).finish();
        let said = finished.stderr_text();
        assert!(said.contains("BACKUP_PASSWORD is set"), "{finished}");
        assert!(!said.contains("would not be") && !said.contains("chmod"), "{finished}");
    }
    backup(&sandbox).arg("resume").env("BACKUP_PASSWORD", "hunter2").succeed();
}

/// Runs where a secret lies at a place as Swarm and Kubernetes hand it in: in memory, mounted with `options`.
fn handed_in(run: Run, place: &Path, secret: &Path, mode: u32, options: &str) -> Run {
    let script = "mount -t tmpfs -o mode=755 secrets \"$1\" && cp \"$2\" \"$1/secret\" && chmod \"$3\" \"$1/secret\" && \
                  mount -o \"remount,$4\" \"$1\" && shift 4 && exec \"$@\"";
    let words = ["unshare", "--mount", "sh", "-ec", script, "sh"].map(str::to_owned);
    let paths = [place, secret].map(|path| path.display().to_string());
    run.wrapped(words.into_iter().chain(paths).chain([format!("{mode:o}"), options.to_owned()]))
}

#[test]
fn a_secret_that_a_container_is_given_is_taken_with_the_mode_it_has_by_default() {
    if find_program("unshare").is_none() || !rustix::process::geteuid().is_root() {
        e2e::notice!("skipped: only root mounts");
        return;
    }
    let sandbox = Sandbox::new();
    let repo = Repo::encrypted(&sandbox);
    let place = sandbox.directory("secrets");
    let sidecar = repo
        .without("BACKUP_IDENTITY_FILE")
        .without("BACKUP_KEY_FILE")
        .with("BACKUP_KEY_FILE", &place.join("secret"));
    let key = sandbox.path("keys/key");
    let run =
        |mode, options| handed_in(sidecar.run(["snapshots"]), &place, &key, mode, options).finish();
    for mode in [0o400, 0o444, 0o644] {
        run(mode, "ro").expect_code(0);
    }
    // Others could change it, or it lies in a `/tmp` that others look into.
    for (mode, options) in [(0o446, "ro"), (0o664, "ro"), (0o444, "rw")] {
        assert_one_sentence(&run(mode, options), WRONG_USAGE, &["chmod 600"]);
    }
    // A passphrase is read by the same rules, from the file that was looked at.
    let passphrase = private(&sandbox, "keys/passphrase", "correct horse battery staple\n");
    let (key, file) = (sandbox.path("keys/key-2"), place.join("secret"));
    let made = Repo::at(&sandbox, &sandbox.path("repo-2")).with("BACKUP_KEY_FILE", &key);
    let init = made.with("BACKUP_PASSPHRASE_FILE", &file).run(["init", "--passphrase"]);
    handed_in(init, &place, &passphrase, 0o444, "ro").succeed();
    assert!(made.path().join("repo.json").exists());
}

#[test]
fn a_stream_is_encrypted_for_recipients_and_read_by_age_zstd_and_tar() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox);
    let (secret, public) = identity(&sandbox, "identity");
    let archive = sandbox.path("archive.tar.zst.age");
    let stream = |recipient: &str| {
        backup(&sandbox)
            .args(["stream", "--recipient", recipient, "--to"])
            .arg(&archive)
            .arg(&source)
    };
    let refused = stream(fs::read_to_string(&secret).unwrap().trim()).finish();
    assert_one_sentence(&refused, WRONG_USAGE, &["public half"]);
    assert_one_sentence(&stream("").finish(), WRONG_USAGE, &["no recipient"]);
    assert!(!archive.exists());
    stream(&public).succeed();
    let target = sandbox.directory("target");
    let unpack = || {
        Run::new("bash")
            .args([
                "-ec",
                r#"set -o pipefail; age -d -i "$1" "$2" | zstd -dc | tar x -C "$3""#,
                "bash",
            ])
            .arg(&secret)
            .arg(&archive)
            .arg(&target)
    };
    unpack().succeed();
    let unpacked = tree::read(&target.join(source.strip_prefix("/").unwrap()));
    assert_same_trees(&tree::read(&source), &unpacked, Ignore { subseconds: true, ..NO_SOCKETS });
    // Cut where a piece of it ends, it is not taken for whole.
    let bytes = fs::read(&archive).unwrap();
    assert!(bytes.len() > 2 << 16);
    fs::write(&archive, &bytes[..bytes.len() - 20]).unwrap();
    assert_ne!(unpack().finish().code(), Some(0));
    // A key of a repository encrypts nothing here, and that is said.
    let repo = Repo::encrypted(&sandbox);
    let clear = repo.run(["stream", "--to"]).arg(sandbox.path("clear.tar.zst")).arg(&source);
    let clear = clear.succeed();
    assert!(clear.stderr_text().contains("the archive is not encrypted"), "{clear}");
}
