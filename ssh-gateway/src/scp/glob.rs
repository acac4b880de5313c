//! Patterns of file names (glob(7)), as a shell expands them.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::command::{Letter, Word};

/// A pattern that means more names than this means none.
const NAMES_MAX: usize = 65_536;
/// As the kernel (`PATH_MAX`). In bytes.
const PATH_BYTES_MAX: usize = 4095;

/// The files a word means, in order; the word itself if it has no pattern or nothing fits.
pub(super) fn expand(word: &Word) -> Vec<Vec<u8>> {
    let word = word.home_expanded();
    if !word.0.iter().copied().any(is_wild) {
        return vec![word.literal()];
    }
    let root: &[u8] =
        if word.0.first().is_some_and(|letter| letter.byte == b'/') { b"/" } else { b"" };
    let mut found = vec![root.to_vec()];
    let mut components = word.0.split(|letter| letter.byte == b'/').peekable();
    while let Some(component) = components.next() {
        if component.is_empty() {
            continue;
        }
        let last = components.peek().is_none();
        let mut next = Vec::new();
        for start in &found {
            next.append(&mut step(start, component, last));
            if next.len() > NAMES_MAX {
                return vec![word.literal()];
            }
        }
        found = next;
    }
    if word.0.last().is_some_and(|letter| letter.byte == b'/') {
        found.iter_mut().for_each(|name| name.push(b'/'));
    }
    if found.is_empty() {
        return vec![word.literal()];
    }
    found.sort_unstable();
    found
}

/// What one component means below `start`. Anything but the last must lead on.
fn step(start: &[u8], component: &[Letter], last: bool) -> Vec<Vec<u8>> {
    let below = |name: &[u8]| {
        let slash: &[u8] = if start.is_empty() || start.ends_with(b"/") { b"" } else { b"/" };
        [start, slash, name].concat()
    };
    let fits = |path: &Vec<u8>| {
        if path.len() > PATH_BYTES_MAX {
            return false;
        }
        if last {
            rustix::fs::lstat(path.as_slice()).is_ok()
        } else {
            rustix::fs::statat(CWD, path.as_slice(), AtFlags::empty())
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        }
    };
    if !component.iter().copied().any(is_wild) {
        let name: Vec<u8> = component.iter().map(|letter| letter.byte).collect();
        return Some(below(&name)).filter(fits).into_iter().collect();
    }
    let directory: &[u8] = if start.is_empty() { b"." } else { start };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()).and_then(Dir::new) else {
        return Vec::new();
    };
    directory
        .map_while(Result::ok)
        .map(|entry| entry.file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b".." && matches(component, name))
        .map(|name| below(&name))
        .filter(fits)
        .take(NAMES_MAX + 1)
        .collect()
}

fn is_wild(letter: Letter) -> bool {
    letter.means(b'*') || letter.means(b'?') || letter.means(b'[')
}

/// Whether a name fits a component. A dot at its beginning must be given as such.
fn matches(pattern: &[Letter], name: &[u8]) -> bool {
    if name.starts_with(b".") && pattern.first().is_none_or(|letter| letter.byte != b'.') {
        return false;
    }
    let (mut left, mut rest) = (pattern, name);
    // Where to go on when the latest star takes one byte more.
    let mut again: Option<(&[Letter], &[u8])> = None;
    loop {
        if let Some((star, after)) = left.split_first()
            && star.means(b'*')
        {
            again = Some((after, rest));
            left = after;
            continue;
        }
        if left.is_empty() && rest.is_empty() {
            return true;
        }
        if let Some((byte, shorter)) = rest.split_first()
            && let Some(after) = one(left, *byte)
        {
            (left, rest) = (after, shorter);
            continue;
        }
        let Some((after, taken)) = again else { return false };
        let Some((_, shorter)) = taken.split_first() else { return false };
        again = Some((after, shorter));
        (left, rest) = (after, shorter);
    }
}

/// What is left of a pattern after it took one byte; `None` if it does not.
fn one(pattern: &[Letter], byte: u8) -> Option<&[Letter]> {
    let (first, after) = pattern.split_first()?;
    if first.means(b'?') {
        return Some(after);
    }
    if first.means(b'[')
        && let Some((fits, after)) = class(after, byte)
    {
        return fits.then_some(after);
    }
    (first.byte == byte).then_some(after)
}

/// A class behind its bracket: whether the byte is in it, and what follows. `None` if it has no end.
fn class(pattern: &[Letter], byte: u8) -> Option<(bool, &[Letter])> {
    let (first, rest) = pattern.split_first()?;
    let negated = first.means(b'!') || first.means(b'^');
    let mut left = if negated { rest } else { pattern };
    let mut found = false;
    let mut is_first = true;
    loop {
        let (low, after) = left.split_first()?;
        if low.means(b']') && !is_first {
            return Some((found != negated, after));
        }
        is_first = false;
        left = after;
        let mut high = low.byte;
        if let [dash, end, after @ ..] = left
            && dash.means(b'-')
            && !end.means(b']')
        {
            high = end.byte;
            left = after;
        }
        found |= (low.byte..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests;
