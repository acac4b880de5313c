//! Certificates of users (OpenSSH, PROTOCOL.certkeys): what they allow is what the line of their authority allows, less
//! what they take away themselves. Everything critical must be understood and kept, or the certificate does not count.

use std::net::IpAddr;

use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use crate::authorized_keys::{AddressList, AuthorizedKey, Issued, check_key, forced_command};
use crate::login::shown;

#[cfg(test)]
mod tests;

/// Principals of one certificate.
const PRINCIPALS_MAX: usize = 256;

const FORCE_COMMAND: &str = "force-command";
const SOURCE_ADDRESS: &str = "source-address";
const VERIFY_REQUIRED: &str = "verify-required";

/// Why a certificate does not count. For the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No line has this authority.
    #[error("the authority of the certificate is not known")]
    Authority,
    /// The authority has signed something else, or with something that is not trusted.
    #[error("the certificate is not signed by its authority, or with SHA-1")]
    Signature,
    /// It is for a host.
    #[error("the certificate is for a host")]
    Host,
    /// Its key.
    #[error("the key of the certificate cannot be used: {0}")]
    Key(String),
    /// It has begun to count later, or ended before.
    #[error("the certificate is not valid yet, or not any more")]
    Time,
    /// It is for everybody.
    #[error("the certificate names no principals, or with a wildcard")]
    Principals,
    /// It is for somebody else.
    #[error("the certificate has no principal that its authority is trusted for")]
    Nobody,
    /// It is for somewhere else.
    #[error("the certificate is not for this address")]
    Address,
    /// Something in it must be kept that is not understood.
    #[error("the certificate has the critical option {}, which is not known or wrong", shown(.0))]
    Critical(String),
    /// Something in it is not as it must be.
    #[error("the certificate has a wrong extension {}", shown(.0))]
    Extension(String),
    /// The line of the authority forces something else.
    #[error("the certificate and the line of its authority force different commands")]
    Commands,
}

/// What every certificate must be, whoever uses it; the line of its authority is looked at by [`narrowed`].
pub fn check(
    certificate: &Certificate,
    peer: IpAddr,
    now: Timestamp,
) -> Result<(), CertificateError> {
    let signed_with = certificate.signature().algorithm();
    let is_trusted = !matches!(
        signed_with,
        Algorithm::Rsa { hash: None } | Algorithm::Dsa | Algorithm::Other(_)
    );
    if !is_trusted || certificate.verify_signature().is_err() {
        return Err(CertificateError::Signature);
    }
    if certificate.cert_type() != CertType::User {
        return Err(CertificateError::Host);
    }
    check_key(certificate.public_key()).map_err(CertificateError::Key)?;
    // In seconds from 1970 on; before that nothing was signed.
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    if !(certificate.valid_after()..certificate.valid_before()).contains(&now) {
        return Err(CertificateError::Time);
    }
    let principals = certificate.valid_principals();
    let is_wild = |name: &String| name.is_empty() || name.contains(['*', '?']);
    if principals.is_empty() || principals.len() > PRINCIPALS_MAX || principals.iter().any(is_wild)
    {
        return Err(CertificateError::Principals);
    }
    for (name, value) in certificate.critical_options().iter() {
        let wrong = || CertificateError::Critical(name.clone());
        match name.as_str() {
            FORCE_COMMAND if !value.is_empty() => {}
            SOURCE_ADDRESS => {
                let addresses = source_addresses(value).ok_or_else(wrong)?;
                if !addresses.contains(peer) {
                    return Err(CertificateError::Address);
                }
            }
            VERIFY_REQUIRED if value.is_empty() => {}
            _ => return Err(wrong()),
        }
    }
    // Those that mean something here have no value; others may be passed over, whatever they are.
    let known =
        ["permit-pty", "permit-agent-forwarding", "permit-port-forwarding", "no-touch-required"];
    for (name, value) in certificate.extensions().iter() {
        if known.contains(&name.as_str()) && !value.is_empty() {
            return Err(CertificateError::Extension(name.clone()));
        }
    }
    Ok(())
}

/// Addresses and networks only: patterns and exceptions are not among them (PROTOCOL.certkeys).
fn source_addresses(text: &str) -> Option<AddressList> {
    if text.contains(['!', '*', '?', ' ']) {
        return None;
    }
    AddressList::parse(text).ok()
}

/// The line of an authority as it counts for a certificate that was [`check`]ed: what both allow.
pub fn narrowed(
    line: &AuthorizedKey,
    certificate: &Certificate,
) -> Result<AuthorizedKey, CertificateError> {
    let names = certificate.valid_principals();
    if !line.options.principals.iter().any(|trusted| names.contains(trusted)) {
        return Err(CertificateError::Nobody);
    }
    let has = |name: &str| certificate.extensions().contains_key(name);
    let critical = certificate.critical_options();
    let mut options = line.options.clone();
    options.pty &= has("permit-pty");
    options.agent_forwarding &= has("permit-agent-forwarding");
    options.port_forwarding &= has("permit-port-forwarding");
    // Both must say that a touch is not needed; either may say that a PIN is.
    options.no_touch_required &= has("no-touch-required");
    options.verify_required |= critical.contains_key(VERIFY_REQUIRED);
    if let Some(command) = critical.get(FORCE_COMMAND) {
        let wrong = |_| CertificateError::Critical(FORCE_COMMAND.to_owned());
        let command = forced_command(command.clone()).map_err(wrong)?;
        if options.command.as_ref().is_some_and(|other| *other != command) {
            return Err(CertificateError::Commands);
        }
        options.command = Some(command);
    }
    // One that is valid for ever has a number here that is no time.
    let end = i64::try_from(certificate.valid_before()).ok();
    if let Some(end) = end.and_then(|end| Timestamp::from_second(end).ok()) {
        options.expiry = Some(options.expiry.map_or(end, |other| other.min(end)));
    }
    let key = PublicKey::new(certificate.public_key().clone(), "");
    Ok(AuthorizedKey {
        owner: line.owner.clone(),
        source: line.source.clone(),
        line: line.line,
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        key,
        comment: line.comment.clone(),
        options,
        issued: Some(Issued {
            key_id: certificate.key_id().to_owned(),
            serial: certificate.serial(),
            authority: line.fingerprint.clone(),
        }),
    })
}

/// The blobs of the key and of the authority; `None` for an authority that is a certificate itself.
#[must_use]
pub fn blobs(certificate: &Certificate) -> Option<(Vec<u8>, Vec<u8>)> {
    let blob = |key: &KeyData| match key {
        KeyData::Certificate(_) => None,
        key => PublicKey::new(key.clone(), "").to_bytes().ok(),
    };
    blob(certificate.public_key()).zip(blob(certificate.signature_key()))
}
