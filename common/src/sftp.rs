//! SFTP, version 3 (draft-ietf-secsh-filexfer-02): the protocol's numbers, and its fields in both directions. A packet is
//! `u32 length, u8 kind, u32 id, fields`; numbers are big-endian.

use std::borrow::Cow;

use rustix::io::Errno;

/// Of the length before a packet.
pub const LENGTH_BYTES: usize = 4;
/// No packet is longer, in either direction: as OpenSSH's. In bytes, without the length.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;
/// One read or write, as `limits@openssh.com` says it. In bytes.
pub const DATA_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// As paths of the kernel (`PATH_MAX` with its zero). In bytes.
pub const PATH_BYTES_MAX: usize = 4095;
/// The version that is spoken.
pub const VERSION: u32 = 3;

/// Kinds of requests.
pub mod request {
    /// The client's hello.
    pub const INIT: u8 = 1;
    /// Opens a file.
    pub const OPEN: u8 = 3;
    /// Gives a handle back.
    pub const CLOSE: u8 = 4;
    /// Reads from a handle.
    pub const READ: u8 = 5;
    /// Writes to a handle.
    pub const WRITE: u8 = 6;
    /// Attributes of a path, of a link itself.
    pub const LSTAT: u8 = 7;
    /// Attributes of a handle.
    pub const FSTAT: u8 = 8;
    /// Sets attributes of a path.
    pub const SETSTAT: u8 = 9;
    /// Sets attributes of a handle.
    pub const FSETSTAT: u8 = 10;
    /// Opens a directory.
    pub const OPENDIR: u8 = 11;
    /// The next names of a directory.
    pub const READDIR: u8 = 12;
    /// Removes a file.
    pub const REMOVE: u8 = 13;
    /// Makes a directory.
    pub const MKDIR: u8 = 14;
    /// Removes an empty directory.
    pub const RMDIR: u8 = 15;
    /// The absolute form of a path.
    pub const REALPATH: u8 = 16;
    /// Attributes of a path, links followed.
    pub const STAT: u8 = 17;
    /// Renames; fails where the new name is taken.
    pub const RENAME: u8 = 18;
    /// Where a link leads.
    pub const READLINK: u8 = 19;
    /// Makes a link.
    pub const SYMLINK: u8 = 20;
    /// An extension, by name.
    pub const EXTENDED: u8 = 200;
}

/// Kinds of answers.
pub mod answer {
    /// The server's hello.
    pub const VERSION: u8 = 2;
    /// How a request ended.
    pub const STATUS: u8 = 101;
    /// A handle.
    pub const HANDLE: u8 = 102;
    /// Bytes of a file.
    pub const DATA: u8 = 103;
    /// Names with their attributes.
    pub const NAME: u8 = 104;
    /// Attributes.
    pub const ATTRS: u8 = 105;
    /// What an extension answers.
    pub const EXTENDED_REPLY: u8 = 201;
}

/// How a file is to be opened (draft 02, 6.3).
pub mod open_flag {
    /// For reading.
    pub const READ: u32 = 0x01;
    /// For writing.
    pub const WRITE: u32 = 0x02;
    /// Writes go to the end.
    pub const APPEND: u32 = 0x04;
    /// Made where it is missing.
    pub const CREAT: u32 = 0x08;
    /// Emptied.
    pub const TRUNC: u32 = 0x10;
    /// Fails where it exists.
    pub const EXCL: u32 = 0x20;
}

/// The client does not speak the protocol: there is nothing to answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The stream cannot be cut into packets any more.
    #[error("a packet cannot be {0} bytes long; the most is {PACKET_BYTES_MAX}")]
    Length(u32),
    /// There is no number to answer to.
    #[error("a packet of kind {0} is too short")]
    Short(u8),
    /// The first packet must be the hello.
    #[error("the first packet is of kind {0}, not the hello of SFTP")]
    Hello(u8),
}

/// Result of a request (draft 02, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// There is no more.
    Eof = 1,
    /// There is none.
    NoSuchFile = 2,
    /// It is not allowed.
    PermissionDenied = 3,
    /// Anything else, such as a full disk.
    Failure = 4,
    /// The request is broken, or a name too long.
    BadMessage = 5,
    /// The server does not know that.
    OpUnsupported = 8,
}

impl Code {
    /// The words of OpenSSH.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::OpUnsupported => "Operation unsupported",
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of reason.
    pub code: Code,
    /// In words.
    pub words: Cow<'static, str>,
}

impl Refusal {
    /// With words of our own.
    #[must_use]
    pub fn new(code: Code, words: &'static str) -> Self {
        Self { code, words: Cow::Borrowed(words) }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code, code.words())
    }
}

impl From<Errno> for Refusal {
    /// As OpenSSH tells them apart. A plain failure also says which, since many clients show the words.
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Code::NoSuchFile.into(),
            Errno::PERM | Errno::ACCESS | Errno::FAULT => Code::PermissionDenied.into(),
            Errno::NAMETOOLONG | Errno::INVAL => Code::BadMessage.into(),
            Errno::NOSYS => Code::OpUnsupported.into(),
            other => {
                Self { code: Code::Failure, words: format!("Failure: {}", reason(other)).into() }
            }
        }
    }
}

/// The system's words for an error, without its number.
#[must_use]
pub fn reason(error: Errno) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or_else(|| text.clone(), |(words, _)| words.to_owned())
}

/// The fields of a packet, taken one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(
    /// What is not taken yet.
    pub &'a [u8],
);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Code::BadMessage)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Code::BadMessage)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Whether everything is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length and as many bytes.
    pub fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let length = usize::try_from(self.u32()?).map_err(|_too_long| Code::BadMessage)?;
        self.take(length)
    }

    /// A string that the kernel could take for a path. The empty one is left to it.
    pub fn path(&mut self) -> Result<&'a [u8], Refusal> {
        let path = self.string()?;
        if path.len() > PATH_BYTES_MAX || path.contains(&0) {
            return Err(Code::BadMessage.into());
        }
        Ok(path)
    }
}

/// A packet being written, without its length.
#[derive(Debug)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// One without fields yet.
    #[must_use]
    pub fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    /// A part of one, without a kind.
    #[must_use]
    pub fn fields() -> Self {
        Self(Vec::new())
    }

    /// An answer to the request `id`, or that request.
    #[must_use]
    pub fn to(kind: u8, id: u32) -> Self {
        Self::new(kind).u32(id)
    }

    /// How the request `id` ended.
    #[must_use]
    pub fn status(id: u32, code: Code, words: &str) -> Self {
        Self::to(answer::STATUS, id).u32(code as u32).string(words.as_bytes()).string(b"")
    }

    /// Adds a number of four bytes.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a number of eight bytes.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A length and the bytes; what is too long for a length is too long for a packet as well.
    #[must_use]
    pub fn string(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes that have a form of their own.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes so far.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a packet has its kind at least")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
