//! The system's `ssh`: how it is called, and what its last words mean.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::object::error::ErrorKind;
use crate::object::fault::{Fault, shown};
use crate::object::remote::{Remote, RemoteSettings};

#[cfg(test)]
mod tests;

/// OpenSSH's client, from `PATH`.
const PROGRAM: &str = "ssh";

/// What every call says, whatever `~/.ssh/config` has: nobody can be asked anything, a host key that is not
/// known is never taken, nothing else runs over the connection, and one that is dead is noticed.
const OPTIONS: [&str; 19] = [
    // What programs before OpenSSH 8.7 do not know of these; and the first value wins, so what a configuration of the user's wants to
    // be passed over has to be in it too.
    "IgnoreUnknown=*",
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "ControlMaster=no",
    "ControlPath=none",
    "RemoteCommand=none",
    "ForkAfterAuthentication=no",
    "StdinNull=no",
    "Tunnel=no",
    "LogLevel=ERROR",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
];

/// Starts of variables with keys of stores and repositories, which are no business of `ssh`.
const SECRET_PREFIXES: [&[u8]; 3] = [b"BACKUP_", b"AWS_", b"AZURE_"];

/// How one server is reached.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<OsString>,
    host: String,
    port: Option<u16>,
    key_file: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

impl Ssh {
    /// The error is the end of a sentence.
    pub(super) fn new(remote: &Remote, settings: &RemoteSettings) -> Result<Self, String> {
        let Remote::Sftp { user, host, port, .. } = remote else {
            return Err("it is no SFTP server".to_owned());
        };
        let mut arguments: Vec<OsString> = Vec::new();
        for option in OPTIONS {
            arguments.extend(["-o", option].map(OsString::from));
        }
        if let Some(file) = &settings.sftp_known_hosts {
            let file = plain(file, "BACKUP_SFTP_KNOWN_HOSTS")?;
            // Nothing but this file is believed.
            for option in [
                format!("UserKnownHostsFile=\"{file}\""),
                "GlobalKnownHostsFile=/dev/null".to_owned(),
                "KnownHostsCommand=none".to_owned(),
                "VerifyHostKeyDNS=no".to_owned(),
                "NoHostAuthenticationForLocalhost=no".to_owned(),
            ] {
                arguments.extend(["-o".to_owned(), option].map(OsString::from));
            }
        }
        if let Some(file) = &settings.sftp_key_file {
            let file = plain(file, "BACKUP_SFTP_KEY_FILE")?;
            arguments.extend(["-o", "IdentitiesOnly=yes", "-i", file.as_str()].map(OsString::from));
        }
        if let Some(port) = port {
            arguments.extend(["-p".to_owned(), port.to_string()].map(OsString::from));
        }
        if let Some(user) = user {
            arguments.extend(["-l", user.as_str()].map(OsString::from));
        }
        arguments.extend(["-s", "--", host.as_str(), "sftp"].map(OsString::from));
        Ok(Self {
            program: PROGRAM,
            arguments,
            host: host.clone(),
            port: *port,
            key_file: settings.sftp_key_file.clone(),
            known_hosts: settings.sftp_known_hosts.clone(),
        })
    }

    /// What is to be started. Files that are named must be there: `ssh` would go on without them.
    pub(super) fn command(&self) -> Result<Command, Fault> {
        for (file, variable) in [
            (&self.key_file, "BACKUP_SFTP_KEY_FILE"),
            (&self.known_hosts, "BACKUP_SFTP_KNOWN_HOSTS"),
        ] {
            let Some(file) = file else { continue };
            std::fs::File::open(file).map_err(|error| {
                let file = file.display();
                let reason = format!("cannot read {file}, which {variable} names: {error}");
                Fault::lasting(ErrorKind::Invalid, reason)
            })?;
        }
        let mut command = Command::new(self.program);
        // Its words are read by `judge`. A signal from the terminal is ours to answer: what is being written is
        // finished first.
        command.args(&self.arguments).env("LC_ALL", "C").process_group(0);
        // It starts what its configuration names, and may send variables to the server.
        for (name, _) in std::env::vars_os() {
            if SECRET_PREFIXES.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        Ok(command)
    }

    fn known_hosts(&self) -> String {
        let own = || "~/.ssh/known_hosts".to_owned();
        self.known_hosts.as_ref().map_or_else(own, |file| file.display().to_string())
    }

    fn keyscan(&self) -> String {
        let port = self.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        format!("ssh-keyscan {port}{}", self.host)
    }
}

/// A path as it stands in an option, absolute, in which `ssh` sees nothing of its own.
fn plain(file: &Path, variable: &str) -> Result<String, String> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let text = absolute.to_str().filter(|text| {
        !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '%' | '$'))
    });
    text.map(str::to_owned).ok_or_else(|| {
        format!("{variable} names a path that ssh does not take as it stands: leave out \" \\ % $")
    })
}

/// Why there is no `ssh`.
pub(super) fn not_started(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::lasting(
            ErrorKind::Invalid,
            "there is no `ssh` on PATH: install OpenSSH's client (Debian: openssh-client)",
        ),
        _ => Fault::lasting(ErrorKind::Invalid, format!("cannot start `ssh`: {error}")),
    }
}

/// What `ssh` said before it ended without a connection; `None` where it said nothing.
pub(super) fn judge(said: &str, ssh: &Ssh) -> Option<Fault> {
    let has = |text: &str| said.contains(text);
    let denied = |reason: String| Some(Fault::lasting(ErrorKind::Denied, reason));
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return denied(format!(
            "the host key is not the one in {}: the server was set up anew, or somebody is in between; ask who runs it before you replace the line with what `{}` says",
            ssh.known_hosts(),
            ssh.keyscan()
        ));
    }
    if has("Host key verification failed") || has("host key is known for") {
        return denied(format!(
            "the host key is not known: compare what `{}` says with the server's own, and put it into {}",
            ssh.keyscan(),
            ssh.known_hosts()
        ));
    }
    if has("UNPROTECTED PRIVATE KEY FILE") {
        return denied("ssh does not use a private key that others can read: chmod 600".to_owned());
    }
    if last.contains("Permission denied (") || has("Too many authentication failures") {
        return denied(format!(
            "the server lets none of our keys in ({}); check the user and BACKUP_SFTP_KEY_FILE",
            shown(last)
        ));
    }
    if has("subsystem request failed") {
        return Some(Fault::lasting(ErrorKind::Invalid, "the server has no SFTP"));
    }
    if has("Bad configuration option") || has("terminating, ") || has("usage: ssh") {
        let reason = format!("ssh does not take its options ({})", shown(last));
        return Some(Fault::lasting(ErrorKind::Invalid, reason));
    }
    Some(Fault::temporary(format!("it cannot be reached: {}", shown(last))))
}
