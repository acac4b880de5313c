use super::*;

#[test]
fn the_silent_are_looked_at_together_and_none_later_than_its_pause() {
    let began = Instant::now();
    let step = QUIET_PAUSE_MAX;
    let at = |millis: u64| began + Duration::from_millis(millis);
    for (now, expected) in [(0, 100), (1, 100), (99, 100), (100, 200), (150, 200), (1234, 1300)] {
        let due = together(began, at(now) + step, step);
        assert_eq!(due, at(expected), "{now}");
        assert!(due > at(now) && due <= at(now) + step);
    }
    assert_eq!(together(began, at(70), Duration::ZERO), at(70));
}
