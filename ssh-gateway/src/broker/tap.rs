//! Between a program and net, where its session is recorded or may outlive its connection: what goes through is recorded
//! first, and shown to who watches.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{LocalModes, tcgetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::recording::{self, Lost, Recording, What};
use super::terminal::{self, READ_BYTES, Terminal};
use crate::descriptor::watched;
use crate::policy::{Record, Unrecorded};
use crate::wire::{Exit, WindowSize};

pub(super) mod line;

#[cfg(test)]
mod tests;

/// Pieces that who watches may be behind; who is further behind misses some, and is told.
const LIVE_MAX: usize = 256;
/// As net has it: a terminal whose program has ended is drained when nothing came for this long.
const TERMINAL_SETTLED: Duration = Duration::from_millis(50);
/// Of the output of a command without a terminal so much is recorded, in bytes.
const COMMAND_BYTES_MAX: u64 = 1024 * 1024;
/// What the client is told in the last moment may take this long.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(2);

const LOST: &str = "\r\nThis session can no longer be recorded, so it ends here.\r\n";
const BINARY: &str = "binary output is not recorded";
const TOO_MUCH: &str = "more output of a command is not recorded";

/// What somebody who watches is shown.
#[derive(Debug, Clone)]
pub(super) enum Live {
    Output(Bytes),
    Size(WindowSize),
}

/// How much of a session is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of it.
    Whole,
    /// Text, and not too much of it: commands may be anything, file transfers too.
    Text,
}

/// What of a scope is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// There is no end to it.
    Endless,
    /// So much.
    Bytes(u64),
    /// Nothing, and it was said why.
    Over,
}

/// Records what passes, where that is to be done.
#[derive(Debug)]
pub(super) struct Tap {
    recording: Option<Recording>,
    record: Record,
    unrecorded: Unrecorded,
    room: Mutex<Room>,
    is_lost: AtomicBool,
    live: broadcast::Sender<Live>,
    /// Ends the session.
    end: CancellationToken,
    /// Nothing goes through any more: the session has ended, and nobody waits for the rest.
    cut: CancellationToken,
    /// The program has ended.
    exited: CancellationToken,
    /// All that it has put out has gone through.
    settled: CancellationToken,
}

impl Tap {
    pub(super) fn new(
        recording: Option<Recording>,
        record: Record,
        unrecorded: Unrecorded,
        scope: Scope,
        end: CancellationToken,
    ) -> Self {
        let room = match scope {
            Scope::Whole => Room::Endless,
            Scope::Text => Room::Bytes(COMMAND_BYTES_MAX),
        };
        Self {
            recording,
            record,
            unrecorded,
            room: Mutex::new(room),
            is_lost: AtomicBool::new(false),
            live: broadcast::channel(LIVE_MAX).0,
            end,
            cut: CancellationToken::new(),
            exited: CancellationToken::new(),
            settled: CancellationToken::new(),
        }
    }

    /// The path of its recording, below the directory of recordings.
    pub(super) fn name(&self) -> Option<&str> {
        self.recording.as_ref().map(|recording| recording.name.as_str())
    }

    /// What goes through from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Live> {
        self.live.subscribe()
    }

    /// Whether its recording is lost: then nothing goes through any more, and its client is told why.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) && self.unrecorded == Unrecorded::Refuse
    }

    /// What ends everything that goes through.
    pub(super) fn cutter(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// The program has ended. Waits until what it has put out has gone through.
    pub(super) async fn exited(&self, exit: Exit) {
        self.exited.cancel();
        self.settled.cancelled().await;
        // A recording that was lost was told before.
        self.record(What::Exit(exit)).await.ok();
    }

    /// Records something, or ends the session when it must not go on without.
    async fn record(&self, what: What) -> Result<(), Lost> {
        let Some(recording) = &self.recording else { return Ok(()) };
        if !self.is_lost.load(Ordering::Relaxed) && recording.put(what).await.is_err() {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        self.may_go_on()
    }

    /// Fails, and ends the session, when its recording is lost and it must not go on without: whoever lost it, nothing
    /// more goes through.
    fn may_go_on(&self) -> Result<(), Lost> {
        if !self.is_lost() {
            return Ok(());
        }
        self.end.cancel();
        Err(Lost)
    }

    async fn output(&self, bytes: Bytes, what: fn(Bytes) -> What) -> Result<(), Lost> {
        self.may_go_on()?;
        // Nobody may watch.
        self.live.send(Live::Output(bytes.clone())).ok();
        match self.in_scope(bytes) {
            Recordable::All(bytes) => self.record(what(bytes)).await,
            Recordable::Part(bytes, mark) => {
                self.record(what(bytes)).await?;
                self.record(What::Mark(mark)).await
            }
            Recordable::Nothing => Ok(()),
        }
    }

    fn in_scope(&self, bytes: Bytes) -> Recordable {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match *room {
            Room::Endless => return Recordable::All(bytes),
            Room::Over => return Recordable::Nothing,
            Room::Bytes(left) => left,
        };
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let binary = bytes.iter().take(fits).position(|byte| *byte == 0);
        let (end, mark) = match binary {
            Some(at) => (at, BINARY),
            None if fits < bytes.len() => (fits, TOO_MUCH),
            None => {
                *room = Room::Bytes(left - fits as u64);
                return Recordable::All(bytes);
            }
        };
        *room = Room::Over;
        Recordable::Part(bytes.slice(..end), mark)
    }

    /// Hands what is typed to the program behind this terminal, and records it; never what is typed blindly. There is room
    /// for it in the recording before it is handed over; whether the terminal echoes is asked behind that wait, and once more
    /// when all of it is with the terminal: a program may turn it off meanwhile. `is_taken` is whether the program takes
    /// anything. Dropped meanwhile, it has recorded what the program has by then.
    async fn input(
        &self,
        typed: &[u8],
        theirs: &AsyncFd<OwnedFd>,
        is_taken: &mut bool,
    ) -> Result<(), Lost> {
        let room = self.input_room().await?;
        let mut typed = Typed { was_echoed: is_echoed(theirs), theirs, typed, handed: 0, room };
        // A program that has ended takes nothing, and may still have said something.
        *is_taken = *is_taken && typed.hand_over().await.is_ok();
        // Nobody has the rest.
        typed.handed = typed.typed.len();
        Ok(())
    }

    /// Room for what is typed, where that is recorded.
    async fn input_room(&self) -> Result<Option<recording::Room<'_>>, Lost> {
        self.may_go_on()?;
        let its = self.recording.as_ref().filter(|_| self.record == Record::Input);
        let Some(recording) = its.filter(|_| !self.is_lost.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        if let Ok(room) = recording.room().await {
            return Ok(Some(room));
        }
        self.is_lost.store(true, Ordering::Relaxed);
        self.may_go_on().map(|()| None)
    }

    async fn size(&self, size: WindowSize) -> Result<(), Lost> {
        self.live.send(Live::Size(size)).ok();
        self.record(What::Resize(size)).await
    }
}

/// What is typed, on its way to a program. Dropped, it is recorded as far as it has come.
struct Typed<'a> {
    theirs: &'a AsyncFd<OwnedFd>,
    typed: &'a [u8],
    /// How much of it is with the terminal.
    handed: usize,
    /// Where it may be recorded.
    room: Option<recording::Room<'a>>,
    was_echoed: bool,
}

impl Typed<'_> {
    async fn hand_over(&mut self) -> io::Result<()> {
        while let Some(rest) = self.typed.get(self.handed..)
            && !rest.is_empty()
        {
            self.handed += terminal::write_some(self.theirs, rest).await?;
        }
        Ok(())
    }
}

impl Drop for Typed<'_> {
    fn drop(&mut self) {
        let handed = self.typed.get(..self.handed).unwrap_or_default();
        if let Some(room) = self.room.take()
            && !handed.is_empty()
            && self.was_echoed
            && is_echoed(self.theirs)
        {
            room.put(What::Input(Bytes::copy_from_slice(handed)));
        }
    }
}

/// What of some output is recorded.
enum Recordable {
    All(Bytes),
    /// This, and why no more.
    Part(Bytes, &'static str),
    Nothing,
}

/// Puts a terminal between net and the program's own, and gives its master for net. Needs a tokio runtime.
pub(super) fn terminal(tap: &Arc<Tap>, size: WindowSize, program: OwnedFd) -> io::Result<OwnedFd> {
    let (ours, master) = Terminal::new(size)?;
    ours.make_raw()?;
    let tap = Arc::clone(tap);
    tokio::spawn(async move {
        let _settled = tap.settled.clone().drop_guard();
        match carry(&tap, &ours, program, size).await {
            Ok(()) => {}
            Err(Broken::Lost) => {
                drop(timeout(LAST_WORDS_TIME_MAX, ours.write(LOST.as_bytes())).await);
            }
            Err(Broken::System(error)) => tracing::debug!("a terminal broke: {error}"),
        }
    });
    Ok(master)
}

enum Broken {
    Lost,
    System(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Lost> for Broken {
    fn from(Lost: Lost) -> Self {
        Self::Lost
    }
}

/// Carries bytes and sizes until one of the terminals is closed, or the program has ended and all is said.
async fn carry(
    tap: &Tap,
    ours: &Terminal,
    program: OwnedFd,
    begun: WindowSize,
) -> Result<(), Broken> {
    let theirs = watched(program)?;
    let into = async {
        let mut bytes = vec![0; READ_BYTES];
        let mut is_taken = true;
        loop {
            let length = ours.read(&mut bytes).await?;
            if length == 0 {
                return Ok(());
            }
            tap.input(bytes.get(..length).unwrap_or_default(), &theirs, &mut is_taken).await?;
        }
    };
    let out = async {
        let mut bytes = vec![0; READ_BYTES];
        let mut has_exited = false;
        loop {
            let reading = terminal::read(&theirs, &mut bytes);
            let read = if has_exited {
                let Ok(read) = timeout(TERMINAL_SETTLED, reading).await else { return Ok(()) };
                read
            } else {
                tokio::select! {
                    read = reading => read,
                    () = tap.exited.cancelled() => {
                        has_exited = true;
                        continue;
                    }
                }
            };
            let length = read?;
            if length == 0 {
                return Ok(());
            }
            let shown = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
            tap.output(shown.clone(), What::Output).await?;
            ours.write(&shown).await?;
        }
    };
    let sizes = async {
        let mut known = begun;
        loop {
            known = ours.resized(known).await?;
            tcsetwinsize(theirs.get_ref(), terminal::winsize(known)).map_err(io::Error::from)?;
            tap.size(known).await?;
        }
    };
    tokio::select! {
        ended = into => ended,
        ended = out => ended,
        ended = sizes => ended,
        () = tap.cut.cancelled() => Ok(()),
    }
}

/// Whether a program's terminal echoes now.
fn is_echoed(theirs: &AsyncFd<OwnedFd>) -> bool {
    tcgetattr(theirs.get_ref())
        .is_ok_and(|attributes| attributes.local_modes.contains(LocalModes::ECHO))
}

/// Puts pipes between net and the outputs of a program: standard output and error for net. What goes in goes past it:
/// nobody could say what of it may be kept. Needs a tokio runtime.
pub(super) fn pipes(tap: &Arc<Tap>, output: OwnedFd, errors: OwnedFd) -> io::Result<[OwnedFd; 2]> {
    // What a program leaves in the background may hold its pipes for ever.
    tap.settled.cancel();
    Ok([pipe(tap, output, What::Output)?, pipe(tap, errors, What::Errors)?])
}

fn pipe(tap: &Arc<Tap>, from: OwnedFd, what: fn(Bytes) -> What) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&from, &writer] {
        rustix::io::ioctl_fionbio(end, true)?;
    }
    let (mut from, mut to) = (Receiver::from_owned_fd(from)?, Sender::from_owned_fd(writer)?);
    let tap = Arc::clone(tap);
    tokio::spawn(async move {
        let carried = async {
            let mut bytes = vec![0; READ_BYTES];
            loop {
                let length = match from.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => length,
                };
                let said = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
                if tap.output(said.clone(), what).await.is_err()
                    || to.write_all(&said).await.is_err()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = carried => {}
            () = tap.cut.cancelled() => {}
        }
    });
    Ok(reader)
}
