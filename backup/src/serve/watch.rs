//! Looks at the engine again and again: which containers there are. It survives restarts of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chores_common::engine::{
    Container, ContainerFilter, ContainerState, Engine, EngineError, EngineErrorKind, Host,
    ListedContainer,
};
use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::Sender;
use tokio::time::{sleep, timeout};

use super::discover::Found;
use super::resident::Message;
use crate::labels::PREFIX;
use crate::machine::boot_id;
use crate::text;

#[cfg(test)]
mod tests;

/// How often all containers are listed, whatever the engine tells: it may have dropped a listener without a word.
const LIST_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long more events are waited for before the list is asked for.
const EVENTS_SETTLE: Duration = Duration::from_millis(500);

/// How long one look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3 * 60);

/// How long the engine may take to show one container or image. One that is locked, by a stop or a copy that hangs, must not hide the
/// others.
const SHOW_TIME_MAX: Duration = Duration::from_secs(10);

/// How many may take so long in one look, and by how much sooner those behind them are given up.
const SLOW_MAX: usize = 6;
const SLOW_DIVISOR: u32 = 10;

/// How long to wait before the engine is asked again that does not answer.
const AGAIN: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// Tells what there is until the end.
pub(super) async fn watch(host: Option<String>, sender: Sender<Message>, shutdown: Shutdown) {
    shutdown.or(forever(host.as_deref(), &sender)).await;
}

async fn forever(host: Option<&str>, sender: &Sender<Message>) {
    let mut attempt = 0;
    let mut known = Known::default();
    loop {
        let problem = match follow(host, sender, &mut known, &mut attempt).await {
            Ok(()) => "it has ended its list of events".to_owned(),
            Err(problem) => problem,
        };
        attempt = attempt.saturating_add(1);
        if attempt > 1 {
            tell(sender, Message::Away(problem));
        }
        let random = getrandom::u64().unwrap_or_default();
        sleep(AGAIN.pause_after(attempt.max(1), random).unwrap_or(AGAIN.cap)).await;
    }
}

/// Until the connection breaks.
async fn follow(
    host: Option<&str>,
    sender: &Sender<Message>,
    known: &mut Known,
    attempt: &mut u32,
) -> Result<(), String> {
    let engine = Engine::connect(host).await.map_err(|error| error.to_string())?;
    loop {
        // Listening begins before the list is asked for, so that nothing falls between.
        let mut events = engine.container_events();
        let mut first = Box::pin(events.next());
        let early = timeout(EVENTS_SETTLE, &mut first).await;
        let found =
            timeout(LOOK_TIME_MAX, look(&engine, known, Patience::new(SHOW_TIME_MAX))).await;
        let found = found.map_err(|_| "it takes too long to tell what it has".to_owned())?;
        let found = found.map_err(|error| error.to_string())?;
        *attempt = 0;
        tell(sender, Message::Found(Box::new(found)));
        let event = match early {
            // Something happened while it was listed.
            Ok(event) => event,
            Err(_) => match timeout(LIST_AFTER, first).await {
                Ok(event) => event,
                Err(_) => continue,
            },
        };
        match event {
            None => return Ok(()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(_)) => sleep(EVENTS_SETTLE).await,
        }
    }
}

/// A queue that is full is emptied by a loop that hangs; the next look tells the same.
fn tell(sender: &Sender<Message>, message: Message) {
    if sender.try_send(message).is_err() {
        tracing::warn!("what the engine has cannot be told to the loop, which is late");
    }
}

/// Looks once, for who does not stay.
pub(super) async fn look_once(host: Option<&str>, time_max: Duration) -> Result<Found, String> {
    let mut known = Known::default();
    let patience = Patience::new(SHOW_TIME_MAX);
    let look = async { look(&Engine::connect(host).await?, &mut known, patience).await };
    let looked = timeout(time_max, look).await;
    let looked = looked.map_err(|_| "it takes too long to tell what it has".to_owned())?;
    looked.map_err(|error| error.to_string())
}

/// Containers as they were shown last, by id. What concerns a backup stays the same for as long as one lives.
type Known = BTreeMap<String, Container>;

/// What asking for one thing comes to, where the engine answers at all.
enum Shown<T> {
    It(T),
    /// It is gone since it was listed.
    Gone,
    /// This one cannot be shown, and why.
    Not(String),
}

/// How patient a look is.
struct Patience {
    time_max: Duration,
    slow: usize,
}

impl Patience {
    fn new(time_max: Duration) -> Self {
        Self { time_max, slow: 0 }
    }

    /// Waits for one thing, but not so long that nothing is left for the others. An engine that answers nobody is an error.
    async fn ask<T>(
        &mut self,
        question: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<Shown<T>, EngineError> {
        let is_slow = self.slow >= SLOW_MAX;
        let time = if is_slow { self.time_max / SLOW_DIVISOR } else { self.time_max };
        match timeout(time, question).await {
            Ok(Ok(shown)) => Ok(Shown::It(shown)),
            Ok(Err(error)) => match error.kind() {
                EngineErrorKind::NotFound => Ok(Shown::Gone),
                EngineErrorKind::Unreachable | EngineErrorKind::Denied => Err(error),
                EngineErrorKind::Conflict
                | EngineErrorKind::Timeout
                | EngineErrorKind::Corrupt
                | EngineErrorKind::Invalid
                | EngineErrorKind::Unsupported
                | EngineErrorKind::Other => Ok(Shown::Not(error.to_string())),
            },
            Err(_) => {
                self.slow += 1;
                Ok(Shown::Not(format!("it takes longer than {}", text::duration(time))))
            }
        }
    }
}

async fn look(
    engine: &Engine,
    known: &mut Known,
    mut patience: Patience,
) -> Result<Found, EngineError> {
    let mut found = Found::default();
    let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
    for listed in engine.list_containers(&filter).await? {
        if !listed.labels.keys().any(|label| label.starts_with(PREFIX)) {
            found.others.push(named(listed));
            continue;
        }
        match patience.ask(engine.inspect_container(&listed.id)).await? {
            Shown::It(container) => found.containers.push(container),
            Shown::Gone => {}
            Shown::Not(problem) => match known.get(&listed.id) {
                Some(container) => {
                    tracing::warn!(
                        "the engine cannot show the container {}: {problem}",
                        listed.name
                    );
                    let running = listed.state != ContainerState::NotRunning;
                    let container = Container { name: listed.name, running, ..container.clone() };
                    found.containers.push(container);
                }
                None => found.unseen.push((named(listed), problem)),
            },
        }
    }
    let ids = found.containers.iter().map(|container| (container.id.clone(), container.clone()));
    *known = ids.collect();
    // Where no labels of an image are known, no label orders anything.
    let images: BTreeSet<_> = found.containers.iter().map(|one| one.image_id.clone()).collect();
    for image in images.into_iter().filter(|image| !image.is_empty()) {
        match patience.ask(engine.image_labels(&image)).await {
            Ok(Shown::It(Some(labels))) => drop(found.image_labels.insert(image, labels)),
            Ok(Shown::It(None) | Shown::Gone) => {}
            Ok(Shown::Not(problem)) => {
                tracing::warn!("the engine cannot show the image {image}: {problem}");
            }
            // A proxy hides it.
            Err(error) if error.kind() == EngineErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
    }
    found.own = engine.own_container().await?.map(|own| own.id);
    let machine = engine.machine().await?;
    (found.host, found.engine, found.node) = (machine.host_name, machine.id, machine.node);
    // Behind an address the engine may be on another machine than this program.
    let is_here = matches!(engine.host(), Host::Unix(_));
    found.boot = is_here.then(boot_id).flatten();
    Ok(found)
}

fn named(listed: ListedContainer) -> Container {
    Container {
        id: listed.id,
        name: listed.name,
        running: listed.state != ContainerState::NotRunning,
        labels: listed.labels,
        ..Container::default()
    }
}
