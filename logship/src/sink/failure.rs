//! A delivery that did not happen.

use std::error::Error;
use std::time::Duration;

use chores_common::exit::chain;

/// Why a batch did not arrive. The batch is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct SinkFailure {
    /// One sentence that names the act and its object.
    pub sentence: String,
    /// When the peer wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Asking again is pointless: the sink ends.
    pub is_final: bool,
    /// What was delivered since the last commit may be lost too: all of it has to be sent again.
    pub is_loss: bool,
}

impl SinkFailure {
    /// One that may go away.
    #[must_use]
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), retry_after: None, is_final: false, is_loss: false }
    }

    /// What was being done, and why it did not work.
    #[must_use]
    pub fn of(act: &str, error: &dyn Error) -> Self {
        Self::new(format!("{act}: {}", chain(error)))
    }

    /// The same, for good.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self { is_final: true, ..self }
    }

    /// The same, and nobody knows what arrived of that which is not committed.
    #[must_use]
    pub fn with_loss(self) -> Self {
        Self { is_loss: true, ..self }
    }

    /// The same, with the peer's wish.
    #[must_use]
    pub fn after(self, time: Option<Duration>) -> Self {
        Self { retry_after: time, ..self }
    }
}
