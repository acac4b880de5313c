//! Syslog servers: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425).

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::failure::SinkFailure;
use super::options::{OptionFault, Options, SinkUrl};
use super::tls::TlsSettings;
use super::{Context, Pace, Sent};
use crate::encode::Controls;
use crate::encode::syslog::{FACILITIES, Syslog, SyslogFormat};
use crate::template::Template;
use crate::wal::Frame;

/// Ports of RFC 5426, of custom, and of RFC 5425.
const PORT_UDP: u16 = 514;
const PORT_TCP: u16 = 514;
const PORT_TLS: u16 = 6514;

/// Longest message on a datagram unless set, in bytes: what servers take without being told.
const DATAGRAM_BYTES_DEFAULT: u64 = 8192;

/// Longest datagram of IPv4, in bytes.
const DATAGRAM_BYTES_MAX: u64 = 65_507;

/// Shortest limit of a message, in bytes: what every receiver must take (RFC 5424, section 6.1).
const MESSAGE_BYTES_MIN: u64 = 480;

/// Longest message on a stream, in bytes: nothing is cut unless asked for.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

/// Bytes that are collected before they are sent.
const BATCH_BYTES: usize = 128 << 10;

/// How far commits lie apart: after a crash so much comes twice.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How long a server has to close a connection after the last byte, for that byte to be sent again.
const SETTLE: Duration = Duration::from_secs(1);

/// How long one connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a server may take nothing before the connection counts as dead.
const SEND_TIME_MAX: Duration = Duration::from_secs(30);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

const FORM: &str = "syslog+udp://host:port, syslog+tcp://host:port or syslog+tls://host:port";

/// How messages travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A datagram each.
    Udp,
    /// Counted, one after the other.
    Tcp,
    /// The same within TLS.
    Tls(TlsSettings),
}

/// A syslog server, and how messages look.
#[derive(Debug, Clone)]
pub struct SyslogSettings {
    /// How.
    pub transport: Transport,
    /// Name or address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// What messages are made of.
    pub format: SyslogFormat,
}

impl SyslogSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let transport = match url.scheme.as_str() {
            "syslog+tls" => Transport::Tls(TlsSettings::read(options)?),
            "syslog+tcp" => Transport::Tcp,
            _ => Transport::Udp,
        };
        let (port, default, most) = match transport {
            Transport::Udp => (PORT_UDP, DATAGRAM_BYTES_DEFAULT, DATAGRAM_BYTES_MAX),
            Transport::Tcp => (PORT_TCP, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX),
            Transport::Tls(_) => (PORT_TLS, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX),
        };
        if url.user.is_some() || !matches!(url.path.as_str(), "" | "/") {
            return Err(OptionFault::Form(FORM));
        }
        let (host, port) = url.host_and_port(port, FORM)?;
        let app = options.text("app").unwrap_or_else(|| "{name}".to_owned());
        let app = Template::parse(&app).map_err(|error| OptionFault::Template("app", error))?;
        let facility = options.choice("facility", &FACILITIES)?.unwrap_or(1);
        let max = options.size("message_max", MESSAGE_BYTES_MIN..=most)?.unwrap_or(default);
        let controls = options.controls(Controls::All)?;
        let message_bytes_max = usize::try_from(max).unwrap_or(usize::MAX);
        let format = SyslogFormat { facility, app, message_bytes_max, controls };
        Ok(Self { transport, host, port, format })
    }
}

/// Writes messages to a server that confirms nothing. What TCP loses when the server dies is sent again as far as
/// the connection tells within [`SETTLE`]; the rest of that window is in the manual.
#[derive(Debug)]
pub struct SyslogSink {
    settings: SyslogSettings,
    encoder: Syslog,
    batch: Vec<u8>,
    /// Ends of the datagrams in the batch.
    ends: VecDeque<usize>,
    /// Bytes of the batch that are sent: whole datagrams.
    sent: usize,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl SyslogSink {
    pub(super) fn open(settings: SyslogSettings) -> Result<Self, SinkFailure> {
        let encoder = Syslog::new(settings.format.clone());
        let mut sink = Self {
            settings,
            encoder,
            batch: Vec::new(),
            ends: VecDeque::new(),
            sent: 0,
            tls: None,
            connection: None,
        };
        if let Transport::Tls(tls) = &sink.settings.transport {
            let config = tls.client_config(&sink.peer());
            let config = config
                .map_err(|error| SinkFailure::of(&format!("cannot use {}", sink.peer()), &error))?;
            sink.tls = Some(Arc::new(config));
        }
        Ok(sink)
    }

    pub(super) fn pace(&self) -> Pace {
        let settle = match self.settings.transport {
            Transport::Udp => Duration::ZERO,
            Transport::Tcp | Transport::Tls(_) => SETTLE,
        };
        Pace { batch_age: Duration::ZERO, commit_every: COMMIT_EVERY, settle, runs_ahead: false }
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        let Self { encoder, batch, ends, .. } = self;
        match self.settings.transport {
            Transport::Udp => encoder.encode_datagrams(frame, from, BATCH_BYTES, batch, ends),
            Transport::Tcp | Transport::Tls(_) => encoder.encode(frame, from, BATCH_BYTES, batch),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        let peer = self.peer();
        if let Err(failure) = self.sync()
            && context.range.start != context.committed
        {
            return Err(failure);
        }
        if self.connection.is_none() {
            let connected = self.connect();
            let connection = connected
                .map_err(|error| SinkFailure::of(&format!("cannot connect to {peer}"), &error))?;
            self.connection = Some(connection);
        }
        if let Err(error) = self.send() {
            self.connection = None;
            let failure = SinkFailure::of(&format!("cannot send to {peer}"), &error);
            // A datagram that failed is the only one that did.
            return Err(match self.settings.transport {
                Transport::Udp => failure,
                Transport::Tcp | Transport::Tls(_) => failure.with_loss(),
            });
        }
        let bytes = self.batch.len() as u64;
        self.forget_batch();
        Ok(Sent { bytes, refused: Vec::new() })
    }

    /// Everything that is not committed comes again.
    pub(super) fn forget_batch(&mut self) {
        self.batch.clear();
        self.ends.clear();
        self.sent = 0;
    }

    /// Looks whether the server closed or reset the connection.
    pub(super) fn sync(&mut self) -> Result<(), SinkFailure> {
        match &mut self.connection {
            None => Ok(()),
            Some(connection) => is_alive(connection).map_err(|error| self.lost(&error)),
        }
    }

    fn lost(&mut self, error: &io::Error) -> SinkFailure {
        self.connection = None;
        SinkFailure::of(&format!("lost the connection to {}", self.peer()), error).with_loss()
    }

    /// Says that this was all, and waits for the server to close: it has read everything then.
    pub(super) fn conclude(&mut self) -> Result<(), SinkFailure> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let ended = match connection {
            Connection::Udp(_) => Ok(()),
            Connection::Tcp(stream) => end(stream),
            Connection::Tls(mut stream) => {
                stream.conn.send_close_notify();
                let flushed = stream.flush();
                let StreamOwned { sock, .. } = *stream;
                flushed.and_then(|()| end(sock))
            }
        };
        match ended {
            Err(error) if !is_timeout(&error) => Err(self.lost(&error)),
            // A server that waits for more than we have is no reason to send everything again.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn peer(&self) -> String {
        let kind = match self.settings.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls(_) => "tls",
        };
        format!("syslog+{kind}://{}:{}", self.settings.host, self.settings.port)
    }

    fn connect(&self) -> io::Result<Connection> {
        let SyslogSettings { host, port, .. } = &self.settings;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), *port).to_socket_addrs()?.take(ADDRESSES_MAX) {
            match self.connect_to(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_to(&self, address: SocketAddr) -> io::Result<Connection> {
        if self.settings.transport == Transport::Udp {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            return Ok(Connection::Udp(socket));
        }
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SEND_TIME_MAX))?;
        stream.set_read_timeout(Some(SEND_TIME_MAX))?;
        let Some(config) = &self.tls else { return Ok(Connection::Tcp(stream)) };
        let name = ServerName::try_from(self.settings.host.clone()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        // Without this, a refused certificate would show as a failed write.
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Connection::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    fn send(&mut self) -> io::Result<()> {
        match &mut self.connection {
            None => Ok(()),
            Some(Connection::Tcp(stream)) => stream.write_all(&self.batch),
            Some(Connection::Tls(stream)) => {
                stream.write_all(&self.batch)?;
                stream.flush()
            }
            Some(Connection::Udp(socket)) => {
                while let Some(end) = self.ends.front() {
                    let datagram = self.batch.get(self.sent..*end).unwrap_or_default();
                    socket.send(datagram)?;
                    self.sent = *end;
                    self.ends.pop_front();
                }
                Ok(())
            }
        }
    }
}

/// Whether the other side still listens, as far as this side knows.
fn is_alive(connection: &mut Connection) -> io::Result<()> {
    let mut heard = [0; 512];
    let read = match connection {
        Connection::Udp(_) => return Ok(()),
        Connection::Tcp(stream) => {
            stream.set_nonblocking(true)?;
            let read = stream.read(&mut heard);
            stream.set_nonblocking(false)?;
            read
        }
        Connection::Tls(stream) => {
            stream.sock.set_nonblocking(true)?;
            let read = stream.read(&mut heard);
            stream.sock.set_nonblocking(false)?;
            read
        }
    };
    match read {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Closes our direction and reads to the end of the other one.
fn end(mut stream: TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + SETTLE;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(SETTLE))?;
    let mut heard = [0; 512];
    while stream.read(&mut heard)? > 0 {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}
