//! Archives of `mongodump` (mongo-tools, `common/archive/spec.md`): a magic number, a header and one document a
//! collection, then blocks of documents of one collection each. The last block of a collection is empty and
//! has the CRC64 of all its documents; the archive ends when every collection that was begun has had one (views
//! are announced and have no block at all).

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};

use super::Flaw;

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
const TERMINATOR: [u8; 4] = [0xff; 4];
/// Longest document, in bytes: 16 MiB and what the server adds to its own (`BSONObjMaxInternalSize`).
const DOCUMENT_BYTES_MAX: usize = (16 << 20) + (64 << 10);
/// Shortest document.
const DOCUMENT_BYTES_MIN: usize = 5;
/// Collections at the most.
const COLLECTIONS_MAX: usize = 1_000_000;
/// Longest document that is read as a header, in bytes.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Magic,
    /// The header, then one document a collection.
    Prelude,
    /// The first document of a block, which says whose it is.
    Block,
    /// Documents of this collection.
    Documents(String),
}

/// Follows the blocks.
#[derive(Default)]
pub(in super::super) struct Mongo {
    place: Place,
    /// The start of a document or number that is not all there.
    pending: Vec<u8>,
    /// Bytes of the current document that need only be counted.
    skip: usize,
    documents: u64,
    /// Collections whose end has not come.
    open: BTreeMap<String, Option<Digest>>,
    flaw: Option<Flaw>,
}

impl std::fmt::Debug for Mongo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mongo").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Mongo {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.flaw.is_none() {
            if self.skip > 0 {
                let (skipped, rest) = bytes.split_at(self.skip.min(bytes.len()));
                self.digest(skipped);
                self.skip -= skipped.len();
                bytes = rest;
                continue;
            }
            let wanted = self.wanted();
            let missing = wanted.saturating_sub(self.pending.len()).min(bytes.len());
            let (taken, rest) = bytes.split_at(missing);
            self.pending.extend_from_slice(taken);
            bytes = rest;
            if self.pending.len() >= self.wanted()
                && let Err(flaw) = self.take()
            {
                self.flaw = Some(flaw);
            }
        }
    }

    /// How many bytes have to be there before anything can be told.
    fn wanted(&self) -> usize {
        let Some(number) = self.pending.first_chunk::<4>() else { return 4 };
        if self.place != Place::Block || *number == TERMINATOR {
            return 4;
        }
        length_of(*number).filter(|length| *length <= HEADER_BYTES_MAX).unwrap_or(4)
    }

    fn take(&mut self) -> Result<(), Flaw> {
        let pending = std::mem::take(&mut self.pending);
        let number = pending.first_chunk::<4>().copied().unwrap_or_default();
        let is_terminator = number == TERMINATOR;
        match std::mem::take(&mut self.place) {
            Place::Magic if number == MAGIC => self.place = Place::Prelude,
            Place::Magic => return Err(Flaw::new("it is no archive of mongodump")),
            Place::Prelude if is_terminator && self.documents == 0 => {
                return Err(Flaw::new("it has no header"));
            }
            Place::Prelude if is_terminator => self.place = Place::Block,
            Place::Prelude => {
                self.documents += 1;
                self.skip = document(number)? - 4;
                self.place = Place::Prelude;
            }
            Place::Block if is_terminator => return Err(Flaw::new("it has a block of nothing")),
            Place::Block => self.block(&pending)?,
            Place::Documents(_) if is_terminator => self.place = Place::Block,
            Place::Documents(name) => {
                self.skip = document(number)? - 4;
                self.place = Place::Documents(name);
                self.digest(&number);
            }
        }
        Ok(())
    }

    /// The first document of a block.
    fn block(&mut self, document: &[u8]) -> Result<(), Flaw> {
        let fields = Fields::read(document)?;
        if fields.is_end {
            let digest = self.open.remove(&fields.name).flatten();
            let crc = digest.map_or(0, |digest| digest.finalize());
            if i64::from_le_bytes(crc.to_le_bytes()) != fields.crc {
                return Err(Flaw::new(format!("the checksum of {} is wrong", fields.name)));
            }
        } else {
            if self.open.len() >= COLLECTIONS_MAX {
                return Err(Flaw::new("it has more collections than can be followed"));
            }
            self.open.entry(fields.name.clone()).or_default();
        }
        self.place = Place::Documents(fields.name);
        Ok(())
    }

    fn digest(&mut self, bytes: &[u8]) {
        if let Place::Documents(name) = &self.place
            && let Some(digest) = self.open.get_mut(name)
        {
            digest.get_or_insert_with(|| Digest::new(CrcAlgorithm::Crc64Xz)).update(bytes);
        }
    }

    pub(super) fn finish(self) -> Result<&'static str, Flaw> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        if self.place != Place::Block || !self.pending.is_empty() || self.skip > 0 {
            return Err(Flaw::new("it breaks off inside"));
        }
        match self.open.keys().next() {
            Some(name) => Err(Flaw::new(format!("the end of {name} is missing"))),
            None => Ok("mongo-archive"),
        }
    }
}

/// The length a document begins with, where it can be one.
fn length_of(number: [u8; 4]) -> Option<usize> {
    let length = usize::try_from(u32::from_le_bytes(number)).ok()?;
    (DOCUMENT_BYTES_MIN..=DOCUMENT_BYTES_MAX).contains(&length).then_some(length)
}

fn document(number: [u8; 4]) -> Result<usize, Flaw> {
    length_of(number).ok_or_else(|| Flaw::new("it has a document of an impossible length"))
}

/// The fields of a header that matter here.
#[derive(Debug, Default)]
struct Fields {
    /// `database.collection`.
    name: String,
    is_end: bool,
    crc: i64,
}

impl Fields {
    /// Reads a flat BSON document (bsonspec.org) of strings, booleans and numbers.
    fn read(document: &[u8]) -> Result<Self, Flaw> {
        let flawed = || Flaw::new("it has a header that is not understood");
        let (mut database, mut collection) = (None, None);
        let mut fields = Self::default();
        let mut rest = document.get(4..document.len().saturating_sub(1)).ok_or_else(flawed)?;
        while let Some((kind, after)) = rest.split_first() {
            let end = after.iter().position(|byte| *byte == 0).ok_or_else(flawed)?;
            let (name, after) = after.split_at_checked(end).ok_or_else(flawed)?;
            let after = after.get(1..).ok_or_else(flawed)?;
            let length = match kind {
                0x01 | 0x09 | 0x11 | 0x12 => 8,
                0x02 => {
                    let length = after.first_chunk::<4>().copied().ok_or_else(flawed)?;
                    4 + usize::try_from(u32::from_le_bytes(length)).map_err(|_| flawed())?
                }
                0x08 => 1,
                0x0a => 0,
                0x10 => 4,
                _ => return Err(flawed()),
            };
            let (value, after) = after.split_at_checked(length).ok_or_else(flawed)?;
            let text = || {
                let text = value.get(4..value.len().saturating_sub(1)).unwrap_or_default();
                String::from_utf8_lossy(text).into_owned()
            };
            match (name, kind) {
                (b"db", 0x02) => database = Some(text()),
                (b"collection", 0x02) => collection = Some(text()),
                (b"EOF", 0x08) => fields.is_end = value == [1],
                (b"CRC", 0x12) => {
                    let crc = value.first_chunk::<8>().copied().ok_or_else(flawed)?;
                    fields.crc = i64::from_le_bytes(crc);
                }
                _ => {}
            }
            rest = after;
        }
        fields.name =
            format!("{}.{}", database.ok_or_else(flawed)?, collection.ok_or_else(flawed)?);
        Ok(fields)
    }
}
