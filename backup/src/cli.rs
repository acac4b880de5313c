//! What was typed: flags, arguments and their environment variables. What it means is [`crate::config`].

use std::ffi::OsString;
use std::path::PathBuf;

use chores_common::telemetry::LogFormat;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::check::Percent;
use crate::snapshot::Selector;
use crate::worker::SOURCE_VARIABLE;

/// Back up volumes: deduplicated, incremental, and readable with plain tar and zstd.
#[derive(Debug, Parser)]
#[command(name = "backup", version, about, long_about = None, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, \
    3 done with warnings, 130 interrupted.\n\
    S3 credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SECRET_ACCESS_KEY_FILE, \
    AWS_SESSION_TOKEN or AWS_SESSION_TOKEN_FILE.")]
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
    /// Where the repository is: a directory or s3://bucket/prefix.
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

/// Credentials come from the environment only: arguments are visible to every user of the host.
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY` and the file that `AWS_SECRET_ACCESS_KEY_FILE` names.
    pub secret_key: (Option<String>, Option<PathBuf>),
    /// `AWS_SESSION_TOKEN` and the file that `AWS_SESSION_TOKEN_FILE` names.
    pub session_token: (Option<String>, Option<PathBuf>),
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
    let command = <Cli as clap::CommandFactory>::command();
    let mut known: Vec<_> = vec![SOURCE_VARIABLE.to_owned()];
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        known.extend(variables.map(|variable| variable.to_string_lossy().into_owned()));
    }
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

/// The commands, in the order of a backup's life.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new, empty repository.
    Init,
    /// Save volumes or paths as a new snapshot.
    Create(CreateArgs),
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
    /// Compare two snapshots.
    Diff(DiffArgs),
    /// Bring a snapshot back.
    Restore(RestoreArgs),
    /// Write a snapshot as one standard .tar.zst.
    Export(ExportArgs),
    /// Prove that every snapshot can be restored.
    Check(CheckArgs),
    /// Show what the repository holds and saves.
    Stats,
    /// Test the surroundings: repository, permissions, engine, cache.
    Doctor(DoctorArgs),
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
    #[command(flatten)]
    pub worker: WorkerArgs,
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
    #[arg(value_name = "SNAP")]
    pub snapshot: Selector,
    /// Restore below this directory: each source at its own absolute path in it.
    #[arg(long, value_name = "DIR", required_unless_present = "volume", conflicts_with = "volume")]
    pub target: Option<PathBuf>,
    /// Restore into this volume, through the engine; it is made when it is missing.
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    /// With --target: put the source at DIR itself.
    #[arg(long, requires = "target")]
    pub strip: bool,
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

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read and decode the packs too, all or this share of them.
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "100", require_equals = true)]
    pub read_data: Option<Percent>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub worker: WorkerArgs,
}
