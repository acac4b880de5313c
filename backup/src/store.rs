//! The one bridge between the engine's threads and the asynchronous object store.
//!
//! Everything in this crate that works on data is plain threads; each call here blocks its thread until
//! the store has answered.

use std::ops::Range;

use bytes::Bytes;
use chores_common::object::{ObjectError, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;

/// An object store for threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: ObjectStore,
    runtime: Handle,
}

impl Store {
    /// Wraps `objects`; `runtime` drives the requests and must outlive the store.
    #[must_use]
    pub fn new(objects: ObjectStore, runtime: Handle) -> Self {
        Self { objects, runtime }
    }

    /// The store itself, for work that is asynchronous anyway.
    #[must_use]
    pub fn objects(&self) -> &ObjectStore {
        &self.objects
    }

    /// Makes the place itself where that is needed (a directory).
    pub fn create_root(&self) -> Result<(), ObjectError> {
        self.runtime.block_on(self.objects.create_root())
    }

    /// Writes an object, atomically and durably.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), ObjectError> {
        self.runtime.block_on(self.objects.put(key, bytes.into()))
    }

    /// Reads an object of at most `bytes_max` bytes.
    pub fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        self.runtime.block_on(self.objects.get(key, bytes_max))
    }

    /// Reads exactly `range` of an object.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.runtime.block_on(self.objects.get_range(key, range))
    }

    /// Lists the objects below `prefix`, sorted by key.
    pub fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.runtime.block_on(self.objects.list(prefix))
    }

    /// Removes an object; one that is not there is fine.
    pub fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.runtime.block_on(self.objects.delete(key))
    }
}
