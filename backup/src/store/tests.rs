use std::net::TcpListener;
use std::time::{Duration, Instant};

use chores_common::object::{ErrorKind, Location, ObjectStore, S3Settings};
use chores_common::secret::Secret;
use chores_common::shutdown::Shutdown;

use super::{Store, WRITE_GRACE};

/// Far more than a machine under load needs to notice the request to stop.
const MARGIN: Duration = Duration::from_secs(20);

/// A call on a store that accepts connections and never answers, with the request to stop made while
/// it waits.
fn interrupted_after(call: impl FnOnce(&Store) -> ErrorKind) -> (ErrorKind, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = S3Settings {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        access_key: Some("key".to_owned()),
        secret_key: Some(Secret::new("secret".to_owned())),
        ..S3Settings::default()
    };
    let location = Location::parse("s3://bucket/prefix").unwrap();
    let objects = ObjectStore::open(&location, &settings).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let shutdown = Shutdown::new();
    let store = Store::new(objects, runtime.handle().clone(), shutdown.clone());
    let outcome = std::thread::scope(|scope| {
        // Its result keeps the connection open, and nobody reads from it.
        let _held = scope.spawn(|| {
            let connection = listener.accept().unwrap();
            shutdown.request();
            connection
        });
        let begun = Instant::now();
        (call(&store), begun.elapsed())
    });
    runtime.shutdown_background();
    outcome
}

#[test]
fn a_read_from_a_store_that_hangs_ends_with_the_request_to_stop() {
    let (kind, elapsed) =
        interrupted_after(|store| store.get("repo.json", 100).unwrap_err().kind());
    assert_eq!(kind, ErrorKind::Interrupted);
    assert!(elapsed < MARGIN, "{elapsed:?}");
}

#[test]
fn a_write_to_a_store_that_hangs_has_its_grace_and_ends() {
    let (kind, elapsed) =
        interrupted_after(|store| store.put("repo.json", "x").unwrap_err().kind());
    assert_eq!(kind, ErrorKind::Interrupted);
    assert!(elapsed >= WRITE_GRACE && elapsed < WRITE_GRACE + MARGIN, "{elapsed:?}");
}

#[test]
fn only_old_temporary_files_of_killed_writers_are_removed() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("packs/ab");
    std::fs::create_dir_all(&folder).unwrap();
    let stale = folder.join(".pack.tmp-0123456789abcdef");
    let fresh = folder.join(".pack.tmp-fedcba9876543210");
    let pack = folder.join("pack");
    for path in [&stale, &fresh, &pack] {
        std::fs::write(path, "content").unwrap();
    }
    for path in [&stale, &pack] {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * DAY).unwrap();
    }
    let location = Location::Directory(directory.path().to_owned());
    let objects = ObjectStore::open(&location, &S3Settings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = Store::new(objects, runtime.handle().clone(), Shutdown::new());
    assert_eq!(store.temporaries().unwrap().len(), 2);
    assert_eq!(store.remove_temporaries(DAY).unwrap(), 1);
    assert!(!stale.exists() && fresh.exists() && pack.exists());
}
