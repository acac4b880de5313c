//! Servers of the forward protocol: Fluentd, Fluent Bit and what speaks like them. At least once: a message counts
//! when its acknowledgement came.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::secret::Secret;
use rustls::ClientConfig;

use super::batch::{Batch, Part};
use super::connection::Connection;
use super::failure::SinkFailure;
use super::options::{Batching, OptionFault, Options, SinkUrl};
use super::server::Server;
use super::tls;
use super::{Context, Pace, Sent};
use crate::encode::Controls;
use crate::encode::fluent::{self, Fluent, FluentFormat, Ping, Said};
use crate::template::Template;
use crate::wal::Frame;

/// Port of the `forward` input.
const PORT: u16 = 24_224;

/// Longest word of a server, in bytes.
const WORD_BYTES_MAX: usize = 64 << 10;

const FORM: &str = "fluent://host:port or fluent+tls://host:port";

/// A server, and how events are made for it.
#[derive(Debug, Clone)]
pub struct FluentSettings {
    /// Where it is.
    pub server: Server,
    /// The key that both know.
    pub shared_key: Option<Secret>,
    /// A user and the password, for servers that want one too.
    pub login: Option<(String, Secret)>,
    /// How events look.
    pub format: FluentFormat,
    /// Whether messages are compressed (`CompressedPackedForward`).
    pub gzip: bool,
    /// When a batch is sent.
    pub batching: Batching,
    /// How long a server may take for an acknowledgement.
    pub timeout: Duration,
}

impl FluentSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let server = Server::read(url, PORT, FORM, options)?;
        let shared_key = options.secret("shared_key", "shared_key_file")?;
        let login = options.login(url)?;
        if login.is_some() && shared_key.is_none() {
            return Err(OptionFault::Conflict(
                "user needs shared_key: the protocol knows no login without it".to_owned(),
            ));
        }
        let tag = options.text("tag").unwrap_or_else(|| "{name}".to_owned());
        let tag = Template::parse(&tag).map_err(|error| OptionFault::Template("tag", error))?;
        if tag.has_date() {
            return Err(OptionFault::Conflict("tag cannot have {date} in it".to_owned()));
        }
        let words = [("gzip", true), ("none", false)];
        Ok(Self {
            server,
            shared_key,
            login,
            format: FluentFormat {
                tag,
                controls: options.controls(Controls::All)?,
                names: options.fields(&fluent::USUAL_NAMES)?,
            },
            gzip: options.choice("compress", &words)?.unwrap_or(false),
            batching: options.batching()?,
            timeout: options.answer_time()?,
        })
    }
}

/// Sends batches, tag by tag, each when the one before is acknowledged.
#[derive(Debug)]
pub struct FluentSink {
    settings: FluentSettings,
    encoder: Fluent,
    batch: Batch,
    /// What is still to be sent of the batch, by tags; made at the first attempt.
    parts: VecDeque<Part>,
    sent: u64,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<Connection>,
}

impl FluentSink {
    pub(super) fn open(settings: FluentSettings) -> Result<Self, SinkFailure> {
        let Server { tls, .. } = &settings.server;
        Ok(Self {
            tls: tls::client_config(tls.as_ref(), &settings.server.to_string())?,
            encoder: Fluent::new(settings.format.clone()),
            settings,
            batch: Batch::default(),
            parts: VecDeque::new(),
            sent: 0,
            connection: None,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        self.settings.batching.pace()
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        if self.is_full() {
            return from;
        }
        let Self { encoder, batch, settings, .. } = self;
        encoder.each(frame, from, |record| {
            batch.push(&frame.meta, record);
            batch.len() < settings.batching.bytes
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.settings.batching.bytes
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        if self.parts.is_empty() {
            self.parts = self.batch.parts_by_head().into();
        }
        while let Some(part) = self.parts.pop_front() {
            let sent = match context.stop.is_requested() {
                true => Err(SinkFailure::new("stopped before everything was sent")),
                false => self.send(&part),
            };
            match sent {
                Ok(bytes) => self.sent += bytes,
                Err(failure) => {
                    self.connection = None;
                    self.parts.push_front(part);
                    return Err(failure);
                }
            }
        }
        self.batch.clear();
        Ok(Sent { bytes: std::mem::take(&mut self.sent), refused: Vec::new() })
    }

    /// One message and its acknowledgement; the bytes of it.
    fn send(&mut self, part: &[usize]) -> Result<u64, SinkFailure> {
        let peer = &self.settings.server;
        let mut connection = match self.connection.take() {
            Some(mut connection) => match connection.is_alive() {
                Ok(()) => connection,
                // It was closed while nothing was to be sent, so nothing is lost.
                Err(_) => self.connect()?,
            },
            None => self.connect()?,
        };
        let group = part.first().and_then(|at| self.batch.group(*at));
        let tag = group.map_or(&[][..], |group| group.head.as_ref());
        let failed = |error: io::Error| SinkFailure::of(&format!("cannot send to {peer}"), &error);
        let events = self.batch.joined(part);
        let (message, chunk) = fluent::message(tag, &events, part.len(), self.settings.gzip)
            .map_err(|error| SinkFailure::of("cannot compress a batch", &error))?;
        connection.write_all(&message).and_then(|()| connection.flush()).map_err(failed)?;
        match hear(&mut connection, self.settings.timeout).map_err(failed)? {
            Said::Ack(of) if of == chunk => {}
            Said::Ack(_) => {
                return Err(SinkFailure::new(format!("{peer} acknowledged another message")));
            }
            Said::Helo { .. } => {
                return Err(SinkFailure::new(format!(
                    "{peer} wants a login: set shared_key_file (the login is refused)"
                )));
            }
            Said::Pong { .. } => {
                return Err(SinkFailure::new(format!("{peer} answered out of turn")));
            }
        }
        self.connection = Some(connection);
        Ok(message.len() as u64)
    }

    fn connect(&self) -> Result<Connection, SinkFailure> {
        let peer = &self.settings.server;
        let FluentSettings { server: Server { host, port, .. }, timeout, shared_key, .. } =
            &self.settings;
        let failed =
            |error: io::Error| SinkFailure::of(&format!("cannot connect to {peer}"), &error);
        let mut connection =
            Connection::to(host, *port, self.tls.as_ref(), *timeout).map_err(failed)?;
        if let Some(key) = shared_key {
            self.shake_hands(&mut connection, key).map_err(failed)?;
        }
        Ok(connection)
    }

    /// HELO, PING, PONG: each side proves to the other that it knows the key.
    fn shake_hands(&self, connection: &mut Connection, key: &Secret) -> io::Result<()> {
        let FluentSettings { timeout, login, .. } = &self.settings;
        let Said::Helo { nonce, salt } = hear(connection, *timeout)? else {
            return Err(io::Error::other("it does not begin with HELO"));
        };
        if !salt.is_empty() && login.is_none() {
            return Err(io::Error::other("it wants user and password_file (the login is refused)"));
        }
        let random = getrandom::u64().map_err(io::Error::other)?;
        let host = rustix::system::uname();
        let ping = Ping {
            host: &host.nodename().to_string_lossy(),
            salt: &format!("{random:016x}"),
            shared_key: key.expose(),
            user: login.as_ref().map(|(user, password)| (user.as_str(), password.expose())),
        };
        connection.write_all(&ping.message(&nonce, &salt))?;
        connection.flush()?;
        let Said::Pong { is_welcome, reason, host, digest } = hear(connection, *timeout)? else {
            return Err(io::Error::other("it does not answer with PONG"));
        };
        if !is_welcome {
            let reason = reason.escape_debug();
            return Err(io::Error::other(format!("the login is refused: {reason}")));
        }
        match ping.is_proof(&digest, &host, &nonce) {
            true => Ok(()),
            false => Err(io::Error::other("it does not know the shared key")),
        }
    }
}

/// The next word of a server, which has so long for all of it.
fn hear(connection: &mut Connection, patience: Duration) -> io::Result<Said> {
    let deadline = Instant::now() + patience;
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let read = connection.hear(&mut buffer, deadline).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("the server closed it without an answer (is the login right?)")
            }
            _ => error,
        })?;
        heard.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if let Some(said) = fluent::said(&heard).map_err(io::Error::other)? {
            return Ok(said);
        }
        if heard.len() > WORD_BYTES_MAX {
            return Err(io::Error::other("it does not come to an end"));
        }
    }
}
