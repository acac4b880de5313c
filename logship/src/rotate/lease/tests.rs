use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;

use super::*;

#[test]
fn a_file_is_held_as_long_as_one_writer_has_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    prepare().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let writer = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    let file = File::open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    assert_eq!(probe(&file), Held::Yes);
    drop(writer);
    assert_eq!(probe(&file), Held::Yes);
    drop(other);
    assert_eq!(probe(&file), Held::No);
    assert_eq!(probe(&reader), Held::No);
    let held = Lease::take(&file).unwrap();
    let refused = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(held);
    assert!(OpenOptions::new().write(true).open(&path).is_ok());
}

#[test]
fn whoever_waits_to_write_is_seen_before_the_lease_is_given_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    prepare().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    std::fs::write(&path, "line\n").unwrap();
    let file = File::open(&path).unwrap();
    let held = Lease::take(&file).unwrap();
    assert!(!held.is_awaited().unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| OpenOptions::new().append(true).open(&path).unwrap());
        // The kernel waits much longer for us (/proc/sys/fs/lease-break-time).
        while !held.is_awaited().unwrap() {
            std::thread::yield_now();
        }
        assert!(!writer.is_finished());
        drop(held);
        writer.join().unwrap();
    });
}
