//! The broker as `net` sees it: questions with numbers, answers with deadlines, news.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::wire::Exit;
use crate::wire::net::{Answer, Ask, ConnectionId, Guest, ItemId, News, Question, Refusal, Word};
use crate::wire::socket::AsyncSocket;

/// Questions that wait for room in the socket. What ends something needs no room: there is one of it for each
/// question that had some.
const QUEUE_MAX: usize = 1024;
/// Questions that wait for an answer; more are refused at once.
const PENDING_MAX: usize = 16_384;
/// Clients through forwards that wait to be served; more are sent away.
const GUESTS_MAX: usize = 64;
/// What a session ends with when the gateway itself is at fault (as ssh(1) does).
const STATUS_GATEWAY: u8 = 255;

/// A question, and its room until it is sent.
type Queued = (Ask, Option<OwnedSemaphorePermit>);

/// An answer and the descriptors that came with it.
pub(super) type Reply = (Answer, Vec<OwnedFd>);

/// A client that comes through a forward, and the stream to it.
pub(super) type Through = (Guest, OwnedFd);

/// Asks and tells the broker.
#[derive(Debug)]
pub(super) struct Broker {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    numbers: AtomicU64,
    items: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    exits: Mutex<HashMap<ItemId, oneshot::Sender<Exit>>>,
    cuts: Mutex<HashMap<ItemId, oneshot::Sender<Exit>>>,
    hang_ups: Mutex<HashMap<ItemId, CancellationToken>>,
    connections: Mutex<HashMap<ConnectionId, mpsc::Sender<String>>>,
    guests: mpsc::Sender<Through>,
    drain: CancellationToken,
    gone: CancellationToken,
}

impl Broker {
    /// Speaks with the broker at the other end; with it, the clients that come through forwards. Needs a tokio
    /// runtime.
    pub(super) fn new(socket: AsyncSocket) -> (Arc<Self>, mpsc::Receiver<Through>) {
        #[expect(
            clippy::disallowed_methods,
            reason = "its bound is `room`: what is queued without any ends something that had some"
        )]
        let (queue, questions) = mpsc::unbounded_channel();
        let (guests, coming) = mpsc::channel(GUESTS_MAX);
        let broker = Arc::new(Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_MAX)),
            numbers: AtomicU64::new(1),
            items: AtomicU64::new(1),
            pending: Mutex::default(),
            exits: Mutex::default(),
            cuts: Mutex::default(),
            hang_ups: Mutex::default(),
            connections: Mutex::default(),
            guests,
            drain: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        let socket = Arc::new(socket);
        tokio::spawn(send(Arc::clone(&socket), questions, broker.gone.clone()));
        tokio::spawn(receive(socket, Arc::clone(&broker)));
        (broker, coming)
    }

    /// Cancelled when the broker wants no more connections to be accepted.
    pub(super) fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when the broker is gone.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// A number for a session, stream or listener.
    pub(super) fn item(self: &Arc<Self>) -> Item {
        let (id, hang_up) = (self.items.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        lock(&self.hang_ups).insert(id, hang_up.clone());
        Item { id, hang_up, broker: Arc::clone(self) }
    }

    /// Asks and waits; silence and overload are refusals too.
    pub(super) async fn ask(&self, question: Question, patience: Duration) -> Reply {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = lock(&self.pending);
            if pending.len() >= PENDING_MAX {
                return refused("the gateway is too busy");
            }
            pending.insert(number, sender);
        }
        let _forget = Forget { broker: self, number };
        let asked = async {
            self.put(Ask { number, question }).await;
            answer.await.ok()
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(Some(reply)) => reply,
            Ok(None) => refused("the gateway is stopping"),
            Err(_) => refused("the gateway did not decide in time"),
        }
    }

    /// Tells what needs no answer, in its turn.
    pub(super) async fn tell(&self, question: Question) {
        self.put(Ask { number: 0, question }).await;
    }

    /// Tells what may be lost when there is much else to tell.
    pub(super) fn mention(&self, question: Question) {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            self.queue.send((Ask { number: 0, question }, Some(room))).ok();
        }
    }

    /// Tells that something is over which was told or asked for before.
    fn finish(&self, question: Question) {
        // The queue is closed only when the process ends.
        self.queue.send((Ask { number: 0, question }, None)).ok();
    }

    async fn put(&self, ask: Ask) {
        // Neither is closed before the process ends.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        self.queue.send((ask, room)).ok();
    }

    /// How this session's program ends; to be called before it is started.
    pub(super) fn exit_of(&self, session: ItemId) -> oneshot::Receiver<Exit> {
        let (sender, exit) = oneshot::channel();
        lock(&self.exits).insert(session, sender);
        exit
    }

    /// That the broker ends this session, and how; to be called before it is started.
    pub(super) fn cut_of(&self, session: ItemId) -> oneshot::Receiver<Exit> {
        let (sender, cut) = oneshot::channel();
        lock(&self.cuts).insert(session, sender);
        cut
    }

    /// Reasons to close this connection.
    pub(super) fn orders_for(&self, connection: ConnectionId) -> mpsc::Receiver<String> {
        let (sender, orders) = mpsc::channel(1);
        lock(&self.connections).insert(connection, sender);
        orders
    }

    /// A listener is closed that its client has not taken back.
    pub(super) fn closed(&self, item: ItemId) {
        self.finish(Question::Close { item });
    }

    /// The connection of a session is lost. Told before it is closed.
    pub(super) fn lost(&self, session: ItemId) {
        self.finish(Question::Lost { session });
    }

    /// The connection is over.
    pub(super) fn disconnected(&self, connection: ConnectionId, reason: String) {
        lock(&self.connections).remove(&connection);
        self.finish(Question::Disconnected { connection, reason });
    }

    fn hear(&self, word: Word, descriptors: Vec<OwnedFd>) {
        match word {
            Word::Begin(_) => tracing::warn!("the broker began twice"),
            Word::Answer { number, answer } => {
                if let Some(sender) = lock(&self.pending).remove(&number) {
                    // Nobody waits any more: the descriptors are closed here, and whoever gave up has told
                    // the broker so.
                    sender.send((answer, descriptors)).ok();
                }
            }
            Word::News(News::Exited { session, exit }) => {
                if let Some(sender) = lock(&self.exits).remove(&session) {
                    sender.send(exit).ok();
                }
            }
            Word::News(News::Cut { session, exit }) => {
                if let Some(sender) = lock(&self.cuts).remove(&session) {
                    sender.send(exit).ok();
                }
            }
            Word::News(News::HangUp { item }) => {
                if let Some(hang_up) = lock(&self.hang_ups).get(&item) {
                    hang_up.cancel();
                }
            }
            Word::News(News::Disconnect { connection, reason }) => {
                if let Some(sender) = lock(&self.connections).get(&connection) {
                    // One reason is enough.
                    sender.try_send(reason).ok();
                }
            }
            Word::News(News::Drain) => self.drain.cancel(),
            Word::Guest(guest) => {
                let stream = descriptors.into_iter().next();
                // One that is not served sees the end of its stream.
                if stream.is_none_or(|stream| self.guests.try_send((guest, stream)).is_err()) {
                    tracing::warn!("a client that came through a forward was sent away");
                }
            }
        }
    }
}

/// A session, stream or listener of the broker's; dropped, it is closed there.
#[derive(Debug)]
pub(super) struct Item {
    id: ItemId,
    hang_up: CancellationToken,
    broker: Arc<Broker>,
}

impl Item {
    /// Its number.
    pub(super) fn id(&self) -> ItemId {
        self.id
    }

    /// Cancelled when the broker ends a stream or a listener.
    pub(super) fn hang_up(&self) -> &CancellationToken {
        &self.hang_up
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        lock(&self.broker.exits).remove(&self.id);
        lock(&self.broker.cuts).remove(&self.id);
        lock(&self.broker.hang_ups).remove(&self.id);
        self.broker.finish(Question::Close { item: self.id });
    }
}

/// Removes a question that nobody waits for any more.
struct Forget<'broker> {
    broker: &'broker Broker,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.broker.pending).remove(&self.number);
    }
}

fn refused(message: &str) -> Reply {
    let refusal =
        Refusal { message: message.to_owned(), status: STATUS_GATEWAY, prohibited: false };
    (Answer::Refused(refusal), Vec::new())
}

async fn send(
    socket: Arc<AsyncSocket>,
    mut questions: mpsc::UnboundedReceiver<Queued>,
    gone: CancellationToken,
) {
    while let Some((ask, _room)) = questions.recv().await {
        if let Err(error) = socket.send(&ask, &[]).await {
            // Too long a question harms nobody but its asker, who waits in vain for an answer.
            if error.kind() != io::ErrorKind::InvalidInput {
                break;
            }
        }
    }
    gone.cancel();
}

async fn receive(socket: Arc<AsyncSocket>, broker: Arc<Broker>) {
    loop {
        match socket.receive::<Word>().await {
            Ok(Some((word, descriptors))) => broker.hear(word, descriptors),
            Ok(None) => break,
            // A message whose descriptors found no room in this process: its asker's deadline ends the wait.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("a message of the broker was lost: {error}");
            }
            Err(_) => break,
        }
    }
    broker.gone.cancel();
    lock(&broker.pending).clear();
}
