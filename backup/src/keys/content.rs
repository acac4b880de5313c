//! Content as age files: one for each pack.
//!
//! An age file is a header, which wraps the file's own key for each recipient, 16 bytes of nonce, and blocks of 64 KiB, each
//! with a tag of its own (the STREAM construction). So a part of a pack is read by fetching the header once and the blocks
//! that the part lies in. `age --decrypt` on a pack gives the pack as it is in a clear repository.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::rc::Rc;

use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use zeroize::Zeroizing;

use super::identity::Identities;
use super::recipient::Recipients;

#[cfg(test)]
mod tests;

/// Bytes of content in a block; only the last one is shorter.
const BLOCK_BYTES: u64 = 64 << 10;

/// Bytes of a block's tag.
const TAG_BYTES: u64 = 16;

/// Bytes at the start of a pack in which its header is looked for: that of sixteen recipients has two thousand.
pub const HEADER_BYTES_MAX: u64 = 8 << 10;

/// Why content cannot be encrypted, or read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The recipients do not go together.
    #[error("cannot encrypt for these recipients")]
    Recipients(#[source] Box<EncryptError>),
    /// Nothing that age writes.
    #[error("it has no age header that this program reads")]
    Header,
    /// Another private half is needed.
    #[error("no identity that was given reads it: it is encrypted for others")]
    Identity,
    /// A block is not what was written, or not in its place.
    #[error("its encryption is damaged: it was cut, or changed, or a part of it was moved")]
    Block,
    /// A part that is not there.
    #[error("it is shorter than its index says")]
    Range,
    /// What is encrypted cannot be written.
    #[error("cannot encrypt")]
    Write(#[source] io::Error),
}

/// Takes what an encryptor gives, for who reads on while it is written.
#[derive(Clone, Default)]
struct Taken(Rc<RefCell<Vec<u8>>>);

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Taken {
    fn length(&self) -> usize {
        self.0.borrow().len()
    }

    /// Moves what was taken to `at` in `into`, and says where that ends.
    fn move_to(&self, into: &mut [u8], at: usize) -> Result<usize, ContentError> {
        let mut taken = self.0.borrow_mut();
        let end = at + taken.len();
        into.get_mut(at..end).ok_or(ContentError::Range)?.copy_from_slice(&taken);
        taken.clear();
        Ok(end)
    }
}

/// Encrypts what is written from here on into `into`. It opens only when its end was told ([`StreamWriter::finish`]).
pub fn seal_into<W: Write>(
    recipients: &Recipients,
    into: W,
) -> Result<StreamWriter<W>, ContentError> {
    let encryptor = Encryptor::with_recipients(recipients.all())
        .map_err(|error| ContentError::Recipients(Box::new(error)))?;
    encryptor.wrap_output(into).map_err(ContentError::Write)
}

/// Encrypts in the memory of `content`: a pack is not held twice.
pub fn seal(recipients: &Recipients, mut content: Vec<u8>) -> Result<Vec<u8>, ContentError> {
    let taken = Taken::default();
    let mut writer = seal_into(recipients, taken.clone())?;
    let length = content.len();
    let blocks = (length as u64).div_ceil(BLOCK_BYTES).max(1);
    let growth = taken.length() + usize::try_from(blocks * TAG_BYTES).unwrap_or(usize::MAX);
    // What is encrypted is written from the start, and never gets past what is still to be read: it is longer by `growth` at
    // the very end.
    content.resize(length + growth, 0);
    content.copy_within(..length, growth);
    let mut block = Zeroizing::new(Vec::with_capacity(BLOCK_BYTES as usize));
    let mut end = taken.move_to(&mut content, 0)?;
    let mut next = growth;
    while next < content.len() {
        let until = (next + BLOCK_BYTES as usize).min(content.len());
        block.clear();
        block.extend_from_slice(content.get(next..until).unwrap_or_default());
        writer.write_all(&block).map_err(ContentError::Write)?;
        end = taken.move_to(&mut content, end)?;
        next = until;
    }
    writer.finish().map_err(ContentError::Write)?;
    end = taken.move_to(&mut content, end)?;
    content.truncate(end);
    Ok(content)
}

/// Decrypts a whole pack.
pub fn open(identities: &Identities, stored: &[u8]) -> Result<Vec<u8>, ContentError> {
    Header::read_of(stored)?;
    let decryptor = Decryptor::new_buffered(stored).map_err(|error| of_header(&error))?;
    let mut reader = decryptor.decrypt(identities.all()).map_err(|error| of_header(&error))?;
    let mut content = Vec::with_capacity(stored.len());
    reader.read_to_end(&mut content).map_err(|_| ContentError::Block)?;
    Ok(content)
}

/// Decrypts a whole pack, with zeros in the place of blocks that are damaged. Says whether any was.
pub fn open_leniently(
    identities: &Identities,
    stored: &[u8],
) -> Result<(Vec<u8>, bool), ContentError> {
    if let Ok(content) = open(identities, stored) {
        return Ok((content, false));
    }
    let header = Header::read_of(stored)?;
    let length = header.content_bytes(stored.len() as u64)?;
    let mut content = Vec::with_capacity(stored.len());
    let mut from = 0;
    while from < length {
        let part = Part::new(&header, stored.len() as u64, from..(from + BLOCK_BYTES).min(length))?;
        let range = part.stored.start as usize..part.stored.end as usize;
        let block = stored.get(range).ok_or(ContentError::Range)?;
        match part.open(&header, identities, block) {
            Ok(block) => content.extend_from_slice(&block),
            Err(ContentError::Block) => {
                let bytes = (part.content.end - part.content.start) as usize;
                content.resize(content.len() + bytes, 0);
            }
            Err(error) => return Err(error),
        }
        from += BLOCK_BYTES;
    }
    Ok((content, true))
}

/// The header of an age file, and its nonce.
#[derive(Clone, Debug)]
pub struct Header(Box<[u8]>);

impl Header {
    /// Finds it in the first bytes of a pack, at most [`HEADER_BYTES_MAX`].
    pub fn read(start: &[u8]) -> Result<Self, ContentError> {
        let mut cursor = Cursor::new(start);
        Decryptor::new_buffered(&mut cursor).map_err(|error| of_header(&error))?;
        let length = usize::try_from(cursor.position()).map_err(|_| ContentError::Header)?;
        start.get(..length).map(|header| Self(header.into())).ok_or(ContentError::Header)
    }

    /// That of a whole age file. age takes time that grows with the square of a header's length, so a long one is not given to it.
    pub fn read_of(stored: &[u8]) -> Result<Self, ContentError> {
        Self::read(stored.get(..HEADER_BYTES_MAX as usize).unwrap_or(stored))
    }

    /// For how many X25519 recipients it is. Who they are, it does not tell.
    #[must_use]
    pub fn recipients(&self) -> usize {
        let lines = self.0.split(|byte| *byte == b'\n');
        lines.filter(|line| line.starts_with(b"-> X25519 ")).count()
    }

    /// Length of the content of a pack of `stored` bytes.
    pub fn content_bytes(&self, stored: u64) -> Result<u64, ContentError> {
        let blocks = stored.checked_sub(self.0.len() as u64).ok_or(ContentError::Range)?;
        let count = blocks.div_ceil(BLOCK_BYTES + TAG_BYTES).max(1);
        blocks.checked_sub(count * TAG_BYTES).ok_or(ContentError::Range)
    }
}

/// A part of the content of a pack, and where it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    content: Range<u64>,
    /// The bytes of the pack to fetch: whole blocks.
    pub stored: Range<u64>,
}

impl Part {
    /// The bytes `content` of a pack of `stored` bytes. It must not be empty.
    pub fn new(header: &Header, stored: u64, content: Range<u64>) -> Result<Self, ContentError> {
        if content.start >= content.end || content.end > header.content_bytes(stored)? {
            return Err(ContentError::Range);
        }
        let start = header.0.len() as u64;
        let blocks = content.start / BLOCK_BYTES..content.end.div_ceil(BLOCK_BYTES);
        let from = start + blocks.start * (BLOCK_BYTES + TAG_BYTES);
        let until = (start + blocks.end * (BLOCK_BYTES + TAG_BYTES)).min(stored);
        Ok(Self { content, stored: from..until })
    }

    /// Decrypts what was fetched, exactly [`Self::stored`].
    pub fn open(
        &self,
        header: &Header,
        identities: &Identities,
        fetched: &[u8],
    ) -> Result<Vec<u8>, ContentError> {
        if fetched.len() as u64 != self.stored.end - self.stored.start {
            return Err(ContentError::Range);
        }
        let window = Window { header: &header.0, from: self.stored.start, fetched, at: 0 };
        let decryptor = Decryptor::new(window).map_err(|error| of_header(&error))?;
        let mut reader = decryptor.decrypt(identities.all()).map_err(|error| of_header(&error))?;
        // To the first block by its second byte: for the first byte of a block, age would ask for the last block of the file,
        // which was not fetched. Within a block it does not.
        let first = self.content.start - self.content.start % BLOCK_BYTES;
        let mut content = vec![0; (self.content.end - self.content.start) as usize];
        reader
            .seek(SeekFrom::Start(first + 1))
            .and_then(|_| reader.seek(SeekFrom::Start(self.content.start)))
            .and_then(|_| reader.read_exact(&mut content))
            .map_err(|_| ContentError::Block)?;
        Ok(content)
    }
}

/// A file of which the header and some blocks are there.
struct Window<'a> {
    header: &'a [u8],
    /// Where in the file the blocks begin.
    from: u64,
    fetched: &'a [u8],
    at: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = match self.at.checked_sub(self.from) {
            Some(at) => usize::try_from(at).ok().and_then(|at| self.fetched.get(at..)),
            None => usize::try_from(self.at).ok().and_then(|at| self.header.get(at..)),
        };
        let read = rest.unwrap_or_default().read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        }
        .ok_or(io::ErrorKind::Unsupported)?;
        Ok(self.at)
    }
}

fn of_header(error: &DecryptError) -> ContentError {
    match error {
        DecryptError::NoMatchingKeys => ContentError::Identity,
        DecryptError::InvalidMac | DecryptError::KeyDecryptionFailed => ContentError::Block,
        _ => ContentError::Header,
    }
}
