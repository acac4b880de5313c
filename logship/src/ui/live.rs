//! Lines as they come, for every browser that looks: one thread reads the log and puts into the bounded queue of
//! each what it asked for. A browser that takes too little is told how many lines it did not get. While nobody
//! looks, nothing is read.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::line::{Line, Shown, origin_of};
use super::query::Query;
use crate::source::{SourceId, SourceMeta};
use crate::wal::{Frame, Log, Position, Spectator, Start, WalError};

#[cfg(test)]
mod tests;

/// Browsers that look at once, at the most.
pub const CLIENTS_MAX: usize = 16;

/// Bytes that wait for one of them.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How long to wait for lines, and how soon the end is noticed.
const WAIT: Duration = Duration::from_millis(100);

/// How long to wait after the log could not be read.
const FAILED_PAUSE: Duration = Duration::from_secs(2);

/// Where lines come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The log of this process.
    Own(Log),
    /// The state directory of another one.
    Other(PathBuf),
}

/// What waits for a browser.
#[derive(Debug)]
enum Item {
    /// From now on, nothing is left out untold.
    Ready,
    /// A record as JSON.
    Record(Arc<Vec<u8>>),
    /// So many lines were left out here.
    Skipped(u64),
    /// The log cannot be read, one sentence.
    Trouble(String),
}

/// A browser that looks.
#[derive(Debug)]
pub struct Client {
    query: Query,
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Client {
    fn new(query: Query) -> Self {
        Self { query, queue: Mutex::default(), more: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: &Arc<Vec<u8>>) {
        let mut queue = self.queue();
        if queue.bytes.saturating_add(record.len()) > QUEUE_BYTES_MAX {
            queue.skip(1);
        } else {
            queue.bytes += record.len();
            queue.items.push_back(Item::Record(record.clone()));
        }
        drop(queue);
        self.more.notify_one();
    }

    fn say(&self, item: Item) {
        let mut queue = self.queue();
        match item {
            Item::Skipped(lines) => queue.skip(lines),
            // Said once, however often it happens while nobody listens.
            Item::Trouble(_) if matches!(queue.items.back(), Some(Item::Trouble(_))) => {}
            item => queue.items.push_back(item),
        }
        drop(queue);
        self.more.notify_one();
    }

    /// Waits until there is something to send.
    pub async fn more(&self) {
        self.more.notified().await;
    }

    /// What is to be sent next, as events (HTML Living Standard, section 9.2.6); empty when there is nothing.
    #[must_use]
    pub fn take(&self) -> Bytes {
        let mut queue = self.queue();
        let mut text: Vec<u8> = Vec::new();
        let mut is_open = false;
        while text.len() < CHUNK_BYTES {
            let Some(item) = queue.items.pop_front() else { break };
            if !matches!(item, Item::Record(_)) && std::mem::take(&mut is_open) {
                text.extend_from_slice(b"]\n\n");
            }
            match item {
                Item::Record(record) => {
                    queue.bytes = queue.bytes.saturating_sub(record.len());
                    let beginning: &[u8] = if is_open { b"," } else { b"event: lines\ndata: [" };
                    text.extend_from_slice(beginning);
                    text.extend_from_slice(&record);
                    is_open = true;
                }
                Item::Ready => text.extend_from_slice(b"event: ready\ndata: {}\n\n"),
                Item::Skipped(lines) => {
                    text.extend_from_slice(format!("event: skipped\ndata: {lines}\n\n").as_bytes());
                }
                Item::Trouble(sentence) => {
                    let sentence = serde_json::Value::from(sentence);
                    let event = format!("event: trouble\ndata: {sentence}\n\n");
                    text.extend_from_slice(event.as_bytes());
                }
            }
        }
        if is_open {
            text.extend_from_slice(b"]\n\n");
        }
        text.into()
    }
}

impl Queue {
    fn skip(&mut self, lines: u64) {
        match self.items.back_mut() {
            Some(Item::Skipped(before)) => *before = before.saturating_add(lines),
            _ => self.items.push_back(Item::Skipped(lines)),
        }
    }
}

/// Everybody who looks.
#[derive(Debug, Default)]
pub struct Live {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    clients: Vec<Arc<Client>>,
    /// Those that are not ready yet.
    joining: Vec<Arc<Client>>,
    is_over: bool,
}

/// Everybody who looks at one moment.
#[derive(Debug)]
struct Looking {
    clients: Vec<Arc<Client>>,
    /// Those of them who are new.
    joined: Vec<Arc<Client>>,
}

/// A place among those who look; given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    live: Arc<Live>,
    client: Arc<Client>,
}

impl std::ops::Deref for Seat {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.live.lock();
        inner.clients.retain(|client| !Arc::ptr_eq(client, &self.client));
        inner.joining.retain(|client| !Arc::ptr_eq(client, &self.client));
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who looks; `None` when there are too many.
    #[must_use]
    pub fn join(self: &Arc<Self>, query: Query) -> Option<Seat> {
        let mut inner = self.lock();
        if inner.clients.len() + inner.joining.len() >= CLIENTS_MAX {
            return None;
        }
        let client = Arc::new(Client::new(query));
        inner.joining.push(client.clone());
        drop(inner);
        self.changed.notify_all();
        Some(Seat { live: self.clone(), client })
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Reads the log for them until the end: the work of a thread.
    pub fn run(&self, origin: &Origin) {
        let mut feed = None;
        while let Some(Looking { clients, joined }) = self.wait(feed.is_some()) {
            if clients.is_empty() {
                feed = None;
                continue;
            }
            let read = Feed::open_or_keep(&mut feed, origin).and_then(|feed| {
                // From here on the feed has everything that is written.
                joined.iter().for_each(|client| client.say(Item::Ready));
                feed.next(&mut |frame, skipped| hand_out(&clients, frame, skipped))
            });
            if let Err(error) = read {
                let sentence = chores_common::exit::chain(&error);
                clients.iter().for_each(|client| client.say(Item::Trouble(sentence.clone())));
                feed = None;
                let inner = self.lock();
                drop(self.changed.wait_timeout(inner, FAILED_PAUSE));
            }
        }
    }

    /// Everybody who looks; waits while nobody does, unless something is still open for those who left. `None` at the
    /// end.
    fn wait(&self, is_open: bool) -> Option<Looking> {
        let mut inner = self.lock();
        let is_idle = |inner: &Inner| inner.clients.is_empty() && inner.joining.is_empty();
        while is_idle(&inner) && !is_open && !inner.is_over {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.is_over {
            return None;
        }
        let joined = std::mem::take(&mut inner.joining);
        inner.clients.extend(joined.iter().cloned());
        Some(Looking { clients: inner.clients.clone(), joined })
    }
}

/// Gives the records of a frame to those who want them.
fn hand_out(clients: &[Arc<Client>], frame: &Frame, skipped: u64) {
    let meta: &SourceMeta = &frame.meta;
    let interested = clients.iter().filter(|it| it.query.takes_source(meta.origin.name()));
    let interested: Vec<&Arc<Client>> = interested.collect();
    if interested.is_empty() {
        return;
    }
    if skipped > 0 {
        interested.iter().for_each(|client| client.say(Item::Skipped(skipped)));
    }
    let origin = origin_of(meta);
    for (seq, record) in (frame.first_seq..).zip(frame.block.records()) {
        let Some(line) = Line::of_record(meta, origin, seq, &record) else { continue };
        let mut json = None;
        for client in interested.iter().filter(|client| client.query.takes(&line)) {
            client.push(json.get_or_insert_with(|| Arc::new(Shown::new(&line).to_json())));
        }
    }
}

/// The log, read from the moment it was opened on.
#[derive(Debug)]
struct Feed {
    from: From,
    /// What the next record of each source must be.
    expected: HashMap<SourceId, u64>,
    /// A source that is not among them begins with number 0.
    knows_all: bool,
}

#[derive(Debug)]
enum From {
    Own(Log, Position),
    Other(Box<Spectator>),
}

impl Feed {
    fn open_or_keep<'a>(
        feed: &'a mut Option<Self>,
        origin: &Origin,
    ) -> Result<&'a mut Self, WalError> {
        if feed.is_none() {
            let opened = match origin {
                Origin::Own(log) => {
                    // The place first: what is written in between is given, and counts as known.
                    let from = From::Own(log.clone(), log.end());
                    let sources = log.stats().sources.into_iter();
                    let expected = sources.map(|(id, source)| (id, source.next_seq)).collect();
                    Self { from, expected, knows_all: true }
                }
                Origin::Other(state) => {
                    let from = From::Other(Box::new(Spectator::open(state, Start::End)?));
                    Self { from, expected: HashMap::new(), knows_all: false }
                }
            };
            return Ok(feed.insert(opened));
        }
        feed.as_mut().ok_or_else(|| WalError::Failed("nothing is read".to_owned()))
    }

    /// Gives new frames, each with the number of records that are missing before it; waits a moment for them.
    fn next(&mut self, each: &mut dyn FnMut(&Frame, u64)) -> Result<(), WalError> {
        let Self { from, expected, knows_all } = self;
        let mut give = |frame: &Frame| {
            let next = frame.first_seq.saturating_add(u64::from(frame.block.count()));
            let expected = expected.insert(frame.source, next).or(knows_all.then_some(0));
            each(frame, expected.map_or(0, |seq| frame.first_seq.saturating_sub(seq)));
        };
        match from {
            From::Own(log, position) => {
                let (frames, next) = log.peek(*position, WAIT);
                frames.iter().for_each(&mut give);
                *position = next;
            }
            From::Other(spectator) => match spectator.next()? {
                Some(frame) => give(&frame),
                None => std::thread::sleep(WAIT),
            },
        }
        Ok(())
    }
}
