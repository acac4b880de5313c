//! An HTTP/1.1 proxy between a client and a server that fails at random: it drops, delays, cuts, and answers in the
//! server's place. Which request fails how is drawn from a seed.
//!
//! Every request gets a connection of its own to the server, so that a fault never spoils another request; the client keeps its
//! connection as long as it is not dropped.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::random::Random;

/// Longest head of a request or an answer, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// How long a connection may stand still.
const STILL_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to notice that a request was cut.
const CUT_TIME_MAX: Duration = Duration::from_secs(5);

/// A delay, in milliseconds.
const DELAY_MILLISECONDS_MAX: u64 = 200;

/// Parts of the rate of faults.
const RATE_PARTS: u32 = 1000;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is answered late.
    Delayed,
    /// It is answered with an error, and not done.
    Refused(u16),
    /// The connection ends, and it is not done.
    DroppedBefore,
    /// It is done, and the connection ends without an answer.
    DroppedAfter,
    /// The server gets the first half of its body, then both connections end.
    CutRequest,
    /// It is done, and the connection ends in the middle of the answer.
    CutAnswer,
}

/// All of them.
pub const FAULTS: [Fault; 8] = [
    Fault::Delayed,
    Fault::Refused(500),
    Fault::Refused(503),
    Fault::Refused(429),
    Fault::DroppedBefore,
    Fault::DroppedAfter,
    Fault::CutRequest,
    Fault::CutAnswer,
];

#[derive(Debug)]
struct Shared {
    server: String,
    /// Of [`RATE_PARTS`] requests, so many fail.
    rate: AtomicU32,
    is_over: AtomicBool,
    random: Mutex<Random>,
    happened: Mutex<Vec<Fault>>,
}

/// A proxy on a port of its own that lasts as long as this value.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

impl FaultProxy {
    /// To the server at `http://host:port`. Nothing fails until [`FaultProxy::fail`] says so.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn to(endpoint: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let server = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            rate: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            random: Mutex::new(Random::new(seed)),
            happened: Mutex::new(Vec::new()),
        });
        let its = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(shared)) = (client, its.upgrade()) else { return };
                if shared.is_over.load(SeqCst) {
                    return;
                }
                // How a connection ends is what the client is to cope with.
                std::thread::spawn(move || serve(&client, &shared).ok());
            }
        });
        Self { port, shared }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on so many of a thousand requests fail.
    pub fn fail(&self, per_thousand: u32) {
        self.shared.rate.store(per_thousand, SeqCst);
    }

    /// What has failed so far, in the order in which it was drawn.
    #[must_use]
    pub fn happened(&self) -> Vec<Fault> {
        lock(&self.shared.happened).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        // Wakes the thread that accepts, which ends then.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    /// What happens to the next request; in milliseconds how late, where it is late.
    fn draw(&self) -> (Option<Fault>, u64) {
        let mut random = lock(&self.random);
        let fails = random.below(RATE_PARTS.into()) < u64::from(self.rate.load(SeqCst));
        let which = usize::try_from(random.below(FAULTS.len() as u64)).unwrap_or_default();
        let delay = random.below(DELAY_MILLISECONDS_MAX);
        let fault = fails.then(|| FAULTS[which]);
        lock(&self.happened).extend(fault);
        (fault, delay)
    }
}

/// The head of a message with its last empty line, and what its fields say.
struct Head {
    bytes: Vec<u8>,
    length: u64,
    expects_continue: bool,
}

/// Requests of one client, one after the other, until one of the connections ends.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(STILL_TIME_MAX))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    while let Some(head) = head(&mut reader)? {
        let mut writer = client;
        if head.expects_continue {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; usize::try_from(head.length).map_err(io::Error::other)?];
        reader.read_exact(&mut body)?;
        let (fault, delay) = shared.draw();
        match fault {
            None => writer.write_all(&answer(shared, &head, &body)?)?,
            Some(Fault::Delayed) => {
                std::thread::sleep(Duration::from_millis(delay));
                writer.write_all(&answer(shared, &head, &body)?)?;
            }
            Some(Fault::Refused(status)) => writer.write_all(refusal(status).as_bytes())?,
            Some(Fault::DroppedBefore) => return client.shutdown(Shutdown::Both),
            Some(Fault::DroppedAfter) => {
                answer(shared, &head, &body)?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Fault::CutRequest) => {
                let mut server = TcpStream::connect(&shared.server)?;
                server.write_all(&to_server(&head))?;
                server.write_all(&body[..body.len() / 2])?;
                server.shutdown(Shutdown::Write)?;
                // Until the server has noticed, whatever it says about that.
                server.set_read_timeout(Some(CUT_TIME_MAX))?;
                io::copy(&mut server, &mut io::sink())?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Fault::CutAnswer) => {
                let answer = answer(shared, &head, &body)?;
                writer.write_all(&answer[..answer.len() / 2])?;
                return client.shutdown(Shutdown::Both);
            }
        }
    }
    Ok(())
}

/// Reads a head; `None` where the client is gone instead.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head { bytes: Vec::new(), length: 0, expects_continue: false };
    loop {
        let before = head.bytes.len();
        let read = reader.by_ref().take(HEAD_BYTES_MAX).read_until(b'\n', &mut head.bytes)?;
        if read == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&head.bytes[before..]).trim().to_ascii_lowercase();
        if line.is_empty() {
            return Ok(Some(head));
        }
        if let Some((name, value)) = line.split_once(':') {
            match (name, value.trim()) {
                ("content-length", value) => {
                    head.length = value.parse().map_err(io::Error::other)?;
                }
                ("expect", "100-continue") => head.expects_continue = true,
                ("transfer-encoding", _) => return Err(io::Error::other("an unknown length")),
                _ => {}
            }
        }
        if head.length > BODY_BYTES_MAX || head.bytes.len() as u64 > HEAD_BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
    }
}

/// The head with the wish that the server ends the connection, and without that to be asked for the body.
fn to_server(head: &Head) -> Vec<u8> {
    let text = String::from_utf8_lossy(&head.bytes);
    let mut lines: Vec<&str> = text.trim_end().lines().collect();
    lines.retain(|line| {
        let line = line.to_ascii_lowercase();
        !(line.starts_with("connection:") || line.starts_with("expect:"))
    });
    lines.push("connection: close");
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// All that the server answers, without the end of its connection.
fn answer(shared: &Shared, head: &Head, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(&shared.server)?;
    server.set_read_timeout(Some(STILL_TIME_MAX))?;
    server.write_all(&to_server(head))?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.take(BODY_BYTES_MAX).read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("no answer"))?;
    let text = String::from_utf8_lossy(&answer[..end]).into_owned();
    let lines = text.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let mut changed = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    changed.extend_from_slice(&answer[end..]);
    Ok(changed)
}

/// An error as an S3 service words it.
fn refusal(status: u16) -> String {
    let code = match status {
        503 => "SlowDown",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>refused on purpose</Message></Error>");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Refused\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
