//! `cat`: one file's content.

use std::io::Write;

use chores_common::shutdown::Shutdown;

use super::text::{self, escaped_path};
use super::{BrowseError, Entries, index_of};
use crate::ahead::{self, AheadError, Step};
use crate::entry::{Entry, Kind};
use crate::repository::Repository;
use crate::restore::select::{Selection, nothing_at};
use crate::snapshot::Snapshot;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatReport {
    /// Bytes of content, holes included.
    pub bytes: u64,
    /// The file changed while the snapshot was made: the content is a mixture of moments.
    pub torn: bool,
}

/// Writes the content of the file at `path` (without its leading `/`), holes as zeros.
///
/// Every chunk is checked before it is written. At the first that is damaged it fails with
/// [`BrowseError::Content`]; what was before it is written.
pub fn cat(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    out: &mut impl Write,
    shutdown: &Shutdown,
) -> Result<CatReport, BrowseError> {
    let index = index_of(repository, snapshot)?;
    let selection = Selection { paths: vec![path.to_vec()], ..Selection::default() };
    let mut entries = Entries::new(repository, &index, snapshot, selection.clone())?;
    let entry = entries.next()?.ok_or_else(|| nothing_at(&selection))?;
    drop(entries);
    let shown = || escaped_path(path).to_string();
    let (size, torn) = match &entry.kind {
        Kind::File(content) if entry.path == path => (content.size, content.torn),
        kind => {
            // A path above the sources is a directory that the snapshot does not know.
            let kind = if entry.path == path { text::kind(kind) } else { "dir" };
            return Err(BrowseError::NotAFile { path: shown(), kind });
        }
    };
    let mut report = CatReport { bytes: 0, torn };
    let mut once = Some(entry);
    let next_entry = || -> Result<Option<Entry>, BrowseError> { Ok(once.take()) };
    let read = ahead::read_in_order(repository, &index, shutdown, next_entry, |step| {
        let length = match &step {
            Step::Entry(_) => 0,
            Step::Chunk(content) => content.len() as u64,
            Step::Hole(length) => *length,
        };
        let end = report.bytes.checked_add(length).filter(|end| *end <= size);
        let end = end.ok_or_else(|| BrowseError::Length(shown()))?;
        match step {
            Step::Entry(_) => {}
            Step::Chunk(content) => out.write_all(content)?,
            Step::Hole(length) => write_zeros(out, length, shutdown)?,
        }
        report.bytes = end;
        Ok(())
    });
    // What was sound goes out before the failure is told.
    out.flush()?;
    match read {
        Ok(()) if report.bytes == size => Ok(report),
        Ok(()) => Err(BrowseError::Length(shown())),
        Err(AheadError::Caller(error)) => Err(error),
        Err(AheadError::Interrupted) => Err(BrowseError::Interrupted),
        Err(AheadError::Content(source)) => {
            Err(BrowseError::Content { path: shown(), offset: report.bytes, source })
        }
    }
}

fn write_zeros(out: &mut impl Write, length: u64, shutdown: &Shutdown) -> Result<(), BrowseError> {
    for piece in ahead::zeros(length) {
        if shutdown.is_requested() {
            return Err(BrowseError::Interrupted);
        }
        out.write_all(piece)?;
    }
    Ok(())
}
