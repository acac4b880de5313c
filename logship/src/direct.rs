//! The engine's own log files as a source: where its directory of containers can be seen, nothing that a container
//! wrote goes by the engine's network, and nothing is lost when it writes faster than the engine serves.
//!
//! Two threads: the opener opens files as soon as they exist, the reader reads them in turn. Everything about a
//! container is read from its directory, so neither needs the engine to answer.

pub mod content;
pub mod entry;
pub mod facts;
pub mod found;
pub mod json_file;
pub mod lines;
pub mod local;

pub mod place;

pub mod follow;
pub mod mailbox;

pub mod pin;

pub mod opener;
pub mod reader;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chores_common::engine::Container;
use chores_common::shutdown::Shutdown;

use crate::followed::FollowedTable;
use crate::intake::{Intake, IntakeClosed};
use crate::process::ProcessSettings;
use crate::source::SourceMeta;

use found::LogPlace;
use mailbox::Mailbox;
use opener::Opener;
use pin::Pins;
use reader::Reader;

#[cfg(test)]
mod tests;

/// Where Docker keeps what it knows of containers, logs included.
pub const CONTAINERS_DIRECTORY: &str = "/var/lib/docker/containers";

/// What is to be done with a container's lines.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// What every sink is told of it.
    pub meta: SourceMeta,
    /// What happens to its lines before the log.
    pub process: Arc<ProcessSettings>,
}

/// The plan for a container; `None` for one that is not shipped.
pub type Plans = Arc<dyn Fn(&Container) -> Option<ContainerPlan> + Send + Sync>;

pub use crate::rule::Mode;

/// Whether the log files of a container can be read in `directory`.
#[must_use]
pub fn sees(directory: &Path, container: &Container) -> bool {
    let own = directory.join(&container.id);
    match container.log.driver.as_str() {
        // Its files come with its first start: those of drivers that can only write are the engine's cache.
        "json-file" | "local" | "syslog" | "gelf" | "fluentd" | "awslogs" | "splunk"
        | "gcplogs" | "etwlogs" | "logentries" => std::fs::read_dir(&own).is_ok(),
        _ => LogPlace::all(&own, &container.id).iter().any(LogPlace::exists),
    }
}

/// The logs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// Nothing can be watched.
    #[error("cannot watch directories")]
    Watch(#[source] io::Error),
    /// There is no place for links.
    #[error("cannot make the directory for links to log files")]
    Pin(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The log is closed.
    #[error(transparent)]
    Closed(#[from] IntakeClosed),
}

/// Reads the logs of every container in `directory` for which there is a plan; files that the engine deletes before
/// they are read are kept by links in `pin`, if there is one. Returns at the shutdown, or, once,
/// when all of them are read.
pub fn run(
    directory: PathBuf,
    pin: Option<PathBuf>,
    plans: Plans,
    intake: Intake,
    shutdown: &Shutdown,
    mode: Mode,
    table: &Arc<FollowedTable>,
) -> Result<(), DirectError> {
    let mailbox = Arc::new(Mailbox::default());
    let pins = pin.map(|pin| Pins::new(pin, intake.sources().clone())).transpose();
    let pins = pins.map_err(DirectError::Pin)?;
    let opener = Opener::new(directory, plans, mailbox.clone(), table.clone(), pins);
    let mut opener = opener.map_err(DirectError::Watch)?;
    let mut reader = Reader::new(mailbox.clone(), intake);
    opener.reconcile();
    if mode == Mode::Once {
        mailbox.close();
        return Ok(reader.run(shutdown)?);
    }
    // The opener ends with the reader, whatever ends that.
    let ends = Shutdown::new();
    std::thread::scope(|scope| {
        let opening = std::thread::Builder::new().name("engine-files".to_owned());
        let opening = opening.spawn_scoped(scope, || opener.run(&ends));
        let opening = opening.map_err(DirectError::Thread)?;
        let read = reader.run(shutdown);
        ends.request();
        // A thread that panicked has said so; the reader's result is what counts.
        drop(opening.join());
        Ok(read?)
    })
}
