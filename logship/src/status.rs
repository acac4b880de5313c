//! How a run is doing, for machines that ask: `/metrics` and `/healthz`.

use std::net::SocketAddr;
use std::sync::Arc;

use chores_common::status::{Status, StatusError};
use tokio::runtime::Handle;

use crate::files::FilesStats;
use crate::followed::FollowedTable;
use crate::metrics::{self, Snapshot};
use crate::rotate::RotateStats;
use crate::sink::stats::SinkStats;
use crate::time;
use crate::wal::Log;

#[cfg(test)]
mod tests;

/// What is asked about.
#[derive(Debug, Clone)]
pub struct Watched {
    started: i64,
    log: Log,
    sinks: Vec<(String, Arc<SinkStats>)>,
    followed: Arc<FollowedTable>,
    files: Arc<FilesStats>,
    rotate: Arc<RotateStats>,
}

impl Watched {
    /// A log, its sinks by name, and the containers and files that are read, from now on.
    #[must_use]
    pub fn new(
        log: &Log,
        sinks: Vec<(String, Arc<SinkStats>)>,
        followed: Arc<FollowedTable>,
        files: Arc<FilesStats>,
    ) -> Self {
        let rotate = Arc::default();
        Self { started: time::now(), log: log.clone(), sinks, followed, files, rotate }
    }

    /// The same, of a run that rotates.
    #[must_use]
    pub fn with_rotation(self, rotate: Arc<RotateStats>) -> Self {
        Self { rotate, ..self }
    }

    /// Everything now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sinks = self.sinks.iter().map(|(name, stats)| (name.clone(), stats.report()));
        Snapshot {
            now: time::now(),
            started: self.started,
            log: self.log.stats(),
            sinks: sinks.collect(),
            followed: self.followed.snapshot().into_values().map(|one| one.way).collect(),
            engine_away: self.followed.away(),
            files: self.files.counts(),
            rotate: self.rotate.counts(),
        }
    }
}

/// Serves it at `address`; without one there is no server.
pub fn serve(
    address: Option<SocketAddr>,
    watched: Watched,
    runtime: &Handle,
) -> Result<Status, StatusError> {
    let well = watched.clone();
    let metrics = move || metrics::text(watched.snapshot());
    Status::start(address, metrics, move || metrics::ailments(&well.snapshot()), runtime)
}
