//! The header that a load balancer puts before a client's bytes, which says where the client is (PROXY protocol, versions 1
//! and 2). Only from addresses that the operator names: whoever else sends one is a client that does not speak SSH.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// A header comes in this time.
pub(super) const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest header of version 1, in bytes, line end included.
const LINE_BYTES_MAX: usize = 107;
/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Of the rest of a version 2 header, in bytes: addresses of unix sockets, and some more.
const REST_BYTES_MAX: usize = 1024;
/// Bytes of two IPv4 addresses and ports, and of two of IPv6.
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// It did not come in time.
    #[error("no PROXY header in time")]
    Late,
    /// It is none.
    #[error("no PROXY header, or one that is not understood")]
    Strange,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Reads the header and nothing behind it. `None` when the proxy speaks for itself.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<Option<SocketAddr>, HeaderError> {
    timeout(patience, header(stream)).await.map_err(|_| HeaderError::Late)?
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    // Every header is longer than that.
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    if first == SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [version_and_command, family, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > REST_BYTES_MAX {
            return Err(HeaderError::Strange);
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return binary(version_and_command, family, &rest).ok_or(HeaderError::Strange);
    }
    let mut line = first.to_vec();
    // Byte by byte: what follows is not ours.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES_MAX || !line.starts_with(b"PROXY ") {
            return Err(HeaderError::Strange);
        }
        line.push(stream.read_u8().await?);
    }
    text(&line).ok_or(HeaderError::Strange)
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`. The outer `None` is an error.
fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let mut words = line.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, destination): (IpAddr, IpAddr) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let is_v4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let fits = |address: IpAddr| address.is_ipv4() == is_v4;
    // Nobody needs the destination, but one that is wrong makes the rest doubtful.
    let is_right = fits(source) && fits(destination) && to > 0 && words.next().is_none();
    is_right.then(|| Some(SocketAddr::new(source, from)))
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Version 2 behind its signature. The outer `None` is an error.
fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match version_and_command {
        // LOCAL: a look whether we live.
        0x20 => return Some(None),
        // PROXY.
        0x21 => {}
        _ => return None,
    }
    match family {
        // TCP over IPv4.
        0x11 => {
            let bytes = rest.get(..V4_BYTES)?;
            let source: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
            let from: [u8; 2] = bytes.get(8..10)?.try_into().ok()?;
            let source = Ipv4Addr::from(source).into();
            Some(Some(SocketAddr::new(source, u16::from_be_bytes(from))))
        }
        // TCP over IPv6.
        0x21 => {
            let bytes = rest.get(..V6_BYTES)?;
            let source: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
            let from: [u8; 2] = bytes.get(32..34)?.try_into().ok()?;
            let source = Ipv6Addr::from(source).into();
            Some(Some(SocketAddr::new(source, u16::from_be_bytes(from))))
        }
        // The proxy does not know.
        0x00 => Some(None),
        _ => None,
    }
}
