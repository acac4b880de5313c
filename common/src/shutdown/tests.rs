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
