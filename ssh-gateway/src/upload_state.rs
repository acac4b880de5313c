//! What is remembered of uploads in the state directory: which files the store has, and how far it is.
//!
//! ```text
//! STATE/uploads/done.jsonl      {"file":…,"bytes":…,"modified":…,"sha256":…,"time":…}      one for each file that is still here
//! STATE/uploads/state.json      {"files":…,"bytes":…,"oldest":…,"taken":…,"failed":…}      what waits
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chores_common::durable;
use chores_common::finding::{Finding, Status};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

const DIRECTORY: &str = "uploads";
const DONE: &str = "done.jsonl";
const STATE: &str = "state.json";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines that are read.
const LINES_MAX: usize = 1_000_000;
/// Longest state, in bytes.
const STATE_BYTES_MAX: u64 = 64 * 1024;
/// What waits longer is a reason to look, in seconds.
const WAIT_SECONDS_MAX: i64 = 3600;

/// A file that the store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the state directory.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, in seconds of the epoch.
    pub modified: i64,
    /// The hash of its bytes, in hexadecimal.
    pub sha256: String,
    /// When it was there.
    pub time: String,
}

/// How far uploads are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Files that wait.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest of them was last written, in seconds of the epoch.
    pub oldest: Option<i64>,
    /// Files that the store cannot have, since it has others of their names.
    pub taken: u64,
    /// Why the last try was in vain. One sentence.
    pub failed: Option<String>,
}

fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// What the store has of what is still here; the rest is forgotten. A line that cannot be read is a file that is uploaded
/// again, and found there. Blocks.
pub fn load(state: &Path) -> io::Result<BTreeMap<String, Entry>> {
    let directory = directory(state);
    durable::create_directories(&directory, DIRECTORY_MODE).map_err(io::Error::other)?;
    let path = directory.join(DONE);
    let mut done = BTreeMap::new();
    match File::open(&path) {
        Ok(file) => {
            let mut file = BufReader::new(file);
            for _ in 0..LINES_MAX {
                let mut line = Vec::new();
                (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
                if line.is_empty() {
                    break;
                }
                let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
                if state.join(&entry.file).symlink_metadata().is_ok() {
                    done.insert(entry.file.clone(), entry);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text: String = done.values().map(line).collect::<io::Result<_>>()?;
    durable::write(&path, text.as_bytes(), FILE_MODE).map_err(io::Error::other)?;
    Ok(done)
}

/// Remembers one more. Blocks.
pub fn add(state: &Path, entry: &Entry) -> io::Result<()> {
    let path = directory(state).join(DONE);
    let mut file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    // Behind what a kill may have left of another line.
    file.write_all(format!("\n{}", line(entry)?).as_bytes())?;
    file.sync_data()
}

fn line(entry: &Entry) -> io::Result<String> {
    Ok(serde_json::to_string(entry)? + "\n")
}

/// Says how far it is. Blocks.
pub fn tell(state: &Path, told: &State) -> io::Result<()> {
    let directory = directory(state);
    durable::create_directories(&directory, DIRECTORY_MODE).map_err(io::Error::other)?;
    let text = serde_json::to_string(told)? + "\n";
    durable::write(&directory.join(STATE), text.as_bytes(), FILE_MODE).map_err(io::Error::other)
}

/// What `doctor` says of it; nothing where there was never an upload. Blocks.
#[must_use]
pub fn finding(state: &Path, now: Timestamp) -> Option<Finding> {
    let mut text = String::new();
    let read = File::open(directory(state).join(STATE))
        .and_then(|file| file.take(STATE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(wrong(format!("how far they are cannot be read: {error}"))),
    }
    Some(match serde_json::from_str::<State>(&text) {
        Ok(state) => judge(&state, now),
        Err(_) => wrong("how far they are is no JSON".to_owned()),
    })
}

fn wrong(found: String) -> Finding {
    let advice = "see docs/ssh-gateway-recording.md, \"Uploads\"";
    Finding::new("uploads", Status::Warn, found, advice)
}

fn judge(state: &State, now: Timestamp) -> Finding {
    let State { files, bytes, oldest, taken, failed } = state;
    let waits = oldest.filter(|_| *files > 0).map(|oldest| now.as_second().saturating_sub(oldest));
    let mut found = match waits {
        Some(seconds) => {
            format!("{files} files with {bytes} bytes wait, the oldest for {seconds} s")
        }
        None => "everything finished is there".to_owned(),
    };
    if *taken > 0 {
        found.push_str(&format!("; the store has other objects of the names of {taken} files"));
    }
    if let Some(failed) = failed {
        found.push_str(&format!("; the last try was in vain: {}", crate::login::told(failed)));
    }
    let is_late = waits.is_some_and(|seconds| seconds > WAIT_SECONDS_MAX);
    if failed.is_some() || *taken > 0 || is_late {
        wrong(found)
    } else {
        Finding::ok("uploads", found)
    }
}
