//! What the engine refused or could not do, as one sentence and as a kind to decide by.

use std::error::Error;
use std::fmt;
use std::io;

use super::host::Host;

#[cfg(test)]
mod tests;

/// What a caller may want to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineErrorKind {
    /// There is no such container, volume or image.
    NotFound,
    /// It is in a state, or of a name, that does not allow this.
    Conflict,
    /// No engine answers.
    Unreachable,
    /// The socket or the engine does not let us.
    Denied,
    /// No answer in time.
    Timeout,
    /// The answer is not what it must be.
    Corrupt,
    /// A name or address that cannot be one; nothing was sent.
    Invalid,
    /// The engine, or a driver of it, cannot do this at all.
    Unsupported,
    /// Anything else the engine refused.
    Other,
}

/// A failed request. `Display` is one complete sentence; there is no source behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    kind: EngineErrorKind,
    act: String,
    reason: String,
}

impl EngineError {
    /// What to decide by.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// The log of a container that the engine cannot read itself, or does not send as one.
    pub fn unreadable_log(container: &str, reason: &str) -> Self {
        Request::new("read the log of", "container", container).corrupt(reason)
    }

    pub(super) fn bad_host(host: &str, reason: &str) -> Self {
        let kind = EngineErrorKind::Invalid;
        let shown = shown(host);
        Self { kind, act: format!("use {shown} as DOCKER_HOST"), reason: reason.to_owned() }
    }
}

impl Error for EngineError {}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.act, self.reason)
    }
}

/// What is asked for, to name it when it fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    verb: &'static str,
    noun: &'static str,
    name: &'a str,
    host: Option<&'a Host>,
}

/// Characters of a foreign text that are shown.
const SHOWN_CHARS_MAX: usize = 300;
/// Longest chain of sources that is followed.
const CHAIN_LENGTH_MAX: usize = 32;

impl<'a> Request<'a> {
    pub(super) fn new(verb: &'static str, noun: &'static str, name: &'a str) -> Self {
        Self { verb, noun, name, host: None }
    }

    pub(super) fn to_engine(verb: &'static str, host: &'a Host) -> Self {
        Self { verb, noun: "container engine", name: "", host: Some(host) }
    }

    /// The name, if it may stand in a request path.
    pub(super) fn checked_name(&self) -> Result<&'a str, EngineError> {
        // The engine shows container names with a leading slash.
        let name = self.name.strip_prefix('/').unwrap_or(self.name);
        if is_name(name) { Ok(name) } else { Err(self.invalid("this cannot be a name")) }
    }

    pub(super) fn invalid(&self, reason: &str) -> EngineError {
        self.error(EngineErrorKind::Invalid, reason)
    }

    pub(super) fn corrupt(&self, reason: &str) -> EngineError {
        self.error(EngineErrorKind::Corrupt, reason)
    }

    pub(super) fn error(&self, kind: EngineErrorKind, reason: &str) -> EngineError {
        let Self { verb, noun, name, host } = self;
        let act = match host {
            Some(host) => format!("{verb} the {noun} at {host}"),
            None => format!("{verb} the {noun} {}", shown(name)),
        };
        EngineError { kind, act, reason: shown(reason) }
    }

    pub(super) fn failed(&self, error: &bollard::errors::Error) -> EngineError {
        use bollard::errors::Error as Foreign;
        match error {
            Foreign::DockerResponseServerError { status_code, message } => {
                let (kind, reason) = self.judge(*status_code, message);
                self.error(kind, &reason)
            }
            Foreign::RequestTimeoutError => {
                self.error(EngineErrorKind::Timeout, "the engine does not answer in time")
            }
            Foreign::DockerStreamError { error } => self.error(EngineErrorKind::Other, error),
            Foreign::JsonDataError { .. } | Foreign::JsonSerdeError { .. } => {
                self.corrupt(&format!("the answer is not understood: {error}"))
            }
            Foreign::SocketNotFoundError(_) => self.unreachable(io::ErrorKind::NotFound, error),
            Foreign::IOError { err } => self.unreachable(err.kind(), err),
            _ => match io_kind(error) {
                Some(kind) => self.unreachable(kind, error),
                None => self.error(EngineErrorKind::Other, &root(error)),
            },
        }
    }

    /// A request that was made without the client library, and refused: the engine explains in JSON.
    pub(super) fn answered(&self, status: u16, text: &str) -> EngineError {
        let json = serde_json::from_str::<serde_json::Value>(text);
        let message = json.ok().and_then(|json| Some(json.get("message")?.as_str()?.to_owned()));
        let (kind, reason) = self.judge(status, message.as_deref().unwrap_or(text));
        self.error(kind, &reason)
    }

    /// One whose connection broke.
    pub(super) fn broken(&self, error: &hyper::Error) -> EngineError {
        match io_kind(error) {
            Some(kind) => self.unreachable(kind, error),
            None => self.error(EngineErrorKind::Unreachable, &root(error)),
        }
    }

    /// By the HTTP status, as the Docker Engine API defines it for all its requests.
    fn judge(&self, status: u16, message: &str) -> (EngineErrorKind, String) {
        let lower = message.to_ascii_lowercase();
        match status {
            404 if lower.contains(&format!("no such {}", self.noun)) => {
                (EngineErrorKind::NotFound, format!("there is no such {}", self.noun))
            }
            404 => (EngineErrorKind::NotFound, message.to_owned()),
            409 => (EngineErrorKind::Conflict, message.to_owned()),
            401 | 403 => (EngineErrorKind::Denied, message.to_owned()),
            501 => (EngineErrorKind::Unsupported, message.to_owned()),
            408 | 504 => (EngineErrorKind::Timeout, message.to_owned()),
            _ => (EngineErrorKind::Other, format!("{message} (HTTP {status})")),
        }
    }

    pub(super) fn unreachable(
        &self,
        kind: io::ErrorKind,
        error: &(dyn Error + 'static),
    ) -> EngineError {
        match kind {
            io::ErrorKind::PermissionDenied => self.error(
                EngineErrorKind::Denied,
                "the permissions of the socket do not allow it; run as root or in its group",
            ),
            io::ErrorKind::NotFound => self.error(
                EngineErrorKind::Unreachable,
                "there is no such socket; mount it, or set DOCKER_HOST to where it is",
            ),
            io::ErrorKind::ConnectionRefused => self.error(
                EngineErrorKind::Unreachable,
                "nothing listens there; start the engine, or set DOCKER_HOST to where it is",
            ),
            _ => self.error(EngineErrorKind::Unreachable, &root(error)),
        }
    }
}

/// Names and ids of containers and volumes, and image references: no `?`, `#`, `%` or empty or dot
/// parts, so that a name cannot become another request.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '@'))
}

/// Longest name that is sent, in bytes; image references with a registry and a digest fit.
const NAME_BYTES_MAX: usize = 512;

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    sources(error).find_map(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn root(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(CHAIN_LENGTH_MAX)
}

fn shown(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
