//! Roots of trust for TLS. An image of one program has none, so the worker gets those of its parent, as
//! one file that `SSL_CERT_FILE` names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Where distributions keep all roots in one file: Debian, Red Hat, SUSE, Alpine.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Largest file of roots in bytes; those of distributions have a quarter of a megabyte.
const BUNDLE_BYTES_MAX: u64 = 8 << 20;

/// Why there are no roots of trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// None of the usual files is there.
    #[error(
        "there are no CA certificates for {0}: install ca-certificates, or let SSL_CERT_FILE name a PEM file (in a container, mount one)"
    )]
    None(String),
    /// The file cannot be read.
    #[error("cannot read the CA certificates in {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file is no bundle.
    #[error("the CA certificates in {path} are longer than {BUNDLE_BYTES_MAX} bytes")]
    TooLong {
        /// The file.
        path: String,
    },
}

/// The roots for an S3 endpoint (none: AWS). Only a service without TLS works without.
pub(super) fn bundle(endpoint: Option<&str>) -> Result<Option<Vec<u8>>, TrustError> {
    let chosen =
        std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
    let found = || BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
    match chosen.or_else(found) {
        Some(path) => read(&path).map(Some),
        None if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) => Ok(None),
        None => Err(TrustError::None(endpoint.unwrap_or("AWS S3").to_owned())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| TrustError::Unreadable { path: path.display().to_string(), source })?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(TrustError::TooLong { path: path.display().to_string() });
    }
    Ok(bytes)
}
