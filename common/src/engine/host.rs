//! Where the engine is, in the forms of `DOCKER_HOST`.

use std::fmt;
use std::path::PathBuf;

use super::error::EngineError;

#[cfg(test)]
mod tests;

/// Where Docker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// An address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

impl Host {
    /// Reads `unix:///path`, `/path`, `tcp://host:port` or `http://host:port`; nothing and the
    /// empty text are [`DEFAULT_SOCKET`]. TLS (`https://`) and ssh are refused.
    pub fn parse(text: Option<&str>) -> Result<Self, EngineError> {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::Unix(PathBuf::from(DEFAULT_SOCKET)));
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp" | "http", address)) if is_address(address.trim_end_matches('/')) => {
                Ok(Self::Tcp(address.trim_end_matches('/').to_owned()))
            }
            Some(("https", _)) => Err(EngineError::bad_host(
                text,
                "TLS is not supported; use a socket, or a proxy that speaks TLS",
            )),
            Some(("ssh", _)) => {
                Err(EngineError::bad_host(text, "ssh is not supported; forward the socket"))
            }
            _ => Err(EngineError::bad_host(
                text,
                "it is none of unix:///path, /path and tcp://host:port",
            )),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "{}", path.display()),
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

/// A host name, IPv4 or bracketed IPv6 address, with a port.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    !host.is_empty() && is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}
