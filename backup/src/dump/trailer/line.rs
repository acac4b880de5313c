//! Texts whose last lines say that they are whole.

use super::Flaw;

/// Bytes at the end in which the line must begin: more than a line may have that is looked for
/// ([`TEXT_BYTES_MAX`](crate::database::TEXT_BYTES_MAX)), and comments or a `\unrestrict` line may follow it.
const END_BYTES_MAX: usize = 4096;

/// Looks for the line.
#[derive(Debug)]
pub(in super::super) struct Line {
    text: String,
    /// What it proves.
    proof: &'static str,
    end: Vec<u8>,
    /// Something before `end` is gone.
    is_cut: bool,
}

impl Line {
    pub(super) fn new(text: impl Into<String>, proof: &'static str) -> Self {
        Self { text: text.into(), proof, end: Vec::new(), is_cut: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let unseen = bytes.len().saturating_sub(END_BYTES_MAX);
        if unseen > 0 {
            self.end.clear();
        }
        self.end.extend_from_slice(bytes.get(unseen..).unwrap_or_default());
        self.is_cut |= unseen > 0;
        if self.end.len() > 4 * END_BYTES_MAX {
            self.end.drain(..self.end.len() - END_BYTES_MAX);
            self.is_cut = true;
        }
    }

    pub(super) fn finish(self) -> Result<&'static str, Flaw> {
        let mut lines = self.end.split(|byte| *byte == b'\n');
        if self.is_cut {
            // The end of a line whose beginning nobody has.
            lines.next();
        }
        let line = lines.rev().find(|line| !is_aside(line)).unwrap_or_default();
        if line.starts_with(self.text.as_bytes()) {
            return Ok(self.proof);
        }
        Err(Flaw::new(format!("it does not end with the line `{}`", self.text)))
    }
}

/// Lines that may follow the one that counts.
fn is_aside(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || line == b"--" || line.starts_with(b"\\unrestrict")
}
