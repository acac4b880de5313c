//! Hears one net: decides what can be decided at once, and hands the rest to the tasks of connections and sessions.
//! Nothing here waits for a container, the engine, a client or a disk; only for net to take its answers.
//!
//! Every question may come from a net that was taken over: what it names is looked up, what it sends is counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

use super::codes::CodeError;
use super::connection::{Connection, Proved};
use super::refusal;
use super::session::{self, Loss, ORDERS_MAX, Order, Wanted};
use super::words::{Unheard, Words};
use super::{Shared, audit, forward, signals};
use crate::policy::{self, Denial, Identity};
use crate::proof::{self, Presence, ProofError};
use crate::wire::Program;
use crate::wire::net::{Answer, Ask, ConnectionId, ItemId, LoginName, Question, Refusal, Signed};

/// Connections of one net.
const CONNECTIONS_MAX: usize = 65_536;
/// Streams of one connection, beside what its limits allow: net closes them when it has seen their end.
const ITEMS_SLACK: usize = 64;
/// What a net is told that has forgotten who is there.
const NO_CONNECTION: &str = "there is no such connection";
/// Keys of one connection whose refusal is logged when they are offered.
const OFFERS_LOGGED_MAX: u32 = 6;
/// Codes that a client may try on one connection.
const CODE_ATTEMPTS_MAX: u32 = 3;
/// How the audit calls a second factor that was given.
const CODE: &str = "totp";
/// The same, where it was given on the connection that a client came through.
const ONWARD: &str = "totp, on the way";
/// Files for waiting bytes that one connection may ask for in its life.
const SPOOLS_MAX: u64 = 1_000_000;

/// What one net has open.
#[derive(Debug)]
pub(super) struct Hub {
    shared: Arc<Shared>,
    words: Words,
    connections: HashMap<ConnectionId, Open>,
    items: HashMap<ItemId, Item>,
    /// Clients that have proved a key, and of whom a code is needed too.
    owing: HashMap<ConnectionId, Owing>,
    /// How many refused keys each connection has offered.
    refused_offers: HashMap<ConnectionId, u32>,
    /// Nothing new begins.
    is_draining: bool,
}

#[derive(Debug)]
struct Open {
    connection: Arc<Connection>,
    /// Sessions and forwards that run; the connection is over when they are.
    tasks: JoinSet<()>,
    sessions: usize,
    items: usize,
    spools: u64,
}

impl Open {
    /// Whether so many sessions and forwards run or are still ending that there is no room for another.
    fn is_full(&mut self, items_max: usize) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len() >= items_max
    }
}

#[derive(Debug)]
struct Item {
    owner: ConnectionId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Session { orders: mpsc::Sender<Order>, loss: Loss, is_started: bool },
    Forward { _closed: oneshot::Sender<()> },
}

/// Net has said what an honest one does not say, or does not listen: it is stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("net does not take its answers")]
    Unheard,
    #[error("net breaks the rules: {0}")]
    Rule(&'static str),
}

impl From<Unheard> for Broken {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

impl Hub {
    pub(super) fn new(shared: Arc<Shared>, words: Words) -> Self {
        let (connections, items, owing, refused_offers) = Default::default();
        Self { shared, words, connections, items, owing, refused_offers, is_draining: false }
    }

    /// Hears one question.
    pub(super) async fn hear(&mut self, ask: Ask) -> Result<(), Broken> {
        let number = ask.number;
        match ask.question {
            Question::Offer { connection, peer, login, key } => {
                self.offer(number, connection, peer, &login, &key).await
            }
            Question::Authenticate {
                connection,
                peer,
                local,
                login,
                key,
                signed,
                client,
                through,
            } => {
                let asked = Authentication { peer, local, login, key, signed, client, through };
                self.authenticate(number, connection, asked).await
            }
            Question::Code { connection, login, code } => {
                self.code(number, connection, &login, &code.0).await
            }
            Question::Prepare { connection, session } => self.prepare(connection, session).await,
            Question::Start { connection, session, program, terminal, environment, agent } => {
                let wanted = Wanted { number, program, terminal, environment, agent };
                self.start(connection, session, wanted).await
            }
            Question::Signal { session, name } => {
                self.signal(session, &name);
                Ok(())
            }
            Question::Close { item } => {
                self.close(item);
                Ok(())
            }
            Question::Lost { session } => {
                self.lost(session);
                Ok(())
            }
            Question::Connect { connection, item, to } => {
                let (closing, closed) = oneshot::channel();
                let kind = Kind::Forward { _closed: closing };
                let Some(open) = self.add(number, connection, item, kind).await? else {
                    return Ok(());
                };
                let connection = Arc::clone(&open.connection);
                open.tasks.spawn(async move {
                    forward::connect(&connection, number, item, to, closed).await;
                });
                Ok(())
            }
            Question::Listen { connection, item, at } => {
                let (closing, closed) = oneshot::channel();
                let kind = Kind::Forward { _closed: closing };
                let Some(open) = self.add(number, connection, item, kind).await? else {
                    return Ok(());
                };
                let connection = Arc::clone(&open.connection);
                open.tasks.spawn(async move {
                    forward::listen(&connection, number, item, at, closed).await;
                });
                Ok(())
            }
            Question::Spool { connection } => self.spool(number, connection).await,
            Question::Disconnected { connection, reason } => {
                self.disconnected(connection, &reason);
                Ok(())
            }
        }
    }

    /// The connections that are open.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// Tells every session and forward to end, and lets none begin.
    pub(super) fn end_sessions(&mut self) {
        self.is_draining = true;
        let items: Vec<_> = self.items.keys().copied().collect();
        for item in items {
            self.close(item);
        }
    }

    /// Whether nothing runs any more.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.connections.values_mut().all(|open| {
            while open.tasks.try_join_next().is_some() {}
            open.tasks.is_empty()
        })
    }

    /// Ends everything that is left: net is gone, and with it every connection, unless it is the gateway that ends.
    pub(super) fn end(mut self, reason: &str) {
        for session in self.items.keys() {
            self.lost(*session);
        }
        for connection in self.connections() {
            self.disconnected(connection, reason);
        }
    }

    async fn offer(
        &mut self,
        number: u64,
        id: ConnectionId,
        peer: SocketAddr,
        login: &LoginName,
        key: &[u8],
    ) -> Result<(), Broken> {
        let (policy, from) = (self.shared.policy(), peer.ip().to_canonical());
        let admitted = policy::admit(&policy, key, Presence::Offered, from, Timestamp::now());
        let answer = match admitted {
            Ok(_) => Answer::Granted,
            Err(denial) => {
                if self.is_offer_logged(id) {
                    audit::key_refused(id, &denial, login, peer, key);
                }
                Answer::Refused(not_authorized())
            }
        };
        Ok(self.words.answer_in_time(number, answer, Vec::new()).await?)
    }

    /// Clients offer every key they have, and most never come further: so this is where it is seen who was refused.
    fn is_offer_logged(&mut self, id: ConnectionId) -> bool {
        if self.refused_offers.len() >= CONNECTIONS_MAX && !self.refused_offers.contains_key(&id) {
            return false;
        }
        let refused = self.refused_offers.entry(id).or_default();
        *refused = refused.saturating_add(1);
        *refused <= OFFERS_LOGGED_MAX
    }

    async fn authenticate(
        &mut self,
        number: u64,
        id: ConnectionId,
        asked: Authentication,
    ) -> Result<(), Broken> {
        let Authentication { peer, local, login, key, signed, client, through } = asked;
        if self.connections.contains_key(&id) || self.owing.contains_key(&id) {
            // Its first answer came too late for net to wait for it.
            return self
                .refuse(number, refusal::failed("the connection is somebody's already"))
                .await;
        }
        if self.connections.len() + self.owing.len() >= CONNECTIONS_MAX {
            let answer = Answer::Refused(refusal::failed("the gateway has too many connections"));
            return Ok(self.words.answer_in_time(number, answer, Vec::new()).await?);
        }
        let admitted = self.admit(&login, &key, &signed, peer.ip());
        let (identity, presence) = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                audit::login_denied(&self.shared, id, &refused, &login, peer, &key);
                let answer = Answer::Refused(not_authorized());
                return Ok(self.words.answer_in_time(number, answer, Vec::new()).await?);
            }
        };
        let proved = Proved { key, presence, has_code: false };
        let mut owing = Owing { peer, local, login, proved, client, attempts: 0 };
        let factor = if !identity.owes_code() {
            None
        } else if self.has_given_code(&identity, &owing, through) {
            owing.proved.has_code = true;
            Some(ONWARD)
        } else {
            self.owing.insert(id, owing);
            let answer = Answer::CodeNeeded;
            return Ok(self.words.answer_in_time(number, answer, Vec::new()).await?);
        };
        let client = owing.client.clone();
        let connection = self.enter(id, identity, owing);
        connection.let_in(&client, factor);
        Ok(self.words.answer_in_time(number, Answer::Granted, Vec::new()).await?)
    }

    /// Whether a client comes through a connection on which its identity has given a code: the same one would not count
    /// again. Which connection that is, is net's word, and that it is there and whose it is, is not.
    fn has_given_code(
        &self,
        identity: &Identity,
        owing: &Owing,
        through: Option<ConnectionId>,
    ) -> bool {
        let outer = through.filter(|_| owing.login.host.is_some());
        let outer = outer.and_then(|outer| self.connections.get(&outer));
        outer.is_some_and(|outer| {
            let coded = outer.connection.coded_identity();
            coded.is_some() && coded == identity.name() && outer.connection.peer == owing.peer
        })
    }

    /// From now on there is such a connection; nothing begins on it before it is let in.
    fn enter(&mut self, id: ConnectionId, identity: Identity, owing: Owing) -> Arc<Connection> {
        let Owing { peer, local, login, proved, .. } = owing;
        let (shared, words) = (Arc::clone(&self.shared), self.words.clone());
        let connection = Connection::new(id, shared, words, identity, proved, login, (peer, local));
        let connection = Arc::new(connection);
        let open = Open {
            connection: Arc::clone(&connection),
            tasks: JoinSet::new(),
            sessions: 0,
            items: 0,
            spools: 0,
        };
        self.connections.insert(id, open);
        connection
    }

    async fn code(
        &mut self,
        number: u64,
        id: ConnectionId,
        login: &LoginName,
        given: &[u8],
    ) -> Result<(), Broken> {
        let Some(mut owing) = self.owing.remove(&id) else {
            return self.refuse(number, not_authorized()).await;
        };
        owing.attempts += 1;
        let identity = match self.take_code(&owing, login, given) {
            Ok(identity) => identity,
            Err(refused) => {
                let Owing { login, peer, proved, .. } = &owing;
                audit::login_denied(&self.shared, id, &refused, login, *peer, &proved.key);
                if owing.attempts < CODE_ATTEMPTS_MAX {
                    self.owing.insert(id, owing);
                }
                return self.refuse(number, not_authorized()).await;
            }
        };
        owing.proved.has_code = true;
        let (client, key) = (owing.client.clone(), owing.proved.key.clone());
        let connection = self.enter(id, identity, owing);
        let Some(open) = self.connections.get_mut(&id) else { return Ok(()) };
        // A disk may be slow.
        open.tasks.spawn(async move {
            match connection.shared.codes.save().await {
                Ok(()) => {
                    connection.let_in(&client, Some(CODE));
                    connection.words.answer(number, Answer::Granted, Vec::new()).await;
                }
                Err(error) => {
                    let refused = Refused::Unkept(error);
                    let (login, peer) = (&connection.login, connection.peer);
                    audit::login_denied(&connection.shared, id, &refused, login, peer, &key);
                    connection.refuse(number, not_authorized()).await;
                }
            }
        });
        Ok(())
    }

    /// Who it is that has given a code, by what counts now.
    fn take_code(
        &self,
        owing: &Owing,
        login: &LoginName,
        given: &[u8],
    ) -> Result<Identity, Refused> {
        if *login != owing.login {
            return Err(Refused::OtherName);
        }
        let (policy, now) = (self.shared.policy(), Timestamp::now());
        let Proved { key, presence, .. } = &owing.proved;
        let peer = owing.peer.ip().to_canonical();
        let identity = policy::admit(&policy, key, *presence, peer, now)?;
        let secret = identity.name().and_then(|who| Some((who, policy.secret(who)?)));
        let (who, secret) = secret.ok_or(Denial::Code)?;
        self.shared.codes.take(who, secret, given, now)?;
        Ok(identity)
    }

    /// Who it is that has signed, by a proof that nobody has come in with before.
    fn admit(
        &self,
        login: &LoginName,
        key: &[u8],
        signed: &Signed,
        peer: IpAddr,
    ) -> Result<(Identity, Presence), Refused> {
        let proof = proof::verify(&login.user, key, signed)?;
        let policy = self.shared.policy();
        let (peer, now) = (peer.to_canonical(), Timestamp::now());
        let identity = policy::admit(&policy, key, proof.presence, peer, now)?;
        let mut sessions = self.shared.proved.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.take(&proof.session)?;
        Ok((identity, proof.presence))
    }

    async fn prepare(&mut self, connection: ConnectionId, session: ItemId) -> Result<(), Broken> {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let loss = Loss::default();
        let kind = Kind::Session { orders, loss: loss.clone(), is_started: false };
        // Nobody waits for an answer: too many sessions are refused when they are started.
        let Some(open) = self.add(0, connection, session, kind).await? else { return Ok(()) };
        open.sessions += 1;
        open.tasks.spawn(session::run(Arc::clone(&open.connection), session, loss, receiver));
        Ok(())
    }

    async fn start(
        &mut self,
        owner: ConnectionId,
        session: ItemId,
        wanted: Wanted,
    ) -> Result<(), Broken> {
        let number = wanted.number;
        // What policy decides order by order, and what only comparisons use: no client asks for it.
        if matches!(wanted.program, Program::Portal | Program::Words(_)) {
            return Err(Broken::Rule("a session is to run what no client can ask for"));
        }
        if !self.connections.get(&owner).is_some_and(|open| open.connection.is_in()) {
            return self.refuse(number, refusal::failed(NO_CONNECTION)).await;
        }
        if !self.items.contains_key(&session) {
            self.prepare(owner, session).await?;
        }
        match self.items.get_mut(&session) {
            Some(Item { owner: its, kind: Kind::Session { orders, is_started, .. } })
                if *its == owner =>
            {
                if std::mem::replace(is_started, true) {
                    return Err(Broken::Rule("a session is started twice"));
                }
                if orders.try_send(Order::Start(Box::new(wanted))).is_err() {
                    return self.refuse(number, refusal::failed("the session has ended")).await;
                }
                Ok(())
            }
            Some(_) => Err(Broken::Rule("a session is started that is another's")),
            None => self.refuse(number, refusal::failed("there are too many sessions")).await,
        }
    }

    fn signal(&mut self, session: ItemId, name: &str) {
        let Some(Item { kind: Kind::Session { orders, .. }, .. }) = self.items.get(&session) else {
            return;
        };
        if let Some(number) = signals::number(name)
            && orders.try_send(Order::Signal(number)).is_err()
        {
            tracing::debug!(session, "a signal is lost");
        }
    }

    /// The connection of a session is lost; it is closed next. What the gateway ends is not lost.
    fn lost(&self, session: ItemId) {
        if let Some(Item { kind: Kind::Session { loss, .. }, .. }) = self.items.get(&session)
            && !self.is_draining
        {
            loss.say();
        }
    }

    fn close(&mut self, item: ItemId) {
        let Some(Item { owner, kind }) = self.items.remove(&item) else { return };
        if let Some(open) = self.connections.get_mut(&owner) {
            open.items = open.items.saturating_sub(1);
            if matches!(kind, Kind::Session { .. }) {
                open.sessions = open.sessions.saturating_sub(1);
            }
            while open.tasks.try_join_next().is_some() {}
        }
        // With what was removed the sender of a session's orders is dropped, which ends it.
    }

    async fn spool(&mut self, number: u64, connection: ConnectionId) -> Result<(), Broken> {
        let items_max = self.items_max();
        let Some(open) = self.connections.get_mut(&connection) else {
            return self.refuse(number, refusal::failed(NO_CONNECTION)).await;
        };
        open.spools += 1;
        if open.spools > SPOOLS_MAX || open.is_full(items_max) {
            return self.refuse(number, refusal::failed("there are too many waiting bytes")).await;
        }
        let connection = Arc::clone(&open.connection);
        open.tasks.spawn(async move {
            // A disk may be slow.
            let its = Arc::clone(&connection);
            let made = spawn_blocking(move || its.spool_file()).await;
            match made.map_err(io::Error::other).and_then(|made| made) {
                Ok(file) => {
                    let answer = Answer::Opened { port: None };
                    connection.words.answer(number, answer, vec![file]).await;
                }
                Err(error) => {
                    tracing::error!("cannot make a file for waiting bytes: {error}");
                    let refusal = refusal::failed("the gateway has no room for waiting bytes");
                    connection.refuse(number, refusal).await;
                }
            }
        });
        Ok(())
    }

    fn disconnected(&mut self, id: ConnectionId, reason: &str) {
        self.refused_offers.remove(&id);
        self.owing.remove(&id);
        let Some(Open { connection, mut tasks, .. }) = self.connections.remove(&id) else { return };
        self.items.retain(|_, item| item.owner != id);
        connection.unlist();
        let (running, reason) = (self.shared.running.clone(), reason.to_owned());
        running.spawn(async move {
            while tasks.join_next().await.is_some() {}
            connection.end().await;
            audit::logout(&connection, &reason);
        });
    }

    /// How many things one connection may have at once.
    fn items_max(&self) -> usize {
        let limits = &self.shared.config.limits;
        usize::try_from(limits.channels.saturating_add(limits.listeners))
            .unwrap_or(usize::MAX)
            .saturating_add(ITEMS_SLACK)
    }

    /// Adds what net has numbered; `None` when it was refused.
    async fn add(
        &mut self,
        number: u64,
        owner: ConnectionId,
        item: ItemId,
        kind: Kind,
    ) -> Result<Option<&mut Open>, Broken> {
        let items_max = self.items_max();
        let sessions_max =
            usize::try_from(self.shared.config.limits.sessions).unwrap_or(usize::MAX);
        let is_session = matches!(kind, Kind::Session { .. });
        // What was closed and is still ending counts too.
        let is_full = self.connections.get_mut(&owner).is_some_and(|open| open.is_full(items_max));
        let fault = match self.connections.get(&owner) {
            None => Some(NO_CONNECTION),
            Some(open) if !open.connection.is_in() => Some(NO_CONNECTION),
            Some(_) if self.is_draining => Some("the gateway is stopping"),
            Some(open) if open.items >= items_max || is_full => Some("there are too many channels"),
            Some(open) if is_session && open.sessions >= sessions_max => {
                Some("there are too many sessions")
            }
            Some(_) => None,
        };
        if let Some(fault) = fault {
            self.refuse(number, refusal::failed(fault)).await?;
            return Ok(None);
        }
        match self.items.entry(item) {
            Entry::Occupied(_) => return Err(Broken::Rule("a number is used twice")),
            Entry::Vacant(entry) => {
                entry.insert(Item { owner, kind });
            }
        }
        let mut open = self.connections.get_mut(&owner);
        if let Some(open) = open.as_deref_mut() {
            open.items += 1;
        }
        Ok(open)
    }

    async fn refuse(&self, number: u64, refusal: Refusal) -> Result<(), Broken> {
        // Nobody waits for an answer to 0.
        if number == 0 {
            return Ok(());
        }
        Ok(self.words.answer_in_time(number, Answer::Refused(refusal), Vec::new()).await?)
    }
}

/// Why a key that has signed does not come in.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Denied(#[from] Denial),
    /// An honest net has verified the same.
    #[error("net claims what was not proved: {0}")]
    NotProved(#[from] ProofError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error("it cannot be kept that the code was used: {0}")]
    Unkept(String),
    /// A key is proved for one login name.
    #[error("the code was given under another login name")]
    OtherName,
}

/// What a client has signed, and how it came.
struct Authentication {
    peer: SocketAddr,
    local: SocketAddr,
    login: LoginName,
    key: Vec<u8>,
    signed: Signed,
    client: String,
    through: Option<ConnectionId>,
}

/// A client that has proved a key, and of whom a code may be needed too.
#[derive(Debug)]
struct Owing {
    peer: SocketAddr,
    local: SocketAddr,
    login: LoginName,
    proved: Proved,
    client: String,
    attempts: u32,
}

/// The same for every reason.
fn not_authorized() -> Refusal {
    refusal::prohibited("the key is not authorized")
}
