//! A server over HTTP: who it is, who we are, one request and its answer.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chores_common::secret::Secret;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::dialect::DialectSettings;
use crate::encode::gzip;
use crate::sink::failure::SinkFailure;
use crate::sink::options::{OptionFault, Options, SinkUrl};
use crate::sink::tls::{TlsError, TlsSettings, provider};

#[cfg(test)]
mod tests;

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How much of an answer is read, in bytes: it may tell the fate of every record of a batch.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How much of an answer a message shows.
const ANSWER_CHARS_SHOWN: usize = 200;

const FORM: &str = "http://host:port/path or https://host:port/path, with es+, loki+ or otlp+ in front for such a server";

/// Headers that are ours to set.
const OUR_HEADERS: [&str; 6] = [
    "content-type",
    "content-encoding",
    "content-length",
    "host",
    "authorization",
    "x-scope-orgid",
];

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The block format of Snappy, which is no content encoding: who asks for it knows.
    Snappy,
}

/// Who we say we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody.
    None,
    /// RFC 6750.
    Bearer(Secret),
    /// RFC 7617.
    Basic(Secret, Secret),
    /// Elasticsearch's `ApiKey`, as it was given out: base64 of `id:key`.
    ApiKey(Secret),
}

/// Who is asked, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL as it is requested: its query may hold a key.
    pub url: Secret,
    /// The same without its query.
    pub shown: String,
    /// What bodies are.
    pub content_type: &'static str,
    /// Added to every request.
    pub headers: Vec<(String, Secret)>,
    /// Who we are.
    pub login: Login,
    /// For `https`.
    pub tls: Option<TlsSettings>,
    /// Of bodies.
    pub compression: Compression,
    /// How long a request may take.
    pub timeout: Duration,
}

impl Endpoint {
    pub(super) fn read(
        url: &SinkUrl,
        path: &str,
        dialect: &DialectSettings,
        options: &mut Options<'_>,
    ) -> Result<Self, OptionFault> {
        let scheme = url.scheme.rsplit('+').next().unwrap_or_default();
        let tls = match scheme {
            "https" => Some(TlsSettings::read(options)?),
            _ => None,
        };
        url.host_and_port(if tls.is_some() { 443 } else { 80 }, FORM)?;
        let login = login(url, dialect, options)?;
        let mut headers = options.prefixed("header.");
        if let Some((name, _)) = headers.iter().find(|header| !is_header(header)) {
            return Err(OptionFault::Conflict(format!(
                "header.{} is no header that may be set",
                name.escape_debug()
            )));
        }
        if let DialectSettings::Loki(_) = dialect
            && let Some(tenant) = options.text("tenant")
        {
            let header = ("x-scope-orgid".to_owned(), tenant);
            if !header.1.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(OptionFault::Conflict("tenant has characters no name has".to_owned()));
            }
            headers.push(header);
        }
        let query = options.text("query").map(|query| format!("?{query}")).unwrap_or_default();
        let authority = &url.authority;
        Ok(Self {
            url: Secret::new(format!("{scheme}://{authority}{path}{query}")),
            shown: format!("{scheme}://{authority}{path}"),
            content_type: dialect.content_type(),
            headers: headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            login,
            tls,
            compression: dialect.compression(options)?,
            timeout: options.answer_time()?,
        })
    }
}

fn login(
    url: &SinkUrl,
    dialect: &DialectSettings,
    options: &mut Options<'_>,
) -> Result<Login, OptionFault> {
    let token = options.secret("token", "token_file")?;
    let api_key = match dialect {
        DialectSettings::Bulk(_) => options.secret("api_key", "api_key_file")?,
        _ => None,
    };
    let basic = options.login(url)?;
    let conflict = |text: &str| Err(OptionFault::Conflict(text.to_owned()));
    match (token, api_key, basic) {
        (None, None, None) => Ok(Login::None),
        (Some(token), None, None) => Ok(Login::Bearer(token)),
        (None, Some(key), None) => Ok(Login::ApiKey(key)),
        (None, None, Some((user, password))) => Ok(Login::Basic(Secret::new(user), password)),
        (_, Some(_), _) => {
            conflict("api_key is given beside token, user or password: keep one way to log in")
        }
        (Some(_), None, Some(_)) => {
            conflict("token and user or password are given: keep one way to log in")
        }
    }
}

fn is_header((name, value): &(String, String)) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && !OUR_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The status in words, with as much of the body as a message shows.
    pub(super) sentence: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// What became of a request.
pub(super) struct Reply {
    /// Bytes of its body, as they were on the wire.
    pub(super) bytes: u64,
    pub(super) outcome: Result<Answer, SinkFailure>,
}

/// Sends requests to one URL.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    agent: Agent,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, SinkFailure> {
        let agent = agent(endpoint)
            .map_err(|error| SinkFailure::of(&format!("cannot use {}", endpoint.shown), &error))?;
        Ok(Self { endpoint: endpoint.clone(), agent })
    }

    /// The URL, without what may be secret of it.
    pub(super) fn shown(&self) -> &str {
        &self.endpoint.shown
    }

    pub(super) fn post(&self, body: &[u8]) -> Reply {
        let Endpoint { url, shown, .. } = &self.endpoint;
        let (body, encoding) = match compressed(body, self.endpoint.compression) {
            Ok(body) => body,
            Err(error) => {
                let failure = SinkFailure::of("cannot compress a batch", &error);
                return Reply { bytes: 0, outcome: Err(failure) };
            }
        };
        let mut request =
            self.agent.post(url.expose()).header("content-type", self.endpoint.content_type);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        for (name, value) in &self.endpoint.headers {
            request = request.header(name, value.expose());
        }
        let authorization = match &self.endpoint.login {
            Login::None => None,
            Login::Bearer(token) => Some(format!("Bearer {}", token.expose())),
            Login::ApiKey(key) => Some(format!("ApiKey {}", key.expose())),
            Login::Basic(user, password) => {
                let login = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
                Some(format!("Basic {login}"))
            }
        };
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answered = request.send(body.as_ref()).and_then(|response| answer(shown, response));
        let outcome = answered.map_err(|error| {
            let failure = SinkFailure::of(&format!("cannot send to {shown}"), &error);
            // Some of the client's sentences name the URL.
            let sentence = failure.sentence.replace(url.expose(), shown);
            SinkFailure { sentence, ..failure }
        });
        Reply { bytes: body.len() as u64, outcome }
    }
}

fn answer(url: &str, mut response: Response<Body>) -> Result<Answer, ureq::Error> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, SystemTime::now()));
    // A body that is read to its end lets the connection be used again.
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    // What a failure says is only for people.
    let body = if status.is_success() { body? } else { body.unwrap_or_default() };
    let words = String::from_utf8_lossy(&body);
    let words: String = words.trim().chars().take(ANSWER_CHARS_SHOWN).collect();
    let words = match words.is_empty() {
        true => String::new(),
        false => format!(": {}", words.escape_debug()),
    };
    let sentence = format!("{url} answered {status}{words}");
    Ok(Answer { status: status.as_u16(), sentence, retry_after, body })
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

fn compressed(
    records: &[u8],
    how: Compression,
) -> io::Result<(Cow<'_, [u8]>, Option<&'static str>)> {
    Ok(match how {
        Compression::None => (Cow::Borrowed(records), None),
        Compression::Gzip => (Cow::Owned(gzip(records)?), Some("gzip")),
        Compression::Zstd => (Cow::Owned(zstd::bulk::compress(records, ZSTD_LEVEL)?), Some("zstd")),
        Compression::Snappy => {
            let compressed = snap::raw::Encoder::new().compress_vec(records);
            (Cow::Owned(compressed.map_err(io::Error::other)?), None)
        }
    })
}

fn agent(settings: &Endpoint) -> Result<Agent, TlsError> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("logship/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(settings.timeout.min(CONNECT_TIME_MAX)))
        .timeout_global(Some(settings.timeout));
    if let Some(tls) = &settings.tls {
        let roots = tls.roots(&settings.shown)?;
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
    Ok(config.build().new_agent())
}
