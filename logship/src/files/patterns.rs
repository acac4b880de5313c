//! Which files are meant: globs, what they name now, and which names a rotation gives.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use rustix::fs::{Dir, FileType, OFlags};

use crate::cursor::FileIdentity;
use crate::files::reach;
use crate::proof::FileFacts;

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
    /// As it was given.
    text: String,
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
#[derive(Debug, Default)]
pub struct Listing {
    /// Every directory in which a file or directory that is meant may appear, with the names in it.
    pub directories: BTreeMap<PathBuf, Vec<Named>>,
    /// More than [`DIRECTORIES_MAX`]: some were left out.
    pub is_cut: bool,
    /// Directories that cannot be read, and why.
    pub refused: Vec<(PathBuf, io::Error)>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: OsString,
    /// What it is of, where the file system says that beside the name.
    pub kind: FileType,
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
        self.bases_of(path).next()
    }

    /// All of them, where the name could be a rotated one of several.
    pub fn bases_of(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        let bases = path.file_name().map(bases).unwrap_or_default();
        let bases = bases.into_iter().map(move |base| path.with_file_name(base));
        bases.filter(move |base| self.is_meant(base))
    }

    /// Whether somebody writes to a file under just this name, which no rotation has made: there is none of which it
    /// could be a rotated one among `names`, all those beside it. `worker-1.log` is its own file where no `worker.log`
    /// is.
    #[must_use]
    pub fn is_written(&self, path: &Path, names: &HashSet<&OsStr>) -> bool {
        let is_there = |base: &PathBuf| base.file_name().is_some_and(|name| names.contains(name));
        self.is_meant(path)
            && !is_compressed(path)
            && !self.bases_of(path).any(|base| is_there(&base))
    }

    /// The patterns, as they were given, that match no file of a listing, be it an excluded one. One that may match
    /// what could not be listed is left out.
    #[must_use]
    pub fn unmatched(&self, listing: &Listing) -> Vec<&str> {
        if listing.is_cut {
            return Vec::new();
        }
        let mut is_matched = vec![false; self.each.len()];
        for (directory, names) in &listing.directories {
            for Named { name, kind } in names {
                let path = directory.join(name);
                let matching = self.all.matches(&path);
                if matching.is_empty() || is_directory(&path, *kind) {
                    continue;
                }
                for at in matching {
                    if let Some(is_matched) = is_matched.get_mut(at) {
                        *is_matched = true;
                    }
                }
            }
        }
        let is_refused = |pattern: &Pattern| {
            listing.refused.iter().any(|(directory, _)| directory.starts_with(&pattern.root))
        };
        let pairs = self.each.iter().zip(is_matched);
        let unmatched = pairs.filter(|(pattern, is_matched)| !is_matched && !is_refused(pattern));
        unmatched.map(|(pattern, _)| pattern.text.as_str()).collect()
    }

    /// Reads every directory that may matter.
    #[must_use]
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        for pattern in &self.each {
            let mut visited = BTreeSet::new();
            pattern.descend(&pattern.root, &pattern.steps, 0, &mut listing, &mut visited);
        }
        listing
    }

    /// Opens a file that is the one that was meant, for reading only and without waiting.
    pub fn open(&self, path: &Path, wanted: FileIdentity) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.reach(path, path.parent().unwrap_or(path), flags)?);
        let facts = FileFacts::of(&file)?;
        if facts.identity != wanted || !facts.is_regular {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is another file now"));
        }
        Ok(file)
    }

    /// Opens the directory of a path, to look for its name there and nowhere else.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let directory = path.parent().unwrap_or(path);
        self.reach(directory, directory, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// What the kernel says of what a path leads to.
    pub fn facts(&self, path: &Path) -> io::Result<FileFacts> {
        FileFacts::of(&self.reach(path, path.parent().unwrap_or(path), OFlags::PATH)?)
    }

    /// The same of names in one directory.
    pub fn facts_in<'a>(
        &self,
        directory: &Path,
        names: impl IntoIterator<Item = &'a OsStr>,
    ) -> io::Result<Vec<(PathBuf, io::Result<FileFacts>)>> {
        let handle = self.reach(directory, directory, OFlags::PATH | OFlags::DIRECTORY)?;
        let facts = |name: &OsStr| {
            let path = directory.join(name);
            // A link may lead anywhere, what is none is where it is.
            let facts = match FileFacts::named(&handle, name) {
                Ok(Some(facts)) => Ok(facts),
                Ok(None) => self.facts(&path),
                Err(error) => Err(error),
            };
            (path, facts)
        };
        Ok(names.into_iter().map(facts).collect())
    }

    /// The names in one directory.
    pub fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let names = names_of(self.reach(directory, directory, flags)?)?;
        Ok(names.into_iter().map(|named| named.name).collect())
    }

    /// Opens what is in `directory`, or itself, below the root of a pattern that looks into it.
    fn reach(&self, path: &Path, directory: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mut refused = None;
        for pattern in self.each.iter().filter(|pattern| pattern.looks_into(directory)) {
            let Ok(below) = path.strip_prefix(&pattern.root) else { continue };
            match reach::open(&pattern.root, below, flags) {
                Ok(opened) => return Ok(opened),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

/// What is in an open directory.
fn names_of(directory: OwnedFd) -> io::Result<Vec<Named>> {
    let entries = Dir::new(directory)?.filter_map(|entry| match entry {
        Ok(entry) => match entry.file_name().to_bytes() {
            b"." | b".." => None,
            name => {
                let name = OsString::from_vec(name.to_vec());
                Some(Ok(Named { name, kind: entry.file_type() }))
            }
        },
        Err(error) => Some(Err(error.into())),
    });
    entries.collect()
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
        Ok(Self { text: pattern.to_owned(), root, steps })
    }

    /// Goes through the directories that the steps before the last name.
    fn descend(
        &self,
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
            return self.descend(&directory.join(name), rest, depth + 1, listing, visited);
        }
        let Some(names) = self.read(directory, listing) else { return };
        if is_last && !matches!(step, Step::AnyDepth) {
            return;
        }
        if matches!(step, Step::AnyDepth) {
            // No directory at all is a possibility too.
            self.descend(directory, rest, depth, listing, visited);
        }
        for Named { name, kind } in names {
            let path = directory.join(&name);
            match step {
                // A link may lead back up: only `**` goes where nobody pointed.
                Step::AnyDepth if is_directory(&path, kind) => {
                    self.descend(&path, steps, depth + 1, listing, visited);
                }
                Step::Glob(glob) if glob.is_match(Path::new(&name)) && may_be_directory(kind) => {
                    self.descend(&path, rest, depth + 1, listing, visited);
                }
                _ => {}
            }
        }
    }

    /// What is in a directory, read once a listing.
    fn read(&self, directory: &Path, listing: &mut Listing) -> Option<Vec<Named>> {
        if let Some(names) = listing.directories.get(directory) {
            return Some(names.clone());
        }
        if listing.directories.len() >= DIRECTORIES_MAX {
            listing.is_cut = true;
            return None;
        }
        let below = directory.strip_prefix(&self.root).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match reach::open(&self.root, below, flags).and_then(names_of) {
            Ok(names) => {
                listing.directories.insert(directory.to_owned(), names.clone());
                Some(names)
            }
            // It may come later, or is a file or a link to one.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                None
            }
            Err(error) => {
                listing.refused.push((directory.to_owned(), error));
                None
            }
        }
    }

    /// Whether `directory` is one in which the last step looks for names.
    fn looks_into(&self, directory: &Path) -> bool {
        let Ok(below) = directory.strip_prefix(&self.root) else { return false };
        // Every step that could be next, and whatever comes when `**` means no directory.
        let with_none = |at: usize| {
            let deeper = self.steps.iter().skip(at);
            let skipped = deeper.take_while(|step| matches!(step, Step::AnyDepth)).count();
            at..=at + skipped
        };
        let mut next: BTreeSet<usize> = with_none(0).collect();
        for name in below {
            let after = |at: usize| match self.steps.get(at)? {
                Step::AnyDepth => Some(at),
                Step::Literal(literal) => (literal == name).then_some(at + 1),
                Step::Glob(glob) => glob.is_match(Path::new(name)).then_some(at + 1),
            };
            next = next.iter().filter_map(|at| after(*at)).flat_map(with_none).collect();
        }
        next.contains(&(self.steps.len() - 1))
    }
}

/// Whether a name in a directory is of a directory, and of no link to one.
fn is_directory(path: &Path, kind: FileType) -> bool {
    match kind {
        FileType::Directory => true,
        FileType::Unknown => fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()),
        _ => false,
    }
}

/// Whether it is worth a look whether a name leads to a directory.
fn may_be_directory(kind: FileType) -> bool {
    matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown)
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
