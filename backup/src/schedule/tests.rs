use proptest::prelude::*;

use super::*;

fn schedule(cron: &str, zone_name: &str) -> Schedule {
    Schedule { cron: cron.parse().unwrap(), zone: zone(zone_name).unwrap() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times as local ones with their offset.
fn times(cron: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(cron, zone_name);
    let next = |after: &Timestamp| schedule.next_after(*after);
    let local = |time: Timestamp| {
        time.to_zoned(schedule.zone.clone()).strftime("%Y-%m-%dT%H:%M%:z").to_string()
    };
    std::iter::successors(next(&at(after)), next).take(count).map(local).collect()
}

#[test]
fn expressions_say_when() {
    let after = "2026-11-30T14:32:10Z";
    assert_eq!(times("30 3 * * *", "", after, 1), ["2026-12-01T03:30+00:00"]);
    assert_eq!(times("32 14 * * *", "", after, 1), ["2026-12-01T14:32+00:00"]);
    assert_eq!(
        times("*/20 15 * * *", "", after, 4),
        [
            "2026-11-30T15:00+00:00",
            "2026-11-30T15:20+00:00",
            "2026-11-30T15:40+00:00",
            "2026-12-01T15:00+00:00"
        ]
    );
    assert_eq!(times("0 0 1 jan *", "", after, 1), ["2027-01-01T00:00+00:00"]);
    assert_eq!(times("0 12 * * Mon-fri", "", after, 1), ["2026-12-01T12:00+00:00"]);
    assert_eq!(times("0 12 * * 7", "", after, 1), times("0 12 * * 0", "", after, 1));
    assert_eq!(times("0 0 29 2 *", "", after, 1), ["2028-02-29T00:00+00:00"]);
    assert_eq!(
        times("0 0 29 2 *", "", "2096-03-01T00:00:00Z", 1),
        ["2104-02-29T00:00+00:00"],
        "eight years at a turn of the century"
    );
    assert_eq!(times("5/20 1,2 * * *", "", "2026-11-30T01:30:00Z", 2).len(), 2);
    assert_eq!(times("@weekly", "", after, 1), ["2026-12-06T00:00+00:00"]);
    assert_eq!(times("@Hourly", "", after, 1), ["2026-11-30T15:00+00:00"]);
}

#[test]
fn a_day_of_month_or_a_weekday_is_enough_where_both_are_restricted() {
    let after = "2026-11-30T14:32:10Z";
    assert_eq!(
        times("0 0 13 * fri", "", after, 3),
        ["2026-12-04T00:00+00:00", "2026-12-11T00:00+00:00", "2026-12-13T00:00+00:00"]
    );
    // With a star in front of one, both must fit.
    assert_eq!(times("0 0 */13 * fri", "", after, 1), ["2027-01-01T00:00+00:00"]);
}

#[test]
fn what_is_no_schedule_is_told() {
    for text in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-3 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "* * * foo *",
        "1, * * * *",
        "+1 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "@reboot",
        "1-2-3 * * * *",
        "* * * * fri-mon",
    ] {
        let error = text.parse::<Cron>().unwrap_err().to_string();
        assert!(error.contains("30 3 * * *"), "{text}: {error}");
    }
    assert!("9".repeat(300).parse::<Cron>().is_err());
    assert!(zone("Mars/Olympus").is_err());
    assert_eq!(zone("").unwrap(), TimeZone::UTC);
    assert!(zone(":Europe/Berlin").is_ok() && zone("CET-1CEST,M3.5.0,M10.5.0/3").is_ok());
}

#[test]
fn a_time_that_a_clock_change_leaves_out_comes_later_and_one_that_comes_twice_comes_once() {
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]
    );
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    );
    // Asked within the second of the two hours.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
        ["2026-10-26T02:30+01:00"]
    );
    // The whole day is left out.
    assert_eq!(
        times("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1),
        ["2011-12-31T12:00+14:00"]
    );
}

#[test]
fn what_happens_every_hour_does_so_in_each_hour_that_passes() {
    assert_eq!(
        times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4),
        [
            "2026-10-25T02:00+02:00",
            "2026-10-25T02:00+01:00",
            "2026-10-25T03:00+01:00",
            "2026-10-25T04:00+01:00"
        ]
    );
    assert_eq!(
        times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", 3),
        ["2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00", "2026-10-25T03:00+01:00"]
    );
    assert_eq!(
        times("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 2),
        ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"]
    );
}

#[test]
fn an_expression_keeps_its_text() {
    let cron: Cron = serde_json::from_str("\" @daily\"").unwrap();
    assert_eq!(serde_json::to_string(&cron).unwrap(), "\"@daily\"");
    assert!(serde_json::from_str::<Cron>("\"never\"").is_err());
}

proptest! {
    #[test]
    fn the_next_time_is_ahead_and_fits_or_replaces_one_that_is_left_out(
        minute in 0u8..60, hour in 0u8..24, seconds in 1_700_000_000i64..2_000_000_000,
        zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        every_hour in any::<bool>(),
    ) {
        let text = if every_hour { format!("{minute} * * * *") } else { format!("{minute} {hour} * * *") };
        let schedule = schedule(&text, zone_name);
        let after = Timestamp::from_second(seconds).unwrap();
        let next = schedule.next_after(after).unwrap();
        prop_assert!(next > after);
        let most = if every_hour { 2 } else { 26 };
        prop_assert!(next.duration_since(after).as_hours() <= most, "{after} {next}");
        // Nothing lies between.
        let before = next.checked_sub(SignedDuration::from_secs(1)).unwrap();
        if before > after {
            prop_assert_eq!(schedule.next_after(before), Some(next));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-0-9*/,a-z@ ]{0,40}") {
        if let Ok(cron) = text.parse::<Cron>() {
            let schedule = Schedule { cron, zone: TimeZone::UTC };
            prop_assert!(schedule.next_after(Timestamp::UNIX_EPOCH).is_some());
        }
    }
}

#[test]
fn every_night_is_what_it_says() {
    assert_eq!(Cron::nightly(), "0 3 * * *".parse().unwrap());
}
