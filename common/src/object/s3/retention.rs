//! Object Lock and versions in S3's words
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>).

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Config;
use aws_sdk_s3::client::customize::CustomizableOperation;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectLockEnabled, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use bytes::Bytes;

use super::{Act, ErrorKind, ObjectError, ObjectMeta, PAGE_KEYS, S3};
use super::{is_valid_key, known_length, time};
use crate::object::fault::Fault;
use crate::object::retention::{LockMode, ObjectVersion, Retention};

#[cfg(test)]
mod tests;

/// After so many versions it is looked whether most are markers that hide nothing.
const MARKERS_LOOK: usize = 100_000;

/// Markers of one key that are kept then, the newest: more than anybody takes away to show an object (`undelete` writes it again).
const MARKERS_OF_KEY_MAX: usize = 16;

/// Where the next page of versions begins: a key, and a version of it.
type Marker = (String, Option<String>);

impl S3 {
    pub(in crate::object) async fn has_object_lock(&self) -> Result<bool, ObjectError> {
        self.tries
            .attempts(Act::Open, "", 0, async || {
                let ask = self.client.get_object_lock_configuration().bucket(&self.bucket).send();
                match ask.await.map_err(Fault::from) {
                    Ok(answer) => {
                        let told = answer.object_lock_configuration();
                        let told =
                            told.and_then(|configuration| configuration.object_lock_enabled());
                        Ok(told == Some(&ObjectLockEnabled::Enabled))
                    }
                    // `ObjectLockConfigurationNotFoundError` is a 404; who has never heard of it answers 400 or 501.
                    Err(fault)
                        if matches!(fault.kind, ErrorKind::NotFound | ErrorKind::Invalid) =>
                    {
                        Ok(false)
                    }
                    Err(fault) => Err(fault),
                }
            })
            .await
    }

    pub(in crate::object) async fn put_retained(
        &self,
        key: &str,
        bytes: Bytes,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        self.put_as(key, bytes, Some(retention), false).await.map(drop)
    }

    pub(in crate::object) async fn put_new_retained(
        &self,
        key: &str,
        bytes: Bytes,
        retention: Retention,
    ) -> Result<bool, ObjectError> {
        self.put_as(key, bytes, Some(retention), true).await
    }

    pub(in crate::object) async fn retention(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<(ObjectMeta, Option<Retention>), ObjectError> {
        let full_key = self.tries.full_key(Act::Find, &self.prefix, key)?;
        self.tries
            .attempts(Act::Find, key, 0, async || {
                let head = self
                    .client
                    .head_object()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .set_version_id(version.map(str::to_owned))
                    .send();
                let answer = match head.await.map_err(Fault::from) {
                    Ok(answer) => answer,
                    Err(fault) => return Err(self.explain_head(fault).await),
                };
                let meta = ObjectMeta {
                    key: key.to_owned(),
                    size: known_length(answer.content_length())?,
                    modified: time(answer.last_modified()),
                };
                let mode = match answer.object_lock_mode() {
                    Some(ObjectLockMode::Compliance) => Some(LockMode::Compliance),
                    Some(ObjectLockMode::Governance) => Some(LockMode::Governance),
                    _ => None,
                };
                let until = answer.object_lock_retain_until_date();
                let until =
                    until.map(|until| time(Some(until))).filter(|until| *until > UNIX_EPOCH);
                Ok((meta, mode.zip(until).map(|(mode, until)| Retention { mode, until })))
            })
            .await
    }

    pub(in crate::object) async fn retain(
        &self,
        key: &str,
        version: Option<&str>,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        let full_key = self.tries.full_key(Act::Lock, &self.prefix, key)?;
        let wanted = ObjectLockRetention::builder()
            .mode(match retention.mode {
                LockMode::Governance => ObjectLockRetentionMode::Governance,
                LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            })
            .retain_until_date(date(retention.until))
            .build();
        self.tries
            .attempts(Act::Lock, key, 0, async || {
                let retain = self
                    .client
                    .put_object_retention()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .set_version_id(version.map(str::to_owned))
                    .checksum_algorithm(ChecksumAlgorithm::Sha256)
                    .retention(wanted.clone())
                    .send();
                retain.await.map_err(Fault::from)?;
                Ok(())
            })
            .await
    }

    pub(in crate::object) async fn versions(
        &self,
        prefix: &str,
    ) -> Result<Vec<ObjectVersion>, ObjectError> {
        let full_prefix = format!("{}{prefix}", self.prefix);
        let mut look_at = MARKERS_LOOK;
        // Whoever may delete can make as many markers as he likes, of keys that never were.
        let tidy = |versions: &mut Vec<ObjectVersion>| {
            if versions.len() > look_at {
                drop_markers(versions);
                look_at = versions.len().saturating_mul(2).max(MARKERS_LOOK);
            }
        };
        self.pages(prefix, "versions", |marker| self.versions_page(&full_prefix, marker), tidy)
            .await
    }

    /// One page: its versions, and where the next one begins.
    async fn versions_page(
        &self,
        full_prefix: &str,
        marker: Option<Marker>,
    ) -> Result<(Vec<ObjectVersion>, Option<Marker>), Fault> {
        let (key, version) = marker.map_or((None, None), |(key, version)| (Some(key), version));
        let list = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(full_prefix)
            .max_keys(PAGE_KEYS)
            .set_key_marker(key)
            .set_version_id_marker(version)
            .send();
        let answer = list.await.map_err(Fault::from)?;
        // Keys that are no keys of ours are passed over. A version that is not named or measured must not be: what hides it would
        // be taken away.
        let own = |key: Option<&str>| {
            let key = key?.strip_prefix(&self.prefix).filter(|key| is_valid_key(key));
            key.map(str::to_owned)
        };
        let unnamed = || Fault::corrupt("a version in the listing has no name or no length");
        let mut page = Vec::new();
        for version in answer.versions() {
            let Some(key) = own(version.key()) else { continue };
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            page.push(ObjectVersion {
                key,
                version: version.version_id().ok_or_else(unnamed)?.to_owned(),
                is_latest: version.is_latest().unwrap_or(false),
                is_marker: false,
                size: size.ok_or_else(unnamed)?,
                modified: time(version.last_modified()),
                tag: version.e_tag().map(str::to_owned),
            });
        }
        for marker in answer.delete_markers() {
            let Some(key) = own(marker.key()) else { continue };
            page.push(ObjectVersion {
                key,
                version: marker.version_id().ok_or_else(unnamed)?.to_owned(),
                is_latest: marker.is_latest().unwrap_or(false),
                is_marker: true,
                size: 0,
                modified: time(marker.last_modified()),
                tag: None,
            });
        }
        match (answer.is_truncated(), answer.next_key_marker()) {
            (Some(true), Some(next)) => {
                let version = answer.next_version_id_marker().map(str::to_owned);
                Ok((page, Some((next.to_owned(), version))))
            }
            (Some(true), None) => Err(Fault::corrupt("the listing breaks off between two pages")),
            _ => Ok((page, None)),
        }
    }

    pub(in crate::object) async fn get_version(
        &self,
        key: &str,
        version: &str,
        bytes_max: u64,
    ) -> Result<Bytes, ObjectError> {
        self.get_any(key, Some(version), bytes_max).await
    }

    pub(in crate::object) async fn delete_version(
        &self,
        key: &str,
        version: &str,
    ) -> Result<(), ObjectError> {
        let full_key = self.tries.full_key(Act::Delete, &self.prefix, key)?;
        self.tries
            .attempts(Act::Delete, key, 0, async || {
                let delete = self
                    .client
                    .delete_object()
                    .bucket(&self.bucket)
                    .key(&full_key)
                    .version_id(version)
                    .send();
                match delete.await.map_err(Fault::from) {
                    Err(fault) if fault.kind != ErrorKind::NotFound => Err(fault),
                    _ => Ok(()),
                }
            })
            .await
    }
}

/// The same PUT, which locks what it stores. The body is in memory, so its checksum is a header and no trailer, which many
/// services do not understand.
pub(super) fn locked(
    put: PutObjectFluentBuilder,
    retention: Retention,
) -> CustomizableOperation<PutObjectOutput, PutObjectError, PutObjectFluentBuilder> {
    let checksums =
        Config::builder().request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    put.checksum_algorithm(ChecksumAlgorithm::Sha256)
        .object_lock_mode(match retention.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        })
        .object_lock_retain_until_date(date(retention.until))
        .customize()
        .config_override(checksums)
}

/// Leaves out markers of keys that have no version (of the last key more may come), and of the others all but the newest, which
/// are listed first.
fn drop_markers(versions: &mut Vec<ObjectVersion>) {
    let last = versions.last().map(|version| version.key.clone());
    let there = versions.iter().filter(|version| !version.is_marker);
    let there: HashSet<_> = there.map(|version| version.key.clone()).collect();
    let mut seen: HashMap<String, usize> = HashMap::new();
    versions.retain(|version| {
        if !version.is_marker {
            return true;
        }
        if !there.contains(&version.key) && last.as_ref() != Some(&version.key) {
            return false;
        }
        let seen = seen.entry(version.key.clone()).or_default();
        *seen += 1;
        *seen <= MARKERS_OF_KEY_MAX
    });
}

/// Whole seconds, which every service keeps as they are. Times that S3 cannot say become its earliest one, which it refuses.
fn date(time: SystemTime) -> DateTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DateTime::from_secs(i64::try_from(seconds).unwrap_or(0))
}
