//! Streams that are no programs: forwards both ways, and the client's agent.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::broker::Item;
use super::connection::Connection;
use super::lock;
use super::output::{self, Out};
use super::spool::Spool;
use super::stream::Stream;
use crate::wire::net::{Answer, Place, Question, Refusal};

/// How long a container may take to open a socket: a portal may have to start first, and names to be resolved.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What SSH calls "administratively prohibited" (RFC 4254, 5.1).
const CODE_PROHIBITED: u32 = 1;
/// What SSH calls "connect failed".
const CODE_CONNECT_FAILED: u32 = 2;

/// A channel that the client opened to reach something.
pub(super) struct Forward {
    /// Whose.
    pub(super) connection: Arc<Connection>,
    /// At the broker.
    pub(super) item: Item,
    /// To the client.
    pub(super) out: Out,
    /// From the client.
    pub(super) spool: Arc<Spool>,
    /// Cancelled when the client closes the channel.
    pub(super) closed: CancellationToken,
    /// Its room among the channels, until it is closed.
    pub(super) permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Forward {
    /// Connects, and passes bytes both ways to the end.
    pub(super) async fn run(self, to: Place, reply: ChannelOpenHandle) {
        tokio::select! {
            biased;
            () = self.connection.over.cancelled() => {}
            () = self.serve(to, reply) => {}
        }
        self.connection.remove(self.out.id());
    }

    async fn serve(&self, to: Place, reply: ChannelOpenHandle) {
        let question =
            Question::Connect { connection: self.connection.id, item: self.item.id(), to };
        match opened(self.connection.broker.ask(question, CONNECT_TIME).await) {
            Ok((descriptor, _)) => match Stream::new(descriptor) {
                Ok(stream) => {
                    reply.accept().await;
                    let (connection, spool, out) = (&self.connection, &self.spool, &self.out);
                    tokio::select! {
                        () = self.item.hang_up().cancelled() => {}
                        () = splice(connection, spool, &self.closed, out, stream) => {}
                    }
                    lock(&self.permit).take();
                    self.out.close().await.ok();
                }
                Err(error) => {
                    let reason = format!("the stream could not be used: {error}");
                    reply
                        .reject(ChannelOpenFailure::Other { code: CODE_CONNECT_FAILED, reason })
                        .await;
                }
            },
            Err(refusal) => {
                let code = if refusal.prohibited { CODE_PROHIBITED } else { CODE_CONNECT_FAILED };
                reply.reject(ChannelOpenFailure::Other { code, reason: refusal.message }).await;
            }
        }
    }
}

/// Asks for a listener; its descriptor and port. Whoever waits in the session loop gives up earlier.
pub(super) async fn listen(
    connection: &Connection,
    item: &Item,
    at: Place,
) -> Result<(OwnedFd, Option<u16>), Refusal> {
    let question = Question::Listen { connection: connection.id, item: item.id(), at };
    opened(connection.broker.ask(question, CONNECT_TIME).await)
}

/// Where a client wanted us to listen, as it must be told of each connection.
#[derive(Debug, Clone)]
pub(super) enum Ear {
    /// `tcpip-forward`.
    Tcp {
        /// As the client wrote it.
        host: String,
        /// The real one.
        port: u16,
    },
    /// `streamlocal-forward@openssh.com`.
    Unix {
        /// As the client wrote it.
        path: String,
    },
}

/// Opens a channel to the client for every connection to a listener, until the broker ends it.
pub(super) async fn accept(
    connection: Arc<Connection>,
    handle: Handle,
    descriptor: OwnedFd,
    ear: Ear,
    hang_up: CancellationToken,
) -> std::io::Result<()> {
    tokio::select! {
        () = hang_up.cancelled() => Ok(()),
        failed = accept_all(&connection, &handle, descriptor, ear, &hang_up) => failed,
    }
}

async fn accept_all(
    connection: &Arc<Connection>,
    handle: &Handle,
    descriptor: OwnedFd,
    ear: Ear,
    hang_up: &CancellationToken,
) -> std::io::Result<()> {
    match ear {
        Ear::Tcp { host, port } => {
            let listener = TcpListener::from_std(into_std(descriptor)?)?;
            loop {
                let Ok((socket, peer)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                // The bytes are the client's business, and so is when to send them.
                socket.set_nodelay(true).ok();
                let (handle, host) = (handle.clone(), host.clone());
                let open = async move {
                    let (ip, peer_port) = (peer.ip().to_string(), peer.port().into());
                    handle.channel_open_forwarded_tcpip(host, port.into(), ip, peer_port).await
                };
                backward(connection, open, OwnedFd::from(socket.into_std()?), hang_up);
            }
        }
        Ear::Unix { path } => {
            let listener = unix(descriptor)?;
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (handle, path) = (handle.clone(), path.clone());
                let open = async move { handle.channel_open_forwarded_streamlocal(path).await };
                backward(connection, open, OwnedFd::from(socket.into_std()?), hang_up);
            }
        }
    }
}

/// Opens a channel to the client's agent for every connection to the socket in the container.
pub(super) async fn agent(connection: Arc<Connection>, handle: Handle, descriptor: OwnedFd) {
    let Ok(listener) = unix(descriptor) else { return };
    // It ends with its session.
    let hang_up = CancellationToken::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let handle = handle.clone();
        let open = async move { handle.channel_open_agent().await };
        let Ok(socket) = socket.into_std() else { continue };
        backward(&connection, open, OwnedFd::from(socket), &hang_up);
    }
}

/// Opens a channel to the client, and passes bytes both ways to the end, or until it is hung up. Without room for one more
/// channel the stream is closed.
fn backward(
    connection: &Arc<Connection>,
    open: impl Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
    descriptor: OwnedFd,
    hang_up: &CancellationToken,
) {
    let Some(permit) = connection.channel_permit() else { return };
    let (connection, hang_up) = (Arc::clone(connection), hang_up.clone());
    // Not to be given up before the client has answered: russh takes that for the end of the connection.
    tokio::spawn(async move {
        let Ok(channel) = open.await else { return };
        let id = channel.id();
        // No reader: see the handler.
        let (_, out) = channel.split();
        let Ok(stream) = Stream::new(descriptor) else {
            connection.remove(id);
            out.close().await.ok();
            return;
        };
        let found = connection.with(id, |entry| (Arc::clone(&entry.spool), entry.closed.clone()));
        // The client may have closed it already.
        let Some((spool, closed)) = found else { return };
        tokio::select! {
            biased;
            () = connection.over.cancelled() => {}
            () = async {
                tokio::select! {
                    () = hang_up.cancelled() => {}
                    () = splice(&connection, &spool, &closed, &out, stream) => {}
                }
            } => {
                drop(permit);
                out.close().await.ok();
            }
        }
        connection.remove(id);
    });
}

/// Both directions, each to its own end.
async fn splice(
    connection: &Arc<Connection>,
    spool: &Arc<Spool>,
    closed: &CancellationToken,
    out: &Out,
    stream: Stream,
) {
    let stream = Arc::new(stream);
    let mut inwards = AbortOnDropHandle::new(tokio::spawn(inwards(
        Arc::clone(connection),
        Arc::clone(spool),
        Arc::clone(&stream),
    )));
    let outwards = async {
        output::copy(&stream, out, None, connection).await;
        // The connection is gone, and with it everybody who could be told.
        out.eof().await.ok();
    };
    tokio::select! {
        () = closed.cancelled() => return spool.drained_by(&mut inwards).await,
        () = outwards => {}
    }
    tokio::select! {
        () = closed.cancelled() => return spool.drained_by(&mut inwards).await,
        _ = &mut inwards => {}
    }
}

async fn inwards(connection: Arc<Connection>, spool: Arc<Spool>, stream: Arc<Stream>) {
    connection.pass(&spool, &stream).await;
    stream.finish_writing();
}

fn opened(
    (answer, descriptors): (Answer, Vec<OwnedFd>),
) -> Result<(OwnedFd, Option<u16>), Refusal> {
    let fault = || Refusal {
        message: "the gateway gave a wrong answer".to_owned(),
        status: 255,
        prohibited: false,
    };
    match answer {
        Answer::Opened { port } => {
            let descriptor = descriptors.into_iter().next().ok_or_else(fault)?;
            Ok((descriptor, port))
        }
        Answer::Refused(refusal) => Err(refusal),
        Answer::Granted | Answer::CodeNeeded | Answer::Started { .. } => Err(fault()),
    }
}

fn into_std(descriptor: OwnedFd) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn unix(descriptor: OwnedFd) -> std::io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
