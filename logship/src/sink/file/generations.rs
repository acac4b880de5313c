//! Rotated files: `name.log.000042`, `name.log.000042.zst`. They are compressed and removed in the background.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use chores_common::durable::{self, DurableFile};
use chores_common::shutdown::Shutdown;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Digits of a generation, so that names sort; larger numbers have more.
const DIGITS: usize = 6;

/// zstd's own default: the best compression that does not cost more than the log itself.
const ZSTD_LEVEL: i32 = 3;

/// How often the rotated files of every known path are looked at for their age: those of a container that is
/// gone get old, too.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Paths that are known at the most; those beyond are looked at when they are rotated.
const PATHS_KNOWN_MAX: usize = 16_384;

/// How often the end looks whether the thread has ended, or has to.
const JOIN_EVERY: Duration = Duration::from_millis(10);

/// Bytes that are compressed before the thread looks whether it has to end.
const COPY_BYTES: usize = 1 << 20;

const ZSTD_SUFFIX: &str = ".zst";

/// What happens to rotated files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// How many stay; all when absent.
    pub count: Option<u64>,
    /// How long they stay after their last line; for ever when absent.
    pub age: Option<Duration>,
    /// Whether they are compressed.
    pub zstd: bool,
}

/// `path` with the number of a generation behind it.
pub(super) fn rotated_path(path: &Path, generation: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{generation:0DIGITS$}"));
    PathBuf::from(name)
}

/// Gives the file at `path` the name of a generation. Never replaces what has that name.
pub(super) fn rename(path: &Path, generation: u64) -> io::Result<()> {
    let rotated = rotated_path(path, generation);
    match renameat_with(CWD, path, CWD, &rotated, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can do this (rename(2)).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if fs::symlink_metadata(&rotated).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(path, rotated)
        }
        Err(error) => Err(error.into()),
    }
}

/// A rotated file that is there.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) path: PathBuf,
    pub(super) generation: u64,
    is_zstd: bool,
}

/// The greatest number of a rotated file of `path`; 0 when there is none.
pub(super) fn last(path: &Path) -> io::Result<u64> {
    Ok(list(path)?.iter().map(|rotated| rotated.generation).max().unwrap_or(0))
}

/// Every rotated file of `path`, the oldest first.
pub(super) fn list(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((generation, is_zstd)) = file_name.to_str().and_then(|n| generation_of(n, name))
        else {
            continue;
        };
        found.push(Rotated { path: entry.path(), generation, is_zstd });
    }
    found.sort_unstable_by_key(|rotated| (rotated.generation, rotated.is_zstd));
    Ok(found)
}

/// The number in `file_name`, if it is a rotated `name`, and whether it is compressed.
fn generation_of(file_name: &str, name: &str) -> Option<(u64, bool)> {
    let rest = file_name.strip_prefix(name)?.strip_prefix('.')?;
    let (digits, is_zstd) = match rest.strip_suffix(ZSTD_SUFFIX) {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_number.then(|| digits.parse().ok())??, is_zstd))
}

/// One thread at a time that tidies up what it was asked for.
#[derive(Debug)]
pub(super) struct Housekeeping {
    keep: Keep,
    /// Paths, each with the generation below which its files are nobody's any more.
    asked: BTreeMap<PathBuf, u64>,
    /// The same of every path with rotated files that are to be removed by age.
    known: BTreeMap<PathBuf, u64>,
    looked: Option<Instant>,
    /// The request to end, for the thread.
    stop: Shutdown,
    /// Its result: paths without any rotated file.
    thread: Option<JoinHandle<Vec<PathBuf>>>,
}

impl Housekeeping {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            asked: BTreeMap::new(),
            known: BTreeMap::new(),
            looked: None,
            stop: Shutdown::new(),
            thread: None,
        }
    }

    /// Asks for `path`, whose generations below `below` may be touched.
    pub(super) fn ask(&mut self, path: PathBuf, below: u64) {
        if self.keep == Keep::default() {
            return;
        }
        if self.keep.age.is_some()
            && (self.known.len() < PATHS_KNOWN_MAX || self.known.contains_key(&path))
        {
            self.known.insert(path.clone(), below);
        }
        self.asked.insert(path, below);
    }

    /// Begins with what was asked for, and from time to time with every known path, unless the last time is not
    /// over: then a later call does.
    pub(super) fn start(&mut self, now: Instant) {
        let is_busy = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        let looked = *self.looked.get_or_insert(now);
        let is_time = now.saturating_duration_since(looked) >= LOOK_EVERY;
        if is_busy || self.asked.is_empty() && !is_time {
            return;
        }
        self.finish_thread();
        if is_time {
            self.looked = Some(now);
            for (path, below) in &self.known {
                self.asked.entry(path.clone()).or_insert(*below);
            }
        }
        if self.asked.is_empty() {
            return;
        }
        let (asked, keep) = (std::mem::take(&mut self.asked), self.keep.clone());
        let stop = self.stop.clone();
        let work = move || {
            let mut empty = Vec::new();
            for (path, below) in asked {
                match tidy(&path, below, &keep, &stop) {
                    Ok(true) => {}
                    Ok(false) => empty.push(path),
                    Err(_) if stop.is_requested() => break,
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "cannot tidy up rotated files");
                    }
                }
            }
            empty
        };
        match std::thread::Builder::new().name("log-tidy".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "cannot begin to tidy up rotated files"),
        }
    }

    /// Does all that was asked for, and waits for it, at most until `stop`.
    pub(super) fn finish(&mut self, stop: &Shutdown) {
        self.wait(stop);
        self.start(Instant::now());
        self.wait(stop);
    }

    fn wait(&mut self, stop: &Shutdown) {
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if stop.is_requested() {
                self.stop.request();
            }
            std::thread::sleep(JOIN_EVERY);
        }
        self.finish_thread();
    }

    fn finish_thread(&mut self) {
        match self.thread.take().map(JoinHandle::join) {
            None => {}
            Some(Ok(empty)) => {
                for path in empty {
                    // What was rotated since then is asked for.
                    if !self.asked.contains_key(&path) {
                        self.known.remove(&path);
                    }
                }
            }
            Some(Err(_)) => tracing::error!("tidying up rotated files broke off"),
        }
    }
}

/// Compresses and removes rotated files of `path`; whether there are any left.
fn tidy(path: &Path, below: u64, keep: &Keep, stop: &Shutdown) -> io::Result<bool> {
    if path.parent().is_some_and(|directory| !directory.exists()) {
        return Ok(false);
    }
    remove_temporaries(path)?;
    if keep.zstd {
        for rotated in list(path)?.into_iter().filter(|rotated| rotated.generation < below) {
            if !rotated.is_zstd {
                compress(&rotated.path, stop)?;
            }
        }
    }
    let mut rotated = list(path)?;
    let mut count = rotated.len();
    rotated.retain(|rotated| rotated.generation < below);
    let excess = keep.count.map_or(0, |count| {
        rotated.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX))
    });
    for (index, rotated) in rotated.iter().enumerate() {
        if index < excess || is_old(&rotated.path, keep.age) {
            fs::remove_file(&rotated.path)?;
            count -= 1;
        }
    }
    Ok(count > 0)
}

fn is_old(path: &Path, age: Option<Duration>) -> bool {
    let Some(age) = age else { return false };
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|is| is > age))
}

/// Replaces the file by its compressed form, of the same age; broken off at `stop`, it is as it was.
fn compress(path: &Path, stop: &Shutdown) -> io::Result<()> {
    let mut source = File::open(path)?;
    let metadata = source.metadata()?;
    let mut name = path.as_os_str().to_owned();
    name.push(ZSTD_SUFFIX);
    let target = PathBuf::from(name);
    let in_words =
        |error: durable::DurableError| io::Error::other(chores_common::exit::chain(&error));
    let file = DurableFile::create(&target, metadata.mode() & 0o777).map_err(in_words)?;
    let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut part = vec![0; COPY_BYTES];
    loop {
        if stop.is_requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = source.read(&mut part)?;
        if length == 0 {
            break;
        }
        encoder.write_all(part.get(..length).unwrap_or_default())?;
    }
    encoder.finish()?.commit().map_err(in_words)?;
    if let Ok(modified) = metadata.modified() {
        File::open(&target)?.set_modified(modified)?;
    }
    fs::remove_file(path)
}

/// What a crash left of a compression.
fn remove_temporaries(path: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(());
    };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str() else { continue };
        let is_ours = file_name
            .strip_prefix('.')
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('.'));
        if is_ours && durable::is_temporary(file_name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
