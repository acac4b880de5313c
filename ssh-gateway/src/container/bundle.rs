//! Where the runtime keeps `config.json` of a running container.
//!
//! The directories are opened at start, when this process may still look through `/proc/PID/root` of the engine,
//! and are kept: later it has no right to do that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::SPECIFICATION_BYTES_MAX;

#[cfg(test)]
mod tests;

/// Where bundles are below the root of the host, for containers of Docker: with a containerd of its own, then with
/// the one of the system.
const PLACES: [&str; 2] = [
    "run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
    "run/containerd/io.containerd.runtime.v2.task/moby",
];
/// What follows a root of the engine's own runtime files (`dockerd --exec-root`).
const BELOW_EXEC_ROOT: &str = "containerd/daemon/io.containerd.runtime.v2.task/moby";
/// Longest command line of an engine that is looked at, in bytes.
const COMMAND_LINE_BYTES_MAX: u64 = 64 * 1024;
/// Digits of a container id.
const ID_DIGITS: usize = 64;

/// Directories in which there may be a directory for each container.
#[derive(Debug)]
pub struct Bundles {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    /// For people.
    name: String,
    root: OwnedFd,
    /// Below `root`; looked up each time, since it is made with the first container.
    below: PathBuf,
}

/// Why the specification of a container cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is nowhere.
    #[error(
        "the runtime's config.json of container {id} is in none of {places}; mount the directory that has it and name it with --bundles"
    )]
    Nowhere {
        /// Whose.
        id: String,
        /// Where it was looked for.
        places: String,
    },
    /// It is there, but not readable.
    #[error("cannot read the runtime's config.json of container {id} in {place}")]
    Unreadable {
        /// Whose.
        id: String,
        /// Where.
        place: String,
        /// What the system answered.
        source: io::Error,
    },
    /// This cannot be the id of a container.
    #[error("the engine named a container whose id is none")]
    NotAnId,
}

impl Bundles {
    /// These directories, and where the engine behind `socket` keeps its own. What is not there yet is looked for
    /// each time.
    #[must_use]
    pub fn open(directories: &[PathBuf], socket: Option<&Path>) -> Self {
        let root = Path::new("/");
        let named =
            directories.iter().filter_map(|path| Some((root, path.strip_prefix(root).ok()?)));
        let mut places: Vec<Place> = named.filter_map(|(root, below)| place(root, below)).collect();
        if let Some((root, exec_root)) = socket.and_then(engine) {
            let own = exec_root.map(|path| path.join(BELOW_EXEC_ROOT));
            let known = PLACES.into_iter().map(PathBuf::from);
            let below = own.into_iter().chain(known);
            places.extend(below.filter_map(|below| place(&root, &below)));
        }
        Self { places }
    }

    /// The `config.json` of a container.
    pub fn read(&self, id: &str) -> Result<Vec<u8>, BundleError> {
        if id.len() != ID_DIGITS
            || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(BundleError::NotAnId);
        }
        for place in &self.places {
            match place.read(id) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let (id, place) = (id.to_owned(), place.name.clone());
                    return Err(BundleError::Unreadable { id, place, source });
                }
            }
        }
        let names: Vec<_> = self.places.iter().map(|place| place.name.as_str()).collect();
        Err(BundleError::Nowhere { id: id.to_owned(), places: names.join(", ") })
    }
}

impl Place {
    fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        let path = self.below.join(id).join("config.json");
        let file = openat2(
            &self.root,
            &path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?;
        let status = fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(SPECIFICATION_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SPECIFICATION_BYTES_MAX {
            let reason = format!("it is larger than {SPECIFICATION_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(bytes)
    }
}

fn place(root: &Path, below: impl AsRef<Path>) -> Option<Place> {
    let below = below.as_ref().to_owned();
    let name = root.join(&below).display().to_string();
    directory(root).ok().map(|root| Place { name, root, below })
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// The root of the engine behind `socket` as seen from here, and its `--exec-root`, relative to that. The kernel
/// says which process listens there (SO_PEERCRED, unix(7)); a name like `dockerd` proves nothing, since a process
/// in any container can give itself that name.
fn engine(socket: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let connected = UnixStream::connect(socket).ok()?;
    let pid = rustix::net::sockopt::socket_peercred(&connected).ok()?.pid;
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let root = process.join("root");
    let exec_root = exec_root(&read_some(&process.join("cmdline")));
    // The one of this process itself is looked at already.
    if is_same_directory(&root, Path::new("/")) {
        return exec_root.map(|path| (PathBuf::from("/"), Some(path)));
    }
    Some((root, exec_root))
}

fn is_same_directory(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let descriptor = directory(path).ok()?;
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let status =
            rustix::fs::statx(&descriptor, "", flags, rustix::fs::StatxFlags::MNT_ID).ok()?;
        let inode = fstat(&descriptor).ok()?.st_ino;
        Some((status.stx_mnt_id, inode))
    };
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

fn read_some(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|file| File::from(file).take(COMMAND_LINE_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

/// The value of `--exec-root` in a command line, relative to the root directory.
fn exec_root(command_line: &[u8]) -> Option<PathBuf> {
    let words: Vec<_> = command_line.split(|byte| *byte == 0).collect();
    let text = words.iter().enumerate().find_map(|(index, word)| {
        let rest = word.strip_prefix(b"--exec-root")?;
        match rest.split_first() {
            Some((b'=', value)) => Some(value),
            None => words.get(index + 1).copied(),
            Some(_) => None,
        }
    })?;
    let path = Path::new(std::str::from_utf8(text).ok()?);
    path.strip_prefix("/").ok().map(Path::to_owned)
}
