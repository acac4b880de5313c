use proptest::prelude::*;

use super::*;

fn written(ts: i64) -> String {
    String::from_utf8(Stamp::default().write(ts).to_vec()).unwrap()
}

#[test]
fn known_times() {
    for (text, ts) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", SECOND / 2),
        ("2000-02-29T23:59:59.999999999Z", 951_868_799 * SECOND + 999_999_999),
        ("2026-11-24T10:20:30.1234567+01:00", 1_795_512_030 * SECOND + 123_456_700),
        ("1969-12-31T23:59:59.000000001Z", -SECOND + 1),
    ] {
        assert_eq!(parse(text.as_bytes()), Some(ts), "{text}");
    }
    assert_eq!(written(-SECOND + 1), "1969-12-31T23:59:59.000000001Z");
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "2026-11-24",
        "2026-11-24T10:20:30",
        "2026-11-24T10:20:30.Z",
        "2026-11-24T10:20:30.1234567890Z",
        "2026-13-24T10:20:30Z",
        "2026-11-24T24:20:30Z",
        "2026-11-24 10:20:30Z",
        "2026-11-24T10:20:30+0100",
        "2o26-11-24T10:20:30Z",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_agrees_with_the_library(ts in -9_000_000_000_000_000_000_i64..9_000_000_000_000_000_000) {
        let text = written(ts);
        prop_assert_eq!(parse(text.as_bytes()), Some(ts));
        let theirs: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!(theirs.as_nanosecond(), i128::from(ts));
    }
}

#[test]
fn a_second_that_is_remembered_reads_the_same() {
    let mut cache = SecondCache::default();
    for text in [
        "2026-11-24T10:20:30.123456789Z",
        "2026-11-24T10:20:30.1Z",
        "2026-11-24T10:20:31.000000001Z",
        "2026-11-24T10:20:31Z",
        "2026-11-24T10:20:31.5+01:00",
        "2026-11-24T10:20:31.1234567890Z",
        "2026-11-24T10:20:31.Z",
        "2026-11-24T10:20:31.1x3Z",
        "2026-11-24T10:61:31.5Z",
        "2262-04-12T00:00:00.5Z",
        "0000-00-00T00:00:00.5Z",
        "",
    ] {
        assert_eq!(cache.parse(text.as_bytes()), parse(text.as_bytes()), "{text}");
    }
}
