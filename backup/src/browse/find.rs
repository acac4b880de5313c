//! `find`: where a path occurs, and in which versions.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use chores_common::exit::chain;
use chores_common::progress::size_text;
use serde::Serialize;

use super::text::{self, EntryView, escaped, escaped_path, instant};
use super::{BrowseError, Entries, write_json};
use crate::entry::{Entry, Kind, PathBytes};
use crate::exclude::Exclude;
use crate::index::Index;
use crate::repository::{Repository, RepositoryError};
use crate::restore::select::Selection;
use crate::snapshot::{Selector, Snapshot, SnapshotId, SnapshotName, TreeRoot};
use crate::tree::TreeError;

/// Most versions of all paths together; each takes some 300 bytes.
pub const VERSIONS_MAX: usize = 200_000;

/// What to search for and where.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    /// Globs as `--exclude` has them: `/etc/*.conf` from the root, `*.conf` at every depth.
    pub patterns: Vec<String>,
    /// Only in this snapshot.
    pub snapshot: Option<Selector>,
    /// Only in snapshots of this name.
    pub name: Option<String>,
    /// One JSON object a line.
    pub json: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FindReport {
    /// Different paths; the same path under another snapshot name counts again.
    pub paths: u64,
    /// Different versions of all of them.
    pub versions: u64,
    /// Snapshots that were searched.
    pub snapshots: u64,
    /// Snapshots that could not be searched to their end; their problems are logged.
    pub damaged: u64,
}

/// Searches the snapshots and lists, for each path, its versions from the newest to the oldest. A version
/// that several snapshots of one name hold is listed once.
pub fn find(
    repository: &Repository,
    options: &FindOptions,
    out: &mut impl Write,
) -> Result<FindReport, BrowseError> {
    let patterns = Exclude::new(&options.patterns)?;
    let mut report = FindReport::default();
    let chosen = choose(repository, options, &mut report)?;
    let (index, _) = repository.index_for_reading(chosen.iter().map(|(_, snapshot)| snapshot))?;
    let mut search = Search {
        repository,
        index: &index,
        patterns,
        found: BTreeMap::new(),
        versions: 0,
        last: HashMap::new(),
    };
    for (name, snapshot) in chosen.iter().rev() {
        report.snapshots += 1;
        match search.snapshot(&Held::new(name, snapshot), snapshot) {
            Ok(()) => {}
            Err(BrowseError::Tree(error)) => {
                report.damaged += 1;
                tracing::error!("{}: {}", name.key(), chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
    report.paths = search.found.len() as u64;
    report.versions = search.versions as u64;
    for ((path, name), versions) in &search.found {
        if options.json {
            for version in versions {
                write_json(out, &version.view(name))?;
            }
        } else {
            writeln!(out, "{}  ({})", escaped_path(path), escaped(name.as_bytes()))?;
            versions.iter().try_for_each(|version| version.write_line(out))?;
        }
    }
    out.flush()?;
    Ok(report)
}

/// The snapshots to search, oldest first.
fn choose(
    repository: &Repository,
    options: &FindOptions,
    report: &mut FindReport,
) -> Result<Vec<(SnapshotName, Snapshot)>, RepositoryError> {
    let all = match &options.snapshot {
        Some(selector) => vec![repository.select(selector)?],
        None => {
            let mut readable = Vec::new();
            for (name, read) in repository.snapshots()? {
                match read {
                    Ok(snapshot) => readable.push((name, snapshot)),
                    Err(error) => {
                        report.damaged += 1;
                        tracing::error!("{}", chain(&error));
                    }
                }
            }
            readable
        }
    };
    let fits =
        |snapshot: &Snapshot| options.name.as_ref().is_none_or(|name| *name == snapshot.name);
    Ok(all.into_iter().filter(|(_, snapshot)| fits(snapshot)).collect())
}

/// A snapshot that holds a version.
#[derive(Clone, Debug, Serialize)]
struct Held {
    #[serde(serialize_with = "as_text")]
    id: SnapshotId,
    time: jiff::Timestamp,
}

impl Held {
    fn new(name: &SnapshotName, snapshot: &Snapshot) -> Self {
        Self { id: name.id, time: snapshot.time }
    }
}

fn as_text<S: serde::Serializer>(id: &SnapshotId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// One version of a path.
struct Version {
    /// Its entry without the content.
    entry: Entry,
    /// Hash of all of it, content included.
    identity: blake3::Hash,
    newest: Held,
    oldest: Held,
    snapshots: u64,
}

struct Search<'a> {
    repository: &'a Repository,
    index: &'a Index,
    patterns: Exclude,
    /// By path and name of the snapshot; newest version first.
    found: BTreeMap<(PathBytes, String), Vec<Version>>,
    versions: usize,
    /// By name: the last snapshot that was searched to its end.
    last: HashMap<String, (SnapshotId, TreeRoot)>,
}

impl Search<'_> {
    fn snapshot(&mut self, held: &Held, snapshot: &Snapshot) -> Result<(), BrowseError> {
        if !self.is_same_tree(held, snapshot) {
            self.read(held, snapshot)?;
        }
        self.last.insert(snapshot.name.clone(), (held.id, snapshot.tree.clone()));
        Ok(())
    }

    fn read(&mut self, held: &Held, snapshot: &Snapshot) -> Result<(), BrowseError> {
        let mut entries =
            Entries::new(self.repository, self.index, snapshot, Selection::default())?;
        while let Some(entry) = entries.next()? {
            if self.patterns.matches(&entry.path, entry.kind == Kind::Directory) {
                self.add(entry, held, snapshot)?;
            }
        }
        Ok(())
    }

    /// A quiet volume has the same tree again and again: what was found in it counts once more.
    fn is_same_tree(&mut self, held: &Held, snapshot: &Snapshot) -> bool {
        let Some((newer, tree)) = self.last.get(&snapshot.name) else { return false };
        if *tree != snapshot.tree {
            return false;
        }
        let of_name = self.found.iter_mut().filter(|((_, name), _)| *name == snapshot.name);
        for version in of_name.filter_map(|(_, versions)| versions.last_mut()) {
            if version.oldest.id == *newer {
                version.snapshots += 1;
                version.oldest = held.clone();
            }
        }
        true
    }

    fn add(
        &mut self,
        mut entry: Entry,
        held: &Held,
        snapshot: &Snapshot,
    ) -> Result<(), BrowseError> {
        let mut lines = Vec::new();
        entry.write_lines(&mut lines, |_| ()).map_err(TreeError::Line)?;
        let identity = blake3::hash(&lines);
        if let Kind::File(content) = &mut entry.kind {
            content.extents = Vec::new();
        }
        let versions = self.found.entry((entry.path.clone(), snapshot.name.clone())).or_default();
        if let Some(last) = versions.last_mut().filter(|last| last.identity == identity) {
            last.snapshots += 1;
            last.oldest = held.clone();
            return Ok(());
        }
        self.versions += 1;
        if self.versions > VERSIONS_MAX {
            return Err(BrowseError::TooMany);
        }
        let (newest, oldest) = (held.clone(), held.clone());
        versions.push(Version { entry, identity, newest, oldest, snapshots: 1 });
        Ok(())
    }
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    entry: EntryView,
    name: &'a str,
    snapshots: u64,
    newest: &'a Held,
    oldest: &'a Held,
}

impl Version {
    fn view<'a>(&'a self, name: &'a str) -> View<'a> {
        View {
            entry: EntryView::from(&self.entry),
            name,
            snapshots: self.snapshots,
            newest: &self.newest,
            oldest: &self.oldest,
        }
    }

    fn write_line(&self, out: &mut impl Write) -> Result<(), BrowseError> {
        let what = match &self.entry.kind {
            Kind::File(content) => size_text(content.size),
            kind => text::kind(kind).to_owned(),
        };
        let (mode, mtime) = (text::mode(&self.entry), text::time(self.entry.mtime));
        write!(out, "  {mode} {what:>12} {mtime}  in ")?;
        write!(out, "{} of {}", self.newest.id.short(), instant(self.newest.time))?;
        if self.snapshots > 1 {
            let (first, time) = (self.oldest.id.short(), instant(self.oldest.time));
            write!(out, " and {} more back to {first} of {time}", self.snapshots - 1)?;
        }
        Ok(writeln!(out)?)
    }
}
