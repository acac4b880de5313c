//! HTTP servers that take NDJSON: at least once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chores_common::secret::Secret;
use flate2::write::GzEncoder;
use serde::Deserialize;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::failure::SinkFailure;
use super::options::{OptionFault, Options, SinkUrl};
use super::tls::{TlsError, TlsSettings, provider};
use super::{Context, Pace, Refused, Sent};
use crate::encode::Controls;
use crate::encode::ndjson::Ndjson;
use crate::source::SourceMeta;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// A batch unless set, in bytes before compression, and its limits.
const BATCH_BYTES_DEFAULT: u64 = 1 << 20;
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=64 << 20;

/// How long a record waits for others, unless set.
const BATCH_AGE_DEFAULT: Duration = Duration::from_secs(1);
const BATCH_AGES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

/// How long a request may take, unless set.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How much of an answer is read, in bytes, and how much of it a message shows.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const ANSWER_CHARS_SHOWN: usize = 200;

/// How often a record that is given up is logged; all of them are counted.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// How much of a record that is given up is logged, in bytes.
const RECORD_BYTES_SHOWN: usize = 500;

const FORM: &str = "http://host:port/path or https://host:port/path";

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
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
}

/// What happens to a record that the server refuses for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// It is sent again until somebody helps.
    Block,
    /// It is given up, counted, logged, and stands in the ledger.
    Drop,
}

/// A server, and how batches are made for it.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The URL as it is requested: its query may hold a key.
    pub url: Secret,
    /// The same without its query.
    pub shown: String,
    /// Added to every request.
    pub headers: Vec<(String, Secret)>,
    /// Who we are.
    pub login: Login,
    /// For `https`.
    pub tls: Option<TlsSettings>,
    /// Of bodies.
    pub compression: Compression,
    /// A batch is sent when it has this many bytes of NDJSON.
    pub batch_bytes: usize,
    /// A batch is sent when its first record is this old.
    pub batch_age: Duration,
    /// How long a request may take.
    pub timeout: Duration,
    /// What to do with what cannot be delivered.
    pub poison: Poison,
    /// What is sent beside lines.
    pub controls: Controls,
}

impl HttpSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let tls = match url.scheme.as_str() {
            "https" => Some(TlsSettings::read(options)?),
            _ => None,
        };
        url.host_and_port(if tls.is_some() { 443 } else { 80 }, FORM)?;
        let token = options.secret("token", "token_file")?;
        let password = options.secret("password", "password_file")?;
        let user = options.text("user");
        if user.is_some() && url.user.is_some() {
            return Err(OptionFault::Twice("user".to_owned()));
        }
        let login = match (token, user.or_else(|| url.user.clone()), password) {
            (None, None, None) => Login::None,
            (Some(token), None, None) => Login::Bearer(token),
            (None, Some(user), Some(password)) => Login::Basic(Secret::new(user), password),
            (Some(_), ..) => {
                return Err(OptionFault::Conflict(
                    "token and user or password are given: keep one way to log in".to_owned(),
                ));
            }
            (None, ..) => {
                return Err(OptionFault::Conflict(
                    "user and password belong together: give both (password_file for the latter) or none"
                        .to_owned(),
                ));
            }
        };
        let headers = options.prefixed("header.");
        for (name, value) in &headers {
            let is_name = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let is_value = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
            let is_ours =
                ["content-type", "content-encoding", "content-length", "host", "authorization"]
                    .contains(&name.to_ascii_lowercase().as_str());
            if !is_name || !is_value || is_ours {
                return Err(OptionFault::Conflict(format!(
                    "header.{} is no header that may be set",
                    name.escape_debug()
                )));
            }
        }
        let compressions =
            [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
        let batch = options.size("batch", BATCH_BYTES)?.unwrap_or(BATCH_BYTES_DEFAULT);
        let query = options.text("query").map(|query| format!("?{query}")).unwrap_or_default();
        let path = if url.path.is_empty() { "/" } else { &url.path };
        Ok(Self {
            url: Secret::new(format!("{}://{}{path}{query}", url.scheme, url.authority)),
            shown: format!("{}://{}{path}", url.scheme, url.authority),
            headers: headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            login,
            tls,
            compression: options.choice("compress", &compressions)?.unwrap_or(Compression::Gzip),
            batch_bytes: usize::try_from(batch).unwrap_or(usize::MAX),
            batch_age: options.duration("age", BATCH_AGES)?.unwrap_or(BATCH_AGE_DEFAULT),
            timeout: options.duration("timeout", TIMEOUTS)?.unwrap_or(TIMEOUT_DEFAULT),
            poison: options
                .choice("poison", &[("block", Poison::Block), ("drop", Poison::Drop)])?
                .unwrap_or(Poison::Block),
            controls: options.controls(Controls::All)?,
        })
    }
}

/// Sends batches to a server that says of each whether it has it.
#[derive(Debug)]
pub struct HttpSink {
    settings: HttpSettings,
    agent: Agent,
    encoder: Ndjson,
    batch: Vec<u8>,
    /// Where the records of each source end in the batch, in order.
    pushed: Vec<(usize, Arc<SourceMeta>)>,
    /// Parts of the batch that are still to be sent, in order; made at the first attempt.
    parts: VecDeque<Range<usize>>,
    /// What arrived of the batch so far.
    sent: Sent,
    /// When a record that was given up was last logged.
    told: Option<Instant>,
}

/// What a server answered.
enum Answer {
    /// It has the records.
    Taken,
    /// It will never take them as they are.
    Refused(String),
    /// It may take them later.
    Failed(SinkFailure),
}

impl HttpSink {
    pub(super) fn open(settings: HttpSettings) -> Result<Self, SinkFailure> {
        let agent = agent(&settings)
            .map_err(|error| SinkFailure::of(&format!("cannot use {}", settings.shown), &error))?;
        Ok(Self {
            encoder: Ndjson::new(settings.controls),
            settings,
            agent,
            batch: Vec::new(),
            pushed: Vec::new(),
            parts: VecDeque::new(),
            sent: Sent::default(),
            told: None,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        Pace {
            batch_age: self.settings.batch_age,
            commit_every: Duration::ZERO,
            settle: Duration::ZERO,
            runs_ahead: false,
        }
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        let taken = self.encoder.encode(frame, from, self.settings.batch_bytes, &mut self.batch);
        match self.pushed.last_mut() {
            Some((end, meta)) if Arc::ptr_eq(meta, &frame.meta) => *end = self.batch.len(),
            _ => self.pushed.push((self.batch.len(), frame.meta.clone())),
        }
        taken
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.settings.batch_bytes
    }

    /// A batch that is refused is halved until the record is found that is refused alone.
    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        if self.parts.is_empty() && !self.batch.is_empty() {
            self.parts.push_back(0..self.batch.len());
        }
        while let Some(part) = self.parts.pop_front() {
            if context.stop.is_requested() {
                self.parts.push_front(part);
                return Err(SinkFailure::new("stopped before everything was sent"));
            }
            match self.post(&part) {
                Answer::Taken => {}
                Answer::Failed(failure) => {
                    self.parts.push_front(part);
                    return Err(failure);
                }
                Answer::Refused(sentence) => self.refused(part, &sentence)?,
            }
        }
        self.batch.clear();
        self.pushed.clear();
        Ok(std::mem::take(&mut self.sent))
    }

    fn refused(&mut self, part: Range<usize>, sentence: &str) -> Result<(), SinkFailure> {
        if let Some(middle) = self.middle(&part) {
            self.parts.push_front(middle..part.end);
            self.parts.push_front(part.start..middle);
            return Ok(());
        }
        match self.settings.poison {
            Poison::Block => {
                self.parts.push_front(part);
                Err(SinkFailure::new(format!(
                    "{sentence}; this is about a single record, which poison=drop would give up"
                )))
            }
            Poison::Drop => {
                self.note_refused(&part);
                if self.told.is_none_or(|told| told.elapsed() >= DROPS_TOLD_EVERY) {
                    self.told = Some(Instant::now());
                    let record = self.batch.get(part).unwrap_or_default();
                    let shown = record.get(..RECORD_BYTES_SHOWN).unwrap_or(record);
                    tracing::error!(
                        record = %String::from_utf8_lossy(shown),
                        "a record is given up, and perhaps others soon after it: {sentence}"
                    );
                }
                Ok(())
            }
        }
    }

    /// Keeps which record was given up.
    fn note_refused(&mut self, part: &Range<usize>) {
        #[derive(Deserialize)]
        struct Numbered {
            seq: u64,
        }
        let of = self.pushed.partition_point(|(end, _)| *end <= part.start);
        let Some((_, meta)) = self.pushed.get(of) else { return };
        // It was made here, always with a number.
        let record = self.batch.get(part.clone()).unwrap_or_default();
        let first_seq = serde_json::from_slice::<Numbered>(record).map_or(0, |record| record.seq);
        match self.sent.refused.last_mut() {
            Some(last)
                if last.meta.key == meta.key && last.first_seq + last.records == first_seq =>
            {
                last.records += 1;
            }
            _ => self.sent.refused.push(Refused { meta: meta.clone(), first_seq, records: 1 }),
        }
    }

    /// The end of the record in the middle of a part that has several.
    fn middle(&self, part: &Range<usize>) -> Option<usize> {
        let bytes = self.batch.get(part.clone())?;
        let half = bytes.len() / 2;
        let is_inside = |end: &usize| *end < bytes.len();
        let after = memchr::memchr(b'\n', bytes.get(half..)?).map(|at| half + at + 1);
        let before = || memchr::memrchr(b'\n', bytes.get(..half)?).map(|at| at + 1);
        after.filter(is_inside).or_else(before).map(|end| part.start + end)
    }

    fn post(&mut self, part: &Range<usize>) -> Answer {
        let HttpSettings { url, shown, .. } = &self.settings;
        let records = self.batch.get(part.clone()).unwrap_or_default();
        let (body, encoding) = match compressed(records, self.settings.compression) {
            Ok(body) => body,
            Err(error) => {
                return Answer::Failed(SinkFailure::of("cannot compress a batch", &error));
            }
        };
        let mut request =
            self.agent.post(url.expose()).header("content-type", "application/x-ndjson");
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.expose());
        }
        request = match &self.settings.login {
            Login::None => request,
            Login::Bearer(token) => {
                request.header("authorization", format!("Bearer {}", token.expose()))
            }
            Login::Basic(user, password) => {
                let login = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
                request.header("authorization", format!("Basic {login}"))
            }
        };
        let length = body.len() as u64;
        match request.send(body.as_ref()) {
            Err(error) => {
                let failure = SinkFailure::of(&format!("cannot send to {shown}"), &error);
                // Some of the client's sentences name the URL.
                let sentence = failure.sentence.replace(url.expose(), shown);
                Answer::Failed(SinkFailure { sentence, ..failure })
            }
            Ok(response) => {
                let answer = answer(shown, response);
                if matches!(answer, Answer::Taken) {
                    self.sent.bytes += length;
                }
                answer
            }
        }
    }
}

fn answer(url: &str, mut response: Response<Body>) -> Answer {
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, SystemTime::now()));
    // A body that is read to its end lets the connection be used again.
    let words = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let words = words.unwrap_or_default();
    if status.is_success() {
        return Answer::Taken;
    }
    let words = String::from_utf8_lossy(&words);
    let words: String = words.trim().chars().take(ANSWER_CHARS_SHOWN).collect();
    let words = match words.is_empty() {
        true => String::new(),
        false => format!(": {}", words.escape_debug()),
    };
    let sentence = format!("{url} answered {status}{words}");
    match status.as_u16() {
        400 | 413 | 422 => Answer::Refused(sentence),
        401 | 403 => Answer::Failed(SinkFailure::new(format!("{sentence} (the login is refused)"))),
        _ => Answer::Failed(SinkFailure::new(sentence).after(retry_after)),
    }
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
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(records)?;
            (Cow::Owned(encoder.finish()?), Some("gzip"))
        }
        Compression::Zstd => (Cow::Owned(zstd::bulk::compress(records, ZSTD_LEVEL)?), Some("zstd")),
    })
}

fn agent(settings: &HttpSettings) -> Result<Agent, TlsError> {
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
