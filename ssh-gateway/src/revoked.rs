//! Keys and certificates that do not count any more: key revocation lists of ssh-keygen(1) (OpenSSH, PROTOCOL.krl), or
//! public keys, a line each. What is in a list and not understood makes the whole list unusable: it may have been the
//! one that matters.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use russh::keys::ssh_encoding::Decode;
use russh::keys::ssh_key::Mpint;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg, PublicKey};

use crate::trusted_file::{self, TrustedFileError};

#[cfg(test)]
mod tests;

/// How a binary list begins.
const MAGIC: &[u8] = b"SSHKRL\n\0";
/// The one format that there is.
const FORMAT: u32 = 1;
/// Most entries of all lists: keys, fingerprints, identifiers, serial numbers and spans of them.
const ENTRIES_MAX: usize = 1_000_000;

const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const SECTION_FINGERPRINT_SHA1: u8 = 3;
const SECTION_SIGNATURE: u8 = 4;
const SECTION_FINGERPRINT_SHA256: u8 = 5;
const SECTION_EXTENSION: u8 = 255;
const CERTIFICATES_SERIAL_LIST: u8 = 0x20;
const CERTIFICATES_SERIAL_RANGE: u8 = 0x21;
const CERTIFICATES_SERIAL_BITMAP: u8 = 0x22;
const CERTIFICATES_KEY_ID: u8 = 0x23;
const CERTIFICATES_EXTENSION: u8 = 0x39;

/// Everything that is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Blobs of keys.
    keys: HashSet<Vec<u8>>,
    /// SHA-256 of blobs of keys.
    fingerprints: HashSet<Vec<u8>>,
    /// By the blob of their authority; those of any authority under an empty one.
    certificates: HashMap<Vec<u8>, RevokedCertificates>,
    entries: usize,
}

/// Certificates of one authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RevokedCertificates {
    serials: HashSet<u64>,
    spans: Vec<RangeInclusive<u64>>,
    key_ids: HashSet<Vec<u8>>,
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// The file is not believed.
    #[error(transparent)]
    File(#[from] TrustedFileError),
    /// It is not understood.
    #[error("the list of revoked keys {} cannot be used: {fault}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

impl Revoked {
    /// Reads every list. Blocks.
    pub fn load(paths: &[PathBuf]) -> Result<Self, RevokedError> {
        let mut revoked = Self::default();
        for path in paths {
            let bytes = trusted_file::read(path)?;
            revoked.add(&bytes).map_err(|fault| unusable(path, fault))?;
        }
        Ok(revoked)
    }

    /// Whether a key is revoked.
    #[must_use]
    pub fn has_key(&self, blob: &[u8]) -> bool {
        self.keys.contains(blob)
            || (!self.fingerprints.is_empty()
                && self.fingerprints.contains(&HashAlg::Sha256.digest(blob)))
    }

    /// Whether a certificate, its key or its authority is revoked; `key` and `authority` are their blobs.
    #[must_use]
    pub fn has_certificate(&self, certificate: &Certificate, key: &[u8], authority: &[u8]) -> bool {
        let of_any: &[u8] = &[];
        let is_listed = [authority, of_any]
            .iter()
            .any(|of| self.certificates.get(*of).is_some_and(|revoked| revoked.has(certificate)));
        is_listed || self.has_key(key) || self.has_key(authority)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        match bytes.strip_prefix(MAGIC) {
            Some(list) => self.add_list(list),
            None => self.add_lines(bytes),
        }
    }

    fn count(&mut self) -> Result<(), String> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(format!("there are more than {ENTRIES_MAX} entries"));
        }
        Ok(())
    }

    fn add_lines(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| "it is neither a list by ssh-keygen -k nor a text".to_owned())?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("line {} is no public key", number + 1);
            let key = PublicKey::from_openssh(line).map_err(|_| wrong())?;
            if matches!(key.key_data(), KeyData::Certificate(_)) {
                let number = number + 1;
                return Err(format!(
                    "line {number} is a certificate: give its serial number or identifier by ssh-keygen -k, or its key"
                ));
            }
            self.count()?;
            self.keys.insert(key.to_bytes().map_err(|_| wrong())?);
        }
        Ok(())
    }

    fn add_list(&mut self, list: &[u8]) -> Result<(), String> {
        let mut rest = list;
        let format = number::<u32>(&mut rest)?;
        if format != FORMAT {
            return Err(format!("it is in format {format}, and only {FORMAT} is known"));
        }
        // Its version, its date, and flags, none of which mean anything.
        for _ in 0..3 {
            number::<u64>(&mut rest)?;
        }
        // What is reserved, and a comment.
        string(&mut rest)?;
        string(&mut rest)?;
        while !rest.is_empty() {
            let kind = number::<u8>(&mut rest)?;
            let section = string(&mut rest)?;
            let mut section = section.as_slice();
            match kind {
                SECTION_CERTIFICATES => self.add_certificates(section)?,
                SECTION_EXPLICIT_KEY => {
                    while !section.is_empty() {
                        self.count()?;
                        self.keys.insert(string(&mut section)?);
                    }
                }
                SECTION_FINGERPRINT_SHA256 => {
                    while !section.is_empty() {
                        self.count()?;
                        self.fingerprints.insert(string(&mut section)?);
                    }
                }
                SECTION_FINGERPRINT_SHA1 => {
                    return Err(
                        "it has SHA-1 fingerprints: make it with sha256: or whole keys".to_owned()
                    );
                }
                SECTION_SIGNATURE => {
                    return Err(
                        "it is signed, which is not supported: leave the signature out".to_owned()
                    );
                }
                SECTION_EXTENSION => extension(section)?,
                kind => return Err(format!("it has a section of the unknown kind {kind}")),
            }
        }
        Ok(())
    }

    fn add_certificates(&mut self, section: &[u8]) -> Result<(), String> {
        let mut rest = section;
        let authority = string(&mut rest)?;
        string(&mut rest)?;
        let mut found = self.certificates.remove(&authority).unwrap_or_default();
        while !rest.is_empty() {
            let kind = number::<u8>(&mut rest)?;
            let part = string(&mut rest)?;
            let mut part = part.as_slice();
            match kind {
                CERTIFICATES_SERIAL_LIST => {
                    while !part.is_empty() {
                        self.count()?;
                        found.serials.insert(number(&mut part)?);
                    }
                }
                CERTIFICATES_SERIAL_RANGE => {
                    self.count()?;
                    let span = number::<u64>(&mut part)?..=number::<u64>(&mut part)?;
                    if span.is_empty() || !part.is_empty() {
                        return Err("a span of serial numbers is none".to_owned());
                    }
                    found.spans.push(span);
                }
                CERTIFICATES_SERIAL_BITMAP => {
                    let serials = bitmap(&mut part)?;
                    for serial in serials {
                        self.count()?;
                        found.serials.insert(serial);
                    }
                }
                CERTIFICATES_KEY_ID => {
                    while !part.is_empty() {
                        self.count()?;
                        found.key_ids.insert(string(&mut part)?);
                    }
                }
                CERTIFICATES_EXTENSION => extension(part)?,
                kind => {
                    return Err(format!("it revokes certificates in the unknown way {kind:#04x}"));
                }
            }
        }
        self.certificates.insert(authority, found);
        Ok(())
    }
}

impl RevokedCertificates {
    fn has(&self, certificate: &Certificate) -> bool {
        let serial = certificate.serial();
        // 0 is what authorities write that number nothing: it names no certificate.
        let is_numbered = serial != 0;
        self.key_ids.contains(certificate.key_id().as_bytes())
            || (is_numbered
                && (self.serials.contains(&serial)
                    || self.spans.iter().any(|span| span.contains(&serial))))
    }
}

fn unusable(path: &Path, fault: String) -> RevokedError {
    RevokedError::Unusable { path: path.to_owned(), fault }
}

fn number<T: Decode>(rest: &mut &[u8]) -> Result<T, String> {
    T::decode(rest).map_err(|_| "it ends too early".to_owned())
}

fn string(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    number(rest)
}

/// An offset, and a number whose bit N stands for the serial number offset + N.
fn bitmap(part: &mut &[u8]) -> Result<Vec<u64>, String> {
    let wrong = || "a bitmap of serial numbers is none".to_owned();
    let offset = number::<u64>(part)?;
    let bits = Mpint::decode(part).map_err(|_| wrong())?;
    let bits = bits.as_positive_bytes().ok_or_else(wrong)?;
    if !part.is_empty() || bits.len() > ENTRIES_MAX / 8 {
        return Err(wrong());
    }
    let mut serials = Vec::new();
    for (place, byte) in (0_u64..).zip(bits.iter().rev()) {
        for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
            let serial = offset.checked_add(place * 8 + bit).ok_or_else(wrong)?;
            serials.push(serial);
        }
    }
    Ok(serials)
}

/// An extension may be passed over, unless it says that it may not.
fn extension(section: &[u8]) -> Result<(), String> {
    let mut rest = section;
    let name = string(&mut rest)?;
    let is_critical = number::<u8>(&mut rest)? != 0;
    string(&mut rest)?;
    if is_critical || !rest.is_empty() {
        let name = crate::login::shown(&String::from_utf8_lossy(&name));
        return Err(format!("it has the critical extension {name}, which is not known"));
    }
    Ok(())
}
