//! Servers that take messages on a socket and confirm nothing: syslog (RFC 5424) over UDP (RFC 5426), TCP (RFC 6587)
//! and TLS (RFC 5425), and GELF over the same three.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use chores_common::tls::TlsSettings;

use super::connection::{ADDRESSES_MAX, Connection, is_timeout};
use super::failure::SinkFailure;
use super::options::{OptionFault, Options, SinkUrl};
use super::tls;
use super::{Context, Pace, Sent};
use crate::encode::Controls;
use crate::encode::gelf::{self, Datagrams, Gelf, GelfFormat};
use crate::encode::syslog::{FACILITIES, Syslog, SyslogFormat};
use crate::template::Template;
use crate::wal::Frame;

/// Ports of RFC 5426, of custom, and of RFC 5425.
const SYSLOG_PORT_UDP: u16 = 514;
const SYSLOG_PORT_TCP: u16 = 514;
const SYSLOG_PORT_TLS: u16 = 6514;

/// Port of Graylog's inputs.
const GELF_PORT: u16 = 12201;

/// Longest message on a datagram unless set, in bytes: what servers take without being told.
const DATAGRAM_BYTES_DEFAULT: u64 = 8192;

/// Longest datagram of IPv4, in bytes.
const DATAGRAM_BYTES_MAX: u64 = 65_507;

/// Longest datagram of GELF unless set, in bytes: fits into one packet of Ethernet.
const CHUNK_BYTES_DEFAULT: u64 = 1420;

/// Shortest datagram of GELF that can be asked for, in bytes.
const CHUNK_BYTES_MIN: u64 = 512;

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

/// How long a server may take nothing before the connection counts as dead.
const SEND_TIME_MAX: Duration = Duration::from_secs(30);

const SYSLOG_FORM: &str =
    "syslog+udp://host:port, syslog+tcp://host:port or syslog+tls://host:port";
const GELF_FORM: &str = "gelf+udp://host:port, gelf+tcp://host:port or gelf+tls://host:port";

/// How messages travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A datagram each, or some.
    Udp,
    /// One after the other.
    Tcp,
    /// The same within TLS.
    Tls(TlsSettings),
}

/// What messages are.
#[derive(Debug, Clone)]
pub enum MessageFormat {
    /// RFC 5424, counted on a stream.
    Syslog(SyslogFormat),
    /// GELF 1.1, ended by a null byte on a stream.
    Gelf(GelfFormat),
}

/// A server, and how messages look.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// As the URL begins.
    pub scheme: String,
    /// How.
    pub transport: Transport,
    /// Name or address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// What messages are made of.
    pub format: MessageFormat,
}

impl SocketSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let (protocol, transport) = url.scheme.split_once('+').unwrap_or_default();
        let transport = match transport {
            "tls" => Transport::Tls(tls::read(options)?),
            "tcp" => Transport::Tcp,
            _ => Transport::Udp,
        };
        let is_gelf = protocol == "gelf";
        let form = if is_gelf { GELF_FORM } else { SYSLOG_FORM };
        if url.user.is_some() || !matches!(url.path.as_str(), "" | "/") {
            return Err(OptionFault::Form(form));
        }
        let port = match &transport {
            _ if is_gelf => GELF_PORT,
            Transport::Udp => SYSLOG_PORT_UDP,
            Transport::Tcp => SYSLOG_PORT_TCP,
            Transport::Tls(_) => SYSLOG_PORT_TLS,
        };
        let (host, port) = url.host_and_port(port, form)?;
        let format = match is_gelf {
            true => MessageFormat::Gelf(gelf_format(&transport, options)?),
            false => MessageFormat::Syslog(syslog_format(&transport, options)?),
        };
        Ok(Self { scheme: url.scheme.clone(), transport, host, port, format })
    }
}

fn syslog_format(
    transport: &Transport,
    options: &mut Options<'_>,
) -> Result<SyslogFormat, OptionFault> {
    let (default, most) = match transport {
        Transport::Udp => (DATAGRAM_BYTES_DEFAULT, DATAGRAM_BYTES_MAX),
        Transport::Tcp | Transport::Tls(_) => (MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX),
    };
    let app = options.text("app").unwrap_or_else(|| "{name}".to_owned());
    let app = Template::parse(&app).map_err(|error| OptionFault::Template("app", error))?;
    let facility = options.choice("facility", &FACILITIES)?.unwrap_or(1);
    let max = options.size("message_max", MESSAGE_BYTES_MIN..=most)?.unwrap_or(default);
    let controls = options.controls(Controls::All)?;
    let message_bytes_max = usize::try_from(max).unwrap_or(usize::MAX);
    Ok(SyslogFormat { facility, app, message_bytes_max, controls })
}

fn gelf_format(
    transport: &Transport,
    options: &mut Options<'_>,
) -> Result<GelfFormat, OptionFault> {
    let datagrams = match transport {
        Transport::Udp => {
            let range = CHUNK_BYTES_MIN..=DATAGRAM_BYTES_MAX;
            let bytes = options.size("chunk", range)?.unwrap_or(CHUNK_BYTES_DEFAULT);
            let words = [("gzip", true), ("none", false)];
            let gzip = options.choice("compress", &words)?.unwrap_or(true);
            Some(Datagrams { bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX), gzip })
        }
        // The format knows no compression there.
        Transport::Tcp | Transport::Tls(_) => None,
    };
    let range = MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX;
    let max = options.size("text_max", range)?.unwrap_or(MESSAGE_BYTES_MAX);
    Ok(GelfFormat {
        text_bytes_max: usize::try_from(max).unwrap_or(usize::MAX),
        controls: options.controls(Controls::All)?,
        names: options.fields(&gelf::USUAL_NAMES)?,
        datagrams,
    })
}

/// Writes messages to a server that confirms nothing. What TCP loses when the server dies is sent again as far as
/// the connection tells within [`SETTLE`]; the rest of that window is in the manual.
#[derive(Debug)]
pub struct SocketSink {
    settings: SocketSettings,
    encoder: Encoder,
    batch: Vec<u8>,
    /// Ends of the datagrams in the batch.
    ends: VecDeque<usize>,
    /// Bytes of the batch that are sent: whole datagrams.
    sent: usize,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<Channel>,
}

#[derive(Debug)]
enum Channel {
    Datagrams(UdpSocket),
    Stream(Connection),
}

#[derive(Debug)]
enum Encoder {
    Syslog(Syslog),
    Gelf(Gelf),
}

impl SocketSink {
    pub(super) fn open(settings: SocketSettings) -> Result<Self, SinkFailure> {
        let encoder = match &settings.format {
            MessageFormat::Syslog(format) => Encoder::Syslog(Syslog::new(format.clone())),
            MessageFormat::Gelf(format) => {
                let random = getrandom::u64()
                    .map_err(|error| SinkFailure::of("cannot have a random number", &error))?;
                Encoder::Gelf(Gelf::new(format.clone(), random))
            }
        };
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
            sink.tls = tls::client_config(Some(tls), &sink.peer())?;
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
        match (encoder, &self.settings.transport) {
            (Encoder::Gelf(encoder), _) => encoder.encode(frame, from, BATCH_BYTES, batch, ends),
            (Encoder::Syslog(encoder), Transport::Udp) => {
                encoder.encode_datagrams(frame, from, BATCH_BYTES, batch, ends)
            }
            (Encoder::Syslog(encoder), Transport::Tcp | Transport::Tls(_)) => {
                encoder.encode(frame, from, BATCH_BYTES, batch)
            }
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
            None | Some(Channel::Datagrams(_)) => Ok(()),
            Some(Channel::Stream(stream)) => stream.is_alive().map_err(|error| self.lost(&error)),
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
            Channel::Datagrams(_) => Ok(()),
            Channel::Stream(stream) => stream.end(SETTLE),
        };
        match ended {
            Err(error) if !is_timeout(&error) => Err(self.lost(&error)),
            // A server that waits for more than we have is no reason to send everything again.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn peer(&self) -> String {
        let SocketSettings { scheme, host, port, .. } = &self.settings;
        format!("{scheme}://{host}:{port}")
    }

    fn connect(&self) -> io::Result<Channel> {
        let SocketSettings { transport, host, port, .. } = &self.settings;
        if *transport != Transport::Udp {
            let stream = Connection::to(host, *port, self.tls.as_ref(), SEND_TIME_MAX)?;
            return Ok(Channel::Stream(stream));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), *port).to_socket_addrs()?.take(ADDRESSES_MAX) {
            let any: IpAddr = match address.is_ipv4() {
                true => Ipv4Addr::UNSPECIFIED.into(),
                false => Ipv6Addr::UNSPECIFIED.into(),
            };
            let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
                socket.connect(address)?;
                Ok(socket)
            });
            match connected {
                Ok(socket) => return Ok(Channel::Datagrams(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn send(&mut self) -> io::Result<()> {
        match &mut self.connection {
            None => Ok(()),
            Some(Channel::Stream(stream)) => {
                stream.write_all(&self.batch)?;
                stream.flush()
            }
            Some(Channel::Datagrams(socket)) => {
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
