//! The log of a container as the engine sends it, byte for byte.
//!
//! The client library cuts the body into messages by looking at its first byte, which is wrong for containers with
//! a terminal and hides errors of the engine, and it gives up on a follower whose container is silent. So
//! these requests are made here. The experimental `Accept: application/jsonl` of API 1.54 is not asked
//! for: no engine in use has it, and this format is understood by all of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, SERVER};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Engine;
use super::error::{EngineError, EngineErrorKind, Request};
use super::host::Host;

#[cfg(test)]
mod tests;

/// How long a socket may take to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer that does not follow may take to begin: the engine looks for the last lines first. One that
/// follows may take for ever, since engines before 27 send no headers before the first line.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(150);

/// How long an answer that does not follow may pause in its middle.
const PAUSE_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes of an error's text that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Bytes that are handed on together.
const READ_BYTES: usize = 256 << 10;

/// Largest buffer of a connection, in bytes: a Unix socket queues no more than 37 KB of single lines.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// A read of fewer bytes is followed by a pause.
const SHORT_READ_BYTES: usize = 32 << 10;

/// The engine writes every line alone, and a reader that wakes for each costs both sides more than the lines
/// do. After this pause there are many: it triples what a reader gets for its time, and lifts the engine's
/// own rate by half.
const PAUSE_AFTER_SHORT_READ: Duration = Duration::from_micros(300);

/// How much of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTail {
    /// All that is retained.
    All,
    /// So many messages from the end.
    Last(u64),
}

/// A reply with the log of one container. Dropping it ends the request.
pub struct RawLogs {
    container: String,
    follows: bool,
    connection: Pin<Box<Connection>>,
    is_connected: bool,
    body: Incoming,
    is_docker: bool,
    /// Why the body broke off, to be told after what came before: it is told once only by the connection.
    failure: Option<hyper::Error>,
    /// Kept, since a connection without one closes.
    _sender: http1::SendRequest<Empty<Bytes>>,
}

type Connection = http1::Connection<TokioIo<Paced<Socket>>, Empty<Bytes>>;

impl std::fmt::Debug for RawLogs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RawLogs")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Both outputs of a container with the engine's times, as its log driver kept them. `follow`: goes on with
    /// what is written from now on, until the container ends. Safe to drop at any await.
    pub async fn raw_logs(
        &self,
        name: &str,
        tail: LogTail,
        follow: bool,
    ) -> Result<RawLogs, EngineError> {
        let request = Request::new("read the log of", "container", name);
        let name = request.checked_name()?;
        let tail = match tail {
            LogTail::All => "all".to_owned(),
            LogTail::Last(count) => count.to_string(),
        };
        let follow_value = u8::from(follow);
        let path = format!(
            "/containers/{name}/logs?stdout=1&stderr=1&timestamps=1&tail={tail}&follow={follow_value}"
        );
        let asked = hyper::Request::get(path)
            .header(hyper::header::HOST, "docker")
            .body(Empty::new())
            .map_err(|error| request.invalid(&error.to_string()))?;
        let slow = || request.error(EngineErrorKind::Timeout, "the engine does not answer in time");
        let socket = timeout(CONNECT_TIME_MAX, Socket::connect(&self.host)).await;
        let socket = socket
            .map_err(|_| slow())?
            .map_err(|error| request.unreachable(error.kind(), &error))?;
        let shaken = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(Paced::new(socket)))
            .await;
        let (mut sender, connection) = shaken.map_err(|error| request.broken(&error))?;
        let mut connection = Box::pin(connection);
        let mut is_connected = true;
        let begin = {
            let mut answer = std::pin::pin!(sender.send_request(asked));
            let begin = std::future::poll_fn(|context| {
                if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                    return Poll::Ready(answer);
                }
                if is_connected && connection.as_mut().poll(context).is_ready() {
                    is_connected = false;
                }
                answer.as_mut().poll(context)
            });
            if follow { Ok(begin.await) } else { timeout(BEGIN_TIME_MAX, begin).await }
        };
        let answer = begin.map_err(|_| slow())?.map_err(|error| request.broken(&error))?;
        let (head, body) = answer.into_parts();
        let mut logs = RawLogs {
            container: name.to_owned(),
            follows: follow,
            connection,
            is_connected,
            body,
            is_docker: is_docker(&head.headers),
            failure: None,
            _sender: sender,
        };
        if head.status != hyper::StatusCode::OK {
            let text = logs.error_text().await;
            return Err(request.answered(head.status.as_u16(), &text));
        }
        Ok(logs)
    }
}

/// By the headers that Docker's middleware adds to every answer, of which proxies leave one or the other.
fn is_docker(headers: &HeaderMap) -> bool {
    let names_docker =
        headers.get(SERVER).is_some_and(|name| name.as_bytes().starts_with(b"Docker/"));
    names_docker
        || (headers.contains_key("docker-experimental")
            && !headers.contains_key("libpod-api-version"))
}

impl RawLogs {
    /// Whether it is Docker that answers. Where it cannot be known, and with podman, whose log drivers have the names of
    /// Docker's on its compatible socket, it is not.
    #[must_use]
    pub fn is_docker(&self) -> bool {
        self.is_docker
    }

    /// Adds what has arrived to `buffer`, waiting for at least some; `None` after the last.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> Option<Result<(), EngineError>> {
        let follows = self.follows;
        let more = std::future::poll_fn(|context| self.poll_read(context, buffer));
        if follows {
            return more.await;
        }
        timeout(PAUSE_TIME_MAX, more).await.unwrap_or_else(|_| {
            let request = Request::new("read the log of", "container", &self.container);
            Some(Err(request.error(EngineErrorKind::Timeout, "the engine stopped in the middle")))
        })
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<Option<Result<(), EngineError>>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Some(Err(self.broken(&error))));
        }
        let before = buffer.len();
        let mut is_driven = false;
        while buffer.len() - before < READ_BYTES {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    is_driven = false;
                    if let Some(data) = frame.data_ref() {
                        buffer.extend_from_slice(data);
                    }
                }
                // What came before is handed on first.
                Poll::Ready(Some(Err(error))) if buffer.len() > before => {
                    self.failure = Some(error);
                    break;
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(self.broken(&error))));
                }
                // The end comes again.
                Poll::Ready(None) if buffer.len() > before => break,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if !is_driven && self.is_connected => {
                    is_driven = true;
                    if self.connection.as_mut().poll(context).is_ready() {
                        self.is_connected = false;
                    }
                }
                Poll::Pending if buffer.len() > before => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(Ok(())))
    }

    fn broken(&self, error: &hyper::Error) -> EngineError {
        Request::new("read the log of", "container", &self.container).broken(error)
    }

    /// The text of an answer that is an error.
    async fn error_text(&mut self) -> String {
        let mut text = Vec::new();
        while text.len() < ERROR_BYTES_MAX {
            match timeout(PAUSE_TIME_MAX, self.read(&mut text)).await {
                Ok(Some(Ok(()))) => {}
                _ => break,
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A connection to the engine.
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(super) async fn connect(host: &Host) -> io::Result<Self> {
        match host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Host::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str()).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A socket that lets bytes gather after a short read.
struct Paced<S> {
    socket: S,
    pause: Pin<Box<Sleep>>,
    is_paused: bool,
}

impl<S> Paced<S> {
    fn new(socket: S) -> Self {
        Self { socket, pause: Box::pin(sleep_until(Instant::now())), is_paused: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_paused {
            ready!(this.pause.as_mut().poll(context));
            this.is_paused = false;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if (1..SHORT_READ_BYTES).contains(&read) && buffer.remaining() > 0 {
            this.pause.as_mut().reset(Instant::now() + PAUSE_AFTER_SHORT_READ);
            this.is_paused = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
