//! One file of the log: its name, its header, and how frames are found in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::frame::{HEAD_BYTES, Head, MAGIC, Raw};
use super::{LogId, WalError};

/// Ending of the names of segments.
const SUFFIX: &str = ".wal";

/// Digits of the base in a name: every `u64` fits.
const BASE_DIGITS: usize = 20;

/// Bytes of the header of a segment.
pub(super) const HEADER_BYTES: usize = 64;

const HEADER_MAGIC: [u8; 8] = *b"chlogwal";

/// The version of this format.
const VERSION: u32 = 1;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: LogId,
    /// The place of the first byte of the file.
    pub(super) base: u64,
    /// Where the segment before ended; the same as `base` in the first one.
    pub(super) previous_end: u64,
    /// Nanoseconds since 1970.
    pub(super) created: i64,
}

impl SegmentHeader {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&self.log.0);
        bytes.extend_from_slice(&self.base.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().unwrap_or([0; HEADER_BYTES])
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderFault> {
        let (summed, sum) = bytes.split_last_chunk::<4>().ok_or(HeaderFault::Damaged)?;
        let mut rest = summed;
        let magic = take::<8>(&mut rest)?;
        let version = u32::from_le_bytes(take(&mut rest)?);
        let length = u32::from_le_bytes(take(&mut rest)?);
        if magic != HEADER_MAGIC || crc32c::crc32c(summed) != u32::from_le_bytes(*sum) {
            return Err(HeaderFault::Damaged);
        }
        if version != VERSION || length as usize != HEADER_BYTES {
            return Err(HeaderFault::Version(version));
        }
        Ok(Self {
            log: LogId(take(&mut rest)?),
            base: u64::from_le_bytes(take(&mut rest)?),
            previous_end: u64::from_le_bytes(take(&mut rest)?),
            created: i64::from_le_bytes(take(&mut rest)?),
        })
    }
}

/// Why a header is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// It is not whole.
    Damaged,
    /// It is of another version.
    Version(u32),
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], HeaderFault> {
    let (field, rest) = bytes.split_first_chunk::<N>().ok_or(HeaderFault::Damaged)?;
    *bytes = rest;
    Ok(*field)
}

/// The file of the segment that begins at `base`.
pub(super) fn path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:0BASE_DIGITS$}{SUFFIX}"))
}

/// The segments of a directory by their base, the oldest first. A directory that is not there has none.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, WalError> {
    let failed = |source| WalError::io("list the segments in", directory, source);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut bases = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let base: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(SUFFIX))
            .filter(|digits| {
                digits.len() == BASE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
            .and_then(|digits| digits.parse().ok());
        bases.extend(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

/// What is at a place.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A frame.
    Frame(Raw<'a>),
    /// Nothing: the segment ends there.
    End,
    /// Something that is no whole frame.
    Damaged(&'static str),
}

/// Reads the frames of one segment.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    pub(super) base: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
}

impl Segment {
    /// Opens the segment that begins at `base`.
    pub(super) fn open(directory: &Path, base: u64) -> Result<Self, WalError> {
        let path = path(directory, base);
        let file = File::open(&path).map_err(|source| WalError::io("open", &path, source))?;
        Ok(Self { file, path, base, buffer: Vec::new(), buffer_at: 0 })
    }

    /// Its header, or why it is none.
    pub(super) fn header(&mut self) -> Result<Result<SegmentHeader, HeaderFault>, WalError> {
        let base = self.base;
        let bytes = self.bytes(0, HEADER_BYTES, u64::MAX)?;
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(Err(HeaderFault::Damaged));
        };
        let header = SegmentHeader::decode(bytes);
        Ok(header.and_then(|header| {
            if header.base == base { Ok(header) } else { Err(HeaderFault::Damaged) }
        }))
    }

    /// The place of its first frame.
    pub(super) fn first(&self) -> u64 {
        self.base + HEADER_BYTES as u64
    }

    /// The place behind its last byte, as large as the file is now.
    pub(super) fn file_end(&self) -> Result<u64, WalError> {
        let failed = |source| WalError::io("look at", &self.path, source);
        Ok(self.base.saturating_add(self.file.metadata().map_err(failed)?.len()))
    }

    /// The frame at `position`; nothing at or behind `limit` is looked at.
    pub(super) fn frame(&mut self, position: u64, limit: u64) -> Result<Found<'_>, WalError> {
        let head = match self.head(position, limit)? {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Found::End),
            Err(reason) => return Ok(Found::Damaged(reason)),
        };
        let at = position - self.base + HEAD_BYTES as u64;
        let tail = self.bytes(at, head.tail_bytes(), limit)?;
        Ok(match Raw::new(head, tail) {
            Ok(raw) => Found::Frame(raw),
            Err(reason) => Found::Damaged(reason),
        })
    }

    /// The head of the frame at `position`, its body not looked at. `None` where the segment ends.
    pub(super) fn head(
        &mut self,
        position: u64,
        limit: u64,
    ) -> Result<Result<Option<Head>, &'static str>, WalError> {
        let Some(at) = position.checked_sub(self.base) else {
            return Ok(Err("the place is before the segment"));
        };
        let bytes = self.bytes(at, HEAD_BYTES, limit)?;
        if bytes.is_empty() {
            return Ok(Ok(None));
        }
        let Some(bytes) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Ok(Err("the head of a frame is cut off"));
        };
        Ok(match Head::decode(bytes) {
            Ok(head) if head.position != position => Err("a frame belongs to another place"),
            Ok(head) => Ok(Some(head)),
            Err(reason) => Err(reason),
        })
    }

    /// The next place behind `position` where a whole frame is.
    pub(super) fn resync(&mut self, position: u64, limit: u64) -> Result<Option<u64>, WalError> {
        let finder = memchr::memmem::Finder::new(&MAGIC);
        let mut from = position.saturating_add(1).max(self.first());
        loop {
            let window = self.bytes(from - self.base, READ_BYTES, limit)?;
            let length = window.len();
            let found = finder.find(window);
            let Some(found) = found else {
                if length < READ_BYTES {
                    return Ok(None);
                }
                from += (length - MAGIC.len() + 1) as u64;
                continue;
            };
            let candidate = from + found as u64;
            if matches!(self.frame(candidate, limit)?, Found::Frame(_)) {
                return Ok(Some(candidate));
            }
            from = candidate + 1;
        }
    }

    /// `length` bytes of the file from `at`, fewer where the file or `limit` (a place of the log) ends.
    fn bytes(&mut self, at: u64, length: usize, limit: u64) -> Result<&[u8], WalError> {
        let room = limit.saturating_sub(self.base).saturating_sub(at);
        let length = length.min(usize::try_from(room).unwrap_or(usize::MAX));
        let held = at
            .checked_sub(self.buffer_at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip + length <= self.buffer.len());
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.fill(
                    at,
                    length.max(READ_BYTES.min(usize::try_from(room).unwrap_or(READ_BYTES))),
                )?;
                0
            }
        };
        let end = (skip + length).min(self.buffer.len());
        Ok(self.buffer.get(skip..end).unwrap_or_default())
    }

    fn fill(&mut self, at: u64, length: usize) -> Result<(), WalError> {
        self.buffer.resize(length, 0);
        self.buffer_at = at;
        let mut filled = 0;
        while let Some(place) = self.buffer.get_mut(filled..).filter(|place| !place.is_empty()) {
            match self.file.read_at(place, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(WalError::io("read", &self.path, error));
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}
