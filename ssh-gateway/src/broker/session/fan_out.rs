//! One command in every container that a login name means, where the rules of all of them say so: each is a session of
//! its own for the audit, for recordings and for `sessions`; for the client there is one.
//!
//! ```text
//! input of the client ─→ kept (bounded) ─→ each program reads it from its beginning
//! output of a program ─→ whole lines, each behind the name of its container ─→ the client
//! ends of programs    ─→ summary on standard error, and the highest status
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::engine::ListedContainer;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch as shared_value;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::super::audit;
use super::super::connection::{Connection, NoChoice};
use super::super::engine_exec::{pipe, receiving, sending};
use super::super::refusal::{self, STATUS_GATEWAY};
use super::super::room::{Full, Place, Room};
use super::super::terminal::READ_BYTES;
use super::super::words::{Said, Words};
use super::{
    Account, Begun, KILLED, ORDERS_MAX, Order, Ready, Unready, Wanted, closed, enter, start, watch,
};
use crate::login::shown;
use crate::policy::Identity;
use crate::wire::net::{Answer, ItemId, News, Refusal, Word};
use crate::wire::{Exit, Opaque, Program};

#[cfg(test)]
mod tests;

/// Containers of one command.
const CONTAINERS_MAX: usize = 100;
/// So many of these run at the same time.
const PARALLEL_MAX: usize = 16;
/// Longest line that is passed on as one, in bytes: a longer one is cut into several.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Output that is cut into lines together, in bytes.
const STEP_BYTES: usize = 1024;
/// What the programs get on standard input, in bytes: all of it is kept for those that begin later.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Such commands at the same time: each has its input and the lines of `PARALLEL_MAX` programs in memory.
const FAN_OUTS_MAX: usize = 32;
/// How many of these are of one identity.
const FAN_OUTS_OF_ONE_MAX: usize = 4;
/// The client takes the summary in this time, or does not get it.
const SUMMARY_TIME_MAX: Duration = Duration::from_secs(10);

/// The variable by which a client asks for another form of the summary.
const SUMMARY_VARIABLE: &str = "CHORES_SUMMARY";
/// Its one value.
const SUMMARY_JSON: &[u8] = b"json";

const ENDED_BEFORE: &str = "the command was ended before";
const TOO_MUCH_INPUT: &str = "there is more than 1 MiB of input, which is all that a command in several containers can have, so it is ended";

/// Room for such commands.
pub(in crate::broker) fn room() -> Room {
    Room::new(FAN_OUTS_OF_ONE_MAX, FAN_OUTS_MAX)
}

/// The containers, where a command is for more than one and may be.
pub(super) fn containers(
    connection: &Connection,
    wanted: &Wanted,
    ready: &Result<Ready, Unready>,
) -> Option<Vec<ListedContainer>> {
    let Err(Unready::NoChoice(NoChoice::Choose { among, is_meant: true, .. })) = ready else {
        return None;
    };
    let is_command = matches!(wanted.program, Program::Command(_));
    let user = connection.asked_user();
    let may = |who: Identity| who.may_fan_out(among, user.as_ref(), Timestamp::now());
    (is_command && connection.identity_now().is_ok_and(may)).then(|| among.clone())
}

/// Runs it, from the start to the last end. Ends when its orders do.
pub(super) async fn run(
    connection: &Arc<Connection>,
    id: ItemId,
    wanted: Wanted,
    containers: Vec<ListedContainer>,
    mut orders: mpsc::Receiver<Order>,
) {
    let number = wanted.number;
    let (fan_out, input, descriptors) = match begin(connection, id, wanted, containers.len()) {
        Ok(begun) => begun,
        Err(refusal) => {
            audit::refused(connection, id, &refusal);
            return connection.refuse(number, refusal).await;
        }
    };
    let answer = Answer::Started { terminal: false, agent: false, degraded: None };
    connection.words.answer(number, answer, descriptors).await;
    let (outcomes, is_flooded) = fan_out.run(connection, &containers, input, &mut orders).await;
    let outcomes: Vec<_> = containers.iter().map(|one| one.name.as_str()).zip(outcomes).collect();
    let mut status = status(outcomes.iter().map(|(_, outcome)| outcome));
    if is_flooded {
        status = STATUS_GATEWAY;
        fan_out.tell(&format!("{TOO_MUCH_INPUT}\n")).await;
    }
    fan_out.tell(&summary(&outcomes, status, fan_out.is_json)).await;
    // The end of what it put out is the last thing that the client waits for.
    drop(fan_out);
    connection.words.news(News::Exited { session: id, exit: Exit::Status(status) }).await;
}

/// What is needed before anything runs, and what net gets.
fn begin(
    connection: &Connection,
    id: ItemId,
    mut wanted: Wanted,
    count: usize,
) -> Result<(Arc<FanOut>, Receiver, Vec<OwnedFd>), Refusal> {
    check(&wanted, count)?;
    let who = connection.identity.name().unwrap_or(connection.identity.fingerprint());
    let place = connection.shared.fan_outs.take(who).map_err(|full| {
        refusal::failed(match full {
            Full::OfOne => "you run commands in several containers already; wait for their end",
            Full::OfAll => "too many commands run in several containers already; try again later",
        })
    })?;
    let broken = |_: io::Error| refusal::failed("the gateway has nothing to answer on");
    let (input, stdin) = pipe().map_err(broken)?;
    let (stdout, output) = pipe().map_err(broken)?;
    let (stderr, errors) = pipe().map_err(broken)?;
    let input = receiving(input).map_err(broken)?;
    // Its socket would be in all of the containers.
    wanted.agent = false;
    let fan_out = FanOut {
        id,
        is_json: wants_json(&wanted.environment),
        wanted,
        output: Out::new(sending(output).map_err(broken)?),
        errors: Out::new(sending(errors).map_err(broken)?),
        _place: place,
    };
    Ok((Arc::new(fan_out), input, vec![stdin, stdout, stderr]))
}

/// What no command in several containers can have.
fn check(wanted: &Wanted, count: usize) -> Result<(), Refusal> {
    if wanted.terminal.is_some() {
        let reason = "a command in several containers has no terminal: leave -t out";
        return Err(refusal::prohibited(reason));
    }
    if count > CONTAINERS_MAX {
        return Err(refusal::prohibited(format!(
            "the login name means {count} containers, and a command runs in {CONTAINERS_MAX} at most: name fewer"
        )));
    }
    Ok(())
}

fn wants_json(environment: &[(String, Opaque)]) -> bool {
    environment.iter().any(|(name, value)| name == SUMMARY_VARIABLE && value.0 == SUMMARY_JSON)
}

/// A command in several containers.
#[derive(Debug)]
struct FanOut {
    id: ItemId,
    wanted: Wanted,
    is_json: bool,
    output: Out,
    errors: Out,
    _place: Place,
}

/// How it ended in one container.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Ended(Exit),
    /// It did not begin, and why.
    NotRun(String),
}

impl Outcome {
    /// As a shell has it.
    fn status(&self) -> u8 {
        match self {
            Self::Ended(Exit::Status(status)) => *status,
            Self::Ended(Exit::Signal { number, .. }) => {
                u8::try_from(number.saturating_add(128)).unwrap_or(STATUS_GATEWAY)
            }
            Self::NotRun(_) => STATUS_GATEWAY,
        }
    }
}

/// The highest; 0 only where all are.
fn status<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> u8 {
    outcomes.map(Outcome::status).max().unwrap_or(STATUS_GATEWAY)
}

/// How it ended in each. No name of a container begins as these lines do.
fn summary(outcomes: &[(&str, Outcome)], status: u8, is_json: bool) -> String {
    if is_json {
        let containers = outcomes.iter().map(|(name, outcome)| {
            let name = shown(name);
            match outcome {
                Outcome::Ended(Exit::Status(status)) => {
                    serde_json::json!({ "name": name, "status": status })
                }
                Outcome::Ended(Exit::Signal { number, .. }) => {
                    serde_json::json!({ "name": name, "signal": number })
                }
                Outcome::NotRun(reason) => {
                    serde_json::json!({ "name": name, "not_run": shown(reason) })
                }
            }
        });
        let containers: Vec<_> = containers.collect();
        return format!("{}\n", serde_json::json!({ "containers": containers, "status": status }));
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.status() != 0).count();
    let mut text = format!("-- {} containers, {failed} failed\n", outcomes.len());
    for (name, outcome) in outcomes {
        let how = match outcome {
            Outcome::Ended(Exit::Status(status)) => format!("status {status}"),
            Outcome::Ended(Exit::Signal { number, .. }) => format!("signal {number}"),
            Outcome::NotRun(reason) => format!("not run: {}", shown(reason)),
        };
        text.push_str(&format!("-- {}: {how}\n", shown(name)));
    }
    text
}

impl FanOut {
    /// Runs it in all of them, some at the same time, and begins in their order. Also whether there was too much input.
    async fn run(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        containers: &[ListedContainer],
        input: Receiver,
        orders: &mut mpsc::Receiver<Order>,
    ) -> (Vec<Outcome>, bool) {
        let (kept, input_of_all) = shared_value::channel(Kept::default());
        let mut keeping = AbortOnDropHandle::new(tokio::spawn(keep(input, kept)));
        let mut outcomes = vec![Outcome::NotRun(ENDED_BEFORE.to_owned()); containers.len()];
        let mut waiting = containers.iter().cloned().enumerate();
        let mut running: BTreeMap<usize, mpsc::Sender<Order>> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let (mut is_over, mut is_kept, mut is_flooded) = (false, false, false);
        loop {
            while !is_over && tasks.len() < PARALLEL_MAX {
                let Some((index, container)) = waiting.next() else { break };
                let (sender, its_orders) = mpsc::channel(ORDERS_MAX);
                running.insert(index, sender);
                let (fan_out, connection) = (Arc::clone(self), Arc::clone(connection));
                let input = input_of_all.clone();
                tasks.spawn(async move {
                    let outcome = fan_out.run_in(&connection, &container, input, its_orders).await;
                    (index, outcome)
                });
            }
            tokio::select! {
                done = tasks.join_next() => match done {
                    Some(Ok((index, outcome))) => {
                        running.remove(&index);
                        if let Some(its) = outcomes.get_mut(index) {
                            *its = outcome;
                        }
                    }
                    Some(Err(error)) => tracing::error!("a session broke: {error}"),
                    None => return (outcomes, is_flooded),
                },
                order = orders.recv(), if !is_over => match order {
                    Some(Order::Signal(signal)) => {
                        for sender in running.values() {
                            // As with one session: too many signals get lost.
                            sender.try_send(Order::Signal(signal)).ok();
                        }
                    }
                    Some(Order::Start(_)) => {}
                    None => {
                        is_over = true;
                        running.clear();
                    }
                },
                result = &mut keeping, if !is_kept => {
                    is_kept = true;
                    if matches!(result, Ok(Err(Flood))) {
                        (is_over, is_flooded) = (true, true);
                        running.clear();
                    }
                }
            }
        }
    }

    /// Runs it in one container.
    async fn run_in(
        &self,
        connection: &Connection,
        container: &ListedContainer,
        input: shared_value::Receiver<Kept>,
        mut orders: mpsc::Receiver<Order>,
    ) -> Outcome {
        let begun_at = Instant::now();
        let (words, said) = Words::new();
        let here = connection.elsewhere(words);
        let begun = tokio::select! {
            begun = self.begin_in(&here, container) => begun,
            // What was begun is dropped, and ends with that.
            () = closed(&mut orders) => return Outcome::NotRun(ENDED_BEFORE.to_owned()),
        };
        let (Begun { way, answer, descriptors, .. }, account) = match begun {
            Ok(begun) => begun,
            Err(refusal) => {
                let message = format!("{}: {}", shown(&container.name), refusal.message);
                audit::refused(&here, self.id, &Refusal { message, ..refusal.clone() });
                return Outcome::NotRun(refusal.message);
            }
        };
        if let Answer::Started { degraded: Some(notice), .. } = &answer {
            let line = format!("{}: {notice}\n", shown(&container.name));
            self.errors.say(line.as_bytes()).await.ok();
        }
        let (to_program, its_orders) = mpsc::channel(ORDERS_MAX);
        let watching = watch(&here, self.id, way, Some(account), begun_at, its_orders);
        let attending = async {
            let exit = self.attend(container, descriptors, input, said, &mut orders, &to_program);
            let exit = exit.await;
            // What it has left in the background is ended, as when a client closes its session.
            drop(to_program);
            exit
        };
        let ((), exit) = tokio::join!(watching, attending);
        Outcome::Ended(exit)
    }

    async fn begin_in(
        &self,
        here: &Connection,
        container: &ListedContainer,
    ) -> Result<(Begun, Account), Refusal> {
        let choice = here.choose(container).await.map_err(|none| none.refusal())?;
        let denied = |what: &str| refusal::prohibited(what.to_owned());
        // By what was inspected, and not by what was listed before.
        if !choice.access.may_fan_out() {
            return Err(denied("its rule has no fanout any more"));
        }
        let chosen = choice.access.program(self.wanted.program.clone());
        if chosen.is_ok_and(|chosen| !matches!(chosen.program, Program::Command(_))) {
            return Err(denied(
                "another program is forced, which cannot run in several containers",
            ));
        }
        let ready = enter(here, choice).await.map_err(|unready| unready.refusal())?;
        start(here, self.id, self.wanted.clone(), ready).await
    }

    /// Carries what goes in and comes out until the program has ended and all is said, or its orders end, or it is
    /// cut off.
    async fn attend(
        &self,
        container: &ListedContainer,
        descriptors: Vec<OwnedFd>,
        input: shared_value::Receiver<Kept>,
        mut said: mpsc::Receiver<Said>,
        orders: &mut mpsc::Receiver<Order>,
        to_program: &mpsc::Sender<Order>,
    ) -> Exit {
        let [stdin, stdout, stderr] = match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok(descriptors) => descriptors,
            Err(_) => return KILLED,
        };
        let _feeding = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = feed(input, stdin).await {
                tracing::debug!("a program takes no more input: {error}");
            }
        }));
        let prefix = format!("{}: ", shown(&container.name)).into_bytes();
        let mut copying = std::pin::pin!(async {
            let (output, errors) = tokio::join!(
                copy(stdout, &self.output, &prefix),
                copy(stderr, &self.errors, &prefix),
            );
            if let Err(error) = output.and(errors) {
                tracing::debug!("output of a program is lost: {error}");
            }
        });
        let (mut is_copied, mut exit) = (false, None);
        loop {
            if let (true, Some(exit)) = (is_copied, exit) {
                return exit;
            }
            tokio::select! {
                () = &mut copying, if !is_copied => is_copied = true,
                word = said.recv(), if exit.is_none() => match word {
                    Some((Word::News(News::Exited { exit: how, .. }), _)) => exit = Some(how),
                    Some((Word::News(News::Cut { exit: how, .. }), _)) => return how,
                    Some(_) => {}
                    None => return KILLED,
                },
                order = orders.recv() => match order {
                    Some(order) => {
                        to_program.try_send(order).ok();
                    }
                    None => return exit.unwrap_or(KILLED),
                },
            }
        }
    }

    /// Says it on standard error, if the client takes it.
    async fn tell(&self, text: &str) {
        timeout(SUMMARY_TIME_MAX, self.errors.say(text.as_bytes())).await.ok();
    }
}

/// What all programs say on one of their outputs.
#[derive(Debug)]
struct Out(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    pipe: Sender,
    /// Somebody was cut off within a line.
    is_broken_off: bool,
}

impl Out {
    fn new(pipe: Sender) -> Self {
        Self(Mutex::new(Lines { pipe, is_broken_off: false }))
    }

    /// Says whole lines: nobody else's come between them, and whoever is cut off meanwhile, the next one begins a line.
    async fn say(&self, lines: &[u8]) -> io::Result<()> {
        let mut out = self.0.lock().await;
        if std::mem::replace(&mut out.is_broken_off, true) {
            out.pipe.write_all(b"\n").await?;
        }
        out.pipe.write_all(lines).await?;
        out.is_broken_off = false;
        Ok(())
    }
}

/// Passes lines of a program on until its end.
async fn copy(from: OwnedFd, to: &Out, prefix: &[u8]) -> io::Result<()> {
    let mut from = receiving(from)?;
    let (mut bytes, mut rest) = (vec![0; READ_BYTES], Vec::new());
    loop {
        let length = from.read(&mut bytes).await?;
        let is_end = length == 0;
        // A line may be nothing but its end, and gets a whole prefix.
        for step in bytes.get(..length).unwrap_or_default().chunks(STEP_BYTES) {
            let lines = lines(prefix, &mut rest, step, false);
            if !lines.is_empty() {
                to.say(&lines).await?;
            }
        }
        if is_end {
            let last = lines(prefix, &mut rest, b"", true);
            return if last.is_empty() { Ok(()) } else { to.say(&last).await };
        }
    }
}

/// The lines that are whole now, each behind the prefix; what is left of the last one stays in `rest`, unless there is no
/// more to come.
fn lines(prefix: &[u8], rest: &mut Vec<u8>, bytes: &[u8], is_end: bool) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut put = |line: &[u8]| {
        lines.extend_from_slice(prefix);
        lines.extend_from_slice(line);
        lines.push(b'\n');
    };
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        for piece in piece.chunks(LINE_BYTES_MAX) {
            if rest.len() + piece.len() > LINE_BYTES_MAX && piece != b"\n" {
                put(&std::mem::take(rest));
            }
            rest.extend_from_slice(piece);
            if rest.last() == Some(&b'\n') {
                rest.pop();
                put(&std::mem::take(rest));
            }
        }
    }
    if is_end && !rest.is_empty() {
        put(&std::mem::take(rest));
    }
    lines
}

/// The input so far.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    is_whole: bool,
}

/// There was more input than can be kept.
#[derive(Debug)]
struct Flood;

/// Keeps the input for everybody, until its end.
async fn keep(mut from: Receiver, kept: shared_value::Sender<Kept>) -> Result<(), Flood> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        // A client that is gone has no more input either.
        let length = from.read(&mut bytes).await.unwrap_or_default();
        let more = bytes.get(..length).unwrap_or_default();
        if kept.borrow().bytes.len() + length > INPUT_BYTES_MAX {
            return Err(Flood);
        }
        kept.send_modify(|kept| {
            kept.bytes.extend_from_slice(more);
            kept.is_whole = length == 0;
        });
        if length == 0 {
            return Ok(());
        }
    }
}

/// Gives a program the input from its beginning; dropping the pipe is its end.
async fn feed(mut input: shared_value::Receiver<Kept>, to: OwnedFd) -> io::Result<()> {
    let mut to = sending(to)?;
    let mut at = 0;
    loop {
        let (piece, is_whole) = {
            let kept = input.borrow_and_update();
            let left = kept.bytes.get(at..).unwrap_or_default();
            let piece = left.get(..READ_BYTES.min(left.len())).unwrap_or_default().to_vec();
            (piece, kept.is_whole)
        };
        if !piece.is_empty() {
            at += piece.len();
            to.write_all(&piece).await?;
        } else if is_whole || input.changed().await.is_err() {
            return Ok(());
        }
    }
}
