//! The loss ledger: every hole in a source with all that is known of it, one line of JSON each, beside the
//! write-ahead log. The sums are in the log itself; this file has the details, and the oldest of them go when
//! it is full.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::record::Gap;
use crate::source::SourceKey;

#[cfg(test)]
mod tests;

/// The file that is written to.
const FILE: &str = "ledger.ndjson";

/// The file before it.
const FILE_BEFORE: &str = "ledger.1.ndjson";

/// Bytes of one file; the one before it is removed when it is full.
pub const LEDGER_BYTES_MAX: u64 = 4 << 20;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Permissions of the files.
const MODE: u32 = 0o600;

/// One hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// When it was found, in nanoseconds since 1970.
    pub at: i64,
    /// In which source.
    pub source: SourceKey,
    /// What people call that source.
    pub name: String,
    /// The number of the record that tells of it, or of the first record that is missing.
    pub seq: u64,
    /// The sink that did not get the lines; absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The write-ahead log had the lines and lost them: it is damaged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_log: bool,
    /// What is missing.
    #[serde(flatten)]
    pub gap: Gap,
}

impl LedgerEntry {
    /// The same hole has the same key, however often it is found.
    fn key(&self) -> u64 {
        let hasher = BuildHasherDefault::<XxHash3_64>::default();
        hasher.hash_one((&self.source.0, self.seq, &self.sink, self.gap.reason))
    }
}

/// The ledger of one state directory.
#[derive(Debug)]
pub struct Ledger {
    directory: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    file: Option<File>,
    bytes: u64,
    keys: HashSet<u64>,
    keys_before: HashSet<u64>,
    /// The latest time of an entry: the next one is later, so that times tell them apart.
    last_at: i64,
    /// Whether the last entry could not be written, so that this is said once.
    is_failing: bool,
}

impl Ledger {
    /// The ledger in `directory`, which exists; without one, entries are only told apart.
    pub fn open(directory: Option<&Path>) -> io::Result<Self> {
        let mut inner = Inner::default();
        if let Some(directory) = directory {
            let (before, now) =
                (entries(&directory.join(FILE_BEFORE))?, entries(&directory.join(FILE))?);
            inner.last_at = before.iter().chain(&now).map(|entry| entry.at).max().unwrap_or(0);
            inner.keys_before = before.iter().map(LedgerEntry::key).collect();
            inner.keys = now.iter().map(LedgerEntry::key).collect();
        }
        Ok(Self { directory: directory.map(Path::to_owned), inner: Mutex::new(inner) })
    }

    /// Adds a hole; its time in the ledger, or `None` when it is there already. A ledger that cannot be
    /// written is no reason to stop shipping: it is said once.
    pub fn add(&self, entry: &LedgerEntry) -> Option<i64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = entry.key();
        if inner.keys.contains(&key) || inner.keys_before.contains(&key) {
            return None;
        }
        inner.keys.insert(key);
        let at = entry.at.max(inner.last_at.saturating_add(1));
        inner.last_at = at;
        let entry = &LedgerEntry { at, ..entry.clone() };
        let Some(directory) = &self.directory else {
            if inner.keys.len() as u64 > LEDGER_BYTES_MAX / 64 {
                inner.keys_before = std::mem::take(&mut inner.keys);
            }
            return Some(at);
        };
        match inner.append(directory, entry) {
            Ok(()) => inner.is_failing = false,
            Err(error) => {
                inner.file = None;
                if !inner.is_failing {
                    tracing::warn!(%error, "cannot write to the ledger of lost lines");
                }
                inner.is_failing = true;
            }
        }
        Some(at)
    }
}

impl Ledger {
    /// Every hole that is still known in detail, the oldest first.
    pub fn read(&self) -> io::Result<Vec<LedgerEntry>> {
        self.directory.as_deref().map_or_else(|| Ok(Vec::new()), read)
    }
}

impl Inner {
    fn append(&mut self, directory: &Path, entry: &LedgerEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let path = directory.join(FILE);
        if self.bytes + line.len() as u64 > LEDGER_BYTES_MAX && self.file.is_some() {
            std::fs::rename(&path, directory.join(FILE_BEFORE))?;
            self.keys_before = std::mem::take(&mut self.keys);
            self.keys.insert(entry.key());
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                let mut file =
                    options.read(true).append(true).create(true).mode(MODE).open(&path)?;
                self.bytes = file.metadata()?.len();
                // What a crash or a full disk cut off gets its line end, so that it spoils no other line.
                if self.bytes > 0 && !ends_with_line(&file)? {
                    file.write_all(b"\n")?;
                    self.bytes += 1;
                }
                none.insert(file)
            }
        };
        file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn ends_with_line(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;

    let mut last = [0];
    let length = file.metadata()?.len();
    file.read_exact_at(&mut last, length.saturating_sub(1))?;
    Ok(last == *b"\n")
}

/// Every hole that the ledger in `directory` still knows in detail, the oldest first.
pub fn read(directory: &Path) -> io::Result<Vec<LedgerEntry>> {
    let mut all = entries(&directory.join(FILE_BEFORE))?;
    all.extend(entries(&directory.join(FILE))?);
    Ok(all)
}

/// The entries of one file; none when it is not there. Lines that are none are left out: a crash may leave
/// one, and their sums are in the log.
fn entries(path: &Path) -> io::Result<Vec<LedgerEntry>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file.take(2 * LEDGER_BYTES_MAX));
    let mut all = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(all);
        }
        all.extend(serde_json::from_slice::<LedgerEntry>(&line).ok());
    }
}
