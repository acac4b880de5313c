//! What russh calls. Every method is here on purpose: one that is left out says neither yes nor no, and the
//! client waits for ever.
//!
//! Everything runs in the session loop of the connection, so nothing may wait for a program or for the client:
//! bytes go into spools, programs run in tasks of their own. Replies are given here and at once, since russh
//! keeps one "wants a reply" for each channel, which the next request overwrites. The reading halves of
//! channels are dropped, since russh would wait for their readers.
//!
//! A remote forward is the exception: russh writes the reply to a global request, with the port in it, when the
//! method returns, and has no other way to give one. So the loop waits for the listener, but not long, and not
//! again when it was too slow once. Replies come in the order of their requests that way (RFC 4254, 4).
//!
//! russh itself drops the connection on text that is not UTF-8 (the login name, a variable, a path, the name
//! of a subsystem), and answers what it does not know (`break`, `eow@openssh.com`, `winadj@putty.projects.tartarus.org`,
//! `keepalive@openssh.com`) with a failure where a reply is wanted, as it should. What has no place before
//! authentication it drops in silence: it cannot be seen here, and the login grace ends such a connection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::GexParams;
use russh::kex::dh::groups::DhGroup;
use russh::keys::Certificate;
use russh::keys::ssh_key::Algorithm;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler as Callbacks, Msg, PublicKeyOffer, Response,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, MethodKind, MethodSet, Pty, Sig};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::broker::Item;
use super::channel::{Session, Wishes};
use super::connection::Connection;
use super::forward::{self, Ear, Forward};
use super::output::Out;
use super::server::WINDOW_SLOW_BYTES;
use crate::proof::BLOB_BYTES_MAX;
use crate::wire::net::{Answer, LoginName, Place, Question, Signed, WINDOW_BYTES};
use crate::wire::{Opaque, Program, Terminal, WindowSize};

/// How long a decision about a key may take.
const AUTHENTICATION_TIME: Duration = Duration::from_secs(10);
/// Keys that a client may offer, known or not; russh counts only those that are refused.
const OFFERS_MAX: u32 = 32;
/// What a client is asked for that has proved a key.
const CODE_PROMPT: &str = "Code: ";
/// Longest code. In bytes.
const CODE_BYTES: usize = 64;
/// Longest command. In bytes.
const COMMAND_BYTES: usize = 128 * 1024;
/// Variables of a session.
const VARIABLES_MAX: usize = 32;
/// Names and values of all variables of a session. In bytes.
const VARIABLES_BYTES: usize = 8 * 1024;
/// Modes of a terminal; OpenSSH sends 53.
const MODES_MAX: usize = 96;
/// Longest name of a terminal. In bytes.
const TERM_BYTES: usize = 128;
/// How long a listener may hold up its connection: a portal may have to start first.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// Longest name of a signal. In bytes.
const SIGNAL_BYTES: usize = 32;
/// Longest host name (RFC 1035) and path of a socket (unix(7)), with room to spare. In bytes.
const PLACE_BYTES: usize = 1024;

/// One client's requests.
pub(super) struct Handler {
    connection: Arc<Connection>,
    /// Sessions without a program yet.
    waiting: HashMap<ChannelId, Waiting>,
    /// Sessions with one.
    running: HashMap<ChannelId, u64>,
    listeners: HashMap<Spot, Listener>,
    /// Who has proved a key, and of whom a code is needed too.
    owing: Option<String>,
    /// A listener was not there in time: the next one would hold up the connection again.
    is_listening_slow: bool,
}

/// A session that may still get a terminal, variables and an agent.
struct Waiting {
    item: Item,
    out: Out,
    wishes: Wishes,
    variable_bytes: usize,
    permits: [OwnedSemaphorePermit; 2],
}

/// Where a client asked us to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Spot {
    Tcp(String, u32),
    Unix(String),
}

/// What listens there, until it is dropped.
struct Listener {
    task: AbortOnDropHandle<std::io::Result<()>>,
    _item: Item,
}

impl Handler {
    /// Of a new connection.
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            waiting: HashMap::new(),
            running: HashMap::new(),
            listeners: HashMap::new(),
            owing: None,
            is_listening_slow: false,
        }
    }

    /// A client authenticates as somebody: what another one has proved is forgotten (RFC 4252, 5).
    fn comes_as(&mut self, user: &str) {
        self.owing.take_if(|owing| owing != user);
    }

    /// Counts an offer or a signature; false when there were too many.
    fn attempt(&self) -> bool {
        let few = self.connection.attempt() < OFFERS_MAX;
        if !few {
            self.connection.note("too many keys were offered");
            self.connection.over.cancel();
        }
        few
    }

    /// Asks the broker about a key or a certificate that has signed.
    async fn authenticate(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        self.comes_as(user);
        let Some(blob) = usable(key.blob, key.algorithm) else { return Ok(Auth::reject()) };
        if !self.attempt() {
            return Ok(Auth::reject());
        }
        let question = Question::Authenticate {
            connection: self.connection.id,
            peer: self.connection.peer,
            local: self.connection.local,
            login: LoginName { user: user.to_owned(), host: self.connection.host.clone() },
            key: blob,
            signed: Signed { signature: key.signature.to_vec(), data: key.signed_data.to_vec() },
            client: self.connection.link.identification(),
            through: self.connection.through,
        };
        let answer = self.connection.broker.ask(question, AUTHENTICATION_TIME).await.0;
        if answer == Answer::CodeNeeded {
            self.owing = Some(user.to_owned());
            let rest = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
            // RFC 4252, 5.1: half of it is done.
            return Ok(Auth::Reject { proceed_with_methods: Some(rest), partial_success: true });
        }
        Ok(verdict(&answer))
    }

    /// Asks the broker about a code.
    async fn give_code(&self, user: &str, code: Vec<u8>) -> Auth {
        let question = Question::Code {
            connection: self.connection.id,
            login: LoginName { user: user.to_owned(), host: self.connection.host.clone() },
            code: Opaque(code),
        };
        verdict(&self.connection.broker.ask(question, AUTHENTICATION_TIME).await.0)
    }

    /// Starts the program of a session; the reply is success even when it will be refused, as with sshd:
    /// reasons are given on standard error.
    fn start(
        &mut self,
        channel: ChannelId,
        program: Program,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        let Some(waiting) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let found = self.connection.with(channel, |entry| {
            entry.session = Some(waiting.item.id());
            (Arc::clone(&entry.spool), entry.closed.clone(), Arc::clone(&entry.screen))
        });
        let Some((spool, closed, screen)) = found else {
            return session.channel_failure(channel);
        };
        self.running.insert(channel, waiting.item.id());
        let run = Session {
            connection: Arc::clone(&self.connection),
            handle: session.handle(),
            item: waiting.item,
            out: waiting.out,
            spool,
            closed,
            screen,
            permits: Mutex::new(Some(waiting.permits)),
        };
        session.channel_success(channel)?;
        tokio::spawn(run.run(program, waiting.wishes));
        Ok(())
    }

    /// A channel that the client opens to reach something.
    async fn connect(&self, channel: Channel<Msg>, to: Option<Place>, reply: ChannelOpenHandle) {
        let Some(permit) = self.connection.channel_permit() else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        let Some(to) = to else {
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        };
        let id = channel.id();
        let (_, out) = channel.split();
        self.connection.add(id);
        let found =
            self.connection.with(id, |entry| (Arc::clone(&entry.spool), entry.closed.clone()));
        let Some((spool, closed)) = found else { return };
        let forward = Forward {
            connection: Arc::clone(&self.connection),
            item: self.connection.broker.item(),
            out,
            spool,
            closed,
            permit: Mutex::new(Some(permit)),
        };
        tokio::spawn(forward.run(to, reply));
    }

    /// Listens for the client; the port.
    async fn listen(&mut self, spot: Spot, at: Place, handle: Handle) -> Option<u16> {
        // What the broker has hung up may be asked for again.
        self.listeners.retain(|_, listener| !listener.task.is_finished());
        if self.is_listening_slow
            || self.listeners.len() >= self.connection.limits.listeners as usize
            || self.listeners.contains_key(&spot)
        {
            return None;
        }
        let item = self.connection.broker.item();
        let listening = forward::listen(&self.connection, &item, at);
        let Ok(listening) = tokio::time::timeout(LISTEN_TIME, listening).await else {
            self.is_listening_slow = true;
            tracing::warn!(
                connection = self.connection.id,
                "the container was too slow to listen: remote forwards of this connection are refused from now on"
            );
            return None;
        };
        // The reason has no place in SSH's reply.
        let (descriptor, port) = listening.ok()?;
        let (spot, ear) = match spot {
            Spot::Tcp(host, wanted) => {
                let port = port.or_else(|| u16::try_from(wanted).ok())?;
                (Spot::Tcp(host.clone(), port.into()), Ear::Tcp { host, port })
            }
            Spot::Unix(path) => (Spot::Unix(path.clone()), Ear::Unix { path }),
        };
        let (connection, id) = (Arc::clone(&self.connection), item.id());
        let hang_up = item.hang_up().clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let broker = Arc::clone(&connection.broker);
            let done = forward::accept(connection, handle, descriptor, ear, hang_up).await;
            // Its client does not know, and may never take it back.
            broker.closed(id);
            done
        }));
        self.listeners.insert(spot, Listener { task, _item: item });
        Some(port.unwrap_or(0))
    }
}

impl Callbacks for Handler {
    type Error = Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        self.comes_as(user);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, _password: &str) -> Result<Auth, Error> {
        self.comes_as(user);
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        self.comes_as(user);
        let Some(key) = usable(offer.blob, offer.algorithm) else { return Ok(Auth::reject()) };
        if !self.attempt() {
            return Ok(Auth::reject());
        }
        let (connection, peer) = (self.connection.id, self.connection.peer);
        let login = LoginName { user: user.to_owned(), host: self.connection.host.clone() };
        let question = Question::Offer { connection, peer, login, key };
        Ok(verdict(&self.connection.broker.ask(question, AUTHENTICATION_TIME).await.0))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        self.authenticate(user, key).await
    }

    async fn auth_openssh_certificate(
        &mut self,
        _user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Error> {
        // Asked only where the next method is not there.
        Ok(Auth::reject())
    }

    async fn auth_verified_certificate(
        &mut self,
        user: &str,
        _certificate: &Certificate,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        // Whose it is and what it allows is in its blob, for the broker.
        self.authenticate(user, key).await
    }

    async fn auth_keyboard_interactive<'response>(
        &'response mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'response>>,
    ) -> Result<Auth, Error> {
        self.comes_as(user);
        // Only behind a key, and under the name that it was proved for: everybody else is told the same at once.
        if self.owing.as_deref() != Some(user) {
            return Ok(Auth::reject());
        }
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Borrowed(&[(Cow::Borrowed(CODE_PROMPT), false)]),
            });
        };
        match (response.next(), response.next()) {
            (Some(code), None) if code.len() <= CODE_BYTES && self.attempt() => {
                Ok(self.give_code(user, code.to_vec()).await)
            }
            _ => Ok(Auth::reject()),
        }
    }

    async fn auth_succeeded(&mut self, _session: &mut russh::server::Session) -> Result<(), Error> {
        self.connection.authenticate();
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        Ok(self.connection.banner.clone())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.waiting.remove(&channel);
        self.running.remove(&channel);
        self.connection.closed(channel);
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.connection.with(channel, |entry| entry.spool.end());
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.connection.touch();
        let permits = self.connection.channel_permit().zip(self.connection.session_permit());
        let Some((one, other)) = permits else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let id = channel.id();
        let (_, out) = channel.split();
        self.connection.add(id);
        let item = self.connection.broker.item();
        let prepare = Question::Prepare { connection: self.connection.id, session: item.id() };
        self.connection.broker.tell(prepare).await;
        self.running.retain(|channel, _| self.connection.with(*channel, |_| ()).is_some());
        self.waiting.insert(
            id,
            Waiting {
                item,
                out,
                wishes: Wishes::default(),
                variable_bytes: 0,
                permits: [one, other],
            },
        );
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.connection.touch();
        self.connect(channel, tcp(host, port), reply).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        // Only a server opens these.
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.connection.touch();
        self.connect(channel, unix(path), reply).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _packet_bytes: u32,
        _window_bytes: u32,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        // Before any of its bytes; whoever opened it finds it there.
        self.connection.add(channel);
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.connection.touch();
        let Some(spool) = self.connection.with(channel, |entry| Arc::clone(&entry.spool)) else {
            return Ok(());
        };
        spool.push(data, &self.connection).await.map_err(|overrun| {
            self.connection.note(overrun.to_string());
            Error::Pending
        })
    }

    async fn extended_data(
        &mut self,
        _channel: ChannelId,
        _code: u32,
        _data: &[u8],
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        // No program has a second input.
        Ok(())
    }

    async fn window_adjusted(
        &mut self,
        _channel: ChannelId,
        _size: u32,
        _session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        // The writing halves know.
        Ok(())
    }

    /// The next window of every channel: almost none while a spool is full.
    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        if self.connection.link.brake.is_on() { WINDOW_SLOW_BYTES } else { WINDOW_BYTES }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        let Some(waiting) = self.waiting.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        if waiting.wishes.terminal.is_some()
            || term.len() > TERM_BYTES
            || term.contains('\0')
            || modes.len() > MODES_MAX
        {
            return session.channel_failure(channel);
        }
        waiting.wishes.terminal = Some(Terminal {
            term: term.to_owned(),
            size: size(columns, rows, width, height),
            // What russh does not know stands there as the end of the list.
            modes: modes
                .iter()
                .filter(|(code, _)| *code != Pty::TTY_OP_END)
                .map(|(code, value)| (*code as u8, *value))
                .collect(),
        });
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        let Some(waiting) = self.waiting.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        let bytes = waiting.variable_bytes + name.len() + value.len();
        let bad = name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        if bad || bytes > VARIABLES_BYTES || waiting.wishes.environment.len() >= VARIABLES_MAX {
            return session.channel_failure(channel);
        }
        waiting.variable_bytes = bytes;
        let value = Opaque(value.as_bytes().to_vec());
        waiting.wishes.environment.push((name.to_owned(), value));
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        self.start(channel, Program::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        if command.len() > COMMAND_BYTES || command.contains(&0) {
            return session.channel_failure(channel);
        }
        self.start(channel, Program::Command(command.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        match name {
            "sftp" => self.start(channel, Program::Sftp, session),
            _ => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        let size = size(columns, rows, width, height);
        if let Some(waiting) = self.waiting.get_mut(&channel) {
            match &mut waiting.wishes.terminal {
                Some(terminal) => terminal.size = size,
                None => return session.channel_failure(channel),
            }
        } else if self.connection.with(channel, |entry| entry.screen.resize(size)).is_none() {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<bool, Error> {
        let waiting = self.waiting.get_mut(&channel);
        Ok(waiting.map(|waiting| waiting.wishes.agent = true).is_some())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut russh::server::Session,
    ) -> Result<(), Error> {
        match (self.running.get(&channel), name(signal)) {
            (Some(item), Some(name)) => {
                self.connection.broker.mention(Question::Signal { session: *item, name });
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut russh::server::Session,
    ) -> Result<bool, Error> {
        self.connection.touch();
        let Some(at) = tcp(address, *port) else { return Ok(false) };
        match self.listen(Spot::Tcp(address.to_owned(), *port), at, session.handle()).await {
            Some(real) => {
                *port = real.into();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut russh::server::Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Spot::Tcp(address.to_owned(), port)).is_some())
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut russh::server::Session,
    ) -> Result<bool, Error> {
        self.connection.touch();
        let Some(at) = unix(path) else { return Ok(false) };
        Ok(self.listen(Spot::Unix(path.to_owned()), at, session.handle()).await.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut russh::server::Session,
    ) -> Result<bool, Error> {
        Ok(self.listeners.remove(&Spot::Unix(path.to_owned())).is_some())
    }

    async fn lookup_dh_gex_group(
        &mut self,
        _parameters: &GexParams,
    ) -> Result<Option<DhGroup>, Error> {
        // These exchanges are not offered.
        Ok(None)
    }
}

/// The key or certificate as it travels, unless it is larger than any that counts, or its signatures cannot be trusted:
/// those with SHA-1.
fn usable(blob: &[u8], algorithm: &Algorithm) -> Option<Vec<u8>> {
    match algorithm {
        _ if blob.len() > BLOB_BYTES_MAX => None,
        Algorithm::Rsa { hash: None } | Algorithm::Dsa => None,
        _ => Some(blob.to_vec()),
    }
}

fn verdict(answer: &Answer) -> Auth {
    match answer {
        Answer::Granted => Auth::Accept,
        _ => Auth::reject(),
    }
}

fn tcp(host: &str, port: u32) -> Option<Place> {
    let port = u16::try_from(port).ok()?;
    (host.len() <= PLACE_BYTES && !host.contains('\0'))
        .then(|| Place::Tcp { host: host.to_owned(), port })
}

fn unix(path: &str) -> Option<Place> {
    (!path.is_empty() && path.len() <= PLACE_BYTES && !path.contains('\0'))
        .then(|| Place::Unix { path: path.as_bytes().to_vec() })
}

fn size(columns: u32, rows: u32, width: u32, height: u32) -> WindowSize {
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    WindowSize {
        columns: short(columns),
        rows: short(rows),
        width: short(width),
        height: short(height),
    }
}

/// The name of a signal, if it can be one.
fn name(signal: Sig) -> Option<String> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            return (plain && !name.is_empty() && name.len() <= SIGNAL_BYTES).then_some(name);
        }
    };
    Some(name.to_owned())
}
