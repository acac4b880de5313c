//! Containers: what they are, and their life from creation to removal.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::body_full;
use bollard::errors::Error as BollardError;
use bollard::models::{ContainerInspectResponse, ContainerSummary, HealthStatusEnum, MountPoint};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, ListContainersOptions,
    RemoveContainerOptions, StartContainerOptions, StopContainerOptions, UploadToContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt;

use super::Engine;
use super::error::{EngineError, EngineErrorKind, Request};
use super::spec::{self, ContainerSpec, PutFile};

#[cfg(test)]
mod tests;

/// Labels by which Compose marks what it starts.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_DIRECTORY: &str = "com.docker.compose.project.working_dir";
const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
/// `True` for what `docker compose run` starts.
const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";

/// A container as inspected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// `sha256:…` of the image it was created from.
    pub image_id: String,
    /// The image as it was asked for: `mysql:8`.
    pub image_ref: String,
    /// Its process is alive, paused or not.
    pub running: bool,
    /// Its processes are frozen.
    pub paused: bool,
    /// It ended because the kernel found no memory for it.
    pub out_of_memory: bool,
    /// Program and arguments of its first process.
    pub command: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment in order, `NAME=value`.
    pub env: Vec<String>,
    /// What is mounted into it, by destination.
    pub mounts: Vec<Mount>,
    /// Names of the networks it is in, sorted.
    pub networks: Vec<String>,
    /// Its addresses in them, sorted, while it runs.
    pub addresses: Vec<IpAddr>,
    /// Its state in the engine's own word: `created`, `running`, `exited`, `dead`…
    pub status: String,
    /// It ended, and its restart policy is about to start it again.
    pub restarting: bool,
    /// What its health check says, where it has one.
    pub health: Option<Health>,
    /// Its first process on the host, while it runs.
    pub pid: Option<i64>,
    /// When its last run began, in RFC 3339 as the engine writes it; `None` before the first one.
    pub started_at: Option<String>,
    /// When its last run ended; `None` before the end of the first one.
    pub finished_at: Option<String>,
    /// It has a terminal: one output, not two.
    pub tty: bool,
    /// The engine removes it when it ends (`--rm`).
    pub auto_remove: bool,
    /// Where its output goes.
    pub log: LogConfig,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// Its user as the image or the operator wrote it; empty is root.
    pub user: String,
    /// How its processes are confined by the engine, beside what the runtime does.
    pub isolation: Isolation,
    /// Seconds between the request to end and the kill (`--stop-timeout`); negative: for ever. `None` where the
    /// engine's default counts.
    pub stop_timeout: Option<i64>,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has not succeeded yet, and has not failed often enough.
    Starting,
    /// It succeeded.
    Healthy,
    /// It failed too often.
    Unhealthy,
}

/// Parts of a container's confinement that the engine tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Isolation {
    /// Everything is allowed.
    pub privileged: bool,
    /// The AppArmor profile, if it has one.
    pub apparmor: Option<String>,
    /// The SELinux label, if it has one.
    pub selinux: Option<String>,
}

/// What the engine does with the output of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// The log driver: `json-file`, `local`, `journald`, `none`…
    pub driver: String,
    /// Its options, such as `max-size` and `max-file`, as they were given.
    pub options: BTreeMap<String, String>,
    /// The newest log file on the host; only `json-file` tells, and not before the first start.
    pub path: Option<PathBuf>,
}

impl Container {
    /// The Compose project it belongs to.
    pub fn compose_project(&self) -> Option<&str> {
        self.labels.get(COMPOSE_PROJECT).map(String::as_str)
    }

    /// The Compose service it belongs to.
    pub fn compose_service(&self) -> Option<&str> {
        self.labels.get(COMPOSE_SERVICE).map(String::as_str)
    }

    /// The directory of that project.
    pub fn compose_directory(&self) -> Option<&str> {
        self.labels.get(COMPOSE_DIRECTORY).map(String::as_str)
    }

    /// The files that say what the project is; none where Compose is too old to tell.
    pub fn compose_files(&self) -> impl Iterator<Item = &str> {
        let files = self.labels.get(COMPOSE_FILES).map(String::as_str).unwrap_or_default();
        files.split(',').map(str::trim).filter(|file| !file.is_empty())
    }

    /// Whether it is a run beside its service, which does not last.
    pub fn is_compose_run(&self) -> bool {
        self.labels.get(COMPOSE_ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// What kind of mount it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A named or anonymous volume.
    Volume,
    /// A path of the host.
    Bind,
    /// Memory.
    Tmpfs,
    /// An image.
    Image,
    /// Another kind, such as a cluster volume.
    Other,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What kind it is.
    pub kind: MountKind,
    /// The volume's name; 64 hexadecimal digits for an anonymous one.
    pub name: Option<String>,
    /// On the host: the volume's data or the bound path.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// The volume's driver.
    pub driver: Option<String>,
    /// Whether the container may write.
    pub read_write: bool,
}

/// Which containers to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerFilter {
    /// `name` or `name=value`; all of them must be there.
    pub labels: Vec<String>,
    /// Also those that do not run.
    pub all: bool,
}

/// What a listed container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Alive.
    Running,
    /// Alive but frozen.
    Paused,
    /// Created, ended, being restarted or removed.
    NotRunning,
}

/// A container as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// The image as it was asked for.
    pub image_ref: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
}

impl Engine {
    /// One container by name or id.
    pub async fn inspect_container(&self, name: &str) -> Result<Container, EngineError> {
        let request = Request::new("inspect", "container", name);
        let options = None::<InspectContainerOptions>;
        let answer = self.docker.inspect_container(request.checked_name()?, options).await;
        Ok(container(answer.map_err(|error| request.failed(&error))?))
    }

    /// Containers, newest first as the engine lists them.
    pub async fn list_containers(
        &self,
        filter: &ContainerFilter,
    ) -> Result<Vec<ListedContainer>, EngineError> {
        let filters = (!filter.labels.is_empty())
            .then(|| HashMap::from([("label".to_owned(), filter.labels.clone())]));
        let options = ListContainersOptions { all: filter.all, filters, ..Default::default() };
        let answer = self.docker.list_containers(Some(options)).await;
        let request = Request::to_engine("list the containers of", &self.host);
        let listed = answer.map_err(|error| request.failed(&error))?;
        Ok(listed.into_iter().map(listed_container).collect())
    }

    /// Creates a container, not started, and returns its id. A name that is taken is a
    /// [`EngineErrorKind::Conflict`].
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let (verb, noun) = ("create", "container");
        let request = Request::new(verb, noun, spec.name.as_deref().unwrap_or(&spec.image));
        let options = CreateContainerOptions { name: spec.name.clone(), ..Default::default() };
        let answer = self.docker.create_container(Some(options), spec::body(spec)).await;
        Ok(answer.map_err(|error| request.failed(&error))?.id)
    }

    /// Puts files, owned by root, into `directory` of a container that may not run yet; the
    /// directory must exist, missing ones below it are made (mode 0755). For secrets, which must
    /// not be in the environment that `inspect` shows. With a read-only root file system the
    /// engine allows it only for a directory in a writable volume.
    pub async fn put_files(
        &self,
        name: &str,
        directory: &str,
        files: &[PutFile],
    ) -> Result<(), EngineError> {
        let request = Request::new("put files into", "container", name);
        let archive = spec::archive(files).map_err(|error| request.invalid(&error.to_string()))?;
        let options = UploadToContainerOptions { path: directory.to_owned(), ..Default::default() };
        let name = request.checked_name()?;
        let body = body_full(archive.into());
        let answer = self.docker.upload_to_container(name, Some(options), body).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Starts a created or ended container; one that runs is left alone.
    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        let request = Request::new("start", "container", name);
        let options = None::<StartContainerOptions>;
        let answer = self.docker.start_container(request.checked_name()?, options).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Asks the container to end, and kills it after `grace` (whole seconds). One that does not
    /// run is left alone.
    pub async fn stop(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let request = Request::new("stop", "container", name);
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..Default::default() };
        let docker = self.patient(grace);
        let answer = docker.stop_container(request.checked_name()?, Some(options)).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Freezes the processes of a container that runs. What does not run, or is frozen, is a
    /// [`EngineErrorKind::Conflict`] with most engines.
    pub async fn pause(&self, name: &str) -> Result<(), EngineError> {
        let request = Request::new("pause", "container", name);
        let answer = self.docker.pause_container(request.checked_name()?).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Lets the processes of a frozen container go on. What is not frozen is an error, of a kind that depends on
    /// the engine.
    pub async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        let request = Request::new("unpause", "container", name);
        let answer = self.docker.unpause_container(request.checked_name()?).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Sends a signal, such as `USR1`, to the first process of a running container. One that does not run is an
    /// [`EngineErrorKind::Conflict`].
    pub async fn kill(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let request = Request::new("signal", "container", name);
        let options = KillContainerOptions { signal: signal.to_owned() };
        let answer = self.docker.kill_container(request.checked_name()?, Some(options)).await;
        answer.map_err(|error| request.failed(&error))
    }

    /// Waits until the container does not run, and returns its exit code (128 + signal for a
    /// killed process). Waits as long as it takes; the caller bounds it.
    pub async fn wait(&self, name: &str) -> Result<i64, EngineError> {
        let request = Request::new("wait for", "container", name);
        let name = request.checked_name()?;
        loop {
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            let mut answers = Box::pin(self.docker.wait_container(name, Some(options)));
            match answers.next().await {
                Some(Ok(answer)) => return Ok(answer.status_code),
                Some(Err(BollardError::DockerContainerWaitError { error, code }))
                    if error.is_empty() =>
                {
                    return Ok(code);
                }
                // Some engines send nothing before the end; asking again loses nothing.
                Some(Err(BollardError::RequestTimeoutError)) => {}
                Some(Err(error)) => return Err(request.failed(&error)),
                None => return Err(request.corrupt("the answer breaks off")),
            }
        }
    }

    /// Removes a container and its anonymous volumes; with `force` also one that runs. One that is
    /// not there, or is being removed, is no error.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let request = Request::new("remove", "container", name);
        let options = RemoveContainerOptions { v: true, force, link: false };
        let answer = self.docker.remove_container(request.checked_name()?, Some(options)).await;
        match answer.map_err(|error| request.failed(&error)) {
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(()),
            Err(error)
                if error.kind() == EngineErrorKind::Conflict
                    && error.to_string().contains("already in progress") =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

pub(super) fn container(answer: ContainerInspectResponse) -> Container {
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let host_config = answer.host_config.unwrap_or_default();
    let log_config = host_config.log_config.unwrap_or_default();
    let networks = answer.network_settings.and_then(|settings| settings.networks);
    let networks = networks.unwrap_or_default();
    let mut addresses: Vec<IpAddr> = networks
        .values()
        .flat_map(|endpoint| [&endpoint.ip_address, &endpoint.global_ipv6_address])
        .filter_map(|address| address.as_deref()?.parse().ok())
        .collect();
    addresses.sort_unstable();
    let mut networks: Vec<String> = networks.into_keys().collect();
    networks.sort_unstable();
    let mut mounts: Vec<Mount> = answer.mounts.unwrap_or_default().into_iter().map(mount).collect();
    mounts.sort_by(|left, right| left.destination.cmp(&right.destination));
    Container {
        id: answer.id.unwrap_or_default(),
        name: plain_name(&answer.name.unwrap_or_default()),
        image_id: answer.image.unwrap_or_default(),
        image_ref: config.image.unwrap_or_default(),
        running: state.running.unwrap_or(false),
        paused: state.paused.unwrap_or(false),
        out_of_memory: state.oom_killed.unwrap_or(false),
        command: answer.path.into_iter().chain(answer.args.unwrap_or_default()).collect(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        env: config.env.unwrap_or_default(),
        mounts,
        networks,
        addresses,
        status: state.status.map(|status| status.to_string()).unwrap_or_default(),
        restarting: state.restarting.unwrap_or(false),
        health: state.health.and_then(|health| health.status).and_then(health),
        pid: state.pid.filter(|pid| *pid > 0),
        started_at: moment(state.started_at),
        finished_at: moment(state.finished_at),
        tty: config.tty.unwrap_or(false),
        auto_remove: host_config.auto_remove.unwrap_or(false),
        log: LogConfig {
            driver: log_config.typ.unwrap_or_default(),
            options: log_config.config.unwrap_or_default().into_iter().collect(),
            path: answer.log_path.filter(|path| !path.is_empty()).map(PathBuf::from),
        },
        group_add: host_config.group_add.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        isolation: Isolation {
            privileged: host_config.privileged.unwrap_or(false),
            apparmor: answer.app_armor_profile.filter(|name| !name.is_empty()),
            selinux: answer.process_label.filter(|label| !label.is_empty()),
        },
        stop_timeout: config.stop_timeout,
    }
}

fn health(status: HealthStatusEnum) -> Option<Health> {
    match status {
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
    }
}

/// A time that the engine gives. It says the year 1 for "never" (Go's zero time).
fn moment(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && !text.starts_with("0001-"))
}

fn mount(point: MountPoint) -> Mount {
    let kind = match point.typ.as_deref() {
        Some("volume") => MountKind::Volume,
        Some("bind") => MountKind::Bind,
        Some("tmpfs") => MountKind::Tmpfs,
        Some("image") => MountKind::Image,
        _ => MountKind::Other,
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Mount {
        kind,
        name: given(point.name),
        source: point.source.unwrap_or_default().into(),
        destination: point.destination.unwrap_or_default().into(),
        driver: given(point.driver),
        read_write: point.rw.unwrap_or(false),
    }
}

fn listed_container(summary: ContainerSummary) -> ListedContainer {
    // Links add names such as `/web/db`; the container's own has one slash.
    let names = summary.names.unwrap_or_default();
    let own = names.iter().find(|name| name.matches('/').count() == 1).or(names.first());
    let state = match summary.state.map(|state| state.to_string()).as_deref() {
        Some("running") => ContainerState::Running,
        Some("paused") => ContainerState::Paused,
        _ => ContainerState::NotRunning,
    };
    ListedContainer {
        id: summary.id.unwrap_or_default(),
        name: own.map(|name| plain_name(name)).unwrap_or_default(),
        image_ref: summary.image.unwrap_or_default(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        state,
    }
}

fn plain_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}
