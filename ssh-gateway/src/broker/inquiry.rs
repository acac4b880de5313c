//! What a client may ask the gateway itself: `ssh _@gateway ls`, `ssh _@gateway events`. In an answer is only what its key
//! may enter and run what it likes in, and nothing that a terminal obeys.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use chores_common::engine::{ContainerState, ListedContainer};
use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::refusal::{self, STATUS_GATEWAY};
use super::room::{Full, Room};
use super::terminal::{self, Terminal};
use crate::descriptor::watched;
use crate::login::{self, shown};
use crate::policy::Denial;
use crate::wire::net::Refusal;
use crate::wire::task::Failure;
use crate::wire::{Exit, Program, WindowSize};

#[cfg(test)]
mod tests;

/// Containers of one answer.
const LISTED_MAX: usize = 1000;
/// How often it is looked what has changed.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Who looks at the same time: each asks the engine by itself.
const WATCHERS_MAX: usize = 16;
/// How many of these are of one identity.
const WATCHERS_OF_ONE_MAX: usize = 2;
/// Looks one after the other that the engine may leave unanswered: it may be started again meanwhile.
const FAILED_LOOKS_MAX: u32 = 15;
/// A client takes a piece of an answer in this time, or gets no more.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Control-C and Control-D.
const GIVE_UP: [u8; 2] = [3, 4];
/// Bytes of what is typed that are looked at together.
const READ_BYTES: usize = 256;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inquiry {
    about: About,
    is_json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The containers that there are.
    Containers,
    /// What happens to them, until the client goes.
    Events,
}

impl Inquiry {
    /// Reads a command: `ls` or `events`, and `--json` behind it. `None` when it is another one.
    pub(super) fn parse(program: &Program) -> Option<Self> {
        let Program::Command(command) = program else { return None };
        let words = std::str::from_utf8(command).ok()?.split_ascii_whitespace();
        let (about, is_json) = match *words.collect::<Vec<_>>() {
            ["ls"] => (About::Containers, false),
            ["ls", "--json"] => (About::Containers, true),
            ["events"] => (About::Events, false),
            ["events", "--json"] => (About::Events, true),
            _ => return None,
        };
        Some(Self { about, is_json })
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self.about {
            About::Containers => "ls",
            About::Events => "events",
        }
    }

    /// Begins to answer. Gives what net gets, one descriptor for a terminal or three, and where the end is told; whoever
    /// drops that ends the answer. Needs a tokio runtime.
    pub(super) fn answer(
        self,
        connection: &Arc<Connection>,
        terminal: Option<WindowSize>,
    ) -> Result<(oneshot::Receiver<Exit>, Vec<OwnedFd>), Refusal> {
        let who = connection.identity.name().unwrap_or(connection.identity.fingerprint());
        let watching = match self.about {
            About::Containers => None,
            About::Events => Some(connection.shared.watchers.take(who).map_err(refusal_of)?),
        };
        let (out, descriptors) = Out::new(terminal)
            .map_err(|_| refusal::failed("the gateway has nothing to answer on"))?;
        let (mut told, end) = oneshot::channel();
        let connection = Arc::clone(connection);
        tokio::spawn(async move {
            let _watching = watching;
            let answered = tokio::select! {
                answered = self.say(&connection, &out) => answered,
                () = out.given_up(), if self.about == About::Events => Err(End::GivenUp),
                () = told.closed() => return,
            };
            let status = match answered {
                Ok(()) | Err(End::GivenUp) => 0,
                Err(End::Unread) => STATUS_GATEWAY,
                Err(End::Failed(failure)) => {
                    let refusal = refusal::of_failure(&failure);
                    out.complain(&refusal.message).await;
                    refusal.status
                }
                Err(End::Refused(refusal)) => {
                    out.complain(&refusal.message).await;
                    refusal.status
                }
            };
            drop(out);
            // Nobody may wait for it any more.
            told.send(Exit::Status(status)).ok();
        });
        Ok((end, descriptors))
    }

    async fn say(self, connection: &Connection, out: &Out) -> Result<(), End> {
        let listed = visible(connection).await?;
        match self.about {
            About::Containers if self.is_json => out.say(&json(&listed)).await,
            About::Containers => out.say(&table(&listed)).await,
            About::Events => {
                let mut before = known(&listed);
                let mut failed = 0;
                loop {
                    sleep(LOOK_PERIOD).await;
                    let now = match visible(connection).await {
                        Err(End::Failed(_)) if failed < FAILED_LOOKS_MAX => {
                            failed += 1;
                            continue;
                        }
                        listed => known(&listed?),
                    };
                    failed = 0;
                    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                    let events = changes(&before, &now, &time);
                    let lines = events.iter().map(|event| event.line(self.is_json));
                    out.say(&lines.collect::<String>()).await?;
                    before = now;
                }
            }
        }
    }
}

/// Why an answer ends before all is said.
#[derive(Debug)]
enum End {
    /// The client does not want more.
    GivenUp,
    /// It does not take it.
    Unread,
    /// The engine does not answer.
    Failed(Failure),
    /// There is nothing to say.
    Refused(Refusal),
}

/// Room for who looks at events.
pub(super) fn room() -> Room {
    Room::new(WATCHERS_OF_ONE_MAX, WATCHERS_MAX)
}

fn refusal_of(full: Full) -> Refusal {
    refusal::failed(match full {
        Full::OfOne => "you look at events already; end that first",
        Full::OfAll => "too many look at events already; try again later",
    })
}

/// What the key of a connection is told of now, by name: asked again for every look.
async fn visible(connection: &Connection) -> Result<Vec<ListedContainer>, End> {
    let refused = |denial: Denial| End::Refused(refusal::prohibited(denial.to_string()));
    let listed = connection.shared.containers.list().await;
    let mut listed = listed.map_err(End::Failed)?;
    // By what counts when the answer is given.
    let identity = connection.identity_now().map_err(refused)?;
    let inquirer = identity.inquirer().map_err(refused)?;
    listed.retain(|container| inquirer.sees(container));
    listed.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    Ok(listed)
}

/// A container as it is told.
#[derive(Debug, Serialize)]
struct Told {
    name: String,
    id: String,
    state: &'static str,
    image: String,
    project: Option<String>,
    service: Option<String>,
}

impl Told {
    fn of(container: &ListedContainer) -> Self {
        Self {
            name: shown(&container.name),
            id: shown(&container.id),
            state: state(container.state),
            image: shown(&container.image_ref),
            project: login::compose_project(container).map(shown),
            service: login::compose_service(container).map(shown),
        }
    }
}

fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::NotRunning => "stopped",
    }
}

/// The same as many lines of JSON.
fn json(listed: &[ListedContainer]) -> String {
    let lines = listed.iter().take(LISTED_MAX).map(|container| line_of(&Told::of(container)));
    let mut text: String = lines.collect();
    let more = listed.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        text.push_str(&line_of(&serde_json::json!({ "left_out": more })));
    }
    text
}

fn line_of(value: &impl Serialize) -> String {
    // Texts have a JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn table(listed: &[ListedContainer]) -> String {
    let mut rows = vec![["CONTAINER", "STATE", "SERVICE", "IMAGE"].map(str::to_owned)];
    rows.extend(listed.iter().take(LISTED_MAX).map(|container| {
        let Told { name, state, image, project, service, .. } = Told::of(container);
        let service = match (project, service) {
            (Some(project), Some(service)) => format!("{project}~{service}"),
            _ => "-".to_owned(),
        };
        [name, state.to_owned(), service, image]
    }));
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    });
    let mut text: String = lines.collect();
    let more = listed.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

/// What is remembered of a container from one look to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: String,
    image: String,
    state: ContainerState,
}

/// By their ids.
fn known(listed: &[ListedContainer]) -> BTreeMap<String, Known> {
    let known = listed.iter().map(|container| {
        let (name, image) = (shown(&container.name), shown(&container.image_ref));
        (shown(&container.id), Known { name, image, state: container.state })
    });
    known.collect()
}

/// Something that has happened to a container.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Event<'a> {
    time: &'a str,
    event: &'static str,
    name: &'a str,
    id: &'a str,
    image: &'a str,
}

impl Event<'_> {
    fn line(&self, is_json: bool) -> String {
        if is_json {
            return line_of(self);
        }
        let Self { time, event, name, image, .. } = self;
        format!("{time}  {event:7}  {name}  ({image})\n")
    }
}

/// What must have happened between two looks.
fn changes<'a>(
    before: &'a BTreeMap<String, Known>,
    now: &'a BTreeMap<String, Known>,
    time: &'a str,
) -> Vec<Event<'a>> {
    let told = |event, id: &'a str, known: &'a Known| Event {
        time,
        event,
        name: &known.name,
        id,
        image: &known.image,
    };
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
    let mut events: Vec<_> = gone.map(|(id, known)| told("remove", id, known)).collect();
    for (id, known) in now {
        let was = before.get(id);
        if was.is_none() {
            events.push(told("create", id, known));
        }
        if was.is_some_and(|was| was.name != known.name) {
            events.push(told("rename", id, known));
        }
        let state = was.map_or(ContainerState::NotRunning, |was| was.state);
        events.extend(step(state, known.state).map(|event| told(event, id, known)));
    }
    events
}

/// What leads from one state to another.
fn step(from: ContainerState, to: ContainerState) -> Option<&'static str> {
    match (from, to) {
        (ContainerState::NotRunning, ContainerState::Running) => Some("start"),
        (ContainerState::Running | ContainerState::Paused, ContainerState::NotRunning) => {
            Some("stop")
        }
        (ContainerState::Running | ContainerState::NotRunning, ContainerState::Paused) => {
            Some("pause")
        }
        (ContainerState::Paused, ContainerState::Running) => Some("unpause"),
        (ContainerState::NotRunning, ContainerState::NotRunning)
        | (ContainerState::Running, ContainerState::Running)
        | (ContainerState::Paused, ContainerState::Paused) => None,
    }
}

/// Where an answer goes.
#[derive(Debug)]
enum Out {
    Terminal(Terminal),
    Pipes {
        output: AsyncFd<OwnedFd>,
        errors: AsyncFd<OwnedFd>,
        /// Nobody reads what the client sends.
        _input: OwnedFd,
    },
}

impl Out {
    /// With what net gets of it.
    fn new(terminal: Option<WindowSize>) -> io::Result<(Self, Vec<OwnedFd>)> {
        if let Some(size) = terminal {
            let (ours, master) = Terminal::new(size)?;
            return Ok((Self::Terminal(ours), vec![master]));
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (input, output, errors) = (pipe()?, pipe()?, pipe()?);
        let ours =
            Self::Pipes { output: watched(output.1)?, errors: watched(errors.1)?, _input: input.0 };
        Ok((ours, vec![input.1, output.0, errors.0]))
    }

    async fn say(&self, text: &str) -> Result<(), End> {
        let said = async {
            match self {
                Self::Terminal(terminal) => terminal.write(text.as_bytes()).await,
                Self::Pipes { output, .. } => terminal::write(output, text.as_bytes()).await,
            }
        };
        match timeout(ANSWER_TIME_MAX, said).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Unread),
        }
    }

    /// Says what is wrong, if anybody reads it.
    async fn complain(&self, reason: &str) {
        let line = format!("{}\n", login::told(reason));
        let said = async {
            match self {
                Self::Terminal(terminal) => terminal.write(line.as_bytes()).await,
                Self::Pipes { errors, .. } => terminal::write(errors, line.as_bytes()).await,
            }
        };
        if !matches!(timeout(ANSWER_TIME_MAX, said).await, Ok(Ok(()))) {
            tracing::debug!("an answer that could not be given is not read either");
        }
    }

    /// Waits until somebody at a terminal has had enough. Without one the client itself ends, and the channel with it.
    async fn given_up(&self) {
        let Self::Terminal(terminal) = self else { return std::future::pending().await };
        let mut typed = [0; READ_BYTES];
        loop {
            match terminal.read(&mut typed).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let typed = typed.get(..length).unwrap_or_default();
                    if typed.iter().any(|byte| GIVE_UP.contains(byte)) {
                        return;
                    }
                }
            }
        }
    }
}
