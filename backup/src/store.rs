//! The one bridge between the engine's threads and the asynchronous object store.
//!
//! Everything in this crate that works on data is plain threads; each call here blocks its thread until
//! the store has answered.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chores_common::object::{Act, ObjectError, ObjectMeta, ObjectStore, ObjectVersion, Retention};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

#[cfg(test)]
mod tests;

/// How long writes go on after the request to stop, so that what is stored already is indexed: less
/// than the 10 s after which `docker stop` kills. Reads end at once.
const WRITE_GRACE: Duration = Duration::from_secs(8);

/// What is written to learn the store's time.
pub(crate) const CLOCK_KEY: &str = "marks/clock";

/// An object store for threads. Cheap to clone. Every call ends soon after the request to stop, with
/// [`ErrorKind::Interrupted`](chores_common::object::ErrorKind::Interrupted) where the store has not
/// answered by then.
#[derive(Clone, Debug)]
pub struct Store {
    objects: ObjectStore,
    runtime: Handle,
    shutdown: Shutdown,
    /// When the request to stop was first seen.
    stopping_since: Arc<OnceLock<Instant>>,
}

impl Store {
    /// Wraps `objects`; `runtime` drives the requests and must outlive the store.
    #[must_use]
    pub fn new(objects: ObjectStore, runtime: Handle, shutdown: Shutdown) -> Self {
        Self { objects, runtime, shutdown, stopping_since: Arc::default() }
    }

    /// The store itself, for work that is asynchronous anyway.
    #[must_use]
    pub fn objects(&self) -> &ObjectStore {
        &self.objects
    }

    /// Makes the place itself where that is needed (a directory).
    pub fn create_root(&self) -> Result<(), ObjectError> {
        self.wait(Act::CreateRoot, "", WRITE_GRACE, self.objects.create_root())
    }

    /// Writes an object, atomically and durably.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), ObjectError> {
        self.wait(Act::Write, key, WRITE_GRACE, self.objects.put(key, bytes.into()))
    }

    /// Reads an object of at most `bytes_max` bytes.
    pub fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        self.wait(Act::Read, key, Duration::ZERO, self.objects.get(key, bytes_max))
    }

    /// Reads exactly `range` of an object.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.wait(Act::Read, key, Duration::ZERO, self.objects.get_range(key, range))
    }

    /// Lists the objects below `prefix`, sorted by key.
    pub fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.wait(Act::List, prefix, Duration::ZERO, self.objects.list(prefix))
    }

    /// Removes an object; one that is not there is fine.
    pub fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.wait(Act::Delete, key, WRITE_GRACE, self.objects.delete(key))
    }

    /// What time it is to the store; none where it does not tell when it wrote an object.
    pub fn clock(&self) -> Result<Option<SystemTime>, ObjectError> {
        self.put(CLOCK_KEY, "the store's time is that of this object\n")?;
        let objects = self.list(CLOCK_KEY)?;
        let told = objects.iter().find(|object| object.key == CLOCK_KEY);
        Ok(told.map(|object| object.modified).filter(|time| *time > SystemTime::UNIX_EPOCH))
    }

    /// Whether objects can be locked there.
    pub fn has_object_lock(&self) -> Result<bool, ObjectError> {
        self.wait(Act::Open, "", Duration::ZERO, self.objects.has_object_lock())
    }

    /// Writes an object that is locked.
    pub fn put_retained(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        let put = self.objects.put_retained(key, bytes.into(), retention);
        self.wait(Act::Write, key, WRITE_GRACE, put)
    }

    /// Writes an object where the store finds none, and says whether it did: see [`ObjectStore::put_new`].
    pub fn put_new(&self, key: &str, bytes: impl Into<Bytes>) -> Result<bool, ObjectError> {
        self.wait(Act::Write, key, WRITE_GRACE, self.objects.put_new(key, bytes.into()))
    }

    /// The same of one that is locked.
    pub fn put_new_retained(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        retention: Retention,
    ) -> Result<bool, ObjectError> {
        let put = self.objects.put_new_retained(key, bytes.into(), retention);
        self.wait(Act::Write, key, WRITE_GRACE, put)
    }

    /// Length, time and lock of an object, or of one version of it.
    pub fn retention(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<(ObjectMeta, Option<Retention>), ObjectError> {
        self.wait(Act::Find, key, Duration::ZERO, self.objects.retention(key, version))
    }

    /// Locks an object, or one version of it, or locks it longer.
    pub fn retain(
        &self,
        key: &str,
        version: Option<&str>,
        retention: Retention,
    ) -> Result<(), ObjectError> {
        self.wait(Act::Lock, key, WRITE_GRACE, self.objects.retain(key, version, retention))
    }

    /// Every version of the objects below `prefix`, sorted by key and then by age.
    pub fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        self.wait(Act::List, prefix, Duration::ZERO, self.objects.versions(prefix))
    }

    /// Reads one version of at most `bytes_max` bytes.
    pub fn get_version(
        &self,
        key: &str,
        version: &str,
        bytes_max: u64,
    ) -> Result<Bytes, ObjectError> {
        let get = self.objects.get_version(key, version, bytes_max);
        self.wait(Act::Read, key, Duration::ZERO, get)
    }

    /// Removes a version for good; one that is not there is fine.
    pub fn delete_version(&self, key: &str, version: &str) -> Result<(), ObjectError> {
        self.wait(Act::Delete, key, WRITE_GRACE, self.objects.delete_version(key, version))
    }

    /// The temporary files of writers that were killed or are at work. None on S3.
    pub fn temporaries(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.wait(Act::List, "", Duration::ZERO, self.objects.temporaries())
    }

    /// Removes temporary files older than `age`, and says how many.
    pub fn remove_temporaries(&self, age: Duration) -> Result<u64, ObjectError> {
        self.wait(
            Act::Delete,
            "temporary files",
            Duration::ZERO,
            self.objects.remove_temporaries(age),
        )
    }

    /// Blocks until `request` is answered, or `grace` has passed since the request to stop.
    fn wait<T>(
        &self,
        act: Act,
        key: &str,
        grace: Duration,
        request: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let given_up = async {
            self.shutdown.wait().await;
            let since = self.stopping_since.get_or_init(Instant::now);
            sleep_until(*since + grace).await;
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = request => outcome,
                () = given_up => {
                    Err(ObjectError::interrupted(act, key, &self.objects.location()))
                }
            }
        })
    }
}
