//! HTTP under opendal: our client, our TLS, and what an answer means in our words.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, LOCATION, RANGE,
};
use hyper::http::{HeaderMap, Method, Request, Response, StatusCode};
use opendal::{Buffer, Error, HttpBody, HttpTransport, HttpTransporter, OperationContext};
use rustls::{ClientConfig, RootCertStore};

use crate::exit::chain;
use crate::object::error::ErrorKind;
use crate::object::fault::{self, Fault, shown};
use crate::object::part::{Cut, asked};
use crate::tls::{TlsSettings, provider};

#[cfg(test)]
mod tests;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Idle connections are closed before the usual servers and load balancers do it.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest listing of one folder, in bytes. An entry has about 700.
const LISTING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest page that says why something is refused, in bytes.
const REFUSAL_BYTES_MAX: u64 = 1024 * 1024;

/// Says of a MOVE whether it may replace (RFC 4918, 10.6).
const OVERWRITE: &str = "overwrite";

/// What a MOVE does to what has the name already. opendal knows the first only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// It is gone.
    Replacing,
    /// It stays, and the MOVE fails.
    Keeping,
}

/// What is wrong by an answer's status and headers; what opendal needs to see is left to it.
pub(super) type Judge = fn(&Method, StatusCode, &HeaderMap) -> Option<Fault>;

/// Sends what opendal asks for.
#[derive(Debug)]
struct Transport {
    client: reqwest::Client,
    moves: Moves,
    judge: Judge,
}

/// A judgement on its way through opendal.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.reason)]
struct Judged(Fault);

/// What sends requests. `peer` is for messages; `is_plain`: there is no TLS, and no roots of trust are needed.
pub(super) fn client(peer: &str, is_plain: bool) -> Result<reqwest::Client, String> {
    let tls = if is_plain {
        without_roots()
    } else {
        TlsSettings::default().client_config(peer).map_err(|error| chain(&error))
    }?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME_MAX)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .user_agent("chores")
        .build()
        .map_err(|error| chain(&error))
}

/// What a client of opendal runs in.
pub(super) fn context(client: reqwest::Client, moves: Moves, judge: Judge) -> OperationContext {
    let transport = HttpTransporter::new(Transport { client, moves, judge });
    OperationContext::new().with_http_transport(transport)
}

fn without_roots() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (mut parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let wanted = match parts.headers.get(RANGE) {
            None => None,
            Some(range) => Some(range.to_str().ok().and_then(asked).ok_or_else(|| {
                judged(Fault::lasting(ErrorKind::Invalid, "a part of no known form is asked for"))
            })?),
        };
        if self.moves == Moves::Keeping && parts.method.as_str() == "MOVE" {
            parts.headers.insert(OVERWRITE, HeaderValue::from_static("F"));
        }
        let method = parts.method.clone();
        let mut sent = self
            .client
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .version(parts.version);
        if !body.is_empty() {
            sent = sent.body(body.to_bytes());
        }
        let answer = sent.send().await.map_err(|error| {
            let reason = format!("it cannot be reached: {}", fault::root(&error));
            judged(Fault::temporary(reason))
        })?;
        if let Some(fault) = (self.judge)(&method, answer.status(), answer.headers()) {
            return Err(judged(fault));
        }
        let headers = answer.headers();
        let is_packed = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.as_bytes() != b"identity");
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        let length = length.filter(|_| !is_head && !is_packed);
        let cut = match wanted {
            Some(_) if is_packed && answer.status().is_success() => {
                let reason = "what is sent is packed, which nobody asked for (Content-Encoding)";
                return Err(judged(Fault::lasting(ErrorKind::Invalid, reason)));
            }
            Some(wanted) if answer.status().is_success() => {
                let sent = headers.get(CONTENT_RANGE);
                // What is no text names no part.
                let sent = sent.map(|sent| sent.to_str().unwrap_or_default());
                let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
                Some(Cut::of(&wanted, is_part, sent, length).map_err(judged)?)
            }
            _ => None,
        };
        let length = cut.as_ref().map(Cut::length).or(length);
        let status = match answer.status() {
            // It is done all the same; opendal knows 204 only.
            StatusCode::OK if method == Method::DELETE => StatusCode::NO_CONTENT,
            StatusCode::OK if cut.is_some() => StatusCode::PARTIAL_CONTENT,
            status => status,
        };
        let mut response = Response::builder().status(status).version(answer.version());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
            if let Some(cut) = &cut {
                headers.insert(CONTENT_LENGTH, cut.length().into());
            }
        }
        let bytes_max = match &cut {
            _ if answer.status().as_u16() >= 400 => REFUSAL_BYTES_MAX,
            Some(cut) => cut.length(),
            None => LISTING_BYTES_MAX,
        };
        let pieces = answer.bytes_stream().scan((cut, bytes_max), |(cut, left), piece| {
            let is_done = cut.as_ref().is_some_and(Cut::is_done);
            std::future::ready((!is_done).then(|| take(piece, cut.as_mut(), left)))
        });
        // Empty pieces would be the end to opendal.
        let pieces =
            pieces.filter(|piece| std::future::ready(!piece.as_ref().is_ok_and(Buffer::is_empty)));
        response.body(HttpBody::new(pieces, length)).map_err(|error| {
            judged(Fault::temporary(format!("the answer makes no sense: {error}")))
        })
    }
}

/// What is wanted of a piece of an answer, of which `left` more bytes may come.
fn take(
    piece: reqwest::Result<Bytes>,
    cut: Option<&mut Cut>,
    left: &mut u64,
) -> opendal::Result<Buffer> {
    let mut piece = piece.map_err(|error| {
        judged(Fault::temporary(format!("the answer breaks off: {}", fault::root(&error))))
    })?;
    if let Some(cut) = cut {
        piece = cut.take(&piece);
    }
    *left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
        judged(Fault::lasting(
            ErrorKind::Unavailable,
            "the answer is longer than any that is asked for",
        ))
    })?;
    Ok(Buffer::from(piece))
}

/// The [`Judge`] of WebDAV. What opendal needs to see is that something does not exist (404), or exists already (405 and 409
/// for MKCOL).
pub(super) fn judge(method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    match status.as_u16() {
        405 | 409 if method.as_str() == "MKCOL" => None,
        401 => {
            Some(Fault::lasting(ErrorKind::Denied, "the user or the password is wrong (HTTP 401)"))
        }
        number => by_status(method, status, headers, &format!("HTTP {number}")),
    }
}

/// What is wrong by the status alone, whatever is spoken. `said` is what a sentence quotes of the answer.
pub(super) fn by_status(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    said: &str,
) -> Option<Fault> {
    let lasting = |kind, reason: String| Some(Fault::lasting(kind, reason));
    match status.as_u16() {
        404 | 100..=299 => None,
        300..=399 => {
            let place = headers.get(LOCATION).and_then(|place| place.to_str().ok());
            lasting(
                ErrorKind::Invalid,
                match place {
                    Some(place) => {
                        format!(
                            "the server sends us to {} ({said}): give that place",
                            shown(&bare(place))
                        )
                    }
                    None => format!("the server sends us elsewhere ({said})"),
                },
            )
        }
        401 | 403 => lasting(ErrorKind::Denied, format!("access is denied ({said})")),
        413 => lasting(
            ErrorKind::Invalid,
            format!(
                "the server takes no files of that length ({said}): raise its limit above 32 MiB"
            ),
        ),
        416 => lasting(ErrorKind::Corrupt, "it ends before the bytes that are needed".to_owned()),
        405 | 501 | 505 => lasting(
            ErrorKind::Invalid,
            format!("the server does not know {method} ({said}): is it the right place?"),
        ),
        507 => lasting(ErrorKind::Full, "the store is full".to_owned()),
        // A folder that another writer removes meanwhile, a name that is taken, a file that is locked, a server that is busy.
        408 | 409 | 412 | 423 | 425 | 429 | 500.. => {
            Some(Fault::temporary(format!("the store fails ({said})")))
        }
        _ => lasting(ErrorKind::Invalid, format!("the store refuses {method} ({said})")),
    }
}

/// A URL without what may be a secret in it: user, password, query and fragment.
fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("//") else { return url.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = rest.strip_prefix(authority).unwrap_or_default();
    format!("{scheme}//{host}{path}")
}

fn judged(fault: Fault) -> Error {
    let (is_temporary, reason) = (fault.is_temporary, fault.reason.clone());
    Error::new(opendal::ErrorKind::Unexpected, reason)
        .with_temporary(is_temporary)
        .set_source(Judged(fault))
}

/// What opendal says went wrong: our own judgement where there is one.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let source = std::error::Error::source(&error);
        if let Some(Judged(fault)) = source.and_then(|source| source.downcast_ref::<Judged>()) {
            return fault.clone();
        }
        let said = match source {
            Some(source) => fault::root(source),
            None => shown(error.message()),
        };
        match error.kind() {
            opendal::ErrorKind::NotFound => {
                Fault::lasting(ErrorKind::NotFound, "it does not exist")
            }
            opendal::ErrorKind::PermissionDenied => {
                Fault::lasting(ErrorKind::Denied, format!("access is denied ({said})"))
            }
            opendal::ErrorKind::RangeNotSatisfied => {
                Fault::corrupt("it ends before the bytes that are needed")
            }
            opendal::ErrorKind::RateLimited => Fault::temporary("the store wants fewer requests"),
            _ if error.is_temporary() => Fault::temporary(format!("the store fails ({said})")),
            _ => {
                Fault::lasting(ErrorKind::Invalid, format!("the store's answer is no use ({said})"))
            }
        }
    }
}
