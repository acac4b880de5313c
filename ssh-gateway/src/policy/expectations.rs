//! A table of what a policy is expected to say, and whether it does: a test for those who write policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use chores_common::engine::{ContainerState, ListedContainer};
use chores_common::settings::{self, Fault, Item, Table};
use jiff::Timestamp;

use super::Policy;
use super::verdict::{Action, Client, enter};
use crate::authorized_keys::AuthorizedKey;
use crate::login::{self, Login, Resolution, shown};

#[cfg(test)]
mod tests;

/// Most containers, and most expectations, of one table.
pub const ROWS_MAX: usize = 10_000;

/// Where clients come from that an expectation says nothing about.
const PEER_DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A table.
#[derive(Debug)]
pub struct Expectations {
    containers: Vec<ListedContainer>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    line: usize,
    who: String,
    target: Login,
    from: IpAddr,
    at: Option<Timestamp>,
    may: Vec<Action>,
    may_not: Vec<Action>,
    rule: Option<String>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surprise {
    /// The line of the expectation, from 1.
    pub line: usize,
    /// One sentence.
    pub message: String,
}

impl Expectations {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What is not as expected; `now` is the time of those that name none.
    #[must_use]
    pub fn surprises(&self, policy: &Policy, now: Timestamp) -> Vec<Surprise> {
        self.rows.iter().flat_map(|row| row.surprises(policy, &self.containers, now)).collect()
    }
}

impl Row {
    fn surprises(
        &self,
        policy: &Policy,
        containers: &[ListedContainer],
        now: Timestamp,
    ) -> Vec<Surprise> {
        let surprise = |message| Surprise { line: self.line, message };
        // Of a container that is not there everything is forbidden, and a row about it would hold for ever.
        let target = login::resolve(&self.target.selector, containers);
        if !matches!(target, Resolution::One(_)) {
            let reason = login::explain(&self.target.selector, &target).unwrap_or_default();
            return vec![surprise(format!("the table has no one such container: {reason}"))];
        }
        let keys = keys_of(policy, &self.who);
        if keys.is_empty() {
            let who = shown(&self.who);
            return vec![surprise(format!(
                "{who} is no identity, comment or fingerprint of a key"
            ))];
        }
        let mut surprises = Vec::new();
        for lines in &keys {
            let fingerprint = lines.first().map_or("", |key| &key.fingerprint);
            let who = format!("{} with {fingerprint}", shown(&self.who));
            let (target, now) = (&self.target, self.at.unwrap_or(now));
            let client = Client { lines, peer: self.from, now };
            let entered = enter(policy, client, target, containers).map(|(_, access)| access);
            let of = |action: &Action| {
                entered.as_ref().map_err(String::clone).and_then(|access| action.check(access))
            };
            for action in &self.may {
                if let Err(reason) = of(action) {
                    let message = format!("{who} may not {action} in {target}: {reason}");
                    surprises.push(surprise(message));
                }
            }
            for action in &self.may_not {
                if of(action).is_ok() {
                    surprises.push(surprise(format!("{who} may {action} in {target}")));
                }
            }
            let decided = entered.as_ref().map(|access| access.rule().name.as_str());
            if let Some(rule) = &self.rule
                && decided != Ok(rule.as_str())
            {
                let other = decided.map_or("no rule", |other| other);
                surprises
                    .push(surprise(format!("{other} decides for {who} as {target}, not {rule}")));
            }
        }
        surprises
    }
}

/// The keys and authorities of an identity, or those with this fingerprint or comment that are not revoked: the lines
/// of each.
#[must_use]
pub fn keys_of(policy: &Policy, who: &str) -> Vec<Vec<Arc<AuthorizedKey>>> {
    let is_its = |key: &Arc<AuthorizedKey>| {
        key.fingerprint == who
            || match key.owner.as_deref() {
                Some(owner) => owner == who,
                None => key.comment == who,
            }
    };
    let its = policy.keys().grouped().map(|mut lines| {
        lines.retain(is_its);
        lines
    });
    its.filter(|lines| lines.first().is_some_and(|key| !policy.has_revoked(key))).collect()
}

/// Reads the text of a table. All of its faults are told.
pub fn parse(text: &str) -> Result<Expectations, Vec<Fault>> {
    settings::parse(text, expectations)
}

fn expectations(root: &Table<'_>) -> Expectations {
    let mut containers = Vec::new();
    if let Some(item) = root.get("container") {
        for table in few(&item) {
            let Some(container) = container(&table, containers.len()) else { continue };
            let is_same = |other: &ListedContainer| other.name == container.name;
            if containers.iter().any(is_same) {
                table.missing("name", "there is a container of this name already");
            }
            containers.push(container);
        }
    }
    let mut rows = Vec::new();
    match root.get("expect") {
        Some(item) => rows.extend(few(&item).iter().filter_map(row)),
        None => root.missing("expect", "there is no [[expect]], so that nothing is tested"),
    }
    root.end();
    Expectations { containers, rows }
}

fn few<'a>(item: &Item<'a>) -> Vec<Table<'a>> {
    let mut tables = item.tables();
    if tables.len() > ROWS_MAX {
        item.fault(&format!("there are more than {ROWS_MAX}"));
        tables.truncate(ROWS_MAX);
    }
    tables
}

fn container(table: &Table<'_>, number: usize) -> Option<ListedContainer> {
    let name = table.get("name").and_then(|item| item.string());
    if table.get("name").is_none() {
        table.missing("name", "a container needs a name");
    }
    let mut labels = BTreeMap::new();
    if let Some(labelled) = table.get("labels").and_then(|item| item.table()) {
        for (key, item) in labelled.items() {
            let value = item.text("a text", |text| Ok::<_, String>(text.to_owned()));
            labels.extend(value.map(|value| (key.to_owned(), value)));
        }
    }
    if let Some(item) = table.get("compose") {
        let place = item.text("PROJECT~SERVICE", |text| {
            text.split_once('~').ok_or_else(|| format!("{text:?} is no PROJECT~SERVICE"))
        });
        if let Some((project, service)) = place {
            labels.extend(login::compose_labels(project, service));
        }
    }
    table.end();
    Some(ListedContainer {
        // No other id begins as it does.
        id: format!("{number:016x}{}", "0".repeat(48)),
        name: name?,
        image_ref: String::new(),
        labels,
        state: ContainerState::Running,
    })
}

fn row(table: &Table<'_>) -> Option<Row> {
    let who = table.get("who").and_then(|item| item.string());
    let target = table.get("target").and_then(|item| item.text("a login name", Login::parse));
    for (name, message) in [
        ("who", "say who: an identity, or the fingerprint or comment of a key"),
        ("target", "say which container: a login name such as web or shop~web+www-data"),
    ] {
        if table.get(name).is_none() {
            table.missing(name, message);
        }
    }
    let from = table.get("from").and_then(|item| {
        item.text("an address", |text| text.parse().map_err(|_| format!("{text:?} is no address")))
    });
    let at = table.get("at").and_then(|item| {
        item.text("a time", |text| {
            text.parse().map_err(|_| {
                format!("{text:?} is no time: give for example \"2026-11-30T12:00:00Z\"")
            })
        })
    });
    let actions = |name| -> Vec<Action> {
        let item: Option<Item<'_>> = table.get(name);
        let items = item.map(|item| item.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.text("a text", str::parse)).collect()
    };
    let (may, may_not) = (actions("may"), actions("may_not"));
    let rule = table.get("rule").and_then(|item| item.string());
    if may.is_empty() && may_not.is_empty() && rule.is_none() {
        table.missing("may", "nothing is expected: give may, may_not or rule");
    }
    table.end();
    Some(Row {
        line: table.place().line,
        who: who?,
        target: target?,
        from: from.unwrap_or(PEER_DEFAULT),
        at,
        may,
        may_not,
        rule,
    })
}
