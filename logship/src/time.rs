//! Times of log lines: RFC 3339 with up to nine digits of a second, read and written without a library's detours
//! because every line has one.

#[cfg(test)]
mod tests;

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

const DAY_SECONDS: i64 = 86_400;

/// Bytes of a time as [`Stamp::write`] writes it.
pub const STAMP_BYTES: usize = 30;

/// Now, in nanoseconds since 1970, by the clock of this host.
#[must_use]
pub fn now() -> i64 {
    of_system(std::time::SystemTime::now())
}

/// A time of the system in nanoseconds since 1970; 0 for what was before.
#[must_use]
pub fn of_system(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Reads `2026-11-24T10:20:30.123456789Z`, with any number of digits of the second up to nine or none, and `Z` or
/// an offset (RFC 3339, section 5.6). Nanoseconds since 1970.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let digits = |from: usize, length: usize| -> Option<i64> {
        head.get(from..from + length)?.iter().try_fold(0, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
        })
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| head.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let is_day = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_day || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanoseconds, zone) = match rest.split_first()? {
        (b'.', rest) => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&length) {
                return None;
            }
            let (digits, zone) = rest.split_at_checked(length)?;
            let value = digits.iter().fold(0, |value, byte| value * 10 + i64::from(byte - b'0'));
            (value * 10_i64.pow(9 - u32::try_from(length).ok()?), zone)
        }
        _ => (0, rest),
    };
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) =>
        {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let seconds = (two(h1, h2) * 60 + two(m1, m2)) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds =
        days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

/// Reads times; remembers the last second, since neighbours share it.
#[derive(Debug, Clone, Default)]
pub struct SecondCache {
    text: [u8; 19],
    start: i64,
}

impl SecondCache {
    /// The same as [`parse`].
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> Option<i64> {
        let (head, rest) = text.split_first_chunk::<19>()?;
        let fraction = rest.strip_prefix(b".").and_then(|rest| rest.strip_suffix(b"Z"));
        let Some(fraction) = fraction.filter(|digits| matches!(digits.len(), 1..=9)) else {
            return parse(text);
        };
        if *head != self.text {
            let mut whole = [b'Z'; 20];
            whole.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            self.start = parse(&whole)?;
            self.text = *head;
        }
        let mut value = 0;
        for digit in fraction {
            value = value * 10 + i64::from(digit.wrapping_sub(b'0'));
            if !digit.is_ascii_digit() {
                return None;
            }
        }
        let scale = 10_i64.pow(9 - u32::try_from(fraction.len()).ok()?);
        self.start.checked_add(value * scale)
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. The year is counted from March, so that the day that
/// is sometimes missing is its last; 400 years have 146,097 days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Writes times; remembers the last second, since neighbours share it.
#[derive(Debug, Clone)]
pub struct Stamp {
    second: i64,
    text: [u8; STAMP_BYTES],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: i64::MIN, text: *b"0000-00-00T00:00:00.000000000Z" }
    }
}

impl Stamp {
    /// `2026-11-24T10:20:30.123456789Z`, always with nine digits. Years have four digits: i64 nanoseconds reach
    /// from 1677 to 2262.
    pub fn write(&mut self, ts: i64) -> &[u8; STAMP_BYTES] {
        let (second, nanoseconds) = (ts.div_euclid(SECOND), ts.rem_euclid(SECOND));
        if second != self.second {
            self.second = second;
            let (year, month, day) = date(second.div_euclid(DAY_SECONDS));
            let of_day = second.rem_euclid(DAY_SECONDS);
            let fields = [
                (0, 4, year),
                (5, 2, month),
                (8, 2, day),
                (11, 2, of_day / 3600),
                (14, 2, of_day / 60 % 60),
                (17, 2, of_day % 60),
            ];
            for (at, length, value) in fields {
                self.put(at, length, value);
            }
        }
        self.put(20, 9, nanoseconds);
        &self.text
    }

    fn put(&mut self, at: usize, length: usize, mut value: i64) {
        for digit in self.text.iter_mut().skip(at).take(length).rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
}
