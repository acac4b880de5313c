//! Object storage: a directory, S3, and what else [`Remote`] has, behind one type.
//!
//! The promise of `ObjectStore::put` is the one a backup is built on: when it returns `Ok` the
//! object is durable and whole, when it returns `Err` or the process dies, the key holds what it
//! held before or, whole as well, what was to be written: an answer may be lost, a folder fail to
//! be synced behind a rename, and what was under way may still come. Who must know looks.

mod body;
mod directory;
mod error;
#[cfg(any(feature = "s3", feature = "stores"))]
mod fault;
mod key;
mod location;
#[cfg(feature = "stores")]
mod opendal;
#[cfg(any(feature = "s3", feature = "stores"))]
mod part;
mod remote;
#[cfg(feature = "s3")]
mod retention;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "stores")]
mod sftp;
#[cfg(feature = "stores")]
mod temporary;
#[cfg(any(feature = "s3", feature = "tls"))]
pub mod trust;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub use body::{Body, BodyClosed, BodySender, body};
pub use error::{Act, ErrorKind, ObjectError};
pub use key::{KEY_BYTES_MAX, is_valid_key};
pub use location::{Location, LocationError, without_password};
pub use remote::{Remote, RemoteSettings};
#[cfg(feature = "s3")]
pub use retention::{LockMode, ObjectVersion, Retention};

use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// Most objects one listing returns; more is an error.
pub const LIST_OBJECTS_MAX: usize = 4_000_000;

/// How to reach an S3 service. Not used for a directory.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// `http://host:port` or `https://host`; AWS when absent.
    pub endpoint: Option<String>,
    /// `us-east-1` when absent.
    pub region: Option<String>,
    /// Required for S3.
    pub access_key: Option<String>,
    /// Required for S3.
    pub secret_key: Option<Secret>,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
    /// Bucket in the path instead of the host name; when absent, true exactly if there is an
    /// endpoint.
    pub path_style: Option<bool>,
}

/// One object as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The key below the store's location, with `/` between its parts.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub modified: SystemTime,
}

/// A place that holds objects under keys such as `packs/ab/….tar.zst`. Cloning is cheap; clones
/// share connections. Every method may be called from many tasks at once. A future of this type
/// that is dropped has either had its whole effect, or none that is visible under the key.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Directory(Arc<directory::Directory>),
    #[cfg(feature = "s3")]
    S3(Arc<s3::S3>),
    #[cfg(feature = "stores")]
    Sftp(Arc<sftp::Sftp>),
    #[cfg(feature = "stores")]
    Service(Arc<opendal::Service>),
}

/// Calls the same method of whichever backend there is.
macro_rules! on_backend {
    ($store:expr, $backend:ident => $call:expr) => {
        match &$store.backend {
            Backend::Directory($backend) => $call,
            #[cfg(feature = "s3")]
            Backend::S3($backend) => $call,
            #[cfg(feature = "stores")]
            Backend::Sftp($backend) => $call,
            #[cfg(feature = "stores")]
            Backend::Service($backend) => $call,
        }
    };
}

impl ObjectStore {
    /// Prepares access. Nothing is contacted, read or created: a bucket or directory that does not
    /// exist shows at the first use as [`ErrorKind::NoBucket`]. Unusable settings are
    /// [`ErrorKind::Invalid`], as is a [`Remote`], which [`ObjectStore::open_with`] opens.
    #[cfg_attr(
        not(feature = "s3"),
        expect(unused_variables, reason = "the settings are for S3 only")
    )]
    pub fn open(location: &Location, settings: &S3Settings) -> Result<Self, ObjectError> {
        let backend = match location {
            Location::Directory(root) => {
                Backend::Directory(Arc::new(directory::Directory::new(root.clone())))
            }
            #[cfg(feature = "s3")]
            Location::S3 { bucket, prefix } => {
                Backend::S3(Arc::new(s3::S3::new(bucket, prefix, settings)?))
            }
            #[cfg(not(feature = "s3"))]
            Location::S3 { .. } => {
                return Err(ObjectError::new(
                    ErrorKind::Invalid,
                    Act::Open,
                    "",
                    location.to_string(),
                    "this build has no S3",
                ));
            }
            Location::Remote(remote) => {
                return Err(unreachable_remote(remote, "only directories and S3 are used here"));
            }
        };
        Ok(Self { backend })
    }

    /// The same for every kind of location.
    pub fn open_with(
        location: &Location,
        settings: &S3Settings,
        remote_settings: &RemoteSettings,
    ) -> Result<Self, ObjectError> {
        match location {
            Location::Remote(remote) => Ok(Self { backend: open_remote(remote, remote_settings)? }),
            _ => Self::open(location, settings),
        }
    }

    /// Where the objects are.
    pub fn location(&self) -> Location {
        on_backend!(self, backend => backend.location())
    }

    /// Makes the place ready for objects: creates the directory with its parents (mode 0700), or
    /// checks that the bucket exists. Buckets are never created: they carry policies that are the
    /// operator's to choose.
    pub async fn create_root(&self) -> Result<(), ObjectError> {
        on_backend!(self, backend => backend.create_root().await)
    }

    /// Stores `bytes` under `key`, replacing what is there.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        on_backend!(self, backend => backend.put(key, bytes).await)
    }

    /// Stores `bytes` under `key` where nothing is, and says whether it did: of several at once, one does. `false` may
    /// also be said of what an attempt of this call has stored already, and a store that does not know the condition
    /// refuses it ([`ErrorKind::Unconditional`]) or replaces what is there. Who must know reads it back.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        on_backend!(self, backend => backend.put_new(key, bytes).await)
    }

    /// Stores what comes through the body under `key` and returns its length in bytes. The object
    /// appears only if the sending side says [`BodySender::finish`]; a sender that vanishes is
    /// [`ErrorKind::Corrupt`]. On S3 a large body is a multipart upload that is aborted on failure;
    /// if the future is dropped half-way, its parts stay until the bucket's lifecycle rule for
    /// incomplete uploads removes them. A [`Remote`] takes whole objects only.
    pub async fn put_stream(&self, key: &str, body: Body) -> Result<u64, ObjectError> {
        on_backend!(self, backend => backend.put_stream(key, body).await)
    }

    /// The whole object, which must be at most `bytes_max` long: [`ErrorKind::Corrupt`] if it is
    /// longer.
    pub async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        on_backend!(self, backend => backend.get(key, bytes_max).await)
    }

    /// Exactly the bytes of `range`: [`ErrorKind::Corrupt`] if the object ends before.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        on_backend!(self, backend => backend.get_range(key, range).await)
    }

    /// Every object whose key starts with `prefix`, sorted by key. `packs/` lists a folder, `packs/ab`
    /// also `packs/abc`. Temporary files, and names that are no valid keys, are not listed.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let mut objects = on_backend!(self, backend => backend.list(prefix).await)?;
        objects.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        Ok(objects)
    }

    /// The temporary files that writers which were killed left behind, or that are being written now,
    /// under their keys. S3 has none, nor has a cloud.
    pub async fn temporaries(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        match &self.backend {
            Backend::Directory(directory) => directory.temporaries().await,
            #[cfg(feature = "s3")]
            Backend::S3(_) => Ok(Vec::new()),
            #[cfg(feature = "stores")]
            Backend::Sftp(sftp) => sftp.temporaries().await,
            #[cfg(feature = "stores")]
            Backend::Service(service) => service.temporaries().await,
        }
    }

    /// Removes the temporary files that were last written before `age`, and says how many. S3 has none.
    pub async fn remove_temporaries(&self, age: Duration) -> Result<u64, ObjectError> {
        match &self.backend {
            Backend::Directory(directory) => directory.remove_temporaries(age).await,
            #[cfg(feature = "s3")]
            Backend::S3(_) => Ok(0),
            #[cfg(feature = "stores")]
            Backend::Sftp(sftp) => sftp.remove_temporaries(age).await,
            #[cfg(feature = "stores")]
            Backend::Service(service) => service.remove_temporaries(age).await,
        }
    }

    /// Length and time of one object.
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        on_backend!(self, backend => backend.head(key).await)
    }

    /// Removes an object. One that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        on_backend!(self, backend => backend.delete(key).await)
    }
}

#[cfg(feature = "stores")]
fn open_remote(remote: &Remote, settings: &RemoteSettings) -> Result<Backend, ObjectError> {
    match remote {
        Remote::Sftp { .. } => {
            Ok(Backend::Sftp(Arc::new(sftp::Sftp::new(remote.clone(), settings)?)))
        }
        _ => Ok(Backend::Service(Arc::new(opendal::Service::new(remote.clone(), settings)?))),
    }
}

#[cfg(not(feature = "stores"))]
fn open_remote(remote: &Remote, _settings: &RemoteSettings) -> Result<Backend, ObjectError> {
    let (kind, feature) = (remote.kind(), remote.feature());
    let reason = format!("this build has no {kind}: build it with `--features {feature}`");
    Err(unreachable_remote(remote, &reason))
}

fn unreachable_remote(remote: &Remote, reason: &str) -> ObjectError {
    ObjectError::new(ErrorKind::Invalid, Act::Open, "", remote.to_string(), reason)
}
