//! Times of the week, in UTC: a container has no time zone of its own.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Most spans of one list.
const SPANS_MAX: usize = 64;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;

/// A list of spans; a time is in it when it is in one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours(Vec<Span>);

/// From a minute of the week on, Monday's first being 0; it may go on behind Sunday's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    begin: u16,
    minutes: u16,
}

impl Hours {
    /// Reads `[DAY[-DAY]] HH:MM-HH:MM` of each text. A span that ends before it begins ends on the next day; the day is
    /// the one on which it begins.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut spans = Vec::new();
        for text in texts {
            let wrong = || {
                format!(
                    "{text:?} is no time of the week: give for example \"mon-fri 08:00-18:00\" or \"22:00-06:00\", in UTC"
                )
            };
            let read = spans_of(text).ok_or_else(wrong)?;
            spans.extend(read);
        }
        if spans.len() > SPANS_MAX * DAYS.len() {
            return Err(format!("there are more than {SPANS_MAX} times of the week"));
        }
        if spans.is_empty() {
            return Err(
                "there is no time in it, so that the rule never counts: leave it out for any time"
                    .to_owned(),
            );
        }
        Ok(Self(spans))
    }

    /// Whether this time is in one of the spans: from its first minute on, and before its last.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        let now = minute_of_week(time);
        self.0.iter().any(|span| {
            let since = (now + WEEK_MINUTES - span.begin) % WEEK_MINUTES;
            since < span.minutes
        })
    }
}

fn minute_of_week(time: Timestamp) -> u16 {
    let time = time.to_zoned(TimeZone::UTC);
    let part = |number: i8| u16::try_from(number).unwrap_or_default();
    let day = part(time.weekday().to_monday_zero_offset());
    day * DAY_MINUTES + part(time.hour()) * 60 + part(time.minute())
}

fn spans_of(text: &str) -> Option<Vec<Span>> {
    let (days, times) = match text.split_once(' ') {
        Some((days, times)) => (Some(days), times),
        None => (None, text),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
    if from == DAY_MINUTES || from == to {
        return None;
    }
    let minutes = if to > from { to - from } else { to + DAY_MINUTES - from };
    let begin_of = |day: usize| u16::try_from(day).ok().map(|day| day * DAY_MINUTES + from);
    let spans = days_of(days)?.into_iter().filter_map(begin_of);
    Some(spans.map(|begin| Span { begin, minutes }).collect())
}

/// The days of `fri`, of `fri-mon`, or all of them.
fn days_of(text: Option<&str>) -> Option<Vec<usize>> {
    let Some(text) = text else { return Some((0..DAYS.len()).collect()) };
    let number = |name: &str| DAYS.iter().position(|day| *day == name);
    let Some((first, last)) = text.split_once('-') else { return Some(vec![number(text)?]) };
    let (first, last) = (number(first)?, number(last)?);
    let count = (last + DAYS.len() - first) % DAYS.len() + 1;
    Some((0..count).map(|day| (first + day) % DAYS.len()).collect())
}

/// `HH:MM`, from 00:00 to 24:00.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(text: &str, time: &str) -> bool {
        Hours::parse([text]).unwrap().contains(time.parse().unwrap())
    }

    #[test]
    fn a_span_holds_its_first_minute_and_not_its_last() {
        // 2026-11-30 is a Monday.
        for (text, time, wanted) in [
            ("mon-fri 08:00-18:00", "2026-11-30T08:00:00Z", true),
            ("mon-fri 08:00-18:00", "2026-11-30T07:59:59Z", false),
            ("mon-fri 08:00-18:00", "2026-11-30T17:59:59Z", true),
            ("mon-fri 08:00-18:00", "2026-11-30T18:00:00Z", false),
            ("mon-fri 08:00-18:00", "2026-11-29T12:00:00Z", false),
            ("08:00-18:00", "2026-11-29T12:00:00Z", true),
            ("sat-mon 00:00-24:00", "2026-11-30T23:59:59Z", true),
            ("sat-mon 00:00-24:00", "2026-12-01T00:00:00Z", false),
            // Over midnight: the day is that of the beginning.
            ("sun 22:00-06:00", "2026-11-29T21:59:59Z", false),
            ("sun 22:00-06:00", "2026-11-29T22:00:00Z", true),
            ("sun 22:00-06:00", "2026-11-30T05:59:59Z", true),
            ("sun 22:00-06:00", "2026-11-30T06:00:00Z", false),
            ("sun 22:00-06:00", "2026-11-30T22:00:00Z", false),
            ("mon 22:00-06:00", "2026-11-30T05:00:00Z", false),
        ] {
            assert_eq!(is_in(text, time), wanted, "{text} {time}");
        }
    }

    #[test]
    fn what_is_no_time_of_the_week() {
        for text in [
            "",
            "mon",
            "8:00-18:00",
            "08:00-08:00",
            "24:00-01:00",
            "00:00-24:01",
            "08:60-09:00",
            "moon 08:00-09:00",
            "mon-fri  08:00-09:00",
            "08:00",
            "mon-fri-sat 08:00-09:00",
            "08:00-09:00 mon",
            "+8:00-09:00",
        ] {
            assert!(Hours::parse([text]).is_err(), "{text}");
        }
        assert!(Hours::parse([]).is_err());
    }
}
