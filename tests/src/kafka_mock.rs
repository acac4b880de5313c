//! A cluster of Kafka for tests: the mock brokers of librdkafka, which listen on real sockets, inside a kcat of the
//! machine that consumes from them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// How long the brokers may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A cluster of two brokers with the topic `logs` that runs as long as this value lives.
#[derive(Debug)]
pub struct KafkaMock {
    brokers: String,
    consumed: PathBuf,
    kcat: Option<Running>,
    _directory: Sandbox,
}

impl KafkaMock {
    /// Starts it; `None`, with the reason on stderr, when the machine has no kcat.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start() -> Option<Self> {
        if find_program("kcat").is_none() {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "kcat is missing (Debian package kcat)"
            );
            crate::notice!("skipped: no kcat (Debian package kcat)");
            return None;
        }
        let directory = Sandbox::new();
        let script = "exec kcat -C -b nobody:1 -t logs -X test.mock.num.brokers=2 -u -J -d mock >consumed 2>said";
        let kcat = Run::new("sh").args(["-c", script]).current_dir(directory.root()).start();
        let begun = Instant::now();
        let brokers = loop {
            let said = std::fs::read_to_string(directory.path("said")).unwrap_or_default();
            let servers =
                said.split("bootstrap.servers=").nth(1).and_then(|rest| rest.lines().next());
            if let Some(servers) = servers.filter(|_| said.contains("Mock cluster enabled")) {
                break servers.trim().to_owned();
            }
            assert!(begun.elapsed() < START_TIME_MAX, "kcat has no brokers: {said}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let consumed = directory.path("consumed");
        Some(Self { brokers, consumed, kcat: Some(kcat), _directory: directory })
    }

    /// Its brokers, as a URL has them.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What was consumed so far, as kcat tells it: `payload`, `key`, `partition`, `ts`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.consumed).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Freezes the brokers, or lets them go on.
    ///
    /// # Panics
    /// When it has ended.
    pub fn freeze(&self, is_frozen: bool) {
        let kcat = self.kcat.as_ref().expect("it runs");
        kcat.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
    }
}

impl Drop for KafkaMock {
    fn drop(&mut self) {
        if let Some(kcat) = self.kcat.take() {
            kcat.signal(Signal::KILL);
            drop(kcat.wait());
        }
    }
}
