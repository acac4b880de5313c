//! Command lines that may be run without a shell.

/// Words are not longer, all together. In bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The words of a line that means the same without a shell: no quotes, variables, patterns or operators, and no
/// assignment before the program.
#[must_use]
pub fn plain_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" \t_-./:,@%+=".contains(byte);
    if line.len() > LINE_BYTES_MAX || !line.iter().all(is_plain) {
        return None;
    }
    let words: Vec<_> = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let first = words.first()?;
    (!first.contains(&b'=')).then_some(words)
}

#[cfg(test)]
mod tests;
