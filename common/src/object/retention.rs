//! Objects that the store keeps from being removed for a time (S3 Object Lock), and the versions it keeps of objects.
//!
//! A bucket with Object Lock has versions: deleting a key hides what is there behind a *delete marker*, and writing a key hides
//! it behind the new version. Only a version that is named goes for good, and not before its lock is over.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::s3::S3;
use super::{Act, Backend, ErrorKind, ObjectError, ObjectMeta, ObjectStore};

#[cfg(test)]
mod tests;

/// Who may remove a locked version before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Who has a right of its own for it (`s3:BypassGovernanceRetention`).
    Governance,
    /// Nobody, its owner included.
    Compliance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

/// A lock: how, and until when by the store's clock, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Who may lift it.
    pub mode: LockMode,
    /// When it ends.
    pub until: SystemTime,
}

/// One version of an object, or one delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The key below the store's location.
    pub key: String,
    /// What the store calls it.
    pub version: String,
    /// Whether it is what the key holds now.
    pub is_latest: bool,
    /// Whether it only says that the key was deleted.
    pub is_marker: bool,
    /// Bytes; none for a marker.
    pub size: u64,
    /// By the store's clock.
    pub modified: SystemTime,
    /// What the store calls this content, where it tells (`ETag`).
    pub tag: Option<String>,
}

impl ObjectVersion {
    /// Whether another version has the same content, as far as the listing tells; `None`: only their bytes do. Tags that
    /// differ say nothing: those of one content are different ones where the store encrypts it with a key of each object's own
    /// (SSE-KMS, SSE-C), or got it in other parts.
    #[must_use]
    pub fn has_content_of(&self, other: &Self) -> Option<bool> {
        if self.size != other.size {
            Some(false)
        } else if self.tag.is_some() && self.tag == other.tag {
            Some(true)
        } else {
            None
        }
    }
}

impl ObjectStore {
    /// Whether objects of this bucket can be locked. What is no bucket has no locks, which is no error.
    pub async fn has_object_lock(&self) -> Result<bool, ObjectError> {
        match self.s3(Act::Open, "") {
            Ok(s3) => s3.has_object_lock().await,
            Err(_) => Ok(false),
        }
    }

    /// Stores `bytes` under `key` as [`put`](Self::put) does, locked. The content's SHA-256 goes with it, because S3 wants a
    /// checksum for what is locked.
    pub async fn put_retained(
        &self,
        key: &str,
        bytes: Bytes,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        self.s3(Act::Write, key)?.put_retained(key, bytes, retention).await
    }

    /// The same as [`put_new`](Self::put_new) does it.
    pub async fn put_new_retained(
        &self,
        key: &str,
        bytes: Bytes,
        retention: Retention,
    ) -> Result<bool, ObjectError> {
        self.s3(Act::Write, key)?.put_new_retained(key, bytes, retention).await
    }

    /// Length and time of an object, or of one version of it, and its lock if there is one.
    pub async fn retention(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<(ObjectMeta, Option<Retention>), ObjectError> {
        self.s3(Act::Find, key)?.retention(key, version).await
    }

    /// Locks what is under `key` now, or one version of it, or locks it longer.
    pub async fn retain(
        &self,
        key: &str,
        version: Option<&str>,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        self.s3(Act::Lock, key)?.retain(key, version, retention).await
    }

    /// Every version of every object whose key starts with `prefix`, sorted by key; those of one key from the oldest to the
    /// latest.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        let mut versions = self.s3(Act::List, prefix)?.versions(prefix).await?;
        // A store names the latest first, and some know whole seconds only.
        versions.reverse();
        versions.sort_by(|left, right| {
            let of = |one: &ObjectVersion| (one.is_latest, one.modified);
            left.key.cmp(&right.key).then_with(|| of(left).cmp(&of(right)))
        });
        Ok(versions)
    }

    /// The whole of one version, which must be at most `bytes_max` long.
    pub async fn get_version(
        &self,
        key: &str,
        version: &str,
        bytes_max: u64,
    ) -> Result<Bytes, ObjectError> {
        self.s3(Act::Read, key)?.get_version(key, version, bytes_max).await
    }

    /// Removes one version, or one marker, for good. One that is not there is no error; a locked one is
    /// [`ErrorKind::Denied`].
    pub async fn delete_version(&self, key: &str, version: &str) -> Result<(), ObjectError> {
        self.s3(Act::Delete, key)?.delete_version(key, version).await
    }

    fn s3(&self, act: Act, key: &str) -> Result<&Arc<S3>, ObjectError> {
        if let Backend::S3(s3) = &self.backend {
            return Ok(s3);
        }
        let (store, reason) =
            (self.location().to_string(), "only a bucket of S3 has locks and versions");
        Err(ObjectError::new(ErrorKind::Invalid, act, key, store, reason))
    }
}
