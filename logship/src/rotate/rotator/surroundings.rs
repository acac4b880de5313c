//! What the engine says of the containers that may write, asked beside everything else: while it does not answer, files
//! are cut all the same.

use std::path::Path;
use std::time::{Duration, Instant};

use chores_common::engine::{EngineError, EngineErrorKind};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SAY_EVERY;
use crate::rotate::writers::{Surroundings, Writer};

#[cfg(test)]
mod tests;

/// How long what the engine said is believed; before anybody is told, it is asked again.
const AGE_MAX: Duration = Duration::from_secs(30);

/// The same where somebody is about to be told: whoever came since is told when it is told again.
const TOLD_AGE_MAX: Duration = Duration::from_secs(1);

/// How long an engine that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// How long an answer is waited for: nearly all come within that, and whoever hangs holds up nothing else for longer.
/// A later one is heard all the same.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long all of an answer may take, however many containers there are.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// An answer that is awaited.
type Asking = JoinHandle<Option<Result<Surroundings, EngineError>>>;

/// What is known of the containers.
#[derive(Debug)]
pub(super) struct EngineView {
    host: Option<String>,
    runtime: Handle,
    /// What it said, and when.
    last: Option<(Surroundings, Instant)>,
    asking: Option<(Asking, Instant)>,
    /// There is no engine for us, and there was none: there are no labels.
    is_none: bool,
    was_there: bool,
    failed: Option<Instant>,
    said: Option<Instant>,
}

impl EngineView {
    /// Of an engine in the forms of `DOCKER_HOST`.
    pub(super) fn new(host: Option<String>, runtime: Handle) -> Self {
        Self {
            host,
            runtime,
            last: None,
            asking: None,
            is_none: false,
            was_there: false,
            failed: None,
            said: None,
        }
    }

    /// What it said last, unless it has failed to answer since.
    pub(super) fn last(&self) -> Option<&Surroundings> {
        self.last.as_ref().map(|(around, _)| around)
    }

    /// Whether there are no labels, since there is no engine that would tell of them.
    pub(super) fn is_none(&self) -> bool {
        self.is_none
    }

    /// Who may write to a file; `None` while the engine does not answer. `is_needed`: somebody is about to be told.
    pub(super) fn writers(&mut self, path: &Path, is_needed: bool) -> Option<Vec<Writer>> {
        let is_known = self.ask(is_needed);
        self.last().filter(|_| is_known).map(|around| around.writers(path))
    }

    /// Sees to it that what is known is young enough; whether it is, or is about to be for those who tell nobody.
    pub(super) fn ask(&mut self, is_needed: bool) -> bool {
        self.hear(Duration::ZERO, is_needed);
        let age_max = if is_needed { TOLD_AGE_MAX } else { AGE_MAX };
        if self.is_younger(age_max) {
            return true;
        }
        let pause = if is_needed { PAUSE } else { AGE_MAX };
        if self.asking.is_none() && self.failed.is_none_or(|at| at.elapsed() >= pause) {
            let host = self.host.clone();
            let asking = self.runtime.spawn(async move {
                timeout(ANSWER_TIME_MAX, Surroundings::ask(host.as_deref())).await.ok()
            });
            self.asking = Some((asking, Instant::now()));
        }
        // Without any answer yet, nobody knows what labels say.
        if let Some((_, since)) = &self.asking
            && (is_needed || self.last.is_none())
        {
            self.hear(WAIT_MAX.saturating_sub(since.elapsed()), is_needed);
        }
        self.last.is_some() && (!is_needed || self.is_younger(TOLD_AGE_MAX))
    }

    fn is_younger(&self, age_max: Duration) -> bool {
        self.last.as_ref().is_some_and(|(_, at)| at.elapsed() < age_max)
    }

    /// Takes the answer, if it comes within that time.
    fn hear(&mut self, time: Duration, is_needed: bool) {
        let Some((asking, _)) = &mut self.asking else { return };
        if !asking.is_finished() && time.is_zero() {
            return;
        }
        let heard = self.runtime.block_on(async { timeout(time, asking).await });
        let Ok(heard) = heard else { return };
        self.asking = None;
        match heard {
            Ok(Some(Ok(around))) => {
                self.last = Some((around, Instant::now()));
                (self.failed, self.is_none, self.was_there) = (None, false, true);
            }
            Ok(Some(Err(error))) => {
                self.is_none = is_none_for_us(error.kind()) && !self.was_there;
                self.fail(&chores_common::exit::chain(&error), is_needed);
            }
            Ok(None) => self.fail("it takes too long to answer", is_needed),
            Err(error) => self.fail(&error.to_string(), is_needed),
        }
    }

    fn fail(&mut self, error: &str, is_needed: bool) {
        self.failed = Some(Instant::now());
        self.last = None;
        if is_needed && self.said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(error, "nobody can be told to open log files again");
        }
    }
}

impl Drop for EngineView {
    fn drop(&mut self) {
        if let Some((asking, _)) = &self.asking {
            asking.abort();
        }
    }
}

/// Whether an engine that answers so will never tell us of containers: it is not there, or not for us, or nothing that
/// we could ask. Whoever set it up so means no labels.
fn is_none_for_us(kind: EngineErrorKind) -> bool {
    use EngineErrorKind::{Denied, Invalid, Unreachable, Unsupported};

    matches!(kind, Unreachable | Denied | Invalid | Unsupported)
}
