//! The gateway's own keys, by which clients know it again. Made once, kept in the state directory, and never replaced
//! in silence: a key that cannot be used is an error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chores_common::durable::{self, DurableError};
use chores_common::exit::chain;
use jiff::Timestamp;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey, PublicKey, ssh_key};
use rustix::fs::{FlockOperation, OFlags};
use zeroize::Zeroizing;

use crate::trusted_file::{self, TrustedFileError};
use crate::wire::Opaque;

#[cfg(test)]
mod tests;

/// What the file of a key's certificate is called, behind the name of the key's, as sshd has it.
const CERTIFICATE_SUFFIX: &str = "-cert.pub";

/// The directory of the keys in the state directory.
const DIRECTORY: &str = "host_keys";

/// The directory of the audit in the state directory.
pub const AUDIT_DIRECTORY: &str = "audit";

/// The file of the key that signs it.
const AUDIT_KEY: &str = "key";

/// How the names of what it has signed end, beside it: its files, and their head.
const SIGNED_SUFFIXES: [&str; 2] = [".jsonl", "head"];

/// Largest file of a key, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Bits of an RSA key that is made, and fewest of one that is found.
const RSA_BITS: usize = 3072;

/// Bits of a mode that let others read or change a key.
const OPEN_TO_OTHERS: u32 = 0o077;

const KEY_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A kind of key, and the name of its file, as sshd has it.
const KINDS: [(Kind, &str); 3] = [
    (Kind::Ed25519, "ssh_host_ed25519_key"),
    (Kind::Ecdsa, "ssh_host_ecdsa_key"),
    (Kind::Rsa, "ssh_host_rsa_key"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519,
    Ecdsa,
    Rsa,
}

/// The keys, the preferred one first.
pub struct HostKeys {
    keys: Vec<PrivateKey>,
    certificates: Vec<Certificate>,
    made: Vec<PathBuf>,
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKeys({:?})", self.fingerprints())
    }
}

/// Why there are no host keys.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The system refused something.
    #[error("cannot {act} {}", path.display())]
    System {
        /// What.
        act: &'static str,
        /// Of what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// A key cannot be written.
    #[error("cannot keep a host key")]
    Keep(#[from] DurableError),
    /// What is there cannot be used, and is not replaced.
    #[error(
        "the host key {} cannot be used: {fault}; no other one is made in its place: put the right one there, or \
         remove it and tell your users that the gateway gets a new one", path.display()
    )]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The key of the audit cannot be used, and is not replaced.
    #[error(
        "the key of the audit {} cannot be used: {fault}; no other one is made in its place: put the right one there, or \
         move the directory {} away to begin a new audit", path.display(), directory.display()
    )]
    UnusableAuditKey {
        /// The file or directory.
        path: PathBuf,
        /// Where the audit is.
        directory: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A key cannot be made.
    #[error("cannot make a host key")]
    Make(#[from] ssh_key::Error),
}

impl HostKeys {
    /// Reads the keys in the state directory; makes those that are not there. Blocks, for seconds when an RSA key is
    /// made.
    pub fn load_or_make(state: &Path) -> Result<Self, HostKeyError> {
        let directory = state.join(DIRECTORY);
        let system = |act, path: &Path| {
            let path = path.to_owned();
            move |source| HostKeyError::System { act, path, source }
        };
        durable::create_directories(state, DIRECTORY_MODE)?;
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&directory) {
            Ok(()) => durable::sync_directory(state)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(system("create the directory", &directory)(error)),
        }
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed())
            .open(&directory)
            .map_err(system("open the directory", &directory))?;
        check_owner(&directory, &opened.metadata().map_err(system("look at", &directory))?)?;
        // Two gateways that start at once on one state must not each make a key.
        rustix::fs::flock(&opened, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(system("lock", &directory))?;
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        let mut made = Vec::new();
        for (kind, name) in KINDS {
            let path = directory.join(name);
            let key = match read(&path)? {
                Some(bytes) => parse(kind, &bytes).map_err(|fault| unusable(&path, fault))?,
                None => {
                    let key = make(kind)?;
                    let text = key.to_openssh(LineEnding::LF)?;
                    durable::write(&path, text.as_bytes(), KEY_MODE)?;
                    made.push(path);
                    key
                }
            };
            let path = directory.join(format!("{name}{CERTIFICATE_SUFFIX}"));
            certificates.extend(certificate(&path, &key, Timestamp::now())?);
            keys.push(key);
        }
        Ok(Self { keys, certificates, made })
    }

    /// The files that were not there before.
    #[must_use]
    pub fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// `ssh-ed25519 SHA256:…`, for the start of the log: what clients are shown.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let shown = self.keys.iter().map(|key| {
            format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
        });
        shown.collect()
    }

    /// Public keys in the form of known_hosts and authorized_keys.
    pub fn public(&self) -> Result<Vec<String>, HostKeyError> {
        let keys = self.keys.iter().map(|key| key.public_key().to_openssh());
        keys.collect::<Result<_, _>>().map_err(HostKeyError::Make)
    }

    /// The certificates in OpenSSH's format, for the process that speaks SSH.
    pub fn certificates_to_wire(&self) -> Result<Vec<String>, HostKeyError> {
        let texts = self.certificates.iter().map(Certificate::to_openssh);
        texts.collect::<Result<_, _>>().map_err(HostKeyError::Make)
    }

    /// The private keys in OpenSSH's format, for the process that speaks SSH.
    pub fn to_wire(&self) -> Result<Vec<Opaque>, HostKeyError> {
        let texts = self.keys.iter().map(|key| key.to_openssh(LineEnding::LF));
        let texts = texts.map(|text| text.map(|text| Opaque(text.as_bytes().to_vec())));
        texts.collect::<Result<_, _>>().map_err(HostKeyError::Make)
    }
}

/// The certificate of a key; `None` when there is none, or when clients would not take it today.
fn certificate(
    path: &Path,
    key: &PrivateKey,
    now: Timestamp,
) -> Result<Option<Certificate>, HostKeyError> {
    let bytes = match trusted_file::read(path) {
        Ok(bytes) => bytes,
        Err(TrustedFileError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        Err(error) => return Err(unusable(path, chain(&error))),
    };
    let read =
        std::str::from_utf8(&bytes).ok().and_then(|text| Certificate::from_openssh(text).ok());
    let certificate = read.ok_or_else(|| unusable(path, "it is no certificate of OpenSSH"))?;
    let fault = if certificate.cert_type() != CertType::Host {
        Some("it is for a user: sign it with ssh-keygen -h")
    } else if certificate.public_key() != key.public_key().key_data() {
        Some("it is for another key")
    } else if certificate.verify_signature().is_err() {
        Some("it is not signed by its authority")
    } else {
        None
    };
    if let Some(fault) = fault {
        return Err(unusable(path, fault));
    }
    let second = u64::try_from(now.as_second()).unwrap_or_default();
    if !(certificate.valid_after()..certificate.valid_before()).contains(&second) {
        tracing::warn!(
            "the host certificate {} is not valid now, so that it is not shown to clients",
            path.display()
        );
        return Ok(None);
    }
    Ok(Some(certificate))
}

fn unusable(path: &Path, fault: impl Into<String>) -> HostKeyError {
    HostKeyError::Unusable { path: path.to_owned(), fault: fault.into() }
}

/// The bytes of a key's file; `None` when there is none.
fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, HostKeyError> {
    let system = |act| {
        let path = path.to_owned();
        move |source| HostKeyError::System { act, path, source }
    };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(unusable(path, "it is a symbolic link"));
        }
        Err(error) => return Err(system("open the host key")(error)),
    };
    let metadata = file.metadata().map_err(system("look at the host key"))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is no regular file"));
    }
    check_owner(path, &metadata)?;
    let mut bytes = Zeroizing::new(Vec::new());
    take(file, &mut bytes).map_err(system("read the host key"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(path, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Some(bytes))
}

fn take(file: File, bytes: &mut Vec<u8>) -> io::Result<usize> {
    file.take(FILE_BYTES_MAX + 1).read_to_end(bytes)
}

/// Only its owner may read or change it, and that is root or whoever runs this.
fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), HostKeyError> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let own = rustix::process::geteuid().as_raw();
    if mode & OPEN_TO_OTHERS != 0 {
        let fault = format!("its mode is {mode:04o}, so others may use it: chmod go-rwx it");
        return Err(unusable(path, fault));
    }
    if owner != own && owner != 0 {
        return Err(unusable(path, format!("it belongs to the user {owner}, not to {own}")));
    }
    Ok(())
}

fn parse(kind: Kind, bytes: &[u8]) -> Result<PrivateKey, String> {
    let key = PrivateKey::from_openssh(bytes)
        .map_err(|_| "it is damaged, or no private key in OpenSSH's format".to_owned())?;
    if key.is_encrypted() {
        return Err("it has a passphrase, which nobody could give at the start".to_owned());
    }
    let is_right = match (kind, key.key_data()) {
        (Kind::Ed25519, KeypairData::Ed25519(_)) => true,
        (Kind::Ecdsa, KeypairData::Ecdsa(_)) => true,
        (Kind::Rsa, KeypairData::Rsa(rsa)) => rsa.key_size() as usize >= RSA_BITS,
        _ => false,
    };
    if !is_right {
        let wanted = match kind {
            Kind::Ed25519 => "an ed25519 key",
            Kind::Ecdsa => "an ecdsa key",
            Kind::Rsa => "an RSA key of 3072 bits or more",
        };
        return Err(format!("it is {}, and must be {wanted}", key.algorithm().as_str()));
    }
    Ok(key)
}

fn make(kind: Kind) -> Result<PrivateKey, ssh_key::Error> {
    let mut random = russh::keys::key::safe_rng();
    let started = Instant::now();
    let key = match kind {
        Kind::Ed25519 => PrivateKey::random(&mut random, Algorithm::Ed25519),
        Kind::Ecdsa => {
            let curve = EcdsaCurve::NistP256;
            PrivateKey::random(&mut random, Algorithm::Ecdsa { curve })
        }
        Kind::Rsa => {
            tracing::info!("making an RSA host key of {RSA_BITS} bits; this takes a while, once");
            let pair = RsaKeypair::random(&mut random, RSA_BITS)?;
            PrivateKey::new(KeypairData::from(pair), "")
        }
    }?;
    tracing::debug!(
        algorithm = key.algorithm().as_str(),
        seconds = started.elapsed().as_secs_f32(),
        "made a host key"
    );
    Ok(key)
}

/// The key that signs the audit.
#[derive(Debug, Clone)]
pub struct AuditKey {
    /// It.
    pub key: PrivateKey,
    /// What is beside it as its public half is not: somebody has exchanged one of the two, or a version before this one
    /// that made a new key where there was none.
    pub is_doubtful: bool,
}

impl From<PrivateKey> for AuditKey {
    fn from(key: PrivateKey) -> Self {
        Self { key, is_doubtful: false }
    }
}

/// The key that signs the audit; made, with its public half beside it, when there is neither it nor anything that it has
/// signed. Blocks.
pub fn audit_key(state: &Path) -> Result<AuditKey, HostKeyError> {
    let directory = state.join(AUDIT_DIRECTORY);
    durable::create_directories(&directory, DIRECTORY_MODE)?;
    let FoundAuditKey { key, public, is_doubtful } = find_audit_key(&directory)?;
    let key = match key {
        Some(key) => key,
        None => {
            let key = make(Kind::Ed25519)?;
            let text = key.to_openssh(LineEnding::LF)?;
            durable::write(&directory.join(AUDIT_KEY), text.as_bytes(), KEY_MODE)?;
            key
        }
    };
    if is_doubtful {
        // Nobody could come in to mend it if this were a reason not to start.
        tracing::error!("{}", doubt(&directory));
    } else if public.is_none() {
        let text = format!("{}\n", key.public_key().to_openssh()?);
        durable::write(&public_audit_key(&directory), text.as_bytes(), KEY_MODE)?;
    }
    Ok(AuditKey { key, is_doubtful })
}

/// What is wrong with the key of an audit, as one sentence; the error is why no gateway would start with it. Changes
/// nothing. Blocks.
pub fn audit_key_fault(state: &Path) -> Result<Option<String>, HostKeyError> {
    let directory = state.join(AUDIT_DIRECTORY);
    if !directory.exists() {
        return Ok(None);
    }
    Ok(find_audit_key(&directory)?.is_doubtful.then(|| doubt(&directory)))
}

/// What is there of the key of an audit.
struct FoundAuditKey {
    /// `None` when there is nothing that one has signed either.
    key: Option<PrivateKey>,
    /// The bytes of what should be its public half.
    public: Option<Vec<u8>>,
    /// They are not.
    is_doubtful: bool,
}

fn find_audit_key(directory: &Path) -> Result<FoundAuditKey, HostKeyError> {
    let path = directory.join(AUDIT_KEY);
    let public = public_audit_key(directory);
    let wrong = |path: &Path, fault: String| HostKeyError::UnusableAuditKey {
        path: path.to_owned(),
        directory: directory.to_owned(),
        fault,
    };
    let unusable = |error| match error {
        HostKeyError::Unusable { path, fault } => wrong(&path, fault),
        other => other,
    };
    let system = |path: &Path| {
        let path = path.to_owned();
        move |source| HostKeyError::System { act: "look at", path, source }
    };
    let data = std::fs::metadata(directory).map_err(system(directory))?;
    check_owner(directory, &data).map_err(unusable)?;
    let known = match std::fs::read(&public) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(system(&public)(error)),
    };
    let Some(bytes) = read(&path).map_err(unusable)? else {
        // Another key would make everything before it look forged, or the other way round.
        if known.is_some() || has_signed(directory).map_err(system(directory))? {
            return Err(wrong(&path, "it is gone, and there is what it has signed".to_owned()));
        }
        return Ok(FoundAuditKey { key: None, public: None, is_doubtful: false });
    };
    let key = parse(Kind::Ed25519, &bytes).map_err(|fault| wrong(&path, fault))?;
    let is_doubtful = known.as_ref().is_some_and(|known| {
        let known = std::str::from_utf8(known).ok();
        let known = known.and_then(|text| PublicKey::from_openssh(text.trim()).ok());
        known.is_none_or(|known| known.key_data() != key.public_key().key_data())
    });
    Ok(FoundAuditKey { key: Some(key), public: known, is_doubtful })
}

fn public_audit_key(directory: &Path) -> PathBuf {
    directory.join(format!("{AUDIT_KEY}.pub"))
}

fn doubt(directory: &Path) -> String {
    let (public, path) = (public_audit_key(directory), directory.join(AUDIT_KEY));
    format!(
        "{} is not the public half of {}: the audit goes on with the private key, and says so; find out who has exchanged which, \
         and put the right public half there (ssh-keygen -y -f {})",
        public.display(),
        path.display(),
        path.display()
    )
}

/// Whether a directory has anything that a key of an audit has signed.
fn has_signed(directory: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if SIGNED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            return Ok(true);
        }
    }
    Ok(false)
}
