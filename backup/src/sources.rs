//! What to back up: paths that were named, or the volumes mounted into this container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chores_common::object::Location;
use rustix::fs::{fstat, stat};

use crate::entry::{PathBytes, display_path, tree_order};
use crate::mounts;
use crate::snapshot::Source;
use crate::walk::{SourceRoot, WalkError};

/// Longest mount table read, in bytes.
const MOUNTINFO_BYTES_MAX: u64 = 16 << 20;

/// Where the roots of trust of TLS lie, which a container gets from its host or its image.
const TRUST_PLACES: [&str; 5] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki",
    "/usr/share/ca-certificates",
];

/// The roots of a run.
#[derive(Debug)]
pub struct Sources {
    /// In tree order, none inside another.
    pub roots: Vec<SourceRoot>,
    /// Everything that was meant, nested ones too: each can be restored by itself.
    pub sources: Vec<Source>,
    /// What a person should know: duplicates, nested paths.
    pub notes: Vec<String>,
}

/// Why there is nothing to back up: exit code 2 or 1.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A source cannot be opened.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// No path, and not in a container.
    #[error(
        "no path is named and this is no container: name paths, or --volumes-from CONTAINER, or --volume NAME"
    )]
    NotInContainer,
    /// No path, and nothing mounted.
    #[error(
        "no volume is mounted into this container: start it with --volumes-from CONTAINER or -v VOLUME:/PATH, or name paths"
    )]
    NoVolume,
    /// A source is part of the repository.
    #[error("the source {0} is inside the repository: it would back up itself")]
    InsideRepository(String),
    /// No mount table.
    #[error("cannot read the mount table /proc/self/mountinfo")]
    Mounts(#[source] std::io::Error),
}

/// Opens the named paths.
pub fn of_paths(paths: &[PathBuf], own: &[PathBuf]) -> Result<Sources, SourcesError> {
    let mut roots =
        paths.iter().map(|path| SourceRoot::open(path)).collect::<Result<Vec<_>, _>>()?;
    refuse_own(&roots, own)?;
    roots.sort_by(|a, b| tree_order(a.path(), b.path()));
    let mut sources = Sources { roots: Vec::new(), sources: Vec::new(), notes: Vec::new() };
    for root in roots {
        let path = display_path(root.path());
        match sources.roots.last() {
            Some(above) if above.path() == root.path() => {
                sources.notes.push(format!("{path} was named twice"));
                continue;
            }
            Some(above) if above.is_directory() && mounts::is_below(root.path(), above.path()) => {
                sources.notes.push(format!("{path} is saved with {}", display_path(above.path())));
                if sources.sources.iter().all(|source| source.path != path) {
                    sources.sources.push(Source { path, volume: None });
                }
            }
            _ => {
                sources.sources.push(Source { path, volume: None });
                sources.roots.push(root);
            }
        }
    }
    Ok(sources)
}

/// Finds the volumes mounted into this container.
pub fn of_own_mounts(own: &[PathBuf]) -> Result<Sources, SourcesError> {
    if !is_container() {
        return Err(SourcesError::NotInContainer);
    }
    let table = read_mounts().map_err(SourcesError::Mounts)?;
    let not_data = trust_places(std::env::vars_os()).into_iter().chain(key_files());
    let left_out: Vec<PathBytes> =
        own.iter().cloned().chain(not_data).map(|path| bytes_of(&path)).collect();
    let volumes = mounts::volumes(&mounts::parse(&table), &left_out);
    let own_identities = identities(own);
    let paths: Vec<_> = volumes
        .into_iter()
        .map(|volume| path_of(&volume.mount_point))
        .filter(|path| {
            !stat(path).is_ok_and(|stat| own_identities.contains(&(stat.st_dev, stat.st_ino)))
        })
        .collect();
    if paths.is_empty() {
        return Err(SourcesError::NoVolume);
    }
    let mut sources = of_paths(&paths, own)?;
    let taken =
        sources.sources.iter().map(|source| format!("saving the volume at {}", source.path));
    sources.notes.extend(taken);
    Ok(sources)
}

/// The files that hold the keys and passwords of this run: never data of a volume.
#[must_use]
pub fn key_files() -> Vec<PathBuf> {
    key_files_in(std::env::vars_os())
}

/// Variables that name a file with a secret. What any other names is data.
const SECRET_FILES: [&str; 13] = [
    "AWS_CONFIG_FILE",
    "AWS_SECRET_ACCESS_KEY_FILE",
    "AWS_SESSION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_STORAGE_KEY_FILE",
    "BACKUP_FROM_KEY_FILE",
    "BACKUP_IDENTITY_FILE",
    "BACKUP_KEY_FILE",
    "BACKUP_NOTIFY_URL_FILE",
    "BACKUP_PASSPHRASE_FILE",
    "BACKUP_SFTP_KEY_FILE",
    "BACKUP_WEBDAV_PASSWORD_FILE",
];

fn key_files_in(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<PathBuf> {
    let is_key = |name: &OsString| name.to_str().is_some_and(|name| SECRET_FILES.contains(&name));
    variables
        .filter(|(name, _)| is_key(name))
        .flat_map(|(_, path)| both_names(path.into()))
        .collect()
}

fn trust_places(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<PathBuf> {
    let named = variables.flat_map(|(name, value)| match name.to_str() {
        Some("SSL_CERT_FILE") => vec![PathBuf::from(value)],
        Some("SSL_CERT_DIR") => std::env::split_paths(&value).collect(),
        _ => Vec::new(),
    });
    TRUST_PLACES.iter().map(PathBuf::from).chain(named).flat_map(both_names).collect()
}

/// A path as it was named and, where links lead elsewhere, as mounts have it. The root is no such place.
fn both_names(path: PathBuf) -> Vec<PathBuf> {
    let canonical = path.canonicalize().ok().filter(|canonical| *canonical != path);
    let names = std::iter::once(path).chain(canonical);
    names.filter(|path| path.is_absolute() && path.parent().is_some()).collect()
}

/// The local directories of this run that must not be saved: the repository and the cache.
#[must_use]
pub fn own_directories(repository: Option<&Location>, cache: Option<&Path>) -> Vec<PathBuf> {
    let repository = match repository {
        Some(Location::Directory(directory)) => Some(directory.as_path()),
        _ => None,
    };
    let existing = repository.into_iter().chain(cache).filter_map(|path| path.canonicalize().ok());
    existing.collect()
}

/// Device and inode of directories, as a walk wants them.
#[must_use]
pub fn identities(directories: &[PathBuf]) -> Vec<(u64, u64)> {
    directories
        .iter()
        .filter_map(|path| stat(path).ok())
        .map(|stat| (stat.st_dev, stat.st_ino))
        .collect()
}

fn refuse_own(roots: &[SourceRoot], own: &[PathBuf]) -> Result<(), SourcesError> {
    let identities = identities(own);
    for root in roots {
        // A bind mount shows the repository under another path.
        let same = root.is_directory()
            && fstat(root.directory())
                .is_ok_and(|stat| identities.contains(&(stat.st_dev, stat.st_ino)));
        let inside = same
            || own.iter().any(|own| {
                let own = bytes_of(own);
                root.path() == own || mounts::is_below(root.path(), &own)
            });
        if inside {
            return Err(SourcesError::InsideRepository(display_path(root.path())));
        }
    }
    Ok(())
}

/// Docker and Podman leave these files in every container; Kubernetes sets the variable.
pub(crate) fn is_container() -> bool {
    Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn read_mounts() -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut table = Vec::new();
    std::fs::File::open("/proc/self/mountinfo")?
        .take(MOUNTINFO_BYTES_MAX)
        .read_to_end(&mut table)?;
    Ok(table)
}

fn bytes_of(path: &Path) -> PathBytes {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}

fn path_of(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = b"/".to_vec();
    bytes.extend_from_slice(path);
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests;
