//! The one bridge between the engine's threads and the asynchronous object store.
//!
//! Everything in this crate that works on data is plain threads; each call here blocks its thread until
//! the store has answered.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chores_common::object::{Act, ObjectError, ObjectMeta, ObjectStore};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

#[cfg(test)]
mod tests;

/// How long writes go on after the request to stop, so that what is stored already is indexed: less
/// than the 10 s after which `docker stop` kills. Reads end at once.
const WRITE_GRACE: Duration = Duration::from_secs(8);

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
