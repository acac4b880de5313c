//! What the engine writes about a container beside its log: `config.v2.json` and `hostconfig.json`. They are
//! there before the container starts, and when the engine is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use chores_common::engine::{Container, LogConfig};
use rustix::fs::CWD;
use serde::Deserialize;

use crate::proof::FileFacts;

#[cfg(test)]
mod tests;

/// Longest of these files that is read, in bytes.
const FACTS_BYTES_MAX: u64 = 4 << 20;

const CONFIG_FILE: &str = "config.v2.json";
const HOST_CONFIG_FILE: &str = "hostconfig.json";

/// What the files are: as long as it is the same, so is what they say. The engine never writes into one, it puts
/// another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([FileFacts; 2]);

/// The stamp of the files in the directory of a container. `None` while they are not written yet.
pub fn stamp(directory: &Path) -> io::Result<Option<Stamp>> {
    let of = |name: &str| match FileFacts::named(&CWD, directory.join(name).as_os_str()) {
        Ok(facts) => Ok(facts),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Ok(of(CONFIG_FILE)?.zip(of(HOST_CONFIG_FILE)?).map(|(config, host)| Stamp([config, host])))
}

/// Reads what is written in the directory of a container. `None` while it is not written yet.
pub fn read(directory: &Path) -> io::Result<Option<Container>> {
    let (Some(config), Some(host_config)) =
        (whole(&directory.join(CONFIG_FILE))?, whole(&directory.join(HOST_CONFIG_FILE))?)
    else {
        return Ok(None);
    };
    let facts = facts(&config, &host_config)?;
    Ok(Some(facts))
}

fn whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FACTS_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(bytes))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    log_path: String,
    #[serde(default)]
    config: Inner,
    #[serde(default)]
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    image: String,
    tty: bool,
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    paused: bool,
    restarting: bool,
    pid: i64,
    started_at: String,
    finished_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    auto_remove: bool,
    #[serde(default)]
    log_config: Log,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Log {
    r#type: String,
    config: Option<BTreeMap<String, String>>,
}

fn facts(config: &[u8], host_config: &[u8]) -> serde_json::Result<Container> {
    let config: Config = serde_json::from_slice(config)?;
    let host_config: HostConfig = serde_json::from_slice(host_config)?;
    let moment =
        |text: String| Some(text).filter(|text| !text.starts_with("0001-") && !text.is_empty());
    Ok(Container {
        name: config.name.strip_prefix('/').unwrap_or(&config.name).to_owned(),
        id: config.id,
        image_id: config.image,
        image_ref: config.config.image,
        running: config.state.running,
        paused: config.state.paused,
        labels: config.config.labels.unwrap_or_default(),
        env: config.config.env.unwrap_or_default(),
        restarting: config.state.restarting,
        pid: Some(config.state.pid).filter(|pid| *pid > 0),
        started_at: moment(config.state.started_at),
        finished_at: moment(config.state.finished_at),
        tty: config.config.tty,
        auto_remove: host_config.auto_remove,
        log: LogConfig {
            driver: host_config.log_config.r#type,
            options: host_config.log_config.config.unwrap_or_default(),
            path: Some(config.log_path).filter(|path| !path.is_empty()).map(Into::into),
        },
        ..Container::default()
    })
}
