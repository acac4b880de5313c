//! A session that outlives its connection, where its rule says so: lost, it waits for its client, and the client is asked whether
//! he returns to it. Whatever it does, it is watched over: by the session that has its channel, or by [`wait`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{interval, sleep, timeout};

use super::super::audit;
use super::super::connection::{Choice, Connection};
use super::super::linger::{self, Answer, Claim, Place, Waiting};
use super::super::refusal;
use super::super::room::Full;
use super::super::tap::line::Line;
use super::super::terminal::Terminal;
use super::{Account, Ending, KILLED, KILLED_TIME_MAX, Left, Wanted, Way, exited, leave};
use crate::hop::Event;
use crate::policy::{Access, Denial, Unrecorded};
use crate::wire::net::{ItemId, Refusal};
use crate::wire::{Exit, Program};

/// How often it is looked whether a session that waits may still be returned to.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Whoever is asked answers in this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// How often an answer may be none.
const ATTEMPTS_MAX: usize = 5;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256;

/// What who comes too late is told.
const TAKEN: &str =
    "That session was just taken by another login, or has ended; a new one begins.\n";

/// A session that can be handed over.
#[derive(Debug)]
pub(in crate::broker) struct Held {
    pub(super) way: Way,
    pub(super) account: Account,
    /// When it began.
    pub(super) begun: Instant,
}

/// What a session needs to outlive its connection.
#[derive(Debug)]
pub(super) struct Lasting {
    line: Line,
    /// What its client asked for.
    asked: Program,
    /// What runs.
    program: Program,
    /// Where, and by what.
    choice: Arc<Choice>,
    started: Timestamp,
}

impl Lasting {
    /// Of a program that was just started. `asked`: what was asked for, and what runs.
    pub(super) fn new(line: Line, asked: (Program, Program), choice: &Arc<Choice>) -> Self {
        let (asked, program) = asked;
        let choice = Arc::clone(choice);
        Self { line, asked, program, choice, started: Timestamp::now() }
    }
}

/// Whether a session with a terminal may wait for a client that has lost it: its rule says so, and it is a shell or a command.
pub(super) fn may_last(access: &Access, program: &Program) -> bool {
    access.linger().is_some() && matches!(program, Program::Shell | Program::Command(_))
}

/// Whether a client that wants this is asked first whether it returns to a session.
pub(super) fn waits(connection: &Connection, wanted: &Wanted, choice: &Choice) -> bool {
    let is_asked = matches!(wanted.program, Program::Shell) && wanted.terminal.is_some();
    is_asked && !found(connection, choice).is_empty()
}

/// What a client may return to in this container. Who may begin nothing is told of nothing.
fn found(connection: &Connection, choice: &Choice) -> Vec<Arc<Waiting>> {
    if connection.check(&choice.access).is_err() {
        return Vec::new();
    }
    connection.shared.lingering.of(&choice.container.id, &choice.access)
}

/// Fails when a client may not return to a session, by what counts now.
fn check(connection: &Connection, choice: &Choice, waiting: &Waiting) -> Result<(), Refusal> {
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    connection.check(&choice.access).map_err(denied)?;
    if linger::may_return(waiting, &choice.container.id, &choice.access) {
        return Ok(());
    }
    Err(refusal::prohibited("the session cannot be returned to any more"))
}

/// Asks whether the client returns to a session that waits. With the answer yes nobody else gets it, and the audit has a line
/// about it. `None`: a new one is to begin.
pub(super) async fn ask(
    connection: &Connection,
    session: ItemId,
    ours: &Terminal,
    choice: &Choice,
) -> Result<Option<Claim<Held>>, Refusal> {
    let found = found(connection, choice);
    if found.is_empty() {
        return Ok(None);
    }
    let broken = |_| refusal::failed("the gateway has no terminal to ask on");
    ours.edit_lines().map_err(broken)?;
    let answered = timeout(ANSWER_TIME_MAX, answer(ours, &found)).await;
    let waiting = match answered.unwrap_or(Ok(Answer::GiveUp)).map_err(broken)? {
        Answer::New => return Ok(None),
        Answer::Return(number) => found.get(number),
        Answer::GiveUp | Answer::Unclear => None,
    };
    let waiting = waiting.ok_or_else(|| refusal::failed("no session was chosen"))?;
    let shared = &connection.shared;
    let Some(claim) = shared.lingering.claim(waiting) else {
        ours.write(TAKEN.as_bytes()).await.map_err(broken)?;
        return Ok(None);
    };
    // The question may have stood there for long.
    check(connection, choice, &claim.waiting)?;
    let (_, unrecorded) = shared.record(&choice.access);
    let mark = shared.journal.mark();
    audit::attached(connection, session, &claim.waiting);
    shared.accountable(mark, unrecorded).await?;
    Ok(Some(claim))
}

async fn answer(ours: &Terminal, found: &[Arc<Waiting>]) -> std::io::Result<Answer> {
    // What was typed before is no answer.
    ours.forget_typed()?;
    ours.write(linger::question(found, Timestamp::now()).as_bytes()).await?;
    for _ in 0..ATTEMPTS_MAX {
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let length = ours.read(&mut bytes).await?;
        match linger::meaning(bytes.get(..length).unwrap_or_default(), found.len()) {
            Answer::Unclear => ours.write(b"That is no answer. Once more: ").await?,
            answer => return Ok(answer),
        }
    }
    Ok(Answer::GiveUp)
}

/// Takes a session that is claimed, and joins its terminal to that of the client. The error is the status that the client is
/// told, who was told the reason.
pub(super) async fn take(
    connection: &Connection,
    session: ItemId,
    claim: Claim<Held>,
    choice: Arc<Choice>,
    ours: Terminal,
) -> Result<Held, u8> {
    // Nothing lies between this and the moment.
    let taken = match check(connection, &choice, &claim.waiting) {
        Ok(()) => claim.take().await.ok_or_else(|| refusal::failed("the session has just ended")),
        Err(refusal) => Err(refusal),
    };
    // Others may have it where it could not be taken.
    drop(claim);
    let mut held = match taken {
        Ok(held) => held,
        Err(refusal) => {
            audit::refused(connection, session, &refusal);
            let line = format!("{}\r\n", refusal.message);
            drop(timeout(KILLED_TIME_MAX, ours.write(line.as_bytes())).await);
            return Err(refusal.status);
        }
    };
    // Where the client is gone again, what follows sees that too.
    ours.make_raw().ok();
    if let Some(listed) = &held.account.listed {
        listed.change(|told| {
            told.connection = connection.id;
            told.peer = connection.peer.to_string();
            told.lingering = None;
        });
    }
    if let Some(lasting) = &mut held.account.lasting {
        lasting.choice = choice;
        lasting.line.join(ours);
    }
    Ok(held)
}

/// The connection of a session is lost: it waits, if there is room and the audit has a line about it, and ends otherwise.
pub(super) async fn lost(
    connection: &Arc<Connection>,
    session: ItemId,
    left: Left,
    begun: Instant,
) {
    let now = Timestamp::now();
    let waiting = left.account.as_ref().and_then(|account| waiting(account, now));
    let Some((time, waiting)) = waiting else {
        return left.end(connection, session, begun).await;
    };
    let name = waiting.name.clone();
    let who = connection.identity.name().unwrap_or(connection.identity.fingerprint());
    let place = match connection.shared.lingering.add(who, waiting) {
        Ok(place) => place,
        Err(full) => {
            let reason = match full {
                Full::OfOne => "as many sessions of this identity wait as may",
                Full::OfAll => "as many sessions wait as may",
            };
            audit::lost(connection, session, &name, time, Some(reason));
            return left.end(connection, session, begun).await;
        }
    };
    let shared = &connection.shared;
    let unrecorded = left.account.as_ref().map_or(Unrecorded::Refuse, |its| its.unrecorded);
    let mark = shared.journal.mark();
    audit::lost(connection, session, &name, time, None);
    if shared.accountable(mark, unrecorded).await.is_err() {
        // Who has claimed it meanwhile is told that it has ended.
        drop(place);
        audit::linger_ended(connection, session, &name, "the audit may not have that it waits");
        return left.end(connection, session, begun).await;
    }
    let Left { way, account: Some(account), .. } = left else { return };
    if let Some(listed) = &account.listed {
        let since = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        listed.change(|told| told.lingering = Some(since));
    }
    let held = Held { way, account, begun };
    let its = Arc::clone(connection);
    connection.shared.running.spawn(async move {
        wait(&its, session, held, place, time).await;
    });
}

/// A session that begins to wait, and for how long. Nobody is at its terminal from now on.
fn waiting(account: &Account, now: Timestamp) -> Option<(Duration, Waiting)> {
    let lasting = account.lasting.as_ref()?;
    lasting.line.leave();
    let Choice { container, access, .. } = &*lasting.choice;
    let waiting = Waiting {
        name: account.name.clone(),
        container: container.id.clone(),
        access: access.clone(),
        asked: lasting.asked.clone(),
        program: lasting.program.clone(),
        told: audit::told_program(&lasting.program),
        started: lasting.started,
        lost: now,
    };
    Some((access.linger()?, waiting))
}

/// Why a session waits no more.
#[derive(Debug)]
enum Over {
    /// Its program has ended.
    Exited(Exit),
    /// Nothing is left of it.
    Gone,
    /// It is to end.
    Told(&'static str),
}

/// Watches over a session that waits, until it is taken or ends.
async fn wait(
    connection: &Connection,
    session: ItemId,
    mut held: Held,
    mut place: Place<Held>,
    time: Duration,
) {
    let killed = held.account.end.clone();
    let over = connection.shared.lingering.over();
    let choice = held.account.lasting.as_ref().map(|lasting| Arc::clone(&lasting.choice));
    let may = || choice.as_ref().is_some_and(|choice| connection.check(&choice.access).is_ok());
    let mut deadline = std::pin::pin!(sleep(time));
    let mut look = interval(LOOK_PERIOD);
    let over = loop {
        // Only such sessions wait.
        let Way::Native(task) = &held.way else { break Over::Told("the engine runs it") };
        tokio::select! {
            event = task.next_event() => break match event {
                Ok(Event::Exited(exit)) => Over::Exited(exit),
                Ok(Event::Gone) | Err(_) => Over::Gone,
            },
            () = killed.cancelled() => {
                let is_lost = held.account.tap.as_ref().is_some_and(|tap| tap.is_lost());
                break Over::Told(if is_lost { "it can no longer be recorded" } else { "it was killed" });
            }
            () = over.cancelled() => break Over::Told("the gateway is stopped"),
            () = &mut deadline => break Over::Told("nobody has returned in time"),
            _ = look.tick() => if !may() {
                break Over::Told("what it was begun by counts no more");
            },
            taker = place.asked() => {
                // It may be lost again before this has returned.
                place.give_up_room();
                match taker.send(held) {
                    Ok(()) => return,
                    // Who has asked is gone.
                    Err(back) => held = back,
                }
            }
        }
    };
    drop(place);
    let Held { way, mut account, begun } = held;
    let reason = match over {
        Over::Exited(_) | Over::Gone => "its program has ended",
        Over::Told(reason) => reason,
    };
    audit::linger_ended(connection, session, &account.name, reason);
    if matches!(over, Over::Told(_)) {
        // Nobody returns: its terminal is hung up.
        account.lasting = None;
    }
    let mut account = Some(account);
    let has_exited = match over {
        Over::Exited(exit) => {
            exited(connection, session, &mut account, exit, begun, KILLED_TIME_MAX).await;
            true
        }
        Over::Gone => {
            return exited(connection, session, &mut account, KILLED, begun, KILLED_TIME_MAX).await;
        }
        Over::Told(_) => false,
    };
    let ending = Ending { begun, has_exited, patience: KILLED_TIME_MAX };
    leave(connection, session, way, &mut account, ending).await;
}
