//! Has finished records uploaded: looks what there is, hands one file after the other to the [uploader], remembers what the
//! store has, and says how far it is.
//!
//! [uploader]: crate::uploader

mod plan;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chores_common::object::is_valid_key;
use chores_common::retry::Retry;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::journal::{self, Journal};
use super::nursery::Nursery;
use super::recording::{self, Recordings};
use super::{audit, diagnostics};
use crate::chain::hex;
use crate::host_keys::AUDIT_DIRECTORY;
use crate::upload_state::{self, Entry, State};
use crate::wire::socket::AsyncSocket;
use crate::wire::upload::{Failure, Order, Report, Setup};
use plan::{Due, Local};

/// How often it is looked for finished records.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// Between two tries of what failed; each try of the store has its own within.
const RETRY: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_secs(4), cap: Duration::from_secs(300) };
/// A file that the store cannot have, since another one is there, is tried again after this.
const TAKEN_PERIOD: Duration = Duration::from_secs(3600);
/// Files that fail one after the other: then it is the store, and no file.
const IN_ROW_MAX: u32 = 3;
/// The longest that one file may take, beyond what its bytes need.
const UPLOAD_TIME_MIN: Duration = Duration::from_secs(600);
/// The slowest upload that is waited for, with the reading back of it, in bytes per second.
const THROUGHPUT_MIN: u64 = 32 * 1024;
/// Files that are looked at; more wait for a later look.
const FILES_MAX: usize = 100_000;
/// Read at once for a hash, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Uploads what is finished.
#[derive(Debug)]
pub(super) struct Uploads {
    setup: Setup,
    state: PathBuf,
    /// Whether recordings stay when the store has them.
    keeps_local: bool,
    recordings: Recordings,
    journal: Journal,
    /// What the store has of what is here.
    done: BTreeMap<String, Entry>,
    /// What it cannot have, and since when that is known.
    taken: BTreeMap<String, Instant>,
    told: State,
    number: u64,
}

/// Why nothing more can be uploaded by this uploader.
type Gone = String;

impl Uploads {
    pub(super) fn new(
        setup: Setup,
        state: PathBuf,
        keeps_local: bool,
        recordings: Recordings,
        journal: Journal,
    ) -> Self {
        Self {
            setup,
            state,
            keeps_local,
            recordings,
            journal,
            done: BTreeMap::new(),
            taken: BTreeMap::new(),
            told: State::default(),
            number: 0,
        }
    }

    /// Uploads as long as it is not dropped. Another uploader is started when one ends.
    pub(super) async fn run(mut self, nursery: &Nursery) {
        let mut failures = 0;
        loop {
            let gone = match self.begin(nursery).await {
                Ok(socket) => self.serve(&socket).await,
                Err(error) => error.to_string(),
            };
            failures += 1;
            tracing::error!(
                "the process that uploads records has ended: {gone}; it is started again"
            );
            self.failed(gone).await;
            sleep(pause(failures)).await;
        }
    }

    async fn begin(&mut self, nursery: &Nursery) -> io::Result<AsyncSocket> {
        let (socket, pid) = nursery.uploader(diagnostics::logged("the uploader")?).await?;
        tracing::debug!(pid, "the uploader runs");
        socket.send(&self.setup, &[]).await?;
        let state = self.state.clone();
        self.done = blocking(move || upload_state::load(&state)).await?;
        Ok(socket)
    }

    async fn serve(&mut self, socket: &AsyncSocket) -> Gone {
        let mut failures = 0;
        loop {
            let state = self.state.clone();
            let local = match blocking(move || look(&state)).await {
                Ok(local) => local,
                Err(error) => {
                    self.failed(format!("the records cannot be listed: {error}")).await;
                    sleep(LOOK_PERIOD).await;
                    continue;
                }
            };
            self.taken.retain(|_, since| since.elapsed() < TAKEN_PERIOD);
            let removes = !self.keeps_local;
            let running = self.recordings.running();
            let due = plan::due(local, &running, &self.done, &self.taken, removes);
            self.waiting(&due, None).await;
            let mut in_row = 0;
            let mut left = due.as_slice();
            while let Some((next, rest)) = left.split_first() {
                match self.one(socket, next).await {
                    Ok(Ok(())) => {
                        (failures, in_row) = (0, 0);
                        left = rest;
                        self.waiting(left, None).await;
                    }
                    Ok(Err(reason)) => {
                        failures += 1;
                        tracing::warn!("{} is not uploaded: {reason}", next.local.key);
                        self.waiting(left, Some(reason)).await;
                        // It may be this file, or the store.
                        in_row += 1;
                        if in_row >= IN_ROW_MAX {
                            break;
                        }
                        left = rest;
                    }
                    Err(gone) => return gone,
                }
            }
            sleep(if in_row > 0 { pause(failures) } else { LOOK_PERIOD }).await;
        }
    }

    /// Has one file uploaded. The inner error is one sentence, and is over some time.
    async fn one(&mut self, socket: &AsyncSocket, due: &Due) -> Result<Result<(), String>, Gone> {
        let local = due.local.clone();
        let path = self.state.join(&local.key);
        let opened = blocking(move || open(&path)).await;
        let (file, bytes, sha256) = match opened {
            Ok(opened) => opened,
            // Somebody has moved it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.number += 1;
        let order = Order { number: self.number, key: local.key.clone(), bytes, sha256 };
        let patience = UPLOAD_TIME_MIN + Duration::from_secs(bytes / THROUGHPUT_MIN);
        let asked = async {
            socket.send(&order, &[file.as_fd()]).await?;
            socket.receive::<Report>().await
        };
        let report = match timeout(patience, asked).await {
            Ok(Ok(Some((report, _)))) if report.number == order.number => report,
            Ok(Ok(Some(_))) => return Err("it reports what it was not told".to_owned()),
            Ok(Ok(None)) => return Err("it was killed".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => {
                return Err(format!("it takes longer than {} s for one file", patience.as_secs()));
            }
        };
        match report.result {
            Ok(()) => Ok(self.finish(&local, bytes, &hex(&sha256)).await),
            Err(Failure::Later(reason)) => Ok(Err(reason)),
            Err(Failure::Changed) => Ok(Err("it changes while it is read".to_owned())),
            Err(Failure::Taken) => {
                tracing::error!(
                    "{}: the store has another object of this name, which stays; give each gateway a prefix of its own",
                    local.key
                );
                self.taken.insert(local.key, Instant::now());
                Ok(Ok(()))
            }
        }
    }

    /// The store has a file: it is remembered, told, and goes where it is to go.
    async fn finish(&mut self, local: &Local, bytes: u64, sha256: &str) -> Result<(), String> {
        let entry = Entry {
            file: local.key.clone(),
            bytes,
            modified: local.modified,
            sha256: sha256.to_owned(),
            time: Timestamp::now().to_string(),
        };
        let is_removed = !self.keeps_local && local.is_recording();
        let mark = self.journal.mark();
        audit::uploaded(&self.journal, &local.key, bytes, sha256, is_removed);
        // A recording without this line would be one that was stolen.
        let written = self.journal.written(mark).await;
        written
            .map_err(|error| format!("it is uploaded, and the audit has no line of it: {error}"))?;
        let (state, its) = (self.state.clone(), entry.clone());
        let kept = blocking(move || upload_state::add(&state, &its)).await;
        kept.map_err(|error| format!("what is uploaded cannot be remembered: {error}"))?;
        self.done.insert(local.key.clone(), entry);
        if is_removed {
            let path = self.state.join(&local.key);
            let removed = blocking(move || std::fs::remove_file(path)).await;
            removed.map_err(|error| format!("it is uploaded, and cannot be removed: {error}"))?;
            self.recordings.removed(bytes);
        }
        Ok(())
    }

    /// Says how much waits.
    async fn waiting(&mut self, due: &[Due], failed: Option<String>) {
        let state = State {
            files: due.len() as u64,
            bytes: due.iter().map(|due| due.local.bytes).sum(),
            oldest: due.iter().map(|due| due.local.modified).min(),
            taken: self.taken.len() as u64,
            failed,
        };
        self.tell(state).await;
    }

    async fn failed(&mut self, reason: String) {
        self.tell(State { failed: Some(reason), ..self.told.clone() }).await;
    }

    async fn tell(&mut self, state: State) {
        if state == self.told {
            return;
        }
        self.told = state.clone();
        let directory = self.state.clone();
        if let Err(error) = blocking(move || upload_state::tell(&directory, &state)).await {
            tracing::warn!("how far uploads are cannot be told: {error}");
        }
    }
}

fn pause(failures: u32) -> Duration {
    let random = getrandom::u64().unwrap_or_default();
    RETRY.pause_after(failures, random).unwrap_or(RETRY.cap)
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(act).await.map_err(io::Error::other)?
}

/// What there is that may be finished. Blocks.
fn look(state: &Path) -> io::Result<Vec<Local>> {
    let mut found = Vec::new();
    let audit = state.join(AUDIT_DIRECTORY);
    let mut numbers = journal::files(&audit)?;
    // The newest one is written to.
    numbers.pop();
    let names = numbers.into_iter().map(journal::file_name);
    add(&mut found, &audit, AUDIT_DIRECTORY, names);
    let recordings = state.join(recording::DIRECTORY);
    for day in names_in(&recordings)? {
        let directory = recordings.join(&day);
        if directory.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            let prefix = format!("{}/{day}", recording::DIRECTORY);
            add(&mut found, &directory, &prefix, names_in(&directory)?.into_iter());
        }
    }
    Ok(found)
}

fn add(
    found: &mut Vec<Local>,
    directory: &Path,
    prefix: &str,
    names: impl Iterator<Item = String>,
) {
    for name in names {
        let key = format!("{prefix}/{name}");
        // Somebody may move it away just now.
        let Ok(data) = directory.join(&name).symlink_metadata() else { continue };
        if data.is_file() && is_valid_key(&key) && found.len() < FILES_MAX {
            found.push(Local { key, bytes: data.len(), modified: data.mtime() });
        }
    }
}

/// Names that can be keys; none where there is no directory.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Opens a file for reading, and says what is in it. Blocks.
fn open(path: &Path) -> io::Result<(File, u64, [u8; 32])> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(no_follow).open(path)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, &file);
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let some = reader.fill_buf()?;
        let length = some.len();
        if length == 0 {
            return Ok((file, bytes, hash.finalize().into()));
        }
        hash.update(some);
        bytes += length as u64;
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests;
