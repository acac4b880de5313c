//! What was typed, made sense of: places, credentials, limits. Everything here fails closed: a setting
//! that is there but unusable is an error, never a default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chores_common::config::{ConfigError, secret_from};
use chores_common::object::{Location, LocationError, S3Settings};

use crate::cli::{CommonArgs, CompressionArgs, Credentials};

/// Memory a run stays within unless told otherwise, in bytes.
const MEMORY_DEFAULT: u64 = 128 << 20;

/// The least that works, in bytes.
const MEMORY_MIN: u64 = 64 << 20;

/// What everything but packs takes, in bytes, and each thread on top of it: frames, contexts of the
/// compressor, read buffers, the tree, the walk, caches.
const MEMORY_BASE: u64 = 40 << 20;
const MEMORY_PER_THREAD: u64 = 6 << 20;

/// A pack, in bytes: one is being filled, the others are on their way.
const MEMORY_PER_PACK: u64 = 18 << 20;

/// Packs on their way at once at the most.
const UPLOADS_MAX: u64 = 8;

/// Threads at the most.
const THREADS_MAX: usize = 256;

/// Longest name or tag, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// zstd level of `--fast`.
const LEVEL_FAST: i32 = 1;

/// The cache of an image that has one mounted.
const IMAGE_CACHE: &str = "/cache";

/// Name of the cache inside a repository directory.
const REPOSITORY_CACHE: &str = "cache";

/// Settings shared by the commands.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach S3.
    pub s3: S3Settings,
    /// Threads that work on data.
    pub threads: usize,
    /// Packs on their way at once.
    pub uploads: usize,
    /// Answer in JSON.
    pub json: bool,
    /// Show no progress.
    pub quiet: bool,
}

/// A setting that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// No repository was named.
    #[error("no repository is named: give --repo PLACE or set BACKUP_REPO")]
    NoRepository,
    /// The repository cannot be a place.
    #[error("--repo {0} is unusable")]
    Repository(String, #[source] LocationError),
    /// The place for an archive is unusable.
    #[error("--to {0} is unusable")]
    To(String, #[source] LocationError),
    /// A credential is unusable.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// A size is not one.
    #[error("--memory {0} is no size of at least 64M: give for example 64M or 1G")]
    Memory(String),
    /// Too many or no threads.
    #[error("--threads {0} is out of range: give 1 to {THREADS_MAX}")]
    Threads(u16),
    /// A tag without `=`.
    #[error(
        "--tag {0} is unusable: give KEY=VALUE, without control characters and up to {NAME_BYTES_MAX} bytes"
    )]
    Tag(String),
    /// A name that would break listings.
    #[error(
        "--name {0:?} is unusable: give up to {NAME_BYTES_MAX} bytes without control characters"
    )]
    Name(String),
}

impl Settings {
    /// Makes sense of the common options.
    pub fn new(args: &CommonArgs, credentials: Credentials) -> Result<Self, SettingError> {
        let threads = match args.threads {
            None => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
            Some(threads) if (1..=THREADS_MAX).contains(&usize::from(threads)) => {
                usize::from(threads)
            }
            Some(threads) => return Err(SettingError::Threads(threads)),
        };
        let memory = args.memory.as_deref().map_or(Some(MEMORY_DEFAULT), parse_size);
        let memory = memory
            .filter(|memory| *memory >= MEMORY_MIN)
            .ok_or_else(|| SettingError::Memory(args.memory.clone().unwrap_or_default()))?;
        let others = MEMORY_BASE + MEMORY_PER_THREAD * threads as u64 + MEMORY_PER_PACK;
        let uploads = (memory.saturating_sub(others) / MEMORY_PER_PACK).clamp(1, UPLOADS_MAX);
        let (secret, secret_file) = credentials.secret_key;
        let (token, token_file) = credentials.session_token;
        Ok(Self {
            s3: S3Settings {
                endpoint: args.s3_endpoint.clone(),
                region: args.s3_region.clone(),
                access_key: credentials.access_key,
                secret_key: secret_from("AWS_SECRET_ACCESS_KEY", secret, secret_file)?,
                session_token: secret_from("AWS_SESSION_TOKEN", token, token_file)?,
                path_style: args.s3_path_style,
            },
            threads,
            uploads: usize::try_from(uploads).unwrap_or(1),
            json: args.json,
            quiet: args.quiet > 0,
        })
    }
}

/// The repository that was named.
pub fn repository(args: &CommonArgs) -> Result<Location, SettingError> {
    let text = args.repo.as_deref().ok_or(SettingError::NoRepository)?;
    Location::parse(text).map_err(|error| SettingError::Repository(text.to_owned(), error))
}

/// Where caches go. `None`: nowhere, every run reads everything.
#[must_use]
pub fn cache_directory(args: &CommonArgs, repository: &Location) -> Option<PathBuf> {
    if args.no_cache {
        return None;
    }
    if let Some(directory) = &args.cache_dir {
        return Some(directory.clone());
    }
    // A throw-away container keeps nothing but the repository it has mounted.
    if let Location::Directory(directory) = repository {
        return Some(directory.join(REPOSITORY_CACHE));
    }
    if Path::new(IMAGE_CACHE).is_dir() {
        return Some(PathBuf::from(IMAGE_CACHE));
    }
    let home = || std::env::home_dir().filter(|home| home.is_absolute() && home.parent().is_some());
    home().map(|home| home.join(".cache").join("chores-backup"))
}

/// The compression level that was asked for.
#[must_use]
pub fn level(args: &CompressionArgs) -> i32 {
    if args.fast { LEVEL_FAST } else { args.level }
}

/// Labels from `KEY=VALUE` texts.
pub fn tags(texts: &[String]) -> Result<BTreeMap<String, String>, SettingError> {
    let parsed = texts.iter().map(|text| {
        text.split_once('=')
            .filter(|(key, _)| !key.is_empty() && is_plain(text))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or_else(|| SettingError::Tag(text.clone()))
    });
    parsed.collect()
}

/// A snapshot's name, given or made from what is saved.
pub fn name(
    given: Option<&str>,
    otherwise: impl FnOnce() -> String,
) -> Result<String, SettingError> {
    match given {
        Some(name) if is_plain(name) && !name.is_empty() => Ok(name.to_owned()),
        Some(name) => Err(SettingError::Name(name.to_owned())),
        None => {
            let plain: String =
                otherwise().chars().filter(|character| !character.is_control()).collect();
            Ok(plain.chars().take(NAME_BYTES_MAX / 4).collect())
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Bytes of `64M`, `1G`, `65536`: powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits)?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests;
