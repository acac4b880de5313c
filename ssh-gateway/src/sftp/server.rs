//! One request, one answer.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::enter::sys;
use crate::tally::Tally;
use crate::wire::files::Act;

use super::accounts::Accounts;
use super::attributes::{self, Attributes, Named, Opened};
use super::buffer::Buffer;
use super::extensions;
use super::handles::{Handle, Handles};
use super::longname;
use super::paths;
use chores_common::sftp::{
    Code, DATA_BYTES_MAX, Fields, LENGTH_BYTES, PACKET_BYTES_MAX, Packet, Refusal, VERSION, Wrong,
    answer, open_flag, request,
};

/// Files of one answer to READDIR.
const BATCH_ENTRIES_MAX: usize = 100;
/// Such an answer ends when it is longer than this, before [`BATCH_ENTRIES_MAX`]. In bytes.
const BATCH_BYTES: usize = 128 * 1024;
/// Of a new file or directory, when the client does not say.
const MODE_FILE: u32 = 0o666;
const MODE_DIRECTORY: u32 = 0o777;

/// What a request became.
pub(super) enum Done {
    /// It was done, and there is nothing more to say.
    Yes,
    /// This is the answer.
    Answer(Packet),
    /// The answer is written already.
    Written,
}

/// What a client may ask for; what the user may do is the kernel's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// Nothing that changes anything (`-R` of sftp-server(8)).
    ReadOnly,
}

impl Rights {
    /// Fails for a request that would change something where nothing may be changed.
    pub(super) fn check(self, is_change: bool) -> Result<(), Refusal> {
        match self {
            Self::ReadOnly if is_change => Err(Code::PermissionDenied.into()),
            Self::All | Self::ReadOnly => Ok(()),
        }
    }
}

/// Requests that change something, whatever is in them. [`request::OPEN`] and [`request::EXTENDED`] look inside.
const CHANGES: [u8; 8] = [
    request::WRITE,
    request::SETSTAT,
    request::FSETSTAT,
    request::REMOVE,
    request::MKDIR,
    request::RMDIR,
    request::RENAME,
    request::SYMLINK,
];

/// The server's side of one conversation.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) home: PathBuf,
    pub(super) handles: Handles,
    pub(super) accounts: Accounts,
    pub(super) rights: Rights,
    pub(super) tally: Tally,
    greeted: bool,
}

impl Server {
    pub(super) fn new(home: &Path, rights: Rights, tally: Tally) -> Self {
        Self {
            home: home.to_owned(),
            handles: Handles::new(),
            accounts: Accounts::default(),
            rights,
            tally,
            greeted: false,
        }
    }

    /// Tells of what is still open, and that this is all.
    pub(super) fn end(&mut self) {
        for handle in self.handles.drain() {
            if let Handle::File(_, transfer) = handle {
                self.tally.left(*transfer);
            }
        }
        self.tally.end();
    }

    /// Tells what was done by name, or was not, and makes an answer of it.
    pub(super) fn told(
        &mut self,
        result: Result<(), Errno>,
        act: impl FnOnce(&Tally) -> Act,
    ) -> Result<Done, Refusal> {
        let done = done(result);
        self.tally.done(act, done.as_ref().err().map(|refusal| &*refusal.words));
        done
    }

    /// The same of attributes of an open file.
    fn set(&mut self, handle: &[u8], attributes: &Attributes) -> Result<Done, Refusal> {
        let result = attributes.apply(&Opened(self.handles.get(handle)?.descriptor()?));
        if let Some(transfer) = self.handles.transfer(handle) {
            match result {
                Ok(()) => transfer.set(&attributes.told()),
                // Some of it may have been done.
                Err(_) => transfer.filled(),
            }
        }
        done(result)
    }

    /// Does what a packet (without its length) asks, and puts exactly one answer at the end of `answers`,
    /// which must have room for one of the greatest length.
    pub(super) fn answer(&mut self, packet: &[u8], answers: &mut Buffer) -> Result<(), Wrong> {
        let (kind, rest) = packet.split_first().ok_or(Wrong::Length(0))?;
        let mut fields = Fields(rest);
        if *kind == request::INIT {
            fields.u32().map_err(|_short| Wrong::Short(*kind))?;
            self.greeted = true;
            let hello = Packet::new(answer::VERSION).u32(VERSION);
            put(answers, &extensions::announce(hello, self.rights));
            return Ok(());
        }
        if !self.greeted {
            return Err(Wrong::Hello(*kind));
        }
        let id = fields.u32().map_err(|_short| Wrong::Short(*kind))?;
        let done = match *kind {
            request::READ => self.read(id, fields, answers),
            kind => self.dispatch(kind, id, fields),
        };
        match done {
            Ok(Done::Written) => {}
            Ok(Done::Answer(packet)) if packet.len() <= PACKET_BYTES_MAX => put(answers, &packet),
            Ok(Done::Yes) => put(answers, &Packet::status(id, Code::Ok, Code::Ok.words())),
            Ok(Done::Answer(_)) => {
                let words = "Failure: the answer would be too long";
                put(answers, &Packet::status(id, Code::Failure, words));
            }
            Err(Refusal { code, words }) => put(answers, &Packet::status(id, code, &words)),
        }
        Ok(())
    }

    fn dispatch(&mut self, kind: u8, id: u32, mut fields: Fields<'_>) -> Result<Done, Refusal> {
        self.rights.check(CHANGES.contains(&kind))?;
        match kind {
            request::OPEN => self.open(id, fields),
            request::CLOSE => self.close(fields.string()?),
            request::WRITE => self.write(fields),
            request::LSTAT => attributes(id, rustix::fs::lstat(path(&mut fields)?)),
            request::STAT => attributes(id, rustix::fs::stat(path(&mut fields)?)),
            request::FSTAT => {
                let handle = self.handles.get(fields.string()?)?;
                attributes(id, rustix::fs::fstat(handle.descriptor()?))
            }
            request::SETSTAT => {
                let path = path(&mut fields)?;
                let attributes = Attributes::read(&mut fields)?;
                self.told(attributes.apply(&Named(path)), |tally| Act::Set {
                    path: tally.path(path),
                    set: attributes.told(),
                })
            }
            request::FSETSTAT => {
                let handle = fields.string()?;
                self.set(handle, &Attributes::read(&mut fields)?)
            }
            request::OPENDIR => self.open_directory(id, fields),
            request::READDIR => self.read_directory(id, fields),
            request::REMOVE => {
                let path = path(&mut fields)?;
                self.told(rustix::fs::unlink(path), |tally| Act::Remove { path: tally.path(path) })
            }
            request::MKDIR => {
                let path = path(&mut fields)?;
                let mode = Attributes::read(&mut fields)?.mode_or(MODE_DIRECTORY);
                self.told(rustix::fs::mkdir(path, mode), |tally| Act::MakeDirectory {
                    path: tally.path(path),
                })
            }
            request::RMDIR => {
                let path = path(&mut fields)?;
                self.told(rustix::fs::rmdir(path), |tally| Act::RemoveDirectory {
                    path: tally.path(path),
                })
            }
            request::REALPATH => {
                let found = paths::real(fields.path()?)?;
                Ok(Done::Answer(name(id, &found)))
            }
            request::RENAME => {
                let (old, new) = (path(&mut fields)?, path(&mut fields)?);
                self.told(rename(old, new), |tally| Act::Rename {
                    path: tally.path(old),
                    to: tally.path(new),
                })
            }
            request::READLINK => {
                let target = rustix::fs::readlink(path(&mut fields)?, Vec::new())?;
                Ok(Done::Answer(name(id, target.as_bytes())))
            }
            // The draft has the arguments the other way round; every client follows OpenSSH.
            request::SYMLINK => {
                let (target, link) = (fields.path()?, path(&mut fields)?);
                self.told(rustix::fs::symlink(target, link), |tally| Act::Symlink {
                    path: tally.path(link),
                    to: target.to_vec(),
                })
            }
            request::EXTENDED => extensions::answer(self, id, fields),
            _ => Err(Code::OpUnsupported.into()),
        }
    }

    fn open(&mut self, id: u32, mut fields: Fields<'_>) -> Result<Done, Refusal> {
        let path = path(&mut fields)?;
        let asked = fields.u32()?;
        let opened = self.open_file(path, asked, &mut fields);
        match opened {
            Ok(file) => {
                let transfer = Box::new(self.tally.opened(path, asked));
                let handle = self.handles.insert(Handle::File(file, transfer));
                Ok(Done::Answer(Packet::to(answer::HANDLE, id).string(&handle)))
            }
            Err(refusal) => {
                self.tally.done(
                    |tally| Act::Open { path: tally.path(path), flags: asked },
                    Some(&refusal.words),
                );
                Err(refusal)
            }
        }
    }

    fn open_file(
        &self,
        path: &[u8],
        asked: u32,
        fields: &mut Fields<'_>,
    ) -> Result<OwnedFd, Refusal> {
        let flags = open_flags(asked);
        let changes =
            OFlags::WRONLY | OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC;
        self.rights.check(flags.intersects(changes))?;
        let mode = Attributes::read(fields)?.mode_or(MODE_FILE);
        self.handles.check_room()?;
        Ok(retry_on_intr(|| rustix::fs::open(path, flags, mode))?)
    }

    fn open_directory(&mut self, id: u32, mut fields: Fields<'_>) -> Result<Done, Refusal> {
        let path = path(&mut fields)?;
        self.handles.check_room()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let directory = Dir::new(rustix::fs::open(path, flags, Mode::empty())?)?;
        let handle = self.handles.insert(Handle::Directory(directory));
        Ok(Done::Answer(Packet::to(answer::HANDLE, id).string(&handle)))
    }

    fn close(&mut self, handle: &[u8]) -> Result<Done, Refusal> {
        match self.handles.remove(handle)? {
            Handle::File(file, transfer) => {
                let done = done(close(file));
                self.tally.closed(*transfer, done.as_ref().err().map(|refusal| &*refusal.words));
                done
            }
            Handle::Directory(_) => Ok(Done::Yes),
        }
    }

    /// Reads straight into what is sent.
    fn read(
        &mut self,
        id: u32,
        mut fields: Fields<'_>,
        answers: &mut Buffer,
    ) -> Result<Done, Refusal> {
        /// Kind, id and the length of the data.
        const HEAD: usize = LENGTH_BYTES + 1 + 4 + 4;
        let handle = fields.string()?;
        let file = self.handles.file(handle)?;
        let offset = fields.u64()?;
        let wanted =
            usize::try_from(fields.u32()?).map_or(DATA_BYTES_MAX, |n| n.min(DATA_BYTES_MAX));
        let room = answers.room(HEAD.saturating_add(wanted));
        let (head, data) = room.split_first_chunk_mut::<HEAD>().ok_or(Code::Failure)?;
        let wanted = data.len().min(wanted);
        let data = data.get_mut(..wanted).unwrap_or_default();
        let length = retry_on_intr(|| rustix::io::pread(file, &mut *data, offset))?;
        if length == 0 && wanted > 0 {
            return Err(Code::Eof.into());
        }
        if let Some(transfer) = self.handles.transfer(handle) {
            transfer.read(offset, data.get(..length).unwrap_or_default());
        }
        let short = u32::try_from(length).unwrap_or(u32::MAX);
        let whole = short.saturating_add(1 + 4 + 4);
        let written = Packet::fields().u32(whole).raw(&[answer::DATA]).u32(id).u32(short);
        head.copy_from_slice(written.bytes());
        answers.grow(HEAD.saturating_add(length));
        Ok(Done::Written)
    }

    fn write(&mut self, mut fields: Fields<'_>) -> Result<Done, Refusal> {
        let handle = fields.string()?;
        let mut offset = fields.u64()?;
        let mut data = fields.string()?;
        while !data.is_empty() {
            let file = self.handles.file(handle)?;
            // Files opened for appending are appended to, whatever the offset (pwrite(2)).
            let length = retry_on_intr(|| rustix::io::pwrite(file, data, offset))?;
            if length == 0 {
                return Err(Code::Failure.into());
            }
            let (written, rest) = data.split_at_checked(length).unwrap_or((data, b""));
            if let Some(transfer) = self.handles.transfer(handle) {
                transfer.wrote(offset, written);
            }
            data = rest;
            offset = offset.saturating_add(u64::try_from(length).unwrap_or(0));
        }
        Ok(Done::Yes)
    }

    fn read_directory(&mut self, id: u32, mut fields: Fields<'_>) -> Result<Done, Refusal> {
        let directory = self.handles.directory(fields.string()?)?;
        let now = now();
        let mut count = 0;
        let mut entries = Packet::fields();
        while count < BATCH_ENTRIES_MAX && entries.len() < BATCH_BYTES {
            let Some(entry) = directory.next() else { break };
            let entry = entry?;
            let file = entry.file_name();
            // What is gone already is not listed.
            let Ok(stat) = rustix::fs::statat(directory.fd()?, file, AtFlags::SYMLINK_NOFOLLOW)
            else {
                continue;
            };
            let user = or_number(self.accounts.user(stat.st_uid), stat.st_uid);
            let group = or_number(self.accounts.group(stat.st_gid), stat.st_gid);
            let line = longname::line(&stat, &user, &group, file.to_bytes(), now);
            entries = attributes::tell(entries.string(file.to_bytes()).string(&line), &stat);
            count += 1;
        }
        if count == 0 {
            return Err(Code::Eof.into());
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Done::Answer(Packet::to(answer::NAME, id).u32(count).raw(entries.bytes())))
    }
}

fn put(answers: &mut Buffer, packet: &Packet) {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    // The caller leaves room for one packet of the greatest length.
    let _all = answers.put(&length.to_be_bytes()) && answers.put(packet.bytes());
}

/// A path that the kernel is to see: clients mean the home directory by the empty one.
pub(super) fn path<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Refusal> {
    fields.path().map(|path| if path.is_empty() { b".".as_slice() } else { path })
}

/// An answer with one name, and nothing known about it.
pub(super) fn name(id: u32, path: &[u8]) -> Packet {
    attributes::tell_nothing(Packet::to(answer::NAME, id).u32(1).string(path).string(path))
}

/// Nothing more to say, or why not.
pub(super) fn done(result: Result<(), Errno>) -> Result<Done, Refusal> {
    result.map(|()| Done::Yes).map_err(Refusal::from)
}

fn attributes(id: u32, stat: Result<Stat, Errno>) -> Result<Done, Refusal> {
    Ok(Done::Answer(attributes::tell(Packet::to(answer::ATTRS, id), &stat?)))
}

fn or_number(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), str::to_owned)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What open(2) is to be asked for; neither reading nor writing means reading, as in OpenSSH.
fn open_flags(flags: u32) -> OFlags {
    let has = |flag| flags & flag != 0;
    let mut opened = match (has(open_flag::READ), has(open_flag::WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    opened.set(OFlags::APPEND, has(open_flag::APPEND));
    opened.set(OFlags::CREATE, has(open_flag::CREAT));
    opened.set(OFlags::TRUNC, has(open_flag::TRUNC));
    opened.set(OFlags::EXCL, has(open_flag::EXCL));
    opened | OFlags::CLOEXEC | OFlags::NOCTTY
}

/// Closes a file; some file systems only say now what they could not write.
pub(crate) fn close(file: OwnedFd) -> Result<(), Errno> {
    match sys::close(file) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            // The descriptor is closed all the same (close(2)).
            Some(Errno::INTR) => Ok(()),
            error => Err(error.unwrap_or(Errno::IO)),
        },
    }
}

/// Never over something that is there (draft 02, 6.5): `posix-rename@openssh.com` does that.
fn rename(old: &[u8], new: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE) {
        // Not every file system and kernel can, and seccomp profiles may not know it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => {}
        result => return result,
    }
    match rustix::fs::lstat(new) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::rename(old, new),
        Err(error) => Err(error),
    }
}
