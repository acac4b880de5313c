//! Where a store is, as an operator writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::key::is_valid_key;
use super::remote::{self, Remote};

#[cfg(test)]
mod tests;

/// Longest bucket name, in bytes: S3 says 63, old and foreign services allow more.
const BUCKET_BYTES_MAX: usize = 255;

/// S3 interfaces of services that have one of their own as well, which lacks times of objects (B2) or wants what is
/// not in this program (GCS).
const B2_ENDPOINT: &str = "https://s3.REGION.backblazeb2.com";
const GOOGLE_ENDPOINT: &str = "https://storage.googleapis.com";

/// How URLs of stores begin.
const SCHEMES: [&str; 5] = ["s3", "sftp", "webdavs", "webdav", "azblob"];

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
    /// A store of another kind, such as `sftp://user@host/path`.
    Remote(Remote),
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
    /// The host, bucket or user is missing or cannot be one.
    #[error("{location} is not of the form {form}")]
    Form {
        /// What was given, without a password.
        location: String,
        /// How it is written.
        form: &'static str,
    },
    /// SFTP has no directory that could be meant.
    #[error("{location} names no directory; write {form}")]
    NoDirectory {
        /// What was given.
        location: String,
        /// How it is written.
        form: &'static str,
    },
    /// A password or a user where the environment is the place for it.
    #[error(
        "a URL is shown to every user of this host and is no place for credentials: leave them out of {location} and {instead}"
    )]
    Credentials {
        /// What was given, without a password.
        location: String,
        /// What to do.
        instead: &'static str,
    },
    /// A service that is reached by its S3 interface.
    #[error(
        "{scheme}:// is not supported, the service speaks S3: give s3://bucket/prefix with --s3-endpoint {endpoint}"
    )]
    SpeaksS3 {
        /// What stands before `://`.
        scheme: &'static str,
        /// Of its S3 interface.
        endpoint: &'static str,
    },
    /// Most likely a URL with a slip in its `://`. Taken for a directory, it would be made below the working directory.
    #[error(
        "{given} looks like {scheme}:// mistyped: write {meant}, or ./{given} for a directory of that name"
    )]
    Slip {
        /// What was given, without a password.
        given: String,
        /// What it begins with.
        scheme: &'static str,
        /// What was most likely meant, without a password.
        meant: String,
    },
    /// A NUL byte in a path.
    #[error("a path with a NUL byte is no directory")]
    Nul,
}

impl Location {
    /// Reads `s3://bucket/prefix`, the URL of a [`Remote`], or a directory as it stands.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if text.contains('\0') {
            return Err(LocationError::Nul);
        }
        match text.split_once("://") {
            Some(("s3", rest)) => parse_s3(text, rest),
            Some(("b2", _)) => Err(LocationError::SpeaksS3 { scheme: "b2", endpoint: B2_ENDPOINT }),
            Some(("gcs" | "gs", _)) => {
                Err(LocationError::SpeaksS3 { scheme: "gcs", endpoint: GOOGLE_ENDPOINT })
            }
            Some((scheme, rest)) if remote::is_scheme(scheme) => {
                Remote::parse(text, scheme, rest).map(Self::Remote)
            }
            Some((scheme, _)) if is_scheme(scheme) => {
                Err(LocationError::Scheme { scheme: scheme.to_owned() })
            }
            _ => match slip(text) {
                Some(error) => Err(error),
                None => Ok(Self::Directory(PathBuf::from(text))),
            },
        }
    }
}

/// A text that is a URL but for its `://`.
fn slip(text: &str) -> Option<LocationError> {
    let (scheme, _, rest) = mistyped(text)?;
    let meant = without_password(&format!("{scheme}://{rest}"));
    Some(LocationError::Slip { given: without_password(text), scheme, meant })
}

/// Scheme, what stands in the place of `://`, and the rest of `s3//bucket`, `s3:/bucket`, `s3:bucket` and `s3;//bucket`.
fn mistyped(text: &str) -> Option<(&'static str, &str, &str)> {
    SCHEMES.into_iter().find_map(|scheme| {
        let behind = text.strip_prefix(scheme)?;
        let rest = behind.trim_start_matches([':', ';', '/']);
        let between = behind.strip_suffix(rest)?;
        let is_slip = between != "/" && between != "://" && !between.is_empty();
        is_slip.then_some((scheme, between, rest))
    })
}

impl Location {
    /// Whether objects lie in directories there, of which the first is made by
    /// [`ObjectStore::create_root`](super::ObjectStore::create_root).
    #[must_use]
    pub fn has_directories(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::S3 { .. } => false,
            Self::Remote(remote) => remote.has_directories(),
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
            Self::Remote(remote) => write!(formatter, "{remote}"),
        }
    }
}

fn parse_s3(location: &str, rest: &str) -> Result<Location, LocationError> {
    let (bucket, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_bucket(bucket) {
        return Err(LocationError::Bucket { location: without_password(location) });
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix(location, rest)? })
}

/// What follows a bucket or a host, without `/` at its end.
pub(super) fn prefix(location: &str, rest: &str) -> Result<String, LocationError> {
    let prefix = rest.trim_end_matches('/');
    if !prefix.is_empty() && !is_valid_key(prefix) {
        return Err(LocationError::Prefix { location: without_password(location) });
    }
    Ok(prefix.to_owned())
}

/// What may be shown of a text that should be a location: a URL without what may be a credential in it, which is all
/// before the last `@`, wherever that is. Of SFTP, whose users are no secret, it is what follows the first `:`.
#[must_use]
pub fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, between, rest) = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, "://", rest),
            _ => mistyped(text)?,
        };
        let (before, host) = rest.rsplit_once('@')?;
        if scheme != "sftp" {
            return Some(format!("{scheme}{between}…@{host}"));
        }
        let (user, _) = before.split_once(':')?;
        Some(format!("{scheme}{between}{user}:…@{host}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
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
