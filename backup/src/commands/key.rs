//! `init` and `key`: who saves, and who reads.

use std::path::Path;

use chores_common::exit::ExitCode;
use chores_common::secret::Secret;
use serde_json::{Value, json};

use super::lock::told;
use super::{CommandError, Context};
use crate::cli::{InitArgs, KeyCommand, RecipientArgs};
use crate::config::{self, PASSPHRASE_CHARS_MIN, SettingError};
use crate::keys::key_file::KeyFile;
use crate::keys::private_file;
use crate::keys::recipient::Recipients;
use crate::repository::{Keep, KeyChange, Repository, probe_locks};
use crate::store::Store;

/// Nothing to change.
#[derive(Debug, thiserror::Error)]
enum Pointless {
    #[error(
        "{0} is not encrypted, so it has no keys: an encrypted one is made by `backup init --recipient …`"
    )]
    Clear(String),
    #[error("nobody is named: add --recipient, --recipients-file or --passphrase")]
    Nobody,
    #[error("recipients and a passphrase are added one after the other: run it twice")]
    Both,
}

/// Makes a new repository.
pub fn init(context: &Context<'_>, args: &InitArgs) -> Result<ExitCode, CommandError> {
    let readers = &args.readers;
    let is_clear = readers.named.is_empty() && !readers.passphrase;
    let keys = &context.settings.keys;
    let now = jiff::Timestamp::now();
    if is_clear {
        if keys.key_file.is_some() || keys.identity.is_some() || keys.passphrase.is_some() {
            return Err(SettingError::NobodyReads.into());
        }
        let store = lockable(context, args)?;
        let repository = Repository::init_locked(store, now, args.lock)?;
        let lock = locked(args);
        let place = repository.place();
        context.answer(
            || format!("made a repository at {place}; it is not encrypted: who can read the place can read the backups{lock}"),
            || {
                json!({
                    "event": "summary", "repository": place, "id": repository.id(), "encrypted": false, "lock": args.lock,
                })
            },
        )?;
        return Ok(ExitCode::Done);
    }
    let recipients = config::recipients(&readers.named)?;
    if !recipients.is_empty() {
        Recipients::parse(recipients.iter().map(String::as_str)).map_err(SettingError::from)?;
    }
    let passphrase = passphrase(context, readers)?;
    let path = keys.key_file.as_deref().ok_or(SettingError::NoKeyFile)?;
    let store = lockable(context, args)?;
    let keep = keep_at(path);
    let made =
        Repository::init_encrypted_locked(store, now, &recipients, passphrase, keep, args.lock);
    let repository = made?;
    let lock = locked(args);
    let place = repository.place();
    let holders = repository.key_holders();
    context.answer(
        || {
            let file = path.display();
            let readers: Vec<_> =
                holders.iter().map(|holder| holder.recipient.as_str()).collect();
            format!(
                "made an encrypted repository at {place}; {file} saves to it, and has to be kept and given to nobody else; \
                 only the private half of {} restores{lock}",
                readers.join(" or "),
            )
        },
        || {
            json!({
                "event": "summary", "repository": place, "id": repository.id(), "encrypted": true,
                "key_file": path, "readers": holders, "lock": args.lock,
            })
        },
    )?;
    Ok(ExitCode::Done)
}

/// The store of a new repository; where it is to be locked one that can do it.
fn lockable(context: &Context<'_>, args: &InitArgs) -> Result<Store, CommandError> {
    let store = context.store()?;
    if let Some(lock) = args.lock {
        probe_locks(&store, lock)?;
    }
    Ok(store)
}

/// The locks of a new repository, in what is to follow a sentence.
fn locked(args: &InitArgs) -> String {
    args.lock.map(|lock| format!("; {}", told(lock, "it"))).unwrap_or_default()
}

/// Says who reads an encrypted repository, and changes it.
pub fn run(context: &Context<'_>, command: &KeyCommand) -> Result<ExitCode, CommandError> {
    if let Some(path) = new_key_file(command) {
        private_file::require_new(KEY_FILE, path).map_err(SettingError::from)?;
    }
    let mut ring = context.settings.keys.ring()?;
    if matches!(command, KeyCommand::Add(args) if args.readers.passphrase) {
        // It is the new one, which opens nothing yet.
        ring.passphrase = None;
    }
    let repository = Repository::open_with(context.store()?, ring)?;
    if !repository.is_encrypted() {
        return Err(CommandError::usage(Pointless::Clear(repository.place())));
    }
    match command {
        KeyCommand::List => list(context, &repository),
        KeyCommand::Add(args) => {
            let texts = config::recipients(&args.readers.named)?;
            let change = match (passphrase(context, &args.readers)?, texts.is_empty()) {
                (None, true) => return Err(CommandError::usage(Pointless::Nobody)),
                (Some(_), false) => return Err(CommandError::usage(Pointless::Both)),
                (Some(passphrase), true) => KeyChange::AddPassphrase(passphrase),
                (None, false) => {
                    let recipients = Recipients::parse(texts.iter().map(String::as_str));
                    KeyChange::Add(recipients.map_err(SettingError::from)?)
                }
            };
            let told = "the next backup stores everything anew for all of them; what was saved before stays readable only for those who \
                        were there then";
            change_keys(context, &repository, change, &args.new.new_key_file, told)
        }
        KeyCommand::Remove(args) => {
            // As recipients are written, and no text that is none: it might be a private half.
            let old = Recipients::parse([args.recipient.as_str()]).map_err(SettingError::from)?;
            let change = KeyChange::Remove(old.texts().collect());
            let told = "the next backup stores everything anew; what was saved before stays readable for the one that was removed";
            change_keys(context, &repository, change, &args.new.new_key_file, told)
        }
        KeyCommand::Rotate(args) => {
            let told = "snapshots and indexes of before stay readable for who has the old key file";
            change_keys(context, &repository, KeyChange::Rotate, &args.new_key_file, told)
        }
        KeyCommand::Recover(args) => recover(context, &repository, &args.new_key_file),
    }
}

/// Where a command writes a key file.
fn new_key_file(command: &KeyCommand) -> Option<&Path> {
    match command {
        KeyCommand::List => None,
        KeyCommand::Add(args) => Some(&args.new.new_key_file),
        KeyCommand::Remove(args) => Some(&args.new.new_key_file),
        KeyCommand::Rotate(args) | KeyCommand::Recover(args) => Some(&args.new_key_file),
    }
}

fn list(context: &Context<'_>, repository: &Repository) -> Result<ExitCode, CommandError> {
    let holders = repository.key_holders();
    let index_key = repository.index_key();
    context.answer(
        || {
            let lines: Vec<_> = holders
                .iter()
                .map(|holder| {
                    let kept = if holder.passphrase { "  unlocked by a passphrase" } else { "" };
                    format!("{}{kept}", holder.recipient)
                })
                .collect();
            lines.join("\n")
        },
        || json!({"event": "summary", "readers": holders, "index_key": index_key}),
    )?;
    Ok(ExitCode::Done)
}

fn change_keys(
    context: &Context<'_>,
    repository: &Repository,
    change: KeyChange<'_>,
    path: &Path,
    told: &str,
) -> Result<ExitCode, CommandError> {
    repository.change_keys(change, keep_at(path))?;
    answer_file(context, path, told)
}

fn recover(
    context: &Context<'_>,
    repository: &Repository,
    path: &Path,
) -> Result<ExitCode, CommandError> {
    repository.require_identity()?;
    let Some(keys) = repository.recovered_key_file() else { return Ok(ExitCode::Failed) };
    private_file::write_new(KEY_FILE, path, &keys.to_text()).map_err(SettingError::from)?;
    let readers: Vec<_> = keys.recipients.texts().collect();
    let told = format!(
        "it encrypts for {}: if you do not know one of these, the store was tampered with",
        readers.join(" and ")
    );
    answer(
        context,
        path,
        &told,
        || json!({"event": "summary", "key_file": path, "readers": repository.key_holders()}),
    )
}

fn answer_file(context: &Context<'_>, path: &Path, told: &str) -> Result<ExitCode, CommandError> {
    answer(context, path, told, || json!({"event": "summary", "key_file": path}))
}

fn answer(
    context: &Context<'_>,
    path: &Path,
    told: &str,
    summary: impl FnOnce() -> Value,
) -> Result<ExitCode, CommandError> {
    context.answer(
        || {
            format!(
                "the key file is {} now: give it to every machine that saves; {told}",
                path.display()
            )
        },
        summary,
    )?;
    Ok(ExitCode::Done)
}

/// What errors call a key file.
const KEY_FILE: &str = "key file";

fn keep_at(path: &Path) -> Box<Keep<'_>> {
    Box::new(move |keys: &KeyFile| Ok(private_file::write_new(KEY_FILE, path, &keys.to_text())?))
}

/// The passphrase where one is asked for; one that is set and not asked for opens, and protects nothing new.
fn passphrase<'c>(
    context: &'c Context<'_>,
    readers: &RecipientArgs,
) -> Result<Option<&'c Secret>, CommandError> {
    if !readers.passphrase {
        return Ok(None);
    }
    let passphrase = context.settings.keys.passphrase.as_ref().ok_or(SettingError::NoPassphrase)?;
    if passphrase.expose().chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(SettingError::ShortPassphrase.into());
    }
    if !config::is_typed(passphrase) {
        return Err(SettingError::OddPassphrase.into());
    }
    Ok(Some(passphrase))
}
