//! What an operator wrote about a sink, understood and checked.

use std::collections::BTreeMap;

use super::file::FileSettings;
use super::fluent::FluentSettings;
use super::http::HttpSettings;
use super::kafka::KafkaSettings;
use super::nats::NatsSettings;
use super::options::{OptionFault, Options, SinkSettingError, split_url};
use super::s3::S3SinkSettings;
use super::socket::SocketSettings;
use super::stdout::StdoutSettings;

#[cfg(test)]
mod tests;

/// How URLs of sinks begin.
const FORMS: &str = "stdout:, file:///path, syslog+udp://host (or +tcp, +tls), gelf+udp://host (or +tcp, +tls), fluent://host (or fluent+tls), nats://host (or nats+tls), kafka://broker/topic (or kafka+tls), http://host (or https), es+http://host/index, loki+http://host, otlp+http://host (each or +https), s3://bucket";

/// What an optional sink may fall behind, in bytes: at least a segment of the log.
const BACKLOG_BYTES: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 50;

/// Longest name of a sink, in bytes: it is a file name in the state directory.
const NAME_BYTES_MAX: usize = 64;

/// A sink to be.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Its name: what sources call it, and what its cursor is kept under.
    pub name: String,
    /// Where it leads, safe to show.
    pub url: String,
    /// What kind it is.
    pub target: Target,
    /// Bytes of the log that it may fall behind; beyond it, it loses the oldest, which the ledger says. `None`: the
    /// log waits for it.
    pub backlog_bytes_max: Option<u64>,
}

/// The kinds of sinks.
#[derive(Debug, Clone)]
pub enum Target {
    /// Standard output.
    Stdout(StdoutSettings),
    /// Files.
    File(FileSettings),
    /// A server of syslog or GELF.
    Socket(SocketSettings),
    /// A server over HTTP: NDJSON, Elasticsearch, Loki, OpenTelemetry.
    Http(HttpSettings),
    /// A server of the forward protocol.
    Fluent(FluentSettings),
    /// A topic of Kafka.
    Kafka(KafkaSettings),
    /// JetStream of NATS.
    Nats(NatsSettings),
    /// Objects in S3.
    S3(S3SinkSettings),
}

impl SinkSettings {
    /// Whether both write files of the same names.
    #[must_use]
    pub fn shares_files(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Target::File(one), Target::File(two)) => one.path == two.path,
            _ => false,
        }
    }

    /// From a URL and the options beside it. An option may stand in the query of the URL or beside it, not in
    /// both. Credentials of S3 may come from the environment of the process.
    pub fn parse(
        name: &str,
        url: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, SinkSettingError> {
        Self::parse_in(name, url, options, &|name| std::env::var(name).ok())
    }

    /// The same with another environment.
    pub fn parse_in(
        name: &str,
        url: &str,
        options: &BTreeMap<String, String>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SinkSettingError> {
        read(name, url, options, environment)
            .map_err(|fault| SinkSettingError { sink: name.to_owned(), fault })
    }
}

fn read(
    name: &str,
    url: &str,
    beside: &BTreeMap<String, String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<SinkSettings, OptionFault> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_word || !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.starts_with('.') {
        return Err(OptionFault::Conflict(format!(
            "a sink's name has letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX} in all, no `.` first"
        )));
    }
    let (url, in_url) = split_url(url, FORMS)?;
    let mut options = Options::new(&url.scheme, in_url, beside, environment)?;
    let target = match url.scheme.as_str() {
        "stdout" => Target::Stdout(StdoutSettings::read(&url, &mut options)?),
        "file" => Target::File(FileSettings::read(&url, &mut options)?),
        "syslog+udp" | "syslog+tcp" | "syslog+tls" | "gelf+udp" | "gelf+tcp" | "gelf+tls" => {
            Target::Socket(SocketSettings::read(&url, &mut options)?)
        }
        "http" | "https" | "es+http" | "es+https" | "loki+http" | "loki+https" | "otlp+http"
        | "otlp+https" => Target::Http(HttpSettings::read(&url, &mut options)?),
        "fluent" | "fluent+tls" => Target::Fluent(FluentSettings::read(&url, &mut options)?),
        "kafka" | "kafka+tls" => Target::Kafka(KafkaSettings::read(&url, &mut options)?),
        "nats" | "nats+tls" => Target::Nats(NatsSettings::read(&url, &mut options)?),
        "s3" => Target::S3(S3SinkSettings::read(&url, &mut options)?),
        _ => return Err(OptionFault::NoUrl(url.text(), FORMS)),
    };
    let backlog_bytes_max = options.size("backlog_max", BACKLOG_BYTES)?;
    options.finish()?;
    Ok(SinkSettings { name: name.to_owned(), url: url.text(), target, backlog_bytes_max })
}
