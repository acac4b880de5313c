//! A server that takes batches over HTTP as a log collector does, and fails as told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::runtime::{spawn, wait};

/// Longest body that is taken, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status. Only 2xx keep the batch.
    Status(u16),
    /// This status with `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// 413 for bodies of more than so many bytes on the wire, 200 for others.
    TooLargeAbove(usize),
    /// 400 for bodies in which these bytes are, decoded; 200 for others.
    RefuseWith(&'static str),
    /// None: the connection stays open.
    Stall,
    /// None: the connection is closed after the request was read; the batch is kept.
    KeepAndClose,
    /// None: the connection is closed after the request was read.
    Close,
}

/// One batch that was kept.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its path with the query.
    pub path: String,
    /// Its body, decoded as its `Content-Encoding` says (gzip or zstd).
    pub body: Bytes,
}

/// What a service answers to a batch whose turn is [`Answer::Status`] 200: a status and a body.
pub type Service = Arc<dyn Fn(&Batch) -> (u16, Bytes) + Send + Sync>;

#[derive(Default)]
struct State {
    service: Option<Service>,
    batches: Vec<Batch>,
    /// Answers to the next requests; the last one is that to all further ones.
    answers: Vec<Answer>,
    requests: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct HttpReceiver {
    url: String,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl HttpReceiver {
    /// Serves on a free port of 127.0.0.1; every request gets 200.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on("127.0.0.1")
    }

    /// The same, with a service that answers.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn serving(service: Service) -> Self {
        let receiver = Self::start();
        receiver.state().service = Some(service);
        receiver
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: its URL has a port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self.url.rsplit(':').next().and_then(|rest| rest.split('/').next());
        port.and_then(|port| port.parse().ok()).expect("the URL has a port")
    }

    /// The same on another address of this machine.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start_on(host: &str) -> Self {
        let wanted = (host.to_owned(), 0);
        let listener = wait(async move { TcpListener::bind(wanted).await })
            .unwrap_or_else(|error| panic!("cannot listen on {host}: {error}"));
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let accepting = spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = listener.accept().await;
                while connections.try_join_next().is_some() {}
                let Ok((stream, _)) = accepted else { continue };
                let state = shared.clone();
                connections.spawn(async move {
                    let respond = service_fn(move |request| respond(request, state.clone()));
                    // A connection that ends early is the client's affair, or the plan's.
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), respond)
                        .await
                        .ok();
                });
            }
        });
        Self { url: format!("http://{host}:{port}/ingest"), state, accepting }
    }

    /// Where batches are sent to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What every request gets from now on.
    pub fn answer(&self, answer: Answer) {
        self.state().answers = vec![answer];
    }

    /// What the next requests get, one after the other; all after them what the last one got.
    pub fn answer_in_turn(&self, answers: &[Answer]) {
        self.state().answers = answers.iter().rev().copied().collect();
    }

    /// The batches that were kept, in order.
    #[must_use]
    pub fn batches(&self) -> Vec<Batch> {
        self.state().batches.clone()
    }

    /// Their bodies.
    #[must_use]
    pub fn bodies(&self) -> Vec<Bytes> {
        self.state().batches.iter().map(|batch| batch.body.clone()).collect()
    }

    /// Requests so far, whatever they got.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state().requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, BODY_BYTES_MAX).collect().await;
    let wire = body.map_err(std::io::Error::other)?.to_bytes();
    let encoding = parts.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
    let decoded = decode(encoding.as_deref(), &wire)?;
    let answer = {
        let mut state = lock(&state);
        state.requests += 1;
        match state.answers.len() {
            0 => Answer::Status(200),
            1 => state.answers[0],
            _ => state.answers.pop().unwrap_or(Answer::Status(200)),
        }
    };
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded).into_owned();
    let batch = Batch { headers: parts.headers, path, body: decoded };
    let service = lock(&state).service.clone();
    let served = service.filter(|_| answer == Answer::Status(200)).map(|serve| serve(&batch));
    let keep = || lock(&state).batches.push(batch);
    let mut response = Response::new(Full::default());
    let status = match answer {
        Answer::Status(200) if served.is_some() => {
            let (status, body) = served.unwrap_or_default();
            *response.body_mut() = Full::new(body);
            status
        }
        Answer::Status(status) => status,
        Answer::RetryAfter(status, seconds) => {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            status
        }
        Answer::TooLargeAbove(bytes) => {
            if wire.len() > bytes {
                413
            } else {
                200
            }
        }
        Answer::RefuseWith(poison) => {
            if text.contains(poison) {
                400
            } else {
                200
            }
        }
        Answer::Stall => return std::future::pending().await,
        Answer::KeepAndClose => {
            keep();
            return Err(std::io::Error::other("closed on purpose"));
        }
        Answer::Close => return Err(std::io::Error::other("closed on purpose")),
    };
    *response.status_mut() = StatusCode::from_u16(status).map_err(std::io::Error::other)?;
    if (200..300).contains(&status) {
        keep();
    }
    Ok(response)
}

fn decode(encoding: Option<&[u8]>, wire: &Bytes) -> Result<Bytes, std::io::Error> {
    use std::io::Read as _;

    let mut decoded = Vec::new();
    match encoding {
        None | Some(b"identity") => return Ok(wire.clone()),
        Some(b"zstd") => zstd::Decoder::new(wire.as_ref())?.read_to_end(&mut decoded)?,
        Some(b"gzip") => flate2::read::GzDecoder::new(wire.as_ref()).read_to_end(&mut decoded)?,
        Some(other) => {
            return Err(std::io::Error::other(String::from_utf8_lossy(other).into_owned()));
        }
    };
    Ok(decoded.into())
}
