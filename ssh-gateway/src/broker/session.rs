//! One session: prepared while its client still talks, started, watched, ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Choice, Connection, NoChoice, descriptors};
use super::containers::Plan;
use super::engine_exec::{self, EngineProgram};
use super::environment::{Facts, of_connection};
use super::files::{self, Book};
use super::forward::Agent;
use super::inquiry::Inquiry;
use super::linger::Claim;
use super::recording::{self, Recording, Subject};
use super::refusal::{self, failure_of};
use super::sessions::{Listed, Running, Sessions};
use super::tap::{self, Scope, Tap, line};
use super::terminal::{self, Terminal};
use super::{audit, forward, picker};
use crate::config::{EnterConfig, Mode};
use crate::control;
use crate::hop::{Event, Started, Task};
use crate::login;
use crate::policy::{Chosen, Denial, Record, Rule, ToolboxUse, Unrecorded};
use crate::wire::net::{Answer, ItemId, News, Refusal};
use crate::wire::socket::Socket;
use crate::wire::task::{Failure, FailureKind, Toolbox, Tools};
use crate::wire::{self, Exit, Opaque, Program, WindowSize};

mod fan_out;
mod lasting;

pub(super) use fan_out::room as fan_out_room;
pub(super) use lasting::Held;

use lasting::Lasting;

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
pub(super) const NO_CONTAINER: &str = "-";

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

/// Whether the connection of a session is lost: said before its orders end, and by nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct Loss(Arc<AtomicBool>);

impl Loss {
    /// It is.
    pub(super) fn say(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_said(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the client wants.
#[derive(Debug, Clone)]
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
#[derive(Debug)]
pub(super) enum Way {
    Native(Task),
    Engine(EngineProgram),
}

/// How a session begins.
enum Beginning {
    /// Something runs; the number is that of the agent's listener.
    Started { way: Way, agent: Option<u64>, account: Option<Account> },
    /// The client returns to a session that waits, on a terminal of ours.
    Returns { claim: Claim<Held>, choice: Arc<Choice>, ours: Terminal },
}

/// A session from its channel's opening to its end. Ends when its orders do; where it may wait for a client that has lost
/// it, another task has it then.
pub(super) async fn run(
    connection: Arc<Connection>,
    session: ItemId,
    loss: Loss,
    mut orders: mpsc::Receiver<Order>,
) {
    let Some((wanted, ready)) = prepare(&connection, &mut orders).await else { return };
    if let Some(containers) = fan_out::containers(&connection, &wanted, &ready) {
        return fan_out::run(&connection, session, *wanted, containers, orders).await;
    }
    let number = wanted.number;
    let begun = Instant::now();
    let begin = begin(&connection, session, *wanted, ready);
    let outcome = tokio::select! {
        outcome = begin => outcome,
        // What was begun is dropped, and ends with that.
        () = closed(&mut orders) => return,
    };
    let (way, agent, account, begun) = match outcome {
        Ok(Beginning::Started { way, agent, account }) => (way, agent, account, begun),
        Ok(Beginning::Returns { claim, choice, ours }) => {
            // What was taken is watched over whatever happens meanwhile.
            match lasting::take(&connection, session, claim, choice, ours).await {
                Ok(Held { way, account, begun }) => (way, None, Some(account), begun),
                Err(status) => {
                    (Way::Engine(EngineProgram::ended(Exit::Status(status))), None, None, begun)
                }
            }
        }
        Err(refusal) => {
            audit::refused(&connection, session, &refusal);
            return connection.refuse(number, refusal).await;
        }
    };
    if let Some(left) = follow(&connection, session, way, account, begun, orders).await {
        if left.may_wait(&loss) {
            lasting::lost(&connection, session, left, begun).await;
        } else {
            left.end(&connection, session, begun).await;
        }
    }
    if let Some(agent) = agent {
        forward::unlisten(&connection, session, agent).await;
    }
}

/// A session that its client has left.
struct Left {
    way: Way,
    account: Option<Account>,
    /// The end of its program was told.
    has_exited: bool,
}

impl Left {
    /// Whether it may wait for its client: its connection was lost, and its rule lets it.
    fn may_wait(&self, loss: &Loss) -> bool {
        let lasts = self.account.as_ref().is_some_and(|account| account.lasting.is_some());
        loss.is_said() && lasts && !self.has_exited
    }

    /// Ends it.
    async fn end(mut self, connection: &Connection, session: ItemId, begun: Instant) {
        if let Some(account) = &mut self.account {
            // Nobody returns: its terminal is hung up with its client, as every other.
            account.lasting = None;
        }
        let ending = Ending { begun, has_exited: self.has_exited, patience: END_TIME_MAX };
        leave(connection, session, self.way, &mut self.account, ending).await;
    }
}

/// Waits for the start, and gets ready meanwhile.
async fn prepare(
    connection: &Connection,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<(Box<Wanted>, Result<Ready, Unready>)> {
    let policy = connection.shared.policy();
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
            // What was found then names containers, and they may not be this client's any more.
            Prepared::Done(Err(Unready::NoChoice(_)))
                if connection.identity_now().is_err()
                    || !Arc::ptr_eq(&policy, &connection.shared.policy()) =>
            {
                ready(connection).await
            }
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
    if let Err(denied) = still_may(connection, &choice) {
        return Some(Err(denied));
    }
    match connection.may_be_traced(&choice).await {
        Ok(true) => None,
        Ok(false) => Some(enter(connection, choice).await),
        Err(failure) => Some(Err(Unready::Failed(failure))),
    }
}

async fn ready(connection: &Connection) -> Result<Ready, Unready> {
    let choice = connection.choice().await.map_err(Unready::NoChoice)?;
    enter(connection, choice).await
}

/// Fails when what was allowed when the container was chosen is so no more: nothing of that is entered, nor looked at.
fn still_may(connection: &Connection, choice: &Choice) -> Result<(), Unready> {
    connection.check(&choice.access).map_err(|denial| Unready::NoChoice(NoChoice::Denied(denial)))
}

async fn enter(connection: &Connection, choice: Arc<Choice>) -> Result<Ready, Unready> {
    still_may(connection, &choice)?;
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
            Err(Unready::Failed(failure))
        }
    }
}

/// The engine's exec confines as it must be done, so it may take our place where we cannot do it. Not where the
/// confinement could not be proved: then somebody may be at work who is to be found.
fn may_fall_back(mode: Mode, failure: &Failure) -> bool {
    mode == Mode::Auto && failure.kind == FailureKind::NotNative
}

/// Starts the program and answers; the error is the refusal that is still to be sent.
async fn begin(
    connection: &Arc<Connection>,
    session: ItemId,
    wanted: Wanted,
    ready: Result<Ready, Unready>,
) -> Result<Beginning, Refusal> {
    if let Some(inquiry) = inquiry(connection, &wanted.program) {
        let (way, account) = inquire(connection, session, &wanted, inquiry).await?;
        return Ok(Beginning::Started { way, agent: None, account: Some(account) });
    }
    match ready {
        Ok(Ready { choice, entry }) if lasting::waits(connection, &wanted, &choice) => {
            // Nobody holds a container ready while somebody thinks.
            drop(entry);
            ask_and_start(connection, session, wanted, Asked::Return(choice)).await
        }
        Ok(ready) => {
            let number = wanted.number;
            let (begun, account) = start(connection, session, wanted, ready).await?;
            connection.words.answer(number, begun.answer, begun.descriptors).await;
            Ok(Beginning::Started { way: begun.way, agent: begun.agent, account: Some(account) })
        }
        Err(Unready::NoChoice(NoChoice::Choose { reason, among, .. }))
            if !among.is_empty()
                && matches!(wanted.program, Program::Shell)
                && wanted.terminal.is_some() =>
        {
            let asked = Asked::Container { reason: &reason, among: &among };
            ask_and_start(connection, session, wanted, asked).await
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
    /// Where it tells of files.
    files: Option<Socket>,
}

/// What is kept of a session, and what may be done to it.
#[derive(Debug)]
pub(super) struct Account {
    /// Its name: never that of another session.
    pub(super) name: String,
    /// What records it, until its program has ended: what the session has left may take long to end.
    pub(super) tap: Option<Arc<Tap>>,
    /// What is kept of its files, until its program has ended.
    book: Option<Book>,
    unrecorded: Unrecorded,
    /// Ends it.
    end: CancellationToken,
    listed: Option<Listed>,
    /// What it needs to outlive its connection, where it may.
    lasting: Option<Box<Lasting>>,
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
        Ok(Self {
            name,
            tap: None,
            book: None,
            unrecorded,
            end: CancellationToken::new(),
            listed: None,
            lasting: None,
        })
    }

    /// What passes goes through the broker, if it has a reason to.
    fn pass(&mut self, recording: Option<Recording>, record: Record, scope: Scope, lasts: bool) {
        if recording.is_some() || lasts {
            let (unrecorded, end) = (self.unrecorded, self.end.clone());
            self.tap = Some(Arc::new(Tap::new(recording, record, unrecorded, scope, end)));
        }
    }

    /// Puts it on the list, for as long as it is there.
    fn list(&mut self, connection: &Connection, run: &Run<'_>) {
        self.listed = Some(connection.shared.sessions.add(Running {
            told: control::Session {
                session: self.name.clone(),
                kind: control::Kind::Session,
                connection: connection.id,
                identity: connection.identity.name().map(str::to_owned),
                key: connection.identity.fingerprint().to_owned(),
                peer: connection.peer.to_string(),
                container: run.container.to_owned(),
                user: run.user.map(str::to_owned),
                program: run.program.clone(),
                terminal: run.terminal,
                rule: run.rule.to_owned(),
                recording: self.tap.as_ref().and_then(|tap| tap.name()).map(str::to_owned),
                since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                lingering: None,
            },
            end: self.end.clone(),
            tap: self.tap.as_ref().map(Arc::downgrade),
        }));
    }
}

/// Begins to record a session where that is to be done. What passes goes through the broker also where it may outlive
/// its connection.
async fn account(
    connection: &Connection,
    choice: &Choice,
    program: &Program,
    terminal: Option<&wire::Terminal>,
    lasts: bool,
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
        account.pass(None, record, scope, lasts);
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
        Ok(recording) => account.pass(Some(recording), record, scope, lasts),
        Err(reason) => {
            shared.unrecorded(unrecorded, &reason)?;
            account.pass(None, record, scope, lasts);
        }
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
    let lasts = terminal.is_some() && lasting::may_last(access, &chosen.program);
    let (its, with) = (&chosen.program, terminal.as_ref());
    let mut account = account(connection, &choice, its, with, lasts).await?;
    let mark = connection.shared.journal.mark();
    audit::session(connection, session, &choice, &chosen.program, terminal.is_some(), &account);
    connection.shared.accountable(mark, account.unrecorded).await?;
    let program = audit::told_program(&chosen.program);
    let asked = (wanted.program.clone(), chosen.program.clone());
    let mut begun =
        launch(connection, (session, &account.name), wanted, &choice, entry, chosen).await?;
    // What tells of files does so in the name of its connection; what the engine runs it alone can end.
    let lasts = lasts && begun.files.is_none() && matches!(begun.way, Way::Native(_));
    if let Some(socket) = begun.files.take() {
        let who = connection.identity.name();
        let session = files::Session {
            shared: Arc::clone(&connection.shared),
            connection: connection.id,
            session,
            name: account.name.clone(),
            unrecorded: account.unrecorded,
            who: who.unwrap_or(connection.identity.fingerprint()).to_owned(),
            end: account.end.clone(),
        };
        let book = Book::begin(session, socket);
        account.book = Some(book.map_err(|error| {
            tracing::error!(connection = connection.id, "files cannot be kept: {error}");
            refusal::failed("the session cannot be connected")
        })?);
    }
    if let Some(tap) = &account.tap {
        let (terminal, descriptors) = (terminal.as_ref(), begun.descriptors);
        let tapped = tapped(tap, terminal, descriptors, lasts).map_err(|error| {
            tracing::error!(connection = connection.id, session, "cannot be recorded: {error}");
            refusal::failed("the session cannot be connected")
        })?;
        begun.descriptors = tapped.0;
        account.lasting = tapped.1.map(|line| Box::new(Lasting::new(line, asked, &choice)));
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

/// What net gets in place of a program's own descriptors: what goes through is recorded on the way. With it, where clients
/// come and go, what they do that by.
fn tapped(
    tap: &Arc<Tap>,
    terminal: Option<&wire::Terminal>,
    descriptors: Vec<OwnedFd>,
    lasts: bool,
) -> io::Result<(Vec<OwnedFd>, Option<line::Line>)> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    let mut its_line = None;
    let mut given = match terminal {
        Some(terminal) if lasts => {
            let (master, line) = line::terminal_of(tap, terminal.size, next()?)?;
            its_line = Some(line);
            vec![master]
        }
        Some(terminal) => vec![tap::terminal(tap, terminal.size, next()?)?],
        None => {
            let (input, output, errors) = (next()?, next()?, next()?);
            let [output, errors] = tap::pipes(tap, output, errors)?;
            vec![input, output, errors]
        }
    };
    given.extend(descriptors);
    Ok((given, its_line))
}

async fn launch(
    connection: &Connection,
    (session, name): (ItemId, &str),
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
            let toolbox =
                toolbox_by(&connection.shared.config.enter, access.rule(), &chosen.program);
            start.toolbox = toolbox.clone().ok().flatten();
            match task.start(start).await {
                Ok(started) => {
                    let tools = toolbox.map_or_else(|none| none, |_| task.tools());
                    let notice = told_tools(connection, session, name, tools);
                    Ok(native(task, started, agent, notice))
                }
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

/// The toolbox that a session may have by this rule; the error is what came of one that there should be.
fn toolbox_by(
    config: &EnterConfig,
    rule: &Rule,
    program: &Program,
) -> Result<Option<Toolbox>, Tools> {
    match program {
        Program::Shell | Program::Command(_) => {}
        // Programs of our own have no use for it.
        Program::Words(_) | Program::Sftp | Program::SftpReadOnly | Program::Portal => {
            return Ok(None);
        }
    }
    let when = rule.toolbox.unwrap_or(config.toolbox_use);
    match (when, &config.toolbox) {
        (ToolboxUse::Never, _) | (ToolboxUse::Auto, None) => Ok(None),
        (ToolboxUse::Always, None) => {
            Err(Tools::Unavailable { reason: "the gateway was started without one".to_owned() })
        }
        (when, Some(directory)) => Ok(Some(Toolbox {
            directory: directory.to_string_lossy().into_owned(),
            trace: rule.toolbox_trace,
            always: when == ToolboxUse::Always,
        })),
    }
}

/// Keeps what came of a toolbox; what the client is told of it.
fn told_tools(
    connection: &Connection,
    session: ItemId,
    name: &str,
    tools: Tools,
) -> Option<String> {
    match tools {
        Tools::Unused => None,
        Tools::Attached => {
            audit::toolbox(connection, session, name, None);
            None
        }
        Tools::Unavailable { reason } => {
            audit::toolbox(connection, session, name, Some(&reason));
            Some(format!("without a toolbox: {}", login::told(&reason)))
        }
    }
}

fn native(task: Task, started: Started, agent: Option<Agent>, notice: Option<String>) -> Begun {
    let terminal = matches!(started, Started::Terminal { .. });
    let answer = Answer::Started { terminal, agent: agent.is_some(), degraded: notice };
    let (mut descriptors, files) = descriptors(started);
    let number = agent.as_ref().map(|agent| agent.number);
    descriptors.extend(agent.map(|agent| agent.socket));
    Begun { way: Way::Native(task), answer, descriptors, agent: number, files }
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
    Ok(Begun { way: Way::Engine(running), answer, descriptors, agent: None, files: None })
}

/// What is asked on a terminal of our own before anything runs.
enum Asked<'a> {
    /// Which container it shall be, and why that is asked.
    Container { reason: &'a str, among: &'a [chores_common::engine::ListedContainer] },
    /// Whether the client returns to a session that waits in this one.
    Return(Arc<Choice>),
}

/// What comes of it.
enum Answered {
    Begun(Box<(Begun, Account)>),
    Returns(Claim<Held>, Arc<Choice>),
}

/// Asks on a terminal of our own, and then carries bytes between that and the real one.
async fn ask_and_start(
    connection: &Connection,
    session: ItemId,
    mut wanted: Wanted,
    asked: Asked<'_>,
) -> Result<Beginning, Refusal> {
    let broken = |_| refusal::failed("the gateway has no terminal to ask on");
    let terminal = wanted.terminal.as_ref();
    let size = terminal.map(|terminal| terminal.size).unwrap_or_default();
    let term = terminal.map(|terminal| terminal.term.clone()).unwrap_or_default();
    let (ours, master) = Terminal::new(size).map_err(broken)?;
    // Nobody would listen at its socket: the answer is given before it could be made.
    wanted.agent = false;
    let answer = Answer::Started { terminal: true, agent: false, degraded: None };
    connection.words.answer(wanted.number, answer, vec![master]).await;
    // From here on there is a session: what fails is said on the terminal.
    let shown = async {
        let choice: Arc<Choice> = match asked {
            Asked::Return(choice) => choice,
            Asked::Container { reason, among } => {
                let chosen = picker::pick(&ours, &term, reason, among).await.ok().flatten();
                let chosen = chosen.ok_or_else(|| refusal::failed("no container was chosen"))?;
                connection.choose(&chosen).await.map_err(|none| none.refusal())?
            }
        };
        if lasting::waits(connection, &wanted, &choice)
            && let Some(claim) = lasting::ask(connection, session, &ours, &choice).await?
        {
            return Ok(Answered::Returns(claim, choice));
        }
        let ready = enter(connection, choice).await.map_err(|unready| unready.refusal())?;
        if let Some(terminal) = wanted.terminal.as_mut() {
            terminal.size = ours.size().map_err(broken)?;
        }
        ours.make_raw().map_err(broken)?;
        let begun = start(connection, session, wanted, ready).await?;
        Ok::<_, Refusal>(Answered::Begun(Box::new(begun)))
    };
    let (begun, account) = match shown.await {
        Ok(Answered::Begun(begun)) => *begun,
        Ok(Answered::Returns(claim, choice)) => {
            return Ok(Beginning::Returns { claim, choice, ours });
        }
        Err(refusal) => {
            audit::refused(connection, session, &refusal);
            let line = format!("{}\r\n", refusal.message);
            drop(timeout(END_TIME_MAX, ours.write(line.as_bytes())).await);
            let way = Way::Engine(EngineProgram::ended(Exit::Status(refusal.status)));
            return Ok(Beginning::Started { way, agent: None, account: None });
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
    Ok(Beginning::Started { way: begun.way, agent: None, account: Some(account) })
}

/// Tells how the program ends, hands on signals, and ends what is left when the session is closed.
async fn watch(
    connection: &Connection,
    session: ItemId,
    way: Way,
    account: Option<Account>,
    begun: Instant,
    orders: mpsc::Receiver<Order>,
) {
    if let Some(left) = follow(connection, session, way, account, begun, orders).await {
        left.end(connection, session, begun).await;
    }
}

/// The same, but what is left when the session is closed is given back.
async fn follow(
    connection: &Connection,
    session: ItemId,
    mut way: Way,
    mut account: Option<Account>,
    begun: Instant,
    mut orders: mpsc::Receiver<Order>,
) -> Option<Left> {
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
                    booked(&mut account).await;
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
                None => return Some(Left { way, account, has_exited }),
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
                return None;
            }
        }
    }
    if !has_exited {
        // Its end was not seen: it was killed with everything else.
        exited(connection, session, &mut account, KILLED, begun, END_TIME_MAX).await;
    }
    None
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
    booked(account).await;
    let name = account.as_ref().map(|account| account.name.as_str());
    audit::exited(connection, session, name, exit, begun.elapsed());
    timeout(patience, settled(account, exit)).await.ok();
    connection.words.news(News::Exited { session, exit }).await;
}

/// Waits until what a program that has ended did to files is written: its end comes after that.
async fn booked(account: &mut Option<Account>) {
    if let Some(book) = account.as_mut().and_then(|account| account.book.take()) {
        book.finish().await;
    }
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
