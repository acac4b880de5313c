//! The engine's socket behind an allow-list: whoever has the socket itself is root of the host, and a shipper needs
//! no more of it than to look.
//!
//! A connection carries one request. Nothing of it goes to the engine as it came: the request that does is written
//! anew from what was understood, on a connection of its own, so that the two sides cannot understand different
//! things. `docs/logship-threats.md` has the rules.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chores_common::engine::Host;
use chores_common::server::{self, Limits};
use chores_common::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Either, Empty, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1 as client;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::either::Either as Socket;

pub mod decide;
pub mod strip;

use decide::{Ask, Kind, Refusal, Way, decide};

#[cfg(test)]
mod tests;

/// What clients may take. A shipper needs a connection for each container that it reads by the API, for as long as the
/// container runs.
const LIMITS: Limits = Limits {
    connections: 2048,
    head_bytes: 16 << 10,
    headers: 32,
    head_time: Duration::from_secs(10),
    time: None,
    stall: Some(Duration::from_secs(60)),
};

/// How long the engine may take to accept a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer that does not go on may take to begin: the engine looks for the last lines first.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(160);

/// How long the rest of an answer that is held in memory may take.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Bytes of an answer that is held in memory, because parts of it are kept back.
const WHOLE_BYTES_MAX: usize = 32 << 20;

/// Such answers at once, at the most, until the client has them; others wait.
const WHOLE_MAX: usize = 4;

/// Bytes of such an answer that are given to the connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of what is asked of a container before it gets a signal, and of the engine's answer to that.
const KILL_BYTES_MAX: usize = 1 << 20;

/// Refusals that are told of in one minute; the rest of them are only counted.
const TOLD_MAX: u32 = 20;

/// How long refusals are counted.
const TOLD_TIME: Duration = Duration::from_secs(60);

/// Headers of the engine's answers that are handed on: clients agree on a version by the second, and know by the last
/// which engine it is.
const ANSWER_HEADERS: [HeaderName; 5] = [
    CONTENT_TYPE,
    HeaderName::from_static("api-version"),
    HeaderName::from_static("ostype"),
    HeaderName::from_static("docker-experimental"),
    SERVER,
];

/// Where the proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address, without encryption: for networks that only the shipper is in.
    Tcp(SocketAddr),
}

impl Listen {
    /// Reads `unix:/path`, `unix:///path`, `tcp://address:port` or `tcp:address:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "{text:?} is no address: give for example unix:/run/logship/engine.sock or tcp://127.0.0.1:2375"
            )
        };
        let (kind, rest) = text.split_once(':').ok_or_else(fault)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match kind {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => rest.parse().map(Self::Tcp).map_err(|_| fault()),
            _ => Err(fault()),
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// What the proxy is to do.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Where it listens.
    pub listen: Listen,
    /// Permissions of a Unix socket.
    pub mode: u32,
    /// The engine.
    pub engine: Host,
}

/// The proxy cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The address cannot be used.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: Listen,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("cannot listen on unix:{0}: there is something else at this path")]
    Taken(PathBuf),
    /// Another process listens there.
    #[error("cannot listen on unix:{0}: another process listens there")]
    InUse(PathBuf),
}

/// Serves until the shutdown.
pub async fn run(settings: ProxySettings, shutdown: &Shutdown) -> Result<(), ProxyError> {
    let ProxySettings { listen, mode, engine } = settings;
    let fail = |source| ProxyError::Listen { listen: listen.clone(), source };
    let serving = format!("serving parts of {engine}");
    let way = match &listen {
        Listen::Unix(_) => Way::Socket,
        Listen::Tcp(_) => Way::Tcp,
    };
    let proxy = Arc::new(Proxy {
        engine,
        way,
        whole: Arc::new(Semaphore::new(WHOLE_MAX)),
        told: Mutex::new((Instant::now(), 0)),
    });
    let answer = move |request, ()| {
        let proxy = proxy.clone();
        async move { proxy.answer(&request).await }
    };
    match &listen {
        Listen::Unix(path) => {
            make_way(path).await?;
            let listener = UnixListener::bind(path).map_err(fail)?;
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).map_err(fail)?;
            tracing::info!("{serving} on {listen}");
            let accept = async || listener.accept().await.map(|(stream, _)| (stream, ()));
            shutdown.or(server::serve(accept, LIMITS, answer)).await;
            // The next one would remove it too.
            std::fs::remove_file(path).ok();
        }
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(fail)?;
            let bound = listener.local_addr().map_err(fail)?;
            tracing::info!("{serving} on tcp://{bound}");
            let accept = async || {
                let (stream, _) = listener.accept().await?;
                // A client that has gone already is its own affair.
                stream.set_nodelay(true).ok();
                Ok((stream, ()))
            };
            shutdown.or(server::serve(accept, LIMITS, answer)).await;
        }
    }
    Ok(())
}

/// Removes the socket of a process that is no more; nothing else.
async fn make_way(path: &Path) -> Result<(), ProxyError> {
    let fail = |source| ProxyError::Listen { listen: Listen::Unix(path.to_owned()), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fail(error)),
        Ok(facts) if !facts.file_type().is_socket() => Err(ProxyError::Taken(path.to_owned())),
        Ok(_) => match timeout(CONNECT_TIME_MAX, UnixStream::connect(path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(fail)
            }
            Ok(Err(error)) => Err(fail(error)),
            Ok(Ok(_)) | Err(_) => Err(ProxyError::InUse(path.to_owned())),
        },
    }
}

type AnswerBody = Either<Whole, Relayed>;

/// What all connections share.
#[derive(Debug)]
struct Proxy {
    engine: Host,
    way: Way,
    whole: Arc<Semaphore>,
    told: Mutex<(Instant, u32)>,
}

/// An answer that is none of the engine's.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    message: String,
}

impl Fault {
    fn engine(message: &str) -> Self {
        let message = format!("logship socket-proxy: {message}");
        Self { status: StatusCode::BAD_GATEWAY, message }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { status: StatusCode::FORBIDDEN, message: refusal.to_string() }
    }
}

impl Proxy {
    async fn answer(&self, request: &Request<Incoming>) -> Response<AnswerBody> {
        let has_body = !request.body().is_end_stream();
        let asked = decide(request.method(), request.uri(), request.headers(), has_body, self.way);
        let answer = match asked {
            Ok(ask) => self.relay(ask).await,
            Err(refusal) => Err(refusal.into()),
        };
        answer.unwrap_or_else(|fault| {
            self.tell(&fault);
            let text = serde_json::json!({ "message": fault.message }).to_string();
            whole(fault.status, Bytes::from(text), None)
        })
    }

    /// Says what was refused, so that a missing permission is found; a flood of requests is no flood of messages.
    fn tell(&self, fault: &Fault) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.elapsed() > TOLD_TIME {
            *told = (Instant::now(), 0);
        }
        told.1 = told.1.saturating_add(1);
        match told.1 {
            ..=TOLD_MAX => tracing::warn!("{}", fault.message),
            _ => tracing::debug!("{}", fault.message),
        }
    }

    async fn relay(&self, ask: Ask) -> Result<Response<AnswerBody>, Fault> {
        let kept = match ask.kind {
            Kind::Stream { goes_on } => {
                let answer = self.ask(&ask.method, &ask.path, goes_on).await?;
                return Ok(answer.map(Either::Right));
            }
            Kind::Kill { version, name, signal } => {
                return self.kill(&version, &name, signal).await;
            }
            Kind::List => strip::LISTED,
            Kind::Inspect => strip::INSPECTED,
        };
        let place = self.place().await;
        let (status, bytes) = self.fetch(&ask.method, &ask.path, WHOLE_BYTES_MAX).await?;
        if !status.is_success() {
            return Ok(whole(status, bytes, place));
        }
        let stripped = strip::strip(&bytes, kept)
            .ok_or_else(|| Fault::engine("the engine's answer is not JSON"))?;
        Ok(whole(status, Bytes::from(stripped), place))
    }

    /// A place for an answer in memory; the semaphore is never closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.whole.clone().acquire_owned().await.ok()
    }

    /// Sends a signal to a container whose label says that it is meant to get it. Names may change hands, so the id
    /// is used once the label was seen; labels of a container never change.
    async fn kill(
        &self,
        version: &str,
        name: &str,
        signal: &'static str,
    ) -> Result<Response<AnswerBody>, Fault> {
        let path = format!("{version}/containers/{name}/json");
        let place = self.place().await;
        let (status, bytes) = self.fetch(&Method::GET, &path, KILL_BYTES_MAX).await?;
        if !status.is_success() {
            return Ok(whole(status, bytes, place));
        }
        let (id, labels) = strip::identity(&bytes)
            .ok_or_else(|| Fault::engine("the engine's answer is no container"))?;
        decide::may_signal(name, signal, labels.get(decide::LABEL).map(String::as_str))?;
        let path = format!("{version}/containers/{id}/kill?signal={signal}");
        tracing::info!("SIG{signal} to the container {name}, as its label asks for");
        let (status, bytes) = self.fetch(&Method::POST, &path, KILL_BYTES_MAX).await?;
        Ok(whole(status, bytes, place))
    }

    /// A whole answer of at most so many bytes.
    async fn fetch(
        &self,
        method: &Method,
        path: &str,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let answer = self.ask(method, path, false).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), bytes_max).collect();
        let body = timeout(WHOLE_TIME_MAX, body).await;
        let body = body.map_err(|_| Fault::engine("the engine stopped in the middle"))?;
        let body =
            body.map_err(|_| Fault::engine("the engine's answer broke off or is too long"))?;
        Ok((status, body.to_bytes()))
    }

    /// The engine's answer to a request of our own, on a connection of its own.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        goes_on: bool,
    ) -> Result<Response<Relayed>, Fault> {
        let reach = |error: &dyn std::fmt::Display| {
            Fault::engine(&format!("cannot reach the engine at {}: {error}", self.engine))
        };
        let socket = timeout(CONNECT_TIME_MAX, connect(&self.engine)).await;
        let socket = socket.map_err(|error| reach(&error))?.map_err(|error| reach(&error))?;
        let shaken = client::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = shaken.map_err(|error| reach(&error))?;
        let tied = Tied(tokio::spawn(async move {
            connection.await.ok();
        }));
        let request = Request::builder().method(method).uri(path).header(HOST, "docker");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| reach(&error))?;
        let begin = sender.send_request(request);
        let answer = if goes_on {
            // Engines before 27 send nothing before the first line.
            begin.await
        } else {
            let begin = timeout(BEGIN_TIME_MAX, begin).await;
            begin.map_err(|_| Fault::engine("the engine does not answer in time"))?
        };
        let (head, body) = answer.map_err(|error| reach(&error))?.into_parts();
        if head.status.is_informational() {
            return Err(Fault::engine("the engine wants to speak another protocol"));
        }
        let mut answer = Response::new(Relayed { body, _sender: sender, _tied: tied });
        *answer.status_mut() = head.status;
        for name in ANSWER_HEADERS {
            if let Some(value) = head.headers.get(&name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }
}

async fn connect(engine: &Host) -> io::Result<Socket<UnixStream, TcpStream>> {
    match engine {
        Host::Unix(path) => UnixStream::connect(path).await.map(Socket::Left),
        Host::Tcp(address) => {
            let stream = TcpStream::connect(address.as_str()).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Right(stream))
        }
    }
}

fn whole(
    status: StatusCode,
    bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
) -> Response<AnswerBody> {
    let mut answer = Response::new(Either::Left(Whole { bytes, _place: place }));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// An answer in memory. It is given away piece by piece, so that its place is free only when the client has nearly all
/// of it.
struct Whole {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let length = self.bytes.len().min(PIECE_BYTES);
        let piece = self.bytes.split_to(length);
        Poll::Ready((length > 0).then_some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// The engine's answer as it comes. With it the request ends: a client that leaves takes its follower along.
struct Relayed {
    body: Incoming,
    /// Kept, since a connection without one closes.
    _sender: client::SendRequest<Empty<Bytes>>,
    _tied: Tied,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A task that ends with what it is for.
#[derive(Debug)]
struct Tied(JoinHandle<()>);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}
