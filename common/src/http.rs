//! One request to a server over HTTP and its answer: with time limits, without redirects, and without a word of what is
//! secret in anything that is shown.

use std::time::{Duration, SystemTime};

use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::exit::chain;
use crate::secret::Secret;
use crate::tls::{TlsError, TlsSettings, provider};

#[cfg(test)]
mod tests;

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of an answer a message shows.
const ANSWER_CHARS_SHOWN: usize = 200;

/// Shorter texts are no secrets that could be found in an answer.
const SECRET_BYTES_MIN: usize = 4;

/// How servers are spoken to. Proxies are those of the environment (`HTTPS_PROXY` and its kin).
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings<'a> {
    /// Who we say we are.
    pub user_agent: &'static str,
    /// How long a request may take with its answer.
    pub time: Duration,
    /// For `https`, with the name of the server in messages.
    pub tls: Option<(&'a TlsSettings, &'a str)>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// As it is requested.
    pub url: &'a Secret,
    /// What messages say instead.
    pub shown: &'a str,
    /// Its headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// What else no message may show, even where the server says it.
    pub secrets: &'a [&'a Secret],
    /// What is sent.
    pub body: &'a [u8],
    /// Bytes of an answer that are read.
    pub answer_bytes_max: u64,
    /// Whether the body of an answer matters. Where it does not, the status is all of it: a body that breaks off or is too long is
    /// none, and nothing of it is shown.
    pub wants_body: bool,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The status in words, with as much of the body as a message shows.
    pub sentence: String,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(String);

/// Sends requests.
#[derive(Debug)]
pub struct HttpClient(Agent);

impl HttpClient {
    /// Reads the certificates that are trusted.
    pub fn new(settings: HttpSettings<'_>) -> Result<Self, TlsError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(settings.user_agent)
            .timeout_connect(Some(settings.time.min(CONNECT_TIME_MAX)))
            .timeout_global(Some(settings.time));
        if let Some((tls, peer)) = settings.tls {
            let roots = tls.roots(peer)?;
            let roots: Vec<_> =
                roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            let identity = tls.identity()?.map(|identity| -> Result<_, TlsError> {
                let chain: Vec<_> = identity
                    .chain
                    .iter()
                    .map(|certificate| Certificate::from_der(certificate).to_owned())
                    .collect();
                let key = PrivateKey::from_pem(&identity.key_pem)
                    .map_err(|error| TlsError::Key(error.to_string()))?;
                Ok(ClientCert::new_with_certs(&chain, key))
            });
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(provider())
                .root_certs(RootCerts::new_with_certs(&roots))
                .client_cert(identity.transpose()?)
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self(config.build().new_agent()))
    }

    /// Sends it and reads the answer, whatever its status is.
    pub fn post(&self, post: Post<'_>) -> Result<Answer, HttpError> {
        let mut request = self.0.post(post.url.expose());
        for (name, value) in post.headers {
            request = request.header(*name, *value);
        }
        let answered = request.send(post.body).and_then(|response| answer(&post, response));
        answered.map_err(|error| {
            let sentence = format!("cannot send to {}: {}", post.shown, chain(&error));
            HttpError(redacted(sentence, &post))
        })
    }
}

fn answer(post: &Post<'_>, mut response: Response<Body>) -> Result<Answer, ureq::Error> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, SystemTime::now()));
    // A body that is read to its end lets the connection be used again.
    let body = response.body_mut().with_config().limit(post.answer_bytes_max).read_to_vec();
    // What a failure says is only for people.
    let body = match (post.wants_body, status.is_success()) {
        (true, true) => body?,
        (true, false) => body.unwrap_or_default(),
        (false, _) => Vec::new(),
    };
    let words = redacted(String::from_utf8_lossy(&body).trim().to_owned(), post);
    let words: String = words.chars().take(ANSWER_CHARS_SHOWN).collect();
    let words = match words.is_empty() {
        true => String::new(),
        false => format!(": {}", words.escape_debug()),
    };
    let sentence = format!("{} answered {status}{words}", post.shown);
    Ok(Answer { status: status.as_u16(), sentence, retry_after, body })
}

/// The text without what is secret: some of the client's sentences name the URL, and a server may say what it was told.
fn redacted(mut text: String, post: &Post<'_>) -> String {
    let url = post.url.expose();
    if text.contains(url) {
        text = text.replace(url, post.shown);
    }
    let path =
        url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    // The path of what is shown as it is is no secret.
    let path = path.filter(|path| !post.shown.ends_with(path));
    for secret in post.secrets.iter().map(|secret| secret.expose()).chain(path) {
        if secret.len() >= SECRET_BYTES_MIN && text.contains(secret) {
            text = text.replace(secret, "…");
        }
    }
    text
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let date = SystemTime::from(date.timestamp());
    Some(date.duration_since(now).unwrap_or_default())
}
