//! Where a store is, as an operator writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::key::is_valid_key;

#[cfg(test)]
mod tests;

/// Longest bucket name, in bytes: S3 says 63, old and foreign services allow more.
const BUCKET_BYTES_MAX: usize = 255;

/// A directory, or a bucket with an optional prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, as given.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without `/` at either end; empty for the whole bucket.
        prefix: String,
    },
}

/// A text that is no location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing was given.
    #[error("the location is empty; give a directory or s3://bucket/prefix")]
    Empty,
    /// A URL of another kind.
    #[error("{scheme}:// is not supported; give a directory or s3://bucket/prefix")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// The bucket is missing or cannot be one.
    #[error("{location} has no usable bucket name; write s3://bucket/prefix")]
    Bucket {
        /// What was given.
        location: String,
    },
    /// The prefix cannot be one.
    #[error("{location} has an unusable prefix; leave out empty, . and .. parts")]
    Prefix {
        /// What was given.
        location: String,
    },
    /// A NUL byte in a path.
    #[error("a path with a NUL byte is no directory")]
    Nul,
}

impl Location {
    /// Reads `s3://bucket/prefix`, or a directory as it stands.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if text.contains('\0') {
            return Err(LocationError::Nul);
        }
        match text.split_once("://") {
            Some(("s3", rest)) => parse_s3(text, rest),
            Some((scheme, _)) if is_scheme(scheme) => {
                Err(LocationError::Scheme { scheme: scheme.to_owned() })
            }
            _ => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(formatter, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(formatter, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
        }
    }
}

fn parse_s3(location: &str, rest: &str) -> Result<Location, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if !is_bucket(bucket) {
        return Err(LocationError::Bucket { location: location.to_owned() });
    }
    if !prefix.is_empty() && !is_valid_key(prefix) {
        return Err(LocationError::Prefix { location: location.to_owned() });
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn is_bucket(name: &str) -> bool {
    (1..=BUCKET_BYTES_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}
