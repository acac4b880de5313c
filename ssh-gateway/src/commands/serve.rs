//! `serve`: letting clients in.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chores_common::exit::ExitCode;
use chores_common::shutdown::Shutdown;
use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;

use super::CommandError;
use crate::broker::{self, Parts, confine, sweep};
use crate::cli::{CommonArgs, Credentials, Environment, ServeArgs};
use crate::config::Config;
use crate::container::bundle::Bundles;
use crate::host_keys::{self, HostKeys};
use crate::policy;
use crate::role::{Image, Role};
use crate::toolbox;

/// Threads of the broker: it decides and waits, bytes go past it.
const THREADS: usize = 2;

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen at {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot lock the state directory {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error(
        "another gateway uses the state directory {}: give each its own with --state", path.display()
    )]
    InUse { path: PathBuf },
    #[error("cannot {act}")]
    System { act: &'static str, source: io::Error },
}

/// Serves until told to stop.
pub fn run(common: &CommonArgs, args: &ServeArgs) -> Result<ExitCode, CommandError> {
    let config = Config::for_serve(common, args, Environment::of_process())?;
    let upload = config.record.upload(Credentials::of_process())?;
    let accepted = &config.accept_environment;
    let (_, policy) = policy::file::load(&config.policy, &config.revoked_keys, &|name| {
        policy::accepts_variable(accepted, name)
    });
    let policy = policy?;
    for fault in policy.keys().faults() {
        tracing::warn!("{fault}");
    }
    if let Some(directory) = &config.enter.toolbox {
        toolbox::check(directory).map_err(CommandError::usage)?;
    }
    let host_keys = HostKeys::load_or_make(&config.state)?;
    for fingerprint in host_keys.fingerprints() {
        tracing::info!("host key {fingerprint}");
    }
    let lock = lock(&config.state).map_err(CommandError::failed)?;
    let audit_key = host_keys::audit_key(&config.state)?;
    let cgroup_prefix = cgroup_prefix(&lock).map_err(failed("look at the state directory"))?;
    let listeners = listen(&config.listen).map_err(CommandError::failed)?;
    let socket = config.enter.engine_socket();
    let bundles = Bundles::open(&config.enter.bundles, socket.as_deref());
    let cgroup_root = config.enter.cgroup_root();
    // While there is one thread, and while there are rights to give away.
    let image = Image::of_ourselves().map_err(failed("make a sealed copy of this program"))?;
    let (spawner, _spawner) = image.start(Role::Spawner).map_err(failed("start the spawner"))?;
    let (nursery, _nursery) = image.start(Role::Nursery).map_err(failed("start the nursery"))?;
    drop(image);
    let left = sweep::sweep(&cgroup_root, &cgroup_prefix);
    if left > 0 {
        tracing::info!("{left} cgroups of sessions that a former gateway left were removed");
    }
    raise_descriptor_limit();
    confine::keep_little().map_err(failed("give up capabilities"))?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(CommandError::failed)?;
    let parts = Parts {
        config,
        policy,
        host_keys,
        audit_key,
        listeners,
        bundles,
        cgroup_root,
        cgroup_prefix,
        spawner,
        nursery,
        upload,
    };
    let served = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(CommandError::failed)?;
        broker::serve(parts, &shutdown).await.map_err(CommandError::failed)
    });
    // Requests that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    served.map(|()| ExitCode::Done)
}

fn failed(act: &'static str) -> impl Fn(io::Error) -> CommandError {
    move |source| CommandError::failed(ServeError::System { act, source })
}

/// Keeps other gateways away from this state as long as the file is open: they would end each other's sessions.
fn lock(state: &Path) -> Result<File, ServeError> {
    let path = || state.to_owned();
    let directory =
        File::open(state).map_err(|source| ServeError::Lock { path: path(), source })?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::InUse { path: path() }),
        Err(error) => Err(ServeError::Lock { path: path(), source: error.into() }),
    }
}

/// How the names of our sessions' cgroups begin: by the state directory, so that gateways on one host leave each
/// other's alone, and this one knows those of its former life.
fn cgroup_prefix(state: &File) -> io::Result<String> {
    let data = state.metadata()?;
    Ok(format!("ssh-{:x}-{:x}-", data.dev(), data.ino()))
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    let one = |address: &SocketAddr| {
        let address = *address;
        TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })
    };
    addresses.iter().map(one).collect()
}

/// Every session and forward needs some. Only of this process: the others have been started, and sessions get the
/// limits of their containers.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
