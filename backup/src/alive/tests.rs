use super::*;
use crate::repository::tests::TestRepository;

#[test]
fn a_run_that_spoke_lately_is_known_with_its_beginning_and_a_silent_one_is_forgotten() {
    let test = TestRepository::new();
    let store = test.repository.store();
    let sign = SignOfLife::begin();
    // Most runs end before they ever say anything.
    sign.beat(store);
    assert_eq!(runs(store, SystemTime::now()).unwrap(), []);
    sign.beat_every(Duration::ZERO, store);
    sign.beat_every(Duration::ZERO, store);
    let now = SystemTime::now();
    let found = runs(store, now).unwrap();
    assert_eq!(found.len(), 1);
    let ago = now.duration_since(found[0].begun).unwrap();
    assert!(ago >= SLACK && ago < SLACK * 2, "{ago:?}");

    remove_silent(store, now).unwrap();
    assert_eq!(test.objects(PREFIX).len(), 1);
    let later = now + SILENCE_MAX + Duration::from_secs(5);
    assert_eq!(runs(store, later).unwrap(), []);
    remove_silent(store, later).unwrap();
    assert_eq!(test.objects(PREFIX).len(), 0);
}

#[test]
fn what_cannot_be_understood_is_a_run_that_began_long_ago() {
    let test = TestRepository::new();
    let store = test.repository.store();
    for (name, text) in [
        ("a", ""),
        ("b", r#"{"version":2,"news":1}"#),
        ("c", r#"{"version":1,"seconds":18446744073709551615}"#),
    ] {
        store.put(&format!("{PREFIX}{name}.json"), text).unwrap();
    }
    let found = runs(store, SystemTime::now()).unwrap();
    assert_eq!(found, [Run { begun: SystemTime::UNIX_EPOCH }; 3]);
}
