//! What the lines of a check say (pure).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::drill_record::TABLES_MAX;
use crate::into::run::shown;

#[cfg(test)]
mod tests;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What judged.
    pub(super) checks: Vec<String>,
    /// Where the server keeps its data.
    pub(super) directory: Option<PathBuf>,
    /// Number of tables.
    pub(super) table_count: u64,
    /// Rows of the first tables.
    pub(super) rows: BTreeMap<String, u64>,
    /// What is wrong: one sentence, `None` when nothing is.
    pub(super) problem: Option<String>,
}

/// Reads `directory=PATH`, `rows=NAME=COUNT`, `checked=NAME` and answers as `CHECK TABLE` gives them. Without a word about what judged
/// nothing was checked, and that is a problem.
pub(super) fn read(output: &[u8]) -> Verdict {
    let mut verdict = Verdict::default();
    let text = String::from_utf8_lossy(output);
    for line in text.lines() {
        if let Some((name, count)) = line.strip_prefix("rows=").and_then(|row| row.rsplit_once('='))
        {
            verdict.table_count += 1;
            match count.trim().parse() {
                Ok(count) if verdict.rows.len() < TABLES_MAX => {
                    verdict.rows.insert(shown(name), count);
                }
                Ok(_) => {}
                Err(_) => verdict.object(format!("the rows of {} cannot be counted", shown(name))),
            }
        } else if let Some(directory) = line.strip_prefix("directory=") {
            verdict.directory = Some(PathBuf::from(directory));
        } else if let Some(check) = line.strip_prefix("checked=") {
            verdict.checks.push(shown(check));
        } else if let [table, "check", kind, message] =
            line.split('\t').collect::<Vec<_>>().as_slice()
            && (*kind == "error" || *kind == "status" && !is_fine(message))
        {
            verdict.object(shown(&format!("the table {table} is damaged: {message}")));
        }
    }
    if verdict.checks.is_empty() {
        verdict.object("the check did not come to its end".to_owned());
    }
    verdict
}

/// Tables of some engines have nothing that could be checked.
fn is_fine(message: &str) -> bool {
    matches!(message, "OK" | "Table is already up to date")
}

impl Verdict {
    /// Objects to a server that worked in none of `places`, where the copies are: what it said is of other data.
    pub(super) fn expect_within(&mut self, places: &[&str]) {
        let Some(directory) = self.directory.clone() else {
            return self.object("the server does not say where its data is".to_owned());
        };
        if !places.iter().any(|place| directory.starts_with(place)) {
            let (directory, places) = (directory.display().to_string(), places.join(", "));
            self.object(format!(
                "the server did not look at the copy: its data is in {}, the copy in {places}",
                shown(&directory)
            ));
        }
    }

    fn object(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}
