//! What was typed: flags, arguments and their environment variables. What it means is [`crate::config`].

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use chores_common::telemetry::LogFormat;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::check::Percent;
use crate::coverage::wanted::Wanted;
use crate::database::TEXT_BYTES_MAX;
use crate::lock::{Lock, LockError};
use crate::prune::choose::Unused;
use crate::quiesce::GUARD_VARIABLE;
use crate::serve::parent;
use crate::snapshot::{DumpKind, Selector};
use crate::worker::SOURCE_VARIABLE;

#[cfg(test)]
mod tests;

/// Back up volumes: deduplicated, incremental, and readable with plain tar and zstd.
#[derive(Debug, Parser)]
#[command(name = "backup", version, about, long_about = None, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, \
    3 done with warnings, 130 interrupted.\n\
    S3 credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SECRET_ACCESS_KEY_FILE, \
    AWS_SESSION_TOKEN or AWS_SESSION_TOKEN_FILE. Passphrase of an encrypted repository: \
    BACKUP_PASSPHRASE or BACKUP_PASSPHRASE_FILE. Where notices go: BACKUP_NOTIFY_URL or BACKUP_NOTIFY_URL_FILE. \
    SFTP: BACKUP_SFTP_KEY_FILE, BACKUP_SFTP_KNOWN_HOSTS. WebDAV: BACKUP_WEBDAV_USER, BACKUP_WEBDAV_PASSWORD or \
    BACKUP_WEBDAV_PASSWORD_FILE.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where and how.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Where the repository is: a directory, s3://bucket/prefix, sftp://user@host/path or webdavs://host/path.
    #[arg(long, global = true, env = "BACKUP_REPO", value_name = "PLACE")]
    pub repo: Option<String>,
    /// The S3 service; AWS when absent.
    #[arg(long, global = true, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// The S3 region.
    #[arg(long, global = true, env = "AWS_REGION", value_name = "NAME")]
    pub s3_region: Option<String>,
    /// Whether the bucket is in the path of the URL; by default it is with an endpoint of your own.
    #[arg(long, global = true, env = "BACKUP_S3_PATH_STYLE", value_name = "BOOL")]
    pub s3_path_style: Option<bool>,
    /// Key file of an encrypted repository: saves, checks and prunes, and reads no content.
    #[arg(long, global = true, env = "BACKUP_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Private key of an encrypted repository, a file as `age-keygen` makes it: restores.
    #[arg(long, global = true, env = "BACKUP_IDENTITY_FILE", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Where to keep what speeds up the next run; by default inside a repository directory, else /cache
    /// if it exists, else the user's cache directory.
    #[arg(long, global = true, env = "BACKUP_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no cache, whatever --cache-dir says: the next run reads everything again.
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Memory to stay within, such as 64M or 1G [default: 128M].
    #[arg(long, global = true, env = "BACKUP_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Threads that read, compress or write; all processors by default.
    #[arg(long, global = true, env = "BACKUP_THREADS", value_name = "N")]
    pub threads: Option<u16>,
    /// Where the journal of paused and stopped containers is kept; by default /state if it exists, else
    /// ~/.local/state/chores-backup.
    #[arg(long, global = true, env = "BACKUP_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The container engine; /var/run/docker.sock by default.
    #[arg(long, global = true, env = "DOCKER_HOST", value_name = "URL")]
    pub engine: Option<String>,
    /// Answer in JSON, on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say less: only warnings; twice for errors only.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// Form of the messages on standard error: auto, text or json.
    #[arg(
        long,
        global = true,
        env = "BACKUP_LOG_FORMAT",
        value_name = "FORM",
        default_value = "auto"
    )]
    pub log_format: LogFormat,
}

/// What stores beside S3 are reached with.
const REMOTE_VARIABLES: [&str; 5] = [
    "BACKUP_SFTP_KEY_FILE",
    "BACKUP_SFTP_KNOWN_HOSTS",
    "BACKUP_WEBDAV_USER",
    "BACKUP_WEBDAV_PASSWORD",
    "BACKUP_WEBDAV_PASSWORD_FILE",
];

/// The passphrase of an encrypted repository.
const PASSPHRASE: &str = "BACKUP_PASSPHRASE";

/// The file that has it.
const PASSPHRASE_FILE: &str = "BACKUP_PASSPHRASE_FILE";

/// URLs of channels for notices, which are as good as passwords.
const NOTIFY_URL: &str = "BACKUP_NOTIFY_URL";

/// The file that has them.
const NOTIFY_URL_FILE: &str = "BACKUP_NOTIFY_URL_FILE";

/// Channels for notices, as the environment of this process has them: the value, and the file that has it.
#[must_use]
pub fn notify_urls() -> (Option<String>, Option<PathBuf>) {
    let value = std::env::var_os(NOTIFY_URL).map(|value| value.to_string_lossy().into_owned());
    (value, std::env::var_os(NOTIFY_URL_FILE).map(PathBuf::from))
}

/// Credentials come from the environment only: arguments are visible to every user of the host.
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY` and the file that `AWS_SECRET_ACCESS_KEY_FILE` names.
    pub secret_key: (Option<String>, Option<PathBuf>),
    /// `AWS_SESSION_TOKEN` and the file that `AWS_SESSION_TOKEN_FILE` names.
    pub session_token: (Option<String>, Option<PathBuf>),
    /// `BACKUP_PASSPHRASE` and the file that `BACKUP_PASSPHRASE_FILE` names.
    pub passphrase: (Option<String>, Option<PathBuf>),
    /// Those of other stores.
    pub remote: RemoteCredentials,
}

/// Credentials of stores that are neither a directory nor S3: texts, files, and secrets in both forms.
#[derive(Default)]
pub struct RemoteCredentials {
    /// `BACKUP_SFTP_KEY_FILE`.
    pub sftp_key_file: Option<PathBuf>,
    /// `BACKUP_SFTP_KNOWN_HOSTS`.
    pub sftp_known_hosts: Option<PathBuf>,
    /// `BACKUP_WEBDAV_USER`.
    pub webdav_user: Option<String>,
    /// `BACKUP_WEBDAV_PASSWORD` and its file.
    pub webdav_password: (Option<String>, Option<PathBuf>),
    /// `AZURE_STORAGE_ACCOUNT`.
    pub azure_account: Option<String>,
    /// `AZURE_STORAGE_KEY` and its file.
    pub azure_key: (Option<String>, Option<PathBuf>),
    /// `AZURE_STORAGE_SERVICE_ENDPOINT`.
    pub azure_endpoint: Option<String>,
}

impl std::fmt::Debug for RemoteCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RemoteCredentials(…)")
    }
}

impl Credentials {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let text =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Self {
            access_key: text("AWS_ACCESS_KEY_ID"),
            secret_key: (text("AWS_SECRET_ACCESS_KEY"), file("AWS_SECRET_ACCESS_KEY_FILE")),
            session_token: (text("AWS_SESSION_TOKEN"), file("AWS_SESSION_TOKEN_FILE")),
            passphrase: (text(PASSPHRASE), file(PASSPHRASE_FILE)),
            remote: RemoteCredentials {
                sftp_key_file: file("BACKUP_SFTP_KEY_FILE"),
                sftp_known_hosts: file("BACKUP_SFTP_KNOWN_HOSTS"),
                webdav_user: text("BACKUP_WEBDAV_USER"),
                webdav_password: (
                    text("BACKUP_WEBDAV_PASSWORD"),
                    file("BACKUP_WEBDAV_PASSWORD_FILE"),
                ),
                azure_account: text("AZURE_STORAGE_ACCOUNT"),
                azure_key: (text("AZURE_STORAGE_KEY"), file("AZURE_STORAGE_KEY_FILE")),
                azure_endpoint: text("AZURE_STORAGE_SERVICE_ENDPOINT"),
            },
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What a parent process tells its worker container about the sources.
#[must_use]
pub fn source_description() -> Option<String> {
    std::env::var_os(SOURCE_VARIABLE).map(|text| text.to_string_lossy().into_owned())
}

/// Names of environment variables that look like settings of this program and are none: most likely
/// misspelt. What container engines and clusters set for a neighbour called `backup` is left out.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let known = known_variables();
    let from_neighbours = |name: &str| {
        ["_PORT", "_SERVICE_", "_NAME_", "_ENV_"].iter().any(|part| name.contains(part))
    };
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            name.starts_with("BACKUP_") && !known.contains(name) && !from_neighbours(name)
        })
        .collect()
}

/// Names of all environment variables of this program that begin with its name.
pub(crate) fn known_variables() -> Vec<String> {
    let command = <Cli as clap::CommandFactory>::command();
    let mut known = [
        SOURCE_VARIABLE,
        GUARD_VARIABLE,
        PASSPHRASE,
        PASSPHRASE_FILE,
        NOTIFY_URL,
        NOTIFY_URL_FILE,
        parent::VARIABLE,
    ]
    .map(str::to_owned)
    .to_vec();
    known.extend(REMOTE_VARIABLES.map(str::to_owned));
    let mut commands = vec![&command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        known.extend(variables.map(|variable| variable.to_string_lossy().into_owned()));
    }
    known
}

/// The commands, in the order of a backup's life.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new, empty repository.
    Init(InitArgs),
    /// Save volumes or paths as a new snapshot.
    Create(CreateArgs),
    /// Save a database as its own client dumps it, proved whole.
    Dump(DumpArgs),
    /// Write one plain .tar.zst of paths, without a repository.
    Stream(StreamArgs),
    /// List the snapshots.
    Snapshots(SnapshotsArgs),
    /// List what is in a snapshot.
    Ls(LsArgs),
    /// Write a file of a snapshot to standard output.
    Cat(CatArgs),
    /// Search the snapshots for a path.
    Find(FindArgs),
    /// Mount the snapshots as a read-only directory, in builds with the feature `mount`.
    Mount(MountArgs),
    /// Compare two snapshots.
    Diff(DiffArgs),
    /// Bring a snapshot back.
    Restore(RestoreArgs),
    /// Restore a snapshot into a throw-away container and look whether it is good.
    Drill(DrillArgs),
    /// Write a snapshot as one standard .tar.zst.
    Export(ExportArgs),
    /// Copy snapshots into another repository, without their sources.
    Copy(CopyArgs),
    /// Prove that every snapshot can be restored.
    Check(CheckArgs),
    /// Say what of this host is protected, by which proved snapshot, how old, and what is not.
    Status(StatusArgs),
    /// Save all that is to be saved on this host, each by its schedule, for as long as it runs.
    Serve(ServeArgs),
    /// Ask a running `serve` whether it lives, or whether all is well, for HEALTHCHECK.
    Healthcheck(HealthcheckArgs),
    /// Drop snapshots that are no longer needed.
    Forget(Box<ForgetArgs>),
    /// Delete what no snapshot needs any more.
    Prune(PruneArgs),
    /// Bring back what was deleted or written over in a bucket with versions.
    Undelete(UndeleteArgs),
    /// Say who reads an encrypted repository, and change it.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Say how long what is saved is locked in its bucket, or change it.
    Lock(LockArgs),
    /// Say whether notices arrive.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Show what the repository holds and saves.
    Stats,
    /// Test the surroundings: repository, permissions, engine, cache.
    Doctor(DoctorArgs),
    /// Let go on what a killed run left paused or stopped; `create` does so by itself.
    Resume,
    /// What a guard container runs; never started by hand.
    #[command(hide = true)]
    Guard,
    /// What `serve` asks about the repository; never started by hand.
    #[command(hide = true)]
    Learn(LearnArgs),
    /// Print a completion script for a shell.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff form, or that of a command.
    Man {
        /// The command; all of them in one page when absent.
        command: Option<String>,
    },
}

/// Whose private halves read what is encrypted.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// The public half of a key, age1…: its private half restores what is saved.
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: Vec<String>,
    /// A file with recipients, one a line.
    #[arg(long, value_name = "FILE")]
    pub recipients_file: Vec<PathBuf>,
}

impl NamedArgs {
    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recipient.is_empty() && self.recipients_file.is_empty()
    }
}

/// Who reads what is saved.
#[derive(Debug, Args)]
pub struct RecipientArgs {
    #[command(flatten)]
    pub named: NamedArgs,
    /// Whoever knows the passphrase of BACKUP_PASSPHRASE_FILE or BACKUP_PASSPHRASE.
    #[arg(long)]
    pub passphrase: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub readers: RecipientArgs,
    /// Lock each snapshot and all it needs for so long in a bucket with Object Lock: days, such as `30d`, or `30d=governance`
    /// for locks that who has the right to may lift. Otherwise nobody lifts them, its owner included.
    #[arg(long, value_name = "DAYS[=MODE]")]
    pub lock: Option<Lock>,
}

/// `lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// What is to hold from now on: days, such as `30d`, or `30d=governance`, or `off`. What is locked stays so.
    #[arg(value_name = "DAYS[=MODE]|off")]
    pub change: Option<LockChange>,
}

impl Command {
    /// Whether it has to do with a store, so that a setting of one that cannot be used ends it. What lets containers go on, tells how a
    /// service is, or prints what is in the program, neither saves nor reads.
    #[must_use]
    pub fn uses_store(&self) -> bool {
        !matches!(
            self,
            Self::Resume
                | Self::Guard
                | Self::Healthcheck(_)
                | Self::Completions { .. }
                | Self::Man { .. }
        )
    }
}

/// What is to hold from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockChange {
    /// No locks.
    Off,
    /// These.
    To(Lock),
}

impl std::str::FromStr for LockChange {
    type Err = LockError;

    fn from_str(text: &str) -> Result<Self, LockError> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::To) }
    }
}

/// `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List who reads what is saved now.
    List,
    /// Let others read too what is saved from now on.
    Add(KeyAddArgs),
    /// Let a recipient no longer read what is saved from now on.
    Remove(KeyRemoveArgs),
    /// Seal snapshots and indexes with a new key from now on, after a key file was stolen.
    Rotate(NewKeyFileArgs),
    /// Write a lost key file anew; needs --identity.
    Recover(NewKeyFileArgs),
}

/// `notify`.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test over every channel at once, and say of each whether it was taken.
    Test(NotifyTestArgs),
}

/// `notify test`.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// A configuration file with channels, `[[notify]]`; those of BACKUP_NOTIFY_URL come beside them.
    #[arg(long, env = "BACKUP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where a new key file goes.
#[derive(Debug, Args)]
pub struct NewKeyFileArgs {
    /// Where to write the new key file; the old ones are refused from then on.
    #[arg(long, value_name = "FILE")]
    pub new_key_file: PathBuf,
}

/// `key add`.
#[derive(Debug, Args)]
pub struct KeyAddArgs {
    #[command(flatten)]
    pub readers: RecipientArgs,
    #[command(flatten)]
    pub new: NewKeyFileArgs,
}

/// `key remove`.
#[derive(Debug, Args)]
pub struct KeyRemoveArgs {
    /// The recipient.
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: String,
    #[command(flatten)]
    pub new: NewKeyFileArgs,
}

/// What to leave out of a walk.
#[derive(Debug, Args)]
pub struct WalkArgs {
    /// Leave out what matches: `*.tmp` anywhere, `/var/cache/**` from the root, `logs/` directories only.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Do not enter other file systems mounted below a source.
    #[arg(long)]
    pub one_file_system: bool,
}

/// `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Paths to save; none: every volume mounted into this container.
    pub paths: Vec<PathBuf>,
    /// Save the volumes of this container, through the engine.
    #[arg(long, value_name = "CONTAINER", conflicts_with = "paths")]
    pub volumes_from: Vec<String>,
    /// Save this volume, through the engine.
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub volume: Vec<String>,
    /// Name of the snapshot [default: the container, the volume or the paths].
    #[arg(long, env = "BACKUP_NAME")]
    pub name: Option<String>,
    /// A label for the snapshot.
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// Host name to record.
    #[arg(long, env = "BACKUP_HOST", value_name = "NAME")]
    pub host: Option<String>,
    #[command(flatten)]
    pub walk: WalkArgs,
    #[command(flatten)]
    pub compression: CompressionArgs,
    /// Make the repository if there is none.
    #[arg(long)]
    pub init: bool,
    /// Read everything, even what seems unchanged.
    #[arg(long)]
    pub read_all: bool,
    /// Only say what would be stored.
    #[arg(long)]
    pub dry_run: bool,
    /// Dump the database in this container first, into the same snapshot; its kind is recognised unless it
    /// is named behind `=`.
    #[arg(long, value_name = "CONTAINER[=KIND]")]
    pub dump: Vec<DumpTarget>,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub quiesce: QuiesceArgs,
    /// Save the files of a database although it may be writing them.
    #[arg(long)]
    pub allow_live_database: bool,
    /// What is gone or unusual since the last snapshot is meant to be: later snapshots are compared with this one.
    #[arg(long)]
    pub allow_change: bool,
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// Ask the program that started this worker, over standard input and output, when to read.
    #[arg(long, hide = true)]
    pub attended: bool,
    /// With --attended: read once before.
    #[arg(long, hide = true, requires = "attended")]
    pub hot_pass: bool,
}

/// Containers that hold still while sources are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Containers that hold still")]
pub struct QuiesceArgs {
    /// Pause this container while the sources are read.
    #[arg(long, value_name = "CONTAINER")]
    pub pause: Vec<String>,
    /// Stop this container while the sources are read, and start it again.
    #[arg(long, value_name = "CONTAINER")]
    pub stop: Vec<String>,
    /// Run a command with `sh -c` in a container before anything is paused or stopped.
    #[arg(long, value_name = "CONTAINER=CMD", value_parser = hook)]
    pub pre: Vec<(String, String)>,
    /// Run a command with `sh -c` in a container when everything goes on; always when one before ran there.
    #[arg(long, value_name = "CONTAINER=CMD", value_parser = hook)]
    pub post: Vec<(String, String)>,
    /// Read once before, then only what changed while containers hold still, and let them go on after this time,
    /// such as 5s, whatever is left.
    #[arg(long, value_name = "DURATION", value_parser = chores_common::quantity::duration)]
    pub max_pause: Option<std::time::Duration>,
    /// Do without a guard container: if this run is killed, only the next one lets containers go on.
    #[arg(long)]
    pub no_guard: bool,
}

/// `CONTAINER=CMD`.
fn hook(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((container, command)) if !container.is_empty() && !command.is_empty() => {
            Ok((container.to_owned(), command.to_owned()))
        }
        _ => Err("give CONTAINER=CMD".to_owned()),
    }
}

/// The journal that a guard container is given.
#[must_use]
pub fn guard_description() -> Option<String> {
    std::env::var_os(GUARD_VARIABLE).map(|text| text.to_string_lossy().into_owned())
}

/// Which database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// Recognised by processes, environment and image.
    #[default]
    Auto,
    /// MySQL, MariaDB, Percona Server.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// Redis, Valkey.
    Redis,
    /// MongoDB.
    Mongo,
    /// SQLite files.
    Sqlite,
    /// The command behind `--`.
    Command,
}

impl KindArg {
    /// The kind, unless it is to be recognised.
    #[must_use]
    pub fn kind(self) -> Option<DumpKind> {
        match self {
            Self::Auto => None,
            Self::Mysql => Some(DumpKind::Mysql),
            Self::Postgres => Some(DumpKind::Postgres),
            Self::Redis => Some(DumpKind::Redis),
            Self::Mongo => Some(DumpKind::Mongo),
            Self::Sqlite => Some(DumpKind::Sqlite),
            Self::Command => Some(DumpKind::Command),
        }
    }
}

/// `CONTAINER[=KIND]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpTarget {
    /// Name or id.
    pub container: String,
    /// Which database.
    pub kind: KindArg,
}

impl std::str::FromStr for DumpTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (container, kind) = match text.split_once('=') {
            Some((container, kind)) => (container, KindArg::from_str(kind, true)?),
            None => (text, KindArg::Auto),
        };
        if container.is_empty() {
            return Err("name a container".to_owned());
        }
        if kind == KindArg::Command {
            return Err("a command does not fit here: use `backup dump`".to_owned());
        }
        Ok(Self { container: container.to_owned(), kind })
    }
}

/// What waits for the store while a dump goes on.
#[derive(Debug, Args)]
pub struct SpoolArgs {
    /// Where to keep what the store cannot take as fast as the dump gives it [default: the cache
    /// directory].
    #[arg(long, env = "BACKUP_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// How much of it, at the most [default: 16G].
    #[arg(long, env = "BACKUP_SPOOL_MAX", value_name = "SIZE")]
    pub spool_max: Option<String>,
}

/// `dump`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["container", "link", "stdin"]))]
pub struct DumpArgs {
    /// The container of the database; its own client program is used.
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// A linked container, or a name on a network; with client programs of our own container.
    #[arg(long, value_name = "ALIAS")]
    pub link: Option<String>,
    /// Take what another program writes: `pg_dump … | backup dump --stdin --name shop`.
    #[arg(long, requires = "name", conflicts_with = "command")]
    pub stdin: bool,
    /// Which database.
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub kind: KindArg,
    /// Fail unless the last line begins with this text.
    #[arg(long, value_name = "TEXT", value_parser = trailer, allow_hyphen_values = true)]
    pub expect_trailer: Option<String>,
    /// Take a dump of which nothing proves that it is whole, with a warning.
    #[arg(long)]
    pub unproved: bool,
    /// User in the container, as with `docker exec --user`.
    #[arg(long, value_name = "USER", requires = "container")]
    pub user: Option<String>,
    /// That more than half of the last dump is gone is meant to be: later dumps are compared with this one.
    #[arg(long)]
    pub allow_change: bool,
    /// Name of the snapshot [default: the container or the alias].
    #[arg(long)]
    pub name: Option<String>,
    /// A label for the snapshot.
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// Host name to record.
    #[arg(long, env = "BACKUP_HOST", value_name = "NAME")]
    pub host: Option<String>,
    #[command(flatten)]
    pub compression: CompressionArgs,
    /// Make the repository if there is none.
    #[arg(long)]
    pub init: bool,
    /// Only say what would be dumped.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// A program and its arguments whose output is the dump; with --kind sqlite the database files.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// A text that the last line of a dump can begin with, and not that of everything.
fn trailer(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains(['\n', '\r']) || text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "not one line of text that is not blank and has at most {TEXT_BYTES_MAX} bytes"
        ));
    }
    Ok(text.to_owned())
}

/// How hard to compress.
#[derive(Debug, Args)]
pub struct CompressionArgs {
    /// zstd level, 1 (fast) to 19 (small).
    #[arg(long, env = "BACKUP_LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
    /// Level 1, whatever --level says: a third less time for a little more space.
    #[arg(long)]
    pub fast: bool,
}

/// The container that does the work beside the volumes.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Image of the worker container [default: one of this very program].
    #[arg(long, env = "BACKUP_WORKER_IMAGE", value_name = "IMAGE")]
    pub worker_image: Option<String>,
}

/// `stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Paths to save; none: every volume mounted into this container.
    pub paths: Vec<PathBuf>,
    /// A file, s3://bucket/key, or - for standard output.
    #[arg(long, value_name = "PLACE", default_value = "-")]
    pub to: OsString,
    #[command(flatten)]
    pub recipients: NamedArgs,
    #[command(flatten)]
    pub walk: WalkArgs,
    #[command(flatten)]
    pub compression: CompressionArgs,
}

/// `snapshots`.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only those of this name.
    #[arg(long)]
    pub name: Option<String>,
    /// Only those with this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
}

/// `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// A snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// Directories or files; the sources when absent.
    pub paths: Vec<OsString>,
    /// With everything below.
    #[arg(short, long)]
    pub recursive: bool,
}

/// `cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// A snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// The file.
    pub path: OsString,
}

/// `mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// An empty directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// A snapshot: `latest`, `latest:NAME` or the start of its id; without one, all of them are shown.
    #[arg(value_name = "SNAP")]
    pub snapshot: Option<Selector>,
    /// Let other users look too, as far as the modes of the files let them.
    #[arg(long)]
    pub allow_other: bool,
}

/// `find`.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Names or paths, `*` and `?` allowed.
    #[arg(required = true, value_name = "GLOB")]
    pub patterns: Vec<String>,
    /// Only in this snapshot.
    #[arg(long, value_name = "SNAP")]
    pub snapshot: Option<Selector>,
    /// Only in snapshots of this name.
    #[arg(long)]
    pub name: Option<String>,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The older snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP")]
    pub old: Selector,
    /// The newer snapshot.
    #[arg(value_name = "SNAP")]
    pub new: Selector,
    /// Only these paths.
    pub paths: Vec<OsString>,
}

/// Which part of a snapshot.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Only this path and what is below it.
    #[arg(long, value_name = "PATH")]
    pub path: Vec<OsString>,
    /// Only this source of the snapshot, by path or volume name.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP", required_unless_present = "project")]
    pub snapshot: Option<Selector>,
    /// Restore below this directory: each source at its own absolute path in it.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["volume", "into", "project"], conflicts_with = "volume")]
    pub target: Option<PathBuf>,
    /// Restore into this volume, through the engine; it is made when it is missing.
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    /// Restore a database dump into this container, through its own client.
    #[arg(long, value_name = "CONTAINER", conflicts_with_all = ["target", "volume", "delta"])]
    pub into: Option<String>,
    /// Restore the volumes of this Compose project, each from the newest proved snapshot.
    #[arg(
        long,
        value_name = "PROJECT",
        conflicts_with_all = ["snapshot", "target", "volume", "into", "path", "source", "delta", "command"]
    )]
    pub project: Option<String>,
    /// With --project: as it was at this time, such as 2026-11-30T12:00:00Z, 2026-11-30 (the end of that day in UTC) or 2h (ago)
    /// [default: now].
    #[arg(long, value_name = "TIME", requires = "project")]
    pub as_of: Option<String>,
    /// With --project: the dumps into the databases of the project that run now, instead of the volumes.
    #[arg(long, requires = "project", conflicts_with = "volume_prefix")]
    pub dumps: bool,
    /// With --project: restore into new volumes whose names have this in front.
    #[arg(long, value_name = "PREFIX", requires = "project")]
    pub volume_prefix: Option<String>,
    /// With --project: only what was saved under this host name.
    #[arg(long = "host", value_name = "NAME", requires = "project")]
    pub from_host: Option<String>,
    /// With --target: put the source at DIR itself.
    #[arg(long, requires = "target")]
    pub strip: bool,
    /// What the volume is called that is mounted at DIR: a worker is told it, whose words are for who knows no DIR.
    #[arg(long, value_name = "NAME", requires = "target", hide = true)]
    pub as_volume: Option<String>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Let the snapshot take the place of everything that is there now, once it is whole.
    #[arg(long, conflicts_with = "delta")]
    pub replace: bool,
    /// Write only what differs from what is there, and remove what the snapshot does not have.
    #[arg(long)]
    pub delta: bool,
    /// Only say what would be restored.
    #[arg(long)]
    pub dry_run: bool,
    /// Restore into a volume even while running containers use it; with --replace or --delta, also a
    /// snapshot that is not complete: what could not be saved then is removed.
    #[arg(long)]
    pub force: bool,
    /// With --into: the command that takes a dump which a command made, on its standard input.
    #[arg(last = true, value_name = "COMMAND", requires = "into")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// A snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP", required_unless_present = "container")]
    pub snapshot: Option<Selector>,
    /// The newest backup of this container or of its database.
    #[arg(long, value_name = "CONTAINER", conflicts_with = "snapshot")]
    pub container: Option<String>,
    /// Only this source or dump of the snapshot, by path or name.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// A shell command that judges copies of the volumes, read-only at their old places: 0 is good.
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    /// Image of the throw-away container [default: the recorded one].
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// More environment for the throw-away container; no secrets, `docker inspect` shows it.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Seconds until the database in it must be ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_within: u64,
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A snapshot: `latest`, `latest:NAME` or the start of its id.
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// A file, s3://bucket/key, or - for standard output.
    #[arg(long, value_name = "PLACE", default_value = "-")]
    pub to: OsString,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub compression: CompressionArgs,
}

/// `copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Snapshots: `latest`, `latest:NAME` or the start of an id; without any, all.
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<Selector>,
    /// The repository to copy from, as --repo. --identity reads it where it is encrypted.
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    /// The repository to copy into [default: --repo]. --key-file saves to it where it is encrypted.
    #[arg(long, value_name = "PLACE")]
    pub to: Option<String>,
    /// Key file of the repository to copy from, as a proof that it is yours.
    #[arg(long, env = "BACKUP_FROM_KEY_FILE", value_name = "FILE")]
    pub from_key_file: Option<PathBuf>,
    /// Only snapshots of this name.
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub compression: CompressionArgs,
    /// Only say what would be copied.
    #[arg(long)]
    pub dry_run: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read and decode the packs too, all or this share of them.
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "100", require_equals = true)]
    pub read_data: Option<Percent>,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only these: a volume, a container with what it uses, or a path, by whole names; volume:NAME or container:NAME where
    /// both have it.
    #[arg(value_name = "NAME")]
    pub names: Vec<Wanted>,
    /// How old the newest proved snapshot may be.
    #[arg(long, value_name = "DURATION", default_value = "26h", value_parser = chores_common::quantity::duration)]
    pub max_age: std::time::Duration,
    /// A host name under which this host saves [default: its own].
    #[arg(long, env = "BACKUP_HOST", value_name = "NAME")]
    pub host: Vec<String>,
    /// Only this host saves into the repository, so all snapshots are its own, whatever host name they have.
    #[arg(long)]
    pub any_host: bool,
    /// This is not to be saved; a container stands for what only it uses, anonymous:unused for the anonymous volumes that no
    /// container uses.
    #[arg(long, value_name = "NAME")]
    pub except: Vec<Wanted>,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A file in TOML: what is to be saved beside what labels of containers say, and how.
    #[arg(long, env = "BACKUP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When jobs run that have no schedule of their own, such as `30 3 * * *` or @hourly [default: 0 3 * * *].
    #[arg(long, env = "BACKUP_SCHEDULE", value_name = "CRON")]
    pub schedule: Option<String>,
    /// Where the hours of schedules are meant, such as Europe/Berlin [default: UTC].
    #[arg(long, env = "TZ", value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// How far runs of one time are spread [default: 5m].
    #[arg(long, value_name = "DURATION", value_parser = chores_common::quantity::duration)]
    pub jitter: Option<std::time::Duration>,
    /// Runs at once [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: Option<u16>,
    /// Only containers that have this label are jobs, so that several of these may run beside each other.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub containers_with: Option<String>,
    /// Serve /metrics and /healthz here, such as 0.0.0.0:9465.
    #[arg(long, env = "BACKUP_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Run everything that is due now, and end: 0 only when all that is to be saved is.
    #[arg(long)]
    pub once: bool,
    /// Only say what would be done, and when.
    #[arg(long, conflicts_with = "once")]
    pub dry_run: bool,
    /// Host name to record [default: that of the engine's machine].
    #[arg(long, env = "BACKUP_HOST", value_name = "NAME")]
    pub host: Option<String>,
}

/// What is asked about a resident run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HealthAspect {
    /// Its loop goes round: else it is to be started anew.
    Alive,
    /// And nothing is overdue or broken: else a person is needed.
    #[default]
    Ready,
}

/// `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// What is asked.
    #[arg(value_enum, default_value_t)]
    pub aspect: HealthAspect,
}

/// `learn`.
#[derive(Debug, Args)]
pub struct LearnArgs {
    /// Whose snapshots.
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// What the engine of that host calls itself.
    #[arg(long, value_name = "ID")]
    pub engine_id: Option<String>,
    /// Which machine that is.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// By which `serve` tells the snapshots of its machine from those of another one of the same name.
#[derive(Debug, Args)]
pub struct OwnArgs {
    /// The node of a Swarm that the engine is; empty where it is none.
    #[arg(long, value_name = "ID", hide = true)]
    pub own_node: Option<String>,
    /// The boot of this machine.
    #[arg(long, value_name = "ID", hide = true)]
    pub own_boot: Option<String>,
}

impl OwnArgs {
    /// The node, where it is one.
    #[must_use]
    pub fn node(&self) -> Option<String> {
        self.own_node.clone().filter(|node| !node.is_empty())
    }
}

/// Rules of `forget`, of which one must be given where no snapshot is named.
const RULES: [&str; 8] = [
    "keep_last",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "keep_within",
    "keep_tag",
];

/// What a source is to `forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupArg {
    /// All snapshots of one name.
    Name,
    /// All snapshots of one name and host.
    Host,
}

/// `forget`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("rules").multiple(true).args(RULES))]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(RULES).arg("snapshots"))]
pub struct ForgetArgs {
    /// These snapshots: `latest`, `latest:NAME` or the start of an id; without any, those that the rules let go.
    #[arg(value_name = "SNAP", conflicts_with = "rules")]
    pub snapshots: Vec<Selector>,
    /// Keep the newest N of each source.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days (in UTC) that have one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks, from Monday on, that have one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_yearly: Option<u32>,
    /// Keep all that were made within this time before the newest of their source, such as 30d.
    #[arg(long, value_name = "DURATION", value_parser = chores_common::quantity::duration)]
    pub keep_within: Option<std::time::Duration>,
    /// Keep all with this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub keep_tag: Vec<String>,
    /// With rules: only sources of this name.
    #[arg(long, conflicts_with = "snapshots")]
    pub name: Option<String>,
    /// With rules: only snapshots of this host.
    #[arg(long, value_name = "NAME", conflicts_with = "snapshots")]
    pub host: Option<String>,
    /// With rules: only snapshots with this label.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "snapshots")]
    pub tag: Vec<String>,
    /// Whose snapshots are not looked at, or freeze their source.
    #[command(flatten)]
    pub own: OwnArgs,
    /// What a source is: all snapshots of one `name`, or of one name and `host`. Without it those of one name, unless
    /// hosts take turns in making them: nothing of these goes then.
    #[arg(long, value_name = "WHAT")]
    pub group_by: Option<GroupArg>,
    /// Drop the named snapshots even where one is the newest proved one of its source.
    #[arg(long, requires = "snapshots", conflicts_with = "rules")]
    pub even_newest: bool,
    /// Only say what would go, and why the others stay.
    #[arg(long)]
    pub dry_run: bool,
    /// Prune afterwards, with the usual grace.
    #[arg(long)]
    pub prune: bool,
}

/// Shortest grace: no commit takes that long.
const GRACE_MIN: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// How old a pack is before it is marked for removal, and a mark before its packs are deleted; at least 1h.
    #[arg(long, value_name = "DURATION", default_value = PruneArgs::GRACE, value_parser = grace)]
    pub grace: std::time::Duration,
    /// Delete at most so much in this run, such as 50GB; the rest is for the next.
    #[arg(long, value_name = "SIZE", value_parser = chores_common::quantity::size)]
    pub max_bytes: Option<u64>,
    /// How much of what is stored may be of no use before packs are stored anew without it: a share of what is needed,
    /// a size, or `unlimited`. An encrypted repository needs --identity for that.
    #[arg(long, value_name = "LIMIT", default_value = PruneArgs::MAX_UNUSED)]
    pub max_unused: Unused,
    /// Store packs of at most so much anew in this run, such as 50GB; the rest is for the next.
    #[arg(long, value_name = "SIZE", value_parser = chores_common::quantity::size)]
    pub max_repack_size: Option<u64>,
    /// Go on even where there is no snapshot, so that everything goes.
    #[arg(long)]
    pub even_all: bool,
    /// Only say what would be done, by this machine's clock.
    #[arg(long)]
    pub dry_run: bool,
}

impl PruneArgs {
    /// The usual grace.
    const GRACE: &str = "24h";

    /// So much may usually be of no use.
    const MAX_UNUSED: &str = "5%";

    /// As when nothing is said.
    #[must_use]
    pub fn usual() -> Self {
        let grace = std::time::Duration::from_secs(24 * 60 * 60);
        Self {
            grace,
            max_bytes: None,
            max_unused: Unused::Percent(5),
            max_repack_size: None,
            even_all: false,
            dry_run: false,
        }
    }
}

fn grace(text: &str) -> Result<std::time::Duration, String> {
    let grace = chores_common::quantity::duration(text).map_err(|error| error.to_string())?;
    if grace < GRACE_MIN { Err("give at least 1h".to_owned()) } else { Ok(grace) }
}

/// `undelete`.
#[derive(Debug, Args)]
pub struct UndeleteArgs {
    /// As it was at this time by the store's clock: the last good moment, such as 2026-11-30T12:00:00Z, 2026-11-30 (the end
    /// of that day in UTC) or 2h (ago).
    #[arg(long, value_name = "TIME")]
    pub as_of: String,
    /// Bring back repo.json too, whatever is there now: changes of keys since then are undone.
    #[arg(long)]
    pub repo_json: bool,
    /// Only say what would come back.
    #[arg(long)]
    pub dry_run: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub worker: WorkerArgs,
}
