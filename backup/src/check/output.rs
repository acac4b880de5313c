//! A check's report for people and for machines.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::{CheckProblem, CheckReport};

/// Bytes of a megabyte, as `prune` and `stats` count it.
const MEGABYTE: f64 = 1e6;

/// Writes the report as lines of text, the verdict last.
pub fn write_text(report: &CheckReport, out: &mut impl Write) -> io::Result<()> {
    for (word, list) in [("damaged", &report.problems), ("warning", &report.warnings)] {
        list.iter().try_for_each(|problem| writeln!(out, "{word}: {}", sentence(problem)))?;
    }
    let listed = report.problems.len() as u64;
    if report.problem_count > listed {
        writeln!(out, "and {} more problems", report.problem_count - listed)?;
    }
    let megabytes = |bytes: u64| bytes as f64 / MEGABYTE;
    writeln!(
        out,
        "{} snapshots with {} paths; {} packs of {:.1} MB, {} of them read ({:.1} MB)",
        report.snapshots,
        report.entries,
        report.packs,
        megabytes(report.pack_bytes),
        report.packs_read,
        megabytes(report.bytes_read)
    )?;
    if report.orphan_packs > 0 {
        writeln!(
            out,
            "{} packs ({:.1} MB) were left by interrupted runs and are needed by nobody",
            report.orphan_packs,
            megabytes(report.orphan_bytes)
        )?;
    }
    if report.marked_packs > 0 {
        writeln!(
            out,
            "{} packs ({:.1} MB) are marked for removal, a prune deletes them",
            report.marked_packs,
            megabytes(report.marked_bytes)
        )?;
    }
    if report.temporary_files > 0 {
        writeln!(
            out,
            "{} temporary files ({:.1} MB) of runs that were killed or are at work",
            report.temporary_files,
            megabytes(report.temporary_bytes)
        )?;
    }
    if report.keyless && report.packs_read > 0 {
        writeln!(
            out,
            "of the packs that were read only whether they are what was stored was looked at: not whether they can be decrypted, \
             nor what is in them"
        )?;
    }
    if report.keyless {
        writeln!(
            out,
            "trees and content were not looked at, which needs the private key: give --identity FILE"
        )?;
    }
    if report.has_closed() {
        writeln!(
            out,
            "{} snapshots, and {} of the packs that were read, are encrypted for others than the private key that was given: what is \
             in them was not looked at",
            report.closed_snapshots, report.closed_packs
        )?;
    }
    match report.problem_count {
        0 => writeln!(out, "no problems found"),
        1 => writeln!(out, "1 problem found"),
        count => writeln!(out, "{count} problems found"),
    }
}

/// Names come from the repository: control characters would reach the terminal.
fn sentence(problem: &CheckProblem) -> String {
    let mut text = problem.object.clone();
    if let Some(snapshot) = problem.snapshot {
        text.push_str(", snapshot ");
        text.push_str(&snapshot.short());
    }
    if let Some(path) = &problem.path {
        text.push_str(", ");
        text.push_str(path);
    }
    text.push_str(": ");
    text.push_str(&problem.problem);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            // Writing to a string cannot fail.
            write!(shown, "{}", character.escape_default()).unwrap_or_default();
        } else {
            shown.push(character);
        }
    }
    shown
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    object: &'a str,
    snapshot: Option<String>,
    path: Option<&'a str>,
    problem: &'a str,
}

impl<'a> ProblemLine<'a> {
    fn new(event: Option<&'static str>, problem: &'a CheckProblem) -> Self {
        Self {
            event,
            object: &problem.object,
            snapshot: problem.snapshot.map(|id| id.to_string()),
            path: problem.path.as_deref(),
            problem: &problem.problem,
        }
    }
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    event: &'static str,
    errors: Vec<ProblemLine<'a>>,
    error_count: u64,
    warnings: Vec<ProblemLine<'a>>,
    warning_count: u64,
    snapshots: u64,
    entries: u64,
    packs: u64,
    pack_bytes: u64,
    packs_read: u64,
    bytes_read: u64,
    orphan_packs: u64,
    orphan_bytes: u64,
    temporary_files: u64,
    temporary_bytes: u64,
    unused_packs: u64,
    marked_packs: u64,
    marked_bytes: u64,
    keyless: bool,
    closed_snapshots: u64,
    closed_packs: u64,
}

/// Writes the report as JSON Lines: `problem` and `warning` events, then one `summary` with all of them.
pub fn write_json(report: &CheckReport, out: &mut impl Write) -> io::Result<()> {
    for (event, list) in [("problem", &report.problems), ("warning", &report.warnings)] {
        for problem in list {
            line(&ProblemLine::new(Some(event), problem), out)?;
        }
    }
    line(
        &SummaryLine {
            event: "summary",
            errors: bare(&report.problems),
            error_count: report.problem_count,
            warnings: bare(&report.warnings),
            warning_count: report.warning_count,
            snapshots: report.snapshots,
            entries: report.entries,
            packs: report.packs,
            pack_bytes: report.pack_bytes,
            packs_read: report.packs_read,
            bytes_read: report.bytes_read,
            orphan_packs: report.orphan_packs,
            orphan_bytes: report.orphan_bytes,
            temporary_files: report.temporary_files,
            temporary_bytes: report.temporary_bytes,
            unused_packs: report.unused_packs,
            marked_packs: report.marked_packs,
            marked_bytes: report.marked_bytes,
            keyless: report.keyless,
            closed_snapshots: report.closed_snapshots,
            closed_packs: report.closed_packs,
        },
        out,
    )
}

fn bare(list: &[CheckProblem]) -> Vec<ProblemLine<'_>> {
    list.iter().map(|problem| ProblemLine::new(None, problem)).collect()
}

fn line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
