//! The locked side of a repository: which objects are locked until when, and what the store must be able to do for that.
//!
//! All times are the store's: a clock of ours that is wrong would lock for too short, or for years.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chores_common::exit::chain;
use chores_common::object::{Act, ErrorKind, Location, ObjectError, ObjectVersion, Retention};

use super::turn::Changer;
use super::{FORMAT_KEY, Operation, Repository, RepositoryError, in_parallel};
use crate::chunk::ChunkId;
use crate::lock::Lock;
use crate::pack::PackId;
use crate::snapshot::SnapshotName;
use crate::store::Store;

/// How long the store's time is reckoned on before it is asked again.
const TOLD_AGE_MAX: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests;

/// Where packs are.
const PACKS: &str = "packs/";

/// Below this prefix lies nothing of a repository.
const PROBE_PREFIX: &str = "doctor/";

/// What `doctor` writes where a folder would stay.
const PROBE_PREFIX_WITHOUT_FOLDER: &str = "doctor-";

/// For how long the probe's object is locked, and then again.
const PROBE_LOCK: Duration = Duration::from_secs(60);

/// What the store said the time is, and when that was by our clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreTime {
    told: SystemTime,
    instant: Instant,
    system: SystemTime,
}

impl StoreTime {
    /// The store's time now; none when it has to be asked again. [`Instant`] stands still while a machine is suspended, and our
    /// other clock may be set: only where both agree that little has passed, little has.
    fn now(&self) -> Option<SystemTime> {
        let passed = self.instant.elapsed();
        let passed = passed.max(self.system.elapsed().ok()?);
        (passed <= TOLD_AGE_MAX).then(|| self.told.checked_add(passed)).flatten()
    }
}

/// An object, or one version of it.
pub(super) type Held = (String, Option<String>);

/// Packs that are read to see whether they were written over, where the store's list does not tell.
const LOOKED_INTO_MAX: usize = 32;

/// How a snapshot and all it needs is locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    lock: Lock,
    /// The store's time by which it was reckoned.
    now: SystemTime,
    /// That of the snapshot.
    pub(super) retention: Retention,
}

/// What became of a look at an object that a snapshot needs.
enum Look {
    /// It is locked until then.
    Enough(SystemTime),
    /// It is, from now on.
    Extended(SystemTime),
    /// Another one has failed.
    Skipped,
}

impl Repository {
    /// How long what is saved here is locked; none where it is not.
    #[must_use]
    pub fn lock(&self) -> Option<Lock> {
        self.inner.format.lock
    }

    /// The store's time.
    pub fn store_time(&self) -> Result<SystemTime, RepositoryError> {
        let mut clock = self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = clock.as_ref().and_then(StoreTime::now) {
            return Ok(now);
        }
        // Taken before the store is asked: what it says is later than these, so nothing is missing.
        let (instant, system) = (Instant::now(), SystemTime::now());
        let told = super::store_clock(&self.inner.store)?;
        *clock = Some(StoreTime { told, instant, system });
        Ok(told)
    }

    /// The lock of what is stored now and later snapshots may need.
    pub(super) fn retention_of_packs(&self) -> Result<Option<Retention>, RepositoryError> {
        let Some(lock) = self.lock() else { return Ok(None) };
        Ok(Some(lock.of_packs(self.store_time()?)))
    }

    /// Writes again what an older version of an object held, as what is stored now.
    pub fn put_again(&self, key: &str, bytes: Bytes) -> Result<(), RepositoryError> {
        Ok(super::put(&self.inner.store, key, bytes, self.retention_of_packs()?)?)
    }

    /// Sees to it that all that a snapshot needs is locked for as long as the snapshot, and gives the snapshot's own lock. What
    /// was locked before is locked anew where that is not long enough. None where there are no locks.
    pub(super) fn hold(&self, packs: &[PackId]) -> Result<Option<Hold>, RepositoryError> {
        let Some(lock) = self.lock_now()? else { return Ok(None) };
        let now = self.store_time()?;
        let retention = lock.of_snapshot(now);
        // Without this document nothing can be read.
        let mut needed: Vec<Held> = vec![(FORMAT_KEY.to_owned(), None)];
        needed.extend(packs.iter().map(|pack| (self.pack_key(pack), None)));
        let versions = self.inner.store.versions(PACKS).map_err(|error| {
            if error.kind() == ErrorKind::Denied { unlocked(1, error) } else { error.into() }
        })?;
        let originals = originals(&versions);
        let hidden: Vec<_> =
            needed.iter().filter_map(|(key, _)| originals.get(key.as_str())).copied().collect();
        if self.written_over(&hidden) > 0 {
            tracing::warn!(
                "packs that this backup needs were written over since they were stored, and somebody may have done that who means \
                 ill: `backup check --read-data` tells whether they are good, `backup undelete` brings back what was there before"
            );
        }
        let original = |original: &Original<'_>| {
            (original.version.key.clone(), Some(original.version.version.clone()))
        };
        needed.extend(hidden.iter().map(original));
        {
            let held = self.held_objects();
            needed.retain(|object| held.get(object).is_none_or(|seen| *seen < retention.until));
        }
        let (mut extended, mut gone, mut failed, mut first) = (0, 0, 0, None);
        let is_over = AtomicBool::new(false);
        let looks = in_parallel(&needed, |(key, version)| {
            if is_over.load(Ordering::Relaxed) {
                return Ok(Look::Skipped);
            }
            let version = version.as_deref();
            let look = hold_one(&self.inner.store, key, version, lock, now, retention.until);
            // What is missing is counted; all else is the end, and a store that fails is not asked for each of them.
            let is_end = |error: &ObjectError| error.kind() != ErrorKind::NotFound;
            if look.as_ref().is_err_and(is_end) {
                is_over.store(true, Ordering::Relaxed);
            }
            look
        });
        for (object, look) in looks {
            match look {
                Ok(Look::Enough(until)) => {
                    self.held_objects().insert(object, until);
                }
                Ok(Look::Extended(until)) => {
                    extended += 1;
                    self.held_objects().insert(object, until);
                }
                Ok(Look::Skipped) => failed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => gone += 1,
                Err(error) if error.kind() == ErrorKind::Denied => {
                    failed += 1;
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(source) = first {
            return Err(unlocked(failed, source));
        }
        if gone > 0 {
            return Err(RepositoryError::Gone(gone));
        }
        if extended > 0 {
            tracing::info!("{extended} objects that were stored before are locked for longer now");
        }
        Ok(Some(Hold { lock, now, retention }))
    }

    /// Looks whether a snapshot that was written is locked; one that cannot be is taken back. The store's time is not asked for
    /// anew: the snapshot is there, and an error now would say that it is not. That from before is as good, since what is locked
    /// by it beyond the snapshot's period is a day at the least.
    pub(super) fn hold_snapshot(
        &self,
        name: &SnapshotName,
        hold: Hold,
    ) -> Result<(), RepositoryError> {
        let (store, key) = (&self.inner.store, name.key());
        match hold_one(store, &key, None, hold.lock, hold.now, hold.retention.until) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Denied => {
                self.remove_snapshot(name)?;
                Err(unlocked(1, error))
            }
            Err(error) => {
                tracing::warn!("whether the snapshot itself is locked was not seen: {error}");
                Ok(())
            }
        }
    }

    /// How many packs somebody has written over, as far as these versions tell.
    pub fn packs_written_over(&self, versions: &[ObjectVersion]) -> u64 {
        self.written_over(&originals(versions).into_values().collect::<Vec<_>>())
    }

    /// Of how many of these the newer version has another content. Where the store does not tell, it is read: a pack is named
    /// after its content. Of more than are read, the rest counts as written over; what cannot be read does not, and is told.
    fn written_over(&self, originals: &[Original<'_>]) -> u64 {
        let unknown = originals.iter().filter(|original| original.is_same.is_none());
        let mut unknown: Vec<_> = unknown.map(|original| &original.version.key).collect();
        let unread = unknown.split_off(unknown.len().min(LOOKED_INTO_MAX)).len();
        // Whole packs are not gathered.
        let read = in_parallel(&unknown, |key| {
            let Some(pack) = self.pack_of_key(key) else { return Ok(false) };
            match self.stored_pack(&pack) {
                Ok(_) => Ok(true),
                Err(RepositoryError::Damaged(_)) => Ok(false),
                Err(RepositoryError::Store(error))
                    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
                {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        });
        let others =
            read.iter().filter(|(_, is_same)| matches!(is_same, Ok(false))).count() + unread;
        let unseen: Vec<_> =
            read.iter().filter_map(|(_, is_same)| is_same.as_ref().err()).collect();
        if let Some(error) = unseen.first() {
            let (count, error) = (unseen.len(), chain(*error));
            tracing::warn!(
                "whether {count} packs were written over since they were stored could not be looked at, such as: {error}"
            );
        }
        let told = originals.iter().filter(|original| original.is_same == Some(false)).count();
        (told + others) as u64
    }

    /// Locks `repo.json` as later snapshots need it.
    pub fn hold_document(&self) -> Result<(), RepositoryError> {
        self.hold(&[]).map(drop)
    }

    /// The locks that are asked for now: somebody may have asked for others since this run began. In the middle of a run they do
    /// not end.
    fn lock_now(&self) -> Result<Option<Lock>, RepositoryError> {
        if !is_bucket(&self.inner.store) {
            return Ok(self.lock());
        }
        let asked = match self.again() {
            Ok(now) => now.lock(),
            Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                return Err(error.into());
            }
            Err(error @ RepositoryError::Missing(_)) => return Err(error),
            // What is not of this repository, or not of who has its keys, asks for nothing.
            Err(_) => None,
        };
        Ok(match (self.lock(), asked) {
            (Some(before), Some(now)) => {
                Some(Lock { mode: before.mode.max(now.mode), days: before.days.max(now.days) })
            }
            (before, now) => now.or(before),
        })
    }

    fn held_objects(&self) -> MutexGuard<'_, HashMap<Held, SystemTime>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of these packs that are locked at `now`, each stored when it says, and until when. Of a pack that is younger than
    /// its lock can be old nobody has to ask.
    pub fn locked(
        &self,
        packs: &[(PackId, SystemTime)],
        now: SystemTime,
    ) -> Result<HashMap<PackId, SystemTime>, RepositoryError> {
        let Some(lock) = self.lock() else { return Ok(HashMap::new()) };
        let mut locked = HashMap::new();
        let looks = in_parallel(packs, |(pack, modified)| {
            let by_age = lock.by_age(*modified);
            if by_age > now {
                return Ok(Some(by_age));
            }
            match self.inner.store.retention(&self.pack_key(pack), None) {
                Ok((_, held)) => Ok(held.map(|held| held.until).filter(|until| *until > now)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        for ((pack, _), look) in looks {
            if let Some(until) = look? {
                locked.insert(pack, until);
            }
        }
        Ok(locked)
    }

    /// Of these packs so many are locked until then.
    pub fn held(&self, packs: &[PackId], until: SystemTime) -> Result<usize, RepositoryError> {
        let Some(lock) = self.lock() else { return Ok(0) };
        let mut held = 0;
        for (_, look) in
            in_parallel(packs, |pack| self.inner.store.retention(&self.pack_key(pack), None))
        {
            held += usize::from(lock.is_enough(look?.1, until));
        }
        Ok(held)
    }

    /// Says in `repo.json` how long what is saved from now on is locked, or that it is not any more, when the store can do it.
    /// What is locked stays so.
    pub fn change_lock(&self, lock: Option<Lock>) -> Result<(), RepositoryError> {
        if let Some(lock) = lock {
            probe(&self.inner.store, lock)?;
        }
        self.set_lock(lock)
    }

    /// The same for who has [`probe`]d the store.
    pub fn set_lock(&self, lock: Option<Lock>) -> Result<(), RepositoryError> {
        let current = self.again()?;
        super::refuse_unknown(&current.inner.format.features, Operation::Write, &self.place())?;
        current.require_keys(Operation::Write)?;
        if let (Some(before), Some(after)) = (current.lock(), lock)
            && after.mode > before.mode
        {
            return Err(RepositoryError::Softer(self.place()));
        }
        let found = &current.inner.format;
        let mut changed = found.clone();
        changed.set_lock(lock);
        current.sign(&mut changed);
        current.replace_format(found, &changed, Changer::Person)?;
        self.again().map(drop)
    }

    /// Refuses a place that has no locks.
    pub(super) fn require_bucket(&self) -> Result<(), RepositoryError> {
        if is_bucket(&self.inner.store) {
            Ok(())
        } else {
            Err(RepositoryError::NoLocks(self.place()))
        }
    }
}

fn unlocked(count: usize, source: ObjectError) -> RepositoryError {
    RepositoryError::Unlocked { count, source }
}

/// The oldest version of a pack that a newer one hides: what was stored under its name first, which nobody could guess before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Original<'a> {
    version: &'a ObjectVersion,
    /// Whether the newer one has the same content, as that of an upload that was tried twice; `None`: the store does not tell.
    is_same: Option<bool>,
}

/// Of packs that were written over the originals, by key. Whoever needs the pack needs these: were only the newer version locked
/// on, who has written it would have to wait for the older one's lock to end. Versions are sorted by key and then by age.
fn originals(versions: &[ObjectVersion]) -> HashMap<&str, Original<'_>> {
    let chunks = versions.chunk_by(|one, other| one.key == other.key);
    let found = chunks.filter_map(|of_key| {
        let latest = of_key.last().filter(|latest| latest.is_latest && !latest.is_marker)?;
        let version = of_key.iter().find(|version| !version.is_marker)?;
        let is_same = version.has_content_of(latest);
        (!version.is_latest).then_some((version.key.as_str(), Original { version, is_same }))
    });
    found.collect()
}

fn hold_one(
    store: &Store,
    key: &str,
    version: Option<&str>,
    lock: Lock,
    now: SystemTime,
    until: SystemTime,
) -> Result<Look, ObjectError> {
    let enough = |held: Option<Retention>| held.filter(|_| lock.is_enough(held, until));
    let (_, held) = store.retention(key, version)?;
    if let Some(held) = enough(held) {
        return Ok(Look::Enough(held.until));
    }
    if held.is_some_and(|held| held.mode < lock.mode && held.until > now) {
        let reason =
            "it is locked in governance mode, which cannot become compliance before that lock ends";
        return Err(ObjectError::denied(Act::Lock, key, &store.objects().location(), reason));
    }
    store.retain(key, version, lock.extended(held, now))?;
    // A store that says yes and does nothing is not believed.
    let (_, held) = store.retention(key, version)?;
    if let Some(held) = enough(held) {
        return Ok(Look::Extended(held.until));
    }
    let reason = "the store said that it is locked, and it is not for as long";
    Err(ObjectError::denied(Act::Lock, key, &store.objects().location(), reason))
}

fn is_bucket(store: &Store) -> bool {
    matches!(store.objects().location(), Location::S3 { .. })
}

/// Whether a key is that of what [`probe`] or `doctor` writes.
pub(super) fn is_probe(key: &str) -> bool {
    let prefixes = [PROBE_PREFIX, PROBE_PREFIX_WITHOUT_FOLDER];
    let id = prefixes.iter().find_map(|prefix| key.strip_prefix(prefix));
    id.is_some_and(|id| id.parse::<ChunkId>().is_ok())
}

/// Tries whether the store locks: an object of two versions is written below `doctor/`, the second one locked for a minute,
/// locked for another one, and not removed. What is left of it goes with the next prunes.
pub fn probe(store: &Store, lock: Lock) -> Result<(), RepositoryError> {
    let place = store.objects().location().to_string();
    let unlockable =
        |problem: String| RepositoryError::Unlockable { place: place.clone(), problem };
    if !is_bucket(store) {
        return Err(RepositoryError::NoBucket(place));
    }
    match store.has_object_lock() {
        Ok(true) => {}
        Ok(false) => {
            return Err(unlockable(
                "the bucket has no Object Lock, which is switched on when a bucket is made"
                    .to_owned(),
            ));
        }
        // Who may not ask may find out.
        Err(error) if error.kind() == ErrorKind::Denied => {}
        Err(error) => return Err(error.into()),
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(RepositoryError::Random)?;
    let key = format!("{PROBE_PREFIX}{}", ChunkId(id));
    store.put(&key, "to learn the store's time\n")?;
    let outcome = lock_and_look(store, &key, lock);
    // Only hides it: for a minute it is locked.
    let hidden = store.delete(&key);
    match outcome? {
        None => Ok(hidden?),
        Some(problem) => Err(unlockable(problem)),
    }
}

/// What the store does not do, in words.
fn lock_and_look(store: &Store, key: &str, lock: Lock) -> Result<Option<String>, RepositoryError> {
    let (meta, _) = store.retention(key, None)?;
    let until =
        |minutes: u32| meta.modified.checked_add(PROBE_LOCK * minutes).unwrap_or(meta.modified);
    let wanted = |minutes| Retention { mode: lock.mode, until: until(minutes) };
    let refused = |what: &str, error: &ObjectError| Ok(Some(format!("{what}: {error}")));
    match store.put_retained(key, "locked for a minute, to see whether it is\n", wanted(1)) {
        Ok(()) => {}
        Err(error) if is_answer(&error) => return refused("it refuses a locked object", &error),
        Err(error) => return Err(error.into()),
    }
    if !lock.is_enough(store.retention(key, None)?.1, until(1)) {
        return Ok(Some(
            "it takes a locked object and does not show a lock, or the key may not see it (s3:GetObjectRetention)"
                .to_owned(),
        ));
    }
    match store.retain(key, None, wanted(2)) {
        Ok(()) => {}
        Err(error) if is_answer(&error) => {
            return refused(
                "it refuses to lock for longer, which needs s3:PutObjectRetention",
                &error,
            );
        }
        Err(error) => return Err(error.into()),
    }
    if !lock.is_enough(store.retention(key, None)?.1, until(2)) {
        return Ok(Some("it says that it locks for longer, and does not".to_owned()));
    }
    let versions = match store.versions(key) {
        Ok(versions) => versions,
        Err(error) if is_answer(&error) => {
            return refused(
                "its versions cannot be listed, which needs s3:ListBucketVersions",
                &error,
            );
        }
        Err(error) => return Err(error.into()),
    };
    let Some(latest) = versions.iter().find(|version| version.is_latest && !version.is_marker)
    else {
        return Ok(Some("it shows no versions of an object that was written twice".to_owned()));
    };
    match store.delete_version(key, &latest.version) {
        Err(error) if error.kind() == ErrorKind::Denied => Ok(None),
        Err(error) if is_answer(&error) => refused("it cannot remove a version", &error),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Some("it removed an object that was locked".to_owned())),
    }
}

/// Whether the store answered, and did not just fail.
fn is_answer(error: &ObjectError) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::NotFound)
}
