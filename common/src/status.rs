//! A small HTTP server for machines that ask how a run is doing: `/metrics` and `/healthz`. What is answered is the program's,
//! at the moment of the question.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Response, StatusCode};
use tokio::runtime::Handle;

use crate::server::{self, Limits};
use crate::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// What clients may take.
const LIMITS: Limits = Limits {
    connections: 16,
    head_bytes: 8192,
    headers: 100,
    head_time: Duration::from_secs(5),
    time: Some(Duration::from_secs(30)),
    stall: None,
};

/// How long `healthcheck` waits for each step.
const ASK_TIME_MAX: Duration = Duration::from_secs(3);

/// Bytes of an answer that `healthcheck` reads.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The content type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The server cannot be, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The address cannot be used.
    #[error("cannot serve metrics at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("nobody answers at {address}")]
    Ask {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is none of ours.
    #[error("what answers at {address} is no {program}")]
    Foreign {
        /// The address.
        address: SocketAddr,
        /// Who should answer there.
        program: &'static str,
    },
}

/// The server, which ends with it.
#[derive(Debug)]
pub struct Status {
    stop: Shutdown,
    address: Option<SocketAddr>,
}

impl Status {
    /// Serves at `address`; without one there is no server. `metrics` is OpenMetrics text; `ailments` has a sentence for
    /// each thing that is wrong, and none where all is well. Both are asked on a thread of the runtime, so they have to be quick.
    pub fn start<M, A>(
        address: Option<SocketAddr>,
        metrics: M,
        ailments: A,
        runtime: &Handle,
    ) -> Result<Self, StatusError>
    where
        M: Fn() -> String + Send + Sync + 'static,
        A: Fn() -> Vec<String> + Send + Sync + 'static,
    {
        let stop = Shutdown::new();
        let Some(address) = address else { return Ok(Self { stop, address: None }) };
        let fail = |source| StatusError::Listen { address, source };
        let (listener, bound) = server::listen(address, runtime).map_err(fail)?;
        let (stopped, asked) = (stop.clone(), Arc::new((metrics, ailments)));
        runtime.spawn(async move {
            let accept = || listener.accept();
            let served = server::serve(accept, LIMITS, move |request, _| {
                let (metrics, ailments) = &*asked;
                let answer = answer(request.method(), request.uri().path(), metrics, ailments);
                async move { answer }
            });
            stopped.or(served).await
        });
        tracing::info!(%bound, "serving /metrics and /healthz");
        Ok(Self { stop, address: Some(bound) })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends the server.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.stop.request();
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: impl Fn() -> String,
    ailments: impl Fn() -> Vec<String>,
) -> Response<Full<Bytes>> {
    let is_known = matches!(path, "/metrics" | "/healthz");
    if is_known && !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/metrics" => {
            let mut answer = plain(StatusCode::OK, metrics());
            let kind = hyper::header::HeaderValue::from_static(OPEN_METRICS);
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        "/healthz" => {
            let ailments = ailments();
            if ailments.is_empty() {
                plain(StatusCode::OK, "well\n".to_owned())
            } else {
                plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", ailments.join("\n")))
            }
        }
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Asks the process that serves at `address`, a `program`, whether it is well, and what it says. From threads only.
pub fn ask(address: SocketAddr, program: &'static str) -> Result<(bool, String), StatusError> {
    let address = reachable(address);
    let fail = |source| StatusError::Ask { address, source };
    let mut stream = TcpStream::connect_timeout(&address, ASK_TIME_MAX).map_err(fail)?;
    stream.set_read_timeout(Some(ASK_TIME_MAX)).map_err(fail)?;
    stream.set_write_timeout(Some(ASK_TIME_MAX)).map_err(fail)?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
    let text = String::from_utf8_lossy(&bytes);
    let foreign = || StatusError::Foreign { address, program };
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(foreign)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok((true, body.trim_end().to_owned())),
        Some("503") => Ok((false, body.trim_end().to_owned())),
        _ => Err(foreign()),
    }
}

/// What listens everywhere is asked at home.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
