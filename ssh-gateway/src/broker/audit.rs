//! Who did what: one event each, of the target `audit`. No secrets, and nothing that a terminal obeys.

use std::net::SocketAddr;
use std::time::Duration;

use chores_common::engine::Container;
use russh::keys::{HashAlg, PublicKey};

use super::connection::Connection;
use crate::login::{shown, told};
use crate::policy::{Denial, Identity};
use crate::wire::net::{ConnectionId, ItemId, LoginName, Place, Refusal};
use crate::wire::{Exit, Program};

/// Bytes of a command that are told.
const COMMAND_BYTES_MAX: usize = 1024;

/// A client has proved that it holds a key, and may come in.
pub(super) fn login(
    id: ConnectionId,
    identity: &Identity,
    login: &LoginName,
    client: &str,
    peer: SocketAddr,
) {
    tracing::info!(
        target: "audit",
        connection = id,
        peer = %peer,
        login = shown(&login.to_string()),
        key = identity.fingerprint(),
        comment = shown(identity.comment()),
        client = shown(client),
        "login"
    );
}

/// A client has offered a key with which it may not come in, and has proved nothing.
pub(super) fn offer_refused(
    id: ConnectionId,
    denial: &Denial,
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
        reason = %denial,
        "key refused"
    );
}

/// As `ssh-keygen -l` shows it.
fn fingerprint(key: &[u8]) -> String {
    PublicKey::from_bytes(key)
        .map_or_else(|_| "(no key)".to_owned(), |key| key.fingerprint(HashAlg::Sha256).to_string())
}

/// A client has proved that it holds a key, and may not.
pub(super) fn denied(
    id: ConnectionId,
    denial: &Denial,
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
        reason = %denial,
        "login denied"
    );
}

/// A connection is over.
pub(super) fn logout(connection: &Connection, reason: &str) {
    tracing::info!(
        target: "audit",
        connection = connection.id,
        reason = shown(reason),
        "logout"
    );
}

/// A session is about to begin.
pub(super) fn session(
    connection: &Connection,
    session: ItemId,
    container: &Container,
    user: Option<&str>,
    program: &Program,
    has_terminal: bool,
) {
    tracing::info!(
        target: "audit",
        connection = connection.id,
        session,
        key = connection.identity.fingerprint(),
        selector = shown(&connection.login.to_string()),
        container = container.name,
        id = container.id,
        image = container.image_id,
        user = user.unwrap_or("(of the container)"),
        program = told_program(program),
        terminal = has_terminal,
        "session"
    );
}

/// A session could not be had.
pub(super) fn refused(connection: &Connection, session: ItemId, refusal: &Refusal) {
    tracing::warn!(
        target: "audit",
        connection = connection.id,
        session,
        selector = shown(&connection.login.to_string()),
        reason = told(&refusal.message),
        "session refused"
    );
}

/// A session runs, but less well than it should.
pub(super) fn degraded(connection: &Connection, session: ItemId, reason: &str) {
    tracing::warn!(
        target: "audit",
        connection = connection.id,
        session,
        reason = told(reason),
        "session degraded: the engine's exec"
    );
}

/// A session's program ended.
pub(super) fn exited(connection: &Connection, session: ItemId, exit: Exit, time: Duration) {
    let (status, signal) = match exit {
        Exit::Status(status) => (Some(status), None),
        Exit::Signal { number, .. } => (None, Some(number)),
    };
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "audit",
        connection = connection.id,
        session,
        status,
        signal,
        milliseconds,
        "exit"
    );
}

/// A forward was opened, or not.
pub(super) fn forward(
    connection: &Connection,
    what: &str,
    place: &Place,
    refusal: Option<&Refusal>,
) {
    let place = match place {
        Place::Tcp { host, port } => format!("{}:{port}", shown(host)),
        Place::Unix { path } => shown(&String::from_utf8_lossy(path)),
    };
    match refusal {
        None => tracing::info!(target: "audit", connection = connection.id, what, place, "forward"),
        Some(refusal) => tracing::warn!(
            target: "audit",
            connection = connection.id,
            what,
            place,
            reason = told(&refusal.message),
            "forward refused"
        ),
    }
}

fn told_program(program: &Program) -> String {
    let some = |bytes: &[u8]| {
        let bytes = bytes.get(..COMMAND_BYTES_MAX).unwrap_or(bytes);
        bytes.escape_ascii().to_string()
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
