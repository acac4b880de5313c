//! One connection of a client that has proved who it is: what it may do, and what it has open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chores_common::engine::{Container, ContainerState, ListedContainer};
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use super::connections::{Listed, Open};
use super::containers::{Plan, failure, pin};
use super::portals::Portal;
use super::refusal::{self, failure_of};
use super::spool::{self, Promise};
use super::words::Words;
use super::{Shared, audit};
use crate::capability;
use crate::control;
use crate::hop::{HopError, Started, Task};
use crate::login::{self, Login, Resolution, shown};
use crate::policy::{self, Access, Denial, Identity, Reserved};
use crate::proof::Presence;
use crate::wire::net::{ConnectionId, LoginName, Refusal};
use crate::wire::socket::Socket;
use crate::wire::task::{Failure, FailureKind, Start, Target, User};
use crate::wire::{Opaque, Program};

/// A container that was inspected longer ago is looked at again before it is entered.
const CHOICE_AGE_MAX: Duration = Duration::from_secs(2);

/// What who has named the gateway itself is told when he wants what only a container has.
const FOR_GATEWAY: &str =
    "_ is the gateway itself, which answers ls and events; name a container for everything else";

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) shared: Arc<Shared>,
    pub(super) words: Words,
    pub(super) identity: Identity,
    proved: Proved,
    /// Whether anything may begin.
    is_in: AtomicBool,
    is_ended: Arc<AtomicBool>,
    /// The login name.
    pub(super) login: LoginName,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// What none of its forwards may reach.
    pub(super) reserved: Reserved,
    /// Found once: the same container for every session and forward of the connection.
    choice: OnceCell<Arc<Choice>>,
    portal: Mutex<Option<Arc<Portal>>>,
    /// Room on the disk for what its programs do not take; from the first file on.
    promise: std::sync::Mutex<Option<Promise>>,
    /// From the moment it is in until it is gone.
    listed: std::sync::Mutex<Option<Listed>>,
}

/// What the client has proved to hold.
#[derive(Debug, Clone)]
pub(super) struct Proved {
    /// The blob of the key or certificate.
    pub(super) key: Vec<u8>,
    /// How it was used.
    pub(super) presence: Presence,
    /// A code was given too.
    pub(super) has_code: bool,
}

/// The container of a connection.
#[derive(Debug)]
pub(super) struct Choice {
    /// As inspected.
    pub(super) container: Container,
    /// What the client may do there, and as whom.
    pub(super) access: Access,
    /// When it was inspected.
    pub(super) at: Instant,
}

/// Why there is no container.
#[derive(Debug)]
pub(super) enum NoChoice {
    /// The client may choose one of these on a terminal; elsewhere it is told the sentence.
    Choose {
        /// One sentence.
        reason: String,
        /// What it may enter.
        among: Vec<ListedContainer>,
        /// All of these are what the login name means.
        is_meant: bool,
    },
    /// The engine did not answer, or the container is gone.
    Failed(Failure),
    /// Not with this key.
    Denied(Denial),
}

impl NoChoice {
    /// What the client is told where it cannot choose.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Choose { reason, .. } => refusal::prohibited(reason.clone()),
            Self::Failed(failure) => refusal::of_failure(failure),
            Self::Denied(denial) => refusal::prohibited(denial.to_string()),
        }
    }
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        shared: Arc<Shared>,
        words: Words,
        identity: Identity,
        proved: Proved,
        login: LoginName,
        addresses: (SocketAddr, SocketAddr),
    ) -> Self {
        let (peer, local) = addresses;
        let mut own = shared.listening.clone();
        own.push(local);
        let reserved = Reserved::new(own);
        let (choice, portal) = (OnceCell::new(), Mutex::default());
        Self {
            id,
            shared,
            words,
            identity,
            proved,
            is_in: AtomicBool::new(false),
            is_ended: Arc::default(),
            login,
            peer,
            local,
            reserved,
            choice,
            portal,
            promise: std::sync::Mutex::default(),
            listed: std::sync::Mutex::default(),
        }
    }

    /// Lets the client in: from now on it may begin something.
    pub(super) fn let_in(&self, client: &str, factor: Option<&'static str>) {
        let (journal, login) = (&self.shared.journal, &self.login);
        audit::login(journal, self.id, &self.identity, login, client, self.peer, factor);
        let listed = self.shared.connections.add(Open {
            told: control::Connection {
                connection: self.id,
                identity: self.identity.name().map(str::to_owned),
                key: self.identity.fingerprint().to_owned(),
                certificate: self.identity.issued().map(|issued| shown(&issued.key_id)),
                login: shown(&login.to_string()),
                peer: self.peer.to_string(),
                client: shown(client),
                sessions: 0,
                forwards: 0,
                since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            },
            words: self.words.clone(),
            is_ended: Arc::clone(&self.is_ended),
        });
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed);
        self.is_in.store(true, Ordering::Release);
    }

    /// It is gone: whoever administrates the gateway finds it no more.
    pub(super) fn unlist(&self) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether it may begin something: it is in, and nobody has ended it.
    pub(super) fn is_in(&self) -> bool {
        self.is_in.load(Ordering::Acquire) && !self.is_ended.load(Ordering::Acquire)
    }

    /// Who the client would be if it came in now: nobody any more when its key or its rules are gone, or the key is
    /// somebody else's by now, whose code nobody has given.
    pub(super) fn identity_now(&self) -> Result<Identity, Denial> {
        let Proved { key, presence, has_code } = &self.proved;
        let from = self.peer.ip().to_canonical();
        let identity =
            policy::admit(&self.shared.policy(), key, *presence, from, Timestamp::now())?;
        if identity.name() != self.identity.name() {
            return Err(Denial::Withdrawn);
        }
        if *has_code { Ok(identity) } else { identity.without_code() }
    }

    /// Fails when what was allowed before is so no more: asked for every session and forward.
    pub(super) fn check(&self, access: &Access) -> Result<(), Denial> {
        access.check(Timestamp::now())?;
        let is_as_before = self.identity_now().is_ok_and(|identity| identity.still_has(access));
        if is_as_before { Ok(()) } else { Err(Denial::Withdrawn) }
    }

    /// Whether the client has named the gateway itself, and not a container.
    pub(super) fn is_for_gateway(&self) -> bool {
        self.login.host.is_none() && self.login.user == login::GATEWAY
    }

    /// The identity that has given a code on this connection.
    pub(super) fn coded_identity(&self) -> Option<&str> {
        self.identity.name().filter(|_| self.proved.has_code && self.is_in.load(Ordering::Acquire))
    }

    /// The container, if it was found already.
    pub(super) fn chosen(&self) -> Option<&Arc<Choice>> {
        self.choice.get()
    }

    /// The container that the login name means; found again only as long as it is not found.
    pub(super) async fn choice(&self) -> Result<Arc<Choice>, NoChoice> {
        self.choice.get_or_try_init(|| self.find()).await.cloned()
    }

    /// The container that was chosen from a list.
    pub(super) async fn choose(&self, chosen: &ListedContainer) -> Result<Arc<Choice>, NoChoice> {
        // The user that was asked for still counts, if the name makes any sense.
        let user = self.asked_user();
        let choice = self.choice.get_or_try_init(|| self.enterable(chosen, user.as_ref())).await?;
        // Another session of the connection has chosen meanwhile.
        if choice.container.id != chosen.id {
            let reason =
                "this connection is in another container already; connect again".to_owned();
            return Err(choose(reason, Vec::new()));
        }
        Ok(Arc::clone(choice))
    }

    /// The same client on its way into another container. What net would be told of a session there, is told to who
    /// has the other end of `words`.
    pub(super) fn elsewhere(&self, words: Words) -> Self {
        let (identity, proved) = (self.identity.clone(), self.proved.clone());
        let addresses = (self.peer, self.local);
        Self::new(
            self.id,
            Arc::clone(&self.shared),
            words,
            identity,
            proved,
            self.login.clone(),
            addresses,
        )
    }

    /// The user of the container that the login name asks for.
    pub(super) fn asked_user(&self) -> Option<login::UserName> {
        Login::of(&self.login).ok().and_then(|login| login.user)
    }

    /// Whether a host is a container that could be entered; if not, one sentence. `None` when it cannot be the name
    /// of any.
    pub(super) async fn behind(&self, host: &str) -> Result<Option<Result<(), String>>, NoChoice> {
        let Ok(selector) = host.parse() else { return Ok(None) };
        let listed = self.enterable_containers().await?;
        let resolution = login::resolve(&selector, &listed);
        Ok(Some(login::explain(&selector, &resolution).map_or(Ok(()), Err)))
    }

    async fn enterable_containers(&self) -> Result<Vec<ListedContainer>, NoChoice> {
        let listed = self.shared.containers.list().await.map_err(NoChoice::Failed)?;
        // By what counts now: who is nobody any more is told of nothing, however long his connection is there.
        let identity = self.identity_still()?;
        // What this key may not enter does not exist for it.
        Ok(listed.into_iter().filter(|container| identity.may_enter(container)).collect())
    }

    /// Who the client would be if it came in now, for what it looks for.
    fn identity_still(&self) -> Result<Identity, NoChoice> {
        self.identity_now().map_err(|_| NoChoice::Denied(Denial::Withdrawn))
    }

    async fn find(&self) -> Result<Arc<Choice>, NoChoice> {
        let listed = self.enterable_containers().await?;
        if self.is_for_gateway() {
            return Err(choose(FOR_GATEWAY.to_owned(), running(&listed)));
        }
        let login = match Login::of(&self.login) {
            Ok(login) => login,
            Err(error) => return Err(choose(error.to_string(), running(&listed))),
        };
        let resolution = login::resolve(&login.selector, &listed);
        let reason = login::explain(&login.selector, &resolution).unwrap_or_default();
        match resolution {
            Resolution::One(container) => self.enterable(container, login.user.as_ref()).await,
            Resolution::Many(many) => {
                let among = many.into_iter().cloned().collect();
                Err(NoChoice::Choose { reason, among, is_meant: true })
            }
            Resolution::Projects(found) => {
                let found: Vec<_> = found.into_iter().cloned().collect();
                Err(choose(reason, running(&found)))
            }
            Resolution::None(_) => Err(choose(reason, running(&listed))),
            Resolution::Stopped(_) => Err(choose(reason, Vec::new())),
        }
    }

    async fn enterable(
        &self,
        listed: &ListedContainer,
        user: Option<&login::UserName>,
    ) -> Result<Arc<Choice>, NoChoice> {
        let container =
            self.shared.containers.inspect(&listed.id).await.map_err(NoChoice::Failed)?;
        // By what was inspected, and not by what was listed before.
        let state = match (container.running, container.paused) {
            (true, false) => ContainerState::Running,
            (true, true) => ContainerState::Paused,
            (false, _) => ContainerState::NotRunning,
        };
        let inspected = ListedContainer {
            id: container.id.clone(),
            name: container.name.clone(),
            image_ref: container.image_ref.clone(),
            labels: container.labels.clone(),
            state,
        };
        let access = self.identity_still()?.access(&inspected, user, Timestamp::now());
        let access = access.map_err(NoChoice::Denied)?;
        match state {
            ContainerState::Running => {
                Ok(Arc::new(Choice { container, access, at: Instant::now() }))
            }
            ContainerState::Paused => {
                Err(NoChoice::Failed(failure(FailureKind::TargetPaused, "the container is paused")))
            }
            ContainerState::NotRunning => Err(NoChoice::Failed(failure(
                FailureKind::TargetGone,
                "the container is not running",
            ))),
        }
    }

    /// Whether root of the container may trace processes that have more rights than it has itself.
    pub(super) async fn may_be_traced(&self, choice: &Choice) -> Result<bool, Failure> {
        if self.shared.config.enter.mode == crate::config::Mode::Engine {
            return Ok(false);
        }
        let plan = self.shared.containers.plan(&choice.container).await;
        // A plan that cannot be had is told by `enter`.
        Ok(plan.is_ok_and(|plan| {
            plan.confinement.capabilities.bounding & (1 << capability::SYS_PTRACE) != 0
        }))
    }

    /// Fails when the container is not the one any more that was chosen: another run of it may have other rights,
    /// and the number of its first process may be anyone's.
    async fn check_again(&self, choice: &Choice) -> Result<(), Failure> {
        if choice.at.elapsed() < CHOICE_AGE_MAX {
            return Ok(());
        }
        let now = self.shared.containers.inspect(&choice.container.id).await?;
        if (now.pid, &now.started_at) == (choice.container.pid, &choice.container.started_at) {
            return Ok(());
        }
        let reason = "the container was restarted since this connection chose it; connect again";
        Err(failure(FailureKind::TargetGone, reason))
    }

    /// A task that has entered the container, or is about to.
    pub(super) async fn enter(&self, choice: &Choice) -> Result<(Arc<Plan>, Task), Failure> {
        let shared = &self.shared;
        self.check_again(choice).await?;
        let plan = shared.containers.plan(&choice.container).await?;
        let target = Target {
            pin: pin(&choice.container)?,
            cgroup_root: shared.cgroup_root.clone(),
            session_cgroup: shared.session_cgroup(),
            confinement: plan.confinement.clone(),
        };
        let task = shared.spawner.task().await.map_err(|error| failure_of(&error))?;
        task.enter(target).await.map_err(|error| failure_of(&error))?;
        Ok((plan, task))
    }

    /// What a program of this connection is started with.
    pub(super) fn start(
        &self,
        choice: &Choice,
        plan: &Plan,
        program: Program,
        session_environment: Vec<Opaque>,
    ) -> Start {
        let specification = &plan.specification;
        Start {
            program,
            user: User {
                name: choice.access.user().map(str::to_owned),
                container_uid: specification.uid,
                container_gid: specification.gid,
                container_groups: specification.groups.clone(),
                group_add: choice.container.group_add.clone(),
            },
            terminal: None,
            container_environment: specification.environment.clone(),
            session_environment,
            directory: None,
            toolbox: None,
            as_engine_exec: false,
        }
    }

    /// The portal into the container; started when it is needed first. The error is for the client.
    pub(super) async fn portal(&self) -> Result<Arc<Portal>, Refusal> {
        let mut portal = self.portal.lock().await;
        if let Some(portal) = portal.as_ref().filter(|portal| !portal.is_gone()) {
            return Ok(Arc::clone(portal));
        }
        let choice = self.choice().await.map_err(|none| none.refusal())?;
        if self.shared.config.enter.mode == crate::config::Mode::Engine {
            return Err(refusal::failed("forwards need more than the engine's exec"));
        }
        let opened = self.open_portal(&choice).await.map_err(|failure| {
            tracing::warn!(
                connection = self.id,
                container = choice.container.name,
                "cannot start what forwards need: {}",
                failure.reason
            );
            refusal::of_failure(&failure)
        })?;
        Ok(Arc::clone(portal.insert(opened)))
    }

    async fn open_portal(&self, choice: &Choice) -> Result<Arc<Portal>, Failure> {
        let (plan, task) = self.enter(choice).await?;
        let start = self.start(choice, &plan, Program::Portal, Vec::new());
        match task.start(start).await {
            Ok(Started::Portal(socket)) => Portal::over(task, socket)
                .map_err(|error| failure(FailureKind::Other, error.to_string())),
            Ok(_) => Err(failure_of(&HopError::Unexpected { doing: "start a portal" })),
            Err(error) => Err(failure_of(&error)),
        }
    }

    /// The portal, if there is one.
    pub(super) async fn existing_portal(&self) -> Option<Arc<Portal>> {
        self.portal.lock().await.clone()
    }

    /// Ends what the sessions have in common. They have ended.
    pub(super) async fn end(&self) {
        let portal = self.portal.lock().await.take();
        if let Some(portal) = portal {
            portal.end().await;
        }
        // It may have been let in when it was gone already.
        self.unlist();
        // A session that waits for its client needs no room for what that has sent.
        self.promise.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A file for what a program does not take. Blocks.
    pub(super) fn spool_file(&self) -> io::Result<OwnedFd> {
        let config = &self.shared.config;
        {
            let mut promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner);
            if promise.is_none() {
                let bytes = config.limits.spool_bytes_max();
                *promise = Some(self.shared.promises.make(&config.state, bytes)?);
            }
        }
        spool::file(&config.state)
    }

    /// Says no to one question.
    pub(super) async fn refuse(&self, number: u64, refusal: Refusal) {
        self.words.refuse(number, refusal).await;
    }
}

fn running(listed: &[ListedContainer]) -> Vec<ListedContainer> {
    let is_running = |container: &&ListedContainer| container.state == ContainerState::Running;
    let mut running: Vec<_> = listed.iter().filter(is_running).cloned().collect();
    running.sort_by(|one, other| one.name.cmp(&other.name));
    running
}

fn choose(reason: String, among: Vec<ListedContainer>) -> NoChoice {
    NoChoice::Choose { reason, among, is_meant: false }
}

/// Descriptors of a program, in the order in which net gets them, and where it tells of files.
pub(super) fn descriptors(started: Started) -> (Vec<OwnedFd>, Option<Socket>) {
    match started {
        Started::Terminal { master, files } => (vec![master], files),
        Started::Pipes { stdin, stdout, stderr, files } => (vec![stdin, stdout, stderr], files),
        Started::Portal(socket) => (vec![socket.into_descriptor()], None),
    }
}
