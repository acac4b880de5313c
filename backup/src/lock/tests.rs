use super::*;

const DAY: Duration = Duration::from_secs(SECONDS_PER_DAY);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn lock(text: &str) -> Lock {
    text.parse().unwrap()
}

#[test]
fn a_lock_is_days_and_a_mode_and_reads_what_it_shows() {
    assert_eq!(lock("30d"), Lock { mode: LockMode::Compliance, days: 30 });
    assert_eq!(lock("48h=governance"), Lock { mode: LockMode::Governance, days: 2 });
    for text in ["1d=compliance", "3660d=governance"] {
        assert_eq!(lock(text).to_string(), text);
    }
    for text in ["", "30", "d", "30d=", "30d=soft", "=compliance", "-1d"] {
        assert_eq!(text.parse::<Lock>(), Err(LockError::Text(text.to_owned())), "{text}");
    }
    for text in ["0d", "12h", "25h", "3661d", "99999999999d"] {
        assert_eq!(text.parse::<Lock>(), Err(LockError::Days(text.to_owned())), "{text}");
    }
}

#[test]
fn packs_are_locked_a_quarter_longer_than_snapshots_and_a_day_at_least() {
    let lock_of = |text: &str| (lock(text).of_snapshot(at(0)), lock(text).of_packs(at(0)));
    let (snapshot, packs) = lock_of("40d");
    assert_eq!((snapshot.until, packs.until), (at(0) + 40 * DAY, at(0) + 50 * DAY));
    let (snapshot, packs) = lock_of("2d=governance");
    assert_eq!((snapshot.until, packs.until), (at(0) + 2 * DAY, at(0) + 3 * DAY));
    assert_eq!((snapshot.mode, packs.mode), (LockMode::Governance, LockMode::Governance));
}

#[test]
fn a_part_of_a_second_is_never_missing() {
    let early = at(0) + Duration::from_millis(1);
    assert_eq!(lock("1d").of_snapshot(early).until, at(1) + DAY);
    assert_eq!(lock("1d").of_snapshot(at(0)).until, at(0) + DAY);
}

#[test]
fn a_lock_is_enough_that_is_as_long_and_as_hard() {
    let until = at(100);
    let held = |mode, seconds| Some(Retention { mode, until: at(seconds) });
    let is_enough = |text: &str, held| lock(text).is_enough(held, until);
    assert!(is_enough("1d", held(LockMode::Compliance, 100)));
    assert!(is_enough("1d=governance", held(LockMode::Compliance, 100)));
    assert!(!is_enough("1d", held(LockMode::Compliance, 99)));
    assert!(!is_enough("1d", held(LockMode::Governance, 500)));
    assert!(!is_enough("1d=governance", None));
}

#[test]
fn a_lock_that_holds_is_never_made_softer_or_shorter() {
    let held = |mode, until| Some(Retention { mode, until });
    let governance = lock("4d=governance");
    let long = at(0) + 100 * DAY;
    assert_eq!(governance.extended(None, at(0)), governance.of_packs(at(0)));
    let kept = governance.extended(held(LockMode::Compliance, long), at(0));
    assert_eq!(kept, Retention { mode: LockMode::Compliance, until: long });
    let over = governance.extended(held(LockMode::Compliance, at(0)), at(0));
    assert_eq!(over, governance.of_packs(at(0)));
}
