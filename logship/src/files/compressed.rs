//! The content of a compressed file, forwards only.

use std::fs::File;
use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

use crate::files::patterns::Compression;

#[cfg(test)]
mod tests;

/// Bytes behind the front that stay readable: more than a turn needs.
const KEPT_BYTES: usize = 1 << 20;

/// Bytes that are decompressed at once.
const STEP_BYTES: usize = 64 << 10;

/// Largest window of a zstd frame that is accepted, as a power of two of bytes: what `zstd --long` makes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A compressed file that is read from its beginning to its end.
pub(super) struct Decompressed {
    decoder: Box<dyn Read + Send>,
    /// The last bytes that came out.
    kept: Vec<u8>,
    /// The place of the first of them.
    start: u64,
    is_end: bool,
}

impl std::fmt::Debug for Decompressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressed").field("front", &self.front()).finish_non_exhaustive()
    }
}

impl Decompressed {
    /// Nothing is read yet.
    pub(super) fn new(file: File, compression: Compression) -> io::Result<Self> {
        let decoder: Box<dyn Read + Send> = match compression {
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::new(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Self { decoder, kept: Vec::new(), start: 0, is_end: false })
    }

    /// How far it is decompressed.
    #[must_use]
    pub(super) fn front(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    /// Goes on to `offset`; `false` when it ends before.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        while self.front() < offset && !self.is_end {
            let left = usize::try_from(offset - self.front()).unwrap_or(STEP_BYTES);
            self.step(left.min(STEP_BYTES))?;
        }
        Ok(self.front() >= offset)
    }

    /// `length` bytes at `from`, if they are kept.
    #[must_use]
    pub(super) fn kept(&self, from: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(from.checked_sub(self.start)?).ok()?;
        self.kept.get(from..from + length)
    }

    /// Fills `into` with what begins at `from`, which is kept. The number of bytes, and whether they are the last.
    pub(super) fn window(&mut self, from: u64, into: &mut [u8]) -> io::Result<(usize, bool)> {
        let wanted = from + into.len() as u64;
        self.skip_to(wanted)?;
        let found = usize::try_from(self.front().min(wanted).saturating_sub(from)).unwrap_or(0);
        let bytes = self
            .kept(from, found)
            .ok_or_else(|| io::Error::other("what comes before the front is not kept any more"))?;
        into.get_mut(..found).unwrap_or_default().copy_from_slice(bytes);
        Ok((found, self.is_end && self.front() <= wanted))
    }

    fn step(&mut self, length: usize) -> io::Result<()> {
        if self.kept.len() + length > 2 * KEPT_BYTES {
            let dropped = self.kept.len() - KEPT_BYTES;
            self.kept.drain(..dropped);
            self.start += dropped as u64;
        }
        let before = self.kept.len();
        self.kept.resize(before + length, 0);
        let found = match self.decoder.read(self.kept.get_mut(before..).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.kept.truncate(before);
                return Ok(());
            }
            done => done,
        };
        self.kept.truncate(before + found.as_ref().copied().unwrap_or(0));
        self.is_end = found? == 0;
        Ok(())
    }
}
