//! How well a host is protected, for people and for machines.

use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use super::decide::{By, Row, State};
use super::inventory::What;
use crate::browse::text::escaped;
use crate::drill_record::Outcome;

#[cfg(test)]
mod tests;

/// Version of the JSON document (`docs/backup.md`, "status").
const VERSION: u32 = 1;

/// Columns of a terminal that has been made no wider.
const LINE_CHARS_MAX: usize = 80;

/// Columns of the table; the name takes what is left.
const STATE_CHARS: usize = 11;
const KIND_CHARS: usize = 8;
const AGE_CHARS: usize = 6;
const ID_CHARS: usize = 8;
const GAP: &str = "  ";
const NAME_CHARS: usize =
    LINE_CHARS_MAX - STATE_CHARS - KIND_CHARS - AGE_CHARS - ID_CHARS - 4 * GAP.len();

/// What the lines below a row begin with.
const INDENT: usize = STATE_CHARS + GAP.len();

/// Writes a table, the worst first, with the reasons below each row, then notes and the sum.
pub fn write_text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if !report.rows.is_empty() {
        write_row(["STATE", "KIND", "NAME", "AGE", "SNAPSHOT"].map(str::to_owned), out)?;
    }
    for row in &report.rows {
        let name = escaped(row.name().as_bytes()).to_string();
        let shown = shortened(&name);
        let is_cut = shown != name;
        let proof = row.proof.as_ref();
        let age =
            proof.map_or_else(|| "-".to_owned(), |proof| proof.age.map_or("?".to_owned(), age));
        let id = proof.map_or_else(|| "-".to_owned(), |proof| proof.id.short());
        write_row([row.state.to_string(), kind(row), shown, age, id], out)?;
        if is_cut {
            write_wrapped(&name, INDENT, out)?;
        }
        let mut text = row.reasons.join("; ");
        let is_own_name = row.users.iter().all(|user| user == row.name());
        if !row.state.is_well() && !is_own_name {
            let gap = if text.is_empty() { "" } else { "; " };
            text = format!("{text}{gap}used by {}", row.users.join(", "));
        }
        if !text.is_empty() {
            write_wrapped(&escaped(text.as_bytes()).to_string(), INDENT, out)?;
        }
    }
    for note in report.all_notes() {
        write_wrapped(&format!("note: {}", escaped(note.as_bytes())), 0, out)?;
    }
    write_wrapped(&report.sum(), 0, out)
}

fn write_row(cells: [String; 5], out: &mut impl Write) -> io::Result<()> {
    let [state, kind, name, age, id] = cells;
    let line = format!(
        "{state:<STATE_CHARS$}{GAP}{kind:<KIND_CHARS$}{GAP}{name:<NAME_CHARS$}{GAP}{age:>AGE_CHARS$}{GAP}{id}"
    );
    writeln!(out, "{}", line.trim_end())
}

/// `volume`, `bind`, or which database.
fn kind(row: &Row) -> String {
    match &row.what {
        What::Database { kind: Some(kind), .. } => kind.to_string(),
        What::Database { kind: None, .. } => "database".to_owned(),
        What::Volume { .. } | What::Bind { .. } | What::Mount { .. } => row.kind().to_owned(),
    }
}

/// The beginning and the end of what is too long.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_CHARS {
        return name.to_owned();
    }
    let half = (NAME_CHARS - 1) / 2;
    let head: String = name.chars().take(half).collect();
    let tail: String = name.chars().skip(length - half).collect();
    format!("{head}…{tail}")
}

/// `12 min`, `3 h`, `4 d`.
fn age(age: std::time::Duration) -> String {
    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;
    match age.as_secs() {
        seconds if seconds < HOUR => format!("{} min", seconds / 60),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} d", seconds / DAY),
    }
}

/// Lines of words, each indented. A word that does not fit into a line has one of its own.
fn write_wrapped(text: &str, indent: usize, out: &mut impl Write) -> io::Result<()> {
    let width = LINE_CHARS_MAX - indent;
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > width {
            writeln!(out, "{:indent$}{line}", "")?;
            line.clear();
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word_length;
    }
    writeln!(out, "{:indent$}{line}", "")
}

impl Report {
    /// How many rows are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.rows.iter().filter(|row| row.state == state).count()
    }

    /// The notes, with those about what could not be looked at in front.
    fn all_notes(&self) -> impl Iterator<Item = String> {
        let engine = self.engine_problem.iter().map(|problem| {
            format!(
                "{problem}; so this is only what the snapshots of this host tell, and what was never saved is not in it"
            )
        });
        let unreadable = self.unreadable.iter().map(|(id, problem)| {
            format!("snapshot {} cannot be read and protects nothing: {problem}", id.short())
        });
        let sentences = self.gaps.iter().chain(&self.notes).cloned();
        engine.chain(unreadable).chain(sentences)
    }

    fn sum(&self) -> String {
        let well = self.count(State::Protected);
        let left_out = match self.count(State::LeftOut) {
            0 => String::new(),
            count => format!(", {count} left out"),
        };
        let bad: Vec<_> = State::ALL
            .into_iter()
            .filter(|state| !state.is_well())
            .map(|state| (state, self.count(state)))
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| format!("{count} {}", word(state)))
            .collect();
        let bad = if bad.is_empty() { String::new() } else { format!(", {}", bad.join(", ")) };
        let sources = match self.rows.len() {
            1 => "1 source".to_owned(),
            count => format!("{count} sources"),
        };
        format!("{sources} of data: {well} protected{bad}{left_out}")
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Unprotected => "unprotected",
        State::Unproved => "unproved",
        State::Overdue => "overdue",
        State::Unknown => "unknown",
        State::Protected => "protected",
        State::LeftOut => "left out",
    }
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    time: jiff::Timestamp,
    repository: &'a str,
    max_age_seconds: u64,
    hosts: Vec<&'a str>,
    any_host: bool,
    engine: EngineView<'a>,
    well: bool,
    counts: Counts,
    sources: Vec<RowView<'a>>,
    gaps: &'a [String],
    unreadable: Vec<UnreadableView<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct EngineView<'a> {
    answered: bool,
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct Counts {
    unprotected: usize,
    unproved: usize,
    overdue: usize,
    unknown: usize,
    protected: usize,
    left_out: usize,
}

#[derive(Serialize)]
struct RowView<'a> {
    kind: &'static str,
    name: &'a str,
    database: Option<crate::snapshot::DumpKind>,
    users: &'a [String],
    state: State,
    reasons: &'a [String],
    snapshot: Option<ProofView<'a>>,
}

#[derive(Serialize)]
struct ProofView<'a> {
    id: String,
    name: &'a str,
    host: &'a str,
    time: jiff::Timestamp,
    age_seconds: Option<u64>,
    standing: String,
    drill: Option<Outcome>,
    by: By,
    warning_count: u64,
}

#[derive(Serialize)]
struct UnreadableView<'a> {
    id: String,
    problem: &'a str,
}

/// Writes the report as one JSON document.
pub fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        time: report.time,
        repository: &report.place,
        max_age_seconds: report.age_max.as_secs(),
        hosts: report.hosts.names.iter().map(String::as_str).collect(),
        any_host: report.hosts.any,
        engine: EngineView {
            answered: report.engine_problem.is_none(),
            problem: report.engine_problem.as_deref(),
        },
        well: report.is_well(),
        counts: Counts {
            unprotected: report.count(State::Unprotected),
            unproved: report.count(State::Unproved),
            overdue: report.count(State::Overdue),
            unknown: report.count(State::Unknown),
            protected: report.count(State::Protected),
            left_out: report.count(State::LeftOut),
        },
        sources: report.rows.iter().map(view).collect(),
        gaps: &report.gaps,
        unreadable: report
            .unreadable
            .iter()
            .map(|(id, problem)| UnreadableView { id: id.to_string(), problem })
            .collect(),
        notes: &report.notes,
    };
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn view(row: &Row) -> RowView<'_> {
    RowView {
        kind: row.kind(),
        name: row.name(),
        database: match &row.what {
            What::Database { kind, .. } => *kind,
            What::Volume { .. } | What::Bind { .. } | What::Mount { .. } => None,
        },
        users: &row.users,
        state: row.state,
        reasons: &row.reasons,
        snapshot: row.proof.as_ref().map(|proof| ProofView {
            id: proof.id.to_string(),
            name: &proof.name,
            host: &proof.host,
            time: proof.time,
            age_seconds: proof.age.map(|age| age.as_secs()),
            standing: proof.standing.to_string(),
            drill: proof.drill,
            by: proof.by,
            warning_count: proof.warning_count,
        }),
    }
}
