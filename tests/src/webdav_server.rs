//! A real WebDAV server of the machine: lighttpd with mod_webdav, for one user.

use std::net::TcpListener;
use std::time::Duration;

use crate::process::{Run, Running, find_program};
use crate::rsyslog::make_certificates;
use crate::sandbox::Sandbox;

/// The user that is let in, and the password.
pub const LOGIN: (&str, &str) = ("keeper", "s3cret");

/// A server that runs as long as this value lives.
#[derive(Debug)]
pub struct WebDavServer {
    port: u16,
    is_tls: bool,
    // Before the directory: it ends before its files go.
    _server: Running,
    directory: Sandbox,
}

impl WebDavServer {
    /// Starts it on a free port; `None`, with the reason on stderr, when the machine has none.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_as(false)
    }

    /// The same over TLS, with a certificate of an authority of its own: `tls/ca.pem` in
    /// [`WebDavServer::directory`].
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start_with_tls() -> Option<Self> {
        Self::start_as(true)
    }

    fn start_as(is_tls: bool) -> Option<Self> {
        let directory = Sandbox::new();
        drop(directory.directory("root/files"));
        drop(directory.directory("uploads"));
        let (user, password) = LOGIN;
        let users = directory.file("users", format!("{user}:{password}\n"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        drop(listener);
        let tls = if is_tls {
            let place = directory.directory("tls");
            make_certificates(&place);
            let place = place.display();
            format!(
                "server.modules += (\"mod_openssl\")\nssl.engine = \"enable\"\n\
                 ssl.pemfile = \"{place}/cert.pem\"\nssl.privkey = \"{place}/key.pem\"\n"
            )
        } else {
            String::new()
        };
        let config = format!(
            "server.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_webdav\")\n\
             server.document-root = \"{root}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.upload-dirs = (\"{uploads}\")\nauth.backend = \"plain\"\n\
             auth.backend.plain.userfile = \"{users}\"\n\
             auth.require = (\"\" => (\"method\" => \"basic\", \"realm\" => \"dav\", \"require\" => \"valid-user\"))\n\
             webdav.activate = \"enable\"\nwebdav.is-readonly = \"disable\"\n{tls}",
            root = directory.path("root").display(),
            uploads = directory.path("uploads").display(),
            users = users.display(),
        );
        let config = directory.file("lighttpd.conf", config);
        let usable = find_program("lighttpd").filter(|program| {
            // Its modules are packages of their own.
            let checked = Run::new(program).arg("-tt").arg("-f").arg(&config).finish();
            checked.code() == Some(0)
        });
        let Some(program) = usable else {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "lighttpd with its modules is missing (Debian packages lighttpd, lighttpd-mod-webdav, lighttpd-mod-openssl)"
            );
            crate::notice!(
                "skipped: no lighttpd with its modules (Debian packages lighttpd-mod-webdav, lighttpd-mod-openssl)"
            );
            return None;
        };
        let server = Run::new(program)
            .args(["-D", "-f"])
            .arg(config)
            .deadline(Duration::from_secs(3600))
            .start();
        server.wait_until_it_listens(port);
        Some(Self { port, is_tls, _server: server, directory })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it serves (`root/files`), and what it is made of.
    #[must_use]
    pub fn directory(&self) -> &Sandbox {
        &self.directory
    }

    /// The URL of a collection in `files`, by way of a port.
    #[must_use]
    pub fn url(&self, port: u16, path: &str) -> String {
        let scheme = if self.is_tls { "webdavs" } else { "webdav" };
        format!("{scheme}://127.0.0.1:{port}/files/{path}")
    }

    /// The variables with which `backup` is let in.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_with(LOGIN.1)
    }

    /// The same with another password.
    #[must_use]
    pub fn env_with(&self, password: &str) -> Vec<(String, String)> {
        [("BACKUP_WEBDAV_USER", LOGIN.0), ("BACKUP_WEBDAV_PASSWORD", password)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }
}
