//! What is in a log file, compressed or not, read at offsets of the text.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::cursor::{ContentProof, FileCursor};
use crate::proof::{HEAD_BYTES, head_len, proof, proof_of, tail_len};

use super::found::Found;

#[cfg(test)]
mod tests;

/// Bytes that are decompressed at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes before the last offset that a compressed file can be read at again without starting over.
const BACK_BYTES: u64 = 64 << 10;

/// The text of a log file.
#[derive(Debug)]
pub enum Content {
    /// As it is on disk.
    Plain(Arc<File>),
    /// Compressed with gzip.
    Compressed(Box<Unzip>),
}

impl Content {
    /// Of an open file.
    #[must_use]
    pub fn new(found: &Found) -> Self {
        let file = found.file.clone();
        if found.is_compressed {
            Self::Compressed(Box::new(Unzip::new(file)))
        } else {
            Self::Plain(file)
        }
    }

    /// The file, when it is one that may grow.
    #[must_use]
    pub fn plain(&self) -> Option<&File> {
        match self {
            Self::Plain(file) => Some(file),
            Self::Compressed(_) => None,
        }
    }

    /// Fills `buffer` from `offset` on, as far as there is text.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_full(file, buffer, offset),
            Self::Compressed(unzip) => unzip.read_at(buffer, offset),
        }
    }

    /// What proves that the text before `offset` is still the same; `None` when there is less.
    pub fn proof(&mut self, offset: u64) -> io::Result<Option<ContentProof>> {
        if let Self::Plain(file) = self {
            return proof_of(file, offset);
        }
        let (Some(head), Some(tail)) = (
            self.piece(0, head_len(offset))?,
            self.piece(offset - tail_len(offset) as u64, tail_len(offset))?,
        ) else {
            return Ok(None);
        };
        Ok(Some(proof(&head, &tail)))
    }

    /// Whether the text before the cursor's place is what the cursor proves.
    pub fn holds(&mut self, at: &FileCursor) -> io::Result<bool> {
        Ok(self.proof(at.offset)?.is_some_and(|found| found == at.proof))
    }

    /// The beginning, as far as the head of a proof goes.
    pub fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; HEAD_BYTES];
        let length = self.read_at(&mut head, 0)?;
        head.truncate(length);
        Ok(head)
    }

    fn piece(&mut self, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        let is_whole = self.read_at(&mut bytes, offset)? == length;
        Ok(is_whole.then_some(bytes))
    }
}

/// `pread(2)` until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A compressed file and the part of its text that was read last.
#[derive(Debug)]
pub struct Unzip {
    file: Arc<File>,
    decoder: MultiGzDecoder<BufReader<FromStart>>,
    window: Vec<u8>,
    /// Offset of the window.
    start: u64,
    /// The beginning, once it was passed: every proof needs it, and going back to it starts over.
    head: Vec<u8>,
}

impl Unzip {
    fn new(file: Arc<File>) -> Self {
        let reader = BufReader::new(FromStart { file: file.clone(), offset: 0 });
        Self {
            file,
            decoder: MultiGzDecoder::new(reader),
            window: Vec::new(),
            start: 0,
            head: Vec::new(),
        }
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let in_head = usize::try_from(offset).ok().and_then(|from| self.head.get(from..));
        if let Some(text) = in_head.and_then(|head| head.get(..buffer.len())) {
            buffer.copy_from_slice(text);
            return Ok(buffer.len());
        }
        if offset < self.start {
            let head = std::mem::take(&mut self.head);
            *self = Self { head, ..Self::new(self.file.clone()) };
        }
        let wanted = offset + buffer.len() as u64;
        let mut piece = vec![0; PIECE_BYTES];
        while self.start + (self.window.len() as u64) < wanted {
            let length = match self.decoder.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.window.extend_from_slice(piece.get(..length).unwrap_or_default());
            let passed = offset.saturating_sub(BACK_BYTES).saturating_sub(self.start);
            let passed = usize::try_from(passed)
                .map_or(self.window.len(), |passed| passed.min(self.window.len()));
            if passed > PIECE_BYTES {
                if self.start == 0 {
                    self.head = self.window.get(..HEAD_BYTES).unwrap_or_default().to_vec();
                }
                self.window.drain(..passed);
                self.start += passed as u64;
            }
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let text = self.window.get(from..).unwrap_or_default();
        let length = text.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(text) {
            *to = *from;
        }
        Ok(length)
    }
}

/// Reads a file whose own position is somebody else's.
#[derive(Debug)]
struct FromStart {
    file: Arc<File>,
    offset: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}
