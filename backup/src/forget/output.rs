//! What a `forget` decided, for people and for machines.

use std::io::{self, Write};

use serde::Serialize;

use super::ForgetReport;
use super::decide::{Reason, SourceVerdict, Standing, Verdict};
use crate::browse::text::{escaped, instant};
use crate::snapshot::{Snapshot, SnapshotName, State};
use crate::text::bytes;

/// Writes the report: what becomes of each snapshot, source by source, and the sum.
pub fn write_text(report: &ForgetReport, out: &mut impl Write) -> io::Result<()> {
    for source in &report.sources {
        write_source(report, source, out)?;
    }
    if report.sources.is_empty() {
        report.gone.iter().try_for_each(|name| writeln!(out, "{}  goes", name.id.short()))?;
    }
    let (gone, stay) = (report.gone.len(), report.snapshots.len());
    let verb = if report.dry_run { "would be forgotten" } else { "forgotten" };
    let stay = stay.saturating_sub(report.gone_readable());
    writeln!(out, "{gone} snapshots {verb}, {stay} stay")
}

fn write_source(
    report: &ForgetReport,
    source: &SourceVerdict,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(out, "{}", escaped(source.name.as_bytes()))?;
    if let Some(host) = &source.host {
        write!(out, " of {}", escaped(host.as_bytes()))?;
    }
    writeln!(out)?;
    if let Some(frozen) = &source.frozen {
        writeln!(out, "  frozen, nothing of it goes: {frozen}")?;
    }
    for (verdict, name, snapshot, standing) in report.members(source) {
        writeln!(
            out,
            "  {}  {}  {:<10}  {:>8}  {}",
            name.id.short(),
            instant(snapshot.time),
            state(snapshot, standing),
            bytes(snapshot.stats.bytes),
            reasons(verdict)
        )?;
    }
    Ok(())
}

/// `complete`, `warnings`, or what keeps it from counting.
fn state(snapshot: &Snapshot, standing: Standing) -> String {
    match standing {
        Standing::Proved => snapshot.state.to_string(),
        other => other.to_string(),
    }
}

fn reasons(verdict: &Verdict) -> String {
    if !verdict.stays() {
        return "goes".to_owned();
    }
    let reasons: Vec<_> = verdict.reasons.iter().map(Reason::to_string).collect();
    format!("stays: {}", reasons.join(", "))
}

impl ForgetReport {
    fn members<'a>(
        &'a self,
        source: &'a SourceVerdict,
    ) -> impl Iterator<Item = (&'a Verdict, &'a SnapshotName, &'a Snapshot, Standing)> {
        source.verdicts.iter().filter_map(|verdict| {
            let (name, snapshot) = self.snapshots.get(verdict.candidate)?;
            let standing = self.standings.get(verdict.candidate)?;
            Some((verdict, name, snapshot, *standing))
        })
    }

    fn gone_readable(&self) -> usize {
        self.snapshots.iter().filter(|(name, _)| self.gone.contains(name)).count()
    }
}

#[derive(Serialize)]
struct SnapshotLine<'a> {
    event: &'static str,
    id: String,
    time: jiff::Timestamp,
    name: &'a str,
    host: &'a str,
    state: State,
    standing: String,
    stays: bool,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct SourceLine<'a> {
    event: &'static str,
    name: &'a str,
    host: Option<&'a str>,
    frozen: Option<String>,
    stay: usize,
    go: usize,
}

#[derive(Serialize)]
struct SummaryLine {
    event: &'static str,
    dry_run: bool,
    forgotten: Vec<String>,
    stay: usize,
    frozen_sources: usize,
}

/// Writes the report as JSON Lines: `snapshot` and `source` events, then one `summary`.
pub fn write_json(report: &ForgetReport, out: &mut impl Write) -> io::Result<()> {
    for source in &report.sources {
        for (verdict, name, snapshot, standing) in report.members(source) {
            line(
                &SnapshotLine {
                    event: "snapshot",
                    id: name.id.to_string(),
                    time: snapshot.time,
                    name: &snapshot.name,
                    host: &snapshot.host,
                    state: snapshot.state,
                    standing: standing.to_string(),
                    stays: verdict.stays(),
                    reasons: verdict.reasons.iter().map(Reason::to_string).collect(),
                },
                out,
            )?;
        }
        let stay = source.verdicts.iter().filter(|verdict| verdict.stays()).count();
        line(
            &SourceLine {
                event: "source",
                name: &source.name,
                host: source.host.as_deref(),
                frozen: source.frozen.as_ref().map(ToString::to_string),
                stay,
                go: source.verdicts.len() - stay,
            },
            out,
        )?;
    }
    line(
        &SummaryLine {
            event: "summary",
            dry_run: report.dry_run,
            forgotten: report.gone.iter().map(|name| name.id.to_string()).collect(),
            stay: report.snapshots.len().saturating_sub(report.gone_readable()),
            frozen_sources: report.frozen(),
        },
        out,
    )
}

fn line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
