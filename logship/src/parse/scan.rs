//! A line that is read from left to right.

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a>(pub(super) &'a str);

impl<'a> Scan<'a> {
    /// Up to the first `end`, which is passed over too.
    pub(super) fn until(&mut self, end: &str) -> Option<&'a str> {
        let (text, rest) = self.0.split_once(end)?;
        self.0 = rest;
        Some(text)
    }

    /// The next word, and the spaces behind it; `None` at the end.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let end = self.0.find(' ').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.trim_start_matches(' ');
        (!word.is_empty()).then_some(word)
    }

    /// Passes over `text`, which must be there.
    pub(super) fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// So many bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    /// What stands between two quotes, the first of which is next; a backslash keeps a quote from being one.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        self.skip("\"")?;
        let mut is_escaped = false;
        let end = self.0.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        let text = self.take(end)?;
        self.skip("\"")?;
        Some(text)
    }
}

/// Whether it is a number of at least one digit.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
