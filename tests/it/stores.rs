//! Stores that are wrong, closed or full: one clear sentence, exit 1, no half snapshot.

use std::fs;
use std::time::Duration;

use e2e::fake_s3::{FakeS3, Op};
use e2e::object_store::{Address, ObjectStore};
use e2e::random::Random;
use e2e::sandbox::Sandbox;

use crate::tool::{FAILED, Repo, WRONG_USAGE, assert_one_sentence};

/// The time within which a store that does not answer must have been given up.
const GIVE_UP: Duration = Duration::from_secs(90);

/// Room on a full disk for a small snapshot, in bytes.
const RESERVE: usize = 1 << 20;

fn source(sandbox: &Sandbox, bytes: usize) -> std::path::PathBuf {
    let source = sandbox.directory("source");
    fs::write(source.join("noise"), Random::new(41).bytes(bytes)).unwrap();
    source
}

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let store = ObjectStore::in_process();
    let repo = Repo::on_store(&sandbox, store.address(), "s3://no-such-bucket-here/repo");
    assert_one_sentence(&repo.run(["init"]).finish(), FAILED, &["no-such-bucket-here"]);
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["no-such-bucket-here"]);
}

#[test]
fn wrong_keys_are_called_wrong_keys() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let store = ObjectStore::in_process();
    Repo::on_store(&sandbox, store.address(), &store.url()).run(["init"]).succeed();
    let wrong = Address { secret_key: "wrong".to_owned(), ..store.address().clone() };
    let repo = Repo::on_store(&sandbox, &wrong, &store.url());
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["key", "credential", "denied"]);
    let unknown = Address { access_key: "NOBODY".to_owned(), ..store.address().clone() };
    let repo = Repo::on_store(&sandbox, &unknown, &store.url());
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["key", "credential", "denied"]);
}

#[test]
fn missing_keys_are_asked_for() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let store = ObjectStore::in_process();
    let repo = Repo::on_store(&sandbox, store.address(), &store.url());
    let run = repo
        .run(["create"])
        .arg(&source)
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "");
    assert_one_sentence(&run.finish(), WRONG_USAGE, &["aws_secret_access_key", "empty"]);
}

#[test]
fn an_endpoint_that_does_not_answer_is_given_up() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let store = ObjectStore::in_process();
    // Port 1 (tcpmux) is open nowhere.
    let closed = Address { endpoint: "http://127.0.0.1:1".to_owned(), ..store.address().clone() };
    let repo = Repo::on_store(&sandbox, &closed, &store.url());
    let run = repo.run(["create", "--json"]).arg(&source).deadline(GIVE_UP);
    assert_one_sentence(&run.finish(), FAILED, &["127.0.0.1:1"]);
}

#[test]
fn a_repository_that_was_never_made_is_not_made_by_create() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let repo = Repo::at(&sandbox, &sandbox.path("repo"));
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["backup init"]);
    assert!(!sandbox.path("repo").exists());
}

#[test]
fn init_leaves_other_peoples_files_alone() {
    let sandbox = Sandbox::new();
    let repo = Repo::at(&sandbox, &sandbox.directory("repo"));
    fs::write(sandbox.path("repo/precious"), "data").unwrap();
    assert_one_sentence(&repo.run(["init"]).finish(), FAILED, &["not empty"]);
    assert_eq!(fs::read_dir(sandbox.path("repo")).unwrap().count(), 1);
}

#[test]
fn init_twice_keeps_the_first_repository() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let before = fs::read(sandbox.path("repo/repo.json")).unwrap();
    assert_one_sentence(&repo.run(["init"]).finish(), FAILED, &["already"]);
    assert_eq!(fs::read(sandbox.path("repo/repo.json")).unwrap(), before);
}

#[test]
fn a_read_only_directory_is_called_read_only() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let Some(disk) = sandbox.small_disk("disk", 16 << 20) else { return };
    let repo = Repo::at(&sandbox, &disk.path().join("repo"));
    repo.run(["init"]).succeed();
    let first = repo.create([&source]);
    disk.make_read_only();
    fs::write(source.join("more"), "more").unwrap();
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["read-only"]);
    // Reading goes on.
    assert_eq!(repo.snapshot_ids(), std::slice::from_ref(&first.snapshot));
    repo.restored(&first.snapshot, &sandbox.path("target"));
}

#[test]
fn a_full_disk_is_called_full_and_shows_no_half_snapshot() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let Some(disk) = sandbox.small_disk("disk", 6 << 20) else { return };
    let repo = Repo::at(&sandbox, &disk.path().join("repo"));
    repo.run(["init"]).succeed();
    let first = repo.create([&source]);
    // How much room the packs that fitted leave is chance, since packs are cut by a random key.
    let reserve = disk.path().join("reserve");
    fs::write(&reserve, Random::new(43).bytes(RESERVE)).unwrap();
    fs::write(source.join("large"), Random::new(42).bytes(12 << 20)).unwrap();
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["no space", "full"]);
    assert_eq!(repo.snapshot_ids(), std::slice::from_ref(&first.snapshot));
    // What fits is still welcome: the failed run left the repository usable.
    fs::remove_file(source.join("large")).unwrap();
    fs::remove_file(reserve).unwrap();
    let next = repo.create([&source]);
    repo.restored(&next.snapshot, &sandbox.path("target"));
}

#[test]
fn a_full_target_is_called_full() {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 8 << 20);
    let repo = Repo::directory(&sandbox);
    repo.create([&source]);
    let Some(disk) = sandbox.small_disk("disk", 2 << 20) else { return };
    let finished = repo.restore_run("latest", &disk.path().join("target"), &[]).finish();
    assert_one_sentence(&finished, FAILED, &["no space", "full", "free"]);
}

#[test]
fn an_unchanged_repeat_costs_a_handful_of_requests() {
    const REQUESTS_MAX: usize = 13;
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 3 << 20);
    let store = FakeS3::new();
    let repo = Repo::on_store(&sandbox, store.address(), &store.address().url("repo"));
    repo.run(["init"]).succeed();
    repo.create([&source]);
    let before = store.calls().len();
    repo.create([&source]);
    let calls = store.calls().split_off(before);
    assert!(calls.len() <= REQUESTS_MAX, "{} requests: {calls:#?}", calls.len());
    let put: usize = calls.iter().filter(|call| call.op == Op::Put).map(|call| call.bytes).sum();
    assert!(put < 16 * 1024, "{put} bytes were stored: {calls:#?}");
    let got: usize = calls.iter().filter(|call| call.op == Op::Get).map(|call| call.bytes).sum();
    assert!(got < 64 * 1024, "{got} bytes were fetched: {calls:#?}");
}
