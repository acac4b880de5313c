//! Questions to this machine and the engine.

use std::fs;
use std::path::Path;

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, EngineVersion,
    own_container_id,
};
use chores_common::finding::{Finding, Status};
use rustix::fs::statvfs;
use tokio::runtime::Handle;

use super::decide::{self, Growth};
use crate::direct::found::is_id;
use crate::direct::sees;
use crate::engine_source::EngineSettings;
use crate::files::patterns::Patterns;
use crate::followed::Way;
use crate::proof::FileFacts;
use crate::rotate::place::Place;
use crate::rotate::{lease, look};
use crate::rule::FilesRule;
use crate::time;

/// The engine, its files, and every container.
pub(super) fn engine(settings: &EngineSettings, runtime: &Handle) -> Vec<Finding> {
    let directory = settings.directory();
    let mut findings = Vec::new();
    let listed = directory.as_deref().map_or(Ok(0), |directory| {
        let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| is_id(name)).count())
    });
    let has_files = directory.is_some() && listed.is_ok();
    match runtime.block_on(ask(settings.host.as_deref())) {
        Ok((version, containers)) => {
            let EngineVersion { engine, api } = version;
            findings.push(Finding::ok("engine", format!("answers, {engine}, API {api}")));
            findings.push(decide::files(directory.as_deref(), &listed));
            let own = own_container_id();
            for container in
                containers.iter().filter(|container| own.as_ref() != Some(&container.id))
            {
                let is_seen = directory.as_deref().is_some_and(|files| sees(files, container));
                let way = if is_seen { Way::Direct } else { Way::Api };
                let growth = directory.as_deref().and_then(|files| growth(files, container));
                findings.push(decide::container(container, way, directory.as_deref(), growth));
            }
            let others = containers.iter().filter(|one| own.as_ref() != Some(&one.id));
            let unlimited = others.filter(|container| decide::is_unlimited(container)).count();
            findings.extend(decide::engine_logs(unlimited));
        }
        Err(error) => {
            let status = if has_files { Status::Warn } else { Status::Fail };
            let advice = match error.kind() {
                EngineErrorKind::Denied => "run as root, or in the group that owns the socket",
                _ => "mount the socket: -v /var/run/docker.sock:/var/run/docker.sock:ro",
            };
            findings.push(Finding::new("engine", status, error.to_string(), advice));
            findings.push(decide::files(directory.as_deref(), &listed));
        }
    }
    findings
}

/// How the log of a container has grown since it was begun; `None` where its file cannot be seen.
fn growth(directory: &Path, container: &Container) -> Option<Growth> {
    let newest = container.log.path.as_deref()?.file_name()?;
    let path = directory.join(&container.id).join(newest);
    let facts = FileFacts::of(&fs::File::open(path).ok()?).ok()?;
    let seconds = time::now().saturating_sub(facts.identity.born?) / time::SECOND;
    let room = statvfs(directory).ok()?;
    Some(Growth {
        bytes: facts.size,
        seconds: u64::try_from(seconds).ok()?,
        free: room.f_bavail.saturating_mul(room.f_frsize),
    })
}

/// Log files that are shipped: whether there are any.
pub(super) fn files(rule: &FilesRule) -> Vec<Finding> {
    let Ok(patterns) = Patterns::new(&rule.paths, &rule.exclude) else { return Vec::new() };
    patterns.unmatched(&patterns.list()).into_iter().map(decide::unmatched).collect()
}

/// Log files that are rotated: whether they can be, and whether their end can be proved.
pub(super) fn rotation(rule: &FilesRule, runtime: &Handle) -> Vec<Finding> {
    let Ok(patterns) = Patterns::new(&rule.paths, &rule.exclude) else { return Vec::new() };
    let _inside = runtime.enter();
    if lease::prepare().is_err() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (directory, names) in patterns.list().directories {
        let mut paths = names.iter().map(|named| directory.join(&named.name));
        let file = paths.find_map(|path| {
            let place = Place::of(&patterns, &path).ok()?;
            patterns.is_meant(&path).then(|| place.open().ok().flatten())?
        });
        let Some(opened) = file else { continue };
        let held = lease::probe(&opened.file);
        findings.push(decide::rotation(&directory, look::is_read_only(&directory), held));
    }
    findings
}

async fn ask(host: Option<&str>) -> Result<(EngineVersion, Vec<Container>), EngineError> {
    let engine = Engine::connect(host).await?;
    let version = engine.version().await?;
    let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
    let mut containers = Vec::new();
    for listed in engine.list_containers(&filter).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) => containers.push(container),
            // It was removed since.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    containers.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((version, containers))
}

/// The state directory: whether a file can be made in it, and how much room there is.
pub(super) fn state(directory: &Path, wal_bytes_max: u64) -> Finding {
    let refused = |error: &dyn std::fmt::Display| {
        Finding::new(
            "state",
            Status::Fail,
            format!("{} cannot be written: {error}", directory.display()),
            "make it, owned by the user that runs this; in a container mount a volume there",
        )
    };
    let random = getrandom::u64().unwrap_or_default();
    let probe = directory.join(format!(".doctor-{random:016x}"));
    let made = fs::File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
    if let Err(error) = made {
        return refused(&error);
    }
    match statvfs(directory) {
        Ok(room) => {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            decide::state(directory, free, wal_bytes_max)
        }
        Err(error) => refused(&error),
    }
}
