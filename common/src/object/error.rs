//! What went wrong with an object, as one sentence and as a kind to decide by.

use std::fmt;
use std::io;
use std::ops::Range;

use super::LIST_OBJECTS_MAX;
use super::location::Location;

#[cfg(test)]
mod tests;

/// What a caller may want to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// Wrong keys, or keys without the right.
    Denied,
    /// The bucket or directory itself does not exist.
    NoBucket,
    /// No space or quota is left.
    Full,
    /// The file system is read-only.
    ReadOnly,
    /// The store could not be reached or kept failing, and every attempt is used up.
    Unavailable,
    /// The object is not what it must be: too short, too long, no plain file.
    Corrupt,
    /// The request to stop came before the answer.
    Interrupted,
    /// The store does not know the condition under which it was to be done, and has done nothing.
    Unconditional,
    /// The request itself cannot work: a bad key, bad settings, an unexpected refusal.
    Invalid,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Preparing access.
    Open,
    /// Making the place ready for objects.
    CreateRoot,
    /// Storing an object.
    Write,
    /// Reading an object or a part of it.
    Read,
    /// Listing objects.
    List,
    /// Looking an object up.
    Find,
    /// Deleting an object.
    Delete,
    /// Keeping an object from being deleted.
    Lock,
}

/// A failed act on a store. `Display` is one complete sentence that names the act, the object and
/// the store; there is no source behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectError {
    kind: ErrorKind,
    act: Act,
    key: String,
    store: String,
    reason: String,
}

impl ObjectError {
    pub(super) fn new(
        kind: ErrorKind,
        act: Act,
        key: &str,
        store: String,
        reason: impl Into<String>,
    ) -> Self {
        Self { kind, act, key: key.to_owned(), store, reason: reason.into() }
    }

    pub(super) fn invalid_key(act: Act, key: &str, store: String) -> Self {
        let shown: String =
            key.chars().take(KEY_CHARS_SHOWN).flat_map(char::escape_debug).collect();
        Self::new(ErrorKind::Invalid, act, &shown, store, "the name is not allowed")
    }

    /// An act that was given up because of the request to stop.
    pub fn interrupted(act: Act, key: &str, store: &Location) -> Self {
        Self::new(ErrorKind::Interrupted, act, key, store.to_string(), "interrupted")
    }

    /// An act that a store has not done, whatever it said.
    pub fn denied(act: Act, key: &str, store: &Location, reason: &str) -> Self {
        Self::new(ErrorKind::Denied, act, key, store.to_string(), reason)
    }

    /// What to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn act(&self) -> Act {
        self.act
    }

    /// The object, or the prefix for a listing; empty for the store as a whole.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Characters of a refused key that are shown.
const KEY_CHARS_SHOWN: usize = 80;

impl std::error::Error for ObjectError {}

impl fmt::Display for ObjectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, key, store, reason, .. } = self;
        match act {
            Act::Open => write!(formatter, "cannot use {store}: {reason}"),
            Act::CreateRoot => write!(formatter, "cannot prepare {store}: {reason}"),
            Act::Write => write!(formatter, "cannot write {key} to {store}: {reason}"),
            Act::Read => write!(formatter, "cannot read {key} from {store}: {reason}"),
            Act::List if key.is_empty() => write!(formatter, "cannot list {store}: {reason}"),
            Act::List => write!(formatter, "cannot list {key} in {store}: {reason}"),
            Act::Find => write!(formatter, "cannot find {key} in {store}: {reason}"),
            Act::Delete => write!(formatter, "cannot delete {key} from {store}: {reason}"),
            Act::Lock => write!(formatter, "cannot lock {key} in {store}: {reason}"),
        }
    }
}

/// That an object is longer than it may be, in words.
pub(super) fn too_long(length: u64, bytes_max: u64) -> String {
    format!("it is {length} bytes long, at most {bytes_max} were expected")
}

/// That an object is over before the range that is read of it, in words.
pub(super) fn too_short(length: u64, range: &Range<u64>) -> String {
    let Range { start, end } = range;
    format!("it ends at byte {length}, but bytes {start} to {end} are needed")
}

/// That a listing has more of something than one may have, in words.
pub(super) fn too_many(what: &str) -> String {
    format!("there are more than {LIST_OBJECTS_MAX} {what}")
}

/// The kind and the reason, in words, of a failed system call.
pub(super) fn describe_io(error: &io::Error) -> (ErrorKind, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "it does not exist".to_owned()),
        io::ErrorKind::StorageFull => (ErrorKind::Full, "the disk is full".to_owned()),
        io::ErrorKind::QuotaExceeded => (ErrorKind::Full, "the disk quota is used up".to_owned()),
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::ReadOnly, "the directory is mounted read-only".to_owned())
        }
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Denied, "the permissions do not allow it".to_owned())
        }
        _ => (ErrorKind::Invalid, error.to_string()),
    }
}
