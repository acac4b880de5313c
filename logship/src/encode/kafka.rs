//! The protocol of Kafka (kafka.apache.org/protocol) as far as a producer needs it: `Produce` 3, `Metadata` 1,
//! `InitProducerId` 0, `SaslHandshake` 1, `SaslAuthenticate` 0, and record batches of version 2.

use std::io;

use crate::block::{put_varint, zigzag};

#[cfg(test)]
mod tests;

/// Most entries of a list that is believed: partitions and brokers are fewer.
const LIST_MAX: usize = 100_000;

/// What is asked, with the version in which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Stores a batch.
    Produce,
    /// Tells brokers and leaders.
    Metadata,
    /// Gives a producer its number.
    InitProducerId,
    /// Agrees on a way to log in.
    SaslHandshake,
    /// Logs in.
    SaslAuthenticate,
}

impl Api {
    fn key_and_version(self) -> (i16, i16) {
        match self {
            Self::Produce => (0, 3),
            Self::Metadata => (3, 1),
            Self::InitProducerId => (22, 0),
            Self::SaslHandshake => (17, 1),
            Self::SaslAuthenticate => (36, 0),
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes());
}

/// A request with its length in front. `number` comes back in the answer.
#[must_use]
pub fn request(api: Api, number: i32, body: &[u8]) -> Vec<u8> {
    let (key, version) = api.key_and_version();
    let mut head = Vec::new();
    head.extend_from_slice(&key.to_be_bytes());
    head.extend_from_slice(&version.to_be_bytes());
    head.extend_from_slice(&number.to_be_bytes());
    put_text(&mut head, "logship");
    let mut out = Vec::with_capacity(4 + head.len() + body.len());
    put_len(&mut out, head.len() + body.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    out
}

/// Asks for the partitions of a topic.
#[must_use]
pub fn metadata_request(topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_len(&mut out, 1);
    put_text(&mut out, topic);
    out
}

/// Asks for a number; no transactions.
#[must_use]
pub fn producer_request(timeout_ms: i32) -> Vec<u8> {
    let mut out = (-1_i16).to_be_bytes().to_vec();
    out.extend_from_slice(&timeout_ms.to_be_bytes());
    out
}

/// Wants to log in by `PLAIN` (RFC 4616).
#[must_use]
pub fn handshake_request() -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, "PLAIN");
    out
}

/// Logs in.
#[must_use]
pub fn login_request(user: &str, password: &str) -> Vec<u8> {
    let token = format!("\0{user}\0{password}");
    let mut out = Vec::new();
    put_len(&mut out, token.len());
    out.extend_from_slice(token.as_bytes());
    out
}

/// Stores a batch in a partition, on all replicas that are in step.
#[must_use]
pub fn produce_request(topic: &str, partition: i32, batch: &[u8], timeout_ms: i32) -> Vec<u8> {
    let mut out = (-1_i16).to_be_bytes().to_vec();
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    out.extend_from_slice(&timeout_ms.to_be_bytes());
    put_len(&mut out, 1);
    put_text(&mut out, topic);
    put_len(&mut out, 1);
    out.extend_from_slice(&partition.to_be_bytes());
    put_len(&mut out, batch.len());
    out.extend_from_slice(batch);
    out
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// In milliseconds since 1970.
    pub time_ms: i64,
    /// What partitions and compaction go by.
    pub key: &'a [u8],
    /// What it says.
    pub value: &'a [u8],
}

/// Who sends, and the number of the first message of a batch among all that it sent to a partition: brokers store
/// a batch of the same numbers once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// As the broker gave it.
    pub id: i64,
    /// Likewise.
    pub epoch: i16,
    /// Of the first message.
    pub sequence: i32,
}

/// A record batch of version 2 (KIP-98), compressed by gzip if asked for.
pub fn batch(messages: &[Message<'_>], producer: Producer, gzip: bool) -> io::Result<Vec<u8>> {
    let first = messages.first().map_or(0, |message| message.time_ms);
    let last = messages.iter().map(|message| message.time_ms).max().unwrap_or(first);
    let mut records = Vec::new();
    let mut record = Vec::new();
    for (offset, message) in (0_i64..).zip(messages) {
        record.clear();
        // Attributes, of which there are none yet.
        record.push(0);
        put_signed(&mut record, message.time_ms.wrapping_sub(first));
        put_signed(&mut record, offset);
        for bytes in [message.key, message.value] {
            put_signed(&mut record, bytes.len() as i64);
            record.extend_from_slice(bytes);
        }
        // No headers.
        put_signed(&mut record, 0);
        put_signed(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let (attributes, records) = match gzip {
        false => (0_i16, records),
        true => (1, super::gzip(&records)?),
    };
    let count = i32::try_from(messages.len()).unwrap_or(i32::MAX);
    let mut summed = attributes.to_be_bytes().to_vec();
    summed.extend_from_slice(&(count - 1).to_be_bytes());
    summed.extend_from_slice(&first.to_be_bytes());
    summed.extend_from_slice(&last.to_be_bytes());
    summed.extend_from_slice(&producer.id.to_be_bytes());
    summed.extend_from_slice(&producer.epoch.to_be_bytes());
    summed.extend_from_slice(&producer.sequence.to_be_bytes());
    summed.extend_from_slice(&count.to_be_bytes());
    summed.extend_from_slice(&records);
    let mut out = 0_i64.to_be_bytes().to_vec();
    // Leader's epoch, version, checksum.
    put_len(&mut out, 4 + 1 + 4 + summed.len());
    out.extend_from_slice(&(-1_i32).to_be_bytes());
    out.push(2);
    out.extend_from_slice(&crc32c::crc32c(&summed).to_be_bytes());
    out.extend_from_slice(&summed);
    Ok(out)
}

/// Zigzag and LEB128, as protocol buffers have them.
fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Bytes that are no answer to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker's answer is none to what was asked")]
pub struct Gibberish;

/// Takes an answer apart.
#[derive(Debug, Clone, Copy)]
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Gibberish> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Gibberish)?;
        self.0 = rest;
        Ok(head)
    }

    fn number<const N: usize>(&mut self) -> Result<i64, Gibberish> {
        let bytes = self.take(N)?;
        let sign = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        let start = if sign { -1 } else { 0 };
        Ok(bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte)))
    }

    fn int(&mut self) -> Result<i32, Gibberish> {
        i32::try_from(self.number::<4>()?).map_err(|_| Gibberish)
    }

    fn short(&mut self) -> Result<i16, Gibberish> {
        i16::try_from(self.number::<2>()?).map_err(|_| Gibberish)
    }

    /// Absent, it is empty.
    fn text(&mut self) -> Result<String, Gibberish> {
        let len = usize::try_from(self.short()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Gibberish>,
    ) -> Result<Vec<T>, Gibberish> {
        let len = usize::try_from(self.int()?).unwrap_or(0);
        if len > LIST_MAX {
            return Err(Gibberish);
        }
        (0..len).map(|_| item(self)).collect()
    }
}

/// Who leads what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Number, host and port of each broker.
    pub brokers: Vec<(i32, String, u16)>,
    /// What is wrong with the topic; 0: nothing.
    pub error: i16,
    /// Number and leader of each partition, in order.
    pub partitions: Vec<(i32, i32)>,
}

/// The answer to [`metadata_request`].
pub fn metadata(bytes: &[u8]) -> Result<Metadata, Gibberish> {
    let mut answer = Answer(bytes);
    let brokers = answer.list(|answer| {
        let (node, host, port) = (answer.int()?, answer.text()?, answer.int()?);
        answer.text()?;
        Ok((node, host, u16::try_from(port).map_err(|_| Gibberish)?))
    })?;
    answer.int()?;
    let mut topics = answer.list(|answer| {
        let error = answer.short()?;
        answer.text()?;
        answer.take(1)?;
        let mut partitions = answer.list(|answer| {
            answer.short()?;
            let partition = (answer.int()?, answer.int()?);
            answer.list(Answer::int)?;
            answer.list(Answer::int)?;
            Ok(partition)
        })?;
        partitions.sort_unstable();
        Ok((error, partitions))
    })?;
    let (error, partitions) = topics.pop().ok_or(Gibberish)?;
    Ok(Metadata { brokers, error, partitions })
}

/// The answer to [`producer_request`]: an error, or 0 and who we are.
pub fn producer(bytes: &[u8]) -> Result<(i16, Producer), Gibberish> {
    let mut answer = Answer(bytes);
    answer.int()?;
    let error = answer.short()?;
    let (id, epoch) = (answer.number::<8>()?, answer.short()?);
    Ok((error, Producer { id, epoch, sequence: 0 }))
}

/// The answer to [`produce_request`] for one partition: its error, or 0.
pub fn produced(bytes: &[u8]) -> Result<i16, Gibberish> {
    let mut answer = Answer(bytes);
    let topics = answer.list(|answer| {
        answer.text()?;
        answer.list(|answer| {
            answer.int()?;
            let error = answer.short()?;
            answer.take(16)?;
            Ok(error)
        })
    })?;
    topics.into_iter().flatten().next().ok_or(Gibberish)
}

/// The answers to [`handshake_request`] and [`login_request`]: an error, or 0.
pub fn login(bytes: &[u8]) -> Result<i16, Gibberish> {
    Answer(bytes).short()
}

/// What an error means for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is stored, or was already.
    Stored,
    /// It is never stored as it is.
    Never,
    /// The broker does not know us any more.
    Stranger,
    /// Another broker may store it, or this one later.
    Later,
}

/// The fate of a batch, by its error (`org.apache.kafka.common.protocol.Errors`).
#[must_use]
pub fn fate(error: i16) -> Fate {
    match error {
        // DUPLICATE_SEQUENCE_NUMBER
        0 | 46 => Fate::Stored,
        // MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD
        10 | 18 | 87 => Fate::Never,
        // OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID
        45 | 47 | 59 => Fate::Stranger,
        _ => Fate::Later,
    }
}

/// An error in words.
#[must_use]
pub fn sentence(error: i16) -> String {
    let known = match error {
        3 => "the topic is not there, or may not be seen",
        5 | 6 => "another broker leads the partition",
        7 => "the replicas did not answer in time",
        10 | 18 => "it is longer than the topic allows",
        19 | 20 => "too few replicas are in step",
        29 => "writing to the topic is not allowed (the login is refused)",
        33 => "logging in by PLAIN is not offered",
        58 => "the login is refused",
        87 => "the topic refuses a record of it",
        _ => "see the list of error codes of Kafka",
    };
    format!("error {error}: {known}")
}
