use rustix::process::{Signal as RawSignal, kill_process};

use super::*;

#[tokio::test]
async fn a_request_reaches_every_clone() {
    let shutdown = Shutdown::new();
    let clone = shutdown.clone();
    assert!(!clone.is_requested());
    shutdown.request();
    clone.wait().await;
    assert!(clone.is_requested());
}

#[tokio::test]
async fn work_is_dropped_when_the_request_comes_first() {
    let shutdown = Shutdown::new();
    assert_eq!(shutdown.or(async { 7 }).await, Some(7));
    shutdown.request();
    assert_eq!(shutdown.or(std::future::pending::<()>()).await, None);
}

#[tokio::test]
async fn a_signal_makes_the_request() {
    let shutdown = Shutdown::on_signals().unwrap();
    assert!(!shutdown.is_requested());
    kill_process(getpid(), RawSignal::TERM).unwrap();
    shutdown.wait().await;
    assert!(shutdown.is_requested());
}

/// Set in the process that gets the signals.
const CHILD: &str = "CHORES_TEST_SHUTDOWN_CHILD";

/// How long a child that has ended may be there, before nobody reaps it.
const REAPED_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

#[test]
fn the_second_signal_ends_the_process_with_130() {
    if std::env::var_os(CHILD).is_some() {
        return signal_twice();
    }
    let test = "shutdown::tests::the_second_signal_ends_the_process_with_130";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[tokio::main(flavor = "current_thread")]
async fn signal_twice() {
    let shutdown = Shutdown::on_signals().unwrap();
    kill_process(getpid(), RawSignal::INT).unwrap();
    shutdown.wait().await;
    kill_process(getpid(), RawSignal::TERM).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn children_that_somebody_waits_for_are_left_to_him_and_orphans_are_not() {
    if std::env::var_os(CHILD).is_some() {
        return own_some_children();
    }
    let test =
        "shutdown::tests::children_that_somebody_waits_for_are_left_to_him_and_orphans_are_not";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// In a process of its own: it reaps all there is.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn own_some_children() {
    tokio::spawn(reap(listen("SIGCHLD", SignalKind::child()).unwrap()));
    let own = OwnChildren::begin();
    for _ in 0..200 {
        let ended = std::process::Command::new("true").status();
        assert!(ended.is_ok_and(|ended| ended.success()));
    }
    let mut orphan = std::process::Command::new("true").spawn().unwrap();
    drop(own);
    let process = format!("/proc/{}", orphan.id());
    // Signals may be lost on the way to who reaps, and then this would be for ever.
    let deadline = std::time::Instant::now() + REAPED_TIME_MAX;
    while std::path::Path::new(&process).exists() {
        assert!(std::time::Instant::now() < deadline, "nobody reaps it");
        tokio::task::yield_now().await;
    }
    assert!(orphan.wait().is_err(), "nobody has reaped it");
}
