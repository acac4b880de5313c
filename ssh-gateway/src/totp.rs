//! Codes of an authenticator application: RFC 6238 over RFC 4226, with what every such application can do (HMAC-SHA-1,
//! six digits, 30 s).

use std::fmt;
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha1::Sha1;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::trusted_file::{self, TrustedFileError};

#[cfg(test)]
mod tests;

/// A code counts for so long, in seconds (RFC 6238, 5.2).
const STEP_SECONDS: u64 = 30;
/// Clocks may differ by so many steps.
const SKEW_STEPS: u64 = 1;
/// Digits of a code.
const DIGITS: usize = 6;
/// One more than the largest code.
const CODES: u32 = 1_000_000;
/// Bytes of a new secret: as long as the hash (RFC 4226, 4).
const SECRET_BYTES: usize = 20;
/// Fewest bytes of a secret (RFC 4226, 4).
const SECRET_BYTES_MIN: usize = 16;
/// Most bytes of a secret: longer ones are hashed.
const SECRET_BYTES_MAX: usize = 64;
/// Who issues the codes, as the application shows it.
const ISSUER: &str = "ssh-gateway";

/// What the gateway and an application share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file is not believed.
    #[error(transparent)]
    File(#[from] TrustedFileError),
    /// Its file has no secret in it.
    #[error(
        "{} has no secret in it: give {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base32, as ssh-gateway totp new writes it",
        path.display()
    )]
    Text {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// A new one.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The one in a file that only its owner may read. Blocks.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(trusted_file::read_secret(path)?);
        Self::parse(&bytes).ok_or_else(|| SecretError::Text { path: path.to_owned() })
    }

    /// Reads base32 (RFC 4648, 6), in either case, with blanks and padding or without.
    fn parse(text: &[u8]) -> Option<Self> {
        let is_filler = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'-' | b'=');
        let plain = text.iter().filter(|byte| !is_filler(byte)).map(u8::to_ascii_uppercase);
        let plain = Zeroizing::new(plain.collect::<Vec<_>>());
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(&plain).ok()?);
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// In base32.
    #[must_use]
    pub fn base32(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&self.0))
    }

    /// What applications read, as text or as a QR code. The identity has no character that means something there.
    #[must_use]
    pub fn uri(&self, identity: &str) -> Zeroizing<String> {
        let (identity, secret) = (identity.replace('@', "%40"), self.base32());
        Zeroizing::new(format!(
            "otpauth://totp/{ISSUER}:{identity}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.as_str()
        ))
    }

    /// The step whose code was given, if it counts now. How long that takes says nothing about the code.
    #[must_use]
    pub fn step_of(&self, given: &[u8], now: Timestamp) -> Option<u64> {
        let given = number(given)?;
        let now = step(now);
        let mut found = Choice::from(0);
        let mut of = 0_u64;
        for step in now.saturating_sub(SKEW_STEPS)..=now + SKEW_STEPS {
            let is_it = self.code(step).ct_eq(&given);
            of.conditional_assign(&step, is_it);
            found |= is_it;
        }
        bool::from(found).then_some(of)
    }

    /// The code of a step (RFC 4226, 5.3).
    pub(crate) fn code(&self, step: u64) -> u32 {
        // It takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.0) else { return CODES };
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let offset = usize::from(hash.last().copied().unwrap_or_default() & 0xf);
        let four = hash.get(offset..offset + 4).unwrap_or_default();
        let four = <[u8; 4]>::try_from(four).unwrap_or_default();
        (u32::from_be_bytes(four) & 0x7fff_ffff) % CODES
    }
}

/// The step of a time (RFC 6238, 4.2).
#[must_use]
pub fn step(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or_default() / STEP_SECONDS
}

/// A code as it was typed: some applications show it with a blank.
fn number(given: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = given.iter().copied().filter(|byte| *byte != b' ').collect();
    if digits.len() != DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
