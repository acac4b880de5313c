//! What was typed: flags, arguments and their environment variables. What it means is [`crate::config`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use chores_common::secret::Secret;
use chores_common::telemetry::{LogFormat, Verbosity};
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::sink::s3::ENDPOINT_VARIABLES;
use crate::ui::access::Network;

/// Ship container logs and log files: nothing lost in silence, nothing twice after a restart.
#[derive(Debug, Parser)]
#[command(name = "logship", version, about, long_about = None, max_term_width = 100)]
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

impl Cli {
    /// How much is said.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        // `grep -v` is no wish to hear more.
        let verbose =
            if matches!(self.command, Command::Grep(_)) { 0 } else { self.common.verbose };
        Verbosity { verbose, quiet: self.common.quiet }
    }
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// The configuration file (TOML); flags win over it.
    #[arg(long, global = true, env = "LOGSHIP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the log and the cursors are kept; /state by default, if it exists. Without one nothing
    /// survives a restart.
    #[arg(long, global = true, env = "LOGSHIP_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
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
        env = "LOGSHIP_LOG_FORMAT",
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
    /// `AWS_ENDPOINT_URL_S3`, or else `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `AWS_REGION`.
    pub region: Option<String>,
}

impl Credentials {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let text =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let filled = |name: &str| text(name).filter(|value| !value.is_empty());
        Self {
            access_key: text("AWS_ACCESS_KEY_ID"),
            secret_key: (text("AWS_SECRET_ACCESS_KEY"), file("AWS_SECRET_ACCESS_KEY_FILE")),
            session_token: (text("AWS_SESSION_TOKEN"), file("AWS_SESSION_TOKEN_FILE")),
            endpoint: ENDPOINT_VARIABLES.into_iter().find_map(filled),
            region: text("AWS_REGION"),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Names of environment variables that look like settings of this program and are none: most likely
/// misspelt. What container engines and clusters set for a neighbour called `logship` is left out.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let command = <Cli as clap::CommandFactory>::command();
    let mut known = Vec::new();
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
            name.starts_with("LOGSHIP_") && !known.contains(name) && !from_neighbours(name)
        })
        .collect()
}

/// The commands, in the order an operator meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ship until told to stop; without sources and sinks: every container, as NDJSON to standard output.
    Run(RunArgs),
    /// Ship what is there, and end when all of it is delivered.
    Once(RunArgs),
    /// Validate the configuration, and show what every running container and file would get.
    Check(CheckArgs),
    /// Rotate the files that are shipped, now: by the process that ships them, as [source.rotate] says.
    Rotate(RotateArgs),
    /// Test the surroundings: engine, log drivers, retention, rights, state directory.
    Doctor(DoctorArgs),
    /// Prove what was shipped: records, gaps and lost lines of every source, from the log itself.
    Audit(AuditArgs),
    /// Print archives: files, directories or s3://bucket/prefix.
    Cat(CatArgs),
    /// Search archives.
    Grep(GrepArgs),
    /// Print the end of an archive or of what is being shipped, and go on.
    Tail(TailArgs),
    /// Serve the parts of the engine's socket that `run` needs, so that it need not hold the socket itself.
    SocketProxy(SocketProxyArgs),
    /// Serve a page for browsers that shows what another process ships, from its state directory and archives.
    ServeUi(ServeUiArgs),
    /// Ask a running process whether it is well, for HEALTHCHECK.
    Healthcheck(HealthcheckArgs),
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

/// Where lines come from and go to. What is given here takes the place of what the file says.
#[derive(Debug, Args, Default)]
pub struct SourceArgs {
    /// Ship the containers of the engine. This is the default without --files.
    #[arg(long)]
    pub engine: bool,
    /// Ship the files that match, from absolute paths; may be repeated.
    #[arg(long, env = "LOGSHIP_FILES", value_name = "GLOB")]
    pub files: Vec<String>,
    /// Where to ship to; may be repeated [default: stdout:].
    // A URL may hold a key: neither `--help` nor `Debug` shows what was given.
    #[arg(
        long,
        env = "LOGSHIP_SINK",
        hide_env_values = true,
        value_name = "URL",
        value_parser = |url: &str| Ok::<_, Infallible>(Secret::new(url.to_owned()))
    )]
    pub sink: Vec<Secret>,
    /// Only containers whose name or image matches; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No containers or files that match; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Name of this host in the records [default: the host name].
    #[arg(long, env = "LOGSHIP_HOST", value_name = "NAME")]
    pub host: Option<String>,
    #[command(flatten)]
    pub engine_access: EngineArgs,
}

/// How to reach the engine and its files.
#[derive(Debug, Args, Default)]
pub struct EngineArgs {
    /// The container engine; /var/run/docker.sock by default.
    #[arg(long, env = "DOCKER_HOST", value_name = "URL")]
    pub engine_host: Option<String>,
    /// Where the engine keeps its containers' log files [default: /var/lib/docker/containers].
    #[arg(long, env = "LOGSHIP_ENGINE_FILES", value_name = "DIR")]
    pub engine_files: Option<PathBuf>,
    /// Keep unread log files of the engine by hard links in this directory, on the same file system.
    #[arg(long, env = "LOGSHIP_PIN", value_name = "DIR")]
    pub pin: Option<PathBuf>,
    /// Never read the engine's files, only its API.
    #[arg(long)]
    pub api_only: bool,
}

/// `run` and `once`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Serve /metrics and /healthz here, such as 127.0.0.1:9464; nothing is served by default.
    #[arg(long, env = "LOGSHIP_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Serve a page for browsers here, such as 127.0.0.1:9465, or :9465 for the same; off by default.
    #[arg(long, env = "LOGSHIP_UI", value_name = "ADDRESS", value_parser = page_address)]
    pub ui: Option<SocketAddr>,
    /// Archives that the page looks into; may be repeated.
    #[arg(long, value_name = "ARCHIVE", requires = "ui")]
    pub ui_archive: Vec<String>,
    #[command(flatten)]
    pub ui_access: UiAccessArgs,
    /// How much the log may hold [default: 2GiB].
    #[arg(long, env = "LOGSHIP_WAL_MAX", value_name = "SIZE")]
    pub wal_max: Option<String>,
    /// Keep no log on disk: what is not delivered is read again from its source.
    #[arg(long, conflicts_with = "wal_max")]
    pub no_wal: bool,
    /// How long to go on delivering after SIGTERM [default: 8s].
    #[arg(long, env = "LOGSHIP_DRAIN", value_name = "TIME")]
    pub drain: Option<String>,
}

/// An address; a port alone is one of this host only.
fn page_address(text: &str) -> Result<SocketAddr, String> {
    let text = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    text.parse().map_err(|_| "give for example 127.0.0.1:9465".to_owned())
}

/// Who may see the page.
#[derive(Debug, Args, Default)]
pub struct UiAccessArgs {
    /// A file with the token that lets one see the page; needed, or a proxy, unless it listens on loopback.
    #[arg(long, env = "LOGSHIP_UI_TOKEN_FILE", value_name = "FILE")]
    pub ui_token_file: Option<PathBuf>,
    /// A name under which the page is reached, such as that of a reverse proxy; may be repeated. Addresses
    /// and localhost are known.
    #[arg(long, env = "LOGSHIP_UI_HOST", value_name = "NAME")]
    pub ui_host: Vec<String>,
    /// Header in which a reverse proxy names the user it has let in; believed from --ui-proxy only.
    #[arg(long, env = "LOGSHIP_UI_USER_HEADER", value_name = "NAME")]
    pub ui_user_header: Option<String>,
    /// Where that proxy connects from, such as 10.0.0.5 or 10.0.0.0/24; may be repeated.
    #[arg(long, env = "LOGSHIP_UI_PROXY", value_name = "ADDRESS")]
    pub ui_proxy: Vec<Network>,
}

/// `serve-ui`.
#[derive(Debug, Args)]
pub struct ServeUiArgs {
    /// Where to serve; a port alone, such as :9465, is on 127.0.0.1.
    #[arg(
        long,
        env = "LOGSHIP_UI",
        value_name = "ADDRESS",
        value_parser = page_address,
        default_value = "127.0.0.1:9465"
    )]
    pub listen: SocketAddr,
    /// Archives to look into: files, directories, s3://bucket/prefix; may be repeated.
    #[arg(long, value_name = "ARCHIVE")]
    pub archive: Vec<String>,
    #[command(flatten)]
    pub access: UiAccessArgs,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Only look at the configuration, not at the engine and the files.
    #[arg(long)]
    pub offline: bool,
}

/// `rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Only say what would be done, and how.
    #[arg(long)]
    pub dry_run: bool,
    /// The files; all that are rotated when absent.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub engine_access: EngineArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only this source: a container's name or id, a path, or a key.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Only what happened since: a time such as 2026-11-24T10:20:30Z, or so long ago, such as 2h.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Which records.
#[derive(Debug, Args, Default)]
pub struct FilterArgs {
    /// Only of these sources: container, id, service or path, `*` allowed; may be repeated.
    #[arg(long, value_name = "SOURCE")]
    pub source: Vec<String>,
    /// Not older: a time such as 2026-11-24T10:20:30Z, or so long ago, such as 2h.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Older than this; the same forms.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only of this stream: stdout, stderr, console or file.
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,
}

/// `cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// Files, directories, s3://bucket/prefix, or - for standard input.
    #[arg(required = true, value_name = "ARCHIVE")]
    pub places: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Write time, source and stream before every line.
    #[arg(short, long)]
    pub long: bool,
}

/// `grep`.
#[derive(Debug, Args)]
pub struct GrepArgs {
    /// A regular expression.
    pub pattern: String,
    /// Files, directories, s3://bucket/prefix, or - for standard input.
    #[arg(required = true, value_name = "ARCHIVE")]
    pub places: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Capital letters are no different.
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Lines that do not match. Here -v is not --verbose, but what every grep means by it.
    #[arg(id = "verbose", short = 'v', long = "invert-match", action = ArgAction::Count)]
    pub invert_match: u8,
    /// Only say how many.
    #[arg(short, long)]
    pub count: bool,
    /// Write time, source and stream before every line.
    #[arg(short, long)]
    pub long: bool,
}

/// `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Archives as for `cat`; a source, or none for all of them: what is being shipped from --state.
    #[arg(value_name = "ARCHIVE|SOURCE")]
    pub places: Vec<String>,
    /// Lines to begin with.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub lines: u32,
    /// Go on as lines come.
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Write time, source and stream before every line.
    #[arg(short, long)]
    pub long: bool,
}

/// `socket-proxy`.
#[derive(Debug, Args)]
pub struct SocketProxyArgs {
    /// Where to listen: unix:/path or tcp://address:port.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: String,
    /// The engine's own socket: a path, or a URL [default: /var/run/docker.sock].
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<String>,
    /// Permissions of a Unix socket: who may use it.
    #[arg(long, value_name = "OCTAL", default_value = "0600")]
    pub mode: String,
}

/// `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Where the process serves; also from `[metrics] listen` of the configuration.
    #[arg(long, env = "LOGSHIP_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
}
