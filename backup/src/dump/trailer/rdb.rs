//! RDB files (Redis source, `rdb.c`): `REDIS` and four digits, or `VALKEY` and three (Valkey 9), values, the byte `0xFF`, and from version 5 on
//! the CRC64 of all of it, little-endian, 0 from a server that was told to write none.
//!
//! A server that sends without a file puts 40 random digits behind it, which `redis-cli --rdb -` lets through:
//! they are taken off here.

use crc_fast::{CrcAlgorithm, Digest};

use super::Flaw;

const CRC_BYTES: usize = 8;
/// `CONFIG_RUN_ID_SIZE` of the server.
const MARK_BYTES: usize = 40;
/// What may be the end: the last opcode, its checksum, the mark.
const TAIL_BYTES: usize = 1 + CRC_BYTES + MARK_BYTES;
const MAGICS: [&[u8]; 2] = [b"REDIS", b"VALKEY"];
const START_BYTES: usize = 6;
const OPCODE_EOF: u8 = 0xff;

/// Computes and compares.
pub(in super::super) struct Rdb {
    start: Vec<u8>,
    digest: Digest,
    tail: Vec<u8>,
}

impl std::fmt::Debug for Rdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rdb").field("start", &self.start).finish_non_exhaustive()
    }
}

impl Default for Rdb {
    fn default() -> Self {
        let digest = Digest::new(CrcAlgorithm::Crc64Redis);
        Self { start: Vec::new(), digest, tail: Vec::new() }
    }
}

impl Rdb {
    pub(super) fn push<E>(
        &mut self,
        bytes: &[u8],
        pass: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let missing = START_BYTES.saturating_sub(self.start.len());
        self.start.extend(bytes.iter().take(missing));
        self.tail.extend_from_slice(bytes);
        let sure = self.tail.len().saturating_sub(TAIL_BYTES);
        let (known, tail) = self.tail.split_at_checked(sure).unwrap_or_default();
        self.digest.update(known);
        pass(known)?;
        let tail = tail.to_vec();
        self.tail = tail;
        Ok(())
    }

    pub(super) fn finish<E>(
        self,
        pass: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<&'static str, Flaw>, E> {
        if !MAGICS.iter().any(|magic| self.start.starts_with(magic)) {
            pass(&self.tail)?;
            return Ok(Err(Flaw::new("it is no RDB file")));
        }
        let unmarked = self.tail.len().checked_sub(MARK_BYTES);
        let marked = unmarked.and_then(|length| self.tail.split_at_checked(length));
        let marked = marked.filter(|(_, mark)| mark.iter().all(u8::is_ascii_hexdigit));
        let ends = [Some(self.tail.as_slice()), marked.map(|(end, _)| end)];
        for end in ends.into_iter().flatten() {
            if let Some(proved) = self.proved_by(end) {
                pass(end)?;
                return Ok(Ok(proved));
            }
        }
        pass(&self.tail)?;
        Ok(Err(Flaw::new("its checksum is wrong or it has no end")))
    }

    /// What is proved when these are the last bytes.
    fn proved_by(&self, end: &[u8]) -> Option<&'static str> {
        let (before, crc) = end.split_at_checked(end.len().checked_sub(CRC_BYTES)?)?;
        if *before.last()? != OPCODE_EOF {
            return None;
        }
        let wanted = u64::from_le_bytes(crc.try_into().ok()?);
        let mut digest = self.digest;
        digest.update(before);
        match wanted {
            0 => Some("rdb-eof"),
            wanted if digest.finalize() == wanted => Some("rdb-crc64"),
            _ => None,
        }
    }
}
