//! When something is to happen: cron expressions in a time zone (pure).
//!
//! As in Vixie's cron: five fields, names of months and weekdays, and where both day of month and weekday are restricted, one of
//! them is enough. A local time that a clock change leaves out happens as much later as the clock jumps, one that comes twice
//! happens once; what happens in every hour goes on in each hour that really passes.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 200;

/// Days that are looked through for the next time: 29 February comes after eight years at the latest.
const DAYS_MAX: u32 = 8 * 366 + 1;

/// Local times that are passed over since they lie before the moment that is asked about: as many minutes as a clock is set
/// back at the most.
const REPEATED_MAX: u32 = 24 * 60;

/// So much a clock is set back at the most.
const SET_BACK_MAX: SignedDuration = SignedDuration::from_hours(24);

const HOUR_MINUTES: u16 = 60;
const DAY_MINUTES: u16 = 24 * HOUR_MINUTES;

/// All hours.
const EVERY_HOUR: u64 = (1 << 24) - 1;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Longest months, in days, from January on.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Short forms.
const ALIASES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A field of an expression.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day of month", least: 1, most: 31, names: &[] },
    Field { what: "month", least: 1, most: 12, names: &MONTHS },
    // 7 is Sunday too.
    Field { what: "weekday", least: 0, most: 7, names: &WEEKDAYS },
];

/// A cron expression. In each set, the bit of a value says whether it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// One of day of month and weekday is enough.
    either: bool,
}

/// A text that is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no schedule, since {reason}: write minute, hour, day of month, month and weekday, such as `30 3 * * *`, or @daily"
)]
pub struct CronError {
    text: String,
    reason: String,
}

/// A text that is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone: write a name such as Europe/Berlin, or UTC")]
pub struct ZoneError(String);

/// A cron expression where its hours mean something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The expression.
    pub cron: Cron,
    /// The time zone.
    pub zone: TimeZone,
}

/// A time zone as `TZ` has it: a name, or rules such as `CET-1CEST,M3.5.0,M10.5.0/3`; nothing is UTC.
pub fn zone(text: &str) -> Result<TimeZone, ZoneError> {
    match text.strip_prefix(':').unwrap_or(text) {
        "" => Ok(TimeZone::UTC),
        name => TimeZone::get(name)
            .or_else(|_| TimeZone::posix(name))
            .map_err(|_| ZoneError(text.to_owned())),
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fail = |reason: String| CronError { text: text.to_owned(), reason };
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(fail(format!("it is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let alias = ALIASES.iter().find(|(alias, _)| text.eq_ignore_ascii_case(alias));
        let words: Vec<_> =
            alias.map_or(text, |(_, meaning)| meaning).split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(fail(format!("it has {} fields", words.len())));
        };
        let [minutes, hours, days, months, weekdays] = FIELDS;
        let sundays = weekdays.set(weekday).map_err(fail)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: minutes.set(minute).map_err(fail)?,
            hours: hours.set(hour).map_err(fail)?,
            days: days.set(day).map_err(fail)?,
            months: months.set(month).map_err(fail)?,
            weekdays: sundays | ((sundays >> 7) & 1),
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let is_some_day = |(month, longest): (u32, u32)| {
            has(cron.months, month) && (1..=longest).any(|day| has(cron.days, day))
        };
        if !cron.either && !(1..).zip(MONTH_DAYS).any(is_some_day) {
            return Err(fail("no month has such a day".to_owned()));
        }
        Ok(cron)
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Field {
    /// The values that a text such as `1-5,*/15` names.
    fn set(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.range(part)?))
    }

    fn range(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some((range, step)) => {
                let number = step.parse::<u32>().ok().filter(|step| (1..=self.most).contains(step));
                let number =
                    number.ok_or_else(|| format!("`{step}` is no step of the {}", self.what))?;
                (range, Some(number))
            }
        };
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (self.least, self.most),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.most } else { value })
            }
            Some((first, last)) => (self.value(first)?, self.value(last)?),
        };
        if first > last {
            return Err(format!("`{range}` ends before it begins"));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        Ok((first..=last).step_by(step).fold(0, |set, value| set | (1 << value)))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = (self.least..).zip(self.names);
        let mut named = named.filter(|(_, name)| text.eq_ignore_ascii_case(name));
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = || text.parse().ok().filter(|_| is_number);
        let value = named.next().map(|(value, _)| value).or_else(number);
        value
            .filter(|value| (self.least..=self.most).contains(value))
            .ok_or_else(|| format!("`{text}` is no {}", self.what))
    }
}

fn has(set: u64, value: u32) -> bool {
    set.checked_shr(value).is_some_and(|rest| rest & 1 == 1)
}

impl Cron {
    /// Every night at three.
    #[must_use]
    pub fn nightly() -> Self {
        let (days, months, weekdays) = ((1 << 32) - 2, (1 << 13) - 2, (1 << 8) - 1);
        Self {
            text: "0 3 * * *".to_owned(),
            minutes: 1,
            hours: 1 << 3,
            days,
            months,
            weekdays,
            either: false,
        }
    }

    /// The first local time after this one.
    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let minute = |time: DateTime| {
            u16::try_from(time.hour()).unwrap_or_default() * HOUR_MINUTES
                + u16::try_from(time.minute()).unwrap_or_default()
        };
        let mut date = after.date();
        let mut from = minute(after) + 1;
        for _ in 0..DAYS_MAX {
            if self.is_day(date)
                && let Some(found) = (from..DAY_MINUTES).find(|minute| self.is_minute(*minute))
            {
                let hour = i8::try_from(found / HOUR_MINUTES).ok()?;
                return Some(date.at(hour, i8::try_from(found % HOUR_MINUTES).ok()?, 0, 0));
            }
            date = date.tomorrow().ok()?;
            from = 0;
        }
        None
    }

    fn is_minute(&self, minute: u16) -> bool {
        has(self.hours, u32::from(minute / HOUR_MINUTES))
            && has(self.minutes, u32::from(minute % HOUR_MINUTES))
    }

    fn is_day(&self, date: Date) -> bool {
        let number = |value: i8| u32::try_from(value).unwrap_or_default();
        let day = has(self.days, number(date.day()));
        let weekday = has(self.weekdays, number(date.weekday().to_sunday_zero_offset()));
        has(self.months, number(date.month()))
            && if self.either { day || weekday } else { day && weekday }
    }
}

impl Schedule {
    /// The first time after this one; `None` only at the end of the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        for _ in 0..REPEATED_MAX {
            local = self.cron.next_local(local)?;
            // Left out: as much later as the clock jumps. Twice: the first one.
            let next = self.zone.to_ambiguous_timestamp(local).compatible().ok()?;
            if next > after {
                return Some(self.in_repeated_hour(after, next).unwrap_or(next));
            }
        }
        None
    }

    /// What happens in every hour, in one that comes twice.
    fn in_repeated_hour(&self, after: Timestamp, next: Timestamp) -> Option<Timestamp> {
        if self.cron.hours != EVERY_HOUR {
            return None;
        }
        // The moment may lie in the second of the two hours.
        let changes = self.zone.following(after.checked_sub(SET_BACK_MAX).ok()?);
        let change = changes.map(|change| change.timestamp()).take_while(|change| *change <= next);
        let change = change.last()?;
        let local = self.zone.to_datetime(change);
        let begin = local.checked_sub(SignedDuration::from_mins(1)).ok()?;
        // From the moment that is asked about, where that lies behind the change.
        let begin = if after >= change { self.zone.to_datetime(after) } else { begin };
        let found = self.cron.next_local(begin)?;
        let found = change.checked_add(found.duration_since(local)).ok()?;
        (found > after && found < next).then_some(found)
    }
}
