//! What came back, what did not, and what it was made of: for people and as JSON.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Amount, Choice, DumpPick, Pick, Step};
use crate::browse::text::{escaped, instant};
use crate::text;

#[cfg(test)]
mod tests;

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A dry run: it can be done.
    Possible,
    /// It is back.
    Restored,
    /// It is back, with warnings that were told.
    WithWarnings,
    /// It is not, or not all of it.
    Failed,
    /// Nothing was done to it.
    Untouched,
}

/// Something that was to come back.
#[derive(Clone, Debug)]
pub struct Restored<T> {
    /// It.
    pub what: T,
    /// How much it is.
    pub amount: Amount,
    /// How it ended.
    pub outcome: Outcome,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The Compose project.
    pub project: String,
    /// How it was then.
    pub as_of: Timestamp,
    /// Nothing was to be written.
    pub dry_run: bool,
    /// What was chosen.
    pub choice: Choice,
    /// The volumes, unless dumps were asked for.
    pub volumes: Vec<Restored<Step>>,
    /// The dumps and the containers that take them, where they were asked for.
    pub dumps: Vec<Restored<(DumpPick, String)>>,
    /// The dumps were asked for, and not the volumes.
    pub is_of_dumps: bool,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Possible => "would restore",
            Self::Restored => "restored",
            Self::WithWarnings => "restored, with warnings,",
            Self::Failed => "NOT WHOLE:",
            Self::Untouched => "not begun:",
        }
    }

    fn key(&self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Restored => "restored",
            Self::WithWarnings => "warnings",
            Self::Failed => "failed",
            Self::Untouched => "untouched",
        }
    }
}

impl Answer {
    /// Whether something of the project is not back and has a reason beside a failure.
    #[must_use]
    pub fn has_left(&self) -> bool {
        !self.choice.left.is_empty() || (!self.is_of_dumps && !self.choice.dumps.is_empty())
    }

    /// What brings back a dump that was not asked for.
    fn way(&self, dump: &DumpPick) -> String {
        format!(
            "start the service {}, then the same command with --dumps; or `backup restore {} --source {} --into CONTAINER`",
            dump.service,
            dump.from.id.short(),
            dump.record.path
        )
    }
}

/// Some lines, the last one about all of it.
pub fn write_text(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let mut line = |text: String| writeln!(out, "{}", escaped(text.as_bytes()));
    for Restored { what, amount, outcome } in &answer.volumes {
        line(format!(
            "{} the volume {}: {} files, {} from {}{}",
            outcome.word(),
            what.target,
            text::count(amount.files),
            text::bytes(amount.bytes),
            from(&what.pick.from),
            made_with(what)
        ))?;
    }
    for Restored { what: (dump, container), amount, outcome } in &answer.dumps {
        line(format!(
            "{} the dump of {} ({}) into {container}: {} from {}",
            outcome.word(),
            dump.container,
            dump.record.kind,
            text::bytes(amount.bytes),
            from(&dump.from)
        ))?;
    }
    if !answer.is_of_dumps {
        for dump in &answer.choice.dumps {
            line(format!(
                "left: the dump of {} ({}) in {}: {}",
                dump.container,
                dump.record.kind,
                from(&dump.from),
                answer.way(dump)
            ))?;
        }
    }
    for left in &answer.choice.left {
        line(format!("left: {}: {}", left.what, left.reason))?;
    }
    for note in &answer.choice.notes {
        line(format!("note: {note}"))?;
    }
    if let Some(at) = &answer.choice.stack {
        line(format!("the project at {}, as snapshot {} tells:", instant(at.time), at.id.short()))?;
        for service in &at.stack.services {
            let digests = at.images.get(&service.image_id).map(|digests| digests.join(", "));
            line(format!(
                "  service {}: container {}, image {} ({}), {}",
                service.service,
                service.container,
                service.image,
                service.image_id,
                digests.unwrap_or_else(|| "in no registry that is known".to_owned())
            ))?;
        }
        match at.stack.files.as_slice() {
            [] => line("  its Compose files are not known".to_owned())?,
            files => line(format!("  Compose files: {}", files.join(", ")))?,
        }
        if let Some(directory) = &at.stack.directory {
            line(format!("  directory: {directory}"))?;
        }
    }
    let count = |wanted: &[Outcome]| {
        let volumes = answer.volumes.iter().map(|volume| &volume.outcome);
        let dumps = answer.dumps.iter().map(|dump| &dump.outcome);
        volumes.chain(dumps).filter(|outcome| wanted.contains(outcome)).count()
    };
    let noun = if answer.is_of_dumps { "dumps" } else { "volumes" };
    let (project, as_of) = (&answer.project, instant(answer.as_of));
    if answer.dry_run {
        let count = count(&[Outcome::Possible]);
        return line(format!(
            "dry run of {project} as of {as_of}: {count} {noun} would be restored; nothing was changed"
        ));
    }
    let done = count(&[Outcome::Restored, Outcome::WithWarnings]);
    let not = count(&[Outcome::Failed, Outcome::Untouched]);
    let missing = if not == 0 { String::new() } else { format!(", {not} were not") };
    line(format!("{project} as of {as_of}: {done} {noun} were restored{missing}"))
}

/// One JSON document in a line.
pub fn write_json(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let volumes = answer.volumes.iter().map(|Restored { what, amount, outcome }| {
        json!({
            "volume": what.pick.recorded.name, "target": what.target, "existed": what.exists,
            "driver": what.pick.recorded.driver, "options": what.pick.recorded.options,
            "snapshot": snapshot(&what.pick.from), "source": what.pick.path,
            "files": amount.files, "bytes": amount.bytes, "outcome": outcome.key(),
        })
    });
    let dumps = answer.dumps.iter().map(|Restored { what: (dump, container), amount, outcome }| {
        json!({
            "container": dump.container, "service": dump.service, "kind": dump.record.kind,
            "snapshot": snapshot(&dump.from), "source": dump.record.path, "into": container,
            "bytes": amount.bytes, "outcome": outcome.key(),
        })
    });
    let unasked = answer.choice.dumps.iter().filter(|_| !answer.is_of_dumps).map(|dump| {
        json!({
            "container": dump.container, "service": dump.service, "kind": dump.record.kind,
            "snapshot": snapshot(&dump.from), "source": dump.record.path, "reason": answer.way(dump),
        })
    });
    let left = answer.choice.left.iter();
    let left = left.map(|left| json!({"what": left.what, "reason": left.reason}));
    let stack = answer.choice.stack.as_ref().map(|at| {
        json!({
            "snapshot": at.id.to_string(), "time": at.time, "directory": at.stack.directory,
            "files": at.stack.files,
            "services": at.stack.services.iter().map(|service| json!({
                "service": service.service, "container": service.container, "image": service.image,
                "image_id": service.image_id, "digests": at.images.get(&service.image_id),
                "volumes": service.volumes,
            })).collect::<Vec<_>>(),
        })
    });
    let document = json!({
        "event": "summary", "project": answer.project, "as_of": answer.as_of, "dry_run": answer.dry_run,
        "volumes": volumes.collect::<Vec<_>>(), "dumps": dumps.collect::<Vec<_>>(),
        "dumps_left": unasked.collect::<Vec<_>>(), "left": left.collect::<Vec<_>>(),
        "notes": answer.choice.notes, "stack": stack,
    });
    writeln!(out, "{document}")
}

fn from(pick: &Pick) -> String {
    format!("{} of {}", pick.id.short(), instant(pick.time))
}

/// The options of a volume that is made as it was: they may lead to any place of the host.
fn made_with(step: &Step) -> String {
    let recorded = &step.pick.recorded;
    if step.exists || step.target != recorded.name || recorded.options.is_empty() {
        return String::new();
    }
    let options: Vec<_> =
        recorded.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(", made with {}", options.join(" "))
}

fn snapshot(pick: &Pick) -> Value {
    json!({"id": pick.id.to_string(), "name": pick.name, "time": pick.time})
}
