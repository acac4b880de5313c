//! The protocol's numbers, and its fields in both directions.

use std::borrow::Cow;

use rustix::io::Errno;

/// Of the length before a packet.
pub(super) const LENGTH_BYTES: usize = 4;
/// No packet is longer, in either direction: as OpenSSH's. In bytes, without the length.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1024;
/// One read or write, as `limits@openssh.com` says it. In bytes.
pub(super) const DATA_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// As paths of the kernel (`PATH_MAX` with its zero). In bytes.
pub(super) const PATH_BYTES_MAX: usize = 4095;
/// The version that is spoken.
pub(super) const VERSION: u32 = 3;

/// Kinds of requests.
pub(super) mod request {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const EXTENDED: u8 = 200;
}

/// Kinds of answers.
pub(super) mod answer {
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// How a file is to be opened (draft 02, 6.3).
pub(super) mod open_flag {
    pub(crate) const READ: u32 = 0x01;
    pub(crate) const WRITE: u32 = 0x02;
    pub(crate) const APPEND: u32 = 0x04;
    pub(crate) const CREAT: u32 = 0x08;
    pub(crate) const TRUNC: u32 = 0x10;
    pub(crate) const EXCL: u32 = 0x20;
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
pub(super) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    OpUnsupported = 8,
}

impl Code {
    /// The words of OpenSSH.
    pub(super) fn words(self) -> &'static str {
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
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) words: Cow<'static, str>,
}

impl Refusal {
    /// With words of our own.
    pub(super) fn new(code: Code, words: &'static str) -> Self {
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
pub(crate) fn reason(error: Errno) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or_else(|| text.clone(), |(words, _)| words.to_owned())
}

/// The fields of a request, taken one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

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

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length and as many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let length = usize::try_from(self.u32()?).map_err(|_too_long| Code::BadMessage)?;
        self.take(length)
    }

    /// A string that the kernel could take for a path. The empty one is left to it.
    pub(super) fn path(&mut self) -> Result<&'a [u8], Refusal> {
        let path = self.string()?;
        if path.len() > PATH_BYTES_MAX || path.contains(&0) {
            return Err(Code::BadMessage.into());
        }
        Ok(path)
    }
}

/// An answer being written, without its length.
#[derive(Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    /// A part of one, without a kind.
    pub(super) fn fields() -> Self {
        Self(Vec::new())
    }

    /// An answer to the request `id`.
    pub(super) fn to(kind: u8, id: u32) -> Self {
        Self::new(kind).u32(id)
    }

    pub(super) fn status(id: u32, code: Code, words: &str) -> Self {
        Self::to(answer::STATUS, id).u32(code as u32).string(words.as_bytes()).string(b"")
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A length and the bytes; what is too long for a length is too long for a packet as well.
    pub(super) fn string(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes that have a form of their own.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
