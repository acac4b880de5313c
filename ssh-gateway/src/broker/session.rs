//! One session: prepared while its client still talks, started, watched, ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Choice, Connection, NoChoice, descriptors};
use super::containers::Plan;
use super::engine_exec::{self, EngineProgram};
use super::environment::{Facts, of_connection};
use super::forward::Agent;
use super::inquiry::Inquiry;
use super::recording::{self, Subject};
use super::refusal::{self, failure_of};
use super::sessions::{Listed, Running, Sessions};
use super::tap::{self, Scope, Tap};
use super::terminal::{self, Terminal};
use super::{audit, forward, picker};
use crate::config::Mode;
use crate::control;
use crate::hop::{Event, Started, Task};
use crate::policy::{Chosen, Denial, Record, Unrecorded};
use crate::wire::net::{Answer, ItemId, News, Refusal};
use crate::wire::task::{Failure, FailureKind};
use crate::wire::{self, Exit, Opaque, Program, WindowSize};

/// Orders that wait for a session; a client that sends more signals loses some.
pub(super) const ORDERS_MAX: usize = 32;
/// A container is kept ready for a program that nobody starts for this long.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Of a session without a terminal, for who plays its recording.
const SIZE_DEFAULT: WindowSize = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
/// Beyond its grace, a session has this long to end.
const END_TIME_MAX: Duration = Duration::from_secs(30);
/// The last words of a session that was killed are waited for this long: its client may not want them.
const KILLED_TIME_MAX: Duration = Duration::from_secs(2);

/// In place of a container's name, where there is none.
const NO_CONTAINER: &str = "-";

/// How a program has ended that nobody has seen end.
const KILLED: Exit = Exit::Signal { number: libc::SIGKILL, core_dumped: false };

/// What a session is told; the end of the orders is the order to end.
#[derive(Debug)]
pub(super) enum Order {
    /// To start; once.
    Start(Box<Wanted>),
    /// To send a signal, by its number.
    Signal(i32),
}

/// What the client wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The question to answer.
    pub(super) number: u64,
    pub(super) program: Program,
    pub(super) terminal: Option<wire::Terminal>,
    pub(super) environment: Vec<(String, Opaque)>,
    pub(super) agent: bool,
}

/// How a container is entered.
enum Entry {
    Native { plan: Arc<Plan>, task: Task },
    Engine { reason: String },
}

/// A container that is chosen, and entered as far as possible.
struct Ready {
    choice: Arc<Choice>,
    entry: Entry,
}

/// How far getting ready is.
enum Prepared {
    NotYet,
    Done(Result<Ready, Unready>),
    /// It may not be done before the start, or was done so long ago that it was given up.
    NotNow,
}

/// What is not ready.
enum Unready {
    NoChoice(NoChoice),
    Failed(Failure),
}

impl Unready {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NoChoice(none) => none.refusal(),
            Self::Failed(failure) => refusal::of_failure(failure),
        }
    }
}

/// A program that runs.
enum Way {
    Native(Task),
    Engine(EngineProgram),
}

/// A session from its channel's opening to its end. Ends when its orders do.
pub(super) async fn run(
    connection: Arc<Connection>,
    session: ItemId,
    mut orders: mpsc::Receiver<Order>,
) {
    let Some((wanted, ready)) = prepare(&connection, &mut orders).await else { return };
    let number = wanted.number;
    let begun = Instant::now();
    let begin = begin(&connection, session, *wanted, ready);
    let outcome = tokio::select! {
        outcome = begin => outcome,
        // What was begun is dropped, and ends with that.
        () = closed(&mut orders) => return,
    };
    match outcome {
        Ok((way, agent, account)) => {
            watch(&connection, session, way, account, begun, orders).await;
            if let Some(agent) = agent {
                forward::unlisten(&connection, session, agent).await;
            }
        }
        Err(refusal) => {
            audit::refused(&connection, session, &refusal);
            connection.refuse(number, refusal).await;
        }
    }
}

/// Waits for the start, and gets ready meanwhile.
async fn prepare(
    connection: &Connection,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<(Box<Wanted>, Result<Ready, Unready>)> {
    let mut preparing = std::pin::pin!(ready_early(connection));
    let mut prepared = Prepared::NotYet;
    let wanted = loop {
        tokio::select! {
            result = &mut preparing, if matches!(prepared, Prepared::NotYet) => {
                prepared = result.map_or(Prepared::NotNow, Prepared::Done);
            }
            order = orders.recv() => match order {
                Some(Order::Start(wanted)) => break wanted,
                Some(Order::Signal(_)) => {}
                None => return None,
            },
            () = sleep(READY_TIME_MAX), if matches!(prepared, Prepared::Done(_)) => {
                prepared = Prepared::NotNow;
            }
        }
    };
    let result = async {
        match prepared {
            Prepared::Done(result) => result,
            Prepared::NotYet => match preparing.await {
                Some(result) => result,
                None => ready(connection).await,
            },
            Prepared::NotNow => ready(connection).await,
        }
    };
    tokio::select! {
        result = result => Some((wanted, result)),
        () = closed(orders) => None,
    }
}

/// Waits until the session is to end.
async fn closed(orders: &mut mpsc::Receiver<Order>) {
    while orders.recv().await.is_some() {}
}

/// Gets ready before the client has said what for. `None` for a container whose root may trace: what waits in it
/// still has rights of the host, so it must not wait there longer than it takes to give them up.
async fn ready_early(connection: &Connection) -> Option<Result<Ready, Unready>> {
    let choice = match connection.choice().await {
        Ok(choice) => choice,
        Err(none) => return Some(Err(Unready::NoChoice(none))),
    };
    match connection.may_be_traced(&choice).await {
        Ok(true) => None,
        Ok(false) => Some(enter(connection, choice).await.map_err(Unready::Failed)),
        Err(failure) => Some(Err(Unready::Failed(failure))),
    }
}

async fn ready(connection: &Connection) -> Result<Ready, Unready> {
    let choice = connection.choice().await.map_err(Unready::NoChoice)?;
    enter(connection, choice).await.map_err(Unready::Failed)
}

async fn enter(connection: &Connection, choice: Arc<Choice>) -> Result<Ready, Failure> {
    let mode = connection.shared.config.enter.mode;
    if mode == Mode::Engine {
        let reason = "the gateway is told to use it".to_owned();
        return Ok(Ready { choice, entry: Entry::Engine { reason } });
    }
    match connection.enter(&choice).await {
        Ok((plan, task)) => Ok(Ready { choice, entry: Entry::Native { plan, task } }),
        Err(failure) if may_fall_back(mode, &failure) => {
            Ok(Ready { choice, entry: Entry::Engine { reason: failure.reason } })
        }
        Err(failure) => {
            let container = &choice.container.name;
            tracing::warn!(
                connection = connection.id,
                container,
                "cannot enter: {}",
                failure.reason
            );
            Err(failure)
        }
    }
}

/// The engine's exec confines as it must be done, so it may take our place where we cannot do it. Not where the
/// confinement could not be proved: then somebody may be at work who is to be found.
fn may_fall_back(mode: Mode, failure: &Failure) -> bool {
    mode == Mode::Auto && failure.kind == FailureKind::NotNative
}

/// Starts the program and answers; the error is the refusal that is still to be sent. The number is that of the
/// agent's listener.
async fn begin(
    connection: &Arc<Connection>,
    session: ItemId,
    wanted: Wanted,
    ready: Result<Ready, Unready>,
) -> Result<(Way, Option<u64>, Option<Account>), Refusal> {
    if let Some(inquiry) = inquiry(connection, &wanted.program) {
        let (way, account) = inquire(connection, session, &wanted, inquiry).await?;
        return Ok((way, None, Some(account)));
    }
    match ready {
        Ok(ready) => {
            let number = wanted.number;
            let (begun, account) = start(connection, session, wanted, ready).await?;
            connection.words.answer(number, begun.answer, begun.descriptors).await;
            Ok((begun.way, begun.agent, Some(account)))
        }
        Err(Unready::NoChoice(NoChoice::Choose { reason, among }))
            if !among.is_empty()
                && matches!(wanted.program, Program::Shell)
                && wanted.terminal.is_some() =>
        {
            let (way, account) =
                pick_and_start(connection, session, wanted, &reason, &among).await?;
            Ok((way, None, account))
        }
        Err(unready) => Err(unready.refusal()),
    }
}

/// What a client asks the gateway itself.
fn inquiry(connection: &Connection, program: &Program) -> Option<Inquiry> {
    connection.is_for_gateway().then(|| Inquiry::parse(program)).flatten()
}

/// Answers it as a program would.
async fn inquire(
    connection: &Arc<Connection>,
    session: ItemId,
    wanted: &Wanted,
    inquiry: Inquiry,
) -> Result<(Way, Account), Refusal> {
    let shared = &connection.shared;
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    // What the key may ask may have changed since it came in.
    let identity = connection.identity_now().map_err(denied)?;
    let inquirer = identity.inquirer().map_err(denied)?;
    let size = wanted.terminal.as_ref().map(|terminal| terminal.size);
    if size.is_some() {
        inquirer.terminal().map_err(denied)?;
    }
    let mut account = Account::new(inquirer.unrecorded(shared.config.record.unrecorded))?;
    let mark = shared.journal.mark();
    audit::inquiry(connection, session, &account.name, inquirer.rule(), inquiry.name());
    shared.accountable(mark, account.unrecorded).await?;
    let (end, descriptors) = inquiry.answer(connection, size)?;
    account.list(
        connection,
        &Run {
            container: NO_CONTAINER,
            user: None,
            rule: inquirer.rule(),
            program: audit::told_program(&wanted.program),
            terminal: size.is_some(),
        },
    );
    let answer = Answer::Started { terminal: size.is_some(), agent: false, degraded: None };
    connection.words.answer(wanted.number, answer, descriptors).await;
    Ok((Way::Engine(EngineProgram::told_by(end)), account))
}

/// A program that runs, and what net is told.
struct Begun {
    way: Way,
    answer: Answer,
    descriptors: Vec<OwnedFd>,
    /// The order that made the agent's listener.
    agent: Option<u64>,
}

/// What is kept of a session, and what may be done to it.
#[derive(Debug)]
pub(super) struct Account {
    /// Its name: never that of another session.
    pub(super) name: String,
    /// What records it, until its program has ended: what the session has left may take long to end.
    pub(super) tap: Option<Arc<Tap>>,
    unrecorded: Unrecorded,
    /// Ends it.
    end: CancellationToken,
    _listed: Option<Listed>,
}

/// What a session is on the list of those that run.
struct Run<'a> {
    container: &'a str,
    user: Option<&'a str>,
    rule: &'a str,
    program: String,
    terminal: bool,
}

impl Account {
    /// Of a session that is not recorded, or not yet.
    fn new(unrecorded: Unrecorded) -> Result<Self, Refusal> {
        let name = Sessions::name();
        let name = name.map_err(|_| refusal::failed("there is no chance for a name"))?;
        Ok(Self { name, tap: None, unrecorded, end: CancellationToken::new(), _listed: None })
    }

    /// Puts it on the list, for as long as it is there.
    fn list(&mut self, connection: &Connection, run: &Run<'_>) {
        self._listed = Some(connection.shared.sessions.add(Running {
            told: control::Session {
                session: self.name.clone(),
                connection: connection.id,
                identity: connection.identity.name().map(str::to_owned),
                key: connection.identity.fingerprint().to_owned(),
                peer: connection.peer.to_string(),
                container: run.container.to_owned(),
                user: run.user.map(str::to_owned),
                program: run.program.clone(),
                terminal: run.terminal,
                rule: run.rule.to_owned(),
                recording: self.tap.as_ref().map(|tap| tap.name().to_owned()),
                since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            },
            end: self.end.clone(),
            tap: self.tap.as_ref().map(Arc::downgrade),
        }));
    }
}

/// Begins to record a session where that is to be done.
async fn account(
    connection: &Connection,
    choice: &Choice,
    program: &Program,
    terminal: Option<&wire::Terminal>,
) -> Result<Account, Refusal> {
    let shared = &connection.shared;
    let (record, unrecorded) = shared.record(&choice.access);
    let mut account = Account::new(unrecorded)?;
    let scope = match (program, terminal) {
        (_, Some(_)) | (Program::Shell, None) => Scope::Whole,
        (Program::Command(_) | Program::Words(_), None) => Scope::Text,
        // Files are not for a screen.
        (Program::Sftp | Program::SftpReadOnly | Program::Portal, None) => return Ok(account),
    };
    if record == Record::Nothing {
        return Ok(account);
    }
    let (session, container) = (account.name.clone(), choice.container.name.clone());
    let title = format!(
        "{}@{container}: {}",
        connection.identity.name().unwrap_or(connection.identity.fingerprint()),
        audit::told_program(program)
    );
    let size = terminal.map_or(SIZE_DEFAULT, |terminal| terminal.size);
    let subject = Subject { session, container, title, size };
    match shared.recordings.begin_in_time(subject, recording::BEGIN_TIME_MAX).await {
        Ok(recording) => {
            let end = account.end.clone();
            account.tap = Some(Arc::new(Tap::new(recording, record, unrecorded, scope, end)));
        }
        Err(reason) => shared.unrecorded(unrecorded, &reason)?,
    }
    Ok(account)
}

/// Starts what is to run, with its account.
async fn start(
    connection: &Connection,
    session: ItemId,
    wanted: Wanted,
    ready: Ready,
) -> Result<(Begun, Account), Refusal> {
    let Ready { choice, entry } = ready;
    let access = &choice.access;
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    connection.check(access).map_err(denied)?;
    let terminal = wanted.terminal.clone();
    if terminal.is_some() {
        access.terminal().map_err(denied)?;
    }
    let chosen = access.program(wanted.program.clone()).map_err(denied)?;
    let mut account = account(connection, &choice, &chosen.program, terminal.as_ref()).await?;
    let mark = connection.shared.journal.mark();
    audit::session(connection, session, &choice, &chosen.program, terminal.is_some(), &account);
    connection.shared.accountable(mark, account.unrecorded).await?;
    let program = audit::told_program(&chosen.program);
    let mut begun = launch(connection, session, wanted, &choice, entry, chosen).await?;
    if let Some(tap) = &account.tap {
        begun.descriptors = tapped(tap, terminal.as_ref(), begun.descriptors).map_err(|error| {
            tracing::error!(connection = connection.id, session, "cannot be recorded: {error}");
            refusal::failed("the session cannot be connected")
        })?;
    }
    account.list(
        connection,
        &Run {
            container: &choice.container.name,
            user: access.user(),
            rule: &access.rule().name,
            program,
            terminal: terminal.is_some(),
        },
    );
    Ok((begun, account))
}

/// What net gets in place of a program's own descriptors: what goes through is recorded on the way.
fn tapped(
    tap: &Arc<Tap>,
    terminal: Option<&wire::Terminal>,
    descriptors: Vec<OwnedFd>,
) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    let mut given = match terminal {
        Some(terminal) => vec![tap::terminal(tap, terminal.size, next()?)?],
        None => {
            let (input, output, errors) = (next()?, next()?, next()?);
            let [output, errors] = tap::pipes(tap, output, errors)?;
            vec![input, output, errors]
        }
    };
    given.extend(descriptors);
    Ok(given)
}

async fn launch(
    connection: &Connection,
    session: ItemId,
    wanted: Wanted,
    choice: &Choice,
    entry: Entry,
    chosen: Chosen,
) -> Result<Begun, Refusal> {
    let access = &choice.access;
    let agent = match (&entry, wanted.agent && access.may_forward_agent()) {
        (Entry::Native { .. }, true) => match forward::agent(connection).await {
            Ok(agent) => Some(agent),
            // As sshd does: the session is had without an agent.
            Err(refusal) => {
                tracing::warn!(
                    connection = connection.id,
                    session,
                    "no agent: {}",
                    refusal.message
                );
                None
            }
        },
        _ => None,
    };
    let mut environment =
        access.environment(&connection.shared.config.accept_environment, &wanted.environment);
    environment.extend(of_connection(&Facts {
        peer: connection.peer,
        local: connection.local,
        original: chosen.original.as_deref(),
        agent: agent.as_ref().map(|agent| agent.path.as_slice()),
    }));
    match entry {
        Entry::Native { plan, task } => {
            let mut start =
                connection.start(choice, &plan, chosen.program.clone(), environment.clone());
            start.terminal = wanted.terminal.clone();
            match task.start(start).await {
                Ok(started) => Ok(native(task, started, agent)),
                Err(error) => {
                    let failure = failure_of(&error);
                    if may_fall_back(connection.shared.config.enter.mode, &failure) {
                        return by_engine(
                            connection,
                            session,
                            choice,
                            &chosen.program,
                            &wanted,
                            environment,
                            &failure.reason,
                        )
                        .await;
                    }
                    tracing::warn!(
                        connection = connection.id,
                        session,
                        "cannot start: {}",
                        failure.reason
                    );
                    Err(refusal::of_failure(&failure))
                }
            }
        }
        Entry::Engine { reason } => {
            by_engine(connection, session, choice, &chosen.program, &wanted, environment, &reason)
                .await
        }
    }
}

fn native(task: Task, started: Started, agent: Option<Agent>) -> Begun {
    let terminal = matches!(started, Started::Terminal { .. });
    let answer = Answer::Started { terminal, agent: agent.is_some(), degraded: None };
    let mut descriptors = descriptors(started);
    let number = agent.as_ref().map(|agent| agent.number);
    descriptors.extend(agent.map(|agent| agent.socket));
    Begun { way: Way::Native(task), answer, descriptors, agent: number }
}

async fn by_engine(
    connection: &Connection,
    session: ItemId,
    choice: &Choice,
    program: &Program,
    wanted: &Wanted,
    environment: Vec<Opaque>,
    reason: &str,
) -> Result<Begun, Refusal> {
    audit::degraded(connection, session, reason);
    let engine = &connection.shared.containers.engine;
    let user = choice.access.user();
    let terminal = wanted.terminal.as_ref();
    let started =
        engine_exec::start(engine, &choice.container.id, user, program, terminal, environment)
            .await;
    let (running, descriptors) = started.map_err(|reason| {
        tracing::warn!(connection = connection.id, session, "the engine's exec failed: {reason}");
        refusal::failed("the program could not be started by the container engine")
    })?;
    let answer = Answer::Started {
        terminal: terminal.is_some(),
        agent: false,
        degraded: Some(engine_exec::NOTICE.to_owned()),
    };
    Ok(Begun { way: Way::Engine(running), answer, descriptors, agent: None })
}

/// Asks on a terminal of our own which container it shall be, and then carries bytes between that and the real one.
async fn pick_and_start(
    connection: &Connection,
    session: ItemId,
    mut wanted: Wanted,
    reason: &str,
    among: &[chores_common::engine::ListedContainer],
) -> Result<(Way, Option<Account>), Refusal> {
    let broken = |_| refusal::failed("the gateway has no terminal to ask on");
    let size = wanted.terminal.as_ref().map(|terminal| terminal.size).unwrap_or_default();
    let (ours, master) = Terminal::new(size).map_err(broken)?;
    // Nobody would listen at its socket: the answer is given before it could be made.
    wanted.agent = false;
    let answer = Answer::Started { terminal: true, agent: false, degraded: None };
    connection.words.answer(wanted.number, answer, vec![master]).await;
    // From here on there is a session: what fails is said on the terminal.
    let shown = async {
        let chosen = picker::pick(&ours, reason, among).await.ok().flatten();
        let chosen = chosen.ok_or_else(|| refusal::failed("no container was chosen"))?;
        let choice = connection.choose(&chosen).await.map_err(|none| none.refusal())?;
        let ready = enter(connection, choice).await;
        let ready = ready.map_err(|failure| refusal::of_failure(&failure))?;
        if let Some(terminal) = wanted.terminal.as_mut() {
            terminal.size = ours.size().map_err(broken)?;
        }
        ours.make_raw().map_err(broken)?;
        start(connection, session, wanted, ready).await
    };
    let (begun, account) = match shown.await {
        Ok(begun) => begun,
        Err(refusal) => {
            audit::refused(connection, session, &refusal);
            let line = format!("{}\r\n", refusal.message);
            drop(timeout(END_TIME_MAX, ours.write(line.as_bytes())).await);
            return Ok((Way::Engine(EngineProgram::ended(Exit::Status(refusal.status))), None));
        }
    };
    if let Answer::Started { degraded: Some(notice), .. } = &begun.answer {
        drop(timeout(END_TIME_MAX, ours.write(format!("{notice}\r\n").as_bytes())).await);
    }
    let mut descriptors = begun.descriptors.into_iter();
    if let Some(master) = descriptors.next() {
        tokio::spawn(async move {
            if let Err(error) = terminal::join(&ours, master).await {
                tracing::debug!("a terminal broke: {error}");
            }
        });
    }
    Ok((begun.way, Some(account)))
}

/// Tells how the program ends, hands on signals, and ends what is left when the session is closed.
async fn watch(
    connection: &Connection,
    session: ItemId,
    mut way: Way,
    mut account: Option<Account>,
    begun: Instant,
    mut orders: mpsc::Receiver<Order>,
) {
    let name = account.as_ref().map(|account| account.name.clone());
    let name = name.as_deref();
    let tap = account.as_ref().and_then(|account| account.tap.as_ref()).map(Arc::downgrade);
    // Nobody kills what has no account.
    let killed = account.as_ref().map(|account| account.end.clone()).unwrap_or_default();
    let cutter = account.as_ref().and_then(|account| account.tap.as_ref()).map(|tap| tap.cutter());
    let mut has_exited = false;
    loop {
        let event = async {
            match &mut way {
                Way::Native(task) => task.next_event().await,
                // Nothing more is heard of it.
                Way::Engine(_) if has_exited => std::future::pending().await,
                Way::Engine(program) => Ok(Event::Exited(program.exit().await)),
            }
        };
        tokio::select! {
            event = event => match event {
                Ok(Event::Exited(exit)) => {
                    has_exited = true;
                    audit::exited(connection, session, name, exit, begun.elapsed());
                    tokio::select! {
                        () = settled(&mut account, exit) => {}
                        // Nobody waits for the rest.
                        () = closed(&mut orders) => {}
                        () = async {
                            killed.cancelled().await;
                            sleep(KILLED_TIME_MAX).await;
                        } => {}
                    }
                    connection.words.news(News::Exited { session, exit }).await;
                }
                Ok(Event::Gone) => break,
                Err(error) => {
                    tracing::warn!(connection = connection.id, session, "a session is lost: {error}");
                    break;
                }
            },
            order = orders.recv() => match order {
                Some(Order::Signal(number)) => signal(&way, number).await,
                Some(Order::Start(_)) => {}
                None => {
                    let ending = Ending { begun, has_exited, patience: END_TIME_MAX };
                    leave(connection, session, way, &mut account, ending).await;
                    return;
                }
            },
            () = killed.cancelled() => {
                let is_lost = tap.and_then(|tap| tap.upgrade()).is_some_and(|tap| tap.is_lost());
                // Who is ended does nothing more, however long his programs take. Who is not recorded any more is told so
                // first, and nothing of it goes through.
                if !is_lost {
                    if let Some(cutter) = &cutter {
                        cutter.cancel();
                    }
                    connection.words.news(News::Cut { session, exit: KILLED }).await;
                }
                let ending = Ending { begun, has_exited, patience: KILLED_TIME_MAX };
                leave(connection, session, way, &mut account, ending).await;
                if let Some(cutter) = cutter {
                    cutter.cancel();
                }
                return;
            }
        }
    }
    if !has_exited {
        // Its end was not seen: it was killed with everything else.
        exited(connection, session, &mut account, KILLED, begun, END_TIME_MAX).await;
    }
}

/// Tells how a program has ended, when its client has had `patience` for the rest.
async fn exited(
    connection: &Connection,
    session: ItemId,
    account: &mut Option<Account>,
    exit: Exit,
    begun: Instant,
    patience: Duration,
) {
    let name = account.as_ref().map(|account| account.name.as_str());
    audit::exited(connection, session, name, exit, begun.elapsed());
    timeout(patience, settled(account, exit)).await.ok();
    connection.words.news(News::Exited { session, exit }).await;
}

/// Waits until a program that has ended has said everything to its client, and leaves its recording to what is still on
/// its way: its line in the audit must not wait for the end of all that the session has left.
async fn settled(account: &mut Option<Account>, exit: Exit) {
    let tap = account.as_mut().and_then(|account| account.tap.take());
    if let Some(tap) = tap {
        tap.exited(exit).await;
    }
}

async fn signal(way: &Way, number: i32) {
    match way {
        Way::Native(task) => {
            if let Err(error) = task.signal(number).await {
                tracing::debug!("a signal is lost: {error}");
            }
        }
        // The engine has no such request.
        Way::Engine(_) => {}
    }
}

/// How a session is ended.
struct Ending {
    /// When it began.
    begun: Instant,
    /// The end of its program was told.
    has_exited: bool,
    /// How long its client may take for the last words.
    patience: Duration,
}

/// Ends what is left of a session, and tells how it has ended.
async fn leave(
    connection: &Connection,
    session: ItemId,
    way: Way,
    account: &mut Option<Account>,
    ending: Ending,
) {
    match way {
        Way::Native(task) => end(connection, session, task, account, ending).await,
        Way::Engine(program) => {
            // What the engine has started it alone can end; but nothing of it reaches the client any more.
            drop(program);
            if !ending.has_exited {
                exited(connection, session, account, KILLED, ending.begun, ending.patience).await;
            }
        }
    }
}

async fn end(
    connection: &Connection,
    session: ItemId,
    task: Task,
    account: &mut Option<Account>,
    ending: Ending,
) {
    let grace = connection.shared.config.stop_grace;
    let ended = timeout(grace + END_TIME_MAX, async {
        if let Err(error) = task.end(grace).await {
            tracing::debug!(connection = connection.id, session, "cannot be told to end: {error}");
        }
        loop {
            match task.next_event().await {
                // The client still listens when it is the gateway that ends.
                Ok(Event::Exited(exit)) if !ending.has_exited => {
                    exited(connection, session, account, exit, ending.begun, ending.patience).await;
                }
                Ok(Event::Exited(_)) => {}
                Ok(Event::Gone) => return,
                Err(error) => {
                    tracing::warn!(
                        connection = connection.id,
                        session,
                        "a session is lost: {error}"
                    );
                    return;
                }
            }
        }
    });
    if ended.await.is_err() {
        tracing::error!(
            connection = connection.id,
            session,
            "a session does not end; its task is left to itself"
        );
    }
}

#[cfg(test)]
mod tests;
