//! What was typed and written, made sense of. Flags win over the environment, that over the file, that over what
//! is built in. Everything here fails closed: a setting that is there but unusable is an error, never a default.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::config::{ConfigError, secret_from};
use chores_common::engine::Host;
use chores_common::object::Location;
use chores_common::secret::Secret;
use chores_common::settings::FileFaults;

use crate::cli::{
    AUTHORIZED_KEYS, AdmissionArgs, CommonArgs, Credentials, DoctorArgs, EnterArgs, Environment,
    ServeArgs,
};
use crate::policy::{Record, ToolboxUse, Unrecorded};
use crate::toolbox;
use crate::wire::Opaque;
use crate::wire::net::Limits;
use crate::wire::upload::Setup;

pub mod file;

use file::FileConfig;

#[cfg(test)]
mod tests;

/// Where it listens unless told otherwise.
pub const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2222));

/// Addresses to listen at, at the most.
pub const LISTENERS_MAX: usize = 16;

/// The state of an image that has one mounted.
const IMAGE_STATE: &str = "/state";

/// Where the directories of containers are looked for: `DIR/ID/config.json`. The first is where our own
/// documentation mounts them; then dockerd's own containerd, and that of the system.
pub const BUNDLES_DEFAULT: [&str; 3] = [
    "/bundles",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
    "/run/containerd/io.containerd.runtime.v2.task/moby",
];

/// Where the host's cgroup hierarchies are looked for.
pub const CGROUP_ROOTS_DEFAULT: [&str; 2] = ["/host/cgroup", "/sys/fs/cgroup"];

/// Between TERM and KILL of what a session leaves.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// Bytes of the banner: clients show no more.
pub const BANNER_BYTES_MAX: usize = 8 * 1024;

/// What is open to everybody until told otherwise: sshd's defaults or tighter.
pub const LIMITS_DEFAULT: Limits = Limits {
    login_grace_seconds: 30,
    startups: (10, 30, 100),
    startups_per_source: 8,
    auth_attempts: 6,
    sessions: 10,
    channels: 64,
    listeners: 8,
    spool_bytes: 1 << 30,
    keepalive_seconds: 60,
    keepalive_count: 3,
    idle_seconds: 0,
};

/// Variables that a client may set, as patterns. What a program or a loader obeys is never among them.
pub const ACCEPT_ENVIRONMENT_DEFAULT: [&str; 6] =
    ["LANG", "LC_*", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "GIT_PROTOCOL"];

/// How containers are entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By ourselves, with the confinement proved, or not at all.
    Native,
    /// By the engine's exec, degraded.
    Engine,
    /// By ourselves where it is possible, else by the engine's exec.
    #[default]
    Auto,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "native" => Ok(Self::Native),
            "engine" => Ok(Self::Engine),
            "auto" => Ok(Self::Auto),
            other => Err(chores_common::settings::one_of(other, &["native", "engine", "auto"])),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Engine => "engine",
            Self::Auto => "auto",
        })
    }
}

/// How containers are entered, and what is needed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnterConfig {
    /// In the forms of `DOCKER_HOST`.
    pub engine: Option<String>,
    /// How.
    pub mode: Mode,
    /// Directories with a directory for every container, in the order they are looked at.
    pub bundles: Vec<PathBuf>,
    /// Where the host's cgroup hierarchies may be, in the order they are looked at.
    pub cgroup_roots: Vec<PathBuf>,
    /// Where programs for sessions are whose images have none; `None` without them.
    pub toolbox: Option<PathBuf>,
    /// When sessions get them whose rule says nothing about it, and where there are only keys.
    pub toolbox_use: ToolboxUse,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// The text of a variable.
    Text {
        /// Its name.
        variable: &'static str,
        /// What it holds.
        text: String,
    },
}

/// Where it is said who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// Keys alone, each of which may do what its line does not take away; never empty.
    Keys(Vec<KeySource>),
    /// A policy.
    File(PathBuf),
}

impl PolicySource {
    /// The files that it names itself.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Keys(sources) => sources
                .iter()
                .filter_map(|source| match source {
                    KeySource::File(path) => Some(path.clone()),
                    KeySource::Text { .. } => None,
                })
                .collect(),
            Self::File(path) => vec![path.clone()],
        }
    }
}

/// What is kept of who did what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordConfig {
    /// Of sessions whose rule says nothing about it, and where there are only keys.
    pub sessions: Record,
    /// The same for what cannot be recorded.
    pub unrecorded: Unrecorded,
    /// What all recordings may take, in bytes.
    pub quota: u64,
    /// What one recording may take, in bytes.
    pub largest: u64,
    /// What the audit may take, in bytes.
    pub audit_quota: u64,
    /// Where finished records go; a bucket.
    pub upload: Option<Location>,
    /// Recordings stay when they are there.
    pub keep_local: bool,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            sessions: Record::default(),
            unrecorded: Unrecorded::default(),
            quota: 10 << 30,
            largest: 1 << 30,
            audit_quota: 1 << 30,
            upload: None,
            keep_local: true,
        }
    }
}

/// Everything that `serve` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that was read.
    pub path: Option<PathBuf>,
    /// Where to listen; never empty.
    pub listen: Vec<SocketAddr>,
    /// Where the host keys are.
    pub state: PathBuf,
    /// Who may come in.
    pub policy: PolicySource,
    /// Lists of keys and certificates that do not count any more.
    pub revoked_keys: Vec<PathBuf>,
    /// Shown before authentication.
    pub banner: Option<String>,
    /// How containers are entered.
    pub enter: EnterConfig,
    /// The bounds of connections.
    pub limits: Limits,
    /// Between TERM and KILL of what a session leaves.
    pub stop_grace: Duration,
    /// Names of variables that a client may set; a `*` at the end stands for any rest.
    pub accept_environment: Vec<String>,
    /// What is kept of who did what.
    pub record: RecordConfig,
    /// Load balancers whose word about their clients is taken.
    pub proxies: Vec<String>,
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
    /// A variable and its twin are both set, or one of them is unusable.
    #[error(transparent)]
    Twin(#[from] ConfigError),
    /// Nobody could come in.
    #[error(
        "no keys are named: give --authorized-keys FILE or --policy FILE, or set SSH_GATEWAY_AUTHORIZED_KEYS or its _FILE twin"
    )]
    NoKeys,
    /// The keys would go round the policy.
    #[error(
        "both a policy and authorized keys are named, and those keys could do everything: name their files in an identity of the policy ({})", path.display()
    )]
    PolicyAndKeys {
        /// The policy.
        path: PathBuf,
    },
    /// Clients would see a new host key at every start.
    #[error(
        "no state directory is named: give --state DIR or set SSH_GATEWAY_STATE; the host keys are kept there"
    )]
    NoState,
    /// Nothing opens the bucket.
    #[error(
        "record.upload names a bucket, and {0} is not set: set AWS_ACCESS_KEY_ID, and AWS_SECRET_ACCESS_KEY or its _FILE twin"
    )]
    NoCredentials(&'static str),
    /// A file cannot be used.
    #[error("{flag} {} cannot be read", path.display())]
    Unreadable {
        /// As it is typed.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

impl SettingError {
    /// A flag whose value is unusable.
    pub fn flag(flag: &'static str, value: &dyn ToString, fault: &dyn ToString) -> Self {
        Self::Flag { flag, value: value.to_string(), fault: fault.to_string() }
    }
}

impl Config {
    /// What `serve` is told.
    pub fn for_serve(
        common: &CommonArgs,
        args: &ServeArgs,
        environment: Environment,
    ) -> Result<Self, SettingError> {
        let file = read_file(common)?;
        let listen = listen(&args.listen, &file.listen)?;
        let policy = policy(&args.admission, environment, &file)?;
        let banner = match &args.banner {
            Some(path) => Some(read_banner("--banner", path)?),
            None => file.banner.clone(),
        };
        let enter = enter(common, &args.enter, &file)?;
        let revoked_keys = revoked_keys(&args.admission, &file);
        let state = common.state.clone().or(file.state).or_else(image_state);
        Ok(Self {
            path: common.config.clone(),
            listen,
            state: state.ok_or(SettingError::NoState)?,
            policy,
            revoked_keys,
            banner,
            enter,
            limits: file.limits,
            stop_grace: file.stop_grace,
            accept_environment: file.accept_environment,
            record: file.record,
            proxies: file.proxies,
        })
    }
}

impl RecordConfig {
    /// Where finished records go, and what opens it.
    pub fn upload(&self, credentials: Credentials) -> Result<Option<Setup>, SettingError> {
        let Some(location) = &self.upload else { return Ok(None) };
        let (value, file) = credentials.secret_key;
        let secret_key = secret_from("AWS_SECRET_ACCESS_KEY", value, file)?
            .ok_or(SettingError::NoCredentials("AWS_SECRET_ACCESS_KEY"))?;
        let (value, file) = credentials.session_token;
        let session_token = secret_from("AWS_SESSION_TOKEN", value, file)?;
        let opaque = |secret: &Secret| Opaque(secret.expose().as_bytes().to_vec());
        let access_key = credentials.access_key;
        Ok(Some(Setup {
            location: location.to_string(),
            endpoint: credentials.endpoint,
            region: credentials.region,
            access_key: access_key.ok_or(SettingError::NoCredentials("AWS_ACCESS_KEY_ID"))?,
            secret_key: opaque(&secret_key),
            session_token: session_token.as_ref().map(opaque),
        }))
    }
}

impl EnterConfig {
    /// What `doctor` is told.
    pub fn for_doctor(common: &CommonArgs, args: &DoctorArgs) -> Result<Self, SettingError> {
        enter(common, &args.enter, &read_file(common)?)
    }

    /// The engine's socket, if it is one. What cannot be meant is told by whoever connects.
    #[must_use]
    pub fn engine_socket(&self) -> Option<PathBuf> {
        match Host::parse(self.engine.as_deref()) {
            Ok(Host::Unix(path)) => Some(path),
            Ok(Host::Tcp(_)) | Err(_) => None,
        }
    }

    /// The first place of the host's cgroup hierarchies that is there.
    #[must_use]
    pub fn cgroup_root(&self) -> PathBuf {
        let roots = &self.cgroup_roots;
        roots.iter().find(|path| path.is_dir()).or(roots.first()).cloned().unwrap_or_default()
    }
}

/// The engine, without the rest.
pub fn engine(common: &CommonArgs) -> Result<Option<String>, SettingError> {
    Ok(common.engine.clone().or(read_file(common)?.engine))
}

/// Where the state is, without the rest.
pub fn state(common: &CommonArgs) -> Result<Option<PathBuf>, SettingError> {
    if let Some(state) = &common.state {
        return Ok(Some(state.clone()));
    }
    Ok(read_file(common)?.state.or_else(image_state))
}

fn read_file(common: &CommonArgs) -> Result<FileConfig, FileFaults> {
    common.config.as_deref().map_or_else(|| Ok(FileConfig::default()), file::read)
}

fn image_state() -> Option<PathBuf> {
    Path::new(IMAGE_STATE).is_dir().then(|| PathBuf::from(IMAGE_STATE))
}

/// That of our image. Another directory of the name is not taken for one.
fn image_toolbox() -> Option<PathBuf> {
    let directory = Path::new(toolbox::DIRECTORY_DEFAULT);
    directory.join(toolbox::BASE).is_dir().then(|| directory.to_owned())
}

fn listen(typed: &[String], written: &[SocketAddr]) -> Result<Vec<SocketAddr>, SettingError> {
    if typed.len() > LISTENERS_MAX {
        let fault = format!("there are more than {LISTENERS_MAX} addresses");
        return Err(SettingError::flag("--listen", &typed.len(), &fault));
    }
    let mut addresses = Vec::new();
    for text in typed {
        let wrong = |fault: &str| SettingError::flag("--listen", text, &fault);
        let address = listen_address(text).ok_or_else(|| wrong(LISTEN_FORMS))?;
        if addresses.contains(&address) {
            return Err(wrong("it is given twice"));
        }
        addresses.push(address);
    }
    Ok(match (addresses.as_slice(), written) {
        ([], []) => vec![LISTEN_DEFAULT],
        ([], written) => written.to_vec(),
        _ => addresses,
    })
}

/// What [`listen_address`] takes.
const LISTEN_FORMS: &str =
    "give ADDRESS:PORT, such as 0.0.0.0:2222 or [::]:2222, or a port alone, such as 2222";

/// Where to listen: an address with its port, or a port of every IPv4 address.
fn listen_address(text: &str) -> Option<SocketAddr> {
    let everywhere = |port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    text.parse().ok().or_else(|| text.parse().ok().map(everywhere))
}

/// What a policy command is told: where the policy is, what is revoked, and which variables clients may set.
pub fn for_policy(
    common: &CommonArgs,
    admission: &AdmissionArgs,
    environment: Environment,
) -> Result<(PolicySource, Vec<PathBuf>, Vec<String>), SettingError> {
    let file = read_file(common)?;
    let revoked = revoked_keys(admission, &file);
    Ok((policy(admission, environment, &file)?, revoked, file.accept_environment))
}

fn revoked_keys(typed: &AdmissionArgs, file: &FileConfig) -> Vec<PathBuf> {
    // What one place revokes the other does not give back.
    let mut lists = file.revoked_keys.clone();
    lists.extend(
        typed.revoked_keys.iter().filter(|list| !file.revoked_keys.contains(list)).cloned(),
    );
    lists
}

fn policy(
    typed: &AdmissionArgs,
    environment: Environment,
    file: &FileConfig,
) -> Result<PolicySource, SettingError> {
    let keys = keys(&typed.authorized_keys, environment, &file.authorized_keys)?;
    match typed.policy.as_ref().or(file.policy.as_ref()) {
        Some(path) if keys.is_empty() => Ok(PolicySource::File(path.clone())),
        Some(path) => Err(SettingError::PolicyAndKeys { path: path.clone() }),
        None if keys.is_empty() => Err(SettingError::NoKeys),
        None => Ok(PolicySource::Keys(keys)),
    }
}

fn keys(
    typed: &[PathBuf],
    environment: Environment,
    written: &[PathBuf],
) -> Result<Vec<KeySource>, SettingError> {
    let files = |paths: &[PathBuf]| paths.iter().cloned().map(KeySource::File).collect();
    let (text, file) = environment.authorized_keys;
    let name = || AUTHORIZED_KEYS.to_owned();
    let of_environment = match (text, file) {
        (Some(_), Some(_)) => return Err(ConfigError::BothSet { name: name() }.into()),
        (Some(text), None) if text.trim().is_empty() => {
            return Err(ConfigError::Empty { name: name() }.into());
        }
        (Some(text), None) => vec![KeySource::Text { variable: AUTHORIZED_KEYS, text }],
        (None, file) => file.into_iter().map(KeySource::File).collect(),
    };
    Ok(match typed {
        [] if of_environment.is_empty() => files(written),
        [] => of_environment,
        typed => files(typed),
    })
}

fn enter(
    common: &CommonArgs,
    args: &EnterArgs,
    file: &FileConfig,
) -> Result<EnterConfig, SettingError> {
    let mode = match &args.mode {
        Some(mode) => {
            mode.parse().map_err(|fault: String| SettingError::flag("--mode", mode, &fault))?
        }
        None => file.mode,
    };
    for path in &args.bundles {
        absolute("--bundles", path)?;
    }
    if let Some(path) = &args.cgroup_root {
        absolute("--cgroup-root", path)?;
    }
    if let Some(path) = &args.toolbox {
        absolute("--toolbox", path)?;
    }
    let bundles = match (args.bundles.as_slice(), file.bundles.as_slice()) {
        ([], []) => BUNDLES_DEFAULT.iter().map(PathBuf::from).collect(),
        ([], written) => written.to_vec(),
        (typed, _) => typed.to_vec(),
    };
    let cgroup_root = args.cgroup_root.clone().or_else(|| file.cgroup_root.clone());
    Ok(EnterConfig {
        engine: common.engine.clone().or_else(|| file.engine.clone()),
        mode,
        bundles,
        cgroup_roots: match cgroup_root {
            Some(root) => vec![root],
            None => CGROUP_ROOTS_DEFAULT.iter().map(PathBuf::from).collect(),
        },
        toolbox: args.toolbox.clone().or_else(|| file.toolbox.clone()).or_else(image_toolbox),
        toolbox_use: file.toolbox_use,
    })
}

fn absolute(flag: &'static str, path: &Path) -> Result<(), SettingError> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(SettingError::flag(flag, &path.display(), &"it is no absolute path"))
}

fn read_banner(flag: &'static str, path: &Path) -> Result<String, SettingError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(BANNER_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(SettingError::Unreadable { flag, path: path.to_owned(), source });
    }
    banner(&bytes).map_err(|fault| SettingError::flag(flag, &path.display(), &fault))
}

/// The text that is shown before authentication (RFC 4252, 5.4), with the line ends that it wants.
fn banner(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > BANNER_BYTES_MAX {
        return Err(format!("it is larger than {BANNER_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err("it has control characters in it".to_owned());
        }
        lines.push_str(line);
        lines.push_str("\r\n");
    }
    if lines.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(lines) }
}
