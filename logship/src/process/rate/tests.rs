use super::*;

const MS: i64 = SECOND / 1000;

fn limiter(text: &str) -> Limiter {
    Limiter::new(Some(Rate::parse(text).unwrap()))
}

fn passes(limiter: &mut Limiter, ts: i64, mark: u64) -> bool {
    limiter.passes(ts, Stream::Stdout, 10, &(mark..mark + 1))
}

#[test]
fn rates_are_read_and_written() {
    for (text, written) in [
        ("1000/s", "1000/s"),
        (" 5 / m ", "5/m"),
        ("7/h", "7/h"),
        ("10/s,burst=10", "10/s"),
        ("10/s, burst=50", "10/s,burst=50"),
        ("10/s,sample=7,burst=50", "10/s,burst=50,sample=7"),
    ] {
        assert_eq!(Rate::parse(text).unwrap().to_string(), written);
    }
    for text in [
        "",
        "1000",
        "0/s",
        "-1/s",
        "1/d",
        "1/s,5",
        "1/s,burst=0",
        "1/s,sample=0",
        "1/s,samples=2",
        "99999999999/s",
    ] {
        let said = Rate::parse(text).unwrap_err().to_string();
        assert!(said.contains("is no rate: give for example 1000/s"), "{said}");
    }
}

#[test]
fn beyond_the_rate_everything_is_dropped_for_one_window_and_counted_exactly() {
    let mut limiter = limiter("10/s");
    let mut passed = 0;
    for at in 0..100 {
        passed += u32::from(passes(&mut limiter, at * MS, at.cast_unsigned()));
    }
    // Ten at once, and none for the fraction that was earned meanwhile.
    assert_eq!(passed, 10);
    assert!(passes(&mut limiter, 2 * SECOND, 100));
    let dropped = limiter.end_gap().unwrap();
    assert_eq!((dropped.lines, dropped.bytes, dropped.marks.clone()), (90, 900, 10..100));
    assert_eq!(dropped.gap(Some(2 * SECOND)).to, Some(2 * SECOND));
    assert!(limiter.gap().is_none());
}

#[test]
fn a_sample_of_what_is_beyond_the_rate_passes_and_the_rest_is_counted_exactly() {
    let mut limiter = limiter("10/s,sample=30");
    let mut counted = Vec::new();
    for at in 0..100 {
        if passes(&mut limiter, at * MS, at.cast_unsigned())
            && let Some(dropped) = limiter.end_gap()
        {
            counted.push(dropped.lines);
        }
    }
    assert_eq!((counted, limiter.end_gap()), (vec![29, 29, 29], None));
}

#[test]
fn in_the_long_run_the_rate_is_kept_and_not_undercut() {
    let mut limiter = limiter("100/s");
    // 1,000 records a second for 60 seconds.
    let passed = (0..60_000).filter(|at| passes(&mut limiter, *at * MS, 0)).count();
    assert!((5_000..=6_100).contains(&passed), "{passed}");
}

#[test]
fn a_clock_that_goes_back_earns_nothing_and_locks_nobody_out() {
    let mut limiter = limiter("1/s");
    assert!(passes(&mut limiter, 100 * SECOND, 0));
    assert!(!passes(&mut limiter, 0, 1));
    assert!(!passes(&mut limiter, 0, 2));
    assert!(passes(&mut limiter, 102 * SECOND, 3));
}

#[test]
fn what_was_dropped_is_told_even_if_nothing_follows() {
    let mut limiter = limiter("1/s");
    assert!(passes(&mut limiter, 0, 0));
    assert_eq!(limiter.deadline(), None);
    assert!(!passes(&mut limiter, 1, 1));
    assert_eq!(limiter.deadline(), Some(i64::MIN));
    assert_eq!(limiter.expire(5 * SECOND), None);
    assert_eq!(limiter.deadline(), Some(6 * SECOND));
    assert_eq!(limiter.expire(6 * SECOND).unwrap().lines, 1);
    assert_eq!(limiter.deadline(), None);
}

#[test]
fn a_clock_that_was_set_back_starves_nobody() {
    let mut limiter = limiter("10/s");
    let passed = |limiter: &mut Limiter, from: i64| {
        (0..100).filter(|at| passes(limiter, from + at * 100 * MS, 0)).count()
    };
    assert_eq!(passed(&mut limiter, 3600 * SECOND), 100);
    assert_eq!(passed(&mut limiter, 0), 100);
}
