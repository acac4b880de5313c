//! The words of FUSE for a [`View`].
//!
//! Whatever would change something has no answer here: the kernel refuses it with `EROFS`, since the mount is read-only.

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
};

use super::table::Tag;
use super::view::{Attr, LIST_AGE_MAX, Refusal, View};
use crate::entry::Timestamp;

/// How long the kernel may go by what it was told of files in snapshots, which never change.
const LASTING: Duration = Duration::from_secs(60 * 60);

/// Bytes of a block in `st_blocks` (stat(3type)).
const BLOCK_BYTES: u64 = 512;

/// What `st_blksize` says, in bytes.
const READ_BYTES: u32 = 4096;

/// Where lseek(2) counts from, as Linux numbers it.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A view that answers the kernel.
#[derive(Debug)]
pub(super) struct Answers {
    view: View,
    /// Others than who mounted it may look too, so that the kernel asks for access control lists.
    open_to_others: bool,
}

/// The view while one question is answered. A panic in between takes a thread that answers, of which there are few: the mount
/// has to end then, before it hangs.
struct Watched<'a>(&'a View);

impl Deref for Watched<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        self.0
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken().request();
        }
    }
}

impl Answers {
    pub(super) fn new(view: View, open_to_others: bool) -> Self {
        Self { view, open_to_others }
    }

    fn view(&self) -> Watched<'_> {
        Watched(&self.view)
    }
}

impl Filesystem for Answers {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Not FUSE_CACHE_SYMLINKS: the kernel would keep for ever where `latest` pointed first.
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS;
        // Older kernels are slower.
        config.add_capabilities(wanted & config.capabilities()).unwrap_or_default();
        if !self.open_to_others {
            return Ok(());
        }
        // Group bits alone would let people in whom an access control list keeps out.
        config.add_capabilities(InitFlags::FUSE_POSIX_ACL).map_err(|_| {
            io::Error::other(
                "the kernel knows no access control lists in FUSE, which others are kept out by",
            )
        })
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.view().lookup(parent.0, name.as_bytes()) {
            Ok(attr) => reply.entry(&lifetime(&attr), &file_attr(&attr), Generation(0)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.view().attributes(number.0) {
            Ok(attr) => reply.attr(&lifetime(&attr), &file_attr(&attr)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.view().target(number.0) {
            Ok(target) => reply.data(&target),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.view().open(number.0) {
            Ok(handle) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(FileHandle(handle), flags);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.view().read(handle.0, offset, size) {
            Ok(content) => reply.data(&content),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = match (u64::try_from(offset), whence) {
            (Ok(offset), SEEK_DATA) => self.view().data(handle.0, offset),
            (Ok(offset), SEEK_HOLE) => self.view().hole(handle.0, offset),
            // The kernel does the others itself.
            _ => Err(Refusal::Invalid),
        };
        match found.map(i64::try_from) {
            Ok(Ok(found)) => reply.offset(found),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.view().close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.view().open_directory(number.0) {
            Ok((handle, lasting)) => {
                let kept = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                let flags = if lasting { kept } else { FopenFlags::empty() };
                reply.opened(FileHandle(handle), flags);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed =
            self.view().list_directory(number.0, handle.0, offset, |number, next, tag, name| {
                reply.add(INodeNo(number), next, file_type(tag), OsStr::from_bytes(name))
            });
        match listed {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.view().close_directory(handle.0);
        reply.ok();
    }

    fn getxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        answer(self.view().xattr(number.0, name.as_bytes()), size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        answer(self.view().xattr_names(number.0), size, reply);
    }
}

/// Who asks with no room wants to know the length.
fn answer(found: Result<Vec<u8>, Refusal>, room: u32, reply: ReplyXattr) {
    let found = match found {
        Ok(found) => found,
        Err(refusal) => return reply.error(errno(refusal)),
    };
    match u32::try_from(found.len()) {
        Ok(length) if room == 0 => reply.size(length),
        Ok(length) if length <= room => reply.data(&found),
        _ => reply.error(Errno::ERANGE),
    }
}

fn lifetime(attr: &Attr) -> Duration {
    if attr.lasting { LASTING } else { LIST_AGE_MAX }
}

fn file_attr(attr: &Attr) -> FileAttr {
    let known = &attr.known;
    let time = system_time(known.mtime);
    FileAttr {
        ino: INodeNo(attr.number),
        size: known.size,
        blocks: known.data.div_ceil(BLOCK_BYTES),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(known.tag),
        perm: known.mode,
        nlink: known.links,
        uid: known.uid,
        gid: known.gid,
        rdev: device(known.device),
        blksize: READ_BYTES,
        flags: 0,
    }
}

fn file_type(tag: Tag) -> FileType {
    match tag {
        Tag::Directory => FileType::Directory,
        Tag::File => FileType::RegularFile,
        Tag::Symlink => FileType::Symlink,
        Tag::Fifo => FileType::NamedPipe,
        Tag::Socket => FileType::Socket,
        Tag::CharDevice => FileType::CharDevice,
        Tag::BlockDevice => FileType::BlockDevice,
    }
}

/// A device as the kernel writes it in 32 bits (`new_encode_dev` in its `kdev_t.h`).
fn device((major, minor): (u32, u32)) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    let exact = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into())));
    exact.unwrap_or(UNIX_EPOCH)
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        Refusal::Invalid => Errno::EINVAL,
        Refusal::NoAttribute => Errno::ENODATA,
        Refusal::BehindTheEnd => Errno::ENXIO,
        Refusal::TooManyOpen => Errno::EMFILE,
        Refusal::NotOpen => Errno::EBADF,
        Refusal::Unreadable => Errno::EIO,
    }
}

#[cfg(test)]
mod tests;
