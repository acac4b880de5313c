//! What was typed, made sense of: places, credentials, limits. Everything here fails closed: a setting
//! that is there but unusable is an error, never a default.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chores_common::config::{ConfigError, secret_from, secret_in_bytes};
use chores_common::object::{
    Location, LocationError, RemoteSettings, S3Settings, without_password,
};
use chores_common::secret::Secret;

use crate::budget::Budget;
use crate::cli::{
    CommonArgs, CompressionArgs, Credentials, NamedArgs, RemoteCredentials, SpoolArgs,
};
use crate::dump::{SPOOL_MEMORY_BYTES_MAX, SpoolLimits};
use crate::keys::KeyRing;
use crate::keys::identity::{self, Identities, IdentityError};
use crate::keys::key_file::{self, KeyFile, KeyFileError};
use crate::keys::private_file::{self, PrivateFileError};
use crate::keys::recipient::{self, RecipientError, Recipients};

/// Memory a run stays within unless told otherwise, in bytes.
const MEMORY_DEFAULT: u64 = 128 << 20;

/// Threads at the most.
const THREADS_MAX: usize = 256;

/// What of a dump may wait in a file, in bytes, unless told otherwise.
const SPOOL_DEFAULT: u64 = 16 << 30;

/// Shortest passphrase that is taken for a new repository, in characters.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// Longest name or tag, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// zstd level of `--fast`.
const LEVEL_FAST: i32 = 1;

/// The cache of an image that has one mounted.
const IMAGE_CACHE: &str = "/cache";

/// The state directory of an image that has one mounted.
const IMAGE_STATE: &str = "/state";

/// Name of the cache inside a repository directory.
const REPOSITORY_CACHE: &str = "cache";

/// Settings shared by the commands.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach S3.
    pub s3: S3Settings,
    /// How to reach what is neither a directory nor S3.
    pub remote: RemoteSettings,
    /// How many threads and packs at once there may be.
    pub budget: Budget,
    /// What opens an encrypted repository.
    pub keys: KeySettings,
    /// Answer in JSON.
    pub json: bool,
    /// Show no progress.
    pub quiet: bool,
}

/// What opens an encrypted repository, as it was named.
#[derive(Clone, Debug, Default)]
pub struct KeySettings {
    /// The key file.
    pub key_file: Option<PathBuf>,
    /// The identity file.
    pub identity: Option<PathBuf>,
    /// The passphrase.
    pub passphrase: Option<Secret>,
}

impl KeySettings {
    /// Whether nothing was named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.key_file.is_none() && self.identity.is_none() && self.passphrase.is_none()
    }

    /// The keys themselves.
    pub fn ring(&self) -> Result<KeyRing, SettingError> {
        refuse_secrets("--key-file", self.key_file.as_deref())?;
        refuse_secrets("--identity", self.identity.as_deref())?;
        let key_file = self.key_file.as_ref().map(|path| {
            KeyFile::parse(&private_file::read("key file", path)?)
                .map_err(|error| SettingError::KeyFile(path.clone(), error))
        });
        let identities = self.identity.as_ref().map(|path| {
            Identities::parse(&private_file::read("identity file", path)?)
                .map_err(|error| SettingError::Identity(path.clone(), error))
        });
        Ok(KeyRing {
            key_file: key_file.transpose()?,
            identities: identities.transpose()?.unwrap_or_default(),
            passphrase: self.passphrase.clone(),
        })
    }

    /// The files it is in: never data of a volume.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.key_file.iter().chain(&self.identity)
    }
}

/// Refuses a secret where the name of the file it is in should be: what fails later would repeat it.
fn refuse_secrets(option: &'static str, path: Option<&Path>) -> Result<(), SettingError> {
    let is_secret = |text: &str| identity::is_in(text) || key_file::is_in(text);
    match path {
        Some(path) if is_secret(&path.to_string_lossy()) => Err(SettingError::NoName(option)),
        _ => Ok(()),
    }
}

/// The passphrase in its two forms; a file has to be closed to others as those of all keys.
fn passphrase(
    (value, file): (Option<String>, Option<PathBuf>),
) -> Result<Option<Secret>, SettingError> {
    let path = match (value, file) {
        (None, Some(path)) => path,
        (value, file) => return Ok(secret_from("BACKUP_PASSPHRASE", value, file)?),
    };
    let name = "BACKUP_PASSPHRASE_FILE".to_owned();
    match private_file::read("passphrase file", &path) {
        Ok(text) => Ok(Some(secret_in_bytes(name, path, text.as_bytes())?)),
        // In words that do not repeat what may be the passphrase itself.
        Err(PrivateFileError::Unreadable { path, source, .. }) => {
            Err(ConfigError::Unreadable { name, path, source }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an unknown variable would have something encrypted or decrypted, by its name. To go on without it would save in clear
/// what somebody wants to have encrypted.
#[must_use]
pub fn tells_of_keys(variable: &str) -> bool {
    const WORDS: [&str; 13] = [
        "RECIPIENT",
        "IDENTIT",
        "PASSPHRASE",
        "PASSWORD",
        "SECRET",
        "KEY_FILE",
        "KEYFILE",
        "PUBLIC_KEY",
        "PRIVATE_KEY",
        "ENCRYPT",
        "CIPHER",
        "GPG",
        "PGP",
    ];
    WORDS.iter().any(|word| variable.contains(word))
        || variable.strip_prefix("BACKUP_").is_some_and(|rest| rest.starts_with("AGE_"))
        || variable.ends_with("_KEY")
}

/// Whether a passphrase can be typed by who has to give it to `age` one day. Bytes that are no UTF-8 are replaced when the
/// environment is read, so that any others would do as well.
#[must_use]
pub fn is_typed(passphrase: &Secret) -> bool {
    let is_odd = |character: char| character.is_control() || "\u{feff}\u{fffd}".contains(character);
    !passphrase.expose().chars().any(is_odd)
}

/// The recipients of files and texts, as they were given.
pub fn recipients(args: &NamedArgs) -> Result<Vec<String>, SettingError> {
    let mut texts = args.recipient.clone();
    for path in &args.recipients_file {
        refuse_secrets("--recipients-file", Some(path))?;
        let unreadable = |error| SettingError::RecipientsFile(path.clone(), error);
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        let read = file.take(private_file::BYTES_MAX + 1).read_to_string(&mut text);
        if read.map_err(unreadable)? as u64 > private_file::BYTES_MAX {
            return Err(SettingError::LongRecipients(path.clone()));
        }
        let before = texts.len();
        for (number, line) in recipient::lines(&text) {
            Recipients::parse([line])
                .map_err(|error| SettingError::RecipientsLine(path.clone(), number, error))?;
            texts.push(line.to_owned());
        }
        if texts.len() == before {
            return Err(SettingError::NoRecipients(path.clone()));
        }
    }
    Ok(texts)
}

/// A setting that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// No repository was named.
    #[error("no repository is named: give --repo PLACE or set BACKUP_REPO")]
    NoRepository,
    /// The other repository cannot be a place.
    #[error("--{0} {1} is unusable")]
    Place(&'static str, String, #[source] LocationError),
    /// The repository cannot be a place.
    #[error("--repo {0} is unusable")]
    Repository(String, #[source] LocationError),
    /// The place for an archive is unusable.
    #[error("--to {0} is unusable")]
    To(String, #[source] LocationError),
    /// A credential is unusable.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// A file with a secret is unusable.
    #[error(transparent)]
    PrivateFile(#[from] PrivateFileError),
    /// The key file is none.
    #[error("the key file {} is unusable", .0.display())]
    KeyFile(PathBuf, #[source] KeyFileError),
    /// The identity file is none.
    #[error("the identity file {} is unusable", .0.display())]
    Identity(PathBuf, #[source] IdentityError),
    /// A file with recipients cannot be read.
    #[error("cannot read the recipients in {}", .0.display())]
    RecipientsFile(PathBuf, #[source] io::Error),
    /// A file that is no list of recipients.
    #[error("{} is longer than 64 KiB, so it is no list of recipients", .0.display())]
    LongRecipients(PathBuf),
    /// A line that is none.
    #[error("line {line} of {path} is unusable", path = .0.display(), line = .1)]
    RecipientsLine(PathBuf, usize, #[source] RecipientError),
    /// A file without recipients.
    #[error("{} names no recipient", .0.display())]
    NoRecipients(PathBuf),
    /// Recipients are unusable.
    #[error("the recipients are unusable")]
    Recipients(#[from] RecipientError),
    /// A passphrase is asked for, and there is none.
    #[error(
        "--passphrase takes the passphrase from BACKUP_PASSPHRASE_FILE or BACKUP_PASSPHRASE: set one of them"
    )]
    NoPassphrase,
    /// A passphrase that is easily guessed.
    #[error(
        "the passphrase is shorter than {PASSPHRASE_CHARS_MIN} characters, which a machine guesses in no time"
    )]
    ShortPassphrase,
    /// A passphrase that the way out without this program could not be given.
    #[error(
        "the passphrase has a character that nobody can type: a line break or another control character, a byte order mark, or \
         bytes that are no UTF-8"
    )]
    OddPassphrase,
    /// A variable that is meant to encrypt something, and would not.
    #[error(
        "{0} is set, but is no setting of this program, and what it is meant to protect would not be: see `backup --help` for the \
         right name, or unset it (recipients are named by `backup init --recipient`)"
    )]
    UnknownKey(String),
    /// A secret where a name should be. It is not repeated.
    #[error(
        "{0} takes the name of a file, and the secret itself is given: put it into a file that is closed to others, and hold it \
         for known to who sees the arguments or the environment of this process"
    )]
    NoName(&'static str),
    /// An encrypted repository without a key file could not be written to.
    #[error(
        "an encrypted repository needs a key file, which is what saves: name a new file with --key-file FILE"
    )]
    NoKeyFile,
    /// A key file, and nobody to encrypt for.
    #[error(
        "a key file or an identity is given, but nobody to encrypt for: add --recipient, --recipients-file or --passphrase, \
         or leave the keys out for a repository that is not encrypted"
    )]
    NobodyReads,
    /// `create --init` knows nothing of recipients.
    #[error(
        "--init makes repositories that are not encrypted, and a key is given: use `backup init --recipient …`"
    )]
    InitClear,
    /// A size is not one.
    #[error("--memory {0} is no size of at least 64M: give for example 64M or 1G")]
    Memory(String),
    /// A size is not one.
    #[error("--spool-max {0} is no size: give for example 512M or 16G")]
    Spool(String),
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
        let budget = memory
            .and_then(|memory| Budget::new(memory, threads))
            .ok_or_else(|| SettingError::Memory(args.memory.clone().unwrap_or_default()))?;
        let (secret, secret_file) = credentials.secret_key;
        let (token, token_file) = credentials.session_token;
        let remote = remote(credentials.remote)?;
        Ok(Self {
            remote,
            s3: S3Settings {
                endpoint: args.s3_endpoint.clone(),
                region: args.s3_region.clone(),
                access_key: credentials.access_key,
                secret_key: secret_from("AWS_SECRET_ACCESS_KEY", secret, secret_file)?,
                session_token: secret_from("AWS_SESSION_TOKEN", token, token_file)?,
                path_style: args.s3_path_style,
            },
            keys: KeySettings {
                key_file: args.key_file.clone(),
                identity: args.identity.clone(),
                passphrase: passphrase(credentials.passphrase)?,
            },
            budget,
            json: args.json,
            quiet: args.quiet > 0,
        })
    }

    /// For what has nothing to do with a store: no setting of one is looked at, so that none that cannot be used keeps containers
    /// paused.
    #[must_use]
    pub fn without_store(args: &CommonArgs) -> Self {
        Self {
            s3: S3Settings::default(),
            remote: RemoteSettings::default(),
            budget: Budget::LEAST,
            keys: KeySettings::default(),
            json: args.json,
            quiet: args.quiet > 0,
        }
    }
}

/// What stores beside S3 want.
fn remote(credentials: RemoteCredentials) -> Result<RemoteSettings, SettingError> {
    let secret = |name: &str, (value, file): (Option<String>, Option<PathBuf>)| {
        secret_from(name, value, file)
    };
    Ok(RemoteSettings {
        sftp_key_file: credentials.sftp_key_file,
        sftp_known_hosts: credentials.sftp_known_hosts,
        webdav_user: credentials.webdav_user,
        webdav_password: secret("BACKUP_WEBDAV_PASSWORD", credentials.webdav_password)?,
        azure_account: credentials.azure_account,
        azure_key: secret("AZURE_STORAGE_KEY", credentials.azure_key)?,
    })
}

/// The repository that was named.
pub fn repository(args: &CommonArgs) -> Result<Location, SettingError> {
    let text = args.repo.as_deref().ok_or(SettingError::NoRepository)?;
    Location::parse(text).map_err(|error| SettingError::Repository(without_password(text), error))
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
    // A throw-away container keeps nothing but the repository it has mounted. Beside an encrypted one, who has the key file of
    // another machine could open it.
    if let Location::Directory(directory) = repository
        && args.key_file.is_none()
    {
        return Some(directory.join(REPOSITORY_CACHE));
    }
    if Path::new(IMAGE_CACHE).is_dir() {
        return Some(PathBuf::from(IMAGE_CACHE));
    }
    let home = || std::env::home_dir().filter(|home| home.is_absolute() && home.parent().is_some());
    home().map(|home| home.join(".cache").join("chores-backup"))
}

/// Where journals of paused and stopped containers go, if there is a place.
#[must_use]
pub fn state_directory(args: &CommonArgs) -> Option<PathBuf> {
    if let Some(directory) = &args.state_dir {
        return Some(directory.clone());
    }
    if Path::new(IMAGE_STATE).is_dir() {
        return Some(PathBuf::from(IMAGE_STATE));
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute() && home.parent().is_some());
    home.map(|home| home.join(".local/state/chores-backup"))
}

/// What of a dump may wait for the store, and where. It is not encrypted, so never beside an encrypted repository unless
/// that was asked for.
pub fn spool(
    args: &SpoolArgs,
    common: &CommonArgs,
    repository: &Location,
    is_encrypted: bool,
) -> Result<SpoolLimits, SettingError> {
    let file = args.spool_max.as_deref().map_or(Some(SPOOL_DEFAULT), parse_size);
    let file =
        file.ok_or_else(|| SettingError::Spool(args.spool_max.clone().unwrap_or_default()))?;
    let is_beside = matches!(repository, Location::Directory(_)) && common.cache_dir.is_none();
    let usual = || cache_directory(common, repository).filter(|_| !(is_encrypted && is_beside));
    let directory = args.spool_dir.clone().or_else(usual);
    Ok(SpoolLimits {
        memory: SPOOL_MEMORY_BYTES_MAX,
        file,
        directory: directory.unwrap_or_else(std::env::temp_dir),
    })
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
