//! Is a backup good? It is restored into a throw-away container and looked at there.
//!
//! ```text
//! parts → scratch volumes, container of the recorded image, no network → restore → ready → check → record
//! ```
//! Nothing of the host is mounted and no password of the original is used: the container gets fresh ones.

mod plan;
mod scratch;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chores_common::engine::{
    Container, ContainerSpec, Engine, EngineError, EngineErrorKind, Health, LogSource,
};
use chores_common::exit::{ExitCode, chain};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::browse::{self, BrowseError};
use crate::database::back;
use crate::drill_record::{self, DrillRecord, Outcome, PartRecord, RecordError};
use crate::into::run::{self, RunError};
use crate::into::{Chosen, IDLE, IntoError, IntoOptions, Wishes, restore_into, target_of};
use crate::repository::Repository;
use crate::snapshot::{DumpKind, Snapshot, SnapshotName, Source, State};
use crate::worker::{self, VolumeTarget, WorkerError, WorkerOptions};
use plan::{Part, Wanted};
use scratch::Scratch;
use verdict::Verdict;

#[cfg(test)]
mod tests;

pub use plan::PlanError;

/// How often a container is asked whether it is ready.
const READY_PAUSE: Duration = Duration::from_millis(500);

/// How long a command that judges may take.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// How much later than a client the engine may notice that a container has ended.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(5);

/// The end of the sentence about a server that ended too early.
const BEFORE_READY: &str = "before it was ready";

/// Most output of a container that is read to say why it ended, in bytes.
const LOG_BYTES_MAX: usize = 1 << 20;

/// What is drilled and how.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    /// For copies of volumes.
    pub worker: WorkerOptions,
    /// Common options that the worker is given.
    pub worker_words: Vec<String>,
    /// Only this source or dump.
    pub source: Option<String>,
    /// The command that judges copies of volumes.
    pub check: Option<String>,
    /// Instead of the recorded image.
    pub image: Option<String>,
    /// More environment for the throw-away container, `NAME=value`; shown by `inspect`.
    pub env: Vec<String>,
    /// How long a server may take to be ready.
    pub ready_time_max: Duration,
}

/// Why there was no drill. What is wrong with the backup is in the record instead.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The request makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No worker for a copy of a volume.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The image is gone.
    #[error(
        "the engine has no image {image}, of which {what} was: pull it, or name another with --image"
    )]
    NoImage {
        /// The image.
        image: String,
        /// What was made from it.
        what: String,
    },
    /// The kernel took the scratch container's memory back.
    #[error("the scratch container of {0} needs more memory than there is: it was killed")]
    Memory(String),
    /// It is not known what came of the dump.
    #[error("the dump cannot be tried")]
    Into(#[source] Box<IntoError>),
    /// A command that was to judge was killed, and its server goes on.
    #[error("the data cannot be judged")]
    Check(#[source] RunError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Browse(#[from] BrowseError),
    /// The record cannot be kept.
    #[error("cannot keep the record of the drill")]
    Record(#[from] RecordError),
    /// The system has no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted: the drill says nothing, and what it made is removed")]
    Interrupted,
}

/// What ends a part early.
enum Fault {
    /// The backup is not good: why.
    Backup(String),
    /// There is no drill.
    Drill(DrillError),
}

impl<E: Into<DrillError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Drill(error.into())
    }
}

/// Whose fault it is that a dump did not come back: only what is stored, or what the server says of it, is the backup's.
fn fault_of(error: IntoError) -> Fault {
    match error {
        IntoError::Interrupted(_) => DrillError::Interrupted.into(),
        IntoError::Engine(error) => error.into(),
        IntoError::Content { source, .. } if !source.is_damage() => source.into(),
        IntoError::Run { .. } | IntoError::Random(_) | IntoError::InUse(_) => {
            DrillError::Into(Box::new(error)).into()
        }
        error => Fault::Backup(format!("it cannot be restored: {}", chain(&error))),
    }
}

/// What a part took and found.
#[derive(Debug, Default)]
struct Found {
    restore: Duration,
    ready: Duration,
    verdict: Verdict,
}

/// Drills a snapshot and keeps the record. Blocks; `runtime` drives the requests.
pub fn drill(
    runtime: &Handle,
    engine: &Engine,
    repository: &Repository,
    (name, snapshot): (&SnapshotName, &Snapshot),
    options: &DrillOptions,
    shutdown: &Shutdown,
) -> Result<DrillRecord, DrillError> {
    if snapshot.state == State::Failed {
        return Err(PlanError::Failed.into());
    }
    let (time, begun) = (jiff::Timestamp::now(), Instant::now());
    let finish = |parts: Vec<PartRecord>| {
        let is_good = parts.iter().all(|part| part.outcome == Outcome::Good);
        let record = DrillRecord {
            version: drill_record::VERSION,
            snapshot: name.id.to_string(),
            time,
            duration_ms: millis(begun.elapsed()),
            outcome: if is_good { Outcome::Good } else { Outcome::Failed },
            parts,
            host: worker::host_name(),
            program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        drill_record::store(repository, &record, name.id)?;
        Ok(record)
    };
    let names = match names_in_sources(repository, snapshot) {
        Ok(names) => names,
        Err(error) if error.is_damage() => return finish(vec![unreadable(snapshot, &error)]),
        Err(error) => return Err(error.into()),
    };
    let wanted = Wanted {
        source: options.source.as_deref(),
        check: options.check.as_deref(),
        image: options.image.as_deref(),
    };
    let parts = plan::parts(&snapshot.into(), &wanted, |source| {
        let of = |(path, _): &&(String, BTreeSet<String>)| *path == source.path;
        names.iter().find(of).map(|(_, names)| names.clone()).unwrap_or_default()
    })?;
    let work = Work { engine, repository, name, snapshot, options, shutdown };
    finish(runtime.block_on(work.all(&parts))?)
}

/// What stands for every part of a snapshot of which not even the names of its files can be read.
fn unreadable(snapshot: &Snapshot, error: &BrowseError) -> PartRecord {
    PartRecord {
        what: snapshot.sources.iter().map(|source| source.path.clone()).collect(),
        kind: drill_record::TREE.to_owned(),
        image: String::new(),
        outcome: Outcome::Failed,
        problem: Some(chain(error)),
        restore_ms: 0,
        ready_ms: 0,
        checks: Vec::new(),
        table_count: 0,
        rows: BTreeMap::new(),
    }
}

fn record_of(part: &Part, found: Found) -> PartRecord {
    let verdict = found.verdict;
    PartRecord {
        what: part.what(),
        kind: part.kind(),
        image: part.image().to_owned(),
        outcome: if verdict.problem.is_none() { Outcome::Good } else { Outcome::Failed },
        problem: verdict.problem,
        restore_ms: millis(found.restore),
        ready_ms: millis(found.ready),
        checks: verdict.checks,
        table_count: verdict.table_count,
        rows: verdict.rows,
    }
}

/// The engine answered, and what it was asked for cannot be done as things are.
fn is_refusal(error: &EngineError) -> bool {
    matches!(error.kind(), EngineErrorKind::Conflict | EngineErrorKind::Other)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The names of what is directly in each source.
fn names_in_sources(
    repository: &Repository,
    snapshot: &Snapshot,
) -> Result<Vec<(String, BTreeSet<String>)>, BrowseError> {
    let mut found = Vec::new();
    for source in &snapshot.sources {
        let names =
            browse::names_in(repository, snapshot, source.path.trim_start_matches('/').as_bytes())?;
        found.push((source.path.clone(), names));
    }
    Ok(found)
}

/// All that a part needs.
struct Work<'a> {
    engine: &'a Engine,
    repository: &'a Repository,
    name: &'a SnapshotName,
    snapshot: &'a Snapshot,
    options: &'a DrillOptions,
    shutdown: &'a Shutdown,
}

impl Work<'_> {
    async fn all(&self, parts: &[Part]) -> Result<Vec<PartRecord>, DrillError> {
        for part in parts {
            if !self.engine.image_exists(part.image()).await? {
                return Err(DrillError::NoImage {
                    image: part.image().to_owned(),
                    what: part.what().join(", "),
                });
            }
        }
        let parent = worker::clear_leftovers(self.engine).await?;
        let mut records = Vec::new();
        for part in parts {
            tracing::info!("drilling {}", part.what().join(", "));
            let mut scratch = Scratch::new(parent.clone())?;
            let outcome = self.attempt(part, &mut scratch).await;
            scratch.clear(self.engine).await;
            if self.shutdown.is_requested() {
                return Err(DrillError::Interrupted);
            }
            records.push(match outcome {
                Ok(found) => record_of(part, found),
                Err(Fault::Backup(problem)) => {
                    let verdict = Verdict { problem: Some(problem), ..Verdict::default() };
                    record_of(part, Found { verdict, ..Found::default() })
                }
                Err(Fault::Drill(error)) => return Err(error),
            });
        }
        Ok(records)
    }

    async fn attempt(&self, part: &Part, scratch: &mut Scratch) -> Result<Found, Fault> {
        match part {
            Part::Dump { record, image } => {
                let chosen = Chosen { record: record.clone(), files: record.files.clone() };
                self.dump(&chosen, image, scratch).await
            }
            Part::Data { kind, sources, place, names, image } => {
                let begun = Instant::now();
                let copies = self.copies(sources, scratch).await?;
                let restore = begun.elapsed();
                let spec = ContainerSpec {
                    image: image.clone(),
                    command: plan::server_options(*kind, place, names),
                    env: self.options.env.clone(),
                    mounts: scratch::mounts(&copies, false),
                    keep_default_capabilities: true,
                    ..ContainerSpec::default()
                };
                let begun = Instant::now();
                let id = scratch.start(self.engine, spec).await?;
                let container = self.wait_ready(&id, *kind, false).await?;
                let ready = begun.elapsed();
                let mut verdict = self.check(&container, *kind, Vec::new()).await?;
                let places: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
                verdict.expect_within(&places);
                Ok(Found { restore, ready, verdict })
            }
            Part::Check { sources, command, image } => {
                let begun = Instant::now();
                let copies = self.copies(sources, scratch).await?;
                let restore = begun.elapsed();
                let spec = ContainerSpec {
                    image: image.clone(),
                    entrypoint: Some(vec!["/bin/sh".to_owned()]),
                    command: vec!["-c".to_owned(), command.clone()],
                    env: self.options.env.clone(),
                    mounts: scratch::mounts(&copies, true),
                    keep_default_capabilities: true,
                    ..ContainerSpec::default()
                };
                let id = scratch.start(self.engine, spec).await?;
                let verdict = self.judged(&id).await?;
                Ok(Found { restore, ready: Duration::ZERO, verdict })
            }
        }
    }

    /// A fresh server takes the dump.
    async fn dump(
        &self,
        chosen: &Chosen,
        image: &str,
        scratch: &mut Scratch,
    ) -> Result<Found, Fault> {
        let kind = chosen.record.kind;
        let mut env = Vec::new();
        for variable in plan::password_variables(kind) {
            let random = || getrandom::u64().map_err(DrillError::Random);
            env.push(format!("{variable}={:016x}{:016x}", random()?, random()?));
        }
        env.extend(self.options.env.iter().cloned());
        // A file needs no server, and its application is not to begin its work.
        let is_file = kind == DumpKind::Sqlite;
        let spec = ContainerSpec {
            image: image.to_owned(),
            entrypoint: is_file.then(|| vec!["/bin/sh".to_owned()]),
            command: if is_file { vec!["-c".to_owned(), IDLE.to_owned()] } else { Vec::new() },
            user: is_file.then(|| "0:0".to_owned()),
            env,
            keep_default_capabilities: true,
            ..ContainerSpec::default()
        };
        let begun = Instant::now();
        let id = scratch.start(self.engine, spec).await?;
        let container = self.wait_ready(&id, kind, true).await?;
        let ready = begun.elapsed();
        let begun = Instant::now();
        // Nothing is lost here, and some images come with databases that are not empty.
        let wishes = Wishes { replace: true, accounts: false, make: true, command: Vec::new() };
        let options = IntoOptions { wishes, prove: false, dry_run: false };
        let restored = restore_into(
            self.engine,
            self.repository,
            self.snapshot,
            chosen,
            &id,
            &options,
            self.shutdown,
        )
        .await;
        if let Err(error) = restored {
            return Err(self.blamed(&id, error).await);
        }
        let restore = begun.elapsed();
        let files = chosen.files.iter().filter_map(|file| file.database.clone()).collect();
        let verdict = self.check(&container, kind, files).await?;
        Ok(Found { restore, ready, verdict })
    }

    /// The same as [`fault_of`], where the server itself may have ended of what it was given.
    async fn blamed(&self, id: &str, error: IntoError) -> Fault {
        let fault = match &error {
            IntoError::Run { .. } => self.ended_soon(id, "while it was restored").await,
            IntoError::Step { .. } | IntoError::NotRunning(_) => self.starved(id).await,
            _ => None,
        };
        fault.unwrap_or_else(|| fault_of(error))
    }

    /// The same as [`Self::ended`], where the engine may notice the end later than who waited for an answer.
    async fn ended_soon(&self, id: &str, when: &str) -> Option<Fault> {
        let deadline = Instant::now() + NOTICE_TIME_MAX;
        loop {
            let fault = self.ended(id, when).await;
            if fault.is_some() || Instant::now() >= deadline {
                return fault;
            }
            self.shutdown.or(sleep(READY_PAUSE)).await?;
        }
    }

    /// Something in the container was killed for want of memory: then what it said is not of the backup.
    async fn starved(&self, id: &str) -> Option<Fault> {
        let container = self.engine.inspect_container(id).await.ok()?;
        container.out_of_memory.then(|| DrillError::Memory(container.image_ref).into())
    }

    /// Whether a command broke off because its container did, and whose fault that is.
    async fn ended(&self, id: &str, when: &str) -> Option<Fault> {
        let container = self.engine.inspect_container(id).await.ok()?;
        if container.out_of_memory {
            return Some(DrillError::Memory(container.image_ref).into());
        }
        if container.running {
            return None;
        }
        let said = self.said(id).await;
        Some(Fault::Backup(format!("its container ended {when}: {said}")))
    }

    /// Restores sources into volumes of their own.
    async fn copies<'s>(
        &self,
        sources: &'s [Source],
        scratch: &mut Scratch,
    ) -> Result<Vec<(&'s Source, String)>, Fault> {
        let mut copies = Vec::new();
        for source in sources {
            let volume = scratch.volume(self.engine).await?;
            let target =
                VolumeTarget { name: volume.clone(), recorded: None, force: false, dry_run: false };
            let mut words = vec![self.name.id.to_string(), format!("--source={}", source.path)];
            words.extend(self.options.worker_words.iter().cloned());
            let mut last = String::new();
            let status = worker::restore_volume(
                self.engine,
                &self.options.worker,
                &target,
                words,
                self.shutdown,
                &mut |line| line.clone_into(&mut last),
            )
            .await?;
            let is = |code: ExitCode| status == i64::from(code as u8);
            if is(ExitCode::Interrupted) {
                return Err(DrillError::Interrupted.into());
            }
            if !is(ExitCode::Done) && !is(ExitCode::Warnings) {
                let problem = format!("{} cannot be restored whole: {last}", source.path);
                return Err(Fault::Backup(problem.trim_end_matches(": ").to_owned()));
            }
            copies.push((source, volume));
        }
        Ok(copies)
    }

    /// Waits until a container is healthy, where its image says what that is, and its server takes connections.
    async fn wait_ready(
        &self,
        id: &str,
        kind: DumpKind,
        everywhere: bool,
    ) -> Result<Container, Fault> {
        let deadline = Instant::now() + self.options.ready_time_max;
        loop {
            let container = self.engine.inspect_container(id).await?;
            if !container.running
                && let Some(fault) = self.ended(id, BEFORE_READY).await
            {
                return Err(fault);
            }
            let Some(feed) = back::ready(kind, &target_of(&container), everywhere) else {
                return Ok(container);
            };
            let answer = if matches!(container.health, None | Some(Health::Healthy)) {
                let left = deadline.saturating_duration_since(Instant::now());
                Some(tokio::time::timeout(left, self.run(id, &feed)).await)
            } else {
                None
            };
            let is_late = Instant::now() >= deadline;
            let missing = match answer {
                None => "its health check is not content".to_owned(),
                Some(Err(_)) => "the question whether it is ready is not answered".to_owned(),
                Some(Ok(answer)) => match answer? {
                    Ok(said) if said.is_good() => return Ok(container),
                    Ok(said) => said.complaint(),
                    Err(error) => {
                        if let Some(fault) = self.ended(id, BEFORE_READY).await {
                            return Err(fault);
                        }
                        match error {
                            // Also of a container whose end the engine has not noticed yet: the next look tells.
                            RunError::Engine(error) if is_refusal(&error) && !is_late => {
                                error.to_string()
                            }
                            RunError::Engine(error) => return Err(error.into()),
                            error => chain(&error),
                        }
                    }
                },
            };
            if is_late {
                let seconds = self.options.ready_time_max.as_secs();
                let said = self.said(id).await;
                return Err(Fault::Backup(format!(
                    "it was not ready within {seconds} s: {missing}; it said: {said}"
                )));
            }
            self.shutdown.or(sleep(READY_PAUSE)).await.ok_or(DrillError::Interrupted)?;
        }
    }

    /// Counts and checks.
    async fn check(
        &self,
        container: &Container,
        kind: DumpKind,
        files: Vec<String>,
    ) -> Result<Verdict, Fault> {
        let Some(feed) = back::check(kind, &target_of(container), files) else {
            return Ok(Verdict::default());
        };
        let said = match self.run(&container.id, &feed).await? {
            Ok(said) => said,
            Err(error) => {
                let fault = self.ended_soon(&container.id, "while it was checked").await;
                return Err(fault.unwrap_or_else(|| match error {
                    RunError::Engine(error) => error.into(),
                    error => DrillError::Check(error).into(),
                }));
            }
        };
        let mut verdict = verdict::read(&said.output);
        if said.is_cut {
            let problem = "the check said more than can be read: it has too many tables";
            verdict.problem.get_or_insert(problem.to_owned());
        }
        if !said.is_good() {
            if let Some(fault) = self.starved(&container.id).await {
                return Err(fault);
            }
            verdict.problem = Some(format!("the check failed: {}", said.complaint()));
        }
        Ok(verdict)
    }

    /// Runs lines; that they broke off is for the caller to judge.
    async fn run(
        &self,
        id: &str,
        feed: &crate::database::feed::Feed,
    ) -> Result<Result<run::Said, RunError>, Fault> {
        let work = run::run(self.engine, id, feed, None, self.shutdown);
        match self.shutdown.or(work).await.ok_or(DrillError::Interrupted)? {
            Err(RunError::Interrupted) => Err(DrillError::Interrupted.into()),
            Err(RunError::Random(error)) => Err(DrillError::Random(error).into()),
            said => Ok(said),
        }
    }

    /// The end of a command that judges.
    async fn judged(&self, id: &str) -> Result<Verdict, Fault> {
        let ended =
            self.shutdown.or(tokio::time::timeout(CHECK_TIME_MAX, self.engine.wait(id))).await;
        let problem = match ended.ok_or(DrillError::Interrupted)? {
            Ok(status) => match status? {
                0 => None,
                status => {
                    if let Some(fault) = self.starved(id).await {
                        return Err(fault);
                    }
                    Some(format!("the command ended with status {status}: {}", self.said(id).await))
                }
            },
            Err(_) => {
                Some(format!("the command did not end within {} s", CHECK_TIME_MAX.as_secs()))
            }
        };
        Ok(Verdict { checks: vec!["command".to_owned()], problem, ..Verdict::default() })
    }

    /// The last lines of what a container said.
    async fn said(&self, id: &str) -> String {
        let frames = match self.engine.logs_after_exit(id, LOG_BYTES_MAX).await {
            Ok(frames) => frames,
            Err(error) => return error.to_string(),
        };
        let of = |source| {
            let frames = frames.iter().filter(move |frame| frame.source == source);
            frames.flat_map(|frame| frame.bytes.iter().copied()).collect::<Vec<u8>>()
        };
        let (errors, output) = (of(LogSource::Stderr), of(LogSource::Stdout));
        let said = run::last_lines(if errors.is_empty() { &output } else { &errors });
        if said.is_empty() { "it said nothing".to_owned() } else { said }
    }
}
