//! What the labels of a container say: `chores.logship.enable`, `sinks`, `parse`, `multiline`, `redact`, `rate`,
//! `fields`. What cannot be used is a fault and changes nothing.

use std::collections::BTreeMap;

use chores_common::settings::one_of;

use crate::process::multiline::Multiline;
use crate::process::rate::Rate;
use crate::source::Parse;

#[cfg(test)]
mod tests;

/// What every label of ours begins with.
pub const PREFIX: &str = "chores.logship.";

/// Every key.
pub const KEYS: [&str; 9] =
    ["enable", "sinks", "parse", "multiline", "redact", "rate", "fields", "reopen", "rotate"];

/// Keys whose time has not come.
const LATER: [&str; 2] = ["reopen", "rotate"];

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
    /// The label is right, but does nothing in this release.
    pub is_notice: bool,
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
    /// How many records are too many.
    pub rate: Option<Rate>,
    /// Added to every record.
    pub fields: BTreeMap<String, String>,
}

/// Reads the labels of a container; others than ours are left alone.
#[must_use]
pub fn read(labels: &BTreeMap<String, String>) -> (Overrides, Vec<LabelFault>) {
    let mut overrides = Overrides::default();
    let mut faults = Vec::new();
    for (key, value) in labels {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if LATER.contains(&name) {
            let fault = "rotation is not in this release; the label does nothing".to_owned();
            faults.push(LabelFault { key: key.clone(), fault, is_notice: true });
        } else if let Err(fault) = set(&mut overrides, name, value) {
            faults.push(LabelFault { key: key.clone(), fault, is_notice: false });
        }
    }
    (overrides, faults)
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
        "rate" => overrides.rate = Some(Rate::parse(value).map_err(|error| error.to_string())?),
        "fields" => overrides.fields = fields(value)?,
        _ => return Err(format!("there is no such key; there are {}", KEYS.join(", "))),
    }
    Ok(())
}

/// `none`, `json` or `logfmt`.
pub fn parse(text: &str) -> Result<Parse, String> {
    match text {
        "none" => Ok(Parse::None),
        "json" => Ok(Parse::Json),
        "logfmt" => Ok(Parse::Logfmt),
        other => Err(one_of(other, &["none", "json", "logfmt"])),
    }
}

/// A preset, a pattern, or `none`.
pub fn multiline(text: &str) -> Result<Option<Multiline>, String> {
    match text {
        "" => Err("it is empty; give java, python, go, none, or a pattern".to_owned()),
        "none" => Ok(None),
        text => Multiline::parse(text)
            .map(Some)
            .map_err(|error| chores_common::exit::chain(&error).replace('\n', " ")),
    }
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
