//! What an operator orders by labels `chores.backup.KEY` of containers and volumes (pure).
//!
//! A container has its image's labels too. Whoever made the image is not the operator, so what a container has from
//! there is no order: nobody's image can take its data out of the backups.

use std::collections::BTreeMap;

use crate::snapshot::DumpKind;

#[cfg(test)]
mod tests;

/// How all of them begin.
pub const PREFIX: &str = "chores.backup.";

/// What may be ordered.
const KEYS: [&str; 2] = ["enable", "dump"];

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

/// What the labels of one container or volume order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Whether its data is to be saved, where that is said.
    pub enable: Option<bool>,
    /// What becomes of its database, where that is said.
    pub dump: Option<DumpOrder>,
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

/// Reads the orders among labels that an operator gave.
#[must_use]
pub fn read(given: &BTreeMap<&str, &str>) -> Orders {
    let mut orders = Orders::default();
    for (label, value) in given {
        let Some(key) = label.strip_prefix(PREFIX) else { continue };
        match key {
            "enable" => match switch(value) {
                Some(enable) => orders.enable = Some(enable),
                None => orders.problems.push(not_one_of(label, value, "true or false")),
            },
            "dump" => match dump_order(value) {
                Some(order) => orders.dump = Some(order),
                None => orders.problems.push(not_one_of(
                    label,
                    value,
                    "false, auto, mysql, postgres, redis, mongo, sqlite or command",
                )),
            },
            key if OWN_KEYS.contains(&key) => {}
            _ => orders.problems.push(format!(
                "the label {label} orders nothing: there are {}",
                KEYS.map(|key| format!("{PREFIX}{key}")).join(", ")
            )),
        }
    }
    orders
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

fn not_one_of(label: &str, value: &str, words: &str) -> String {
    format!("the label {label}={value} orders nothing: write {words}")
}
