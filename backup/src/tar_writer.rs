//! Entries to a tar archive that loses nothing.
//!
//! The archive is in the pax Interchange Format (POSIX.1-2017, utility `pax`): a `ustar` header per
//! member, before it one extended header (`x`) for whatever the fixed fields cannot hold. Files with
//! holes follow "Storing Sparse Files", PAX format version 1.0, of the GNU tar manual; extended
//! attributes are `SCHILY.xattr.<name>` records as GNU tar and libarchive write them, ACLs have star's text
//! records besides.
//!
//! A member promises its length in its header, so the writer holds the caller to it: one byte too many
//! is refused and a short body cannot be ended. What it wrote without an error is a valid archive.

mod acl;
mod chunk_header;
mod member;
mod pax;
mod ranges;
mod sparse;

use std::io::{self, Write};

use crate::entry::{Entry, Kind, display_path};

pub use self::chunk_header::chunk_member_header;
use self::member::Member;
pub(crate) use self::ranges::bounded_ranges;

/// Bytes of a tar block: headers take one, bodies are padded to a multiple.
pub const BLOCK_BYTES: usize = 512;

/// Archives end on a multiple of this (the default blocking factor of 20), or old tools complain.
pub const RECORD_BYTES: u64 = 10_240;

/// Longest extended header in bytes: libarchive 3.6 refuses to read longer ones.
pub const PAX_BYTES_MAX: usize = 1 << 20;

/// Most data ranges of one file; who finds more fills the smallest holes. The map stays below 11 MB.
pub const DATA_RANGES_MAX: usize = 1 << 18;

/// Whether a member was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a skipped entry has no body and no end"]
pub enum Outcome {
    /// The headers are written; the body and [`TarWriter::end_entry`] must follow.
    Written,
    /// Nothing was written and nothing may follow for this entry.
    Skipped(SkipReason),
}

/// Why an entry cannot be a member of a tar archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The pax format has no type for a Unix socket; the server that owns it makes a new one.
    Socket,
}

/// Why an archive cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The sink refused bytes: the archive ends in the middle and must be thrown away.
    #[error("cannot write the archive at {path}")]
    Write {
        /// The member being written.
        path: String,
        /// What the sink said.
        #[source]
        source: io::Error,
    },
    /// An earlier write failed, so nothing more can be added.
    #[error("the archive is unusable since an earlier write failed")]
    Broken,
    /// The extended header would exceed [`PAX_BYTES_MAX`]. Nothing was written: the archive can go on.
    #[error("{path} has a path and attributes of more than {PAX_BYTES_MAX} bytes together")]
    MetadataTooLong {
        /// The entry.
        path: String,
    },
    /// The data ranges contradict each other or the size. Nothing was written: the archive can go on.
    #[error(
        "the data ranges of {path} are not up to {DATA_RANGES_MAX} ascending ranges inside the file"
    )]
    Ranges {
        /// The entry.
        path: String,
    },
    /// More bytes than the header promises. None of them was written: the member can still be ended.
    #[error("{path} has more content than its size says: {extra} bytes too many")]
    LongBody {
        /// The member being written.
        path: String,
        /// Bytes too many.
        extra: u64,
    },
    /// Fewer bytes than the header promises. The member is still open for the missing ones.
    #[error("{path} has less content than its size says: {missing} bytes are missing")]
    ShortBody {
        /// The member being written.
        path: String,
        /// Bytes still to come.
        missing: u64,
    },
    /// A member was begun, or the archive finished, before the last member was ended.
    #[error("{path} is not ended yet")]
    NotEnded {
        /// The open member.
        path: String,
    },
    /// Content or an end without a member.
    #[error("no member is begun")]
    NotBegun,
}

/// Writes entries as members of a pax archive.
///
/// For every entry: [`begin`](Self::begin), as many [`write_body`](Self::write_body) as it takes,
/// [`end_entry`](Self::end_entry). At the end [`finish`](Self::finish).
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    written: u64,
    state: State,
    path: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BetweenMembers,
    InMember { missing: u64, padding: usize },
    Broken,
}

impl<W: Write> TarWriter<W> {
    /// An empty archive on `sink`. Headers are written in small pieces: give it a buffer.
    pub fn new(sink: W) -> Self {
        Self { sink, written: 0, state: State::BetweenMembers, path: Vec::new() }
    }

    /// Writes the headers of `entry`.
    ///
    /// `data` is where a regular file has data, as `(offset, length)` in file order: one range when it
    /// has no holes, none when it is all hole. The body is then the bytes of these ranges, one after the
    /// other. An entry with `hardlink_of` becomes a link to that member and has no body.
    pub fn begin(&mut self, entry: &Entry, data: &[(u64, u64)]) -> Result<Outcome, TarError> {
        match self.state {
            State::BetweenMembers => {}
            State::InMember { .. } => return Err(TarError::NotEnded { path: self.open_path() }),
            State::Broken => return Err(TarError::Broken),
        }
        if entry.kind == Kind::Socket {
            return Ok(Outcome::Skipped(SkipReason::Socket));
        }
        let member = Member::new(entry, data)?;
        self.path.clone_from(&entry.path);
        if !member.records.is_empty() {
            let header = pax::header(member.records.len());
            self.put(header.as_bytes())?;
            self.put(&member.records)?;
            self.pad(padding(member.records.len() as u64))?;
        }
        self.put(member.header.as_bytes())?;
        if let Some(map) = &member.sparse_map {
            for line in map.lines() {
                self.put(line.as_bytes())?;
            }
            self.pad(padding(map.text_bytes()))?;
        }
        self.state =
            State::InMember { missing: member.body_bytes, padding: padding(member.body_bytes) };
        Ok(Outcome::Written)
    }

    /// Writes the next bytes of the body.
    pub fn write_body(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        let (missing, padding) = self.open_member()?;
        let length = bytes.len() as u64;
        let Some(missing) = missing.checked_sub(length) else {
            return Err(TarError::LongBody { path: self.open_path(), extra: length - missing });
        };
        self.put(bytes)?;
        self.state = State::InMember { missing, padding };
        Ok(())
    }

    /// What the archive is written to.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// How many bytes of the open member's body are still to come: what to pad with zeros when a file
    /// shrank while it was read.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match self.state {
            State::InMember { missing, .. } => missing,
            State::BetweenMembers | State::Broken => 0,
        }
    }

    /// Ends the open member; its body must be complete.
    pub fn end_entry(&mut self) -> Result<(), TarError> {
        let (missing, padding) = self.open_member()?;
        if missing > 0 {
            return Err(TarError::ShortBody { path: self.open_path(), missing });
        }
        self.pad(padding)?;
        self.state = State::BetweenMembers;
        Ok(())
    }

    /// Writes the end of the archive, flushes, and gives the sink back.
    pub fn finish(mut self) -> Result<W, TarError> {
        match self.state {
            State::BetweenMembers => {}
            State::InMember { .. } => return Err(TarError::NotEnded { path: self.open_path() }),
            State::Broken => return Err(TarError::Broken),
        }
        self.pad(2 * BLOCK_BYTES)?;
        while !self.written.is_multiple_of(RECORD_BYTES) {
            self.pad(BLOCK_BYTES)?;
        }
        match self.sink.flush() {
            Ok(()) => Ok(self.sink),
            Err(source) => Err(TarError::Write { path: "its end".to_owned(), source }),
        }
    }

    fn open_member(&self) -> Result<(u64, usize), TarError> {
        match self.state {
            State::InMember { missing, padding } => Ok((missing, padding)),
            State::BetweenMembers => Err(TarError::NotBegun),
            State::Broken => Err(TarError::Broken),
        }
    }

    fn open_path(&self) -> String {
        display_path(&self.path)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        if let Err(source) = self.sink.write_all(bytes) {
            self.state = State::Broken;
            return Err(TarError::Write { path: self.open_path(), source });
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, mut bytes: usize) -> Result<(), TarError> {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        while let Some((piece, _)) = ZEROS.split_at_checked(bytes.min(BLOCK_BYTES))
            && !piece.is_empty()
        {
            self.put(piece)?;
            bytes -= piece.len();
        }
        Ok(())
    }
}

/// Zero bytes that follow `length` bytes up to the next block border.
fn padding(length: u64) -> usize {
    let rest = (length % BLOCK_BYTES as u64) as usize;
    (BLOCK_BYTES - rest) % BLOCK_BYTES
}

#[cfg(test)]
mod tests;
