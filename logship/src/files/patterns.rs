//! Which files are meant: globs, what they name now, and which names a rotation gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

#[cfg(test)]
mod tests;

/// Most patterns of one source.
pub const PATTERNS_MAX: usize = 1024;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Directories below each other that `**` goes down.
pub const DEPTH_MAX: usize = 32;

/// Most directories of one source.
pub const DIRECTORIES_MAX: usize = 10_000;

/// Endings of compressed files. Those that can be read are [`Compression`].
const COMPRESSED: [&[u8]; 8] =
    [b".gz", b".zst", b".bz2", b".xz", b".lz4", b".zip", b".Z", b".lzma"];

/// Words that rotations append instead of a number or date.
const WORDS: [&[u8]; 5] = [b"old", b"bak", b"prev", b"orig", b"last"];

/// Why patterns cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// One of them.
    #[error("the pattern '{pattern}' cannot be used: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than [`PATTERNS_MAX`].
    #[error("more than {PATTERNS_MAX} patterns; use fewer, wider ones")]
    TooMany,
}

/// Compressed files that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

/// The files of one source.
#[derive(Debug, Clone)]
pub struct Patterns {
    each: Vec<Pattern>,
    all: GlobSet,
    exclude: GlobSet,
    /// Sources that come first: what they take is theirs.
    earlier: Vec<Patterns>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// The directory that no wildcard is in.
    root: PathBuf,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// `**`: any number of directories.
    AnyDepth,
    Literal(OsString),
    Glob(GlobMatcher),
}

/// What patterns name at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every directory in which a file or directory that is meant may appear, with the names in it.
    pub directories: BTreeMap<PathBuf, Vec<OsString>>,
    /// More than [`DIRECTORIES_MAX`]: some were left out.
    pub is_cut: bool,
    /// Directories that cannot be read, and why.
    pub refused: Vec<(PathBuf, String)>,
}

impl Patterns {
    /// Compiles absolute globs: `*`, `?`, `[…]` and `{a,b}` stop at `/`, `**` as a whole step does not.
    pub fn new(patterns: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        if patterns.len().max(exclude.len()) > PATTERNS_MAX {
            return Err(PatternError::TooMany);
        }
        let each =
            patterns.iter().map(|pattern| Pattern::new(pattern)).collect::<Result<_, _>>()?;
        Ok(Self { each, all: set(patterns)?, exclude: set(exclude)?, earlier: Vec::new() })
    }

    /// Whether a path is meant.
    #[must_use]
    pub fn is_meant(&self, path: &Path) -> bool {
        self.all.is_match(path)
            && !self.exclude.is_match(path)
            && !self.earlier.iter().any(|earlier| earlier.is_meant(path))
    }

    /// The same without what `earlier` sources take: one file is never read by two.
    #[must_use]
    pub fn after(self, earlier: Vec<Self>) -> Self {
        Self { earlier, ..self }
    }

    /// The path that is meant and of which `path` is a rotated one by its name.
    #[must_use]
    pub fn base_of(&self, path: &Path) -> Option<PathBuf> {
        let bases = bases(path.file_name()?);
        bases.into_iter().map(|base| path.with_file_name(base)).find(|base| self.is_meant(base))
    }

    /// Reads every directory that may matter.
    #[must_use]
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        for pattern in &self.each {
            let mut visited = BTreeSet::new();
            descend(&pattern.root, &pattern.steps, 0, &mut listing, &mut visited);
        }
        listing
    }
}

/// Goes through the directories that the steps before the last name.
fn descend(
    directory: &Path,
    steps: &[Step],
    depth: usize,
    listing: &mut Listing,
    visited: &mut BTreeSet<(PathBuf, usize)>,
) {
    if depth > DEPTH_MAX || !visited.insert((directory.to_owned(), steps.len())) {
        return;
    }
    let Some((step, rest)) = steps.split_first() else { return };
    let is_last = rest.is_empty();
    if let (Step::Literal(name), false) = (step, is_last) {
        return descend(&directory.join(name), rest, depth + 1, listing, visited);
    }
    let Some(names) = names_of(directory, listing) else { return };
    if is_last && !matches!(step, Step::AnyDepth) {
        return;
    }
    if matches!(step, Step::AnyDepth) {
        // No directory at all is a possibility too.
        descend(directory, rest, depth, listing, visited);
    }
    for name in names {
        let path = directory.join(&name);
        match step {
            // A link may lead back up: only `**` goes where nobody pointed.
            Step::AnyDepth if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) => {
                descend(&path, steps, depth + 1, listing, visited);
            }
            Step::Glob(glob) if glob.is_match(Path::new(&name)) && path.is_dir() => {
                descend(&path, rest, depth + 1, listing, visited);
            }
            _ => {}
        }
    }
}

/// The names in a directory, read once a listing.
fn names_of(directory: &Path, listing: &mut Listing) -> Option<Vec<OsString>> {
    if let Some(names) = listing.directories.get(directory) {
        return Some(names.clone());
    }
    if listing.directories.len() >= DIRECTORIES_MAX {
        listing.is_cut = true;
        return None;
    }
    match names_in(directory) {
        Ok(names) => {
            listing.directories.insert(directory.to_owned(), names.clone());
            Some(names)
        }
        // It may come later.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            listing.refused.push((directory.to_owned(), error.to_string()));
            None
        }
    }
}

/// The names in one directory.
pub fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, PatternError> {
        let unusable =
            |reason: &str| PatternError::Pattern { pattern: cut(pattern), reason: reason.into() };
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(unusable("it is too long"));
        }
        if !pattern.starts_with('/') {
            return Err(unusable("it does not begin with /"));
        }
        if pattern.ends_with('/') {
            return Err(unusable("it names a directory; to mean the files in it, append *"));
        }
        let mut root = PathBuf::from("/");
        let mut steps = Vec::new();
        for component in Path::new(pattern).components() {
            let name = match component {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                _ => return Err(unusable("it has a step that is . or ..")),
            };
            let text = name.to_string_lossy();
            if text.matches('{').count() != text.matches('}').count() {
                return Err(unusable("there is a / between { and }"));
            }
            if text == "**" {
                steps.push(Step::AnyDepth);
            } else if text.contains(['*', '?', '[', '{', '\\']) {
                steps.push(Step::Glob(glob(&text, pattern)?.compile_matcher()));
            } else {
                steps.push(Step::Literal(name.to_owned()));
            }
        }
        if matches!(steps.last(), Some(Step::AnyDepth)) {
            steps.push(Step::Glob(glob("*", pattern)?.compile_matcher()));
        }
        while steps.len() > 1 {
            let Some(Step::Literal(name)) = steps.first() else { break };
            root.push(name);
            steps.remove(0);
        }
        Ok(Self { root, steps })
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, PatternError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern, pattern)?);
    }
    set.build().map_err(|error| PatternError::Pattern {
        pattern: cut(&patterns.join(" ")),
        reason: error.to_string(),
    })
}

fn glob(text: &str, pattern: &str) -> Result<globset::Glob, PatternError> {
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    glob.map_err(|error| PatternError::Pattern {
        pattern: cut(pattern),
        reason: error.kind().to_string(),
    })
}

fn cut(pattern: &str) -> String {
    pattern.chars().take(100).collect()
}

/// How a file of this name can be read; `None` for one that is not compressed by its name.
#[must_use]
pub fn compression_of(path: &Path) -> Option<Compression> {
    match path.extension()?.as_bytes() {
        b"gz" => Some(Compression::Gzip),
        b"zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Whether a name says that its file is compressed, readable or not.
#[must_use]
pub fn is_compressed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| without_compression(name.as_bytes()).is_some())
}

fn without_compression(name: &[u8]) -> Option<&[u8]> {
    COMPRESSED.iter().find_map(|ending| name.strip_suffix(*ending))
}

/// The names that a file of this name may have had before rotations: `app.log` of `app.log.1`,
/// `app.log.2.gz`, `app.log-20261124`, `app-20261124.log.zst`, `app.1.log` and `app.log.old`.
#[must_use]
pub fn bases(name: &OsStr) -> Vec<OsString> {
    let name = name.as_bytes();
    let plain = without_compression(name).unwrap_or(name);
    let mut bases = Vec::new();
    if let Some(base) = without_mark(plain) {
        bases.push(base.to_vec());
    }
    if let Some(at) = memchr::memrchr(b'.', plain) {
        let (stem, extension) = plain.split_at(at);
        if let Some(base) = without_mark(stem) {
            bases.push([base, extension].concat());
        }
    }
    if plain.len() != name.len() {
        bases.push(plain.to_vec());
    }
    bases.into_iter().map(OsString::from_vec).collect()
}

/// A name without what a rotation appended: a separator, then digits with separators, or a word.
fn without_mark(name: &[u8]) -> Option<&[u8]> {
    for word in WORDS {
        if let Some(rest) = name.strip_suffix(word)
            && let Some((b'.' | b'-' | b'_', base)) = rest.split_last()
            && !base.is_empty()
        {
            return Some(base);
        }
    }
    let is_mark = |byte: &u8| byte.is_ascii_digit() || b".-_:TZ+".contains(byte);
    let marks = name.iter().rev().take_while(|byte| is_mark(byte)).count();
    let (mut base, mark) = name.split_at(name.len() - marks);
    let mut mark = mark;
    // T and Z end words too: the mark begins with a separator before a digit.
    while let Some((first, rest)) = mark.split_first() {
        let is_begin = b".-_".contains(first) && rest.first().is_some_and(u8::is_ascii_digit);
        if is_begin {
            break;
        }
        mark = rest;
        base = name.get(..name.len() - mark.len())?;
    }
    let is_number = mark.iter().any(u8::is_ascii_digit);
    (is_number && !base.is_empty() && mark.last().is_some_and(|byte| !b".-_".contains(byte)))
        .then_some(base)
}
