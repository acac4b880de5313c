//! A real sshd of the machine that has SFTP and nothing else, for this user and one key.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::process::{Run, Running, find_program};
use crate::sandbox::Sandbox;

/// A server that runs as long as this value lives.
#[derive(Debug)]
pub struct SftpServer {
    port: u16,
    // Before the directory: it ends before its files go.
    _server: Running,
    directory: Sandbox,
}

impl SftpServer {
    /// Starts it on a free port; `None`, with the reason on stderr, when the machine has no sshd.
    ///
    /// # Panics
    /// When it does not begin to listen.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(program) = find_program("sshd") else {
            assert!(
                std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
                "sshd is missing (Debian package openssh-server)"
            );
            crate::notice!("skipped: no sshd (Debian package openssh-server)");
            return None;
        };
        let directory = Sandbox::new();
        for name in ["host", "other-host", "key", "other-key"] {
            make_key(&directory.path(name));
        }
        drop(directory.directory("files"));
        fs::copy(directory.path("key.pub"), directory.path("authorized")).expect("a copy");
        // Where it confines what is not logged in yet, if it is root.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("a directory for sshd");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        drop(listener);
        let place = directory.root().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             UsePAM no\nPidFile none\nSubsystem sftp internal-sftp\nForceCommand internal-sftp\n"
        );
        let config = directory.file("sshd_config", config);
        let server = Run::new(program)
            .args(["-D", "-e", "-f"])
            .arg(config)
            .deadline(Duration::from_secs(3600))
            .start();
        server.wait_until_it_listens(port);
        let started = Self { port, _server: server, directory };
        started.trust(port);
        Some(started)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it serves, and what it is made of.
    #[must_use]
    pub fn directory(&self) -> &Sandbox {
        &self.directory
    }

    /// The URL of a directory in `files`, by way of a port.
    #[must_use]
    pub fn url(&self, port: u16, path: &str) -> String {
        format!("sftp://127.0.0.1:{port}{}/{path}", self.directory.path("files").display())
    }

    /// The variables with which `backup` is let in.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_with("key", "known_hosts")
    }

    /// The same with another key and other known hosts, files of [`SftpServer::directory`].
    #[must_use]
    pub fn env_with(&self, key: &str, known_hosts: &str) -> Vec<(String, String)> {
        [("BACKUP_SFTP_KEY_FILE", key), ("BACKUP_SFTP_KNOWN_HOSTS", known_hosts)]
            .map(|(name, file)| (name.to_owned(), self.directory.path(file).display().to_string()))
            .to_vec()
    }

    /// The server's host key is known for one more port of 127.0.0.1.
    pub fn trust(&self, port: u16) {
        self.add_known("known_hosts", port, "host");
    }

    /// A file of known hosts gets a key, whosever it is.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn add_known(&self, known_hosts: &str, port: u16, key: &str) {
        let path = self.directory.path(known_hosts);
        let mut known = fs::read_to_string(&path).unwrap_or_default();
        let key = fs::read_to_string(self.directory.path(format!("{key}.pub"))).expect("a key");
        known.push_str(&format!("[127.0.0.1]:{port} {key}"));
        fs::write(path, known).expect("a file of known hosts");
    }
}

fn make_key(path: &Path) {
    let program = find_program("ssh-keygen").expect("ssh-keygen comes with sshd");
    Run::new(program).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).succeed();
}
