//! OpenSSH's additions to version 3 (its file PROTOCOL, section 4), and those it took from
//! draft-ietf-secsh-filexfer-extensions-00.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::{Errno, retry_on_intr};

use super::attributes::{Attributes, NamedLink};
use super::handles::Handles;
use super::paths;
use super::server::{Done, Rights, Server, done, name, path};
use crate::wire::files::Act;
use chores_common::sftp::{
    Code, DATA_BYTES_MAX, Fields, PACKET_BYTES_MAX, Packet, Refusal, answer,
};

/// What is announced, with its version.
const ANNOUNCED: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// Those of them that change something.
const CHANGES: [&str; 5] = [
    "posix-rename@openssh.com",
    "hardlink@openssh.com",
    "fsync@openssh.com",
    "lsetstat@openssh.com",
    "copy-data",
];

/// Bits of the flags of `statvfs@openssh.com`.
const STATVFS_READ_ONLY: u64 = 0x1;
const STATVFS_NO_SETUID: u64 = 0x2;

/// One turn of copying. In bytes.
const COPY_STEP: usize = 1024 * 1024;
/// One turn of copying by hand. In bytes.
const COPY_BUFFER: usize = 128 * 1024;

/// Adds what the server can do to its hello.
pub(super) fn announce(hello: Packet, rights: Rights) -> Packet {
    let may = |(name, _): &&(&str, &str)| rights.check(CHANGES.contains(name)).is_ok();
    ANNOUNCED.iter().filter(may).fold(hello, |hello, (name, version)| {
        hello.string(name.as_bytes()).string(version.as_bytes())
    })
}

/// Does what an extended request asks.
pub(super) fn answer(
    server: &mut Server,
    id: u32,
    mut fields: Fields<'_>,
) -> Result<Done, Refusal> {
    let name_asked = fields.string()?;
    let is_change = CHANGES.iter().any(|change| change.as_bytes() == name_asked);
    server.rights.check(is_change)?;
    match name_asked {
        b"posix-rename@openssh.com" => {
            let (old, new) = (path(&mut fields)?, path(&mut fields)?);
            server.told(rustix::fs::rename(old, new), |tally| Act::Rename {
                path: tally.path(old),
                to: tally.path(new),
            })
        }
        b"hardlink@openssh.com" => {
            let (old, new) = (path(&mut fields)?, path(&mut fields)?);
            server.told(rustix::fs::link(old, new), |tally| Act::Hardlink {
                path: tally.path(old),
                to: tally.path(new),
            })
        }
        b"statvfs@openssh.com" => {
            Ok(Done::Answer(volume(id, &rustix::fs::statvfs(path(&mut fields)?)?)))
        }
        b"fstatvfs@openssh.com" => {
            let handle = server.handles.get(fields.string()?)?;
            Ok(Done::Answer(volume(id, &rustix::fs::fstatvfs(handle.descriptor()?)?)))
        }
        b"fsync@openssh.com" => {
            let handle = server.handles.get(fields.string()?)?.descriptor()?;
            done(retry_on_intr(|| rustix::fs::fsync(handle)))
        }
        b"lsetstat@openssh.com" => {
            let path = path(&mut fields)?;
            let attributes = Attributes::read(&mut fields)?;
            server.told(attributes.apply(&NamedLink(path)), |tally| Act::Set {
                path: tally.path(path),
                set: attributes.told(),
            })
        }
        b"limits@openssh.com" => Ok(Done::Answer(limits(id, server.handles.most()))),
        b"expand-path@openssh.com" => {
            let asked = fields.path()?;
            let expanded = paths::expand(asked, &server.home, |user| server.accounts.home(user))
                .ok_or(Refusal::new(Code::NoSuchFile, "no such user"))?;
            Ok(Done::Answer(name(id, &paths::real(&expanded)?)))
        }
        b"copy-data" => copy_data(server, fields),
        b"home-directory" => {
            let home = match fields.string()? {
                b"" => Some(server.home.as_os_str().as_bytes().to_vec()),
                user => server.accounts.home(user),
            };
            let home = home.ok_or(Refusal::new(Code::Failure, "Failure: no such user"))?;
            Ok(Done::Answer(name(id, &home)))
        }
        b"users-groups-by-id@openssh.com" => names_by_number(server, id, fields),
        _ => Err(Code::OpUnsupported.into()),
    }
}

fn volume(id: u32, volume: &StatVfs) -> Packet {
    let flag = |is: StatVfsMountFlags, bit: u64| if volume.f_flag.contains(is) { bit } else { 0 };
    let flags = flag(StatVfsMountFlags::RDONLY, STATVFS_READ_ONLY)
        | flag(StatVfsMountFlags::NOSUID, STATVFS_NO_SETUID);
    Packet::to(answer::EXTENDED_REPLY, id)
        .u64(volume.f_bsize)
        .u64(volume.f_frsize)
        .u64(volume.f_blocks)
        .u64(volume.f_bfree)
        .u64(volume.f_bavail)
        .u64(volume.f_files)
        .u64(volume.f_ffree)
        .u64(volume.f_favail)
        .u64(volume.f_fsid)
        .u64(flags)
        .u64(volume.f_namemax)
}

/// The longest packet, read and write, and the most handles.
fn limits(id: u32, handles: usize) -> Packet {
    [PACKET_BYTES_MAX, DATA_BYTES_MAX, DATA_BYTES_MAX, handles]
        .into_iter()
        .fold(Packet::to(answer::EXTENDED_REPLY, id), |packet, limit| {
            packet.u64(u64::try_from(limit).unwrap_or(u64::MAX))
        })
}

/// Two lists of numbers become two lists of names; a number without a name has an empty one.
fn names_by_number(server: &mut Server, id: u32, mut fields: Fields<'_>) -> Result<Done, Refusal> {
    let (users, groups) = (fields.string()?, fields.string()?);
    let accounts = &mut server.accounts;
    let users = list(users, |number| accounts.user(number).map(str::to_owned))?;
    let groups = list(groups, |number| accounts.group(number).map(str::to_owned))?;
    Ok(Done::Answer(Packet::to(answer::EXTENDED_REPLY, id).string(&users).string(&groups)))
}

fn list(numbers: &[u8], mut name: impl FnMut(u32) -> Option<String>) -> Result<Vec<u8>, Refusal> {
    let mut numbers = Fields(numbers);
    let mut names = Vec::new();
    while !numbers.is_empty() {
        let name = name(numbers.u32()?).unwrap_or_default();
        names.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
        names.extend_from_slice(name.as_bytes());
        if names.len() > PACKET_BYTES_MAX {
            return Err(Refusal::new(Code::Failure, "Failure: too many numbers at once"));
        }
    }
    Ok(names)
}

/// Copies between two open files without a way over the client (secsh-filexfer-extensions, 7).
fn copy_data(server: &mut Server, mut fields: Fields<'_>) -> Result<Done, Refusal> {
    let (from, from_offset, length) = (fields.string()?, fields.u64()?, fields.u64()?);
    let (to, to_offset) = (fields.string()?, fields.u64()?);
    let mut bytes = 0;
    let copied = copy(&server.handles, (from, from_offset), (to, to_offset), length, &mut bytes);
    let source = server.handles.transfer(from).map(|transfer| transfer.number);
    if let (Some(from), Some(target)) = (source, server.handles.transfer(to)) {
        target.filled();
        let to = target.number;
        let failed = copied.as_ref().err().map(|refusal| &*refusal.words);
        server.tally.done(|_| Act::Copy { from, to, bytes }, failed);
    }
    copied
}

/// Copies, and counts what was.
fn copy(
    handles: &Handles,
    (from, mut from_offset): (&[u8], u64),
    (to, mut to_offset): (&[u8], u64),
    length: u64,
    bytes: &mut u64,
) -> Result<Done, Refusal> {
    let (from, to) = (handles.file(from)?, handles.file(to)?);
    let (source, target) = (rustix::fs::fstat(from)?, rustix::fs::fstat(to)?);
    // It would read what it writes, for ever.
    if (source.st_dev, source.st_ino) == (target.st_dev, target.st_ino) {
        return Err(Refusal::new(Code::Failure, "Failure: a file cannot be copied into itself"));
    }
    let to_the_end = length == 0;
    let mut left = if to_the_end { u64::MAX } else { length };
    let mut by_hand: Option<Vec<u8>> = None;
    while left > 0 {
        let step = usize::try_from(left).map_or(COPY_STEP, |left| left.min(COPY_STEP));
        let copied = match &mut by_hand {
            Some(buffer) => copy_by_hand(buffer, from, from_offset, to, to_offset, step)?,
            None => {
                let (mut at, mut onto) = (from_offset, to_offset);
                match rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut onto), step) {
                    // At the end, or a file of the kernel that has no size.
                    Ok(0) => {
                        by_hand = Some(vec![0; COPY_BUFFER]);
                        continue;
                    }
                    Ok(copied) => copied,
                    Err(Errno::INTR) => continue,
                    Err(
                        Errno::XDEV
                        | Errno::INVAL
                        | Errno::BADF
                        | Errno::NOSYS
                        | Errno::OPNOTSUPP
                        | Errno::PERM
                        | Errno::FBIG
                        | Errno::OVERFLOW
                        | Errno::ISDIR,
                    ) => {
                        by_hand = Some(vec![0; COPY_BUFFER]);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if copied == 0 {
            return if to_the_end { Ok(Done::Yes) } else { Err(Code::Eof.into()) };
        }
        let copied = u64::try_from(copied).unwrap_or(u64::MAX);
        *bytes = bytes.saturating_add(copied);
        left = left.saturating_sub(copied);
        from_offset = from_offset.saturating_add(copied);
        to_offset = to_offset.saturating_add(copied);
    }
    Ok(Done::Yes)
}

/// One turn between files that the kernel does not copy between. Returns how much; 0 at the end.
fn copy_by_hand(
    buffer: &mut [u8],
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    mut to_offset: u64,
    step: usize,
) -> Result<usize, Refusal> {
    let room = buffer.len().min(step);
    let room = buffer.get_mut(..room).unwrap_or_default();
    let read = retry_on_intr(|| rustix::io::pread(from, &mut *room, from_offset))?;
    let mut data = room.get(..read).unwrap_or_default();
    while !data.is_empty() {
        let written = retry_on_intr(|| rustix::io::pwrite(to, data, to_offset))?;
        if written == 0 {
            return Err(Code::Failure.into());
        }
        data = data.get(written..).unwrap_or_default();
        to_offset = to_offset.saturating_add(u64::try_from(written).unwrap_or(0));
    }
    Ok(read)
}
