//! Snapshots as a read-only file system (FUSE): everything is fetched when somebody looks at it.
//!
//! This is the one place that speaks to the kernel's FUSE, through the crate `fuser` (docs/adr/0034). It does no more than
//! to translate: what a number, a name or a range of a file is, `view` says.

mod ahead;
mod catalog;
mod content;
mod filesystem;
mod handles;
mod layout;
mod open_file;
mod table;
mod trees;
mod view;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::shutdown::{OwnChildren, Shutdown};
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::mount::{UnmountFlags, unmount};
use tokio::runtime::Handle;

use crate::mounts::{self, Mount};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::SnapshotName;
use filesystem::Answers;
use view::View;

pub use table::TableError;
pub use trees::TreesError;

/// The kernel's end of FUSE.
const DEVICE: &str = "/dev/fuse";

/// Threads that answer the kernel. As many reads wait for the store at once; what comes then waits in the kernel.
const ANSWER_THREADS: usize = 8;

/// What the kernel calls it in its list of mounts.
const SOURCE: &str = "backup";

/// How long answers that are under way may take behind the unmounting.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Clone, Debug)]
pub enum Shown {
    /// All snapshots, each at `NAME/TIME-ID`.
    All,
    /// One, and when it was made.
    One(SnapshotName, jiff::Timestamp),
}

/// Where and for whom.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An empty directory, see [`free_directory`].
    pub directory: PathBuf,
    /// Whether others than who mounts it may look, as far as modes and access control lists let them.
    pub allow_other: bool,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// How many snapshots there are.
    pub snapshots: usize,
    /// Of how many names; 0 where one is shown.
    pub names: usize,
}

/// Why nothing is mounted, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Nothing can be mounted there.
    #[error("cannot use {} to mount on", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// Something is in it.
    #[error("{} is not empty: name an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("{} is a mount point already: name an empty directory that is none", .0.display())]
    Occupied(PathBuf),
    /// A mount whose program is gone.
    #[error("{dir} is a mount whose program has ended: `umount {dir}` or `fusermount3 -u {dir}` removes it", dir = .0.display())]
    Stale(PathBuf),
    /// The kernel's end is missing.
    #[error(
        "there is no usable {DEVICE}: load the kernel module `fuse`, or start the container with \
         --device {DEVICE} --cap-add SYS_ADMIN (and --security-opt apparmor=unconfined where AppArmor is used)"
    )]
    NoDevice(#[source] io::Error),
    /// The kernel or fusermount3 refused.
    #[error(
        "cannot mount on {}: a container needs --device {DEVICE} --cap-add SYS_ADMIN for it, users other than root the \
         program fusermount3",
        .0.display()
    )]
    Refused(PathBuf, #[source] io::Error),
    /// Threads could not be started.
    #[error("cannot start the threads that read")]
    Threads(#[source] io::Error),
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Trees(#[from] TreesError),
    /// The word that it is ready cannot be said.
    #[error("cannot say that it is mounted")]
    Ready(#[source] io::Error),
    /// The kernel does not ask any more, or nothing that makes sense.
    #[error("the mount on {} has broken", .0.display())]
    Broken(PathBuf, #[source] io::Error),
    /// It is still there.
    #[error("cannot unmount {}", .0.display())]
    Unmount(PathBuf, #[source] io::Error),
}

impl MountError {
    /// Whether something else should have been asked for.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Directory(..) | Self::NotEmpty(_) | Self::Occupied(_) | Self::Stale(_))
    }
}

/// The whole path of a directory in which nothing is and on which nothing is mounted. Fails where it is another one.
pub fn free_directory(directory: &Path) -> Result<PathBuf, MountError> {
    let unusable = |error: io::Error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::NOTCONN) => MountError::Stale(directory.to_owned()),
        _ => MountError::Directory(directory.to_owned(), error),
    };
    let whole = directory.canonicalize().map_err(unusable)?;
    let mut entries = std::fs::read_dir(&whole).map_err(unusable)?;
    if is_mount_point(&whole) {
        return Err(MountError::Occupied(directory.to_owned()));
    }
    match entries.next() {
        None => Ok(whole),
        Some(Ok(_)) => Err(MountError::NotEmpty(directory.to_owned())),
        Some(Err(error)) => Err(unusable(error)),
    }
}

/// Mounts a repository, calls `ready`, and stays until it is unmounted or the request to stop is made.
///
/// `runtime` drives the requests; call it from outside of it. Behind the request to stop nothing is mounted any more, also
/// where somebody still has a file open.
pub fn mount(
    repository: &Repository,
    shown: &Shown,
    options: &MountOptions,
    runtime: &Handle,
    shutdown: &Shutdown,
    ready: impl FnOnce(Mounted) -> io::Result<()>,
) -> Result<(), MountError> {
    // Before anything is read: the commonest reason why it cannot work.
    std::fs::File::options().read(true).write(true).open(DEVICE).map_err(MountError::NoDevice)?;
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let view = View::new(repository, shown, own, options.allow_other, shutdown)?;
    let (snapshots, names) = view.counts();
    let mounted = match shown {
        Shown::All => Mounted { snapshots, names },
        Shown::One(..) => Mounted { snapshots: 1, names: 0 },
    };
    let directory = &options.directory;
    let refused = |error: io::Error| {
        // That of fusermount3 ends with empty lines.
        let said = error.to_string().trim().to_owned();
        MountError::Refused(directory.clone(), io::Error::new(error.kind(), said))
    };
    let broken = view.broken().clone();
    let answers = Answers::new(view, options.allow_other);
    // fusermount3 mounts, and unmounts.
    let _own = OwnChildren::begin();
    let mut session = Session::new(answers, directory, &config(options)).map_err(refused)?;
    let mut unmounter = session.unmount_callable();
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("mount".to_owned());
    // Nobody waits any more where somebody had a file open behind the end.
    let started = thread.spawn(move || drop(tell.send(session.run())));
    started.map_err(MountError::Threads)?;
    if let Err(error) = ready(mounted) {
        end(&mut unmounter, directory)?;
        return Err(MountError::Ready(error));
    }
    let ended = shutdown.or(broken.or(&mut told));
    match runtime.block_on(ended) {
        // Somebody unmounted it.
        Some(Some(Ok(Ok(())))) => Ok(()),
        Some(Some(Ok(Err(error)))) => {
            end(&mut unmounter, directory)?;
            Err(MountError::Broken(directory.clone(), error))
        }
        Some(Some(Err(_)) | None) => {
            end(&mut unmounter, directory)?;
            let error = io::Error::other("a thread that answers has ended");
            Err(MountError::Broken(directory.clone(), error))
        }
        None => {
            end(&mut unmounter, directory)?;
            // Who has a file open keeps it going; that ends with this process.
            let ended = async { tokio::time::timeout(END_TIME_MAX, told).await };
            drop(runtime.block_on(ended));
            Ok(())
        }
    }
}

/// Read-only, without devices, programs or other people's rights, whatever lies in the repository.
fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
        MountOption::FSName(SOURCE.to_owned()),
        MountOption::Subtype(SOURCE.to_owned()),
    ];
    config.n_threads = Some(ANSWER_THREADS);
    if options.allow_other {
        // Who mounts it may read everything that is in the repository, and is alone with it unless he lets others in.
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config
}

/// Unmounts it, also where it is in use: who has something open then loses it with this process.
fn end(unmounter: &mut SessionUnmounter, directory: &Path) -> Result<(), MountError> {
    let failed = |error| MountError::Unmount(directory.to_owned(), error);
    // Somebody else may have unmounted it, and mounted something there.
    if let Err(error) = unmounter.unmount()
        && is_ours(directory)
    {
        tracing::info!("{} is in use: {error}", directory.display());
        unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|error| failed(error.into()))?;
    }
    if is_ours(directory) {
        return Err(failed(io::Error::other("it is still mounted")));
    }
    Ok(())
}

/// Whether something is mounted on a directory, as far as `/proc` says.
fn is_mount_point(directory: &Path) -> bool {
    mounted_on(directory).is_some()
}

/// Whether what is mounted on a directory is what this program mounts.
fn is_ours(directory: &Path) -> bool {
    let is_ours =
        |mount: Mount| mount.source == SOURCE.as_bytes() && mount.fs_type.starts_with("fuse");
    mounted_on(directory).is_some_and(is_ours)
}

/// What is seen on a directory, where it is a mount point.
fn mounted_on(directory: &Path) -> Option<Mount> {
    let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let path = directory.as_os_str().as_bytes();
    let path = path.strip_prefix(b"/").unwrap_or(path);
    // The last one hides those before it.
    mounts::parse(&mountinfo).into_iter().rfind(|mount| mount.mount_point == path)
}
