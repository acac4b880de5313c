//! The other side of the conversation.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::retry_on_intr;

use crate::tally::Tally;

/// What is read and written at once. In bytes.
pub(super) const BUFFER: usize = 256 * 1024;
/// A line is no longer: a name of 255 bytes and two numbers, or what went wrong. In bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Words of our own about a file are cut at this. In bytes.
const WORDS_BYTES_MAX: usize = 4 * 1024;

/// Why a conversation ended early.
#[derive(Debug)]
pub(super) enum Ended {
    /// The other side does not hear us any more.
    Gone(#[expect(dead_code, reason = "for Debug: nobody is left to be told")] Option<io::Error>),
    /// The other side said that it cannot go on.
    Told,
    /// We cannot go on: it is told why.
    Wrong(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Gone(Some(error))
    }
}

/// See the module.
pub(super) struct Peer<'a> {
    input: BufReader<Stream<'a>>,
    output: Stream<'a>,
    failed: bool,
    /// Is told what is done to files.
    pub(super) tally: Tally,
}

impl<'a> Peer<'a> {
    pub(super) fn new(input: &'a impl AsFd, output: &'a impl AsFd, tally: Tally) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, Stream(input.as_fd())),
            output: Stream(output.as_fd()),
            failed: false,
            tally,
        }
    }

    /// Fails when what is done to files cannot be told any more: then nothing is.
    pub(super) fn check_told(&self) -> Result<(), Ended> {
        if self.tally.is_broken() { Err(Ended::Gone(None)) } else { Ok(()) }
    }

    /// Whether nothing went wrong on either side until now.
    pub(super) fn all_well(&self) -> bool {
        !self.failed
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        Ok(self.output.write_all(bytes)?)
    }

    /// Says that all is well so far.
    pub(super) fn accept(&mut self) -> Result<(), Ended> {
        self.send(b"\0")
    }

    /// Says what was not done; the conversation goes on.
    pub(super) fn refuse(&mut self, words: &[u8]) -> Result<(), Ended> {
        self.failed = true;
        self.send(&said(1, words))
    }

    /// Says why this is the end.
    pub(super) fn fatal(&mut self, words: &str) -> Result<(), Ended> {
        self.failed = true;
        self.send(&said(2, words.as_bytes()))
    }

    /// One byte, or `None` at the end.
    pub(super) fn byte(&mut self) -> Result<Option<u8>, Ended> {
        let byte = self.input.fill_buf()?.first().copied();
        self.input.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// The rest of a line, without its end.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, Ended> {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        (&mut self.input).take(most).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(line);
        }
        if line.len() >= LINE_BYTES_MAX {
            return Err(Ended::Wrong("protocol error: a line is too long".to_owned()));
        }
        Err(Ended::Gone(None))
    }

    /// The answer of a sink: whether it accepts.
    pub(super) fn accepted(&mut self) -> Result<bool, Ended> {
        match self.byte()? {
            Some(0) => Ok(true),
            Some(2) => Err(Ended::Told),
            // What is said is for people on the other side, who have seen it there.
            Some(_) => {
                self.line()?;
                self.failed = true;
                Ok(false)
            }
            None => Err(Ended::Gone(None)),
        }
    }

    /// Notes that the other side was not able to send something.
    pub(super) fn told_of_failure(&mut self) {
        self.failed = true;
    }

    /// Passes the next bytes on, as many as there are at once and `most` at most; returns how many.
    pub(super) fn pass(&mut self, most: u64, on: impl FnOnce(&[u8])) -> Result<u64, Ended> {
        let bytes = self.input.fill_buf()?;
        let length = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
        if length == 0 {
            return Err(Ended::Gone(None));
        }
        on(bytes.get(..length).unwrap_or_default());
        self.input.consume(length);
        Ok(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

/// One line, whatever the words hold.
fn said(kind: u8, words: &[u8]) -> Vec<u8> {
    let words = words.get(..WORDS_BYTES_MAX).unwrap_or(words);
    let mut line = vec![kind];
    line.extend_from_slice(b"scp: ");
    line.extend(words.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
    line.push(b'\n');
    line
}

/// A descriptor, read and written without a buffer.
struct Stream<'a>(BorrowedFd<'a>);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::read(self.0, &mut *buffer))?)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
