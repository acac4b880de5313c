//! What the labels of a container say: `chores.logship.enable`, `sinks`, `parse`, `multiline`, `redact`, `level`,
//! `rate`, `fields`, `rotate`, `reopen`. What cannot be used is a fault and changes nothing.

use std::collections::BTreeMap;

use chores_common::settings::one_of;

use crate::pattern::Pattern;
use crate::process::filter::LevelFilter;
use crate::process::multiline::{self, Multiline};
use crate::process::rate::Rate;
use crate::rotation::{Reopen, Wishes};
use crate::source::Parse;

#[cfg(test)]
mod tests;

/// What every label of ours begins with.
pub const PREFIX: &str = "chores.logship.";

/// Every key.
pub const KEYS: [&str; 10] = [
    "enable",
    "sinks",
    "parse",
    "multiline",
    "redact",
    "level",
    "rate",
    "fields",
    "reopen",
    "rotate",
];

/// Bytes of a label's value that are looked at.
const VALUE_BYTES_MAX: usize = 4096;

/// What is wrong with a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {key}: {fault}")]
pub struct LabelFault {
    /// The whole key.
    pub key: String,
    /// The rest of the sentence.
    pub fault: String,
}

/// What the labels of a container ask for.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Whether it is shipped at all.
    pub enable: Option<bool>,
    /// Names of sinks.
    pub sinks: Option<Vec<String>>,
    /// How lines are taken apart.
    pub parse: Option<Parse>,
    /// Which lines belong together; `Some(None)` is none of them.
    pub multiline: Option<Option<Multiline>>,
    /// Names of what is secret.
    pub redact: Vec<String>,
    /// Which records are serious enough.
    pub level: Option<LevelFilter>,
    /// How many records are too many.
    pub rate: Option<Rate>,
    /// Added to every record.
    pub fields: BTreeMap<String, String>,
    /// How the files that it writes are rotated.
    pub rotate: Wishes,
    /// How it is told to open them again.
    pub reopen: Option<Reopen>,
}

/// Reads the labels of a container; others than ours are left alone.
#[must_use]
pub fn read(labels: &BTreeMap<String, String>) -> (Overrides, Vec<LabelFault>) {
    let mut overrides = Overrides::default();
    let mut faults = Vec::new();
    for (key, value) in labels {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if let Err(fault) = set(&mut overrides, name, value) {
            faults.push(LabelFault { key: key.clone(), fault });
        }
    }
    (overrides, faults)
}

/// What the labels of a container say about the rotation of files that it may write; wrong ones say nothing.
#[must_use]
pub fn rotation(labels: &BTreeMap<String, String>) -> Wishes {
    let (Overrides { rotate, reopen, .. }, _) = read(labels);
    Wishes { reopen, ..rotate }
}

fn set(overrides: &mut Overrides, name: &str, value: &str) -> Result<(), String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("its value is longer than {VALUE_BYTES_MAX} bytes"));
    }
    let value = value.trim();
    match name {
        "enable" => {
            overrides.enable = Some(value.parse().map_err(|_| one_of(value, &["true", "false"]))?);
        }
        "sinks" => overrides.sinks = Some(names(value)?),
        "parse" => overrides.parse = Some(parse(value)?),
        "multiline" => overrides.multiline = Some(multiline(value)?),
        "redact" => overrides.redact = names(value)?,
        "level" => overrides.level = Some(LevelFilter::parse(value)?),
        "rate" => overrides.rate = Some(Rate::parse(value).map_err(|error| error.to_string())?),
        "fields" => overrides.fields = fields(value)?,
        "rotate" => overrides.rotate = rotate(value)?,
        "reopen" => overrides.reopen = Some(Reopen::parse(value)?),
        _ => return Err(format!("there is no such key; there are {}", KEYS.join(", "))),
    }
    Ok(())
}

/// `size=10MB,keep=5`. Whether writers append, and how they are told, is not said here.
fn rotate(text: &str) -> Result<Wishes, String> {
    let wishes = Wishes::parse(text)?;
    if wishes.append.is_some() {
        return Err("append: only the configuration can say that".to_owned());
    }
    if wishes.reopen.is_some() {
        return Err(format!("reopen: give it as the label {PREFIX}reopen"));
    }
    Ok(wishes)
}

/// `json`, `nginx` and the like, or `regex:` and a pattern.
pub fn parse(text: &str) -> Result<Parse, String> {
    if let Some(pattern) = text.strip_prefix(Parse::REGEX) {
        let pattern = Pattern::new(pattern).map_err(|fault| one_line(&fault))?;
        return Ok(Parse::Regex(pattern));
    }
    Parse::named(text).ok_or_else(|| {
        let mut known = Parse::NAMES.to_vec();
        known.push("regex:PATTERN");
        one_of(text, &known)
    })
}

/// A preset, a pattern, or `none`.
pub fn multiline(text: &str) -> Result<Option<Multiline>, String> {
    match text {
        "" => Err(format!(
            "it is empty; give {}, none, or a pattern",
            multiline::presets().join(", ")
        )),
        "none" => Ok(None),
        text => Multiline::parse(text).map(Some).map_err(|fault| one_line(&fault)),
    }
}

/// A fault of a pattern, whose reason shows the place in lines of its own.
fn one_line(fault: &dyn std::error::Error) -> String {
    chores_common::exit::chain(fault).replace('\n', " ")
}

/// `a,b`.
fn names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(format!("{text:?} is no list of names: give for example a,b"));
    }
    Ok(names)
}

/// `key=value,key=value`.
fn fields(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = text.split(',').map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} is no field: give for example team=a,tier=web"))?;
        let (key, value) = (key.trim(), value.trim());
        match crate::rule::field_fault(key, value) {
            Some(fault) => Err(fault),
            None => Ok((key.to_owned(), value.to_owned())),
        }
    });
    pairs.collect()
}
