//! `ls`: what is in a snapshot.

use std::io::Write;

use super::text::{self, EntryView, escaped, escaped_path};
use super::{BrowseError, Entries, index_of, write_json};
use crate::entry::{Entry, Kind, PathBytes};
use crate::repository::Repository;
use crate::restore::select::{Selection, is_inside};
use crate::snapshot::Snapshot;

/// What to list and how.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// These, without the leading `/`; the sources of the snapshot when empty.
    pub paths: Vec<PathBytes>,
    /// With everything below instead of one level.
    pub recursive: bool,
    /// One JSON object a line.
    pub json: bool,
}

/// Lists each path and what is directly in it, or everything below, in tree order.
///
/// Text lines are `mode uid:gid size time path`, like those of `ls -ln`. Fails behind its output with
/// [`BrowseError::Select`] when there is nothing at one of the paths.
pub fn ls(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &ListOptions,
    out: &mut impl Write,
) -> Result<(), BrowseError> {
    let index = index_of(repository, snapshot)?;
    let selection = Selection { paths: options.paths.clone(), ..Selection::default() };
    let mut entries = Entries::new(repository, &index, snapshot, selection)?;
    let everything = [PathBytes::new()];
    let chosen = if options.paths.is_empty() { &everything } else { options.paths.as_slice() };
    let mut source: Option<PathBytes> = None;
    while let Some(entry) = entries.next()? {
        if !source.as_deref().is_some_and(|source| is_inside(&entry.path, source)) {
            source = Some(entry.path.clone());
        }
        let source = source.as_deref().unwrap_or_default();
        let is_shown =
            || chosen.iter().any(|chosen| levels_below(&entry.path, chosen, source) <= 1);
        if !options.recursive && !is_shown() {
            continue;
        }
        if options.json {
            write_json(out, &EntryView::from(&entry))?;
        } else {
            write_line(out, &entry)?;
        }
    }
    out.flush()?;
    entries.complete()
}

/// How many directories `path` is below `chosen`, or below its source where only that is in `chosen`.
fn levels_below(path: &[u8], chosen: &[u8], source: &[u8]) -> usize {
    let base = if is_inside(source, chosen) { source } else { chosen };
    if !is_inside(path, base) {
        return usize::MAX;
    }
    let rest = path.get(base.len()..).unwrap_or_default();
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count()
}

fn write_line(out: &mut impl Write, entry: &Entry) -> Result<(), BrowseError> {
    let size = match entry.kind {
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            format!("{major},{minor}")
        }
        _ => entry.size().to_string(),
    };
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let time = text::time(entry.mtime);
    let path = escaped_path(&entry.path);
    write!(out, "{} {owner:<9} {size:>12} {time} {path}", text::mode(entry))?;
    if let Kind::Symlink(target) = &entry.kind {
        write!(out, " -> {}", escaped(target))?;
    }
    if let Some(first) = &entry.hardlink_of {
        write!(out, " = {}", escaped_path(first))?;
    }
    if matches!(&entry.kind, Kind::File(content) if content.torn) {
        write!(out, " (changed while it was read)")?;
    }
    Ok(writeln!(out)?)
}
