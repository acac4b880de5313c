//! Fakes of collectors, made from their public specifications: Elasticsearch's bulk API, Loki's push API, OTLP/HTTP,
//! the forward protocol of Fluentd and GELF over TCP and UDP. Each keeps what it was sent as the real one would, and refuses
//! lines in which [`POISON`] is, where its protocol can.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rmpv::Value as Pack;
use serde_json::{Value, json};

use crate::http_receiver::{Batch, HttpReceiver, Service};

/// Lines with this in them are refused.
pub const POISON: &str = "poison";

/// How often a fake without connections looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a fake has, and what it was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    lines: Vec<String>,
    records: Vec<Value>,
    names: BTreeMap<String, usize>,
    /// So many items are answered with 429 from now on.
    busy: usize,
    /// The value that `authorization` must have.
    login: Option<String>,
}

impl Kept {
    pub(crate) fn keep(&mut self, line: String, record: Value) {
        self.lines.push(line);
        self.records.push(record);
    }
}

/// A collector over HTTP.
#[derive(Debug)]
pub struct FakeCollector {
    /// The server: what it answers before the collector is asked.
    pub server: HttpReceiver,
    kept: Arc<Mutex<Kept>>,
}

pub(crate) fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

type Respond = fn(&mut Kept, &Batch) -> (u16, Bytes);

impl FakeCollector {
    fn start(respond: Respond) -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let its = kept.clone();
        let service: Service = Arc::new(move |batch| {
            let mut kept = lock(&its);
            let given = batch.headers.get("authorization").and_then(|value| value.to_str().ok());
            if kept.login.is_some() && kept.login.as_deref() != given {
                return (401, Bytes::from_static(b"who are you?"));
            }
            respond(&mut kept, batch)
        });
        Self { server: HttpReceiver::serving(service), kept }
    }

    /// Elasticsearch: `create` in `_bulk`, per-item answers, 409 for what is there.
    #[must_use]
    pub fn bulk() -> Self {
        Self::start(bulk)
    }

    /// Loki: protobuf and snappy; equal lines of an equal time are one.
    #[must_use]
    pub fn loki() -> Self {
        Self::start(loki)
    }

    /// An OTLP/HTTP receiver of logs.
    #[must_use]
    pub fn otlp() -> Self {
        Self::start(otlp)
    }

    /// Only who sends this as `authorization` is let in from now on.
    pub fn demand(&self, authorization: &str) {
        lock(&self.kept).login = Some(authorization.to_owned());
    }

    /// Answers so many records with 429 each, where the protocol can.
    pub fn be_busy(&self, records: usize) {
        lock(&self.kept).busy = records;
    }

    /// The lines in the order in which they came.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lock(&self.kept).lines.clone()
    }

    /// The records, as far as they are objects.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        lock(&self.kept).records.clone()
    }
}

fn bulk(kept: &mut Kept, batch: &Batch) -> (u16, Bytes) {
    let bad = |why: &str| (400, Bytes::from(json!({"error": why, "status": 400}).to_string()));
    if !batch.path.ends_with("/_bulk") || !batch.body.ends_with(b"\n") {
        return bad("the bulk request must be terminated by a newline");
    }
    let lines: Vec<_> = batch.body.split(|byte| *byte == b'\n').collect();
    let mut items = Vec::new();
    for pair in lines[..lines.len() - 1].chunks(2) {
        let [action, document] = pair else { return bad("an action has no document") };
        let action: Option<Value> = serde_json::from_slice(action).ok();
        let document: Option<Value> = serde_json::from_slice(document).ok();
        let (Some(action), Some(document)) = (action, document) else { return bad("no JSON") };
        let create = &action["create"];
        let (Some(index), Some(id)) = (create["_index"].as_str(), create["_id"].as_str()) else {
            return bad("only create with _index and _id is known here");
        };
        let line = document["message"].as_str().unwrap_or_default().to_owned();
        let name = format!("{index}/{id}");
        let error = |kind: &str| json!({"type": kind, "reason": "as told"});
        let outcome = if line.contains(POISON) {
            json!({"status": 400, "error": error("document_parsing_exception")})
        } else if kept.busy > 0 {
            kept.busy -= 1;
            json!({"status": 429, "error": error("es_rejected_execution_exception")})
        } else if kept.names.contains_key(&name) {
            json!({"status": 409, "error": error("version_conflict_engine_exception")})
        } else {
            kept.names.insert(name, kept.lines.len());
            kept.keep(line, document);
            json!({"status": 201})
        };
        items.push(json!({"create": outcome}));
    }
    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    (200, Bytes::from(json!({"took": 1, "errors": errors, "items": items}).to_string()))
}

#[derive(prost::Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StreamAdapter>,
}

#[derive(prost::Message)]
struct StreamAdapter {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryAdapter>,
}

#[derive(prost::Message)]
struct EntryAdapter {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<LabelPair>,
}

#[derive(prost::Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(prost::Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn loki(kept: &mut Kept, batch: &Batch) -> (u16, Bytes) {
    let bytes = snap::raw::Decoder::new().decompress_vec(&batch.body);
    let Some(push) = bytes.ok().and_then(|bytes| PushRequest::decode(bytes.as_slice()).ok()) else {
        return (400, Bytes::from_static(b"no push request"));
    };
    let mut poisoned = false;
    for StreamAdapter { labels, entries } in push.streams {
        for EntryAdapter { timestamp, line, metadata } in entries {
            // As Loki does, it takes the others all the same.
            if line.contains(POISON) {
                poisoned = true;
                continue;
            }
            let Timestamp { seconds, nanos } = timestamp.expect("an entry has a time");
            let name = format!("{labels} {seconds}.{nanos:09} {line}");
            if kept.names.insert(name, 0).is_none() {
                let metadata: BTreeMap<_, _> =
                    metadata.into_iter().map(|LabelPair { name, value }| (name, value)).collect();
                kept.records.push(json!({"labels": labels, "line": line, "metadata": metadata,
                    "tenant": batch.headers.get("x-scope-orgid").and_then(|it| it.to_str().ok())}));
                kept.lines.push(line);
            }
        }
    }
    match poisoned {
        true => (400, Bytes::from_static(b"entry for stream has timestamp too old")),
        false => (204, Bytes::new()),
    }
}

#[derive(prost::Message)]
struct ExportLogs {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(prost::Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(prost::Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
}

#[derive(prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    int: Option<i64>,
}

#[derive(prost::Message)]
struct ExportLogsResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

fn otlp(kept: &mut Kept, batch: &Batch) -> (u16, Bytes) {
    let Ok(export) = ExportLogs::decode(batch.body.as_ref()) else {
        return (400, Bytes::from_static(b"no export request"));
    };
    let text = |value: &Option<AnyValue>| value.as_ref().and_then(|it| it.text.clone());
    let mut rejected = 0;
    for ResourceLogs { resource, scope_logs } in export.resource_logs {
        let attributes = resource.map(|resource| resource.attributes).unwrap_or_default();
        let attributes: BTreeMap<_, _> =
            attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect();
        for record in scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            let line = text(&record.body).unwrap_or_default();
            if line.contains(POISON) {
                rejected += 1;
                continue;
            }
            let seq = record.attributes.iter().find(|pair| pair.key == "logship.seq");
            let seq = seq.and_then(|pair| pair.value.as_ref()?.int);
            let record = json!({"resource": attributes, "line": line, "seq": seq,
                "ts": record.time_unix_nano});
            kept.keep(line, record);
        }
    }
    let partial_success =
        (rejected > 0).then(|| PartialSuccess { rejected, message: "as told".to_owned() });
    (200, ExportLogsResponse { partial_success }.encode_to_vec().into())
}

/// A server that speaks on connections of its own, and keeps what it was sent.
#[derive(Debug)]
pub struct FakeStream {
    port: u16,
    kept: Arc<Mutex<Kept>>,
}

impl FakeStream {
    pub(crate) fn start(
        serve: impl Fn(TcpStream, &Mutex<Kept>) -> Option<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let (its, serve) = (Arc::downgrade(&kept), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), Some(kept)) = (stream, its.upgrade()) else { return };
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { port, kept }
    }

    /// A GELF input over TCP.
    #[must_use]
    pub fn gelf() -> Self {
        Self::start(gelf)
    }

    /// A GELF input over UDP.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn gelf_datagrams() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(LOOK_EVERY)).expect("a socket has a time limit");
        let port = socket.local_addr().expect("a bound socket has an address").port();
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let its = Arc::downgrade(&kept);
        std::thread::spawn(move || gelf_datagrams(&socket, &its));
        Self { port, kept }
    }

    /// A forward input; with `key` it wants to know that the client has it.
    #[must_use]
    pub fn fluent(key: Option<&str>) -> Self {
        let key = key.map(str::to_owned);
        Self::start(move |stream, kept| fluent(stream, kept, key.as_deref()))
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The lines in the order in which they came.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lock(&self.kept).lines.clone()
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        lock(&self.kept).records.clone()
    }
}

fn gelf(mut stream: TcpStream, kept: &Mutex<Kept>) -> Option<()> {
    let (mut buffer, mut heard) = (vec![0; 64 << 10], Vec::new());
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        heard.extend_from_slice(&buffer[..read]);
        while let Some(end) = heard.iter().position(|byte| *byte == 0) {
            let message: Vec<u8> = heard.drain(..=end).collect();
            keep_gelf(kept, &message[..end]);
        }
    }
}

fn keep_gelf(kept: &Mutex<Kept>, message: &[u8]) {
    let record: Value = serde_json::from_slice(message).expect("GELF is JSON");
    let line = record["short_message"].as_str().expect("a short message").to_owned();
    assert_eq!(record["version"], "1.1");
    assert!(record["timestamp"].is_number() && record["host"].is_string(), "{record}");
    lock(kept).keep(line, record);
}

/// Datagrams of GELF: whole messages, or chunks of them, which come in any order; each plain or compressed.
fn gelf_datagrams(socket: &UdpSocket, kept: &Weak<Mutex<Kept>>) {
    const MAGIC: [u8; 2] = [0x1e, 0x0f];
    const HEAD_BYTES: usize = 12;
    let mut buffer = vec![0; 64 << 10];
    let mut chunks: BTreeMap<Vec<u8>, BTreeMap<u8, Vec<u8>>> = BTreeMap::new();
    while let Some(kept) = kept.upgrade() {
        // Nothing came for a moment: it looks whether somebody is interested still.
        let Ok(read) = socket.recv(&mut buffer) else { continue };
        let datagram = &buffer[..read];
        let mut message = datagram.to_vec();
        if datagram.starts_with(&MAGIC) {
            let (head, text) = datagram.split_at(HEAD_BYTES);
            let (id, number, count) = (head[2..10].to_vec(), head[10], head[11]);
            let all = chunks.entry(id.clone()).or_default();
            all.insert(number, text.to_vec());
            if all.len() < usize::from(count) {
                continue;
            }
            message = chunks.remove(&id).unwrap_or_default().into_values().flatten().collect();
        }
        if message.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            let read = flate2::read::GzDecoder::new(message.as_slice()).read_to_end(&mut plain);
            assert!(read.is_ok(), "{read:?}");
            message = plain;
        }
        keep_gelf(&kept, &message);
    }
}

/// Reads the next value of a connection; what came behind it stays in `heard`.
fn unpack(stream: &mut TcpStream, heard: &mut Vec<u8>) -> Option<Pack> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut rest = heard.as_slice();
        if let Ok(value) = rmpv::decode::read_value(&mut rest) {
            let used = heard.len() - rest.len();
            heard.drain(..used);
            return Some(value);
        }
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        heard.extend_from_slice(&buffer[..read]);
    }
}

fn pack(value: &Pack) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("a vector takes everything");
    out
}

fn fluent(mut stream: TcpStream, kept: &Mutex<Kept>, key: Option<&str>) -> Option<()> {
    let mut heard = Vec::new();
    if let Some(key) = key {
        greet(&mut stream, &mut heard, key)?;
    }
    loop {
        let message = unpack(&mut stream, &mut heard)?;
        let parts = message.as_array()?.clone();
        // One event alone, as the engine's driver sends it.
        if let [tag, Pack::Integer(_) | Pack::Ext(..), record, options @ ..] = &parts[..] {
            keep_event(kept, tag, &json_of(record));
            let options = options.first().and_then(Pack::as_map);
            let chunk =
                options.and_then(|all| all.iter().find(|it| it.0.as_str() == Some("chunk")));
            if let Some((_, chunk)) = chunk {
                stream.write_all(&pack(&Pack::Map(vec![("ack".into(), chunk.clone())]))).ok()?;
            }
            continue;
        }
        let [tag, events, options] = &parts[..] else { panic!("no packed message: {parts:?}") };
        let option = |name: &str| {
            let options = options.as_map().expect("options are a map");
            options.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
        };
        let mut events = events.as_slice().expect("events are packed").to_vec();
        if option("compressed").is_some() {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(events.as_slice()).read_to_end(&mut plain).ok()?;
            events = plain;
        }
        let (mut rest, mut count) = (events.as_slice(), 0);
        while !rest.is_empty() {
            let event = rmpv::decode::read_value(&mut rest).expect("a packed event");
            let event = event.as_array().expect("an event is an array");
            assert_eq!(event[0].as_ext().map(|(kind, time)| (kind, time.len())), Some((0, 8)));
            keep_event(kept, tag, &json_of(&event[1]));
            count += 1;
        }
        assert_eq!(option("size").and_then(Pack::as_u64), Some(count));
        let chunk = option("chunk").expect("an acknowledgement is wanted").clone();
        stream.write_all(&pack(&Pack::Map(vec![("ack".into(), chunk)]))).ok()?;
    }
}

fn keep_event(kept: &Mutex<Kept>, tag: &Pack, record: &Value) {
    let line = record["log"].as_str().unwrap_or_default().to_owned();
    lock(kept).keep(line, json!({"tag": tag.as_str(), "record": record}));
}

fn json_of(value: &Pack) -> Value {
    match value {
        Pack::Map(pairs) => {
            let pair = |(key, value): &(Pack, Pack)| {
                (key.as_str().unwrap_or_default().to_owned(), json_of(value))
            };
            Value::Object(pairs.iter().map(pair).collect())
        }
        Pack::String(text) => text.as_str().unwrap_or_default().into(),
        Pack::Boolean(value) => (*value).into(),
        Pack::Integer(number) => number.as_u64().into(),
        // The engine's driver writes its texts so.
        Pack::Binary(bytes) => String::from_utf8_lossy(bytes).into(),
        other => other.to_string().into(),
    }
}

/// The handshake of the server's side. Digests by sha512sum(1), so that none of ours are believed.
fn greet(stream: &mut TcpStream, heard: &mut Vec<u8>, key: &str) -> Option<()> {
    let nonce = "0123456789abcdef";
    let options = Pack::Map(vec![
        ("nonce".into(), nonce.into()),
        ("auth".into(), "".into()),
        ("keepalive".into(), true.into()),
    ]);
    stream.write_all(&pack(&Pack::Array(vec!["HELO".into(), options]))).ok()?;
    let ping = unpack(stream, heard)?;
    let ping = ping.as_array()?;
    let [word, host, salt, digest, _, _] = &ping[..] else { panic!("no PING: {ping:?}") };
    assert_eq!(word.as_str(), Some("PING"));
    let sum = |host: &[u8]| {
        let text = [salt.as_slice().unwrap_or_default(), host, nonce.as_bytes(), key.as_bytes()];
        let sum = crate::process::Run::new("sha512sum").stdin(text.concat()).succeed();
        sum.stdout_text().split(' ').next().unwrap_or_default().to_owned()
    };
    let expected = sum(host.as_slice().unwrap_or_default());
    let is_welcome = digest.as_str() == Some(expected.as_str());
    let reason = if is_welcome { "" } else { "shared_key mismatch" };
    let words: Vec<Pack> = vec![
        "PONG".into(),
        is_welcome.into(),
        reason.into(),
        "fake".into(),
        sum(b"fake").as_str().into(),
    ];
    stream.write_all(&pack(&Pack::Array(words))).ok()?;
    is_welcome.then_some(())
}
