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

/// The key of what is called `name` in a folder; the empty one is the store itself.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Which keys a listing of a prefix is about, where it goes through folders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    prefix: &'a str,
    /// Everything wanted is in it; empty for the store itself.
    pub(super) folder: &'a str,
}

impl<'a> Wanted<'a> {
    /// Those that begin with `prefix`; `None` where no key can.
    pub(super) fn below(prefix: &'a str) -> Option<Self> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        (folder.is_empty() || is_valid_key(folder)).then_some(Self { prefix, folder })
    }

    /// Whether `key` is one, or the folder of some may be.
    pub(super) fn leads(&self, key: &str) -> bool {
        is_valid_key(key) && (self.has(key) || self.prefix.starts_with(key))
    }

    /// Whether `key` is one.
    pub(super) fn has(&self, key: &str) -> bool {
        key.starts_with(self.prefix)
    }
}

fn is_valid_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.len() <= PART_BYTES_MAX
        && !part.chars().any(char::is_control)
        && !durable::is_temporary(part)
}
