//! Settings that come as a value or as a file.
//!
//! Everything here fails closed: a setting that is present but unusable is an error, never a
//! default.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// Largest secret file that is read, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A setting that cannot be used. Every sentence names the variable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value and its `_FILE` twin are both given.
    #[error("{name} and {name}_FILE are both set; keep one")]
    BothSet {
        /// The variable without `_FILE`.
        name: String,
    },
    /// The value is the empty string.
    #[error("{name} is set but empty; unset it or give it a value")]
    Empty {
        /// The variable as set.
        name: String,
    },
    /// The file of a `_FILE` variable cannot be read.
    #[error("cannot read {}", told(name, path))]
    Unreadable {
        /// The variable, with `_FILE`.
        name: String,
        /// What it names.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file of a `_FILE` variable is readable but no secret.
    #[error("{}, the file that {name} names, {fault}", path.display())]
    Unusable {
        /// The variable, with `_FILE`.
        name: String,
        /// What it names.
        path: PathBuf,
        /// The rest of the sentence: `is empty`.
        fault: String,
    },
}

/// One secret from its two forms: `value` of the variable `name`, or the file that `name_FILE`
/// names (at most [`SECRET_FILE_BYTES_MAX`], UTF-8; one line ending at its end is dropped). Neither
/// form: `None`.
pub fn secret_from(
    name: &str,
    value: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<Secret>, ConfigError> {
    match (value, file) {
        (Some(_), Some(_)) => Err(ConfigError::BothSet { name: name.to_owned() }),
        (Some(value), None) if value.is_empty() => {
            Err(ConfigError::Empty { name: name.to_owned() })
        }
        (Some(value), None) => Ok(Some(Secret::new(value))),
        (None, Some(path)) => secret_in_file(format!("{name}_FILE"), path).map(Some),
        (None, None) => Ok(None),
    }
}

fn secret_in_file(name: String, path: PathBuf) -> Result<Secret, ConfigError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(&path)
        .and_then(|file| file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(ConfigError::Unreadable { name, path, source });
    }
    secret_in_bytes(name, path, &bytes)
}

/// The secret in what was read of `path`, the file that the variable `name` names, as [`secret_from`] takes it: for who has to look
/// at the file that is read.
pub fn secret_in_bytes(name: String, path: PathBuf, bytes: &[u8]) -> Result<Secret, ConfigError> {
    match secret_text(bytes) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(fault) => Err(ConfigError::Unusable { name, path, fault }),
    }
}

/// A file that cannot be read, for people. What does not look like a path may be the secret itself, given to the wrong variable.
fn told(name: &str, path: &Path) -> String {
    if matches!(path.as_os_str().as_encoded_bytes().first(), Some(b'/' | b'.')) {
        format!("{}, the file that {name} names", path.display())
    } else {
        format!(
            "the file that {name} names, which begins with neither / nor . and is not repeated, since it may be the secret itself"
        )
    }
}

fn secret_text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("is larger than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}
