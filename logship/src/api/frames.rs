//! What the engine sends as the log of a container, cut into messages. Pure: bytes in, messages out.
//!
//! Without a terminal every message has a header of eight bytes: the stream (1 standard output, 2 standard
//! error, 3 an error of the engine), three zeros, and the length as a big-endian u32. With a terminal there is
//! none. Either way a message is `TIME SP bytes`, and a line longer than 16 KiB comes as several messages that
//! carry the time of the first and end without a line feed.
//!
//! With a terminal such a piece ends where the next time begins: a continuation has the very time of its line,
//! and whatever comes later has a later time, while a time that the program itself printed is nearly always
//! older than the one that the engine put before its line. A time beyond now is the program's too, unless it
//! stands where the engine cuts a line. What is left to doubt is a line with a time, written as the engine writes
//! it, that lay in the future then and no longer does: it is told in two parts.

use std::ops::RangeInclusive;

use memchr::{memchr, memmem};

use crate::record::Stream;
use crate::time;

#[cfg(test)]
mod tests;

/// Longest message, in bytes. Docker's are 16 KiB, three times that where it replaced bytes that are not
/// UTF-8; podman's are as long as its runtime cuts them.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Length at which the engine cuts a line into messages, in bytes (`defaultBufSize` of Docker's log copier).
const PIECE_BYTES: usize = 16 << 10;

/// Longest time before a message, in bytes: nine digits of a second, and an offset instead of `Z`.
const TIME_BYTES_MAX: usize = 40;

/// Bytes of an error of the engine that are kept.
const ERROR_BYTES_MAX: usize = 300;

const HEADER_BYTES: usize = 8;

/// Bytes that were handed out already are moved away when there are this many of them.
const COMPACT_BYTES: usize = 64 << 10;

/// How the messages of a container are told apart. Only the container itself knows (`Config.Tty`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Headers, two streams.
    Multiplexed,
    /// A terminal: no headers, one stream.
    Terminal,
}

/// A line or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// Nanoseconds since 1970, by the engine.
    pub ts: i64,
    /// Its bytes with the line feed; without one the line goes on.
    pub bytes: &'a [u8],
}

/// What is no message. The bytes after it mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The engine said so in the stream.
    #[error("the engine broke off the log: {0}")]
    Engine(String),
    /// A header that none can be.
    #[error("the log is not framed as the engine frames it")]
    Header,
    /// A length beyond [`MESSAGE_BYTES_MAX`].
    #[error("the log has a message of {0} bytes; {MESSAGE_BYTES_MAX} is the limit")]
    TooLong(usize),
    /// The body ended within a message.
    #[error("the log ends within a message")]
    Cut,
    /// There is no time where it must be.
    #[error("a message of the log does not begin with its time")]
    Time,
}

/// Cuts the body of one answer into messages, whatever its chunks are.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    buffer: Vec<u8>,
    /// Before it everything was handed out.
    start: usize,
    /// Terminal: after `start`, so many bytes are known to have no end in them.
    scanned: usize,
    /// Terminal: the message was too long for one, and goes on under this time.
    carried: Option<i64>,
    /// When the last bytes came.
    now: i64,
    clock: Clock,
}

impl Decoder {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let clock = Clock::default();
        Self { framing, buffer: Vec::new(), start: 0, scanned: 0, carried: None, now: 0, clock }
    }

    /// The next bytes of the body, which came at `now`, in nanoseconds since 1970.
    pub fn push(&mut self, chunk: &[u8], now: i64) {
        self.now = now;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start >= COMPACT_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message; `None` until more is pushed.
    pub fn message(&mut self) -> Option<Result<Message<'_>, FrameError>> {
        match self.framing {
            Framing::Multiplexed => self.next_framed(),
            Framing::Terminal => self.next_of_terminal(false),
        }
    }

    /// After the body ended: what a terminal left without a line end, or that the end is none. To be called until
    /// it is `None`.
    pub fn finish(&mut self) -> Option<Result<Message<'_>, FrameError>> {
        match self.framing {
            Framing::Multiplexed if self.is_cut() => {
                self.start = self.buffer.len();
                Some(Err(FrameError::Cut))
            }
            Framing::Multiplexed => self.next_framed(),
            Framing::Terminal => self.next_of_terminal(true),
        }
    }

    /// Whether what is left is the begin of a message only.
    fn is_cut(&self) -> bool {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        match rest.split_first_chunk::<HEADER_BYTES>() {
            Some(([.., a, b, c, d], rest)) => {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                length <= MESSAGE_BYTES_MAX && rest.len() < length
            }
            None => !rest.is_empty(),
        }
    }

    fn next_framed(&mut self) -> Option<Result<Message<'_>, FrameError>> {
        let rest = self.buffer.get(self.start..)?;
        let (header, rest) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, zeros @ .., a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let stream = match kind {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::Console,
            _ => return Some(Err(FrameError::Header)),
        };
        if zeros != [0; 3] {
            return Some(Err(FrameError::Header));
        }
        if length > MESSAGE_BYTES_MAX {
            return Some(Err(FrameError::TooLong(length)));
        }
        let message = rest.get(..length)?;
        self.start += HEADER_BYTES + length;
        if kind == 3 {
            return Some(Err(engine_error(message)));
        }
        Some(match self.clock.split(message) {
            Some((ts, bytes)) => Ok(Message { stream, ts, bytes }),
            None => Err(FrameError::Time),
        })
    }

    fn next_of_terminal(&mut self, is_end: bool) -> Option<Result<Message<'_>, FrameError>> {
        let rest = self.buffer.get(self.start..).filter(|rest| !rest.is_empty())?;
        let (ts, prefix) = match self.carried {
            Some(ts) => (ts, 0),
            None => match self.clock.split(rest) {
                Some((ts, bytes)) => (ts, rest.len() - bytes.len()),
                // Errors of the engine have no time; whether it is one shows at the end of the line.
                None if memchr(b'\n', rest).is_some() || rest.len() > TIME_BYTES_MAX || is_end => {
                    return Some(Err(engine_error(rest)));
                }
                None => return None,
            },
        };
        let body = rest.get(prefix..)?;
        let (length, is_whole) = match end_of_terminal(body, self.scanned, ts..=self.now) {
            Some(length) if length <= MESSAGE_BYTES_MAX => (length, true),
            _ if body.len() >= MESSAGE_BYTES_MAX => (MESSAGE_BYTES_MAX, false),
            _ if is_end => (body.len(), true),
            _ => {
                self.scanned = body.len().saturating_sub(time::STAMP_BYTES + 1);
                return None;
            }
        };
        let at = self.start + prefix;
        self.start = at + length;
        self.scanned = 0;
        self.carried = (!is_whole).then_some(ts);
        let bytes = self.buffer.get(at..at + length)?;
        Some(Ok(Message { stream: Stream::Console, ts, bytes }))
    }
}

/// Where the message that begins `body` ends: after its line feed, or where the next time begins. The first
/// `scanned` bytes are known to have no end in them; the next time is one of `times`.
fn end_of_terminal(body: &[u8], scanned: usize, times: RangeInclusive<i64>) -> Option<usize> {
    let fresh = body.get(scanned..)?;
    let line = memchr(b'\n', fresh).map(|at| scanned + at + 1);
    let text = body.get(scanned..line.unwrap_or(body.len()))?;
    let next = memmem::find_iter(text, b"Z ").find_map(|at| {
        let begin = (scanned + at + 1).checked_sub(time::STAMP_BYTES)?;
        let stamp = body.get(begin..scanned + at + 1)?;
        // With nothing before it, it is part of the text: no message of the engine is empty here.
        let ts = time::parse(stamp).filter(|_| begin > 0)?;
        let is_next = times.contains(&ts) || (begin == PIECE_BYTES && ts >= *times.start());
        is_next.then_some(begin)
    });
    next.or(line)
}

fn engine_error(text: &[u8]) -> FrameError {
    let text = text.get(..text.len().min(ERROR_BYTES_MAX)).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.trim().strip_prefix("Error grabbing logs: ").unwrap_or(text.trim());
    FrameError::Engine(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Bytes of a time up to the point before the digits of the second.
const SECOND_BYTES: usize = 20;

/// Reads times; neighbours share the second.
#[derive(Debug, Default)]
struct Clock {
    second: [u8; SECOND_BYTES],
    ts: i64,
}

impl Clock {
    /// The time before the first space, and what is after it.
    fn split<'a>(&mut self, message: &'a [u8]) -> Option<(i64, &'a [u8])> {
        if let Some((head, rest)) = message.split_first_chunk::<SECOND_BYTES>()
            && *head == self.second
            && let Some((digits, [b'Z', b' ', bytes @ ..])) = rest.split_first_chunk::<9>()
        {
            let value = digits.iter().try_fold(0, |value, byte| {
                byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
            });
            return Some((self.ts + value?, bytes));
        }
        let end = memchr(b' ', message.get(..message.len().min(TIME_BYTES_MAX))?)?;
        let ts = time::parse(message.get(..end)?)?;
        if let Some(head) = message.first_chunk::<SECOND_BYTES>()
            && let [.., b'.'] = head
            && end == time::STAMP_BYTES
        {
            self.second = *head;
            self.ts = ts - ts.rem_euclid(time::SECOND);
        }
        Some((ts, message.get(end + 1..)?))
    }
}
