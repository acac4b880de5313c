//! Sizes and durations as people write them: `100MB`, `1GiB`, `5m`. One reader for URLs, files and flags.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// A text that is no size or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No size.
    #[error("`{0}` is no size: write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB")]
    Size(String),
    /// No duration.
    #[error("`{0}` is no duration: write a whole number and ms, s, m, h or d")]
    Duration(String),
    /// More than can be counted.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Bytes. Units are those of SI and IEC 80000-13, in any case; a bare number counts bytes, and `K`, `M`, `G` and
/// `T` alone are decimal.
pub fn size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = split(text).ok_or_else(|| QuantityError::Size(text.to_owned()))?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(QuantityError::Size(text.to_owned())),
    };
    number.checked_mul(factor).ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

/// A time span. A number without a unit is refused: too many programs disagree about it.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = split(text).ok_or_else(|| QuantityError::Duration(text.to_owned()))?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(QuantityError::Duration(text.to_owned())),
    };
    let total = number.checked_mul(milliseconds);
    total.map(Duration::from_millis).ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

/// The digits in front, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}
