//! Kafka and what speaks like it: at least once, and once within a run, since a producer numbers its batches.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::secret::Secret;
use chores_common::tls::TlsSettings;
use rustls::ClientConfig;
use twox_hash::XxHash3_64;

use super::batch::{Batch, Part, Poison, Refusals};
use super::connection::Connection;
use super::failure::SinkFailure;
use super::options::{Batching, OptionFault, Options, SinkUrl};
use super::tls;
use super::{Context, Pace, Sent};
use crate::encode::fields::FieldNames;
use crate::encode::kafka::{self, Api, Fate, Message, Metadata, Producer};
use crate::encode::ndjson::Ndjson;
use crate::encode::{Controls, Encoded};
use crate::wal::Frame;

const PORT: u16 = 9092;

/// Brokers that a URL may name.
const BROKERS_MAX: usize = 16;

/// Longest name of a topic, in bytes.
const TOPIC_BYTES_MAX: usize = 249;

/// Longest batch unless set, in bytes: with what is added to each record it stays below a broker's usual 1 MiB.
const BATCH_BYTES_MAX: usize = 900_000;

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Bytes of the time that stands before each record of a batch here.
const TIME_BYTES: usize = 8;

const MILLISECOND: i64 = 1_000_000;

const FORM: &str = "kafka://broker:port,broker:port/topic or kafka+tls://broker:port/topic";

/// Brokers, and how messages are made for them.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// As the URL begins.
    pub scheme: String,
    /// Those that are asked for the others.
    pub brokers: Vec<(String, u16)>,
    /// Where messages go.
    pub topic: String,
    /// For `kafka+tls`.
    pub tls: Option<TlsSettings>,
    /// A user and the password, for SASL PLAIN.
    pub login: Option<(String, Secret)>,
    /// What keys are called.
    pub names: FieldNames,
    /// What is sent beside lines.
    pub controls: Controls,
    /// Whether batches are compressed.
    pub gzip: bool,
    /// What to do with what cannot be delivered.
    pub poison: Poison,
    /// When a batch is sent.
    pub batching: Batching,
    /// How long a broker may take for an answer.
    pub timeout: Duration,
}

impl KafkaSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let topic = url.decoded_path()?.trim_matches('/').to_owned();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_topic = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(is_plain);
        let brokers: Vec<_> = url.authority.split(',').collect();
        if !is_topic || brokers.len() > BROKERS_MAX {
            return Err(OptionFault::Form(FORM));
        }
        let broker = |authority: &str| {
            let url = SinkUrl { authority: authority.to_owned(), ..url.clone() };
            url.host_and_port(PORT, FORM)
        };
        let brokers = brokers.into_iter().map(broker).collect::<Result<_, _>>()?;
        let tls = tls::read_for(url, options)?;
        let batching = options.batching()?;
        Ok(Self {
            scheme: url.scheme.clone(),
            brokers,
            topic,
            tls,
            login: options.login(url)?,
            names: options.fields(&[])?,
            controls: options.controls(Controls::All)?,
            gzip: options.choice("compress", &[("gzip", true), ("none", false)])?.unwrap_or(true),
            poison: Poison::read(options)?,
            batching: Batching { bytes: batching.bytes.min(BATCH_BYTES_MAX), ..batching },
            timeout: options.answer_time()?,
        })
    }
}

/// Sends batches to the leaders of partitions. A source has its partition, so its order is kept.
#[derive(Debug)]
pub struct KafkaSink {
    settings: KafkaSettings,
    encoder: Ndjson,
    record: Vec<u8>,
    no_head: Arc<[u8]>,
    batch: Batch,
    /// What is still to be sent of the batch, by partitions; made at the first attempt.
    parts: VecDeque<(i32, Part)>,
    refusals: Refusals,
    sent: u64,
    tls: Option<Arc<ClientConfig>>,
    cluster: Option<Metadata>,
    producer: Option<Producer>,
    /// Messages that each partition has of this producer.
    sequences: BTreeMap<i32, i32>,
    /// Connections by brokers.
    links: BTreeMap<i32, Link>,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    number: i32,
    patience: Duration,
}

impl KafkaSink {
    pub(super) fn open(settings: KafkaSettings) -> Result<Self, SinkFailure> {
        let mut sink = Self {
            encoder: Ndjson::named(settings.controls, settings.names.clone()),
            record: Vec::new(),
            no_head: Arc::default(),
            batch: Batch::default(),
            parts: VecDeque::new(),
            refusals: Refusals::new(settings.poison),
            sent: 0,
            tls: None,
            cluster: None,
            producer: None,
            sequences: BTreeMap::new(),
            links: BTreeMap::new(),
            settings,
        };
        sink.tls = tls::client_config(sink.settings.tls.as_ref(), &sink.peer())?;
        Ok(sink)
    }

    pub(super) fn pace(&self) -> Pace {
        self.settings.batching.pace()
    }

    /// A record here has its time in front.
    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        if self.is_full() {
            return from;
        }
        let Self { settings, encoder, record: out, no_head, batch, .. } = self;
        out.clear();
        let mut timed = Vec::new();
        encoder.each(frame, from, out, |record, seq, bytes| {
            timed.clear();
            timed.extend_from_slice(&record.ts.div_euclid(MILLISECOND).to_be_bytes());
            timed.extend_from_slice(bytes.strip_suffix(b"\n").unwrap_or(bytes));
            batch.push(&frame.meta, Encoded { seq, head: no_head, bytes: &timed });
            bytes.clear();
            batch.len() < settings.batching.bytes
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.settings.batching.bytes
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        // All that was pushed may have been for others.
        if self.batch.len() == 0 {
            return Ok(Sent::default());
        }
        let mut sent = self.prepare();
        while sent.is_ok()
            && let Some((partition, part)) = self.parts.pop_front()
        {
            sent = match context.stop.is_requested() {
                true => {
                    self.parts.push_front((partition, part));
                    Err(SinkFailure::new("stopped before everything was sent"))
                }
                false => self.send(partition, part),
            };
        }
        if let Err(failure) = sent {
            // Leaders may have moved.
            self.links.clear();
            self.cluster = None;
            return Err(failure);
        }
        self.batch.clear();
        Ok(Sent { bytes: std::mem::take(&mut self.sent), refused: self.refusals.take() })
    }

    fn peer(&self) -> String {
        let KafkaSettings { scheme, brokers, topic, .. } = &self.settings;
        let brokers: Vec<_> = brokers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{scheme}://{}/{topic}", brokers.join(","))
    }

    /// Finds the brokers, and who we are to them; shares the batch among the partitions.
    fn prepare(&mut self) -> Result<(), SinkFailure> {
        let peer = self.peer();
        if self.cluster.is_none() {
            self.cluster = Some(self.discover()?);
        }
        if self.producer.is_none() {
            let body = kafka::producer_request(self.timeout_ms());
            let node = self.cluster.as_ref().and_then(|cluster| cluster.brokers.first());
            let node = node.map_or(0, |(node, ..)| *node);
            let answer = self.ask(node, Api::InitProducerId, &body)?;
            let (error, producer) = kafka::producer(&answer)
                .map_err(|error| SinkFailure::of(&format!("cannot use {peer}"), &error))?;
            if error != 0 {
                let why = kafka::sentence(error);
                return Err(SinkFailure::new(format!("{peer} gives no producer number: {why}")));
            }
            self.producer = Some(producer);
            self.sequences.clear();
        }
        if self.parts.is_empty() {
            let partitions = self.cluster.as_ref().map(|cluster| cluster.partitions.as_slice());
            let partitions = partitions.unwrap_or_default();
            let mut parts: BTreeMap<i32, Part> = BTreeMap::new();
            for at in self.batch.all() {
                let key = self.batch.group(at).map_or("", |group| group.meta.key.0.as_str());
                let hash = usize::try_from(XxHash3_64::oneshot(key.as_bytes())).unwrap_or(0);
                let place = hash.checked_rem(partitions.len()).and_then(|at| partitions.get(at));
                let (partition, _) = place.copied().unwrap_or_default();
                parts.entry(partition).or_default().push(at);
            }
            self.parts = parts.into_iter().collect();
        }
        Ok(())
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.settings.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks the brokers of the URL, one after the other.
    fn discover(&self) -> Result<Metadata, SinkFailure> {
        let peer = self.peer();
        let act = format!("cannot ask {peer} for its topic");
        let mut last = SinkFailure::new(format!("{act}: there is no broker"));
        for (host, port) in &self.settings.brokers {
            let asked = self.link(host, *port).and_then(|mut link| {
                let request = kafka::metadata_request(&self.settings.topic);
                let answer = link.ask(Api::Metadata, &request)?;
                kafka::metadata(&answer).map_err(io::Error::other)
            });
            match asked {
                Ok(found) if found.error == 0 && !found.partitions.is_empty() => return Ok(found),
                Ok(found) => {
                    let why = kafka::sentence(found.error);
                    last = SinkFailure::new(format!("{act}: {why}"));
                }
                Err(error) => last = SinkFailure::of(&act, &error),
            }
        }
        Err(last)
    }

    fn link(&self, host: &str, port: u16) -> io::Result<Link> {
        let KafkaSettings { timeout, login, .. } = &self.settings;
        let connection = Connection::to(host, port, self.tls.as_ref(), *timeout)?;
        let mut link = Link { connection, number: 0, patience: *timeout };
        if let Some((user, password)) = login {
            for (api, body) in [
                (Api::SaslHandshake, kafka::handshake_request()),
                (Api::SaslAuthenticate, kafka::login_request(user, password.expose())),
            ] {
                let answer = link.ask(api, &body)?;
                let error = kafka::login(&answer).map_err(io::Error::other)?;
                if error != 0 {
                    return Err(io::Error::other(kafka::sentence(error)));
                }
            }
        }
        Ok(link)
    }

    /// Asks a broker by its number.
    fn ask(&mut self, node: i32, api: Api, body: &[u8]) -> Result<Vec<u8>, SinkFailure> {
        let brokers = self.cluster.as_ref().map(|cluster| cluster.brokers.as_slice());
        let broker = brokers.unwrap_or_default().iter().find(|(number, ..)| *number == node);
        let Some((_, host, port)) = broker else {
            return Err(SinkFailure::new(format!("{} has no broker {node}", self.peer())));
        };
        let act = format!("cannot send to the broker {host}:{port}");
        let failed = |error: io::Error| SinkFailure::of(&act, &error);
        let mut link = match self.links.remove(&node) {
            Some(link) => link,
            None => self.link(host, *port).map_err(failed)?,
        };
        let answer = link.ask(api, body).map_err(failed)?;
        self.links.insert(node, link);
        Ok(answer)
    }

    /// Sends some records to the leader of their partition.
    fn send(&mut self, partition: i32, mut part: Part) -> Result<(), SinkFailure> {
        let peer = self.peer();
        let outcome = self.produce(partition, &part);
        let error = match outcome {
            Ok((error, bytes)) => {
                self.sent += bytes;
                error
            }
            Err(failure) => {
                self.parts.push_front((partition, part));
                return Err(failure);
            }
        };
        let why = format!("{peer} answered {}", kafka::sentence(error));
        match kafka::fate(error) {
            Fate::Stored => {
                let count = i32::try_from(part.len()).unwrap_or(i32::MAX);
                let sequence = self.sequences.entry(partition).or_default();
                // Numbers begin again at 0 after the last one.
                *sequence = sequence.checked_add(count).unwrap_or_else(|| {
                    (i64::from(*sequence) + i64::from(count) - (1 << 31)) as i32
                });
                Ok(())
            }
            Fate::Never => match part.as_slice() {
                [alone] => {
                    let refused = self.refusals.refuse(&self.batch, *alone, &why);
                    refused.inspect_err(|_| self.parts.push_front((partition, part)))
                }
                _ => {
                    let second = part.split_off(part.len() / 2);
                    self.parts.push_front((partition, second));
                    self.parts.push_front((partition, part));
                    Ok(())
                }
            },
            Fate::Stranger => {
                self.producer = None;
                self.parts.push_front((partition, part));
                Err(SinkFailure::new(why))
            }
            Fate::Later => {
                self.parts.push_front((partition, part));
                Err(SinkFailure::new(why))
            }
        }
    }

    /// The error that was answered, or 0, and bytes on the wire.
    fn produce(&mut self, partition: i32, part: &[usize]) -> Result<(i16, u64), SinkFailure> {
        let peer = self.peer();
        let sequence = self.sequences.get(&partition).copied().unwrap_or_default();
        let producer = self.producer.map(|producer| Producer { sequence, ..producer });
        let Some(producer) = producer else {
            return Err(SinkFailure::new(format!("{peer} does not know us")));
        };
        let message = |at: &usize| {
            let record = self.batch.record(*at);
            let (time, value) =
                record.split_first_chunk::<TIME_BYTES>().unwrap_or((&[0; TIME_BYTES], &[][..]));
            let key = self.batch.group(*at).map_or(&[][..], |group| group.meta.key.0.as_bytes());
            Message { time_ms: i64::from_be_bytes(*time), key, value }
        };
        let messages: Vec<_> = part.iter().map(message).collect();
        let batch = kafka::batch(&messages, producer, self.settings.gzip)
            .map_err(|error| SinkFailure::of("cannot compress a batch", &error))?;
        let timeout = self.timeout_ms();
        let body = kafka::produce_request(&self.settings.topic, partition, &batch, timeout);
        let partitions = self.cluster.as_ref().map(|cluster| cluster.partitions.as_slice());
        let leader = partitions.unwrap_or_default().iter().find(|(number, _)| *number == partition);
        let Some((_, leader)) = leader.copied() else {
            return Err(SinkFailure::new(format!("{peer} has no leader of partition {partition}")));
        };
        let answer = self.ask(leader, Api::Produce, &body)?;
        let error = kafka::produced(&answer)
            .map_err(|error| SinkFailure::of(&format!("cannot send to {peer}"), &error))?;
        Ok((error, body.len() as u64))
    }
}

impl Link {
    fn ask(&mut self, api: Api, body: &[u8]) -> io::Result<Vec<u8>> {
        self.number = self.number.wrapping_add(1);
        let deadline = Instant::now() + self.patience;
        self.connection.write_all(&kafka::request(api, self.number, body))?;
        self.connection.flush()?;
        let mut head = [0; 8];
        self.fill(&mut head, deadline)?;
        let [len, number] = [head.first_chunk::<4>(), head.last_chunk::<4>()]
            .map(|bytes| bytes.map_or(0, |bytes| i32::from_be_bytes(*bytes)));
        let len = usize::try_from(len).ok().and_then(|len| len.checked_sub(4));
        match len.filter(|len| number == self.number && *len <= ANSWER_BYTES_MAX) {
            None => Err(io::Error::other(kafka::Gibberish)),
            Some(len) => {
                let mut answer = vec![0; len];
                self.fill(&mut answer, deadline)?;
                Ok(answer)
            }
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let read = self.connection.hear(buffer, deadline)?;
            buffer = buffer.get_mut(read..).unwrap_or_default();
        }
        Ok(())
    }
}
