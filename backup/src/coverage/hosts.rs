//! Which snapshots of a repository are of this host (pure).
//!
//! A repository may have those of many hosts, and a snapshot tells only the name of the machine or container that made it.
//! A throw-away container is called by its id, and two machines may have one name. So a name counts only where it is one
//! that this host goes by. Ids of containers and of anonymous volumes are random, and tell where a name tells nothing; a
//! machine that was cloned has them too, so they do not make another machine's name ours.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::inventory::Known;
use crate::machine::Boot;
use crate::snapshot::{Snapshot, SourceContainer};

#[cfg(test)]
mod tests;

/// Digits of container ids as host names, and whole.
const ID_DIGITS: [usize; 2] = [12, 64];

/// Whose a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host's.
    This,
    /// Another's, of this name.
    Other(String),
    /// Nobody can say, and why: the end of a sentence.
    Unknown(String),
}

/// The names this host goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// They.
    pub names: BTreeSet<String>,
    /// What the machine calls itself.
    pub machine: BTreeSet<String>,
    /// All snapshots are this host's, whatever they say.
    pub any: bool,
}

/// What tells snapshots of this host from others.
#[derive(Debug)]
pub struct Judge<'a> {
    hosts: &'a Hosts,
    containers: &'a [Known],
    /// Names that two machines use, and how that is known.
    doubtful: BTreeMap<String, String>,
    /// The boot of this machine: what was made elsewhere meanwhile is not ours, whatever it is called.
    boot: Option<Boot>,
    now: Timestamp,
}

/// Whether a host name tells one machine from another: that of a container by default does not, and that of every machine
/// does not either.
#[must_use]
pub fn is_telling(name: &str) -> bool {
    let is_id = ID_DIGITS.contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    !(name.is_empty() || is_id || name == "localhost" || name.starts_with("localhost."))
}

impl Hosts {
    /// Those that were `named`; without any, those of `found` that tell one machine from another.
    #[must_use]
    pub fn new(named: &[String], found: impl IntoIterator<Item = String>, any: bool) -> Self {
        let machine: BTreeSet<_> = found.into_iter().filter(|name| is_telling(name)).collect();
        // A variable that is set to nothing names none.
        let named: BTreeSet<_> = named.iter().filter(|name| !name.is_empty()).cloned().collect();
        let names = if named.is_empty() { machine.clone() } else { named };
        Self { names, machine, any }
    }
}

impl<'a> Judge<'a> {
    /// One who knows the containers of this host and all snapshots.
    #[must_use]
    pub fn new<'s>(
        hosts: &'a Hosts,
        containers: &'a [Known],
        snapshots: impl IntoIterator<Item = &'s Snapshot>,
        now: Timestamp,
    ) -> Self {
        let mut judge = Self { hosts, containers, doubtful: BTreeMap::new(), boot: None, now };
        let mut snapshots: Vec<_> = snapshots
            .into_iter()
            .filter(|snapshot| hosts.names.contains(&snapshot.host) && snapshot.time <= now)
            .collect();
        snapshots.sort_by_key(|snapshot| snapshot.time);
        // The id that a container of some host and name has now, and those it had before.
        let mut current: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut before: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
        // Whether the newest of some host and name is not ours. An older one may be from before ours got its name.
        let mut foreign: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for snapshot in snapshots {
            for container in recorded(snapshot) {
                let (host, name) = (snapshot.host.as_str(), container.name.as_str());
                let id = container.id.as_str();
                let replaced = current.insert((host, name), id).filter(|last| *last != id);
                before.extend(replaced.map(|last| (host, name, last)));
                if before.contains(&(host, name, id)) {
                    judge.doubt(host, format!("two containers called {name} take turns in it"));
                }
                foreign.insert((host, name), judge.contradicts(container, snapshot.time));
            }
        }
        for ((host, name), _) in foreign.into_iter().filter(|(_, is_foreign)| *is_foreign) {
            judge.doubt(
                host,
                format!(
                    "its newest container called {name} is not the one that ran here then (if ours got that name later, its \
                     next snapshot settles it)"
                ),
            );
        }
        judge
    }

    /// The same with the boot of this machine.
    #[must_use]
    pub fn during(self, boot: Option<Boot>) -> Self {
        Self { boot, ..self }
    }

    fn is_elsewhere(&self, snapshot: &Snapshot) -> bool {
        let boot = self.boot.as_ref().filter(|_| !self.hosts.any);
        boot.is_some_and(|boot| boot.is_elsewhere(snapshot.time, &snapshot.tags, self.now))
    }

    fn doubt(&mut self, host: &str, reason: String) {
        self.doubtful.entry(host.to_owned()).or_insert(reason);
    }

    /// Whether a container of this host had this name at that time, and was another one: an engine gives a name once.
    fn contradicts(&self, container: &SourceContainer, time: Timestamp) -> bool {
        self.containers.iter().any(|known| {
            known.identity.name == container.name
                && known.identity.id != container.id
                && known.started.is_some_and(|started| started < time)
        })
    }

    fn is_here(&self, container: &SourceContainer) -> bool {
        self.containers.iter().any(|known| known.identity.id == container.id)
    }

    /// Whether a host name is the one that this machine has itself.
    #[must_use]
    pub fn is_machine(&self, host: &str) -> bool {
        self.hosts.machine.contains(host)
    }

    /// Whose it is.
    #[must_use]
    pub fn origin(&self, snapshot: &Snapshot) -> Origin {
        let host = &snapshot.host;
        if self.is_elsewhere(snapshot) {
            return Origin::Other(host.clone());
        }
        if let Some(container) = recorded(snapshot).find(|container| self.is_here(container)) {
            return self.origin_by_id(snapshot, &format!("the container {}", container.name));
        }
        let is_contradicted = snapshot.time <= self.now
            && recorded(snapshot).any(|container| self.contradicts(container, snapshot.time));
        if is_contradicted {
            return Origin::Other(host.clone());
        }
        if self.hosts.any {
            return Origin::This;
        }
        if let Some(reason) = self.doubtful.get(host) {
            return Origin::Unknown(format!(
                "two machines save under the host name {host}, since {reason}: give each its own with `--host`"
            ));
        }
        if self.hosts.names.contains(host) {
            return Origin::This;
        }
        if is_telling(host) {
            return Origin::Other(host.clone());
        }
        Origin::Unknown(format!(
            "its host name {host:?} is no machine's: give the backups `--host`, or say `--any-host` if only this host \
             saves there"
        ))
    }

    /// Whose it is where it has something of this host, `what`, by a random id. A clone of another machine has that
    /// machine's ids.
    #[must_use]
    pub fn origin_by_id(&self, snapshot: &Snapshot, what: &str) -> Origin {
        let host = &snapshot.host;
        if self.is_elsewhere(snapshot) {
            return Origin::Other(host.clone());
        }
        if self.hosts.any || self.hosts.names.contains(host) || !is_telling(host) {
            return Origin::This;
        }
        Origin::Unknown(format!(
            "{what} of it is here, but it was saved under the host name {host}, as on a machine that this one is a clone \
             of: say `--host {host}` if that is this machine"
        ))
    }

    /// Host names that two machines use, and how that is known.
    #[must_use]
    pub fn doubtful(&self) -> &BTreeMap<String, String> {
        &self.doubtful
    }
}

/// The containers that a snapshot tells of.
fn recorded(snapshot: &Snapshot) -> impl Iterator<Item = &SourceContainer> {
    let of_dumps = snapshot.dumps.iter().filter_map(|dump| dump.container.as_ref());
    snapshot.container.iter().chain(of_dumps)
}
