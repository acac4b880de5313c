//! Object stores that keep their word: one in this process, and a real one when the machine has it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use crate::http_server::Server;
use crate::process::{Run, Running, find_program};
use crate::sandbox::{Sandbox, unique_name};

/// An S3 endpoint for the tests beside the one in this process, such as `http://127.0.0.1:9000`. Its
/// credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, its bucket from
/// [`BUCKET_VARIABLE`]; tests write below a prefix of their own.
pub const ENDPOINT_VARIABLE: &str = "CHORES_S3_ENDPOINT";

/// The bucket of the endpoint of [`ENDPOINT_VARIABLE`]; `chores-test` by default.
pub const BUCKET_VARIABLE: &str = "CHORES_S3_BUCKET";

/// Where a store is and what opens it.
#[derive(Clone, Debug)]
pub struct Address {
    /// `http://host:port`.
    pub endpoint: String,
    /// Name of an existing bucket.
    pub bucket: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Region to sign for.
    pub region: String,
}

impl Address {
    /// `s3://bucket/prefix`.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }

    /// The variables with which an S3 client signs.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", &self.region),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .to_vec()
    }
}

/// An object store that runs as long as this value lives.
#[derive(Debug)]
pub struct ObjectStore {
    address: Address,
    kind: &'static str,
    prefix: String,
    _server: Option<Server>,
    garage: Option<Garage>,
    moto: Option<Running>,
    directory: Option<Sandbox>,
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        if let Some(server) = self.moto.take() {
            server.signal(Signal::TERM);
        }
    }
}

impl ObjectStore {
    /// A moto server (`pip install 'moto[server]'`) with a bucket that has Object Lock; none where there is no `moto_server`
    /// on `PATH`.
    #[must_use]
    pub fn moto() -> Option<Self> {
        const START_SECONDS_MAX: u64 = 60;
        let program = find_program("moto_server")?;
        let [port] = free_ports();
        let port = port.to_string();
        let server = Run::new(&program).args(["-H", "127.0.0.1", "-p", &port]).start();
        let address = own_address(&unique_name());
        let address = Address { endpoint: format!("http://127.0.0.1:{port}"), ..address };
        let started = std::time::Instant::now();
        let head = format!(
            "PUT /{} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\
             x-amz-bucket-object-lock-enabled: true\r\n\r\n",
            address.bucket
        );
        // It says nothing when it is ready: asking is the only way to know.
        while !request(&format!("127.0.0.1:{port}"), &head).is_some_and(|answer| {
            answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200")
        }) {
            assert!(
                started.elapsed() < Duration::from_secs(START_SECONDS_MAX),
                "moto did not start within {START_SECONDS_MAX} s"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self {
            address,
            kind: "moto",
            prefix: "repo".to_owned(),
            _server: None,
            garage: None,
            moto: Some(server),
            directory: None,
        })
    }

    /// An s3s-fs server in this process, for clients on this machine.
    #[must_use]
    pub fn in_process() -> Self {
        Self::in_process_on("127.0.0.1")
    }

    /// An s3s-fs server in this process on `host`, an IP address of this machine: that of the engine's
    /// bridge lets containers reach it (`Engine::host_address`).
    ///
    /// # Panics
    /// When the server cannot start.
    #[must_use]
    pub fn in_process_on(host: &str) -> Self {
        let directory = Sandbox::new();
        let bucket = directory.name().to_owned();
        drop(directory.directory(&bucket));
        let files = s3s_fs::FileSystem::new(directory.root()).unwrap_or_else(|error| {
            panic!("cannot serve {}: {error:?}", directory.root().display())
        });
        let address = own_address(&bucket);
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(
            address.access_key.as_str(),
            address.secret_key.as_str(),
        ));
        let server = Server::start(service.build(), host);
        let address = Address { endpoint: format!("http://{host}:{}", server.port()), ..address };
        Self {
            address,
            kind: "s3s-fs",
            prefix: "repo".to_owned(),
            _server: Some(server),
            garage: None,
            moto: None,
            directory: Some(directory),
        }
    }

    /// Every store this machine offers: the one in this process, the one at [`ENDPOINT_VARIABLE`], and a
    /// Garage started for the test when `garage` is on `PATH`.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let external = std::env::var(ENDPOINT_VARIABLE).ok().map(Self::external);
        let garage = find_program("garage").map(|program| Self::garage(&program));
        [Some(Self::in_process()), external, garage].into_iter().flatten().collect()
    }

    /// Where it is and what opens it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What serves it, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// A place in the bucket that no other test uses.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url(&self.prefix)
    }

    /// Where the objects of the bucket lie as files, when the store is the one in this process.
    #[must_use]
    pub fn files(&self) -> Option<std::path::PathBuf> {
        self.directory
            .as_ref()
            .filter(|_| self.garage.is_none())
            .map(|root| root.path(&self.address.bucket))
    }

    fn external(endpoint: String) -> Self {
        let variable =
            |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let address = Address {
            endpoint,
            bucket: variable(BUCKET_VARIABLE, "chores-test"),
            access_key: variable("AWS_ACCESS_KEY_ID", ""),
            secret_key: variable("AWS_SECRET_ACCESS_KEY", ""),
            region: variable("AWS_REGION", "us-east-1"),
        };
        Self {
            address,
            kind: "external",
            prefix: unique_name(),
            _server: None,
            garage: None,
            moto: None,
            directory: None,
        }
    }

    /// Starts a Garage of one node (garage(1): `layout assign`, `key`, `bucket`) in a sandbox.
    fn garage(program: &Path) -> Self {
        let directory = Sandbox::new();
        let garage = Garage::start(program, &directory);
        let bucket = directory.name().to_owned();
        let node = garage.command(&["node", "id", "--quiet"]);
        let node = node.split('@').next().unwrap_or_default().to_owned();
        garage.command(&["layout", "assign", "--zone", "test", "--capacity", "1G", &node]);
        garage.command(&["layout", "apply", "--version", "1"]);
        garage.command(&["bucket", "create", &bucket]);
        let key = garage.command(&["key", "create", "test"]);
        let field = |name: &str| {
            let line = key.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("garage named no {name}:\n{key}")).trim().to_owned()
        };
        let address = Address {
            endpoint: format!("http://127.0.0.1:{}", garage.s3_port),
            access_key: field("Key ID"),
            secret_key: field("Secret key"),
            ..own_address(&bucket)
        };
        garage.command(&[
            "bucket",
            "allow",
            "--read",
            "--write",
            "--owner",
            &bucket,
            "--key",
            &address.access_key,
        ]);
        Self {
            address,
            kind: "garage",
            prefix: "repo".to_owned(),
            _server: None,
            garage: Some(garage),
            moto: None,
            directory: Some(directory),
        }
    }
}

#[derive(Debug)]
struct Garage {
    program: std::path::PathBuf,
    config: std::path::PathBuf,
    s3_port: u16,
    server: Option<Running>,
}

impl Garage {
    fn start(program: &Path, directory: &Sandbox) -> Self {
        const START_SECONDS_MAX: u64 = 30;
        let [rpc_port, s3_port] = free_ports();
        let root = directory.root().display();
        let secret = "5a".repeat(32);
        let config = directory.file(
            "garage.toml",
            format!(
                "metadata_dir = \"{root}/meta\"\ndata_dir = \"{root}/data\"\ndb_engine = \"sqlite\"\n\
                 replication_factor = 1\nrpc_bind_addr = \"127.0.0.1:{rpc_port}\"\n\
                 rpc_public_addr = \"127.0.0.1:{rpc_port}\"\nrpc_secret = \"{secret}\"\n\
                 [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"127.0.0.1:{s3_port}\"\n"
            ),
        );
        let server = Run::new(program).arg("-c").arg(&config).arg("server").start();
        let garage = Self { program: program.to_owned(), config, s3_port, server: Some(server) };
        let started = std::time::Instant::now();
        // Garage says nothing when it is ready: asking is the only way to know.
        while garage.try_command(&["status"]).code() != Some(0) {
            assert!(
                started.elapsed() < Duration::from_secs(START_SECONDS_MAX),
                "garage did not start within {START_SECONDS_MAX} s"
            );
        }
        garage
    }

    fn try_command(&self, arguments: &[&str]) -> crate::process::Finished {
        Run::new(&self.program).arg("-c").arg(&self.config).args(arguments.iter().copied()).finish()
    }

    fn command(&self, arguments: &[&str]) -> String {
        self.try_command(arguments).expect_code(0).stdout_text()
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(Signal::TERM);
        }
    }
}

/// The answer to one request; none where nobody answers.
fn request(host: &str, head: &str) -> Option<String> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners =
        [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

pub(crate) fn own_address(bucket: &str) -> Address {
    Address {
        endpoint: String::new(),
        bucket: bucket.to_owned(),
        access_key: "TESTACCESSKEY".to_owned(),
        secret_key: "test-secret-key".to_owned(),
        region: "us-east-1".to_owned(),
    }
}

#[cfg(test)]
mod tests;
