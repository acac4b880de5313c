//! The only door to the container engine (Docker, or podman's compatible socket).
//!
//! Types of the client library stay inside. The library puts names into request paths as they are,
//! so every name is checked first. It also sends requests without an API version in the path: the
//! engine then answers in its newest version, whose fields this module reads as optional.

mod attach;
mod container;
mod error;
mod events;
mod exec;
mod host;
mod image;
mod logs;
mod own;
mod raw_logs;
mod spec;
mod volume;

use std::net::IpAddr;
use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};

pub use attach::ContainerInput;
pub use container::{
    Container, ContainerFilter, ContainerState, Health, Isolation, ListedContainer, LogConfig,
    Mount, MountKind,
};
pub use error::{EngineError, EngineErrorKind};
pub use events::{ContainerAction, ContainerEvent, EventStream};
pub use exec::{Exec, ExecInput, ExecOutput, ExecSpec, ExecState};
pub use host::{DEFAULT_SOCKET, Host};
pub use image::ListedImage;
pub use logs::{LogFrame, LogSource, LogStream};
pub use own::own_container_id;
pub use raw_logs::{LogTail, RawLogs};
pub use spec::{ContainerSpec, MountSource, MountSpec, PutFile, VolumesFrom};
pub use volume::{NewVolume, Volume, VolumeListing};

use error::Request;

#[cfg(test)]
mod tests;

/// How long the engine may take to begin an answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// A connection to a container engine. Cloning is cheap; clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    host: Host,
}

/// What the engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    /// `20.10.24`.
    pub engine: String,
    /// `1.41`.
    pub api: String,
}

/// What the machine of an engine is called. What the engine does not tell, or a proxy does not let through, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineMachine {
    /// What the engine calls itself.
    pub id: Option<String>,
    /// The host name.
    pub host_name: Option<String>,
    /// The node of a Swarm; not said while that is locked or was just started.
    pub node: Option<String>,
}

impl Engine {
    /// Connects to `host` in the forms of `DOCKER_HOST` (see [`Host::parse`]), by default to
    /// [`DEFAULT_SOCKET`], agrees on the API version, and proves that the engine answers.
    pub async fn connect(host: Option<&str>) -> Result<Self, EngineError> {
        let host = Host::parse(host)?;
        let request = Request::to_engine("reach", &host);
        let seconds = REQUEST_TIME_MAX.as_secs();
        let docker = match &host {
            Host::Unix(socket) => {
                let socket =
                    socket.to_str().ok_or_else(|| request.invalid("its path is not UTF-8"))?;
                Docker::connect_with_unix(socket, seconds, API_DEFAULT_VERSION)
            }
            Host::Tcp(address) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        };
        let docker = docker.map_err(|error| request.failed(&error))?;
        let docker = docker.negotiate_version().await.map_err(|error| request.failed(&error))?;
        Ok(Self { docker, host })
    }

    /// Where the engine is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The addresses behind its name; none when it is a socket, or the name is not known.
    pub async fn addresses(&self) -> Vec<IpAddr> {
        let Host::Tcp(address) = &self.host else { return Vec::new() };
        match tokio::net::lookup_host(address).await {
            Ok(found) => found.map(|found| found.ip()).collect(),
            Err(error) => {
                tracing::debug!("cannot look up {address}: {error}");
                Vec::new()
            }
        }
    }

    /// Whether the engine still answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let answer = self.docker.ping().await;
        answer.map(drop).map_err(|error| Request::to_engine("reach", &self.host).failed(&error))
    }

    /// The engine's own version and its newest API version.
    pub async fn version(&self) -> Result<EngineVersion, EngineError> {
        let version =
            self.docker.version().await.map_err(|error| {
                Request::to_engine("ask the version of", &self.host).failed(&error)
            })?;
        Ok(EngineVersion {
            engine: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
        })
    }

    /// What the engine calls itself for as long as it keeps its data. `None` where it has another name each time it is asked
    /// (podman), or where it is not let through.
    pub async fn id(&self) -> Result<Option<String>, EngineError> {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let Some(info) = self.info("ask the name of").await? else { return Ok(None) };
            ids.push(info.id.filter(|id| !id.is_empty()));
        }
        let id = ids.pop().flatten();
        Ok(id.filter(|id| ids.iter().flatten().all(|before| before == id)))
    }

    /// The drivers that the engine can make volumes with. `None` where it does not tell, or is not let through.
    pub async fn volume_drivers(&self) -> Result<Option<Vec<String>>, EngineError> {
        let info = self.info("ask the volume drivers of").await?;
        Ok(info.and_then(|info| info.plugins).and_then(|plugins| plugins.volume))
    }

    /// The host name of the engine's machine. `None` where it does not tell, or is not let through.
    pub async fn host_name(&self) -> Result<Option<String>, EngineError> {
        let info = self.info("ask the name of").await?;
        Ok(info.and_then(|info| info.name).filter(|name| !name.is_empty()))
    }

    /// What tells the machine of the engine from others: [`Self::id`], [`Self::host_name`] and the node of a Swarm, by two requests
    /// in all.
    pub async fn machine(&self) -> Result<EngineMachine, EngineError> {
        let (Some(first), Some(info)) =
            (self.info("ask the name of").await?, self.info("ask the name of").await?)
        else {
            return Ok(EngineMachine::default());
        };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(EngineMachine {
            id: filled(info.id.clone()).filter(|_| first.id == info.id),
            host_name: filled(info.name),
            node: filled(info.swarm.and_then(|swarm| swarm.node_id)),
        })
    }

    /// What the engine says about itself and its machine, asked to `act`; `None` where a proxy does not let that through.
    async fn info(&self, act: &'static str) -> Result<Option<SystemInfo>, EngineError> {
        let request = Request::to_engine(act, &self.host);
        match self.docker.info().await.map_err(|error| request.failed(&error)) {
            Ok(info) => Ok(Some(info)),
            Err(error)
                if matches!(
                    error.kind(),
                    EngineErrorKind::Denied
                        | EngineErrorKind::NotFound
                        | EngineErrorKind::Unsupported
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same connection for requests that the engine may answer late.
    fn patient(&self, extra: Duration) -> Docker {
        self.docker.clone().with_timeout(REQUEST_TIME_MAX.saturating_add(extra))
    }
}
