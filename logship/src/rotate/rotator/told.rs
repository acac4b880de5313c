//! Writers that are told to open their files again. It goes on beside everything else: a container whose program takes
//! its time holds up no other.

use std::path::Path;
use std::time::Instant;

use tokio::runtime::Handle;

use super::{RotateStats, Rotator};
use crate::rotate::writers::{self, Telling, Writer};
use crate::rotation::{Policy, Reopen};

/// Tellings that go on at the same time, at the most. Whoever is left out is told when it is told again.
const TELLINGS_MAX: usize = 64;

/// The same for one container.
const CONTAINER_TELLINGS_MAX: usize = 4;

/// The tellings that go on.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    running: Vec<Running>,
}

/// One of them.
#[derive(Debug)]
struct Running {
    record: String,
    writer: Writer,
    telling: Telling,
}

impl Tellings {
    /// Whether another one of a container may begin.
    fn has_room(&self, container: &str) -> bool {
        let of_it = self.running.iter().filter(|running| running.writer.id == container);
        self.running.len() < TELLINGS_MAX && of_it.count() < CONTAINER_TELLINGS_MAX
    }

    /// Tells as many as there is room for; whether that was everybody.
    fn begin(
        &mut self,
        host: Option<&str>,
        runtime: &Handle,
        record: &str,
        tellings: &[(Writer, Reopen)],
    ) -> bool {
        let mut is_everybody = true;
        for (writer, way) in tellings {
            if !self.has_room(&writer.id) {
                is_everybody = false;
                continue;
            }
            let telling = writers::tell(host, runtime, writer, way);
            let (record, writer) = (record.to_owned(), writer.clone());
            self.running.push(Running { record, writer, telling });
        }
        is_everybody
    }

    /// Those that are over and failed: the record, the name of the container, and why.
    fn take_failed(&mut self, runtime: &Handle) -> Vec<(String, String, String)> {
        let (over, running): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|running| running.telling.is_finished());
        self.running = running;
        let failed = over.into_iter().filter_map(|Running { record, writer, telling }| {
            let told = runtime.block_on(telling);
            let told = told.unwrap_or_else(|error| Err(format!("it broke off: {error}")));
            told.err().map(|fault| (record, writer.name, fault))
        });
        failed.collect()
    }
}

impl Rotator {
    /// Tells the writers of a renamed file; without `tellings`, nobody knows who they are: those of the last time are
    /// told, and it is asked again.
    pub(super) fn tell(&mut self, name: &str, tellings: Option<Vec<(Writer, Reopen)>>) {
        // Nobody can be told where there is no engine.
        let is_known = tellings.is_some() || self.engine.is_none();
        let Some(record) = self.records.get_mut(name) else { return };
        let tellings = tellings.or(record.writers.take()).unwrap_or_default();
        let host = self.settings.engine.as_deref();
        let is_everybody = self.tellings.begin(host, &self.runtime, name, &tellings);
        record.told = (!is_known || !tellings.is_empty()).then(Instant::now);
        record.tellings += 1;
        record.is_untold = !is_known || !is_everybody;
        record.writers = Some(tellings);
    }

    /// Takes note of what came of it.
    pub(super) fn end_tellings(&mut self) {
        for (name, container, fault) in self.tellings.take_failed(&self.runtime) {
            RotateStats::add(&self.stats().faults, 1);
            if let Some(record) = self.records.get_mut(&name) {
                record.is_untold = true;
            }
            tracing::warn!(container, fault, "cannot be told to open its log files again");
        }
    }

    /// Who is told of a file, and how; asked of the engine when somebody may be.
    pub(super) fn ask_whom(
        &mut self,
        base: &Path,
        policy: &Policy,
    ) -> Option<Vec<(Writer, Reopen)>> {
        let of_labels = |writers: Vec<Writer>| {
            writers.iter().any(|writer| writer.wishes.reopen.as_ref().is_some_and(Reopen::is_told))
        };
        let is_labelled = self.engine.writers(base, false).is_some_and(of_labels);
        let is_needed = policy.reopen.is_told() || is_labelled;
        let all = self.engine.writers(base, is_needed)?;
        Some(writers::tellings(&all, &policy.reopen))
    }
}
