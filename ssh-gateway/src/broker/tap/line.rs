//! A program's terminal whose client may go and another one come: what it shows meanwhile is recorded, kept as far as there is
//! room, and shown to the next one.
//!
//! Two loops for as long as the program has its terminal: one reads it, whether there is a client or not, so that no byte
//! that was read is lost with a client; the other has what the client of the moment types, and the size of its window.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::termios::tcsetwinsize;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::recording::{Lost, What};
use super::super::terminal::{self, READ_BYTES, Terminal};
use super::{Broken, LAST_WORDS_TIME_MAX, LOST, TERMINAL_SETTLED, Tap};
use crate::descriptor::watched;
use crate::screen::{Filter, RESET};
use crate::wire::WindowSize;

#[cfg(test)]
mod tests;

/// Of what was on a terminal last so much is kept for the next client, in bytes.
const KEPT_BYTES_MAX: usize = 128 * 1024;
/// While nobody is there, a program is read this fast, in bytes a second: what it puts out then must not cost what no client
/// would have taken.
const ALONE_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// What is kept begins with a line, if one begins in its first bytes, so many.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Between two sizes of a terminal, so that a program sees both, and draws anew.
const REDRAW_TIME: Duration = Duration::from_millis(50);

/// Where what is kept is shown: a screen with nothing on it.
const CLEARED: &[u8] = b"\x1b[H\x1b[2J";
const OLDER: &[u8] = b"(what was shown before this is not kept)\r\n";

/// Who is at a terminal. Dropped, nobody comes any more: with the client of the moment the terminal is hung up, or at once
/// where there is none.
#[derive(Debug)]
pub(in crate::broker) struct Line(watch::Sender<Option<Arc<Client>>>);

/// A client's end.
#[derive(Debug)]
struct Client {
    terminal: Terminal,
    /// It is not there any more.
    gone: CancellationToken,
    /// The size that the program knows already; none for one that returns.
    known: Option<WindowSize>,
}

impl Client {
    fn new(terminal: Terminal, known: Option<WindowSize>) -> Arc<Self> {
        Arc::new(Self { terminal, gone: CancellationToken::new(), known })
    }

    /// Shows all of it. False when the client is gone.
    async fn show(&self, bytes: &[u8]) -> bool {
        tokio::select! {
            shown = self.terminal.write(bytes) => shown.is_ok(),
            () = self.gone.cancelled() => false,
        }
    }
}

impl Line {
    /// Nobody is at the terminal from now on.
    pub(in crate::broker) fn leave(&self) {
        self.replace(None);
    }

    /// Somebody returns: he is shown what is kept, and everything after it.
    pub(in crate::broker) fn join(&self, terminal: Terminal) {
        self.replace(Some(Client::new(terminal, None)));
    }

    fn replace(&self, client: Option<Arc<Client>>) {
        if let Some(before) = self.0.send_replace(client) {
            before.gone.cancel();
        }
    }
}

/// Puts such a terminal between net and the program's own, and gives its master for net. Needs a tokio runtime.
pub(in crate::broker) fn terminal_of(
    tap: &Arc<Tap>,
    size: WindowSize,
    program: OwnedFd,
) -> io::Result<(OwnedFd, Line)> {
    let (ours, master) = Terminal::new(size)?;
    ours.make_raw()?;
    let theirs = watched(program)?;
    let (sender, clients) = watch::channel(Some(Client::new(ours, Some(size))));
    let tap = Arc::clone(tap);
    tokio::spawn(async move {
        let _settled = tap.settled.clone().drop_guard();
        let last = clients.clone();
        let carried = tokio::select! {
            ended = show(&tap, &theirs, clients.clone()) => ended,
            ended = follow(&tap, &theirs, clients) => ended,
            () = tap.cut.cancelled() => Ok(()),
        };
        match carried {
            Ok(()) => {}
            Err(Broken::Lost) => {
                let client = last.borrow().clone();
                if let Some(client) = client {
                    drop(timeout(LAST_WORDS_TIME_MAX, client.show(LOST.as_bytes())).await);
                }
            }
            Err(Broken::System(error)) => tracing::debug!("a terminal broke: {error}"),
        }
    });
    Ok((master, Line(sender)))
}

/// Shows what the program puts out, until it has closed its terminal, or has ended and all is said.
async fn show(
    tap: &Tap,
    theirs: &AsyncFd<OwnedFd>,
    mut clients: watch::Receiver<Option<Arc<Client>>>,
) -> Result<(), Broken> {
    let mut bytes = vec![0; READ_BYTES];
    let mut kept = Kept::default();
    let mut client = clients.borrow_and_update().clone();
    let mut has_exited = false;
    loop {
        let reading = terminal::read(theirs, &mut bytes);
        let read = tokio::select! {
            read = reading => read,
            Ok(()) = clients.changed() => {
                client = clients.borrow_and_update().clone();
                if let Some(its) = &client
                    && !its.show(&kept.shown()).await
                {
                    client = None;
                }
                continue;
            }
            () = tap.exited.cancelled(), if !has_exited => {
                has_exited = true;
                continue;
            }
            () = sleep(TERMINAL_SETTLED), if has_exited => return Ok(()),
        };
        let length = read?;
        if length == 0 {
            return Ok(());
        }
        let said = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
        kept.put(&said);
        tap.output(said.clone(), What::Output).await?;
        match &client {
            Some(its) => {
                if !its.show(&said).await {
                    client = None;
                }
            }
            None => sleep(pause(said.len())).await,
        }
    }
}

/// How long nothing more is read after so many bytes while nobody is there.
fn pause(length: usize) -> Duration {
    Duration::from_micros(length as u64 * 1_000_000 / ALONE_BYTES_PER_SECOND)
}

/// Follows the clients, one after the other, until the last one is gone.
async fn follow(
    tap: &Tap,
    theirs: &AsyncFd<OwnedFd>,
    mut clients: watch::Receiver<Option<Arc<Client>>>,
) -> Result<(), Broken> {
    loop {
        let client = clients.borrow_and_update().clone();
        if let Some(client) = client {
            tokio::select! {
                // Who is gone types nothing more, whatever is still in his terminal.
                biased;
                () = client.gone.cancelled() => {}
                ended = typed(tap, &client.terminal, theirs) => ended?,
                ended = sized(tap, &client, theirs) => ended?,
            }
            client.gone.cancel();
        }
        if clients.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Passes on what is typed, until the client is gone.
async fn typed(tap: &Tap, ours: &Terminal, theirs: &AsyncFd<OwnedFd>) -> Result<(), Lost> {
    let mut bytes = vec![0; READ_BYTES];
    let mut is_taken = true;
    loop {
        let length = ours.read(&mut bytes).await.unwrap_or_default();
        if length == 0 {
            return Ok(());
        }
        tap.input(bytes.get(..length).unwrap_or_default(), theirs, &mut is_taken).await?;
    }
}

/// Passes on the size of the client's window, until it is gone. To a program that has had another client it comes twice,
/// as nothing else makes it draw anew.
async fn sized(tap: &Tap, client: &Client, theirs: &AsyncFd<OwnedFd>) -> Result<(), Broken> {
    let set =
        |size| tcsetwinsize(theirs.get_ref(), terminal::winsize(size)).map_err(io::Error::from);
    let mut known = match client.known {
        Some(known) => known,
        None => {
            let Ok(size) = client.terminal.size() else { return Ok(()) };
            set(other(size))?;
            sleep(REDRAW_TIME).await;
            set(size)?;
            tap.size(size).await?;
            size
        }
    };
    loop {
        let Ok(size) = client.terminal.resized(known).await else { return Ok(()) };
        known = size;
        set(known)?;
        tap.size(known).await?;
    }
}

/// A size that is not this one, and hardly another.
fn other(size: WindowSize) -> WindowSize {
    let rows = if size.rows > 1 { size.rows - 1 } else { size.rows + 1 };
    WindowSize { rows, ..size }
}

/// What was on a terminal last.
#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// There was more.
    is_cut: bool,
}

impl Kept {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(KEPT_BYTES_MAX);
        if surplus > 0 {
            self.bytes.drain(..surplus);
            self.is_cut = true;
        }
    }

    /// The same for a terminal that knows nothing of it. What would make that answer is left out: nobody waits for the
    /// answer any more, and it would be typed into whatever runs.
    fn shown(&self) -> Vec<u8> {
        let mut shown = [RESET, CLEARED].concat();
        let mut all = self.bytes.iter().copied();
        if self.is_cut {
            shown.extend(OLDER);
            // Not from within a line, a sequence or a character, where that costs little.
            let line = all.clone().take(LINE_BYTES_MAX).position(|byte| byte == b'\n');
            if let Some(end) = line {
                all.nth(end);
            }
        }
        shown.extend(Filter::default().pass(&all.collect::<Vec<_>>()));
        shown
    }
}
