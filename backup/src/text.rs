//! Figures as people read them.

use std::time::Duration;

use crate::browse::text::escaped;

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in powers of 1000, as disks are sold and `ls --si` shows them: `2.2 GB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    match UNITS.iter().find(|(_, size)| number >= *size) {
        None => format!("{number} B"),
        Some((unit, size)) => {
            let (whole, tenth) = (number / size, number % size * 10 / size);
            if whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
        }
    }
}

/// `0.85 s`, `12.3 s`, `4 min 10 s`, `2 h 5 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{}.{:02} s", seconds, duration.subsec_millis() / 10),
        10..60 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Characters of a text of others that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// The begin of a text that somebody else wrote, with nothing that a terminal acts on.
#[must_use]
pub fn shown(text: &str) -> String {
    let begin: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    escaped(begin.as_bytes()).to_string()
}

/// Names that are given where something concerns many of them.
const NAMED_MAX: usize = 10;

/// `web, db and 3 others`.
#[must_use]
pub fn named(names: &[impl AsRef<str>]) -> String {
    let first: Vec<_> = names.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first.join(", "),
        others => format!("{} and {others} others", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_drive_no_terminal_and_fill_no_log() {
        assert_eq!(shown("a\x1b]0;x\x07\nb"), "a\\x1b]0;x\\x07\\nb");
        assert_eq!(shown(&"a".repeat(1000)).len(), SHOWN_CHARS_MAX);
    }

    #[test]
    fn figures_are_short_and_exact_enough() {
        assert_eq!(
            [count(0), count(999), count(45_657), count(1_000_000)],
            ["0", "999", "45,657", "1,000,000"]
        );
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(2_180_000_000), "2.1 GB");
        assert_eq!(bytes(963_000_000), "963 MB");
        assert_eq!(bytes(u64::MAX), "18446 PB");
        assert_eq!(duration(Duration::from_millis(853)), "0.85 s");
        assert_eq!(duration(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(duration(Duration::from_secs(250)), "4 min 10 s");
        assert_eq!(duration(Duration::from_secs(7_500)), "2 h 5 min");
    }

    #[test]
    fn of_many_names_the_first_are_given() {
        assert_eq!(named(&["web"]), "web");
        assert_eq!(named(&["web", "db"]), "web, db");
        let many: Vec<_> = (0..12).map(|number| number.to_string()).collect();
        assert_eq!(named(&many), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 others");
    }
}
