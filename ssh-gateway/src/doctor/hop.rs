//! Enters a container, twice: by ourselves and by the engine's exec.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use chores_common::engine::{Container, Engine, ExecSpec, LogSource};
use chores_common::finding::{Finding, Status};
use tokio::time::timeout;

use super::compare::{self, Output, PARTS};
use crate::broker::containers::{Containers, Plan, pin};
use crate::config::EnterConfig;
use crate::container::bundle::Bundles;
use crate::hop::{Event, Spawner, Started};
use crate::login::{self, Login, Resolution};
use crate::role::{Image, Process, Role};
use crate::wire::socket::Socket;
use crate::wire::task::{Start, Target, User};
use crate::wire::{Exit, Program};

/// One question takes no longer than this.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Where the container is there and cannot be entered.
const FAULT_ADVICE: &str = "see what is said above";

/// The process that forks tasks. Started while this process has one thread; ends with it.
#[derive(Debug)]
pub struct Helper {
    socket: Socket,
    _process: Process,
}

impl Helper {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let (socket, process) = Image::of_ourselves()?.start(Role::Spawner)?;
        Ok(Self { socket, _process: process })
    }
}

/// Enters the container that `name` means, and compares.
pub(super) async fn compare(
    config: &EnterConfig,
    name: &str,
    engine: Engine,
    bundles: Bundles,
    helper: Helper,
) -> Vec<Finding> {
    let failed = |fault: String, advice: &str| {
        vec![Finding::new(format!("hop into {}", login::shown(name)), Status::Fail, fault, advice)]
    };
    let spawner = match Spawner::over(helper.socket) {
        Ok(spawner) => Arc::new(spawner),
        Err(error) => return failed(error.to_string(), FAULT_ADVICE),
    };
    let containers = Containers::new(engine, bundles, Arc::clone(&spawner));
    let container = match find(&containers, name).await {
        Ok(container) => container,
        Err(fault) => return failed(fault, "name one that runs, as `docker ps` shows it"),
    };
    match compared(config, &containers, &container, &spawner).await {
        Ok(findings) => findings,
        Err(fault) => failed(fault, FAULT_ADVICE),
    }
}

async fn compared(
    config: &EnterConfig,
    containers: &Containers,
    container: &Container,
    spawner: &Spawner,
) -> Result<Vec<Finding>, String> {
    let plan = containers.plan(container).await.map_err(|failure| login::told(&failure.reason))?;
    let root = config.cgroup_root().to_string_lossy().into_owned();
    let mut findings = Vec::new();
    for part in PARTS {
        let ours = answer(ours(spawner, container, &plan, &root, part.words)).await?;
        let engines = answer(engines(&containers.engine, container, part.words)).await?;
        findings.extend(compare::finding(part, &ours, &engines));
    }
    if findings.is_empty() {
        let found = "entered, but the image has no cat and no ls: there is nothing to compare";
        let name = format!("hop into {}", container.name);
        findings.push(Finding::new(name, Status::Note, found, "name another container"));
    }
    Ok(findings)
}

async fn answer(asked: impl Future<Output = Result<Output, String>>) -> Result<Output, String> {
    match timeout(ANSWER_TIME_MAX, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())),
    }
}

async fn find(containers: &Containers, name: &str) -> Result<Container, String> {
    let login = Login::parse(name).map_err(|error| error.to_string())?;
    let listed = containers.list().await.map_err(|failure| failure.reason)?;
    let resolution = login::resolve(&login.selector, &listed);
    match resolution {
        Resolution::One(one) => containers.inspect(&one.id).await.map_err(|failure| failure.reason),
        other => Err(login::explain_to_operator(&login.selector, &other).unwrap_or_default()),
    }
}

async fn ours(
    spawner: &Spawner,
    container: &Container,
    plan: &Plan,
    cgroup_root: &str,
    words: &[&str],
) -> Result<Output, String> {
    let failed = |error: crate::hop::HopError| login::told(&error.to_string());
    let task = spawner.task().await.map_err(failed)?;
    let random = getrandom::u64().map_err(|error| error.to_string())?;
    let target = Target {
        pin: pin(container).map_err(|failure| failure.reason)?,
        cgroup_root: cgroup_root.to_owned(),
        session_cgroup: format!("ssh-doctor-{random:016x}"),
        confinement: plan.confinement.clone(),
    };
    task.enter(target).await.map_err(failed)?;
    let specification = &plan.specification;
    let start = Start {
        program: Program::Words(words.iter().map(|word| word.as_bytes().to_vec()).collect()),
        user: User {
            name: None,
            container_uid: specification.uid,
            container_gid: specification.gid,
            container_groups: specification.groups.clone(),
            group_add: container.group_add.clone(),
        },
        terminal: None,
        container_environment: specification.environment.clone(),
        session_environment: Vec::new(),
        directory: Some(specification.directory.clone().into_bytes()),
        toolbox: None,
        as_engine_exec: true,
    };
    let started = match task.start(start).await {
        Ok(started) => started,
        Err(crate::hop::HopError::Failed(failure)) => {
            return match failure.kind {
                crate::wire::task::FailureKind::Program { status } => {
                    Ok(Output { bytes: Vec::new(), status: i64::from(status) })
                }
                _ => Err(login::told(&failure.reason)),
            };
        }
        Err(error) => return Err(failed(error)),
    };
    let Started::Pipes { stdin, stdout, stderr, .. } = started else {
        return Err("the program was given a terminal".to_owned());
    };
    drop((stdin, stderr));
    let bytes = tokio::task::spawn_blocking(move || read(stdout));
    let mut status = None;
    loop {
        match task.next_event().await.map_err(failed)? {
            Event::Exited(Exit::Status(code)) => status = Some(i64::from(code)),
            Event::Exited(Exit::Signal { number, .. }) => status = Some(128 + i64::from(number)),
            Event::Gone => break,
        }
    }
    let bytes =
        bytes.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(Output { bytes, status: status.ok_or("nobody knows how the program ended")? })
}

fn read(from: OwnedFd) -> io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(&from, false)?;
    let mut bytes = Vec::new();
    File::from(from).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn engines(engine: &Engine, container: &Container, words: &[&str]) -> Result<Output, String> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let spec = ExecSpec { words, ..ExecSpec::default() };
    let mut exec = engine.exec(&container.id, &spec).await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    while let Some(piece) = exec.output.next().await {
        let (source, piece) = piece.map_err(|error| error.to_string())?;
        if source == LogSource::Stdout && (bytes.len() as u64) < ANSWER_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        }
    }
    let state = engine.exec_state(&exec.id).await.map_err(|error| error.to_string())?;
    Ok(Output { bytes, status: state.exit_code.ok_or("the program still runs")? })
}
