//! Who may come in: keys with their options, in the format of sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
//!
//! What a line asks for is kept or the line does not count: an option that cannot be enforced is no reason to let
//! somebody in without it. Such a line is said once, with its number; the others count.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::ssh_key::public::{KeyData, RsaPublicKey};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::KeySource;
use crate::trusted_file::{self, FILE_BYTES_MAX, TrustedFileError};

mod addresses;
mod options;
mod patterns;

pub use addresses::AddressList;
pub use options::{INTERNAL_SFTP, ListenPermit, OpenPermit, Options};
pub(crate) use options::{MOMENT_FORMS, forced_command, moment};
pub use patterns::PatternList;
pub(crate) use patterns::is_match;

#[cfg(test)]
mod tests;

/// Longest line, in bytes: an RSA key of 16384 bits and a page of options.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Most keys of all files.
pub const KEYS_MAX: usize = 10_000;

/// Weakest RSA key, in bits.
const RSA_BITS_MIN: u32 = 2048;

/// Largest RSA key, in bits: the library that checks signatures takes no larger ones.
const RSA_BITS_MAX: u32 = 8192;

/// A key that may come in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
    /// The identity of the policy whose key it is; `None` where there is no policy but keys.
    pub owner: Option<Arc<str>>,
    /// The file or variable it is from.
    pub source: String,
    /// Its line there, from 1.
    pub line: usize,
    /// The key.
    pub key: PublicKey,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// What is behind it in the line: most often whose it is.
    pub comment: String,
    /// What it may do.
    pub options: Options,
    /// Where it stands for a certificate of this authority: what that says of itself.
    pub issued: Option<Issued>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What its authority calls it.
    pub key_id: String,
    /// Its number; 0 for none.
    pub serial: u64,
    /// `SHA256:…` of its authority.
    pub authority: String,
}

impl AuthorizedKey {
    /// Whether it is in a device that can be touched and unlocked (OpenSSH, PROTOCOL.u2f).
    #[must_use]
    pub fn is_security_key(&self) -> bool {
        is_security_key(&self.key)
    }
}

fn is_security_key(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

/// Every key that may come in. A key may be in more than one line: the first that fits is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizedKeys {
    lines: Vec<Arc<AuthorizedKey>>,
    /// Lines of keys of users.
    by_blob: HashMap<Vec<u8>, Vec<usize>>,
    /// Lines of authorities: their keys let nobody in by themselves.
    authorities: HashMap<Vec<u8>, Vec<usize>>,
    faults: Vec<LineFault>,
}

/// A line that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The file or variable it is in.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, line, reason } = self;
        write!(f, "{source}:{line}: this key is not accepted: {reason}")
    }
}

/// Keys that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file is not believed.
    #[error(transparent)]
    File(#[from] TrustedFileError),
    /// The text of a variable is too large.
    #[error("{name} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The variable.
        name: String,
    },
    /// There are too many keys.
    #[error("there are more than {KEYS_MAX} authorized keys")]
    TooMany,
    /// Nobody could come in, for a private key was given and its public half is wanted.
    #[error(
        "{name} is a private key, and must stay with its owner: give the public one, the file that ssh-keygen named .pub"
    )]
    Private {
        /// The file or variable.
        name: String,
    },
    /// Nobody could come in.
    #[error("there is no key in {names} that can be accepted{}", first_of(.first.as_ref()))]
    None {
        /// Files and variables.
        names: String,
        /// What is wrong with the first line.
        first: Option<LineFault>,
    },
}

fn first_of(fault: Option<&LineFault>) -> String {
    fault
        .map(|LineFault { source, line, reason }| format!("; {source}:{line}: {reason}"))
        .unwrap_or_default()
}

impl AuthorizedKeys {
    /// Reads every source. `accepts_variable` tells which variables an `environment=` may set.
    pub fn load(
        sources: &[KeySource],
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<Self, KeysError> {
        let mut keys = Self::default();
        let mut names = Vec::new();
        for source in sources {
            match source {
                KeySource::File(path) => {
                    keys.add_file(None, path, accepts_variable)?;
                    names.push(path.display().to_string());
                }
                KeySource::Text { variable, text } => {
                    if text.len() > FILE_BYTES_MAX {
                        return Err(KeysError::TooLarge { name: (*variable).to_owned() });
                    }
                    keys.add(None, variable, text.as_bytes(), accepts_variable)?;
                    names.push((*variable).to_owned());
                }
            }
        }
        if keys.lines.is_empty() {
            let private = keys.faults.iter().find(|fault| fault.reason == PRIVATE);
            return Err(match private {
                Some(LineFault { source, .. }) => KeysError::Private { name: source.clone() },
                None => {
                    KeysError::None { names: names.join(", "), first: keys.faults.first().cloned() }
                }
            });
        }
        Ok(keys)
    }

    /// Adds the keys of one file. Blocks.
    pub(crate) fn add_file(
        &mut self,
        owner: Option<&Arc<str>>,
        path: &Path,
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<(), KeysError> {
        let bytes = trusted_file::read(path)?;
        self.add(owner, &path.display().to_string(), &bytes, accepts_variable)
    }

    /// Adds the keys of one text.
    fn add(
        &mut self,
        owner: Option<&Arc<str>>,
        name: &str,
        bytes: &[u8],
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<(), KeysError> {
        let mut is_private = false;
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = at + 1;
            if is_private {
                // Its lines are none of their own; where its end is missing, the next key is.
                let is_end = ends_private_key(line);
                is_private = !is_end && !matches!(line_key(line, accepts_variable), Ok(Some(_)));
                if is_private || is_end {
                    continue;
                }
            }
            if begins_private_key(line) {
                is_private = true;
                let (source, reason) = (name.to_owned(), PRIVATE.to_owned());
                self.faults.push(LineFault { source, line: number, reason });
                continue;
            }
            match line_key(line, accepts_variable) {
                Ok(None) => {}
                Ok(Some(read)) => self.push(owner, name, number, read)?,
                Err(reason) => {
                    let source = name.to_owned();
                    self.faults.push(LineFault { source, line: number, reason });
                }
            }
        }
        Ok(())
    }

    /// Adds one key that was read already.
    pub(crate) fn push(
        &mut self,
        owner: Option<&Arc<str>>,
        name: &str,
        line: usize,
        read: ReadKey,
    ) -> Result<(), KeysError> {
        if self.lines.len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let at = self.lines.len();
        let lines =
            if read.options.cert_authority { &mut self.authorities } else { &mut self.by_blob };
        lines.entry(read.blob).or_default().push(at);
        self.lines.push(Arc::new(AuthorizedKey {
            owner: owner.cloned(),
            source: name.to_owned(),
            line,
            fingerprint: read.key.fingerprint(HashAlg::Sha256).to_string(),
            comment: read.comment,
            key: read.key,
            options: read.options,
            issued: None,
        }));
        Ok(())
    }

    /// The lines of a key by its blob (RFC 4253, 6.6), in their order.
    pub fn of_blob(&self, blob: &[u8]) -> impl Iterator<Item = &Arc<AuthorizedKey>> {
        let places = self.by_blob.get(blob).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.lines.get(*place))
    }

    /// The lines of an authority by the blob of its key, in their order.
    pub fn of_authority(&self, blob: &[u8]) -> impl Iterator<Item = &Arc<AuthorizedKey>> {
        let places = self.authorities.get(blob).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.lines.get(*place))
    }

    /// Every line that counts.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Arc<AuthorizedKey>> {
        self.lines.iter()
    }

    /// The lines of each key of a user, and of each authority, in the order of their first ones.
    pub fn grouped(&self) -> impl Iterator<Item = Vec<Arc<AuthorizedKey>>> {
        let mut groups: Vec<_> = self.by_blob.values().chain(self.authorities.values()).collect();
        groups.sort_unstable();
        groups.into_iter().map(|places| {
            places.iter().filter_map(|place| self.lines.get(*place)).cloned().collect()
        })
    }

    /// Every line that does not.
    #[must_use]
    pub fn faults(&self) -> &[LineFault] {
        &self.faults
    }
}

/// Why a file with a private key lets nobody in.
const PRIVATE: &str =
    "it is a private key: give the public one, the file that ssh-keygen named .pub";

/// Whether a private key begins here: of OpenSSH, OpenSSL or PuTTY.
fn begins_private_key(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let is_pem = line.starts_with(b"-----BEGIN ") && line.ends_with(b"PRIVATE KEY-----");
    is_pem || line.starts_with(b"PuTTY-User-Key-File-")
}

/// Whether it ends here.
fn ends_private_key(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"-----END ") || line.starts_with(b"Private-MAC:")
}

/// What a line says.
#[derive(Debug)]
pub(crate) struct ReadKey {
    key: PublicKey,
    blob: Vec<u8>,
    comment: String,
    options: Options,
}

/// Reads a line; `None` when there is no key in it.
pub(crate) fn line_key(
    line: &[u8],
    accepts_variable: &dyn Fn(&str) -> bool,
) -> Result<Option<ReadKey>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8 text".to_owned())?;
    let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains('\0') {
        return Err("there is a NUL in the line".to_owned());
    }
    let (options, rest) = if begins_with_key(line) { ("", line) } else { split_options(line) };
    let rest = rest.trim_start_matches(BLANKS);
    let mut fields = rest.splitn(3, BLANKS);
    let kind = fields.next().unwrap_or_default();
    // Blanks between the type and the key are as many as one likes.
    let rest = rest.strip_prefix(kind).unwrap_or_default().trim_start_matches(BLANKS);
    let (encoded, comment) = rest.split_once(BLANKS).unwrap_or((rest, ""));
    if kind.is_empty() || encoded.is_empty() {
        return Err("there is no key in the line: TYPE KEY is missing".to_owned());
    }
    let (key, blob) = public_key(kind, encoded)?;
    let options = Options::parse(options, accepts_variable)?;
    check_security_key(&key, &options)?;
    Ok(Some(ReadKey { key, blob, comment: comment.trim().to_owned(), options }))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Whether a line begins with a key and not with options: sshd tries the one and then the other.
fn begins_with_key(line: &str) -> bool {
    let first = line.split(BLANKS).next().unwrap_or_default();
    ["ssh-", "ecdsa-", "sk-", "rsa-", "webauthn-"].iter().any(|begin| first.starts_with(begin))
}

/// Options, and what follows them: blanks between quotes do not end them.
fn split_options(line: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = line.bytes().position(|byte| {
        let is_quote = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_quoted ^= is_quote;
        !is_quoted && matches!(byte, b' ' | b'\t')
    });
    line.split_at_checked(end.unwrap_or(line.len())).unwrap_or((line, ""))
}

/// The key and its blob, if it is one that may be used.
fn public_key(kind: &str, encoded: &str) -> Result<(PublicKey, Vec<u8>), String> {
    if kind.contains("-cert-") {
        return Err(
            "it is a certificate: give the key of its authority, with cert-authority".to_owned()
        );
    }
    if kind == "ssh-dss" {
        return Err("DSA keys are too weak: use ed25519".to_owned());
    }
    let key = PublicKey::from_openssh(&format!("{kind} {encoded}"))
        .map_err(|_| format!("{} and what follows it are no key", crate::login::shown(kind)))?;
    check_key(key.key_data())?;
    let blob = key.to_bytes().map_err(|_| "it cannot be encoded again".to_owned())?;
    Ok((key, blob))
}

/// Whether a key is of a kind and strength that is trusted.
pub(crate) fn check_key(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) => check_rsa(rsa),
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        _ => {
            let kind = key.algorithm();
            Err(format!("keys of type {} are not supported: use ed25519", kind.as_str()))
        }
    }
}

fn check_rsa(key: &RsaPublicKey) -> Result<(), String> {
    let modulus = key.n().as_positive_bytes().unwrap_or_default();
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = key.key_size().saturating_sub(zeros);
    if bits < RSA_BITS_MIN {
        return Err(format!("its {bits} bits of RSA are fewer than {RSA_BITS_MIN}: use ed25519"));
    }
    if bits > RSA_BITS_MAX {
        return Err(format!(
            "its {bits} bits of RSA are more than the {RSA_BITS_MAX} that can be checked: use ed25519"
        ));
    }
    let exponent = key.e().as_positive_bytes().unwrap_or_default();
    if matches!(exponent, [] | [1]) || exponent.last().is_none_or(|byte| byte % 2 == 0) {
        return Err("its RSA exponent makes it no key at all: use ed25519".to_owned());
    }
    Ok(())
}

/// What is demanded of a security key cannot be had of another.
fn check_security_key(key: &PublicKey, options: &Options) -> Result<(), String> {
    if options.verify_required && !options.cert_authority && !is_security_key(key) {
        return Err("verify-required is for security keys (sk-…), and this is none".to_owned());
    }
    Ok(())
}
