//! Single messages of a client, without encryption so that they can be written by hand.

use std::borrow::Cow;
use std::io::Read as _;
use std::net::TcpStream;

use russh::keys::HashAlg;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::{cipher, kex, mac};

use super::*;
use crate::wire::net::Question;

const DISCONNECT: u8 = 1;
const SERVICE_REQUEST: u8 = 5;
const SERVICE_ACCEPT: u8 = 6;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const KEX_INIT: u8 = 30;
const KEX_REPLY: u8 = 31;
const USERAUTH_REQUEST: u8 = 50;
const USERAUTH_FAILURE: u8 = 51;
const USERAUTH_SUCCESS: u8 = 52;
const USERAUTH_PK_OK: u8 = 60;
const GLOBAL_REQUEST: u8 = 80;
const REQUEST_FAILURE: u8 = 82;
const CHANNEL_OPEN: u8 = 90;
const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
const CHANNEL_OPEN_FAILURE: u8 = 92;
const CHANNEL_WINDOW_ADJUST: u8 = 93;
const CHANNEL_DATA: u8 = 94;
const CHANNEL_REQUEST: u8 = 98;
const CHANNEL_SUCCESS: u8 = 99;
const CHANNEL_FAILURE: u8 = 100;

/// A gateway that speaks in clear text.
fn naked(limits: Limits) -> Gateway {
    Gateway::changed(limits, |config| {
        config.preferred.kex = Cow::Borrowed(&[kex::NONE]);
        config.preferred.cipher = Cow::Borrowed(&[cipher::NONE]);
        config.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    })
}

/// Puts a message together.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn string(self, string: impl AsRef<[u8]>) -> Self {
        let string = string.as_ref();
        let mut this = self.number(u32::try_from(string.len()).unwrap());
        this.0.extend_from_slice(string);
        this
    }
}

struct Raw(TcpStream);

impl Raw {
    /// After the identification strings and the server's KEXINIT.
    fn greet(gateway: &Gateway) -> Self {
        Self::hear(gateway).0
    }

    /// With the server's KEXINIT.
    fn hear(gateway: &Gateway) -> (Self, Vec<u8>) {
        let mut socket = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(b"SSH-2.0-raw\r\n").unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0; 1];
            socket.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        assert_eq!(text(&line), "SSH-2.0-chores\r\n");
        let mut raw = Self(socket);
        let kexinit = raw.receive().unwrap();
        assert_eq!(kexinit[0], KEXINIT);
        (raw, kexinit)
    }

    /// After the key exchange.
    fn connect(gateway: &Gateway) -> Self {
        let mut raw = Self::greet(gateway);
        let mut kexinit = Message::new(KEXINIT);
        kexinit.0.extend([0; 16]);
        for list in ["none", "ssh-ed25519", "none", "none", "none", "none", "none", "none", "", ""]
        {
            kexinit = kexinit.string(list);
        }
        raw.send(kexinit.byte(0).number(0));
        assert_eq!(raw.receive().unwrap()[0], NEWKEYS);
        raw.send(Message::new(NEWKEYS));
        raw
    }

    /// After the request for authentication.
    fn authenticating(gateway: &Gateway) -> Self {
        let mut raw = Self::connect(gateway);
        raw.send(Message::new(SERVICE_REQUEST).string("ssh-userauth"));
        assert_eq!(raw.receive().unwrap()[0], SERVICE_ACCEPT);
        raw
    }

    fn authenticated(gateway: &Gateway) -> Self {
        let mut raw = Self::authenticating(gateway);
        raw.send(signed("web", &key(1)));
        assert_eq!(raw.receive().unwrap()[0], USERAUTH_SUCCESS);
        raw
    }

    /// Opens a session; its number on the server's side.
    fn session(&mut self) -> u32 {
        let open = Message::new(CHANNEL_OPEN).string("session");
        self.send(open.number(7).number(1 << 20).number(1 << 15));
        let answer = self.receive().unwrap();
        assert_eq!(answer[0], CHANNEL_OPEN_CONFIRMATION, "{answer:?}");
        u32::from_be_bytes(answer[5..9].try_into().unwrap())
    }

    fn send(&mut self, message: Message) {
        let padding = 8 - (message.0.len() + 5) % 8;
        let padding = if padding < 4 { padding + 8 } else { padding };
        let length = u32::try_from(message.0.len() + padding + 1).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(message.0);
        packet.resize(packet.len() + padding, 0);
        // The server may have closed already; that is seen when its answer is read.
        self.0.write_all(&packet).ok();
    }

    /// The next message that is no debug or ignore; None at the end.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 5];
            match self.0.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no answer"),
                other => other.ok()?,
            }
            let length = u32::from_be_bytes(head[..4].try_into().unwrap());
            let mut rest = vec![0; usize::try_from(length).unwrap() - 1];
            self.0.read_exact(&mut rest).ok()?;
            rest.truncate(rest.len() - usize::from(head[4]));
            // 7: EXT_INFO.
            if !matches!(rest[0], 2..=4 | 7) {
                return Some(rest);
            }
        }
    }

    fn ask(&mut self, message: Message) -> Vec<u8> {
        self.send(message);
        self.receive().expect("the connection was closed")
    }

    fn is_closed(&mut self) -> bool {
        loop {
            match self.receive() {
                None => return true,
                Some(message) if message[0] == DISCONNECT => return true,
                Some(message) => assert_eq!(message[0], USERAUTH_FAILURE, "{message:?}"),
            }
        }
    }
}

/// A session of somebody else, that gives back each word that it is given.
fn neighbour(gateway: &Gateway) -> impl FnMut(&str) + use<> {
    let mut raw = Raw::authenticated(gateway);
    let channel = raw.session();
    let exec = Message::new(CHANNEL_REQUEST).number(channel).string("exec").byte(1).string("cat");
    assert_eq!(raw.ask(exec)[0], CHANNEL_SUCCESS);
    move |word| {
        raw.send(Message::new(CHANNEL_DATA).number(channel).string(word));
        let wanted = Message::new(CHANNEL_DATA).number(7).string(word).0;
        while raw.receive().expect("the connection was closed") != wanted {}
    }
}

fn request(user: &str) -> Message {
    Message::new(USERAUTH_REQUEST).string(user).string("ssh-connection")
}

fn blob(key: &PrivateKey) -> Vec<u8> {
    key.public_key().to_bytes().unwrap()
}

fn offer(user: &str, key: &PrivateKey) -> Message {
    request(user).string("publickey").byte(0).string("ssh-ed25519").string(blob(key))
}

fn signed(user: &str, key: &PrivateKey) -> Message {
    let request = request(user).string("publickey").byte(1).string("ssh-ed25519").string(blob(key));
    // Without a key exchange there is no session identifier.
    let mut data = Message::default().string("").0;
    data.extend_from_slice(&request.0);
    let mut signature = Vec::new();
    key.try_sign(&data).unwrap().encode(&mut signature).unwrap();
    request.string(signature)
}

#[test]
fn before_authentication_nothing_reaches_anything() {
    let forbidden = [
        Message::new(CHANNEL_OPEN).string("session").number(0).number(1 << 20).number(1 << 15),
        Message::new(GLOBAL_REQUEST).string("tcpip-forward").byte(1).string("").number(0),
        Message::new(CHANNEL_REQUEST).number(0).string("shell").byte(1),
        Message::new(CHANNEL_DATA).number(0).string("x"),
        Message::new(USERAUTH_SUCCESS),
        Message::new(200),
    ];
    type Begin = fn(&Gateway) -> Raw;
    let states: [Begin; 3] = [Raw::greet, Raw::connect, Raw::authenticating];
    let asked = |question: &Question| !matches!(question, Question::Disconnected { .. });
    for (state, begin) in states.into_iter().enumerate() {
        // Each with a source that has done nothing wrong yet.
        let gateway = naked(limits());
        for message in &forbidden {
            let mut raw = begin(&gateway);
            raw.send(message.clone());
            // Whoever is still connected may authenticate, and has nothing before.
            if state == 2 {
                let answer = raw.ask(request("web").string("none"));
                assert_eq!(answer[0], USERAUTH_FAILURE, "{answer:?}");
            }
        }
        assert_eq!(gateway.double.asked(asked), 0);
    }
    // Authentication before it was asked for.
    let gateway = naked(limits());
    let mut raw = Raw::connect(&gateway);
    raw.send(signed("web", &key(1)));
    raw.send(Message::new(SERVICE_REQUEST).string("ssh-userauth"));
    assert_eq!(raw.receive().unwrap()[0], SERVICE_ACCEPT);
    assert_eq!(gateway.double.asked(asked), 0);
}

#[test]
fn only_a_proved_and_known_key_authenticates_and_only_public_keys_are_offered() {
    let gateway = naked(limits());
    let mut raw = Raw::authenticating(&gateway);
    let methods = Message::new(USERAUTH_FAILURE).string("publickey").byte(0).0;
    assert_eq!(raw.ask(request("web").string("none")), methods);
    assert_eq!(raw.ask(request("web").string("password").byte(0).string("x")), methods);
    assert_eq!(
        raw.ask(request("web").string("keyboard-interactive").string("").string("")),
        methods
    );
    assert_eq!(raw.ask(offer("web", &key(9))), methods);
    assert_eq!(raw.ask(signed("web", &key(9))), methods);
    assert_eq!(raw.ask(offer("web", &key(1)))[0], USERAUTH_PK_OK);
    let mut forged = signed("web", &key(1));
    *forged.0.last_mut().unwrap() ^= 1;
    assert_eq!(raw.ask(forged), methods);
    let proved = |question: &Question| matches!(question, Question::Authenticate { .. });
    assert_eq!(gateway.double.asked(proved), 0, "an unproved key was taken for a proved one");
    assert_eq!(raw.ask(signed("web", &key(1)))[0], USERAUTH_SUCCESS);
}

/// Whether it may do without a touch is for the broker to know; what it signs is proved here like everything else.
#[test]
fn the_key_of_a_security_key_is_proved_and_asked_about() {
    const KIND: &str = "sk-ssh-ed25519@openssh.com";
    const APPLICATION: &str = "ssh:";
    let gateway = naked(limits());
    let inner = key(1);
    let point = inner.public_key().key_data().ed25519().unwrap().0;
    let blob = Message::default().string(KIND).string(point).string(APPLICATION).0;
    let request = request("web").string("publickey").byte(1).string(KIND).string(&blob);
    let mut data = Message::default().string("").0;
    data.extend_from_slice(&request.0);
    // PROTOCOL.u2f of OpenSSH: nobody touched it, and it has signed seven times.
    let digest = |bytes: &[u8]| HashAlg::Sha256.digest(bytes);
    let mut signed = digest(APPLICATION.as_bytes());
    signed.extend([0, 0, 0, 0, 7]);
    signed.extend(digest(&data));
    let signature = inner.try_sign(&signed).unwrap();
    let signature =
        Message::default().string(KIND).string(signature.as_bytes()).byte(0).number(7).0;
    let asked = |question: &Question| match question {
        // Everything that it takes to verify it again.
        Question::Authenticate { key, signed, .. } => {
            *key == blob && signed.data == data && signed.signature == signature
        }
        _ => false,
    };
    let mut forged = signature.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (signature, answer, proofs) in
        [(&forged, USERAUTH_FAILURE, 0), (&signature, USERAUTH_SUCCESS, 1)]
    {
        let mut raw = Raw::authenticating(&gateway);
        assert_eq!(raw.ask(request.clone().string(signature))[0], answer);
        assert_eq!(gateway.double.asked(asked), proofs);
    }
}

#[test]
fn attempts_and_offers_are_counted() {
    let gateway = naked(Limits { auth_attempts: 3, ..limits() });
    let mut raw = Raw::authenticating(&gateway);
    assert_eq!(raw.ask(request("web").string("none"))[0], USERAUTH_FAILURE);
    for _ in 0..3 {
        assert_eq!(raw.ask(signed("web", &key(9)))[0], USERAUTH_FAILURE);
    }
    assert_eq!(raw.ask(signed("web", &key(1)))[0], DISCONNECT);
    // Offers of a known key are answered with yes, and still have an end.
    let mut raw = Raw::authenticating(&gateway);
    let mut offers = 0;
    loop {
        raw.send(offer("web", &key(1)));
        match raw.receive() {
            Some(answer) if answer[0] == USERAUTH_PK_OK => offers += 1,
            _ => break,
        }
        assert!(offers < 100);
    }
    assert_eq!(offers, 32);
}

#[test]
fn what_is_not_understood_is_answered_where_a_reply_is_wanted() {
    let gateway = naked(limits());
    let mut raw = Raw::authenticated(&gateway);
    let channel = raw.session();
    let asked = |name: &str, reply: u8| {
        Message::new(CHANNEL_REQUEST).number(channel).string(name).byte(reply)
    };
    for name in [
        "break",
        "eow@openssh.com",
        "winadj@putty.projects.tartarus.org",
        "simple@putty.projects.tartarus.org",
        "x",
    ] {
        assert_eq!(raw.ask(asked(name, 1))[0], CHANNEL_FAILURE, "{name}");
        raw.send(asked(name, 0));
    }
    // A size without a terminal, and a signal without a program.
    assert_eq!(
        raw.ask(asked("window-change", 1).number(1).number(1).number(0).number(0))[0],
        CHANNEL_FAILURE
    );
    assert_eq!(raw.ask(asked("signal", 1).string("TERM"))[0], CHANNEL_FAILURE);
    raw.send(asked("signal", 0).string("TERM"));
    let global = |name: &str, reply: u8| Message::new(GLOBAL_REQUEST).string(name).byte(reply);
    raw.send(global("no-more-sessions@openssh.com", 0));
    raw.send(global("hostkeys-prove-00@openssh.com", 0));
    assert_eq!(raw.ask(global("keepalive@openssh.com", 1)), [REQUEST_FAILURE]);
    for kind in ["x11", "forwarded-tcpip", "auth-agent@openssh.com", "tun@openssh.com", "y"] {
        let open =
            Message::new(CHANNEL_OPEN).string(kind).number(9).number(1 << 20).number(1 << 15);
        let open = match kind {
            "x11" => open.string("a").number(1),
            "forwarded-tcpip" => open.string("a").number(1).string("b").number(2),
            _ => open,
        };
        assert_eq!(raw.ask(open)[0], CHANNEL_OPEN_FAILURE, "{kind}");
        // russh refuses what it refuses itself a second time.
        if !matches!(kind, "x11" | "forwarded-tcpip") {
            assert_eq!(raw.receive().unwrap()[0], CHANNEL_OPEN_FAILURE, "{kind}");
        }
    }
    // Replies come in the order of their requests.
    raw.send(asked("env", 1).string("LANG").string("C"));
    raw.send(asked("x11-req", 1).byte(0).string("a").string("b").number(0));
    raw.send(asked("auth-agent-req@openssh.com", 1));
    raw.send(asked("subsystem", 1).string("nothing"));
    raw.send(asked("exec", 1).string("exec sleep 300"));
    raw.send(asked("exec", 1).string("true"));
    raw.send(asked("env", 1).string("LANG").string("C"));
    let answers: Vec<u8> = (0..7).map(|_| raw.receive().unwrap()[0]).collect();
    let (yes, no) = (CHANNEL_SUCCESS, CHANNEL_FAILURE);
    assert_eq!(answers, [yes, no, yes, no, yes, no, no]);
}

#[test]
fn a_client_that_does_not_log_in_is_sent_away_and_its_source_remembered() {
    let gateway = naked(Limits { login_grace_seconds: 1, ..limits() });
    let mut raw = Raw::authenticating(&gateway);
    // Packets do not make the time longer.
    assert_eq!(raw.ask(request("web").string("none"))[0], USERAUTH_FAILURE);
    assert!(raw.is_closed());
    let reason = gateway.double.wait(|question| match question {
        Question::Disconnected { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "did not authenticate in time");
    // Ten seconds are remembered, twenty are enforced.
    let mut raw = Raw::connect(&gateway);
    assert!(raw.is_closed());
    while gateway.double.asked(|question| matches!(question, Question::Disconnected { .. })) < 2 {
        std::thread::yield_now();
    }
    let mut refused = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let mut bytes = Vec::new();
    refused.read_to_end(&mut bytes).ok();
    assert_eq!(text(&bytes), "Not allowed at this time\r\n");
}

#[test]
fn a_source_has_no_more_waiting_connections_than_it_may() {
    let gateway = naked(Limits { startups_per_source: 2, ..limits() });
    let one = Raw::greet(&gateway);
    let mut other = Raw::authenticating(&gateway);
    let mut third = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let mut bytes = Vec::new();
    third.read_to_end(&mut bytes).ok();
    assert_eq!(text(&bytes), "Exceeded MaxStartups\r\n");
    // One that has authenticated waits no more.
    other.send(signed("web", &key(1)));
    assert_eq!(other.receive().unwrap()[0], USERAUTH_SUCCESS);
    let is_greeted = || {
        let mut bytes = [0; 8];
        let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        client.read_exact(&mut bytes).is_ok() && &bytes == b"SSH-2.0-"
    };
    while !is_greeted() {
        std::thread::yield_now();
    }
    drop(one);
}

#[test]
fn text_that_is_not_utf8_ends_this_connection_only() {
    let gateway = naked(limits());
    let mut lives = Raw::authenticated(&gateway);
    let mut raw = Raw::authenticated(&gateway);
    let channel = raw.session();
    raw.send(
        Message::new(CHANNEL_REQUEST)
            .number(channel)
            .string("env")
            .byte(1)
            .string("LANG")
            .string(b"\xff"),
    );
    assert!(raw.is_closed());
    lives.session();
}

/// Nonsense in an order that only its seed knows, as libraries of SSH have fallen over before: channels that were never opened,
/// windows and packets of 0 and of 2^32-1, key exchanges in the midst, cut and trailing bytes.
fn nonsense(next: &mut impl FnMut(usize) -> usize) -> Message {
    const NUMBERS: [u32; 6] = [0, 1, 2, 7, 1 << 31, u32::MAX];
    const KINDS: [u8; 26] = [
        5, 6, 7, 20, 21, 30, 50, 51, 52, 60, 61, 80, 81, 82, 90, 91, 92, 93, 94, 95, 96, 97, 98,
        99, 100, 192,
    ];
    const NAMES: [&str; 14] = [
        "session",
        "direct-tcpip",
        "pty-req",
        "shell",
        "exec",
        "env",
        "window-change",
        "signal",
        "subsystem",
        "tcpip-forward",
        "ssh-connection",
        "ssh-userauth",
        "xterm",
        "",
    ];
    let mut message = Message::new(KINDS[next(KINDS.len())]);
    for _ in 0..next(8) {
        message = match next(3) {
            0 => message.string(NAMES[next(NAMES.len())]),
            1 => message.byte(u8::try_from(next(256)).unwrap()),
            _ => message.number(NUMBERS[next(NUMBERS.len())]),
        };
    }
    message
}

/// Waits until so many connections have ended, none of them by a fault of the gateway.
fn assert_ended(gateway: &Gateway, connections: usize, seed: u64) {
    let ended = |question: &Question| matches!(question, Question::Disconnected { .. });
    let fell = |question: &Question| matches!(question, Question::Disconnected { reason, .. } if reason.contains("of the gateway itself"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while gateway.double.asked(ended) < connections {
        assert!(Instant::now() < deadline, "seed {seed}: not all have ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(gateway.double.asked(fell), 0, "seed {seed}");
}

#[test]
fn nonsense_before_and_after_a_login_ends_its_own_connection_at_most() {
    const SEEDS: u64 = 20;
    let reached = |question: &Question| !matches!(question, Question::Disconnected { .. });
    for seed in 0..SEEDS * soak() {
        let mut state = seed;
        let mut next = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % bound
        };
        // Each with a source that has done nothing wrong yet.
        let gateway = naked(limits());
        let states: [fn(&Gateway) -> Raw; 3] = [Raw::greet, Raw::connect, Raw::authenticating];
        let mut raw = states[next(3)](&gateway);
        (0..20).for_each(|_| raw.send(nonsense(&mut next)));
        drop(raw);
        assert_ended(&gateway, 1, seed);
        assert_eq!(gateway.double.asked(reached), 0, "seed {seed}");

        let gateway = naked(limits());
        let mut lives = Raw::authenticated(&gateway);
        const CONNECTIONS: usize = 5;
        for _ in 0..CONNECTIONS {
            let mut raw = Raw::authenticated(&gateway);
            let channel = raw.session();
            // Packets of nothing, windows that overflow, a channel that was never opened.
            raw.send(Message::new(CHANNEL_OPEN).string("session").number(8).number(0).number(0));
            raw.send(Message::new(CHANNEL_WINDOW_ADJUST).number(channel).number(u32::MAX));
            raw.send(Message::new(CHANNEL_WINDOW_ADJUST).number(channel).number(u32::MAX));
            raw.send(Message::new(CHANNEL_DATA).number(4711).string("x"));
            (0..40).for_each(|_| raw.send(nonsense(&mut next)));
        }
        assert_ended(&gateway, CONNECTIONS, seed);
        let alive = Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1);
        assert_eq!(lives.ask(alive), [REQUEST_FAILURE], "seed {seed}");
    }
}

#[test]
fn a_key_counts_for_the_user_that_it_has_signed_for() {
    let gateway = naked(limits());
    let mut raw = Raw::authenticating(&gateway);
    assert_eq!(raw.ask(offer("web", &key(1)))[0], USERAUTH_PK_OK);
    let mut other = signed("web", &key(1));
    let at = other.0.windows(3).position(|bytes| bytes == b"web").unwrap();
    other.0[at..at + 3].copy_from_slice(b"dba");
    assert_ne!(raw.ask(other)[0], USERAUTH_SUCCESS);
    let proved = |question: &Question| matches!(question, Question::Authenticate { .. });
    assert_eq!(gateway.double.asked(proved), 0);
    let mut raw = Raw::authenticating(&gateway);
    assert_eq!(raw.ask(offer("web", &key(1)))[0], USERAUTH_PK_OK);
    if raw.ask(signed("dba", &key(1)))[0] == USERAUTH_SUCCESS {
        let user = gateway.double.wait(|question| match question {
            Question::Authenticate { login, .. } => Some(login.user.clone()),
            _ => None,
        });
        assert_eq!(user, "dba");
    }
}

/// A gateway with one key exchange, and clear text behind it.
fn exchanging(name: kex::Name) -> Gateway {
    Gateway::changed(limits(), |config| {
        config.preferred.kex = Cow::Owned(vec![name]);
        config.preferred.cipher = Cow::Borrowed(&[cipher::NONE]);
        config.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    })
}

/// What a gateway answers to a client's half of a key exchange; `None` when it closes.
fn exchanged(name: kex::Name, message: Message) -> Option<u8> {
    // Each with a source that has done nothing wrong yet.
    let gateway = exchanging(name);
    let mut raw = Raw::greet(&gateway);
    let mut kexinit = Message::new(KEXINIT);
    kexinit.0.extend([0; 16]);
    let name = name.as_ref();
    for list in [name, "ssh-ed25519", "none", "none", "none", "none", "none", "none", "", ""] {
        kexinit = kexinit.string(list);
    }
    raw.send(kexinit.byte(0).number(0));
    raw.send(message);
    let answer = raw.receive().map(|message| message[0]).filter(|kind| *kind != DISCONNECT);
    drop(raw);
    assert_ended(&gateway, 1, 0);
    answer
}

/// Public values that make the shared secret no secret (GHSA-5xvq), or have the wrong length.
#[test]
fn public_values_of_a_key_exchange_that_are_none_end_it() {
    const MLKEM_BYTES: usize = 1184;
    const CURVE_BYTES: usize = 32;
    let basepoint = || [&[9_u8][..], &[0; CURVE_BYTES - 1]].concat();
    let curve = |value: &[u8]| Message::new(KEX_INIT).string(value);
    for name in [kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731] {
        assert_eq!(exchanged(name, curve(&basepoint())), Some(KEX_REPLY), "{name:?}");
        let one = [&[1_u8][..], &[0; CURVE_BYTES - 1]].concat();
        for value in
            [&[0; CURVE_BYTES][..], &one, &[9; CURVE_BYTES - 1], &[9; CURVE_BYTES + 1], &[]]
        {
            assert_eq!(exchanged(name, curve(value)), None, "{name:?} {value:?}");
        }
        // Less than it says, and no value at all.
        let short = Message::new(KEX_INIT).number(CURVE_BYTES as u32).byte(9);
        for message in [short, Message::new(KEX_INIT), Message::new(KEX_INIT).byte(0).byte(0)] {
            assert_eq!(exchanged(name, message), None, "{name:?}");
        }
    }
    let hybrid = |lattice: usize, curve: &[u8]| {
        Message::new(KEX_INIT).string([&vec![0; lattice], curve].concat())
    };
    let name = kex::MLKEM768X25519_SHA256;
    assert_eq!(exchanged(name, hybrid(MLKEM_BYTES, &basepoint())), Some(KEX_REPLY));
    for (lattice, value) in [
        (MLKEM_BYTES, &[0; CURVE_BYTES][..]),
        (MLKEM_BYTES - 1, &basepoint()),
        (MLKEM_BYTES + 1, &basepoint()),
        (MLKEM_BYTES, &[]),
        (0, &basepoint()),
        (0, &[]),
    ] {
        assert_eq!(exchanged(name, hybrid(lattice, value)), None, "{lattice} {value:?}");
    }
}

/// GHSA-cqjc: more of them than the library has room for.
#[test]
fn a_terminal_with_too_many_modes_is_refused() {
    let gateway = naked(limits());
    // What the gateway takes, what the library does, and more; with names that nobody knows too.
    for (count, code, wanted) in [
        (96, 53, Some(CHANNEL_SUCCESS)),
        (97, 53, Some(CHANNEL_FAILURE)),
        (130, 200, Some(CHANNEL_FAILURE)),
        (131, 53, None),
        (131, 200, None),
        (20_000, 53, None),
    ] {
        let mut raw = Raw::authenticated(&gateway);
        let channel = raw.session();
        let modes = [code, 0, 0, 0, 1].repeat(count);
        let request = Message::new(CHANNEL_REQUEST).number(channel).string("pty-req").byte(1);
        let request = request.string("xterm").number(80).number(24).number(0).number(0);
        raw.send(request.string(modes));
        let answer = raw.receive().map(|message| message[0]).filter(|kind| *kind != DISCONNECT);
        assert_eq!(answer, wanted, "{count} {code}");
    }
    assert_ended(&gateway, 6, 0);
}

/// CVE-2026-42189: a number of answers is believed only as far as they are there. What is there is a code like any other.
#[test]
fn more_answers_than_there_are_end_an_attempt_at_most() {
    const INFO_REQUEST: u8 = 60;
    const INFO_RESPONSE: u8 = 61;
    for (answers, is_asked) in [(u32::MAX, true), (1 << 31, true), (2, true), (1, true), (0, false)]
    {
        // Each with a source that has done nothing wrong yet.
        let gateway = naked(limits());
        let mut raw = Raw::authenticating(&gateway);
        assert_eq!(raw.ask(signed("coded", &key(1)))[0], USERAUTH_FAILURE);
        let ask = request("coded").string("keyboard-interactive").string("").string("");
        assert_eq!(raw.ask(ask)[0], INFO_REQUEST);
        raw.send(Message::new(INFO_RESPONSE).number(answers).string("000000"));
        let answer = raw.receive().map(|message| message[0]);
        let refused = matches!(answer, None | Some(DISCONNECT | USERAUTH_FAILURE));
        assert!(refused, "{answers}: {answer:?}");
        let asked = gateway.double.asked(|question| matches!(question, Question::Code { .. }));
        assert_eq!(asked, usize::from(is_asked), "{answers}");
        drop(raw);
        assert_ended(&gateway, 1, 0);
    }
}

/// CVE-2026-116774: there nothing could ever be sent. Whoever asks for it loses his connection, and nobody else waits.
#[test]
fn a_channel_that_takes_packets_of_nothing_ends_its_own_connection_at_most() {
    let gateway = naked(limits());
    let mut echoed = neighbour(&gateway);
    echoed("before");
    let mut raw = Raw::authenticated(&gateway);
    let noisy = raw.session();
    let command = "while :; do echo more; done";
    let exec = Message::new(CHANNEL_REQUEST).number(noisy).string("exec").byte(1).string(command);
    assert_eq!(raw.ask(exec)[0], CHANNEL_SUCCESS);
    raw.send(Message::new(CHANNEL_OPEN).string("session").number(8).number(1 << 20).number(0));
    let ran =
        Message::new(CHANNEL_REQUEST).number(noisy + 1).string("exec").byte(1).string(command);
    raw.send(ran);
    assert_ended(&gateway, 1, 0);
    echoed("after");
    // What it had run is ended with it.
    gateway.double.wait(|question| matches!(question, Question::Close { .. }).then_some(()));
}

/// GHSA-4p9f: extensions are nothing to make room for, however many there are said to be and however often. A client may send
/// them behind its new keys (RFC 8308, section 2.4); elsewhere they are nonsense.
#[test]
fn more_extensions_than_there_are_end_their_own_connection_at_most() {
    const EXT_INFO: u8 = 7;
    let gateway = naked(limits());
    let mut echoed = neighbour(&gateway);
    type Begin = fn(&Gateway) -> Raw;
    // What is asked behind them shows that they were read, and has its usual answer where they did not end the connection.
    let states: [(Begin, Message, u8); 3] = [
        (Raw::connect, Message::new(SERVICE_REQUEST).string("ssh-userauth"), SERVICE_ACCEPT),
        (Raw::authenticating, request("web").string("none"), USERAUTH_FAILURE),
        (
            Raw::authenticated,
            Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
            REQUEST_FAILURE,
        ),
    ];
    let messages = [
        Message::new(EXT_INFO).number(u32::MAX),
        Message::new(EXT_INFO).number(u32::MAX).string("server-sig-algs").string("ssh-ed25519"),
        Message::new(EXT_INFO).number(1).number(u32::MAX),
        Message::new(EXT_INFO).number(1).string("server-sig-algs").number(u32::MAX),
        Message::new(EXT_INFO),
    ];
    let mut connections = 0;
    for (begin, question, usual) in states {
        for message in &messages {
            let mut raw = begin(&gateway);
            for _ in 0..3 {
                raw.send(message.clone());
            }
            raw.send(question.clone());
            let answer = raw.receive().map_or(DISCONNECT, |message| message[0]);
            assert!([DISCONNECT, usual].contains(&answer), "{message:?}: {answer}");
            drop(raw);
            connections += 1;
            assert_ended(&gateway, connections, 0);
            echoed("still there");
        }
    }
}

/// What was offered is nothing; who has signed is, and with what he has signed.
#[test]
fn a_key_that_was_offered_gives_the_key_that_signs_nothing() {
    let gateway = naked(limits());
    let request = |claimed: u8| {
        let request = request("web").string("publickey").byte(1).string("ssh-ed25519");
        request.string(blob(&key(claimed)))
    };
    let signature_of = |number: u8, message: &Message| {
        let mut data = Message::default().string("").0;
        data.extend_from_slice(&message.0);
        let mut signature = Vec::new();
        key(number).try_sign(&data).unwrap().encode(&mut signature).unwrap();
        signature
    };
    let proved = |question: &Question| matches!(question, Question::Authenticate { .. });
    // The key that may come in is offered, and another one signs: as itself, or as the one that was offered.
    for (claimed, signs) in [(9, 9), (1, 9), (9, 1)] {
        let mut raw = Raw::authenticating(&gateway);
        assert_eq!(raw.ask(offer("web", &key(1)))[0], USERAUTH_PK_OK);
        let before = gateway.double.asked(proved);
        let request = request(claimed);
        let signature = signature_of(signs, &request);
        assert_eq!(raw.ask(request.string(signature))[0], USERAUTH_FAILURE, "{claimed} {signs}");
        // Only a key that is proved is asked about, and the other one may not come in.
        let asked = gateway.double.asked(proved) - before;
        assert!(asked <= usize::from(claimed == signs), "{claimed} {signs}: {asked}");
        // Nothing runs: the connection is nobody's.
        raw.send(
            Message::new(CHANNEL_OPEN).string("session").number(7).number(1 << 20).number(1 << 15),
        );
        assert_eq!(raw.ask(offer("web", &key(1)))[0], USERAUTH_PK_OK);
    }
    let ran =
        |question: &Question| matches!(question, Question::Prepare { .. } | Question::Start { .. });
    assert_eq!(gateway.double.asked(ran), 0);
}

#[test]
fn an_idle_connection_is_closed_with_its_reason() {
    let gateway = naked(Limits { idle_seconds: 1, ..limits() });
    let mut raw = Raw::authenticated(&gateway);
    let message = raw.receive().unwrap();
    assert_eq!(message[0], DISCONNECT);
    assert!(text(&message).contains("idle for too long"), "{}", text(&message));
}

#[test]
fn exactly_these_algorithms_are_offered() {
    let gateway = Gateway::start();
    let (_, kexinit) = Raw::hear(&gateway);
    let mut rest = &kexinit[17..];
    let mut lists = Vec::new();
    for _ in 0..10 {
        let (length, after) = rest.split_at(4);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
        lists.push(text(&after[..length]));
        rest = &after[length..];
    }
    let ciphers =
        "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr";
    let macs = "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com";
    let kex = "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ext-info-s,\
               kex-strict-s-v00@openssh.com";
    let expected = [kex, "ssh-ed25519", ciphers, ciphers, macs, macs, "none", "none", "", ""];
    assert_eq!(lists, expected);
}
