//! What a rotated file is called.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::rotation::Names;
use crate::time::Stamp;

#[cfg(test)]
mod tests;

/// Digits of a number, so that names sort; larger numbers have more.
const DIGITS: usize = 6;

/// Numbers from here on are none of ours: they would leave no room for the next one.
const NUMBERS_END: u64 = 1_000_000_000_000;

/// What a compressed file ends with.
pub const COMPRESSED: &str = ".zst";

/// `NAME_MAX` of Linux, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Names that are tried before it is given up: so many rotations of one log in one second.
const ATTEMPTS_MAX: u32 = 1000;

/// A name beside `base` that is not taken, compressed or not, by any of `existing`; `None` when there is none that is
/// short enough.
#[must_use]
pub fn rotated(names: Names, base: &OsStr, existing: &[OsString], now: i64) -> Option<OsString> {
    match names {
        Names::Numbered => {
            let last = existing.iter().filter_map(|name| number(name, base)).max().unwrap_or(0);
            fitting(base, &format!(".{:0DIGITS$}", last.checked_add(1)?))
        }
        Names::Dateext => {
            let mut stamp = Stamp::default();
            let stamp = String::from_utf8_lossy(stamp.write(now)).into_owned();
            // To the second.
            let stamp: String = stamp.chars().take(19).filter(|c| !"-:".contains(*c)).collect();
            (0..ATTEMPTS_MAX).find_map(|attempt| {
                let mark = match attempt {
                    0 => format!("-{stamp}Z"),
                    more => format!("-{stamp}Z.{more}"),
                };
                let name = fitting(base, &mark)?;
                let mut compressed = name.clone();
                compressed.push(COMPRESSED);
                let is_taken = existing.iter().any(|other| *other == name || *other == compressed);
                (!is_taken).then_some(name)
            })
        }
    }
}

fn fitting(base: &OsStr, mark: &str) -> Option<OsString> {
    let is_short = base.len() + mark.len() + COMPRESSED.len() <= NAME_BYTES_MAX;
    is_short.then(|| OsString::from_vec([base.as_bytes(), mark.as_bytes()].concat()))
}

/// The number of a rotated `base`, compressed or not, by whomever it was rotated.
fn number(name: &OsStr, base: &OsStr) -> Option<u64> {
    let rest = name.as_bytes().strip_prefix(base.as_bytes())?.strip_prefix(b".")?;
    let digits = rest.split(|byte| *byte == b'.').next()?;
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?;
    number.filter(|number| *number < NUMBERS_END)
}
