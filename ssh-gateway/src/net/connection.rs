//! One client, from its first byte to its last: what its channels share, and the timers that russh lacks.

use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::server::{Config, run_stream};
use russh::{ChannelId, Disconnect};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admission::Offence;
use super::broker::Broker;
use super::handler::Handler;
use super::lock;
use super::spool::{Allowance, Bounds, Brake, Shelf, Spool};
use super::stream::{Screen, Stream};
use super::transport::{Link, Transport, Wire};
use crate::wire::net::{Answer, ConnectionId, ItemId, Limits, OVERRUN_BYTES, Question};

/// From accept to the end of the client's identification string.
const IDENTIFICATION_TIME: Duration = Duration::from_secs(10);
/// From our last word to the end of the client's side.
const FAREWELL_TIME: Duration = Duration::from_secs(3);
/// How often idleness and stalled writes are looked at.
const WATCH_TIME: Duration = Duration::from_secs(5);
/// How long the broker may take to hand over a file.
const FILE_TIME: Duration = Duration::from_secs(10);
/// Bytes of a channel that wait in memory before a file is asked for.
const SPOOL_MEMORY_BYTES: usize = 1024 * 1024;
/// Bytes of all channels of a connection that wait in memory, because there is no file for them. Beyond it the
/// connection ends.
const SPOOLS_MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// What may wait in all channels together: as much as in one, and the windows that were open before the brake.
fn allowance(limits: &Limits) -> Allowance {
    Allowance {
        total: limits.spool_bytes,
        overrun: limits.overrun_bytes(),
        memory: SPOOLS_MEMORY_BYTES,
    }
}

/// What the channels of a connection share.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its number.
    pub(super) id: ConnectionId,
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// Our own.
    pub(super) local: SocketAddr,
    /// Where the client went on to, if it comes through a forward of another connection.
    pub(super) host: Option<String>,
    /// The connection that it came through to there.
    pub(super) through: Option<ConnectionId>,
    /// Whether that one was lost.
    outer_loss: Option<Loss>,
    /// Whether this one was.
    pub(super) loss: Loss,
    /// Whom to ask.
    pub(super) broker: Arc<Broker>,
    /// Its bounds.
    pub(super) limits: Limits,
    /// Text shown before authentication.
    pub(super) banner: Option<String>,
    /// Its bytes.
    pub(super) link: Arc<Link>,
    /// Cancelled at its end.
    pub(super) over: CancellationToken,
    channels: Mutex<HashMap<ChannelId, Entry>>,
    channel_permits: Arc<Semaphore>,
    session_permits: Arc<Semaphore>,
    authenticated: AtomicBool,
    progress: Notify,
    attempts: AtomicU32,
    origin: Instant,
    /// Milliseconds after `origin` when something last happened.
    active: AtomicU64,
    reason: Mutex<Option<String>>,
}

/// A channel as the session loop sees it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its bytes go.
    pub(super) spool: Arc<Spool>,
    /// Cancelled when the client closes it.
    pub(super) closed: CancellationToken,
    /// Where the sizes of its terminal go.
    pub(super) screen: Arc<Screen>,
    /// The session that runs in it.
    pub(super) session: Option<ItemId>,
}

impl Connection {
    /// A new one.
    pub(super) fn new(
        id: ConnectionId,
        (peer, local): (SocketAddr, SocketAddr),
        visit: Option<Visit>,
        broker: Arc<Broker>,
        limits: Limits,
        banner: Option<String>,
    ) -> Arc<Self> {
        let (host, through, outer_loss) = match visit {
            Some(Visit { host, through, loss }) => (Some(host), Some(through), Some(loss)),
            None => (None, None, None),
        };
        Arc::new(Self {
            id,
            peer,
            local,
            host,
            through,
            outer_loss,
            loss: Loss::default(),
            broker,
            banner,
            link: Link::new(Brake::new(allowance(&limits))),
            over: CancellationToken::new(),
            channels: Mutex::default(),
            channel_permits: Arc::new(Semaphore::new(limits.channels as usize)),
            session_permits: Arc::new(Semaphore::new(limits.sessions as usize)),
            limits,
            authenticated: AtomicBool::new(false),
            progress: Notify::new(),
            attempts: AtomicU32::new(0),
            origin: Instant::now(),
            active: AtomicU64::new(0),
            reason: Mutex::default(),
        })
    }

    /// Room for a channel.
    pub(super) fn channel_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.channel_permits).try_acquire_owned().ok()
    }

    /// Room for a session.
    pub(super) fn session_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.session_permits).try_acquire_owned().ok()
    }

    /// Puts a channel on the list, so that its bytes have a place to go. One that is there already stays.
    pub(super) fn add(&self, channel: ChannelId) {
        lock(&self.channels).entry(channel).or_insert_with(|| Entry {
            spool: Arc::new(Spool::new(self.bounds(), Arc::clone(&self.link.brake))),
            closed: self.over.child_token(),
            screen: Arc::default(),
            session: None,
        });
    }

    /// Looks at a channel.
    pub(super) fn with<T>(
        &self,
        channel: ChannelId,
        look: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        lock(&self.channels).get_mut(&channel).map(look)
    }

    /// The client has closed a channel: it hears nothing more, but what it sent still reaches its program.
    pub(super) fn closed(&self, channel: ChannelId) {
        let removed = lock(&self.channels).remove(&channel);
        if let Some(entry) = removed {
            entry.spool.end();
            entry.closed.cancel();
        }
    }

    /// Takes a channel off the list that is over.
    pub(super) fn remove(&self, channel: ChannelId) {
        let removed = lock(&self.channels).remove(&channel);
        if let Some(entry) = removed {
            entry.closed.cancel();
            entry.spool.discard();
        }
    }

    /// The connection is lost: so are the sessions that its client has not closed, and who came through it.
    fn lose(&self) {
        // Before its forwards are closed, by whose end those on the other side know that it is over.
        self.loss.say();
        for session in lock(&self.channels).values().filter_map(|entry| entry.session) {
            self.broker.lost(session);
        }
    }

    /// Hands what the client sends in a channel to a stream, to its end. What was kept and cannot be read ends the connection,
    /// and this never: the program must not take it for the end of its input.
    pub(super) async fn pass(&self, spool: &Spool, to: &Stream) {
        if let Err(unreadable) = spool.pass(to).await {
            self.note(unreadable.to_string());
            self.over.cancel();
            std::future::pending::<()>().await;
        }
    }

    /// Something happened that is not a keepalive.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(now, Ordering::Relaxed);
    }

    /// The client has authenticated.
    pub(super) fn authenticate(&self) {
        self.authenticated.store(true, Ordering::Release);
        self.progress.notify_one();
    }

    /// One more attempt; how many there were.
    pub(super) fn attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes why the connection ends; the first reason counts.
    pub(super) fn note(&self, reason: impl Into<String>) {
        lock(&self.reason).get_or_insert_with(|| reason.into());
    }

    fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Acquire)
    }

    fn idle_for(&self) -> Duration {
        self.origin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.active.load(Ordering::Relaxed)))
    }

    fn bounds(&self) -> Bounds {
        let total = self.limits.spool_bytes;
        Bounds {
            memory: SPOOL_MEMORY_BYTES.min(usize::try_from(total).unwrap_or(usize::MAX)),
            total,
            overrun: OVERRUN_BYTES,
        }
    }

    /// Why the client is to be sent away now, if it is.
    fn overdue(&self) -> Option<Dismissal> {
        overdue(&self.limits, self.is_authenticated(), self.idle_for(), self.link.stalled_for())
    }
}

impl Shelf for Connection {
    async fn file(&self) -> Option<File> {
        let question = Question::Spool { connection: self.id };
        match self.broker.ask(question, FILE_TIME).await {
            (Answer::Opened { .. }, descriptors) => descriptors.into_iter().next().map(File::from),
            _ => None,
        }
    }
}

/// Whether a connection was lost: said at its end, before its forwards are closed.
#[derive(Debug, Clone, Default)]
pub(super) struct Loss(Arc<AtomicBool>);

impl Loss {
    fn say(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_said(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Where a client went on to that comes through a forward of another connection.
#[derive(Debug)]
pub(super) struct Visit {
    /// The name of the host.
    pub(super) host: String,
    /// The other connection.
    pub(super) through: ConnectionId,
    /// Whether that was lost.
    pub(super) loss: Loss,
}

/// A connection among those that have not authenticated.
pub(super) trait Startup: Send {
    /// It has; called at most once.
    fn authenticated(&mut self);
    /// It is over.
    fn over(&mut self, offence: Option<Offence>);
}

/// Why a client is sent away.
struct Dismissal {
    reason: String,
    /// It is not there any more.
    is_lost: bool,
}

impl Dismissal {
    /// Whether it is there or not.
    fn order(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_lost: false }
    }
}

/// Why a client is sent away that has been idle, and has taken nothing, for so long.
fn overdue(
    limits: &Limits,
    is_authenticated: bool,
    idle: Duration,
    stalled: Duration,
) -> Option<Dismissal> {
    // russh asks for no sign of life while it waits to write.
    let silence_max = Duration::from_secs(limits.keepalive_seconds.into())
        * (limits.keepalive_count.saturating_add(1));
    if !silence_max.is_zero() && stalled >= silence_max {
        let reason = "the client takes nothing any more".to_owned();
        return Some(Dismissal { reason, is_lost: true });
    }
    let idle_max = Duration::from_secs(limits.idle_seconds.into());
    if !idle_max.is_zero() && is_authenticated && idle >= idle_max {
        // One that takes nothing is not idle: it is not there.
        let reason = "idle for too long".to_owned();
        return Some(Dismissal { reason, is_lost: stalled >= WATCH_TIME });
    }
    None
}

/// How russh ended.
#[derive(Debug)]
enum End {
    /// The session is over.
    Over(Option<russh::Error>),
    /// It panicked.
    Crashed,
}

/// Whether a connection that nobody was sent away from was lost. The library shuts our side when the client has said that
/// it disconnects, and not when its side ends without a word, is reset, or is silent for too long.
///
/// What comes through another connection has that one's client in between, who closes the way when he leaves, whether our
/// client's last word has passed or not: an end without a word says nothing there, unless `outer`, that connection, was lost.
fn is_lost(end: &End, is_shut: bool, outer: Option<&Loss>) -> bool {
    match end {
        End::Crashed => true,
        // More was sent than may wait.
        End::Over(Some(russh::Error::Pending)) => false,
        End::Over(Some(russh::Error::KeepaliveTimeout)) => !is_shut,
        End::Over(_) => !is_shut && outer.is_none_or(Loss::is_said),
    }
}

/// Serves one client to its end. Whatever happens here ends this connection only.
pub(super) async fn serve(
    wire: impl Wire,
    config: Arc<Config>,
    connection: Arc<Connection>,
    mut startup: impl Startup,
) {
    let mut orders = connection.broker.orders_for(connection.id);
    let mut grace_exceeded = false;
    let mut dismissed_as_lost = None;
    let transport = Transport::new(wire, Arc::clone(&connection.link));
    let handler = Handler::new(Arc::clone(&connection));
    let started = run_stream(config, transport, handler);
    let grace = Duration::from_secs(connection.limits.login_grace_seconds.into());
    let end = match tokio::time::timeout(IDENTIFICATION_TIME.min(grace), started).await {
        Err(_) => {
            grace_exceeded = true;
            connection.note("no identification string in time");
            End::Over(None)
        }
        Ok(Err(error)) => End::Over(Some(error)),
        Ok(Ok(mut session)) => {
            let grace = connection.origin + grace;
            let handle = session.handle();
            let mut watch = tokio::time::interval(WATCH_TIME);
            let mut farewell: Option<Instant> = None;
            loop {
                let dismissal = tokio::select! {
                    result = &mut session => break match result {
                        Ok(()) => End::Over(None),
                        // Nobody aborts it.
                        Err(russh::Error::Join(_)) => End::Crashed,
                        Err(error) => End::Over(Some(error)),
                    },
                    () = connection.progress.notified() => {
                        startup.authenticated();
                        connection.touch();
                        continue;
                    }
                    () = tokio::time::sleep_until(grace),
                        if !grace_exceeded && !connection.is_authenticated() =>
                    {
                        grace_exceeded = true;
                        connection.note("did not authenticate in time");
                        connection.link.cut();
                        continue;
                    }
                    Some(reason) = orders.recv(), if farewell.is_none() => {
                        Some(Dismissal::order(reason))
                    }
                    () = connection.over.cancelled(), if farewell.is_none() => {
                        let reason = lock(&connection.reason).clone().unwrap_or_default();
                        Some(Dismissal::order(reason))
                    }
                    () = connection.broker.gone().cancelled() => {
                        connection.link.cut();
                        break End::Over(None);
                    }
                    _ = watch.tick() => {
                        let shut = connection.link.is_shut();
                        farewell = farewell.or_else(|| shut.then(|| Instant::now() + FAREWELL_TIME));
                        match farewell {
                            None => connection.overdue(),
                            Some(_) => None,
                        }
                    }
                    () = sleep_until(farewell), if farewell.is_some() => {
                        connection.link.cut();
                        farewell = Some(Instant::now() + FAREWELL_TIME);
                        continue;
                    }
                };
                if let Some(Dismissal { reason, is_lost }) = dismissal {
                    dismissed_as_lost = Some(is_lost);
                    connection.note(reason.clone());
                    farewell = Some(Instant::now() + FAREWELL_TIME);
                    let message =
                        handle.disconnect(Disconnect::ByApplication, reason, String::new());
                    // A session that is not listening is cut off after the farewell.
                    tokio::time::timeout(FAREWELL_TIME, message).await.ok();
                }
            }
        }
    };
    let outer = connection.outer_loss.as_ref();
    if dismissed_as_lost.unwrap_or_else(|| is_lost(&end, connection.link.is_shut(), outer)) {
        connection.lose();
    }
    connection.over.cancel();
    finish(&connection, &mut startup, &end, grace_exceeded);
}

fn finish(connection: &Connection, startup: &mut impl Startup, end: &End, grace_exceeded: bool) {
    let offence = match end {
        End::Crashed => Some(Offence::Crash),
        _ if grace_exceeded => Some(Offence::Grace),
        _ if connection.is_authenticated() => None,
        _ if connection.attempts.load(Ordering::Relaxed) > 0 => Some(Offence::Failed),
        _ => Some(Offence::NoAttempt),
    };
    match end {
        End::Crashed => connection.note("an error of the gateway itself"),
        End::Over(Some(error)) => connection.note(error.to_string()),
        End::Over(None) => connection.note("closed by the client"),
    }
    let entries: Vec<_> = lock(&connection.channels).drain().collect();
    for (_, entry) in entries {
        entry.closed.cancel();
        entry.spool.discard();
    }
    startup.over(offence);
    let reason = lock(&connection.reason).clone().unwrap_or_default();
    let (read, written) = connection.link.traffic();
    tracing::debug!(connection = connection.id, read, written, "connection over: {reason}");
    connection.broker.disconnected(connection.id, reason);
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use russh::Error;

    use super::*;
    use crate::config::LIMITS_DEFAULT;

    #[test]
    fn who_takes_nothing_is_lost_and_not_idle() {
        let limits = Limits {
            keepalive_seconds: 10,
            keepalive_count: 2,
            idle_seconds: 20,
            ..LIMITS_DEFAULT
        };
        let of = |is_in, idle, stalled| {
            let [idle, stalled] = [idle, stalled].map(Duration::from_secs);
            overdue(&limits, is_in, idle, stalled).map(|dismissal| dismissal.is_lost)
        };
        for (is_in, idle, stalled, wanted) in [
            (true, 19, 0, None),
            (true, 20, 0, Some(false)),
            (false, 20, 0, None),
            (true, 20, 20, Some(true)),
            (true, 30, 30, Some(true)),
            (true, 0, 30, Some(true)),
            (true, 0, 29, None),
        ] {
            assert_eq!(of(is_in, idle, stalled), wanted, "{idle} {stalled}");
        }
        let endless = Limits { keepalive_seconds: 0, idle_seconds: 0, ..LIMITS_DEFAULT };
        let day = Duration::from_hours(24);
        assert!(overdue(&endless, true, day, day).is_none());
    }

    #[test]
    fn a_connection_is_lost_that_ends_without_a_word() {
        let broken = || Error::IO(std::io::ErrorKind::UnexpectedEof.into());
        let (left, lost) = (Loss::default(), Loss::default());
        lost.say();
        // By itself, through one that its client has left or still has, and through one that was lost.
        for (end, is_shut, wanted) in [
            (End::Over(None), true, [false; 3]),
            (End::Over(None), false, [true, false, true]),
            (End::Over(Some(broken())), false, [true, false, true]),
            (End::Over(Some(Error::KeepaliveTimeout)), false, [true; 3]),
            // The client has disconnected, and does not close its side.
            (End::Over(Some(broken())), true, [false; 3]),
            (End::Over(Some(Error::Pending)), false, [false; 3]),
            (End::Crashed, false, [true; 3]),
        ] {
            let told = [None, Some(&left), Some(&lost)].map(|outer| is_lost(&end, is_shut, outer));
            assert_eq!(told, wanted, "{end:?}");
        }
    }
}
