//! Forwards: sockets that a portal opens in the container, by what the key allows.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::audit;
use super::connection::{Connection, NoChoice};
use super::refusal;
use super::session::NO_CONTAINER;
use super::sessions::{Listed, Running, Sessions};
use crate::control;
use crate::login::{self, shown};
use crate::policy::{Access, Denial};
use crate::wire::net::{Answer, Guest, ItemId, News, Place, Refusal};
use crate::wire::portal::{Act, Opened};

/// Where SSH is (RFC 4253, 4.1).
const SSH_PORT: u16 = 22;

/// What a forward does, as the audit has it.
const CONNECT: &str = "connect";
const LISTEN: &str = "listen";

/// A forward that is open.
struct Open {
    _listed: Listed,
    /// Ends it.
    end: CancellationToken,
}

impl Open {
    /// Puts it on the list. `host` is what it leads to where that is no container of this connection.
    fn new(
        connection: &Connection,
        name: String,
        what: &'static str,
        place: &Place,
        host: Option<&str>,
    ) -> Self {
        let end = CancellationToken::new();
        let choice = connection.chosen();
        let container = choice.map(|choice| choice.container.name.as_str());
        let rule = choice.map(|choice| choice.access.rule().name.clone());
        let listed = connection.shared.sessions.add(Running {
            told: control::Session {
                session: name,
                kind: control::Kind::Forward,
                connection: connection.id,
                identity: connection.identity.name().map(str::to_owned),
                key: connection.identity.fingerprint().to_owned(),
                peer: connection.peer.to_string(),
                container: host.or(container).unwrap_or(NO_CONTAINER).to_owned(),
                user: choice.and_then(|choice| choice.access.user()).map(str::to_owned),
                program: format!("{what} {}", audit::told_place(place)),
                terminal: false,
                rule: rule.unwrap_or_default(),
                recording: None,
                since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                lingering: None,
            },
            end: end.clone(),
            tap: None,
        });
        Self { _listed: listed, end }
    }

    /// Waits until net has closed it. Where somebody ends it before, net is told to.
    async fn last(self, connection: &Connection, item: ItemId, mut closed: oneshot::Receiver<()>) {
        tokio::select! {
            // An error is the end of the connection.
            _ = &mut closed => return,
            () = self.end.cancelled() => {}
        }
        connection.words.news(News::HangUp { item }).await;
        // As long as it is there it is on the list, whatever net makes of it.
        drop(closed.await);
    }
}

/// The name of a new forward.
fn name() -> Result<String, Refusal> {
    Sessions::name().map_err(|_| refusal::failed("there is no chance for a name"))
}

/// Opens a stream, and answers; there is one until `closed` comes.
pub(super) async fn connect(
    connection: &Connection,
    number: u64,
    item: ItemId,
    to: Place,
    closed: oneshot::Receiver<()>,
) {
    match connected(connection, &to).await {
        Ok((socket, open)) => {
            connection.words.answer(number, Answer::Opened { port: None }, vec![socket]).await;
            open.last(connection, item, closed).await;
        }
        Err(refusal) => {
            audit::forward_refused(connection, CONNECT, &to, &refusal);
            connection.refuse(number, refusal).await;
        }
    }
}

async fn connected(connection: &Connection, to: &Place) -> Result<(OwnedFd, Open), Refusal> {
    let choice = match connection.choice().await {
        Ok(choice) => choice,
        Err(none @ NoChoice::Choose { .. }) => return through(connection, to, &none).await,
        Err(none) => return Err(none.refusal()),
    };
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    connection.check(&choice.access).map_err(denied)?;
    choice.access.connect(to).map_err(denied)?;
    let act = match to.clone() {
        Place::Tcp { host, port } => {
            // A name is looked at again when it has led somewhere.
            if let Ok(address) = host.parse() {
                connection.reserved.check(SocketAddr::new(address, port)).map_err(denied)?;
            }
            Act::Connect { host, port }
        }
        Place::Unix { path } => Act::ConnectUnix { path },
    };
    let name = name()?;
    begins(connection, &name, CONNECT, to, &choice.access).await?;
    let portal = connection.portal().await?;
    let (_, opened, socket) =
        portal.order(act).await.map_err(|reason| refusal::failed(shown(&reason)))?;
    let (Opened::Connected, Some(socket)) = (opened, socket) else {
        return Err(refusal::failed("the forward could not be opened"));
    };
    if matches!(to, Place::Tcp { .. }) {
        let led_to = rustix::net::getpeername(socket.as_fd())
            .ok()
            .and_then(|address| address.and_then(|address| SocketAddr::try_from(address).ok()));
        match led_to {
            Some(address) => connection.reserved.check(address).map_err(denied)?,
            None => return Err(refusal::failed("the forward was closed at once")),
        }
    }
    Ok((socket, Open::new(connection, name, CONNECT, to, None)))
}

/// Has the audit say that a forward begins, before it does: without that none begins that must not be unrecorded.
async fn begins(
    connection: &Connection,
    name: &str,
    what: &'static str,
    place: &Place,
    access: &Access,
) -> Result<(), Refusal> {
    let shared = &connection.shared;
    let (_, unrecorded) = shared.record(access);
    let mark = shared.journal.mark();
    audit::forward(connection, name, what, place);
    shared.accountable(mark, unrecorded).await
}

/// What a login name that means no container can reach: containers, by the name of a host, over SSH (`ssh -J`). The
/// other end of the stream is net's, which serves it like any other client.
async fn through(
    connection: &Connection,
    to: &Place,
    none: &NoChoice,
) -> Result<(OwnedFd, Open), Refusal> {
    let Place::Tcp { host, port: SSH_PORT } = to else { return Err(none.refusal()) };
    // From here on it is the container, for rules, the audit and the login behind it.
    let host = login::host_container(host);
    let to = &Place::Tcp { host: host.to_owned(), port: SSH_PORT };
    // A client that came through one connection of ours does not go through another: nobody could say where it is.
    if connection.login.host.is_some() {
        return Err(none.refusal());
    }
    let behind = connection.behind(host).await.map_err(|none| none.refusal())?;
    behind.ok_or_else(|| none.refusal())?.map_err(refusal::prohibited)?;
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    let identity = connection.identity_now().map_err(|_| denied(Denial::Withdrawn))?;
    identity.may_go_on(to, Timestamp::now()).map_err(denied)?;
    // What becomes of it is a connection of its own, whose sessions and forwards ask for their own lines.
    let name = name()?;
    audit::forward(connection, &name, CONNECT, to);
    let (stream, nets) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| refusal::failed(format!("a stream could not be made: {errno}")))?;
    let guest = Guest {
        through: connection.id,
        host: host.to_owned(),
        peer: connection.peer,
        local: connection.local,
    };
    connection.words.guest(guest, nets).await;
    Ok((stream, Open::new(connection, name, CONNECT, to, Some(host))))
}

/// Listens, and answers; stops when `closed` comes.
pub(super) async fn listen(
    connection: &Connection,
    number: u64,
    item: ItemId,
    at: Place,
    closed: oneshot::Receiver<()>,
) {
    let (listener, open) = match listening(connection, &at).await {
        Ok((listener, port, socket, open)) => {
            connection.words.answer(number, Answer::Opened { port }, vec![socket]).await;
            (listener, open)
        }
        Err(refusal) => {
            audit::forward_refused(connection, LISTEN, &at, &refusal);
            return connection.refuse(number, refusal).await;
        }
    };
    open.last(connection, item, closed).await;
    unlisten(connection, item, listener).await;
}

/// Closes what the portal holds of a listener.
pub(super) async fn unlisten(connection: &Connection, item: ItemId, listener: u64) {
    if let Some(portal) = connection.existing_portal().await
        && let Err(reason) = portal.order(Act::Unlisten { number: listener }).await
    {
        tracing::debug!(
            connection = connection.id,
            item,
            "a listener is not removed: {}",
            shown(&reason)
        );
    }
}

async fn listening(
    connection: &Connection,
    at: &Place,
) -> Result<(u64, Option<u16>, OwnedFd, Open), Refusal> {
    let choice = connection.choice().await.map_err(|none| none.refusal())?;
    let denied = |denial: Denial| refusal::prohibited(denial.to_string());
    connection.check(&choice.access).map_err(denied)?;
    choice.access.listen(at).map_err(denied)?;
    let name = name()?;
    begins(connection, &name, LISTEN, at, &choice.access).await?;
    let act = match at.clone() {
        Place::Tcp { host, port } => Act::Listen { host, port },
        Place::Unix { path } => Act::ListenUnix { path },
    };
    let portal = connection.portal().await?;
    let opened = portal.order(act).await.map_err(|reason| refusal::failed(shown(&reason)))?;
    let (listener, port, socket) = match opened {
        (listener, Opened::Listening { port }, Some(socket)) => (listener, Some(port), socket),
        (listener, Opened::ListeningUnix { .. }, Some(socket)) => (listener, None, socket),
        _ => return Err(refusal::failed("the listener could not be opened")),
    };
    let at = match (at.clone(), port) {
        // The client may have left it to the container.
        (Place::Tcp { host, .. }, Some(port)) => Place::Tcp { host, port },
        (at, _) => at,
    };
    Ok((listener, port, socket, Open::new(connection, name, LISTEN, &at, None)))
}

/// A listening socket for an agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// The number of the order that made it.
    pub(super) number: u64,
    /// Its path inside.
    pub(super) path: Vec<u8>,
    pub(super) socket: OwnedFd,
}

/// A new listening socket for an agent.
pub(super) async fn agent(connection: &Connection) -> Result<Agent, Refusal> {
    let portal = connection.portal().await?;
    let opened =
        portal.order(Act::ListenAgent).await.map_err(|reason| refusal::failed(shown(&reason)))?;
    match opened {
        (number, Opened::ListeningUnix { path }, Some(socket)) => {
            Ok(Agent { number, path, socket })
        }
        _ => Err(refusal::failed("the agent's socket could not be made")),
    }
}
