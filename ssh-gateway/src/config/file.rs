//! The configuration file: what it may set.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::object::Location;
use chores_common::settings::{self, Fault, FileFaults, Item, Table};

use super::{
    ACCEPT_ENVIRONMENT_DEFAULT, LIMITS_DEFAULT, LISTEN_FORMS, LISTENERS_MAX, Mode, RecordConfig,
    STOP_GRACE_DEFAULT, banner, listen_address,
};
use crate::authorized_keys::AddressList;
use crate::policy::{self, ToolboxUse};
use crate::wire::net::Limits;

#[cfg(test)]
mod tests;

/// Longest time that can be set: what is counted in 32 bits of seconds, and sane.
const TIME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Most channels, sessions or listeners of one connection that can be set: each has a task and buffers.
const CHANNELS_MAX: u64 = 1_000;

/// Most connections before authentication that can be set.
const STARTUPS_MAX: u64 = 10_000;

/// What may wait for programs: less than the least and every key press would be weighed.
const SPOOL_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 40);

/// What audit and recordings may take.
const QUOTA_BYTES: RangeInclusive<u64> = (1 << 20)..=(1 << 50);

/// Load balancers, and networks of them.
const PROXIES_MAX: usize = 64;

/// Files with keys.
const KEY_FILES_MAX: usize = 64;

/// What a file sets; what it does not is the default.
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// `listen`.
    pub listen: Vec<SocketAddr>,
    /// `state`.
    pub state: Option<PathBuf>,
    /// `authorized_keys`.
    pub authorized_keys: Vec<PathBuf>,
    /// `policy`.
    pub policy: Option<PathBuf>,
    /// `revoked_keys`.
    pub revoked_keys: Vec<PathBuf>,
    /// `banner`.
    pub banner: Option<String>,
    /// `stop_grace`.
    pub stop_grace: Duration,
    /// `accept_env`.
    pub accept_environment: Vec<String>,
    /// `[enter] engine`.
    pub engine: Option<String>,
    /// `[enter] mode`.
    pub mode: Mode,
    /// `[enter] bundles`.
    pub bundles: Vec<PathBuf>,
    /// `[enter] cgroup_root`.
    pub cgroup_root: Option<PathBuf>,
    /// `[enter] toolbox`.
    pub toolbox: Option<PathBuf>,
    /// `[enter] toolbox_use`.
    pub toolbox_use: ToolboxUse,
    /// `[limits]`.
    pub limits: Limits,
    /// `[record]`.
    pub record: RecordConfig,
    /// `proxies`.
    pub proxies: Vec<String>,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            state: None,
            authorized_keys: Vec::new(),
            policy: None,
            revoked_keys: Vec::new(),
            banner: None,
            stop_grace: STOP_GRACE_DEFAULT,
            accept_environment: ACCEPT_ENVIRONMENT_DEFAULT.map(str::to_owned).to_vec(),
            engine: None,
            mode: Mode::default(),
            bundles: Vec::new(),
            cgroup_root: None,
            toolbox: None,
            toolbox_use: ToolboxUse::default(),
            limits: LIMITS_DEFAULT,
            record: RecordConfig::default(),
            proxies: Vec::new(),
        }
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<FileConfig, FileFaults> {
    settings::read(path, parse)
}

/// Reads the text of a file.
pub fn parse(text: &str) -> Result<FileConfig, Vec<Fault>> {
    settings::parse(text, config)
}

fn config(root: &Table<'_>) -> FileConfig {
    let mut config = FileConfig {
        listen: root.get("listen").map(|item| listen(&item)).unwrap_or_default(),
        state: root.get("state").and_then(|item| item.absolute_path()),
        authorized_keys: root.get("authorized_keys").map(|item| files(&item)).unwrap_or_default(),
        revoked_keys: root.get("revoked_keys").map(|item| files(&item)).unwrap_or_default(),
        policy: root.get("policy").and_then(|item| item.absolute_path()),
        banner: root
            .get("banner")
            .and_then(|item| item.text("a text", |text| banner(text.as_bytes()))),
        ..FileConfig::default()
    };
    if let Some(grace) = root.get("stop_grace").and_then(|item| time(&item, Duration::ZERO)) {
        config.stop_grace = grace;
    }
    if let Some(item) = root.get("proxies") {
        config.proxies = proxies(&item);
    }
    if let Some(item) = root.get("accept_env") {
        config.accept_environment = accept_environment(&item);
    }
    if let Some(table) = root.get("enter").and_then(|item| item.table()) {
        config.engine = table.get("engine").and_then(|item| item.string());
        if let Some(mode) = table.get("mode").and_then(|item| item.text("a mode", str::parse)) {
            config.mode = mode;
        }
        config.bundles = table.get("bundles").map(|item| files(&item)).unwrap_or_default();
        config.cgroup_root = table.get("cgroup_root").and_then(|item| item.absolute_path());
        config.toolbox = table.get("toolbox").and_then(|item| item.absolute_path());
        let when = table.get("toolbox_use").and_then(|item| item.text("a word", str::parse));
        config.toolbox_use = when.unwrap_or_default();
        table.end();
    }
    if let Some(table) = root.get("limits").and_then(|item| item.table()) {
        limits(&table, &mut config.limits);
    }
    if let Some(table) = root.get("record").and_then(|item| item.table()) {
        record(&table, &mut config.record);
    }
    root.end();
    config
}

fn record(table: &Table<'_>, record: &mut RecordConfig) {
    if let Some(what) = table.get("sessions").and_then(|item| item.text("a word", str::parse)) {
        record.sessions = what;
    }
    if let Some(what) = table.get("unrecorded").and_then(|item| item.text("a word", str::parse)) {
        record.unrecorded = what;
    }
    let size = |name, value: &mut u64| {
        let Some(item) = table.get(name) else { return };
        match item.size() {
            Some(bytes) if QUOTA_BYTES.contains(&bytes) => *value = bytes,
            Some(_) => item.fault("it is out of range: give 1MiB to 1PiB"),
            None => {}
        }
    };
    size("quota", &mut record.quota);
    size("largest", &mut record.largest);
    size("audit_quota", &mut record.audit_quota);
    record.upload = table.get("upload").and_then(|item| item.text("a bucket", bucket));
    if let Some(keep) = table.get("keep_local").and_then(|item| item.boolean()) {
        record.keep_local = keep;
    }
    table.end();
}

/// The process that uploads has no directory that it could write to.
fn bucket(text: &str) -> Result<Location, String> {
    match Location::parse(text).map_err(|error| error.to_string())? {
        Location::Directory(_) | Location::Remote(_) => Err("give s3://bucket/prefix".to_owned()),
        bucket => Ok(bucket),
    }
}

fn limits(table: &Table<'_>, limits: &mut Limits) {
    let seconds = |name, least: u64, value: &mut u32| {
        let time = table.get(name).and_then(|item| time(&item, Duration::from_secs(least)));
        if let Some(seconds) = time.and_then(|time| u32::try_from(time.as_secs()).ok()) {
            *value = seconds;
        }
    };
    let count = |name, least: u64, most: u64, value: &mut u32| {
        let number = table.get(name).and_then(|item| item.integer(least..=most));
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            *value = number;
        }
    };
    seconds("login_grace", 1, &mut limits.login_grace_seconds);
    if let Some(item) = table.get("startups")
        && let Some(startups) = item.text("a text such as \"10:30:100\"", startups)
    {
        limits.startups = startups;
    }
    count("startups_per_source", 1, STARTUPS_MAX, &mut limits.startups_per_source);
    count("auth_attempts", 1, 100, &mut limits.auth_attempts);
    count("sessions", 0, CHANNELS_MAX, &mut limits.sessions);
    count("channels", 1, CHANNELS_MAX, &mut limits.channels);
    count("listeners", 0, CHANNELS_MAX, &mut limits.listeners);
    if let Some(item) = table.get("spool")
        && let Some(bytes) = item.size()
    {
        if SPOOL_BYTES.contains(&bytes) {
            limits.spool_bytes = bytes;
        } else {
            item.fault("it is out of range: give 1MiB to 1TiB");
        }
    }
    seconds("keepalive", 0, &mut limits.keepalive_seconds);
    count("keepalive_count", 1, 1_000, &mut limits.keepalive_count);
    seconds("idle", 0, &mut limits.idle_seconds);
    table.end();
}

/// `begin:percent:full`, as MaxStartups of sshd_config(5).
fn startups(text: &str) -> Result<(u32, u32, u32), String> {
    let wrong = || format!("{text:?} is unusable: give for example \"10:30:100\"");
    let mut numbers = text.split(':').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| is_number)
    });
    let (Some(Some(begin)), Some(Some(percent)), Some(Some(full)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return Err(wrong());
    };
    let in_range = begin >= 1 && begin <= full && u64::from(full) <= STARTUPS_MAX;
    if !in_range || !(1..=100).contains(&percent) {
        return Err(format!(
            "{text:?} is out of range: give begin:percent:full with 1 ≤ begin ≤ full ≤ {STARTUPS_MAX} and a \
             percent of 1 to 100"
        ));
    }
    Ok((begin, percent, full))
}

/// Whole seconds from `least`.
fn time(item: &Item<'_>, least: Duration) -> Option<Duration> {
    let time = item.duration()?;
    if time.subsec_nanos() != 0 || time < least || time > TIME_MAX {
        let (least, most) = (least.as_secs(), TIME_MAX.as_secs());
        item.fault(&format!("it is out of range: give whole seconds from {least}s to {most}s"));
        return None;
    }
    Some(time)
}

fn listen(item: &Item<'_>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for item in item.items() {
        let wrong = |text: &str| format!("{text:?} is no address: {LISTEN_FORMS}");
        let Some(address) =
            item.text("an address", |text| listen_address(text).ok_or_else(|| wrong(text)))
        else {
            continue;
        };
        if addresses.contains(&address) {
            item.fault("it is given twice");
        }
        addresses.push(address);
    }
    if addresses.len() > LISTENERS_MAX {
        item.fault(&format!("there are more than {LISTENERS_MAX}"));
    }
    addresses
}

fn files(item: &Item<'_>) -> Vec<PathBuf> {
    let paths: Vec<_> = item.items().iter().filter_map(Item::absolute_path).collect();
    if paths.len() > KEY_FILES_MAX {
        item.fault(&format!("there are more than {KEY_FILES_MAX}"));
    }
    paths
}

/// Addresses and networks, but never everybody: whoever is in them can claim to be anywhere.
fn proxies(item: &Item<'_>) -> Vec<String> {
    let items = item.items();
    if items.len() > PROXIES_MAX {
        item.fault(&format!("there are more than {PROXIES_MAX}"));
    }
    let read = |text: &str| {
        let is_plain = !text.contains(['*', '?', '!', ',', ' ']) && !text.ends_with("/0");
        match AddressList::parse(text) {
            Ok(_) if is_plain => Ok(text.to_owned()),
            _ => Err(format!(
                "{text:?} is no address of a proxy: give for example 10.0.0.7 or 10.0.0.0/24"
            )),
        }
    };
    items.iter().filter_map(|item| item.text("an address", read)).collect()
}

fn accept_environment(item: &Item<'_>) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in item.items() {
        let Some(text) = item.string() else { continue };
        match policy::environment_pattern_fault(&text) {
            Some(fault) => item.fault(&fault),
            None => patterns.push(text),
        }
    }
    if patterns.len() > policy::ENVIRONMENT_PATTERNS_MAX {
        item.fault(&format!("there are more than {}", policy::ENVIRONMENT_PATTERNS_MAX));
    }
    patterns
}
