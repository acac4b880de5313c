//! Versions and Object Lock of the store in memory, as the S3 user guide describes them ("Using S3 Object Lock").

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::dto::{
    DeleteMarkerEntry, HeadObjectOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ObjectLockMode, ObjectVersion, PutObjectRetentionInput, Timestamp, TimestampFormat,
};
use s3s::{S3Result, s3_error};

use super::{LIST_KEYS_MAX, tag};

/// What a store makes of locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locks {
    /// It has never heard of them, nor of versions.
    #[default]
    Unknown,
    /// The bucket has versions and no locks.
    Off,
    /// It takes them and forgets them.
    Ignored,
    /// It shows them and lets locked versions go all the same.
    Shown,
    /// It keeps to them.
    Kept,
    /// It keeps to them, and these keys may not lock what is there already.
    NotExtended,
    /// It keeps to them, says that it locks for longer, and does not.
    ExtendedInWords,
}

/// Until when a version stays, and in which mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `COMPLIANCE` or `GOVERNANCE`.
    pub mode: String,
    /// By the store's clock.
    pub until: SystemTime,
}

/// What a key held or holds.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub id: String,
    /// Empty for a delete marker.
    pub bytes: Bytes,
    /// By the store's clock.
    pub modified: SystemTime,
    /// Whether it says that the key was deleted.
    pub is_marker: bool,
    /// Its lock.
    pub retention: Option<Retention>,
}

#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) locks: Locks,
    pub(super) all: BTreeMap<String, Vec<Version>>,
    named: u64,
    /// Nothing goes for good, whatever its own lock says: a legal hold, say.
    pub(super) held_by_others: bool,
}

impl Versions {
    pub(super) fn new(locks: Locks) -> Self {
        Self { locks, ..Self::default() }
    }

    pub(super) fn are_kept(&self) -> bool {
        self.locks != Locks::Unknown
    }

    pub(super) fn configured(&self) -> S3Result<()> {
        match self.locks {
            Locks::Unknown => Err(s3_error!(NotImplemented, "no locks here")),
            Locks::Off => Err(s3_error!(
                ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket"
            )),
            _ => Ok(()),
        }
    }

    /// The lock that somebody asks for with a new object.
    pub(super) fn wanted(
        &self,
        mode: &str,
        until: &Timestamp,
        has_checksum: bool,
        now: SystemTime,
    ) -> S3Result<Option<Retention>> {
        match self.locks {
            Locks::Unknown | Locks::Off => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Bucket is missing Object Lock Configuration"
                ));
            }
            Locks::Ignored => return Ok(None),
            _ => {}
        }
        if !has_checksum {
            return Err(s3_error!(
                InvalidRequest,
                "Content-MD5 or x-amz-checksum is required for Put Object requests with Object Lock"
            ));
        }
        let until = system_time(until);
        if until <= now {
            return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
        }
        Ok(Some(Retention { mode: mode.to_owned(), until }))
    }

    pub(super) fn put(
        &mut self,
        key: &str,
        bytes: Bytes,
        modified: SystemTime,
        retention: Option<Retention>,
    ) {
        self.push(key, bytes, modified, retention, false);
    }

    fn push(
        &mut self,
        key: &str,
        bytes: Bytes,
        modified: SystemTime,
        retention: Option<Retention>,
        is_marker: bool,
    ) {
        self.named += 1;
        let id = format!("version-{:06}", self.named);
        let version = Version { id, bytes, modified, is_marker, retention };
        self.all.entry(key.to_owned()).or_default().push(version);
    }

    /// Hides the object, or removes one version for good.
    pub(super) fn delete(
        &mut self,
        key: &str,
        version: Option<&str>,
        now: SystemTime,
    ) -> S3Result<()> {
        let Some(version) = version else {
            self.push(key, Bytes::new(), now, None, true);
            return Ok(());
        };
        let are_kept = self.locks != Locks::Shown;
        let Some(of_key) = self.all.get_mut(key) else { return Ok(()) };
        let is_locked = |found: &Version| {
            found.retention.as_ref().is_some_and(|retention| retention.until > now)
        };
        let is_locked = |found: &Version| {
            found.id == version && (is_locked(found) || self.held_by_others && !found.is_marker)
        };
        if are_kept && of_key.iter().any(is_locked) {
            return Err(s3_error!(
                AccessDenied,
                "Access Denied because object protected by object lock."
            ));
        }
        of_key.retain(|found| found.id != version);
        if of_key.is_empty() {
            self.all.remove(key);
        }
        Ok(())
    }

    /// What the key holds now.
    pub(super) fn current(&self, key: &str) -> Option<&Version> {
        self.all.get(key)?.last().filter(|latest| !latest.is_marker)
    }

    /// What a version holds, and since when.
    pub(super) fn held(&self, key: &str, id: &str) -> Option<(Bytes, SystemTime)> {
        let version = self.all.get(key)?.iter().find(|version| version.id == id)?;
        (!version.is_marker).then(|| (version.bytes.clone(), version.modified))
    }

    pub(super) fn head(&self, key: &str, version: Option<&str>) -> S3Result<HeadObjectOutput> {
        let found = match version {
            None => self.current(key),
            Some(id) => {
                self.all.get(key).and_then(|of_key| of_key.iter().find(|version| version.id == id))
            }
        };
        let found = found.ok_or_else(|| s3_error!(NoSuchKey, "no such key"))?;
        let retention = found.retention.as_ref();
        Ok(HeadObjectOutput {
            content_length: Some(found.bytes.len() as i64),
            e_tag: Some(tag(&found.bytes)),
            last_modified: Some(found.modified.into()),
            version_id: Some(found.id.clone()),
            object_lock_mode: retention
                .map(|retention| ObjectLockMode::from(retention.mode.clone())),
            object_lock_retain_until_date: retention.map(|retention| retention.until.into()),
            ..HeadObjectOutput::default()
        })
    }

    /// Locks for longer; to make a lock shorter or softer needs a right that nobody has here.
    pub(super) fn retain(
        &mut self,
        input: &PutObjectRetentionInput,
        now: SystemTime,
    ) -> S3Result<()> {
        match self.locks {
            Locks::Unknown | Locks::Off => {
                return Err(s3_error!(
                    InvalidRequest,
                    "Bucket is missing Object Lock Configuration"
                ));
            }
            Locks::NotExtended => return Err(s3_error!(AccessDenied, "Access Denied")),
            Locks::Ignored | Locks::ExtendedInWords => return Ok(()),
            Locks::Shown | Locks::Kept => {}
        }
        let malformed = || s3_error!(MalformedXML, "no retention");
        let asked = input.retention.as_ref().ok_or_else(malformed)?;
        let mode = asked.mode.as_ref().ok_or_else(malformed)?.as_str().to_owned();
        let until = system_time(asked.retain_until_date.as_ref().ok_or_else(malformed)?);
        let of_key = self.all.get_mut(&input.key);
        let found = of_key.and_then(|of_key| match &input.version_id {
            Some(id) => of_key.iter_mut().find(|version| version.id == *id),
            None => of_key.last_mut(),
        });
        let found = found
            .filter(|found| !found.is_marker)
            .ok_or_else(|| s3_error!(NoSuchKey, "no such key"))?;
        let held = found.retention.as_ref().filter(|held| held.until > now);
        if held.is_some_and(|held| held.until > until || held.mode != mode) || until <= now {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        found.retention = Some(Retention { mode, until });
        Ok(())
    }

    /// One page: versions behind the markers, keys in order and of one key the latest first.
    pub(super) fn list(
        &self,
        input: &ListObjectVersionsInput,
        prefix: &str,
    ) -> S3Result<ListObjectVersionsOutput> {
        if !self.are_kept() {
            return Err(s3_error!(NotImplemented, "no versions here"));
        }
        let wanted = usize::try_from(input.max_keys.unwrap_or(i32::MAX)).unwrap_or(0);
        let wanted = wanted.min(LIST_KEYS_MAX);
        let all =
            self.all.iter().filter(|(key, _)| key.starts_with(prefix)).flat_map(|(key, of_key)| {
                let latest = of_key.len().saturating_sub(1);
                let numbered = of_key.iter().enumerate().rev();
                numbered.map(move |(number, version)| (key, version, number == latest))
            });
        let mut all: Vec<_> = all.collect();
        if let Some(after) = &input.key_marker {
            let last = input.version_id_marker.as_deref();
            let at = all.iter().position(|(key, version, _)| {
                *key == after && last.is_some_and(|last| version.id == last)
            });
            match at {
                Some(at) => all.drain(..=at),
                None => all.drain(..all.partition_point(|(key, _, _)| *key <= after)),
            };
        }
        let is_truncated = all.len() > wanted;
        all.truncate(wanted);
        let last = all.last().filter(|_| is_truncated);
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        let next = last.map(|(key, version, _)| ((*key).clone(), version.id.clone()));
        for (key, version, is_latest) in all {
            let (key, id) = (Some(key.clone()), Some(version.id.clone()));
            let (is_latest, modified) = (Some(is_latest), Some(version.modified.into()));
            if version.is_marker {
                markers.push(DeleteMarkerEntry {
                    is_latest,
                    key,
                    last_modified: modified,
                    version_id: id,
                    ..DeleteMarkerEntry::default()
                });
            } else {
                versions.push(ObjectVersion {
                    e_tag: Some(tag(&version.bytes)),
                    is_latest,
                    key,
                    last_modified: modified,
                    size: Some(version.bytes.len() as i64),
                    version_id: id,
                    ..ObjectVersion::default()
                });
            }
        }
        let (next_key_marker, next_version_id_marker) = next.unzip();
        Ok(ListObjectVersionsOutput {
            name: Some(input.bucket.clone()),
            prefix: input.prefix.clone(),
            is_truncated: Some(is_truncated),
            next_key_marker,
            next_version_id_marker,
            versions: Some(versions),
            delete_markers: Some(markers),
            ..ListObjectVersionsOutput::default()
        })
    }
}

/// The crate converts only the other way round.
fn system_time(timestamp: &Timestamp) -> SystemTime {
    let mut text = Vec::new();
    let written = timestamp.format(TimestampFormat::EpochSeconds, &mut text);
    let seconds = written.ok().and_then(|()| String::from_utf8(text).ok()?.parse::<f64>().ok());
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    SystemTime::UNIX_EPOCH + since.unwrap_or_default()
}

#[cfg(test)]
mod tests;
