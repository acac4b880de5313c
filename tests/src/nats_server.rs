//! A real NATS server of the machine with JetStream, and a stream in it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// How long the server may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest message that the server takes, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// The user that is let in, and the password.
pub const LOGIN: (&str, &str) = ("shipper", "s3cret");

/// A server that runs as long as this value lives. Its stream is `LOGS`, of all subjects below `logs`.
#[derive(Debug)]
pub struct NatsServer {
    port: u16,
    server: Option<Running>,
    _directory: Sandbox,
}

impl NatsServer {
    /// Starts it on a free port; `None`, with the reason on stderr, when the machine has no nats-server. With
    /// certificates in `tls` (`cert.pem`, `key.pem`) it wants TLS.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start(tls: Option<&std::path::Path>) -> Option<Self> {
        let Some(program) = find_program("nats-server") else {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "nats-server is missing (Debian package nats-server)"
            );
            crate::notice!("skipped: no nats-server (Debian package nats-server)");
            return None;
        };
        let directory = Sandbox::new();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        drop(listener);
        let tls = tls.map_or_else(String::new, |tls| {
            let tls = tls.display();
            format!("tls {{ cert_file: \"{tls}/cert.pem\", key_file: \"{tls}/key.pem\" }}\n")
        });
        let (user, password) = LOGIN;
        let config = format!(
            "host: 127.0.0.1\nport: {port}\nmax_payload: {PAYLOAD_BYTES_MAX}\n\
             authorization {{ user: {user}, password: {password} }}\n{tls}\
             jetstream {{ store_dir: \"{}\" }}\n",
            directory.root().display()
        );
        let config = directory.file("nats.conf", config);
        let server = Run::new(program).arg("-c").arg(config).start();
        server.wait_until_it_listens(port);
        Some(Self { port, server: Some(server), _directory: directory })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes the stream. Only a server without TLS is asked.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_stream(&self) {
        let config = json!({"name": "LOGS", "subjects": ["logs.>"], "storage": "memory"});
        let made = self.ask("$JS.API.STREAM.CREATE.LOGS", &config.to_string());
        assert!(made.get("error").is_none(), "{made}");
    }

    /// Every record of the stream, in its order.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let info = self.ask("$JS.API.STREAM.INFO.LOGS", "");
        let last = info["state"]["last_seq"].as_u64().unwrap_or_default();
        let mut records = Vec::new();
        let mut session = self.session();
        for seq in 1..=last {
            let request = json!({"seq": seq}).to_string();
            let got = session.ask("$JS.API.STREAM.MSG.GET.LOGS", &request);
            let data = got["message"]["data"].as_str().unwrap_or_else(|| panic!("{got}"));
            let data = STANDARD.decode(data).expect("messages come in base64");
            records.push(serde_json::from_slice(&data).expect("messages are JSON"));
        }
        records
    }

    fn ask(&self, subject: &str, payload: &str) -> Value {
        self.session().ask(subject, payload)
    }

    fn session(&self) -> Session {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a time limit");
        let mut session = Session { stream: BufReader::new(stream) };
        let (user, password) = LOGIN;
        let hello = json!({"verbose": false, "user": user, "pass": password});
        session.say(&format!("CONNECT {hello}\r\nSUB answers 1\r\n"));
        session
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(Signal::KILL);
            drop(server.wait());
        }
    }
}

struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("the server listens");
    }

    fn ask(&mut self, subject: &str, payload: &str) -> Value {
        self.say(&format!("PUB {subject} answers {}\r\n{payload}\r\n", payload.len()));
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("the server answers");
            assert!(!line.is_empty() && !line.starts_with("-ERR"), "nats-server says {line:?}");
            if line.starts_with("PING") {
                self.say("PONG\r\n");
            }
            let Some(length) = line.strip_prefix("MSG answers 1 ") else { continue };
            let mut answer = vec![0; length.trim().parse::<usize>().expect("a length") + 2];
            self.stream.read_exact(&mut answer).expect("the server answers");
            return serde_json::from_slice(&answer).expect("JetStream answers in JSON");
        }
    }
}
