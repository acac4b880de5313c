//! No test runs for ever.
//!
//! The test runner has no deadline: one test that hangs takes the whole run with it, and nobody is told which it was.
//! Here each test is known by the thread that the runner gives it, from its first [`watch`] until the thread has ended.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a test may run (minutes): more than thrice what the longest takes on two busy cores. `CHORES_SOAK`
/// multiplies it.
const TEST_MINUTES_MAX: u64 = 45;

/// How often the tests that run are looked at (seconds).
const LOOK_SECONDS: u64 = 5;

/// Threads of tests, by their ids.
static WATCHED: LazyLock<Mutex<HashMap<i32, Watched>>> = LazyLock::new(|| {
    std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(look)
        .expect("a thread for the watchdog");
    Mutex::default()
});

struct Watched {
    name: String,
    since: Instant,
}

/// Ends the whole run, and says why, when the calling test is not over within its time.
pub fn watch() {
    let Some(name) = std::thread::current().name().map(str::to_owned) else { return };
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = watched.get(&id).is_some_and(|known| known.name == name);
    if !is_known {
        watched.insert(id, Watched { name, since: Instant::now() });
    }
}

fn look() {
    let factor = std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok());
    let patience = Duration::from_secs(60 * TEST_MINUTES_MAX * factor.unwrap_or(1));
    loop {
        std::thread::sleep(Duration::from_secs(LOOK_SECONDS));
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|id, _| is_alive(*id));
        if let Some(late) = watched.values().find(|test| test.since.elapsed() > patience) {
            let (name, minutes) = (&late.name, patience.as_secs() / 60);
            crate::notice!(
                "{name} has been running for more than {minutes} minutes: the run is given up"
            );
            std::process::abort();
        }
    }
}

fn is_alive(id: i32) -> bool {
    PathBuf::from(format!("/proc/self/task/{id}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_watched_until_its_thread_ends() {
        let id = || rustix::thread::gettid().as_raw_nonzero().get();
        let other = std::thread::Builder::new().name("other".to_owned());
        let (its, was_watched) = other
            .spawn(move || {
                watch();
                (id(), WATCHED.lock().unwrap().contains_key(&id()))
            })
            .unwrap()
            .join()
            .unwrap();
        assert!(was_watched);
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_alive(its) {
            assert!(Instant::now() < deadline, "the thread is joined and still there");
            std::thread::yield_now();
        }
    }
}
