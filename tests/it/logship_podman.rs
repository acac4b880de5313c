//! Another engine: podman's Docker-compatible socket, whose times have whole seconds only.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::podman::Podman;
use e2e::process::Run;
use e2e::sandbox::Sandbox;
use e2e::sequence::Sequence;
use rustix::process::Signal;

const LOGSHIP: &str = env!("CARGO_BIN_EXE_logship-under-test");
const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// How long lines may take from the container to the file (seconds).
const ARRIVAL_SECONDS: u64 = 60;

fn logship(sandbox: &Sandbox, podman: &Podman, command: &str) -> Run {
    let shipped = sandbox.path("shipped.log");
    Run::new(LOGSHIP)
        .args([command, "-vv", "--engine", "--state"])
        .arg(sandbox.path("state"))
        .args(["--engine-host".to_owned(), format!("unix://{}", podman.socket().display())])
        .args(["--sink".to_owned(), format!("file://{}?format=plain", shipped.display())])
}

fn arrived(sandbox: &Sandbox, stream: &str) -> Sequence {
    Sequence::of(stream, &std::fs::read(sandbox.path("shipped.log")).unwrap_or_default())
}

#[test]
fn lines_of_podman_arrive_once_although_many_share_a_second() {
    let sandbox = Sandbox::new();
    let Some(podman) = Podman::start(&sandbox, &[Path::new(WRITER)]) else { return };
    let shipper = logship(&sandbox, &podman, "run").start();
    let writer =
        ["/log-writer", "--line-buffered", "--rate", "400", "--lines", "2000", "--name", "pod"];
    podman.container("web", &writer);
    // Lines that podman leaves out of what it follows come with the next proof.
    let deadline = Instant::now() + Duration::from_secs(ARRIVAL_SECONDS);
    while !arrived(&sandbox, "pod").missing(1..=2000).is_empty() {
        if Instant::now() > deadline {
            let missing = arrived(&sandbox, "pod").missing(1..=2000);
            let log = podman.run(["logs", "web"]).stdout_text().lines().count();
            let shipper = shipper.kill_at(Duration::ZERO);
            panic!("not after {ARRIVAL_SECONDS} s: {missing:?}; podman has {log} lines; {shipper}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    podman.run(["wait", "web"]).expect_code(0);
    shipper.signal(Signal::TERM);
    shipper.wait().expect_code(0);
    arrived(&sandbox, "pod").assert_is(1..=2000);
}

#[test]
fn what_is_there_is_read_once_by_processes_that_read_once() {
    let sandbox = Sandbox::new();
    let Some(podman) = Podman::start(&sandbox, &[Path::new(WRITER)]) else { return };
    podman.container("web", &["/log-writer", "--lines", "3000", "--name", "pod"]);
    podman.run(["wait", "web"]).expect_code(0);
    logship(&sandbox, &podman, "once").succeed();
    arrived(&sandbox, "pod").assert_is(1..=3000);
    logship(&sandbox, &podman, "once").succeed();
    arrived(&sandbox, "pod").assert_is(1..=3000);
}
