use std::os::unix::net::UnixListener;

use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn an_engine_that_hangs_holds_up_nobody_for_long() {
    let (directory, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let socket = directory.path().join("engine.sock");
    // The kernel lets everybody in, and nobody answers.
    let _listener = UnixListener::bind(&socket).unwrap();
    let host = format!("unix://{}", socket.display());
    let mut view = EngineView::new(Some(host), runtime.handle().clone());
    let began = Instant::now();
    assert_eq!(view.writers(Path::new("/logs/a.log"), true), None);
    assert!(began.elapsed() < 4 * WAIT_MAX, "{:?}", began.elapsed());
    // Whoever comes next does not wait at all.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(view.writers(Path::new("/logs/a.log"), true), None);
    }
    assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
    assert!(!view.is_none(), "it may have labels");
}

#[test]
fn where_no_engine_can_be_asked_there_are_no_labels() {
    let runtime = runtime();
    for host in ["unix:///nowhere/engine.sock", "gopher://engine"] {
        let mut view = EngineView::new(Some(host.to_owned()), runtime.handle().clone());
        let began = Instant::now();
        while !view.is_none() {
            assert!(!view.ask(false) && began.elapsed() < Duration::from_secs(30), "{host}");
        }
    }
    for (kind, wanted) in [
        (EngineErrorKind::Denied, true),
        (EngineErrorKind::Unsupported, true),
        // It is there, and may have labels.
        (EngineErrorKind::Timeout, false),
        (EngineErrorKind::Corrupt, false),
        (EngineErrorKind::Other, false),
    ] {
        assert_eq!(is_none_for_us(kind), wanted, "{kind:?}");
    }
}
