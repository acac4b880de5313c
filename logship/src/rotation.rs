//! When a file is rotated, how, and what stays: from the configuration, refined by labels.

use std::fmt;
use std::time::Duration;

use chores_common::settings::one_of;
use serde::{Deserialize, Serialize};

use crate::quantity;

#[cfg(test)]
mod tests;

/// Words of a command that makes writers open their files again, at the most.
const COMMAND_WORDS_MAX: usize = 32;

/// Rotated files of one log that stay, at the most: each is a small file in the state directory too.
pub const KEEP_MAX: u64 = 10_000;

/// Least size at which a file is rotated, in bytes: a few blocks of every file system.
pub const SIZE_MIN: u64 = 64 << 10;

/// Shortest time between two rotations of one file.
pub const EVERY_MIN: Duration = Duration::from_secs(60);

/// Signals by which programs are told to open their files again. None of them means the end to a program that
/// listens to it.
const SIGNALS: [&str; 5] = ["HUP", "USR1", "USR2", "WINCH", "CONT"];

/// How writers get to the new file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reopen {
    /// They do not: the file stays theirs, and its beginning is taken away.
    #[default]
    None,
    /// They look at the name by themselves, or open it for every line.
    Name,
    /// A signal to the first process of each container that has the volume: `USR1`.
    Signal(&'static str),
    /// A program in each of them.
    Exec(Vec<String>),
}

impl Reopen {
    /// `none`, `name`, `signal:NAME` or `exec:PROGRAM ARGUMENT…`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "name" => Ok(Self::Name),
            Some(("signal", name)) => {
                let plain = name.trim().to_ascii_uppercase();
                let plain = plain.strip_prefix("SIG").unwrap_or(&plain);
                let known = SIGNALS.into_iter().find(|name| *name == plain);
                known.map(Self::Signal).ok_or_else(|| one_of(name, &SIGNALS))
            }
            Some(("exec", command)) => {
                let words: Vec<String> =
                    command.split_ascii_whitespace().map(str::to_owned).collect();
                match words.len() {
                    0 => Err("the command is empty: give for example exec:nginx -s reopen".into()),
                    1..=COMMAND_WORDS_MAX => Ok(Self::Exec(words)),
                    _ => Err(format!("the command has more than {COMMAND_WORDS_MAX} words")),
                }
            }
            _ => Err(format!(
                "{text:?} is no way to reopen: give none, name, signal:USR1 or exec:nginx -s reopen"
            )),
        }
    }

    /// Whether the engine has to be asked to tell the writers.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Signal(_) | Self::Exec(_))
    }
}

impl fmt::Display for Reopen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Name => f.write_str("name"),
            Self::Signal(name) => write!(f, "signal:{name}"),
            Self::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

/// What rotated files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// `app.log-20261129T101500Z`: when it was rotated.
    #[default]
    Dateext,
    /// `app.log.000001`: numbers that rise, so that a name means the same content for ever.
    Numbered,
}

impl Names {
    /// `dateext` or `numbered`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "dateext" => Ok(Self::Dateext),
            "numbered" => Ok(Self::Numbered),
            other => Err(one_of(other, &["dateext", "numbered"])),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Dateext => "dateext",
            Self::Numbered => "numbered",
        }
    }
}

/// What is set; what is not is decided by the next one that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Rotated from so many bytes on.
    pub size: Option<u64>,
    /// Rotated when so much time has passed: at whole multiples of it since 1970, UTC.
    pub every: Option<Duration>,
    /// So many rotated files stay.
    pub keep: Option<u64>,
    /// They stay for so long.
    pub keep_age: Option<Duration>,
    /// They have so many bytes together.
    pub keep_size: Option<u64>,
    /// They are compressed.
    pub compress: Option<bool>,
    /// How writers get to the new file.
    pub reopen: Option<Reopen>,
    /// What rotated files are called.
    pub names: Option<Names>,
    /// Every writer is known to append (`O_APPEND`).
    pub append: Option<bool>,
}

/// Keys of a policy, as they are written.
pub const KEYS: [&str; 9] =
    ["size", "every", "keep", "keep_age", "keep_size", "compress", "reopen", "names", "append"];

impl Wishes {
    /// Sets one key from text; what is wrong with it otherwise.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let size = || quantity::size(text).map_err(|error| error.to_string());
        let duration = || quantity::duration(text).map_err(|error| error.to_string());
        match key {
            "size" => self.size = Some(at_least(size()?, SIZE_MIN, "bytes")?),
            "every" => {
                let every = duration()?;
                at_least(every.as_secs(), EVERY_MIN.as_secs(), "seconds")?;
                self.every = Some(every);
            }
            "keep" => {
                let keep = text.parse().ok().filter(|keep| *keep <= KEEP_MAX);
                self.keep =
                    Some(keep.ok_or_else(|| format!("{text:?} is no number up to {KEEP_MAX}"))?);
            }
            "keep_age" | "keep-age" => self.keep_age = Some(duration()?),
            "keep_size" | "keep-size" => self.keep_size = Some(size()?),
            "compress" => self.compress = Some(compress(text)?),
            "reopen" => self.reopen = Some(Reopen::parse(text)?),
            "names" => self.names = Some(Names::parse(text)?),
            "append" => {
                self.append = Some(text.parse().map_err(|_| one_of(text, &["true", "false"]))?);
            }
            other => return Err(one_of(other, &KEYS)),
        }
        Ok(())
    }

    /// `size=10MB,keep=5,compress=zstd`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut wishes = Self::default();
        for pair in text.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("{pair:?} is no setting: give for example size=10MB,keep=5"));
            };
            let key = key.trim();
            wishes.set(key, value.trim()).map_err(|fault| format!("{key}: {fault}"))?;
        }
        Ok(wishes)
    }

    /// These, and where nothing is set `others`.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        let others = others.clone();
        Self {
            size: self.size.or(others.size),
            every: self.every.or(others.every),
            keep: self.keep.or(others.keep),
            keep_age: self.keep_age.or(others.keep_age),
            keep_size: self.keep_size.or(others.keep_size),
            compress: self.compress.or(others.compress),
            reopen: self.reopen.or(others.reopen),
            names: self.names.or(others.names),
            append: self.append.or(others.append),
        }
    }

    /// What is said of the files that stay.
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep { count: self.keep, age: self.keep_age, bytes: self.keep_size }
    }

    /// What is done where nothing else is said: uncompressed, everything stays, no writer is told.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            size: self.size,
            every: self.every,
            keep: self.keep(),
            compress: self.compress.unwrap_or(false),
            reopen: self.reopen.clone().unwrap_or_default(),
            names: self.names.unwrap_or_default(),
            append: self.append.unwrap_or(false),
        }
    }
}

/// What is done with a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// See [`Wishes::size`].
    pub size: Option<u64>,
    /// See [`Wishes::every`].
    pub every: Option<Duration>,
    /// Which rotated files stay.
    pub keep: Keep,
    /// See [`Wishes::compress`].
    pub compress: bool,
    /// See [`Wishes::reopen`].
    pub reopen: Reopen,
    /// See [`Wishes::names`].
    pub names: Names,
    /// See [`Wishes::append`].
    pub append: bool,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reopen={}", self.reopen)?;
        if let Some(size) = self.size {
            write!(f, " size={size}")?;
        }
        if let Some(every) = self.every {
            write!(f, " every={}s", every.as_secs())?;
        }
        if let Some(count) = self.keep.count {
            write!(f, " keep={count}")?;
        }
        if let Some(age) = self.keep.age {
            write!(f, " keep_age={}s", age.as_secs())?;
        }
        if let Some(bytes) = self.keep.bytes {
            write!(f, " keep_size={bytes}")?;
        }
        write!(f, " compress={}", if self.compress { "zstd" } else { "none" })?;
        write!(f, " names={}", self.names.word())?;
        if self.append { f.write_str(" append=true") } else { Ok(()) }
    }
}

/// Which rotated files of one log stay. What is not set keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Keep {
    /// So many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For so long after they were rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Duration>,
    /// So many bytes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Keep {
    /// This, and where it says nothing `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            count: self.count.or(other.count),
            age: self.age.or(other.age),
            bytes: self.bytes.or(other.bytes),
        }
    }

    /// Of each limit the one that lets more stay; one that is not set by one of them is the other's.
    #[must_use]
    pub fn looser(self, other: Self) -> Self {
        Self {
            count: self.count.max(other.count),
            age: self.age.max(other.age),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// `zstd` or `none`.
fn compress(text: &str) -> Result<bool, String> {
    match text {
        "zstd" => Ok(true),
        "none" => Ok(false),
        other => Err(one_of(other, &["zstd", "none"])),
    }
}

fn at_least(number: u64, least: u64, unit: &str) -> Result<u64, String> {
    if number < least {
        return Err(format!("it is too small: give at least {least} {unit}"));
    }
    Ok(number)
}
