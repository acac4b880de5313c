use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{on_each, start};

#[test]
fn the_caller_works_beside_its_helpers() {
    let runs = AtomicUsize::new(0);
    on_each("help", 3, || {
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(runs.into_inner(), 4);
}

#[test]
fn without_helpers_the_caller_works_alone() {
    let runs = AtomicUsize::new(0);
    on_each("help", 0, || {
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(runs.into_inner(), 1);
}

#[test]
fn a_started_thread_is_counted() {
    assert_eq!(thread::scope(|scope| start(scope, "help", 2, || ())), 2);
}
