//! A real mail server of the machine (aiosmtpd), which keeps what it is given.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Run, Running};
use crate::rsyslog::make_certificates;
use crate::sandbox::Sandbox;

/// How long the server may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Debian's own Python, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// The user that is let in, and the password.
pub const LOGIN: (&str, &str) = ("backup", "s3cret-p4ss");

/// Who gets no mail here, for good and for now.
pub const REFUSED: &str = "gone@example.org";
pub const POSTPONED: &str = "later@example.org";

const SERVER: &str = r#"
import asyncio, json, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
security, user, password = sys.argv[1:4]
kept = 0
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "gone@example.org":
            return "550 there is no such user"
        if address == "later@example.org":
            return "450 the mailbox is busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        global kept
        kept += 1
        mail = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None or security == "tls",
                "authenticated": bool(session.authenticated), "text": envelope.content.decode("utf-8")}
        with open("new", "w") as file:
            json.dump(mail, file)
        os.rename("new", "mail-%06d.json" % kept)
        return "250 OK"
def authenticate(server, session, envelope, mechanism, data):
    known = data.login.decode() == user and data.password.decode() == password
    return AuthResult(success=known, handled=known)
context = None
if security != "none":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
def session():
    options = {"hostname": "localhost"}
    if security != "none":
        options.update(authenticator=authenticate, auth_required=True, auth_require_tls=security == "starttls")
    if security == "starttls":
        options.update(tls_context=context, require_starttls=True)
    return SMTP(Handler(), **options)
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if security == "tls" else None)
    with open("port.new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename("port.new", "port")
    await server.serve_forever()
asyncio.run(main())
"#;

/// Who can read what is said to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Everybody; nobody has to log in.
    None,
    /// Nobody once TLS began, which it insists on.
    StartTls,
    /// Nobody.
    Tls,
}

/// A server that runs as long as this value lives.
#[derive(Debug)]
pub struct MailServer {
    port: u16,
    server: Option<Running>,
    directory: Sandbox,
}

impl MailServer {
    /// Starts it on a free port of 127.0.0.1, with a certificate for `localhost`; `None`, with the reason on stderr, when the
    /// machine has no aiosmtpd.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start(security: Security) -> Option<Self> {
        let has = std::process::Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .stderr(std::process::Stdio::null())
            .status();
        if !has.is_ok_and(|status| status.success()) {
            let missing = "no aiosmtpd (Debian package python3-aiosmtpd)";
            assert!(std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(), "{missing}");
            crate::notice!("skipped: {missing}");
            return None;
        }
        let directory = Sandbox::new();
        make_certificates(directory.root());
        let word = match security {
            Security::None => "none",
            Security::StartTls => "starttls",
            Security::Tls => "tls",
        };
        let (user, password) = LOGIN;
        let server = Run::new(PYTHON)
            .args(["-c", SERVER, word, user, password])
            .current_dir(directory.root())
            .deadline(Duration::from_secs(600))
            .start();
        let begun = Instant::now();
        let port = loop {
            if let Ok(port) = std::fs::read_to_string(directory.path("port")) {
                break port.parse().expect("a port is a number");
            }
            assert!(begun.elapsed() < START_TIME_MAX, "aiosmtpd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        };
        Some(Self { port, server: Some(server), directory })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of who vouches for it.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path("ca.pem")
    }

    /// Every mail, in order: `from`, `to`, `tls`, `authenticated` and `text`.
    ///
    /// # Panics
    /// When the directory cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<Value> {
        let names = std::fs::read_dir(self.directory.root()).expect("its directory is there");
        let mut names: Vec<_> = names.map(|name| name.expect("a name").path()).collect();
        names.retain(|name| is_mail(name));
        names.sort();
        let read = |path: &PathBuf| {
            let text = std::fs::read(path).expect("a mail is there");
            serde_json::from_slice(&text).expect("a mail is JSON")
        };
        names.iter().map(read).collect()
    }
}

fn is_mail(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mail-"))
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(Signal::KILL);
            drop(server.wait());
        }
    }
}
