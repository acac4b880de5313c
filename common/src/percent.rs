//! Percent-escapes of URLs (RFC 3986, section 2.1).

#[cfg(test)]
mod tests;

/// The text with its escapes undone; `None` for a `%` without two hexadecimal digits, or when UTF-8 does not come out.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}
