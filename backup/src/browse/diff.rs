//! `diff`: what changed between two snapshots.

use std::cmp::Ordering;
use std::io::Write;

use crate::text::bytes;
use serde::Serialize;

use super::text::{self, EntryView, PathView, escaped_path};
use super::{BrowseError, Entries, write_json};
use crate::entry::{Entry, Kind, PathBytes, tree_order};
use crate::repository::Repository;
use crate::restore::select::Selection;
use crate::snapshot::Snapshot;

/// What to compare and how to tell.
#[derive(Clone, Debug, Default)]
pub struct DiffOptions {
    /// Only these and what is below them, without the leading `/`; everything when empty.
    pub paths: Vec<PathBytes>,
    /// One JSON object a line, a summary last.
    pub json: bool,
}

/// How many paths, and the length of their files together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Paths.
    pub paths: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// The differences, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// Only in the second snapshot.
    pub added: Sum,
    /// Only in the first snapshot.
    pub removed: Sum,
    /// Other content, link target or device; bytes of the second.
    pub modified: Sum,
    /// Only mode, owner, time, attributes or the grouping of hard links differ.
    pub metadata: u64,
    /// Of another type.
    pub retyped: u64,
}

impl DiffReport {
    /// Whether there is no difference.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares snapshot `old` with snapshot `new`, both of this repository, by a merge of their trees.
///
/// Contents are compared by their chunk ids: nothing but the trees is read. Each line of text starts with
/// `+` added, `-` removed, `M` modified, `m` metadata or `T` type; the totals come last.
pub fn diff(
    repository: &Repository,
    old: &Snapshot,
    new: &Snapshot,
    options: &DiffOptions,
    out: &mut impl Write,
) -> Result<DiffReport, BrowseError> {
    let mut report = DiffReport::default();
    // The same root is the same tree; only whether the paths exist needs it then.
    if old.tree != new.tree || !options.paths.is_empty() {
        let (index, _) = repository.index_for_reading([old, new])?;
        let selection = Selection { paths: options.paths.clone(), ..Selection::default() };
        let olds = Entries::new(repository, &index, old, selection.clone())?;
        let news = Entries::new(repository, &index, new, selection)?;
        merge(olds, news, |change| {
            report.count(&change);
            if options.json { change.write_json(out) } else { change.write_line(out) }
        })?;
    }
    if options.json {
        write_json(out, &Summary { event: "summary", report })?;
    } else {
        report.write_line(out)?;
    }
    out.flush()?;
    Ok(report)
}

/// A path that differs.
enum Change {
    Added(Entry),
    Removed(Entry),
    Differs { old: Entry, new: Entry, class: Class, fields: Vec<&'static str> },
}

/// How a path differs that both snapshots have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Type,
    Content,
    Metadata,
}

fn merge(
    mut olds: Entries<'_>,
    mut news: Entries<'_>,
    mut tell: impl FnMut(Change) -> Result<(), BrowseError>,
) -> Result<(), BrowseError> {
    let (mut old, mut new) = (olds.next()?, news.next()?);
    loop {
        let order = match (&old, &new) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => tree_order(&old.path, &new.path),
        };
        let first = if order.is_le() { std::mem::replace(&mut old, olds.next()?) } else { None };
        let second = if order.is_ge() { std::mem::replace(&mut new, news.next()?) } else { None };
        match (first, second) {
            (Some(old), None) => tell(Change::Removed(old))?,
            (None, Some(new)) => tell(Change::Added(new))?,
            (Some(old), Some(new)) => {
                if let Some((class, fields)) = compare(&old, &new) {
                    tell(Change::Differs { old, new, class, fields })?;
                }
            }
            (None, None) => break,
        }
    }
    // Nothing is wrong with a path that only one of them has.
    let either = olds.found.iter().zip(&news.found).map(|(old, new)| *old || *new).collect();
    Entries { found: either, ..olds }.complete()
}

/// How two entries of one path differ, and in which fields of their metadata.
pub(super) fn compare(old: &Entry, new: &Entry) -> Option<(Class, Vec<&'static str>)> {
    let fields = [
        ("mode", old.mode != new.mode),
        ("uid", old.uid != new.uid),
        ("gid", old.gid != new.gid),
        ("mtime", old.mtime != new.mtime),
        ("xattrs", old.xattrs != new.xattrs),
        ("hardlink_of", old.hardlink_of != new.hardlink_of),
    ];
    let fields: Vec<_> =
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    let same_content = match (&old.kind, &new.kind) {
        (Kind::File(old), Kind::File(new)) => old.size == new.size && old.extents == new.extents,
        (old, new) => old == new,
    };
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        Some((Class::Type, fields))
    } else if !same_content {
        Some((Class::Content, fields))
    } else if fields.is_empty() {
        None
    } else {
        Some((Class::Metadata, fields))
    }
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    #[serde(flatten)]
    report: DiffReport,
}

#[derive(Serialize)]
struct View {
    change: &'static str,
    #[serde(flatten)]
    path: PathView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<EntryView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<EntryView>,
}

impl Change {
    fn path(&self) -> &[u8] {
        match self {
            Self::Added(entry) | Self::Removed(entry) | Self::Differs { new: entry, .. } => {
                &entry.path
            }
        }
    }

    fn write_json(&self, out: &mut impl Write) -> Result<(), BrowseError> {
        let (change, fields, old, new) = match self {
            Self::Added(new) => ("added", Vec::new(), None, Some(new)),
            Self::Removed(old) => ("removed", Vec::new(), Some(old), None),
            Self::Differs { old, new, class, fields } => {
                let change = match class {
                    Class::Type => "type",
                    Class::Content => "modified",
                    Class::Metadata => "metadata",
                };
                (change, fields.clone(), Some(old), Some(new))
            }
        };
        let (old, new) = (old.map(EntryView::from), new.map(EntryView::from));
        write_json(out, &View { change, path: PathView::new(self.path()), fields, old, new })
    }

    fn write_line(&self, out: &mut impl Write) -> Result<(), BrowseError> {
        let path = escaped_path(self.path());
        match self {
            Self::Added(new) => write!(out, "+ {path}{}", size_of(new))?,
            Self::Removed(old) => write!(out, "- {path}{}", size_of(old))?,
            Self::Differs { old, new, class: Class::Type, .. } => {
                write!(out, "T {path}  {} → {}", text::kind(&old.kind), text::kind(&new.kind))?;
            }
            Self::Differs { old, new, class: Class::Content, .. } => match old.kind {
                Kind::File(_) => {
                    let (old, new) = (bytes(old.size()), bytes(new.size()));
                    write!(out, "M {path}  {old} → {new}")?;
                }
                _ => write!(out, "M {path}")?,
            },
            Self::Differs { class: Class::Metadata, fields, .. } => {
                write!(out, "m {path}  {}", fields.join(", "))?;
            }
        }
        Ok(writeln!(out)?)
    }
}

fn size_of(entry: &Entry) -> String {
    match entry.kind {
        Kind::File(_) => format!("  {}", bytes(entry.size())),
        _ => String::new(),
    }
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.paths += 1;
        // Further names of a file take no space.
        if entry.hardlink_of.is_none() {
            self.bytes = self.bytes.saturating_add(entry.size());
        }
    }
}

impl DiffReport {
    fn count(&mut self, change: &Change) {
        match change {
            Change::Added(new) => self.added.add(new),
            Change::Removed(old) => self.removed.add(old),
            Change::Differs { new, class: Class::Content, .. } => self.modified.add(new),
            Change::Differs { class: Class::Metadata, .. } => self.metadata += 1,
            Change::Differs { class: Class::Type, .. } => self.retyped += 1,
        }
    }

    fn write_line(&self, out: &mut impl Write) -> Result<(), BrowseError> {
        if self.is_equal() {
            return Ok(writeln!(out, "no differences")?);
        }
        let with_size = |sum: Sum| format!("{} ({})", sum.paths, bytes(sum.bytes));
        let (added, removed) = (with_size(self.added), with_size(self.removed));
        let modified = with_size(self.modified);
        let (metadata, retyped) = (self.metadata, self.retyped);
        Ok(writeln!(
            out,
            "{added} added, {removed} removed, {modified} modified, {metadata} with other metadata, {retyped} of another type"
        )?)
    }
}
