//! The containers that may write to a file: those that run and have its place mounted, writable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::engine::{
    Container, ContainerFilter, ContainerState, Engine, EngineError, EngineErrorKind, ExecSpec,
    Mount,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::labels;
use crate::rotation::{Keep, Reopen, Wishes};

#[cfg(test)]
mod tests;

/// How long telling one container may take.
const TELL_TIME_MAX: Duration = Duration::from_secs(30);

/// How often, and in what steps, it is asked whether a program has ended whose output has.
const ENDED_ATTEMPTS_MAX: u32 = 50;
const ENDED_EVERY: Duration = Duration::from_millis(100);

/// Containers that are asked about at the most.
const CONTAINERS_MAX: usize = 10_000;

/// A container that may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// What its labels say about rotation.
    pub wishes: Wishes,
}

/// What the engine said.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// This process' own container, if it is in one.
    pub own: Option<Container>,
    /// Those that run, by name.
    pub running: Vec<Container>,
}

impl Surroundings {
    /// Asks the engine.
    pub async fn ask(host: Option<&str>) -> Result<Self, EngineError> {
        let engine = Engine::connect(host).await?;
        let own = engine.own_container().await?;
        let mut running = Vec::new();
        for listed in engine.list_containers(&ContainerFilter::default()).await? {
            if listed.state == ContainerState::NotRunning || running.len() >= CONTAINERS_MAX {
                continue;
            }
            match engine.inspect_container(&listed.id).await {
                Ok(container) if container.running => running.push(container),
                Ok(_) => {}
                // It was removed since.
                Err(error) if error.kind() == EngineErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        running.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Self { own, running })
    }

    /// Who may write to a file that this process sees as `path`.
    #[must_use]
    pub fn writers(&self, path: &Path) -> Vec<Writer> {
        let Some(place) = self.place(path) else { return Vec::new() };
        let own = self.own.as_ref().map(|own| own.id.as_str());
        let others = self.running.iter().filter(|container| Some(container.id.as_str()) != own);
        let writers = others.filter(|container| reaches(&container.mounts, &place));
        writers
            .map(|container| Writer {
                id: container.id.clone(),
                name: container.name.clone(),
                wishes: labels::rotation(&container.labels),
            })
            .collect()
    }

    /// Where a path is on the host; `None` when it is in no mount that the engine made.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let Some(own) = &self.own else { return Some(path.to_owned()) };
        let mount = innermost(&own.mounts, path, |mount| &mount.destination)?;
        Some(mount.source.join(path.strip_prefix(&mount.destination).ok()?))
    }
}

/// Whether one of the mounts has a place of the host below it, and can be written.
fn reaches(mounts: &[Mount], place: &Path) -> bool {
    mounts.iter().any(|mount| {
        mount.read_write && !mount.source.as_os_str().is_empty() && place.starts_with(&mount.source)
    })
}

fn innermost<'a>(
    mounts: &'a [Mount],
    path: &Path,
    place: impl Fn(&Mount) -> &PathBuf,
) -> Option<&'a Mount> {
    let holding = mounts.iter().filter(|mount| path.starts_with(place(mount)));
    holding.max_by_key(|mount| place(mount).as_os_str().len())
}

/// What the labels of all writers of a file say; `Err` names two that say different things. How each one is told is
/// its own affair, and no part of it: see [`tellings`].
pub fn wishes(writers: &[Writer]) -> Result<Wishes, (String, String)> {
    let mut said: Option<(&str, Wishes)> = None;
    for writer in writers {
        let wishes = Wishes { reopen: None, ..writer.wishes.clone() };
        if wishes == Wishes::default() {
            continue;
        }
        match &said {
            Some((_, other)) if *other == wishes => {}
            Some((name, _)) => return Err(((*name).to_owned(), writer.name.clone())),
            None => said = Some((&writer.name, wishes)),
        }
    }
    Ok(said.map(|(_, wishes)| wishes).unwrap_or_default())
}

/// What labels say of the files that stay: where they contradict each other, what lets more of them stay.
#[must_use]
pub fn keep(writers: &[Writer]) -> Keep {
    let all = writers.iter().map(|writer| writer.wishes.keep());
    all.reduce(Keep::looser).unwrap_or_default()
}

/// How each writer is told: as its label says, or else as the policy does. Whoever is not told is left out.
#[must_use]
pub fn tellings(writers: &[Writer], policy: &Reopen) -> Vec<(Writer, Reopen)> {
    let way = |writer: &Writer| writer.wishes.reopen.clone().unwrap_or_else(|| policy.clone());
    let ways = writers.iter().map(|writer| (writer.clone(), way(writer)));
    ways.filter(|(_, way)| way.is_told()).collect()
}

/// A writer that is being told.
pub type Telling = JoinHandle<Result<(), String>>;

/// Tells a writer to open its files again; what went wrong otherwise. It goes on by itself.
#[must_use]
pub fn tell(host: Option<&str>, runtime: &Handle, writer: &Writer, way: &Reopen) -> Telling {
    let (host, writer, way) = (host.map(str::to_owned), writer.clone(), way.clone());
    runtime.spawn(async move {
        let telling = async {
            let engine = Engine::connect(host.as_deref()).await;
            let engine = engine.map_err(|error| chores_common::exit::chain(&error))?;
            match tell_one(&engine, &writer, &way).await {
                // It ended meanwhile: it writes to nothing any more.
                Err(_) if has_ended(&engine, &writer.id).await => Ok(()),
                told => told,
            }
        };
        let told = timeout(TELL_TIME_MAX, telling).await;
        told.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    })
}

async fn has_ended(engine: &Engine, id: &str) -> bool {
    match engine.inspect_container(id).await {
        Ok(container) => !container.running,
        Err(error) => error.kind() == EngineErrorKind::NotFound,
    }
}

async fn tell_one(engine: &Engine, writer: &Writer, way: &Reopen) -> Result<(), String> {
    let in_words = |error: EngineError| chores_common::exit::chain(&error);
    match way {
        Reopen::None | Reopen::Name => Ok(()),
        Reopen::Signal(signal) => engine.kill(&writer.id, signal).await.map_err(in_words),
        Reopen::Exec(words) => {
            let spec = ExecSpec { words: words.clone(), ..ExecSpec::default() };
            let mut run = engine.exec(&writer.id, &spec).await.map_err(in_words)?;
            // A closed input cannot be needed; a broken one says the same.
            run.input.close().await.ok();
            while let Some(piece) = run.output.next().await {
                piece.map_err(in_words)?;
            }
            // The engine may know of the end a moment later than its output ends.
            for _ in 0..ENDED_ATTEMPTS_MAX {
                let state = engine.exec_state(&run.id).await.map_err(in_words)?;
                match state.exit_code {
                    Some(0) if !state.running => return Ok(()),
                    Some(code) if !state.running => {
                        return Err(format!("`{}` ended with code {code}", words.join(" ")));
                    }
                    _ => tokio::time::sleep(ENDED_EVERY).await,
                }
            }
            Err(format!("`{}` has not ended", words.join(" ")))
        }
    }
}
