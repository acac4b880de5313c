//! A TCP relay that stands between a client and a server and fails as told: gone, slow, or silent.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a look at the mode takes at the most.
const TICK: Duration = Duration::from_millis(10);

/// Bytes of each direction that a slow relay lets through in a [`TICK`].
const SLOW_BYTES: usize = 512;

/// What a relay does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands it on.
    Pass,
    /// Hands it on, some bytes at a time.
    Slow,
    /// Ends every connection, those that are there and those to come.
    Away,
    /// Keeps connections open and hands nothing on, as a network does that died without a word.
    Silent,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Pass, Self::Slow, Self::Away, Self::Silent];

    fn of(shared: &Shared) -> Self {
        Self::ALL[usize::from(shared.mode.load(SeqCst))]
    }
}

#[derive(Debug, Default)]
struct Shared {
    mode: AtomicU8,
    is_over: AtomicBool,
    /// Of the server behind it.
    port: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A relay on a port of its own that lasts as long as this value.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

impl Relay {
    /// To a server on 127.0.0.1.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("a bound listener has an address").port();
        let shared: Arc<Shared> = Arc::default();
        shared.port.store(port.into(), SeqCst);
        let its = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(shared)) = (client, its.upgrade()) else { return };
                if shared.is_over.load(SeqCst) {
                    return;
                }
                if Mode::of(&shared) == Mode::Away {
                    continue;
                }
                let port = u16::try_from(shared.port.load(SeqCst)).expect("it was a port");
                // A server that is not there is what the client sees too.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = shared.clone();
                    std::thread::spawn(move || hand_on(from, to, &shared));
                }
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
            }
        });
        Self { port: own, shared }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does from now on. Connections that were silenced end when it does something else.
    pub fn set(&self, mode: Mode) {
        let former = Mode::of(&self.shared);
        let number = Mode::ALL.iter().position(|it| *it == mode).unwrap_or_default();
        self.shared.mode.store(u8::try_from(number).unwrap_or_default(), SeqCst);
        if mode == Mode::Away || (former == Mode::Silent && mode != Mode::Silent) {
            self.end_all();
        }
    }

    fn end_all(&self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // One that has ended is what is wanted.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Mode::Away);
        self.shared.is_over.store(true, SeqCst);
        // Wakes the thread that accepts, which ends then.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = [0; 64 << 10];
    loop {
        let most = if Mode::of(shared) == Mode::Slow { SLOW_BYTES } else { buffer.len() };
        let read = match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        match Mode::of(shared) {
            // What it got is lost: the ends of a dead network do not know what arrived.
            Mode::Silent => continue,
            Mode::Slow => std::thread::sleep(TICK),
            Mode::Pass | Mode::Away => {}
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other side may have ended already.
    to.shutdown(Shutdown::Write).ok();
}
