//! A server over HTTP: who it is, who we are, one request and its answer.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chores_common::http::{HttpClient, HttpSettings, Post};
use chores_common::secret::Secret;
use chores_common::tls::TlsSettings;

use super::dialect::DialectSettings;
use crate::encode::gzip;
use crate::sink::failure::SinkFailure;
use crate::sink::options::{OptionFault, Options, SinkUrl};
use crate::sink::tls;

pub(super) use chores_common::http::Answer;

#[cfg(test)]
mod tests;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How much of an answer is read, in bytes: it may tell the fate of every record of a batch.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

const FORM: &str = "http://host:port/path or https://host:port/path, with es+, loki+ or otlp+ in front for such a server";

/// Headers that are ours to set.
const OUR_HEADERS: [&str; 6] =
    ["content-type", "content-encoding", "content-length", "host", "authorization", TENANT_HEADER];

/// Whose lines these are, for Loki.
const TENANT_HEADER: &str = "x-scope-orgid";

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
            "https" => Some(tls::read(options)?),
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
            let header = (TENANT_HEADER.to_owned(), tenant);
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

impl Endpoint {
    fn authorization(&self) -> Option<Secret> {
        let text = match &self.login {
            Login::None => return None,
            Login::Bearer(token) => format!("Bearer {}", token.expose()),
            Login::ApiKey(key) => format!("ApiKey {}", key.expose()),
            Login::Basic(user, password) => {
                let login = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
                format!("Basic {login}")
            }
        };
        Some(Secret::new(text))
    }

    /// What no message may show, even where the server says what it was told.
    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        if let Login::Bearer(secret) | Login::ApiKey(secret) | Login::Basic(_, secret) = &self.login
        {
            secrets.push(secret.clone());
        }
        // Its last word is the login of RFC 7617.
        let authorization = self.authorization();
        let word = authorization.as_ref().and_then(|text| text.expose().rsplit(' ').next());
        secrets.extend(word.map(|word| Secret::new(word.to_owned())));
        let headers = self.headers.iter().filter(|(name, _)| name != TENANT_HEADER);
        secrets.extend(headers.map(|(_, value)| value.clone()));
        if let Some((_, query)) = self.url.expose().split_once('?') {
            let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
            secrets.extend(values.chain([query]).map(|text| Secret::new(text.to_owned())));
        }
        secrets
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
    secrets: Vec<Secret>,
    http: HttpClient,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, SinkFailure> {
        let http = HttpClient::new(HttpSettings {
            user_agent: concat!("logship/", env!("CARGO_PKG_VERSION")),
            time: endpoint.timeout,
            tls: endpoint.tls.as_ref().map(|tls| (tls, endpoint.shown.as_str())),
        });
        let http = http
            .map_err(|error| SinkFailure::of(&format!("cannot use {}", endpoint.shown), &error))?;
        Ok(Self { secrets: endpoint.secrets(), endpoint: endpoint.clone(), http })
    }

    /// The URL, without what may be secret of it.
    pub(super) fn shown(&self) -> &str {
        &self.endpoint.shown
    }

    pub(super) fn post(&self, body: &[u8]) -> Reply {
        let Endpoint { url, shown, content_type, headers: more, .. } = &self.endpoint;
        let (body, encoding) = match compressed(body, self.endpoint.compression) {
            Ok(body) => body,
            Err(error) => {
                let failure = SinkFailure::of("cannot compress a batch", &error);
                return Reply { bytes: 0, outcome: Err(failure) };
            }
        };
        let mut headers = vec![("content-type", *content_type)];
        headers.extend(encoding.map(|encoding| ("content-encoding", encoding)));
        headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.expose())));
        let authorization = self.endpoint.authorization();
        headers.extend(authorization.as_ref().map(|text| ("authorization", text.expose())));
        let secrets: Vec<_> = self.secrets.iter().collect();
        let outcome = self.http.post(Post {
            url,
            shown,
            headers: &headers,
            secrets: &secrets,
            body: body.as_ref(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            wants_body: true,
        });
        let outcome = outcome.map_err(|error| SinkFailure::new(error.to_string()));
        Reply { bytes: body.len() as u64, outcome }
    }
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
