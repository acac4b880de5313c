//! Private halves: what reads content.

use std::fmt;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Most identities of one file.
pub const IDENTITIES_MAX: usize = 16;

/// How every private half of an age recipient begins.
const PRIVATE: &str = "AGE-SECRET-KEY-";

/// Whether a private half is in a text, whatever stands around it: such a text is never repeated.
#[must_use]
pub fn is_in(text: &str) -> bool {
    text.to_ascii_uppercase().contains(PRIVATE)
}

/// Private halves of age recipients, as `age-keygen` makes them.
#[derive(Clone, Default)]
pub struct Identities(Vec<Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

/// Why a text holds no identities. No variant repeats any of it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing is in it.
    #[error("it holds no identity, a line that begins with AGE-SECRET-KEY-1")]
    Empty,
    /// Public halves.
    #[error("it holds a recipient, which is the public half: give the file with AGE-SECRET-KEY-1")]
    Public,
    /// Protected by a passphrase.
    #[error("it is encrypted itself: decrypt it with `age --decrypt`, for example into a pipe")]
    Encrypted,
    /// Something else.
    #[error("its line {0} is no identity (AGE-SECRET-KEY-1…); plugins and SSH keys are not taken")]
    Line(usize),
    /// Too many.
    #[error("it holds more than {IDENTITIES_MAX} identities")]
    TooMany,
}

impl Identities {
    /// Reads what `age-keygen` writes: an identity a line, comments behind `#`.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let mut identities = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with("age-encryption.org/") || line.starts_with("-----BEGIN AGE") {
                return Err(IdentityError::Encrypted);
            }
            if line.starts_with("age1") {
                return Err(IdentityError::Public);
            }
            identities.push(line.parse().map_err(|_| IdentityError::Line(number + 1))?);
            if identities.len() > IDENTITIES_MAX {
                return Err(IdentityError::TooMany);
            }
        }
        if identities.is_empty() { Err(IdentityError::Empty) } else { Ok(Self(identities)) }
    }

    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(vec![Identity::generate()])
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The public halves, as text.
    pub fn public(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|identity| identity.to_public().to_string())
    }

    /// For decrypting.
    pub fn all(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }

    /// One a line, as [`Self::parse`] reads them.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for identity in &self.0 {
            text.push_str(identity.to_string().expose_secret());
            text.push('\n');
        }
        text
    }
}
