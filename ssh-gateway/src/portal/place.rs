//! Where a unix socket is, from the path that a client sends.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

/// Bytes of a path or an abstract name: one less than `sun_path` of unix(7) holds.
const PATH_BYTES_MAX: usize = 107;

/// Where a unix socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file; the path is absolute if the home directory is.
    File(PathBuf),
    /// An abstract name.
    Abstract(Vec<u8>),
}

impl Place {
    /// Absolute, relative to `home`, or `@name`. The error is a sentence for the client.
    pub(super) fn of(path: &[u8], home: &Path) -> Result<Self, String> {
        if path.contains(&0) {
            return Err("the path of a socket cannot contain a zero byte".into());
        }
        let place = match path.strip_prefix(b"@") {
            Some(name) => Self::Abstract(name.to_vec()),
            None if path.is_empty() => Self::Abstract(Vec::new()),
            None => Self::File(home.join(OsStr::from_bytes(path))),
        };
        match place.bytes().len() {
            0 => Err("the path of a socket is empty".into()),
            1..=PATH_BYTES_MAX => Ok(place),
            _ => Err(format!("the path of a socket is longer than {PATH_BYTES_MAX} bytes")),
        }
    }

    /// For connect(2) and bind(2).
    pub(super) fn address(&self) -> rustix::io::Result<SocketAddrUnix> {
        match self {
            Self::File(path) => SocketAddrUnix::new(path.as_path()),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        }
    }

    /// As it is written: absolute, or `@name`.
    pub(super) fn written(&self) -> Vec<u8> {
        match self {
            Self::File(path) => path.clone().into_os_string().into_vec(),
            Self::Abstract(name) => [b"@", name.as_slice()].concat(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::File(path) => path.as_os_str().as_bytes(),
            Self::Abstract(name) => name,
        }
    }
}

#[cfg(test)]
mod tests;
