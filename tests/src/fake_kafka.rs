//! A fake broker of Kafka, made from the public protocol (<https://kafka.apache.org/protocol>): one broker that leads
//! both partitions of the topic `logs`, and what librdkafka's mock brokers cannot: SASL PLAIN, records that a topic refuses,
//! and TLS, by whatever stands in front of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::fake_collectors::{FakeStream, Kept, POISON, lock};

/// Partitions of the topic.
const PARTITIONS: i32 = 2;

/// Keys of the requests that are known (`Produce`, `Metadata`, `SaslHandshake`, `InitProducerId`, `SaslAuthenticate`).
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const INIT_PRODUCER_ID: i16 = 22;
const SASL_AUTHENTICATE: i16 = 36;

/// Errors (`org.apache.kafka.common.protocol.Errors`).
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const DUPLICATE_SEQUENCE: i16 = 46;
const SASL_FAILED: i16 = 58;
const INVALID_RECORD: i16 = 87;

/// A broker that lasts as long as this value.
#[derive(Debug)]
pub struct FakeKafka {
    stream: FakeStream,
    advertised: Arc<AtomicU16>,
}

/// What a broker remembers of producers: the number of the next record, by producer and partition.
type Producers = Mutex<BTreeMap<(i64, i32), i32>>;

impl FakeKafka {
    /// Starts it; only who logs in as this user is let in.
    #[must_use]
    pub fn start(user: &str, password: &str) -> Self {
        let login = format!("\0{user}\0{password}");
        let advertised = Arc::new(AtomicU16::new(0));
        let (port, producers) = (advertised.clone(), Producers::default());
        let stream = FakeStream::start(move |stream, kept| {
            let port = port.load(SeqCst);
            serve(stream, kept, &producers, &login, port)
        });
        advertised.store(stream.port(), SeqCst);
        Self { stream, advertised }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.stream.port()
    }

    /// Clients are told this port of `localhost`, where something stands that hands on to it.
    pub fn is_behind(&self, port: u16) {
        self.advertised.store(port, SeqCst);
    }

    /// The lines in the order in which they came.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.stream.lines()
    }
}

/// Takes a request apart.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes(2).try_into().expect("as the protocol has it"))
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().expect("as the protocol has it"))
    }

    fn long(&mut self) -> i64 {
        i64::from_be_bytes(self.bytes(8).try_into().expect("as the protocol has it"))
    }

    fn text(&mut self) -> &'a str {
        let length = usize::try_from(self.short()).unwrap_or(0);
        std::str::from_utf8(self.bytes(length)).expect("as the protocol has it")
    }

    fn blob(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.int()).unwrap_or(0);
        self.bytes(length)
    }

    /// Zigzag and LEB128.
    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.bytes(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            }
        }
    }

    fn varbytes(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.varint()).unwrap_or(0);
        self.bytes(length)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(i16::try_from(text.len()).expect("as the protocol has it").to_be_bytes());
    out.extend(text.as_bytes());
}

/// Answers until the client leaves or is not let in.
fn serve(
    mut stream: TcpStream,
    kept: &Mutex<Kept>,
    producers: &Producers,
    login: &str,
    port: u16,
) -> Option<()> {
    let mut is_known = false;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut request = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
        stream.read_exact(&mut request).ok()?;
        let mut words = Words(&request);
        let (api, version, number) = (words.short(), words.short(), words.int());
        words.text();
        let mut answer = Vec::new();
        let mut is_last = false;
        match (api, version) {
            (SASL_HANDSHAKE, 1) => {
                assert_eq!(words.text(), "PLAIN");
                answer.extend(0_i16.to_be_bytes());
                answer.extend(1_i32.to_be_bytes());
                put_text(&mut answer, "PLAIN");
            }
            (SASL_AUTHENTICATE, 0) => {
                is_known = words.blob() == login.as_bytes();
                is_last = !is_known;
                answer.extend(if is_known { 0 } else { SASL_FAILED }.to_be_bytes());
                put_text(&mut answer, "as told");
                answer.extend(0_i32.to_be_bytes());
            }
            // As real brokers do, it ends the connection of who does not begin with a login.
            _ if !is_known => return None,
            (METADATA, 1) => put_metadata(&mut answer, port),
            (INIT_PRODUCER_ID, 0) => {
                let id = i64::try_from(producers.lock().expect("nobody has panicked").len())
                    .expect("as the protocol has it")
                    + 1000;
                answer.extend([0; 6]);
                answer.extend(id.to_be_bytes());
                answer.extend(0_i16.to_be_bytes());
            }
            (PRODUCE, 3) => produce(&mut answer, &mut words, kept, producers),
            unknown => panic!("a request that is not known: {unknown:?}"),
        }
        let length = i32::try_from(4 + answer.len()).expect("as the protocol has it");
        stream.write_all(&length.to_be_bytes()).ok()?;
        stream.write_all(&number.to_be_bytes()).ok()?;
        stream.write_all(&answer).ok()?;
        if is_last {
            return None;
        }
    }
}

fn put_metadata(out: &mut Vec<u8>, port: u16) {
    let (node, none) = (7_i32, -1_i16);
    // Brokers: this one, in no rack; it is the controller.
    out.extend(1_i32.to_be_bytes());
    out.extend(node.to_be_bytes());
    put_text(out, "localhost");
    out.extend(i32::from(port).to_be_bytes());
    out.extend(none.to_be_bytes());
    out.extend(node.to_be_bytes());
    // Topics.
    out.extend(1_i32.to_be_bytes());
    out.extend(0_i16.to_be_bytes());
    put_text(out, "logs");
    out.push(0);
    out.extend(PARTITIONS.to_be_bytes());
    for partition in 0..PARTITIONS {
        out.extend(0_i16.to_be_bytes());
        out.extend(partition.to_be_bytes());
        out.extend(node.to_be_bytes());
        // Replicas, and those in step.
        for _ in 0..2 {
            out.extend(1_i32.to_be_bytes());
            out.extend(node.to_be_bytes());
        }
    }
}

fn produce(out: &mut Vec<u8>, words: &mut Words<'_>, kept: &Mutex<Kept>, producers: &Producers) {
    words.text();
    assert_eq!(words.short(), -1, "all replicas are waited for");
    words.int();
    assert_eq!(words.int(), 1, "one topic");
    assert_eq!(words.text(), "logs");
    assert_eq!(words.int(), 1, "one partition");
    let partition = words.int();
    assert!((0..PARTITIONS).contains(&partition));
    let error = store(words.blob(), partition, kept, producers);
    out.extend(1_i32.to_be_bytes());
    put_text(out, "logs");
    out.extend(1_i32.to_be_bytes());
    out.extend(partition.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend([0xff; 16]);
    out.extend(0_i32.to_be_bytes());
}

/// A record batch of version 2: the error, or 0. All of it is stored, or nothing.
fn store(batch: &[u8], partition: i32, kept: &Mutex<Kept>, producers: &Producers) -> i16 {
    let mut words = Words(batch);
    words.long();
    assert_eq!(usize::try_from(words.int()).expect("as the protocol has it"), words.0.len());
    words.int();
    assert_eq!(words.bytes(1), [2], "the version of record batches");
    // A real broker checks the sum; the tests of librdkafka's mock do here.
    words.int();
    let is_gzip = words.short() & 7 == 1;
    words.int();
    let (first, last) = (words.long(), words.long());
    assert!(first > 0 && last >= first, "{first} {last}");
    let (producer, _epoch, sequence) = (words.long(), words.short(), words.int());
    let count = words.int();
    let mut records = words.0.to_vec();
    if is_gzip {
        let mut plain = Vec::new();
        let read = flate2::read::GzDecoder::new(words.0).read_to_end(&mut plain);
        assert!(read.is_ok(), "{read:?}");
        records = plain;
    }
    let (mut words, mut values) = (Words(&records), Vec::new());
    for _ in 0..count {
        let mut record = Words(words.varbytes());
        record.bytes(1);
        record.varint();
        record.varint();
        assert!(!record.varbytes().is_empty(), "a record has a key");
        let value: Value = serde_json::from_slice(record.varbytes()).expect("a value is JSON");
        assert_eq!(record.varint(), 0, "there are no headers");
        assert!(record.0.is_empty());
        values.push(value);
    }
    assert!(words.0.is_empty());
    let lines: Vec<_> =
        values.iter().map(|value| value["line"].as_str().unwrap_or_default().to_owned()).collect();
    let mut producers = producers.lock().expect("nobody has panicked");
    let next = producers.entry((producer, partition)).or_insert(0);
    if sequence + count <= *next {
        return DUPLICATE_SEQUENCE;
    }
    if sequence != *next {
        return OUT_OF_ORDER_SEQUENCE;
    }
    if lines.iter().any(|line| line.contains(POISON)) {
        return INVALID_RECORD;
    }
    *next += count;
    let mut kept = lock(kept);
    for (line, value) in lines.into_iter().zip(values) {
        kept.keep(line, value);
    }
    0
}
