//! Which containers there are. The engine tells by events, but drops a listener that is slow and says nothing, so
//! the list is asked for as well: after every connection, and from time to time.

use std::collections::BTreeMap;
use std::time::Duration;

use chores_common::engine::{
    ContainerAction, ContainerEvent, ContainerFilter, ContainerState, Engine, EngineError,
    ListedContainer,
};
use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

#[cfg(test)]
mod tests;

/// How often the list is compared with what the events told.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// Pauses while the engine does not answer: never given up, never in step with others.
const AWAY: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_millis(500), cap: Duration::from_secs(15) };

/// Changes that wait to be looked at, at the most.
pub const CHANGES_MAX: usize = 256;

/// A change of what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A container that was not known, or that has another name.
    Appeared(String),
    /// A run of it began.
    Started(String),
    /// A run of it ended.
    Ended(String),
    /// It is no more.
    Removed(String),
    /// The list was compared: everything that was not told of is as it was.
    Complete,
    /// The engine does not answer.
    Away(String),
}

/// What is known of the containers of an engine.
#[derive(Debug, Default)]
pub struct Known {
    containers: BTreeMap<String, Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    is_running: bool,
}

impl Known {
    /// An event.
    pub fn event(&mut self, event: &ContainerEvent) -> Vec<Change> {
        let id = event.id.clone();
        let known = self.containers.get_mut(&id);
        match (event.action, known) {
            (ContainerAction::Destroy, known) => {
                let was_known = known.is_some();
                self.containers.remove(&id);
                if was_known { vec![Change::Removed(id)] } else { Vec::new() }
            }
            (ContainerAction::Create | ContainerAction::Rename | ContainerAction::Die, None) => {
                self.insert(&id, &event.name, false);
                vec![Change::Appeared(id)]
            }
            (ContainerAction::Start, None) => {
                self.insert(&id, &event.name, true);
                vec![Change::Appeared(id.clone()), Change::Started(id)]
            }
            (ContainerAction::Start, Some(seen)) => {
                seen.is_running = true;
                vec![Change::Started(id)]
            }
            (ContainerAction::Die, Some(seen)) => {
                seen.is_running = false;
                vec![Change::Ended(id)]
            }
            (ContainerAction::Create, Some(_)) => Vec::new(),
            (ContainerAction::Rename, Some(seen)) => {
                seen.name.clone_from(&event.name);
                vec![Change::Appeared(id)]
            }
        }
    }

    /// The whole list, containers that do not run included.
    pub fn list(&mut self, listed: &[ListedContainer]) -> Vec<Change> {
        let mut changes = Vec::new();
        self.containers.retain(|id, _| {
            let is_there = listed.iter().any(|listed| listed.id == *id);
            if !is_there {
                changes.push(Change::Removed(id.clone()));
            }
            is_there
        });
        for listed in listed {
            let is_running = listed.state != ContainerState::NotRunning;
            let id = || listed.id.clone();
            match self.containers.get_mut(&listed.id) {
                None => {
                    self.insert(&listed.id, &listed.name, is_running);
                    changes.push(Change::Appeared(id()));
                    if is_running {
                        changes.push(Change::Started(id()));
                    }
                }
                Some(seen) => {
                    if seen.name != listed.name {
                        seen.name.clone_from(&listed.name);
                        changes.push(Change::Appeared(id()));
                    }
                    if is_running && !seen.is_running {
                        changes.push(Change::Started(id()));
                    }
                    if seen.is_running && !is_running {
                        changes.push(Change::Ended(id()));
                    }
                    seen.is_running = is_running;
                }
            }
        }
        changes.push(Change::Complete);
        changes
    }

    fn insert(&mut self, id: &str, name: &str, is_running: bool) {
        self.containers.insert(id.to_owned(), Seen { name: name.to_owned(), is_running });
    }
}

/// Tells changes until the shutdown, or until nobody listens. An engine that goes away is waited for; what it did
/// meanwhile is told when it is back.
pub async fn follow(host: Option<&str>, changes: mpsc::Sender<Change>, shutdown: Shutdown) {
    let mut known = Known::default();
    let mut failures = 0;
    while !changes.is_closed() {
        let watched = tokio::select! {
            watched = connected(host, &mut known, &mut failures, &changes) => watched,
            () = shutdown.wait() => return,
        };
        let error = match watched {
            Err(Interruption::Engine(error)) => error.to_string(),
            Err(Interruption::EventsEnded) => "the engine sends no events any more".to_owned(),
            Err(Interruption::NobodyListens) | Ok(()) => return,
        };
        failures = failures.saturating_add(1);
        if changes.send(Change::Away(error)).await.is_err() {
            return;
        }
        let random = getrandom::u64().unwrap_or_default();
        let pause = AWAY.pause_after(failures, random).unwrap_or(AWAY.cap);
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.wait() => return,
        }
    }
}

enum Interruption {
    Engine(EngineError),
    EventsEnded,
    NobodyListens,
}

impl From<EngineError> for Interruption {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

async fn tell(changes: &mpsc::Sender<Change>, news: Vec<Change>) -> Result<(), Interruption> {
    for change in news {
        changes.send(change).await.map_err(|_| Interruption::NobodyListens)?;
    }
    Ok(())
}

/// One connection: asks for the events first and lists then. What happens before the engine has begun to tell, or
/// waits while a list is awaited, is in that list, in the events that come after it, or in the next list.
async fn connected(
    host: Option<&str>,
    known: &mut Known,
    failures: &mut u32,
    changes: &mpsc::Sender<Change>,
) -> Result<(), Interruption> {
    let engine = Engine::connect(host).await?;
    let mut events = engine.container_events();
    let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
    let mut reconcile = Instant::now();
    loop {
        // Biased: the first poll asks for the events before the first list is asked for.
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) => tell(changes, known.event(&event?)).await?,
                // The engine ends the stream when it ends; a new connection finds out.
                None => return Err(Interruption::EventsEnded),
            },
            () = sleep_until(reconcile) => {
                let listed = engine.list_containers(&filter).await?;
                tell(changes, known.list(&listed)).await?;
                *failures = 0;
                reconcile = Instant::now() + RECONCILE_EVERY;
            }
        }
    }
}
