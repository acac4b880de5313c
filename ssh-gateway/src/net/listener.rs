//! Accepts clients. Nothing of what a client does is waited for here.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use russh::server::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::admission::{Admission, Offence, Refused, Source};
use super::broker::{Broker, Through};
use super::connection::{self, Connection, Loss, Startup, Visit};
use super::lock;
use super::proxy::{self, HEADER_TIME_MAX};
use super::transport::{self, Wire};
use crate::authorized_keys::AddressList;
use crate::wire::net::{ConnectionId, Guest as Visitor, Limits, Settings};

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One refused connection in this time is told of, and how many there were.
const REFUSALS_PERIOD: Duration = Duration::from_secs(5);

/// Connections of load balancers that have not said yet for whom they are; more of them are closed.
const UNTOLD_MAX: usize = 256;

/// Takes clients in.
#[derive(Debug)]
pub(super) struct Door {
    broker: Arc<Broker>,
    config: Arc<Config>,
    limits: Limits,
    banner: Option<String>,
    /// Whose word about their clients is taken.
    proxies: Option<AddressList>,
    untold: Arc<Semaphore>,
    admission: Mutex<Admission>,
    numbers: AtomicU64,
    connections: AtomicUsize,
    connections_max: usize,
    left: Notify,
    /// Of who is inside, for those who come through them.
    losses: Mutex<HashMap<ConnectionId, Loss>>,
    refusals: Mutex<Refusals>,
}

impl Door {
    /// With nobody inside.
    pub(super) fn new(
        broker: Arc<Broker>,
        config: Config,
        settings: Settings,
        connections_max: usize,
    ) -> std::io::Result<Arc<Self>> {
        let Settings { limits, banner, proxies, .. } = settings;
        let proxies = match proxies.as_slice() {
            [] => None,
            some => Some(AddressList::parse(&some.join(",")).map_err(std::io::Error::other)?),
        };
        Ok(Arc::new(Self {
            broker,
            proxies,
            untold: Arc::new(Semaphore::new(UNTOLD_MAX)),
            config: Arc::new(config),
            admission: Mutex::new(Admission::new(&limits)),
            limits,
            banner,
            numbers: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            connections_max,
            left: Notify::new(),
            losses: Mutex::default(),
            refusals: Mutex::default(),
        }))
    }

    /// Accepts until the broker drains.
    pub(super) async fn open(self: Arc<Self>, listener: StdListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let drain = self.broker.drain().clone();
        loop {
            let accepted = tokio::select! {
                () = drain.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.welcome(socket),
                // Of one client that is gone already, or of this process: neither is a reason to stop.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Returns when nobody is inside.
    pub(super) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    /// Takes clients in that come through forwards of others, until the broker drains. They are counted like those
    /// that are accepted.
    pub(super) async fn let_through(
        self: Arc<Self>,
        mut guests: mpsc::Receiver<Through>,
    ) -> std::io::Result<()> {
        let drain = self.broker.drain().clone();
        loop {
            let come = tokio::select! {
                () = drain.cancelled() => return Ok(()),
                come = guests.recv() => come,
            };
            let Some((Visitor { through, host, peer, local }, stream)) = come else {
                return Ok(());
            };
            // One that is over already has closed the other end of the stream.
            let loss = lock(&self.losses).get(&through).cloned().unwrap_or_default();
            let visit = Visit { host, through, loss };
            match transport::through(stream) {
                Ok(stream) => self.seat(stream, (peer, local), Some(visit)),
                Err(error) => tracing::warn!("a stream through a forward is of no use: {error}"),
            }
        }
    }

    fn welcome(self: &Arc<Self>, socket: TcpStream) {
        let (Ok(peer), Ok(local)) = (socket.peer_addr(), socket.local_addr()) else { return };
        // Without it a key press waits for the acknowledgement of the one before.
        socket.set_nodelay(true).ok();
        let is_proxy = self.proxies.as_ref().is_some_and(|proxies| proxies.contains(peer.ip()));
        if is_proxy {
            self.ask_proxy(socket, (peer, local));
        } else {
            self.seat(socket, (peer, local), None);
        }
    }

    /// Takes in whom a load balancer speaks for, when it has said so.
    fn ask_proxy(self: &Arc<Self>, mut socket: TcpStream, (peer, local): (SocketAddr, SocketAddr)) {
        let Ok(permit) = Arc::clone(&self.untold).try_acquire_owned() else {
            tracing::warn!("a connection of the proxy {peer} was closed: too many say nothing");
            return;
        };
        let door = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            let read = tokio::select! {
                read = proxy::read(&mut socket, HEADER_TIME_MAX) => read,
                () = door.broker.drain().cancelled() => return,
            };
            match read {
                Ok(client) => door.seat(socket, (client.unwrap_or(peer), local), None),
                Err(error) => {
                    tracing::debug!("a connection of the proxy {peer} is of no use: {error}");
                }
            }
        });
    }

    /// Tells of one that was refused, with how many there were since the last.
    fn tell(&self, peer: SocketAddr, refused: Refused) {
        let now = Instant::now();
        let mut refusals = lock(&self.refusals);
        if refusals.told.is_some_and(|told| now.duration_since(told) < REFUSALS_PERIOD) {
            refusals.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut refusals.untold);
        refusals.told = Some(now);
        tracing::warn!(
            "a connection from {peer} was refused: {refused}; {untold} more since the last line"
        );
    }

    fn seat(
        self: &Arc<Self>,
        wire: impl Wire,
        (peer, local): (SocketAddr, SocketAddr),
        visit: Option<Visit>,
    ) {
        let source = Source::from(peer.ip());
        let admitted = if self.connections.load(Ordering::Acquire) >= self.connections_max {
            Err(Refused::Connections)
        } else {
            lock(&self.admission).enter(Instant::now(), source, dice())
        };
        if let Err(refused) = admitted {
            // No client is waited for; one that has gone hears nothing.
            wire.say(refused.to_client());
            self.tell(peer, refused);
            return;
        }
        self.connections.fetch_add(1, Ordering::AcqRel);
        let id = self.numbers.fetch_add(1, Ordering::Relaxed);
        let guest = Guest { door: Arc::clone(self), id, source, waiting: true };
        let connection = Connection::new(
            id,
            (peer, local),
            visit,
            Arc::clone(&self.broker),
            self.limits.clone(),
            self.banner.clone(),
        );
        lock(&self.losses).insert(id, connection.loss.clone());
        tokio::spawn(connection::serve(wire, Arc::clone(&self.config), connection, guest));
    }
}

/// What has not been told yet of those that were refused.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

/// A connection among those that are counted.
struct Guest {
    door: Arc<Door>,
    id: ConnectionId,
    source: Source,
    /// It has not authenticated.
    waiting: bool,
}

impl Startup for Guest {
    fn authenticated(&mut self) {
        if std::mem::take(&mut self.waiting) {
            lock(&self.door.admission).leave(self.source);
        }
    }

    fn over(&mut self, offence: Option<Offence>) {
        if let Some(offence) = offence {
            lock(&self.door.admission).punish(Instant::now(), self.source, offence);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.authenticated();
        lock(&self.door.losses).remove(&self.id);
        self.door.connections.fetch_sub(1, Ordering::AcqRel);
        self.door.left.notify_one();
    }
}

/// A number below 100 by chance; without chance, the one that lets in.
fn dice() -> u32 {
    getrandom::u32().map_or(99, |number| number % 100)
}
