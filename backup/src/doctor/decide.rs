//! What the answers mean.

use std::time::SystemTime;

use chores_common::engine::{EngineError, EngineVersion};
use chores_common::exit::chain;
use chores_common::object::{ErrorKind, Location, ObjectError};

use super::{Finding, Status};
use crate::browse::text::instant;
use crate::lock::Lock;
use crate::mounts::{Mount, is_below};
use crate::repository::RepositoryError;
use crate::text;

/// Largest difference between the two clocks that is fine, in seconds: far below the grace of a prune.
const SKEW_SECONDS_MAX: u64 = 60;

/// Free space below which a repository directory is warned of, in bytes.
const FREE_BYTES_MIN: u64 = 2 << 30;

/// Open files below which restores of many files in the making get slow.
const OPEN_FILES_MIN: u64 = 1024;

/// Stop timeout of our own container below which it is warned of, in seconds: what a run takes to end.
const GRACE_SECONDS_MIN: u64 = 30;

/// File systems that live as long as their container.
const FLEETING_TYPES: [&str; 3] = ["overlay", "tmpfs", "ramfs"];

/// A capability of Linux (capabilities(7)): its number and what fails without it.
pub(super) struct Capability {
    pub(super) name: &'static str,
    pub(super) number: u32,
}

/// What a backup needs to read everything.
pub(super) const FOR_BACKUP: &[Capability] = &[Capability { name: "DAC_READ_SEARCH", number: 2 }];

/// What a restore needs to make everything as it was.
pub(super) const FOR_RESTORE: &[Capability] = &[
    Capability { name: "CHOWN", number: 0 },
    Capability { name: "DAC_OVERRIDE", number: 1 },
    Capability { name: "FOWNER", number: 3 },
    Capability { name: "MKNOD", number: 27 },
    Capability { name: "SETFCAP", number: 31 },
];

/// `DAC_OVERRIDE` lets a process read everything too.
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;

/// The effective capabilities in the text of `/proc/self/status` (proc_pid_status(5)).
pub(super) fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

pub(super) fn capabilities_for_backup(effective: u64) -> Finding {
    let has = |number: u32| effective >> number & 1 == 1;
    if has(DAC_READ_SEARCH) || has(DAC_OVERRIDE) {
        return Finding::ok("capabilities for backup", "every file can be read");
    }
    Finding::new(
        "capabilities for backup",
        Status::Warn,
        format!("missing: {}", missing(effective, FOR_BACKUP)),
        "add --cap-add DAC_READ_SEARCH, or files of other users are skipped",
    )
}

pub(super) fn capabilities_for_restore(effective: u64) -> Finding {
    let missing = missing(effective, FOR_RESTORE);
    if missing.is_empty() {
        return Finding::ok("capabilities for restore", "owners and devices can be restored");
    }
    Finding::new(
        "capabilities for restore",
        Status::Warn,
        format!("missing: {missing}"),
        "to restore, add --cap-add for each, or owners, capabilities and devices are lost",
    )
}

fn missing(effective: u64, wanted: &[Capability]) -> String {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|capability| effective >> capability.number & 1 == 0)
        .map(|capability| capability.name)
        .collect();
    missing.join(", ")
}

pub(super) fn repository(opened: Result<String, RepositoryError>, place: &Location) -> Finding {
    let name = "repository";
    match opened {
        Ok(id) => Finding::ok(name, format!("{place} opens (id {id})")),
        Err(RepositoryError::Missing(_)) => not_made(place),
        Err(RepositoryError::Store(error)) => match (error.kind(), place) {
            (ErrorKind::NoBucket, place) if place.has_directories() => not_made(place),
            (kind, _) => {
                Finding::new(name, Status::Fail, error.to_string(), advice_for_store(kind))
            }
        },
        Err(error @ RepositoryError::NoLocks(_)) => Finding::new(
            name,
            Status::Fail,
            chain(&error),
            "name the bucket, or say `backup lock off` to save here without locks",
        ),
        Err(error @ RepositoryError::Feature { .. }) => {
            Finding::new(name, Status::Fail, chain(&error), "use a later version of this program")
        }
        Err(error @ RepositoryError::OtherIdentity(_)) => Finding::new(
            name,
            Status::Fail,
            chain(&error),
            "give the identity of one of its recipients with --identity, or none",
        ),
        Err(
            error @ (RepositoryError::Encrypted(_)
            | RepositoryError::Clear(_)
            | RepositoryError::NoKeyFile(_)
            | RepositoryError::Keys(..)),
        ) => Finding::new(
            name,
            Status::Fail,
            chain(&error),
            "give the newest key file of this repository with --key-file",
        ),
        Err(error) => Finding::new(
            name,
            Status::Fail,
            chain(&error),
            "restore repo.json from a copy: without it nothing can be read",
        ),
    }
}

/// Whether what is saved can be read here, of an encrypted repository; `drilled` are the containers of which drills are ordered.
pub(super) fn private_key(is_here: bool, drilled: &[String]) -> Finding {
    let name = "private key";
    if is_here {
        return Finding::ok(name, "what is saved can be read here");
    }
    if drilled.is_empty() {
        return Finding::new(
            name,
            Status::Note,
            "not here: backups are made, and what is in them is read elsewhere",
            "restores, drills and checks of content need --identity FILE",
        );
    }
    Finding::new(
        name,
        Status::Warn,
        format!(
            "not here, and labels order drills of {}, which cannot be made",
            text::named(drilled)
        ),
        "give --identity FILE (BACKUP_IDENTITY_FILE) to `serve`, or drill where the private key is and take chores.backup.drill away",
    )
}

fn not_made(place: &Location) -> Finding {
    Finding::new(
        "repository",
        Status::Fail,
        format!("there is none at {place}"),
        "make one with `backup init`, or name the right place",
    )
}

/// How the probe object fared: what each step said.
pub(super) fn store(outcome: Result<(), StoreFault>) -> Finding {
    let name = "store";
    match outcome {
        Ok(()) => Finding::ok(name, "an object was written, read, listed and removed"),
        Err(StoreFault::Error(error)) => {
            Finding::new(name, Status::Fail, error.to_string(), advice_for_store(error.kind()))
        }
        Err(StoreFault::Changed) => Finding::new(
            name,
            Status::Fail,
            "what was read is not what was written",
            "do not use this store: it changes objects",
        ),
        Err(StoreFault::Unlisted) => Finding::new(
            name,
            Status::Fail,
            "an object that was written is not listed",
            "check that the keys may list the bucket, and that it is consistent",
        ),
    }
}

/// Why the probe object did not fare well.
#[derive(Debug)]
pub(super) enum StoreFault {
    Error(ObjectError),
    Changed,
    Unlisted,
}

impl From<ObjectError> for StoreFault {
    fn from(error: ObjectError) -> Self {
        Self::Error(error)
    }
}

pub(super) fn advice_for_store(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => "check keys, bucket policy or permissions",
        ErrorKind::NoBucket => "make the bucket first, or name the right one",
        ErrorKind::Full => "free space, or raise the quota",
        ErrorKind::ReadOnly => "mount it writable to make backups",
        ErrorKind::Interrupted => "run it again",
        ErrorKind::Unavailable => "check the endpoint, the network and the service",
        ErrorKind::Unconditional => {
            "the store knows no conditional writes: let only one machine at a time run `backup init`"
        }
        ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Invalid => {
            "check the settings of the store"
        }
    }
}

/// What was seen of locks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LockLook {
    /// Whether the bucket has Object Lock, where that may be asked.
    pub(super) bucket: Option<bool>,
    /// The newest snapshot and some of its packs; none where there is no snapshot.
    pub(super) looked_at: usize,
    /// So many of them are locked as they should be.
    pub(super) locked: usize,
    /// When the lock of that snapshot ends.
    pub(super) until: Option<SystemTime>,
    /// That snapshot is older than the period.
    pub(super) is_over: bool,
}

pub(super) fn locks(lock: Lock, look: Result<LockLook, RepositoryError>) -> Finding {
    let name = "locks";
    let look = match look {
        Ok(look) => look,
        Err(error) => {
            let advice = "allow the key s3:GetObjectRetention and s3:PutObjectRetention";
            return Finding::new(name, Status::Fail, chain(&error), advice);
        }
    };
    if look.bucket == Some(false) {
        return Finding::new(
            name,
            Status::Fail,
            format!("{lock} is asked for, and the bucket has no Object Lock"),
            "copy the repository into a bucket that was made with Object Lock (`backup copy`)",
        );
    }
    if look.is_over {
        return Finding::new(
            name,
            Status::Warn,
            format!("{lock}; the newest snapshot is older than that, so nothing here is protected"),
            "make a backup, and find out why there was none",
        );
    }
    let LockLook { looked_at, locked, .. } = look;
    if looked_at == 0 {
        return Finding::ok(name, format!("{lock}; there is no snapshot yet"));
    }
    if locked < looked_at {
        return Finding::new(
            name,
            Status::Fail,
            format!(
                "{lock}; of the newest snapshot and some of its packs {locked} of {looked_at} are locked"
            ),
            "make a backup, which locks what it needs; find out who unlocked the others, or wrote without locks",
        );
    }
    let until = look.until.and_then(|until| jiff::Timestamp::try_from(until).ok());
    let until = until.map(|until| format!(" until {}", instant(until))).unwrap_or_default();
    let found = format!(
        "{lock}; the newest snapshot and {} of its packs are locked{until}; snapshots older than the period are not protected",
        looked_at - 1
    );
    Finding::ok(name, found)
}

/// Whoever can write a `repo.json` can ask for none.
pub(super) fn unasked_locks() -> Finding {
    Finding::new(
        "locks",
        Status::Warn,
        "the bucket has Object Lock, and the repository asks for no locks",
        "say `backup lock 30d`; where it did before, find out who has changed repo.json",
    )
}

/// Whether a store keeps to `If-None-Match: *`. Nothing but `init` relies on it.
pub(super) fn conditional_writes(outcome: Result<bool, ObjectError>) -> Finding {
    let name = "conditional writes";
    let found = match outcome {
        Ok(true) => "the store keeps to them: of two `init` at once one wins".to_owned(),
        Ok(false) => {
            "the store ignores the condition, which only two `init` at once would need".to_owned()
        }
        Err(error) if error.kind() == ErrorKind::Unconditional => {
            format!("the store knows none, which only two `init` at once would need: {error}")
        }
        Err(error) => format!("whether the store keeps to them is not known: {error}"),
    };
    Finding { name, status: Status::Note, found, advice: None }
}

/// `store` and `own` are seconds since the epoch by the two clocks.
pub(super) fn clock(store: u64, own: u64) -> Finding {
    let skew = store.abs_diff(own);
    if skew <= SKEW_SECONDS_MAX {
        return Finding::ok("clock", format!("{skew} s from the store's"));
    }
    let side = if own > store { "ahead of" } else { "behind" };
    Finding::new(
        "clock",
        Status::Warn,
        format!("{skew} s {side} the store's"),
        "set the clock (NTP): snapshots get wrong times, and S3 refuses requests that are 15 minutes off",
    )
}

pub(super) fn free_space(free: u64) -> Finding {
    let name = "free space";
    let found = format!("{} MB", free / 1_000_000);
    if free >= FREE_BYTES_MIN {
        return Finding::ok(name, found);
    }
    Finding::new(name, Status::Warn, found, "make room, or the next backup fails")
}

/// What the file system said about the cache directory.
#[derive(Debug)]
pub(super) struct CacheAnswer {
    pub(super) writable: bool,
    /// Without the leading `/`.
    pub(super) path: Vec<u8>,
    pub(super) mounts: Vec<Mount>,
}

pub(super) fn cache(answer: &CacheAnswer) -> Finding {
    let name = "cache";
    let shown = crate::entry::display_path(&answer.path);
    if !answer.writable {
        return Finding::new(
            name,
            Status::Warn,
            format!("{shown} cannot be written"),
            "name a writable directory with --cache-dir, or every run reads everything",
        );
    }
    // The last mount on a point hides those before it, the longest point is the nearest.
    let holds = |mount: &&Mount| {
        mount.mount_point == answer.path || is_below(&answer.path, &mount.mount_point)
    };
    let mount = answer.mounts.iter().filter(holds).max_by_key(|mount| mount.mount_point.len());
    match mount {
        Some(mount) if FLEETING_TYPES.contains(&mount.fs_type.as_str()) => Finding::new(
            name,
            Status::Warn,
            format!("{shown} lies on {} and is lost with this container", mount.fs_type),
            "mount a volume there, or the first run of every container reads everything",
        ),
        _ => Finding::ok(name, format!("{shown} can be written and stays")),
    }
}

pub(super) fn openat2(works: bool) -> Finding {
    if works {
        return Finding::ok("openat2", "the kernel keeps paths beneath their source");
    }
    Finding::new(
        "openat2",
        Status::Note,
        "not available: paths are opened one component at a time, as safe but slower",
        "Linux 5.6 and an engine whose seccomp profile knows openat2 (Docker 20.10) have it",
    )
}

/// `limit` is `None` where there is none.
pub(super) fn open_files(limit: Option<u64>) -> Finding {
    let name = "open files";
    match limit {
        None => Finding::ok(name, "no limit"),
        Some(limit) if limit >= OPEN_FILES_MIN => Finding::ok(name, format!("limit {limit}")),
        Some(limit) => Finding::new(
            name,
            Status::Warn,
            format!("limit {limit}"),
            "raise it to 1024 or more (--ulimit nofile=4096)",
        ),
    }
}

pub(super) fn no_engine(why: &str) -> Finding {
    Finding::new(
        "engine",
        Status::Note,
        why,
        "only --volumes-from, --volume, --pause and --stop need it: mount its socket",
    )
}

pub(super) fn engine(version: Result<EngineVersion, EngineError>, host: &str) -> Finding {
    let name = "engine";
    match version {
        Ok(EngineVersion { engine, api }) => {
            Finding::ok(name, format!("{host} answers, version {engine}, API {api}"))
        }
        Err(error) => Finding::new(
            name,
            Status::Warn,
            error.to_string(),
            "let /version through where a proxy guards the socket",
        ),
    }
}

/// Whether `--pause` and `--stop` can have a guard.
pub(super) fn guard(refusal: Option<String>) -> Finding {
    let name = "guard";
    match refusal {
        None => Finding::ok(name, "a guard container can be given the engine"),
        Some(why) => Finding::new(
            name,
            Status::Warn,
            why,
            "mount the engine's socket into this container, or --pause and --stop need --no-guard",
        ),
    }
}

/// What this program's own container is given to end, in seconds; `None`: for ever.
pub(super) fn grace(seconds: Option<u64>) -> Finding {
    let name = "stop timeout";
    match seconds {
        Some(seconds) if seconds < GRACE_SECONDS_MIN => Finding::new(
            name,
            Status::Warn,
            format!("this container is killed {seconds} s after it is asked to stop"),
            "start it with --stop-timeout 60 (compose: stop_grace_period), so that it lets go on itself what it paused or stopped",
        ),
        Some(seconds) => Finding::ok(name, format!("{seconds} s")),
        None => Finding::ok(name, "no limit"),
    }
}

pub(super) fn worker_image(exists: Result<bool, EngineError>, image: &str) -> Finding {
    let name = "worker image";
    let (found, advice) = match exists {
        Ok(true) => return Finding::ok(name, image),
        Ok(false) => (
            format!("{image} is not on the engine's host"),
            "pull or build it: --volumes-from and --volume start workers from it",
        ),
        Err(error) => (error.to_string(), "let /images through where a proxy guards the socket"),
    };
    Finding::new(name, Status::Warn, found, advice)
}
