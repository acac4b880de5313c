//! Asking: one function for each outside thing, no judgement here.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chores_common::engine::Engine;
use chores_common::object::{ErrorKind, Location, ObjectError, ObjectStore};
use rustix::fs::{Access, CWD, Mode, OFlags, ResolveFlags, access, openat2, statvfs};
use rustix::process::{Resource, getrlimit};
use tokio::runtime::Handle;

use super::decide::{self, CacheAnswer, LockLook, StoreFault};
use super::{DoctorOptions, Finding, Status};
use crate::lock::Lock;
use crate::mounts;
use crate::quiesce;
use crate::repository::{Operation, Repository, RepositoryError};
use crate::store::Store;

/// Below this prefix lies nothing of a repository.
const PREFIX: &str = "doctor/";

/// The same where the folder would stay.
const PREFIX_WITHOUT_FOLDER: &str = "doctor-";

/// Length of the probe object in bytes, and the part of it that is read by range.
const PROBE_BYTES: usize = 4096;
const PROBE_RANGE: std::ops::Range<usize> = 1000..3000;

/// Packs of the newest snapshot whose locks are looked at.
const LOOKED_AT_MAX: usize = 16;

/// How long the engine may take to answer: an address behind a firewall never does.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(10);

/// The store, and the repository in it.
pub(super) fn repository(
    location: &Location,
    options: &DoctorOptions<'_>,
    runtime: &Handle,
) -> Vec<Finding> {
    let store = match ObjectStore::open_with(location, options.settings, options.remote) {
        Ok(objects) => Store::new(objects, runtime.clone(), options.shutdown.clone()),
        Err(error) => {
            return vec![decide::repository(Err(RepositoryError::Store(error)), location)];
        }
    };
    let opened =
        Repository::open_with(store.clone(), options.keys.clone()).and_then(|repository| {
            repository.permit(Operation::Write)?;
            Ok(repository)
        });
    let locks = opened.as_ref().ok().and_then(look_at_locks);
    let is_unasked = opened.as_ref().is_ok_and(|repository| repository.lock().is_none())
        && matches!(location, Location::S3 { .. })
        && store.has_object_lock().unwrap_or(false);
    let encrypted = opened.as_ref().ok().filter(|repository| repository.is_encrypted());
    let private_key = encrypted
        .map(|repository| decide::private_key(repository.reads_what_is_saved(), options.drilled));
    let opened = opened.map(|repository| repository.id().to_owned());
    // A probe object would make the missing directory.
    let is_place = match location {
        Location::Directory(directory) => directory.is_dir(),
        Location::S3 { .. } | Location::Remote(_) => true,
    };
    let prefix = match location {
        Location::Remote(_) => PREFIX_WITHOUT_FOLDER,
        _ => PREFIX,
    };
    let mut findings = vec![decide::repository(opened, location)];
    findings.extend(private_key);
    if is_place {
        let (outcome, modified) = probe_object(&store, prefix);
        findings.push(decide::store(outcome));
        findings.extend(locks.map(|(lock, look)| decide::locks(lock, look)));
        findings.extend(is_unasked.then(decide::unasked_locks));
        // Where there are directories, it is the file system that keeps to them.
        if !location.has_directories() {
            findings.push(decide::conditional_writes(probe_condition(&store)));
        }
        if let Some((by_store, by_us)) = modified {
            findings.push(decide::clock(by_store, by_us));
        }
        if let Location::Directory(directory) = location {
            // Only goes when it is empty.
            drop(std::fs::remove_dir(directory.join(PREFIX)));
            findings.extend(
                statvfs(directory)
                    .ok()
                    .map(|found| decide::free_space(found.f_bavail.saturating_mul(found.f_frsize))),
            );
        }
    }
    findings
}

/// Writes, reads, lists and removes one object. Returns its time by the store's clock and by ours.
fn probe_object(store: &Store, prefix: &str) -> (Result<(), StoreFault>, Option<(u64, u64)>) {
    let mut content = vec![0; PROBE_BYTES];
    // Without random numbers the probe is a weaker one.
    let mut id = [0; 16];
    getrandom::fill(&mut content).unwrap_or_default();
    getrandom::fill(&mut id).unwrap_or_default();
    let key = format!("{prefix}{}", crate::chunk::ChunkId(id));
    let mut modified = None;
    let outcome = write_and_read(store, prefix, &key, &content, &mut modified);
    let removed = store.delete(&key).map_err(StoreFault::from);
    (outcome.and(removed), modified)
}

/// Whether the newest snapshot and some of what it needs are locked; nothing where the repository asks for no locks.
fn look_at_locks(repository: &Repository) -> Option<(Lock, Result<LockLook, RepositoryError>)> {
    let lock = repository.lock()?;
    let look = || -> Result<LockLook, RepositoryError> {
        let bucket = match repository.store().has_object_lock() {
            Ok(bucket) => Some(bucket),
            // Who may not ask may lock all the same.
            Err(error) if error.kind() == ErrorKind::Denied => None,
            Err(error) => return Err(error.into()),
        };
        let mut look = LockLook { bucket, ..LockLook::default() };
        let names = repository.snapshot_names()?;
        let Some(name) = names.last() else { return Ok(look) };
        let (meta, held) = repository.store().retention(&name.key(), None)?;
        let now = SystemTime::now();
        let end = meta.modified.checked_add(lock.period());
        if end.is_none_or(|end| end <= now) {
            look.is_over = true;
            return Ok(look);
        }
        let until = held.map_or(now, |held| held.until);
        let mut packs = repository.snapshot(name)?.packs;
        packs.truncate(LOOKED_AT_MAX);
        look.looked_at = packs.len() + 1;
        look.locked = usize::from(lock.is_enough(held, now)) + repository.held(&packs, until)?;
        look.until = held.map(|held| held.until);
        Ok(look)
    };
    Some((lock, look()))
}

/// Whether the store keeps to a condition: the second of two objects of one name is not to be written.
fn probe_condition(store: &Store) -> Result<bool, ObjectError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap_or_default();
    let key = format!("{PREFIX}{}", crate::chunk::ChunkId(id));
    let outcome = store.put_new(&key, "first").and_then(|_| store.put_new(&key, "second"));
    let removed = store.delete(&key);
    let is_written = outcome?;
    removed.map(|()| !is_written)
}

fn write_and_read(
    store: &Store,
    prefix: &str,
    key: &str,
    content: &[u8],
    modified: &mut Option<(u64, u64)>,
) -> Result<(), StoreFault> {
    store.put(key, content.to_vec())?;
    let own = seconds(SystemTime::now());
    let whole = store.get(key, PROBE_BYTES as u64)?;
    let range = PROBE_RANGE.start as u64..PROBE_RANGE.end as u64;
    let part = store.get_range(key, range)?;
    if *whole != *content || Some(&*part) != content.get(PROBE_RANGE) {
        return Err(StoreFault::Changed);
    }
    let listed = store.list(prefix)?;
    let listed = listed.iter().find(|object| object.key == key);
    let object = listed.ok_or(StoreFault::Unlisted)?;
    *modified = Some((seconds(object.modified), own));
    Ok(())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The directory of caches, or the nearest directory above that exists.
pub(super) fn cache(directory: &Path) -> Finding {
    let path = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let writable =
        existing.is_dir() && access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    decide::cache(&CacheAnswer {
        writable,
        path: bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec(),
        mounts: mounts::parse(&mountinfo),
    })
}

/// What this process may do.
pub(super) fn process() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut findings = Vec::new();
    match decide::effective_capabilities(&status) {
        Some(effective) => findings.extend([
            Finding::ok("/proc", "mounted"),
            decide::capabilities_for_backup(effective),
            decide::capabilities_for_restore(effective),
        ]),
        None => findings.push(Finding::new(
            "/proc",
            Status::Fail,
            "/proc/self/status cannot be read",
            "mount /proc: volumes are found and attributes restored through it",
        )),
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, c".", flags, Mode::empty(), ResolveFlags::BENEATH);
    findings.push(decide::openat2(opened.is_ok()));
    findings.push(decide::open_files(getrlimit(Resource::Nofile).current));
    findings
}

/// The container engine, which only some commands need.
pub(super) fn engine(host: Option<&str>, image: Option<&str>, runtime: &Handle) -> Vec<Finding> {
    runtime.block_on(async {
        let answer = tokio::time::timeout(ENGINE_TIME_MAX, ask_engine(host, image)).await;
        answer.unwrap_or_else(|_| vec![decide::no_engine("it does not answer in 10 seconds")])
    })
}

async fn ask_engine(host: Option<&str>, image: Option<&str>) -> Vec<Finding> {
    let engine = match Engine::connect(host).await {
        Ok(engine) => engine,
        Err(error) => return vec![decide::no_engine(&error.to_string())],
    };
    let version = engine.version().await;
    let mut findings = vec![decide::engine(version, &engine.host().to_string())];
    match engine.own_container().await {
        Ok(own) => {
            findings.push(decide::guard(quiesce::refusal(engine.host(), own.as_ref())));
            findings.extend(own.as_ref().map(|own| decide::grace(quiesce::stop_seconds(own))));
        }
        Err(error) => findings.push(decide::guard(Some(error.to_string()))),
    }
    if let Some(image) = image {
        findings.push(decide::worker_image(engine.image_exists(image).await, image));
    }
    findings
}
