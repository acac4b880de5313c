//! What an operator orders by labels `chores.backup.KEY` of containers and volumes (pure).
//!
//! A container has its image's labels too. Whoever made the image is not the operator, so what a container has from
//! there is no order: nobody's image can take its data out of the backups.

use std::collections::BTreeMap;

use crate::retain::{Retain, RetainError};
use crate::schedule::{Cron, CronError};
use crate::snapshot::DumpKind;

#[cfg(test)]
mod tests;

/// How all of them begin.
pub const PREFIX: &str = "chores.backup.";

/// What may be ordered.
const KEYS: [&str; 10] =
    ["enable", "schedule", "dump", "pause", "stop", "pre", "post", "exclude", "retain", "drill"];

/// Those that are commands: passwords may stand in them, so no value is told.
const COMMANDS: [&str; 2] = ["pre", "post"];

/// What a volume may be given: it is no job by itself.
const KEYS_OF_VOLUMES: [&str; 1] = ["enable"];

/// Containers that one label may name, and patterns.
const LIST_LENGTH_MAX: usize = 64;

/// Longest value of a label, in bytes: a command that is longer belongs into a script.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// How much of a label and of what is wrong with it is told, in characters.
const LABEL_CHARS_MAX: usize = 100;
const PROBLEM_CHARS_MAX: usize = 500;

/// What this program writes on what it makes itself.
const OWN_KEYS: [&str; 6] =
    ["parent", "worker", "run", "guard", "worker-image", "worker-image.build"];

/// What a label may call a database: that its dump is what a command gives, too.
const KINDS: [DumpKind; 6] = [
    DumpKind::Mysql,
    DumpKind::Postgres,
    DumpKind::Redis,
    DumpKind::Mongo,
    DumpKind::Sqlite,
    DumpKind::Command,
];

/// What becomes of the database in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpOrder {
    /// There is none to be dumped.
    No,
    /// There is one, of the kind that is recognised.
    Recognised,
    /// There is one of this kind.
    Kind(DumpKind),
}

/// Which containers hold still while one is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Still {
    /// The one with the label.
    Itself,
    /// These.
    Named(Vec<String>),
}

/// What the labels of one container or volume order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Whether its data is to be saved, where that is said.
    pub enable: Option<bool>,
    /// What becomes of its database, where that is said.
    pub dump: Option<DumpOrder>,
    /// When it is saved.
    pub schedule: Option<Cron>,
    /// Who is paused meanwhile.
    pub pause: Option<Still>,
    /// Who is stopped meanwhile.
    pub stop: Option<Still>,
    /// What `sh -c` runs in it before.
    pub pre: Option<String>,
    /// What `sh -c` runs in it afterwards.
    pub post: Option<String>,
    /// Patterns of paths that are left out.
    pub exclude: Vec<String>,
    /// Which of its snapshots are kept.
    pub retain: Option<Retain>,
    /// When its newest backup is tried.
    pub drill: Option<Cron>,
    /// Labels that order nothing, though they look like it: one sentence each.
    pub problems: Vec<String>,
}

/// The labels that a container has and its image has not. `image` is `None` where nobody can say what it has; then no
/// label is the operator's.
#[must_use]
pub fn given<'l>(
    labels: &'l BTreeMap<String, String>,
    image: Option<&BTreeMap<String, String>>,
) -> BTreeMap<&'l str, &'l str> {
    let Some(image) = image else { return BTreeMap::new() };
    labels
        .iter()
        .filter(|(key, value)| image.get(*key) != Some(*value))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// Reads the orders among labels that an operator gave to a container.
#[must_use]
pub fn read(given: &BTreeMap<&str, &str>) -> Orders {
    let mut orders = Orders::default();
    for (label, value) in given {
        let Some(key) = label.strip_prefix(PREFIX) else { continue };
        let taken = if value.len() > VALUE_BYTES_MAX {
            Err(Some(format!("it is longer than {VALUE_BYTES_MAX} bytes")))
        } else {
            orders.take(key, value)
        };
        if let Err(problem) = taken {
            let (label, value) = (cut(label, LABEL_CHARS_MAX), cut(value, LABEL_CHARS_MAX));
            orders.problems.push(match problem {
                Some(problem) if COMMANDS.contains(&key) => {
                    format!("the label {label} orders nothing: {problem}")
                }
                Some(problem) => {
                    let problem = cut(&problem, PROBLEM_CHARS_MAX);
                    format!("the label {label}={value} orders nothing: {problem}")
                }
                None => format!(
                    "the label {label} orders nothing: there are {}",
                    KEYS.map(|key| format!("{PREFIX}{key}")).join(", ")
                ),
            });
        }
    }
    orders
}

/// Those of a volume, which may only be left out or not.
#[must_use]
pub fn read_of_volume(given: &BTreeMap<&str, &str>) -> Orders {
    let of_containers = |label: &str| {
        let key = label.strip_prefix(PREFIX);
        key.is_some_and(|key| KEYS.contains(&key) && !KEYS_OF_VOLUMES.contains(&key))
    };
    let (strange, own): (BTreeMap<_, _>, _) = given
        .iter()
        .map(|(key, value)| (*key, *value))
        .partition(|(label, _)| of_containers(label));
    let mut orders = read(&own);
    orders.problems.extend(strange.keys().map(|label| {
        format!("the label {label} of a volume orders nothing: give it to a container")
    }));
    orders
}

impl Orders {
    /// Takes one order over; the error says what would be right, or nothing where there is no such key.
    fn take(&mut self, key: &str, value: &str) -> Result<(), Option<String>> {
        match key {
            "enable" => {
                let enable = switch(value).ok_or_else(|| write("true or false"))?;
                self.enable = Some(enable);
            }
            "dump" => {
                let words = "false, auto, mysql, postgres, redis, mongo, sqlite or command";
                self.dump = Some(dump_order(value).ok_or_else(|| write(words))?);
            }
            "schedule" => {
                self.schedule = Some(value.parse().map_err(|error: CronError| told(&error))?);
            }
            "drill" if value == "false" => {}
            "drill" => self.drill = Some(value.parse().map_err(|error: CronError| told(&error))?),
            "retain" => {
                self.retain = Some(value.parse().map_err(|error: RetainError| told(&error))?);
            }
            "pause" => self.pause = still(value)?,
            "stop" => self.stop = still(value)?,
            "pre" => self.pre = Some(command(value)?),
            "post" => self.post = Some(command(value)?),
            "exclude" => self.exclude = list(value)?,
            key if OWN_KEYS.contains(&key) => {}
            _ => return Err(None),
        }
        Ok(())
    }
}

/// So many characters of a text: whoever labels a container may write as much as the engine takes.
fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The second half of a sentence.
fn write(words: &str) -> Option<String> {
    Some(format!("write {words}"))
}

fn told(error: &impl std::error::Error) -> Option<String> {
    Some(error.to_string())
}

fn still(value: &str) -> Result<Option<Still>, Option<String>> {
    match switch(value) {
        Some(true) => Ok(Some(Still::Itself)),
        Some(false) => Ok(None),
        None => list(value).map(|names| Some(Still::Named(names))),
    }
}

fn command(value: &str) -> Result<String, Option<String>> {
    if value.trim().is_empty() { Err(write("a command for `sh -c`")) } else { Ok(value.to_owned()) }
}

/// What commas or ends of lines divide.
fn list(value: &str) -> Result<Vec<String>, Option<String>> {
    let parts: Vec<_> =
        value.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || parts.len() > LIST_LENGTH_MAX {
        return Err(write(&format!(
            "1 to {LIST_LENGTH_MAX} names or patterns with commas between"
        )));
    }
    Ok(parts.into_iter().map(str::to_owned).collect())
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn dump_order(value: &str) -> Option<DumpOrder> {
    match value {
        "false" => Some(DumpOrder::No),
        "true" | "auto" => Some(DumpOrder::Recognised),
        _ => KINDS.into_iter().find(|kind| kind.to_string() == value).map(DumpOrder::Kind),
    }
}
