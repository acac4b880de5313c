//! TLS to a server: whom to trust, and who we are.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::object::trust;

/// Largest file of certificates or keys, in bytes.
const PEM_BYTES_MAX: u64 = 8 << 20;

/// The files an operator named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Certificates to trust instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, with those between it and the root.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
}

/// A file that holds no usable certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// It is longer than such files are.
    #[error("{} is longer than {PEM_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    /// There is nothing to trust.
    #[error(transparent)]
    Trust(#[from] trust::TrustError),
    /// The key is of a kind that is not known.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("the certificate and its key cannot be used")]
    Pair(#[source] rustls::Error),
}

/// Our certificate with those above it, and its key.
pub struct Identity {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// The file of the key.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl TlsSettings {
    /// The certificates to trust; `peer` is for the error message.
    pub fn roots(&self, peer: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        match &self.ca_file {
            Some(path) => certificates(&pem(path)?)
                .ok_or_else(|| TlsError::Empty { path: path.clone(), what: "certificate" }),
            None => {
                let pem = trust::roots(Some(peer))?.unwrap_or_default();
                let none = || TlsError::Trust(trust::TrustError::None(peer.to_owned()));
                certificates(&pem).ok_or_else(none)
            }
        }
    }

    /// Who we are, if we are to say so.
    pub fn identity(&self) -> Result<Option<Identity>, TlsError> {
        let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) else { return Ok(None) };
        let empty = |path: &PathBuf, what| TlsError::Empty { path: path.clone(), what };
        let chain = certificates(&pem(cert)?).ok_or_else(|| empty(cert, "certificate"))?;
        let key_pem = pem(key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| empty(key, "private key"))?;
        Ok(Some(Identity { chain, key, key_pem }))
    }

    /// All of it for rustls; `peer` is for the error message.
    pub fn client_config(&self, peer: &str) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some of a distribution's roots may be of a kind that rustls does not know.
        let (added, _) = roots.add_parsable_certificates(self.roots(peer)?);
        if added == 0 {
            return Err(TlsError::Trust(trust::TrustError::None(peer.to_owned())));
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_root_certificates(roots);
        match self.identity()? {
            None => Ok(builder.with_no_client_auth()),
            Some(Identity { chain, key, .. }) => {
                builder.with_client_auth_cert(chain, key).map_err(TlsError::Pair)
            }
        }
    }
}

/// The cryptography: ring, as everywhere in the suite.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    (!all.is_empty()).then_some(all)
}

fn pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Unreadable(path.to_owned(), source))?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(TlsError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}
