//! Connects to TCP and unix sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::place::Place;
use super::resolver::Resolver;
use super::{Outcome, Sources, reason, shown};
use crate::policy::is_metadata;
use crate::wire::portal::Opened;

/// For one address.
const ADDRESS_MAX: Duration = Duration::from_secs(10);
/// For the name and all its addresses.
const DIAL_MAX: Duration = Duration::from_secs(20);
/// How long one address has for itself before the next is tried beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// A unix listener whose queue is full is asked again after this.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(50);

/// Connects to the first address of `host` that answers.
pub(super) async fn tcp(sources: &Sources, host: &str, port: u16) -> Outcome {
    let failed = |why: String| {
        Err(format!("cannot connect to {} port {port}: {why}", shown(host.as_bytes())))
    };
    let dialled = timeout(DIAL_MAX, async {
        let found = Resolver::of(sources).lookup(host).await;
        let addresses = found.map_err(|error| error.to_string())?;
        first(addresses, port).await.map_err(|error| reason(&error))
    });
    match dialled.await {
        Ok(Ok(descriptor)) => Ok((Opened::Connected, descriptor)),
        Ok(Err(why)) => failed(why),
        Err(_) => failed(format!("no answer within {} s", DIAL_MAX.as_secs())),
    }
}

/// Connects to a unix socket.
pub(super) async fn unix(place: &Place) -> Outcome {
    let failed = |why: String| Err(format!("cannot connect to {}: {why}", shown(&place.written())));
    match timeout(ADDRESS_MAX, unix_in_time(place)).await {
        Ok(Ok(descriptor)) => Ok((Opened::Connected, descriptor)),
        Ok(Err(error)) => failed(reason(&error)),
        Err(_) => failed(format!("its queue is full for {} s", ADDRESS_MAX.as_secs())),
    }
}

async fn unix_in_time(place: &Place) -> io::Result<OwnedFd> {
    let address = place.address()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Ends at once, except when the queue of the listener is full (connect(2), EAGAIN).
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) => sleep(QUEUE_FULL_PAUSE).await,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The addresses in their order, each with a head start; the first connection wins, the others are dropped.
async fn first(addresses: Vec<IpAddr>, port: u16) -> io::Result<OwnedFd> {
    let mut waiting = addresses.into_iter().map(|address| SocketAddr::new(address, port));
    let mut trying = FuturesUnordered::new();
    let mut failure = io::Error::from(Errno::ADDRNOTAVAIL);
    let mut is_telling = false;
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        trying.extend(next.map(address));
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(descriptor)) => return Ok(descriptor),
                Some(Err(error)) if is_telling && is_of_family(&error) => {}
                Some(Err(error)) => {
                    is_telling |= !is_of_family(&error);
                    failure = error;
                }
                None if is_last => return Err(failure),
                None => {}
            },
            () = sleep(HEAD_START), if !is_last => {}
        }
    }
}

/// Whether an error only says that the container has nothing of this family.
fn is_of_family(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::NETUNREACH | Errno::AFNOSUPPORT)
    )
}

async fn address(to: SocketAddr) -> io::Result<OwnedFd> {
    // The broker looks at where a name has led; this is before anything is sent there.
    if is_metadata(to.ip()) {
        return Err(io::Error::other("it is the metadata service of a cloud"));
    }
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let connected = timeout(ADDRESS_MAX, socket.connect(to)).await;
    let stream = connected.map_err(|_| io::Error::from(Errno::TIMEDOUT))??;
    stream.set_nodelay(true)?;
    Ok(stream.into_std()?.into())
}

#[cfg(test)]
mod tests;
