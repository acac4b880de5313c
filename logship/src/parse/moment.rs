//! Times of lines in the form of ISO 8601. A line that names no zone has none here either, and one that names no
//! year keeps its own form: a guess would be a wrong time in silence.

use super::scan::Scan;

/// Bytes of the longest: `2026-11-24T10:20:30.123456789+01:00`.
const BYTES_MAX: usize = 35;

/// Names of the months in logs.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time as text, without memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    bytes: [u8; BYTES_MAX],
    length: u8,
}

impl Moment {
    /// As text.
    #[must_use]
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        // Only digits and marks were ever put into it.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// From the parts: `2026`, `11`, `24`, `10:20:30` with or without a fraction, and `+0100`, `Z` or nothing.
    fn new(year: &str, month: &str, day: &str, clock: &str, zone: &str) -> Option<Self> {
        let in_range = |text: &str, length: usize, from: u16, to: u16| {
            let is_so_long = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse().ok().filter(|_| is_so_long)?;
            (from..=to).contains(&value).then_some(())
        };
        in_range(year, 4, 0, 9999)?;
        in_range(month, 2, 1, 12)?;
        in_range(day, 2, 1, 31)?;
        let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut parts = whole.split(':');
        in_range(parts.next()?, 2, 0, 23)?;
        in_range(parts.next()?, 2, 0, 59)?;
        in_range(parts.next()?, 2, 0, 60)?;
        if parts.next().is_some() || !(1..=9).contains(&fraction.len()) {
            return None;
        }
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let zone = match zone.as_bytes() {
            [] => ["", "", ""],
            b"Z" => ["Z", "", ""],
            [b'+' | b'-', digits @ ..]
                if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit) =>
            {
                [zone.get(..3)?, ":", zone.get(3..)?]
            }
            _ => return None,
        };
        let mut moment = Self { bytes: [0; BYTES_MAX], length: 0 };
        let [hours, colon, minutes] = zone;
        for part in [year, "-", month, "-", day, "T", clock, hours, colon, minutes] {
            moment.push(part)?;
        }
        Some(moment)
    }

    fn push(&mut self, text: &str) -> Option<()> {
        let start = usize::from(self.length);
        let place = self.bytes.get_mut(start..start + text.len())?;
        place.copy_from_slice(text.as_bytes());
        self.length = u8::try_from(start + text.len()).ok()?;
        Some(())
    }

    /// `10/Oct/2000:13:55:36 -0700`, as access logs write it.
    pub(super) fn of_access(text: &str) -> Option<Self> {
        let mut scan = Scan(text);
        let (day, name, year) = (scan.until("/")?, scan.until("/")?, scan.until(":")?);
        let clock = scan.until(" ")?;
        Self::new(year, month(name)?, day, clock, scan.0)
    }

    /// `2026/11/24 10:20:30`, as nginx writes it into its error log.
    pub(super) fn of_nginx(text: &str) -> Option<Self> {
        let mut scan = Scan(text);
        let (year, month, day) = (scan.until("/")?, scan.until("/")?, scan.until(" ")?);
        Self::new(year, month, day, scan.0, "")
    }

    /// `Fri Sep 09 10:42:29.902022 2011`, as Apache httpd writes it into its error log.
    pub(super) fn of_apache(text: &str) -> Option<Self> {
        let mut scan = Scan(text);
        scan.word().filter(|day| day.len() == 3)?;
        let (name, day, clock) = (scan.word()?, scan.word()?, scan.word()?);
        Self::new(scan.0, month(name)?, day, clock, "")
    }

    /// RFC 3339, which is left as it is when it is one.
    pub(super) fn of_rfc3339(text: &str) -> Option<&str> {
        crate::time::parse(text.as_bytes()).map(|_| text)
    }
}

/// `Oct 11 22:14:15` at the beginning, as RFC 3164 (section 4.1.2) has it: the day may be ` 1`, `01` or `1`.
pub(super) fn of_rfc3164<'a>(scan: &mut Scan<'a>) -> Option<&'a str> {
    let all = scan.0;
    month(scan.take(3)?)?;
    scan.skip(" ")?;
    scan.0 = scan.0.strip_prefix(' ').unwrap_or(scan.0);
    let day: u8 = scan.until(" ")?.parse().ok()?;
    let clock = scan.take(8)?.as_bytes();
    let is_clock = clock.iter().enumerate().all(|(at, byte)| match at {
        2 | 5 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !is_clock || !(1..=31).contains(&day) {
        return None;
    }
    all.get(..all.len() - scan.0.len())
}

fn month(name: &str) -> Option<&'static str> {
    const NUMBERS: [&str; 12] =
        ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"];
    let at = MONTHS.iter().position(|month| *month == name)?;
    NUMBERS.get(at).copied()
}
