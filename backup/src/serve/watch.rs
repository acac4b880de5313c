//! Looks at the engine again and again: which containers there are. It survives restarts of the engine.

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

/// How often all containers are listed, whatever the engine tells: it may have dropped a listener without a word.
const LIST_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long more events are waited for before the list is asked for.
const EVENTS_SETTLE: Duration = Duration::from_millis(500);

/// How long one look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3 * 60);

/// How long to wait before the engine is asked again that does not answer.
const AGAIN: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// Tells what there is until the end.
pub(super) async fn watch(host: Option<String>, sender: Sender<Message>, shutdown: Shutdown) {
    shutdown.or(forever(host.as_deref(), &sender)).await;
}

async fn forever(host: Option<&str>, sender: &Sender<Message>) {
    let mut attempt = 0;
    loop {
        let problem = match follow(host, sender, &mut attempt).await {
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
    attempt: &mut u32,
) -> Result<(), String> {
    let engine = Engine::connect(host).await.map_err(|error| error.to_string())?;
    loop {
        // Listening begins before the list is asked for, so that nothing falls between.
        let mut events = engine.container_events();
        let mut first = Box::pin(events.next());
        let early = timeout(EVENTS_SETTLE, &mut first).await;
        let found = timeout(LOOK_TIME_MAX, look(&engine)).await;
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
    let looked = timeout(time_max, async { look(&Engine::connect(host).await?).await }).await;
    let looked = looked.map_err(|_| "it takes too long to tell what it has".to_owned())?;
    looked.map_err(|error| error.to_string())
}

async fn look(engine: &Engine) -> Result<Found, EngineError> {
    let mut found = Found::default();
    let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
    for listed in engine.list_containers(&filter).await? {
        if !listed.labels.keys().any(|label| label.starts_with(PREFIX)) {
            found.others.push(named(listed));
            continue;
        }
        match engine.inspect_container(&listed.id).await {
            Ok(container) => found.containers.push(container),
            // It is gone since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // Where no labels of an image are known, no label orders anything.
    found.image_labels = engine.labels_of_images(&found.containers).await?;
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
