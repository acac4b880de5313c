//! A real syslog server: rsyslogd of the machine, which writes what it got as JSON lines.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// How long the server may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a message may take until it is written.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(60);

/// How a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS, with a certificate for `localhost` and 127.0.0.1.
    Tls,
}

/// A server that runs as long as this value lives.
#[derive(Debug)]
pub struct Rsyslog {
    port: u16,
    output: PathBuf,
    directory: Sandbox,
    server: Option<Running>,
}

impl Rsyslog {
    /// Starts it on a free port; `None`, with the reason on stderr, when the machine has no rsyslogd.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start(listens: Listens) -> Option<Self> {
        Self::start_with(listens, "")
    }

    /// The same, with more in its configuration: what it got goes there too.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start_with(listens: Listens, more: &str) -> Option<Self> {
        let Some(program) = find_program("rsyslogd") else {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "rsyslogd is missing (Debian packages rsyslog and rsyslog-gnutls)"
            );
            crate::notice!("skipped: no rsyslogd (Debian packages rsyslog and rsyslog-gnutls)");
            return None;
        };
        let directory = Sandbox::new();
        let output = directory.path("messages.ndjson");
        let port = free_port(listens);
        let input = match listens {
            Listens::Udp => format!(
                "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            Listens::Tcp => format!(
                "module(load=\"imptcp\")\ninput(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            Listens::Tls => {
                make_certificates(directory.root());
                let root = directory.root().display();
                format!(
                    "global(DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{root}/ca.pem\"\n\
                     DefaultNetstreamDriverCertFile=\"{root}/cert.pem\" DefaultNetstreamDriverKeyFile=\"{root}/key.pem\")\n\
                     module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
                     input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
                )
            }
        };
        let fields = ["hostname", "app-name", "msg", "structured-data", "pri", "timereported"]
            .map(|name| {
                let date = if name == "timereported" { " dateFormat=\"rfc3339\"" } else { "" };
                format!("property(outname=\"{name}\" name=\"{name}\" format=\"jsonf\"{date})\n")
            })
            .join("constant(value=\",\")\n");
        let config = format!(
            "global(workDirectory=\"{root}\" maxMessageSize=\"256k\"\n\
             parser.escapeControlCharactersOnReceive=\"off\")\n{input}\
             template(name=\"t\" type=\"list\") {{\nconstant(value=\"{{\")\n{fields}constant(value=\"}}\\n\")\n}}\n\
             action(type=\"omfile\" file=\"{output}\" template=\"t\")\n{more}\n",
            root = directory.root().display(),
            output = output.display(),
        );
        let config = directory.file("rsyslog.conf", config);
        let server = Run::new(program)
            .args(["-n", "-f"])
            .arg(config)
            .arg("-i")
            .arg(directory.path("pid"))
            .start();
        let started = Self { port, output, directory, server: Some(server) };
        started.wait_until_it_listens(listens);
        Some(started)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust, for TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path("ca.pem")
    }

    /// What arrived, once it is at least `count` messages.
    ///
    /// # Panics
    /// When fewer arrive.
    #[must_use]
    pub fn messages(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.output).unwrap_or_default();
            let lines: Vec<_> = text.split_inclusive('\n').collect();
            let whole = lines.iter().filter(|line| line.ends_with('\n')).count();
            if whole >= count {
                let parse = |line: &&str| {
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
                };
                return lines.iter().filter(|line| line.ends_with('\n')).map(parse).collect();
            }
            assert!(
                begun.elapsed() < ARRIVAL_TIME_MAX,
                "{whole} of {count} messages arrived in {}",
                self.output.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_until_it_listens(&self, listens: Listens) {
        let begun = Instant::now();
        let is_listening = || match listens {
            // Taken by the server once nobody else can have it.
            Listens::Udp => UdpSocket::bind(("127.0.0.1", self.port)).is_err(),
            Listens::Tcp | Listens::Tls => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
        };
        while !is_listening() {
            assert!(begun.elapsed() < START_TIME_MAX, "rsyslogd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(Signal::KILL);
            drop(server.wait());
        }
    }
}

/// A certificate authority `ca.pem`, and a certificate of it, `cert.pem` with `key.pem`, for `localhost` and
/// 127.0.0.1; by openssl(1).
///
/// # Panics
/// When openssl is missing or refuses.
pub fn make_certificates(directory: &Path) {
    let openssl = |args: &[&str]| {
        drop(Run::new("openssl").args(args.iter().copied()).current_dir(directory).succeed());
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test-ca", "-keyout", "ca.key"];
    openssl(&[&authority[..], &key[..], &["-out", "ca.pem"][..]].concat());
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.csr"];
    openssl(&[&request[..], &key[..]].concat());
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        .unwrap_or_else(|error| panic!("cannot write to {}: {error}", directory.display()));
    openssl(&[
        "x509",
        "-req",
        "-in",
        "cert.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "cert.pem",
    ]);
}

fn free_port(listens: Listens) -> u16 {
    let address = match listens {
        Listens::Udp => UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()),
        Listens::Tcp | Listens::Tls => {
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())
        }
    };
    address.expect("a free port").port()
}
