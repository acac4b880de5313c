//! `audit`: is it whole, and is it ours?

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use chores_common::exit::ExitCode;
use russh::keys::PublicKey;
use sha2::{Digest as _, Sha256};

use super::{CommandError, print};
use crate::broker::journal::{self, HEAD};
use crate::broker::recording;
use crate::chain::{Head, LINE_BYTES_MAX, Recorded, Report, Verifier, hex};
use crate::cli::{AuditCommand, CommonArgs, VerifyArgs};
use crate::config::{self, SettingError};
use crate::host_keys::AUDIT_DIRECTORY;

/// The public half of the key that signs, beside the files.
const PUBLIC_KEY: &str = "key.pub";
/// Largest file of a public key or a head, in bytes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Recordings that an audit may name in the memory of one look.
const RECORDINGS_MAX: usize = 1_000_000;

#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("there is no audit in {}", .0.display())]
    Nothing(PathBuf),
    #[error("{} has no public key in OpenSSH's format", .0.display())]
    NoKey(PathBuf),
}

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &AuditCommand) -> Result<ExitCode, CommandError> {
    match command {
        AuditCommand::Verify(args) => verify(common, args),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::failed(AuditError::Unreadable { path, source })
}

fn verify(common: &CommonArgs, args: &VerifyArgs) -> Result<ExitCode, CommandError> {
    let expected = args.expect.iter().map(|text| expectation(text)).collect::<Result<_, _>>()?;
    let path = match &args.path {
        Some(path) => path.clone(),
        None => {
            let state = config::state(common)?.ok_or(SettingError::NoState)?;
            state.join(AUDIT_DIRECTORY)
        }
    };
    let is_directory = std::fs::metadata(&path).map_err(unreadable(&path))?.is_dir();
    let directory = if is_directory {
        path.clone()
    } else {
        path.parent().map(Path::to_owned).unwrap_or_default()
    };
    let key_file = args.key.clone().unwrap_or_else(|| directory.join(PUBLIC_KEY));
    let key = small(&key_file)?
        .ok_or_else(|| unreadable(&key_file)(io::Error::from(io::ErrorKind::NotFound)))?;
    let key =
        std::str::from_utf8(&key).ok().and_then(|text| PublicKey::from_openssh(text.trim()).ok());
    let key = key.ok_or_else(|| CommandError::usage(AuditError::NoKey(key_file)))?;
    // One file alone may well end before the head.
    let head = if is_directory {
        small(&directory.join(HEAD))?.map_or(Head::Missing, Head::Kept)
    } else {
        Head::Elsewhere
    };
    let mut verifier = Verifier::new(&key, head, expected);
    let mut recordings = Vec::new();
    if is_directory {
        let numbers = journal::files(&directory).map_err(unreadable(&directory))?;
        if numbers.is_empty() {
            return Err(CommandError::failed(AuditError::Nothing(directory)));
        }
        let mut last = None;
        for number in numbers {
            let name = journal::file_name(number);
            verifier.file(&name);
            if let Some(last) = last.filter(|last| last + 1 != number) {
                verifier.gap(format!(
                    "the files between {} and this one are missing",
                    journal::file_name(last)
                ));
            }
            last = Some(number);
            read(&mut verifier, &directory.join(name), &mut recordings)?;
        }
    } else {
        verifier.file(&path.display().to_string());
        read(&mut verifier, &path, &mut recordings)?;
    }
    let mut report = verifier.end();
    let mut missing = Vec::new();
    let (elsewhere, recordings): (Vec<_>, Vec<_>) =
        recordings.into_iter().partition(|recorded| recorded.is_elsewhere);
    // Moved to a store by the gateway itself, as the audit says.
    let elsewhere: BTreeSet<_> =
        elsewhere.into_iter().map(|recorded| (recorded.file, recorded.sha256)).collect();
    let is_moved = |recorded: &Recorded| {
        let path = format!("{}/{}", recording::DIRECTORY, recorded.file);
        elsewhere.contains(&(path, recorded.sha256.clone()))
    };
    let mut moved = 0;
    if args.recordings {
        let directory = directory.parent().map(Path::to_owned).unwrap_or_default();
        let directory = directory.join(recording::DIRECTORY);
        for recorded in &recordings {
            let is_here = directory.join(&recorded.file).symlink_metadata().is_ok();
            if !is_here && is_moved(recorded) {
                moved += 1;
            } else {
                missing.extend(fault(&directory, recorded));
            }
        }
    }
    if moved > 0 {
        report
            .notes
            .push(format!("{moved} recordings are not here: the gateway has uploaded them"));
    }
    let checked = args.recordings.then_some(recordings.len() - moved);
    let text = if common.json {
        json(&report, &missing, checked)
    } else {
        text(&report, &missing, checked)
    };
    print(text.as_bytes())?;
    Ok(if !report.damages.is_empty() || !missing.is_empty() {
        ExitCode::Failed
    } else if report.first > 1 {
        ExitCode::Warnings
    } else {
        ExitCode::Done
    })
}

/// `NUMBER:HASH`.
fn expectation(text: &str) -> Result<(u64, String), SettingError> {
    let fault = "give the number and the SHA-256 of a line, such as 8:9f86d0…";
    let wrong = || SettingError::flag("--expect", &text, &fault);
    let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hash {
        return Err(wrong());
    }
    Ok((number.parse().map_err(|_| wrong())?, hash.to_ascii_lowercase()))
}

/// A file of bounded size; `None` when there is none.
fn small(path: &Path) -> Result<Option<Vec<u8>>, CommandError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SMALL_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path)(error)),
    }
}

/// Reads one file, line by line.
fn read(
    verifier: &mut Verifier<'_>,
    path: &Path,
    recordings: &mut Vec<Recorded>,
) -> Result<(), CommandError> {
    let mut file = BufReader::new(File::open(path).map_err(unreadable(path))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        // What is longer is no line of ours, and told as such.
        let most = LINE_BYTES_MAX as u64 + 2;
        let length =
            (&mut file).take(most).read_until(b'\n', &mut line).map_err(unreadable(path))?;
        match line.split_last() {
            None => return Ok(()),
            Some((b'\n', whole)) => {
                let recorded = verifier.line(whole);
                recordings.extend(recorded.filter(|_| recordings.len() < RECORDINGS_MAX));
            }
            Some(_) if length as u64 == most => {
                verifier.long_line(&line);
                rest_of_line(&mut file, |bytes| verifier.more(bytes)).map_err(unreadable(path))?;
            }
            Some(_) => {
                verifier.rest(&line);
                return Ok(());
            }
        }
    }
}

/// Passes on what is left of a line, with its line end.
fn rest_of_line(file: &mut impl BufRead, mut to: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(bytes.len(), |at| at + 1);
        to(bytes.get(..length).unwrap_or_default());
        file.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// What is wrong with a recording: one sentence.
fn fault(directory: &Path, recorded: &Recorded) -> Option<String> {
    let name = crate::login::shown(&recorded.file);
    let is_below = Path::new(&recorded.file)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_below {
        return Some(format!("{name} is no name of a recording"));
    }
    let mut hash = Sha256::new();
    let hashed = File::open(directory.join(&recorded.file)).and_then(|file| {
        let mut file = BufReader::new(file);
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let length = bytes.len();
            hash.update(bytes);
            file.consume(length);
        }
    });
    match hashed {
        Ok(()) if hex(&hash.finalize()) == recorded.sha256 => None,
        Ok(()) => Some(format!("{name} is not as it was recorded")),
        Err(error) => Some(format!("{name} cannot be read: {error}")),
    }
}

fn text(report: &Report, missing: &[String], checked: Option<usize>) -> String {
    let mut lines: Vec<String> = report
        .damages
        .iter()
        .map(|damage| format!("{}:{}: {}", damage.file, damage.line, damage.what))
        .collect();
    lines.extend(missing.iter().map(|fault| format!("recording {fault}")));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    let count = report.damages.len() + missing.len();
    let verdict = match count {
        0 => "nothing was cut or changed".to_owned(),
        1 => "1 damage".to_owned(),
        count => format!("{count} damages"),
    };
    let recordings = checked.map(|count| format!(", {count} recordings")).unwrap_or_default();
    lines.push(format!(
        "{} lines{recordings}, signed up to line {}: {verdict}\n",
        report.lines, report.signed
    ));
    lines.join("\n")
}

fn json(report: &Report, missing: &[String], checked: Option<usize>) -> String {
    let damages: Vec<_> = report
        .damages
        .iter()
        .map(|damage| serde_json::json!({"file": damage.file, "line": damage.line, "what": damage.what}))
        .collect();
    let answer = serde_json::json!({
        "lines": report.lines, "first": report.first, "last": report.last, "signed": report.signed,
        "damages": damages, "recordings": checked, "recordings_damaged": missing, "notes": report.notes,
    });
    format!("{answer}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_a_number_and_a_hash() {
        let hash = "AB".repeat(32);
        let read = expectation(&format!("8:{hash}")).unwrap();
        assert_eq!(read, (8, hash.to_ascii_lowercase()));
        for wrong in ["", "8", "8:", "x:00", &format!("-1:{hash}"), &format!("8:{hash}0")] {
            assert!(expectation(wrong).is_err(), "{wrong}");
        }
    }
}
