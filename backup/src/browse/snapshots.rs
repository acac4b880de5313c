//! `snapshots`: the list of backups.

use std::collections::BTreeMap;
use std::io::Write;

use crate::text::bytes;
use chores_common::exit::chain;
use serde::Serialize;

use super::text::{escaped, instant};
use super::{BrowseError, write_json};
use crate::drill_record::{DrillRecord, Outcome, RecordError, newest};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{
    DumpRecord, Provenance, Snapshot, SnapshotId, SnapshotName, SourceContainer, SourceVolume,
    State, Stats,
};

/// Which snapshots, and how.
#[derive(Clone, Debug, Default)]
pub struct SnapshotsOptions {
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those with all these labels.
    pub tags: BTreeMap<String, String>,
    /// One JSON array.
    pub json: bool,
}

/// What was listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotsReport {
    /// Readable snapshots that fit.
    pub listed: u64,
    /// Snapshot documents that cannot be read; listed whatever was asked for.
    pub damaged: u64,
}

/// Lists the snapshots, oldest first. Damaged ones are in the list: exit code 3 tells of them.
pub fn snapshots(
    repository: &Repository,
    options: &SnapshotsOptions,
    out: &mut impl Write,
) -> Result<SnapshotsReport, BrowseError> {
    let mut all = repository.snapshots()?;
    all.retain(|(_, read)| read.as_ref().map_or(true, |snapshot| options.fits(snapshot)));
    // Names tell whole seconds only; damaged documents keep the place their name gives them.
    all.sort_by_key(|(name, read)| {
        (name.time.clone(), read.as_ref().map_or(jiff::Timestamp::MIN, |snapshot| snapshot.time))
    });
    let damaged = all.iter().filter(|(_, read)| read.is_err()).count() as u64;
    let report = SnapshotsReport { listed: all.len() as u64 - damaged, damaged };
    let drills = newest(repository, all.iter().map(|(name, _)| name.id))?;
    for error in drills.values().filter_map(|drill| drill.as_ref().err()) {
        tracing::warn!("{}", chain(error));
    }
    if options.json {
        let views: Vec<_> = all
            .iter()
            .map(|(name, read)| {
                let drill = drills.get(&name.id).and_then(|drill| drill.as_ref().ok());
                View::new(name, read, drill)
            })
            .collect();
        write_json(out, &views)?;
    } else if !all.is_empty() {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(all.iter().map(|(name, read)| row(name, read, &drills)));
        write_table(out, &rows)?;
    }
    out.flush()?;
    Ok(report)
}

impl SnapshotsOptions {
    fn fits(&self, snapshot: &Snapshot) -> bool {
        self.name.as_ref().is_none_or(|name| *name == snapshot.name)
            && self.tags.iter().all(|(key, value)| snapshot.tags.get(key) == Some(value))
    }
}

const COLUMNS: usize = 8;
const HEADINGS: [&str; COLUMNS] =
    ["ID", "TIME", "NAME", "STATE", "DRILL", "SIZE", "ADDED", "SOURCES"];
/// Sizes are compared by their ends.
const RIGHT_ALIGNED: [bool; COLUMNS] = [false, false, false, false, false, true, true, false];

/// The newest drill of each snapshot.
type Drills = BTreeMap<SnapshotId, Result<DrillRecord, RecordError>>;

/// `good` or `FAILED` and the day; `?` for a record that cannot be read.
fn drilled(drill: Option<&Result<DrillRecord, RecordError>>) -> String {
    match drill {
        None => "-".to_owned(),
        Some(Err(_)) => "?".to_owned(),
        Some(Ok(record)) => {
            let word = match record.outcome {
                Outcome::Good => "good",
                Outcome::Failed => "FAILED",
            };
            format!("{word} {}", record.time.strftime("%Y-%m-%d"))
        }
    }
}

fn row(
    name: &SnapshotName,
    read: &Result<Snapshot, RepositoryError>,
    drills: &Drills,
) -> [String; COLUMNS] {
    let id = name.id.short();
    let snapshot = match read {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let problem = escaped(chain(error).as_bytes()).to_string();
            let none = || "-".to_owned();
            return [
                id,
                time_of(name),
                none(),
                "damaged".to_owned(),
                none(),
                none(),
                none(),
                problem,
            ];
        }
    };
    let sources: Vec<_> = snapshot
        .sources
        .iter()
        .map(|source| match &source.volume {
            Some(volume) if volume.kind == "volume" => {
                format!("{} ({})", escaped(source.path.as_bytes()), escaped(volume.name.as_bytes()))
            }
            _ => escaped(source.path.as_bytes()).to_string(),
        })
        .collect();
    [
        id,
        instant(snapshot.time),
        escaped(snapshot.name.as_bytes()).to_string(),
        if snapshot.suspicious { "suspicious".to_owned() } else { snapshot.state.to_string() },
        drilled(drills.get(&name.id)),
        bytes(snapshot.stats.bytes),
        bytes(snapshot.stats.bytes_stored),
        sources.join(", "),
    ]
}

/// The time in the object's name, in the form of all others where it is one.
fn time_of(name: &SnapshotName) -> String {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &name.time)
        .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
    match time {
        Ok(time) => instant(time.timestamp()),
        Err(_) => escaped(name.time.as_bytes()).to_string(),
    }
}

fn write_table(out: &mut impl Write, rows: &[[String; COLUMNS]]) -> Result<(), BrowseError> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(RIGHT_ALIGNED) {
            let cell = if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A snapshot in JSON: its document without the packs, or its problem.
#[derive(Serialize)]
#[serde(untagged)]
enum View<'a> {
    Readable {
        id: String,
        time: jiff::Timestamp,
        name: &'a str,
        host: &'a str,
        state: State,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        suspicious: bool,
        paths: Vec<&'a str>,
        volumes: Vec<&'a SourceVolume>,
        tags: &'a BTreeMap<String, String>,
        container: Option<&'a SourceContainer>,
        #[serde(skip_serializing_if = "<[DumpRecord]>::is_empty")]
        dumps: &'a [DumpRecord],
        #[serde(skip_serializing_if = "Provenance::is_empty")]
        provenance: &'a Provenance,
        entries: u64,
        stats: &'a Stats,
        warning_count: u64,
        warnings: &'a [String],
        packs: usize,
        program: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        drill: Option<&'a DrillRecord>,
    },
    Damaged {
        id: String,
        time: String,
        state: &'static str,
        error: String,
    },
}

impl<'a> View<'a> {
    fn new(
        name: &SnapshotName,
        read: &'a Result<Snapshot, RepositoryError>,
        drill: Option<&'a DrillRecord>,
    ) -> Self {
        let id = name.id.to_string();
        match read {
            Ok(snapshot) => Self::Readable {
                id,
                time: snapshot.time,
                name: &snapshot.name,
                host: &snapshot.host,
                state: snapshot.state,
                suspicious: snapshot.suspicious,
                paths: snapshot.sources.iter().map(|source| source.path.as_str()).collect(),
                volumes: snapshot.sources.iter().filter_map(|s| s.volume.as_ref()).collect(),
                tags: &snapshot.tags,
                container: snapshot.container.as_ref(),
                dumps: &snapshot.dumps,
                provenance: &snapshot.provenance,
                entries: snapshot.tree.entries,
                stats: &snapshot.stats,
                warning_count: snapshot.warning_count,
                warnings: &snapshot.warnings,
                packs: snapshot.packs.len(),
                program: &snapshot.program,
                drill,
            },
            Err(error) => {
                Self::Damaged { id, time: time_of(name), state: "damaged", error: chain(error) }
            }
        }
    }
}
