//! How a run was doing, for people and for machines.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::browse::text::{escaped, instant};
use crate::serve::report::{JobReport, Report};

/// Writes a table of the jobs, and what is to be said.
pub(super) fn write_text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for job in &report.jobs {
        let state = match (&job.overdue_since, &job.save.last_verdict) {
            (Some(_), _) => "OVERDUE".to_owned(),
            (None, Some(verdict)) => verdict.to_string(),
            (None, None) => "-".to_owned(),
        };
        let text = job.save.last_text.as_deref().unwrap_or("no run is known");
        let name = escaped(job.name.as_bytes());
        writeln!(out, "{name:<30}  {state:<11}  {}", escaped(text.as_bytes()))?;
    }
    write_rest(report, out)
}

/// Writes what is to be said beside the jobs.
fn write_rest(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.jobs.is_empty() {
        writeln!(
            out,
            "nothing is to be saved: no container that runs has the label chores.backup.enable=true, and no [[job]] is configured"
        )?;
    }
    for text in &report.ailments {
        writeln!(out, "not well: {}", escaped(text.as_bytes()))?;
    }
    for text in &report.notes {
        writeln!(out, "note: {}", escaped(text.as_bytes()))?;
    }
    Ok(())
}

/// Writes the report as one line of JSON.
pub(super) fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    line(&summary(report, None), out)
}

/// Writes what would be done for each job.
pub(super) fn write_plan_text<'a>(
    report: &Report,
    orders: impl Iterator<Item = (&'a str, Vec<String>)>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (job, (_, words)) in report.jobs.iter().zip(orders) {
        writeln!(
            out,
            "{}: {}, {}",
            escaped(job.name.as_bytes()),
            job.schedule,
            when(job, report.time)
        )?;
        let words: Vec<_> = words.iter().map(|word| escaped(word.as_bytes()).to_string()).collect();
        writeln!(out, "    backup {}", words.join(" "))?;
    }
    write_rest(report, out)?;
    writeln!(out, "dry run: nothing was done")
}

/// The same as one line of JSON.
pub(super) fn write_plan_json<'a>(
    report: &Report,
    orders: impl Iterator<Item = (&'a str, Vec<String>)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let orders: serde_json::Map<_, _> =
        orders.map(|(name, words)| (name.to_owned(), json!(words))).collect();
    line(&summary(report, Some(orders.into())), out)
}

fn when(job: &JobReport, now: Timestamp) -> String {
    match (&job.waiting, job.save.next) {
        (Some(why), _) => format!("waits: {why}"),
        (None, Some(next)) if next > now => format!("next {}", instant(next)),
        (None, _) => "due now".to_owned(),
    }
}

fn summary(report: &Report, orders: Option<Value>) -> Value {
    let mut value = json!(report);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".to_owned(), json!("summary"));
        fields.insert("dry_run".to_owned(), json!(orders.is_some()));
        fields.extend(orders.map(|orders| ("orders".to_owned(), orders)));
    }
    value
}

fn line(value: &Value, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
