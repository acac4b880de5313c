use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const NO_WAIT: Duration = Duration::ZERO;

fn daily() -> Schedule {
    Schedule { cron: "0 3 * * *".parse().unwrap(), zone: TimeZone::UTC }
}

fn timing<'a>(schedule: &'a Schedule, key: &'a str) -> Timing<'a> {
    Timing { schedule, key, jitter_max: NO_WAIT, at_once: true }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Long ago.
fn since() -> Since {
    Since { began: at("2020-01-01T00:00:00Z"), catch_up: NO_WAIT }
}

fn ran(start: &str) -> Times {
    Times {
        first_seen: Some(at("2026-01-01T00:00:00Z")),
        last_start: Some(at(start)),
        last_end: Some(at(start)),
        failures: 0,
    }
}

#[test]
fn what_never_ran_is_due_at_once_or_at_its_first_time() {
    let (schedule, now) = (daily(), at("2026-11-30T14:00:00Z"));
    let mut timing = timing(&schedule, "web");
    assert_eq!(due(&timing, &Times::default(), None, since(), now), now);
    let seen = Times { first_seen: Some(at("2026-11-30T13:00:00Z")), ..Times::default() };
    assert!(due(&timing, &seen, None, since(), now) <= now);
    timing.at_once = false;
    assert_eq!(due(&timing, &Times::default(), None, since(), now), at("2026-12-01T03:00:00Z"));
}

#[test]
fn what_ran_is_due_at_its_next_time_and_what_was_missed_is_due_once() {
    let schedule = daily();
    let timing = timing(&schedule, "web");
    let due = |times: &Times, now| due(&timing, times, None, since(), at(now));
    let yesterday = ran("2026-11-29T03:00:00Z");
    assert_eq!(due(&yesterday, "2026-11-30T02:59:00Z"), at("2026-11-30T03:00:00Z"));
    // For ten days nobody ran: one run, and then the next day's.
    let now = "2026-12-10T12:00:00Z";
    assert!(due(&yesterday, now) <= at(now));
    assert_eq!(due(&ran(now), now), at("2026-12-11T03:00:00Z"));
}

#[test]
fn what_was_missed_waits_a_while_after_a_start_and_not_all_of_it_as_long() {
    let (schedule, now) = (daily(), at("2026-11-30T12:00:00Z"));
    let since = Since { began: now, catch_up: Duration::from_secs(60) };
    let times = ran("2026-11-20T03:00:00Z");
    let due = |key: &str| due(&timing(&schedule, key), &times, None, since, now);
    let all: Vec<_> = (0..20).map(|number| due(&format!("job {number}"))).collect();
    for due in &all {
        let wait = due.duration_since(now);
        assert!((30..=60).contains(&wait.as_secs()), "{wait}");
    }
    assert!(all.iter().any(|due| *due != all[0]));
    assert_eq!(due("a"), due("a"));
}

#[test]
fn jitter_is_bounded_and_no_more_than_half_of_the_time_between_two_runs() {
    let hourly = Schedule { cron: "*/2 * * * *".parse().unwrap(), zone: TimeZone::UTC };
    let start = "2026-11-30T12:00:00Z";
    for number in 0..50 {
        let key = format!("job {number}");
        let timing = Timing { jitter_max: Duration::from_secs(300), ..timing(&hourly, &key) };
        let wait = due(&timing, &ran(start), None, since(), at(start)).duration_since(at(start));
        assert!((120..=180).contains(&wait.as_secs()), "{wait}");
    }
}

#[test]
fn what_failed_is_tried_again_a_few_times_and_never_later_than_its_time() {
    let schedule = daily();
    let timing = timing(&schedule, "web");
    let due = |failures, start: &str| {
        let times = Times { failures, ..ran(start) };
        due(&timing, &times, None, since(), at(start))
    };
    let start = "2026-11-30T03:00:00Z";
    assert_eq!(due(1, start), at("2026-11-30T03:15:00Z"));
    assert_eq!(due(2, start), at("2026-11-30T03:30:00Z"));
    assert_eq!(due(3, start), at("2026-11-30T04:00:00Z"));
    assert_eq!(due(4, start), at("2026-12-01T03:00:00Z"));
    assert_eq!(due(3, "2026-11-30T02:50:00Z"), at("2026-11-30T03:00:00Z"));
}

#[test]
fn times_ahead_of_now_count_as_none() {
    let (schedule, now) = (daily(), at("2026-11-30T14:00:00Z"));
    let timing = timing(&schedule, "web");
    let ahead = Some(at("2030-01-01T00:00:00Z"));
    // A snapshot of a machine whose clock is years ahead.
    let times = ran("2026-11-29T03:00:00Z");
    assert!(due(&timing, &times, ahead, since(), now) <= now);
    assert!(overdue(&timing, &times, ahead, Duration::from_secs(7200), now).is_some());
    // This machine's own was.
    let times = Times { last_start: ahead, last_end: ahead, failures: 2, ..Times::default() };
    assert_eq!(due(&timing, &times, None, since(), now), now);
    // A few seconds are no jump.
    let times = ran("2026-11-30T14:00:05Z");
    assert_eq!(due(&timing, &times, None, since(), now), at("2026-12-01T03:00:00Z"));
    let begun_ahead =
        Since { began: at("2030-01-01T00:00:00Z"), catch_up: Duration::from_secs(60) };
    assert_eq!(due(&timing, &Times::default(), None, begun_ahead, now), now);
}

#[test]
fn a_good_run_that_is_missing_for_too_long_is_overdue() {
    let schedule = daily();
    let timing = timing(&schedule, "web");
    let two_hours = Duration::from_secs(7200);
    let good = Some(at("2026-11-29T03:01:00Z"));
    // Runs that were not good change nothing.
    let times = ran("2026-11-30T05:00:00Z");
    let overdue = |good, now| overdue(&timing, &times, good, two_hours, at(now));
    assert_eq!(overdue(good, "2026-11-30T04:59:00Z"), None);
    assert_eq!(overdue(good, "2026-11-30T05:01:00Z"), Some(at("2026-11-30T03:00:00Z")));
    // Never saved: since it is known.
    assert_eq!(overdue(None, "2026-01-01T01:59:00Z"), None);
    assert_eq!(overdue(None, "2026-01-01T02:01:00Z"), times.first_seen);
}

#[test]
fn a_container_that_was_just_started_is_left_alone_for_a_moment() {
    let now = at("2026-11-30T14:00:00Z");
    assert_eq!(ready(Some(at("2026-11-30T13:59:55Z")), now), Some(at("2026-11-30T14:00:05Z")));
    assert_eq!(ready(Some(at("2026-11-30T13:00:00Z")), now), None);
    assert_eq!(ready(Some(at("2026-11-30T23:00:00Z")), now), None, "its clock is wrong");
    assert_eq!(ready(None, now), None);
}

fn moment() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(
        (1_000_000_000i64..3_000_000_000)
            .prop_map(|second| Timestamp::from_second(second).unwrap()),
    )
}

proptest! {
    /// Whatever the clocks did: it is due within a day and its jitter, and once it ran, not again before its next time.
    #[test]
    fn no_time_that_was_written_stops_a_job_or_makes_it_run_again_and_again(
        first_seen in moment(), last_start in moment(), last_end in moment(), good in moment(),
        began in moment(), failures in 0u32..10, now in 1_000_000_000i64..3_000_000_000,
    ) {
        let now = Timestamp::from_second(now).unwrap();
        let schedule = daily();
        let timing = Timing { jitter_max: Duration::from_secs(300), ..timing(&schedule, "web") };
        let since = Since { began: began.unwrap_or(now), catch_up: Duration::from_secs(60) };
        let times = Times { first_seen, last_start, last_end, failures };
        let next = due(&timing, &times, good, since, now);
        let most = SignedDuration::from_secs(24 * 3600 + 300 + 300 + 60);
        prop_assert!(next.duration_since(now) <= most, "{next}");
        // It runs, and ends well a minute later.
        let start = next.max(now);
        let end = start.checked_add(SignedDuration::from_mins(1)).unwrap();
        let times = Times { first_seen, last_start: Some(start), last_end: Some(end), failures: 0 };
        let after = due(&timing, &times, Some(start), since, end);
        prop_assert!(after > start, "{after} {start}");
    }
}
