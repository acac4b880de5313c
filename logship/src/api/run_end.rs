//! Whether the run that a follower reads has ended: asked beside the reading, which never waits for the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chores_common::engine::{Container, Engine, EngineError, EngineErrorKind};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// After an answer that says nothing, the engine is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A follower that gives nothing for so long after its run has ended is left, where a picture can show what it did not
/// give. Podman listens for the end only after it has seen the container run, and follows for ever when the end comes
/// between.
const DEAF_TIME_MAX: Duration = Duration::from_secs(2);

/// The same where the follower is all that there is of the log.
const DEAF_LAST_TIME_MAX: Duration = Duration::from_secs(10);

/// The same where followers end by themselves: an engine may pause among what it has to give.
const LAST_TIME_MAX: Duration = Duration::from_secs(60);

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Container, EngineError>> + Send + 'a>>;

/// Finds out that a run has ended.
pub(super) struct RunEnd<'a> {
    engine: &'a Engine,
    id: &'a str,
    /// Told when something happened to the container.
    changed: Arc<Notify>,
    asked: Option<Asked<'a>>,
    ask_again: Option<Instant>,
    ended: Option<Ended>,
}

/// It is known.
#[derive(Debug, Clone, Copy)]
struct Ended {
    since: Instant,
    /// The container is no more, or about to be: nothing but the follower has its log.
    is_gone: bool,
}

impl<'a> RunEnd<'a> {
    /// Of a container that runs as far as is known; asks whenever `changed` is told.
    pub(super) fn new(engine: &'a Engine, id: &'a str, changed: Arc<Notify>) -> Self {
        Self { engine, id, changed, asked: None, ask_again: None, ended: None }
    }

    /// Waits until it is known that the run has ended; once it is, for ever. Safe to drop at any await.
    pub(super) async fn found(&mut self) {
        while self.ended.is_none() {
            if let Some(asked) = &mut self.asked {
                let answer = asked.await;
                self.asked = None;
                self.heed(answer);
                continue;
            }
            match self.ask_again {
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(at) => {}
                },
                None => self.changed.notified().await,
            }
            self.ask_again = None;
            self.asked = Some(Box::pin(self.engine.inspect_container(self.id)));
        }
        std::future::pending::<()>().await;
    }

    fn heed(&mut self, answer: Result<Container, EngineError>) {
        let is_gone = match answer {
            Ok(container) if container.running => return,
            Ok(container) => matches!(container.status.as_str(), "removing" | "dead"),
            Err(error) if error.kind() == EngineErrorKind::NotFound => true,
            // The follower may still have all of it, and an engine that is away ends it.
            Err(_) => {
                self.ask_again = Some(Instant::now() + ASK_AGAIN);
                return;
            }
        };
        self.ended = Some(Ended { since: Instant::now(), is_gone });
    }

    /// The engine has no log of the container any more.
    pub(super) fn found_gone(&mut self) {
        let since = self.ended.map_or_else(Instant::now, |ended| ended.since);
        self.ended = Some(Ended { since, is_gone: true });
    }

    /// It was told of something, and does not know yet what that means.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some() || self.ask_again.is_some()
    }

    /// The run has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Nothing but the follower has the log.
    pub(super) fn is_gone(&self) -> bool {
        self.ended.is_some_and(|ended| ended.is_gone)
    }

    /// When the follower is left that gave something last at `last_data`. `may_be_deaf`: it may never end by itself.
    pub(super) fn leave_at(&self, last_data: Instant, may_be_deaf: bool) -> Option<Instant> {
        let Ended { since, is_gone } = self.ended?;
        let hold = match (may_be_deaf, is_gone) {
            (true, false) => DEAF_TIME_MAX,
            (true, true) => DEAF_LAST_TIME_MAX,
            (false, _) => LAST_TIME_MAX,
        };
        Some(since.max(last_data) + hold)
    }
}
