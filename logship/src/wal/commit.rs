//! Makes durable what was written, a group at a time, and removes what every sink has.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::durable;

use super::delivered::{self, Delivered};
use super::shared::{Inner, Shared};
use super::sink_cursor::Role;
use super::write::NO_ROOM_WAIT;
use super::{WalError, segment};
use crate::descriptors::is_exhausted;
use crate::intake::Sources;
use crate::source::SourceId;
use crate::time;

/// How long a source that ended is remembered: whoever opens it again within that time goes on where it was.
const ENDED_KEPT: Duration = Duration::from_hours(24);

/// An optional sink holds back one part in so many of the log.
const OPTIONAL_SHARE: u64 = 2;

/// How often an idle log looks for sources to forget.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// What is to be made durable.
struct Work {
    files: Vec<Arc<File>>,
    is_directory_dirty: bool,
    written: u64,
    /// How far the sources were delivered, for a log without a directory.
    cursors: Option<(PathBuf, Vec<u8>)>,
    is_last: bool,
}

/// Runs until the writer has ended.
pub(super) fn run(shared: &Shared, sources: &Sources) -> Result<(), WalError> {
    let mut last: Option<Instant> = None;
    while let Some(work) = wait(shared, last) {
        if !work.files.is_empty() {
            last = Some(Instant::now());
        }
        sync(shared, &work)?;
        let (removed, forgotten) = {
            let mut inner = shared.lock();
            inner.durable = inner.durable.max(work.written);
            shared.more.notify_all();
            (removable(&mut inner, shared.settings.bytes_max), forgettable(&inner))
        };
        for id in forgotten {
            if sources.forget_ended(id) {
                let mut inner = shared.lock();
                inner.state.forget(id);
                if let Some(delivered) = &mut inner.delivered {
                    delivered.forget(id);
                }
            }
        }
        if !removed.is_empty() {
            remove(shared, &removed);
            shared.room.notify_all();
        }
        if let Some((path, bytes)) = &work.cursors {
            let is_kept = delivered::write(path, bytes);
            if let Some(delivered) = shared.lock().delivered.as_mut().filter(|_| is_kept) {
                delivered.keep();
            }
        }
        if work.is_last {
            break;
        }
    }
    let mut inner = shared.lock();
    inner.is_closed = true;
    shared.more.notify_all();
    inner.keep_delivered();
    Ok(())
}

fn sync(shared: &Shared, work: &Work) -> Result<(), WalError> {
    let Some(paths) = &shared.paths else { return Ok(()) };
    for file in &work.files {
        // The kernel may have thrown away what it could not write: nothing can be promised any more.
        file.sync_data()
            .map_err(|error| WalError::io("make durable the log in", &paths.segments, error))?;
    }
    if work.is_directory_dirty {
        while let Err(error) = durable::sync_directory(&paths.segments) {
            let inner = shared.lock();
            // That needs a descriptor, and says nothing about the disk when there is none.
            if !is_exhausted(error.io()) || inner.is_giving_up || inner.is_abandoned {
                return Err(error.into());
            }
            drop(shared.wait(&shared.work, inner, NO_ROOM_WAIT));
        }
    }
    Ok(())
}

/// Waits until there is work; `None` when the log is given up.
fn wait(shared: &Shared, last: Option<Instant>) -> Option<Work> {
    let mut inner = shared.lock();
    loop {
        if inner.is_abandoned || inner.failed.is_some() {
            return None;
        }
        let now = Instant::now();
        let due = last.map_or(now, |last| last + shared.settings.commit_every);
        let is_dirty = !inner.dirty.is_empty();
        if is_dirty && due > now && !inner.is_drained && !inner.has_sink_moved {
            inner = shared.wait(&shared.work, inner, due - now);
            continue;
        }
        if std::mem::take(&mut inner.has_sink_moved) {
            if inner.delivered.is_some() {
                inner.advance_delivered();
                shared.room.notify_all();
            }
            inner.is_tidying_due = true;
        }
        let cursors_due = inner.delivered.as_ref().and_then(|delivered| delivered.due(now));
        if let Some(due) = cursors_due.filter(|due| *due > now && !is_dirty && !inner.is_drained) {
            inner = shared.wait(&shared.work, inner, due - now);
            continue;
        }
        let is_idle = cursors_due.is_none() && !inner.is_tidying_due;
        if !is_dirty && is_idle && !inner.is_drained {
            let (waited, time) = shared
                .work
                .wait_timeout(inner, IDLE_WAIT)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            inner = waited;
            inner.is_tidying_due |= time.timed_out();
            continue;
        }
        inner.is_tidying_due = false;
        let is_due = due <= now || inner.is_drained;
        return Some(Work {
            files: if is_due { std::mem::take(&mut inner.dirty) } else { Vec::new() },
            is_directory_dirty: is_due && std::mem::take(&mut inner.is_directory_dirty),
            written: if is_due { inner.written } else { inner.durable },
            cursors: inner.delivered.as_mut().and_then(Delivered::take),
            is_last: inner.is_drained,
        });
    }
}

/// The segments that no sink needs, taken from the list. The last one always stays: it has the state.
fn removable(inner: &mut Inner, log_bytes_max: u64) -> Vec<u64> {
    let written = inner.written;
    let needed = inner.sinks.values().map(|sink| match sink.role {
        Role::Mandatory => sink.position.frame,
        // Whatever its bound, it must not fill the log.
        Role::Optional { bytes_max } => {
            let bytes_max = bytes_max.min(log_bytes_max / OPTIONAL_SHARE);
            sink.position.frame.max(written.saturating_sub(bytes_max))
        }
    });
    let Some(floor) = needed.min() else { return Vec::new() };
    let floor = floor.min(inner.durable);
    let last = inner.segments.keys().next_back().copied();
    let removed: Vec<u64> = inner
        .segments
        .iter()
        .take_while(|(base, end)| **end <= floor && Some(**base) != last)
        .map(|(base, _)| *base)
        .collect();
    for base in &removed {
        inner.segments.remove(base);
    }
    removed
}

/// The sources that ended long ago and that every sink has.
fn forgettable(inner: &Inner) -> Vec<SourceId> {
    let kept = i64::try_from(ENDED_KEPT.as_nanos()).unwrap_or(i64::MAX);
    let before = time::now().saturating_sub(kept);
    let floor = inner.slowest_sink().unwrap_or(0);
    let is_over = |(id, source): (&SourceId, &super::SourceState)| {
        let is_old = source.ended.is_some_and(|ended| ended < before);
        (is_old && source.end <= floor).then_some(*id)
    };
    inner.state.sources.iter().filter_map(is_over).collect()
}

fn remove(shared: &Shared, bases: &[u64]) {
    let Some(paths) = &shared.paths else { return };
    for base in bases {
        let path = segment::path(&paths.segments, *base);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a segment of the log");
        }
    }
}
