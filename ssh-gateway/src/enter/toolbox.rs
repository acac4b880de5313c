//! Programs of the gateway's for a session whose image has none: mounted read-only where only the session sees it.
//!
//! ```text
//! C3  says that something is missing → C1  makes an overlay of the toolbox: a file system without a writable part,
//!                                          which nobody can mount writable, and hands over the detached mount
//! C3  ← the mount ←────────────────────┘
//! C3  leaves the container's mount namespace for a copy of it, and attaches the mount there
//! ```
//!
//! The place is `/proc/fs/nfsd`: a directory that is empty in every procfs and made by the kernel for mounts. So nothing
//! is made in the container, nothing of it is hidden, and it works where everything is read-only.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use chores_common::exit::chain;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
};

use super::command;
use super::step::{Identity, OrFail as _, Step, failure};
use super::sys;
use crate::toolbox::{self, LAYERS, TRACE, owner_fault};
use crate::wire::Program;
use crate::wire::task::{FailureKind, Toolbox};

/// Where it is in a session.
pub const PLACE: &str = "/proc/fs/nfsd";
/// The directory of its programs there.
pub const PROGRAMS: &[u8] = b"/proc/fs/nfsd/bin";
/// Its shell there.
pub const SHELL: &[u8] = b"/proc/fs/nfsd/bin/sh";

/// What it says it is in a session's `/proc/self/mountinfo`.
const SOURCE: &str = "toolbox";
/// A program that is taken from it where the image has a shell, but not this.
const COPIER: &[u8] = b"rsync";
/// The same, for who may trace.
const TRACER: &[u8] = b"strace";

/// Whether a session cannot do what it is for without a toolbox. `can_run` says so of a program of the image, by its
/// path or name.
pub fn is_needed(
    toolbox: &Toolbox,
    program: &Program,
    has_shell: bool,
    can_run: impl Fn(&[u8]) -> bool,
) -> bool {
    match program {
        Program::Shell | Program::Command(_) if toolbox.always => true,
        Program::Shell => !has_shell,
        Program::Command(line) if has_shell => {
            let first =
                line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty());
            first.is_some_and(|name| {
                (name == COPIER || (name == TRACER && toolbox.trace)) && !can_run(name)
            })
        }
        // One that needs no shell is run without.
        Program::Command(line) => command::plain_words(line)
            .and_then(|words| words.first().map(|name| !can_run(name)))
            .unwrap_or(true),
        Program::Words(_) | Program::Sftp | Program::SftpReadOnly | Program::Portal => false,
    }
}

/// A `PATH` with its programs behind all others. An empty element would be the current directory: none is made, and one at
/// the end is not kept.
#[must_use]
pub fn path_behind(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b':').map_or(0, |last| last + 1);
    let kept = path.get(..end).unwrap_or_default();
    let colon: &[u8] = if kept.is_empty() { b"" } else { b":" };
    [kept, colon, PROGRAMS].concat()
}

/// Whether the mode of a file lets this user run it.
#[must_use]
pub fn may_run(file: &Stat, identity: &Identity) -> bool {
    let mode = file.st_mode;
    let bits = if identity.uid == 0 {
        0o111
    } else if identity.uid == file.st_uid {
        0o100
    } else if identity.gid == file.st_gid || identity.groups.contains(&file.st_gid) {
        0o010
    } else {
        0o001
    };
    FileType::from_raw_mode(mode) == FileType::RegularFile && mode & bits != 0
}

/// Makes the mount, which is nowhere yet. Outside of the container, by who is root on the host. The error says why there
/// is none.
pub fn make(directory: &str, with_trace: bool) -> Result<OwnedFd, String> {
    let layers = layers(directory, with_trace)?;
    let mut places = String::new();
    for layer in &layers {
        let colon = if places.is_empty() { "" } else { ":" };
        // By number: a path could have a colon in it, and would be shown in the session.
        write!(places, "{colon}/proc/self/fd/{}", layer.as_raw_fd())
            .map_err(|error| error.to_string())?;
    }
    let made = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_set_string(context.as_fd(), "source", SOURCE)?;
        fsconfig_set_string(context.as_fd(), "lowerdir", places.as_str())?;
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    });
    made.map_err(|error| {
        format!("this kernel, or a security module, makes no overlay of the toolbox: {error}")
    })
}

/// The directories that are laid over each other, open.
fn layers(directory: &str, with_trace: bool) -> Result<Vec<OwnedFd>, String> {
    let failed = |error: Errno| format!("the toolbox cannot be read: {error}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let whole = toolbox::open(Path::new(directory)).map_err(|error| chain(&error))?;
    let mut names = Vec::new();
    let listed = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(&whole, ".", listed, Mode::empty()).map_err(failed)?;
    for entry in Dir::new(listed).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_owned();
        let is_left_out = !with_trace && name.as_bytes() == TRACE.as_bytes();
        if !is_left_out && ![b".".as_slice(), b".."].contains(&name.as_bytes()) {
            names.push(name);
        }
        if names.len() > *LAYERS.end() * 2 {
            return Err("the toolbox has too many directories in it".to_owned());
        }
    }
    names.sort_unstable();
    let mut layers = Vec::new();
    for name in names {
        match rustix::fs::openat(&whole, name, flags, Mode::empty()) {
            Ok(layer) => layers.push(believed(layer)?),
            // A file beside the directories.
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if LAYERS.contains(&layers.len()) {
        return Ok(layers);
    }
    let (count, least, most) = (layers.len(), LAYERS.start(), LAYERS.end());
    Err(format!("the toolbox has {count} directories to join, and it must be {least} to {most}"))
}

/// A directory that nobody but root can change.
fn believed(directory: OwnedFd) -> Result<OwnedFd, String> {
    let data = rustix::fs::fstat(&directory)
        .map_err(|error| format!("the toolbox cannot be looked at: {error}"))?;
    match owner_fault(data.st_uid, data.st_mode, false) {
        None => Ok(directory),
        Some(fault) => Err(format!("a directory of the toolbox {fault}")),
    }
}

/// Attaches the mount where only the calling process and what it starts will see it. The inner error says why that is
/// not possible here; then nothing has changed.
pub fn attach(mount: &OwnedFd) -> Step<Result<(), String>> {
    if let Err(error) = place() {
        return Ok(Err(format!("the container has no {PLACE} for it: {error}")));
    }
    if let Err(error) = sys::leave_mounts() {
        return Ok(Err(format!("the session can have no mounts of its own: {error}")));
    }
    let doing = "mounting the toolbox";
    // What is mounted in the container comes along from now on too, and nothing goes back.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .or_fail(FailureKind::Other, doing)?;
    let at = place().or_fail(FailureKind::Other, doing)?;
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", &at, "", by_descriptors).or_fail(FailureKind::Other, doing)?;
    let device = |directory: &OwnedFd| rustix::fs::fstat(directory).map(|data| data.st_dev);
    let is_there = open_place()
        .and_then(|found| Ok(device(&found)? == device(mount)?))
        .or_fail(FailureKind::Other, doing)?;
    if is_there {
        return Ok(Ok(()));
    }
    Err(failure(FailureKind::Other, "the toolbox is not where it was mounted"))
}

/// The place in the mount namespace we are in: a directory of the kernel's own, reached without any link.
fn place() -> io::Result<OwnedFd> {
    let place = open_place()?;
    if rustix::fs::fstatfs(&place)?.f_type == PROC_SUPER_MAGIC {
        return Ok(place);
    }
    Err(io::Error::other("something else is mounted there"))
}

fn open_place() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(CWD, PLACE, flags, Mode::empty(), straight)?)
}

#[cfg(test)]
mod tests;
