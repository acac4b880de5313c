use super::*;
use crate::serve::fixtures::report;

#[test]
fn what_is_told_can_be_asked() {
    let state = tempfile::tempdir().unwrap();
    assert!(matches!(ask(state.path()), Err(HealthError::Nobody(_))));
    let directory = state.path().join(DIRECTORY);
    fs::create_dir(&directory).unwrap();
    tell(&directory, report("machine"));
    assert_eq!(ask(state.path()).unwrap(), report("machine"));
    alive(state.path()).unwrap();
    // The disk is full: the beat goes on.
    fs::create_dir(directory.join(NEW_NAME)).unwrap();
    tell(&directory, report("machine"));
    alive(state.path()).unwrap();
    fs::remove_dir(directory.join(NEW_NAME)).unwrap();
    fs::write(directory.join(NAME), "{}").unwrap();
    assert!(matches!(ask(state.path()), Err(HealthError::Foreign(_))));
    withdraw(&directory);
    assert!(matches!(alive(state.path()), Err(HealthError::Nobody(_))));
    assert!(matches!(ask(state.path()), Err(HealthError::Nobody(_))));
}

#[test]
fn who_is_silent_for_long_or_since_before_the_machine_was_started_does_not_live() {
    let health = Health { version: VERSION, beat_seconds: 1000, report: report("machine") };
    assert!(judge(health.clone(), 1000 + ALIVE_SECONDS_MAX).is_ok());
    assert!(matches!(judge(health.clone(), 1001 + ALIVE_SECONDS_MAX), Err(HealthError::Silent(_))));
    assert!(matches!(judge(health, 10), Err(HealthError::Silent(_))));
}
