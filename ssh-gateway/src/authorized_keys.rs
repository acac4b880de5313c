//! Who may come in: keys with their options, in the format of sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
//!
//! What a line asks for is kept or the line does not count: an option that cannot be enforced is no reason to let
//! somebody in without it. Such a line is said once, with its number; the others count.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::ssh_key::public::{KeyData, RsaPublicKey};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::KeySource;

mod addresses;
mod options;
mod patterns;

pub use addresses::AddressList;
pub use options::{INTERNAL_SFTP, ListenPermit, OpenPermit, Options};
pub use patterns::PatternList;

#[cfg(test)]
mod tests;

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Longest line, in bytes: an RSA key of 16384 bits and a page of options.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Most keys of all files.
pub const KEYS_MAX: usize = 10_000;

/// Weakest RSA key, in bits.
const RSA_BITS_MIN: u32 = 2048;

/// Largest RSA key, in bits: the library that checks signatures takes no larger ones.
const RSA_BITS_MAX: u32 = 8192;

/// Bits of a mode that let others change a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A key that may come in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
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
}

/// Every key that may come in. A key may be in more than one line: the first that fits is used.
#[derive(Debug, Clone, Default)]
pub struct AuthorizedKeys {
    lines: Vec<Arc<AuthorizedKey>>,
    by_blob: HashMap<Vec<u8>, Vec<usize>>,
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
    /// A file cannot be read.
    #[error("cannot read the authorized keys in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Somebody else may change a file.
    #[error(
        "{} can be written by others than its owner: chmod go-w it, or its keys are anybody's", path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// What is at the path has no name any more: a mount of the file alone, and somebody has put another one there.
    #[error(
        "{} was replaced or removed outside, and only the old one is seen here: mount its directory, not the file, and start the gateway again",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A file is too large.
    #[error("{name} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The file or variable.
        name: String,
    },
    /// There are too many keys.
    #[error("there are more than {KEYS_MAX} authorized keys")]
    TooMany,
    /// Nobody could come in.
    #[error("there is no key in {names} that can be accepted")]
    None {
        /// Files and variables.
        names: String,
    },
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
            let (name, bytes) = match source {
                KeySource::File(path) => (path.display().to_string(), read(path)?),
                KeySource::Text { variable, text } => {
                    ((*variable).to_owned(), text.as_bytes().to_vec())
                }
            };
            keys.add(&name, &bytes, accepts_variable)?;
            names.push(name);
        }
        if keys.lines.is_empty() {
            return Err(KeysError::None { names: names.join(", ") });
        }
        Ok(keys)
    }

    /// Adds the keys of one text.
    fn add(
        &mut self,
        name: &str,
        bytes: &[u8],
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<(), KeysError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(KeysError::TooLarge { name: name.to_owned() });
        }
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = at + 1;
            match line_key(line, accepts_variable) {
                Ok(None) => {}
                Ok(Some(read)) => self.push(name, number, read)?,
                Err(reason) => {
                    let source = name.to_owned();
                    self.faults.push(LineFault { source, line: number, reason });
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &str, line: usize, read: ReadKey) -> Result<(), KeysError> {
        if self.lines.len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let at = self.lines.len();
        self.by_blob.entry(read.blob).or_default().push(at);
        self.lines.push(Arc::new(AuthorizedKey {
            source: name.to_owned(),
            line,
            fingerprint: read.key.fingerprint(HashAlg::Sha256).to_string(),
            comment: read.comment,
            key: read.key,
            options: read.options,
        }));
        Ok(())
    }

    /// The lines of a key by its blob (RFC 4253, 6.6), in their order.
    pub fn of_blob(&self, blob: &[u8]) -> impl Iterator<Item = &Arc<AuthorizedKey>> {
        let places = self.by_blob.get(blob).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.lines.get(*place))
    }

    /// Every line that counts.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &AuthorizedKey> {
        self.lines.iter().map(Arc::as_ref)
    }

    /// Every line that does not.
    #[must_use]
    pub fn faults(&self) -> &[LineFault] {
        &self.faults
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, KeysError> {
    let unreadable = |source| KeysError::Unreadable { path: path.clone(), source };
    let open = || {
        let file = File::open(path)?;
        let data = file.metadata()?;
        Ok((file, data))
    };
    let (mut file, mut data) = open().map_err(unreadable)?;
    // An editor may have put a new file there between the two calls: then that one is found now.
    if data.nlink() == 0 {
        (file, data) = open().map_err(unreadable)?;
    }
    if data.nlink() == 0 {
        return Err(KeysError::Replaced { path: path.clone() });
    }
    let mode = data.mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(KeysError::Writable { path: path.clone() });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// What a line says.
struct ReadKey {
    key: PublicKey,
    blob: Vec<u8>,
    comment: String,
    options: Options,
}

/// Reads a line; `None` when there is no key in it.
fn line_key(
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
        return Err("it is a certificate: certificates are not in this release".to_owned());
    }
    if kind == "ssh-dss" {
        return Err("DSA keys are too weak: use ed25519".to_owned());
    }
    let key = PublicKey::from_openssh(&format!("{kind} {encoded}"))
        .map_err(|_| format!("{} and what follows it are no key", crate::login::shown(kind)))?;
    match key.key_data() {
        KeyData::Rsa(rsa) => check_rsa(rsa)?,
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => {}
        _ => return Err(format!("keys of type {kind} are not supported: use ed25519")),
    }
    let blob = key.to_bytes().map_err(|_| "it cannot be encoded again".to_owned())?;
    Ok((key, blob))
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

/// Keys of security keys (U2F): the signature says whether somebody touched it and gave a PIN, but the library does
/// not hand that to us.
fn check_security_key(key: &PublicKey, options: &Options) -> Result<(), String> {
    let is_security_key =
        matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    if options.verify_required {
        return Err("verify-required cannot be enforced in this release".to_owned());
    }
    if is_security_key && !options.no_touch_required {
        return Err(
            "whether a security key was touched cannot be enforced in this release: add no-touch-required if \
             the key may be used without it"
                .to_owned(),
        );
    }
    Ok(())
}
