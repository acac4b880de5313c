//! Stores beside directories and S3: where they are, and how they are reached.
//!
//! Which of them a build can reach is a matter of its features; all of them are read, so that a build that
//! cannot says so.

use std::fmt;
use std::path::PathBuf;

use super::location::{LocationError, prefix, without_password};
use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// Longest host name, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Longest user name, in bytes: as of Linux, and room for those of a domain.
const USER_BYTES_MAX: usize = 64;

/// Lengths of the names of Azure's containers, in bytes.
const CONTAINER_BYTES: std::ops::RangeInclusive<usize> = 3..=63;

const SFTP_FORM: &str = "sftp://user@host/path";
const WEBDAV_FORM: &str = "webdavs://host/path";
const AZURE_FORM: &str = "azblob://container/prefix";

/// A store that is reached over the network, and is no S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `sftp://user@host:port/path`, by OpenSSH's `ssh`.
    Sftp {
        /// The user; as `ssh` chooses when absent.
        user: Option<String>,
        /// Name or address, the latter without brackets.
        host: String,
        /// The port; as `ssh` chooses when absent.
        port: Option<u16>,
        /// The directory, with `/` at its beginning; that of `/~/path` is in the user's home.
        path: String,
    },
    /// `webdav://host:port/path` over HTTP, `webdavs://` over TLS.
    WebDav {
        /// Over TLS.
        is_tls: bool,
        /// `host` or `host:port`.
        authority: String,
        /// The collection, without `/` at either end.
        path: String,
    },
    /// `azblob://container/prefix`.
    Azure {
        /// The container.
        container: String,
        /// Without `/` at either end.
        prefix: String,
    },
}

/// How to reach a [`Remote`]: what of it is needed depends on its kind.
#[derive(Debug, Clone, Default)]
pub struct RemoteSettings {
    /// Private key for SFTP; what `ssh` finds itself when absent.
    pub sftp_key_file: Option<PathBuf>,
    /// Host keys that are believed for SFTP; `ssh`'s own files when absent.
    pub sftp_known_hosts: Option<PathBuf>,
    /// User of WebDAV; nobody when absent.
    pub webdav_user: Option<String>,
    /// Password of that user.
    pub webdav_password: Option<Secret>,
    /// Storage account of Azure.
    pub azure_account: Option<String>,
    /// Its key, in base64.
    pub azure_key: Option<Secret>,
    /// Its service: `https://ACCOUNT.blob.core.windows.net` when absent.
    pub azure_endpoint: Option<String>,
}

/// Whether URLs of `scheme` are read by [`Remote::parse`].
pub(super) fn is_scheme(scheme: &str) -> bool {
    matches!(scheme, "sftp" | "webdav" | "webdavs" | "azblob")
}

impl Remote {
    /// Reads `rest`, which is what follows `scheme://` in `text`.
    pub(super) fn parse(text: &str, scheme: &str, rest: &str) -> Result<Self, LocationError> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        match scheme {
            "sftp" => sftp(text, authority, path),
            "webdav" | "webdavs" => web_dav(text, scheme == "webdavs", authority, path),
            _ if is_container(authority) => Ok(Self::Azure {
                container: authority.to_owned(),
                prefix: prefix(text, path.trim_start_matches('/'))?,
            }),
            _ => Err(malformed(text, AZURE_FORM)),
        }
    }

    /// What errors call a store of this kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sftp { .. } => "SFTP",
            Self::WebDav { .. } => "WebDAV",
            Self::Azure { .. } => "Azure Blob Storage",
        }
    }

    /// Whether objects lie in directories there.
    #[must_use]
    pub fn has_directories(&self) -> bool {
        !matches!(self, Self::Azure { .. })
    }

    /// The feature of Cargo with which a build reaches it.
    #[must_use]
    pub fn feature(&self) -> &'static str {
        match self {
            Self::Sftp { .. } | Self::WebDav { .. } => "stores",
            Self::Azure { .. } => "stores-cloud",
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, path) = match self {
            Self::Sftp { user, host, port, path } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                return write!(formatter, "sftp://{user}{host}{port}{path}");
            }
            Self::WebDav { is_tls, authority, path } => {
                (format!("webdav{}://{authority}", if *is_tls { "s" } else { "" }), path)
            }
            Self::Azure { container, prefix } => (format!("azblob://{container}"), prefix),
        };
        match path.is_empty() {
            true => formatter.write_str(&start),
            false => write!(formatter, "{start}/{path}"),
        }
    }
}

fn sftp(text: &str, authority: &str, path: &str) -> Result<Remote, LocationError> {
    let unreadable = || malformed(text, SFTP_FORM);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err(LocationError::Credentials {
                location: without_password(text),
                instead: "let BACKUP_SFTP_KEY_FILE name a private key",
            });
        }
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| !is_user(user)) {
        return Err(unreadable());
    }
    let (host, port) = host_and_port(host).ok_or_else(unreadable)?;
    let below_root = path.trim_start_matches('/');
    let below_root = prefix(text, below_root)?;
    // `~` alone would be the home itself, among all that is in it.
    if below_root.is_empty() || below_root == "~" {
        return Err(no_directory(text, SFTP_FORM));
    }
    Ok(Remote::Sftp {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        path: format!("/{below_root}"),
    })
}

fn web_dav(text: &str, is_tls: bool, authority: &str, path: &str) -> Result<Remote, LocationError> {
    if authority.contains('@') {
        return Err(LocationError::Credentials {
            location: without_password(text),
            instead: "set BACKUP_WEBDAV_USER and BACKUP_WEBDAV_PASSWORD_FILE",
        });
    }
    if host_and_port(authority).is_none() {
        return Err(malformed(text, WEBDAV_FORM));
    }
    let path = prefix(text, path.trim_start_matches('/'))?;
    // Whether the place is there has to be known before anything is said to be missing from it.
    if path.is_empty() {
        return Err(no_directory(text, WEBDAV_FORM));
    }
    Ok(Remote::WebDav { is_tls, authority: authority.to_owned(), path })
}

fn no_directory(text: &str, form: &'static str) -> LocationError {
    LocationError::NoDirectory { location: without_password(text), form }
}

fn malformed(text: &str, form: &'static str) -> LocationError {
    LocationError::Form { location: without_password(text), form }
}

/// Microsoft's rule for the names of containers: lower-case letters, digits, and single hyphens between them.
fn is_container(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    CONTAINER_BYTES.contains(&name.len()) && name.split('-').all(is_part)
}

/// `host`, `host:port`, `[address]`, `[address]:port`.
#[cfg(feature = "stores-cloud")]
pub(super) fn is_authority(text: &str) -> bool {
    host_and_port(text).is_some()
}

/// `host`, `host:port`, `[address]`, `[address]:port`, taken apart.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (address, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let is_host = (1..=HOST_BYTES_MAX).contains(&host.len())
        // What begins with `-` would be an option of `ssh`.
        && host.starts_with(|first: char| first.is_ascii_alphanumeric() || first == ':')
        && host.chars().all(is_name);
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0));
    match port {
        _ if !is_host => None,
        None => Some((host, None)),
        Some(port) => port.map(|port| (host, Some(port))),
    }
}

fn is_user(user: &str) -> bool {
    (1..=USER_BYTES_MAX).contains(&user.len())
        && user.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && user
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@'))
}
