//! Messages and descriptors over a `SOCK_SEQPACKET` pair (unix(7)): borders are kept, nothing is torn.
//!
//! ```text
//! u8   0: the message follows      1: the message is the content of the last descriptor, a memfd
//! …    postcard
//! ```

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptor::watched;

/// Longer messages travel in a memfd: a socket's buffer has no room for them. In bytes.
const MESSAGE_INLINE_MAX: usize = 64 * 1024;
/// No message is longer: an environment of a hostile image may have megabytes. In bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Descriptors of one message, that of a long message included.
const DESCRIPTORS_MAX: usize = 8;

/// A message and the descriptors that came with it.
pub type Received<T> = (T, Vec<OwnedFd>);

/// One end of a pair, for a process that may block.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// One end of a pair, for a process that may not.
#[derive(Debug)]
pub struct AsyncSocket(AsyncFd<OwnedFd>);

impl Socket {
    /// Two ends; neither survives an exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Takes over an end that was inherited or received.
    #[must_use]
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Gives the end away.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// The same end for a process that may not block. Needs a tokio runtime with I/O.
    pub fn into_async(self) -> io::Result<AsyncSocket> {
        Ok(AsyncSocket(watched(self.0)?))
    }

    /// Sends one message; waits for room.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        Packet::of(message)?.send(&self.0, descriptors)
    }

    /// The next message; `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        receive(&self.0)
    }

    /// The next message; an error of kind `TimedOut` when there is none by `deadline`.
    pub fn receive_by<T: DeserializeOwned>(
        &self,
        deadline: Instant,
    ) -> io::Result<Option<Received<T>>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no message in time"));
            }
            if is_readable(&self.0, left)? {
                return self.receive();
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncSocket {
    /// Sends one message; waits for room. Dropped before its end, it has sent nothing.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let packet = Packet::of(message)?;
        self.0.async_io(Interest::WRITABLE, |socket| packet.send(socket, descriptors)).await
    }

    /// The next message; `None` when the other end is closed. Dropped before its end, it has taken nothing.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        self.0.async_io(Interest::READABLE, |socket| receive(socket)).await
    }
}

impl AsFd for AsyncSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// A message as it travels.
struct Packet {
    head: Vec<u8>,
    body: Option<OwnedFd>,
}

impl Packet {
    fn of<T: Serialize>(message: &T) -> io::Result<Self> {
        let head = postcard::to_extend(message, vec![0]).map_err(io::Error::other)?;
        let length = head.len() - 1;
        if length > MESSAGE_BYTES_MAX {
            let reason = format!("a message of {length} bytes is longer than {MESSAGE_BYTES_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        if length <= MESSAGE_INLINE_MAX {
            return Ok(Self { head, body: None });
        }
        let mut file = File::from(rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC)?);
        file.write_all(head.get(1..).unwrap_or_default())?;
        Ok(Self { head: vec![1], body: Some(file.into()) })
    }

    fn send(&self, socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut all = descriptors.to_vec();
        all.extend(self.body.as_ref().map(AsFd::as_fd));
        if all.len() > DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !all.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&all)) {
            return Err(io::Error::other("no room for descriptors"));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(socket, &[IoSlice::new(&self.head)], &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }
}

fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<Option<Received<T>>> {
    let mut bytes = vec![0; MESSAGE_INLINE_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        let mut take = || {
            let mut into = [IoSliceMut::new(&mut bytes)];
            recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
        };
        match take() {
            // The other end closed before it read all of ours. What it said before that is still there.
            Err(Errno::CONNRESET) => take(),
            taken => taken,
        }
    })?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("a message was cut off"));
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(message.bytes);
    let Some((form, inline)) = bytes.split_first() else { return Ok(None) };
    let value = match form {
        0 => postcard::from_bytes(inline),
        1 => postcard::from_bytes(&long(descriptors.pop())?),
        _ => return Err(invalid("a message of an unknown form")),
    };
    let value = value.map_err(|error| invalid(format!("a message that means nothing: {error}")))?;
    Ok(Some((value, descriptors)))
}

/// The content of a long message.
fn long(descriptor: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    let descriptor = descriptor.ok_or_else(|| invalid("a long message without its content"))?;
    // Only a memory file can be asked this: reading anything else could wait for ever.
    rustix::fs::fcntl_get_seals(&descriptor)?;
    let mut file = File::from(descriptor);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(invalid("a message that is too long"));
    }
    Ok(bytes)
}

fn is_readable(socket: &OwnedFd, wait: Duration) -> io::Result<bool> {
    let mut waited = [PollFd::new(socket, PollFlags::IN)];
    let timeout = Timespec::try_from(wait).ok();
    match poll(&mut waited, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
