use std::fs::File;
use std::process::Command;

use super::*;

/// Set in processes that [`alone`] started.
const ALONE: &str = "CHORES_TEST_ALONE";

/// Files of a process of [`alone`] at the most.
const FILES_MAX: u64 = 256;

/// Runs the test `name` in a process of its own with few descriptors: the limit is the whole process's.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        let limit = Rlimit { current: Some(FILES_MAX), maximum: Some(FILES_MAX) };
        setrlimit(Resource::Nofile, limit).unwrap();
        return test();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let ran = command.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

/// Takes every descriptor there is, until it is dropped.
pub(crate) fn exhaust() -> Vec<File> {
    let mut held = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => {
                assert!(is_exhausted(&error), "{error}");
                return held;
            }
        }
    }
}

#[test]
fn the_soft_limit_becomes_the_hard_one() {
    let limit = |current, maximum| Rlimit { current, maximum };
    for (now, wanted) in [
        (limit(Some(1024), Some(4096)), Some(limit(Some(4096), Some(4096)))),
        (limit(Some(1024), None), Some(limit(None, None))),
        (limit(Some(4096), Some(4096)), None),
        (limit(None, None), None),
    ] {
        assert_eq!(raised(now), wanted);
    }
}

#[test]
fn only_missing_descriptors_are_missing_descriptors() {
    for (code, expected) in [(24, true), (23, true), (2, false), (28, false), (12, false)] {
        assert_eq!(is_exhausted(&io::Error::from_raw_os_error(code)), expected, "{code}");
    }
    assert!(!is_exhausted(&io::Error::other("none")));
}

#[test]
fn a_process_raises_its_limit() {
    alone("descriptors::tests::a_process_raises_its_limit", || {
        let low = Rlimit { current: Some(64), maximum: Some(FILES_MAX) };
        setrlimit(Resource::Nofile, low).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(FILES_MAX));
    });
}
