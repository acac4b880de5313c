//! What a client has signed to prove that it holds a key: verified again by the broker, which believes net nothing that
//! it can look at itself.
//!
//! ```text
//! string  session identifier            RFC 4252, 7
//! byte    SSH_MSG_USERAUTH_REQUEST
//! string  user name
//! string  "ssh-connection"
//! string  "publickey"
//! boolean TRUE
//! string  algorithm
//! string  key or certificate
//! ```

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;

use russh::keys::key::parse_public_key;
use russh::keys::signature::Verifier as _;
use russh::keys::ssh_encoding::Decode;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, Signature};

use crate::wire::net::Signed;

#[cfg(test)]
mod tests;

/// SSH_MSG_USERAUTH_REQUEST (RFC 4250, 4.1.2).
const USERAUTH_REQUEST: u8 = 50;
/// The one service (RFC 4254, 4).
const SERVICE: &str = "ssh-connection";
/// The one method (RFC 4252, 7).
const METHOD: &str = "publickey";
/// Bytes of a session identifier: a hash of the key exchange, SHA-256 or longer.
const SESSION_BYTES: RangeInclusive<usize> = 32..=64;
/// What the names of algorithms of certificates end with (OpenSSH, PROTOCOL.certkeys).
const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";
/// Flags and counter behind the signature of a security key (OpenSSH, PROTOCOL.u2f), in bytes.
const TRAILER_BYTES: usize = 5;
/// Flag: somebody was there, and touched it.
const USER_PRESENT: u8 = 0x01;
/// Flag: it knows who, by a PIN or a fingerprint.
const USER_VERIFIED: u8 = 0x04;
/// Sessions whose proofs are remembered; the oldest one is forgotten then.
const SESSIONS_MAX: usize = 100_000;

/// How a key was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It was only offered.
    Offered,
    /// It has signed; the flags are those of security keys, and false for others.
    Signed {
        /// Somebody has touched it.
        touched: bool,
        /// Somebody has given it a PIN or a fingerprint.
        verified: bool,
    },
}

/// A proof that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The session that it is for (RFC 4253, 7.2).
    pub session: Vec<u8>,
    /// How the key was used.
    pub presence: Presence,
}

/// Why something is no proof. It is net that is wrong then, for it has verified the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// What was signed is not a request to authenticate.
    #[error("what was signed is no request to authenticate")]
    Request,
    /// It is one, for another user or key.
    #[error("what was signed is for another user or key")]
    Other,
    /// The key cannot be read.
    #[error("the key cannot be read")]
    Key,
    /// The signature cannot be read, or is of another kind than was said.
    #[error("the signature cannot be read, or is of a kind that is not trusted")]
    Signature,
    /// The signature is somebody else's.
    #[error("the signature is not by the key")]
    Forged,
    /// It is an old one.
    #[error("the proof was used before")]
    Used,
}

/// Verifies that `user` has proved with `signed` that it holds the key in `blob`, a key or a certificate.
pub fn verify(user: &str, blob: &[u8], signed: &Signed) -> Result<Proof, ProofError> {
    let Asked { session, algorithm, is_certificate } = request(&signed.data, user, blob)?;
    let whole = key(blob).ok_or(ProofError::Key)?;
    let key = match &whole {
        // Whether the certificate counts is not asked here.
        KeyData::Certificate(certificate) => certificate.public_key(),
        key => key,
    };
    // A certificate is asked for by a name of its own, and a kind of signature says nothing about keys of another.
    if is_certificate != matches!(whole, KeyData::Certificate(_))
        || !is_of_kind(&key.algorithm(), &algorithm)
    {
        return Err(ProofError::Signature);
    }
    let mut rest = signed.signature.as_slice();
    let signature = Signature::decode(&mut rest).map_err(|_| ProofError::Signature)?;
    if !rest.is_empty() || signature.algorithm() != algorithm {
        return Err(ProofError::Signature);
    }
    key.verify(&signed.data, &signature).map_err(|_| ProofError::Forged)?;
    Ok(Proof { session, presence: presence(&signature) })
}

/// Largest key or certificate that is looked at, in bytes: an RSA key of 16,384 bits has 2 KiB, and a certificate has two
/// keys, a signature and its lists.
pub const BLOB_BYTES_MAX: usize = 32 * 1024;

/// The key or certificate in a blob that has nothing behind it.
#[must_use]
pub fn key(blob: &[u8]) -> Option<KeyData> {
    if blob.len() > BLOB_BYTES_MAX {
        return None;
    }
    let key = parse_public_key(blob).ok()?;
    (key.to_bytes().ok()? == blob).then(|| key.key_data().clone())
}

/// What a request says.
struct Asked {
    session: Vec<u8>,
    /// That of its signature.
    algorithm: Algorithm,
    /// Whether it names the algorithm of a certificate.
    is_certificate: bool,
}

/// Whether a key of the first kind makes signatures of the second.
fn is_of_kind(key: &Algorithm, signature: &Algorithm) -> bool {
    match (key, signature) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (key, signature) => key == signature,
    }
}

/// What a request for this user and key says.
fn request(data: &[u8], user: &str, blob: &[u8]) -> Result<Asked, ProofError> {
    let mut rest = data;
    let session = bytes(&mut rest)?;
    let kind = u8::decode(&mut rest).map_err(|_| ProofError::Request)?;
    let its_user = bytes(&mut rest)?;
    let (service, method) = (bytes(&mut rest)?, bytes(&mut rest)?);
    let is_signed = u8::decode(&mut rest).map_err(|_| ProofError::Request)?;
    let (algorithm, its_blob) = (bytes(&mut rest)?, bytes(&mut rest)?);
    let is_request = SESSION_BYTES.contains(&session.len())
        && kind == USERAUTH_REQUEST
        && service == SERVICE.as_bytes()
        && method == METHOD.as_bytes()
        && is_signed != 0
        && rest.is_empty();
    if !is_request {
        return Err(ProofError::Request);
    }
    if its_user != user.as_bytes() || its_blob != blob {
        return Err(ProofError::Other);
    }
    let name = std::str::from_utf8(&algorithm).map_err(|_| ProofError::Request)?;
    let algorithm = trusted(name).ok_or(ProofError::Signature)?;
    Ok(Asked { session, algorithm, is_certificate: name.ends_with(CERTIFICATE_SUFFIX) })
}

fn bytes(rest: &mut &[u8]) -> Result<Vec<u8>, ProofError> {
    Vec::decode(rest).map_err(|_| ProofError::Request)
}

/// The algorithm of this name, if its signatures are trusted: none with SHA-1.
fn trusted(name: &str) -> Option<Algorithm> {
    let algorithm = if name.ends_with(CERTIFICATE_SUFFIX) {
        Algorithm::new_certificate(name)
    } else {
        Algorithm::new(name)
    };
    match algorithm.ok()? {
        Algorithm::Rsa { hash: None } | Algorithm::Dsa | Algorithm::Other(_) => None,
        algorithm => Some(algorithm),
    }
}

fn presence(signature: &Signature) -> Presence {
    let is_of_security_key =
        matches!(signature.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let bytes = signature.as_bytes();
    let flags = bytes.len().checked_sub(TRAILER_BYTES).and_then(|at| bytes.get(at)).copied();
    let flags = flags.filter(|_| is_of_security_key).unwrap_or_default();
    Presence::Signed { touched: flags & USER_PRESENT != 0, verified: flags & USER_VERIFIED != 0 }
}

/// Sessions that somebody has authenticated in: a proof counts once, so that net cannot keep one for later.
#[derive(Debug, Default)]
pub struct Sessions {
    known: HashSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    /// Remembers a session; fails when it is known.
    pub fn take(&mut self, session: &[u8]) -> Result<(), ProofError> {
        if !self.known.insert(session.to_vec()) {
            return Err(ProofError::Used);
        }
        self.order.push_back(session.to_vec());
        if self.order.len() > SESSIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        Ok(())
    }
}
