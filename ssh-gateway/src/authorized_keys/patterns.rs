//! Lists of patterns as in ssh_config(5), "PATTERNS": `*`, `?`, a comma between them, `!` before one that takes away.

/// Longest list, in bytes.
const LIST_BYTES_MAX: usize = 4096;

/// A list of patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternList(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    is_negated: bool,
    text: String,
}

impl PatternList {
    /// Reads a list of names of containers. One that could be no name's is a fault: what it is meant to take away would
    /// stay.
    pub fn parse(text: &str) -> Result<Self, String> {
        let patterns = elements(text)?.map(|(is_negated, text)| {
            let is_plain = |byte: u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*' | b'?')
            };
            if text.bytes().all(is_plain) {
                Ok(Pattern { is_negated, text: text.to_owned() })
            } else {
                Err(format!(
                    "{text:?} is no name of a container: give letters, digits, _ - and ., with * and ? for any, and ! \
                     right before one that is left out"
                ))
            }
        });
        let list = Self(patterns.collect::<Result<_, String>>()?);
        if list.0.iter().all(|pattern| pattern.is_negated) {
            return Err(format!("{text:?} only leaves out: say first what is meant, such as *"));
        }
        Ok(list)
    }

    /// Whether a pattern matches `name`, and none that is negated does.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let of = |is_negated: bool| {
            self.0
                .iter()
                .filter(move |pattern| pattern.is_negated == is_negated)
                .any(|pattern| is_match(&pattern.text, name))
        };
        of(false) && !of(true)
    }
}

/// The elements of a list: whether each is negated, and what it says.
pub(super) fn elements(text: &str) -> Result<impl Iterator<Item = (bool, &str)>, String> {
    if text.len() > LIST_BYTES_MAX {
        return Err(format!("the list is longer than {LIST_BYTES_MAX} bytes"));
    }
    let elements = text.split(',').map(|element| {
        let element = element.trim();
        element.strip_prefix('!').map_or((false, element), |rest| (true, rest))
    });
    if elements.clone().any(|(_, element)| element.is_empty()) {
        return Err(format!("{text:?} has an empty element"));
    }
    Ok(elements)
}

/// Whether `*` (anything) and `?` (one character) in `pattern` can stand for `text`. The work is bounded by the
/// product of both lengths.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut of) = (0, 0);
    // Where to go on when what follows the last `*` does not match.
    let mut again: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some('*') => {
                again = Some((of + 1, at));
                of += 1;
            }
            Some(one) if *one == '?' || text.get(at) == Some(one) => {
                (at, of) = (at + 1, of + 1);
            }
            _ => {
                let Some((after_star, from)) = again else { return false };
                again = Some((after_star, from + 1));
                (at, of) = (from + 1, after_star);
            }
        }
    }
    pattern.iter().skip(of).all(|rest| *rest == '*')
}
