//! What happens to containers, told by the engine as it happens.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use bollard::errors::Error as BollardError;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};

use super::Engine;
use super::error::{EngineError, Request};

#[cfg(test)]
mod tests;

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerAction {
    /// It exists; it does not run yet.
    Create,
    /// A run began.
    Start,
    /// A run ended.
    Die,
    /// It is no more.
    Destroy,
    /// It has another name.
    Rename,
}

impl ContainerAction {
    const ALL: [Self; 5] = [Self::Create, Self::Start, Self::Die, Self::Destroy, Self::Rename];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Die => "die",
            Self::Destroy => "destroy",
            Self::Rename => "rename",
        }
    }
}

/// One event of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name at that time, without the leading slash.
    pub name: String,
    /// What happened.
    pub action: ContainerAction,
    /// When, in nanoseconds since 1970 by the clock of the engine.
    pub time: i64,
}

/// Events as they happen. An engine drops a listener that does not keep up, and says nothing: the
/// stream ends, or is silent. Who needs to be certain lists the containers from time to time.
pub struct EventStream {
    events: Pin<Box<dyn Stream<Item = Result<EventMessage, BollardError>> + Send>>,
    engine: Engine,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventStream").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl EventStream {
    /// The next event; `None` when the engine ends the stream.
    pub async fn next(&mut self) -> Option<Result<ContainerEvent, EngineError>> {
        loop {
            match self.events.next().await? {
                Ok(message) => {
                    if let Some(event) = event(message) {
                        return Some(Ok(event));
                    }
                }
                Err(error) => {
                    let request = Request::to_engine("listen to the events of", self.engine.host());
                    return Some(Err(request.failed(&error)));
                }
            }
        }
    }
}

impl Engine {
    /// Events of containers from now on. The request is sent when the stream is first asked.
    #[must_use]
    pub fn container_events(&self) -> EventStream {
        let actions = ContainerAction::ALL.map(|action| action.name().to_owned()).to_vec();
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), actions),
        ]);
        let options = EventsOptions { filters: Some(filters), ..Default::default() };
        let events = Box::pin(self.docker.events(Some(options)));
        EventStream { events, engine: self.clone() }
    }
}

/// `None` for what is no event of a container that matters here.
fn event(message: EventMessage) -> Option<ContainerEvent> {
    let action = message.action?;
    let action = ContainerAction::ALL.into_iter().find(|known| known.name() == action)?;
    let actor = message.actor?;
    let name = actor.attributes.and_then(|mut attributes| attributes.remove("name"));
    let seconds = || message.time.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    Some(ContainerEvent {
        id: actor.id.filter(|id| !id.is_empty())?,
        name: name.unwrap_or_default(),
        action,
        time: message.time_nano.or_else(seconds).unwrap_or_default(),
    })
}
