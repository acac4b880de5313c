//! From a program to the client.

use std::future::Future;
use std::time::Duration;

use russh::ChannelWriteHalf;
use russh::server::Msg;

use super::connection::Connection;
use super::stream::Stream;

/// Extended data of RFC 4254, 5.2.
pub(super) const STDERR: u32 = 1;
/// A terminal whose program has ended is drained when nothing came for this long: what was written to it takes
/// a moment to its other side, and others may hold it open for ever.
const TERMINAL_SETTLED: Duration = Duration::from_millis(50);
/// More than this is not left in a terminal by a program that has ended. In bytes.
const TERMINAL_REST_BYTES: usize = 1024 * 1024;

/// The client's half of a channel.
pub(super) type Out = ChannelWriteHalf<Msg>;

/// Passes everything on until the end, or until the client is gone.
pub(super) async fn copy(from: &Stream, to: &Out, kind: Option<u32>, connection: &Connection) {
    // An error of the other side is the end of what can be read.
    while let Ok(bytes) = from.read().await {
        if bytes.is_empty() {
            break;
        }
        connection.touch();
        if send(to, kind, bytes).await.is_err() {
            break;
        }
    }
}

/// The same for a terminal, whose end does not always come: other processes may keep it open after its
/// program.
pub(super) async fn copy_terminal<T>(
    from: &Stream,
    to: &Out,
    connection: &Connection,
    exit: impl Future<Output = T>,
) -> T {
    tokio::pin!(exit);
    let mut exited = None;
    let mut rest = TERMINAL_REST_BYTES;
    loop {
        // Only the reading is given up for an exit, never bytes that were read.
        let read = if exited.is_some() {
            let Ok(read) = tokio::time::timeout(TERMINAL_SETTLED, from.read()).await else { break };
            read
        } else {
            tokio::select! {
                read = from.read() => read,
                exit = &mut exit => {
                    exited = Some(exit);
                    continue;
                }
            }
        };
        let Ok(bytes) = read else { break };
        if bytes.is_empty() || rest == 0 {
            break;
        }
        if exited.is_some() {
            rest = rest.saturating_sub(bytes.len());
        }
        connection.touch();
        if send(to, None, bytes).await.is_err() {
            break;
        }
    }
    match exited {
        Some(exit) => exit,
        None => exit.await,
    }
}

/// A line for the user on standard error.
pub(super) async fn tell(to: &Out, line: &str) {
    // Nobody is there to hear it.
    to.extended_data_bytes(STDERR, format!("{line}\r\n")).await.ok();
}

async fn send(to: &Out, kind: Option<u32>, bytes: bytes::Bytes) -> Result<(), russh::Error> {
    match kind {
        None => to.data_bytes(bytes).await,
        Some(kind) => to.extended_data_bytes(kind, bytes).await,
    }
}
