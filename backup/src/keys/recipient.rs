//! Public halves: for whom content is encrypted.

use age::x25519::Recipient;

use super::identity;

#[cfg(test)]
mod tests;

/// Most recipients of a repository. Each adds about 100 bytes to every pack.
pub const RECIPIENTS_MAX: usize = 16;

/// Those who can read what is written from now on: at least one, each once, sorted by their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Vec<Recipient>);

/// Why texts name no recipients.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// No text.
    #[error("no recipient is named: give one that begins with age1")]
    Empty,
    /// A private half. It is not repeated.
    #[error("a private key is given as recipient: give the public half, which begins with age1")]
    Private,
    /// Something that begins as the public half of some key.
    #[error("{0:?} is no recipient (age1…); plugins and SSH keys are not taken")]
    Unknown(String),
    /// Something else. It is not repeated: a passphrase may have been given by mistake.
    #[error("what is given is no recipient, which begins with age1 (it is not repeated here)")]
    Nameless,
    /// Too many.
    #[error("more than {RECIPIENTS_MAX} recipients are named")]
    TooMany,
}

/// Characters of an unknown recipient that are repeated.
const SHOWN_CHARS: usize = 80;

/// How what is public begins.
const PUBLIC: [&str; 2] = ["age1", "ssh-"];

impl Recipients {
    /// Those of these texts.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, RecipientError> {
        let mut recipients: Vec<(String, Recipient)> = Vec::new();
        for text in texts {
            if identity::is_in(text) {
                return Err(RecipientError::Private);
            }
            let recipient: Recipient = text.parse().map_err(|_| unknown(text))?;
            recipients.push((recipient.to_string(), recipient));
            if recipients.len() > RECIPIENTS_MAX {
                return Err(RecipientError::TooMany);
            }
        }
        recipients.sort_by(|(left, _), (right, _)| left.cmp(right));
        recipients.dedup_by(|(left, _), (right, _)| left == right);
        if recipients.is_empty() {
            return Err(RecipientError::Empty);
        }
        Ok(Self(recipients.into_iter().map(|(_, recipient)| recipient).collect()))
    }

    /// Their texts, sorted.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }

    /// How many they are: at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// For encrypting.
    pub fn all(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.0.iter().map(|recipient| recipient as &dyn age::Recipient)
    }
}

fn unknown(text: &str) -> RecipientError {
    if PUBLIC.iter().any(|begin| text.starts_with(begin)) {
        RecipientError::Unknown(text.chars().take(SHOWN_CHARS).collect())
    } else {
        RecipientError::Nameless
    }
}

/// The recipients of a file: one a line, comments behind `#`. Each with the number of its line, from 1.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
