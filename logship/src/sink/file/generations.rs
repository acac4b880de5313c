//! Rotated files: `name.log.000042`, `name.log.000042.zst`. They are compressed and removed in the background.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use chores_common::durable::{self, DurableFile};

/// Digits of a generation, so that names sort; larger numbers have more.
const DIGITS: usize = 6;

/// zstd's own default: the best compression that does not cost more than the log itself.
const ZSTD_LEVEL: i32 = 3;

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
    thread: Option<JoinHandle<()>>,
}

impl Housekeeping {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, asked: BTreeMap::new(), thread: None }
    }

    /// Asks for `path`, whose generations below `below` may be touched.
    pub(super) fn ask(&mut self, path: PathBuf, below: u64) {
        if self.keep != Keep::default() {
            self.asked.insert(path, below);
        }
    }

    /// Begins with what was asked for, unless the last time is not over: then the next call does.
    pub(super) fn start(&mut self) {
        let is_busy = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_busy || self.asked.is_empty() {
            return;
        }
        self.finish_thread();
        let (asked, keep) = (std::mem::take(&mut self.asked), self.keep.clone());
        let work = move || {
            for (path, below) in asked {
                if let Err(error) = tidy(&path, below, &keep) {
                    tracing::warn!(file = %path.display(), %error, "cannot tidy up rotated files");
                }
            }
        };
        match std::thread::Builder::new().name("log-tidy".to_owned()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "cannot begin to tidy up rotated files"),
        }
    }

    /// Does all that was asked for, and waits for it.
    pub(super) fn finish(&mut self) {
        self.finish_thread();
        self.start();
        self.finish_thread();
    }

    fn finish_thread(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("tidying up rotated files broke off");
        }
    }
}

/// Compresses and removes rotated files of `path`.
fn tidy(path: &Path, below: u64, keep: &Keep) -> io::Result<()> {
    remove_temporaries(path)?;
    if keep.zstd {
        for rotated in list(path)?.into_iter().filter(|rotated| rotated.generation < below) {
            if !rotated.is_zstd {
                compress(&rotated.path)?;
            }
        }
    }
    let mut rotated = list(path)?;
    rotated.retain(|rotated| rotated.generation < below);
    let excess = keep.count.map_or(0, |count| {
        rotated.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX))
    });
    for (index, rotated) in rotated.iter().enumerate() {
        if index < excess || is_old(&rotated.path, keep.age) {
            fs::remove_file(&rotated.path)?;
        }
    }
    Ok(())
}

fn is_old(path: &Path, age: Option<Duration>) -> bool {
    let Some(age) = age else { return false };
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|is| is > age))
}

/// Replaces the file by its compressed form, of the same age.
fn compress(path: &Path) -> io::Result<()> {
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
    io::copy(&mut source, &mut encoder)?;
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
