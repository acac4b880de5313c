//! Who did what: one event each, in the [journal] and in the log (target `audit`). No secrets, and nothing that a
//! terminal obeys.
//!
//! [journal]: super::journal

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use russh::keys::HashAlg;
use russh::keys::ssh_key::public::KeyData;

use super::Shared;
use super::connection::{Choice, Connection};
use super::files;
use super::journal::Journal;
use super::linger::Waiting;
use super::session::Account;
use crate::chain::hash;
use crate::control;
use crate::login::{shown, told};
use crate::policy::Identity;
use crate::proof;
use crate::wire::net::{ConnectionId, ItemId, LoginName, Place, Refusal};
use crate::wire::{Exit, Program};

#[cfg(test)]
mod tests;

/// Bytes of a command that are told; of a longer one its length and SHA-256 stand behind them.
const COMMAND_BYTES_MAX: usize = 1024;

/// Denied logins that the journal takes in a minute; the log has all of them. Anybody can be denied, and the disk is
/// everybody's.
const DENIALS_MAX: u32 = 60;
/// This minute.
const DENIALS_PERIOD: Duration = Duration::from_secs(60);

/// Says something in the log and in a journal.
macro_rules! event {
    ($journal:expr, $level:ident, $name:literal, $($key:ident = $value:expr),+ $(,)?) => {{
        let journal: &Journal = &$journal;
        // All at once: a name may be that of something that the next value is made of.
        let ($($key,)+) = ($($value,)+);
        let mut fields = serde_json::Map::new();
        $(
            // Texts, numbers and what is not there have a JSON.
            let value = serde_json::to_value(&$key).unwrap_or_default();
            fields.insert(stringify!($key).to_owned(), value);
        )+
        tracing::$level!(target: "audit", $($key = $key,)+ $name);
        journal.write($name, fields);
    }};
}

/// Counts denied logins.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    since: Option<Instant>,
    count: u32,
    left_out: u64,
}

impl Denials {
    /// Whether the journal takes another one, and how many it has not taken before.
    fn count(&self) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.since.is_none_or(|since| since.elapsed() >= DENIALS_PERIOD) {
            counted.since = Some(Instant::now());
            counted.count = 0;
        }
        if counted.count >= DENIALS_MAX {
            counted.left_out += 1;
            return None;
        }
        counted.count += 1;
        Some(std::mem::take(&mut counted.left_out))
    }
}

/// A client has proved that it holds a key, and may come in.
pub(super) fn login(
    journal: &Journal,
    id: ConnectionId,
    identity: &Identity,
    login: &LoginName,
    client: &str,
    peer: SocketAddr,
    factor: Option<&'static str>,
) {
    let issued = identity.issued();
    event!(
        journal,
        info,
        "login",
        connection = id,
        peer = peer.to_string(),
        login = shown(&login.to_string()),
        identity = identity.name(),
        key = identity.fingerprint(),
        comment = shown(identity.comment()),
        certificate = issued.map(|issued| shown(&issued.key_id)),
        serial = issued.map(|issued| issued.serial),
        authority = issued.map(|issued| issued.authority.as_str()),
        client = shown(client),
        factor = factor,
    );
}

/// A client may not come in with a key that it has offered, and of which nothing is proved: anybody can do that, so only
/// the log has it.
pub(super) fn key_refused(
    id: ConnectionId,
    reason: &dyn Display,
    login: &LoginName,
    peer: SocketAddr,
    key: &[u8],
) {
    tracing::warn!(
        target: "audit",
        connection = id,
        peer = %peer,
        login = shown(&login.to_string()),
        key = fingerprint(key),
        reason = %reason,
        "key refused"
    );
}

/// A client may not come in with the key that it has signed with.
pub(super) fn login_denied(
    shared: &Shared,
    id: ConnectionId,
    reason: &dyn Display,
    login: &LoginName,
    peer: SocketAddr,
    key: &[u8],
) {
    let (login, key, reason) = (shown(&login.to_string()), fingerprint(key), reason.to_string());
    match shared.denials.count() {
        Some(before) => event!(
            shared.journal,
            warn,
            "login denied",
            connection = id,
            peer = peer.to_string(),
            login = login,
            key = key,
            reason = told(&reason),
            left_out = (before > 0).then_some(before),
        ),
        None => tracing::warn!(
            target: "audit",
            connection = id,
            peer = %peer,
            login,
            key,
            reason,
            "login denied"
        ),
    }
}

/// Another policy counts from now on.
pub(super) fn policy_read(journal: &Journal, keys: usize, rules: usize) {
    event!(journal, info, "policy read", keys = keys, rules = rules);
}

/// The policy cannot be read.
pub(super) fn policy_refused(journal: &Journal, reason: &str, holds: &str) {
    event!(journal, error, "policy refused", reason = told(reason), holds = holds);
}

/// Somebody on the gateway's host does something to a session or a forward.
pub(super) fn administrated(
    journal: &Journal,
    what: &'static str,
    session: &control::Session,
    uid: u32,
) {
    event!(
        journal,
        warn,
        "administration",
        what = what,
        name = session.session.as_str(),
        connection = session.connection,
        container = session.container.as_str(),
        uid = uid,
    );
}

/// Somebody on the gateway's host ends a connection.
pub(super) fn disconnected(journal: &Journal, connection: &control::Connection, uid: u32) {
    event!(
        journal,
        warn,
        "administration",
        what = "disconnect",
        connection = connection.connection,
        identity = connection.identity.as_deref(),
        key = connection.key.as_str(),
        peer = connection.peer.as_str(),
        uid = uid,
    );
}

/// As `ssh-keygen -l` shows it: of a certificate, that of the key in it.
fn fingerprint(key: &[u8]) -> String {
    let of = |key: &KeyData| key.fingerprint(HashAlg::Sha256).to_string();
    match proof::key(key) {
        Some(KeyData::Certificate(certificate)) => of(certificate.public_key()),
        Some(key) => of(&key),
        None => "(no key)".to_owned(),
    }
}

/// A connection is over.
pub(super) fn logout(connection: &Connection, reason: &str) {
    event!(
        connection.shared.journal,
        info,
        "logout",
        connection = connection.id,
        reason = shown(reason),
    );
}

/// A session is about to begin.
pub(super) fn session(
    connection: &Connection,
    session: ItemId,
    choice: &Choice,
    program: &Program,
    has_terminal: bool,
    account: &Account,
) {
    let Choice { container, access, .. } = choice;
    event!(
        connection.shared.journal,
        info,
        "session",
        connection = connection.id,
        session = session,
        name = account.name.as_str(),
        identity = connection.identity.name(),
        key = connection.identity.fingerprint(),
        rule = access.rule().name.as_str(),
        selector = shown(&connection.login.to_string()),
        container = container.name.as_str(),
        id = container.id.as_str(),
        image = container.image_id.as_str(),
        user = access.user().unwrap_or("(of the container)"),
        program = told_program(program),
        terminal = has_terminal,
        recording = account.tap.as_ref().and_then(|tap| tap.name()),
    );
}

/// A client asks the gateway itself.
pub(super) fn inquiry(
    connection: &Connection,
    session: ItemId,
    name: &str,
    rule: &str,
    what: &'static str,
) {
    event!(
        connection.shared.journal,
        info,
        "inquiry",
        connection = connection.id,
        session = session,
        name = name,
        identity = connection.identity.name(),
        key = connection.identity.fingerprint(),
        rule = rule,
        selector = shown(&connection.login.to_string()),
        what = what,
    );
}

/// A session could not be had.
pub(super) fn refused(connection: &Connection, session: ItemId, refusal: &Refusal) {
    event!(
        connection.shared.journal,
        warn,
        "session refused",
        connection = connection.id,
        session = session,
        selector = shown(&connection.login.to_string()),
        reason = told(&refusal.message),
    );
}

/// A session runs, but less well than it should.
pub(super) fn degraded(connection: &Connection, session: ItemId, reason: &str) {
    event!(
        connection.shared.journal,
        warn,
        "session degraded: the engine's exec",
        connection = connection.id,
        session = session,
        reason = told(reason),
    );
}

/// What came of the toolbox that a session needed.
pub(super) fn toolbox(connection: &Connection, session: ItemId, name: &str, missing: Option<&str>) {
    event!(
        connection.shared.journal,
        info,
        "toolbox",
        connection = connection.id,
        session = session,
        name = name,
        missing = missing.map(told),
    );
}

/// A session's program ended.
pub(super) fn exited(
    connection: &Connection,
    session: ItemId,
    name: Option<&str>,
    exit: Exit,
    time: Duration,
) {
    let (of_status, of_signal) = match exit {
        Exit::Status(status) => (Some(status), None),
        Exit::Signal { number, .. } => (None, Some(number)),
    };
    event!(
        connection.shared.journal,
        info,
        "exit",
        connection = connection.id,
        session = session,
        name = name,
        status = of_status,
        signal = of_signal,
        milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    );
}

/// A session has lost its connection; where its rule lets it wait for its client. `not_kept` is why it does not wait all the
/// same.
pub(super) fn lost(
    connection: &Connection,
    session: ItemId,
    name: &str,
    linger: Duration,
    not_kept: Option<&str>,
) {
    event!(
        connection.shared.journal,
        info,
        "lost",
        connection = connection.id,
        session = session,
        name = name,
        linger_seconds = not_kept.is_none().then_some(linger.as_secs()),
        not_kept = not_kept,
    );
}

/// A client is about to return to a session that waited for it.
pub(super) fn attached(connection: &Connection, session: ItemId, waiting: &Waiting) {
    event!(
        connection.shared.journal,
        info,
        "attached",
        connection = connection.id,
        session = session,
        name = waiting.name.as_str(),
        identity = connection.identity.name(),
        key = connection.identity.fingerprint(),
        rule = waiting.access.rule().name.as_str(),
        id = waiting.container.as_str(),
        since = waiting.lost.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
}

/// A session waits no more, and ends.
pub(super) fn linger_ended(
    connection: &Connection,
    session: ItemId,
    name: &str,
    reason: &'static str,
) {
    event!(
        connection.shared.journal,
        info,
        "linger-ended",
        connection = connection.id,
        session = session,
        name = name,
        reason = reason,
    );
}

/// What is told of a file.
macro_rules! about_file {
    ($session:ident, $line:ident, $name:literal) => {{
        event!(
            $session.shared.journal,
            debug,
            $name,
            connection = $session.connection,
            session = $session.session,
            name = $session.name.as_str(),
            what = $line.what,
            path = $line.path.as_str(),
            to = $line.to.as_deref(),
            opened = $line.opened.as_deref(),
            read = $line.read,
            read_sha256 = $line.read_sha256.as_deref(),
            written = $line.written,
            written_sha256 = $line.written_sha256.as_deref(),
            copied = $line.copied,
            size = $line.size,
            mode = $line.mode.as_deref(),
            owner = $line.owner.as_deref(),
            modified = $line.modified,
            reason = $line.reason.as_deref(),
            fault = $line.fault.as_deref(),
        );
    }};
}

/// Something was done to a file, or tried, by one of our own programs.
pub(super) fn file(session: &files::Session, line: &files::Line) {
    match line.reason {
        None => about_file!(session, line, "file"),
        // Who only tries has less room in the audit.
        Some(_) => about_file!(session, line, "file refused"),
    }
}

/// A finished record is in the store.
pub(super) fn uploaded(journal: &Journal, file: &str, bytes: u64, sha256: &str, is_removed: bool) {
    event!(
        journal,
        info,
        "upload",
        file = file,
        bytes = bytes,
        sha256 = sha256,
        removed = is_removed.then_some(true),
    );
}

/// What is told of a forward, refused or not.
macro_rules! forward {
    ($connection:ident, $level:ident, $name:literal, $what:ident, $place:ident $(, $key:ident = $value:expr)*) => {{
        let choice = $connection.chosen();
        event!(
            $connection.shared.journal,
            $level,
            $name,
            connection = $connection.id,
            identity = $connection.identity.name(),
            key = $connection.identity.fingerprint(),
            rule = choice.map(|choice| choice.access.rule().name.as_str()),
            container = choice.map(|choice| choice.container.name.as_str()),
            id = choice.map(|choice| choice.container.id.as_str()),
            what = $what,
            place = told_place($place),
            $($key = $value,)*
        )
    }};
}

/// A forward is about to be opened.
pub(super) fn forward(connection: &Connection, name: &str, what: &'static str, place: &Place) {
    forward!(connection, info, "forward", what, place, name = name);
}

/// A forward is not opened, whether it may not be or cannot.
pub(super) fn forward_refused(
    connection: &Connection,
    what: &'static str,
    place: &Place,
    refusal: &Refusal,
) {
    let reason = told(&refusal.message);
    forward!(connection, warn, "forward refused", what, place, reason = reason);
}

/// A place without what a terminal obeys.
pub(super) fn told_place(place: &Place) -> String {
    match place {
        Place::Tcp { host, port } => format!("{}:{port}", shown(host)),
        Place::Unix { path } => shown(&String::from_utf8_lossy(path)),
    }
}

/// A program without what a terminal obeys.
pub(super) fn told_program(program: &Program) -> String {
    // What is not told can be proved nevertheless: nobody hides a command behind a long one.
    let some = |bytes: &[u8]| match bytes.split_at_checked(COMMAND_BYTES_MAX) {
        Some((told, rest)) if !rest.is_empty() => {
            format!("{}... ({} bytes, sha256 {})", told.escape_ascii(), bytes.len(), hash(bytes))
        }
        _ => bytes.escape_ascii().to_string(),
    };
    match program {
        Program::Shell => "shell".to_owned(),
        Program::Command(command) => format!("command {}", some(command)),
        Program::Words(words) => format!("words {}", some(&words.join(&b' '))),
        Program::Sftp => "sftp".to_owned(),
        Program::SftpReadOnly => "sftp, read-only".to_owned(),
        Program::Portal => "portal".to_owned(),
    }
}
