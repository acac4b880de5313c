//! Which paths a walk leaves out.
//!
//! Patterns are globs: `*` and `?` stop at `/`, `**` does not, `[…]` and `{a,b}` as in a shell. A
//! pattern that starts with `/` is compared with the whole absolute path; any other fits any run of
//! components, so `node_modules` and `cache/tmp` fit at every depth. A trailing `/` fits directories
//! only. What is in a directory that is left out is left out too, because the walk never enters it.
//! `CACHEDIR.TAG` has no meaning here: only what a pattern names is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Most patterns of one walk.
pub const PATTERNS_MAX: usize = 4096;

/// Longest pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// A set of compiled patterns; the default one leaves nothing out.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    anything: GlobSet,
    directories: GlobSet,
}

/// Why patterns cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// The pattern is not a glob.
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
    /// The patterns are sound one by one, but not as a set.
    #[error("the patterns are too large together; use fewer, simpler ones")]
    Set(#[source] globset::Error),
}

impl Exclude {
    /// Compiles `patterns`.
    pub fn new(patterns: &[String]) -> Result<Self, ExcludeError> {
        if patterns.len() > PATTERNS_MAX {
            return Err(ExcludeError::TooMany);
        }
        let mut anything = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in patterns {
            let unusable = |reason: &str| ExcludeError::Pattern {
                pattern: pattern.chars().take(100).collect(),
                reason: reason.to_owned(),
            };
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(unusable("it is too long"));
            }
            let (body, set) = match pattern.strip_suffix('/') {
                Some(body) => (body, &mut directories),
                None => (pattern.as_str(), &mut anything),
            };
            if body.is_empty() {
                return Err(unusable("it names nothing"));
            }
            let glob = match body.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None => format!("**/{body}"),
            };
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| unusable(&error.kind().to_string()))?;
            set.add(glob);
        }
        Ok(Self {
            anything: anything.build().map_err(ExcludeError::Set)?,
            directories: directories.build().map_err(ExcludeError::Set)?,
        })
    }

    /// Whether `path` (absolute, without its leading `/`) is left out.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.anything.is_match(path) || (is_directory && self.directories.is_match(path))
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anything.is_empty() && self.directories.is_empty()
    }
}

#[cfg(test)]
mod tests;
