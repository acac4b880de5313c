//! What a prune did, for people and for machines.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::{PruneReport, Sum};
use crate::browse::text::instant;
use crate::text::bytes;

/// Writes the report as lines of text.
pub fn write_text(report: &PruneReport, out: &mut impl Write) -> io::Result<()> {
    let say = |out: &mut _, what: &str, sum: Sum| -> io::Result<()> {
        if sum.packs == 0 { Ok(()) } else { line(out, &bytes(sum.bytes), sum.packs, what) }
    };
    writeln!(
        out,
        "{} snapshots need {} of {} packs ({} of {})",
        report.snapshots,
        report.needed.packs,
        report.packs.packs,
        bytes(report.needed.bytes),
        bytes(report.packs.bytes)
    )?;
    let (deleted, marked) = if report.dry_run {
        ("would be deleted", "would be marked for removal")
    } else {
        ("deleted", "marked for removal: a later prune deletes them")
    };
    say(out, deleted, report.deleted)?;
    say(out, marked, report.marked)?;
    say(out, "marked before, not due or not within the budget", report.waiting)?;
    if let Some(due) = report.next_due.and_then(timestamp) {
        writeln!(out, "the next ones are due at {}", instant(due))?;
    }
    say(out, "marked before, but needed by a snapshot: they stay", report.kept)?;
    if report.runs > 0 {
        writeln!(
            out,
            "{} backups are at work for long: what was marked since they began waits for them",
            report.runs
        )?;
    }
    if report.deleted.packs + report.marked.packs + report.waiting.packs == 0 {
        writeln!(out, "nothing to prune")?;
    }
    Ok(())
}

fn line(out: &mut impl Write, size: &str, packs: u64, what: &str) -> io::Result<()> {
    writeln!(out, "{size} in {packs} packs {what}")
}

fn timestamp(time: SystemTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(time).ok()
}

#[derive(Serialize)]
struct SummaryLine {
    event: &'static str,
    dry_run: bool,
    snapshots: u64,
    packs: u64,
    pack_bytes: u64,
    needed_packs: u64,
    needed_bytes: u64,
    deleted_packs: u64,
    deleted_bytes: u64,
    marked_packs: u64,
    marked_bytes: u64,
    waiting_packs: u64,
    waiting_bytes: u64,
    kept_packs: u64,
    kept_bytes: u64,
    next_due: Option<jiff::Timestamp>,
    running_backups: usize,
    indexes_rewritten: u64,
}

/// Writes the report as one JSON line.
pub fn write_json(
    report: &PruneReport,
    event: &'static str,
    out: &mut impl Write,
) -> io::Result<()> {
    let line = SummaryLine {
        event,
        dry_run: report.dry_run,
        snapshots: report.snapshots,
        packs: report.packs.packs,
        pack_bytes: report.packs.bytes,
        needed_packs: report.needed.packs,
        needed_bytes: report.needed.bytes,
        deleted_packs: report.deleted.packs,
        deleted_bytes: report.deleted.bytes,
        marked_packs: report.marked.packs,
        marked_bytes: report.marked.bytes,
        waiting_packs: report.waiting.packs,
        waiting_bytes: report.waiting.bytes,
        kept_packs: report.kept.packs,
        kept_bytes: report.kept.bytes,
        next_due: report.next_due.and_then(timestamp),
        running_backups: report.runs,
        indexes_rewritten: report.indexes_rewritten,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
