//! Sources that hold still: containers paused or stopped while their volumes are read, and let go on whatever
//! happens.
//!
//! ```text
//! plan → journal → guard → hooks before → stop, pause ⇒ the sources are read ⇒ unpause, start → hooks after → journal removed
//!                    └── if this process falls silent, the guard does what comes behind the reading
//! ```
//! Two things outlive this process: the [`journal`] on disk, which the next run replays, and the [`guard`], a
//! container of our own that acts at once. What either of them does to a container is decided in [`restore`] from
//! what the plan knew and what the engine says now; doing it twice does no harm.

mod attended;
mod guard;
mod hook;
mod journal;
mod keeper;
mod message;
pub mod plan;
mod replay;
mod restore;

use std::time::Duration;

use chores_common::engine::EngineError;

pub use attended::Attended;
pub use guard::{GUARD_LABEL, GUARD_VARIABLE, GuardImage, refusal, watch};
pub use journal::JournalError;
pub use keeper::{Keeper, KeeperOptions, StillHere};
pub use message::{FromParent, ToParent};
pub use plan::{PlanError, Request, stop_seconds};
pub use replay::{Replayed, is_due, replay};

/// How long a guard hears nothing before it acts. A process that dies is heard at once: its connection ends.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often a guard hears from its process.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a request to pause may still be under way in the engine after the process that made it has died.
pub const SETTLE: Duration = Duration::from_secs(5);

/// The same for a request to stop, beyond the container's own stop timeout: the engine kills then, which takes as long as
/// the kernel needs to end what reads or writes a slow disk.
pub const STOP_SETTLE: Duration = Duration::from_secs(60);

/// How long containers are tried to be let go on again, beyond what may still be under way.
pub const RESTORE_TIME_MAX: Duration = Duration::from_secs(120);

/// Why sources cannot be made to hold still.
#[derive(Debug, thiserror::Error)]
pub enum QuiesceError {
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was asked for makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The journal cannot be written, or one that is there cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no guard.
    #[error(
        "no guard can be started that would let the containers go on if this process is killed; --no-guard does without, then only the next run does that"
    )]
    NoGuard(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A hook before failed.
    #[error("the command before in {container} {reason}: nothing was paused or stopped")]
    Hook {
        /// Where it ran.
        container: String,
        /// How it ended.
        reason: String,
    },
    /// A container did not hold still.
    #[error("{name} did not {act}")]
    Unmoved {
        /// Its name.
        name: String,
        /// `stop` or `pause`.
        act: &'static str,
    },
    /// They were let go on before it came to this source.
    #[error("the containers go on already, before everything was read: no snapshot was made")]
    LetGo,
    /// SIGINT or SIGTERM.
    #[error("interrupted: no snapshot was made")]
    Interrupted,
}
