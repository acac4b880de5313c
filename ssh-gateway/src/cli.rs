//! What was typed: flags, arguments and their environment variables. What it means is [`crate::config`].

use std::net::IpAddr;
use std::path::PathBuf;

use chores_common::telemetry::{LogFormat, Verbosity};
use clap::{ArgAction, Args, Parser, Subcommand};

#[cfg(test)]
mod tests;

/// Shells, files and port forwards of running containers over SSH, confined as the containers are.
#[derive(Debug, Parser)]
#[command(name = "ssh-gateway", version, about, long_about = None, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, \
    3 done with warnings, 130 interrupted.\n\
    Keys can also come as the text of SSH_GATEWAY_AUTHORIZED_KEYS, or in the file that \
    SSH_GATEWAY_AUTHORIZED_KEYS_FILE names.")]
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
        Verbosity { verbose: self.common.verbose, quiet: self.common.quiet }
    }
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// The configuration file (TOML); flags win over it.
    #[arg(long, global = true, env = "SSH_GATEWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where host keys, audit and recordings are kept; /state by default, if it exists.
    #[arg(long, global = true, env = "SSH_GATEWAY_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
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
        env = "SSH_GATEWAY_LOG_FORMAT",
        value_name = "FORM",
        default_value = "auto"
    )]
    pub log_format: LogFormat,
}

/// The commands, in the order an operator meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let SSH clients into containers until told to stop.
    Serve(ServeArgs),
    /// Test the surroundings: what is native, what is degraded, why, and the flag that mends it.
    Doctor(DoctorArgs),
    /// Look at the policy: what does it say, and is that what it should say?
    Policy(PolicyArgs),
    /// Make secrets for authenticator applications, whose codes a policy can demand.
    Totp(TotpArgs),
    /// Look at the sessions and forwards of the gateway that serves, and end them.
    Sessions(SessionsArgs),
    /// Look at the connections of the gateway that serves, and end them.
    Connections(ConnectionsArgs),
    /// Print what OpenSSH's clients need so that containers are hosts for them.
    SshConfig(SshConfigArgs),
    /// Play a recording.
    Replay(ReplayArgs),
    /// Look at the audit: was anything cut or changed?
    Audit(AuditArgs),
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

/// How containers are entered.
#[derive(Debug, Args, Default)]
pub struct EnterArgs {
    /// native: as the design has it, or not at all; engine: by the engine's exec, degraded; auto: native
    /// where it is possible, else degraded [default: auto].
    #[arg(long, env = "SSH_GATEWAY_MODE", value_name = "MODE")]
    pub mode: Option<String>,
    /// Where the directories of containers with their config.json are [default: where engines keep them,
    /// or /bundles]; may be repeated.
    #[arg(long, env = "SSH_GATEWAY_BUNDLES", value_name = "DIR", value_delimiter = ',')]
    pub bundles: Vec<PathBuf>,
    /// Where the host's cgroup hierarchies are [default: /host/cgroup or /sys/fs/cgroup].
    #[arg(long, env = "SSH_GATEWAY_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Where programs for images without any are [default: /toolbox, if our image has it].
    #[arg(long, env = "SSH_GATEWAY_TOOLBOX", value_name = "DIR")]
    pub toolbox: Option<PathBuf>,
}

/// Who may come in.
#[derive(Debug, Args, Default)]
pub struct AdmissionArgs {
    /// Let these keys in, each into every container: a file in the format of sshd's authorized_keys; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Vec<PathBuf>,
    /// Let in whom this policy (TOML) allows, and as far as it does.
    #[arg(long, env = "SSH_GATEWAY_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Keys and certificates that do not count any more: a list by ssh-keygen -k, or public keys; may be repeated.
    #[arg(long, env = "SSH_GATEWAY_REVOKED_KEYS", value_name = "FILE", value_delimiter = ',')]
    pub revoked_keys: Vec<PathBuf>,
}

/// `policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What can be done with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say what somebody may do in a container, and which rule decides.
    Explain(ExplainArgs),
    /// Compare a policy with a table of what is expected of it; the engine is not asked.
    Test(TestArgs),
}

/// `policy explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// An identity of the policy, or the fingerprint (SHA256:…) or the comment of a key.
    #[arg(value_name = "KEY|USER")]
    pub who: String,
    /// A login name, such as web or shop~web+www-data.
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Where the client comes from [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// When, such as 2026-11-30T12:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    #[command(flatten)]
    pub admission: AdmissionArgs,
}

/// `policy test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The table: TOML with [[container]] and [[expect]].
    #[arg(value_name = "FILE")]
    pub table: PathBuf,
    #[command(flatten)]
    pub admission: AdmissionArgs,
}

/// `totp`.
#[derive(Debug, Args)]
pub struct TotpArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: TotpCommand,
}

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum TotpCommand {
    /// Make one: it is printed, and written to a new file that only its owner can read.
    New(TotpNewArgs),
}

/// `totp new`.
#[derive(Debug, Args)]
pub struct TotpNewArgs {
    /// The identity of the policy whose codes these are.
    #[arg(long, value_name = "NAME")]
    pub identity: String,
    /// The file, for totp_file of that identity.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List them, forwards too.
    Ls,
    /// End a session and everything that it started, or a forward and everything that came through it.
    Kill {
        /// Its name, as `sessions ls` has it.
        #[arg(value_name = "ID")]
        session: String,
    },
    /// Show what a recorded one puts out, until it ends.
    Watch {
        /// Its name, as `sessions ls` has it.
        #[arg(value_name = "ID")]
        session: String,
    },
}

/// `connections`.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ConnectionsCommand,
}

/// What can be done with connections.
#[derive(Debug, Subcommand)]
pub enum ConnectionsCommand {
    /// List those that have come in.
    Ls,
    /// End one, and all its sessions and forwards.
    Kill {
        /// Its number, as `connections ls` has it.
        #[arg(value_name = "NUMBER")]
        connection: u64,
    },
}

/// `ssh-config`.
#[derive(Debug, Args)]
pub struct SshConfigArgs {
    /// The containers, or patterns such as shop-* [default: those that run now, and *.chores for all others].
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The name or address at which clients reach the gateway.
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// Its port.
    #[arg(long, default_value_t = 2222)]
    pub port: u16,
    /// What the gateway is called in the configuration.
    #[arg(long, value_name = "NAME", default_value = "chores")]
    pub alias: String,
    /// A login name that means no container; only _ can also ask the gateway itself (ls, events).
    #[arg(long, value_name = "NAME", default_value = crate::login::GATEWAY)]
    pub operator: String,
    /// Print the lines for known_hosts instead: the keys of the state directory.
    #[arg(long)]
    pub known_hosts: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Every byte as it was, at once: nothing is kept from the terminal.
    #[arg(long)]
    pub raw: bool,
    /// So many times as fast.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,
    /// Wait no longer than so many seconds at a time.
    #[arg(long, value_name = "SECONDS")]
    pub pause_max: Option<u64>,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What can be done with an audit.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find every place where something was cut or changed.
    Verify(VerifyArgs),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The directory of an audit, or one of its files [default: audit in the state directory].
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// The public key that must have signed it [default: key.pub beside it].
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The line of this number must have this SHA-256, as somebody has kept it elsewhere; may be repeated.
    #[arg(long, value_name = "NUMBER:HASH")]
    pub expect: Vec<String>,
    /// Read the recordings too, and compare their hashes.
    #[arg(long)]
    pub recordings: bool,
}

/// `serve`.
#[derive(Debug, Args, Default)]
pub struct ServeArgs {
    /// Listen here: ADDRESS:PORT, or a port of all IPv4 addresses; may be repeated [default: 0.0.0.0:2222].
    #[arg(long, env = "SSH_GATEWAY_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<String>,
    #[command(flatten)]
    pub admission: AdmissionArgs,
    /// Show the text of this file before authentication.
    #[arg(long, env = "SSH_GATEWAY_BANNER", value_name = "FILE")]
    pub banner: Option<PathBuf>,
    #[command(flatten)]
    pub enter: EnterArgs,
}

/// `doctor`.
#[derive(Debug, Args, Default)]
pub struct DoctorArgs {
    /// Enter this container too, and compare what a program finds there with what the engine's exec gives it.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
    #[command(flatten)]
    pub enter: EnterArgs,
}

/// Settings that come from the environment without a flag: what is in arguments is visible to every user of
/// the host.
pub struct Environment {
    /// `SSH_GATEWAY_AUTHORIZED_KEYS`, and the file that `SSH_GATEWAY_AUTHORIZED_KEYS_FILE` names.
    pub authorized_keys: (Option<String>, Option<PathBuf>),
}

/// What opens the bucket of uploads, as every S3 client is told it.
pub struct Credentials {
    /// `AWS_ENDPOINT_URL_S3`.
    pub endpoint: Option<String>,
    /// `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`, and the file that `AWS_SECRET_ACCESS_KEY_FILE` names.
    pub secret_key: (Option<String>, Option<PathBuf>),
    /// `AWS_SESSION_TOKEN`, and the file that `AWS_SESSION_TOKEN_FILE` names.
    pub session_token: (Option<String>, Option<PathBuf>),
}

impl Credentials {
    /// Reads the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        // What is no UTF-8 is no key, and refused as a wrong one.
        let text =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Self {
            endpoint: text("AWS_ENDPOINT_URL_S3"),
            region: text("AWS_REGION"),
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

/// Variable with the text of an authorized_keys file.
pub const AUTHORIZED_KEYS: &str = "SSH_GATEWAY_AUTHORIZED_KEYS";

/// Its twin.
pub const AUTHORIZED_KEYS_FILE: &str = "SSH_GATEWAY_AUTHORIZED_KEYS_FILE";

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        // What is no UTF-8 is no key, and said so where keys are read.
        let text = std::env::var_os(AUTHORIZED_KEYS);
        let text = text.map(|value| value.to_string_lossy().into_owned());
        Self { authorized_keys: (text, std::env::var_os(AUTHORIZED_KEYS_FILE).map(PathBuf::from)) }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment(…)")
    }
}

/// Names of environment variables that look like settings of this program and are none: most likely
/// misspelt. What container engines and clusters set for a neighbour called `ssh-gateway` is left out.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| is_unknown(name)).collect()
}

fn is_unknown(name: &str) -> bool {
    let command = <Cli as clap::CommandFactory>::command();
    let mut commands = std::iter::once(&command).chain(command.get_subcommands());
    let is_known = [AUTHORIZED_KEYS, AUTHORIZED_KEYS_FILE].contains(&name)
        || commands.any(|command| {
            command
                .get_arguments()
                .filter_map(|argument| argument.get_env())
                .any(|variable| variable.to_str() == Some(name))
        });
    let is_of_neighbour =
        || ["_PORT", "_SERVICE_", "_NAME", "_ENV_"].iter().any(|part| name.contains(part));
    name.starts_with("SSH_GATEWAY_") && !is_known && !is_of_neighbour()
}
