//! A connection to a server, with or without TLS; every wait on it has an end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long one connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Bytes that come in from a server are read in pieces of this many.
const READ_BYTES: usize = 512;

/// A stream of bytes in both directions.
#[derive(Debug)]
pub(super) enum Connection {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// To the first address of the name that answers. `patience` is how long the server may say or take nothing.
    pub(super) fn to(
        host: &str,
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        patience: Duration,
    ) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()?.take(ADDRESSES_MAX) {
            match Self::to_address(host, address, tls, patience) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn to_address(
        host: &str,
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        patience: Duration,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX.min(patience))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_read_timeout(Some(patience))?;
        match tls {
            None => Ok(Self::Tcp(stream)),
            Some(config) => Self::Tcp(stream).secured(host, config),
        }
    }

    /// The same with TLS from here on.
    pub(super) fn secured(self, host: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let Self::Tcp(mut stream) = self else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        // Without this, a refused certificate would show as a failed write.
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether the other side still listens, as far as this side knows.
    pub(super) fn is_alive(&mut self) -> io::Result<()> {
        let mut heard = [0; READ_BYTES];
        self.socket().set_nonblocking(true)?;
        let read = self.read(&mut heard);
        self.socket().set_nonblocking(false)?;
        match read {
            Ok(0) => Err(closed()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Some bytes of the server, which has time until `deadline`: at least one.
    pub(super) fn hear(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
        if Instant::now() >= deadline {
            return Err(late());
        }
        match self.read(buffer) {
            Ok(0) => Err(closed()),
            Err(error) if is_timeout(&error) => Err(late()),
            heard => heard,
        }
    }

    /// Closes our direction and reads to the end of the other one, for so long.
    pub(super) fn end(self, patience: Duration) -> io::Result<()> {
        let mut stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(mut stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock
            }
        };
        let deadline = Instant::now() + patience;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.set_read_timeout(Some(patience))?;
        let mut heard = [0; READ_BYTES];
        while stream.read(&mut heard)? > 0 {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")
}

/// Whether nothing happened in time, which is how sockets with a time limit say it.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
