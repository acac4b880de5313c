//! JetStream of NATS: effectively once within the time in which a stream knows names of messages again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::secret::Secret;
use rustls::ClientConfig;

use super::batch::{Batch, Part, Poison, Refusals};
use super::connection::Connection;
use super::failure::SinkFailure;
use super::options::{Batching, OptionFault, Options, SinkUrl};
use super::server::Server;
use super::tls;
use super::{Context, Pace, Sent};
use crate::encode::fields::FieldNames;
use crate::encode::identity::Identities;
use crate::encode::nats::{self, Info, Said, Who};
use crate::encode::ndjson::Ndjson;
use crate::encode::{Controls, Encoded, Fate};
use crate::template::Template;
use crate::wal::Frame;

const PORT: u16 = 4222;

/// Messages that are on their way at a time: their answers fit into the buffers of a socket.
const WINDOW: usize = 256;

/// Bytes of messages that are on their way at a time.
const WINDOW_BYTES_MAX: usize = 4 << 20;

/// Longest answer that has not come to its end, in bytes.
const HEARD_BYTES_MAX: usize = 2 << 20;

/// What a server takes that does not say what it takes.
const PAYLOAD_BYTES_DEFAULT: usize = 1 << 20;

const FORM: &str = "nats://host:port or nats+tls://host:port";

/// A server, and how messages are made for it.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// Where it is.
    pub server: Server,
    /// A user and the password.
    pub login: Option<(String, Secret)>,
    /// A token instead.
    pub token: Option<Secret>,
    /// The subject of a record.
    pub subject: Template,
    /// What keys are called.
    pub names: FieldNames,
    /// What is sent beside lines.
    pub controls: Controls,
    /// What to do with what cannot be delivered.
    pub poison: Poison,
    /// When a batch is sent.
    pub batching: Batching,
    /// How long a server may take for an answer.
    pub timeout: Duration,
}

impl NatsSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let server = Server::read(url, PORT, FORM, options)?;
        let token = options.secret("token", "token_file")?;
        let login = options.login(url)?;
        if token.is_some() && login.is_some() {
            return Err(OptionFault::Conflict(
                "token and user are given: keep one way to log in".to_owned(),
            ));
        }
        let subject = options.text("subject").unwrap_or_else(|| "logs.{host}.{name}".to_owned());
        let subject =
            Template::parse(&subject).map_err(|error| OptionFault::Template("subject", error))?;
        Ok(Self {
            server,
            login,
            token,
            subject,
            names: options.fields(&[])?,
            controls: options.controls(Controls::All)?,
            poison: Poison::read(options)?,
            batching: options.batching()?,
            timeout: options.answer_time()?,
        })
    }
}

/// Publishes records, each under its own name, and waits until all of a batch are stored.
#[derive(Debug)]
pub struct NatsSink {
    settings: NatsSettings,
    encoder: Ndjson,
    identities: Identities,
    record: Vec<u8>,
    batch: Batch,
    /// What is still to be sent of the batch; made at the first attempt.
    left: VecDeque<usize>,
    refusals: Refusals,
    sent: u64,
    tls: Option<Arc<ClientConfig>>,
    session: Option<Session>,
}

/// A connection after its greeting.
#[derive(Debug)]
struct Session {
    connection: Connection,
    info: Info,
    inbox: String,
    heard: Vec<u8>,
    patience: Duration,
    next: usize,
}

impl NatsSink {
    pub(super) fn open(settings: NatsSettings, log: &str) -> Result<Self, SinkFailure> {
        let Server { tls, .. } = &settings.server;
        Ok(Self {
            tls: tls::client_config(tls.as_ref(), &settings.server.to_string())?,
            encoder: Ndjson::named(settings.controls, settings.names.clone()),
            identities: Identities::new(log),
            record: Vec::new(),
            batch: Batch::default(),
            left: VecDeque::new(),
            refusals: Refusals::new(settings.poison),
            sent: 0,
            session: None,
            settings,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        self.settings.batching.pace()
    }

    /// The head of a record is its subject, a space, and its name.
    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        if self.is_full() {
            return from;
        }
        let Self { settings, encoder, identities, record: out, batch, .. } = self;
        out.clear();
        encoder.each(frame, from, out, |record, seq, bytes| {
            let subject = settings.subject.expand(&frame.meta, record.flags.stream(), record.ts);
            let head = format!("{} {}", nats::subject(&subject), identities.of(frame, seq, record));
            let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let head = Arc::from(head.into_bytes());
            batch.push(&frame.meta, Encoded { seq, head: &head, bytes: line });
            bytes.clear();
            batch.len() < settings.batching.bytes
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.settings.batching.bytes
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        if self.left.is_empty() {
            self.left = self.batch.all().into();
        }
        while !self.left.is_empty() {
            if context.stop.is_requested() {
                return Err(SinkFailure::new("stopped before everything was sent"));
            }
            let (window, mut done) = (self.window(), BTreeSet::new());
            let sent = self.send(&window, &mut done);
            self.left.retain(|at| !done.contains(at));
            if let Err(failure) = sent {
                self.session = None;
                return Err(failure);
            }
        }
        self.batch.clear();
        Ok(Sent { bytes: std::mem::take(&mut self.sent), refused: self.refusals.take() })
    }

    /// The next records to be sent together.
    fn window(&self) -> Part {
        let mut bytes = 0;
        let fits = |at: &&usize| {
            bytes += self.batch.record(**at).len();
            bytes <= WINDOW_BYTES_MAX
        };
        let mut window: Part = self.left.iter().take(WINDOW).take_while(fits).copied().collect();
        // One is sent however long it is.
        if window.is_empty() {
            window.extend(self.left.front());
        }
        window
    }

    /// Publishes some records and hears what became of each; those that need not be sent again are `done`.
    fn send(&mut self, window: &[usize], done: &mut BTreeSet<usize>) -> Result<(), SinkFailure> {
        let peer = &self.settings.server;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect()?,
        };
        let failed = |error: io::Error| SinkFailure::of(&format!("cannot send to {peer}"), &error);
        let payload_max = match session.info.max_payload {
            0 => PAYLOAD_BYTES_DEFAULT,
            most => most,
        };
        let (mut out, mut waiting) = (Vec::new(), BTreeMap::new());
        for at in window {
            let payload = self.batch.record(*at);
            let head = self.batch.group(*at).map(|group| String::from_utf8_lossy(&group.head));
            let head = head.unwrap_or_default();
            let (subject, id) = head.split_once(' ').unwrap_or_default();
            let before = out.len();
            session.next = session.next.wrapping_add(1);
            nats::put_message(&mut out, subject, &session.inbox, session.next, id, payload);
            // The name counts as payload there.
            if payload.len() + id.len() + 64 > payload_max {
                out.truncate(before);
                let sentence = format!(
                    "{peer} takes {payload_max} bytes in a message, and a record has {}",
                    payload.len()
                );
                self.refusals.refuse(&self.batch, *at, &sentence)?;
                done.insert(*at);
                continue;
            }
            waiting.insert(session.next, *at);
        }
        session.connection.write_all(&out).map_err(failed)?;
        session.connection.flush().map_err(failed)?;
        let mut later = None;
        let deadline = Instant::now() + session.patience;
        while !waiting.is_empty() {
            let Said::Message { subject, status, payload } =
                session.hear(deadline).map_err(failed)?
            else {
                continue;
            };
            let number = subject.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
            let Some(at) = number.and_then(|number: usize| waiting.remove(&number)) else {
                continue;
            };
            match nats::fate(status, &payload) {
                Fate::Stored => {
                    done.insert(at);
                }
                Fate::Later(why) => later = Some(why),
                Fate::Never(why) => {
                    let sentence = format!("{peer} refused a record: {}", why.escape_debug());
                    self.refusals.refuse(&self.batch, at, &sentence)?;
                    done.insert(at);
                }
            }
        }
        self.sent += out.len() as u64;
        self.session = Some(session);
        match later {
            None => Ok(()),
            Some(why) => Err(SinkFailure::new(format!("{peer} stored not all: {why}"))),
        }
    }

    fn connect(&self) -> Result<Session, SinkFailure> {
        let peer = &self.settings.server;
        self.greet().map_err(|error| SinkFailure::of(&format!("cannot connect to {peer}"), &error))
    }

    fn greet(&self) -> io::Result<Session> {
        let NatsSettings { server: Server { host, port, .. }, timeout, login, token, .. } =
            &self.settings;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let inbox = format!("_INBOX.{:016x}", u64::from_be_bytes(random));
        let deadline = Instant::now() + *timeout;
        let info = Info { max_payload: 0, tls_required: false, headers: false, nonce: None };
        let mut session = Session {
            connection: Connection::to(host, *port, None, *timeout)?,
            info,
            inbox,
            heard: Vec::new(),
            patience: *timeout,
            next: 0,
        };
        match session.hear(deadline)? {
            Said::Info(info) => session.info = info,
            _ => return Err(io::Error::other("it does not begin with INFO")),
        }
        if !session.info.headers {
            return Err(io::Error::other("it knows no headers: 2.2 is the first that does"));
        }
        match &self.tls {
            Some(config) => session.connection = session.connection.secured(host, config)?,
            None if session.info.tls_required => {
                return Err(io::Error::other("it wants TLS: write nats+tls:// in the URL"));
            }
            None => {}
        }
        let who = Who {
            user: login.as_ref().map(|(user, password)| (user.as_str(), password.expose())),
            token: token.as_ref().map(Secret::expose),
        };
        let greeting = nats::greeting(who, self.tls.is_some(), &session.inbox);
        session.connection.write_all(&greeting)?;
        session.connection.flush()?;
        while session.hear(deadline)? != Said::Pong {}
        Ok(session)
    }
}

impl Session {
    /// The next word of the server; its pings are answered, and its errors are ours.
    fn hear(&mut self, deadline: Instant) -> io::Result<Said> {
        let mut buffer = [0; 4096];
        loop {
            while let Some((said, used)) = nats::said(&self.heard).map_err(io::Error::other)? {
                self.heard.drain(..used);
                match said {
                    Said::Ping => {
                        self.connection.write_all(b"PONG\r\n")?;
                        self.connection.flush()?;
                    }
                    Said::Error(why) if why.to_ascii_lowercase().starts_with("authorization") => {
                        return Err(io::Error::other(format!("{why} (the login is refused)")));
                    }
                    Said::Error(why) => return Err(io::Error::other(why)),
                    said => return Ok(said),
                }
            }
            if self.heard.len() > HEARD_BYTES_MAX {
                return Err(io::Error::other("it does not come to an end"));
            }
            let read = self.connection.hear(&mut buffer, deadline)?;
            self.heard.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
    }
}
