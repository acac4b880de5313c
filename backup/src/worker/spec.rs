//! The specification of a worker (pure).
//!
//! **Capabilities.** All are dropped, then added by need (capabilities(7)):
//!
//! | for | capability | because |
//! |---|---|---|
//! | backup | `DAC_READ_SEARCH` | files of every owner are read |
//! | backup with repository or cache in a directory of another owner | `DAC_OVERRIDE` | root without it may not write there; the sources stay safe, they are mounted read-only |
//! | restore | `CHOWN`, `FOWNER` | owners, then modes, times and attributes of what is owned by others |
//! | restore | `DAC_OVERRIDE` | writing in directories of others, and into files without write permission |
//! | restore | `FSETID` | without it chmod(2) drops setgid where the group is not the caller's |
//! | restore | `SETFCAP` | `security.capability` |
//! | restore | `MKNOD` | device nodes |
//!
//! `SYS_ADMIN` is never given, so `trusted.*` attributes are neither seen nor restored.
//!
//! **Network.** None for a repository in a directory. For S3: that of the container this process is in, since
//! it reaches the service; on a host the engine's default, or the host's own where the service listens on
//! a loopback address.
//!
//! **Secrets** are files in a volume without a name that goes with the worker; the environment and the
//! arguments, which `inspect` shows, name the files only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chores_common::engine::{ContainerSpec, MountSource, MountSpec, PutFile, VolumesFrom};
use chores_common::object::{Location, S3Settings};
use chores_common::secret::Secret;
use zeroize::Zeroizing;

use super::leftover::PARENT_LABEL;
use super::place::Place;
use super::source::{SOURCE_VARIABLE, SourceInfo, SourceInfoError, Sources};

#[cfg(test)]
mod tests;

/// Environment variable with the directory of caches.
pub const CACHE_VARIABLE: &str = "BACKUP_CACHE_DIR";

/// Environment variable with `true` or `false`: the bucket stands in the path of S3 requests.
pub const PATH_STYLE_VARIABLE: &str = "BACKUP_S3_PATH_STYLE";

/// Label of every worker, `1`.
pub(super) const WORKER_LABEL: &str = "chores.backup.worker";

/// Label with the run's id.
const RUN_LABEL: &str = "chores.backup.run";

/// The program in our images.
pub(super) const PROGRAM: &str = "/backup";

/// Cache of a repository that is a directory, in it.
const CACHE_IN_REPOSITORY: &str = "cache";

/// Mode of a secret's file; the worker is root.
const SECRET_MODE: u32 = 0o400;

/// The engine can always read back what this driver keeps.
const LOG_DRIVER: &str = "json-file";

const BACKUP_CAPABILITIES: [&str; 1] = ["DAC_READ_SEARCH"];
const FOREIGN_DIRECTORY_CAPABILITY: &str = "DAC_OVERRIDE";
const RESTORE_CAPABILITIES: [&str; 6] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];

/// What both kinds of worker are made from.
#[derive(Debug)]
pub(super) struct Stage {
    /// Name or id of the image.
    pub(super) image: String,
    /// Its program, where that is not the image's own entry point.
    pub(super) entrypoint: Option<String>,
    /// Id of this run.
    pub(super) run: String,
    /// Value of [`PARENT_LABEL`].
    pub(super) parent: String,
    /// Where to store, or to read from.
    pub(super) repository: Repository,
    /// Directory of caches.
    pub(super) cache: Option<Cache>,
    /// See [`network`].
    pub(super) network: Option<String>,
    /// Bytes of memory.
    pub(super) memory_bytes_max: Option<u64>,
    /// What opens an encrypted repository.
    pub(super) keys: WorkerKeys,
}

impl Stage {
    /// The worker's program in its image.
    pub(super) fn program(&self) -> &Path {
        Path::new(self.entrypoint.as_deref().unwrap_or(PROGRAM))
    }
}

/// What opens an encrypted repository in a worker: the texts of the files. Empty for a clear one.
#[derive(Clone, Debug, Default)]
pub struct WorkerKeys {
    /// The key file.
    pub key_file: Option<Secret>,
    /// The identity file.
    pub identity: Option<Secret>,
}

/// A directory of caches as a worker reaches it.
#[derive(Debug)]
pub(super) struct Cache {
    /// Where.
    pub(super) place: Place,
    /// Root may not write there without a capability.
    pub(super) is_foreign: bool,
}

/// The repository as a worker reaches it.
#[derive(Debug)]
pub(super) enum Repository {
    /// A directory.
    Directory {
        /// Where.
        place: Place,
        /// Root may not write there without a capability.
        is_foreign: bool,
    },
    /// A bucket.
    S3 {
        /// `s3://bucket/prefix`.
        url: String,
        /// How to reach it.
        settings: S3Settings,
        /// Roots of trust for TLS, as PEM.
        trust: Option<Vec<u8>>,
    },
}

/// A worker that can be created.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The container.
    pub(super) spec: ContainerSpec,
    /// Files for [`Self::secrets_directory`], put there before the start.
    pub(super) secrets: Vec<PutFile>,
    /// Where they go.
    pub(super) secrets_directory: String,
}

/// Our own mount points in a worker, clear of those of the sources.
struct Layout {
    repository: PathBuf,
    cache: PathBuf,
    secrets: PathBuf,
    volume: PathBuf,
}

impl Layout {
    fn clear_of(taken: &[PathBuf]) -> Self {
        let under = |top: &Path| Self {
            repository: top.join("repo"),
            cache: top.join("cache"),
            secrets: top.join("secrets"),
            volume: top.join("volume"),
        };
        // Each taken place is in the way of one of the numbered tops at most.
        let numbered = (0..=taken.len()).map(|number| PathBuf::from(format!("/chores-{number}")));
        std::iter::once(PathBuf::from("/"))
            .chain(numbered)
            .map(|top| under(&top))
            .find(|layout| !taken.iter().any(|taken| layout.meets(taken)))
            .unwrap_or_else(|| under(Path::new("/chores")))
    }

    fn meets(&self, taken: &Path) -> bool {
        [&self.repository, &self.cache, &self.secrets, &self.volume]
            .iter()
            .any(|own| own.starts_with(taken) || taken.starts_with(own))
    }
}

/// A worker that backs up. `host` is what the snapshot calls this machine.
pub(super) fn backup(
    stage: &Stage,
    sources: &Sources,
    host: &str,
    args: Vec<String>,
) -> Result<Prepared, SourceInfoError> {
    let layout = Layout::clear_of(&sources.taken);
    let mut info = SourceInfo { host: host.to_owned(), ..sources.info.clone() };
    let mut capabilities: Vec<String> = BACKUP_CAPABILITIES.map(str::to_owned).to_vec();
    let has_foreign_cache = stage.cache.as_ref().is_some_and(|cache| cache.is_foreign);
    if has_foreign_cache
        || matches!(stage.repository, Repository::Directory { is_foreign: true, .. })
    {
        capabilities.push(FOREIGN_DIRECTORY_CAPABILITY.to_owned());
    }
    let mut prepared = common(stage, &layout, false);
    if stage.keys.key_file.is_some() {
        // It could not read back what its parent has stored.
        for (number, dump) in info.dumps.iter_mut().enumerate() {
            let name = format!("dump-{number}");
            let content = Zeroizing::new(dump.lines().map_err(SourceInfoError::Dump)?);
            dump.entries_file = Some(layout.secrets.join(&name));
            prepared.secrets.push(PutFile { path: name.into(), mode: SECRET_MODE, content });
        }
    }
    let spec = &mut prepared.spec;
    spec.capabilities = capabilities;
    spec.env.push(format!("{SOURCE_VARIABLE}={}", info.to_env_text()?));
    spec.volumes_from = sources
        .container
        .iter()
        .map(|container| VolumesFrom { container: container.id.clone(), read_only: true })
        .collect();
    spec.mounts.extend(sources.volumes.iter().map(|(name, target)| MountSpec {
        source: MountSource::Volume(name.clone()),
        target: target.clone(),
        read_only: true,
    }));
    spec.command.push("create".to_owned());
    spec.command.extend(args);
    // Whatever a path looks like, it is no option.
    spec.command.push("--".to_owned());
    spec.command.extend(info.sources.into_iter().map(|source| source.path));
    Ok(prepared)
}

/// A worker that restores into a volume.
pub(super) fn restore(stage: &Stage, volume: &str, read_only: bool, args: Vec<String>) -> Prepared {
    let layout = Layout::clear_of(&[]);
    let mut prepared = common(stage, &layout, true);
    let spec = &mut prepared.spec;
    spec.capabilities = RESTORE_CAPABILITIES.map(str::to_owned).to_vec();
    spec.mounts.push(MountSpec {
        source: MountSource::Volume(volume.to_owned()),
        target: layout.volume.clone(),
        read_only,
    });
    spec.command.push("restore".to_owned());
    spec.command.extend(args);
    spec.command.push(format!("--as-volume={volume}"));
    spec.command.extend(["--strip", "--target"].map(str::to_owned));
    spec.command.push(layout.volume.display().to_string());
    prepared
}

/// The network a worker needs; `own` is the container this process is in.
pub(super) fn network(
    repository: &Location,
    endpoint: Option<&str>,
    wanted: Option<&str>,
    own: Option<&str>,
) -> Option<String> {
    match (repository, wanted, own) {
        (Location::Directory(_), _, _) => Some("none".to_owned()),
        (Location::S3 { .. }, Some(wanted), _) => Some(wanted.to_owned()),
        // Not a network of the same name: links, further networks and added hosts count too.
        (Location::S3 { .. }, None, Some(own)) => Some(format!("container:{own}")),
        (Location::Remote(_), wanted, _) => wanted.map(str::to_owned),
        (Location::S3 { .. }, None, None) => {
            endpoint.is_some_and(is_loopback).then(|| "host".to_owned())
        }
    }
}

/// Whether `http://host:port` is this machine itself.
fn is_loopback(endpoint: &str) -> bool {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.trim_end_matches('/');
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// All that does not depend on what the worker does.
fn common(stage: &Stage, layout: &Layout, repository_read_only: bool) -> Prepared {
    let mut mounts = Vec::new();
    let mut env = Vec::new();
    let mut secrets = Vec::new();
    let mut command = vec!["--repo".to_owned()];
    let mut cache = None;
    match &stage.repository {
        Repository::Directory { place, .. } => {
            mounts.push(mount(place, &layout.repository, repository_read_only));
            let path = inside(place, &layout.repository);
            // Beside an encrypted one, who has the key file of another machine could open it.
            cache = stage.keys.key_file.is_none().then(|| path.join(CACHE_IN_REPOSITORY));
            command.push(path.display().to_string());
        }
        Repository::S3 { url, settings, trust } => {
            command.push(url.clone());
            if let Some(endpoint) = &settings.endpoint {
                command.extend(["--s3-endpoint".to_owned(), endpoint.clone()]);
            }
            env.extend(settings.region.iter().map(|region| format!("AWS_REGION={region}")));
            env.extend(settings.access_key.iter().map(|key| format!("AWS_ACCESS_KEY_ID={key}")));
            env.extend(settings.path_style.map(|set| format!("{PATH_STYLE_VARIABLE}={set}")));
            let secret = |secret: &Option<Secret>| {
                secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec())
            };
            for (variable, name, content) in [
                ("AWS_SECRET_ACCESS_KEY_FILE", "secret-access-key", secret(&settings.secret_key)),
                ("AWS_SESSION_TOKEN_FILE", "session-token", secret(&settings.session_token)),
                ("SSL_CERT_FILE", "ca-certificates.pem", trust.clone()),
            ] {
                let Some(content) = content else { continue };
                env.push(format!("{variable}={}", layout.secrets.join(name).display()));
                secrets.push(PutFile {
                    path: name.into(),
                    mode: SECRET_MODE,
                    content: Zeroizing::new(content),
                });
            }
        }
    }
    for (variable, name, content) in [
        ("BACKUP_KEY_FILE", "key-file", &stage.keys.key_file),
        ("BACKUP_IDENTITY_FILE", "identity", &stage.keys.identity),
    ] {
        let Some(content) = content else { continue };
        env.push(format!("{variable}={}", layout.secrets.join(name).display()));
        secrets.push(PutFile {
            path: name.into(),
            mode: SECRET_MODE,
            content: Zeroizing::new(content.expose().as_bytes().to_vec()),
        });
    }
    if let Some(Cache { place, .. }) = &stage.cache {
        mounts.push(mount(place, &layout.cache, repository_read_only));
        cache = Some(inside(place, &layout.cache));
    }
    env.extend(cache.map(|cache| format!("{CACHE_VARIABLE}={}", cache.display())));
    if !secrets.is_empty() {
        mounts.push(MountSpec {
            source: MountSource::AnonymousVolume,
            target: layout.secrets.clone(),
            read_only: false,
        });
    }
    let labels = [(WORKER_LABEL, "1"), (RUN_LABEL, &stage.run), (PARENT_LABEL, &stage.parent)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Prepared {
        spec: ContainerSpec {
            name: Some(format!("chores-backup-{}", stage.run)),
            image: stage.image.clone(),
            entrypoint: stage.entrypoint.clone().map(|program| vec![program]),
            command,
            env,
            mounts,
            network: stage.network.clone(),
            labels: BTreeMap::from(labels),
            read_only_root: true,
            memory_bytes_max: stage.memory_bytes_max,
            log_driver: Some(LOG_DRIVER.to_owned()),
            user: Some("0:0".to_owned()),
            ..ContainerSpec::default()
        },
        secrets,
        secrets_directory: layout.secrets.display().to_string(),
    }
}

fn mount(place: &Place, target: &Path, read_only: bool) -> MountSpec {
    MountSpec { source: place.source.clone(), target: target.to_owned(), read_only }
}

/// The directory itself, in what is mounted.
fn inside(place: &Place, target: &Path) -> PathBuf {
    if place.rest.as_os_str().is_empty() { target.to_owned() } else { target.join(&place.rest) }
}
