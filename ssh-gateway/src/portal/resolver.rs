//! Names of hosts to addresses, with the container's own files and name servers.
//!
//! Not getaddrinfo(3): that loads what the image tells it to, and knows no bounds.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::message::{Family, Name, Question, Reply};
use self::settings::Settings;
use super::{Sources, files};

mod message;
mod settings;

/// Larger host tables are not read. In bytes.
const HOSTS_BYTES_MAX: u64 = 1024 * 1024;
/// Larger resolv.conf(5) files are not read. In bytes.
const SETTINGS_BYTES_MAX: u64 = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;
/// Datagrams that answer something else, before a server is given up.
const STRAY_DATAGRAMS_MAX: usize = 64;
/// We announce no more than RFC 1035 allows; some send more.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// How long the addresses of one family wait for those of the other.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(250);

/// No address, and why. Each is a part of a sentence for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// Not something that can be asked for.
    #[error("this is neither a host name nor an address")]
    BadName,
    /// All servers that answered say so.
    #[error("no such host is known in the container")]
    Unknown,
    /// The name exists.
    #[error("the name has no address")]
    NoAddress,
    /// No server answered with anything of use.
    #[error("the container's name servers do not answer")]
    NoAnswer,
}

/// What the container says about names, read once.
#[derive(Debug)]
pub(super) struct Resolver {
    hosts: Vec<u8>,
    settings: Settings,
}

impl Resolver {
    /// Reads the files. One that cannot be read is as one that is not there.
    pub(super) fn of(sources: &Sources) -> Self {
        let settings = files::read(&sources.resolver, SETTINGS_BYTES_MAX).unwrap_or_default();
        Self {
            hosts: files::read(&sources.hosts, HOSTS_BYTES_MAX).unwrap_or_default(),
            settings: Settings::of(&settings),
        }
    }

    /// Addresses in the order in which they are to be tried; at least one. The caller has a deadline.
    pub(super) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Some(addresses) = without_asking(host) {
            return Ok(addresses);
        }
        let name = Name::of(host).ok_or(LookupError::BadName)?;
        let listed = settings::listed(&self.hosts, host, ADDRESSES_MAX);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let mut failure = LookupError::Unknown;
        for candidate in self.settings.candidates(host, &name) {
            match self.ask(&candidate).await {
                Ok(addresses) => return Ok(addresses),
                Err(LookupError::NoAnswer) => return Err(LookupError::NoAnswer),
                Err(LookupError::NoAddress) => failure = LookupError::NoAddress,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// Both families at once: servers that drop questions for one of them are common.
    async fn ask(&self, name: &Name) -> Result<Vec<IpAddr>, LookupError> {
        let v6 = Box::pin(self.ask_for(name, Family::V6));
        let v4 = Box::pin(self.ask_for(name, Family::V4));
        let (v6, v4) = match select(v6, v4).await {
            Either::Left((v6, v4)) => {
                let v4 = other(&v6, v4).await;
                (v6, v4)
            }
            Either::Right((v4, v6)) => (other(&v4, v6).await, v4),
        };
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok(alternating(v6, v4)),
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) => Ok(addresses),
            (Err(one), Err(other)) => Err(one.more_telling(other)),
        }
    }

    async fn ask_for(&self, name: &Name, family: Family) -> Result<Vec<IpAddr>, LookupError> {
        for _ in 0..self.settings.attempts {
            for server in &self.settings.servers {
                match self.ask_server(*server, name, family).await {
                    Ok(Reply::Addresses(addresses)) => return Ok(addresses),
                    Ok(Reply::NoAddress) => return Err(LookupError::NoAddress),
                    Ok(Reply::NoName) => return Err(LookupError::Unknown),
                    Ok(Reply::Truncated | Reply::Failed) | Err(_) => {}
                }
            }
        }
        Err(LookupError::NoAnswer)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        name: &Name,
        family: Family,
    ) -> io::Result<Reply> {
        let question = Question { id: random_id()?, name: name.clone(), family };
        let wait = self.settings.timeout;
        match timeout(wait, by_datagram(server, &question)).await?? {
            Reply::Truncated => timeout(wait, by_stream(server, &question)).await?,
            reply => Ok(reply),
        }
    }
}

impl LookupError {
    fn more_telling(self, other: Self) -> Self {
        match (self, other) {
            (Self::NoAddress, _) | (_, Self::NoAddress) => Self::NoAddress,
            (Self::NoAnswer, _) | (_, Self::NoAnswer) => Self::NoAnswer,
            (one, _) => one,
        }
    }
}

/// The answer for the second family: once there is an address, it is not waited for without end.
async fn other<T: Default, E>(
    first: &Result<T, E>,
    second: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match first {
        Err(_) => second.await,
        Ok(_) => timeout(OTHER_FAMILY_WAIT, second).await.unwrap_or_else(|_| Ok(T::default())),
    }
}

/// Addresses as they are, and the names that mean this machine (RFC 6761, 6.3).
fn without_asking(host: &str) -> Option<Vec<IpAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(vec![address]);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (name == "localhost" || name.ends_with(".localhost"))
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// The families in turns, so that one that does not work costs little (RFC 8305, 4).
fn alternating(v6: Vec<IpAddr>, v4: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut addresses = Vec::new();
    while addresses.len() < ADDRESSES_MAX {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            break;
        }
        addresses.extend(pair.into_iter().flatten());
    }
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(bytes))
}

/// Asks by UDP from a port that the kernel picks at random; the caller has a deadline.
async fn by_datagram(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // Connected, so that a port nobody listens at is an error and not silence.
    socket.connect(server).await?;
    socket.send(&question.encode()).await?;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    for _ in 0..STRAY_DATAGRAMS_MAX {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        if from.ip() != server.ip() || from.port() != server.port() {
            continue;
        }
        if let Some(reply) = question.reply(datagram.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
    Err(io::Error::other("too many datagrams that are no answer"))
}

/// Asks by TCP (RFC 7766); the caller has a deadline.
async fn by_stream(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.encode();
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), &message].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    question.reply(&answer).ok_or_else(|| io::Error::other("not the answer to the question"))
}

#[cfg(test)]
mod tests;
