//! Roots of trust for TLS: where they are, and whether there are any.
//!
//! They are looked for where the TLS library of the S3 client does it (crates `rustls-native-certs` and
//! `openssl-probe`): `SSL_CERT_FILE` and `SSL_CERT_DIR` where one of them is set, otherwise the places
//! of distributions. An image of one program has none of its own.

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

/// Where they keep one file for each root.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Most bytes of roots; those of distributions have a quarter of a megabyte.
const ROOTS_BYTES_MAX: u64 = 8 << 20;

/// Most names of one directory that are looked at; distributions have three for each of 150 roots.
const DIRECTORY_NAMES_MAX: usize = 10_000;

/// How a certificate in PEM begins (RFC 7468, section 5).
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Why there are no roots of trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is nothing in the usual places.
    #[error(
        "there are no CA certificates for {0}: mount those of the host with `-v /etc/ssl/certs:/etc/ssl/certs:ro`, install ca-certificates, or let SSL_CERT_FILE name a PEM file"
    )]
    None(String),
    /// What was named has no certificate in it.
    #[error(
        "there is no CA certificate in {0}, which SSL_CERT_FILE or SSL_CERT_DIR names: let it name PEM files"
    )]
    Empty(String),
    /// What was named cannot be read.
    #[error("cannot read the CA certificates in {path}")]
    Unreadable {
        /// The file or directory.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It is no bundle.
    #[error("the CA certificates in {path} are longer than {ROOTS_BYTES_MAX} bytes")]
    TooLong {
        /// The file or directory.
        path: String,
    },
}

/// The roots for an S3 endpoint (none: AWS) as PEM. `None`: the endpoint is `http://` and needs none.
pub fn roots(endpoint: Option<&str>) -> Result<Option<Vec<u8>>, TrustError> {
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        return Ok(None);
    }
    let places = Places::chosen(
        std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
        std::env::var_os("SSL_CERT_DIR")
            .map(|list| std::env::split_paths(&list).collect())
            .unwrap_or_default(),
    );
    let found = match places {
        Some(places) => places.read_all()?,
        None => Places::usual().read_first(),
    };
    found.map(Some).ok_or_else(|| TrustError::None(endpoint.unwrap_or("AWS S3").to_owned()))
}

/// Where roots may be.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Places {
    /// What the environment names, if it names anything. The TLS library takes an empty `SSL_CERT_FILE`
    /// for a file, an empty `SSL_CERT_DIR` for nothing.
    fn chosen(file: Option<PathBuf>, mut directories: Vec<PathBuf>) -> Option<Self> {
        directories.retain(|directory| !directory.as_os_str().is_empty());
        let files: Vec<_> = file.into_iter().collect();
        (!files.is_empty() || !directories.is_empty()).then_some(Self { files, directories })
    }

    fn usual() -> Self {
        Self {
            files: BUNDLES.iter().map(PathBuf::from).collect(),
            directories: DIRECTORIES.iter().map(PathBuf::from).collect(),
        }
    }

    /// All places together; each has to be readable, and one has to have a certificate.
    fn read_all(&self) -> Result<Option<Vec<u8>>, TrustError> {
        let mut roots = Vec::new();
        for file in &self.files {
            roots.extend(read_file(file)?);
        }
        for directory in &self.directories {
            roots.extend(read_directory(directory)?);
        }
        if has_certificate(&roots) {
            return Ok(Some(roots));
        }
        let names: Vec<_> = self
            .files
            .iter()
            .chain(&self.directories)
            .map(|path| path.display().to_string())
            .collect();
        Err(TrustError::Empty(names.join(", ")))
    }

    /// The first place with a certificate; the others need not exist.
    fn read_first(&self) -> Option<Vec<u8>> {
        let files = self.files.iter().map(|file| read_file(file));
        let directories = self.directories.iter().map(|directory| read_directory(directory));
        files.chain(directories).flatten().find(|roots| has_certificate(roots))
    }
}

fn has_certificate(roots: &[u8]) -> bool {
    roots.windows(PEM_BEGIN.len()).any(|part| part == PEM_BEGIN)
}

fn read_file(path: &Path) -> Result<Vec<u8>, TrustError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(ROOTS_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| TrustError::Unreadable { path: path.display().to_string(), source })?;
    if bytes.len() as u64 > ROOTS_BYTES_MAX {
        return Err(TrustError::TooLong { path: path.display().to_string() });
    }
    Ok(bytes)
}

/// All certificates of the files right in a directory. Links that lead nowhere are passed over: what
/// they point to may be outside of what is mounted.
fn read_directory(path: &Path) -> Result<Vec<u8>, TrustError> {
    let unreadable = |source| TrustError::Unreadable { path: path.display().to_string(), source };
    let mut names = std::fs::read_dir(path)
        .and_then(|names| {
            names
                .take(DIRECTORY_NAMES_MAX)
                .map(|name| Ok(name?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(unreadable)?;
    names.sort_unstable();
    let mut roots = Vec::new();
    for name in names.iter().filter(|name| name.is_file()) {
        let file = read_file(name)?;
        if has_certificate(&file) {
            roots.extend(file);
            roots.push(b'\n');
        }
        if roots.len() as u64 > ROOTS_BYTES_MAX {
            return Err(TrustError::TooLong { path: path.display().to_string() });
        }
    }
    Ok(roots)
}
