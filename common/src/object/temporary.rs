//! What killed writers left half, where the only clock is the server's.

use std::time::Duration;

use super::ObjectMeta;
use super::key::is_valid_key;
use crate::durable;

#[cfg(test)]
mod tests;

/// Whether a key is that of a temporary file: one in a folder of the store, whatever a server names.
pub(super) fn is_temporary(key: &str) -> bool {
    let (is_inside, name) =
        key.rsplit_once('/').map_or((true, key), |(folder, name)| (is_valid_key(folder), name));
    is_inside && durable::is_temporary(name) && !name.chars().any(char::is_control)
}

/// The temporary files of `all` that are older than the newest file by more than `age`. The server's clock is there or
/// later; ours may be anywhere, and would take what another machine is writing now.
pub(super) fn stale(all: Vec<ObjectMeta>, age: Duration) -> Vec<ObjectMeta> {
    let Some(newest) = all.iter().map(|file| file.modified).max() else { return Vec::new() };
    let is_old =
        |file: &ObjectMeta| newest.duration_since(file.modified).is_ok_and(|since| since > age);
    all.into_iter().filter(|file| is_temporary(&file.key) && is_old(file)).collect()
}
