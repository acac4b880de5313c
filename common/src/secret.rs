//! Text that must not be printed and does not stay in memory.

use std::fmt;

use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// A password, key or token. Overwritten with zeros when dropped; never shown by `Debug`, and it
/// has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}
