//! The process that uploads finished records: it has the network, the credentials of a store, and one open file at a time.
//!
//! ```text
//! broker ─setup, orders with open files→ uploader ⇄ store
//!        ←──────────── reports ─────────
//! ```
//!
//! It is nobody, without capabilities, starts nothing and opens no file of the state. Nothing that is in the store is ever
//! replaced, and nothing is said to be there that was not read back.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use chores_common::object::{
    self, BodySender, ErrorKind, Location, ObjectError, ObjectStore, S3Settings,
};
use chores_common::secret::Secret;
use rustix::io::retry_on_intr;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

use crate::net::confine;
use crate::wire::Opaque;
use crate::wire::socket::{AsyncSocket, Socket};
use crate::wire::upload::{Failure, Order, Report, Setup};

#[cfg(test)]
mod tests;

/// Read, sent and read back at once, in bytes.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// Steps that wait for the network.
const STEPS_MAX: usize = 2;
/// Threads of the runtime: one waits for the network, one reads files or asks for names.
const BLOCKING_THREADS: usize = 4;

/// It has done what it was told until nobody told it more.
const EXIT_DONE: u8 = 0;
/// It could not begin, or go on.
const EXIT_FAILED: u8 = 1;

/// The role: serves the broker until it closes its end.
pub(crate) fn run(socket: Socket) -> u8 {
    if confine::give_up_privileges().is_err() || confine::forbid_deeds().is_err() {
        return EXIT_FAILED;
    }
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let served = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let socket = socket.into_async()?;
            let Some((setup, _)) = socket.receive::<Setup>().await? else { return Ok(()) };
            serve(&socket, open(setup)).await
        })
    });
    if served.is_ok() { EXIT_DONE } else { EXIT_FAILED }
}

/// Reads what opens the store, and forgets the rest of it.
fn open(setup: Setup) -> Result<ObjectStore, String> {
    let Setup { location, endpoint, region, access_key, secret_key, session_token } = setup;
    let location = Location::parse(&location).map_err(|error| error.to_string())?;
    let settings = S3Settings {
        endpoint,
        region,
        access_key: Some(access_key),
        secret_key: Some(secret(secret_key)?),
        session_token: session_token.map(secret).transpose()?,
        path_style: None,
    };
    ObjectStore::open(&location, &settings).map_err(|error| error.to_string())
}

fn secret(Opaque(bytes): Opaque) -> Result<Secret, String> {
    String::from_utf8(bytes).map(Secret::new).map_err(|_| "a key is no text".to_owned())
}

/// Carries out orders, one after the other.
async fn serve(socket: &AsyncSocket, store: Result<ObjectStore, String>) -> io::Result<()> {
    while let Some((order, descriptors)) = socket.receive::<Order>().await? {
        let number = order.number;
        let result = match (&store, descriptors.into_iter().next()) {
            (Ok(store), Some(file)) => upload(store, &order, file).await,
            (Err(reason), _) => Err(Failure::Later(reason.clone())),
            (Ok(_), None) => Err(Failure::Later("no file came with the order".to_owned())),
        };
        socket.send(&Report { number, result }, &[]).await?;
    }
    Ok(())
}

async fn upload(store: &ObjectStore, order: &Order, file: OwnedFd) -> Result<(), Failure> {
    match store.head(&order.key).await {
        // An earlier life may have put it there and not have lived to hear of it.
        Ok(there) if there.size == order.bytes => {
            return if is_same(store, order).await? { Ok(()) } else { Err(Failure::Taken) };
        }
        Ok(_) => return Err(Failure::Taken),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(later(&error)),
    }
    let (sender, body) = object::body(STEPS_MAX);
    let its = order.clone();
    let reading = spawn_blocking(move || read(&file, sender, &its));
    let put = store.put_stream(&order.key, body).await;
    // Why it was not whole says more than that it was not.
    reading.await.map_err(|error| Failure::Later(error.to_string()))??;
    put.map_err(|error| later(&error))?;
    if is_same(store, order).await? {
        return Ok(());
    }
    Err(Failure::Later(format!("{} is not as it was uploaded when it is read back", order.key)))
}

fn later(error: &ObjectError) -> Failure {
    Failure::Later(error.to_string())
}

/// Sends a file, and says that it is whole only when it is the one that was meant. Blocks.
fn read(file: &OwnedFd, sender: BodySender, order: &Order) -> Result<(), Failure> {
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < order.bytes {
        let left = usize::try_from(order.bytes - at).unwrap_or(usize::MAX);
        let mut step = vec![0; left.min(STEP_BYTES)];
        let read = retry_on_intr(|| rustix::io::pread(file, step.as_mut_slice(), at));
        let length = read.map_err(|error| {
            Failure::Later(format!("cannot read {}: {}", order.key, io::Error::from(error)))
        })?;
        if length == 0 {
            return Err(Failure::Changed);
        }
        step.truncate(length);
        hash.update(&step);
        at = at.saturating_add(length as u64);
        // Whoever takes them says why he does not.
        if sender.blocking_send(Bytes::from(step)).is_err() {
            return Ok(());
        }
    }
    if <[u8; 32]>::from(hash.finalize()) != order.sha256 {
        return Err(Failure::Changed);
    }
    // The same.
    sender.blocking_finish().ok();
    Ok(())
}

/// Whether the store has these bytes, by all of them.
async fn is_same(store: &ObjectStore, order: &Order) -> Result<bool, Failure> {
    let there = store.head(&order.key).await.map_err(|error| later(&error))?;
    if there.size != order.bytes {
        return Ok(false);
    }
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < order.bytes {
        let end = at.saturating_add(STEP_BYTES as u64).min(order.bytes);
        let bytes = store.get_range(&order.key, at..end).await.map_err(|error| later(&error))?;
        hash.update(&bytes);
        at = end;
    }
    Ok(<[u8; 32]>::from(hash.finalize()) == order.sha256)
}
