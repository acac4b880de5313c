//! What a prune did, for people and for machines.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::{PruneReport, Repacking, Sum};
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
    write_young(report, out)?;
    say(out, "marked before, but needed by a snapshot: they stay", report.kept)?;
    say(out, "marked before and due, but locked: they stay until their locks end", report.held)?;
    if let Some(ends) = report.next_unlocked.and_then(timestamp) {
        writeln!(out, "the first of these locks ends at {}", instant(ends))?;
    }
    write_swept(report, out)?;
    write_repacked(report, out)?;
    write_damaged(report, out)?;
    if report.runs > 0 {
        writeln!(
            out,
            "{} backups are at work for long: what was marked since they began waits for them",
            report.runs
        )?;
    }
    let acted = [
        report.deleted,
        report.marked,
        report.waiting,
        report.young.packs,
        report.repacked,
        report.held,
    ];
    if acted.iter().all(|sum| sum.packs == 0) {
        writeln!(out, "nothing to prune")?;
    }
    Ok(())
}

fn write_young(report: &PruneReport, out: &mut impl Write) -> io::Result<()> {
    let young = report.young;
    if young.packs.packs == 0 {
        return Ok(());
    }
    write!(
        out,
        "{} in {} packs that no snapshot needs are too young to go",
        bytes(young.packs.bytes),
        young.packs.packs
    )?;
    let times = young.marked_from.and_then(timestamp).zip(young.deleted_from.and_then(timestamp));
    match times {
        Some((marked, deleted)) => writeln!(
            out,
            ": a prune from {} on marks the first of them, and one from {} on can delete it",
            instant(marked),
            instant(deleted)
        ),
        None => writeln!(out),
    }
}

fn write_swept(report: &PruneReport, out: &mut impl Write) -> io::Result<()> {
    let swept = report.swept;
    if swept.removed > 0 {
        let size = bytes(swept.removed_bytes);
        writeln!(out, "{size} in {} old versions of what is gone were removed", swept.removed)?;
    }
    if swept.held > 0 {
        let size = bytes(swept.held_bytes);
        writeln!(out, "{size} in {} old versions of what is gone are still locked", swept.held)?;
    }
    if swept.written_over > 0 {
        writeln!(
            out,
            "{} packs were written over since they were stored, and somebody may have done that who means ill: `backup check \
             --read-data` tells whether they are good, `backup undelete` brings back what was there before",
            swept.written_over
        )?;
    }
    let refused = report.refused + swept.refused;
    if refused > 0 {
        writeln!(
            out,
            "the store did not let {refused} objects or old versions go: they are locked by others than this program, or the key \
             lacks s3:GetObjectVersion or s3:DeleteObjectVersion; the next prune tries again"
        )?;
    }
    Ok(())
}

fn write_damaged(report: &PruneReport, out: &mut impl Write) -> io::Result<()> {
    if report.unread > 0 {
        writeln!(
            out,
            "{} snapshots have trees that cannot be read, and what they need was left where it is: run `backup check --read-data`",
            report.unread
        )?;
    }
    if report.damaged > 0 {
        writeln!(
            out,
            "{} packs were left as they are, because something in them is damaged: run `backup check --read-data`",
            report.damaged
        )?;
    }
    if report.damaged_indexes > 0 {
        writeln!(
            out,
            "{} index objects cannot be read and were left: run `backup check`",
            report.damaged_indexes
        )?;
    }
    Ok(())
}

fn write_repacked(report: &PruneReport, out: &mut impl Write) -> io::Result<()> {
    match report.repacking {
        Repacking::Off => return Ok(()),
        Repacking::NoIdentity => {
            return writeln!(
                out,
                "packs of which only a part is needed were not looked for, which needs the private key: give --identity FILE"
            );
        }
        Repacking::NoKeyFile => {
            return writeln!(
                out,
                "packs of which only a part is needed were not looked for, which needs the key file: give --key-file FILE"
            );
        }
        Repacking::OtherIdentity => {
            return writeln!(
                out,
                "packs of which only a part is needed were not looked for: the private key that was given is that of nobody for whom \
                 content is encrypted now; give that of one of its recipients, which `backup key list` shows"
            );
        }
        Repacking::Done => {}
    }
    writeln!(out, "{} in needed packs are of no use", bytes(report.unused))?;
    if report.repacked.packs > 0 {
        let (old, new) = (report.repacked, report.rewritten);
        let verb = if report.dry_run { "would be" } else { "were" };
        writeln!(
            out,
            "{} in {} packs {verb} stored anew as {}: {} come back when the grace has passed twice",
            bytes(old.bytes),
            old.packs,
            bytes(new.bytes),
            bytes(old.bytes.saturating_sub(new.bytes))
        )?;
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
    young_packs: u64,
    young_bytes: u64,
    young_marked_from: Option<jiff::Timestamp>,
    young_deleted_from: Option<jiff::Timestamp>,
    running_backups: usize,
    indexes_rewritten: u64,
    repacking: Repacking,
    unused_bytes: u64,
    repacked_packs: u64,
    repacked_bytes: u64,
    rewritten_packs: u64,
    rewritten_bytes: u64,
    damaged_packs: u64,
    damaged_indexes: u64,
    unread_snapshots: u64,
    held_packs: u64,
    held_bytes: u64,
    next_unlocked: Option<jiff::Timestamp>,
    refused_objects: u64,
    removed_versions: u64,
    removed_version_bytes: u64,
    held_versions: u64,
    held_version_bytes: u64,
    packs_written_over: u64,
    unlisted_folders: u64,
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
        young_packs: report.young.packs.packs,
        young_bytes: report.young.packs.bytes,
        young_marked_from: report.young.marked_from.and_then(timestamp),
        young_deleted_from: report.young.deleted_from.and_then(timestamp),
        running_backups: report.runs,
        indexes_rewritten: report.indexes_rewritten,
        repacking: report.repacking,
        unused_bytes: report.unused,
        repacked_packs: report.repacked.packs,
        repacked_bytes: report.repacked.bytes,
        rewritten_packs: report.rewritten.packs,
        rewritten_bytes: report.rewritten.bytes,
        damaged_packs: report.damaged,
        damaged_indexes: report.damaged_indexes,
        unread_snapshots: report.unread,
        held_packs: report.held.packs,
        held_bytes: report.held.bytes,
        next_unlocked: report.next_unlocked.and_then(timestamp),
        refused_objects: report.refused + report.swept.refused,
        removed_versions: report.swept.removed,
        removed_version_bytes: report.swept.removed_bytes,
        held_versions: report.swept.held,
        held_version_bytes: report.swept.held_bytes,
        packs_written_over: report.swept.written_over,
        unlisted_folders: report.swept.unlisted,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
