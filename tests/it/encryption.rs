//! Encrypted repositories: who saves does not read, who reads is asked for a key, and the store learns nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backup::keys::identity::Identities;
use e2e::compare::{Ignore, assert_same_trees};
use e2e::object_store::ObjectStore;
use e2e::process::{Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::tree;
use e2e::zoo::{self, Options};

use crate::tool::{FAILED, Repo, WRONG_USAGE, assert_one_sentence, errors};

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

/// A new identity in a file that is closed to others, and its public half.
fn identity(sandbox: &Sandbox, name: &str) -> (PathBuf, String) {
    let identities = Identities::generate();
    let path = sandbox.file(name, identities.to_text().as_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (path, identities.public().next().unwrap())
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
        vec!["check", "--read-data"],
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
    assert_eq!(packs.len(), 2);
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
    let passphrase = sandbox.file("keys/passphrase", "correct horse battery staple\n");
    let key = sandbox.path("keys/key");
    let repo = Repo::at(&sandbox, &sandbox.path("repo")).with("BACKUP_KEY_FILE", &key);
    repo.with("BACKUP_PASSPHRASE_FILE", &passphrase).run(["init", "--passphrase"]).succeed();
    let created = repo.create([&source]);
    let reader = repo.without("BACKUP_KEY_FILE").with("BACKUP_PASSPHRASE_FILE", &passphrase);
    let restored = reader.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, NO_SOCKETS);
    let wrong = sandbox.file("keys/wrong", "incorrect horse battery staple");
    let finished = repo.with("BACKUP_PASSPHRASE_FILE", &wrong).run(["ls", "latest"]).finish();
    assert_one_sentence(&finished, FAILED, &["passphrase does not fit"]);
    let both = reader.run(["ls", "latest"]).env("BACKUP_PASSPHRASE", "correct horse");
    assert_one_sentence(&both.finish(), WRONG_USAGE, &["both set"]);
    let other = Repo::at(&sandbox, &sandbox.path("other")).with("BACKUP_KEY_FILE", &key);
    let short = other.run(["init", "--passphrase"]).env("BACKUP_PASSPHRASE", "short");
    assert_one_sentence(&short.finish(), WRONG_USAGE, &["shorter than"]);
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
    assert_one_sentence(&finished, FAILED, &["only recipient"]);

    sidecar.run(["key", "rotate", "--new-key-file"]).arg(key("key-4")).succeed();
    assert_one_sentence(&sidecar.try_create([&source]), FAILED, &["out of date"]);
    let reader = sidecar.without("BACKUP_KEY_FILE").with("BACKUP_IDENTITY_FILE", &second);
    let recovered = key("recovered");
    reader.run(["key", "recover", "--new-key-file"]).arg(&recovered).succeed();
    assert_eq!(fs::read(&recovered).unwrap(), fs::read(key("key-4")).unwrap());
    let sidecar = sidecar.with("BACKUP_KEY_FILE", &recovered);
    let random = e2e::random::Random::new(9).bytes(100_000);
    fs::write(source.join("last"), random).unwrap();
    sidecar.create([&source]);
    assert_eq!(sidecar.snapshot_ids().len(), 4);
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
