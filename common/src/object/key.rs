//! Which keys are allowed, so that every key is a safe path and a plain URL.

use crate::durable;

#[cfg(test)]
mod tests;

/// Longest key, in bytes. S3 allows 1024 for prefix and key together.
pub const KEY_BYTES_MAX: usize = 512;
/// Most parts of a key; listing a directory goes no deeper, even where links make a circle.
const PARTS_MAX: usize = 16;
/// Longest part between two `/`, in bytes: room for a temporary name within `NAME_MAX`.
const PART_BYTES_MAX: usize = 200;

/// Whether `key` may name an object: at most 16 `/`-separated parts without empty ones, `.` or `..`, without
/// control characters, and not looking like a temporary file.
pub fn is_valid_key(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX
        && key.split('/').count() <= PARTS_MAX
        && key.split('/').all(is_valid_part)
}

fn is_valid_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.len() <= PART_BYTES_MAX
        && !part.chars().any(char::is_control)
        && !durable::is_temporary(part)
}
