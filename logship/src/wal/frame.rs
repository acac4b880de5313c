//! One frame: a head of fixed size, the cursor as JSON, and a body that may be compressed.

use std::borrow::Cow;

use super::Codec;

#[cfg(test)]
mod tests;

/// Every frame begins with it, so that the next one can be found behind damage.
pub(super) const MAGIC: [u8; 4] = *b"lsf1";

/// Bytes of the head of a frame.
pub(super) const HEAD_BYTES: usize = 88;

/// Longest body before compression, in bytes; a longer one is neither written nor believed.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;

/// Longest cursor as JSON, in bytes.
pub(super) const CURSOR_BYTES_MAX: usize = 4 << 20;

/// Level of zstd: 3 costs more than twice the time for a tenth of the size.
const ZSTD_LEVEL: i32 = 1;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything that is known of every source: the first frame of each segment.
    State,
    /// What is known of one source, when it is new or has changed.
    Source,
    /// Records of one source.
    Records,
    /// The source is over.
    End,
    /// The log was closed, and everything before is durable.
    Closed,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::State => 1,
            Self::Source => 2,
            Self::Records => 3,
            Self::End => 4,
            Self::Closed => 5,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::State, Self::Source, Self::Records, Self::End, Self::Closed]
            .into_iter()
            .find(|kind| kind.to_byte() == byte)
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) codec: Codec,
    /// Where the frame begins.
    pub(super) position: u64,
    /// Everything before this place was durable when the frame was written.
    pub(super) durable: u64,
    pub(super) first_seq: u64,
    pub(super) base_ts: i64,
    pub(super) last_ts: i64,
    pub(super) source: u32,
    pub(super) count: u32,
    /// Records among them that are late.
    pub(super) late: u32,
    /// Records among them that are control records.
    pub(super) controls: u32,
    /// Bytes of the lines with their line ends, control records included.
    pub(super) text_bytes: u32,
    pub(super) cursor_bytes: u32,
    /// Bytes of the body before compression.
    pub(super) raw_bytes: u32,
    /// Bytes of the body as it is stored.
    pub(super) stored_bytes: u32,
    /// CRC32C of cursor and stored body.
    pub(super) crc: u32,
}

impl Head {
    /// A head of `kind` without records; sizes and sums are filled in by [`encode`].
    pub(super) fn new(kind: Kind, position: u64, durable: u64) -> Self {
        Self {
            kind,
            codec: Codec::None,
            position,
            durable,
            first_seq: 0,
            base_ts: 0,
            last_ts: 0,
            source: 0,
            count: 0,
            late: 0,
            controls: 0,
            text_bytes: 0,
            cursor_bytes: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            crc: 0,
        }
    }

    /// Bytes behind the head.
    pub(super) fn tail_bytes(&self) -> usize {
        self.cursor_bytes as usize + self.stored_bytes as usize
    }

    /// Where the next frame begins.
    pub(super) fn end(&self) -> u64 {
        self.position + (HEAD_BYTES + self.tail_bytes()) as u64
    }

    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            if let Some((head, tail)) = std::mem::take(&mut rest).split_at_mut_checked(field.len())
            {
                head.copy_from_slice(field);
                rest = tail;
            }
        };
        put(&MAGIC);
        put(&[self.kind.to_byte(), self.codec.to_byte(), 0, 0]);
        for field in [self.position, self.durable, self.first_seq] {
            put(&field.to_le_bytes());
        }
        for field in [self.base_ts, self.last_ts] {
            put(&field.to_le_bytes());
        }
        let fields = [
            self.source,
            self.count,
            self.late,
            self.controls,
            self.text_bytes,
            self.cursor_bytes,
            self.raw_bytes,
            self.stored_bytes,
            self.crc,
        ];
        for field in fields {
            put(&field.to_le_bytes());
        }
        let (summed, sum) = bytes.split_at_mut(HEAD_BYTES - 4);
        sum.copy_from_slice(&crc32c::crc32c(summed).to_le_bytes());
        bytes
    }

    /// Reads a head; what is wrong with it otherwise.
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, &'static str> {
        let mut rest = bytes.as_slice();
        if take::<4>(&mut rest)? != MAGIC {
            return Err("no frame begins there");
        }
        let (summed, sum) = bytes.split_last_chunk::<4>().ok_or(SHORT)?;
        if crc32c::crc32c(summed) != u32::from_le_bytes(*sum) {
            return Err("the head of a frame does not match its checksum");
        }
        let [kind, codec, zero, zero_too] = take::<4>(&mut rest)?;
        if zero != 0 || zero_too != 0 {
            return Err("a frame has flags that this release does not know");
        }
        let head = Self {
            kind: Kind::from_byte(kind).ok_or("the kind of a frame is unknown")?,
            codec: Codec::from_byte(codec).ok_or("the compression of a frame is unknown")?,
            position: u64::from_le_bytes(take(&mut rest)?),
            durable: u64::from_le_bytes(take(&mut rest)?),
            first_seq: u64::from_le_bytes(take(&mut rest)?),
            base_ts: i64::from_le_bytes(take(&mut rest)?),
            last_ts: i64::from_le_bytes(take(&mut rest)?),
            source: u32::from_le_bytes(take(&mut rest)?),
            count: u32::from_le_bytes(take(&mut rest)?),
            late: u32::from_le_bytes(take(&mut rest)?),
            controls: u32::from_le_bytes(take(&mut rest)?),
            text_bytes: u32::from_le_bytes(take(&mut rest)?),
            cursor_bytes: u32::from_le_bytes(take(&mut rest)?),
            raw_bytes: u32::from_le_bytes(take(&mut rest)?),
            stored_bytes: u32::from_le_bytes(take(&mut rest)?),
            crc: u32::from_le_bytes(take(&mut rest)?),
        };
        let is_possible = head.cursor_bytes as usize <= CURSOR_BYTES_MAX
            && head.raw_bytes as usize <= BODY_BYTES_MAX
            && head.stored_bytes <= head.raw_bytes;
        if is_possible { Ok(head) } else { Err("the sizes of a frame are out of range") }
    }
}

const SHORT: &str = "a frame is cut off";

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (field, rest) = bytes.split_first_chunk::<N>().ok_or(SHORT)?;
    *bytes = rest;
    Ok(*field)
}

/// Adds a whole frame to `out`, and gives its head as it was written. `None` when cursor or body is longer
/// than any may be; nothing is added then.
pub(super) fn encode(
    out: &mut Vec<u8>,
    mut head: Head,
    codec: Codec,
    cursor: &[u8],
    body: &[u8],
) -> Option<Head> {
    if cursor.len() > CURSOR_BYTES_MAX || body.len() > BODY_BYTES_MAX {
        return None;
    }
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(cursor);
    let stored_at = out.len();
    head.codec = compress(out, codec, body);
    head.cursor_bytes = u32::try_from(cursor.len()).ok()?;
    head.raw_bytes = u32::try_from(body.len()).ok()?;
    head.stored_bytes = u32::try_from(out.len() - stored_at).ok()?;
    let (_, frame) = out.split_at_mut(start);
    let (place, tail) = frame.split_first_chunk_mut::<HEAD_BYTES>()?;
    head.crc = crc32c::crc32c(tail);
    *place = head.to_bytes();
    Some(head)
}

/// Adds `body` to `out`, compressed if that makes it shorter; how it was stored.
fn compress(out: &mut Vec<u8>, codec: Codec, body: &[u8]) -> Codec {
    let start = out.len();
    let room = match codec {
        Codec::None => 0,
        Codec::Lz4 => lz4_flex::block::get_maximum_output_size(body.len()),
        Codec::Zstd => zstd::zstd_safe::compress_bound(body.len()),
    };
    out.resize(start + room, 0);
    let place = out.get_mut(start..).unwrap_or_default();
    let length = match codec {
        Codec::None => None,
        Codec::Lz4 => lz4_flex::block::compress_into(body, place).ok(),
        Codec::Zstd => zstd::bulk::compress_to_buffer(body, place, ZSTD_LEVEL).ok(),
    };
    match length {
        Some(length) if length < body.len() => {
            out.truncate(start + length);
            codec
        }
        _ => {
            out.truncate(start);
            out.extend_from_slice(body);
            Codec::None
        }
    }
}

/// A frame as it was read, its checksums proved.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) head: Head,
    pub(super) cursor: &'a [u8],
    stored: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Splits what stands behind `head`, after proving its sum.
    pub(super) fn new(head: Head, tail: &'a [u8]) -> Result<Self, &'static str> {
        if tail.len() != head.tail_bytes() {
            return Err(SHORT);
        }
        if crc32c::crc32c(tail) != head.crc {
            return Err("a frame does not match its checksum");
        }
        let (cursor, stored) = tail.split_at_checked(head.cursor_bytes as usize).ok_or(SHORT)?;
        Ok(Self { head, cursor, stored })
    }

    /// The body as it was before compression.
    pub(super) fn body(&self) -> Result<Cow<'a, [u8]>, &'static str> {
        const DAMAGED: &str = "the body of a frame cannot be decompressed";
        let length = self.head.raw_bytes as usize;
        let body = match self.head.codec {
            Codec::None => Cow::Borrowed(self.stored),
            Codec::Lz4 => {
                Cow::Owned(lz4_flex::block::decompress(self.stored, length).map_err(|_| DAMAGED)?)
            }
            Codec::Zstd => {
                Cow::Owned(zstd::bulk::decompress(self.stored, length).map_err(|_| DAMAGED)?)
            }
        };
        if body.len() == length { Ok(body) } else { Err(DAMAGED) }
    }
}
