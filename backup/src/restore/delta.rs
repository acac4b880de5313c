//! `--delta`: what is there already and right stays, the rest is written, what is too much goes.

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use super::plan::ChunkJob;
use super::{REPORTED_MAX, RestoreError, RestoreReport, Run, reader, select};
use crate::chunk::DedupKey;
use crate::entry::{Entry, Extent, FileContent, Kind, PathBytes, tree_order};
use crate::target::{Target, TargetError};
use crate::tree::TreeReader;
use crate::walk::{FileType, Stat};

/// Read at once when content is compared, bytes: the longest chunk.
const COMPARE_BYTES: usize = crate::chunk::CHUNK_BYTES_MAX;

impl Run<'_> {
    /// Removes what the snapshot does not have or has as something else, then writes what differs.
    pub(super) fn delta(&self, target: &Target) -> Result<RestoreReport, RestoreError> {
        target.settle()?;
        let extras = self.remove_extras(target)?;
        let mut report = self.restore_into(target)?;
        report.removed = extras.removed;
        report.warning_count += extras.warning_count;
        report.warnings.extend(extras.warnings);
        report.warnings.truncate(REPORTED_MAX);
        Ok(report)
    }

    /// Walks target and tree side by side; both are in tree order. Says how many paths were removed, and
    /// warns of what could not be looked into.
    fn remove_extras(&self, target: &Target) -> Result<RestoreReport, RestoreError> {
        let mut extras: Vec<PathBytes> = Vec::new();
        let mut entries =
            TreeReader::new(&self.snapshot.tree, reader(self.repository, self.index)?);
        let mut wanted: Option<Entry> = None;
        let mut scopes = Scopes::default();
        let mut report = RestoreReport::default();
        let walked = target.existing(crate::walk::threads_default(), self.own, |found| {
            let found = match found {
                Ok(found) => found,
                Err(warning) => {
                    report.warn_of(warning.to_string());
                    return ControlFlow::Continue(());
                }
            };
            while wanted.as_ref().is_none_or(|entry| tree_order(&entry.path, &found.path).is_lt()) {
                match entries.next_entry() {
                    Ok(Some(entry)) if self.options.selection.restores(&entry.path) => {
                        let entry = self.options.selection.placed(entry);
                        scopes.enter(&entry.path);
                        wanted = Some(entry);
                    }
                    Ok(Some(_)) => (),
                    Ok(None) => break,
                    Err(error) => {
                        return ControlFlow::Break(error);
                    }
                }
            }
            let matching = wanted.as_ref().filter(|entry| entry.path == found.path);
            let keep = match matching {
                Some(entry) => is_of_type(&entry.kind, &found.stat),
                None => {
                    !scopes.hold(&found.path)
                        || target.is_empty_lost_and_found(&found.path)
                        || extras.last().is_some_and(|top| select::is_inside(&found.path, top))
                }
            };
            if !keep {
                // What is only made anew was not too much.
                report.removed += u64::from(matching.is_none());
                extras.push(found.path);
            }
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(error) = walked? {
            return Err(RestoreError::Tree(error));
        }
        for path in &extras {
            target.remove_tree(path)?;
        }
        Ok(report)
    }
}

/// The tops of the restored parts: nothing outside them is ever removed.
#[derive(Debug, Default)]
struct Scopes(Vec<PathBytes>);

impl Scopes {
    /// Notes a restored path; only those below no earlier one are kept.
    fn enter(&mut self, path: &[u8]) {
        if !self.0.last().is_some_and(|top| select::is_inside(path, top)) {
            self.0.push(path.to_vec());
        }
    }

    /// Whether a path that is at most one scope behind the last is in one.
    fn hold(&self, path: &[u8]) -> bool {
        self.0.iter().rev().take(2).any(|top| select::is_inside(path, top))
    }
}

fn is_of_type(kind: &Kind, stat: &Stat) -> bool {
    match (kind, stat.kind) {
        // A socket there belongs to a server that runs; the snapshot could not make another.
        (Kind::Directory, FileType::Directory)
        | (Kind::Fifo, FileType::Fifo)
        | (Kind::Socket, FileType::Socket) => true,
        // A file with further names would change under those too.
        (Kind::File(_), FileType::File) => stat.links == 1,
        (Kind::CharDevice(major, minor), FileType::CharDevice)
        | (Kind::BlockDevice(major, minor), FileType::BlockDevice) => {
            stat.device_node == (*major, *minor)
        }
        // A link is made anew: that costs no more than reading where it points.
        _ => false,
    }
}

/// Whether a pipe or device like `entry` is in its place already.
pub(super) fn is_same_node(target: &Target, entry: &Entry) -> Result<bool, TargetError> {
    Ok(target.stat(&entry.path)?.is_some_and(|stat| is_of_type(&entry.kind, &stat)))
}

/// Compares a file with what it should hold. `None`: there is no such file, make it. Otherwise the file
/// has the right length and holes now; these of `jobs` have to be written, and the flag says whether the
/// file was changed already.
pub(super) fn compare(
    target: &Target,
    path: &[u8],
    content: &FileContent,
    jobs: &[ChunkJob],
    key: &DedupKey,
) -> Result<Option<(Vec<ChunkJob>, bool)>, RestoreError> {
    if target.stat(path)?.is_none() {
        return Ok(None);
    }
    let (file, stat) = target.open_for_write(path)?;
    let mut changed = stat.size != content.size;
    if changed {
        file.set_len(content.size).map_err(|error| TargetError::writing(path, error))?;
    }
    let failed = |error| RestoreError::Compare(crate::entry::display_path(path), error);
    let mut buffer = vec![0; COMPARE_BYTES];
    let mut wrong = Vec::new();
    for job in jobs {
        let part = buffer.get_mut(..job.place.length as usize).unwrap_or_default();
        file.read_exact_at(part, job.offset).map_err(failed)?;
        if key.id_of(part) != job.id {
            wrong.push(*job);
        }
    }
    for (offset, length) in holes(content, jobs) {
        changed |= clear(&file, offset, length, &mut buffer).map_err(failed)?;
    }
    Ok(Some((wrong, changed)))
}

/// Offset and length of the holes between the chunks.
fn holes(content: &FileContent, jobs: &[ChunkJob]) -> Vec<(u64, u64)> {
    let mut lengths = jobs.iter().map(|job| u64::from(job.place.length));
    let mut offset = 0;
    let mut holes = Vec::new();
    for extent in &content.extents {
        let length = match extent {
            Extent::Hole(length) => {
                holes.push((offset, *length));
                *length
            }
            Extent::Chunk(_) => lengths.next().unwrap_or_default(),
        };
        offset += length;
    }
    holes
}

/// Makes a range read as zeros, without filling it where it is a hole already; whether it had to.
fn clear(
    file: &std::fs::File,
    offset: u64,
    length: u64,
    buffer: &mut [u8],
) -> std::io::Result<bool> {
    use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
    let end = offset + length;
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data >= end => return Ok(false),
        Err(rustix::io::Errno::NXIO) => return Ok(false),
        _ => (),
    }
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if fallocate(file, punch, offset, length).is_ok() {
        return Ok(true);
    }
    buffer.fill(0);
    let mut at = offset;
    while at < end {
        let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.write_all_at(buffer.get(..step).unwrap_or_default(), at)?;
        at += step as u64;
    }
    Ok(true)
}
