//! What a program said on its standard error: the end of it, in one line, without secrets.

#[cfg(test)]
mod tests;

/// Bytes that are kept: the last ones, where the reason is.
const KEPT_BYTES_MAX: usize = 4096;

/// Characters that are shown.
const SHOWN_CHARS_MAX: usize = 600;

/// Words before a secret, in lower case.
const SECRET_WORDS: [&str; 7] =
    ["password", "passwd", "pwd", "secret", "token", "identified by", "auth"];

/// The last words of a program.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    bytes: Vec<u8>,
}

impl Complaint {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * KEPT_BYTES_MAX {
            self.bytes.drain(..self.bytes.len() - KEPT_BYTES_MAX);
        }
    }

    /// One line; empty when nothing was said.
    pub(super) fn text(&self) -> String {
        let kept = self.bytes.len().saturating_sub(KEPT_BYTES_MAX);
        let text = String::from_utf8_lossy(self.bytes.get(kept..).unwrap_or_default());
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = redacted(&lines.join("; "));
        let text: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
        let start = text.len().saturating_sub(SHOWN_CHARS_MAX);
        text.iter().skip(start).collect()
    }
}

/// The text without what stands behind a word for a secret and `=`, `:` or a space and a quote, and without
/// passwords in URLs.
pub(super) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The quote that ends a secret which has spaces.
    let mut open: Option<char> = None;
    for (number, word) in text.split(' ').enumerate() {
        if let Some(quote) = open {
            if word.contains(quote) {
                open = None;
            }
            continue;
        }
        if number > 0 {
            out.push(' ');
        }
        let before = out.to_ascii_lowercase();
        let before = before.trim_end();
        let follows = SECRET_WORDS.iter().any(|secret| {
            let name = before.strip_suffix([':', '=']).unwrap_or(before).trim_end();
            name.trim_end_matches(['\'', '"']).ends_with(secret)
                && (before.ends_with([':', '=']) || word.starts_with(['\'', '"', '=']))
        });
        if follows && !matches!(word, "" | "=" | ":") {
            out.push('…');
            open = unended(word);
        } else {
            let shown = without_value(word);
            if shown.ends_with('…') {
                let value = word.get(shown.len() - '…'.len_utf8()..);
                open = value.and_then(unended);
            }
            out.push_str(&shown);
        }
    }
    out
}

/// The quote that a value begins with and that does not come again in it.
fn unended(value: &str) -> Option<char> {
    let value = value.trim_start_matches('=');
    let quote = value.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    (!value.get(1..)?.contains(quote)).then_some(quote)
}

fn without_value(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((account, place)) = rest.rsplit_once('@')
    {
        let user = account.split(':').next().unwrap_or_default();
        return format!("{scheme}://{user}:…@{place}");
    }
    for at in lower.char_indices().filter(|(_, c)| matches!(c, '=' | ':')).map(|(at, _)| at) {
        let name = lower.get(..at).unwrap_or_default().trim_end_matches(['\'', '"']);
        let value = lower.get(at + 1..).unwrap_or_default();
        if !value.is_empty() && SECRET_WORDS.iter().any(|secret| name.ends_with(secret)) {
            return format!("{}…", word.get(..=at).unwrap_or_default());
        }
    }
    word.to_owned()
}
