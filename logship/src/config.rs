//! What was typed and written, made sense of: sources, sinks, places, limits. Flags win over the environment,
//! that over the file, that over what is built in. Everything here fails closed: a setting that is there but
//! unusable is an error, never a default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::config::{ConfigError, secret_from};
use chores_common::exit::chain;
use chores_common::object::S3Settings;
use chores_common::secret::Secret;

use crate::cli::{CommonArgs, Credentials, RunArgs, SourceArgs};
use crate::plan::Planner;
use crate::process::redact::Rule;
use crate::quantity;
use crate::rule::{EngineRule, FilesRule, Patterns, SourceRule, glob};
use crate::sink::options::{OptionFault, shown};
use crate::sink::settings::SinkSettings;

pub mod file;

use file::{Fault, FileFaults};

#[cfg(test)]
mod tests;

/// The state of an image that has one mounted.
const IMAGE_STATE: &str = "/state";

/// How long to go on delivering after SIGTERM, unless set: two seconds less than an engine waits before it kills.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(8);

/// Sinks, at the most: each has a thread.
pub const SINKS_MAX: usize = 32;

/// Bytes of a sink's name.
const NAME_BYTES_MAX: usize = 64;

/// Everything that is set.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read.
    pub path: Option<PathBuf>,
    /// Name of this host in records.
    pub host: String,
    /// Where the log and the cursors are; `None`: nowhere, nothing survives a restart.
    pub state: Option<PathBuf>,
    /// The log.
    pub wal: WalConfig,
    /// The engine.
    pub engine: EngineConfig,
    /// What is shipped, in the order it is asked.
    pub sources: Vec<SourceRule>,
    /// Where to.
    pub sinks: Vec<SinkConfig>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// How long to go on delivering after SIGTERM.
    pub drain: Duration,
    /// Kinds of secrets beside the presets.
    pub secrets: BTreeMap<String, Rule>,
}

/// The write-ahead log; what is not set is the log's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalConfig {
    /// Nothing but cursors is kept on disk.
    pub off: bool,
    /// How frames are compressed.
    pub codec: Option<WalCodec>,
    /// What it may hold, in bytes.
    pub bytes_max: Option<u64>,
    /// Space kept aside on disk for the cursors of sinks, in bytes.
    pub reserve_bytes: Option<u64>,
}

/// How frames of the log are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalCodec {
    /// Not at all.
    None,
    /// Fast.
    Lz4,
    /// Small.
    Zstd,
}

/// The engine and its files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineConfig {
    /// In the forms of `DOCKER_HOST`.
    pub host: Option<String>,
    /// Where its containers' directories are; the engine's own place when absent.
    pub files: Option<PathBuf>,
    /// Where unread files are kept by hard links.
    pub pin: Option<PathBuf>,
    /// Its files are never read.
    pub api_only: bool,
}

/// One sink, as it was written. Its URL and options may hold secrets: `Debug` shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Names its cursor: the same after a restart.
    pub name: String,
    /// Where to.
    pub url: String,
    /// What is finer, by name.
    pub options: BTreeMap<String, String>,
    /// Where it stands in the file.
    pub place: Option<file::Place>,
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkConfig")
            .field("name", &self.name)
            .field("url", &shown(&self.url))
            .field("options", &self.options.keys())
            .field("place", &self.place)
            .finish()
    }
}

/// A setting that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The configuration file has faults.
    #[error(transparent)]
    File(#[from] FileFaults),
    /// A flag or variable is unusable.
    #[error("{flag} {value:?} is unusable: {fault}")]
    Flag {
        /// As it is typed.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong.
        fault: String,
    },
    /// A credential is unusable.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// A sink is unusable.
    #[error("the sink {name} is unusable")]
    Sink {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        fault: OptionFault,
    },
    /// Too many sinks.
    #[error("there are more than {SINKS_MAX} sinks")]
    TooManySinks,
    /// Filters beside sources that have their own.
    #[error(
        "--include and --exclude change nothing in a configuration file's sources: write them there"
    )]
    FilterWithoutSource,
    /// Two sinks would write over each other's lines.
    #[error("the sinks {0} and {1} write the same files: give each a path of its own")]
    SameFiles(String, String),
    /// Rotation without a place for what it has begun.
    #[error(
        "files are rotated only with a state directory, which says what is safe: give --state DIR"
    )]
    RotateWithoutState,
    /// Options for containers without containers.
    #[error("--include is for containers: give --engine too")]
    IncludeWithoutEngine,
}

impl SettingError {
    /// A flag whose value is unusable.
    pub fn flag(flag: &'static str, value: &str, fault: &dyn ToString) -> Self {
        Self::Flag { flag, value: value.to_owned(), fault: fault.to_string() }
    }
}

impl Config {
    /// From the common options, those of sources, and the file they name.
    pub fn new(common: &CommonArgs, args: &SourceArgs) -> Result<Self, SettingError> {
        let file = common.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let access = &args.engine_access;
        let mut config = Self {
            path: common.config.clone(),
            host: args.host.clone().or(file.host).unwrap_or_else(host_name),
            state: common.state.clone().or(file.state).or_else(image_state),
            wal: file.wal,
            engine: EngineConfig {
                host: access.engine_host.clone().or(file.engine.host),
                files: access.engine_files.clone().or(file.engine.files),
                pin: access.pin.clone().or(file.engine.pin),
                api_only: access.api_only || file.engine.api_only,
            },
            sources: file.sources,
            sinks: file.sinks,
            metrics: file.metrics,
            drain: file.drain.unwrap_or(DRAIN_DEFAULT),
            secrets: file.secrets,
        };
        if let Some(sources) = typed_sources(args)? {
            config.sources = sources;
        } else if config.sources.is_empty() {
            config.sources.push(SourceRule::Engine(typed_engine(args)?));
        } else if !args.include.is_empty() || !args.exclude.is_empty() {
            return Err(SettingError::FilterWithoutSource);
        }
        let typed = typed_sinks(&args.sink)?;
        if !typed.is_empty() {
            // The sinks of the file are gone, and so is what sources said of them.
            config.sources.iter_mut().for_each(|source| source.lines_mut().sinks = None);
            config.sinks = typed;
        } else if config.sinks.is_empty() {
            config.sinks = typed_sinks(&[Secret::new("stdout:".to_owned())])?;
        }
        if config.sinks.len() > SINKS_MAX {
            return Err(SettingError::TooManySinks);
        }
        if config.state.is_none() && config.files().any(|rule| rule.rotate.is_some()) {
            return Err(SettingError::RotateWithoutState);
        }
        Ok(config)
    }

    /// The same with the options of `run` and `once`.
    pub fn for_run(common: &CommonArgs, args: &RunArgs) -> Result<Self, SettingError> {
        let mut config = Self::new(common, &args.sources)?;
        config.metrics = args.metrics.or(config.metrics);
        config.wal.off |= args.no_wal;
        if let Some(size) = &args.wal_max {
            let bytes = quantity::size(size);
            config.wal.bytes_max =
                Some(bytes.map_err(|fault| SettingError::flag("--wal-max", size, &fault))?);
        }
        if let Some(drain) = &args.drain {
            config.drain = quantity::duration(drain)
                .map_err(|fault| SettingError::flag("--drain", drain, &fault))?;
        }
        Ok(config)
    }

    /// What every sink is. Secrets are read from their files.
    pub fn sink_settings(&self) -> Result<Vec<SinkSettings>, SettingError> {
        let mut settings = Vec::new();
        let mut faults = Vec::new();
        for sink in &self.sinks {
            let parsed = SinkSettings::parse(&sink.name, &sink.url, &sink.options);
            match (parsed, sink.place) {
                (Ok(parsed), _) => settings.push(parsed),
                (Err(error), None) => {
                    return Err(SettingError::Sink { name: error.sink, fault: error.fault });
                }
                (Err(error), place) => faults.push(Fault {
                    place,
                    key: format!("sink {}", error.sink),
                    message: chain(&error.fault),
                }),
            }
        }
        for (number, sink) in settings.iter().enumerate() {
            if let Some(other) = settings.iter().take(number).find(|other| other.shares_files(sink))
            {
                return Err(SettingError::SameFiles(other.name.clone(), sink.name.clone()));
            }
        }
        match &self.path {
            Some(path) if !faults.is_empty() => {
                Err(FileFaults { path: path.clone(), faults }.into())
            }
            _ => Ok(settings),
        }
    }

    /// What plans for containers are made from.
    #[must_use]
    pub fn planner(&self) -> Planner {
        let rules = self.sources.iter().filter_map(|source| match source {
            SourceRule::Engine(rule) => Some(rule.clone()),
            SourceRule::Files(_) => None,
        });
        Planner {
            host: self.host.clone(),
            rules: rules.collect(),
            sinks: self.sinks.iter().map(|sink| sink.name.clone()).collect(),
            secrets: self.secrets.clone(),
        }
    }

    /// Whether containers are shipped at all.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, SourceRule::Engine(_)))
    }

    /// Every rule for files.
    pub fn files(&self) -> impl Iterator<Item = &FilesRule> {
        self.sources.iter().filter_map(|source| match source {
            SourceRule::Files(rule) => Some(rule),
            SourceRule::Engine(_) => None,
        })
    }
}

/// Where the state is, without the rest: for commands that only look.
pub fn state(common: &CommonArgs) -> Result<Option<PathBuf>, SettingError> {
    if let Some(state) = &common.state {
        return Ok(Some(state.clone()));
    }
    let file = common.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
    Ok(file.state.or_else(image_state))
}

/// Where metrics are served, as far as the file says.
pub fn metrics(common: &CommonArgs) -> Result<Option<SocketAddr>, SettingError> {
    let file = common.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
    Ok(file.metrics)
}

/// How to reach S3, for commands that read archives.
pub fn s3(credentials: Credentials) -> Result<S3Settings, SettingError> {
    let (secret, secret_file) = credentials.secret_key;
    let (token, token_file) = credentials.session_token;
    Ok(S3Settings {
        endpoint: credentials.endpoint,
        region: credentials.region,
        access_key: credentials.access_key,
        secret_key: secret_from("AWS_SECRET_ACCESS_KEY", secret, secret_file)?,
        session_token: secret_from("AWS_SESSION_TOKEN", token, token_file)?,
        path_style: None,
    })
}

fn image_state() -> Option<PathBuf> {
    Path::new(IMAGE_STATE).is_dir().then(|| PathBuf::from(IMAGE_STATE))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Sources as they were typed; `None` when none were.
fn typed_sources(args: &SourceArgs) -> Result<Option<Vec<SourceRule>>, SettingError> {
    if args.files.is_empty() {
        return if args.engine {
            Ok(Some(vec![SourceRule::Engine(typed_engine(args)?)]))
        } else {
            Ok(None)
        };
    }
    if !args.engine && !args.include.is_empty() {
        return Err(SettingError::IncludeWithoutEngine);
    }
    for path in &args.files {
        if let Some(fault) = path_fault(path) {
            return Err(SettingError::flag("--files", path, &fault));
        }
    }
    let files = FilesRule {
        name: "--files".to_owned(),
        paths: args.files.clone(),
        exclude: args.exclude.clone(),
        ..FilesRule::default()
    };
    let mut sources = vec![SourceRule::Files(files)];
    if args.engine {
        sources.push(SourceRule::Engine(typed_engine(args)?));
    }
    Ok(Some(sources))
}

fn typed_engine(args: &SourceArgs) -> Result<EngineRule, SettingError> {
    let patterns = |flag, texts: &[String]| {
        Patterns::new(texts).map_err(|fault| SettingError::flag(flag, &texts.join(" "), &fault))
    };
    Ok(EngineRule {
        name: "--engine".to_owned(),
        include: patterns("--include", &args.include)?,
        exclude: patterns("--exclude", &args.exclude)?,
        ..EngineRule::default()
    })
}

/// Digits of the hash in the name of a sink.
const NAME_HASH_DIGITS: usize = 8;

/// Sinks of URLs alone. The only one of its kind is named after it; with others of its kind, its place is in the
/// name, so that none takes over the cursor of another when one of them goes.
fn typed_sinks(urls: &[Secret]) -> Result<Vec<SinkConfig>, SettingError> {
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for url in urls.iter().map(Secret::expose) {
        let kind_of = |url: &str| url.split(':').next().unwrap_or_default().replace('+', "-");
        let kind = kind_of(url);
        if !url.contains(':') || sink_name_fault(&kind).is_some() {
            let fault = "it is no URL: give for example stdout: or file:///logs/{name}.log";
            return Err(SettingError::flag("--sink", &shown(url), &fault));
        }
        let name = if urls.iter().filter(|other| kind_of(other.expose()) == kind).count() == 1 {
            kind
        } else {
            let place = url.split('?').next().unwrap_or_default();
            let hash = blake3::hash(place.as_bytes()).to_hex();
            format!("{kind}-{}", hash.get(..NAME_HASH_DIGITS).unwrap_or_default())
        };
        if sinks.iter().any(|sink| sink.name == name) {
            return Err(SettingError::flag("--sink", &shown(url), &"it is given twice"));
        }
        let (url, options) = (url.to_owned(), BTreeMap::new());
        sinks.push(SinkConfig { name, url, options, place: None });
    }
    Ok(sinks)
}

/// What is wrong with the name of a sink: it is the name of a file too.
fn sink_name_fault(name: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    (!begins || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain)).then(|| {
        format!(
            "{name:?} is no name: give up to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`, beginning with a letter or digit"
        )
    })
}

/// What is wrong with a glob of files.
fn path_fault(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some("it is no absolute path".to_owned());
    }
    glob(path).err().map(|error| error.to_string())
}
