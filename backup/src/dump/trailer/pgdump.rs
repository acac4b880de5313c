//! The custom format of `pg_dump` (PostgreSQL source, `pg_backup_archiver.c`, `pg_backup_custom.c`): a header, a
//! table of contents, then a block for every entry that has data, in pieces with their lengths. There is nothing
//! behind the last block, so the blocks are counted against the contents.

use super::Flaw;

const MAGIC: &[u8] = b"PGDMP";
/// The format `custom` in the header.
const CUSTOM: u8 = 1;
/// The versions whose table of contents is known here: 1.12 (9.0) to 1.16 (17, 18).
const VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;
/// Longest header or entry of the contents, in bytes.
const ITEM_BYTES_MAX: usize = 64 << 20;
/// Longest integer, in bytes.
const INTEGER_BYTES_MAX: u8 = 8;
/// An entry whose data follows, at a place that was not known when the contents were written.
const DATA_FOLLOWS: u8 = 1;
/// Kinds of blocks.
const BLOCK_DATA: u8 = 1;
const BLOCK_BLOBS: u8 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    /// Entries that are still to come.
    Contents(u64),
    /// Between blocks.
    Block,
    /// Pieces of a block.
    Pieces,
    /// Objects of a block of large objects, each of pieces.
    Objects,
    ObjectPieces,
    /// A version that is not known, of which nothing can be told.
    Unknown,
}

/// Follows the blocks.
#[derive(Debug, Default)]
pub(in super::super) struct PgDump {
    place: Place,
    pending: Vec<u8>,
    /// Bytes of a piece that need only be counted.
    skip: u64,
    version: u8,
    integer_bytes: usize,
    offset_bytes: usize,
    /// Entries of the contents with data, and blocks that have come.
    announced: u64,
    blocks: u64,
    flaw: Option<Flaw>,
}

/// Reads what is there; `None` when it is not all there.
struct Cursor<'a> {
    rest: &'a [u8],
    integer_bytes: usize,
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    /// A sign and that many bytes, the lowest first.
    fn integer(&mut self) -> Option<i64> {
        let is_negative = self.byte()? != 0;
        let bytes = self.bytes(self.integer_bytes)?;
        let number = bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        Some(if is_negative { number.wrapping_neg() } else { number })
    }

    /// A length and that many bytes; nothing where the length is negative.
    fn string(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.integer()?) {
            Ok(length) => self.bytes(length).map(Some),
            Err(_) => Some(None),
        }
    }
}

impl PgDump {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if self.place == Place::Unknown || self.flaw.is_some() {
            return;
        }
        if self.skip > 0 && self.pending.is_empty() {
            bytes = self.skip_in(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while self.flaw.is_none() {
            rest = self.skip_in(rest);
            match self.item(rest) {
                Ok(Some(length)) => rest = rest.get(length..).unwrap_or_default(),
                Ok(None) => break,
                Err(flaw) => self.flaw = Some(flaw),
            }
        }
        if rest.len() > ITEM_BYTES_MAX && self.flaw.is_none() {
            self.flaw = Some(Flaw::new("it has an entry of an impossible length"));
        }
        if self.flaw.is_none() && self.place != Place::Unknown {
            self.pending = rest.to_vec();
        }
    }

    fn skip_in<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        bytes.get(skipped..).unwrap_or_default()
    }

    /// Takes one item from the start of `bytes` and returns its length; `None` when it is not all there.
    fn item(&mut self, bytes: &[u8]) -> Result<Option<usize>, Flaw> {
        if bytes.is_empty() || self.skip > 0 {
            return Ok(None);
        }
        let mut cursor = Cursor { rest: bytes, integer_bytes: self.integer_bytes };
        let taken = match self.place {
            Place::Head => self.head(&mut cursor)?,
            Place::Contents(left) => self.entry(&mut cursor, left),
            Place::Block => self.block(&mut cursor)?,
            Place::Pieces => self.piece(&mut cursor, Place::Block)?,
            Place::Objects => cursor.integer().map(|object| {
                self.place = if object == 0 { Place::Block } else { Place::ObjectPieces };
            }),
            Place::ObjectPieces => self.piece(&mut cursor, Place::Objects)?,
            Place::Unknown => None,
        };
        Ok(taken.map(|()| bytes.len() - cursor.rest.len()))
    }

    fn head(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<()>, Flaw> {
        let known = cursor.rest.len().min(MAGIC.len());
        if cursor.rest.get(..known) != MAGIC.get(..known) {
            return Err(Flaw::new("it is no dump in the custom format"));
        }
        let Some([_, _, _, _, _, major, minor, _, integer, offset, format]) =
            cursor.rest.first_chunk::<11>()
        else {
            return Ok(None);
        };
        if *format != CUSTOM || !(1..=INTEGER_BYTES_MAX).contains(integer) {
            return Err(Flaw::new("it is no dump in the custom format"));
        }
        if *major != 1 || !VERSIONS.contains(minor) {
            self.place = Place::Unknown;
            return Ok(None);
        }
        self.version = *minor;
        self.integer_bytes = usize::from(*integer);
        self.offset_bytes = usize::from(*offset);
        cursor.integer_bytes = self.integer_bytes;
        Ok(self.rest_of_head(cursor))
    }

    fn rest_of_head(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.bytes(11)?;
        if self.version >= 15 {
            cursor.byte()?;
        } else {
            cursor.integer()?;
        }
        // Seven numbers of the time; the names of database, server version, client version.
        for _ in 0..7 {
            cursor.integer()?;
        }
        for _ in 0..3 {
            cursor.string()?;
        }
        let entries = u64::try_from(cursor.integer()?).unwrap_or(0);
        self.place = if entries == 0 { Place::Block } else { Place::Contents(entries) };
        Some(())
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>, left: u64) -> Option<()> {
        // Number, whether it has data; table and object; tag, kind.
        cursor.integer()?;
        cursor.integer()?;
        for _ in 0..4 {
            cursor.string()?;
        }
        cursor.integer()?;
        // Definition, drop and copy statements, namespace, table space, from 1.14 on the access method.
        let strings = if self.version >= 14 { 6 } else { 5 };
        for _ in 0..strings {
            cursor.string()?;
        }
        if self.version >= 16 {
            cursor.integer()?;
        }
        // Owner, object ids; then what it depends on, up to a string that is none.
        cursor.string()?;
        cursor.string()?;
        while cursor.string()?.is_some() {}
        let state = cursor.byte()?;
        cursor.bytes(self.offset_bytes)?;
        self.announced += u64::from(state == DATA_FOLLOWS);
        self.place = match left {
            0 | 1 => Place::Block,
            more => Place::Contents(more - 1),
        };
        Some(())
    }

    fn block(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<()>, Flaw> {
        let Some(kind) = cursor.byte() else { return Ok(None) };
        let next = match kind {
            BLOCK_DATA => Place::Pieces,
            BLOCK_BLOBS => Place::Objects,
            _ => return Err(Flaw::new("it has a block of an unknown kind")),
        };
        Ok(cursor.integer().map(|_| {
            self.blocks += 1;
            self.place = next;
        }))
    }

    fn piece(&mut self, cursor: &mut Cursor<'_>, after: Place) -> Result<Option<()>, Flaw> {
        let Some(length) = cursor.integer() else { return Ok(None) };
        match u64::try_from(length) {
            Ok(0) => self.place = after,
            Ok(length) => self.skip = length,
            Err(_) => return Err(Flaw::new("it has a piece of an impossible length")),
        }
        Ok(Some(()))
    }

    /// What was proved; nothing for a version that is not known.
    pub(super) fn finish(self) -> Result<Option<&'static str>, Flaw> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        if self.place == Place::Unknown {
            return Ok(None);
        }
        if self.place != Place::Block || self.skip > 0 || !self.pending.is_empty() {
            return Err(Flaw::new("it breaks off inside"));
        }
        if self.blocks != self.announced {
            let (blocks, announced) = (self.blocks, self.announced);
            return Err(Flaw::new(format!(
                "its contents announce {announced} blocks of data, and it has {blocks}"
            )));
        }
        Ok(Some("pgdump"))
    }
}
