//! What lies between a client's socket and russh: it sees bytes, not messages.
//!
//! It acknowledges the first packets at once, slows a client down whose bytes find no taker, goes on reading
//! while a write waits, and can end a connection whatever russh is doing.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use super::lock;
use super::spool::Brake;

/// Reads after which the kernel is told to acknowledge at once: a client's key exchange otherwise waits for
/// our delayed acknowledgement, 40 ms each login.
const QUICK_READS: u32 = 40;
/// Reads from a slowed client in one [`SLOW_TICK`]; russh reads twice a packet.
const SLOW_READS: u32 = 32;
/// See [`SLOW_READS`].
const SLOW_TICK: Duration = Duration::from_millis(20);
/// What is read while a write waits. Two ends that both only write would wait for ever; clients that write
/// without reading write less than this at once. In bytes.
const AHEAD_BYTES: usize = 4 * 1024 * 1024;
/// A buffer on the stack. In bytes.
const AHEAD_STEP: usize = 16 * 1024;
/// Longest identification string (RFC 4253, 4.2). In bytes.
const IDENTIFICATION_BYTES: usize = 255;

/// A byte stream to a client.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Acknowledge what has arrived without delay.
    fn acknowledge(&self) {}

    /// Say this now, as far as there is room for it.
    fn say(&self, _bytes: &[u8]) {}
}

impl Wire for TcpStream {
    fn acknowledge(&self) {
        // Only speed is lost without it.
        rustix::net::sockopt::set_tcp_quickack(self, true).ok();
    }

    fn say(&self, bytes: &[u8]) {
        // One that has gone already need not know.
        self.try_write(bytes).ok();
    }
}

impl Wire for UnixStream {
    fn say(&self, bytes: &[u8]) {
        self.try_write(bytes).ok();
    }
}

impl Wire for tokio::io::DuplexStream {}

/// The stream to a client that comes through a forward.
pub(super) fn through(stream: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// What the rest of a connection knows of its bytes, and can do to them.
#[derive(Debug)]
pub(super) struct Link {
    origin: Instant,
    read: AtomicU64,
    written: AtomicU64,
    /// Milliseconds after `origin`, plus 1; 0 when no write waits.
    stalled: AtomicU64,
    shut: AtomicBool,
    cut: AtomicBool,
    waker: AtomicWaker,
    identification: Mutex<Vec<u8>>,
    /// On while too much waits in the spools of the connection.
    pub(super) brake: Arc<Brake>,
}

impl Link {
    /// Of a new connection.
    pub(super) fn new(brake: Arc<Brake>) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            identification: Mutex::default(),
            brake,
        })
    }

    /// Ends the connection: the next read and the next write fail.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether our side has said its last word.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// How long the client has taken nothing while there was something for it.
    pub(super) fn stalled_for(&self) -> Duration {
        match self.stalled.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Bytes that came and went.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// The client's identification string, printable characters only.
    pub(super) fn identification(&self) -> String {
        let first = lock(&self.identification);
        let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.iter()
            .filter(|byte| matches!(byte, b' '..=b'~'))
            .map(|byte| char::from(*byte))
            .collect()
    }

    fn came(&self, bytes: &[u8]) {
        let before = self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before < IDENTIFICATION_BYTES as u64 {
            let mut first = lock(&self.identification);
            let room = IDENTIFICATION_BYTES.saturating_sub(first.len());
            first.extend(bytes.iter().take(room));
        }
    }

    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        self.waker.register(context.waker());
        if self.cut.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was ended",
            ));
        }
        Ok(())
    }
}

/// The stream given to russh.
#[derive(Debug)]
pub(super) struct Transport<W> {
    wire: W,
    link: Arc<Link>,
    quick_reads: u32,
    slow_reads: u32,
    tick: Option<Pin<Box<Sleep>>>,
    ahead: BytesMut,
    /// The client takes nothing any more: its side is gone.
    is_unread: bool,
}

impl<W: Wire> Transport<W> {
    /// Around a client's socket.
    pub(super) fn new(wire: W, link: Arc<Link>) -> Self {
        Self {
            wire,
            link,
            quick_reads: QUICK_READS,
            slow_reads: 0,
            tick: None,
            ahead: BytesMut::new(),
            is_unread: false,
        }
    }

    /// Whether a slowed client must wait for the next tick.
    fn must_wait(&mut self, context: &mut Context<'_>) -> bool {
        if !self.link.brake.is_on() {
            self.tick = None;
            return false;
        }
        let tick = self.tick.get_or_insert_with(|| {
            self.slow_reads = 0;
            Box::pin(tokio::time::sleep(SLOW_TICK))
        });
        if self.slow_reads < SLOW_READS {
            self.slow_reads += 1;
            return false;
        }
        if tick.as_mut().poll(context).is_pending() {
            return true;
        }
        tick.as_mut().reset(Instant::now() + SLOW_TICK);
        self.slow_reads = 1;
        false
    }

    /// Reads what has arrived while a write waits.
    fn read_ahead(&mut self, context: &mut Context<'_>) {
        let mut step = [0; AHEAD_STEP];
        while self.ahead.len() < AHEAD_BYTES {
            let mut buffer = ReadBuf::new(&mut step);
            let read = Pin::new(&mut self.wire).poll_read(context, &mut buffer);
            // An end or an error shows again when russh itself reads.
            if !matches!(read, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
                break;
            }
            self.link.came(buffer.filled());
            self.ahead.extend_from_slice(buffer.filled());
        }
    }
}

/// Whether an error of writing says that there is nobody who reads.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl<W: Wire> AsyncRead for Transport<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.check(context)?;
        if this.must_wait(context) {
            return Poll::Pending;
        }
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(this.ahead.get(..length).unwrap_or_default());
            this.ahead.advance(length);
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.wire).poll_read(context, buffer))?;
        this.link.came(buffer.filled().get(before..).unwrap_or_default());
        if this.quick_reads > 0 {
            this.quick_reads -= 1;
            this.wire.acknowledge();
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: Wire> AsyncWrite for Transport<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.check(context)?;
        if this.is_unread {
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut this.wire).poll_write(context, bytes) {
            // A client that has left may have said so before: whoever reads is to hear that, and then the end.
            Poll::Ready(Err(error)) if is_gone(&error) => {
                this.is_unread = true;
                this.link.stalled.store(0, Ordering::Relaxed);
                Poll::Ready(Ok(bytes.len()))
            }
            Poll::Ready(written) => {
                let written = written?;
                this.link.stalled.store(0, Ordering::Relaxed);
                this.link.written.fetch_add(written as u64, Ordering::Relaxed);
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                let now =
                    u64::try_from(this.link.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
                // Only the first of several polls counts.
                this.link
                    .stalled
                    .compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed)
                    .ok();
                this.read_ahead(context);
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.shut.store(true, Ordering::Release);
        Pin::new(&mut this.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
