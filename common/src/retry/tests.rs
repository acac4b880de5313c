use super::*;

const RETRY: Retry =
    Retry { attempts: 5, base: Duration::from_millis(500), cap: Duration::from_secs(3) };

#[test]
fn pauses_double_up_to_the_cap_and_end_with_the_attempts() {
    let longest = |attempt| RETRY.pause_after(attempt, 0).map(|half| half * 2);
    assert_eq!(longest(1), Some(Duration::from_millis(500)));
    assert_eq!(longest(2), Some(Duration::from_secs(1)));
    assert_eq!(longest(3), Some(Duration::from_secs(2)));
    assert_eq!(longest(4), Some(Duration::from_secs(3)));
    assert_eq!(longest(5), None);
}

#[test]
fn every_random_number_gives_a_pause_in_the_upper_half() {
    for random in [0, 1, 249_999_999, 250_000_000, 250_000_001, u64::MAX] {
        let pause = RETRY.pause_after(1, random).unwrap();
        assert!(pause >= Duration::from_millis(250) && pause <= Duration::from_millis(500));
    }
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let retry = Retry { attempts: u32::MAX, base: Duration::MAX, cap: Duration::MAX };
    assert!(retry.pause_after(u32::MAX - 1, u64::MAX).is_some());
    let none = Retry { attempts: 0, base: Duration::ZERO, cap: Duration::ZERO };
    assert_eq!(none.pause_after(0, 7), None);
}
