//! The S3 client against a store that fails: what passes is retried, what does not is given up in time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chores_common::object::{ErrorKind, Location, ObjectStore, S3Settings};
use chores_common::secret::Secret;
use e2e::fake_s3::{FakeS3, Fault, Objects};
use e2e::runtime::wait;

/// The time after which a failing call must have been given up.
const GIVE_UP: Duration = Duration::from_secs(60);

fn client(store: &FakeS3) -> ObjectStore {
    let address = store.address();
    let settings = S3Settings {
        endpoint: Some(address.endpoint.clone()),
        region: Some(address.region.clone()),
        access_key: Some(address.access_key.clone()),
        secret_key: Some(Secret::new(address.secret_key.clone())),
        ..S3Settings::default()
    };
    ObjectStore::open(&Location::parse(&address.url("repo")).unwrap(), &settings).unwrap()
}

fn put(store: &FakeS3, key: &'static str) -> Result<(), ErrorKind> {
    let client = client(store);
    wait(async move {
        client.put(key, Bytes::from_static(b"content")).await.map_err(|error| error.kind())
    })
}

#[test]
fn everything_put_is_listed_and_read_back() {
    let store = FakeS3::new();
    put(&store, "packs/ab/one").unwrap();
    put(&store, "packs/cd/two").unwrap();
    let client = client(&store);
    let (listed, whole, part) = wait(async move {
        let listed = client.list("packs/").await.unwrap();
        let whole = client.get("packs/ab/one", 100).await.unwrap();
        (listed, whole, client.get_range("packs/cd/two", 1..4).await.unwrap())
    });
    let keys: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["packs/ab/one", "packs/cd/two"]);
    assert_eq!((&whole[..], &part[..]), (&b"content"[..], &b"ont"[..]));
}

#[test]
fn a_passing_failure_is_retried() {
    for fault in [Fault::FailOnce(0), Fault::AppliedButLost(0)] {
        let store = FakeS3::with_objects(Objects::new(), &[fault]);
        assert_eq!(put(&store, "key"), Ok(()), "{fault:?}");
        assert_eq!(&store.objects()["repo/key"][..], b"content");
    }
}

#[test]
fn a_lasting_failure_is_given_up_in_time() {
    for fault in [Fault::Fail(0), Fault::Crash(0)] {
        let store = FakeS3::with_objects(Objects::new(), &[fault]);
        let begun = Instant::now();
        assert!(put(&store, "key").is_err(), "{fault:?}");
        assert!(begun.elapsed() < GIVE_UP, "{fault:?} took {:?}", begun.elapsed());
        assert!(store.objects().is_empty());
    }
}

#[test]
fn a_refusal_is_not_retried() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Crash(0)]);
    assert_eq!(put(&store, "key"), Err(ErrorKind::Denied));
    assert_eq!(store.calls().len(), 1, "{:?}", store.calls());
}
