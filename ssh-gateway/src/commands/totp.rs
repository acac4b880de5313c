//! `totp`: secrets for authenticator applications.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chores_common::durable;
use chores_common::exit::ExitCode;
use zeroize::Zeroizing;

use super::{CommandError, print};
use crate::cli::{CommonArgs, TotpCommand, TotpNewArgs};
use crate::config::SettingError;
use crate::policy::file::check_name;
use crate::totp::Secret;

/// Nobody but the owner of the file may read it.
const FILE_MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
enum NewError {
    #[error("there is {} already: give another file, or remove it if nobody uses its secret", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("there is no chance for a secret: {0}")]
    Chance(getrandom::Error),
}

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &TotpCommand) -> Result<ExitCode, CommandError> {
    match command {
        TotpCommand::New(args) => new(common, args),
    }
}

fn new(common: &CommonArgs, args: &TotpNewArgs) -> Result<ExitCode, CommandError> {
    let identity = &args.identity;
    check_name(identity).map_err(|fault| SettingError::flag("--identity", identity, &fault))?;
    let secret = Secret::new().map_err(|error| CommandError::failed(NewError::Chance(error)))?;
    keep(&args.file, &secret)?;
    let (base32, uri) = (secret.base32(), secret.uri(identity));
    let text = if common.json {
        let answer = serde_json::json!({
            "identity": identity, "file": args.file,
            "secret": base32.as_str(), "uri": uri.as_str(),
        });
        Zeroizing::new(format!("{answer}\n"))
    } else {
        Zeroizing::new(format!(
            "identity: {identity}\nfile:     {}\nsecret:   {}\nuri:      {}\n",
            args.file.display(),
            base32.as_str(),
            uri.as_str(),
        ))
    };
    print(text.as_bytes())
}

/// Writes it to a new file: one that is there may be somebody's.
fn keep(path: &Path, secret: &Secret) -> Result<(), CommandError> {
    let written = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.write_all(secret.base32().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    written().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CommandError::usage(NewError::Exists(path.to_owned())),
        _ => CommandError::failed(NewError::Write { path: path.to_owned(), source }),
    })?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    durable::sync_directory(directory.unwrap_or(Path::new("."))).map_err(CommandError::failed)
}
