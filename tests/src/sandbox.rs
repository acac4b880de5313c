//! A private place for one test: a temporary directory and a name that nobody else uses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::watchdog;

/// Every name the harness gives to anything begins with this.
pub const NAME_PREFIX: &str = "chores-test-";

/// A name that is unique on this machine: `chores-test-<pid>-<64 random bits in hex>`.
///
/// # Panics
/// When the kernel gives no random bytes.
#[must_use]
pub fn unique_name() -> String {
    // Whatever a test makes has a name, so that this is where each of them comes by.
    watchdog::watch();
    let random = getrandom::u64().expect("random bytes for a unique name");
    format!("{NAME_PREFIX}{}-{random:016x}", std::process::id())
}

/// A temporary directory, removed with everything in it on drop, also while a panic unwinds.
#[derive(Debug)]
pub struct Sandbox {
    name: String,
    root: PathBuf,
}

impl Sandbox {
    /// Makes the directory below the system's temporary directory.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let name = unique_name();
        let root = std::env::temp_dir().join(&name);
        fs::create_dir(&root)
            .unwrap_or_else(|error| panic!("cannot make the sandbox {}: {error}", root.display()));
        Self { name, root }
    }

    /// The unique name, fit for a container, a volume or a bucket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the sandbox; nothing is made.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A directory in the sandbox, made with its parents.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn directory(&self, relative: impl AsRef<Path>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        path
    }

    /// A file in the sandbox with this content, its parents made.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", parent.display()));
        }
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// A file system of `bytes` bytes at `relative`, for tests of a full disk. `None`, with the reason
    /// on stderr, when this process may not mount.
    #[must_use]
    pub fn small_disk(&self, relative: impl AsRef<Path>, bytes: u64) -> Option<SmallDisk> {
        let path = self.directory(relative);
        let options = std::ffi::CString::new(format!("size={bytes},mode=0755"))
            .expect("mount options without NUL");
        match rustix::mount::mount(c"tmpfs", &path, c"tmpfs", MountFlags::empty(), &*options) {
            Ok(()) => Some(SmallDisk { path }),
            Err(error) => {
                crate::notice!("skipped: cannot mount a tmpfs of {bytes} bytes: {error}");
                None
            }
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.root).is_err() {
            // Not root: directories of mode 0000 keep their entries until they are opened up.
            open_up(&self.root);
            if let Err(error) = fs::remove_dir_all(&self.root) {
                crate::notice!("left behind: {}: {error}", self.root.display());
            }
        }
    }
}

/// A mounted tmpfs of a fixed size, unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Turns every later write away, root's too.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn make_read_only(&self) {
        rustix::mount::mount_remount(&self.path, MountFlags::RDONLY, c"").unwrap_or_else(|error| {
            panic!("cannot make {} read-only: {error}", self.path.display())
        });
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.path, UnmountFlags::DETACH) {
            crate::notice!("left mounted: {}: {error}", self.path.display());
        }
    }
}

/// Gives the owner every right on every directory below `path`; what cannot be changed shows up when the
/// removal is tried again.
fn open_up(path: &Path) {
    drop(fs::set_permissions(path, Permissions::from_mode(0o700)));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
