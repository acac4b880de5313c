//! The container engine as tests use it: everything it makes is removed on drop.
//!
//! Nothing here shares code with the sidecars' own door to the engine, so a mistake there cannot hide
//! itself here.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::OnceLock;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig,
    NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, LogsOptions,
    RemoveContainerOptions, RemoveVolumeOptions, RestartContainerOptions, StartContainerOptions,
    StopContainerOptions, WaitContainerOptions,
};
use futures_util::{Stream, StreamExt as _};

use crate::janitor;
use crate::runtime::wait;
use crate::sandbox::unique_name;

/// Set to `1`, a missing engine fails the test instead of skipping it.
pub const REQUIRE_VARIABLE: &str = "CHORES_REQUIRE_ENGINE";

/// Seconds a container gets between SIGTERM and SIGKILL.
const STOP_SECONDS: i32 = 5;

/// Seconds an engine gets for one answer.
const CONNECT_SECONDS: u64 = 120;

/// A connection to the container engine.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
}

/// Connects to the engine of this machine (`DOCKER_HOST`, else the usual socket), or says on stderr why
/// there is none. The first connection of a process also removes what dead runs left.
///
/// # Panics
/// When there is none and `CHORES_REQUIRE_ENGINE=1`.
#[must_use]
pub fn connect() -> Option<Engine> {
    static CONNECTED: OnceLock<Result<Docker, String>> = OnceLock::new();
    let connected = CONNECTED.get_or_init(|| {
        wait(async {
            let docker = Docker::connect_with_defaults().map_err(|error| error.to_string())?;
            let docker = docker.negotiate_version().await.map_err(|error| error.to_string())?;
            janitor::sweep(&docker).await;
            Ok(docker)
        })
    });
    match connected {
        Ok(docker) => Some(Engine { docker: docker.clone() }),
        Err(reason) if std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1") => {
            panic!("no container engine, and {REQUIRE_VARIABLE}=1: {reason}")
        }
        Err(reason) => {
            crate::notice!("skipped: no container engine: {reason}");
            None
        }
    }
}

/// Connects to another engine than the machine's own one, by the path of its socket.
///
/// # Errors
/// The reason, when it does not answer.
pub fn connect_to(socket: &Path) -> Result<Engine, String> {
    let socket = socket.to_string_lossy().into_owned();
    wait(async move {
        let docker =
            Docker::connect_with_unix(&socket, CONNECT_SECONDS, bollard::API_DEFAULT_VERSION)
                .map_err(|error| error.to_string())?;
        let docker = docker.negotiate_version().await.map_err(|error| error.to_string())?;
        Ok(Engine { docker })
    })
}

/// What to run in a container.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Image name.
    pub image: String,
    /// Arguments, or the whole command when the image has no entry point.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `SOURCE:DESTINATION[:ro]`; a source that begins with `/` is a bind mount, others are volumes.
    pub binds: Vec<String>,
    /// Destinations of anonymous volumes.
    pub anonymous_volumes: Vec<String>,
    /// `CONTAINER[:ro]`.
    pub volumes_from: Vec<String>,
    /// Network to join; empty for the default one.
    pub network: String,
    /// Capabilities to add.
    pub capabilities: Vec<String>,
    /// Directory to start in.
    pub working_directory: Option<String>,
    /// Labels beside the owner's.
    pub labels: HashMap<String, String>,
    /// Log driver and its options; those of the engine when absent.
    pub log: Option<(String, HashMap<String, String>)>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether the engine removes it at its end (`--rm`).
    pub auto_remove: bool,
    /// `--user`.
    pub user: Option<String>,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: Option<i64>,
    /// Everything else that `docker run` has flags for; the fields above win.
    pub host: HostConfig,
}

impl Spec {
    /// A container of `image` that runs `command`.
    #[must_use]
    pub fn new<S: Into<String>>(image: &str, command: impl IntoIterator<Item = S>) -> Self {
        Self {
            image: image.to_owned(),
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same, with a log driver and `NAME=VALUE` options for it.
    #[must_use]
    pub fn log(mut self, driver: &str, options: &[(&str, &str)]) -> Self {
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.log = Some((driver.to_owned(), options.collect()));
        self
    }

    fn into_body(self) -> ContainerCreateBody {
        let mut labels = self.labels;
        labels.extend(janitor::labels());
        ContainerCreateBody {
            image: Some(self.image),
            cmd: Some(self.command),
            env: Some(self.env),
            volumes: Some(self.anonymous_volumes),
            working_dir: self.working_directory,
            labels: Some(labels),
            tty: Some(self.terminal),
            user: self.user,
            stop_timeout: self.stop_timeout,
            host_config: Some(HostConfig {
                binds: Some(self.binds),
                volumes_from: Some(self.volumes_from),
                network_mode: (!self.network.is_empty()).then_some(self.network),
                cap_add: Some(self.capabilities),
                auto_remove: Some(self.auto_remove),
                log_config: self.log.map(|(driver, options)| HostConfigLogConfig {
                    typ: Some(driver),
                    config: Some(options),
                }),
                ..self.host
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl Engine {
    /// The client, for what the harness does not wrap.
    #[must_use]
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Makes a named volume.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn volume(&self) -> Volume {
        let name = unique_name();
        let docker = self.docker.clone();
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(janitor::labels()),
            ..VolumeCreateRequest::default()
        };
        wait(async move { docker.create_volume(request).await })
            .unwrap_or_else(|error| panic!("cannot create the volume {name}: {error}"));
        Volume { engine: self.clone(), name }
    }

    /// Takes charge of a volume that something else makes or has made, so that it is removed too.
    #[must_use]
    pub fn adopt_volume(&self, name: &str) -> Volume {
        Volume { engine: self.clone(), name: name.to_owned() }
    }

    /// Makes a bridge network.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn network(&self) -> Network {
        let name = unique_name();
        let docker = self.docker.clone();
        let request = NetworkCreateRequest {
            name: name.clone(),
            labels: Some(janitor::labels()),
            ..NetworkCreateRequest::default()
        };
        wait(async move { docker.create_network(request).await })
            .unwrap_or_else(|error| panic!("cannot create the network {name}: {error}"));
        Network { engine: self.clone(), name }
    }

    /// Makes a container without starting it.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn create(&self, spec: Spec) -> Container {
        let name = unique_name();
        let docker = self.docker.clone();
        let options = CreateContainerOptions { name: Some(name.clone()), ..Default::default() };
        let body = spec.into_body();
        let made = wait(async move { docker.create_container(Some(options), body).await })
            .unwrap_or_else(|error| panic!("cannot create the container {name}: {error}"));
        Container { engine: self.clone(), name, id: made.id, removed: false }
    }

    /// Makes and starts a container.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn start(&self, spec: Spec) -> Container {
        let container = self.create(spec);
        container.start();
        container
    }

    /// Runs a container to its end and removes it.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn run(&self, spec: Spec) -> Output {
        let container = self.start(spec);
        let code = container.wait();
        let (stdout, stderr) = container.logs();
        Output { code, stdout, stderr }
    }

    /// The address at which containers on the default network reach this machine; `None` when the engine
    /// has no default bridge here.
    #[must_use]
    pub fn host_address(&self) -> Option<String> {
        let docker = self.docker.clone();
        let bridge = wait(async move { docker.inspect_network("bridge", None).await }).ok()?;
        bridge.ipam?.config?.into_iter().find_map(|config| {
            // Some engines tell only what the network is: then our address is that from which it is reached.
            config.gateway.or_else(|| {
                let subnet = config.subnet?;
                let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
                socket.connect((subnet.split('/').next()?, 1)).ok()?;
                Some(socket.local_addr().ok()?.ip().to_string())
            })
        })
    }
}

/// What a command in a container said.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Exit code.
    pub code: i64,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Stdout as text, foreign bytes replaced.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Passes when the exit code is `code`.
    ///
    /// # Panics
    /// When it is another one, with everything that was said.
    pub fn expect_code(self, code: i64) -> Self {
        assert_eq!(
            self.code,
            code,
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout_text(),
            String::from_utf8_lossy(&self.stderr)
        );
        self
    }
}

/// A volume, removed on drop.
#[derive(Debug)]
pub struct Volume {
    engine: Engine,
    name: String,
}

impl Volume {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes it now and fails if it is still in use; dropping it afterwards does nothing.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn destroy(&self) {
        let (docker, name) = (self.engine.docker.clone(), self.name.clone());
        wait(async move { docker.remove_volume(&name, None::<RemoveVolumeOptions>).await })
            .unwrap_or_else(|error| panic!("cannot remove the volume {}: {error}", self.name));
    }

    /// Whether the engine knows it.
    #[must_use]
    pub fn exists(&self) -> bool {
        let (docker, name) = (self.engine.docker.clone(), self.name.clone());
        wait(async move { docker.inspect_volume(&name).await }).is_ok()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let (docker, name) = (self.engine.docker.clone(), self.name.clone());
        let options = RemoveVolumeOptions { force: true };
        let outcome = wait(async move { docker.remove_volume(&name, Some(options)).await });
        report_leftover("volume", &self.name, outcome);
    }
}

/// A network, removed on drop.
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    name: String,
}

impl Network {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let (docker, name) = (self.engine.docker.clone(), self.name.clone());
        let outcome = wait(async move { docker.remove_network(&name).await });
        report_leftover("network", &self.name, outcome);
    }
}

/// A container, killed and removed with its anonymous volumes on drop.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    name: String,
    id: String,
    removed: bool,
}

impl Container {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn start(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        wait(async move { docker.start_container(&id, None::<StartContainerOptions>).await })
            .unwrap_or_else(|error| panic!("cannot start the container {}: {error}", self.name));
    }

    /// Stops it: SIGTERM, then SIGKILL after five seconds.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn stop(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let options = StopContainerOptions { t: Some(STOP_SECONDS), ..Default::default() };
        wait(async move { docker.stop_container(&id, Some(options)).await })
            .unwrap_or_else(|error| panic!("cannot stop the container {}: {error}", self.name));
    }

    /// Kills it.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn kill(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        wait(async move { docker.kill_container(&id, None::<KillContainerOptions>).await })
            .unwrap_or_else(|error| panic!("cannot kill the container {}: {error}", self.name));
    }

    /// Waits for its end and returns its exit code.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn wait(&self) -> i64 {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let end = wait(async move {
            docker.wait_container(&id, None::<WaitContainerOptions>).next().await
        });
        match end {
            Some(Ok(end)) => end.status_code,
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => panic!("cannot wait for the container {}: {error}", self.name),
            None => panic!("the engine said nothing of the end of the container {}", self.name),
        }
    }

    /// What the engine knows of it.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn inspect(&self) -> ContainerInspectResponse {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        wait(async move { docker.inspect_container(&id, None::<InspectContainerOptions>).await })
            .unwrap_or_else(|error| panic!("cannot inspect the container {}: {error}", self.name))
    }

    /// Everything it has written to stdout and stderr so far.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn logs(&self) -> (Vec<u8>, Vec<u8>) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: "all".to_owned(),
            ..LogsOptions::default()
        };
        wait(async move { gather(docker.logs(&id, Some(options))).await })
            .unwrap_or_else(|error| panic!("cannot read the logs of {}: {error}", self.name))
    }

    /// Freezes it.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn pause(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        wait(async move { docker.pause_container(&id).await })
            .unwrap_or_else(|error| panic!("cannot pause the container {}: {error}", self.name));
    }

    /// Freezes it, unless the kernel has not frozen all of it when the runtime gives up: a process that is being traced, as one that is
    /// about to enter a container is for a moment, holds that up where cgroups have version 1. Whether it is frozen.
    ///
    /// # Panics
    /// When the engine refuses for another reason.
    #[must_use]
    pub fn pause_if_possible(&self) -> bool {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        match wait(async move { docker.pause_container(&id).await }) {
            Ok(()) => true,
            Err(error) if error.to_string().contains("unable to freeze") => false,
            Err(error) => panic!("cannot pause the container {}: {error}", self.name),
        }
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn unpause(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        wait(async move { docker.unpause_container(&id).await })
            .unwrap_or_else(|error| panic!("cannot unpause the container {}: {error}", self.name));
    }

    /// Kills it and starts it again.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn restart_hard(&self) {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let options = RestartContainerOptions { t: Some(0), ..Default::default() };
        wait(async move { docker.restart_container(&id, Some(options)).await })
            .unwrap_or_else(|error| panic!("cannot restart the container {}: {error}", self.name));
    }

    /// Runs a command inside it to its end.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn exec<S: Into<String>>(&self, command: impl IntoIterator<Item = S>) -> Output {
        self.exec_with(CreateExecOptions {
            cmd: Some(command.into_iter().map(Into::into).collect()),
            ..CreateExecOptions::default()
        })
    }

    /// The same with any options of `docker exec`; its output is always attached.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn exec_with(&self, options: CreateExecOptions<String>) -> Output {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let options = CreateExecOptions::<String> {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..options
        };
        let outcome = wait(async move {
            let exec = docker.create_exec(&id, options).await?.id;
            let (stdout, stderr) = match docker.start_exec(&exec, None).await? {
                // Its standard input stays open until it has ended.
                StartExecResults::Attached { output, input: _input } => gather(output).await?,
                StartExecResults::Detached => Default::default(),
            };
            let code = docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1);
            Ok::<_, bollard::errors::Error>(Output { code, stdout, stderr })
        });
        outcome
            .unwrap_or_else(|error| panic!("cannot exec in the container {}: {error}", self.name))
    }

    /// Runs a line of shell inside it and expects exit code 0.
    ///
    /// # Panics
    /// When it ends otherwise or the engine refuses.
    pub fn sh(&self, script: &str) -> Output {
        self.exec(["/bin/sh", "-c", script]).expect_code(0)
    }

    /// Removes it, running or not, with its anonymous volumes.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn remove(mut self) {
        self.removed = true;
        self.remove_now()
            .unwrap_or_else(|error| panic!("cannot remove the container {}: {error}", self.name));
    }

    fn remove_now(&self) -> Result<(), bollard::errors::Error> {
        let (docker, id) = (self.engine.docker.clone(), self.id.clone());
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        wait(async move { docker.remove_container(&id, Some(options)).await })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.removed {
            report_leftover("container", &self.name, self.remove_now());
        }
    }
}

/// A static program of this machine as the content of an image.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn read_program(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

async fn gather(
    stream: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
) -> Result<(Vec<u8>, Vec<u8>), bollard::errors::Error> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut stream = std::pin::pin!(stream);
    while let Some(output) = stream.next().await {
        match output? {
            LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
            other => stdout.extend_from_slice(&other.into_bytes()),
        }
    }
    Ok((stdout, stderr))
}

fn report_leftover(what: &str, name: &str, outcome: Result<(), bollard::errors::Error>) {
    use bollard::errors::Error::DockerResponseServerError;
    match outcome {
        Ok(()) | Err(DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => crate::notice!("left behind: the {what} {name}: {error}"),
    }
}

#[cfg(test)]
mod tests;
